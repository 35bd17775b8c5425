//! The command line: what can be asked, and which positional means what.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use alluvium_runs::OpenOptions;
use alluvium_telemetry::TraceContext;

use crate::commands::cache_args::CacheArgs;
use crate::commands::runs_args::RunsArgs;
use crate::commands::table_args::TableArgs;
use crate::commands::transpile_args::TranspileArgs;
use crate::kv::args::KvArgs;
use crate::logging::Verbosity;
use crate::{exit, logging};

/// Run a pipeline of SQL views with durable, exact caches.
#[derive(Debug, Parser)]
#[command(
    name = "alluvium",
    version,
    max_term_width = 100,
    after_help = format!("{}\n\n{}", exit::HELP, logging::HELP)
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much is logged.
    #[command(flatten)]
    pub verbosity: VerbosityArgs,
}

/// `-v`, `-q`
#[derive(Debug, Clone, Copy, Args)]
pub struct VerbosityArgs {
    /// Log more to standard error: -v for what is done, -vv for every step, -vvv for the engine's too
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Neither progress nor warnings on standard error, only errors
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl VerbosityArgs {
    /// What they ask for.
    pub fn verbosity(self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, 2) => Verbosity::Debug,
            (false, _) => Verbosity::Everything,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring every selected view and output up to date
    Run(RunArgs),
    /// Show what a run would do and why, without computing
    Plan(PlanArgs),
    /// Query sources, views, outputs, and the ledgers (schema `alluvium`)
    Sql(SqlArgs),
    /// Write a query in another dialect of SQL
    Transpile(TranspileArgs),
    /// List past runs, show one, compare two
    Runs(RunsArgs),
    /// Show which columns a view or a column comes from, and which decide over it
    Lineage(LineageArgs),
    /// Make a small project that runs
    Init(InitArgs),
    /// Look a project over: profile, places, engine, limits, stores
    Doctor(DoctorArgs),
    /// The schemas of everything that Alluvium writes for others to read
    Contracts(ContractsArgs),
    /// Look at a Delta table, verify it, and keep it in shape
    Table(TableArgs),
    /// Look after the caches: list, show, verify, evict, collect, find again, export
    Cache(CacheArgs),
    /// Look into a key-value cache, change it, or drive it from another language
    Kv(KvArgs),
}

/// How a document is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DocumentFormat {
    /// For people
    Text,
    /// One enveloped document on standard output
    Json,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// For people
    #[value(alias = "text")]
    Table,
    /// An array of objects
    Json,
    /// Comma-separated, with a header
    Csv,
}

/// What every command on a project takes.
#[derive(Debug, Args)]
pub struct ProjectArgs {
    /// The directory of the project, instead of the first positional
    #[arg(short = 'C', value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Where caches lie, before ALLUVIUM_CACHE_ROOT and the pipeline file
    #[arg(long, value_name = "DIR")]
    cache_root: Option<PathBuf>,
}

impl ProjectArgs {
    /// The project's directory: `-C`, else the positional, else the working directory.
    pub fn directory<'a>(&'a self, positional: Option<&'a Path>) -> &'a Path {
        self.directory.as_deref().or(positional).unwrap_or(Path::new("."))
    }

    /// Whether the command line says which project or which cache root is meant.
    pub fn is_named(&self) -> bool {
        self.directory.is_some() || self.cache_root.is_some()
    }

    /// How the pipeline is opened.
    pub fn open_options(&self) -> OpenOptions {
        OpenOptions {
            cache_root: self.cache_root.clone(),
            env_cache_root: std::env::var_os("ALLUVIUM_CACHE_ROOT"),
            environment: std::env::vars_os().collect(),
            ..OpenOptions::default()
        }
    }
}

/// `run [DIR]`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The directory of the project [default: .]
    #[arg(value_name = "DIR", conflicts_with = "directory")]
    pub dir: Option<PathBuf>,
    /// The project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Only this view and what it needs; may be repeated
    #[arg(long, value_name = "VIEW")]
    pub select: Vec<String>,
    /// Compute the selected views (all, without --select) and publish their outputs, whatever the caches hold
    #[arg(long)]
    pub fresh: bool,
    /// Compute this share of the hits all the same, and compare; an exact entry that differs is set aside
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    pub shadow: u8,
    /// After a failure, go on with what does not depend on it
    #[arg(long)]
    pub keep_going: bool,
    /// How the report is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
    pub format: DocumentFormat,
    /// Send traces, metrics and logs to the OpenTelemetry collector at this base URL, such as http://localhost:4318
    #[arg(long, value_name = "URL")]
    pub otlp: Option<String>,
    /// Write a trace of the run, for Perfetto or chrome://tracing
    #[arg(long, value_name = "FILE")]
    pub trace_file: Option<PathBuf>,
    /// The W3C trace context to continue, before TRACEPARENT
    #[arg(long, value_name = "TRACEPARENT")]
    pub traceparent: Option<TraceContext>,
}

/// `plan [DIR]`
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The directory of the project [default: .]
    #[arg(value_name = "DIR", conflicts_with = "directory")]
    pub dir: Option<PathBuf>,
    /// The project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Only this view and what it needs; may be repeated
    #[arg(long, value_name = "VIEW")]
    pub select: Vec<String>,
    /// How the plan is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
    pub format: DocumentFormat,
}

/// `sql [DIR] SQL`
#[derive(Debug, Args)]
#[command(
    override_usage = "alluvium sql [OPTIONS] [DIR] <SQL>\n       alluvium sql [OPTIONS] --substrait <FILE> [DIR]"
)]
pub struct SqlArgs {
    /// The project's directory, then the query. One alone is the query. A query that starts with
    /// `-` goes behind `--`.
    #[arg(value_name = "[DIR] SQL", num_args = 1..=2, required_unless_present = "substrait")]
    words: Vec<OsString>,
    /// The project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// How rows are printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = RowFormat::Table)]
    pub format: RowFormat,
    /// Ask a plan instead of SQL: a file in the binary form of Substrait, or - for standard input. For
    /// builds with the feature substrait
    #[arg(long, value_name = "FILE", conflicts_with = "dialect")]
    pub substrait: Option<PathBuf>,
    /// Whose grammar the query is written in, such as postgresql, duckdb or bigquery; functions and
    /// operators are the engine's in each
    #[arg(long, value_name = "DIALECT", default_value = "generic")]
    pub dialect: String,
}

impl SqlArgs {
    /// The directory, if one was given as a positional.
    pub fn dir(&self) -> Option<&Path> {
        match (self.words.as_slice(), &self.substrait) {
            ([dir, _], None) | ([dir], Some(_)) => Some(Path::new(dir)),
            _ => None,
        }
    }

    /// The query, unless it is a plan. [`Cli::from_arguments`] made sure that it is text.
    pub fn sql(&self) -> &str {
        self.words.last().and_then(|sql| sql.to_str()).unwrap_or_default()
    }

    fn check(&self) -> Result<(), (ErrorKind, String)> {
        given_once(self.dir(), &self.project)?;
        match &self.substrait {
            Some(_) if self.words.len() > 1 => {
                let both = "--substrait is the query: give a directory, or nothing, beside it";
                Err((ErrorKind::ArgumentConflict, both.to_owned()))
            }
            None if self.words.last().is_some_and(|sql| sql.to_str().is_none()) => {
                Err((ErrorKind::InvalidUtf8, "the query is not UTF-8".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// How lineage is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LineageFormat {
    /// For people
    Text,
    /// One enveloped document on standard output
    Json,
    /// The column-lineage facet of OpenLineage, of the view over what it reads itself
    Openlineage,
}

/// `lineage [DIR] VIEW[.COLUMN]`
#[derive(Debug, Args)]
#[command(override_usage = "alluvium lineage [OPTIONS] [DIR] <VIEW[.COLUMN]>")]
pub struct LineageArgs {
    /// The project's directory, then the view, or one of its columns. One alone is the view.
    #[arg(value_name = "[DIR] VIEW[.COLUMN]", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// The project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// How lineage is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LineageFormat::Text)]
    pub format: LineageFormat,
    /// What OpenLineage calls the namespace of the datasets
    #[arg(long, value_name = "NAME", default_value = "alluvium")]
    pub namespace: String,
}

impl LineageArgs {
    /// The directory, if one was given as a positional.
    pub fn dir(&self) -> Option<&Path> {
        match self.words.as_slice() {
            [dir, _] => Some(Path::new(dir)),
            _ => None,
        }
    }

    /// The view, or one of its columns.
    pub fn target(&self) -> &str {
        self.words.last().map(String::as_str).unwrap_or_default()
    }

    fn check(&self) -> Result<(), (ErrorKind, String)> {
        given_once(self.dir(), &self.project)
    }
}

/// `doctor [DIR]`
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The directory of the project [default: .]
    #[arg(value_name = "DIR", conflicts_with = "directory")]
    pub dir: Option<PathBuf>,
    /// The project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// How the findings are printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
    pub format: DocumentFormat,
}

/// `init DIR`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The directory to make the project in
    #[arg(value_name = "DIR", required_unless_present = "directory", conflicts_with = "directory")]
    dir: Option<PathBuf>,
    /// The directory, instead of the positional
    #[arg(short = 'C', value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl InitArgs {
    /// The directory; clap made sure that there is one.
    pub fn directory(&self) -> &Path {
        self.directory.as_deref().or(self.dir.as_deref()).unwrap_or(Path::new("."))
    }
}

/// `contracts …`
#[derive(Debug, Args)]
pub struct ContractsArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub command: ContractsCommand,
}

/// What can be done with the contracts.
#[derive(Debug, Subcommand)]
pub enum ContractsCommand {
    /// List every contract
    Ls,
    /// Print the JSON Schema of one contract
    Show {
        /// Its kind
        #[arg(value_name = "KIND", value_parser = kinds())]
        kind: String,
    },
    /// Print an example of one contract
    Example {
        /// Its kind
        #[arg(value_name = "KIND", value_parser = kinds())]
        kind: String,
    },
    /// Check a document, in JSON, MessagePack or TOML, against its contract
    Validate {
        /// The document; `-` reads standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The contract of a payload without an envelope
        #[arg(long, value_name = "KIND", value_parser = kinds())]
        kind: Option<String>,
    },
    /// Write every schema and an index page
    Export {
        /// Where to; made if it is not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// For commands whose words clap cannot tell apart.
fn given_once(positional: Option<&Path>, project: &ProjectArgs) -> Result<(), (ErrorKind, String)> {
    if positional.is_some() && project.directory.is_some() {
        let message = "the project's directory is given twice, with '-C <DIR>' and as a positional";
        return Err((ErrorKind::ArgumentConflict, message.to_owned()));
    }
    Ok(())
}

fn kinds() -> PossibleValuesParser {
    // A kind alone is its newest version.
    let mut names: Vec<PossibleValue> = Vec::new();
    for contract in alluvium_contracts::contracts() {
        if names.last().is_none_or(|last| last.get_name() != contract.kind) {
            names.push(PossibleValue::new(contract.kind));
        }
        names.push(PossibleValue::new(contract.name()).hide(true));
    }
    PossibleValuesParser::new(names)
}

impl Cli {
    /// Parses the arguments of a process, its name first.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        let cli = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let (name, checked) = match &cli.command {
            Command::Sql(sql) => ("sql", sql.check()),
            Command::Lineage(lineage) => ("lineage", lineage.check()),
            _ => return Ok(cli),
        };
        if let Err((kind, message)) = checked {
            return Err(match command.find_subcommand_mut(name) {
                Some(command) => command.error(kind, message),
                None => clap::Error::raw(kind, message),
            });
        }
        Ok(cli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Command, String> {
        let words = std::iter::once("alluvium").chain(line.iter().copied()).map(OsString::from);
        Cli::from_arguments(words).map(|cli| cli.command).map_err(|error| {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        })
    }

    fn project_of(line: &[&str]) -> PathBuf {
        match parse(line).unwrap() {
            Command::Run(run) => run.project.directory(run.dir.as_deref()).to_owned(),
            Command::Plan(plan) => plan.project.directory(plan.dir.as_deref()).to_owned(),
            Command::Sql(sql) => sql.project.directory(sql.dir()).to_owned(),
            Command::Lineage(lineage) => lineage.project.directory(lineage.dir()).to_owned(),
            Command::Init(init) => init.directory().to_owned(),
            Command::Doctor(doctor) => doctor.project.directory(doctor.dir.as_deref()).to_owned(),
            Command::Transpile(_)
            | Command::Contracts(_)
            | Command::Kv(_)
            | Command::Table(_)
            | Command::Cache(_)
            | Command::Runs(_) => {
                panic!("no project")
            }
        }
    }

    fn sql_of(line: &[&str]) -> String {
        match parse(line).unwrap() {
            Command::Sql(sql) => sql.sql().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_directory_is_a_flag_or_the_first_positional() {
        for words in [["run"], ["plan"], ["doctor"]] {
            assert_eq!(project_of(&words), Path::new("."));
            assert_eq!(project_of(&[words[0], "flights"]), Path::new("flights"));
            assert_eq!(project_of(&[words[0], "-C", "flights"]), Path::new("flights"));
            assert_eq!(project_of(&["init", "flights"]), project_of(&["init", "-C", "flights"]));
        }
        assert_eq!(project_of(&["sql", "select 1"]), Path::new("."));
        assert_eq!(project_of(&["sql", "flights", "select 1"]), Path::new("flights"));
        assert_eq!(project_of(&["sql", "-C", "flights", "select 1"]), Path::new("flights"));
    }

    #[test]
    fn a_directory_given_twice_is_a_usage_error() {
        for line in [
            &["run", "a", "-C", "a"][..],
            &["plan", "-C", "a", "a"],
            &["sql", "a", "select 1", "-C", "a"],
            &["lineage", "a", "v", "-C", "a"],
            &["init", "a", "-C", "a"],
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains("-C <DIR>") && error.contains("Usage"), "{error}");
        }
    }

    #[test]
    fn a_lone_positional_of_sql_is_the_query() {
        assert_eq!(sql_of(&["sql", "select 1"]), "select 1");
        assert_eq!(sql_of(&["sql", "a", "select 1", "--format", "csv"]), "select 1");
        assert_eq!(sql_of(&["sql", "--", "-- a comment\nselect 1"]), "-- a comment\nselect 1");
        for line in [&["sql"][..], &["sql", "a", "b", "c"], &["sql", "-C", "a"], &["init"]] {
            assert!(parse(line).unwrap_err().contains("Usage"), "{line:?}");
        }
    }

    #[test]
    fn a_lone_positional_of_lineage_is_the_view() {
        let parsed = |line: &[&str]| match parse(line) {
            Ok(Command::Lineage(args)) => (args.target().to_owned(), args.dir().map(Path::to_owned), args.format),
            other => panic!("{other:?}"),
        };
        let dir = Some(PathBuf::from("flights"));
        assert_eq!(parsed(&["lineage", "v.c"]), ("v.c".to_owned(), None, LineageFormat::Text));
        assert_eq!(
            parsed(&["lineage", "flights", "v", "--format", "openlineage"]),
            ("v".to_owned(), dir, LineageFormat::Openlineage)
        );
        assert!(parse(&["lineage"]).unwrap_err().contains("Usage"));
    }

    #[test]
    fn formats_are_those_of_the_command() {
        let format = |name: &str| match parse(&["sql", "select 1", "--format", name]) {
            Ok(Command::Sql(sql)) => Ok(sql.format),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(format("text").unwrap(), RowFormat::Table);
        assert_eq!(format("table").unwrap(), RowFormat::Table);
        assert_eq!(format("json").unwrap(), RowFormat::Json);
        assert_eq!(format("csv").unwrap(), RowFormat::Csv);
        assert!(format("yaml").is_err());
        assert!(parse(&["run", "--format", "csv"]).is_err());
    }

    #[test]
    fn selections_add_up_and_flags_are_read() {
        let Command::Run(run) =
            parse(&["run", "--select", "a", "--fresh", "--select", "b", "--keep-going", "--cache-root", "c"]).unwrap()
        else {
            panic!("not a run");
        };
        assert_eq!(run.select, ["a", "b"]);
        assert!(run.fresh && run.keep_going);
        assert_eq!(run.project.open_options().cache_root.as_deref(), Some(Path::new("c")));
        let Command::Run(run) = parse(&["run"]).unwrap() else { panic!("not a run") };
        assert!(!run.fresh && !run.keep_going && run.select.is_empty());
    }

    #[test]
    fn an_eviction_says_of_what_and_everything_only_by_name() {
        for line in
            [&["evict", "v"][..], &["evict", "--tag", "t"], &["evict", "--older-than", "3d"], &["evict", "--all"]]
        {
            parse(&[&["cache"], line].concat()).unwrap();
        }
        for line in [&["evict"][..], &["evict", "--dry-run"], &["evict", "--all", "v"]] {
            assert!(parse(&[&["cache"], line].concat()).unwrap_err().contains("Usage"), "{line:?}");
        }
    }

    #[test]
    fn how_much_is_logged_is_said_anywhere_and_once() {
        let verbosity = |line: &[&str]| {
            let words = std::iter::once("alluvium").chain(line.iter().copied()).map(OsString::from);
            Cli::from_arguments(words).map(|cli| cli.verbosity.verbosity())
        };
        assert_eq!(verbosity(&["run"]).unwrap(), Verbosity::Normal);
        assert_eq!(verbosity(&["-v", "run"]).unwrap(), Verbosity::Verbose);
        assert_eq!(verbosity(&["run", "-vv"]).unwrap(), Verbosity::Debug);
        assert_eq!(verbosity(&["sql", "select 1", "-vvv"]).unwrap(), Verbosity::Everything);
        assert_eq!(verbosity(&["plan", "--quiet"]).unwrap(), Verbosity::Quiet);
        assert!(verbosity(&["run", "-v", "-q"]).is_err());
    }

    #[test]
    fn a_trace_context_is_read_or_refused_with_its_form() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let Command::Run(run) = parse(&["run", "--traceparent", parent]).unwrap() else { panic!("not a run") };
        assert_eq!(run.traceparent.unwrap().to_string(), parent);
        let error = parse(&["run", "--traceparent", "00-nonsense"]).unwrap_err();
        assert!(error.contains("00-<32 hex digits>"), "{error}");
    }

    #[test]
    fn an_unknown_contract_is_answered_with_the_nearest() {
        let error = parse(&["contracts", "show", "run_documnet"]).unwrap_err();
        assert!(error.contains("run_document"), "{error}");
    }

    #[test]
    fn help_documents_exit_codes_and_variables() {
        let help = Cli::command().render_help().to_string();
        for word in ["130", "143", "ALLUVIUM_LOG", "ALLUVIUM_CACHE_ROOT", "OTEL_EXPORTER_OTLP_ENDPOINT", "TRACEPARENT"]
        {
            assert!(help.contains(word), "{word}: {help}");
        }
    }
}

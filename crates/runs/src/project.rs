//! A project: an `alluvium.toml`, checked, with the SQL of its views.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alluvium_contracts::{CachePolicy, ErrorCode, OutputSpec, PipelineSpec, SourceSpec, decode_toml, validate_name};

use crate::locate::{declaration, meant, of_span};
use crate::project_error::ProjectError;

/// The name of the pipeline file.
pub const PROJECT_FILE: &str = "alluvium.toml";

/// What follows the name of a source in that of its changes.
pub(crate) const CHANGES: &str = "__cdf";

/// A loaded project. Its file and the SQL files were read once; later edits are seen by the next load.
#[derive(Debug, Clone)]
pub struct Project {
    dir: PathBuf,
    file: PathBuf,
    text: String,
    spec: PipelineSpec,
    queries: BTreeMap<String, Query>,
}

/// The SQL of a view and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) sql: String,
    /// The SQL file as the pipeline file names it; none when the SQL stands in the pipeline file itself.
    pub(crate) file: Option<String>,
}

impl Project {
    /// Loads the project in `dir` (or the pipeline file that `dir` names) and checks all that can be checked without a
    /// session: keys, names, references between outputs and views, the SQL files.
    ///
    /// # Errors
    /// [`ProjectError`] with file and line.
    pub fn load(dir: &Path) -> Result<Self, ProjectError> {
        let file = if dir.is_file() { dir.to_owned() } else { dir.join(PROJECT_FILE) };
        let dir = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ProjectError::NotFound { path: file });
            }
            Err(source) => {
                return Err(ProjectError::Read { path: file, asked: None, source });
            }
        };
        let spec = parse(&file, &text)?;
        let mut project = Self { dir, file, text, spec, queries: BTreeMap::new() };
        project.check_names()?;
        project.check_sources()?;
        project.queries = project.read_queries()?;
        project.check_outputs()?;
        Ok(project)
    }

    /// A project that no file declares: a run's, as its manifest remembers it.
    pub(crate) fn remembered(dir: &Path, spec: PipelineSpec) -> Result<Self, ProjectError> {
        let file = dir.join("the manifest");
        let mut project = Self { dir: dir.to_owned(), file, text: String::new(), spec, queries: BTreeMap::new() };
        project.queries = project.read_queries()?;
        Ok(project)
    }

    /// The directory that relative paths are relative to.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The pipeline file, decoded.
    #[must_use]
    pub fn spec(&self) -> &PipelineSpec {
        &self.spec
    }

    pub(crate) fn queries(&self) -> &BTreeMap<String, Query> {
        &self.queries
    }

    /// The source that a table of this name is read from: itself, or as its changes, `NAME__cdf`.
    pub(crate) fn source_of(&self, table: &str) -> Option<(&String, &SourceSpec)> {
        let whole = self.spec.sources.get_key_value(table);
        whole.or_else(|| {
            let (name, source) = self.spec.sources.get_key_value(table.strip_suffix(CHANGES)?)?;
            source.cdf.is_some().then_some((name, source))
        })
    }

    /// The names under which the changes of sources are read.
    pub(crate) fn changes(&self) -> impl Iterator<Item = String> {
        let declared = self.spec.sources.iter().filter(|(_, source)| source.cdf.is_some());
        declared.map(|(name, _)| format!("{name}{CHANGES}"))
    }

    /// The outputs of a view, by name.
    pub(crate) fn outputs_of<'a>(&'a self, view: &'a str) -> impl Iterator<Item = (&'a String, &'a OutputSpec)> {
        self.spec.outputs.iter().filter(move |(_, output)| output.view == view)
    }

    /// `file:line` of a declaration, for messages.
    pub(crate) fn place(&self, section: &str, name: &str) -> String {
        match declaration(&self.text, section, name) {
            Some(line) => format!("{}:{line}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }

    /// Where the SQL of a view stands, with a position inside it.
    pub(crate) fn sql_place(&self, view: &str, position: Option<(u64, u64)>) -> String {
        match (self.queries.get(view).and_then(|query| query.file.as_ref()), position) {
            (Some(file), Some((line, column))) => {
                format!("{}:{line}:{column}", self.dir.join(file).display())
            }
            (Some(file), None) => self.dir.join(file).display().to_string(),
            (None, Some((line, column))) => {
                format!("{} (line {line}, column {column} of its sql)", self.place("views", view))
            }
            (None, None) => self.place("views", view),
        }
    }

    fn check_names(&self) -> Result<(), ProjectError> {
        let spec = &self.spec;
        let sections: [(&'static str, Vec<&String>); 3] = [
            ("sources", spec.sources.keys().collect()),
            ("views", spec.views.keys().collect()),
            ("outputs", spec.outputs.keys().collect()),
        ];
        for (section, names) in sections {
            for name in names {
                validate_name(name).map_err(|source| ProjectError::Name {
                    place: self.place(section, name),
                    section,
                    source,
                })?;
            }
        }
        match spec.views.keys().find(|view| spec.sources.contains_key(*view)) {
            Some(name) => Err(self.contradiction(
                "views",
                name,
                format!("`{name}` is both a source and a view; queries could not tell them apart: rename one"),
            )),
            None => Ok(()),
        }
    }

    fn check_sources(&self) -> Result<(), ProjectError> {
        self.check_changes()?;
        match self.spec.sources.iter().find(|(_, source)| source.path.patterns().is_empty()) {
            Some((name, _)) => Err(self.contradiction(
                "sources",
                name,
                format!("source `{name}` has an empty list of paths; name at least one"),
            )),
            None => Ok(()),
        }
    }

    fn check_changes(&self) -> Result<(), ProjectError> {
        for (name, source) in &self.spec.sources {
            let refuse = |message: String| Err(self.contradiction("sources", name, message));
            match (&source.cdf_consumer, &source.cdf) {
                (Some(consumer), None) => {
                    return refuse(format!(
                        "source `{name}` has the consumer `{consumer}` and no changes; add `[sources.{name}.cdf]`"
                    ));
                }
                (Some(consumer), _) if validate_name(consumer).is_err() => {
                    return refuse(format!(
                        "source `{name}` has the consumer `{consumer}`, which is no name: use letters, digits and `_`, not \
                         starting with a digit"
                    ));
                }
                (Some(_), Some(cdf)) if cdf.ending_version.is_some() || cdf.ending_timestamp.is_some() => {
                    return refuse(format!(
                        "the changes of source `{name}` end where `cdf` says, so its consumer would never read on; remove \
                         `cdf_consumer`, or the end"
                    ));
                }
                _ => {}
            }
        }
        for name in self.changes() {
            for (section, taken) in
                [("sources", self.spec.sources.contains_key(&name)), ("views", self.spec.views.contains_key(&name))]
            {
                if taken {
                    let message = format!("`{name}` is the name of a source's changes; rename one of them");
                    return Err(self.contradiction(section, &name, message));
                }
            }
        }
        Ok(())
    }

    fn read_queries(&self) -> Result<BTreeMap<String, Query>, ProjectError> {
        let mut queries = BTreeMap::new();
        for (name, view) in &self.spec.views {
            let query = match (&view.sql, &view.file) {
                (Some(sql), None) => Query { sql: sql.clone(), file: None },
                (None, Some(file)) => {
                    let path = self.dir.join(file);
                    let sql = std::fs::read_to_string(&path).map_err(|source| ProjectError::Read {
                        path,
                        asked: Some(format!("the file of view `{name}`, {}", self.place("views", name))),
                        source,
                    })?;
                    Query { sql, file: Some(file.clone()) }
                }
                (Some(_), Some(_)) => {
                    return Err(self.contradiction(
                        "views",
                        name,
                        format!("view `{name}` has both `sql` and `file`; keep one"),
                    ));
                }
                (None, None) => {
                    return Err(self.contradiction(
                        "views",
                        name,
                        format!("view `{name}` has neither `sql` nor `file`; give it one"),
                    ));
                }
            };
            queries.insert(name.clone(), query);
        }
        Ok(queries)
    }

    fn check_outputs(&self) -> Result<(), ProjectError> {
        let mut paths: BTreeMap<PathBuf, &String> = BTreeMap::new();
        for (name, output) in &self.spec.outputs {
            if !self.spec.views.contains_key(&output.view) {
                let hint = meant(&output.view, self.spec.views.keys().map(String::as_str))
                    .map(|view| format!("; did you mean `{view}`?"))
                    .unwrap_or_default();
                let message = format!("output `{name}` publishes `{}`, which is no view{hint}", output.view);
                return Err(self.contradiction("outputs", name, message));
            }
            // No more of it than the scheme: it may hold what opens the store.
            if let Some((scheme, _)) = output.path.split_once("://") {
                let message = format!(
                    "output `{name}` lies at a {scheme}:// URL: this build has no cloud stores; use a local directory"
                );
                return Err(self.contradiction("outputs", name, message));
            }
            let path = normal(&self.dir.join(&output.path));
            let refuse = |message: String| Err(self.contradiction("outputs", name, message));
            if path.is_file() {
                return refuse(format!("output `{name}` lies at {}, which is a file; name a directory", output.path));
            }
            if let Some(source) = self.source_that_reads(&path) {
                return refuse(format!(
                    "output `{name}` lies at {}, where source `{source}` looks for files: the pipeline would feed on \
                     itself; move the output, or read its view `{}`",
                    output.path, output.view
                ));
            }
            let nested = |other: &PathBuf| path.starts_with(other) || other.starts_with(&path);
            match paths.iter().find(|(other, _)| nested(other)) {
                Some((other, first)) if *other == path => {
                    return refuse(format!("outputs `{first}` and `{name}` have the same path; give each its own"));
                }
                Some((_, first)) => {
                    return refuse(format!(
                        "outputs `{first}` and `{name}` lie one inside the other; give each a directory of its own"
                    ));
                }
                None => {}
            }
            paths.insert(path, name);
        }
        for (name, view) in &self.spec.views {
            let outputs = self.outputs_of(name).count();
            if view.cache == CachePolicy::DeltaOutput && outputs != 1 {
                let message = format!(
                    "view `{name}` has cache = \"delta_output\" and {outputs} outputs; its one output would be its cache: \
                     declare exactly one, or use \"delta_staging\""
                );
                return Err(self.contradiction("views", name, message));
            }
        }
        Ok(())
    }

    /// The source that would find a data file written into `output`.
    fn source_that_reads(&self, output: &Path) -> Option<&String> {
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let written = output.join("part-00000.parquet");
        let reads = |pattern: &String| {
            let path = normal(&self.dir.join(pattern));
            output.starts_with(&path)
                || path.starts_with(output)
                || path.to_str().and_then(|path| glob::Pattern::new(path).ok()).is_some_and(|pattern| {
                    // A pattern's directories may be patterns too; an extension that is not ours finds nothing of ours.
                    pattern.matches_path_with(&written, options)
                })
        };
        self.spec.sources.iter().find(|(_, source)| source.path.patterns().iter().any(reads)).map(|(name, _)| name)
    }

    fn contradiction(&self, section: &str, name: &str, message: String) -> ProjectError {
        ProjectError::Contradiction { place: self.place(section, name), message }
    }
}

fn parse(file: &Path, text: &str) -> Result<PipelineSpec, ProjectError> {
    let syntax = |(line, column): (usize, usize), message: String| ProjectError::Syntax {
        path: file.to_owned(),
        line,
        column,
        message,
    };
    let refused = match decode_toml(text.as_bytes()) {
        Ok(spec) => return Ok(spec),
        Err(refused) => refused,
    };
    // Contracts refuse more than TOML does: numbers that would be rounded, and nesting that would end the process. What
    // TOML refuses too is told in its words.
    if !matches!(refused.code, ErrorCode::TooDeep | ErrorCode::TooLarge)
        && let Err(error) = toml::from_str::<PipelineSpec>(text)
    {
        let named = error.span().and_then(|span| text.get(span));
        return Err(syntax(of_span(text, error.span()), with_meant(error.message(), named)));
    }
    let [line, column] = [refused.line, refused.column].map(|number| number.map_or(1, |number| number as usize));
    Err(syntax((line, column), format!("expected {}, found {}", refused.expected, refused.found)))
}

/// serde lists what it expected; the likeliest of it comes first.
fn with_meant(message: &str, named: Option<&str>) -> String {
    if let (true, Some(key)) = (message.starts_with("duplicate key"), named) {
        return format!("`{key}` is declared twice; rename one, or remove it");
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, expected)) if message.starts_with("unknown ") => {
            let what = if message.starts_with("unknown variant") { "value" } else { "key" };
            match meant(unknown, expected.iter().copied()) {
                Some(candidate) => {
                    format!("unknown {what} `{unknown}`; did you mean `{candidate}`? ({message})")
                }
                None => message.to_owned(),
            }
        }
        _ => message.to_owned(),
    }
}

/// Without `.` and `..`, as far as the text alone tells.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    path.components().fold(PathBuf::new(), |mut normal, component| {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(normal.components().next_back(), Some(Component::Normal(_))) => {
                normal.pop();
            }
            other => normal.push(other),
        }
        normal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        parse(Path::new("alluvium.toml"), text).unwrap_err().to_string()
    }

    #[test]
    fn what_contracts_refuse_is_refused_with_its_place() {
        let write =
            |number: &str| format!("[outputs.o]\nview = \"v\"\npath = \"p\"\nwrite.stats_max_columns = {number}\n");
        assert!(parse(Path::new("alluvium.toml"), &write("8.0")).is_ok());
        let rate = write("8\nwrite.writer_properties.bloom_filter_fpp = 0.10000000000000001");
        let refused = said(&rate);
        assert!(refused.starts_with("alluvium.toml:5:44: expected a number equal to "), "{refused}");
        assert!(refused.ends_with("found 0.10000000000000001, which would become 0.1"), "{refused}");
        let deep = said(&format!("{}a = 1\n", "a.".repeat(100_000)));
        assert!(deep.contains("expected at most 64 levels"), "{deep}");
    }

    #[test]
    fn what_toml_refuses_is_told_in_its_words() {
        let refused = said("[sources.s]\nfromat = \"csv\"\n");
        assert!(refused.starts_with("alluvium.toml:2:1: unknown key `fromat`; did you mean `format`?"), "{refused}");
    }
}

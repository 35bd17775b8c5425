//! `alluvium table`: a Delta table by its path, whoever wrote it.

use std::error::Error;
use std::path::Path;

use alluvium_contracts::{
    CacheCommitMetadata, CacheScope, CheckStatus, Contract, MaintenanceEvent, MaintenanceResult, TableDocument,
    TableHistory, TableMaintenance, TableVerification,
};
use alluvium_runs::{OpenError, PROJECT_FILE, Pipeline, Project};
use alluvium_telemetry::{Redactor, Seam};
use alluvium_write_policy::{Maintenance, MaintenanceError, head_commit, inspect_table, table_history, verify_table};

use super::runtime;
use super::table_args::{MaintainArgs, TableArgs, TableCommand};
use crate::args::DocumentFormat;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::human;
use crate::output;
use crate::signals::Stop;
use crate::table::{Column, Row, Style, Table, Tone};
use crate::terminal::Terminal;

/// Does what was asked.
pub fn table(args: &TableArgs, terminal: &Terminal) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let stop = Stop::listen(terminal)
        .map_err(|error| Failure::failed("cannot listen for signals".to_owned()).because(error))?;
    // Every commit lands or does not, so there is nothing to tidy up after a signal.
    let done = runtime.block_on(stop.or(answer(args, &Style::of_stdout(terminal))));
    runtime.shutdown_background();
    done.map_err(Failure::stopped)?
}

async fn answer(args: &TableArgs, style: &Style) -> Result<Exit, Failure> {
    match &args.command {
        TableCommand::Show { table, version } => {
            let document = inspect_table(table.path()?, *version).await?;
            print(document, table.format, |document| show(document, style))?;
        }
        TableCommand::History { table, limit } => {
            let document = table_history(table.path()?, usize::try_from(*limit).unwrap_or(usize::MAX))?;
            print(document, table.format, |document| history(document, style))?;
        }
        TableCommand::Maintain(args) => {
            let document = maintain(args).await?;
            print(document, args.table.format, |document| maintained(document, style))?;
        }
        TableCommand::Verify { table, version } => {
            let document = verify_table(table.path()?, *version).await?;
            let is_sound = document.checks.iter().all(|check| check.status != CheckStatus::Error);
            print(document, table.format, |document| verified(document, style))?;
            return Ok(if is_sound { Exit::Done } else { Exit::Failed });
        }
    }
    Ok(Exit::Done)
}

/// Prints what is told of a table, without the credentials that a writer put into its log: that may be anybody's.
fn print<T: Contract>(document: T, format: DocumentFormat, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
    let unshown =
        |error| Failure::failed("the table's log cannot be shown without what it names".to_owned()).because(error);
    let mut shown = serde_json::to_value(&document).map_err(unshown)?;
    let document = match Redactor::default().keep_document(&mut shown) {
        true => serde_json::from_value(shown).map_err(unshown)?,
        false => document,
    };
    match format {
        DocumentFormat::Text => output::print(&text(&document)),
        DocumentFormat::Json => output::print_document(document),
    }
}

async fn maintain(args: &MaintainArgs) -> Result<TableMaintenance, Failure> {
    let path = args.table.path()?;
    if args.rewrites() {
        refuse_output(path)?;
    }
    if !args.keep.is_empty() && args.vacuum.is_none() {
        return Err(Failure::input("--keep says what a vacuum keeps, and there is no --vacuum".to_owned()));
    }
    let maintenance = Maintenance::begin(path, Seam::system())?;
    let project = project_of(args)?;
    let version = || -> Result<u64, Failure> {
        let head = head_commit(path)?;
        Ok(head.map(|head| head.version).unwrap_or_default())
    };
    let version_before = version()?;
    let mut events = Vec::new();
    let done = match args.is_by_policy() {
        true => maintenance.run_due().await.map(|due| events = due),
        false => named(&maintenance, args, &mut events).await,
    };
    // What was done before a failure is done.
    if let Some(project) = project
        && let Err(error) = project.record_maintenance(path, &events)
    {
        let error = &error as &dyn Error;
        tracing::warn!(target: "alluvium.cli", error, "the maintenance of {} is in no ledger", path.display());
    }
    done?;
    Ok(TableMaintenance { table_path: path.display().to_string(), version_before, version_after: version()?, events })
}

/// The project in whose ledgers maintenance is recorded: the one that is named, or the nearest one above the table. `None`: there is
/// none, or it has no cache root yet. A project that nobody named and that cannot be opened is no reason to leave the table as it is.
fn project_of(args: &MaintainArgs) -> Result<Option<Pipeline>, Failure> {
    let open = |dir: &Path| -> Result<Option<Pipeline>, OpenError> {
        Pipeline::open_existing(Project::load(dir)?, args.project.open_options())
    };
    if args.project.is_named() {
        return Ok(open(args.project.directory(None))?);
    }
    let table = args.table.path()?;
    let table = std::path::absolute(table).unwrap_or_else(|_| table.to_path_buf());
    let Some(dir) = table.ancestors().find(|dir| dir.join(PROJECT_FILE).is_file()) else {
        return Ok(None);
    };
    Ok(open(dir).unwrap_or_else(|error| {
        let error = &error as &dyn Error;
        tracing::warn!(target: "alluvium.cli", error, "the project in {} cannot be opened: what is done is in no ledger", dir.display());
        None
    }))
}

/// What was named, in an order in which nothing is deleted that the step after it still needs.
async fn named(
    maintenance: &Maintenance,
    args: &MaintainArgs,
    events: &mut Vec<MaintenanceEvent>,
) -> Result<(), MaintenanceError> {
    if let Some(version) = args.restore {
        events.push(maintenance.restore(version).await?);
    }
    if !args.zorder.is_empty() {
        events.push(maintenance.zorder(&args.zorder).await?);
    }
    if let Some(min_files) = args.compact {
        events.push(maintenance.compact(min_files).await?);
    }
    if args.checkpoint {
        events.push(maintenance.checkpoint().await?);
    }
    if let Some(hours) = args.vacuum {
        events.push(maintenance.vacuum(hours, &args.keep).await?);
    }
    if let Some(hours) = args.cleanup_log {
        events.push(maintenance.cleanup_log(hours).await?);
    }
    Ok(())
}

/// A pipeline takes an output whose head is not its own commit for somebody else's, and refuses it.
fn refuse_output(path: &Path) -> Result<(), Failure> {
    let Some(head) = head_commit(path)? else { return Ok(()) };
    match CacheCommitMetadata::from_commit_info(&head.commit_info) {
        Ok(Some(ours)) if ours.cache_scope == CacheScope::Output => Err(Failure::input(format!(
            "{} is the output `{}` of a pipeline, which would take a commit of maintenance for somebody else's",
            path.display(),
            ours.name
        ))
        .with_hint("change `[outputs.NAME.write]` and run the pipeline; vacuum and checkpoints make no commit")),
        _ => Ok(()),
    }
}

/// Lines of `name  value`, without those that have nothing to say.
fn facts(facts: Vec<(&str, String)>) -> String {
    let said: Vec<_> = facts.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = said.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    said.into_iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

fn show(document: &TableDocument, style: &Style) -> String {
    let order: Vec<&str> = document.order.iter().map(|key| key.column.as_str()).collect();
    let features: Vec<&str> = document.features.iter().map(|feature| feature.as_str()).collect();
    let protocol = &document.protocol;
    let mut text = facts(vec![
        ("table", document.table_path.clone()),
        ("version", format!("{} (log from {} on)", document.delta_version, document.oldest_version)),
        ("checkpoint", document.checkpoint_version.map(|version| version.to_string()).unwrap_or_default()),
        ("rows", document.row_count.map(human::count).unwrap_or_default()),
        (
            "files",
            format!(
                "{}, {} of them small, {}",
                human::count(document.file_count),
                human::count(document.small_file_count),
                human::bytes(document.size_bytes)
            ),
        ),
        ("partitions", document.partition_by.join(", ")),
        ("order", order.join(", ")),
        ("statistics", document.stats_columns.join(", ")),
        ("protocol", format!("reader {}, writer {}", protocol.min_reader_version, protocol.min_writer_version)),
        ("features", features.join(", ")),
        (
            "read-only",
            document.unwritable.as_ref().map(|what| format!("this build cannot write {what}")).unwrap_or_default(),
        ),
        ("not followed", unread(document)),
    ]);
    let columns = Table {
        columns: vec![Column::text("column"), Column::text("type"), Column::text("null")],
        rows: document
            .columns
            .iter()
            .map(|column| {
                let null = if column.nullable { "" } else { "not null" };
                row(vec![column.name.clone(), column.data_type.clone(), null.to_owned()], Tone::Idle)
            })
            .collect(),
    };
    text.push_str(&format!("\n{}", columns.render(&Style { colour: false, ..*style })));
    let properties = document.properties.iter().map(|(key, value)| (key.as_str(), value.clone())).collect::<Vec<_>>();
    if !properties.is_empty() {
        text.push_str(&format!("\n{}", facts(properties)));
    }
    text
}

/// What a newer build asked for in the stored write policy, and this one does not know.
fn unread(document: &TableDocument) -> String {
    let parts = document.write_policy_unread.iter().map(|pointer| match pointer.as_str() {
        "" => "the stored write policy",
        pointer => pointer.trim_start_matches('/'),
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn history(document: &TableHistory, style: &Style) -> String {
    let commits = document.commits.iter().map(|commit| {
        let kind = match (commit.data_changed, commit.files_added + commit.files_removed) {
            (true, _) => Tone::Busy,
            (false, _) => Tone::Idle,
        };
        let mut details = Vec::new();
        for transaction in &commit.app_transactions {
            details.push(format!("transaction {} {}", transaction.app_id, transaction.version.0));
        }
        for (key, value) in &commit.commit_metadata {
            details.push(format!("{key} = {value}"));
        }
        Row {
            cells: vec![
                commit.delta_version.to_string(),
                commit.operation.clone().unwrap_or_default(),
                format!("+{} −{}", commit.files_added, commit.files_removed),
                commit.rows_added.map(human::count).unwrap_or_default(),
                human::bytes(commit.bytes_added),
            ],
            tone: kind,
            remark: None,
            details,
        }
    });
    let table = Table {
        columns: vec![
            Column::number("version"),
            Column::text("operation"),
            Column::number("files"),
            Column::number("rows"),
            Column::number("bytes"),
        ],
        rows: commits.collect(),
    };
    let left_out = document.delta_version + 1 - document.oldest_version - document.commits.len() as u64;
    let rest = match left_out {
        0 => String::new(),
        count => format!("{} earlier: --limit N shows more\n", human::count(count)),
    };
    table.render(style) + &rest
}

fn maintained(document: &TableMaintenance, style: &Style) -> String {
    if document.events.is_empty() {
        return format!(
            "{}: its write policy names no maintenance; --compact, --zorder, --checkpoint, --vacuum … do it at once\n",
            document.table_path
        );
    }
    let events = document.events.iter().map(|event| Row {
        cells: vec![
            event.operation.as_str().to_owned(),
            event.result.as_str().to_owned(),
            event.version_after.map(|version| version.to_string()).unwrap_or_default(),
            format!("+{} −{}", event.files_added, event.files_removed),
            human::seconds(event.duration_ms),
        ],
        tone: match event.result {
            MaintenanceResult::Ok => Tone::Good,
            MaintenanceResult::Skipped => Tone::Idle,
            MaintenanceResult::Error => Tone::Bad,
        },
        remark: event.reason.clone(),
        details: Vec::new(),
    });
    let columns = vec![
        Column::text("maintenance"),
        Column::text("result"),
        Column::number("version"),
        Column::number("files"),
        Column::number("seconds"),
    ];
    Table { columns, rows: events.collect() }.render(style)
}

fn verified(document: &TableVerification, style: &Style) -> String {
    let checks = document.checks.iter().map(|check| Row {
        cells: vec![check.name.clone(), check.status.as_str().to_owned()],
        tone: match check.status {
            CheckStatus::Ok => Tone::Good,
            CheckStatus::Warning => Tone::Idle,
            CheckStatus::Error => Tone::Bad,
        },
        remark: Some(check.message.clone()),
        details: check.fix.iter().cloned().collect(),
    });
    let table = Table { columns: vec![Column::text("check"), Column::text("result")], rows: checks.collect() };
    format!("{}\nversion {} of {}\n", table.render(style), document.delta_version, document.table_path)
}

fn row(cells: Vec<String>, tone: Tone) -> Row {
    Row { cells, tone, remark: None, details: Vec::new() }
}

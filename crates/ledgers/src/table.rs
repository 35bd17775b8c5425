//! A ledger's Delta table: absent, sound, damaged or of a newer format, and never one taken for another.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alluvium_write_policy::GuardedScan;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlanBuilder, cast, ident, lit};
use datafusion::prelude::SessionContext;
use deltalake_core::delta_datafusion::{DeltaScanConfig, DeltaScanNext};
use deltalake_core::kernel::transaction::{PROTOCOL, TransactionError};
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use url::Url;

use crate::{Ledger, LedgerError};

/// What is found where a ledger should be.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing was ever committed there.
    Absent,
    /// The newest version, loaded.
    Sound(Box<DeltaTable>),
    /// Files that do not make the ledger, and why.
    Damaged(String),
}

/// What a ledger is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its rows: every data file must be there at its length.
    Read,
    /// Another commit: old data files do not matter.
    Append,
}

/// Looks at a ledger. `made`: it has been committed to before, so that finding nothing is damage.
///
/// # Errors
/// [`LedgerError::NewerFormat`], and [`LedgerError::Unreadable`] where the system would not let us look.
pub(crate) async fn look(ledger: Ledger, dir: &Path, made: bool, access: Access) -> Result<Found, LedgerError> {
    let unreadable = |(path, source)| LedgerError::Unreadable { ledger, path, source };
    let newer = |found: String| LedgerError::NewerFormat { ledger, path: dir.to_path_buf(), found };

    if !has_log(dir).map_err(unreadable)? {
        return Ok(if made { Found::Damaged("its Delta log has gone".to_owned()) } else { Found::Absent });
    }
    let table = match load(dir).await {
        Ok(table) => table,
        Err(error) => {
            if let Some(found) = newer_protocol(&error) {
                return Err(newer(found));
            }
            // The engine hides what the system said behind errors of its own, so ask the system again: a log that
            // can be read and still makes no table is damaged; one that cannot be read says nothing.
            read_log(dir).map_err(unreadable)?;
            return Ok(Found::Damaged(format!("its Delta log does not load: {error}")));
        }
    };
    let Ok(state) = table.snapshot() else {
        return Ok(Found::Damaged("its Delta log has no state".to_owned()));
    };
    let snapshot = state.snapshot();
    let supported = match access {
        Access::Read => PROTOCOL.can_read_from(snapshot),
        Access::Append => PROTOCOL.can_write_to(snapshot),
    };
    if let Err(error) = supported {
        return Err(newer(error.to_string()));
    }
    match unlike(snapshot.arrow_schema().fields(), ledger.schema().fields()) {
        None => {}
        Some(Unlike::Newer(name)) => return Err(newer(format!("unknown column: {name}"))),
        Some(Unlike::Other(name)) => {
            return Ok(Found::Damaged(format!("its column {name} is missing or of another type")));
        }
    }
    if access == Access::Read {
        for file in snapshot.log_data().iter() {
            let path = dir.join(file.object_store_path().as_ref());
            match fs::metadata(&path) {
                Ok(metadata) if i64::try_from(metadata.len()) == Ok(file.size()) => {}
                Ok(_) => {
                    return Ok(Found::Damaged(format!("{} has another length than it was written with", file.path())));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Found::Damaged(format!("{} has gone", file.path())));
                }
                Err(source) => return Err(unreadable((path, source))),
            }
        }
    }
    Ok(Found::Sound(Box::new(table)))
}

/// Renames a damaged ledger's directory to `<name>.damaged-<n>`, with the first free `n`, and answers what it became. `None`:
/// there is no directory.
pub(crate) fn set_aside(dir: &Path) -> Result<Option<PathBuf>, LedgerError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let mut n = 1_u32;
    let aside = loop {
        let aside = dir.with_file_name(format!("{name}.damaged-{n}"));
        if !aside.try_exists().map_err(LedgerError::io(&aside, "look for"))? {
            break aside;
        }
        n += 1;
    };
    match fs::rename(dir, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LedgerError::io(dir, "set aside")(error)),
    }
}

/// The directories that ledgers in `dir` were [set aside](set_aside) as, in order.
pub(crate) fn all_set_aside(dir: &Path) -> Result<Vec<(Ledger, PathBuf)>, LedgerError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LedgerError::io(dir, "list")(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(LedgerError::io(dir, "list"))?.file_name();
        let Some((of, _)) = name.to_str().and_then(|name| name.split_once(".damaged-")) else { continue };
        let ledger = Ledger::all().into_iter().find(|ledger| ledger.dir_name() == of);
        found.extend(ledger.map(|ledger| (ledger, dir.join(&name))));
    }
    found.sort_unstable();
    Ok(found)
}

/// A table without rows.
pub(crate) fn empty(ledger: Ledger) -> Arc<dyn TableProvider> {
    Arc::new(EmptyTable::new(ledger.schema()))
}

/// The loaded version for SQL. Without a log store of its own the scan refuses `INSERT`, and it finds its files through
/// the session's store for `file:`.
pub(crate) fn provider(ledger: Ledger, dir: &Path, table: &DeltaTable) -> Result<Arc<dyn TableProvider>, LedgerError> {
    let scan = |source| LedgerError::Scan { ledger, path: dir.to_path_buf(), source: Box::new(source) };
    let state = table.snapshot().map_err(|error| scan(error.into()))?;
    // The schema is the one promised by `Ledger::schema`, not the session's taste in strings.
    let config = DeltaScanConfig { schema_force_view_types: false, ..DeltaScanConfig::new() };
    let provider = DeltaScanNext::new(state.snapshot().clone(), config).map_err(scan)?;
    // Rows are wide with text, and people ask for a few: the newest ones, those of a run, those of a view.
    let provider = Arc::new(GuardedScan::new(Arc::new(provider)).filtering_while_decoding());
    match provider.schema() == ledger.schema() {
        true => Ok(provider),
        false => adapted(provider, &ledger.schema()).map_err(scan),
    }
}

/// The rows whose `column` has one of `values`.
#[expect(clippy::disallowed_methods, reason = "a bare session over nothing but one ledger")]
pub(crate) async fn having(
    table: Arc<dyn TableProvider>,
    column: &str,
    values: Vec<String>,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let wanted = ident(column).in_list(values.into_iter().map(lit).collect(), false);
    SessionContext::new().read_table(table)?.filter(wanted)?.collect().await
}

/// Whether a commit that is still in the log has an app transaction of an application whose name begins so.
pub(crate) fn names_application(dir: &Path, prefix: &str) -> bool {
    let is_one = |line: &str| {
        let action: Option<serde_json::Value> = serde_json::from_str(line).ok();
        action.is_some_and(|action| action["txn"]["appId"].as_str().is_some_and(|id| id.starts_with(prefix)))
    };
    let commits = fs::read_dir(dir.join("_delta_log")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut commits = commits.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    commits.any(|path| fs::read_to_string(path).is_ok_and(|commit| commit.lines().any(is_one)))
}

/// Whether anything was ever committed in `dir`.
fn has_log(dir: &Path) -> Result<bool, (PathBuf, io::Error)> {
    let log = dir.join("_delta_log");
    let at = |error| (log.clone(), error);
    let entries = match fs::read_dir(&log) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        // A file in its place: no log, and so damage if there was one.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
        Err(error) => return Err(at(error)),
    };
    for entry in entries {
        let name = entry.map_err(at)?.file_name();
        let name = name.to_string_lossy();
        let version = name.get(..20).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        if version && (name.ends_with(".json") || name.ends_with(".parquet")) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads every file of the log, for the errors.
fn read_log(dir: &Path) -> Result<(), (PathBuf, io::Error)> {
    let log = dir.join("_delta_log");
    let entries = fs::read_dir(&log).map_err(|error| (log.clone(), error))?;
    let mut buffer = vec![0; 64 << 10];
    for entry in entries {
        let path = entry.map_err(|error| (log.clone(), error))?.path();
        let at = |error| (path.clone(), error);
        if !path.is_file() {
            continue;
        }
        let mut file = fs::File::open(&path).map_err(at)?;
        while file.read(&mut buffer).map_err(at)? > 0 {}
    }
    Ok(())
}

async fn load(dir: &Path) -> Result<DeltaTable, DeltaTableError> {
    // The engine's URLs know no `..`.
    let dir = fs::canonicalize(dir)?;
    let url = Url::from_directory_path(&dir)
        .map_err(|()| DeltaTableError::InvalidTableLocation(dir.display().to_string()))?;
    DeltaTableBuilder::from_url(url)?.load().await
}

/// What the protocol of the table asks for and the engine lacks, if that is what the error says.
fn newer_protocol(error: &DeltaTableError) -> Option<String> {
    match error {
        DeltaTableError::Transaction { source: TransactionError::UnsupportedTableFeatures(_) } => {
            Some(error.to_string())
        }
        // The kernel's error type is not exported; its text for `Error::Unsupported` begins so.
        DeltaTableError::KernelError(kernel) => {
            let text = kernel.to_string();
            text.starts_with("Unsupported: ").then_some(text)
        }
        _ => None,
    }
}

/// A column that keeps a table from being read and written as the ledger.
enum Unlike {
    /// It may not be NULL, and nobody here knows it.
    Newer(String),
    /// It is missing, or of another type.
    Other(String),
}

/// A contract gains optional fields, and nothing else, from one build to the next: so a table of an earlier build lacks columns, or fields of
/// their structs, and one of a later build has more, but none that may not be NULL.
fn unlike(found: &Fields, ours: &Fields) -> Option<Unlike> {
    for ours in ours {
        let (name, nullable) = (ours.name(), ours.is_nullable());
        let Some((_, found)) = found.find(name).filter(|(_, found)| found.is_nullable() == nullable) else {
            match found.find(name) {
                None if nullable => continue,
                _ => return Some(Unlike::Other(name.clone())),
            }
        };
        let within = match (found.data_type(), ours.data_type()) {
            (DataType::Struct(found), DataType::Struct(ours)) => unlike(found, ours),
            (DataType::List(found), DataType::List(ours)) => {
                unlike(&Fields::from([Arc::clone(found)]), &Fields::from([Arc::clone(ours)]))
            }
            (found, ours) => (found != ours).then(|| Unlike::Other(String::new())),
        };
        match within {
            None => {}
            Some(Unlike::Newer(field)) => return Some(Unlike::Newer(format!("{name}.{field}"))),
            Some(Unlike::Other(_)) => return Some(Unlike::Other(name.clone())),
        }
    }
    let newer = found.iter().find(|found| !found.is_nullable() && ours.find(found.name()).is_none());
    newer.map(|field| Unlike::Newer(field.name().clone()))
}

/// The rows of another build's table with the columns of `schema`: what that build did not know is NULL, and what this one does not know is
/// left out.
fn adapted(table: Arc<dyn TableProvider>, schema: &Schema) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let found = table.schema();
    let columns = schema.fields().iter().map(|field| {
        let (name, data_type) = (field.name(), field.data_type());
        let value = match found.field_with_name(name) {
            Ok(found) if found.data_type() == data_type => return Ok(ident(name)),
            Ok(_) => cast(ident(name), data_type.clone()),
            Err(_) => lit(ScalarValue::try_from(data_type)?),
        };
        Ok(value.alias(name))
    });
    let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
    let plan = LogicalPlanBuilder::scan("ledger", provider_as_source(table), None)?.project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

//! Whether a table is what its log says: every commit, every file, every row.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{CheckStatus, ContentDigest, DoctorCheck, TableVerification};
use arrow::array::{ArrayRef, BooleanArray, Datum, RecordBatch, Scalar};
use arrow::compute::kernels::cmp;
use arrow::compute::{SortOptions, cast};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::Column;
use datafusion::common::pruning::PruningStatistics as _;
use deltalake_core::kernel::LogicalFileView;
use deltalake_core::kernel::transaction::PROTOCOL;
use futures::TryStreamExt as _;
use serde_json::Value;

use crate::checks::{RowChecks, table_conditions};
use crate::condition::Condition;
use crate::error::{CommitError, ReadError};
use crate::files::{DataFile, ORDER_TAG};
use crate::gate::unwritable;
use crate::inspect::versions_of;
use crate::log::{commit_info, commit_versions};
use crate::read::{in_log, open, order_of, rows_in_log, tag};
use crate::report::lasting_fields;
use crate::rewrite::RowSource;
use crate::schema::table_schema;
use crate::table::{Loaded, TableDir};

/// Checks a table at `version`, or at its newest one: that the log has every commit and each of them reads; that this build
/// can read and write the table; that every data file is there, has the size and the digest that the log says, and as
/// many rows; that the rows keep constraints and NOT NULL, the order that the log claims and the bounds by which readers skip
/// files; and that the table is as the write policy asks that is stored with it.
///
/// Every file is read twice, for its bytes and for its rows. Nothing is changed.
///
/// # Errors
/// [`ReadError`] when there is no table, or when its log cannot be replayed. What is wrong with the files is no error but a
/// check that did not end well.
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn verify_table(table_dir: &Path, version: Option<u64>) -> Result<TableVerification, ReadError> {
    let (oldest, delta_version) = versions_of(table_dir, version)?;
    let mut verification = TableVerification {
        table_path: table_dir.display().to_string(),
        delta_version,
        file_count: 0,
        bytes_read: 0,
        row_count: 0,
        checks: vec![log(table_dir, oldest, delta_version)?],
    };
    let table = open(table_dir)?;
    let loaded = table.load(Some(delta_version)).await?;
    verification.checks.push(protocol(&loaded));
    verification.file_count = loaded.state.log_data().num_files() as u64;
    let files = match plain_files(&table, &loaded) {
        Ok(files) => files,
        Err(why) => {
            let fix = "read it through an engine that applies them";
            verification.checks.push(warning("files", format!("not looked at: {why}"), fix));
            return Ok(verification);
        }
    };
    let bytes = bytes(&files, &mut verification);
    let is_sound = bytes.status != CheckStatus::Error;
    verification.checks.push(bytes);
    if is_sound {
        let rows = Rows::of(&table, &loaded)?.check(files, &mut verification).await;
        verification.checks.push(rows);
        verification.checks.extend(policy(&table, &loaded)?);
    }
    Ok(verification)
}

fn ok(name: &str, message: String) -> DoctorCheck {
    DoctorCheck { name: name.to_owned(), status: CheckStatus::Ok, message, fix: None }
}

fn warning(name: &str, message: String, fix: &str) -> DoctorCheck {
    DoctorCheck { name: name.to_owned(), status: CheckStatus::Warning, message, fix: Some(fix.to_owned()) }
}

fn wrong(name: &str, message: String, fix: &str) -> DoctorCheck {
    DoctorCheck { name: name.to_owned(), status: CheckStatus::Error, message, fix: Some(fix.to_owned()) }
}

fn log(table_dir: &Path, oldest: u64, newest: u64) -> Result<DoctorCheck, ReadError> {
    const FIX: &str = "restore the commit from a copy of the table";
    let versions = commit_versions(table_dir)?;
    let there = versions.iter().copied().filter(|version| *version <= newest);
    if let Some(missing) = (oldest..=newest).zip(there).find_map(|(wanted, there)| (wanted != there).then_some(wanted))
    {
        return Ok(wrong("log", format!("the commit of version {missing} is not there, and later ones are"), FIX));
    }
    for version in oldest..=newest {
        if let Err(error) = commit_info(table_dir, version) {
            return Ok(wrong("log", error.to_string(), FIX));
        }
    }
    Ok(ok("log", format!("{} commits, from version {oldest} on", (newest + 1).saturating_sub(oldest))))
}

fn protocol(loaded: &Loaded) -> DoctorCheck {
    if let Err(error) = PROTOCOL.can_read_from(&loaded.state) {
        return wrong("protocol", error.to_string(), "read the table with the engine that wrote it");
    }
    match unwritable(&loaded.state) {
        None => ok("protocol", "this build reads and writes it".to_owned()),
        Some(feature) => warning(
            "protocol",
            format!("this build reads it and cannot write it: it needs {feature}"),
            "write it with the engine that set the feature",
        ),
    }
}

/// A data file as the log has it, and where its rows are read from.
struct LoggedFile {
    file: DataFile,
    /// Where it stands in the log.
    log_index: usize,
    /// Where it stands in the order of its write.
    order_index: Option<u64>,
    rows_in_log: Option<u64>,
    source: RowSource,
}

/// The files of the version; or why they do not tell its rows.
fn plain_files(table: &TableDir, loaded: &Loaded) -> Result<Vec<LoggedFile>, String> {
    let mapping = loaded.state.metadata().configuration().get("delta.columnMapping.mode");
    if mapping.is_some_and(|mode| mode != "none") {
        return Err("columns are mapped".to_owned());
    }
    loaded.state.log_data().iter().enumerate().map(|(index, file)| logged(table, index, &file)).collect()
}

fn logged(table: &TableDir, log_index: usize, view: &LogicalFileView) -> Result<LoggedFile, String> {
    let source = RowSource::of(table, view).map_err(|error| error.to_string())?;
    let order: Option<Value> = tag(view, ORDER_TAG).and_then(|text| serde_json::from_str(&text).ok());
    Ok(LoggedFile {
        file: in_log(view),
        log_index,
        order_index: order.and_then(|order| order["index"].as_u64()),
        rows_in_log: rows_in_log(view),
        source,
    })
}

/// Looks at the files' sizes and digests.
fn bytes(files: &[LoggedFile], verification: &mut TableVerification) -> DoctorCheck {
    const FIX: &str = "restore the file from a copy, restore a version that does without it, or write the table anew";
    let mut without_digest = 0;
    for LoggedFile { file, source, .. } in files {
        let problem = match fs::metadata(source.path()) {
            Err(error) => Some(format!("cannot be looked at: {error}")),
            Ok(found) if found.len() != file.size_bytes => {
                Some(format!("has {} bytes, and the log says {}", found.len(), file.size_bytes))
            }
            Ok(_) => match &file.digest {
                None => {
                    without_digest += 1;
                    None
                }
                Some(expected) => {
                    verification.bytes_read += file.size_bytes;
                    match digest_of(source.path()) {
                        Err(error) => Some(format!("cannot be read: {error}")),
                        Ok(found) if found != *expected => Some(format!("is {found}, and the log says {expected}")),
                        Ok(_) => None,
                    }
                }
            },
        };
        if let Some(problem) = problem {
            return wrong("files", format!("{} {problem}", file.path), FIX);
        }
    }
    let unknown = match without_digest {
        0 => String::new(),
        count => format!("; {count} of them by their size only, the log has no digest"),
    };
    ok("files", format!("{} files are what the log says{unknown}", files.len()))
}

fn digest_of(path: &Path) -> std::io::Result<ContentDigest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(ContentDigest::from_bytes(hasher.finalize().into()))
}

/// What the rows of a version have to keep.
struct Rows {
    schema: SchemaRef,
    checks: RowChecks,
    bounds: Vec<Bounds>,
    order: Option<Order>,
}

/// The least and the greatest value of a column by the log, of each of its files.
struct Bounds {
    column: String,
    least: ArrayRef,
    greatest: ArrayRef,
}

impl Bounds {
    /// Those of a column whose bounds hold for all of its values. The log leaves NaN out, and cuts times to milliseconds.
    fn of(loaded: &Loaded, field: &Field) -> Option<Self> {
        if field.data_type().is_floating() || matches!(field.data_type(), DataType::Timestamp(_, _)) {
            return None;
        }
        let (files, column) = (loaded.state.log_data(), Column::from_name(field.name()));
        let typed = |bounds: ArrayRef| cast(&bounds, field.data_type()).ok();
        let (least, greatest) = (typed(files.min_values(&column)?)?, typed(files.max_values(&column)?)?);
        Some(Self { column: field.name().clone(), least, greatest })
    }

    fn check(&self, log_index: usize, batch: &RecordBatch) -> Result<(), String> {
        let Some(values) = batch.column_by_name(&self.column) else { return Ok(()) };
        let beyond = |bounds: &ArrayRef, compare: fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>| {
            let bound = Scalar::new(bounds.slice(log_index, 1));
            // What has no order is not compared, and NULL is beyond nothing.
            compare(values, &bound).is_ok_and(|beyond| beyond.true_count() > 0)
        };
        match beyond(&self.least, cmp::lt) || beyond(&self.greatest, cmp::gt) {
            true => Err(format!("values of `{}` are outside of the bounds that the log says", self.column)),
            false => Ok(()),
        }
    }
}

/// The order that the log claims, and the last row that was seen.
struct Order {
    columns: Vec<String>,
    converter: RowConverter,
    last: Option<OwnedRow>,
}

impl Rows {
    fn of(table: &TableDir, loaded: &Loaded) -> Result<Self, ReadError> {
        let log = |error: CommitError| ReadError::Log { path: table.path().to_path_buf(), source: error.into() };
        let schema = table_schema(&loaded.state).map_err(|error| log(error.into()))?;
        let mut checks = RowChecks::default();
        for (name, sql) in table_conditions(&loaded.state) {
            let condition = Condition::parse(&name, &sql, &schema).map_err(|error| log(error.into()))?;
            checks = checks.with_condition(&name, condition);
        }
        let bounds = schema.fields().iter().filter_map(|field| Bounds::of(loaded, field)).collect();
        let order = order_of(loaded).and_then(|columns| Order::new(columns, &schema));
        Ok(Self { schema, checks, bounds, order })
    }

    async fn check(mut self, mut files: Vec<LoggedFile>, verification: &mut TableVerification) -> DoctorCheck {
        const FIX: &str = "write the table anew, or restore a version before it";
        files.sort_by_key(|file| file.order_index);
        for file in &files {
            match self.check_file(file).await {
                Ok(rows) => verification.row_count += rows,
                Err(problem) => return wrong("rows", format!("{}: {problem}", file.file.path), FIX),
            }
        }
        let order = match &self.order {
            Some(order) => format!(", in order of {}", order.columns.join(", ")),
            None => String::new(),
        };
        ok("rows", format!("{} rows keep what the table asks of them{order}", verification.row_count))
    }

    async fn check_file(&mut self, file: &LoggedFile) -> Result<u64, String> {
        let text = |error: &dyn std::error::Error| error.to_string();
        let mut batches = file.source.read(Arc::clone(&self.schema)).await.map_err(|error| text(&error))?;
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await.map_err(|error| text(&error))? {
            rows += batch.num_rows() as u64;
            self.checks.check(&batch).map_err(|error| text(&error))?;
            self.bounds.iter().try_for_each(|bounds| bounds.check(file.log_index, &batch))?;
            if let Some(order) = &mut self.order {
                order.check(&batch)?;
            }
        }
        match file.rows_in_log {
            Some(expected) if expected != rows => Err(format!("{rows} rows, and the log says {expected}")),
            _ => Ok(rows),
        }
    }
}

impl Order {
    /// None where the table has lost one of the columns.
    fn new(columns: Vec<String>, schema: &Schema) -> Option<Self> {
        let options = SortOptions { descending: false, nulls_first: true };
        let field = |column: &String| {
            let field = schema.field_with_name(column).ok()?;
            Some(SortField::new_with_options(field.data_type().clone(), options))
        };
        let converter = RowConverter::new(columns.iter().map(field).collect::<Option<_>>()?).ok()?;
        Some(Self { columns, converter, last: None })
    }

    fn check(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let columns = self.columns.iter().filter_map(|column| batch.column_by_name(column).cloned());
        let rows = self.converter.convert_columns(&columns.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        let Some(last) = rows.num_rows().checked_sub(1).map(|last| rows.row(last).owned()) else { return Ok(()) };
        let follows = self.last.as_ref().is_none_or(|earlier| earlier.row() <= rows.row(0));
        if !follows || rows.iter().zip(rows.iter().skip(1)).any(|(row, next)| row > next) {
            return Err(format!("its rows are not in the order of {} that the log claims", self.columns.join(", ")));
        }
        self.last = Some(last);
        Ok(())
    }
}

/// The stored policy beside what is there: what is otherwise is worth knowing, and no damage.
fn policy(table: &TableDir, loaded: &Loaded) -> Result<Vec<DoctorCheck>, ReadError> {
    let Some(fields) = lasting_fields(table, loaded)? else {
        return Ok(Vec::new());
    };
    let total = fields.len();
    let differing: Vec<DoctorCheck> = fields
        .into_iter()
        .filter(|field| !field.honoured)
        .map(|field| {
            let why = field.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let message =
                format!("`{}` asks for {}, and there is {}{why}", field.field, field.requested, field.observed);
            warning("policy", message, "maintain the table, or write it anew")
        })
        .collect();
    Ok(match differing.is_empty() {
        true => vec![ok("policy", format!("all {total} fields of the stored write policy are what is there"))],
        false => differing,
    })
}

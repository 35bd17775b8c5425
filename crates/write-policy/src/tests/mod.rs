//! Tests that write real tables and read them back by another way than they were written: the parquet crate, the log's
//! text, and the engine's own reader.

use alluvium_contracts::DeltaWritePolicy;
mod change_feed;
mod commits;
mod damage;
mod features;
mod fields;
mod foreign;
mod generated;
mod given_up;
mod insert;
mod inspect;
mod layout;
mod maintenance;
mod modes;
mod order;
mod processes;
mod races;
mod report;
mod semantic;
mod tip;
mod traps;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::DeltaTableBuilder;
use futures::{StreamExt as _, TryStreamExt as _};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde_json::Value;
use url::Url;

use crate::{
    AppendOutcome, CommitMetadata, CommitOutcome, Committed, ResolvedWritePolicy, StagedFiles, TableWrite,
    TableWriteOutcome, active_files, append, commit_replace, write_files,
};

/// `s` (text) and `n` (integer).
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]))
}

fn batch(rows: &[(Option<&str>, i64)]) -> RecordBatch {
    let s: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|(s, _)| *s)));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, n)| *n)));
    RecordBatch::try_new(schema(), vec![s, n]).unwrap()
}

/// Rows `from..to` with a text that does not compress.
fn numbered(from: i64, to: i64) -> RecordBatch {
    let texts: Vec<String> = (from..to).map(|n| blake3::hash(&n.to_le_bytes()).to_hex().to_string()).collect();
    let rows: Vec<(Option<&str>, i64)> = texts.iter().map(|text| Some(text.as_str())).zip(from..to).collect();
    batch(&rows)
}

fn stream(batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
    let schema = batches.first().map_or_else(schema, RecordBatch::schema);
    results(schema, batches.into_iter().map(Ok).collect())
}

fn results(schema: SchemaRef, batches: Vec<Result<RecordBatch, DataFusionError>>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches)))
}

fn resolve(policy: &DeltaWritePolicy) -> ResolvedWritePolicy {
    ResolvedWritePolicy::resolve(policy, &schema()).unwrap()
}

fn plain() -> ResolvedWritePolicy {
    resolve(&DeltaWritePolicy::default())
}

fn metadata(run: &str) -> CommitMetadata {
    CommitMetadata::from([("cache_operation".to_owned(), Value::from("write")), ("run_id".to_owned(), run.into())])
}

async fn stage(table: &Path, batches: Vec<RecordBatch>) -> StagedFiles {
    write_files(table, schema(), vec![stream(batches)], &plain()).await.unwrap()
}

/// Replaces the table's rows and expects it to work.
async fn replace(table: &Path, expected: Option<u64>, batches: Vec<RecordBatch>) -> Committed {
    let staged = stage(table, batches).await;
    match commit_replace(table, expected, schema(), staged, &plain(), &metadata("r"), None).await.unwrap() {
        CommitOutcome::Committed(committed) => committed,
        CommitOutcome::Conflict { head } => panic!("conflict with {head}"),
    }
}

fn names(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

/// Writes rows of [`schema`] as `policy` says, and gives back how it ended.
async fn write(
    table: &Path,
    policy: &DeltaWritePolicy,
    batches: Vec<RecordBatch>,
) -> Result<TableWriteOutcome, crate::CommitError> {
    let schema = batches.first().map_or_else(schema, RecordBatch::schema);
    let policy = ResolvedWritePolicy::resolve(policy, &schema)?;
    TableWrite::new(table, schema, vec![stream(batches)], &policy).metadata(metadata("r")).run().await
}

/// [`write`] that has to land; the version.
async fn land(table: &Path, policy: &DeltaWritePolicy, batches: Vec<RecordBatch>) -> u64 {
    match write(table, policy, batches).await.unwrap() {
        TableWriteOutcome::Committed(committed) => committed.version,
        other => panic!("{other:?}"),
    }
}

/// Appends one row and expects it to land.
async fn append_row(table: &Path, row: (&str, i64), transaction: (&str, i64)) -> Committed {
    let batches = vec![batch(&[(Some(row.0), row.1)])];
    match append(table, schema(), batches, &metadata("r"), transaction).await.unwrap() {
        AppendOutcome::Committed(committed) => committed,
        AppendOutcome::AlreadyApplied => panic!("{transaction:?} was applied before"),
    }
}

/// The rows of a table of [`schema`] without partitions as the parquet crate reads them from the active files, sorted.
async fn plain_rows(table: &Path, version: u64) -> Vec<String> {
    let mut rows = Vec::new();
    for file in active_files(table, version).await.unwrap() {
        let file = fs::File::open(table.join(&file.path)).unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            rows.extend(texts(&batch.unwrap()));
        }
    }
    rows.sort();
    rows
}

/// The rows of the table as the engine reads them, each as text by column order, sorted.
async fn rows(table: &Path) -> Vec<String> {
    let url = Url::from_directory_path(table).unwrap();
    let table = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    let (_, stream) = table.scan_table().await.unwrap();
    let batches: Vec<RecordBatch> = stream.boxed().try_collect().await.unwrap();
    let mut rows: Vec<String> = batches.iter().flat_map(texts).collect();
    rows.sort();
    rows
}

fn texts(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<_> =
        batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
    let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|");
    (0..batch.num_rows()).map(row).collect()
}

/// The actions of one commit by kind.
fn actions(table: &Path, version: u64) -> BTreeMap<String, Vec<Value>> {
    let text = fs::read_to_string(table.join("_delta_log").join(format!("{version:020}.json"))).unwrap();
    let mut actions: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        let Value::Object(line) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        for (kind, action) in line {
            actions.entry(kind).or_default().push(action);
        }
    }
    actions
}

/// Every file under the table that is not part of the log, relative to it.
fn data_files(table: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![table.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.map(Result::unwrap) {
            if entry.file_name() == "_delta_log" {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => directories.push(entry.path()),
                false => files.push(entry.path().strip_prefix(table).unwrap().to_path_buf()),
            }
        }
    }
    files.sort();
    files
}

fn footer(path: &Path) -> ParquetMetaData {
    ParquetMetaDataReader::new().parse_and_finish(&fs::File::open(path).unwrap()).unwrap()
}

/// A table that another engine wrote: version 0 is these lines.
fn foreign(lines: &[Value]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("_delta_log")).unwrap();
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(dir.path().join("_delta_log/00000000000000000000.json"), text.join("\n")).unwrap();
    dir
}

/// The `metaData` action of a table of [`schema`], with properties.
fn foreign_metadata(configuration: Value, field_metadata: Value) -> Value {
    let field = |name: &str, kind: &str, metadata: &Value| serde_json::json!({"name": name, "type": kind, "nullable": true, "metadata": metadata});
    let schema = serde_json::json!({"type": "struct", "fields": [
        field("s", "string", &serde_json::json!({})),
        field("n", "long", &field_metadata),
    ]});
    serde_json::json!({"metaData": {
        "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema.to_string(),
        "partitionColumns": [],
        "configuration": configuration,
        "createdTime": 0,
    }})
}

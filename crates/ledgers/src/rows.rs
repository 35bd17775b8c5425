//! From ledger events to Arrow batches and back: one column for each field of a contract, none forgotten.
//!
//! Each contract is listed once, in [`row!`]. The list is destructured exhaustively and carries the fields' types, so that
//! a contract that gains, loses or changes a field does not compile until its column is written here.

mod array;
mod json;

use std::collections::BTreeMap;
use std::sync::Arc;

use alluvium_contracts::{
    ArtifactId, CacheArtifact, CacheInventoryEntry, CacheKey, CachePolicy, CacheRunSummary, CacheScope,
    CacheSnapshotEntry, CdfRange, ContentDigest, DeltaInputPin, EngineCache, FilePin, InputKind, LedgerEvent,
    LookupResult, OutputResult, PinDigest, PlanFingerprint, PlanSignature, ProfileHash, RowsDigest, RunCommit, RunId,
    RunManifest, RunOutput, RunResult, RunView, SchemaHash, Stability, ViewResult,
};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::{Ledger, LedgerError};

pub(crate) use json::objects;

/// A value does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value} does not fit into the 64-bit signed column `{column}`")]
pub struct RowError {
    column: &'static str,
    value: u64,
}

/// One value of one row, in the shapes of the JSON data model that columns have.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Text(String),
    Integer(i64),
    Float(f64),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    /// The fields of a nested contract, in order.
    Struct(Vec<Value>),
}

/// The values of one row, in the order of its ledger's columns.
pub type Row = Vec<Value>;

/// The schema of a contract's ledger.
pub(crate) fn schema<R: LedgerRow>() -> SchemaRef {
    Arc::new(Schema::new(R::fields()))
}

/// The row that an event becomes.
pub(crate) fn row(event: &LedgerEvent) -> Result<Row, RowError> {
    match event {
        LedgerEvent::CacheInventory(entry) => entry.row(),
        LedgerEvent::CacheRuns(summary) => summary.row(),
        LedgerEvent::RunManifests(manifest) => manifest.row(),
        LedgerEvent::CacheArtifacts(artifact) => artifact.row(),
        LedgerEvent::CacheSnapshots(snapshot) => snapshot.row(),
    }
}

/// The rows as one batch of their ledger's schema.
pub(crate) fn batch<'r>(
    schema: SchemaRef,
    rows: impl Iterator<Item = &'r Row> + Clone,
) -> Result<RecordBatch, ArrowError> {
    let columns = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(at, field)| array::of(field.data_type(), &rows.clone().map(|row| &row[at]).collect::<Vec<_>>()))
        .collect::<Result<_, _>>()?;
    RecordBatch::try_new(schema, columns)
}

/// A contract whose fields are columns, or fields of one.
pub trait Columns {
    /// The columns, in the order of the contract's fields.
    fn fields() -> Vec<Field>;
    /// The values, in that order.
    ///
    /// # Errors
    /// For a count that no column holds.
    fn row(&self) -> Result<Row, RowError>;
}

/// A contract whose values are the rows of a ledger.
pub trait LedgerRow: Columns + Sized {
    /// Which.
    const LEDGER: Ledger;

    /// The value that a row of it stands for; from an object that may have more fields.
    #[doc(hidden)]
    fn from_object(row: serde_json::Value) -> Result<Self, serde_json::Error>;
}

impl LedgerRow for CacheInventoryEntry {
    const LEDGER: Ledger = Ledger::CacheInventory;

    fn from_object(row: serde_json::Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(row)
    }
}

impl LedgerRow for CacheRunSummary {
    const LEDGER: Ledger = Ledger::CacheRuns;

    fn from_object(row: serde_json::Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(row)
    }
}

impl LedgerRow for CacheArtifact {
    const LEDGER: Ledger = Ledger::CacheArtifacts;

    fn from_object(row: serde_json::Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(row)
    }
}

impl LedgerRow for CacheSnapshotEntry {
    const LEDGER: Ledger = Ledger::CacheSnapshots;

    fn from_object(row: serde_json::Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(row)
    }
}

impl LedgerRow for RunManifest {
    const LEDGER: Ledger = Ledger::RunManifests;

    fn from_object(mut row: serde_json::Value) -> Result<Self, serde_json::Error> {
        // The one column of texts that stand for more.
        if let Some(specs) = row.get_mut("resolved_specs").and_then(serde_json::Value::as_object_mut) {
            for spec in specs.values_mut() {
                if let Some(text) = spec.as_str() {
                    *spec = serde_json::from_str(text)?;
                }
            }
        }
        serde_json::from_value(row)
    }
}

/// The rows of a ledger that a query answered with, as their contracts. The query has to answer with all columns of the ledger;
/// others beside them do no harm.
///
/// # Errors
/// When a column is missing, or holds what is none of the contract's values.
pub fn decode_rows<R: LedgerRow>(batch: &RecordBatch) -> Result<Vec<R>, LedgerError> {
    objects(batch)
        .into_iter()
        .map(|row| R::from_object(row).map_err(|source| LedgerError::Decode { ledger: R::LEDGER, source }))
        .collect()
}

/// A type of field.
trait Cell {
    const NULLABLE: bool = false;
    fn data_type() -> DataType;
    /// `Err`: a count too large for a signed column, as Delta has no other.
    fn value(&self) -> Result<Value, u64>;
}

macro_rules! row {
    ($contract:ident { $($field:ident: $type:ty),+ $(,)? }) => {
        impl Columns for $contract {
            fn fields() -> Vec<Field> {
                vec![$(Field::new(stringify!($field), <$type as Cell>::data_type(), <$type as Cell>::NULLABLE),)+]
            }

            fn row(&self) -> Result<Row, RowError> {
                let $contract { $($field,)+ } = self;
                Ok(vec![$(
                    <$type as Cell>::value($field)
                        .map_err(|value| RowError { column: stringify!($field), value })?,
                )+])
            }
        }

        /// Within another row.
        impl Cell for $contract {
            fn data_type() -> DataType {
                DataType::Struct(<$contract as Columns>::fields().into())
            }

            fn value(&self) -> Result<Value, u64> {
                self.row().map(Value::Struct).map_err(|error| error.value)
            }
        }
    };
}

row!(CacheInventoryEntry {
    run_id: RunId,
    event_time_unix_ms: i64,
    cache_scope: CacheScope,
    view_name: String,
    output_name: Option<String>,
    cache_policy: CachePolicy,
    result: ViewResult,
    reason: Option<String>,
    cache_key: Option<CacheKey>,
    plan_fingerprint: Option<PlanFingerprint>,
    schema_hash: Option<SchemaHash>,
    cache_path: Option<String>,
    delta_version: Option<u64>,
    row_count: Option<u64>,
    file_count: Option<u64>,
    size_bytes: Option<u64>,
    duration_ms: f64,
    saved_ms: Option<f64>,
    plan_artifact_id: Option<ArtifactId>,
});

row!(CacheRunSummary {
    run_id: RunId,
    profile_name: Option<String>,
    started_unix_ms: i64,
    finished_unix_ms: i64,
    result: RunResult,
    hit_count: u64,
    write_count: u64,
    computed_count: u64,
    skipped_count: u64,
    error_count: u64,
    saved_ms: f64,
});

row!(RunManifest {
    run_id: RunId,
    started_unix_ms: i64,
    finished_unix_ms: i64,
    result: RunResult,
    traceparent: Option<String>,
    project_dir: Option<String>,
    plan_signature: Option<PlanSignature>,
    plan_fingerprints: BTreeMap<String, PlanFingerprint>,
    delta_inputs: Vec<DeltaInputPin>,
    views: Vec<RunView>,
    outputs: Vec<RunOutput>,
    commits: Vec<RunCommit>,
    artifact_ids: Option<BTreeMap<String, ArtifactId>>,
    resolved_sql: BTreeMap<String, String>,
    resolved_specs: BTreeMap<String, serde_json::Value>,
    semantic_settings: BTreeMap<String, String>,
    profile_hash: Option<ProfileHash>,
    engine_versions: BTreeMap<String, String>,
});

row!(DeltaInputPin {
    name: String,
    kind: InputKind,
    pin: PinDigest,
    format: Option<String>,
    path: Option<String>,
    cache_key: Option<CacheKey>,
    table_id: Option<String>,
    version: Option<u64>,
    timestamp_unix_ms: Option<i64>,
    commit_digest: Option<ContentDigest>,
    schema_hash: Option<SchemaHash>,
    options: BTreeMap<String, String>,
    file_count: Option<u64>,
    size_bytes: Option<u64>,
    files: Vec<FilePin>,
    cdf_range: Option<CdfRange>,
});

row!(FilePin {
    path: String,
    size_bytes: u64,
    content_digest: Option<ContentDigest>,
    object_version: Option<String>,
});

row!(CdfRange {
    starting_version: u64,
    ending_version: u64,
    row_count: Option<u64>,
    consumer: Option<String>,
});

row!(RunView {
    name: String,
    result: ViewResult,
    cache_policy: CachePolicy,
    cache_key: Option<CacheKey>,
    cache_path: Option<String>,
    row_count: Option<u64>,
    content_hash: Option<RowsDigest>,
    schema_hash: Option<SchemaHash>,
    stability: Option<Stability>,
    reasons: Vec<String>,
});

row!(RunOutput {
    name: String,
    view: String,
    path: String,
    result: OutputResult,
    table_id: Option<String>,
    delta_version: Option<u64>,
    written_by: Option<RunId>,
    row_count: Option<u64>,
    content_hash: Option<RowsDigest>,
    schema_hash: Option<SchemaHash>,
    plan_fingerprint: Option<PlanFingerprint>,
    cache_key: Option<CacheKey>,
});

row!(RunCommit { cache_scope: CacheScope, name: String, path: String, table_id: String, delta_version: u64 });

row!(CacheArtifact {
    run_id: RunId,
    event_time_unix_ms: i64,
    name: String,
    artifact_kind: String,
    artifact_version: u32,
    artifact_id: ArtifactId,
    document: String,
});

row!(CacheSnapshotEntry {
    run_id: RunId,
    event_time_unix_ms: i64,
    snapshot_name: String,
    engine_cache: EngineCache,
    cache_path: String,
    result: LookupResult,
    error_type: Option<String>,
    delta_version: Option<u64>,
    schema_hash: Option<SchemaHash>,
    row_count: Option<u64>,
    cached_bytes: Option<u64>,
    hit_count: Option<u64>,
    duration_ms: f64,
});

macro_rules! text_cells {
    ($($type:ty => $text:expr,)+) => {$(
        impl Cell for $type {
            fn data_type() -> DataType {
                DataType::Utf8
            }

            fn value(&self) -> Result<Value, u64> {
                let text: fn(&$type) -> String = $text;
                Ok(Value::Text(text(self)))
            }
        }
    )+};
}

text_cells! {
    String => String::clone,
    // Untyped: the one thing whose columns nobody knows.
    serde_json::Value => ToString::to_string,
    RunId => ToString::to_string,
    ArtifactId => ToString::to_string,
    CacheKey => ToString::to_string,
    ContentDigest => ToString::to_string,
    PinDigest => ToString::to_string,
    PlanFingerprint => ToString::to_string,
    PlanSignature => ToString::to_string,
    ProfileHash => ToString::to_string,
    RowsDigest => ToString::to_string,
    SchemaHash => ToString::to_string,
    CacheScope => |word| word.as_str().to_owned(),
    CachePolicy => |word| word.as_str().to_owned(),
    InputKind => |word| word.as_str().to_owned(),
    ViewResult => |word| word.as_str().to_owned(),
    OutputResult => |word| word.as_str().to_owned(),
    Stability => |word| word.as_str().to_owned(),
    RunResult => |word| word.as_str().to_owned(),
    EngineCache => |word| word.as_str().to_owned(),
    LookupResult => |word| word.as_str().to_owned(),
}

impl Cell for i64 {
    fn data_type() -> DataType {
        DataType::Int64
    }

    fn value(&self) -> Result<Value, u64> {
        Ok(Value::Integer(*self))
    }
}

impl Cell for u64 {
    fn data_type() -> DataType {
        DataType::Int64
    }

    fn value(&self) -> Result<Value, u64> {
        i64::try_from(*self).map(Value::Integer).map_err(|_| *self)
    }
}

impl Cell for u32 {
    fn data_type() -> DataType {
        DataType::Int64
    }

    fn value(&self) -> Result<Value, u64> {
        Ok(Value::Integer(i64::from(*self)))
    }
}

impl Cell for f64 {
    fn data_type() -> DataType {
        DataType::Float64
    }

    fn value(&self) -> Result<Value, u64> {
        Ok(Value::Float(*self))
    }
}

impl<T: Cell> Cell for Option<T> {
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        T::data_type()
    }

    fn value(&self) -> Result<Value, u64> {
        self.as_ref().map_or(Ok(Value::Null), Cell::value)
    }
}

impl<T: Cell> Cell for Vec<T> {
    fn data_type() -> DataType {
        // The names of the inner fields are those that a Delta schema comes back with.
        DataType::List(Arc::new(Field::new("element", T::data_type(), T::NULLABLE)))
    }

    fn value(&self) -> Result<Value, u64> {
        self.iter().map(Cell::value).collect::<Result<_, _>>().map(Value::List)
    }
}

impl<T: Cell> Cell for BTreeMap<String, T> {
    fn data_type() -> DataType {
        let entry = [Field::new("key", DataType::Utf8, false), Field::new("value", T::data_type(), T::NULLABLE)];
        DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry.into_iter().collect()), false)), false)
    }

    fn value(&self) -> Result<Value, u64> {
        self.iter().map(|(key, value)| Ok((key.clone(), value.value()?))).collect::<Result<_, _>>().map(Value::Map)
    }
}

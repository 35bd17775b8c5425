//! From ledger events to Arrow batches: one column for each field of a contract, none forgotten.
//!
//! Each contract is listed once, in [`row!`]. The list is destructured exhaustively and carries the fields' types, so that
//! a contract that gains, loses or changes a field does not compile until its column is written here.

use std::sync::Arc;

use alluvium_contracts::{
    CacheInventoryEntry, CacheKey, CachePolicy, CacheRunSummary, CacheScope, LedgerEvent, PlanFingerprint, RunId,
    RunResult, SchemaHash, ViewResult,
};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

/// A value does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value} does not fit into the 64-bit signed column `{column}`")]
pub(crate) struct RowError {
    column: &'static str,
    value: u64,
}

/// One value of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Text(String),
    Integer(i64),
    Float(f64),
}

/// The values of one row, in the order of its ledger's columns.
pub(crate) type Row = Vec<Value>;

/// The schema of a contract's ledger.
pub(crate) fn schema<R: LedgerRow>() -> SchemaRef {
    Arc::new(Schema::new(R::fields()))
}

/// The row that an event becomes.
pub(crate) fn row(event: &LedgerEvent) -> Result<Row, RowError> {
    match event {
        LedgerEvent::CacheInventory(entry) => entry.row(),
        LedgerEvent::CacheRuns(summary) => summary.row(),
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
        .map(|(at, field)| {
            let values = rows.clone().map(|row| &row[at]);
            column(field.data_type(), values)
        })
        .collect();
    RecordBatch::try_new(schema, columns)
}

/// `RecordBatch::try_new` refuses a null in a column that may have none, so a value of another kind cannot slip through.
fn column<'v>(data_type: &DataType, values: impl Iterator<Item = &'v Value>) -> ArrayRef {
    match data_type {
        DataType::Int64 => Arc::new(Int64Array::from_iter(values.map(|value| match value {
            Value::Integer(integer) => Some(*integer),
            _ => None,
        }))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(values.map(|value| match value {
            Value::Float(float) => Some(*float),
            _ => None,
        }))),
        _ => Arc::new(StringArray::from_iter(values.map(|value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        }))),
    }
}

/// A contract whose values are rows of a ledger.
pub(crate) trait LedgerRow {
    /// The columns, in the order of the contract's fields.
    fn fields() -> Vec<Field>;
    /// The values, in that order.
    fn row(&self) -> Result<Row, RowError>;
}

/// A type of field.
trait Cell {
    const TYPE: DataType;
    const NULLABLE: bool = false;
    /// `Err`: a count too large for a signed column, as Delta has no other.
    fn value(&self) -> Result<Value, u64>;
}

macro_rules! row {
    ($contract:ident { $($field:ident: $type:ty,)+ }) => {
        impl LedgerRow for $contract {
            fn fields() -> Vec<Field> {
                vec![$(Field::new(stringify!($field), <$type as Cell>::TYPE, <$type as Cell>::NULLABLE),)+]
            }

            fn row(&self) -> Result<Row, RowError> {
                let $contract { $($field,)+ } = self;
                Ok(vec![$(
                    <$type as Cell>::value($field)
                        .map_err(|value| RowError { column: stringify!($field), value })?,
                )+])
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

macro_rules! text_cells {
    ($($type:ty => $text:expr,)+) => {$(
        impl Cell for $type {
            const TYPE: DataType = DataType::Utf8;
            fn value(&self) -> Result<Value, u64> {
                let text: fn(&$type) -> String = $text;
                Ok(Value::Text(text(self)))
            }
        }
    )+};
}

text_cells! {
    String => String::clone,
    RunId => ToString::to_string,
    CacheKey => ToString::to_string,
    PlanFingerprint => ToString::to_string,
    SchemaHash => ToString::to_string,
    CacheScope => |word| word.as_str().to_owned(),
    CachePolicy => |word| word.as_str().to_owned(),
    ViewResult => |word| word.as_str().to_owned(),
    RunResult => |word| word.as_str().to_owned(),
}

impl Cell for i64 {
    const TYPE: DataType = DataType::Int64;
    fn value(&self) -> Result<Value, u64> {
        Ok(Value::Integer(*self))
    }
}

impl Cell for u64 {
    const TYPE: DataType = DataType::Int64;
    fn value(&self) -> Result<Value, u64> {
        i64::try_from(*self).map(Value::Integer).map_err(|_| *self)
    }
}

impl Cell for f64 {
    const TYPE: DataType = DataType::Float64;
    fn value(&self) -> Result<Value, u64> {
        Ok(Value::Float(*self))
    }
}

impl<T: Cell> Cell for Option<T> {
    const TYPE: DataType = T::TYPE;
    const NULLABLE: bool = true;
    fn value(&self) -> Result<Value, u64> {
        self.as_ref().map_or(Ok(Value::Null), Cell::value)
    }
}

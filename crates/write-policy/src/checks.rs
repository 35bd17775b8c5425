//! What every row is checked for before it reaches a file.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use deltalake_core::kernel::StructField;
use deltalake_core::table::state::DeltaTableState;
use serde_json::Value;

use crate::condition::Condition;
use crate::error::{PolicyError, WriteError};
use crate::policy::{ResolvedWritePolicy, delta_schema};

/// The directory name that stands for NULL: a string of this value would land among the NULLs.
const NULL_DIRECTORY: &str = "__HIVE_DEFAULT_PARTITION__";

/// The checks of one write.
#[derive(Debug, Default)]
pub(crate) struct RowChecks {
    conditions: Vec<(String, Condition)>,
    partition_by: Vec<String>,
    keys: Option<KeySet>,
}

impl RowChecks {
    /// The policy's constraints, those of the table, and what the columns ask of their values.
    pub(crate) fn new(
        policy: &ResolvedWritePolicy,
        table: Option<&DeltaTableState>,
        schema: &Schema,
    ) -> Result<Self, PolicyError> {
        let mut conditions = policy.conditions(schema)?;
        let mut asked: Vec<_> = column_conditions(delta_schema(schema)?.fields()).collect();
        asked.extend(table.into_iter().flat_map(table_conditions));
        asked.sort_unstable();
        asked.dedup();
        for (name, sql) in asked {
            conditions.push((name.clone(), Condition::parse(&name, &sql, schema)?));
        }
        Ok(Self { conditions, partition_by: policy.partition_by().to_vec(), keys: None })
    }

    /// Adds a condition of this write alone.
    pub(crate) fn with_condition(mut self, name: &str, condition: Condition) -> Self {
        self.conditions.push((name.to_owned(), condition));
        self
    }

    /// Collects the keys of the rows that pass.
    pub(crate) fn with_keys(mut self, keys: KeySet) -> Self {
        self.keys = Some(keys);
        self
    }

    pub(crate) fn keys(&self) -> Option<&KeySet> {
        self.keys.as_ref()
    }

    /// The conditions that rows were checked for, as SQL.
    pub(crate) fn checked(&self) -> BTreeSet<String> {
        self.conditions.iter().map(|(_, condition)| condition.sql().to_owned()).collect()
    }

    pub(crate) fn check(&self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.partition_by.iter().try_for_each(|column| check_partition_values(batch, column))?;
        for (name, condition) in &self.conditions {
            let holds = condition.holds(batch).map_err(|source| WriteError::Stream { source: Box::new(source) })?;
            let violations = holds.false_count();
            if violations > 0 {
                return Err(WriteError::Constraint {
                    constraint: name.clone(),
                    sql: condition.sql().to_owned(),
                    violations,
                });
            }
        }
        self.keys.as_ref().map_or(Ok(()), |keys| keys.collect(batch))
    }
}

/// The conditions that a table asks of its rows: constraints, invariants of columns, and what columns are generated from.
pub(crate) fn table_conditions(table: &DeltaTableState) -> Vec<(String, String)> {
    let properties = table.metadata().configuration();
    let constraint = |(key, sql): (&String, &String)| {
        let name = key.strip_prefix("delta.constraints.")?;
        Some((name.to_owned(), sql.clone()))
    };
    let mut conditions: Vec<(String, String)> = properties.iter().filter_map(constraint).collect();
    conditions.extend(column_conditions(table.schema().fields()));
    conditions.sort_unstable();
    conditions
}

/// The column metadata that says what a column is generated from.
pub(crate) const GENERATION: &str = "delta.generationExpression";

/// What the columns themselves ask of their values.
fn column_conditions<'a>(fields: impl Iterator<Item = &'a StructField>) -> impl Iterator<Item = (String, String)> {
    let of = |field: &'a StructField, key: &str| field.metadata().get(key).map(ToString::to_string);
    fields.flat_map(move |field| {
        let invariant = of(field, "delta.invariants").map(|text| {
            let sql = serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|value| value["expression"]["expression"].as_str().map(str::to_owned));
            // An invariant that we cannot read becomes a condition that does not parse, and so an error by name.
            (format!("invariant of {}", field.name()), sql.unwrap_or(text))
        });
        let generated = of(field, GENERATION).map(|sql| {
            let column = field.name().replace('"', "\"\"");
            (format!("generation of {}", field.name()), format!("\"{column}\" IS NOT DISTINCT FROM ({sql})"))
        });
        invariant.into_iter().chain(generated)
    })
}

/// Keys of rows: what is in it is replaced or deleted.
#[derive(Debug)]
pub(crate) struct KeySet {
    columns: Vec<String>,
    /// Whether a key may come twice.
    unique: bool,
    rows: Mutex<(RowConverter, HashSet<Box<[u8]>>)>,
}

impl KeySet {
    pub(crate) fn new(columns: &[String], schema: &Schema, unique: bool) -> Result<Self, PolicyError> {
        let fields = columns.iter().map(|column| match schema.field_with_name(column) {
            Ok(field) => Ok(SortField::new(plain(field.data_type()))),
            Err(_) => Err(PolicyError::unknown_column("keys", column, schema)),
        });
        let converter =
            RowConverter::new(fields.collect::<Result<_, _>>()?).map_err(|source| PolicyError::Schema { source })?;
        Ok(Self { columns: columns.to_vec(), unique, rows: Mutex::new((converter, HashSet::new())) })
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn collect(&self, batch: &RecordBatch) -> Result<(), WriteError> {
        for column in &self.columns {
            if batch.column_by_name(column).is_some_and(|array| array.logical_null_count() > 0) {
                return Err(WriteError::NullKey { column: column.clone() });
            }
        }
        self.each(batch, |rows, key| {
            let fresh = rows.insert(key.into());
            if self.unique && !fresh { Err(WriteError::DuplicateKey { columns: self.columns.clone() }) } else { Ok(()) }
        })
    }

    /// The least and the greatest value of the first key column. None where there is no key.
    pub(crate) fn first_bounds(&self) -> Option<(ScalarValue, ScalarValue)> {
        // The set is whole after every statement.
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let (converter, keys) = &*rows;
        // Keys compare as their rows do, and those first by their first column.
        let parser = converter.parser();
        let ends = [keys.iter().min()?, keys.iter().max()?].map(|key| parser.parse(key));
        let columns = converter.convert_rows(ends).ok()?;
        let value = |row| ScalarValue::try_from_array(columns.first()?, row).ok();
        Some((value(0)?, value(1)?))
    }

    /// Of each row of a batch, whether its key is in the set.
    pub(crate) fn contains(&self, batch: &RecordBatch) -> Result<Vec<bool>, WriteError> {
        let mut found = Vec::with_capacity(batch.num_rows());
        self.each(batch, |rows, key| {
            found.push(rows.contains(key));
            Ok(())
        })?;
        Ok(found)
    }

    fn each(
        &self,
        batch: &RecordBatch,
        mut visit: impl FnMut(&mut HashSet<Box<[u8]>>, &[u8]) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let failed = |source| WriteError::Batch { source };
        let columns = self.columns.iter().map(|column| {
            let array = batch
                .column_by_name(column)
                .ok_or_else(|| arrow::error::ArrowError::SchemaError(format!("the key column {column} is missing")))?;
            // One form of text, so that keys compare equal whatever view of it the rows came in.
            arrow::compute::cast(array, &plain(array.data_type()))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        // The set is whole after every statement.
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let (converter, set) = &mut *rows;
        let converted = converter.convert_columns(&columns).map_err(failed)?;
        converted.iter().try_for_each(|row| visit(set, row.as_ref()))
    }
}

/// The type that a table reads a column back as.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, value) => plain(value),
        other => other.clone(),
    }
}

/// Refuses the strings that a table would give back as NULL: Delta reads an empty partition value as NULL, and the
/// engine's writer files rows by directory, where the name that stands for NULL is taken.
fn check_partition_values(batch: &RecordBatch, column: &str) -> Result<(), WriteError> {
    let Some(array) = batch.column_by_name(column) else {
        return Ok(());
    };
    let bad = |value: Option<&str>| value.is_some_and(|value| value.is_empty() || value == NULL_DIRECTORY);
    let found = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().find(|value| bad(*value)),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().find(|value| bad(*value)),
        DataType::Utf8View => array.as_string_view().iter().find(|value| bad(*value)),
        _ => None,
    };
    match found.flatten() {
        Some(value) => Err(WriteError::PartitionValue { column: column.to_owned(), value: value.to_owned() }),
        None => Ok(()),
    }
}

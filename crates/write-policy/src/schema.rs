//! The schema of rows against that of the table they go to.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast};
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use datafusion::common::nested_struct::cast_column;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake_core::kernel::{ArrayType, DataType, StructField, StructType};
use deltalake_core::table::state::DeltaTableState;
use futures::StreamExt as _;

use crate::error::{CommitError, PolicyError};
use crate::policy::delta_schema;

/// The table's schema as arrow has it.
pub(crate) fn table_schema(state: &DeltaTableState) -> Result<SchemaRef, PolicyError> {
    let schema: Schema = state.schema().as_ref().try_into_arrow().map_err(|source| PolicyError::Schema { source })?;
    Ok(Arc::new(schema))
}

/// Whether rows of `schema` are rows of the table: same columns, in order, of the same types, and none that may be NULL
/// where the table allows none.
pub(crate) fn check_strict(table: &Path, state: &DeltaTableState, schema: &Schema) -> Result<(), CommitError> {
    let ours = delta_schema(schema)?;
    let theirs = state.schema();
    let (mut ours, mut theirs) = (ours.fields(), theirs.fields());
    loop {
        match (ours.next(), theirs.next()) {
            (None, None) => return Ok(()),
            (Some(found), Some(expected)) if found.name() == expected.name() && fits(found, expected) => {}
            (found, expected) => return Err(changed(table, expected, found)),
        }
    }
}

/// What the table's schema becomes when rows of other columns join it.
pub(crate) struct Merged {
    /// In Delta's terms; `None` when the table has every column.
    pub(crate) grown: Option<StructType>,
    /// In arrow's terms: the table's columns, with the rows' types, then the new ones.
    pub(crate) columns: SchemaRef,
}

/// Adds the columns of `schema` that the table lacks, and to its structs the fields that theirs lack. What it has needs its types; what the
/// rows lack may be NULL.
pub(crate) fn merge(table: &Path, state: &DeltaTableState, schema: &Schema) -> Result<Merged, CommitError> {
    let rows = delta_schema(schema)?;
    let theirs = state.schema();
    let theirs_in_arrow = table_schema(state)?;
    let mut fields: Vec<StructField> = Vec::new();
    let mut columns: Vec<Field> = Vec::new();
    for (expected, in_arrow) in theirs.fields().zip(theirs_in_arrow.fields()) {
        let found = rows.field(expected.name());
        let field = match found {
            Some(found) if fits(found, expected) => {
                let own = schema.field_with_name(expected.name()).map_err(|source| PolicyError::Schema { source })?;
                columns.push(own.clone().with_nullable(expected.is_nullable()));
                expected.clone()
            }
            Some(found) => {
                let joined = joined(expected, found).ok_or_else(|| changed(table, Some(expected), Some(found)))?;
                columns.push((&joined).try_into_arrow().map_err(|source| PolicyError::Schema { source })?);
                joined
            }
            None if expected.is_nullable() => {
                columns.push(in_arrow.as_ref().clone());
                expected.clone()
            }
            None => return Err(changed(table, Some(expected), None)),
        };
        fields.push(field);
    }
    for found in rows.fields().filter(|found| theirs.field(found.name()).is_none()) {
        let own = schema.field_with_name(found.name()).map_err(|source| PolicyError::Schema { source })?;
        // Rows that are there already have no value for it.
        columns.push(own.clone().with_nullable(true));
        let mut field = found.clone();
        field.nullable = true;
        fields.push(field);
    }
    let grown = match fields.iter().ne(theirs.fields()) {
        true => Some(
            StructType::try_new(fields)
                .map_err(|error| CommitError::Failed { path: table.to_path_buf(), source: error.into() })?,
        ),
        false => None,
    };
    Ok(Merged { grown, columns: Arc::new(Schema::new(columns)) })
}

/// The field that holds what either of two holds: that of the table, with the fields that only the structs of the rows have, which may be
/// NULL. `None`: they differ otherwise.
fn joined(expected: &StructField, found: &StructField) -> Option<StructField> {
    if found.is_nullable() && !expected.is_nullable() {
        return None;
    }
    let data_type = match (expected.data_type(), found.data_type()) {
        (DataType::Struct(expected), DataType::Struct(found)) => {
            let mut fields = Vec::new();
            for field in expected.fields() {
                fields.push(match found.field(field.name()) {
                    Some(found) => joined(field, found)?,
                    None => field.is_nullable().then(|| field.clone())?,
                });
            }
            let new = found.fields().filter(|field| expected.field(field.name()).is_none());
            fields.extend(new.map(|field| StructField { nullable: true, ..field.clone() }));
            DataType::from(StructType::try_new(fields).ok()?)
        }
        (DataType::Array(expected), DataType::Array(found)) => {
            let element =
                |list: &ArrayType| StructField::new("element", list.element_type().clone(), list.contains_null());
            let element = joined(&element(expected), &element(found))?;
            DataType::from(ArrayType::new(element.data_type().clone(), element.is_nullable()))
        }
        (expected, found) => (expected == found).then(|| expected.clone())?,
    };
    Some(StructField { data_type, ..expected.clone() })
}

/// The stream with the columns of `schema`, by name, and their fields; those that it lacks are NULL.
pub(crate) fn by_name(stream: SendableRecordBatchStream, schema: &SchemaRef) -> SendableRecordBatchStream {
    let wanted = Arc::clone(schema);
    let batches = stream.map(move |batch| {
        let batch = batch?;
        let columns = wanted.fields().iter().map(|field| match batch.column_by_name(field.name()) {
            Some(column) => conformed(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        });
        let columns = columns.collect::<Result<_, DataFusionError>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&wanted), columns, &options)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}

/// The values as `data_type`, wherever they have structs by the names of the fields.
pub(crate) fn conformed(column: &ArrayRef, data_type: &ArrowType) -> Result<ArrayRef, DataFusionError> {
    if column.data_type() == data_type {
        return Ok(Arc::clone(column));
    }
    // Fields that a file says may be NULL, and the table says may not, are refused by name; their values tell.
    cast_column(column, data_type, &CastOptions::default()).or_else(|_| Ok(cast(column, data_type)?))
}

/// The stream with the columns of `schema`, by position, cast to its types where they are of others.
pub(crate) fn by_position(stream: SendableRecordBatchStream, schema: &SchemaRef) -> SendableRecordBatchStream {
    if stream.schema() == *schema {
        return stream;
    }
    let wanted = Arc::clone(schema);
    let batches = stream.map(move |batch| {
        let batch = batch?;
        let columns = batch.columns().iter().zip(wanted.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&wanted), columns)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
}

fn fits(found: &StructField, expected: &StructField) -> bool {
    found.data_type() == expected.data_type() && (expected.is_nullable() || !found.is_nullable())
}

fn changed(table: &Path, expected: Option<&StructField>, found: Option<&StructField>) -> CommitError {
    let name = |field: Option<&StructField>| match field {
        Some(field) => {
            let null = if field.is_nullable() { "" } else { " not null" };
            format!("`{} {}{null}`", field.name(), field.data_type())
        }
        None => "missing".to_owned(),
    };
    CommitError::SchemaChanged {
        path: table.to_path_buf(),
        column: found.or(expected).map(|field| field.name().clone()).unwrap_or_default(),
        expected: name(expected),
        found: name(found),
    }
}

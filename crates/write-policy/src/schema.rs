//! The schema of rows against that of the table they go to.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use deltalake_core::kernel::{StructField, StructType};
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

/// Adds the columns of `schema` that the table lacks. Those it has need its types; those that the rows lack may be NULL.
pub(crate) fn merge(table: &Path, state: &DeltaTableState, schema: &Schema) -> Result<Merged, CommitError> {
    let rows = delta_schema(schema)?;
    let theirs = state.schema();
    let theirs_in_arrow = table_schema(state)?;
    let mut fields: Vec<StructField> = Vec::new();
    let mut columns: Vec<Field> = Vec::new();
    for (expected, in_arrow) in theirs.fields().zip(theirs_in_arrow.fields()) {
        match rows.field(expected.name()) {
            Some(found) if fits(found, expected) => {
                let own = schema.field_with_name(expected.name()).map_err(|source| PolicyError::Schema { source })?;
                columns.push(own.clone().with_nullable(expected.is_nullable()));
            }
            None if expected.is_nullable() => columns.push(in_arrow.as_ref().clone()),
            found => return Err(changed(table, Some(expected), found)),
        }
        fields.push(expected.clone());
    }
    let known = fields.len();
    for found in rows.fields().filter(|found| theirs.field(found.name()).is_none()) {
        let own = schema.field_with_name(found.name()).map_err(|source| PolicyError::Schema { source })?;
        // Rows that are there already have no value for it.
        columns.push(own.clone().with_nullable(true));
        let mut field = found.clone();
        field.nullable = true;
        fields.push(field);
    }
    let grown = match fields.len() > known {
        true => Some(
            StructType::try_new(fields)
                .map_err(|error| CommitError::Failed { path: table.to_path_buf(), source: error.into() })?,
        ),
        false => None,
    };
    Ok(Merged { grown, columns: Arc::new(Schema::new(columns)) })
}

/// The stream with the columns of `schema`, by name; those that it lacks are NULL.
pub(crate) fn by_name(stream: SendableRecordBatchStream, schema: &SchemaRef) -> SendableRecordBatchStream {
    let wanted = Arc::clone(schema);
    let batches = stream.map(move |batch| {
        let batch = batch?;
        let columns = wanted.fields().iter().map(|field| match batch.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), batch.num_rows()),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&wanted), columns.collect(), &options)?)
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches))
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

//! An operator that holds rows to a schema of the same types: to its metadata, and to what it declares without NULL.
//!
//! A cast to a field without NULL says the same, but projections are merged into readers, which forget it.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};
use futures::StreamExt;

/// A NULL where none is declared.
#[derive(Debug, thiserror::Error)]
#[error(
    "the column `{column}` is declared without NULL and holds {nulls} in one batch: correct the data, or the declaration"
)]
struct UndeclaredNull {
    column: String,
    nulls: usize,
}

#[derive(Debug)]
pub(crate) struct ConformExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl ConformExec {
    /// `input`, held to `schema`; as it is, if it says as much itself. Types have to be equal.
    pub(crate) fn over(input: Arc<dyn ExecutionPlan>, schema: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
        let says = input.schema();
        let conforms = says.fields().iter().zip(schema.fields()).all(|(says, wanted)| {
            says.metadata() == wanted.metadata() && (wanted.is_nullable() || !says.is_nullable())
        });
        if conforms && says.fields().len() == schema.fields().len() {
            return Ok(input);
        }
        Ok(Arc::new(Self::try_new(input, Arc::clone(schema))?))
    }

    fn try_new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Result<Self> {
        let properties = PlanProperties::new(
            input.equivalence_properties().clone().with_new_schema(Arc::clone(&schema))?,
            input.output_partitioning().clone(),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Self { input, schema, properties: Arc::new(properties) })
    }
}

fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().zip(batch.columns());
    let null = columns.filter(|(field, _)| !field.is_nullable()).find(|(_, column)| column.logical_null_count() > 0);
    if let Some((field, column)) = null {
        let error = UndeclaredNull { column: field.name().clone(), nulls: column.logical_null_count() };
        return Err(DataFusionError::External(Box::new(error)));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

impl DisplayAs for ConformExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConformExec")
    }
}

impl ExecutionPlan for ConformExec {
    fn name(&self) -> &'static str {
        "ConformExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::try_new(input, Arc::clone(&self.schema))?)),
            _ => datafusion::common::internal_err!("ConformExec has exactly one input"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.schema);
        let batches = self.input.execute(partition, context)?.map(move |batch| conform(batch?, &schema));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

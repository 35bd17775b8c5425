//! The boundary of a view as an operator: columns become the published types, and a value that would be lost is an error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PhysicalExpr, PlanProperties,
    SendableRecordBatchStream,
};
use futures::StreamExt as _;

/// A value has no equal in the published type of its column.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error("column `{column}` holds a value of type {from} that is lost as {to}; cast or round it in the view's SQL")]
pub struct LostValue {
    /// The column.
    pub column: String,
    /// Its type in the plan.
    pub from: DataType,
    /// Its published type.
    pub to: DataType,
    /// The engine's own words, where the cast itself failed.
    #[source]
    pub source: Option<ArrowError>,
}

/// Casts a batch to the published schema, column by column in order.
pub(crate) fn publish_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, LostValue> {
    let columns: Result<Vec<ArrayRef>, LostValue> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            publish_column(column, field.data_type()).map_err(|source| LostValue {
                column: field.name().clone(),
                from: column.data_type().clone(),
                to: field.data_type().clone(),
                source,
            })
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns?, &options).map_err(|source| LostValue {
        column: String::new(),
        from: DataType::Null,
        to: DataType::Null,
        source: Some(source),
    })
}

fn publish_column(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, Option<ArrowError>> {
    let from = column.data_type();
    if from == to {
        return Ok(Arc::clone(column));
    }
    // `safe: false` makes an overflow an error instead of a NULL.
    let options = CastOptions { safe: false, format_options: FormatOptions::default() };
    let published = cast_with_options(column, to, &options).map_err(Some)?;
    // Some casts drop what does not fit without a word: those are undone and compared.
    if is_rounded(from) {
        let back = cast_with_options(&published, from, &options).map_err(Some)?;
        if back.to_data() != column.to_data() {
            return Err(None);
        }
    }
    Ok(published)
}

/// Whether casting to the published type rounds: nanoseconds to microseconds, milliseconds of a date to days.
fn is_rounded(from: &DataType) -> bool {
    match from {
        DataType::Timestamp(TimeUnit::Nanosecond, _) | DataType::Date64 => true,
        DataType::List(item)
        | DataType::ListView(item)
        | DataType::LargeList(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => is_rounded(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| is_rounded(field.data_type())),
        DataType::Dictionary(_, value) => is_rounded(value),
        DataType::RunEndEncoded(_, values) => is_rounded(values.data_type()),
        _ => false,
    }
}

/// Publishes every batch of its input.
#[derive(Debug)]
pub(crate) struct PublishExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    /// Whether the input is a finished plan inside another: the outer optimizer must not rewrite it again.
    sealed: bool,
}

impl PublishExec {
    /// `schema` has the columns of `input`, in order, with their published types.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            datafusion::physical_plan::Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { input, schema, properties: Arc::new(properties), sealed: false }
    }

    /// As a leaf of a larger plan, whose optimizer leaves the input as it is.
    pub(crate) fn sealed(mut self) -> Self {
        self.sealed = true;
        self
    }
}

impl DisplayAs for PublishExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PublishExec")
    }
}

impl ExecutionPlan for PublishExec {
    fn name(&self) -> &'static str {
        "PublishExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        if self.sealed { Vec::new() } else { vec![&self.input] }
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if self.sealed && children.is_empty() {
            return Ok(self);
        }
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, Arc::clone(&self.schema)))),
            _ => datafusion::common::internal_err!("PublishExec has exactly one input"),
        }
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = reset_plan_states(Arc::clone(&self.input))?;
        let reset = Self::new(input, Arc::clone(&self.schema));
        Ok(Arc::new(if self.sealed { reset.sealed() } else { reset }))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let schema = Arc::clone(&self.schema);
        let batches = self.input.execute(partition, context)?.map(move |batch| {
            publish_batch(&batch?, &schema).map_err(|lost| DataFusionError::External(Box::new(lost)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, TimestampNanosecondArray, UInt64Array};
    use arrow::datatypes::{Field, Schema};

    fn publish(column: ArrayRef, to: DataType) -> Result<RecordBatch, LostValue> {
        let from = Schema::new(vec![Field::new("c", column.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(from), vec![column]).unwrap();
        publish_batch(&batch, &Arc::new(Schema::new(vec![Field::new("c", to, true)])))
    }

    #[test]
    fn what_fits_is_kept_and_what_does_not_is_named() {
        let fits: ArrayRef = Arc::new(UInt64Array::from(vec![Some(i64::MAX as u64), None]));
        assert_eq!(publish(fits, DataType::Int64).unwrap().num_rows(), 2);
        let lost: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        let error = publish(lost, DataType::Int64).unwrap_err();
        assert!(error.to_string().contains("`c`"), "{error}");

        let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let whole: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1_000), None, Some(-2_000)]));
        publish(whole, utc.clone()).unwrap();
        let fraction: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_001]));
        publish(fraction, utc).unwrap_err();
    }

    #[test]
    fn a_column_of_the_published_type_is_not_copied() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, -0.0]));
        let published = publish(Arc::clone(&column), DataType::Float64).unwrap();
        assert!(Arc::ptr_eq(&column, published.column(0)));
    }
}

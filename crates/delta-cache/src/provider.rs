//! What a reader of a view scans when the view has no entry: its query, computed inside the reader's own.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::GlobalLimitExec;

use crate::published::PublishExec;

/// A view under the policy `none`. Columns that a reader leaves out are neither computed nor checked.
#[derive(Debug)]
pub struct ComputedView {
    plan: LogicalPlan,
    schema: SchemaRef,
}

impl ComputedView {
    /// A view whose analyzed `plan` yields the columns of `schema`, in order, before they are published.
    #[must_use]
    pub fn new(plan: LogicalPlan, schema: SchemaRef) -> Self {
        Self { plan, schema }
    }
}

#[async_trait]
impl TableProvider for ComputedView {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (plan, schema) = match projection {
            // An engine that only counts rows asks for no column; one has to be there to be counted.
            Some(columns) if !columns.is_empty() => {
                let fields = self.plan.schema();
                let exprs = columns.iter().map(|index| Expr::Column(Column::from(fields.qualified_field(*index))));
                let plan = LogicalPlanBuilder::from(self.plan.clone()).project(exprs)?.build()?;
                (plan, Arc::new(self.schema.project(columns)?))
            }
            Some(_) | None => (self.plan.clone(), Arc::clone(&self.schema)),
        };
        let mut exec: Arc<dyn ExecutionPlan> =
            Arc::new(PublishExec::new(state.create_physical_plan(&plan).await?, schema).sealed());
        if let Some(limit) = limit {
            exec = Arc::new(GlobalLimitExec::new(
                Arc::new(datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec::new(exec)),
                0,
                Some(limit),
            ));
        }
        match projection {
            Some(columns) if columns.is_empty() => {
                let none: Vec<(Arc<dyn datafusion::physical_plan::PhysicalExpr>, String)> = Vec::new();
                Ok(Arc::new(datafusion::physical_plan::projection::ProjectionExec::try_new(none, exec)?))
            }
            _ => Ok(exec),
        }
    }
}

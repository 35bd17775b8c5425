//! The changes of a Delta table as one leaf of a plan.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// A table that shows no plan behind it, so that nothing is inlined, and that is told of no filter: the engine's scan of changes
/// would leave out rows by statistics that leave NaN out.
#[derive(Debug)]
pub(crate) struct ChangesTable(pub(crate) Arc<dyn TableProvider>);

#[async_trait]
impl TableProvider for ChangesTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, &[], limit.filter(|_| filters.is_empty())).await
    }
}

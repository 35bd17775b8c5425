//! An upstream view as the planner sees it: a table with its published schema and nothing behind it.

use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, Statistics, plan_err};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// A view of the pipeline, opaque to whoever plans over it: it has no logical plan to inline, so that a chain of views
/// is a chain of keys. It is bound to what holds its rows before anything scans it.
#[derive(Debug)]
pub struct ViewRef {
    name: String,
    schema: SchemaRef,
    bound: RwLock<Option<Arc<dyn TableProvider>>>,
}

impl ViewRef {
    /// An unbound reference to the view `name` with its published schema.
    #[must_use]
    pub fn new(name: impl Into<String>, schema: SchemaRef) -> Self {
        Self { name: name.into(), schema, bound: RwLock::new(None) }
    }

    /// Says where the rows are. A later binding replaces an earlier one; scans that began keep theirs.
    pub fn bind(&self, provider: Arc<dyn TableProvider>) {
        *self.bound.write().unwrap_or_else(PoisonError::into_inner) = Some(provider);
    }

    /// Whether somebody said where the rows are.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.provider().is_some()
    }

    fn provider(&self) -> Option<Arc<dyn TableProvider>> {
        self.bound.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl TableProvider for ViewRef {
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
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match self.provider() {
            Some(provider) => provider.scan(state, projection, filters, limit).await,
            None => plan_err!("the view `{}` was scanned before its rows were there", self.name),
        }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        match self.provider() {
            Some(provider) => provider.supports_filters_pushdown(filters),
            None => Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()]),
        }
    }

    fn statistics(&self) -> Option<Statistics> {
        self.provider()?.statistics()
    }
}

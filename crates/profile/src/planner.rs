//! The one planner of a session: the engine's, with the extension nodes of Delta and of whoever else brings some.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

/// Asks each extension planner in turn. A session has one query planner, so two crates that bring nodes have to share it.
pub(crate) struct CombinedPlanner(DefaultPhysicalPlanner, usize);

impl CombinedPlanner {
    pub(crate) fn new(planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>) -> Self {
        let count = planners.len();
        Self(DefaultPhysicalPlanner::with_extension_planners(planners), count)
    }
}

impl fmt::Debug for CombinedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CombinedPlanner").field("extension_planners", &self.1).finish_non_exhaustive()
    }
}

#[async_trait]
impl QueryPlanner for CombinedPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        self.0.create_physical_plan(plan, session).await
    }
}

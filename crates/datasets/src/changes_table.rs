//! The changes of a Delta table as one leaf of a plan.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};
use deltalake_core::delta_datafusion::DeltaCdfTableProvider;
use object_store::path::Path;

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

/// The engine's scan of changes, with what is wrong in its plans put right.
#[derive(Debug)]
pub(crate) struct ChangesScan(pub(crate) DeltaCdfTableProvider);

#[async_trait]
impl TableProvider for ChangesScan {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.0.scan(state, projection, filters, limit).await?;
        plan.transform_up(|plan| Ok(mended(&plan)?.map_or_else(|| Transformed::no(plan), Transformed::yes))).data()
    }
}

/// What stands for the node; `None` if it is right as it is.
fn mended(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(source) = plan.downcast_ref::<DataSourceExec>() else {
        return Ok(None);
    };
    // A kind of change that there is none of: without partitions, and nothing can be sorted of it.
    if plan.output_partitioning().partition_count() == 0 {
        return Ok(Some(Arc::new(EmptyExec::new(plan.schema()))));
    }
    let Some(config) = source.data_source().downcast_ref::<FileScanConfig>() else {
        return Ok(None);
    };
    let groups = config.file_groups.iter().map(|group| group.iter().map(located).collect::<Result<FileGroup>>());
    let config = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups.collect::<Result<_>>()?).build();
    Ok(Some(DataSourceExec::from_data_source(config)))
}

/// The file where it lies. The engine takes where a file lies for a text without escapes, and escapes it once more.
fn located(file: &PartitionedFile) -> Result<PartitionedFile> {
    let mut file = file.clone();
    file.object_meta.location = Path::from_url_path(file.object_meta.location.as_ref())
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    Ok(file)
}

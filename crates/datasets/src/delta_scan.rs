//! The engine's own scan of a Delta snapshot, by the options of a declaration.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use deltalake_core::DeltaTable;
use deltalake_core::delta_datafusion::{DeltaScanConfig, DeltaScanNext};

use crate::spec::DeltaRead;

/// Only its builder may give the engine's provider the options, and only its constructor the store: so the one half is
/// done here, when it is scanned.
#[derive(Debug)]
pub(crate) struct DeltaProvider {
    table: DeltaTable,
    /// What the session says of text is only known when it is scanned, and the schema is needed before. So views are the
    /// engine's default, unless they are declared.
    scan: DeltaScanNext,
}

impl DeltaProvider {
    /// # Errors
    /// The engine's, for instance over a file column that is a column of the table.
    pub(crate) fn new(table: &DeltaTable, read: &DeltaRead) -> Result<Self> {
        let options = &read.scan;
        let mut config = DeltaScanConfig::new()
            .with_parquet_pushdown(options.enable_parquet_pushdown)
            .with_wrap_partition_values(options.wrap_partition_values);
        if let Some(column) = &options.file_column_name {
            config = config.with_file_column_name(column);
        }
        if let Some(views) = options.schema_force_view_types {
            config.schema_force_view_types = views;
        }
        if let Some(schema) = &read.scan_schema {
            config = config.with_schema(Arc::clone(schema));
        }
        let scan = DeltaScanNext::new(table.snapshot()?.snapshot().clone(), config)?;
        Ok(Self { table: table.clone(), scan })
    }
}

#[async_trait]
impl TableProvider for DeltaProvider {
    fn schema(&self) -> SchemaRef {
        self.scan.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.scan.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.table.update_datafusion_session(state)?;
        self.scan.scan(state, projection, filters, limit).await
    }
}

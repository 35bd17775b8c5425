//! A table of published columns, read back as the columns that it was written from.

use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::published::PublishExec;

/// The same rows in other types: what was lossless on the way in is on the way out.
#[derive(Debug)]
pub(crate) struct Restored {
    table: Arc<dyn TableProvider>,
    schema: SchemaRef,
}

impl Restored {
    /// `table` as `schema` has it, column by column in order.
    pub(crate) fn over(table: Arc<dyn TableProvider>, schema: &SchemaRef) -> Arc<dyn TableProvider> {
        match table.schema() == *schema {
            true => table,
            false => Arc::new(Self { table, schema: Arc::clone(schema) }),
        }
    }
}

/// The first column that does not come back from its published type.
pub(crate) fn irreversible<'f>(columns: &'f SchemaRef, published: &SchemaRef) -> Option<&'f Field> {
    let mut pairs = columns.fields().iter().zip(published.fields());
    let lost = pairs.find(|(column, published)| {
        column.data_type() != published.data_type() && !can_cast_types(published.data_type(), column.data_type())
    });
    lost.map(|(column, _)| column.as_ref())
}

#[async_trait]
impl TableProvider for Restored {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let exec = self.table.scan(state, projection, &[], limit).await?;
        let schema = match projection {
            Some(columns) => Arc::new(self.schema.project(columns)?),
            None => Arc::clone(&self.schema),
        };
        Ok(Arc::new(PublishExec::new(exec, schema)))
    }
}

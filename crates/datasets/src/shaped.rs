//! A table whose columns are expressions over those of other tables, one below the other.
//!
//! Not a logical view: a plan knows it as one leaf with one pin, whatever happens inside.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, project_schema};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;

use crate::conform::ConformExec;
use crate::layout::column;

/// A table, and how the columns come from its.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub(crate) provider: Arc<dyn TableProvider>,
    /// One for each column of the schema.
    pub(crate) columns: Vec<Expr>,
}

impl Input {
    /// As it is.
    pub(crate) fn plain(provider: Arc<dyn TableProvider>) -> Self {
        let columns = provider.schema().fields().iter().map(|field| column(field.name())).collect();
        Self { provider, columns }
    }
}

#[derive(Debug)]
pub(crate) struct Shaped {
    schema: SchemaRef,
    inputs: Vec<Input>,
}

impl Shaped {
    /// The rows of all `inputs` by `schema`. A NULL in a column that is declared without is an error of the scan.
    pub(crate) fn new(schema: SchemaRef, inputs: Vec<Input>) -> Self {
        Self { schema, inputs }
    }
}

#[async_trait]
impl TableProvider for Shaped {
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
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        // The engine asks for no limit below filters that are applied above; a caller of its own might.
        let limit = limit.filter(|_| filters.is_empty());
        let mut plans = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            plans.push(input.scan(state, &self.schema, &wanted, filters, limit).await?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?))),
            _ => UnionExec::try_new(plans),
        }
    }

    /// All are applied above: here they only leave out files.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

impl Input {
    async fn scan(
        &self,
        state: &dyn Session,
        schema: &Schema,
        wanted: &[usize],
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let source = self.provider.schema();
        let mut needed = BTreeSet::new();
        for index in wanted {
            for column in self.columns[*index].column_refs() {
                needed.insert(source.index_of(column.name())?);
            }
        }
        let needed: Vec<usize> = needed.into_iter().collect();
        let filters = self.filters(schema, filters)?;
        let plan = self.provider.scan(state, Some(&needed), &filters, limit).await?;
        let source = source.project(&needed)?;
        let df_schema = DFSchema::try_from(source.clone())?;
        let columns = wanted.iter().map(|index| {
            let expr = state.create_physical_expr(self.columns[*index].clone(), &df_schema)?;
            Ok(ProjectionExpr { expr, alias: schema.field(*index).name().clone() })
        });
        let plan = Arc::new(ProjectionExec::try_new(columns.collect::<Result<Vec<_>>>()?, plan)?);
        ConformExec::over(plan, &Arc::new(schema.project(wanted)?))
    }

    /// The filters that mean the same of the columns below, by their names there. One over a column that is computed, cast
    /// or made up here is none of them: whoever is below would decide it by other values.
    fn filters(&self, schema: &Schema, filters: &[Expr]) -> Result<Vec<Expr>> {
        let below: HashMap<&str, &Expr> = schema
            .fields()
            .iter()
            .zip(&self.columns)
            .filter(|(_, expr)| matches!(expr, Expr::Column(_)))
            .map(|(field, expr)| (field.name().as_str(), expr))
            .collect();
        let renamed = filters.iter().filter(|filter| {
            let columns = filter.column_refs();
            columns.iter().all(|column| below.contains_key(column.name()))
        });
        let renamed = renamed.cloned().map(|filter| {
            let rename = |expr: Expr| {
                let renamed = match &expr {
                    Expr::Column(column) => below.get(column.name()).map(|expr| (*expr).clone()),
                    _ => None,
                };
                Ok(renamed.map_or_else(|| Transformed::no(expr), Transformed::yes))
            };
            filter.transform(rename).data()
        });
        let renamed = renamed.collect::<Result<Vec<Expr>>>()?;
        let answers = self.provider.supports_filters_pushdown(&renamed.iter().collect::<Vec<_>>())?;
        let told = renamed.into_iter().zip(answers);
        Ok(told
            .filter(|(_, answer)| *answer != TableProviderFilterPushDown::Unsupported)
            .map(|(filter, _)| filter)
            .collect())
    }
}

//! A provider that is not told of filters over columns whose bounds in a Delta log may not hold.
//!
//! Delta's statistics leave NaN out, as Parquet's do, while the engine orders NaN above every number; and some writers,
//! delta-rs among them, put bounds of decimals through a double, which keeps 15 digits. A provider that skips files by such
//! a filter loses rows that pass it. The filter is applied above the scan instead.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraints, Statistics};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// The digits of a decimal that a double keeps.
const EXACT_DIGITS: u8 = 15;

#[derive(Debug)]
pub(crate) struct FilterGuard(pub(crate) Arc<dyn TableProvider>);

impl FilterGuard {
    fn may_be_told(&self, filter: &Expr) -> bool {
        let schema = self.0.schema();
        let is_unbounded =
            |name: &str| schema.field_with_name(name).map_or(true, |field| holds_unbounded(field.data_type()));
        !filter.column_refs().iter().any(|column| is_unbounded(&column.name))
    }
}

#[async_trait]
impl TableProvider for FilterGuard {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.0.constraints()
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    fn statistics(&self) -> Option<Statistics> {
        self.0.statistics()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let told: Vec<&Expr> = filters.iter().copied().filter(|filter| self.may_be_told(filter)).collect();
        let mut answers = self.0.supports_filters_pushdown(&told)?.into_iter();
        Ok(filters
            .iter()
            .map(|filter| match self.may_be_told(filter) {
                true => answers.next().unwrap_or(TableProviderFilterPushDown::Unsupported),
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // The engine hands in what it was told it may; a caller of its own may hand in anything.
        let told: Vec<Expr> = filters.iter().filter(|filter| self.may_be_told(filter)).cloned().collect();
        let limit = limit.filter(|_| told.len() == filters.len());
        self.0.scan(state, projection, &told, limit).await
    }
}

fn holds_unbounded(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().any(|field| holds_unbounded(field.data_type())),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => holds_unbounded(field.data_type()),
        DataType::Dictionary(_, values) => holds_unbounded(values),
        DataType::Decimal128(precision, _) => *precision > EXACT_DIGITS,
        other => other.is_floating() || other.is_decimal(),
    }
}

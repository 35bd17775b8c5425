//! The engine's own scan of a Delta snapshot, kept from what makes it answer with other rows than the table has.
//!
//! - Delta's statistics leave NaN out, as Parquet's do, while the engine orders NaN above every number; and some writers,
//!   delta-rs among them, put bounds of decimals through a double, which keeps 15 digits. A scan that skips files by a filter
//!   over such columns loses rows that pass it. So it is told of no such filter.
//! - The kernel takes a condition that is NULL for one that holds, and the scan still promises to apply filters over partition
//!   columns, or over none, by itself: `p IN ('a', NULL)` keeps every row. So every filter is applied again above the scan.
//! - The scan hands the bounds of a log on to the engine, which leaves out files by the bounds of a cast, whatever the cast does
//!   to the order (`CAST(ts AS TIME)`, `CAST(i AS BOOLEAN)`). So the bounds are estimates once the scan is planned.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{ColumnStatistics, Constraints, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::policy::EXACT_DIGITS;

/// A provider over the engine's scan of a Delta snapshot, whose rows are those of the table under every filter.
///
/// Whatever reads a Delta table by the engine's provider reads it through this. It writes nothing: `INSERT` is refused, see
/// [`GovernedTable`](crate::GovernedTable).
#[derive(Debug)]
pub struct GuardedScan {
    scan: Arc<dyn TableProvider>,
    filters_while_decoding: bool,
}

impl GuardedScan {
    /// Guards `scan`, the engine's provider or one around it. A guarded one may be guarded again.
    #[must_use]
    pub fn new(scan: Arc<dyn TableProvider>) -> Self {
        Self { scan, filters_while_decoding: false }
    }

    /// Has filters, those of joins too, applied while files are decoded, so that columns which no filter is over are decoded for the
    /// rows that pass only. It pays for wide tables of which questions pick few rows; without it the session's setting
    /// `parquet.pushdown_filters` decides.
    #[must_use]
    pub fn filtering_while_decoding(self) -> Self {
        Self { filters_while_decoding: true, ..self }
    }

    fn may_be_told(&self, filter: &Expr) -> bool {
        let schema = self.scan.schema();
        let is_unbounded =
            |name: &str| schema.field_with_name(name).map_or(true, |field| holds_unbounded(field.data_type()));
        !filter.column_refs().iter().any(|column| is_unbounded(&column.name))
    }

    /// The scan with what it knows of the columns of files as estimates, which the engine plans by and answers nothing from.
    fn guard(&self, config: &FileScanConfig) -> FileScanConfig {
        let groups = config.file_groups.iter().map(|group| group.iter().map(estimated_file).collect::<FileGroup>());
        let guarded = FileScanConfigBuilder::from(config.clone())
            .with_file_groups(groups.collect())
            .with_statistics(estimated(&config.statistics()));
        match config.file_source().downcast_ref::<ParquetSource>().filter(|_| self.filters_while_decoding) {
            Some(source) => guarded.with_source(Arc::new(source.clone().with_pushdown_filters(true))).build(),
            None => guarded.build(),
        }
    }
}

#[async_trait]
impl TableProvider for GuardedScan {
    fn schema(&self) -> SchemaRef {
        self.scan.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.scan.constraints()
    }

    fn table_type(&self) -> TableType {
        self.scan.table_type()
    }

    fn statistics(&self) -> Option<Statistics> {
        self.scan.statistics()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let told: Vec<&Expr> = filters.iter().copied().filter(|filter| self.may_be_told(filter)).collect();
        let mut answers = self.scan.supports_filters_pushdown(&told)?.into_iter();
        Ok(filters
            .iter()
            .map(|filter| match self.may_be_told(filter).then(|| answers.next()).flatten() {
                Some(TableProviderFilterPushDown::Exact | TableProviderFilterPushDown::Inexact) => {
                    TableProviderFilterPushDown::Inexact
                }
                Some(TableProviderFilterPushDown::Unsupported) | None => TableProviderFilterPushDown::Unsupported,
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
        // A limit is for the rows that pass, and the filters are applied above.
        let limit = limit.filter(|_| filters.is_empty());
        let plan = self.scan.scan(state, projection, &told, limit).await?;
        let guarded = plan.transform_up(|plan| {
            let config = plan.downcast_ref::<DataSourceExec>().and_then(|source| source.data_source().downcast_ref());
            Ok(match config {
                Some(config) => Transformed::yes(DataSourceExec::from_data_source(self.guard(config)) as _),
                None => Transformed::no(plan),
            })
        });
        guarded.data()
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

fn estimated_file(file: &PartitionedFile) -> PartitionedFile {
    let statistics = file.statistics.as_deref().map(|statistics| Arc::new(estimated(statistics)));
    PartitionedFile { statistics, ..file.clone() }
}

/// Counts of rows and bytes stay what they are.
fn estimated(statistics: &Statistics) -> Statistics {
    let columns = statistics.column_statistics.iter().cloned().map(ColumnStatistics::to_inexact);
    Statistics { column_statistics: columns.collect(), ..statistics.clone() }
}

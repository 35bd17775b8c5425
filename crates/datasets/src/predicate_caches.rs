//! What the Parquet reader keeps of the columns of a filter while it scans.
//!
//! It is no cache that outlives a scan, and the engine has no list of them: so scans are noted when they are planned, and what
//! they counted is read when somebody asks. A scan that was never executed has counted nothing and has no row.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::{FileGroup, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;

use crate::live_table::Rows;

/// How many scans are remembered; the oldest goes first.
const MOST: usize = 1_000;

/// The last scans of a session. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct PredicateCaches(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    count: i64,
    scans: VecDeque<Scan>,
}

struct Scan {
    /// From 1, in the order of planning.
    number: i64,
    first_file: String,
    file_count: i64,
    /// `None`: as much as it takes.
    limit_bytes: Option<i64>,
    /// Shared with the scan.
    counted: ExecutionPlanMetricsSet,
}

impl PredicateCaches {
    pub(crate) fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("scan", DataType::Int64, false),
            Field::new("first_file", DataType::Utf8, false),
            Field::new("file_count", DataType::Int64, false),
            Field::new("limit_bytes", DataType::Int64, true),
            Field::new("records", DataType::Int64, false),
            Field::new("inner_records", DataType::Int64, false),
        ]))
    }

    /// The rule that notes scans. It changes no plan.
    pub(crate) fn watch(&self) -> Arc<dyn PhysicalOptimizerRule + Send + Sync> {
        Arc::new(WatchScans(self.clone()))
    }

    fn note(&self, scan: &DataSourceExec) {
        let Some((config, source)) = scan.downcast_to_file_source::<ParquetSource>() else {
            return;
        };
        let mut files = config.file_groups.iter().flat_map(FileGroup::iter);
        let Some(first) = files.next().filter(|_| source.filter().is_some()) else {
            return;
        };
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.count += 1;
        let scan = Scan {
            number: noted.count,
            first_file: first.object_meta.location.to_string(),
            file_count: i64::try_from(files.count()).unwrap_or(i64::MAX).saturating_add(1),
            limit_bytes: source.max_predicate_cache_size().and_then(|bytes| i64::try_from(bytes).ok()),
            counted: source.metrics().clone(),
        };
        noted.scans.push_back(scan);
        if noted.scans.len() > MOST {
            noted.scans.pop_front();
        }
    }
}

impl fmt::Debug for PredicateCaches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PredicateCaches").finish_non_exhaustive()
    }
}

#[async_trait]
impl Rows for PredicateCaches {
    async fn rows(&self, _: &TaskContext) -> Result<RecordBatch> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = noted.scans.iter().filter_map(|scan| {
            let counted = scan.counted.clone_inner();
            let sum = |name| counted.sum_by_name(name).and_then(|sum| i64::try_from(sum.as_usize()).ok());
            // Scans whose reader did not evaluate the filter have the gauges too, and left them at 0.
            let (records, inner) = (sum("predicate_cache_records")?, sum("predicate_cache_inner_records")?);
            (inner > 0).then_some((scan, records, inner))
        });
        let rows: Vec<_> = counted.collect();
        let numbers = |of: fn(&(&Scan, i64, i64)) -> i64| Arc::new(rows.iter().map(of).collect::<Int64Array>());
        let files = rows.iter().map(|(scan, ..)| Some(scan.first_file.as_str()));
        let limits = rows.iter().map(|(scan, ..)| scan.limit_bytes);
        let columns = vec![
            numbers(|(scan, ..)| scan.number) as _,
            Arc::new(files.collect::<StringArray>()) as _,
            numbers(|(scan, ..)| scan.file_count) as _,
            Arc::new(limits.collect::<Int64Array>()) as _,
            numbers(|(_, records, _)| *records) as _,
            numbers(|(.., inner)| *inner) as _,
        ];
        Ok(RecordBatch::try_new(Self::schema(), columns)?)
    }
}

#[derive(Debug)]
struct WatchScans(PredicateCaches);

impl PhysicalOptimizerRule for WatchScans {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.apply(|node| {
            if let Some(scan) = node.downcast_ref::<DataSourceExec>() {
                self.0.note(scan);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }

    fn name(&self) -> &'static str {
        "watch_scans"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

//! TPC-H's queries through a profile session, over each provider that reads the same rows.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{DatasetFormat, DatasetSpec, ProfileSpec, SourcePath};
use alluvium_datasets::{Dataset, PinnedFiles, Pinner, register_dataset};
use alluvium_profile::{Query, RuntimeProfile, Session, SessionFactory};
use alluvium_telemetry::Seam;
use anyhow::{Context, Result, anyhow, ensure};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::ParquetReadOptions;
use deltalake_core::DeltaTableBuilder;
use url::Url;

/// The tables.
pub const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// What reads a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The engine's own listing of Parquet files: what the others are held against.
    EngineParquet,
    /// A dataset of pinned Parquet files.
    PinnedParquet,
    /// A dataset that is a Delta table: the engine's Delta scan.
    EngineDelta,
    /// [`PinnedFiles`] over the active files of a Delta snapshot.
    PinnedDelta,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::EngineParquet, Self::PinnedParquet, Self::EngineDelta, Self::PinnedDelta];

    /// The name of the directory of its answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EngineParquet => "engine_parquet",
            Self::PinnedParquet => "pinned_parquet",
            Self::EngineDelta => "engine_delta",
            Self::PinnedDelta => "pinned_delta",
        }
    }

    /// What its tables are: what their `Debug` begins with.
    const fn table_type(self) -> &'static str {
        match self {
            Self::EngineParquet => "ListingTable ",
            // What pinned files of any format are scanned by, and within `PinnedFiles` too.
            Self::PinnedParquet => "FileScan ",
            Self::EngineDelta => "GuardedScan { scan: DeltaProvider ",
            Self::PinnedDelta => "PinnedFiles ",
        }
    }

    /// A session with all tables: `DIR/parquet/TABLE.parquet`, or `DIR/delta/TABLE`.
    ///
    /// # Errors
    /// A table is not there, or cannot be read so.
    #[expect(clippy::disallowed_methods, reason = "two of the providers are no datasets")]
    pub async fn session(self, dir: &Path) -> Result<Session> {
        let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build()?;
        let pinner = Pinner::new(None, Seam::system());
        let (parquet, delta) = (dir.join("parquet"), dir.join("delta"));
        for table in TABLES {
            let file = format!("{table}.parquet");
            match self {
                Self::EngineParquet => {
                    let path = parquet.join(&file);
                    let path = path.to_str().context("the path of the tables is no text")?;
                    session.context().register_parquet(table, path, ParquetReadOptions::default()).await?;
                }
                Self::PinnedParquet => {
                    let spec = DatasetSpec::new(DatasetFormat::Parquet, SourcePath::One(file));
                    register_dataset(&session, &pinner, &Dataset::resolve(table, &spec, &parquet)?).await?;
                }
                Self::EngineDelta => {
                    let spec = DatasetSpec::new(DatasetFormat::Delta, SourcePath::One(table.to_owned()));
                    register_dataset(&session, &pinner, &Dataset::resolve(table, &spec, &delta)?).await?;
                }
                Self::PinnedDelta => {
                    let path = delta.join(table);
                    let url =
                        Url::from_directory_path(&path).map_err(|()| anyhow!("{} is relative", path.display()))?;
                    let snapshot = DeltaTableBuilder::from_url(url)?.load().await?;
                    session.context().register_table(table, Arc::new(PinnedFiles::of_delta(&snapshot)?))?;
                }
            }
        }
        Ok(session)
    }

    /// The rows of a query in a [`session`](Self::session) of this provider.
    ///
    /// # Errors
    /// The query fails, or it scans what is not of this provider: then the answer would say nothing about it.
    pub async fn answer(self, session: &Session, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let frame = session.execute(Query::sql(sql)).await?;
        let mut scans = 0;
        frame.logical_plan().apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let provider = format!("{:?}", source_as_provider(&scan.source)?);
                if !provider.starts_with(self.table_type()) {
                    let found: String = provider.chars().take(40).collect();
                    let message = format!("{} is read by {found}…, not {}", scan.table_name, self.table_type());
                    return Err(DataFusionError::Execution(message));
                }
                scans += 1;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        ensure!(scans > 0, "the query scans nothing");
        let schema = Arc::clone(frame.schema().inner());
        let task = frame.task_ctx();
        let plan = frame.create_physical_plan().await?;
        let by_delta_scan = has_delta_scan(plan.as_ref());
        ensure!(
            by_delta_scan == (self == Self::EngineDelta),
            "the engine's Delta scan is in the plan: {by_delta_scan}"
        );
        Ok((schema, collect(plan, Arc::new(task)).await?))
    }
}

/// Whether the engine's own Delta scan is in a plan: over rows, or over what the log says of them.
fn has_delta_scan(plan: &dyn ExecutionPlan) -> bool {
    plan.name().starts_with("DeltaScan") || plan.children().into_iter().any(|child| has_delta_scan(child.as_ref()))
}

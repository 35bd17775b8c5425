//! Maintenance of a project's tables, on record: what was done to an output or a source is told by the ledgers, as what runs do is.

use std::path::Path;

use alluvium_contracts::{CacheArtifact, LedgerEvent, MaintenanceEvent, MaintenanceResult, RunId, SourcePath};
use alluvium_profile::real_path;
use alluvium_telemetry::Redactor;

use crate::error::RunError;
use crate::pipeline::Pipeline;

impl Pipeline {
    /// Records what maintenance did to the table at `table`: a `maintenance_event` of `alluvium.cache_artifacts` for each thing that was
    /// done, and none for what was not due. An output or a source of the pipeline goes by its name, and by its path as the pipeline file
    /// has it. The rows have an id of their own in the place of a run's, which is returned: `cache_runs` has no row of it.
    ///
    /// # Errors
    /// [`RunError::Ledger`] when the outbox cannot be written; then nothing was recorded.
    ///
    /// # Examples
    /// ```
    /// use alluvium_runs::{OpenOptions, Pipeline, Project, RunOptions, Silent, scaffold};
    /// use alluvium_telemetry::Seam;
    /// use alluvium_write_policy::Maintenance;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// scaffold(dir.path())?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// let run = pipeline.run(RunOptions::default(), &Silent, cancel).await?;
    ///
    /// let table = dir.path().join(&run.outputs[0].path);
    /// let done = Maintenance::begin(&table, Seam::system())?.checkpoint().await?;
    /// pipeline.record_maintenance(&table, &[done])?;
    /// let question = "select name from alluvium.cache_artifacts where artifact_kind = 'maintenance_event'";
    /// # use futures::TryStreamExt as _;
    /// let rows: Vec<_> = pipeline.sql(question).await?.batches.try_collect().await?;
    /// assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
    /// # Ok(()) }
    /// ```
    pub fn record_maintenance(&self, table: &Path, events: &[MaintenanceEvent]) -> Result<RunId, RunError> {
        let id = self.seam.run_id();
        let (dataset_name, table_path) = match self.declared_as(table) {
            Some((name, path)) => (Some(name), path),
            None => (None, Redactor::default().kept(&table.display().to_string()).into_owned()),
        };
        let done: Vec<MaintenanceEvent> = events
            .iter()
            .filter(|event| event.result != MaintenanceResult::Skipped)
            .map(|event| MaintenanceEvent {
                dataset_name: dataset_name.clone(),
                table_path: table_path.clone(),
                ..event.clone()
            })
            .collect();
        let name = dataset_name.as_deref().unwrap_or(&table_path);
        let artifacts = done.iter().map(|event| CacheArtifact::of(id, self.seam.unix_ms(), name, event.clone()));
        let rows: Vec<LedgerEvent> = artifacts.flatten().map(LedgerEvent::CacheArtifacts).collect();
        self.ledgers.record(&rows)?;
        self.tell_maintenance(None, done);
        Ok(id)
    }

    /// The output or else the source whose table lies there, and its path as it is declared.
    fn declared_as(&self, table: &Path) -> Option<(String, String)> {
        let wanted = real_path(table).ok()?;
        let spec = self.project.spec();
        let outputs = spec.outputs.iter().map(|(name, output)| (name, &output.path));
        let sources = spec.sources.iter().filter_map(|(name, source)| match &source.path {
            SourcePath::One(path) => Some((name, path)),
            SourcePath::Many(_) => None,
        });
        let is_it = |path: &str| real_path(&self.project.dir().join(path)).is_ok_and(|path| path == wanted);
        let found = outputs.chain(sources).find(|(_, path)| is_it(path));
        found.map(|(name, path)| (name.clone(), path.clone()))
    }
}

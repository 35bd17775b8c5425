//! Runs that are kept: what a replay reads and compares with is neither collected nor vacuumed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use alluvium_contracts::{CachePolicy, InputKind, RunId, RunManifest};
use alluvium_write_policy::{keep_versions, release_versions, table_id};

use super::RunName;
use super::remains::{missing_files, source_name};
use crate::error::{RunError, chain};
use crate::pipeline::Pipeline;

/// A run that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptRun {
    /// The run.
    pub run_id: RunId,
    /// The entries that its manifest names, by their directories under the cache root: they stay until the run is released.
    pub entries: Vec<String>,
    /// Those of which nothing is there any more: a replay can compare with a published output, if there is one, or not at all.
    pub missing: Vec<String>,
    /// The Delta tables that it read and published, at the versions that it names, which no vacuum of ours takes: `orders at version 4`.
    pub tables: Vec<String>,
    /// Those that cannot be kept, each with the reason.
    pub unkept: Vec<String>,
}

/// Versions of a Delta table that a run read or published.
struct KeptTable {
    called: String,
    path: PathBuf,
    table_id: Option<String>,
    versions: RangeInclusive<u64>,
}

impl Pipeline {
    /// Keeps a run until [`release_run`](Self::release_run), so that a [replay](Self::replay) finds what it reads and what it compares
    /// with: the entries that its manifest names are neither collected nor evicted, and the versions of the Delta tables that it read
    /// and published are marked in those tables, where every vacuum and log cleanup of ours looks. Files that are no Delta tables, and
    /// what other engines do to tables, stay in the hands of whoever owns them.
    ///
    /// # Errors
    /// What [`manifest_of`](Self::manifest_of) fails with; [`RunError::Cache`] when the index cannot be used.
    ///
    /// # Examples
    /// ```
    /// use alluvium_runs::{OpenOptions, Pipeline, Project, RunName, RunOptions, Silent, scaffold};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// scaffold(dir.path())?;
    /// let pipeline = Pipeline::open(Project::load(dir.path())?, OpenOptions::default())?;
    /// let (_stop, cancel) = tokio::sync::watch::channel(false);
    /// let run = pipeline.run(RunOptions::default(), &Silent, cancel).await?;
    ///
    /// let kept = pipeline.keep_run(&RunName::Latest).await?;
    /// assert_eq!((kept.entries.len(), kept.tables.len()), (run.views.len(), run.outputs.len()));
    /// assert!(pipeline.kept_runs()?.contains(&run.run_id));
    /// assert_eq!(pipeline.release_run(&RunName::Latest).await?, (run.run_id, true));
    /// # Ok(()) }
    /// ```
    pub async fn keep_run(&self, run: &RunName) -> Result<KeptRun, RunError> {
        let manifest = self.manifest_of(run).await?;
        let (mut tables, mut unkept) = (Vec::new(), Vec::new());
        for table in self.tables_of(&manifest) {
            match keep(manifest.run_id, &table).await {
                Ok(()) => tables.push(table.called),
                Err(why) => unkept.push(format!("{}: {why}", table.called)),
            }
        }
        let staged = manifest.views.into_iter().filter(|view| view.cache_policy == CachePolicy::DeltaStaging);
        let named: BTreeSet<String> = staged.filter_map(|view| view.cache_path).collect();
        let missing = self.cache.keep(manifest.run_id, &named)?;
        let entries = named.into_iter().filter(|dir| !missing.contains(dir)).collect();
        Ok(KeptRun { run_id: manifest.run_id, entries, missing, tables, unkept })
    }

    /// Keeps a run no longer: its id, and whether it was kept. Nothing is deleted by this.
    ///
    /// # Errors
    /// [`RunError::UnknownRun`] and [`RunError::AmbiguousRun`] for the name; [`RunError::Cache`] when the index cannot be used;
    /// [`RunError::Maintenance`] when the mark of a table cannot be removed, and then all of it is still kept.
    pub async fn release_run(&self, run: &RunName) -> Result<(RunId, bool), RunError> {
        let run_id = self.find_run(run).await?.run_id;
        match self.manifest_of(run).await {
            Ok(manifest) => {
                for table in self.tables_of(&manifest) {
                    release_versions(&table.path, run_id)?;
                }
            }
            // Without a manifest nobody can tell which tables it marked.
            Err(RunError::NoManifest { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok((run_id, self.cache.release(run_id)?))
    }

    /// The runs of this cache root that are kept.
    ///
    /// # Errors
    /// [`RunError::Cache`] when the index cannot be read.
    pub fn kept_runs(&self) -> Result<BTreeSet<RunId>, RunError> {
        Ok(self.cache.kept_runs()?)
    }

    fn tables_of(&self, manifest: &RunManifest) -> Vec<KeptTable> {
        let dir = self.dir_of(manifest);
        let inputs = manifest.delta_inputs.iter().filter(|pin| pin.kind == InputKind::DeltaTable).filter_map(|pin| {
            let versions = match &pin.cdf_range {
                Some(range) => range.starting_version..=range.ending_version,
                None => pin.version?..=pin.version?,
            };
            Some((source_name(manifest, pin).0, pin.path.as_ref()?, pin.table_id.clone(), versions))
        });
        let outputs = manifest.outputs.iter().filter_map(|output| {
            let version = output.delta_version?;
            Some((&*output.name, &output.path, output.table_id.clone(), version..=version))
        });
        let kept = inputs.chain(outputs).filter(|(.., versions)| !versions.is_empty());
        kept.map(|(name, path, table_id, versions)| {
            let called = match (*versions.start(), *versions.end()) {
                (first, last) if first == last => format!("{name} at version {first}"),
                (first, last) => format!("{name} at versions {first} to {last}"),
            };
            KeptTable { called, path: dir.join(path), table_id, versions }
        })
        .collect()
    }
}

/// Marks the versions, and looks that nothing of them is gone already; or why they cannot be kept.
async fn keep(run_id: RunId, table: &KeptTable) -> Result<(), String> {
    let there = table_id(&table.path).map_err(|error| chain(&error))?;
    // A table whose first commit was cleaned up does not say who it is.
    if let (Some(there), Some(wanted)) = (there, &table.table_id)
        && there != *wanted
    {
        return Err("another table lies there now".to_owned());
    }
    keep_versions(&table.path, run_id, table.versions.clone()).map_err(|error| chain(&error))?;
    match missing_files(&table.path, *table.versions.end()).await {
        Some(missing) => Err(missing),
        None => Ok(()),
    }
}

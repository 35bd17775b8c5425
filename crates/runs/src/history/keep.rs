//! Runs that are kept: what a replay compares with is not collected.

use std::collections::BTreeSet;

use alluvium_contracts::{CachePolicy, RunId};

use super::RunName;
use crate::error::RunError;
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
}

impl Pipeline {
    /// Keeps a run: the entries that its manifest names are neither collected nor evicted until [`release_run`](Self::release_run), so
    /// that a [replay](Self::replay) finds the rows to compare with. The inputs are not the cache's; they stay as long as whoever owns
    /// them lets them.
    ///
    /// # Errors
    /// What [`manifest_of`](Self::manifest_of) fails with; [`RunError::Cache`] when the index cannot be used.
    pub async fn keep_run(&self, run: &RunName) -> Result<KeptRun, RunError> {
        let manifest = self.manifest_of(run).await?;
        let staged = manifest.views.into_iter().filter(|view| view.cache_policy == CachePolicy::DeltaStaging);
        let named: BTreeSet<String> = staged.filter_map(|view| view.cache_path).collect();
        let missing = self.cache.keep(manifest.run_id, &named)?;
        let entries = named.into_iter().filter(|dir| !missing.contains(dir)).collect();
        Ok(KeptRun { run_id: manifest.run_id, entries, missing })
    }

    /// Keeps a run no longer: its id, and whether it was kept. Nothing is deleted by this.
    ///
    /// # Errors
    /// [`RunError::UnknownRun`] and [`RunError::AmbiguousRun`] for the name; [`RunError::Cache`] when the index cannot be used.
    pub async fn release_run(&self, run: &RunName) -> Result<(RunId, bool), RunError> {
        let run_id = self.find_run(run).await?.run_id;
        Ok((run_id, self.cache.release(run_id)?))
    }

    /// The runs of this cache root that are kept.
    ///
    /// # Errors
    /// [`RunError::Cache`] when the index cannot be read.
    pub fn kept_runs(&self) -> Result<BTreeSet<RunId>, RunError> {
        Ok(self.cache.kept_runs()?)
    }
}

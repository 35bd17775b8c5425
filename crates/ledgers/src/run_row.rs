//! What the queue store knows of a run that has not ended: what its events add up to, and say of its views and outputs.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{
    CacheCommitMetadata, CacheInventoryEntry, CacheRunSummary, CacheScope, Contract as _, OutputResult,
    PlanBundleArtifact, RunCommit, RunId, RunManifest, RunOutput, RunResult, RunView, ViewResult,
};
use serde::{Deserialize, Serialize};

use crate::queue::{KilledRun, Testimony};

/// A run that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    profile_name: Option<String>,
    started_unix_ms: i64,
    /// When its newest event was made.
    #[serde(default)]
    last_unix_ms: i64,
    counts: Counts,
    /// What its events have said of views, by name.
    #[serde(default)]
    views: BTreeMap<String, RunView>,
    /// What its events have said of outputs, by name.
    #[serde(default)]
    outputs: BTreeMap<String, RunOutput>,
    /// The tables that its events say it wrote, with their versions.
    #[serde(default)]
    written: BTreeSet<Written>,
}

/// A table, named by what it is of and where it lies, and its version.
type Written = (CacheScope, String, Option<u64>);

/// What a run's recorded events add up to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    hit: u64,
    write: u64,
    computed: u64,
    skipped: u64,
    error: u64,
    saved_ms: f64,
}

impl RunRow {
    pub(crate) fn new(profile_name: Option<&str>, started_unix_ms: i64) -> RunRow {
        RunRow {
            profile_name: profile_name.map(str::to_owned),
            started_unix_ms,
            last_unix_ms: started_unix_ms,
            counts: Counts::default(),
            views: BTreeMap::new(),
            outputs: BTreeMap::new(),
            written: BTreeSet::new(),
        }
    }

    /// What it says of a run that was killed.
    pub(crate) fn told(&self, run_id: RunId, begun: Option<RunManifest>) -> KilledRun {
        KilledRun {
            run_id,
            started_unix_ms: self.started_unix_ms,
            begun,
            views: self.views.values().cloned().collect(),
            outputs: self.outputs.values().cloned().collect(),
        }
    }

    /// Takes into account what the run's commits say, and returns what of it had not been recorded.
    pub(crate) fn believe<'t>(&mut self, testimony: &'t Testimony) -> Vec<&'t CacheInventoryEntry> {
        // Rows that are made now are no sign of life.
        let last_unix_ms = self.last_unix_ms.max(testimony.last_unix_ms.unwrap_or(i64::MIN));
        let mut unrecorded = Vec::new();
        for entry in &testimony.writes {
            if !self.has_written(entry) {
                self.note(entry);
                unrecorded.push(entry);
            }
        }
        self.last_unix_ms = last_unix_ms.max(self.started_unix_ms);
        for (view, stability) in &testimony.stability {
            if let Some(view) = self.views.get_mut(view) {
                view.stability = Some(*stability);
            }
        }
        unrecorded
    }

    /// Whether it has taken an event into account that says the same was written.
    fn has_written(&self, entry: &CacheInventoryEntry) -> bool {
        self.written.contains(&written(entry))
    }

    /// Takes an event into account.
    pub(crate) fn note(&mut self, entry: &CacheInventoryEntry) {
        self.counts.count(entry);
        self.last_unix_ms = self.last_unix_ms.max(entry.event_time_unix_ms);
        if entry.result == ViewResult::Write {
            self.written.insert(written(entry));
        }
        match (&entry.output_name, &entry.cache_path) {
            (Some(name), Some(path)) => {
                let output = RunOutput {
                    name: name.clone(),
                    view: entry.view_name.clone(),
                    path: path.clone(),
                    result: match entry.result {
                        ViewResult::Hit => OutputResult::Hit,
                        ViewResult::Write | ViewResult::Computed => OutputResult::Write,
                        ViewResult::Skipped => OutputResult::Skipped,
                        ViewResult::Error => OutputResult::Error,
                    },
                    table_id: None,
                    delta_version: entry.delta_version,
                    written_by: (entry.result == ViewResult::Write).then_some(entry.run_id),
                    row_count: entry.row_count,
                    content_hash: None,
                    schema_hash: entry.schema_hash,
                    plan_fingerprint: entry.plan_fingerprint,
                    cache_key: entry.cache_key,
                };
                self.outputs.insert(name.clone(), output);
            }
            (Some(_), None) => {}
            // A manifest tells of views; what was done for a dataset or an artifact is in the inventory alone.
            (None, _) if entry.cache_scope != CacheScope::View => {}
            (None, _) => {
                let view = RunView {
                    name: entry.view_name.clone(),
                    result: entry.result,
                    cache_policy: entry.cache_policy,
                    cache_key: entry.cache_key,
                    cache_path: entry.cache_path.clone(),
                    row_count: entry.row_count,
                    content_hash: None,
                    schema_hash: entry.schema_hash,
                    stability: None,
                    reasons: entry.reason.clone().filter(|_| entry.result == ViewResult::Error).into_iter().collect(),
                };
                self.views.insert(entry.view_name.clone(), view);
            }
        }
    }

    /// What a run that was killed had done of what it began with, and what its commits say that events do not. Views whose rows were
    /// never recorded are left out.
    pub(crate) fn killed_manifest(
        &self,
        begun: RunManifest,
        commits: &[(RunCommit, Option<CacheCommitMetadata>)],
    ) -> RunManifest {
        let (mut views, mut outputs) = (self.views.clone(), self.outputs.clone());
        let mut artifact_ids = begun.artifact_ids.unwrap_or_default();
        for (commit, said) in commits {
            let view = match commit.cache_scope {
                CacheScope::View => commit.name.clone(),
                CacheScope::Output => match outputs.get_mut(&commit.name) {
                    Some(output) if output.delta_version == Some(commit.delta_version) => {
                        output.table_id = Some(commit.table_id.clone());
                        output.content_hash = said.as_ref().and_then(|said| said.content_hash);
                        output.view.clone()
                    }
                    _ => continue,
                },
                _ => continue,
            };
            let Some(said) = said else { continue };
            // The one document that a commit names is the plan of its view.
            let plan = said.artifact_ids.first();
            artifact_ids.extend(plan.map(|plan| (format!("{} {view}", PlanBundleArtifact::KIND), *plan)));
            if let Some(view) = views.get_mut(&view).filter(|view| view.cache_key == said.cache_key) {
                view.stability = said.stability;
            }
        }
        RunManifest {
            finished_unix_ms: self.last_unix_ms,
            result: RunResult::Killed,
            views: views.into_values().collect(),
            outputs: outputs.into_values().collect(),
            commits: commits.iter().map(|(commit, _)| commit.clone()).collect(),
            artifact_ids: Some(artifact_ids).filter(|ids| !ids.is_empty()),
            ..begun
        }
    }

    /// The summary of a run that was killed: when it died nobody knows, so it ends with the last sign of life that it left.
    pub(crate) fn killed(self, run_id: RunId) -> CacheRunSummary {
        let Counts { hit, write, computed, skipped, error, saved_ms } = self.counts;
        CacheRunSummary {
            run_id,
            profile_name: self.profile_name,
            started_unix_ms: self.started_unix_ms,
            finished_unix_ms: self.last_unix_ms,
            result: RunResult::Killed,
            hit_count: hit,
            write_count: write,
            computed_count: computed,
            skipped_count: skipped,
            error_count: error,
            saved_ms,
        }
    }
}

impl Counts {
    /// Counts views, as a summary does; the row of an output says what its view's row says.
    fn count(&mut self, entry: &CacheInventoryEntry) {
        if entry.cache_scope != CacheScope::View {
            return;
        }
        match entry.result {
            ViewResult::Hit => self.hit += 1,
            ViewResult::Write => self.write += 1,
            ViewResult::Computed => self.computed += 1,
            ViewResult::Skipped => self.skipped += 1,
            ViewResult::Error => self.error += 1,
        }
        self.saved_ms += entry.saved_ms.unwrap_or(0.0);
    }
}

/// What an event says was written.
fn written(entry: &CacheInventoryEntry) -> Written {
    (entry.cache_scope, entry.cache_path.clone().unwrap_or_default(), entry.delta_version)
}

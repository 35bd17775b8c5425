//! Runs that were killed, closed with what their commits say: one may have died between a commit and the event of it.
//!
//! Projects that share a cache root close each other's runs. The outputs of a run lie below the directory of its own project, so a
//! run is left to the next process where that directory cannot be seen from this one: another container, say, or a volume that is
//! not mounted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alluvium_contracts::{
    CacheCommitMetadata, CacheInventoryEntry, CachePolicy, CacheScope, OutputSpec, RunId, RunManifest, RunView,
    Stability, ViewResult, ViewSpec,
};
use alluvium_ledgers::{KilledRun, LedgerError, Testimony};
use alluvium_profile::real_path;
use alluvium_write_policy::{commit_info, head_commit};

use crate::error::chain;
use crate::manifest;
use crate::pipeline::Pipeline;
use crate::project::Project;

/// The versions of an output that were committed longer than this before the run began are not looked through for its commits: clocks of
/// those who share an output may differ by as much.
const CLOCKS_DIFFER_MS: i64 = 24 * 60 * 60 * 1_000;

/// How long a run waits for somebody who sees its project; after that it is closed with what can be seen.
const ABANDONED_AFTER_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Why such a row is there.
const FOUND: &str = "found by its commit: the run was killed before it was on record";

/// An output that a run was to bring up to date, with the cache policy of its view.
type Wanted = (String, OutputSpec, CachePolicy);

/// A version of an output that a run published.
struct Publication {
    version: u64,
    metadata: CacheCommitMetadata,
    unix_ms: Option<i64>,
}

impl Pipeline {
    /// Closes the runs of this cache root that were killed, but for those whose outputs are out of sight. What they wrote is told by
    /// their commits: to entries of the caches, to the snapshots of the engine's caches, and to the outputs that their manifests name.
    pub(crate) async fn close_killed_runs(&self) -> Result<(), LedgerError> {
        self.ledgers.forget_ended_runs().await?;
        self.ledgers.close_killed_runs_by(|killed| self.testimony(killed)).map(drop)
    }

    /// What the commits of a run say; none where its outputs cannot be seen from here.
    fn testimony(&self, killed: &KilledRun) -> Option<Testimony> {
        let run_id = killed.run_id;
        let wanted = killed.begun.as_ref().map(outputs).unwrap_or_default();
        let dir = match &killed.begun {
            Some(begun) => self.seen_dir(begun, &wanted)?,
            None => self.project.dir().to_owned(),
        };
        let mut testimony = Testimony { stability: self.stability_of_hits(killed, &dir), ..Testimony::default() };
        match self.cache.committed_by(run_id) {
            Ok(entries) => {
                for entry in entries {
                    let table = self.root.path().join(&entry.dir);
                    let commit = manifest::commit(entry.scope.word(), &entry.view, &entry.dir, &table, Some(0));
                    testimony.commits.extend(commit.map(|commit| (commit, manifest::metadata(&table, 0))));
                    testimony.last_unix_ms = testimony.last_unix_ms.max(Some(entry.created_unix_ms));
                    let row = CacheInventoryEntry { reason: Some(FOUND.to_owned()), ..entry.inventory_row() };
                    testimony.writes.push(row);
                }
            }
            // The run is closed all the same, with what it recorded.
            Err(error) => {
                tracing::warn!(target: "alluvium.runs", %run_id, "the entries of a killed run cannot be looked up: {}", chain(&error));
            }
        }
        testimony.snapshots = self.cache.snapshots_committed_by(run_id);
        for (name, output, policy) in wanted {
            let table = dir.join(&output.path);
            for Publication { version, metadata, unix_ms } in
                publications(&table, (run_id, killed.started_unix_ms), &name)
            {
                testimony.last_unix_ms = testimony.last_unix_ms.max(unix_ms);
                let row = of_output(&name, &output, version, &metadata, self.seam.unix_ms());
                if policy == CachePolicy::DeltaOutput {
                    // Publishing it was how the view was kept.
                    testimony.writes.push(CacheInventoryEntry {
                        cache_scope: CacheScope::View,
                        output_name: None,
                        ..row.clone()
                    });
                }
                testimony.writes.push(row);
                let commit = manifest::commit(CacheScope::Output, &name, &output.path, &table, Some(version));
                testimony.commits.extend(commit.map(|commit| (commit, Some(metadata))));
            }
        }
        Some(testimony)
    }

    /// The directory of the run's project, if what lies there is that project: every output that the run was to bring up to date has its
    /// table there, or is declared there still. Paths mean something else in another container.
    fn seen_dir(&self, begun: &RunManifest, wanted: &[Wanted]) -> Option<PathBuf> {
        let dir = self.dir_of(begun);
        let is_old = || self.seam.unix_ms().saturating_sub(begun.started_unix_ms) > ABANDONED_AFTER_MS;
        if begun.project_dir.is_none() || wanted.iter().all(|(_, output, _)| has_table(&dir, output)) || is_old() {
            return Some(dir);
        }
        let is_this = real_path(&dir).ok().is_some_and(|dir| real_path(self.project.dir()).is_ok_and(|own| own == dir));
        let other = if is_this { None } else { Project::load(&dir).ok() };
        let project = if is_this { Some(&self.project) } else { other.as_ref() };
        let is_declared = |name: &str, output: &OutputSpec| {
            let declared = project.and_then(|project| project.spec().outputs.get(name));
            declared.is_some_and(|declared| declared.path == output.path)
        };
        if wanted.iter().all(|(name, output, _)| has_table(&dir, output) || is_declared(name, output)) {
            return Some(dir);
        }
        tracing::info!(
            target: "alluvium.runs",
            run_id = %begun.run_id,
            "a killed run stays open: its outputs cannot be seen from here; the next run of its project closes it"
        );
        None
    }

    /// What the commits of the entries and outputs that were hits of the run say of their views.
    fn stability_of_hits(&self, killed: &KilledRun, dir: &Path) -> BTreeMap<String, Stability> {
        let told = |view: &RunView| {
            let path = view.cache_path.as_ref()?;
            let (table, version) = match view.cache_policy {
                CachePolicy::DeltaStaging => (self.root.path().join(path), 0),
                CachePolicy::DeltaOutput => {
                    let output = killed.outputs.iter().find(|output| output.view == view.name)?;
                    (dir.join(path), output.delta_version?)
                }
                CachePolicy::None | CachePolicy::Memory => return None,
            };
            let said = manifest::metadata(&table, version).filter(|said| said.cache_key == view.cache_key)?;
            Some((view.name.clone(), said.stability?))
        };
        killed.views.iter().filter(|view| view.result == ViewResult::Hit).filter_map(told).collect()
    }
}

fn has_table(dir: &Path, output: &OutputSpec) -> bool {
    dir.join(&output.path).join("_delta_log").is_dir()
}

/// The outputs that a run was to bring up to date.
fn outputs(manifest: &RunManifest) -> Vec<Wanted> {
    let specs = manifest.resolved_specs.iter().filter_map(|(name, spec)| {
        let name = name.strip_prefix("output ")?;
        let output: OutputSpec = serde_json::from_value(spec.clone()).ok()?;
        let view = manifest.resolved_specs.get(&format!("view {}", output.view));
        let view: Option<ViewSpec> = view.and_then(|view| serde_json::from_value(view.clone()).ok());
        Some((name.to_owned(), output, view.map(|view| view.cache).unwrap_or_default()))
    });
    specs.collect()
}

/// The versions of an output that a run published, the newest first. Others may have published any number since; none that was there
/// before the run began is one of its own.
fn publications(table: &Path, (run_id, started_unix_ms): (RunId, i64), output: &str) -> Vec<Publication> {
    let Ok(Some(head)) = head_commit(table) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for version in (0..=head.version).rev() {
        // What a clean-up has taken is older than any run that is still open.
        let Ok(info) = commit_info(table, version) else { break };
        let unix_ms = info.get("timestamp").and_then(serde_json::Value::as_i64);
        if unix_ms.is_some_and(|unix_ms| unix_ms < started_unix_ms - CLOCKS_DIFFER_MS) {
            break;
        }
        let Ok(Some(metadata)) = CacheCommitMetadata::from_commit_info(&info) else { continue };
        if metadata.cache_scope == CacheScope::Output && metadata.name == output && metadata.run_id == run_id {
            found.push(Publication { version, metadata, unix_ms });
        }
    }
    found
}

fn of_output(
    name: &str,
    output: &OutputSpec,
    version: u64,
    metadata: &CacheCommitMetadata,
    event_time_unix_ms: i64,
) -> CacheInventoryEntry {
    CacheInventoryEntry {
        run_id: metadata.run_id,
        event_time_unix_ms,
        cache_scope: CacheScope::Output,
        view_name: output.view.clone(),
        output_name: Some(name.to_owned()),
        cache_policy: CachePolicy::DeltaOutput,
        result: ViewResult::Write,
        reason: Some(FOUND.to_owned()),
        cache_key: metadata.cache_key,
        plan_fingerprint: metadata.plan_hash,
        schema_hash: metadata.schema_hash,
        cache_path: Some(output.path.clone()),
        delta_version: Some(version),
        row_count: metadata.row_count,
        file_count: None,
        size_bytes: None,
        duration_ms: metadata.compute_ms.unwrap_or_default(),
        saved_ms: None,
        plan_artifact_id: metadata.artifact_ids.first().copied(),
    }
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::Contract as _;
    use alluvium_telemetry::Seam;

    use super::*;

    #[test]
    fn a_publication_is_found_however_many_came_after_it_and_none_is_looked_for_before_the_run() {
        const STARTED: i64 = 1_700_000_000_000;
        let table = tempfile::tempdir().unwrap();
        let log = table.path().join("_delta_log");
        std::fs::create_dir(&log).unwrap();
        let (ours, others) = (Seam::system().run_id(), Seam::system().run_id());
        for version in 0..300_i64 {
            // One a minute, the hundredth at the time of the run's beginning.
            let unix_ms = STARTED + (version - 100) * 60_000 - if version < 50 { 2 * CLOCKS_DIFFER_MS } else { 0 };
            let metadata = CacheCommitMetadata {
                cache_scope: CacheScope::Output,
                name: "routes".to_owned(),
                run_id: if [10, 90, 120].contains(&version) { ours } else { others },
                ..CacheCommitMetadata::example()
            };
            let mut info = metadata.to_map();
            info.insert("timestamp".to_owned(), unix_ms.into());
            let commit = serde_json::json!({ "commitInfo": info });
            std::fs::write(log.join(format!("{version:020}.json")), commit.to_string()).unwrap();
        }
        let found = publications(table.path(), (ours, STARTED), "routes");
        // The one before it is within what clocks may differ by.
        assert_eq!(found.iter().map(|found| found.version).collect::<Vec<_>>(), [120, 90]);
        assert!(publications(table.path(), (ours, STARTED), "another").is_empty());
    }
}

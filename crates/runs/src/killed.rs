//! Runs that were killed, closed with what their commits say: one may have died between a commit and the event of it.

use std::path::Path;

use alluvium_contracts::{
    CacheCommitMetadata, CacheInventoryEntry, CachePolicy, CacheScope, OutputSpec, RunId, RunManifest, ViewResult,
    ViewSpec,
};
use alluvium_delta_cache::Entry;
use alluvium_ledgers::{LedgerError, Testimony};
use alluvium_write_policy::{commit_info, head_commit};

use crate::error::chain;
use crate::manifest;
use crate::pipeline::Pipeline;

/// How many versions of an output are looked through for a commit of the run, from the newest on: others may have published since.
const VERSIONS: u64 = 64;

/// Why such a row is there.
const FOUND: &str = "found by its commit: the run was killed before it was on record";

impl Pipeline {
    /// Closes the runs of this cache root that were killed. What they wrote is told by their commits: to entries of the caches,
    /// to the snapshots of the engine's caches, and to the outputs that their manifests name, where those lie below this project
    /// or are named by absolute paths.
    pub(crate) fn close_killed_runs(&self) -> Result<(), LedgerError> {
        self.ledgers.close_killed_runs_by(|run_id, begun| self.testimony(run_id, begun)).map(drop)
    }

    fn testimony(&self, run_id: RunId, begun: Option<&RunManifest>) -> Testimony {
        let mut testimony = Testimony::default();
        match self.cache.committed_by(run_id) {
            Ok(entries) => {
                for entry in entries {
                    let table = self.root.path().join(&entry.dir);
                    let commit = manifest::commit(entry.scope.word(), &entry.view, &entry.dir, &table, Some(0));
                    testimony.commits.extend(commit.map(|commit| (commit, manifest::metadata(&table, 0))));
                    testimony.writes.push(of_entry(&entry));
                }
            }
            // The run is closed all the same, with what it recorded.
            Err(error) => {
                tracing::warn!(target: "alluvium.runs", %run_id, "the entries of a killed run cannot be looked up: {}", chain(&error));
            }
        }
        testimony.snapshots = self.cache.snapshots_committed_by(run_id);
        for (name, output, policy) in begun.map(outputs).unwrap_or_default() {
            let table = self.project.dir().join(&output.path);
            for (version, metadata) in publications(&table, run_id, &name) {
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
        testimony
    }
}

/// The outputs that a run was to bring up to date, with the cache policies of their views.
fn outputs(manifest: &RunManifest) -> Vec<(String, OutputSpec, CachePolicy)> {
    let specs = manifest.resolved_specs.iter().filter_map(|(name, spec)| {
        let name = name.strip_prefix("output ")?;
        let output: OutputSpec = serde_json::from_value(spec.clone()).ok()?;
        let view = manifest.resolved_specs.get(&format!("view {}", output.view));
        let view: Option<ViewSpec> = view.and_then(|view| serde_json::from_value(view.clone()).ok());
        Some((name.to_owned(), output, view.map(|view| view.cache).unwrap_or_default()))
    });
    specs.collect()
}

/// The versions of an output that a run published, the newest first.
fn publications(table: &Path, run_id: RunId, output: &str) -> Vec<(u64, CacheCommitMetadata)> {
    let Ok(Some(head)) = head_commit(table) else {
        return Vec::new();
    };
    let oldest = head.version.saturating_sub(VERSIONS);
    let versions = (oldest..=head.version).rev().filter_map(|version| {
        let info = commit_info(table, version).ok()?;
        let metadata = CacheCommitMetadata::from_commit_info(&info).ok()??;
        let is_its = metadata.cache_scope == CacheScope::Output && metadata.name == output && metadata.run_id == run_id;
        is_its.then_some((version, metadata))
    });
    versions.collect()
}

fn of_entry(entry: &Entry) -> CacheInventoryEntry {
    CacheInventoryEntry {
        run_id: entry.run_id,
        event_time_unix_ms: entry.created_unix_ms,
        cache_scope: entry.scope.word(),
        view_name: entry.view.clone(),
        output_name: None,
        cache_policy: CachePolicy::DeltaStaging,
        result: ViewResult::Write,
        reason: Some(FOUND.to_owned()),
        cache_key: Some(entry.key),
        plan_fingerprint: entry.plan_fingerprint,
        schema_hash: Some(entry.schema_hash),
        cache_path: Some(entry.dir.clone()),
        delta_version: Some(0),
        row_count: Some(entry.row_count),
        file_count: Some(entry.files.len() as u64),
        size_bytes: Some(entry.size_bytes()),
        duration_ms: entry.compute_ms,
        saved_ms: None,
        plan_artifact_id: entry.plan_artifact_id,
    }
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

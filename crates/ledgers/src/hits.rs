//! What entries of views have been worth: hits and the computing that they saved, counted as they are recorded.
//!
//! The counts lie in the queue store and change in the transaction of the event that they count, so that no hit is lost or
//! counted twice. A view's name has a few of them, since pipelines that share a root may share names.

use alluvium_contracts::{CacheInventoryEntry, CacheKey, CacheScope, ViewCacheArtifact, ViewResult};
use serde::{Deserialize, Serialize};

/// Entries remembered of a view's name, the newest first.
const REMEMBERED: usize = 8;

/// The entries of one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hits(Vec<EntryHits>);

/// One entry: a table at a version, under a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct EntryHits {
    cache_key: CacheKey,
    cache_path: Option<String>,
    delta_version: Option<u64>,
    hit_count: u64,
    saved_ms: f64,
}

/// Whether an event tells of an entry of a view that was written or hit.
pub(crate) fn counts(row: &CacheInventoryEntry) -> bool {
    row.cache_scope == CacheScope::View
        && row.cache_key.is_some()
        && matches!(row.result, ViewResult::Hit | ViewResult::Write)
}

impl Hits {
    /// Takes an event into account, and tells what its entry has been worth so far; none of an event that does not
    /// [count](counts).
    pub(crate) fn note(&mut self, row: &CacheInventoryEntry) -> Option<ViewCacheArtifact> {
        let cache_key = row.cache_key.filter(|_| counts(row))?;
        let is_it = |known: &EntryHits| {
            known.cache_key == cache_key
                && known.cache_path == row.cache_path
                && known.delta_version == row.delta_version
        };
        let is_hit = row.result == ViewResult::Hit;
        let known = self.0.iter().position(is_it).map(|at| self.0.remove(at));
        let mut entry = known.filter(|_| is_hit).unwrap_or_else(|| EntryHits {
            cache_key,
            cache_path: row.cache_path.clone(),
            delta_version: row.delta_version,
            hit_count: 0,
            saved_ms: 0.0,
        });
        if is_hit {
            entry.hit_count += 1;
            entry.saved_ms += row.saved_ms.unwrap_or(0.0);
        }
        let artifact = ViewCacheArtifact {
            view_name: row.view_name.clone(),
            run_id: Some(row.run_id),
            cache_policy: row.cache_policy,
            cache_path: row.cache_path.clone(),
            cache_key: row.cache_key,
            plan_fingerprint: row.plan_fingerprint,
            schema_hash: row.schema_hash,
            delta_version: row.delta_version,
            hit: Some(is_hit),
            hit_count: entry.hit_count,
            saved_seconds: entry.saved_ms / 1000.0,
            compute_ms: if is_hit { row.saved_ms } else { Some(row.duration_ms) },
            row_count: row.row_count,
            file_count: row.file_count,
            size_bytes: row.size_bytes,
        };
        self.0.insert(0, entry);
        self.0.truncate(REMEMBERED);
        Some(artifact)
    }
}

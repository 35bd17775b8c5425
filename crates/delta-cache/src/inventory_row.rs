//! The row of the inventory ledger that an entry, or an operation on a dataset or an artifact, leaves.

use alluvium_contracts::{
    CacheInventoryEntry, CacheOperation, CacheOutcome, CachePolicy, LookupResult, RunId, SchemaHash, ViewResult,
};

use crate::entry::Entry;

/// The facts of a table that no entry stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InMemoryFacts {
    pub(crate) row_count: u64,
    pub(crate) schema_hash: Option<SchemaHash>,
}

/// What an operation came to, as the result of a view would say it.
fn result(outcome: &CacheOutcome) -> ViewResult {
    match (outcome.operation, outcome.policy, outcome.result) {
        (_, _, LookupResult::Error) => ViewResult::Error,
        (CacheOperation::Read, _, LookupResult::Hit) => ViewResult::Hit,
        (CacheOperation::Write, CachePolicy::DeltaStaging, LookupResult::Ok) => ViewResult::Write,
        // What is kept in memory was computed for this process alone.
        _ => ViewResult::Computed,
    }
}

/// The row of what is kept in memory, or not at all.
pub(crate) fn row_of(
    outcome: &CacheOutcome,
    facts: InMemoryFacts,
    run_id: RunId,
    event_time_unix_ms: i64,
) -> CacheInventoryEntry {
    CacheInventoryEntry {
        run_id,
        event_time_unix_ms,
        cache_scope: outcome.scope,
        view_name: outcome.name.clone(),
        output_name: None,
        cache_policy: outcome.policy,
        result: result(outcome),
        reason: None,
        cache_key: outcome.cache_key,
        plan_fingerprint: None,
        schema_hash: facts.schema_hash,
        cache_path: None,
        delta_version: None,
        row_count: Some(facts.row_count),
        file_count: None,
        size_bytes: None,
        duration_ms: outcome.duration_ms,
        saved_ms: None,
        plan_artifact_id: None,
    }
}

/// The row of an entry.
pub(crate) fn row_of_entry(
    outcome: &CacheOutcome,
    entry: &Entry,
    run_id: RunId,
    event_time_unix_ms: i64,
) -> CacheInventoryEntry {
    let result = result(outcome);
    CacheInventoryEntry {
        run_id,
        event_time_unix_ms,
        cache_scope: outcome.scope,
        view_name: outcome.name.clone(),
        cache_policy: outcome.policy,
        result,
        cache_key: outcome.cache_key,
        duration_ms: outcome.duration_ms,
        saved_ms: (result == ViewResult::Hit).then_some(entry.compute_ms),
        ..entry.inventory_row()
    }
}

impl Entry {
    /// The row of the write that made it, as its commit tells: that of a run that came to record none.
    #[must_use]
    pub fn inventory_row(&self) -> CacheInventoryEntry {
        CacheInventoryEntry {
            run_id: self.run_id,
            event_time_unix_ms: self.created_unix_ms,
            cache_scope: self.scope.word(),
            view_name: self.view.clone(),
            output_name: None,
            cache_policy: CachePolicy::DeltaStaging,
            result: ViewResult::Write,
            reason: None,
            cache_key: Some(self.key),
            plan_fingerprint: self.plan_fingerprint,
            schema_hash: Some(self.schema_hash),
            cache_path: Some(self.dir.clone()),
            delta_version: Some(0),
            row_count: Some(self.row_count),
            file_count: Some(self.files.len() as u64),
            size_bytes: Some(self.size_bytes()),
            duration_ms: self.compute_ms,
            saved_ms: None,
            plan_artifact_id: self.plan_artifact_id,
        }
    }
}

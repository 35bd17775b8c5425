//! Which ledgers there are, and what each is called where.

use std::fmt;

use alluvium_contracts::{
    CacheArtifact, CacheInventoryEntry, CacheRunSummary, CacheSnapshotEntry, LedgerEvent, RunManifest,
};
use arrow::datatypes::SchemaRef;

use crate::rows;

/// An append-only Delta table of what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ledger {
    /// What became of each view and output in each run.
    CacheInventory,
    /// Each run as a whole.
    CacheRuns,
    /// What each run read, computed and published: enough to run it again.
    RunManifests,
    /// The documents that runs leave behind.
    CacheArtifacts,
    /// Snapshots of what the engine remembers.
    CacheSnapshots,
}

impl Ledger {
    /// Every ledger, in the order in which they are drained.
    #[must_use]
    pub const fn all() -> [Ledger; 5] {
        [
            Ledger::CacheInventory,
            Ledger::CacheRuns,
            Ledger::RunManifests,
            Ledger::CacheArtifacts,
            Ledger::CacheSnapshots,
        ]
    }

    /// The name of the table under the SQL schema `alluvium`.
    #[must_use]
    pub const fn sql_name(self) -> &'static str {
        match self {
            Ledger::CacheInventory => "cache_inventory",
            Ledger::CacheRuns => "cache_runs",
            Ledger::RunManifests => "run_manifests",
            Ledger::CacheArtifacts => "cache_artifacts",
            Ledger::CacheSnapshots => "cache_snapshots",
        }
    }

    /// The name of the table's directory under `cache_ledgers`.
    #[must_use]
    pub const fn dir_name(self) -> &'static str {
        match self {
            Ledger::CacheInventory => "datafusion_view_cache_inventory_v1",
            Ledger::CacheRuns => "datafusion_cache_run_summary_v1",
            Ledger::RunManifests => "run_manifest_v1",
            Ledger::CacheArtifacts => "cache_artifacts_v1",
            Ledger::CacheSnapshots => "datafusion_cache_snapshot_registry_v1",
        }
    }

    /// The columns: one for each field of the ledger's contract, nullable where the field is optional. Identifiers,
    /// digests and words are `Utf8`, counts and times since 1970 are `Int64`, durations are `Float64` milliseconds. Lists
    /// are `List`, nested contracts `Struct`, maps `Map`; what is untyped in the contract is JSON in `Utf8`.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        match self {
            Ledger::CacheInventory => rows::schema::<CacheInventoryEntry>(),
            Ledger::CacheRuns => rows::schema::<CacheRunSummary>(),
            Ledger::RunManifests => rows::schema::<RunManifest>(),
            Ledger::CacheArtifacts => rows::schema::<CacheArtifact>(),
            Ledger::CacheSnapshots => rows::schema::<CacheSnapshotEntry>(),
        }
    }

    /// The ledger that an event is a row of.
    pub(crate) const fn of(event: &LedgerEvent) -> Ledger {
        match event {
            LedgerEvent::CacheInventory(_) => Ledger::CacheInventory,
            LedgerEvent::CacheRuns(_) => Ledger::CacheRuns,
            LedgerEvent::RunManifests(_) => Ledger::RunManifests,
            LedgerEvent::CacheArtifacts(_) => Ledger::CacheArtifacts,
            LedgerEvent::CacheSnapshots(_) => Ledger::CacheSnapshots,
        }
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.sql_name())
    }
}

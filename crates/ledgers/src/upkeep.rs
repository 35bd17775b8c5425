//! Keeping a ledger cheap however long it grows: what a run reads of it is one checkpoint and a bounded number of commits and files.

use std::path::Path;

use alluvium_contracts::{
    CacheArtifact, DeltaWritePolicy, LedgerEvent, MaintenanceEvent, MaintenancePolicy, MaintenanceResult, RunId,
    SchemaMode,
};
use alluvium_telemetry::Seam;
use alluvium_write_policy::{MIN_RETENTION_HOURS, Maintenance};

use crate::Ledger;

/// Commits between two pieces of upkeep.
const INTERVAL_COMMITS: u32 = 32;

/// Files from three quarters of this are not rewritten again, so that a piece of upkeep costs the same in a large ledger. At
/// 40 to 80 bytes a row it holds a few hundred thousand rows.
const TARGET_FILE_SIZE_BYTES: u64 = 16 << 20;

/// What a ledger is made with, and stores.
pub(crate) fn policy() -> DeltaWritePolicy {
    DeltaWritePolicy {
        target_file_size_bytes: TARGET_FILE_SIZE_BYTES,
        // A contract gains optional fields from one build to the next.
        schema_mode: SchemaMode::Merge,
        maintenance: MaintenancePolicy {
            compact_min_files: Some(INTERVAL_COMMITS / 2),
            checkpoint_interval_commits: Some(INTERVAL_COMMITS),
            vacuum_retention_hours: Some(MIN_RETENTION_HOURS),
            log_retention_hours: Some(MIN_RETENTION_HOURS),
            ..MaintenancePolicy::default()
        },
        ..DeltaWritePolicy::default()
    }
}

/// What was done as events for the ledger of artifacts; what was not due is no event.
pub(crate) fn documents(ledger: Ledger, done: &[MaintenanceEvent], run_id: RunId, seam: &Seam) -> Vec<LedgerEvent> {
    let done = done.iter().filter(|event| event.result != MaintenanceResult::Skipped);
    let documents =
        done.filter_map(|event| CacheArtifact::of(run_id, seam.unix_ms(), ledger.sql_name(), event.clone()).ok());
    documents.map(LedgerEvent::CacheArtifacts).collect()
}

/// Upkeep after the commit that made `version`, where it is due, and what it did. The caller holds the drain lock. A failure is logged and
/// tried again after the next commit: the rows are committed already, and a ledger without upkeep is slower, not wrong.
///
/// What was done is told on behalf of `run_id`.
pub(crate) async fn after(
    ledger: Ledger,
    dir: &Path,
    version: u64,
    run_id: RunId,
    seam: &Seam,
) -> Vec<MaintenanceEvent> {
    match Maintenance::keep_up(dir, version, &policy().maintenance, seam).await {
        Ok(events) => {
            let told = events.into_iter().map(|event| {
                // The ledger tells by its name where it lies, wherever the root was moved.
                let (run_id, table_path) = (Some(run_id), ledger.dir_name().to_owned());
                MaintenanceEvent { run_id, table_path, dataset_name: Some(ledger.sql_name().to_owned()), ..event }
            });
            told.collect()
        }
        Err(error) => {
            tracing::warn!(target: "alluvium.ledgers", error = &error as &dyn std::error::Error, "ledger upkeep in {} failed", dir.display());
            Vec::new()
        }
    }
}

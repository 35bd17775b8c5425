#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod append;
mod apply;
mod backoff;
mod change_feed;
mod checks;
mod commit;
mod condition;
mod declared;
mod error;
mod files;
mod gate;
mod guarded_scan;
mod insert;
mod inspect;
mod log;
mod maintain;
mod overrides;
mod policy;
mod prune;
mod read;
mod report;
mod rewrite;
mod schema;
mod semantic;
mod sort;
mod store;
mod stored;
mod stream;
mod sync;
mod table;
mod table_actions;
#[cfg(test)]
mod tests;
mod tip;
mod verify;
mod write;

pub use append::{append, append_after, append_or_create};
pub use apply::{Expected, TableWrite};
pub use commit::{commit_create, commit_replace};
pub use declared::declared_schema;
pub use error::{CommitError, EngineError, PolicyError, ReadError, TypeCarrier, WriteError};
pub use files::{
    AppendOutcome, Appended, CommitMetadata, CommitOutcome, Committed, DataFile, StagedFiles, TableWriteOutcome,
};
pub use guarded_scan::GuardedScan;
pub use insert::GovernedTable;
pub use inspect::{inspect_table, pending_stats, table_history};
pub use log::{HeadCommit, added_files, commit_info, commit_metadata, head_commit, table_id};
pub use maintain::{MIN_RETENTION_HOURS, Maintenance, MaintenanceError, keep_versions, release_versions};
pub use overrides::WriteOverrides;
pub use policy::{ReaderColumn, ResolvedWritePolicy, resolve_stats_columns};
pub use prune::decided_by_bounds;
pub use read::{RecordedOrder, active_files, footer_rows, recorded_order, table_order, transaction_version};
pub use report::report_committed;
pub use sync::sync_table;
pub use tip::{AppendTip, HeldTip};
pub use verify::verify_table;
pub use write::{write_files, write_files_with};

//! What maintenance did to a table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::sample;
use crate::words::words;

words!(
    /// A kind of maintenance.
    MaintenanceOperation {
        /// Small files are put together.
        Compact => "compact",
        /// Rows are ordered anew.
        Zorder => "zorder",
        /// Files that no kept version needs are deleted.
        Vacuum => "vacuum",
        /// A checkpoint of the log is written.
        Checkpoint => "checkpoint",
        /// Log files that a checkpoint covers are deleted.
        LogCleanup => "log_cleanup",
        /// An older version becomes the latest again.
        Restore => "restore",
    }
);

words!(
    /// How maintenance ended.
    MaintenanceResult {
        /// It was done.
        Ok => "ok",
        /// There was nothing to do, or somebody else was at it.
        Skipped => "skipped",
        /// It failed; the table is as it was.
        Error => "error",
    }
);

/// One piece of maintenance of one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MaintenanceEvent {
    /// When it ended, in milliseconds since 1970-01-01 UTC.
    pub event_time_unix_ms: i64,
    /// The run, where it was part of one.
    pub run_id: Option<RunId>,
    /// The table's name, where it has one.
    pub dataset_name: Option<String>,
    /// Where the table lies.
    pub table_path: String,
    /// What was done.
    pub operation: MaintenanceOperation,
    /// How it ended.
    pub result: MaintenanceResult,
    /// Why it was done, skipped or failed.
    pub reason: Option<String>,
    /// A low-cardinality class of the error, when there was one.
    pub error_type: Option<String>,
    /// The version before.
    pub version_before: Option<u64>,
    /// The version after; the same where nothing was committed.
    pub version_after: Option<u64>,
    /// Data files written.
    pub files_added: u64,
    /// Data files removed from the table, or deleted by vacuum.
    pub files_removed: u64,
    /// Bytes written.
    pub bytes_added: u64,
    /// Bytes removed from the table, or deleted by vacuum.
    pub bytes_removed: u64,
    /// Versions that were kept because something needs them.
    pub kept_versions: Vec<u64>,
    /// How long it took.
    pub duration_ms: f64,
}

impl Contract for MaintenanceEvent {
    const KIND: &'static str = "maintenance_event";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what maintenance did to a table";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            event_time_unix_ms: sample::UNIX_MS,
            run_id: Some(sample::run_id()),
            dataset_name: Some("daily".to_owned()),
            table_path: "out/daily".to_owned(),
            operation: MaintenanceOperation::Compact,
            result: MaintenanceResult::Ok,
            reason: Some("18 small files in month=2001-01, and the policy's threshold is 16".to_owned()),
            error_type: None,
            version_before: Some(19),
            version_after: Some(20),
            files_added: 1,
            files_removed: 18,
            bytes_added: 90_112,
            bytes_removed: 121_904,
            kept_versions: vec![17],
            duration_ms: 84.5,
        }
    }
}

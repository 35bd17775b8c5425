//! The documents of `table`: a Delta table as it lies there, its commits, whether it is whole, and what was done to it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::decimal::DecimalI64;
use crate::envelope::{Contract, Form, UnknownFields};
use crate::v1::doctor::{CheckStatus, DoctorCheck};
use crate::v1::field::FieldSpec;
use crate::v1::maintenance::MaintenanceEvent;
use crate::v1::sample::{self, names};
use crate::v1::write::DeltaFeature;
use crate::v1::write_report::{AppTransaction, OrderingKey, TableProtocol};

/// A Delta table at one version, read back from its log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableDocument {
    /// Where the table lies.
    pub table_path: String,
    /// Its id in the log, which a copy of it shares.
    pub table_id: String,
    /// The version that is shown.
    pub delta_version: u64,
    /// The oldest version whose commit is still in the log.
    pub oldest_version: u64,
    /// The newest version with a checkpoint.
    pub checkpoint_version: Option<u64>,
    /// Its columns, in order.
    pub columns: Vec<FieldSpec>,
    /// The partition columns, outermost first.
    pub partition_by: Vec<String>,
    /// The columns by which all rows are in order, partition columns first; empty for none.
    pub order: Vec<OrderingKey>,
    /// The columns with statistics in the log of every file, nested ones as `a.b`.
    pub stats_columns: Vec<String>,
    /// Data files.
    pub file_count: u64,
    /// Those of them that are smaller than three quarters of the target size.
    pub small_file_count: u64,
    /// Bytes in the data files.
    pub size_bytes: u64,
    /// Rows; none where the log does not say.
    pub row_count: Option<u64>,
    /// The protocol.
    pub protocol: TableProtocol,
    /// The features that are on: in the protocol, and by their property where one turns them on.
    pub features: Vec<DeltaFeature>,
    /// The feature or property that keeps this build from writing to the table; none where it can write.
    pub unwritable: Option<String>,
    /// CHECK constraints by name, as SQL.
    pub constraints: BTreeMap<String, String>,
    /// Every property, constraints among them.
    pub properties: BTreeMap<String, String>,
    /// The write policy that is stored with the table, for later writers and for maintenance.
    pub write_policy: Option<Value>,
    /// JSON pointers into that policy of what this build does not know, and so does not follow: a newer one wrote it. The
    /// empty pointer means the whole of it.
    pub write_policy_unread: Vec<String>,
    /// What the writer of the version said of it, without the engine's own keys.
    pub commit_metadata: BTreeMap<String, Value>,
}

impl Contract for TableDocument {
    const KIND: &'static str = "table_document";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a Delta table at one version, read back from its log";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            table_path: "out/daily".to_owned(),
            table_id: "5fba94ed-9794-4965-ba6e-6ee3c0d22af9".to_owned(),
            delta_version: 3,
            oldest_version: 0,
            checkpoint_version: None,
            columns: vec![FieldSpec {
                name: "flight_date".to_owned(),
                data_type: "Date32".to_owned(),
                nullable: true,
                metadata: BTreeMap::new(),
            }],
            partition_by: names(["month"]),
            order: vec![OrderingKey { column: "flight_date".to_owned(), descending: false, nulls_first: true }],
            stats_columns: names(["flight_date"]),
            file_count: 2,
            small_file_count: 2,
            size_bytes: 48_213,
            row_count: Some(181),
            protocol: TableProtocol {
                min_reader_version: 1,
                min_writer_version: 7,
                reader_features: Vec::new(),
                writer_features: names(["checkConstraints"]),
            },
            features: vec![DeltaFeature::CheckConstraints],
            unwritable: None,
            constraints: BTreeMap::from([("sane_delay".to_owned(), "delay > -1440".to_owned())]),
            properties: BTreeMap::from([("delta.constraints.sane_delay".to_owned(), "delay > -1440".to_owned())]),
            write_policy: Some(json!({"zorder_by": ["flight_date"]})),
            write_policy_unread: Vec::new(),
            commit_metadata: BTreeMap::from([("cache_operation".to_owned(), json!("write"))]),
        }
    }
}

/// The commits of a Delta table, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableHistory {
    /// Where the table lies.
    pub table_path: String,
    /// The newest version.
    pub delta_version: u64,
    /// The oldest version whose commit is still in the log.
    pub oldest_version: u64,
    /// The commits, the newest first.
    pub commits: Vec<TableCommit>,
}

/// One commit of a Delta table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableCommit {
    /// The version that it made.
    pub delta_version: u64,
    /// When, in milliseconds since 1970-01-01 UTC, by its writer's clock.
    pub commit_time_unix_ms: Option<i64>,
    /// The operation, in the engine's words.
    pub operation: Option<String>,
    /// The engine that wrote it.
    pub engine: Option<String>,
    /// Data files that it added.
    pub files_added: u64,
    /// Bytes in those files.
    pub bytes_added: u64,
    /// Rows in those files; none where the log does not say.
    pub rows_added: Option<u64>,
    /// Data files that it removed.
    pub files_removed: u64,
    /// Whether it changed rows: maintenance moves them and changes none.
    pub data_changed: bool,
    /// Whether it changed schema, partitioning or properties.
    pub metadata_changed: bool,
    /// Whether it changed the protocol.
    pub protocol_changed: bool,
    /// The application transactions that it recorded.
    pub app_transactions: Vec<AppTransaction>,
    /// What its writer said of it, without the engine's own keys.
    pub commit_metadata: BTreeMap<String, Value>,
}

impl Contract for TableHistory {
    const KIND: &'static str = "table_history";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the commits of a Delta table, by version";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            table_path: "out/daily".to_owned(),
            delta_version: 3,
            oldest_version: 0,
            commits: vec![TableCommit {
                delta_version: 3,
                commit_time_unix_ms: Some(sample::UNIX_MS),
                operation: Some("WRITE".to_owned()),
                engine: Some("delta-rs:1.1.3".to_owned()),
                files_added: 2,
                bytes_added: 48_213,
                rows_added: Some(181),
                files_removed: 2,
                data_changed: true,
                metadata_changed: false,
                protocol_changed: false,
                app_transactions: vec![AppTransaction { app_id: "output daily".to_owned(), version: DecimalI64(17) }],
                commit_metadata: BTreeMap::from([("cache_operation".to_owned(), json!("write"))]),
            }],
        }
    }
}

/// Whether a Delta table is what its log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableVerification {
    /// Where the table lies.
    pub table_path: String,
    /// The version that was looked at.
    pub delta_version: u64,
    /// Data files of that version.
    pub file_count: u64,
    /// Bytes that were read of them.
    pub bytes_read: u64,
    /// Rows that were read.
    pub row_count: u64,
    /// What was checked, in order.
    pub checks: Vec<DoctorCheck>,
}

impl Contract for TableVerification {
    const KIND: &'static str = "table_verification";
    const VERSION: u32 = 1;
    const DOC: &'static str = "whether a Delta table is what its log says";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let check = |name: &str, status, message: &str, fix: Option<&str>| DoctorCheck {
            name: name.to_owned(),
            status,
            message: message.to_owned(),
            fix: fix.map(str::to_owned),
        };
        Self {
            table_path: "out/daily".to_owned(),
            delta_version: 3,
            file_count: 2,
            bytes_read: 48_213,
            row_count: 181,
            checks: vec![
                check("log", CheckStatus::Ok, "4 commits, from version 0 on", None),
                check(
                    "files",
                    CheckStatus::Error,
                    "month=2001-01/part-00000.snappy.parquet is not there",
                    Some("restore the file, or a version that does without it"),
                ),
            ],
        }
    }
}

/// What maintenance did to one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TableMaintenance {
    /// Where the table lies.
    pub table_path: String,
    /// The version before.
    pub version_before: u64,
    /// The version after.
    pub version_after: u64,
    /// What was done or skipped, in order; nothing where the table's policy names no maintenance.
    pub events: Vec<MaintenanceEvent>,
}

impl Contract for TableMaintenance {
    const KIND: &'static str = "table_maintenance";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what maintenance did to one Delta table";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            table_path: "out/daily".to_owned(),
            version_before: 19,
            version_after: 20,
            events: vec![MaintenanceEvent::example()],
        }
    }
}

//! What a write did: what was asked for beside what is there, read back from log, protocol and footers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::decimal::DecimalI64;
use crate::digest::{ContentDigest, LayoutHash, SchemaHash};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::sample::{self, names};
use crate::v1::write::{DeltaFeature, GateMode, WriteMode};
use crate::words::words;

words!(
    /// How a write ended.
    WriteOutcome {
        /// As a new version.
        Committed => "committed",
        /// Nothing to do: the same write was committed before, or the mode is `ignore`.
        Unchanged => "unchanged",
        /// Somebody else committed first.
        Conflict => "conflict",
    }
);

/// One write: what was asked for beside what is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WriteReport {
    /// The table's name, where it has one.
    pub dataset_name: Option<String>,
    /// Where the table lies.
    pub table_path: String,
    /// The run, where there was one.
    pub run_id: Option<RunId>,
    /// The mode of the write.
    pub mode: WriteMode,
    /// How it ended.
    pub outcome: WriteOutcome,
    /// The version that was committed, or the one that was there.
    pub delta_version: Option<u64>,
    /// The version that the write was planned on; none for a new table.
    pub base_version: Option<u64>,
    /// The caller's key, by which a repeated write is known.
    pub app_transaction: Option<AppTransaction>,
    /// Commits that were tried.
    pub attempt_count: u32,
    /// Rows written.
    pub row_count: u64,
    /// Data files written.
    pub file_count: u64,
    /// Bytes in those files.
    pub size_bytes: u64,
    /// How long it took.
    pub duration_ms: f64,
    /// The digest of the resolved policy.
    pub layout_hash: Option<LayoutHash>,
    /// The digest of the table's schema.
    pub schema_hash: Option<SchemaHash>,
    /// Every field of the policy: requested beside observed.
    pub fields: Vec<FieldReport>,
    /// Every file written, by path.
    pub files: Vec<WrittenFile>,
    /// The protocol before and after.
    pub protocol: ProtocolReport,
    /// The order of rows that the files have, outermost column first; empty for none.
    pub order: Vec<OrderingKey>,
    /// The last version whose files have that order.
    pub order_version: Option<u64>,
    /// Things that a person should know and that are no error.
    pub notices: Vec<String>,
}

/// The caller's key of a write: the same key is committed once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppTransaction {
    /// Who counts.
    pub app_id: String,
    /// The count: any 64-bit integer, such as a time in nanoseconds.
    pub version: DecimalI64,
}

/// One field of the policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FieldReport {
    /// The field, as a dotted name.
    pub field: String,
    /// What the policy says.
    pub requested: Value,
    /// What was read back.
    pub observed: Value,
    /// Whether they agree.
    pub honoured: bool,
    /// Why not, or what was resolved.
    pub reason: Option<String>,
}

/// One data file, as its footer and the log say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WrittenFile {
    /// The path relative to the table.
    pub path: String,
    /// The digest of its bytes.
    pub content_digest: ContentDigest,
    /// Its rows.
    pub row_count: u64,
    /// Its length.
    pub size_bytes: u64,
    /// The partition that it belongs to; none for NULL.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Row groups in its footer.
    pub row_group_count: u64,
    /// Columns with statistics in the log.
    pub stats_columns: Vec<String>,
    /// Columns with a Bloom filter in the footer.
    pub bloom_filter_columns: Vec<String>,
    /// Columns with a dictionary page in the footer.
    pub dictionary_columns: Vec<String>,
    /// The codecs in the footer, by column.
    pub compression: BTreeMap<String, String>,
}

/// One column of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderingKey {
    /// The column.
    pub column: String,
    /// Whether large values come first.
    pub descending: bool,
    /// Whether NULL comes first.
    pub nulls_first: bool,
}

impl Contract for WriteReport {
    const KIND: &'static str = "write_report";
    const VERSION: u32 = 1;
    const DOC: &'static str = "one write of a Delta table: requested beside observed, for every field";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            dataset_name: Some("daily".to_owned()),
            table_path: "out/daily".to_owned(),
            run_id: Some(sample::run_id()),
            mode: WriteMode::Overwrite,
            outcome: WriteOutcome::Committed,
            delta_version: Some(3),
            base_version: Some(2),
            app_transaction: Some(AppTransaction {
                app_id: "output daily".to_owned(),
                version: DecimalI64(1_768_456_800_123_456_789),
            }),
            attempt_count: 1,
            row_count: 181,
            file_count: 1,
            size_bytes: 48_213,
            duration_ms: 21.5,
            layout_hash: Some(LayoutHash::of(b"daily")),
            schema_hash: Some(SchemaHash::of(b"daily_delays")),
            fields: vec![FieldReport {
                field: "stats_columns".to_owned(),
                requested: json!(["flight_date", "delay"]),
                observed: json!(["flight_date"]),
                honoured: false,
                reason: Some("`delay` is nested: the engine collects no statistics of nested columns".to_owned()),
            }],
            files: vec![WrittenFile {
                path: "month=2001-01/part-00000.snappy.parquet".to_owned(),
                content_digest: ContentDigest::of(b"part-00000"),
                row_count: 181,
                size_bytes: 48_213,
                partition_values: BTreeMap::from([("month".to_owned(), Some("2001-01".to_owned()))]),
                row_group_count: 1,
                stats_columns: names(["flight_date"]),
                bloom_filter_columns: names(["flight_id"]),
                dictionary_columns: names(["origin"]),
                compression: BTreeMap::from([("origin".to_owned(), "snappy".to_owned())]),
            }],
            protocol: ProtocolReport::example(),
            order: vec![OrderingKey { column: "flight_date".to_owned(), descending: false, nulls_first: true }],
            order_version: Some(3),
            notices: Vec::new(),
        }
    }
}

/// The protocol of a table before and after a write, and what became of each feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProtocolReport {
    /// The table's name, where it has one.
    pub dataset_name: Option<String>,
    /// Before; none for a new table.
    pub before: Option<TableProtocol>,
    /// After.
    pub after: TableProtocol,
    /// Whether this build can read a table of that protocol.
    pub readable: bool,
    /// Whether this build can write one.
    pub writable: bool,
    /// What was to happen about a feature that this build cannot read and write.
    pub feature_gate: GateMode,
    /// Every feature that was asked for.
    pub features: Vec<FeatureReport>,
}

/// The protocol of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TableProtocol {
    /// The least version that a reader has to know.
    pub min_reader_version: u32,
    /// The least version that a writer has to know.
    pub min_writer_version: u32,
    /// Features that a reader has to know, by their names in the log.
    pub reader_features: Vec<String>,
    /// Features that a writer has to know, by their names in the log.
    pub writer_features: Vec<String>,
}

words!(
    /// What became of a feature that was asked for.
    FeatureResult {
        /// It was added.
        Enabled => "enabled",
        /// The table had it.
        Present => "present",
        /// It was left out, because this build cannot read and write it.
        LeftOut => "left_out",
    }
);

/// One feature that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureReport {
    /// The feature.
    pub feature: DeltaFeature,
    /// What became of it.
    pub result: FeatureResult,
    /// Why.
    pub reason: Option<String>,
}

impl Contract for ProtocolReport {
    const KIND: &'static str = "protocol_report";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the protocol of a table before and after a write, feature by feature";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let plain = TableProtocol {
            min_reader_version: 1,
            min_writer_version: 2,
            reader_features: Vec::new(),
            writer_features: Vec::new(),
        };
        Self {
            dataset_name: Some("daily".to_owned()),
            before: Some(plain.clone()),
            after: TableProtocol {
                min_writer_version: 7,
                writer_features: names(["appendOnly", "changeDataFeed", "invariants"]),
                ..plain
            },
            readable: true,
            writable: true,
            feature_gate: GateMode::Warn,
            features: vec![
                FeatureReport { feature: DeltaFeature::ChangeDataFeed, result: FeatureResult::Enabled, reason: None },
                FeatureReport {
                    feature: DeltaFeature::RowTracking,
                    result: FeatureResult::LeftOut,
                    reason: Some("this build cannot write tables with it".to_owned()),
                },
            ],
        }
    }
}

//! What a run tells a diagnostics sink: the event that carries it, and the payloads that are about a run alone. Others are
//! contracts of their own family, such as `kv_stats` and `maintenance_event`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{ArtifactId, PinDigest};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::{RootId, RunId};
use crate::v1::dataset::DatasetFormat;
use crate::v1::profile::SqlPolicy;
use crate::v1::sample;
use crate::words::words;

words!(
    /// What a sink is told.
    DiagnosticsEventKind {
        /// Something happened, or was found so.
        Event => "event",
        /// A document was made.
        Artifact => "artifact",
    }
);

words!(
    /// How much an event matters.
    Severity {
        /// For whoever looks for a fault.
        Debug => "debug",
        /// As it should be.
        Info => "info",
        /// Worth a look.
        Warn => "warn",
        /// A failure.
        Error => "error",
    }
);

/// One event or artifact, on its way to a sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiagnosticsEvent {
    /// The kind of the payload's contract.
    pub name: String,
    /// Event or artifact.
    pub event_kind: DiagnosticsEventKind,
    /// How much it matters.
    pub severity: Severity,
    /// When it happened, in milliseconds since 1970-01-01 UTC.
    pub event_time_unix_ms: i64,
    /// The run, where there was one.
    pub run_id: Option<RunId>,
    /// The W3C trace id, where there was one: 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// The W3C span id, where there was one: 16 hexadecimal digits.
    pub span_id: Option<String>,
    /// The version of that contract.
    pub version: u32,
    /// The identity of the artifact, where it is stored.
    pub artifact_id: Option<ArtifactId>,
    /// A document of that contract, redacted and cut to size. Untyped: its numbers are integers where their value is one
    /// within ±(2⁵³−1), doubles otherwise.
    pub payload: BTreeMap<String, Value>,
}

impl Contract for DiagnosticsEvent {
    const KIND: &'static str = "diagnostics_event";
    const VERSION: u32 = 1;
    const DOC: &'static str = "one event or artifact, on its way to a diagnostics sink";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            name: "cache_root_report".to_owned(),
            event_kind: DiagnosticsEventKind::Event,
            severity: Severity::Info,
            event_time_unix_ms: sample::UNIX_MS,
            run_id: Some(sample::run_id()),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
            span_id: Some("00f067aa0ba902b7".to_owned()),
            version: 1,
            artifact_id: None,
            payload: BTreeMap::from([
                ("root_id".to_owned(), sample::root_id().to_string().into()),
                ("path".to_owned(), "path#29fde71e3ef29831".into()),
                ("named_by".to_owned(), "pipeline_file".into()),
                ("kv_kinds".to_owned(), vec!["index", "queue"].into()),
            ]),
        }
    }
}

words!(
    /// Who said where caches lie.
    CacheRootOrigin {
        /// The command line, or the program.
        Flag => "flag",
        /// A variable.
        Environment => "environment",
        /// The pipeline file.
        PipelineFile => "pipeline_file",
        /// Nobody: it is the default.
        Default => "default",
    }
);

/// Where the caches of a run lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheRootReport {
    /// The root's identity.
    pub root_id: RootId,
    /// The root's directory; it leaves a process hashed, unless its owner opts in.
    pub path: String,
    /// Who said so.
    pub named_by: CacheRootOrigin,
    /// The kinds of key-value stores that are open, sorted.
    pub kv_kinds: Vec<String>,
}

impl Contract for CacheRootReport {
    const KIND: &'static str = "cache_root_report";
    const VERSION: u32 = 1;
    const DOC: &'static str = "where the caches of a run lie, and who said so";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            root_id: sample::root_id(),
            path: "/srv/flights/.alluvium".to_owned(),
            named_by: CacheRootOrigin::Default,
            kv_kinds: sample::names(["index", "queue", "runtime", "schema"]),
        }
    }
}

/// How a dataset is read in a run: every option, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScanConfiguration {
    /// The dataset.
    pub dataset_name: String,
    /// Its format.
    pub format: DatasetFormat,
    /// Every option of the format, by name.
    pub options: BTreeMap<String, String>,
    /// Columns that the dataset has.
    pub column_count: u64,
    /// Files that a scan reads, if none is left out.
    pub file_count: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// The version of a Delta table.
    pub delta_version: Option<u64>,
    /// The pin: the exact state, and the way it is read.
    pub pin: PinDigest,
}

impl Contract for ScanConfiguration {
    const KIND: &'static str = "scan_configuration";
    const VERSION: u32 = 1;
    const DOC: &'static str = "how a dataset is read in a run: format, options, files";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            dataset_name: "orders".to_owned(),
            format: DatasetFormat::Csv,
            options: BTreeMap::from([
                ("delimiter".to_owned(), ";".to_owned()),
                ("has_header".to_owned(), "true".to_owned()),
            ]),
            column_count: 7,
            file_count: 12,
            size_bytes: 1_204_881,
            delta_version: None,
            pin: PinDigest::of(b"orders"),
        }
    }
}

words!(
    /// How the columns of files become those of their dataset.
    SchemaAdapter {
        /// The engine reads all files by one schema, and matches columns by name.
        Engine => "engine",
        /// Files of equal columns form a group, and each group has expressions of its own.
        Expressions => "expressions",
    }
);

words!(
    /// What becomes of one column.
    ColumnAdaptation {
        /// It has another name in the files.
        Renamed => "renamed",
        /// It is cast.
        Cast => "cast",
        /// The files lack it, and it has its default.
        Default => "default",
        /// The files lack it, and it is NULL.
        Null => "null",
    }
);

/// A column that is not read as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdaptedColumn {
    /// Its name in the dataset.
    pub name: String,
    /// What becomes of it. One that is renamed and cast is `cast`.
    pub adaptation: ColumnAdaptation,
    /// Its name in the files, where they have it.
    pub file_column: Option<String>,
    /// Its type in the files, where they have it.
    pub file_type: Option<String>,
    /// Its type in the dataset.
    pub data_type: String,
}

/// Files that are read alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdaptedFiles {
    /// How many.
    pub file_count: u64,
    /// The columns that are not read as they are.
    pub columns: Vec<AdaptedColumn>,
}

/// How the columns of the files of a dataset become those of the dataset, in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdapterChoice {
    /// The dataset.
    pub dataset_name: String,
    /// How.
    pub adapter: SchemaAdapter,
    /// Its files, by what becomes of their columns.
    pub groups: Vec<AdaptedFiles>,
}

impl Contract for AdapterChoice {
    const KIND: &'static str = "adapter_choice";
    const VERSION: u32 = 1;
    const DOC: &'static str = "how the columns of files become those of their dataset";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            dataset_name: "orders".to_owned(),
            adapter: SchemaAdapter::Expressions,
            groups: vec![
                AdaptedFiles { file_count: 9, columns: Vec::new() },
                AdaptedFiles {
                    file_count: 3,
                    columns: vec![
                        AdaptedColumn {
                            name: "amount".to_owned(),
                            adaptation: ColumnAdaptation::Cast,
                            file_column: Some("amt".to_owned()),
                            file_type: Some("Int32".to_owned()),
                            data_type: "Int64".to_owned(),
                        },
                        AdaptedColumn {
                            name: "channel".to_owned(),
                            adaptation: ColumnAdaptation::Default,
                            file_column: None,
                            file_type: None,
                            data_type: "Utf8".to_owned(),
                        },
                    ],
                },
            ],
        }
    }
}

words!(
    /// What was done with a prepared statement.
    PreparedAction {
        /// It was there when the run's session was made.
        Installed => "installed",
        /// PREPARE.
        Prepare => "prepare",
        /// EXECUTE.
        Execute => "execute",
    }
);

/// A prepared statement of a session. Its text stays out: it may hold what is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreparedStatementUse {
    /// The statement.
    pub name: String,
    /// What was done with it.
    pub action: PreparedAction,
    /// The types of its parameters, where they are known.
    pub parameter_types: Vec<String>,
    /// The policy that it was prepared under.
    pub sql_policy: SqlPolicy,
}

impl Contract for PreparedStatementUse {
    const KIND: &'static str = "prepared_statement_use";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a prepared statement of a session, and what was done with it";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            name: "by_month".to_owned(),
            action: PreparedAction::Execute,
            parameter_types: sample::names(["Int64"]),
            sql_policy: SqlPolicy::Service,
        }
    }
}

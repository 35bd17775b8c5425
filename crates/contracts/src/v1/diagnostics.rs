//! What a run tells a diagnostics sink.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::ArtifactId;
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::sample;
use crate::words::words;

words!(
    /// What a sink is told.
    DiagnosticsEventKind {
        /// Something happened: the payload holds its properties.
        Event => "event",
        /// An artifact was made: the payload is a contract's.
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
    /// The name of the event, or the kind of the artifact's contract.
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
    /// The version of the artifact's contract.
    pub version: Option<u32>,
    /// The identity of the artifact, where it is stored.
    pub artifact_id: Option<ArtifactId>,
    /// The properties of the event, or the payload of the artifact. Untyped: its numbers are integers where their value
    /// is one within ±(2⁵³−1), doubles otherwise.
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
            name: "cache_root".to_owned(),
            event_kind: DiagnosticsEventKind::Event,
            severity: Severity::Info,
            event_time_unix_ms: sample::UNIX_MS,
            run_id: Some(sample::run_id()),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
            span_id: Some("00f067aa0ba902b7".to_owned()),
            version: None,
            artifact_id: None,
            payload: BTreeMap::from([
                ("origin".to_owned(), "pipeline_file".into()),
                ("entries".to_owned(), 22.into()),
                ("full".to_owned(), 0.25.into()),
            ]),
        }
    }
}

//! Live signals of Alluvium, and the seam through which every crate reads clocks and draws ids.
//!
//! A cache operation is measured by a [`CacheSpan`] and ends as one [`CacheOutcome`](alluvium_contracts::CacheOutcome).
//! That value feeds the span, the metrics and the log, and is handed back for the ledger, so that they cannot disagree.
//! A [`RunContext`] says which run and trace work belongs to, on every task and thread of it.
//!
//! ```
//! use alluvium_contracts::{CacheOperation, CachePolicy, CacheScope, LookupResult};
//! use alluvium_telemetry::{CacheStart, RunSpan, Seam, cache_span};
//!
//! let seam = Seam::system();
//! let run = RunSpan::begin(&seam, seam.run_id(), None);
//! let outcome = {
//!     let _inside = run.enter();
//!     let reading = cache_span(&seam, CacheStart {
//!         operation: CacheOperation::Read,
//!         scope: CacheScope::View,
//!         policy: CachePolicy::DeltaStaging,
//!         name: "route_delays",
//!         cache_key: None,
//!     });
//!     reading.miss()
//! };
//! assert_eq!(outcome.result, LookupResult::Miss);
//! assert!(run.context().traceparent().starts_with("00-")); // what commits carry
//! ```
//!
//! # What this crate is not
//! It never fails the work it observes, and it knows no query engine. It emits through `tracing` and the OpenTelemetry
//! API; whoever wants the signals installs a subscriber and providers. Without them an operation costs under a
//! microsecond.
//!
//! # Features
//! None is on by default, and only a binary turns them on. `sdk`: providers with bounded Views and redacting exporters,
//! and a trace file. `otlp-http`, `otlp-grpc`: OTLP over either.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cache_span;
mod diagnostics;
mod kept;
mod metrics;
mod outcome;
mod query_trace;
mod redact;
mod run;
#[cfg(feature = "sdk")]
pub mod sdk;
mod seam;
mod trace_context;
pub mod vocabulary;
mod work_span;

pub use cache_span::{CacheSpan, CacheStart, cache_span};
pub use diagnostics::{
    DIAGNOSTICS_VARIABLE, Diagnostics, DiagnosticsChoice, DiagnosticsChoiceError, DiagnosticsLimits, DiagnosticsSink,
    JsonLinesSink, MemorySink, OtelLogsSink,
};
pub use metrics::CacheMetrics;
pub use outcome::record;
pub use query_trace::{Operator, QueryTrace};
pub use redact::{PathPolicy, REDACTED, Redactor};
pub use run::{RunContext, RunGuard, RunSpan, carry, carry_fn};
pub use seam::{Clock, Ids, Seam, Stopwatch};
pub use trace_context::{TRACEPARENT, TRACESTATE, TraceContext, TraceParentError};
pub use work_span::{end_span, plan_span, set_plan_hash, view_span};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

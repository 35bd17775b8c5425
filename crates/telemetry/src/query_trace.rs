//! The operators of a query as spans, made of what a query engine measured, when the query has ended.
//!
//! A span of `tracing` begins when it is made, and these have begun and ended before: they go to the OpenTelemetry API, to the
//! tracer provider of the process.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanBuilder, TraceContextExt as _, Tracer};
use opentelemetry::{Context, KeyValue, global};

use crate::RunContext;
use crate::vocabulary::{SCOPE, attribute};

/// An operator of a query, as it ran. What was not measured is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Operator {
    /// What the engine calls it.
    pub name: String,
    /// When its first partition began.
    pub began: Option<SystemTime>,
    /// When its last partition ended.
    pub ended: Option<SystemTime>,
    /// Rows that it gave.
    pub output_rows: Option<u64>,
    /// Time that it computed, over all partitions, in nanoseconds.
    pub compute_ns: Option<u64>,
    /// Bytes that it read from files.
    pub scanned_bytes: Option<u64>,
    /// Bytes that it spilled.
    pub spilled_bytes: Option<u64>,
    /// The operators whose rows it took.
    pub inputs: Vec<Operator>,
}

/// The place in a trace that the operators of a query belong to.
#[derive(Debug, Clone)]
pub struct QueryTrace {
    parent: Context,
    run: Option<RunContext>,
}

impl QueryTrace {
    /// A query that belongs to the span which is active now; `None` where nobody records that.
    #[must_use]
    pub fn begin() -> Option<Self> {
        let parent = Context::current();
        let is_recorded = parent.span().span_context().is_sampled();
        is_recorded.then(|| Self { parent, run: RunContext::current() })
    }

    /// Emits a span for each operator of the query that ended with `root`, below that of whoever took its rows. Where an
    /// operator has no times of its own, its inputs' count; one that never ran has no span.
    pub fn end(&self, root: &Operator) {
        self.emit(&global::tracer(SCOPE), root, &self.parent);
    }

    fn emit<T>(&self, tracer: &T, operator: &Operator, parent: &Context)
    where
        T: Tracer,
        T::Span: Send + Sync + 'static,
    {
        let Some((began, ended)) = times(operator) else {
            return;
        };
        let builder = SpanBuilder::from_name(operator.name.clone())
            .with_start_time(began)
            .with_attributes(self.attributes(operator));
        let own = parent.with_span(tracer.build_with_context(builder, parent));
        for input in &operator.inputs {
            self.emit(tracer, input, &own);
        }
        own.span().end_with_timestamp(ended);
    }

    fn attributes(&self, operator: &Operator) -> Vec<KeyValue> {
        let number = |name, value: Option<u64>| Some(KeyValue::new(name, i64::try_from(value?).unwrap_or(i64::MAX)));
        let compute = operator.compute_ns.map(|time| Duration::from_nanos(time).as_secs_f64() * 1e3);
        [
            self.run.as_ref().map(|run| KeyValue::new(attribute::RUN_ID, run.run_id().to_string())),
            number(attribute::OPERATOR_ROWS, operator.output_rows),
            compute.map(|time| KeyValue::new(attribute::OPERATOR_COMPUTE_MS, time)),
            number(attribute::OPERATOR_SCANNED_BYTES, operator.scanned_bytes),
            number(attribute::OPERATOR_SPILLED_BYTES, operator.spilled_bytes),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// From when to when an operator or anything below it ran.
fn times(operator: &Operator) -> Option<(SystemTime, SystemTime)> {
    let below = || operator.inputs.iter().filter_map(times);
    let began = operator.began.or_else(|| below().map(|(began, _)| began).min())?;
    let ended = operator.ended.or_else(|| below().map(|(_, ended)| ended).max()).unwrap_or(began);
    Some((began, ended.max(began)))
}

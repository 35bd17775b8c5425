//! Ids of traces: a run that begins a trace gives it its own id.

use opentelemetry::{Context, SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use crate::run::TraceSeed;

/// Gives the trace of a run the id of the run, so that either is found by the other, and everything else a random id.
/// A UUIDv7 is random where samplers and the standard look for randomness: in its last seven bytes.
#[derive(Debug, Default)]
pub(super) struct RunIds(RandomIdGenerator);

impl IdGenerator for RunIds {
    fn new_trace_id(&self) -> TraceId {
        let seed = Context::map_current(|context| context.get::<TraceSeed>().map(|seed| seed.0));
        seed.unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

//! What a collector rejects of a batch that it takes: the exporters tell their log alone.

use std::fmt;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::health::Health;

/// The target of the exporters' own events.
const TARGET: &str = "opentelemetry-otlp";

/// How the names of those events end that tell of a partial success.
const PARTIAL_SUCCESS: &str = ".PartialSuccess";

/// Counts what was rejected.
pub(super) struct Rejections {
    health: Arc<Health>,
}

impl Rejections {
    pub(super) fn new(health: &Arc<Health>) -> Self {
        Self { health: Arc::clone(health) }
    }
}

impl<S: Subscriber> Layer<S> for Rejections {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() != TARGET || !metadata.name().ends_with(PARTIAL_SUCCESS) {
            return;
        }
        let mut told = PartialSuccess::default();
        event.record(&mut told);
        self.health
            .rejected(told.rejected, format!("the collector rejected {} of a batch: {}", told.rejected, told.why));
    }
}

/// One such event. A warning alone rejects nothing.
#[derive(Default)]
struct PartialSuccess {
    rejected: u64,
    why: String,
}

impl Visit for PartialSuccess {
    /// `rejected_spans`, `rejected_data_points` or `rejected_log_records`.
    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name().starts_with("rejected_") {
            self.rejected = u64::try_from(value).unwrap_or(0);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "error_message" {
            value.clone_into(&mut self.why);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

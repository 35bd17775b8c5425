//! The spans of what a run does besides using caches.

use tracing::{Span, field};

use crate::RunContext;
use crate::vocabulary::{self, TARGET_RUN, attribute, span};

/// Opens the span of a view in a run. Close it by [`end_span`] and by dropping it.
#[must_use]
pub fn view_span(view_name: &str) -> Span {
    let span = tracing::info_span!(
        target: TARGET_RUN,
        span::VIEW,
        { attribute::VIEW_NAME } = view_name,
        { attribute::RUN_ID } = field::Empty,
        { attribute::RESULT } = field::Empty,
        { attribute::ERROR_TYPE } = field::Empty,
        otel.status_code = field::Empty,
    );
    of_the_run(span)
}

/// Opens the span of the planning of a view. Record its `plan_hash` by [`set_plan_hash`].
#[must_use]
pub fn plan_span(view_name: &str) -> Span {
    let span = tracing::info_span!(
        target: TARGET_RUN,
        span::PLAN,
        { attribute::VIEW_NAME } = view_name,
        { attribute::RUN_ID } = field::Empty,
        { attribute::PLAN_HASH } = field::Empty,
        { attribute::RESULT } = field::Empty,
        { attribute::ERROR_TYPE } = field::Empty,
        otel.status_code = field::Empty,
    );
    of_the_run(span)
}

/// Records the identity of a computation on the span of its planning.
pub fn set_plan_hash(span: &Span, plan_hash: &alluvium_contracts::PlanFingerprint) {
    if !span.is_disabled() {
        span.record(attribute::PLAN_HASH, field::display(plan_hash));
    }
}

/// Says on a span of this module, or on a run's, how it ended, and the class of the error where it failed.
pub fn end_span(span: &Span, result: &str, error_type: Option<&str>) {
    span.record(attribute::RESULT, result);
    if let Some(kind) = error_type {
        span.record(attribute::ERROR_TYPE, vocabulary::error_type(kind));
        span.record("otel.status_code", "ERROR");
    }
}

fn of_the_run(span: Span) -> Span {
    // Text is made only where somebody reads it.
    if !span.is_disabled()
        && let Some(run) = RunContext::current()
    {
        span.record(attribute::RUN_ID, field::display(run.run_id()));
    }
    span
}

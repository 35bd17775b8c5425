//! The execution of plans, and the spans of their operators where a profile asks for them.
//!
//! Operators measure themselves, whoever listens. So nothing is wrapped: a plan with spans is the plan without, and what is
//! fingerprinted or stored cannot know of them. When the last of its streams is dropped the plan is walked once, and what each
//! operator measured becomes a span. Names and numbers leave the process; an operator's text, which holds values of the
//! query and names of files, is never asked for.

use std::sync::Arc;
use std::time::SystemTime;

use alluvium_telemetry::{Operator, QueryTrace};
use datafusion::common::Result;
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream, execute_stream_partitioned};
use futures::StreamExt as _;

use crate::session::Session;

impl Session {
    /// Starts a plan: one stream a partition. All of them have to be polled at once: the partitions of a join wait for each
    /// other.
    ///
    /// # Errors
    /// The engine's, where an operator does not start.
    pub fn execute_partitioned(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<SendableRecordBatchStream>> {
        let watched = self.watch(&plan);
        let streams = execute_stream_partitioned(plan, self.context().task_ctx())?;
        Ok(match watched {
            None => streams,
            Some(watched) => streams.into_iter().map(|stream| until_dropped(stream, &watched)).collect(),
        })
    }

    /// Starts a plan, with its partitions in one stream.
    ///
    /// # Errors
    /// As [`execute_partitioned`](Self::execute_partitioned).
    pub fn execute_merged(&self, plan: Arc<dyn ExecutionPlan>) -> Result<SendableRecordBatchStream> {
        let watched = self.watch(&plan);
        let stream = execute_stream(plan, self.context().task_ctx())?;
        Ok(match watched {
            None => stream,
            Some(watched) => until_dropped(stream, &watched),
        })
    }

    fn watch(&self, plan: &Arc<dyn ExecutionPlan>) -> Option<Arc<Watched>> {
        let trace = self.query_spans.then(QueryTrace::begin).flatten()?;
        Some(Arc::new(Watched { plan: Arc::clone(plan), trace }))
    }
}

/// A plan that is executed; dropped, it tells.
struct Watched {
    plan: Arc<dyn ExecutionPlan>,
    trace: QueryTrace,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.trace.end(&operator(self.plan.as_ref()));
    }
}

/// `stream`, which holds `watched` and lets go of it after its operators, when they have measured their ends.
fn until_dropped(stream: SendableRecordBatchStream, watched: &Arc<Watched>) -> SendableRecordBatchStream {
    let watched = Arc::clone(watched);
    let schema = stream.schema();
    let batches = stream.map(move |batch| {
        let _held = &watched;
        batch
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

fn operator(plan: &dyn ExecutionPlan) -> Operator {
    let inputs = plan.children().into_iter().map(|input| operator(input.as_ref())).collect();
    let measured = plan.metrics().unwrap_or_default();
    let time = |value: &MetricValue| match value {
        MetricValue::StartTimestamp(time) | MetricValue::EndTimestamp(time) => time.value().map(SystemTime::from),
        _ => None,
    };
    let times = |wanted: fn(&MetricValue) -> bool| {
        measured.iter().map(|metric| metric.value()).filter(move |value| wanted(value)).filter_map(time)
    };
    Operator {
        name: plan.name().to_owned(),
        began: times(|value| matches!(value, MetricValue::StartTimestamp(_))).min(),
        ended: times(|value| matches!(value, MetricValue::EndTimestamp(_))).max(),
        output_rows: measured.output_rows().map(|rows| rows as u64),
        compute_ns: measured.elapsed_compute().map(|time| time as u64),
        scanned_bytes: sum(&measured, "bytes_scanned"),
        spilled_bytes: measured.spilled_bytes().map(|bytes| bytes as u64),
        inputs,
    }
}

fn sum(measured: &MetricsSet, name: &str) -> Option<u64> {
    measured.sum_by_name(name).map(|value| value.as_usize() as u64)
}

#[cfg(test)]
mod tests;

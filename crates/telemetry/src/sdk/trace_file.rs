//! A trace of the process in Chrome's JSON format, which Perfetto reads: for those who have no collector.
//!
//! It is an exporter of spans like any other, so it shows the same spans with the same attributes, redacted by the same
//! rules. A `tracing` layer of its own, such as `tracing-chrome`, would show what the exporters hold back.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::SpanId;
use opentelemetry::trace::Status;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use serde_json::{Map, Value, json};

use super::SdkError;
use crate::diagnostics::is_pipe;

/// Most spans that are kept until the end; the file says how many were left out.
const MAX_SPANS: usize = 200_000;

/// How every file of ours begins.
const FIRST_KEY: &str = r#"{"displayTimeUnit""#;

/// Collects spans, and writes them at the end.
#[derive(Debug)]
pub(super) struct TraceFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Taken when it is written.
    file: Option<File>,
    spans: Vec<Span>,
    left_out: u64,
}

#[derive(Debug)]
struct Span {
    id: SpanId,
    parent: SpanId,
    name: String,
    start: Duration,
    end: Duration,
    args: Map<String, Value>,
}

impl TraceFile {
    /// Empties the file, so that one that cannot be written is told before the work.
    pub(super) fn create(path: PathBuf) -> Result<Self, SdkError> {
        match replaceable(&path).and_then(|()| File::create(&path)) {
            Ok(file) => {
                let state = State { file: Some(file), spans: Vec::new(), left_out: 0 };
                Ok(Self { path, state: Mutex::new(state) })
            }
            Err(source) => Err(SdkError::TraceFile { path, source }),
        }
    }

    fn add(&self, span: SpanData) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.spans.len() < MAX_SPANS {
            state.spans.push(Span::from(span));
        } else {
            state.left_out += 1;
        }
    }

    /// Writes the file, once.
    pub(super) fn finish(&self) -> Result<(), SdkError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = state.file.take() else { return Ok(()) };
        let document = document(std::mem::take(&mut state.spans), state.left_out);
        let mut writer = BufWriter::new(file);
        serde_json::to_writer(&mut writer, &document)
            .map_err(io::Error::from)
            .and_then(|()| writer.flush())
            .map_err(|source| SdkError::TraceFile { path: self.path.clone(), source })
    }
}

/// Fails where there is something else than a trace, or nothing at all: a pipeline file, or a pipe that nobody may read.
fn replaceable(path: &Path) -> io::Result<()> {
    if is_pipe(path) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe, and not a file"));
    }
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    if !file.metadata()?.is_file() {
        return Ok(());
    }
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(FIRST_KEY.len() as u64).read_to_end(&mut start)?;
    match start.is_empty() || start == FIRST_KEY.as_bytes() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no trace")),
    }
}

/// Hands spans to the file.
#[derive(Debug)]
pub(super) struct Exporter(pub(super) Arc<TraceFile>);

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        batch.into_iter().for_each(|span| self.0.add(span));
        Ok(())
    }
}

impl From<SpanData> for Span {
    fn from(span: SpanData) -> Self {
        let mut args: Map<String, Value> =
            span.attributes.iter().map(|attribute| (attribute.key.to_string(), json_of(&attribute.value))).collect();
        args.insert("trace_id".to_owned(), span.span_context.trace_id().to_string().into());
        args.insert("span_id".to_owned(), span.span_context.span_id().to_string().into());
        if let Status::Error { description } = &span.status {
            args.insert("status".to_owned(), format!("error {description}").trim_end().into());
        }
        let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            id: span.span_context.span_id(),
            parent: span.parent_span_id,
            name: span.name.into_owned(),
            start: since_epoch(span.start_time),
            end: since_epoch(span.end_time.max(span.start_time)),
            args,
        }
    }
}

fn json_of(value: &opentelemetry::Value) -> Value {
    match value {
        opentelemetry::Value::Bool(value) => (*value).into(),
        opentelemetry::Value::I64(value) => (*value).into(),
        opentelemetry::Value::F64(value) => (*value).into(),
        other => other.to_string().into(),
    }
}

fn document(mut spans: Vec<Span>, left_out: u64) -> Value {
    // A parent before its children: it starts no later, and ends no earlier where they start together.
    spans.sort_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    let origin = spans.first().map_or(Duration::ZERO, |span| span.start);
    let process = std::process::id();
    let mut events = vec![json!({
        "ph": "M", "name": "process_name", "pid": process, "tid": 0, "args": { "name": "alluvium" },
    })];
    for (lane, span) in lanes(&spans).into_iter().zip(spans) {
        events.push(json!({
            "ph": "X",
            "cat": span.name.split('.').next().unwrap_or_default(),
            "name": span.name,
            "pid": process,
            "tid": lane,
            "ts": micros(span.start.saturating_sub(origin)),
            "dur": micros(span.end.saturating_sub(span.start)),
            "args": span.args,
        }));
    }
    json!({
        "displayTimeUnit": "ms",
        "otherData": { "spans_left_out": left_out },
        "traceEvents": events,
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A lane for each of `spans`, which are sorted by start. The format nests what shares a lane by time, so a span goes
/// into its parent's lane where nothing else is open there by then, and else into the first that is free.
fn lanes(spans: &[Span]) -> Vec<usize> {
    let mut lane_of = std::collections::HashMap::new();
    // The open spans of each lane, outermost first.
    let mut open: Vec<Vec<(SpanId, Duration)>> = Vec::new();
    spans
        .iter()
        .map(|span| {
            for lane in &mut open {
                while lane.last().is_some_and(|(_, end)| *end <= span.start) {
                    lane.pop();
                }
            }
            let parents = lane_of.get(&span.parent).copied();
            let fits = |lane: &Vec<(SpanId, Duration)>| {
                lane.last().is_some_and(|(id, end)| *id == span.parent && *end >= span.end)
            };
            let lane = parents
                .filter(|lane| fits(&open[*lane]))
                .or_else(|| open.iter().position(Vec::is_empty))
                .unwrap_or_else(|| {
                    open.push(Vec::new());
                    open.len() - 1
                });
            open[lane].push((span.id, span.end));
            lane_of.insert(span.id, lane);
            lane
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u64, parent: u64, start: u64, end: u64) -> Span {
        Span {
            id: SpanId::from(id),
            parent: SpanId::from(parent),
            name: format!("cache.{id}"),
            start: Duration::from_micros(start),
            end: Duration::from_micros(end),
            args: Map::new(),
        }
    }

    #[test]
    fn what_overlaps_gets_a_lane_of_its_own_and_what_nests_does_not() {
        let spans =
            [span(1, 0, 0, 100), span(2, 1, 10, 50), span(3, 2, 12, 20), span(4, 1, 20, 60), span(5, 1, 70, 80)];
        assert_eq!(lanes(&spans), [0, 0, 0, 1, 0]);
        // A child that outlives its parent cannot nest in it.
        assert_eq!(lanes(&[span(1, 0, 0, 10), span(2, 1, 5, 20)]), [0, 1]);
    }

    #[test]
    fn times_are_microseconds_since_the_first_span() {
        let document = document(vec![span(2, 1, 1_500, 1_750), span(1, 0, 1_000, 2_000)], 7);
        let events = document["traceEvents"].as_array().unwrap();
        assert_eq!(events[1]["name"], "cache.1");
        assert_eq!((&events[2]["ts"], &events[2]["dur"]), (&json!(500.0), &json!(250.0)));
        assert_eq!(document["otherData"]["spans_left_out"], 7);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_an_error_that_names_it() {
        let error = TraceFile::create(PathBuf::from("/nowhere/at/all.json")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all.json"), "{error}");
    }

    #[test]
    fn only_a_trace_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.json");
        for _ in 0..2 {
            TraceFile::create(path.clone()).unwrap().finish().unwrap();
            let written = std::fs::read_to_string(&path).unwrap();
            assert!(written.starts_with(FIRST_KEY), "{written}");
        }
        let other = dir.path().join("alluvium.toml");
        std::fs::write(&other, "[profile]\n").unwrap();
        assert!(matches!(TraceFile::create(other.clone()), Err(SdkError::TraceFile { .. })));
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "[profile]\n", "it is as it was");
        TraceFile::create(PathBuf::from("/dev/null")).unwrap();
    }
}

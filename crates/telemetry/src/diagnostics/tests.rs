//! Diagnostics with sinks that keep, write and break.

use alluvium_contracts::{Envelope, Form, KvStats, UnknownFields};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::RunSpan;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Note {
    text: String,
    items: Vec<u64>,
}

impl Contract for Note {
    const KIND: &'static str = "note";
    const VERSION: u32 = 3;
    const DOC: &'static str = "a payload of this test";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        note("hello")
    }
}

fn note(text: &str) -> Note {
    Note { text: text.to_owned(), items: vec![1, 2, 3] }
}

fn to_memory(limits: DiagnosticsLimits) -> (Diagnostics, Arc<MemorySink>) {
    let memory = Arc::new(MemorySink::default());
    let diagnostics =
        Diagnostics::new(Seam::system(), Redactor::default()).with_limits(limits).with_sink(memory.clone());
    (diagnostics, memory)
}

#[test]
fn an_event_knows_its_contract_run_and_trace() {
    let (diagnostics, memory) = to_memory(DiagnosticsLimits::default());
    let seam = Seam::system();
    let run = RunSpan::begin(&seam, seam.run_id(), None);
    {
        let _inside = run.enter();
        diagnostics.artifact(&note("hello"), None);
    }
    diagnostics.artifact(&note("outside"), None);
    let events = memory.events();
    assert_eq!((events[0].name.as_str(), events[0].version), ("note", 3));
    assert_eq!(events[0].event_kind, DiagnosticsEventKind::Artifact);
    assert_eq!(events[0].run_id, Some(run.context().run_id()));
    assert_eq!(events[0].trace_id, Some(run.context().trace().trace_id().to_string()));
    assert_eq!(events[0].span_id, Some(run.context().trace().span_id().to_string()));
    assert_eq!((events[1].run_id, &events[1].trace_id), (None, &None));
}

#[test]
fn an_event_is_redacted_before_any_sink_sees_it() {
    let (diagnostics, memory) = to_memory(DiagnosticsLimits::default());
    diagnostics.artifact(&note("password=hunter2 in /home/ada/x"), None);
    let payload = format!("{:?}", memory.events()[0].payload);
    assert!(!payload.contains("hunter2") && !payload.contains("ada"), "{payload}");
}

#[test]
fn what_is_too_large_is_cut_and_says_so() {
    let limits = DiagnosticsLimits { max_string_bytes: 5, max_items: 2, max_payload_bytes: 200, max_events: 3 };
    let (diagnostics, memory) = to_memory(limits);
    diagnostics.artifact(&note("aaaaéa"), None);
    diagnostics.artifact(&Note { text: String::new(), items: vec![u64::MAX; 2] }, None);
    diagnostics.artifact(&note("third"), None);
    diagnostics.artifact(&note("fourth"), None);
    let events = memory.events();
    assert_eq!(json!(events[0].payload), json!({"text": "aaaa… [3 bytes more]", "items": [1, 2, "… [1 items more]"]}));
    assert_eq!(events.len(), 3);
    assert_eq!(diagnostics.dropped(), 1);

    let (diagnostics, memory) = to_memory(DiagnosticsLimits { max_payload_bytes: 10, ..Default::default() });
    diagnostics.artifact(&note("x"), None);
    assert_eq!(json!(memory.events()[0].payload), json!({"truncated": true, "bytes": 28, "fields": ["items", "text"]}));
}

#[test]
fn a_sink_that_panics_is_survived_and_the_others_get_the_event() {
    #[derive(Debug)]
    struct Panics;
    impl DiagnosticsSink for Panics {
        fn emit(&self, _: &DiagnosticsEvent) {
            panic!("a sink of somebody else's");
        }
    }
    let memory = Arc::new(MemorySink::with_capacity(1));
    let diagnostics =
        Diagnostics::new(Seam::system(), Redactor::default()).with_sink(Arc::new(Panics)).with_sink(memory.clone());
    diagnostics.artifact(&note("first"), None);
    diagnostics.artifact(&note("second"), None);
    assert_eq!(memory.events().len(), 1, "the capacity");
    assert_eq!(memory.events()[0].payload["text"], "second");
    assert_eq!(diagnostics.dropped(), 2);
}

#[test]
fn a_file_gets_one_line_an_event_and_a_full_disk_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let sink = Arc::new(JsonLinesSink::open(&path).unwrap());
    let diagnostics = Diagnostics::new(Seam::system(), Redactor::default()).with_sink(sink.clone());
    diagnostics.artifact(&note("two\nlines"), None);
    diagnostics.artifact(&KvStats::example(), None);
    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<DiagnosticsEvent> =
        text.lines().map(|line| Envelope::<DiagnosticsEvent>::from_json(line.as_bytes()).unwrap().payload).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].payload["text"], "two\nlines");
    let stats: KvStats = serde_json::from_value(json!(events[1].payload)).unwrap();
    assert_eq!(stats.kind, KvStats::example().kind);

    if std::path::Path::new("/dev/full").exists() {
        let full = JsonLinesSink::open(std::path::Path::new("/dev/full")).unwrap();
        full.emit(&event());
        assert_eq!(full.lost(), 1);
    }
}

fn event() -> DiagnosticsEvent {
    let (diagnostics, memory) = to_memory(DiagnosticsLimits::default());
    diagnostics.artifact(&note("x"), None);
    memory.events().remove(0)
}

#[test]
fn what_happened_is_an_event_with_its_severity_and_its_contracts_version() {
    let (diagnostics, memory) = to_memory(DiagnosticsLimits::default());
    diagnostics.event(&note("x"), Severity::Warn);
    let event = memory.events().remove(0);
    assert_eq!((event.name.as_str(), event.event_kind), ("note", DiagnosticsEventKind::Event));
    assert_eq!((event.severity, event.version), (Severity::Warn, 3));
}

#[test]
fn every_kind_of_the_vocabulary_has_a_contract() {
    for word in crate::vocabulary::DIAGNOSTICS {
        assert!(alluvium_contracts::contract(word.name).is_some(), "{}", word.name);
    }
}

#[test]
fn without_a_sink_nothing_is_encoded() {
    let diagnostics = Diagnostics::new(Seam::system(), Redactor::default());
    diagnostics.artifact(&note("x"), None);
    assert!(!diagnostics.is_enabled());
    assert_eq!(diagnostics.dropped(), 0);
}

/// Messages of `tracing`, as a process would print them.
#[derive(Debug, Clone, Default)]
struct Printed(Arc<std::sync::Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Printed {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut text = event.metadata().level().to_string();
        event.record(&mut |_: &tracing::field::Field, value: &dyn fmt::Debug| text += &format!(" {value:?}"));
        self.0.lock().unwrap().push(text);
    }
}

#[test]
fn what_was_lost_is_told_once_at_the_end() {
    use tracing_subscriber::layer::SubscriberExt;

    let printed = Printed::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(printed.clone()), || {
        let limits = DiagnosticsLimits { max_events: 2, ..DiagnosticsLimits::default() };
        let (diagnostics, _) = to_memory(limits);
        let mut sinks = 0;
        let diagnostics = match JsonLinesSink::open(std::path::Path::new("/dev/full")) {
            Ok(full) => {
                sinks += 1;
                diagnostics.with_sink(Arc::new(full))
            }
            Err(_) => diagnostics,
        };
        for _ in 0..4 {
            diagnostics.clone().artifact(&note("x"), None);
        }
        assert_eq!(*printed.0.lock().unwrap(), Vec::<String>::new(), "not before the end");
        drop(diagnostics);
        let told = printed.0.lock().unwrap().clone();
        assert_eq!(told.len(), 1 + sinks, "{told:?}");
        assert!(told.iter().all(|text| text.starts_with("WARN") && text.contains("2 events")), "{told:?}");
    });
    let (diagnostics, _) = to_memory(DiagnosticsLimits::default());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(printed.clone()), || drop(diagnostics));
    assert!(printed.0.lock().unwrap().len() < 3, "nothing was lost, and nothing is told");
}

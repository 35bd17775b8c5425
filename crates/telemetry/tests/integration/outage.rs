//! A collector that is dead, hangs or refuses costs the end of a run next to nothing.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_telemetry::Seam;
use alluvium_telemetry::sdk::{DEFAULT_FLUSH_TIMEOUT, Flushed, SdkBuilder, Settings};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

use crate::support::{a_run, seam};

/// Time for what is not waiting: building clients, stopping threads, and a machine that does something else.
const SLACK: Duration = Duration::from_millis(900);

/// A run against `endpoint`: how its end went, and how long it took.
fn against(endpoint: &str) -> (Flushed, Duration) {
    let clock = Seam::system();
    let settings = Settings::from_environment(Some(endpoint)).unwrap();
    let sdk = SdkBuilder::new(clock.clone(), "0").with_otlp(&settings).unwrap().build();
    let metrics = sdk.cache_metrics().unwrap();
    tracing::subscriber::with_default(registry().with(sdk.layer()), || {
        for _ in 0..2_000 {
            drop(a_run(&seam(), &metrics));
        }
    });
    let watch = clock.stopwatch();
    let flushed = sdk.shutdown();
    (flushed, watch.elapsed())
}

/// A collector that answers each connection by `answer`; the count is of connections.
fn collector(answer: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        // Kept open: a closed connection would be an answer.
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            answer(&mut stream);
            held.push(stream);
        }
    });
    (url, connections)
}

#[test]
fn a_dead_collector_is_not_waited_for() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let (flushed, took) = against(&format!("http://127.0.0.1:{port}"));
    assert!(took < DEFAULT_FLUSH_TIMEOUT + SLACK, "{took:?}");
    assert!(!flushed.complete, "{flushed:?}");
    assert_eq!(flushed.delivery.delivered, 0);
}

#[test]
fn a_hung_collector_is_left_behind() {
    let (url, connections) = collector(|_| ());
    let (flushed, took) = against(&url);
    assert!(connections.load(Ordering::SeqCst) > 0, "it was tried");
    assert!(took < DEFAULT_FLUSH_TIMEOUT + SLACK, "{took:?}");
    assert!(!flushed.complete, "{flushed:?}");
}

/// It answers after five seconds, and well: nobody is there any more to hear it.
#[test]
fn a_slow_collector_is_left_behind() {
    let (url, connections) = collector(|stream| {
        let mut request = [0; 1 << 16];
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        // The client sends nothing more, so that the last read lasts as long as the timeout.
        while stream.read(&mut request).is_ok_and(|read| read > 0) {}
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
    let (flushed, took) = against(&url);
    assert!(connections.load(Ordering::SeqCst) > 0, "it was tried");
    assert!(took < DEFAULT_FLUSH_TIMEOUT + SLACK, "{took:?}");
    assert!(!flushed.complete && flushed.delivery.delivered == 0, "{flushed:?}");
}

#[test]
fn a_refusing_collector_is_counted() {
    let (url, _) = collector(|stream| {
        let mut request = [0; 1 << 16];
        let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
        while stream.read(&mut request).is_ok_and(|read| read == request.len()) {}
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    });
    let (flushed, took) = against(&url);
    assert!(took < DEFAULT_FLUSH_TIMEOUT + SLACK, "{took:?}");
    assert_eq!(flushed.delivery.delivered, 0, "{flushed:?}");
}

/// What it says of each batch: it rejects 3 of what is in it.
const REJECTS_THREE: &[u8] = b"\x0a\x08\x08\x03\x12\x04full";

/// In a process of its own: the threads of the exporters have no other subscriber than the process's.
#[test]
fn what_is_rejected_of_a_batch_that_is_taken_is_counted() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", "outage::rejected", "--ignored", "--nocapture"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "a process that `what_is_rejected_of_a_batch_that_is_taken_is_counted` starts"]
fn rejected() {
    let (url, _) = collector(|stream| {
        let mut request = [0; 1 << 16];
        let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
        while stream.read(&mut request).is_ok_and(|read| read > 0) {}
        let header = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\nconnection: close\r\ncontent-length";
        let _ = write!(stream, "{header}: {}\r\n\r\n", REJECTS_THREE.len());
        let _ = stream.write_all(REJECTS_THREE);
    });
    let settings = Settings::from_environment(Some(&url)).unwrap();
    let sdk = SdkBuilder::new(Seam::system(), "0").with_flush_timeout(Duration::from_secs(20));
    let sdk = sdk.with_otlp(&settings).unwrap().build();
    tracing::subscriber::set_global_default(registry().with(sdk.layer())).unwrap();
    drop(a_run(&seam(), &sdk.cache_metrics().unwrap()));
    let flushed = sdk.shutdown();
    assert!(flushed.complete, "{flushed:?}");
    let delivery = flushed.delivery;
    assert!(delivery.delivered >= 2, "spans and metrics: {delivery:?}");
    assert_eq!((delivery.rejected, delivery.failed, delivery.dropped), (3 * delivery.delivered, 0, 0), "{delivery:?}");
    assert_eq!(delivery.last_error.as_deref(), Some("the collector rejected 3 of a batch: full"));
}

/// Takes nothing before it is told to.
#[derive(Debug)]
struct Held {
    go: Mutex<Receiver<()>>,
    taken: Arc<AtomicUsize>,
}

impl SpanExporter for Held {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        // Once there is nobody to wait for, it takes everything.
        let _ = self.go.lock().unwrap().recv();
        self.taken.fetch_add(batch.len(), Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn what_a_full_queue_drops_is_counted() {
    let (sender, go) = channel();
    let taken = Arc::new(AtomicUsize::new(0));
    let exporter = Held { go: Mutex::new(go), taken: Arc::clone(&taken) };
    let sdk = SdkBuilder::new(Seam::system(), "0").with_flush_timeout(Duration::from_secs(20));
    let sdk = sdk.with_span_exporter(exporter).build();
    const SPANS: usize = 10_000;
    tracing::subscriber::with_default(registry().with(sdk.layer()), || {
        for _ in 0..SPANS {
            drop(tracing::info_span!(target: "alluvium", "plan"));
        }
    });
    drop(sender);
    let flushed = sdk.shutdown();
    assert!(flushed.complete, "{flushed:?}");
    // 2048 wait, and 512 at most are with the exporter.
    let dropped = flushed.delivery.dropped;
    assert!(dropped >= (SPANS - 2048 - 512) as u64, "{flushed:?}");
    assert_eq!(dropped, (SPANS - taken.load(Ordering::SeqCst)) as u64);
}

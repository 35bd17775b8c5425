//! The end of the providers, within a time.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;

use super::SdkError;
use super::health::Delivery;
use crate::Seam;

/// How the end went.
#[derive(Debug)]
#[non_exhaustive]
pub struct Flushed {
    /// Every provider ended within the time, and without an error. Where it is false, signals were lost; ledgers were not.
    pub complete: bool,
    /// What became of the batches so far.
    pub delivery: Delivery,
    /// Why the trace file could not be written.
    pub trace_file: Option<SdkError>,
}

pub(super) type Shutdown = Box<dyn FnOnce(Duration) -> OTelSdkResult + Send>;

/// Ends all of `providers` at once, each on a thread, and waits for them until `timeout` is over. Some of the SDK's
/// timeouts are fixed at seconds, so the threads are left behind then; they end with the process.
pub(super) fn all(seam: &Seam, providers: Vec<Shutdown>, timeout: Duration) -> bool {
    let watch = seam.stopwatch();
    let (sender, results) = mpsc::channel();
    let mut waiting = 0;
    let mut complete = true;
    for shutdown in providers {
        let sender = sender.clone();
        let spawned = thread::Builder::new().name("telemetry-flush".to_owned()).spawn(move || {
            // Nobody may be left to hear it.
            let _ = sender.send(shutdown(timeout));
        });
        match spawned {
            Ok(_) => waiting += 1,
            Err(_) => complete = false,
        }
    }
    for _ in 0..waiting {
        match results.recv_timeout(timeout.saturating_sub(watch.elapsed())) {
            Ok(result) => complete &= result.is_ok(),
            Err(_) => return false,
        }
    }
    complete
}

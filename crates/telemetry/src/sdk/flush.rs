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

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;
    use crate::sdk::{DEFAULT_FLUSH_TIMEOUT, SdkBuilder};

    #[test]
    fn the_end_waits_80_ms_unless_told_otherwise() {
        assert_eq!(
            DEFAULT_FLUSH_TIMEOUT,
            Duration::from_millis(80),
            "the 100 ms that are promised, but for setting up"
        );
        let builder = || SdkBuilder::new(Seam::system(), "0");
        assert_eq!(builder().build().flush_timeout, DEFAULT_FLUSH_TIMEOUT);
        #[cfg(any(feature = "otlp-http", feature = "otlp-grpc"))]
        {
            let mut settings = crate::sdk::Settings::default();
            assert_eq!(builder().with_otlp(&settings).unwrap().build().flush_timeout, DEFAULT_FLUSH_TIMEOUT);
            settings.flush_timeout = Some(Duration::from_secs(2));
            assert_eq!(builder().with_otlp(&settings).unwrap().build().flush_timeout, Duration::from_secs(2));
        }
    }

    /// Three that never end are given the time that one is given, and are left behind.
    #[test]
    fn all_providers_share_one_budget() {
        let (given, budgets) = mpsc::channel();
        let (_never, ends) = mpsc::channel::<()>();
        let ends = std::sync::Arc::new(std::sync::Mutex::new(ends));
        let hangs = || {
            let (given, ends) = (given.clone(), std::sync::Arc::clone(&ends));
            Box::new(move |timeout| {
                given.send(timeout).unwrap();
                let _ = ends.lock().unwrap().recv();
                Ok(())
            }) as Shutdown
        };
        let budget = Duration::from_millis(40);
        assert!(!all(&Seam::system(), vec![hangs(), hangs(), hangs()], budget));
        drop(given);
        assert_eq!(budgets.try_iter().collect::<Vec<_>>(), [budget; 3]);
    }

    #[test]
    fn an_end_with_an_error_is_not_complete() {
        let failed: Shutdown = Box::new(|_| Err(OTelSdkError::AlreadyShutdown));
        let hour = Duration::from_secs(3600);
        assert!(!all(&Seam::system(), vec![Box::new(|_| Ok(())), failed], hour));
        assert!(all(&Seam::system(), vec![Box::new(|_| Ok(()))], hour));
    }
}

//! Work that goes on where the caller's runtime does not: on a thread with a runtime of its own.
//!
//! A query that does not yield, such as a join of everything with everything, holds a worker of the runtime until its next batch, and
//! nobody can take it back. Once all workers are held no task runs any more, and no timer fires. A run that was asked to stop ends all the
//! same: what it has left to do it does here, and what it waits for it waits for here.

use std::future::Future;
use std::io;
use std::time::Duration;

use alluvium_telemetry::carry;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// How long a run that was asked to stop waits for what it cannot drop: a commit that has begun, and hooks.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Does `work` as part of the caller's run, on a runtime of its own.
///
/// # Errors
/// The system's, where there is no thread to be had; also where `work` panicked.
pub(crate) async fn aside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
    // The engine blocks a worker while it reads a log, and asks for another one meanwhile.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (done, answer) = oneshot::channel();
    let work = carry(work);
    std::thread::Builder::new().name("aside".to_owned()).spawn(move || {
        // Nobody waits for it any more where the receiver is gone.
        let _ = done.send(runtime.block_on(work));
    })?;
    answer.await.map_err(io::Error::other)
}

/// What `work` came to, unless it takes longer than a run that was asked to stop has patience: then it is dropped.
pub(crate) async fn within_patience<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        // Made there: a timer is of the runtime in which it is made. Without a thread to count on there is nothing to wait by.
        _ = aside(async { tokio::time::sleep(PATIENCE).await }) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use alluvium_telemetry::{RunContext, RunSpan, Seam};

    use super::*;

    /// Holds every worker of a runtime until it is dropped.
    struct Held(Arc<AtomicBool>);

    impl Held {
        fn of(runtime: &tokio::runtime::Runtime, workers: usize) -> Self {
            let free = Arc::new(AtomicBool::new(false));
            for _ in 0..workers {
                let (free, (held, is_held)) = (Arc::clone(&free), std::sync::mpsc::channel());
                runtime.spawn(async move {
                    held.send(()).unwrap();
                    while !free.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                });
                is_held.recv().unwrap();
            }
            Self(free)
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn work_goes_on_and_time_passes_though_every_worker_is_held() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let _held = Held::of(&runtime, 2);
        let seam = Seam::system();
        let run = RunSpan::begin(&seam, seam.run_id(), None);
        let spawned = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::spawn(carry(async { RunContext::current() })).await.unwrap()
        };
        let found = runtime.block_on(run.scope(async { aside(spawned).await.unwrap() }));
        assert_eq!(found.as_ref(), Some(run.context()), "it is still the run's");
        // On the runtime itself this never ends.
        let left = runtime.block_on(within_patience(std::future::pending::<()>()));
        assert_eq!(left, None);
        assert_eq!(runtime.block_on(within_patience(async { 7 })), Some(7));
    }
}

//! The engine's own tasks as part of the run that asked for them.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Once;

use alluvium_telemetry::{carry, carry_fn};
use datafusion::common::runtime::{JoinSetTracer, set_join_set_tracer};

type Answer = Box<dyn Any + Send>;

struct Carrying;

impl JoinSetTracer for Carrying {
    fn trace_future(
        &self,
        task: Pin<Box<dyn Future<Output = Answer> + Send>>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        Box::pin(carry(task))
    }

    fn trace_block(&self, work: Box<dyn FnOnce() -> Answer + Send>) -> Box<dyn FnOnce() -> Answer + Send> {
        Box::new(carry_fn(work))
    }
}

/// Hands run, trace and span on to every task that the engine spawns in this process. The engine has one place for this: a
/// program that filled it before its first session keeps what it put there, and carries itself.
pub(crate) fn carry_runs() {
    static FIRST: Once = Once::new();
    FIRST.call_once(|| {
        if set_join_set_tracer(&Carrying).is_err() {
            tracing::debug!(target: "alluvium.profile", "the engine's tasks are traced by somebody else");
        }
    });
}

#[cfg(test)]
mod tests {
    use alluvium_telemetry::{RunContext, RunSpan, Seam};
    use datafusion::common::runtime::SpawnedTask;

    use crate::{RuntimeProfile, SessionFactory};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_engines_tasks_belong_to_the_run() {
        let profile = RuntimeProfile::builder().build().unwrap();
        SessionFactory::new(profile).build().unwrap();
        let seam = Seam::system();
        let run = RunSpan::begin(&seam, seam.run_id(), None);
        let work = async {
            let task = SpawnedTask::spawn(async { RunContext::current() }).join().await.unwrap();
            let blocking = SpawnedTask::spawn_blocking(RunContext::current).join().await.unwrap();
            [task, blocking]
        };
        assert_eq!(run.scope(work).await, [(); 2].map(|()| Some(run.context().clone())));
    }
}

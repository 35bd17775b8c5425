//! Panics of worker threads: caught there, and told as an error by whoever waits for the work.

use std::panic;

use crate::exit::Exit;
use crate::failure::Failure;

/// The name of the threads that queries run on.
pub const WORKER: &str = "alluvium-worker";

/// The main thread's usual 8 MiB and some more: plans are walked by recursion.
const STACK_BYTES: usize = 32 << 20;

/// Does all the work on a worker of its own, so that what the engine's code panics over there is told like anywhere else. A
/// panic that nobody catches is a failure that asks to be reported.
///
/// # Errors
/// That panic, and a machine without room for a thread.
pub fn contained(work: impl FnOnce() -> Exit + Send) -> Result<Exit, Failure> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name(WORKER.to_owned()).stack_size(STACK_BYTES);
        let worker = worker
            .spawn_scoped(scope, work)
            .map_err(|error| Failure::failed("no thread can be started: free some memory".to_owned()).because(error))?;
        worker.join().map_err(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason was given");
            Failure::failed(format!("alluvium met a defect of its own and stopped: {said}"))
                .with_hint("please report it, with what `ALLUVIUM_LOG=debug` prints before it")
        })
    })
}

/// Sends what a worker's panic prints to the log: the engine panics where it means an error (a footer that is no footer, a
/// disk that is full), and catches some of that itself. Any other thread's panic is printed as ever.
pub fn tell_as_errors() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| match std::thread::current().name() {
        Some(WORKER) => tracing::debug!(target: "alluvium.panic", "{info}"),
        _ => print(info),
    }));
}

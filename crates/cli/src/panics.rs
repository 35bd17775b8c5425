//! Panics of worker threads: caught there, and told as an error by whoever waits for the work.

use std::panic;

/// The name of the threads that queries run on.
pub const WORKER: &str = "alluvium-worker";

/// Sends what a worker's panic prints to the log: the engine panics where it means an error (a footer that is no footer, a
/// disk that is full), and catches some of that itself. Any other thread's panic is printed as ever.
pub fn tell_as_errors() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| match std::thread::current().name() {
        Some(WORKER) => tracing::debug!(target: "alluvium.panic", "{info}"),
        _ => print(info),
    }));
}

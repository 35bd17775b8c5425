//! The time that things take, for people to read.

use std::time::{Duration, Instant};

/// Runs from its start.
pub struct Stopwatch(Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "a developer tool reports how long things took; nothing is computed from it"
)]
impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

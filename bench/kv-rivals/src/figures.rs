//! Times, and what is said of them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Times of one kind of operation, in nanoseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Times {
    pub nanos: Vec<u64>,
    /// Reads that found nothing, writes that did not happen.
    pub misses: u64,
}

/// What is reported, in microseconds.
#[derive(Debug, Serialize)]
pub struct Summary {
    pub count: usize,
    pub misses: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    /// The sum, in seconds.
    pub total_seconds: f64,
}

impl Times {
    /// Times `operation`.
    pub fn time<T>(&mut self, operation: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let start = Instant::now();
        let answer = operation()?;
        let took = start.elapsed();
        self.nanos.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        Ok(answer)
    }

    pub fn merge(&mut self, other: Times) {
        self.nanos.extend(other.nanos);
        self.misses += other.misses;
    }

    pub fn summary(&self) -> Summary {
        let mut sorted = self.nanos.clone();
        sorted.sort_unstable();
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |part: f64| match sorted.len() {
            0 => f64::NAN,
            len => micros(sorted[((len as f64 * part) as usize).min(len - 1)]),
        };
        Summary {
            count: sorted.len(),
            misses: self.misses,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
            total_seconds: Duration::from_nanos(sorted.iter().sum()).as_secs_f64(),
        }
    }
}

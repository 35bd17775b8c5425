//! The one seam to the wall clock, the monotonic clock and randomness.
//!
//! Everything else in the workspace is refused these by clippy, so that a test can hold time still and a reader can
//! trust that no identity depends on them.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alluvium_contracts::{CommitId, EntryId, RootId, RunId, StoreId};
use opentelemetry::SpanId;
use uuid::Uuid;

/// Reads time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Time since 1970-01-01 UTC; zero when the machine's clock stands before it.
    fn since_epoch(&self) -> Duration;
    /// Time since a fixed moment in this process; never goes back.
    fn monotonic(&self) -> Duration;
}

/// Draws identifiers.
pub trait Ids: fmt::Debug + Send + Sync {
    /// A UUID that sorts by the time at which it was drawn (version 7).
    fn ordered(&self) -> Uuid;
    /// A random UUID (version 4).
    fn random(&self) -> Uuid;
}

/// A clock and a source of ids, handed down from whoever assembles the session. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Seam {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Seam {
    /// The machine's clock and randomness.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Arc::new(System), Arc::new(System))
    }

    /// A clock and ids of the caller's: what tests use.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { clock, ids }
    }

    /// The same with another clock: what tests use that only move the time.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_ms(&self) -> i64 {
        i64::try_from(self.clock.since_epoch().as_millis()).unwrap_or(i64::MAX)
    }

    /// Nanoseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn unix_ns(&self) -> i128 {
        i128::try_from(self.clock.since_epoch().as_nanos()).unwrap_or(i128::MAX)
    }

    /// Starts measuring.
    #[must_use]
    pub fn stopwatch(&self) -> Stopwatch {
        Stopwatch { clock: Arc::clone(&self.clock), started: self.clock.monotonic() }
    }

    /// A new run id.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        RunId::from_uuid(self.ids.ordered())
    }

    /// A new entry id.
    #[must_use]
    pub fn entry_id(&self) -> EntryId {
        EntryId::from_uuid(self.ids.random())
    }

    /// A new root id.
    #[must_use]
    pub fn root_id(&self) -> RootId {
        RootId::from_uuid(self.ids.random())
    }

    /// A new store id.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        StoreId::from_uuid(self.ids.random())
    }

    /// A new commit id.
    #[must_use]
    pub fn commit_id(&self) -> CommitId {
        CommitId::from_uuid(self.ids.random())
    }

    /// A random span id, for a run that nobody records.
    pub(crate) fn span_id(&self) -> SpanId {
        let (high, low) = self.ids.random().as_u64_pair();
        // A UUID's fixed bits lie at other places in its halves; zero would name no span.
        SpanId::from((high ^ low).max(1))
    }

    /// A random UUID that names this process to whoever reads its signals.
    #[cfg(feature = "sdk")]
    pub(crate) fn instance_id(&self) -> Uuid {
        self.ids.random()
    }
}

/// Measures elapsed time by a [`Clock`].
#[derive(Debug, Clone)]
pub struct Stopwatch {
    clock: Arc<dyn Clock>,
    started: Duration,
}

impl Stopwatch {
    /// Time since it was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.started)
    }

    /// Milliseconds since it was started.
    #[must_use]
    pub fn elapsed_ms(&self) -> f64 {
        self.elapsed().as_secs_f64() * 1e3
    }
}

#[derive(Debug)]
struct System;

#[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

#[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
impl Clock for System {
    fn since_epoch(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn monotonic(&self) -> Duration {
        let start = *PROCESS_START;
        Instant::now().saturating_duration_since(start)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
impl Ids for System {
    fn ordered(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn random(&self) -> Uuid {
        Uuid::new_v4()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Frozen;

    impl Clock for Frozen {
        fn since_epoch(&self) -> Duration {
            Duration::from_millis(1_500)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(7)
        }
    }

    #[test]
    fn time_comes_from_the_clock_that_was_given() {
        let seam = Seam::new(Arc::new(Frozen), Arc::new(System));
        assert_eq!(seam.unix_ms(), 1_500);
        assert_eq!(seam.stopwatch().elapsed(), Duration::ZERO);
    }
}

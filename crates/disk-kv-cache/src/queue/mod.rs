//! [`WorkQueue`]: jobs handed to workers at least once.

mod handle;
mod state;
mod txn;

use std::num::NonZeroU32;
use std::time::Duration;

use crate::Settings;

pub use handle::WorkQueue;
pub use txn::QueueTxn;

/// Options of [`WorkQueue::open`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    store: Settings,
    max_attempts: NonZeroU32,
}

impl QueueSettings {
    /// A store with [`Settings::new`], which syncs each commit, and 5 attempts.
    pub fn new() -> QueueSettings {
        QueueSettings { store: Settings::new(), max_attempts: NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN) }
    }

    /// How the store underneath is opened.
    #[must_use]
    pub fn with_store(mut self, store: Settings) -> QueueSettings {
        self.store = store;
        self
    }

    /// How often a job is leased before it becomes a dead letter. Default: 5. Each process uses its own.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: NonZeroU32) -> QueueSettings {
        self.max_attempts = attempts;
        self
    }
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings::new()
    }
}

/// A job, by the order in which it was put: later jobs have larger ids. Ids are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A job that is this worker's until the lease ends. Give it back with [`WorkQueue::ack`] or [`WorkQueue::nack`].
///
/// Dropping it does nothing: the job is handed out again when the lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job<V> {
    /// Which job.
    pub id: JobId,
    /// What was put.
    pub value: V,
    /// How often it was leased, this time included.
    pub attempt: u32,
    /// Larger than that of every earlier lease in this queue: it fences off workers whose lease has ended.
    pub token: u64,
    /// When it was put, in milliseconds since 1970.
    pub put_at_unix_ms: u64,
    /// When the lease ends, in milliseconds since 1970. [`WorkQueue::extend`] moves it on.
    pub leased_until_unix_ms: u64,
}

/// A job that failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<V> {
    /// Which job.
    pub id: JobId,
    /// What was put.
    pub value: V,
    /// How often it was leased.
    pub attempts: u32,
    /// When it was put, in milliseconds since 1970.
    pub put_at_unix_ms: u64,
    /// What [`WorkQueue::nack`] said the last time, or `None` if the last lease ended without a word.
    pub reason: Option<String>,
}

/// Whether a lease still held when it was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "a lease that was lost means that another worker has the job, or will get it"]
pub enum Held {
    /// It did, and what was asked for is done.
    Yes,
    /// The job was handed to another worker, finished or removed since. Nothing was changed.
    No,
}

/// When a job that was given back is handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// At once, before jobs that were put later.
    Now,
    /// After a time.
    After(Duration),
    /// Never: it becomes a dead letter, whatever attempts it has left.
    Never,
}

/// How many jobs are where. All counts are of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// Jobs that the next [`WorkQueue::lease`] calls can hand out, among them those whose lease or delay has ended.
    pub ready: u64,
    /// Jobs that workers hold.
    pub leased: u64,
    /// Jobs that wait for their time.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// Jobs ever put.
    pub put: u64,
    /// Jobs ever finished with [`WorkQueue::ack`].
    pub acked: u64,
}

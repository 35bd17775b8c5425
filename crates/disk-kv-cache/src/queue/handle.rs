//! [`WorkQueue`]: the handle, one transaction a call.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of a type with lifetimes of its own is not general enough for `transact`"
)]

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::state::{self, DEAD, DELAYED, LEASED, READY};
use super::txn::QueueTxn;
use super::{DeadLetter, Held, Job, JobId, QueueSettings, QueueStats, Retry};
use crate::{Clock, CollectionError, OpenError, ReadTxn, Store, StoreError, SystemClock, Value};

/// The longest that [`WorkQueue::lease_wait`] sleeps before it looks again: how late it may notice a job of another process.
const NAP: Duration = Duration::from_millis(20);

/// A queue of jobs in a directory of its own, for workers in any number of threads and processes. It never evicts.
///
/// Each job is handed out **at least once**: [`lease`](WorkQueue::lease) makes it one worker's for a time, and
/// [`ack`](WorkQueue::ack) finishes it. If the worker dies, or the time ends first, the job is handed out again, so
/// doing a job twice must do no harm. What is acknowledged is never handed out again. A job that was leased
/// `max_attempts` times without an acknowledgement becomes a dead letter.
///
/// Jobs are handed out in the order in which they were put; one that comes back keeps its place. Times are by the wall
/// clock: if it is set back, leases and delays last longer by as much.
///
/// ```
/// use std::time::Duration;
/// use alluvium_disk_kv_cache::{Held, QueueSettings, Retry, WorkQueue};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let dir = temp.path();
/// let queue: WorkQueue<String> = WorkQueue::open(dir, QueueSettings::new())?;
/// queue.put(&"compact orders".into())?;
///
/// if let Some(job) = queue.lease(Duration::from_secs(30))? {
///     let held = match job.value.as_str() {
///         "compact orders" => queue.ack(&job)?,
///         _ => queue.nack(&job, Retry::Never, Some("no such job"))?,
///     };
///     assert_eq!(held, Held::Yes);
/// }
/// assert!(queue.is_empty()?);
/// # Ok(()) }
/// ```
pub struct WorkQueue<V> {
    store: Store,
    settings: QueueSettings,
    clock: Arc<dyn Clock>,
    values: PhantomData<fn() -> V>,
}

impl<V: Value> WorkQueue<V> {
    /// Opens the queue in `dir`, creating it if there is none.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(dir: impl AsRef<Path>, settings: QueueSettings) -> Result<WorkQueue<V>, OpenError> {
        WorkQueue::open_with_clock(dir, settings, Arc::new(SystemClock))
    }

    /// As [`open`](WorkQueue::open), with a clock of one's own.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with_clock(
        dir: impl AsRef<Path>,
        settings: QueueSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<WorkQueue<V>, OpenError> {
        let store = Store::open(dir, state::TABLES, settings.store.clone())?;
        Ok(WorkQueue { store, settings, clock, values: PhantomData })
    }

    /// Opens the queue in `dir` for reading only, also where the file system can only be read: to see what is in it. What would
    /// change it, a lease too, is [`StoreError::ReadOnly`]. Of the settings, the store's do not matter.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn open_read_only(dir: impl AsRef<Path>, settings: QueueSettings) -> Result<WorkQueue<V>, OpenError> {
        let store = Store::open_read_only(dir, state::TABLES)?;
        Ok(WorkQueue { store, settings, clock: Arc::new(SystemClock), values: PhantomData })
    }

    /// The directory, as a canonical path.
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Runs `f` in one write transaction: what it did is committed when it returns `Ok`, and undone when it returns an
    /// error.
    ///
    /// `f` may run more than once, each time from the same state: see [`Store::write`]. It should have no effect but on
    /// the queue.
    ///
    /// # Errors
    /// What `f` returns, or a [`CollectionError`].
    pub fn transact<T, E: From<StoreError>>(
        &self,
        mut f: impl FnMut(&mut QueueTxn<'_, '_, V>) -> Result<T, E>,
    ) -> Result<T, E> {
        let max_attempts = self.settings.max_attempts;
        // The time of each run: waiting for other writers must not use up a lease.
        self.store.write(|txn| f(&mut QueueTxn::new(txn, self.clock.unix_millis(), max_attempts)))
    }

    /// Adds a job.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn put(&self, value: &V) -> Result<JobId, CollectionError> {
        self.transact(|txn| txn.put(value))
    }

    /// Adds a job that is handed out only after `delay`.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn put_after(&self, value: &V, delay: Duration) -> Result<JobId, CollectionError> {
        self.transact(|txn| txn.put_after(value, delay))
    }

    /// Hands out the oldest job that is ready, and makes it this worker's for `timeout`. `None`: there is none now.
    ///
    /// A job whose stored value is damaged becomes a dead letter on the way.
    ///
    /// # Errors
    /// [`CollectionError`]; [`CollectionError::Value`] if the oldest job is of another type or version than `V`: it stays
    /// in its place for a worker that knows it.
    pub fn lease(&self, timeout: Duration) -> Result<Option<Job<V>>, CollectionError> {
        // Most looks at an idle queue find nothing, and need no write transaction for it.
        if !self.read(|txn| self.has_ready(txn))? {
            return Ok(None);
        }
        self.transact(|txn| txn.lease(timeout))
    }

    /// As [`lease`](WorkQueue::lease), but waits up to `patience` for a job. Blocks the thread; a job of another process
    /// is noticed within 20 ms.
    ///
    /// # Errors
    /// As [`lease`](WorkQueue::lease).
    pub fn lease_wait(&self, timeout: Duration, patience: Duration) -> Result<Option<Job<V>>, CollectionError> {
        let begun = self.clock.monotonic();
        let mut nap = Duration::from_millis(1);
        loop {
            let job = self.lease(timeout)?;
            let waited = self.clock.monotonic().saturating_sub(begun);
            if job.is_some() || waited >= patience {
                return Ok(job);
            }
            self.clock.sleep(nap.min(patience - waited));
            nap = (nap * 2).min(NAP);
        }
    }

    /// Finishes a job, for good. A lease whose time is over still counts as long as the job was not handed out again.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn ack(&self, job: &Job<V>) -> Result<Held, CollectionError> {
        self.transact(|txn| txn.ack(job))
    }

    /// Makes a lease end `timeout` from now, for a worker that needs longer.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn extend(&self, job: &mut Job<V>, timeout: Duration) -> Result<Held, CollectionError> {
        self.transact(|txn| txn.extend(job, timeout))
    }

    /// Gives a job back unfinished. If it has no attempts left, it becomes a dead letter.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn nack(&self, job: &Job<V>, retry: Retry, reason: Option<&str>) -> Result<Held, CollectionError> {
        self.transact(|txn| txn.nack(job, retry, reason))
    }

    /// The dead letters, oldest first. One that cannot be read is an error in its place.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn dead_letters(&self) -> Result<Vec<Result<DeadLetter<V>, CollectionError>>, CollectionError> {
        self.read(|txn| {
            let letter = |id: Result<JobId, CollectionError>| {
                let id = id?;
                let state = state::known_state(txn, id)?;
                Ok(DeadLetter {
                    id,
                    value: state::value(txn, id)?,
                    attempts: state.attempts,
                    put_at_unix_ms: state.put_at_unix_ms,
                    reason: state.reason,
                })
            };
            Ok(state::ids(txn, DEAD)?.map(letter).collect())
        })
    }

    /// Makes a dead letter a job again, with all its attempts before it. `false`: there is no such dead letter.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn requeue(&self, id: JobId) -> Result<bool, CollectionError> {
        self.transact(|txn| txn.requeue(id))
    }

    /// Makes all dead letters jobs again; returns how many there were.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn requeue_all(&self) -> Result<u64, CollectionError> {
        self.transact(|txn| txn.requeue_all())
    }

    /// Removes a job or dead letter, wherever it is: a worker that has it has lost it. `false`: there is none.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn remove(&self, id: JobId) -> Result<bool, CollectionError> {
        self.transact(|txn| txn.remove(id))
    }

    /// Removes all jobs and dead letters. Ids and tokens go on from where they were.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn clear(&self) -> Result<(), CollectionError> {
        self.store.write(state::clear)
    }

    /// The number of jobs: ready, leased and delayed, but not dead.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn len(&self) -> Result<u64, CollectionError> {
        self.read(|txn| Ok(txn.len(READY)? + txn.len(LEASED)? + txn.len(DELAYED)?))
    }

    /// Whether there is no job; there may be dead letters.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn is_empty(&self) -> Result<bool, CollectionError> {
        Ok(self.len()? == 0)
    }

    /// How many jobs are where.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn stats(&self) -> Result<QueueStats, CollectionError> {
        let now = self.clock.unix_millis();
        self.read(|txn| {
            let (ended, due) = (state::count_due(txn, LEASED, now)?, state::count_due(txn, DELAYED, now)?);
            let counters = state::counters(txn)?;
            Ok(QueueStats {
                ready: txn.len(READY)? + ended + due,
                leased: txn.len(LEASED)? - ended,
                delayed: txn.len(DELAYED)? - due,
                dead: txn.len(DEAD)?,
                put: counters.put,
                acked: counters.acked,
            })
        })
    }

    fn has_ready(&self, txn: &ReadTxn<'_>) -> Result<bool, CollectionError> {
        let now = self.clock.unix_millis();
        Ok(!txn.is_empty(READY)? || state::due(txn, LEASED, now)?.is_some() || state::due(txn, DELAYED, now)?.is_some())
    }

    fn read<T>(&self, f: impl FnOnce(&ReadTxn<'_>) -> Result<T, CollectionError>) -> Result<T, CollectionError> {
        self.store.read(f)
    }
}

impl<V> Clone for WorkQueue<V> {
    fn clone(&self) -> WorkQueue<V> {
        WorkQueue {
            store: self.store.clone(),
            settings: self.settings.clone(),
            clock: Arc::clone(&self.clock),
            values: PhantomData,
        }
    }
}

impl<V> fmt::Debug for WorkQueue<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueue").field("path", &self.store.path()).finish_non_exhaustive()
    }
}

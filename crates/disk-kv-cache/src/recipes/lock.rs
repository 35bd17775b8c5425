//! [`Lock`]: one owner at a time, over all processes.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::slot::{Held, Slot};
use super::{LockError, Owner, wait};

/// A lock that one owner holds at a time, over all threads and processes. Made by
/// [`Coordination::lock`](super::Coordination::lock); cheap to clone.
///
/// An owner that dies, `kill -9` included, is replaced at once: whoever waits looks at least every 5 ms. One that lives
/// is never replaced, unless it took the lock [`with_lease`](Lock::with_lease) and has outstayed it. Those who wait are
/// not served in order.
///
/// Each owner gets a **fencing token** larger than that of every owner before it. What the lock protects should refuse
/// tokens smaller than one it has seen: that stops an owner that was replaced while it was stuck.
///
/// ```
/// use std::time::Duration;
/// use alluvium_disk_kv_cache::{Coordination, Settings};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let dir = temp.path();
/// let coordination = Coordination::open(dir, Settings::new())?;
/// let lock = coordination.lock("publish orders");
///
/// let first = lock.acquire()?;
/// assert!(lock.acquire_within(Duration::from_millis(10))?.is_none());
/// assert_eq!(lock.owner()?.map(|owner| owner.token), Some(first.token()));
/// let token = first.token();
/// drop(first);
///
/// let second = lock.acquire()?;
/// assert!(second.token() > token);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Lock {
    slot: Slot,
}

/// A [`Lock`] that is held until this is dropped. It may be sent to another thread.
#[derive(Debug)]
#[must_use = "the lock is free again when the guard is dropped"]
pub struct LockGuard {
    held: Held,
}

impl Lock {
    pub(super) fn new(slot: Slot) -> Lock {
        Lock { slot }
    }

    /// Lets others replace an owner that has held the lock for longer than this, though it lives. Default: never.
    ///
    /// The time is kept with each holding: it is the lease of the owner that counts, by the wall clock. An owner can see
    /// with [`LockGuard::is_current`] whether it was replaced, but only its [token](LockGuard::token) makes it harmless.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Lock {
        self.slot.lease = Some(lease);
        self
    }

    /// Takes the lock, waiting for it without a limit. A thread that holds it already waits for itself: see
    /// [`ReentrantLock`](super::ReentrantLock).
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(&self) -> Result<LockGuard, LockError> {
        loop {
            if let Some(guard) = self.wait(None, &AtomicBool::new(false))? {
                return Ok(guard);
            }
        }
    }

    /// Takes the lock, waiting up to `patience` for it. `None`: another holds it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire_within(&self, patience: Duration) -> Result<Option<LockGuard>, LockError> {
        self.wait(Some(patience), &AtomicBool::new(false))
    }

    /// Takes the lock if it is free now.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn try_acquire(&self) -> Result<Option<LockGuard>, LockError> {
        Ok(self.slot.try_take()?.map(|held| LockGuard { held }))
    }

    /// As [`acquire_within`](Lock::acquire_within) for async code, under any executor. A thread of its own does the waiting;
    /// dropping the future ends that.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn acquire_within_async(&self, patience: Duration) -> Result<Option<LockGuard>, LockError> {
        if let Some(guard) = self.try_acquire()? {
            return Ok(Some(guard));
        }
        let lock = self.clone();
        wait::on_a_thread(move |abandoned| lock.wait(Some(patience), abandoned)).await
    }

    /// Who holds the lock now. For people and logs: it may be another a moment later.
    ///
    /// Looking takes a shared lock for an instant, in which a [`try_acquire`](Lock::try_acquire) finds the lock taken.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn owner(&self) -> Result<Option<Owner>, LockError> {
        Ok(self.slot.holder()?.map(Owner::from))
    }

    fn wait(&self, patience: Option<Duration>, abandoned: &AtomicBool) -> Result<Option<LockGuard>, LockError> {
        wait::until(&*self.slot.shared.clock, patience, abandoned, || self.try_acquire())
    }
}

impl LockGuard {
    /// The fencing token: larger than that of every earlier owner of this lock.
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// Whether nobody has replaced this owner since. Only a lock taken [`with_lease`](Lock::with_lease) can be lost.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn is_current(&self) -> Result<bool, LockError> {
        self.held.is_current()
    }
}

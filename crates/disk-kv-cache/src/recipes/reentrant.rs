//! [`ReentrantLock`]: a lock that the thread which holds it can take again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process;
use std::rc::{Rc, Weak};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::slot::{Held, Id, Slot};
use super::{LockError, Owner, wait};

thread_local! {
    /// What this thread holds. The entries of locks that were given back are empty.
    static HELD: RefCell<HashMap<(PathBuf, Id), Weak<Held>>> = RefCell::new(HashMap::new());
}

/// A lock like [`Lock`](super::Lock), but a thread that holds it can take it again; it is free when the last of its guards is
/// dropped. Made by [`Coordination::reentrant_lock`](super::Coordination::reentrant_lock).
#[derive(Debug, Clone)]
pub struct ReentrantLock {
    slot: Slot,
}

/// A [`ReentrantLock`] that this thread holds until all its guards are dropped. It cannot leave the thread.
#[derive(Debug)]
#[must_use = "the lock is given back when the last guard is dropped"]
pub struct ReentrantGuard {
    held: Rc<Held>,
}

impl ReentrantLock {
    pub(super) fn new(slot: Slot) -> ReentrantLock {
        ReentrantLock { slot }
    }

    /// As [`Lock::with_lease`](super::Lock::with_lease). Taking the lock again does not begin the lease anew.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> ReentrantLock {
        self.slot.lease = Some(lease);
        self
    }

    /// Takes the lock, waiting for other threads and processes without a limit.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(&self) -> Result<ReentrantGuard, LockError> {
        loop {
            if let Some(guard) = self.wait(None)? {
                return Ok(guard);
            }
        }
    }

    /// Takes the lock, waiting up to `patience` for it. `None`: another thread or process holds it.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire_within(&self, patience: Duration) -> Result<Option<ReentrantGuard>, LockError> {
        self.wait(Some(patience))
    }

    /// Takes the lock if it is free now, or this thread's already.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn try_acquire(&self) -> Result<Option<ReentrantGuard>, LockError> {
        let key = (self.slot.shared.locks.clone(), self.slot.id);
        let ours = HELD.with_borrow(|held| held.get(&key).and_then(Weak::upgrade));
        if let Some(held) = ours
            && self.still_ours(&held)?
        {
            return Ok(Some(ReentrantGuard { held }));
        }
        let Some(held) = self.slot.try_take()?.map(Rc::new) else { return Ok(None) };
        HELD.with_borrow_mut(|all| {
            all.retain(|_, held| held.strong_count() > 0);
            all.insert(key, Rc::downgrade(&held));
        });
        Ok(Some(ReentrantGuard { held }))
    }

    /// Who holds the lock now: see [`Lock::owner`](super::Lock::owner).
    ///
    /// # Errors
    /// [`LockError`].
    pub fn owner(&self) -> Result<Option<Owner>, LockError> {
        Ok(self.slot.holder()?.map(Owner::from))
    }

    fn wait(&self, patience: Option<Duration>) -> Result<Option<ReentrantGuard>, LockError> {
        wait::until(&*self.slot.shared.clock, patience, &AtomicBool::new(false), || self.try_acquire())
    }

    /// Whether what this thread took has not been lost to a fork, or to another after its lease.
    fn still_ours(&self, held: &Held) -> Result<bool, LockError> {
        if held.slot().lease.is_none() { Ok(held.pid() == process::id()) } else { held.is_current() }
    }
}

impl ReentrantGuard {
    /// The fencing token: larger than that of every earlier owner, and the same for all guards of one holding.
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// As [`LockGuard::is_current`](super::LockGuard::is_current).
    ///
    /// # Errors
    /// [`LockError`].
    pub fn is_current(&self) -> Result<bool, LockError> {
        self.held.is_current()
    }
}

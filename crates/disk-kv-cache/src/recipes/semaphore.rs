//! [`BoundedSemaphore`]: a few owners at a time, over all processes.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::slot::{Held, Slot};
use super::{LockError, Owner, wait};
use crate::CollectionError;
use crate::collection::{corrupt, open, seal};

pub(super) const PERMITS: &str = "coordination_permits";

/// A number of permits, each held by one owner at a time, over all threads and processes. Made by
/// [`Coordination::semaphore`](super::Coordination::semaphore).
///
/// A permit whose owner dies is free at once, as with a [`Lock`](super::Lock). It cannot be given back twice: a [`Permit`]
/// does it when it is dropped.
#[derive(Debug, Clone)]
pub struct BoundedSemaphore {
    /// The first of the slots.
    slot: Slot,
    permits: u32,
}

/// A permit that is held until this is dropped. It may be sent to another thread.
#[derive(Debug)]
#[must_use = "the permit is given back when this is dropped"]
pub struct Permit {
    held: Held,
}

impl BoundedSemaphore {
    pub(super) fn new(slot: Slot, name: &[u8], permits: u32) -> Result<BoundedSemaphore, LockError> {
        if permits == 0 {
            return Err(LockError::InvalidSetting { field: "permits", rule: "at least 1" });
        }
        let id = slot.id.bytes();
        let stored = slot.shared.store.write(|txn| match txn.get(PERMITS, id)? {
            Some(sealed) => {
                let stored = open(PERMITS, id, sealed)?.try_into().map_err(|_| corrupt(PERMITS, id))?;
                Ok::<_, CollectionError>(u32::from_be_bytes(stored))
            }
            None => {
                txn.put(PERMITS, id, &seal(id, &permits.to_be_bytes()))?;
                Ok(permits)
            }
        })?;
        if stored != permits {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(LockError::PermitsConflict { name, stored, requested: permits });
        }
        Ok(BoundedSemaphore { slot, permits })
    }

    /// As [`Lock::with_lease`](super::Lock::with_lease), for each permit.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> BoundedSemaphore {
        self.slot.lease = Some(lease);
        self
    }

    /// The number of permits.
    pub fn permits(&self) -> u32 {
        self.permits
    }

    /// Takes a permit, waiting for one without a limit.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(&self) -> Result<Permit, LockError> {
        loop {
            if let Some(permit) = self.wait(None, &AtomicBool::new(false))? {
                return Ok(permit);
            }
        }
    }

    /// Takes a permit, waiting up to `patience` for one. `None`: others hold them all.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire_within(&self, patience: Duration) -> Result<Option<Permit>, LockError> {
        self.wait(Some(patience), &AtomicBool::new(false))
    }

    /// Takes a permit if one is free now.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn try_acquire(&self) -> Result<Option<Permit>, LockError> {
        for number in 0..self.permits {
            if let Some(held) = self.nth(number).try_take()? {
                return Ok(Some(Permit { held }));
            }
        }
        Ok(None)
    }

    /// As [`acquire_within`](BoundedSemaphore::acquire_within) for async code: see
    /// [`Lock::acquire_within_async`](super::Lock::acquire_within_async).
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn acquire_within_async(&self, patience: Duration) -> Result<Option<Permit>, LockError> {
        if let Some(permit) = self.try_acquire()? {
            return Ok(Some(permit));
        }
        let semaphore = self.clone();
        wait::on_a_thread(move |abandoned| semaphore.wait(Some(patience), abandoned)).await
    }

    /// Who holds the permits that are taken now: see [`Lock::owner`](super::Lock::owner).
    ///
    /// # Errors
    /// [`LockError`].
    pub fn owners(&self) -> Result<Vec<Owner>, LockError> {
        (0..self.permits)
            .filter_map(|number| self.nth(number).holder().transpose())
            .map(|claim| Ok(claim?.into()))
            .collect()
    }

    fn wait(&self, patience: Option<Duration>, abandoned: &AtomicBool) -> Result<Option<Permit>, LockError> {
        wait::until(&*self.slot.shared.clock, patience, abandoned, || self.try_acquire())
    }

    fn nth(&self, number: u32) -> Slot {
        Slot { number, ..self.slot.clone() }
    }
}

impl Permit {
    /// The fencing token: larger than that of every permit of this semaphore given out earlier.
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

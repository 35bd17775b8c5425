//! [`Throttle`]: so many calls in so much time on average, over all processes.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LockError;
use super::coordination::Shared;
use super::slot::Id;
use super::wait;
use crate::collection::{open, seal};
use crate::{CollectionError, ReadTxn, Record, Value};

pub(super) const TALLIES: &str = "coordination_tallies";

/// Lets `count` callers through in each `per` on average, over all threads and processes. Made by
/// [`Coordination::throttle`](super::Coordination::throttle).
///
/// As in DiskCache, this is a bucket that holds `count` and fills evenly: up to `count` calls pass at once, and then one
/// each `per / count`; so one `per` may see up to twice `count`. If the wall clock is set back, the bucket fills from there
/// on.
#[derive(Debug, Clone)]
pub struct Throttle {
    shared: Arc<Shared>,
    id: Id,
    count: u32,
    per: Duration,
}

/// What is in the bucket, as of a moment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Tally {
    at_unix_ns: u64,
    /// Calls that may pass, fractions of one among them.
    calls: f64,
}

impl Record for Tally {
    const TYPE: &'static str = "coordination_tally";
    const VERSION: u32 = 1;
}

impl Throttle {
    pub(super) fn new(shared: Arc<Shared>, id: Id, count: u32, per: Duration) -> Result<Throttle, LockError> {
        if count == 0 {
            return Err(LockError::InvalidSetting { field: "count", rule: "at least 1" });
        }
        if per.is_zero() {
            return Err(LockError::InvalidSetting { field: "per", rule: "longer than 0" });
        }
        Ok(Throttle { shared, id, count, per })
    }

    /// Passes if a call may now. Otherwise returns how long to wait before the next try; others may come first.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn try_pass(&self) -> Result<Pass, LockError> {
        let id = self.id.bytes();
        Ok(self.shared.store.write(|txn| {
            let now = self.shared.clock.unix_nanos();
            let (calls, clock_went_back) = match self.tally(txn)? {
                Some(tally) => (self.refilled(tally, now), now < tally.at_unix_ns),
                None => (f64::from(self.count), false),
            };
            let passes = calls >= 1.0;
            if passes || clock_went_back {
                let tally = Tally { at_unix_ns: now, calls: if passes { calls - 1.0 } else { calls } };
                txn.put(TALLIES, id, &seal(id, &tally.to_bytes()?))?;
            }
            if passes {
                return Ok::<_, CollectionError>(Pass::Passed);
            }
            let wait = self.per.div_f64(f64::from(self.count)).mul_f64(1.0 - calls);
            Ok(Pass::Wait(wait.max(Duration::from_nanos(1))))
        })?)
    }

    /// Passes when a call may, blocking the thread until then.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn pass(&self) -> Result<(), LockError> {
        while let Pass::Wait(wait) = self.try_pass()? {
            self.shared.clock.sleep(wait);
        }
        Ok(())
    }

    /// As [`pass`](Throttle::pass) for async code, under any executor: a thread of its own does the waiting, and stops at
    /// its next try when the future is dropped.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn pass_async(&self) -> Result<(), LockError> {
        let Pass::Wait(first) = self.try_pass()? else { return Ok(()) };
        let throttle = self.clone();
        wait::on_a_thread(move |abandoned| {
            let mut wait = first;
            while !abandoned.load(std::sync::atomic::Ordering::Acquire) {
                throttle.shared.clock.sleep(wait);
                match throttle.try_pass()? {
                    Pass::Passed => break,
                    Pass::Wait(next) => wait = next,
                }
            }
            Ok(())
        })
        .await
    }

    /// What is in the bucket at `now`. A clock that went back has filled nothing.
    fn refilled(&self, tally: Tally, now: u64) -> f64 {
        let full = f64::from(self.count);
        let since = Duration::from_nanos(now.saturating_sub(tally.at_unix_ns));
        (tally.calls + full * since.as_secs_f64() / self.per.as_secs_f64()).min(full)
    }

    fn tally(&self, txn: &ReadTxn<'_>) -> Result<Option<Tally>, CollectionError> {
        let id = self.id.bytes();
        let Some(sealed) = txn.get(TALLIES, id)? else { return Ok(None) };
        Ok(Some(Tally::from_bytes(open(TALLIES, id, sealed)?)?))
    }
}

/// Whether a call may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a call that has to wait has not passed"]
pub enum Pass {
    /// It may, and was counted.
    Passed,
    /// Not before this time is over. Nothing was counted.
    Wait(Duration),
}

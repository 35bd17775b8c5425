//! The lease on a cold key: one process computes it, the others wait.
//!
//! Liveness is a lock that the kernel holds for an open file and drops with its process, so that a dead owner is
//! replaced at once, in containers too. An owner that lives and does not end holds its lease until a deadline, which it sets
//! itself when it takes the lease ([`Tenure`]): once that has passed, whoever waits declares the seat of the owner vacant, in one
//! transaction. The next seat has a lock file of its own, so that one of those who wait gets it and the others wait for that one, as
//! they did for the first.
//!
//! *Invariants*
//! - A token is drawn only under the lock of the current seat, and outdates every earlier one: whoever was overtaken publishes
//!   nothing by the token that it has.
//! - A seat is vacated only by somebody who saw the same tenure for a moment, and past its deadline; of several, once.
//! - Whoever has the lease looks for an entry again before it computes, whether it was given the lease or took it.
//! - Whoever was overtaken and has computed waits for the lease again, and serves what the winner published; if that is nothing, its
//!   own rows, under the new token ([`crate::write`]).
//! - While any process holds a lock of the resource, of whichever seat, nothing in its directories is adopted or collected.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_telemetry::{CacheSpan, Seam, Stopwatch};

use crate::error::CacheError;
use crate::index::{Index, Tenure};
use crate::lock_file::LockFile;

/// How often a waiter looks again: the time that a hit may lag behind the publication it waited for.
const POLL: Duration = Duration::from_millis(5);

/// How long a wait goes on before a word of it.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a tenure is watched at least: between taking the lock and drawing a token, it is that of the owner before.
const GLANCE: Duration = Duration::from_secs(1);

/// A lease with its fencing token. Dropping it lets the next process in.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) token: u64,
    /// Whether somebody may wake who had it before and lost it at its deadline.
    is_overtaking: bool,
    _lock: LockFile,
}

/// Where leases are, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leases<'a> {
    pub(crate) index: &'a Index,
    /// The directory of the lock files.
    pub(crate) dir: &'a Path,
    /// How long an owner has.
    pub(crate) length: Duration,
    pub(crate) seam: &'a Seam,
}

impl Leases<'_> {
    /// Waits for the lease on `resource`, at most until the deadline of whoever holds it. `wait` starts the operation that waiting is,
    /// where somebody else holds it.
    pub(crate) async fn acquire(&self, resource: &[u8; 32], wait: impl Fn() -> CacheSpan) -> Result<Lease, CacheError> {
        let mut waiting = None;
        let lease = self.wait_for(resource, || waiting = Some(wait())).await;
        if let Some(waiting) = waiting {
            match &lease {
                Ok(_) => waiting.ok(None),
                Err(error) => waiting.error(error.kind()),
            };
        }
        lease
    }

    /// Calls `waits` once if it is not free.
    async fn wait_for(&self, resource: &[u8; 32], waits: impl FnOnce()) -> Result<Lease, CacheError> {
        std::fs::create_dir_all(self.dir).map_err(CacheError::io("create the directory", self.dir))?;
        let mut waits = Some(waits);
        let mut watched = Watched { tenure: self.index.tenure(resource)?, since: self.seam.stopwatch() };
        let (waited, mut told) = (self.seam.stopwatch(), false);
        loop {
            let seat = watched.tenure.seat;
            if let Some(lock) = LockFile::try_take(&self.lock_path(resource, seat))? {
                match self.index.begin_tenure(resource, seat, self.seam.unix_ms(), self.length)? {
                    Some(token) => {
                        let is_overtaking = (0..seat).any(|seat| LockFile::is_held(&self.lock_path(resource, seat)));
                        return Ok(Lease { token, is_overtaking, _lock: lock });
                    }
                    // The seat was vacated before it was taken.
                    None => watched = Watched { tenure: self.index.tenure(resource)?, since: self.seam.stopwatch() },
                }
                continue;
            }
            if let Some(waits) = waits.take() {
                waits();
            }
            let tenure = self.index.tenure(resource)?;
            if tenure != watched.tenure {
                watched = Watched { tenure, since: self.seam.stopwatch() };
            } else if watched.is_over(self.seam.unix_ms(), self.length)
                && self.index.vacate(resource, &watched.tenure)?
            {
                tracing::warn!(target: "alluvium.lease", "the owner of a lease is past its deadline; taking over");
            }
            if !told && waited.elapsed() >= SILENCE {
                told = true;
                tracing::warn!(
                    target: "alluvium.lease",
                    "another process computes what this one needs; waiting for it, for {} s at most",
                    watched.length(self.length).as_secs()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether somebody holds a lock of the lease on `resource`, by right or overtaken.
    pub(crate) fn is_held(&self, resource: &[u8; 32]) -> Result<bool, CacheError> {
        let newest = self.index.tenure(resource)?.seat;
        Ok((0..=newest).any(|seat| LockFile::is_held(&self.lock_path(resource, seat))))
    }

    /// Keeps everybody from computing `resource` while the returned file lives; none if somebody does. It is no lease: it
    /// draws no token, and publishes nothing.
    pub(crate) fn keep_out(&self, resource: &[u8; 32]) -> Result<Option<LockFile>, CacheError> {
        std::fs::create_dir_all(self.dir).map_err(CacheError::io("create the directory", self.dir))?;
        if self.is_held(resource)? {
            return Ok(None);
        }
        LockFile::try_take(&self.lock_path(resource, self.index.tenure(resource)?.seat))
    }

    fn lock_path(&self, resource: &[u8; 32], seat: u64) -> PathBuf {
        let name: String = resource.iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(match seat {
            0 => format!("{name}.lock"),
            seat => format!("{name}.{seat}.lock"),
        })
    }
}

impl Lease {
    /// Whether nobody else can hold the lease: it was not taken over from an owner that may wake.
    pub(crate) fn is_exclusive(&self) -> bool {
        !self.is_overtaking
    }
}

/// A tenure that somebody waits for the end of.
struct Watched {
    tenure: Tenure,
    since: Stopwatch,
}

impl Watched {
    /// How long its owner has; one of whom nothing is known, as long as `ours`.
    fn length(&self, ours: Duration) -> Duration {
        self.tenure.length_ms.map_or(ours, Duration::from_millis)
    }

    /// Whether its deadline has passed: by the clock, or, since that can be set back, by the time that it was watched.
    fn is_over(&self, unix_ms: i64, ours: Duration) -> bool {
        let (watched, length) = (self.since.elapsed(), self.length(ours));
        watched >= length || (watched >= GLANCE && self.tenure.until_unix_ms.is_some_and(|until| until <= unix_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alluvium_profile::{CacheRoot, KvKind};

    use super::*;

    const RESOURCE: [u8; 32] = [7; 32];

    struct Place {
        dir: tempfile::TempDir,
        index: Index,
        seam: Seam,
    }

    impl Place {
        fn new() -> Self {
            let (dir, seam) = (tempfile::tempdir().unwrap(), Seam::system());
            let root = Arc::new(CacheRoot::open(dir.path(), &seam).unwrap());
            Self { index: Index::new(root.kv(KvKind::Index).unwrap().clone()), dir, seam }
        }

        fn leases(&self, length_ms: u64) -> Leases<'_> {
            let length = Duration::from_millis(length_ms);
            Leases { index: &self.index, dir: self.dir.path(), length, seam: &self.seam }
        }

        async fn acquire(&self, length_ms: u64) -> Lease {
            self.leases(length_ms).wait_for(&RESOURCE, || {}).await.unwrap()
        }
    }

    #[tokio::test]
    async fn of_those_who_wait_for_a_stuck_owner_one_takes_over() {
        let place = Place::new();
        let stuck = place.acquire(50).await;
        assert!(stuck.is_exclusive());
        // The first one that gets the lease holds on to it, for a minute.
        let patient = || async { tokio::time::timeout(Duration::from_secs(3), place.acquire(60_000)).await.ok() };
        let leases: Vec<Lease> =
            futures::future::join_all([patient(), patient(), patient()]).await.into_iter().flatten().collect();
        let [lease] = leases.as_slice() else { panic!("{leases:?}") };
        assert!(lease.token > stuck.token && !lease.is_exclusive());
        let tenure = place.index.tenure(&RESOURCE).unwrap();
        assert_eq!((tenure.token, tenure.seat, tenure.length_ms), (lease.token, 1, Some(60_000)));
        assert!(place.leases(0).is_held(&RESOURCE).unwrap());
        drop(leases);
        assert!(place.leases(0).is_held(&RESOURCE).unwrap(), "the stuck one may be writing still");
        assert!(place.leases(0).keep_out(&RESOURCE).unwrap().is_none());
        drop(stuck);
        assert!(place.leases(0).keep_out(&RESOURCE).unwrap().is_some());
        assert!(place.acquire(60_000).await.is_exclusive());
    }

    #[tokio::test]
    async fn the_deadline_is_that_of_the_owner_and_not_of_who_waits() {
        let place = Place::new();
        let owner = place.acquire(60_000).await;
        let hurried = tokio::time::timeout(Duration::from_millis(1_500), place.acquire(1));
        assert!(hurried.await.is_err(), "the owner has a minute");
        drop(owner);
        let token = place.acquire(1).await.token;
        assert_eq!(place.index.tenure(&RESOURCE).unwrap().token, token);
        assert_eq!(place.index.tenure(&RESOURCE).unwrap().seat, 0, "a lease that was free is not taken over");
    }

    #[test]
    fn a_seat_that_was_vacated_draws_no_token() {
        let place = Place::new();
        let length = Duration::from_secs(1);
        let first = place.index.begin_tenure(&RESOURCE, 0, 1, length).unwrap();
        assert!(first.is_some());
        let seen = place.index.tenure(&RESOURCE).unwrap();
        assert!(place.index.vacate(&RESOURCE, &seen).unwrap());
        assert!(!place.index.vacate(&RESOURCE, &seen).unwrap(), "once");
        assert_eq!(place.index.begin_tenure(&RESOURCE, 0, 1, length).unwrap(), None);
        assert!(place.index.begin_tenure(&RESOURCE, 1, 1, length).unwrap() > first);
        assert!(!place.index.vacate(&RESOURCE, &seen).unwrap(), "it is another tenure by now");
    }
}

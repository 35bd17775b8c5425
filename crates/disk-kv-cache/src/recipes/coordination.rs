//! [`Coordination`]: the directory that processes meet in.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::time::Duration;

use super::slot::{CLAIMS, Claim, Id, Kind, Slot, TOKENS};
use super::{
    Averager, BoundedSemaphore, CoordinationError, Lock, LockError, ReentrantLock, Throttle, averager, semaphore,
    throttle,
};
use crate::{Clock, Settings, Store, SystemClock};

const TABLES: &[&str] = &[CLAIMS, TOKENS, semaphore::PERMITS, averager::TOTALS, throttle::TALLIES];

/// A directory in which processes of one host coordinate: locks, semaphores, averages and throttles, each by name.
///
/// Names are any bytes; things of different kinds do not meet under one name. Nothing here is ever evicted. Each name that
/// was locked keeps an empty file in the directory.
///
/// With [`Settings::new`], each change is synced to the device.
#[derive(Debug, Clone)]
pub struct Coordination {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) locks: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) owner: String,
}

impl Shared {
    pub(super) fn now_unix_ms(&self) -> u64 {
        self.clock.unix_millis()
    }

    pub(super) fn io(&self, action: &'static str, source: io::Error) -> LockError {
        LockError::Io { path: self.locks.clone(), action, source }
    }
}

/// Who holds a lock. For people to read: nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// What [`Coordination::with_owner`] was given; default: `pid` and the process id.
    pub name: String,
    /// The process id, in the owner's own container.
    pub pid: u32,
    /// The fencing token of the owner.
    pub token: u64,
    /// When it got the lock, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// When others may replace it though it lives, in milliseconds since 1970.
    pub until_unix_ms: Option<u64>,
}

impl From<Claim> for Owner {
    fn from(claim: Claim) -> Owner {
        Owner {
            name: claim.owner,
            pid: claim.pid,
            token: claim.token,
            since_unix_ms: claim.since_unix_ms,
            until_unix_ms: claim.until_unix_ms,
        }
    }
}

impl Coordination {
    /// Opens the coordination directory `dir`, creating it if there is none.
    ///
    /// # Errors
    /// [`CoordinationError`].
    pub fn open(dir: impl AsRef<Path>, settings: Settings) -> Result<Coordination, CoordinationError> {
        Coordination::open_with_clock(dir, settings, Arc::new(SystemClock))
    }

    /// As [`open`](Coordination::open), with a clock of one's own.
    ///
    /// # Errors
    /// [`CoordinationError`].
    pub fn open_with_clock(
        dir: impl AsRef<Path>,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Coordination, CoordinationError> {
        let store = Store::open(dir, TABLES, settings)?;
        let locks = store.path().join("locks");
        let made = match DirBuilder::new().mode(0o700).create(&locks) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match locks.symlink_metadata() {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => Err(error),
                Err(error) => Err(error),
            },
            made => made,
        };
        made.map_err(|source| CoordinationError::Locks { path: locks.clone(), source })?;
        let owner = format!("pid {}", process::id());
        Ok(Coordination { shared: Arc::new(Shared { store, locks, clock, owner }) })
    }

    /// The name under which others see what is held through this handle. Default: `pid` and the process id.
    #[must_use]
    pub fn with_owner(self, owner: impl Into<String>) -> Coordination {
        let Shared { store, locks, clock, .. } = &*self.shared;
        let (store, locks, clock) = (store.clone(), locks.clone(), Arc::clone(clock));
        Coordination { shared: Arc::new(Shared { store, locks, clock, owner: owner.into() }) }
    }

    /// The directory, as a canonical path.
    pub fn path(&self) -> &Path {
        self.shared.store.path()
    }

    /// The lock of a name, which one owner holds at a time.
    pub fn lock(&self, name: impl AsRef<[u8]>) -> Lock {
        Lock::new(self.slot(Kind::Lock, name.as_ref(), None))
    }

    /// The reentrant lock of a name, which a thread that holds it can take again.
    pub fn reentrant_lock(&self, name: impl AsRef<[u8]>) -> ReentrantLock {
        ReentrantLock::new(self.slot(Kind::Reentrant, name.as_ref(), None))
    }

    /// The semaphore of a name, of which `permits` owners hold one permit each.
    ///
    /// # Errors
    /// [`LockError::PermitsConflict`] if it was made with another number, [`LockError::InvalidSetting`] if that is 0, and
    /// otherwise as the variants of [`LockError`] say.
    pub fn semaphore(&self, name: impl AsRef<[u8]>, permits: u32) -> Result<BoundedSemaphore, LockError> {
        BoundedSemaphore::new(self.slot(Kind::Semaphore, name.as_ref(), None), name.as_ref(), permits)
    }

    /// The average of a name.
    pub fn averager(&self, name: impl AsRef<[u8]>) -> Averager {
        Averager::new(Arc::clone(&self.shared), Id::new(Kind::Averager, name.as_ref()))
    }

    /// The throttle of a name, which lets `count` callers through in each `per` on average, over all processes: `count` of
    /// them at once, if none came before.
    ///
    /// # Errors
    /// [`LockError::InvalidSetting`] if `count` or `per` is 0.
    pub fn throttle(&self, name: impl AsRef<[u8]>, count: u32, per: Duration) -> Result<Throttle, LockError> {
        Throttle::new(Arc::clone(&self.shared), Id::new(Kind::Throttle, name.as_ref()), count, per)
    }

    pub(super) fn slot(&self, kind: Kind, name: &[u8], lease: Option<Duration>) -> Slot {
        Slot { shared: Arc::clone(&self.shared), id: Id::new(kind, name), number: 0, lease }
    }
}

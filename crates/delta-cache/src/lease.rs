//! The lease on a cold key: one process computes it, the others wait.
//!
//! Liveness is a lock that the kernel holds for an open file and drops with its process, so that a dead owner is
//! replaced at once, in containers too. A stuck owner loses its lease at the deadline of whoever waits: the waiter draws
//! the next token without the lock, and the owner, should it wake, finds that its token is no longer current.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_telemetry::{CacheSpan, Seam};

use crate::error::CacheError;
use crate::index::Index;
use crate::lock_file::LockFile;

/// How often a waiter looks again: the time that a hit may lag behind the publication it waited for.
const POLL: Duration = Duration::from_millis(5);

/// How long a wait goes on before a word of it.
const SILENCE: Duration = Duration::from_secs(2);

/// A lease with its fencing token. Dropping it lets the next process in.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) token: u64,
    lock: Option<LockFile>,
}

impl Lease {
    /// Waits for the lease on `resource`, at most until `deadline`, then takes it over. `wait` starts the operation that
    /// waiting is, where somebody else holds it.
    pub(crate) async fn acquire(
        index: &Index,
        dir: &Path,
        resource: &[u8; 32],
        deadline: Duration,
        seam: &Seam,
        wait: impl Fn() -> CacheSpan,
    ) -> Result<Self, CacheError> {
        let mut waiting = None;
        let lock = Self::locked(dir, resource, deadline, seam, || waiting = Some(wait())).await;
        if let Some(waiting) = waiting {
            match &lock {
                Ok(_) => waiting.ok(None),
                Err(error) => waiting.error(error.kind()),
            };
        }
        let lock = lock?;
        let token = index.take_token(resource, seam.unix_ms())?;
        Ok(Self { token, lock })
    }

    /// The lock; none where it was not given until the deadline. Calls `waits` once if it is not free.
    async fn locked(
        dir: &Path,
        resource: &[u8; 32],
        deadline: Duration,
        seam: &Seam,
        mut waits: impl FnMut(),
    ) -> Result<Option<LockFile>, CacheError> {
        std::fs::create_dir_all(dir).map_err(CacheError::io("create the directory", dir))?;
        let path = lock_path(dir, resource);
        let watch = seam.stopwatch();
        let (mut waited, mut told) = (false, false);
        loop {
            if let Some(lock) = LockFile::try_take(&path)? {
                return Ok(Some(lock));
            }
            if !waited {
                waited = true;
                waits();
            }
            if watch.elapsed() >= deadline {
                tracing::warn!(lease = %path.display(), "the owner of a lease is past its deadline; taking over");
                return Ok(None);
            }
            if !told && watch.elapsed() >= SILENCE {
                told = true;
                tracing::warn!(
                    target: "alluvium.lease",
                    "another process computes what this one needs; waiting for it, for {} s at most",
                    deadline.as_secs()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether nobody else can hold the lease: it was not taken over from an owner that may wake.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.lock.is_some()
    }

    /// Whether somebody holds the lease on `resource`.
    pub(crate) fn is_held(dir: &Path, resource: &[u8; 32]) -> bool {
        LockFile::is_held(&lock_path(dir, resource))
    }

    /// Keeps everybody from computing `resource` while the returned file lives; none if somebody does. It is no lease: it
    /// draws no token, and publishes nothing.
    pub(crate) fn keep_out(dir: &Path, resource: &[u8; 32]) -> Result<Option<LockFile>, CacheError> {
        std::fs::create_dir_all(dir).map_err(CacheError::io("create the directory", dir))?;
        LockFile::try_take(&lock_path(dir, resource))
    }
}

fn lock_path(dir: &Path, resource: &[u8; 32]) -> PathBuf {
    let name: String = resource.iter().map(|byte| format!("{byte:02x}")).collect();
    dir.join(format!("{name}.lock"))
}

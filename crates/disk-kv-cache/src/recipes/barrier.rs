//! [`barrier`]: one caller at a time, or a few.

use super::{BoundedSemaphore, Lock, LockError, LockGuard, Permit, ReentrantGuard, ReentrantLock};

/// What a [`barrier`] can be made of: [`Lock`], [`ReentrantLock`] and [`BoundedSemaphore`].
pub trait Barrier: sealed::Sealed {
    /// Holds it until it is dropped.
    type Guard;

    /// Takes it, waiting without a limit.
    ///
    /// # Errors
    /// [`LockError`].
    fn enter(&self) -> Result<Self::Guard, LockError>;
}

mod sealed {
    /// Keeps the trait ours to extend.
    pub trait Sealed {}
}

macro_rules! barriers {
    ($($barrier:ty => $guard:ty),+) => {$(
        impl sealed::Sealed for $barrier {}

        impl Barrier for $barrier {
            type Guard = $guard;

            fn enter(&self) -> Result<$guard, LockError> {
                self.acquire()
            }
        }
    )+};
}

barriers!(Lock => LockGuard, ReentrantLock => ReentrantGuard, BoundedSemaphore => Permit);

/// Runs `f` while holding a lock, waiting for it without a limit: one caller at a time over all processes; or, with a
/// semaphore, as many as it has permits. With a [`ReentrantLock`], `f` may come to the same barrier again.
///
/// # Errors
/// A [`LockError`] if the lock could not be taken; `f` did not run then.
///
/// ```
/// # use alluvium_disk_kv_cache::{Coordination, Settings, barrier};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let coordination = Coordination::open(temp.path(), Settings::new())?;
/// let sum = barrier(&coordination.lock("the report"), || 40 + 2)?;
/// assert_eq!(sum, 42);
/// # Ok(()) }
/// ```
pub fn barrier<B: Barrier, T>(lock: &B, f: impl FnOnce() -> T) -> Result<T, LockError> {
    let guard = lock.enter()?;
    let answer = f();
    drop(guard);
    Ok(answer)
}

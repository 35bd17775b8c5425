//! Recipes for processes that work together: locks, semaphores, throttles, averages, and computing once.

mod averager;
mod barrier;
mod coordination;
mod error;
mod flight;
mod lock;
mod memoize;
mod reentrant;
mod semaphore;
mod slot;
mod stampede;
mod throttle;
mod wait;

pub use averager::Averager;
pub use barrier::{Barrier, barrier};
pub use coordination::{Coordination, Owner};
pub use error::{CoordinationError, LockError};
pub use lock::{Lock, LockGuard};
pub use memoize::{MemoCache, MemoError, memoize, memoize_async};
pub use reentrant::{ReentrantGuard, ReentrantLock};
pub use semaphore::{BoundedSemaphore, Permit};
pub use stampede::Stampede;
pub use throttle::{Pass, Throttle};

//! The one seam to the wall clock and to sleeping: [`Clock`], the system's, and one that tests turn by hand.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time, and lets it pass. Whatever expires, waits or measures takes one.
///
/// Expiry is judged by the wall clock, because several processes share it. It may go backwards; nothing in this crate
/// orders entries by it.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Nanoseconds since 1970-01-01 UTC: 0 if the clock stands before it, `u64::MAX` from the year 2554 on.
    fn unix_nanos(&self) -> u64;

    /// Time since a fixed moment in this process; never goes backwards.
    fn monotonic(&self) -> Duration;

    /// Returns after `duration` has passed by this clock.
    fn sleep(&self, duration: Duration);

    /// Milliseconds since 1970-01-01 UTC, rounded down.
    fn unix_millis(&self) -> u64 {
        self.unix_nanos() / 1_000_000
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn unix_nanos(&self) -> u64 {
        (**self).unix_nanos()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }

    fn sleep(&self, duration: Duration) {
        (**self).sleep(duration);
    }
}

/// The machine's clock. The default wherever a [`Clock`] is taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

#[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
impl Clock for SystemClock {
    fn unix_nanos(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        nanos(since)
    }

    fn monotonic(&self) -> Duration {
        PROCESS_START.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        thread::sleep(duration);
    }
}

/// A clock that stands still until it is moved, for tests. Clones show the same time.
///
/// [`sleep`](Clock::sleep) moves it forward and returns at once.
///
/// ```
/// use std::time::Duration;
/// use alluvium_disk_kv_cache::{Clock, ManualClock};
///
/// let clock = ManualClock::at(Duration::from_secs(1_000));
/// clock.advance(Duration::from_millis(5));
/// assert_eq!(clock.unix_millis(), 1_000_005);
/// clock.set(Duration::from_secs(10));
/// assert_eq!(clock.unix_millis(), 10_000);
/// assert_eq!(clock.monotonic(), Duration::from_millis(5));
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug, Default)]
struct Hands {
    wall_ns: AtomicU64,
    monotonic_ns: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `since_epoch` after 1970-01-01 UTC.
    pub fn at(since_epoch: Duration) -> ManualClock {
        let clock = ManualClock::default();
        clock.set(since_epoch);
        clock
    }

    /// Lets time pass, by the wall and monotonic alike.
    pub fn advance(&self, by: Duration) {
        self.0.wall_ns.fetch_add(nanos(by), Ordering::SeqCst);
        self.0.monotonic_ns.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// Puts the wall clock to a time, forwards or backwards, as an administrator might. Monotonic time stands still.
    pub fn set(&self, since_epoch: Duration) {
        self.0.wall_ns.store(nanos(since_epoch), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_nanos(&self) -> u64 {
        self.0.wall_ns.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.monotonic_ns.load(Ordering::SeqCst))
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

/// Whole nanoseconds, at most `u64::MAX`.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since a fixed moment, some of them late: for what is asked so often that the exact time would cost too much.
pub(crate) fn coarse_millis() -> u64 {
    #[cfg(target_os = "linux")]
    {
        coarse_nanos(libc::CLOCK_MONOTONIC_COARSE) / 1_000_000
    }
    #[cfg(not(target_os = "linux"))]
    {
        SystemClock.monotonic().as_millis() as u64
    }
}

/// Nanoseconds since 1970-01-01 UTC by the clock that stamps files: what is stamped from now on has this time or a later one.
/// Where that clock is not known it is the wall clock, and stamps may be a tick before it.
pub(crate) fn stamp_nanos() -> u64 {
    #[cfg(target_os = "linux")]
    {
        coarse_nanos(libc::CLOCK_REALTIME_COARSE)
    }
    #[cfg(not(target_os = "linux"))]
    {
        SystemClock.unix_nanos()
    }
}

/// What a clock of the kernel that moves with its ticks shows, in nanoseconds: 0 before its epoch.
#[cfg(target_os = "linux")]
fn coarse_nanos(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a value that outlives the call. It cannot fail: every Linux has these clocks.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_moves_and_is_past_2020() {
        let clock = SystemClock;
        assert!(clock.unix_millis() > 1_577_836_800_000);
        let before = clock.monotonic();
        clock.sleep(Duration::from_millis(2));
        assert!(clock.monotonic() - before >= Duration::from_millis(2));
    }

    #[test]
    fn clones_of_a_manual_clock_show_the_same_time() {
        let clock = ManualClock::at(Duration::from_secs(5));
        let other: Arc<dyn Clock> = Arc::new(clock.clone());
        other.sleep(Duration::from_secs(2));
        assert_eq!(clock.unix_nanos(), 7_000_000_000);
        assert_eq!(clock.monotonic(), Duration::from_secs(2));
    }

    #[test]
    fn coarse_time_moves_too() {
        let before = coarse_millis();
        SystemClock.sleep(Duration::from_millis(30));
        assert!((10..10_000).contains(&(coarse_millis() - before)));
    }

    #[test]
    fn durations_beyond_what_fits_are_the_longest_that_does() {
        assert_eq!(nanos(Duration::MAX), u64::MAX);
        assert_eq!(nanos(Duration::from_nanos(3)), 3);
    }
}

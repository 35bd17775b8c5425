//! The clock of a cache root, as its key-value caches take one.

use std::time::Duration;

use alluvium_disk_kv_cache::{Clock, SystemClock};
use alluvium_telemetry::{Seam, Stopwatch};

/// Tells the time of a [`Seam`], by which entries expire. Waiting takes the machine's time.
#[derive(Debug)]
pub(crate) struct SeamClock {
    seam: Seam,
    opened: Stopwatch,
}

impl SeamClock {
    pub(crate) fn new(seam: Seam) -> Self {
        let opened = seam.stopwatch();
        Self { seam, opened }
    }
}

impl Clock for SeamClock {
    fn unix_nanos(&self) -> u64 {
        u64::try_from(self.seam.unix_ns()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.opened.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration);
    }
}

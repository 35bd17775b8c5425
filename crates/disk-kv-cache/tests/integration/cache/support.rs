//! Caches for tests: no syncing, a clock turned by hand, small files.

use std::path::Path;
use std::time::Duration;

use alluvium_disk_kv_cache::{Cache, CacheOptions, CacheSettings, ManualClock, Problem};

use crate::child::quick;

/// From this length on a value has a file of its own.
pub const FILE_BYTES: u64 = 100;

pub fn settings() -> CacheSettings {
    CacheSettings::new().with_min_file_size_bytes(FILE_BYTES)
}

pub fn options(clock: &ManualClock) -> CacheOptions {
    // Room enough for most tests, so that their transactions need not run twice.
    CacheOptions::new().with_store(quick().with_initial_map_bytes(1 << 20)).with_clock(clock.clone())
}

pub fn clock() -> ManualClock {
    ManualClock::at(Duration::from_secs(1_000_000))
}

/// A cache in a directory of its own.
pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub clock: ManualClock,
    pub cache: Cache,
}

impl Fixture {
    pub fn new(settings: CacheSettings) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let clock = clock();
        let cache = options(&clock).with_settings(settings).open(dir.path()).unwrap();
        Fixture { dir, clock, cache }
    }

    pub fn files(&self) -> usize {
        files(self.dir.path())
    }
}

/// The number of value files.
pub fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("values")).map_or(0, Iterator::count)
}

/// A value of its own kind, long enough for a file.
pub fn large(byte: u8) -> Vec<u8> {
    vec![byte; FILE_BYTES as usize * 3]
}

pub fn assert_sound(cache: &Cache) {
    assert_eq!(cache.check(false).unwrap(), Vec::<Problem>::new());
}

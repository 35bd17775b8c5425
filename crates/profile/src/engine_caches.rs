//! What the engine remembers of files while a session lives: listings, statistics, footers.
//!
//! It knows a file again by size and modification time, which is less than a pin looks at: a file rewritten within both
//! would be read by its old footer. So nothing is remembered unless a profile asks for it; and a listing, which the engine
//! would keep for ever, always has a time to live.

use std::time::Duration;

use alluvium_contracts::EngineCachePreset;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;

const MIB: usize = 1 << 20;

/// The limits, in bytes; 0: nothing is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineCaches {
    pub(crate) metadata_bytes: usize,
    pub(crate) statistics_bytes: usize,
    pub(crate) listing_bytes: usize,
    pub(crate) listing_ttl: Duration,
}

impl EngineCaches {
    pub(crate) const fn preset(preset: EngineCachePreset) -> Self {
        let (metadata_bytes, statistics_bytes, listing_bytes) = match preset {
            EngineCachePreset::Strict => (0, 0, 0),
            EngineCachePreset::AlwaysLatest => (50 * MIB, 20 * MIB, MIB),
            // A pinned list is never listed again, and whatever else is listed has to be seen as it is.
            EngineCachePreset::SnapshotPinned => (50 * MIB, 20 * MIB, 0),
        };
        Self { metadata_bytes, statistics_bytes, listing_bytes, listing_ttl: Duration::from_secs(30) }
    }

    pub(crate) fn apply(self, builder: RuntimeEnvBuilder) -> RuntimeEnvBuilder {
        builder
            .with_metadata_cache_limit(self.metadata_bytes)
            .with_file_statistics_cache_limit(self.statistics_bytes)
            .with_object_list_cache_limit(self.listing_bytes)
            .with_object_list_cache_ttl(Some(self.listing_ttl))
    }
}

//! How much each kind of key-value store keeps, and for how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_contracts::{EvictionPolicy, KvCacheSpec, KvSpec, KvStoreSpec};
use alluvium_disk_kv_cache::{CacheSettings, Eviction};

use crate::kv_kind::KvKind;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// The settings of one kind.
///
/// | kind | `size_limit_bytes` | `ttl` | `shards` |
/// |---|---|---|---|
/// | plan | 512 MiB | none | 1 |
/// | extract | 8 GiB | 24 h | 8 |
/// | schema | 256 MiB | 5 min | 1 |
/// | repo_scan | 512 MiB | 30 min | 1 |
/// | runtime | 256 MiB | 24 h | 1 |
/// | queue, index | 128 MiB | never forgets | – |
/// | coordination | 64 MiB | never forgets | – |
///
/// Every cache culls up to 10 entries a write, the least recently stored first, and counts hits and misses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KvKindSettings {
    /// Bytes beyond which a cache evicts; for a kind that never forgets, bytes beyond which
    /// [`KvSettings::outgrown`] tells.
    pub size_limit_bytes: u64,
    /// How long an entry is kept, unless whoever stores it says otherwise. `None`: for ever.
    pub ttl: Option<Duration>,
    /// Stores that the entries are spread over, from 1 to 1,000. A cache keeps the number that it was made with.
    pub shards: u32,
    /// Entries that one write removes at most. 0: none.
    pub cull_limit: u32,
    /// Which entries go first.
    pub eviction: Eviction,
    /// Whether hits and misses are counted.
    pub statistics: bool,
}

impl KvKindSettings {
    /// What a kind has when nothing is said of it: the table above.
    #[must_use]
    pub const fn preset(kind: KvKind) -> Self {
        let (size_limit_bytes, ttl_seconds, shards) = match kind {
            KvKind::Plan => (512 * MIB, 0, 1),
            KvKind::Extract => (8 * GIB, DAY, 8),
            KvKind::Schema => (256 * MIB, 5 * MINUTE, 1),
            KvKind::RepoScan => (512 * MIB, 30 * MINUTE, 1),
            KvKind::Runtime => (256 * MIB, DAY, 1),
            KvKind::Queue | KvKind::Index => (128 * MIB, 0, 1),
            KvKind::Coordination => (64 * MIB, 0, 1),
        };
        Self {
            size_limit_bytes,
            ttl: ttl(ttl_seconds),
            shards,
            cull_limit: if kind.is_cache() { 10 } else { 0 },
            eviction: if kind.is_cache() { Eviction::LeastRecentlyStored } else { Eviction::None },
            statistics: kind.is_cache(),
        }
    }

    fn of_cache(kind: KvKind, spec: &KvCacheSpec) -> Self {
        let preset = Self::preset(kind);
        Self {
            size_limit_bytes: spec.size_limit_bytes.unwrap_or(preset.size_limit_bytes),
            ttl: spec.ttl_seconds.map_or(preset.ttl, ttl),
            shards: spec.shards.unwrap_or(preset.shards),
            cull_limit: spec.cull_limit.unwrap_or(preset.cull_limit),
            eviction: spec.eviction_policy.map_or(preset.eviction, eviction),
            statistics: spec.statistics.unwrap_or(preset.statistics),
        }
    }

    fn of_store(kind: KvKind, spec: &KvStoreSpec) -> Self {
        let preset = Self::preset(kind);
        Self { size_limit_bytes: spec.size_limit_bytes.unwrap_or(preset.size_limit_bytes), ..preset }
    }

    /// The settings of the cache below a kind.
    pub(crate) fn cache(&self) -> CacheSettings {
        CacheSettings::new()
            .with_size_limit_bytes(self.size_limit_bytes)
            .with_cull_limit(self.cull_limit)
            .with_eviction(self.eviction)
            .with_statistics(self.statistics)
    }
}

const fn ttl(seconds: u64) -> Option<Duration> {
    match seconds {
        0 => None,
        seconds => Some(Duration::from_secs(seconds)),
    }
}

const fn eviction(policy: EvictionPolicy) -> Eviction {
    match policy {
        EvictionPolicy::LeastRecentlyStored => Eviction::LeastRecentlyStored,
        EvictionPolicy::LeastRecentlyUsed => Eviction::LeastRecentlyUsed,
        EvictionPolicy::LeastFrequentlyUsed => Eviction::LeastFrequentlyUsed,
        EvictionPolicy::None => Eviction::None,
    }
}

/// Where the key-value stores of a cache root lie, and the settings of each kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvSettings {
    root: Option<PathBuf>,
    kinds: [KvKindSettings; KvKind::ALL.len()],
}

impl Default for KvSettings {
    /// `kv` in the cache root, and the preset of every kind.
    fn default() -> Self {
        Self { root: None, kinds: KvKind::ALL.map(KvKindSettings::preset) }
    }
}

impl KvSettings {
    /// Another directory than `kv` in the cache root. A cache root is written through one only: whoever comes first decides.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Changes the settings of one kind. What a kind does not know ([`KvKind::is_cache`]) changes nothing.
    #[must_use]
    pub fn with_kind(mut self, kind: KvKind, change: impl FnOnce(&mut KvKindSettings)) -> Self {
        change(&mut self.kinds[kind as usize]);
        self
    }

    /// The directory, if it is not the one in the cache root.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The settings of one kind.
    #[must_use]
    pub fn kind(&self, kind: KvKind) -> &KvKindSettings {
        &self.kinds[kind as usize]
    }

    /// Whether a kind that never forgets takes more bytes than it should: a person has to look.
    #[must_use]
    pub fn outgrown(&self, kind: KvKind, file_bytes: u64) -> bool {
        !kind.is_cache() && file_bytes > self.kind(kind).size_limit_bytes
    }
}

impl From<&KvSpec> for KvSettings {
    fn from(spec: &KvSpec) -> Self {
        let kinds = KvKind::ALL.map(|kind| match kind {
            KvKind::Plan => KvKindSettings::of_cache(kind, &spec.plan),
            KvKind::Extract => KvKindSettings::of_cache(kind, &spec.extract),
            KvKind::Schema => KvKindSettings::of_cache(kind, &spec.schema),
            KvKind::RepoScan => KvKindSettings::of_cache(kind, &spec.repo_scan),
            KvKind::Runtime => KvKindSettings::of_cache(kind, &spec.runtime),
            KvKind::Queue => KvKindSettings::of_store(kind, &spec.queue),
            KvKind::Index => KvKindSettings::of_store(kind, &spec.index),
            KvKind::Coordination => KvKindSettings::of_store(kind, &spec.coordination),
        });
        Self { root: None, kinds }
    }
}

/// Fills in what a `[profile.kv]` leaves out.
pub(crate) fn fill(spec: &mut KvSpec) {
    let fill_cache = |kind: KvKind, spec: &mut KvCacheSpec| {
        let full = KvKindSettings::of_cache(kind, spec);
        *spec = KvCacheSpec {
            size_limit_bytes: Some(full.size_limit_bytes),
            ttl_seconds: Some(full.ttl.map_or(0, |ttl| ttl.as_secs())),
            shards: Some(full.shards),
            cull_limit: Some(full.cull_limit),
            eviction_policy: Some(policy(full.eviction)),
            statistics: Some(full.statistics),
        };
    };
    fill_cache(KvKind::Plan, &mut spec.plan);
    fill_cache(KvKind::Extract, &mut spec.extract);
    fill_cache(KvKind::Schema, &mut spec.schema);
    fill_cache(KvKind::RepoScan, &mut spec.repo_scan);
    fill_cache(KvKind::Runtime, &mut spec.runtime);
    let fill_store = |kind: KvKind, spec: &mut KvStoreSpec| {
        spec.size_limit_bytes = Some(KvKindSettings::of_store(kind, spec).size_limit_bytes);
    };
    fill_store(KvKind::Queue, &mut spec.queue);
    fill_store(KvKind::Index, &mut spec.index);
    fill_store(KvKind::Coordination, &mut spec.coordination);
}

/// The contract's word for a policy of eviction.
pub(crate) fn policy(eviction: Eviction) -> EvictionPolicy {
    match eviction {
        Eviction::LeastRecentlyUsed => EvictionPolicy::LeastRecentlyUsed,
        Eviction::LeastFrequentlyUsed => EvictionPolicy::LeastFrequentlyUsed,
        Eviction::None => EvictionPolicy::None,
        // The rest is the default, and whatever a later version of the cache adds has no word here yet.
        _ => EvictionPolicy::LeastRecentlyStored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_presets_of_the_kinds() {
        let settings = KvSettings::default();
        let lines: Vec<_> = KvKind::ALL.map(|kind| format!("{kind}: {:?}", settings.kind(kind))).into();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_is_filled_in_is_what_is_used() {
        let mut spec = KvSpec::default();
        fill(&mut spec);
        assert_eq!(KvSettings::from(&spec), KvSettings::default());
        assert_eq!(KvSettings::from(&KvSpec::default()), KvSettings::default());
    }

    #[test]
    fn only_kinds_that_never_forget_can_outgrow_their_limit() {
        let settings = KvSettings::default().with_kind(KvKind::Index, |kind| kind.size_limit_bytes = 10);
        assert!(settings.outgrown(KvKind::Index, 11) && !settings.outgrown(KvKind::Index, 10));
        assert!(!settings.outgrown(KvKind::Plan, u64::MAX));
    }
}

//! What a cache tells of itself, as JSON and as text.

use std::time::{SystemTime, UNIX_EPOCH};

use alluvium_disk_kv_cache::{CacheSettings, EntryDamage, Eviction, Item, KeyBuf, Maintenance, Problem, Stats};
use serde_json::{Value, json};

use super::codec::{bytes_to_json, key_to_json};

/// The policies of eviction, by name.
pub const EVICTIONS: &[(&str, Eviction)] = &[
    ("least_recently_stored", Eviction::LeastRecentlyStored),
    ("least_recently_used", Eviction::LeastRecentlyUsed),
    ("least_frequently_used", Eviction::LeastFrequentlyUsed),
    ("none", Eviction::None),
];

/// Statistics.
pub fn stats(stats: &Stats) -> Value {
    json!({
        "entries": stats.entries,
        "volume_bytes": stats.volume_bytes,
        "hits": stats.hits,
        "misses": stats.misses,
        "damaged": stats.damaged,
    })
}

/// Settings.
pub fn settings(settings: &CacheSettings) -> Value {
    json!({
        "eviction": eviction(settings.eviction()),
        "statistics": settings.statistics(),
        "cull_limit": settings.cull_limit(),
        "size_limit_bytes": settings.size_limit_bytes(),
        "min_file_size_bytes": settings.min_file_size_bytes(),
    })
}

/// The name of a policy.
pub fn eviction(eviction: Eviction) -> &'static str {
    // A policy that a later library adds and this page does not name.
    EVICTIONS.iter().find(|(_, known)| *known == eviction).map_or("unknown", |(name, _)| name)
}

/// What maintenance did.
pub fn maintenance(done: &Maintenance) -> Value {
    json!({ "expired": done.expired, "culled": done.culled, "orphan_files": done.orphan_files })
}

/// A value with its expiry and tags.
pub fn item(item: Item) -> Value {
    json!({ "value": bytes_to_json(item.value), "expires_at": item.expires_at.map(unix_seconds), "tags": item.tags })
}

/// A key with its item.
pub fn entry((key, item): (KeyBuf, Item)) -> Value {
    json!({
        "key": key_to_json(&key),
        "value": bytes_to_json(item.value),
        "expires_at": item.expires_at.map(unix_seconds),
        "tags": item.tags,
    })
}

/// A shard that was lost, for people.
pub fn lost_shard(shard: &str) -> String {
    format!("shard {shard} was lost: begun anew, without what it held")
}

/// A problem, for people.
pub fn problem_text(problem: &Problem) -> String {
    match problem {
        Problem::Entry { key, damage } => format!("entry {key:?}: {}", damage_text(*damage)),
        Problem::NotIndexed { key, index } => format!("entry {key:?}: missing in the index {index:?}"),
        Problem::Stray { index, row } => {
            format!("index {index:?}: no entry stands behind its row {}", row.escape_ascii())
        }
        Problem::Volume { recorded, counted } => {
            format!("volume: {recorded} bytes were recorded, the entries have {counted}")
        }
        Problem::State => "settings and counters: damaged".to_owned(),
        Problem::Sequence => "sequence: the next number is in use already".to_owned(),
        Problem::OrphanFile { name } => format!("file {name}: no entry refers to it"),
        other => format!("{other:?}"),
    }
}

/// Seconds since 1970.
pub fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Milliseconds since 1970 as seconds.
pub fn millis_as_seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

fn damage_text(damage: EntryDamage) -> &'static str {
    match damage {
        EntryDamage::Row => "its row was changed or cut off",
        EntryDamage::MissingFile => "the file of its value is not there",
        EntryDamage::File => "the file of its value was changed or cut off",
        _ => "it is damaged",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_its_name() {
        for (name, policy) in EVICTIONS {
            assert_eq!(eviction(*policy), *name);
        }
    }
}

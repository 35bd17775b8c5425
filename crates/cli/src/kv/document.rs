//! What the commands print as JSON: contracts, made of what the library says.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use alluvium_contracts::{
    EvictionPolicy, KvCheck, KvEntryDamage, KvKeys, KvProblem, KvProblemKind, KvRemoval, KvRemovalReason, KvStats,
};
use alluvium_disk_kv_cache::{CacheSettings, EngineKind, EntryDamage, Eviction, KeyBuf, Problem, Stats};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{codec, describe};
use crate::failure::Failure;

/// What `stats` prints of the cache in `dir`, which has `shards` shards or is a plain one.
pub fn stats(
    dir: &Path,
    shards: Option<usize>,
    stats: &Stats,
    settings: &CacheSettings,
    event_time_unix_ms: i64,
) -> Result<KvStats, Failure> {
    let file_bytes = bytes_below(dir)
        .map_err(|error| Failure::failed(format!("cannot measure {}", dir.display())).because(error))?;
    let counted = |count| settings.statistics().then_some(count);
    Ok(KvStats {
        event_time_unix_ms,
        kind: "cache".to_owned(),
        // The only engine of caches that several processes share, and so the only one here.
        engine: EngineKind::Lmdb.to_string(),
        directory: shown(dir),
        shards: shards.map_or(1, |shards| u32::try_from(shards).unwrap_or(u32::MAX)),
        size_limit_bytes: Some(settings.size_limit_bytes()),
        cull_limit: settings.cull_limit(),
        eviction_policy: eviction(settings.eviction())?,
        statistics: settings.statistics(),
        // Entries of these caches always are.
        tag_index: true,
        min_file_size_bytes: Some(settings.min_file_size_bytes()),
        entry_count: stats.entries,
        volume_bytes: stats.volume_bytes,
        file_bytes,
        hits: counted(stats.hits),
        misses: counted(stats.misses),
        damaged: stats.damaged,
    })
}

/// What `ls` prints.
pub fn keys(dir: &Path, keys: &[KeyBuf]) -> KvKeys {
    KvKeys { directory: shown(dir), keys: keys.iter().map(key).collect() }
}

/// What the commands print that remove entries.
pub fn removal(dir: &Path, reason: KvRemovalReason, removed_count: u64) -> KvRemoval {
    KvRemoval { directory: shown(dir), reason, removed_count }
}

/// What `check` prints.
pub fn check(dir: &Path, begun: &[String], problems: &[Problem], mended: bool) -> KvCheck {
    let lost = begun.iter().map(|shard| KvProblem::new(KvProblemKind::MissingShard, describe::lost_shard(shard)));
    KvCheck { directory: shown(dir), mended, problems: lost.chain(problems.iter().map(problem)).collect() }
}

/// A problem as the shell tells it: as `check` prints it, but without what does not belong to its kind, and with the key as
/// the shell has keys.
pub fn shell_problem(found: &Problem) -> Result<Value, serde_json::Error> {
    let mut told = serde_json::to_value(problem(found))?;
    if let Some(told) = told.as_object_mut() {
        told.retain(|_, value| !value.is_null());
        if let Problem::Entry { key, .. } | Problem::NotIndexed { key, .. } = found {
            told.insert("key".to_owned(), codec::key_to_json(key));
        }
    }
    Ok(told)
}

fn problem(problem: &Problem) -> KvProblem {
    let of = |kind| KvProblem::new(kind, describe::problem_text(problem));
    match problem {
        Problem::Entry { key: of_entry, damage } => {
            KvProblem { key: Some(key(of_entry)), damage: Some(entry_damage(*damage)), ..of(KvProblemKind::Entry) }
        }
        Problem::NotIndexed { key: of_entry, index } => {
            KvProblem { key: Some(key(of_entry)), index: Some((*index).to_owned()), ..of(KvProblemKind::NotIndexed) }
        }
        Problem::Stray { index, row } => KvProblem {
            index: Some((*index).to_owned()),
            row_base64: Some(STANDARD.encode(row)),
            ..of(KvProblemKind::Stray)
        },
        Problem::Volume { recorded, counted } => {
            KvProblem { recorded_bytes: Some(*recorded), counted_bytes: Some(*counted), ..of(KvProblemKind::Volume) }
        }
        Problem::State => of(KvProblemKind::State),
        Problem::Sequence => of(KvProblemKind::Sequence),
        Problem::OrphanFile { name } => KvProblem { file_name: Some(name.clone()), ..of(KvProblemKind::OrphanFile) },
        _ => of(KvProblemKind::Other),
    }
}

fn entry_damage(damage: EntryDamage) -> KvEntryDamage {
    match damage {
        EntryDamage::Row => KvEntryDamage::Row,
        EntryDamage::MissingFile => KvEntryDamage::MissingFile,
        EntryDamage::File => KvEntryDamage::File,
        _ => KvEntryDamage::Other,
    }
}

fn eviction(eviction: Eviction) -> Result<EvictionPolicy, Failure> {
    match eviction {
        Eviction::LeastRecentlyStored => Ok(EvictionPolicy::LeastRecentlyStored),
        Eviction::LeastRecentlyUsed => Ok(EvictionPolicy::LeastRecentlyUsed),
        Eviction::LeastFrequentlyUsed => Ok(EvictionPolicy::LeastFrequentlyUsed),
        Eviction::None => Ok(EvictionPolicy::None),
        other => Err(Failure::failed(format!("the contract of statistics has no word for {other:?}; update alluvium"))),
    }
}

/// A key as `--json-key` takes it.
fn key(key: &KeyBuf) -> String {
    codec::key_to_json(key).to_string()
}

fn shown(dir: &Path) -> String {
    dir.display().to_string()
}

/// The bytes that the files below `dir` take on the device; what vanishes meanwhile counts nothing.
fn bytes_below(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let below = entry.metadata().and_then(|metadata| match metadata.is_dir() {
            true => bytes_below(&entry.path()),
            // A store's file is sparse: its length is that of its map. Blocks are of 512 bytes whatever the file system.
            false => Ok(metadata.blocks() * 512),
        });
        match below {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            below => bytes += below?,
        }
    }
    Ok(bytes)
}

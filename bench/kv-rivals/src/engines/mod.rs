//! The sides: one trait, each engine as its own users would call it.

mod fjall;
mod heed;
mod ours;
mod redb;
mod sled;
mod sqlite;

use std::path::Path;

use alluvium_disk_kv_cache::{Durability, SetOptions};
use anyhow::Result;

use crate::scale::key;

/// What is asked of every side. Values are copied out, as a cache's users get them.
pub trait Engine {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    /// Whether it was there.
    fn delete(&mut self, key: &[u8]) -> Result<bool>;

    /// Stores `entries` entries under the keys of [`key`]. Not measured: an engine may batch.
    ///
    /// LMDB's sides do not, as a cache is filled one entry at a time, and as it matters later: since Linux 6.16 ext4 keeps
    /// pages that were written side by side in one folio, and writing one of them goes over all.
    fn fill(&mut self, entries: u64, value: &mut dyn FnMut() -> Vec<u8>) -> Result<()> {
        (0..entries).try_for_each(|n| self.set(&key(n), &value()))
    }
}

/// Every side, under the name in the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Cache,
    /// [`Kind::Cache`], with a tag and an expiry on each entry.
    CacheFull,
    /// [`Kind::Cache`], each commit synced.
    CacheSync,
    Fanout,
    Heed,
    /// One transaction over three tables for each set: what an entry, its tag and its expiry need.
    HeedThreeTables,
    Sled,
    SledFlush,
    Redb,
    RedbSync,
    Fjall,
    Sqlite,
}

impl Kind {
    pub const ALL: [Kind; 12] = [
        Kind::Cache,
        Kind::CacheFull,
        Kind::CacheSync,
        Kind::Fanout,
        Kind::Heed,
        Kind::HeedThreeTables,
        Kind::Sled,
        Kind::SledFlush,
        Kind::Redb,
        Kind::RedbSync,
        Kind::Fjall,
        Kind::Sqlite,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Cache => "Cache",
            Kind::CacheFull => "Cache, tag and expiry",
            Kind::CacheSync => "Cache, synced",
            Kind::Fanout => "FanoutCache",
            Kind::Heed => "heed",
            Kind::HeedThreeTables => "heed, three tables",
            Kind::Sled => "sled",
            Kind::SledFlush => "sled, flushed",
            Kind::Redb => "redb, not durable",
            Kind::RedbSync => "redb",
            Kind::Fjall => "fjall",
            Kind::Sqlite => "SQLite, DiskCache's schema",
        }
    }

    /// What an acknowledged write survives.
    pub fn durability(self) -> &'static str {
        match self {
            Kind::Sled | Kind::Redb => "nothing",
            Kind::CacheSync | Kind::SledFlush | Kind::RedbSync => "power cut",
            _ => "kill -9",
        }
    }

    /// Whether each write waits for the device: those are measured by fewer operations.
    pub fn syncs(self) -> bool {
        self.durability() == "power cut"
    }

    /// Whether several processes can use it at once.
    pub fn shares(self) -> bool {
        !matches!(self, Kind::Sled | Kind::SledFlush | Kind::Redb | Kind::RedbSync | Kind::Fjall)
    }

    pub fn open(self, dir: &Path) -> Result<Box<dyn Engine>> {
        Ok(match self {
            Kind::Cache => Box::new(ours::Single::open(dir, Durability::Process, SetOptions::new())?),
            Kind::CacheFull => Box::new(ours::Single::open(dir, Durability::Process, ours::tag_and_expiry())?),
            Kind::CacheSync => Box::new(ours::Single::open(dir, Durability::System, SetOptions::new())?),
            Kind::Fanout => Box::new(ours::Fanout::open(dir)?),
            Kind::Heed => Box::new(heed::Heed::open(dir, false)?),
            Kind::HeedThreeTables => Box::new(heed::Heed::open(dir, true)?),
            Kind::Sled => Box::new(sled::Sled::open(dir, false)?),
            Kind::SledFlush => Box::new(sled::Sled::open(dir, true)?),
            Kind::Redb => Box::new(redb::Redb::open(dir, false)?),
            Kind::RedbSync => Box::new(redb::Redb::open(dir, true)?),
            Kind::Fjall => Box::new(fjall::Fjall::open(dir)?),
            Kind::Sqlite => Box::new(sqlite::Sqlite::open(dir)?),
        })
    }
}

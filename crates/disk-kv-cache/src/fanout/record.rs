//! Which shards a cache has: `fanout.json` in its directory, and a row in each shard.
//!
//! Keys are looked for in the shard that their hash names, so a shard that is missing, empty or another one's would be
//! misses without a word. The file says how many shards there are; the row says which of them a store is, and of which
//! cache. Both are written once. The file is synced to the device at any durability, and only says that the cache is made
//! once its shards are on the device too.

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

use serde::{Deserialize, Serialize};

use super::MAX_SHARDS;
use crate::cache::tables::STATE;
use crate::directory::{self, Directory};
use crate::engine::EngineKind;
use crate::{Cache, CacheError, OpenCacheError, OpenError, Store, StoreError, View, layout, quarantine};

const FILE: &str = "fanout.json";
const NEW_FILE: &str = "fanout.json.new";
const FORMAT: u32 = 1;
/// Where a shard says which one it is: the id of the cache, the number of its shards, and its own.
const ROW: &[u8] = b"shard";

/// The shards of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// Tells the shards of this cache from those of others.
    id: String,
    pub(super) shards: usize,
    /// Whether all of them have been made.
    pub(super) made: bool,
}

impl Record {
    /// That of a new cache.
    pub(super) fn new(shards: usize) -> Record {
        let half = |which: u8| RandomState::new().hash_one((which, process::id()));
        Record { format: FORMAT, id: format!("{:016x}{:016x}", half(0), half(1)), shards, made: false }
    }

    /// That of the cache in `dir`; `None` if there is neither it nor a shard.
    pub(super) fn read(dir: &Path) -> Result<Option<Record>, OpenCacheError> {
        let unknown = |problem| OpenCacheError::ShardsUnknown { path: dir.to_path_buf(), problem };
        let bytes = match directory::read_small(&dir.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return if found(dir).is_empty() { Ok(None) } else { Err(unknown("is missing")) };
            }
            Err(error) => return Err(OpenError::io(dir, "read fanout.json", error).into()),
        };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.format != FORMAT => Err(unknown("is of another version of this crate")),
            Ok(record) if (1..=MAX_SHARDS).contains(&record.shards) => Ok(Some(record)),
            _ => Err(unknown("is damaged")),
        }
    }

    /// Writes it, whole or not at all, and to the device. The caller holds the directory's lock.
    pub(super) fn write(&self, dir: &Path) -> Result<(), OpenCacheError> {
        let io = |error| OpenError::io(dir, "write fanout.json", error);
        let bytes = serde_json::to_vec(self).map_err(io::Error::from).map_err(io)?;
        let new = dir.join(NEW_FILE);
        let _ = fs::remove_file(&new);
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(new, dir.join(FILE))).map_err(io)?;
        Ok(Directory::open(dir).and_then(|dir| dir.sync()).map_err(io)?)
    }

    /// Fails if the directory of a shard has no store.
    pub(super) fn expect(&self, dir: &Path, shard: usize) -> Result<(), OpenCacheError> {
        let place = place(dir, shard)?;
        // A damaged store that was set aside leaves a place for an empty one.
        if EngineKind::found_in(&place).is_some() || quarantine::has_some(&place) {
            return Ok(());
        }
        Err(OpenCacheError::MissingShard { path: dir.to_path_buf(), shard: name(shard), shards: self.shards })
    }

    /// Makes a store this cache's shard, if it may be: one of a cache that is being made, or one that took the place of
    /// a damaged one.
    pub(super) fn claim(&self, dir: &Path, shard: usize, cache: &Cache) -> Result<(), OpenCacheError> {
        let row = self.row(shard);
        if row_of(cache)?.is_some_and(|found| found == row) {
            return Ok(());
        }
        let may_claim = !self.made || quarantine::has_some(&dir.join(name(shard)));
        let claimed = cache.transact::<_, CacheError>(|txn| {
            let found = txn.rows.txn().get(STATE, ROW)?.map(|found| found == row);
            if found.is_none() && may_claim {
                txn.rows.put(STATE, ROW, &row)?;
            }
            Ok(found.unwrap_or(may_claim))
        })?;
        if claimed { Ok(()) } else { Err(self.another(dir, shard)) }
    }

    /// Fails if a store is not this cache's shard.
    pub(super) fn verify(&self, dir: &Path, shard: usize, cache: &Cache) -> Result<(), OpenCacheError> {
        match row_of(cache)? {
            Some(found) if found == self.row(shard) => Ok(()),
            None if !self.made || quarantine::has_some(&dir.join(name(shard))) => Ok(()),
            _ => Err(self.another(dir, shard)),
        }
    }

    /// What the row of a shard says of the cache it belongs to, and which shard it is.
    pub(super) fn of_shard(cache: &Cache) -> Result<Option<(Record, usize)>, CacheError> {
        let row = row_of(cache)?.unwrap_or_default();
        let parsed = str::from_utf8(&row).ok().and_then(|row| {
            let (id, rest) = row.split_once(' ')?;
            let (shard, shards) = rest.split_once('/')?;
            let (shard, shards): (usize, usize) = (shard.parse().ok()?, shards.parse().ok()?);
            let record = Record { format: FORMAT, id: id.to_owned(), shards, made: true };
            (shard < shards && shards <= MAX_SHARDS).then_some((record, shard))
        });
        Ok(parsed)
    }

    fn row(&self, shard: usize) -> Vec<u8> {
        format!("{} {shard}/{}", self.id, self.shards).into_bytes()
    }

    fn another(&self, dir: &Path, shard: usize) -> OpenCacheError {
        OpenCacheError::OtherShard { path: dir.to_path_buf(), shard: name(shard) }
    }
}

/// Whether a cache in shards lies in a directory, however little of it. Shards beside a store are a cache all the same: the
/// store may be somebody else's, unless it is a cache itself.
pub(super) fn is_at(dir: &Path) -> bool {
    dir.join(FILE).symlink_metadata().is_ok() || (!found(dir).is_empty() && !is_one_store(dir))
}

/// Whether a directory is that of a cache in one store.
pub(super) fn is_one_store(dir: &Path) -> bool {
    EngineKind::found_in(dir).is_some() && Store::open_read_only(dir, &[STATE]).is_ok()
}

/// The directory of a shard.
pub(super) fn name(shard: usize) -> String {
    format!("{shard:03}")
}

/// Where a shard lies; an error, if that is a link.
pub(super) fn place(dir: &Path, shard: usize) -> Result<PathBuf, OpenError> {
    layout::below(dir, &[&name(shard)])
}

/// The shards whose directories have a store.
pub(super) fn found(dir: &Path) -> Vec<usize> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_shard = |shard: &usize| *shard < MAX_SHARDS && EngineKind::found_in(&dir.join(name(*shard))).is_some();
    numbers.filter(is_shard).collect()
}

fn row_of(cache: &Cache) -> Result<Option<Vec<u8>>, CacheError> {
    let row = |view: View<'_, '_>| Ok::<_, StoreError>(view.txn().get(STATE, ROW)?.map(<[u8]>::to_vec));
    cache.view(|view| Ok(row(view)?))
}

//! Errors of caches: [`OpenCacheError`] for opening one, [`CacheError`] for using it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::cache::files::{ReadError, WriteError};
use crate::{KeyBuf, OpenError, StoreError};

/// Why a cache could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenCacheError {
    /// Its store could not be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Its settings could not be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A plain cache was asked for where there is one in shards.
    #[error("{} holds a cache in shards: open it with FanoutCache, or name another directory", path.display())]
    InShards {
        /// The directory.
        path: PathBuf,
    },
    /// A cache in shards was asked for where there is a plain one.
    #[error(
        "{} holds a cache in one store, which cannot be given shards: open it with Cache, or name another directory",
        path.display()
    )]
    InOneStore {
        /// The directory.
        path: PathBuf,
    },
    /// A fanout cache was made with another number of shards; keys would not be found.
    #[error("the cache in {} has {found} shards, not {requested}: open it with {found}", path.display())]
    Shards {
        /// The directory.
        path: PathBuf,
        /// The number it was made with.
        found: usize,
        /// The number asked for.
        requested: usize,
    },
    /// A fanout cache has lost the directory of a shard, or the store in it.
    #[error(
        "the cache in {} has lost its shard {shard} of {shards}: put the directory {shard} back from a copy, or begin it anew, \
         without what it held, with FanoutCache::repair",
        path.display()
    )]
    MissingShard {
        /// The directory of the cache.
        path: PathBuf,
        /// The name of the shard's directory in it.
        shard: String,
        /// How many shards it was made with.
        shards: usize,
    },
    /// A store lies where a shard of a fanout cache should, and is none of its: another cache's, another shard, or an empty
    /// one.
    #[error(
        "{shard} in {} is not the shard {shard} of this cache: put that back from a copy, or begin it anew, without what it \
         held, with FanoutCache::repair",
        path.display()
    )]
    OtherShard {
        /// The directory of the cache.
        path: PathBuf,
        /// The name of the shard's directory in it.
        shard: String,
    },
    /// There are shards, and the file that says how many there should be cannot be used.
    #[error(
        "fanout.json in {} {problem}, which says which shards the cache has: put it back from a copy, or have it made from \
         the shards with FanoutCache::repair",
        path.display()
    )]
    ShardsUnknown {
        /// The directory of the cache.
        path: PathBuf,
        /// What is wrong with the file.
        problem: &'static str,
    },
    /// A fanout cache has between 1 and 1,000 shards.
    #[error("a fanout cache of {requested} shards: ask for 1 to 1,000")]
    ShardCount {
        /// The number asked for.
        requested: usize,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryDamage {
    /// Its row was changed or cut off.
    Row,
    /// The file of its value is not there.
    MissingFile,
    /// The file of its value was changed or cut off.
    File,
}

/// Why an operation on a cache failed. A write that fails has changed nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry is damaged. Its bytes were not lent.
    #[error("the entry of {key:?} is damaged ({damage:?}): set or delete it, or run `check` with `fix`")]
    Damaged {
        /// The entry.
        key: KeyBuf,
        /// What is wrong.
        damage: EntryDamage,
    },
    /// The row of settings and counters is damaged.
    #[error("the settings of the cache in {} are damaged: run `check` with `fix`, which restores the defaults", path.display())]
    DamagedState {
        /// The directory.
        path: PathBuf,
    },
    /// A later version of this crate wrote the data.
    #[error("the cache in {} has rows of format version {found}: use the version of this crate that wrote them", path.display())]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u8,
    },
    /// The tags of one entry are too long.
    #[error(
        "the tags of one entry have more than 65,535 bytes together, or one of them more than a key may: use shorter ones"
    )]
    Tags,
    /// `incr` or `decr` of a value that is not a decimal integer of 64 bits.
    #[error("the value of {key:?} is not an integer of 64 bits: set it to one first")]
    NotAnInteger {
        /// The entry.
        key: KeyBuf,
    },
    /// The result of `incr` or `decr` does not fit 64 bits.
    #[error(
        "from {value}, the value of {key:?} would leave the range of 64 bits: nothing was changed, use smaller steps"
    )]
    Overflow {
        /// The entry.
        key: KeyBuf,
        /// Its value, or the default that a new one was to begin at.
        value: i64,
    },
    /// The number of a queue's next entry would leave the range of 64 bits.
    #[error("the queue {prefix:?} has used up its numbers on this side: drain it first")]
    QueueFull {
        /// The queue.
        prefix: String,
    },
    /// The reader from which a value was to be taken failed.
    #[error("the value could not be read from its source: nothing was stored")]
    Source {
        /// The cause.
        source: io::Error,
    },
    /// A transaction over several shards has changed more than one, and the commit of one failed after others were done.
    #[error(
        "the transaction has changed {changed} shards of the cache in {} and committed {committed} of them, the first in their \
         order: see what is there, and do the rest again",
        path.display()
    )]
    PartlyCommitted {
        /// The directory of the cache.
        path: PathBuf,
        /// How many shards were committed: at least one.
        committed: usize,
        /// How many the transaction had changed.
        changed: usize,
        /// Why the next one was not.
        source: StoreError,
    },
    /// There is no room for a value's file.
    #[error("no room for a value in {}: free some space there or raise the quota, then try again", path.display())]
    NoSpace {
        /// The directory of values.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The system refused an operation on a value's file.
    #[error("could not {action} in {}: see that it is a directory of this user's, and no link", path.display())]
    File {
        /// The directory of values.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
}

impl CacheError {
    /// Whether stored data was found damaged. A caller that can compute the value again may treat it as a miss.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            CacheError::Damaged { .. }
                | CacheError::DamagedState { .. }
                | CacheError::Store(StoreError::Damaged { .. })
        )
    }

    /// Sorts an error of the file system.
    pub(crate) fn file(path: &Path, action: &'static str, source: io::Error) -> CacheError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                CacheError::NoSpace { path, source }
            }
            _ => CacheError::File { path, action, source },
        }
    }

    pub(crate) fn write(path: &Path, error: WriteError) -> CacheError {
        match error {
            WriteError::Source(source) => CacheError::Source { source },
            WriteError::Io(source) => CacheError::file(path, "write a value", source),
        }
    }

    pub(crate) fn read(path: &Path, key: &[u8], error: ReadError) -> CacheError {
        let damaged = |damage| CacheError::Damaged { key: KeyBuf::trusted(key.to_vec()), damage };
        match error {
            ReadError::Missing => damaged(EntryDamage::MissingFile),
            ReadError::Damaged => damaged(EntryDamage::File),
            ReadError::Io(source) => CacheError::file(path, "read a value", source),
        }
    }
}

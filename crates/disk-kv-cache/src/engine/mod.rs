//! What a store needs of the thing that keeps its bytes: ordered tables, and transactions that span them.
//!
//! An [`Engine`] is opened by `environment`, which holds the directory for it: one engine on one set of files in a
//! process, no more processes than the engine bears, no damage left unlooked at. So an engine need not guard against any
//! of that. What it must do is in the traits below and, as a test, in `tests/integration/conformance.rs`, which every
//! engine passes.
//!
//! Keys that reach an engine have 1 to [`MAX_STORED_KEY_BYTES`] bytes; `long_keys` is above it.

use std::fmt::{self, Debug};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use crate::directory::Directory;
use crate::{Damage, Entry, OpenError, Order, Settings, Sharing, StoreError};

mod gate;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "sled")]
mod sled;

pub(crate) use gate::Nest;

/// The longest key an engine is asked to store, in bytes: LMDB's limit.
pub(crate) const MAX_STORED_KEY_BYTES: usize = 511;
/// Tables one directory can have open in a process.
pub(crate) const MAX_TABLES: usize = 64;

/// The engine that keeps a store's bytes.
///
/// Both engines keep all of what a [`Store`](crate::Store) promises: a read sees one committed state of all tables, writes
/// are serializable, a commit is whole or absent after `kill -9`. They differ in who may share the directory and in how
/// a scan is isolated from writes that happen meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineKind {
    /// [LMDB](http://www.lmdb.tech/doc/): any number of processes of one host.
    ///
    /// *Isolation of scans:* multiversion snapshots. A read sees what was committed when it began, however long it takes,
    /// and neither waits for writes nor holds them up; the pages it can see are kept until it ends, so the file grows.
    Lmdb,
    /// [sled](https://docs.rs/sled): one process, all Rust.
    ///
    /// *Isolation of scans:* a lock of readers against the commit. A read sees what was committed when it began, because
    /// a write that is ready to commit waits until the reads in progress have ended, and reads that come later wait for
    /// it. What a read lends stays in memory until it ends.
    Sled,
}

impl EngineKind {
    pub(crate) const ALL: [EngineKind; 2] = [EngineKind::Lmdb, EngineKind::Sled];

    /// The name of the engine, which is also that of its cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Lmdb => "lmdb",
            EngineKind::Sled => "sled",
        }
    }

    /// Whether this build of the crate has the engine: each is a cargo feature.
    pub fn is_built(self) -> bool {
        match self {
            EngineKind::Lmdb => cfg!(feature = "lmdb"),
            EngineKind::Sled => cfg!(feature = "sled"),
        }
    }

    /// What to ask for in [`Settings`] to get this engine.
    pub fn sharing(self) -> Sharing {
        match self {
            EngineKind::Lmdb => Sharing::MultiProcess,
            EngineKind::Sled => Sharing::SingleProcess,
        }
    }

    /// The engine that serves a need.
    pub(crate) fn of(sharing: Sharing) -> EngineKind {
        match sharing {
            Sharing::MultiProcess => EngineKind::Lmdb,
            Sharing::SingleProcess => EngineKind::Sled,
        }
    }

    /// The entry of the directory by which a store of this engine is known, and the file in it that every commit changes.
    pub(crate) fn files(self) -> EngineFiles {
        match self {
            EngineKind::Lmdb => {
                EngineFiles { data: "data.mdb", lock: Some("lock.mdb"), all: &["data.mdb", "lock.mdb"] }
            }
            EngineKind::Sled => EngineFiles { data: "sled/db", lock: None, all: &["sled"] },
        }
    }

    /// The engine of the store in `dir`, if there is a store.
    pub(crate) fn found_in(dir: &Path) -> Option<EngineKind> {
        EngineKind::ALL.into_iter().find(|kind| dir.join(kind.files().data).symlink_metadata().is_ok())
    }

    /// Opens the engine on files that exist or are to be made. The caller holds the directory's lock, and has made sure
    /// that this process has nothing else open there.
    pub(crate) fn open(self, place: &Place<'_>) -> Result<Box<dyn Engine>, OpenError> {
        match self {
            #[cfg(feature = "lmdb")]
            EngineKind::Lmdb => Ok(Box::new(lmdb::Lmdb::open(place)?)),
            #[cfg(feature = "sled")]
            EngineKind::Sled => Ok(Box::new(sled::Sled::open(place)?)),
            #[allow(unreachable_patterns, reason = "reached by the engines that this build lacks")]
            _ => Err(OpenError::EngineNotBuilt { path: place.path.to_path_buf(), engine: self }),
        }
    }

    /// Looks whether the files of a store that nobody has open are sound, without trusting anything in them.
    pub(crate) fn examine(self, dir: &Path) -> Result<Examined, OpenError> {
        match self {
            #[cfg(feature = "lmdb")]
            EngineKind::Lmdb => lmdb::examine(dir),
            #[cfg(feature = "sled")]
            EngineKind::Sled => sled::examine(dir),
            #[allow(unreachable_patterns, reason = "reached by the engines that this build lacks")]
            _ => Err(OpenError::EngineNotBuilt { path: dir.to_path_buf(), engine: self }),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What lies in the directory of a store.
pub(crate) struct EngineFiles {
    /// The file that every commit changes.
    pub(crate) data: &'static str,
    /// The file by which the engine's processes know of each other, where it serves several.
    pub(crate) lock: Option<&'static str>,
    /// All that must be moved away with it.
    pub(crate) all: &'static [&'static str],
}

/// What an examination has found.
#[derive(Debug)]
pub(crate) enum Examined {
    /// All fits together.
    Sound {
        /// See [`Engine::commits`].
        commits: u64,
    },
    Damaged(Damage),
}

/// Where and how an engine is opened.
pub(crate) struct Place<'p> {
    /// Canonical.
    pub(crate) path: &'p Path,
    pub(crate) directory: &'p Arc<Directory>,
    /// `None`: for reading only.
    pub(crate) settings: Option<&'p Settings>,
}

/// An open table, as its engine numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table(pub(crate) u8);

/// Both ends of a range of keys.
pub(crate) type Bounds<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);
/// The entries of a scan.
pub(crate) type Entries<'s> = Box<dyn Iterator<Item = Result<Entry<'s>, StoreError>> + 's>;

/// Ordered tables in one directory. Dropping it closes it.
pub(crate) trait Engine: Debug + Send + Sync {
    /// Opens the tables of these names that exist, and makes the others if `create`. No name is asked for twice, and no
    /// two threads ask at once. `nested`: as in [`read`](Engine::read).
    fn open_tables(
        &self,
        names: &[&'static str],
        create: bool,
        nested: bool,
    ) -> Result<Vec<(&'static str, Table)>, OpenError>;

    /// Begins a read of one committed state. `nested`: this thread is in a transaction on another store.
    fn read(&self, nested: bool) -> Result<Box<dyn Snapshot + '_>, StoreError>;

    /// Begins the one write, waiting for any other.
    fn write(&self, nested: bool) -> Result<Box<dyn Changes + '_>, StoreError>;

    /// Makes room after a write found none. The write runs again afterwards.
    fn make_room(&self, room: Room) -> Result<(), StoreError>;

    /// How far the map is used as of the last commit. `None`: there is no map that could be full.
    fn extent(&self) -> Result<Option<Extent>, StoreError>;

    /// Reads all there is, in every table, those that are not open too. [`StoreError::Damaged`] if it does not fit together.
    fn check(&self, nested: bool) -> Result<Vec<Counted>, StoreError>;

    /// A number that every commit raises, and that tells an earlier state from a later one. `None`: it cannot be had.
    fn commits(&self) -> Option<u64>;

    /// For tests of this crate that look behind the trait.
    #[cfg(all(test, feature = "lmdb"))]
    fn as_any(&self) -> &dyn std::any::Any;
}

/// One committed state of all tables; in [`Changes`], together with what was changed so far.
///
/// What is lent stays in place until the transaction ends or changes something.
pub(crate) trait Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, StoreError>;

    /// The entries between two bounds, the first of which is not beyond the second.
    fn range<'s>(&'s self, table: Table, bounds: Bounds<'_>, order: Order) -> Result<Entries<'s>, StoreError>;

    /// The entry that a scan of the whole table begins with.
    fn first(&self, table: Table, order: Order) -> Result<Option<Entry<'_>>, StoreError>;

    fn len(&self, table: Table) -> Result<u64, StoreError>;
}

/// The one write.
pub(crate) trait Changes: Snapshot {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError>;

    /// `false`: it was not there.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, StoreError>;

    /// What was lacking, if a change has found no room: then the transaction is void.
    fn no_room(&self) -> Option<Room>;

    /// Commits; dropping undoes.
    fn commit(self: Box<Self>) -> Result<Commit, StoreError>;
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Commit {
    Done,
    /// Nothing was changed, for lack of room.
    NoRoom(Room),
}

/// What a write was lacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// The room there was, in bytes.
    pub(crate) full_bytes: u64,
    /// The largest value that had none, in bytes.
    pub(crate) value_bytes: u64,
}

/// How far a map is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The end of the last page that holds something, or did.
    pub(crate) used_bytes: u64,
    pub(crate) map_bytes: u64,
}

/// A table and its number of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) table: String,
    pub(crate) rows: u64,
}

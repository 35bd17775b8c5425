//! The store: a handle to one directory, and its two kinds of transactions.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::engine::{Commit, Extent, MAX_STORED_KEY_BYTES, MAX_TABLES, Nest, Room};
use crate::environment::{Environment, Tables};
use crate::txn::{ReadTxn, WriteTxn};
use crate::{EngineKind, OpenError, Recovered, Settings, StoreError};

/// A handle to the store in one directory. Cloning it is cheap; all handles of a directory in one process share one
/// environment, which closes when the last of them is dropped.
///
/// Any number of threads and processes of one host may use a directory at once. A `Store` may not be used after `fork` in
/// the child: it answers [`StoreError::Forked`].
#[derive(Clone)]
pub struct Store {
    environment: Arc<Environment>,
    tables: Tables,
    read_only: bool,
}

impl Store {
    /// Opens the store in `dir`, creating the directory (mode 0700, parents that are missing too), its files (mode 0600)
    /// and the tables if they do not exist. A directory that exists keeps its mode.
    ///
    /// `tables` are the names of the ordered tables this handle will use; a directory may hold others. One process may
    /// use at most 64 tables of a directory.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] if the files are not those of a store or do not fit together, unless the settings say
    /// [`OnDamage::Quarantine`](crate::OnDamage::Quarantine); [`OpenError::SettingsConflict`] if this process has it open
    /// with other settings; and otherwise as the variants of [`OpenError`] say.
    ///
    /// A store that was not closed well, or was changed since by something else, is examined first, as long as nobody has
    /// it open: that takes time in proportion to its size.
    pub fn open(dir: impl AsRef<Path>, tables: &[&'static str], settings: Settings) -> Result<Store, OpenError> {
        check_names(tables)?;
        let environment = Environment::open(dir.as_ref(), Some(&settings))?;
        let tables = environment.tables(tables, true)?;
        Ok(Store { environment, tables, read_only: false })
    }

    /// Opens the store in `dir` for reading only, with the engine that made it. Creates nothing in it but the files by which
    /// processes know of each other, and the mark of a store that was examined and found sound.
    ///
    /// So the process still needs write access to the directory, unless the whole file system is read-only. Network file
    /// systems are always refused. A store of sled is taken by this process alone, also for reading.
    ///
    /// # Errors
    /// [`OpenError::Absent`] if there is no such directory or no store in it, [`OpenError::MissingTable`] if it lacks one of
    /// `tables`, and otherwise as the variants of [`OpenError`] say.
    pub fn open_read_only(dir: impl AsRef<Path>, tables: &[&'static str]) -> Result<Store, OpenError> {
        check_names(tables)?;
        let environment = Environment::open(dir.as_ref(), None)?;
        let tables = environment.tables(tables, false)?;
        Ok(Store { environment, tables, read_only: true })
    }

    /// The directory, as a canonical path.
    pub fn path(&self) -> &Path {
        self.environment.path()
    }

    /// The engine that keeps it, and how it isolates a scan from writes.
    pub fn engine(&self) -> EngineKind {
        self.environment.kind()
    }

    /// What happened if the store that lay here was damaged, and was set aside when this process opened it.
    ///
    /// `None` unless [`OnDamage::Quarantine`](crate::OnDamage::Quarantine) was asked for. All handles of the directory in
    /// this process see it until the last one is dropped; other processes see the empty store.
    pub fn recovered(&self) -> Option<&Recovered> {
        self.environment.recovered()
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Runs `f` on a consistent snapshot of all tables: what was committed when `read` was called, whatever is written
    /// meanwhile; [`EngineKind`] says what that costs with each engine.
    ///
    /// `f` must not wait for another thread that uses the same store.
    ///
    /// # Errors
    /// What `f` returns, or a [`StoreError`] if the snapshot cannot be taken: [`StoreError::Nested`] within another
    /// transaction of this thread on this store, [`StoreError::Forked`] in a forked child,
    /// [`StoreError::TooManyReaders`], [`StoreError::Replaced`] a tenth of a second after the directory was removed or
    /// replaced, and those of the system and the engine.
    pub fn read<T, E: From<StoreError>>(&self, f: impl FnOnce(&ReadTxn<'_>) -> Result<T, E>) -> Result<T, E> {
        let nest = self.environment.nest()?;
        self.environment.in_place().look_lately()?;
        let txn = self.environment.engine().read(nest.in_another)?;
        f(&ReadTxn::new(txn, &self.tables, self.path()))
    }

    /// Runs `f` in the one write transaction, waiting for any other writer in any process. What `f` changed is committed,
    /// at once and whole, when it returns `Ok`, and undone when it returns `Err` or panics. When `write` returns `Ok`
    /// the commit is as durable as [`Durability`](crate::Durability) says.
    ///
    /// `f` may run more than once: when the map is full, it is made larger and `f` runs again from the start, on what
    /// is then committed. So `f` should have no effect but on the transaction. Likewise it should be short, must not wait
    /// for another thread that uses the same store, and should begin writes on two stores in the same order everywhere.
    ///
    /// # Errors
    /// What `f` returns, or a [`StoreError`] if the transaction cannot begin or commit: [`StoreError::Nested`] within
    /// another transaction of this thread on this store, [`StoreError::ReadOnly`], [`StoreError::Full`],
    /// [`StoreError::NoSpace`], [`StoreError::Replaced`], [`StoreError::Forked`], and those of the system and the engine.
    pub fn write<T, E: From<StoreError>>(&self, mut f: impl FnMut(&mut WriteTxn<'_>) -> Result<T, E>) -> Result<T, E> {
        loop {
            let mut begun = self.begin()?;
            let answer = f(&mut begun.txn);
            // Whatever `f` made of the error it got: once there was no room, the transaction is void.
            let room = match (begun.txn.no_room(), answer) {
                (Some(room), _) => {
                    drop(begun);
                    room
                }
                (None, Err(error)) => return Err(error),
                (None, Ok(answer)) => match begun.commit()? {
                    Commit::Done => return Ok(answer),
                    Commit::NoRoom(room) => room,
                },
            };
            self.make_room(room)?;
        }
    }

    /// Begins the one write transaction, waiting for any other writer in any process: a step of [`write`](Store::write), for
    /// transactions over several stores.
    pub(crate) fn begin(&self) -> Result<Begun<'_>, StoreError> {
        if self.read_only {
            return Err(StoreError::ReadOnly { path: self.path().to_path_buf() });
        }
        let nest = self.environment.nest()?;
        let in_place = self.environment.in_place();
        // Before the map is read.
        in_place.measure()?;
        let txn = self.environment.engine().write(nest.in_another)?;
        // With the turn to write: while it was waited for, others may have opened what took the files' place.
        in_place.look()?;
        Ok(Begun { txn: WriteTxn::new(txn, &self.tables, self.path()), _nest: nest })
    }

    /// See [`Engine::extent`](crate::engine::Engine::extent).
    pub(crate) fn extent(&self) -> Result<Option<Extent>, StoreError> {
        self.environment.engine().extent()
    }

    /// Makes the room that a transaction was lacking, after its end.
    pub(crate) fn make_room(&self, room: Room) -> Result<(), StoreError> {
        self.environment.engine().make_room(room)
    }
}

/// A write transaction that was begun; dropping it undoes it. The transaction is dropped before the mark that this thread
/// is in one.
#[derive(Debug)]
pub(crate) struct Begun<'s> {
    pub(crate) txn: WriteTxn<'s>,
    _nest: Nest,
}

impl Begun<'_> {
    pub(crate) fn commit(self) -> Result<Commit, StoreError> {
        self.txn.commit()
    }
}

/// Refuses names that an engine cannot take, before anything is created.
fn check_names(names: &[&'static str]) -> Result<(), OpenError> {
    let takes = |name: &str| (1..=MAX_STORED_KEY_BYTES).contains(&name.len()) && !name.contains('\0');
    match names.iter().find(|name| !takes(name)) {
        Some(name) => Err(OpenError::InvalidTable { name }),
        None if names.len() > MAX_TABLES => Err(OpenError::TooManyTables { max: MAX_TABLES as u32 }),
        None => Ok(()),
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).field("read_only", &self.read_only).finish_non_exhaustive()
    }
}

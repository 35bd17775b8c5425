//! The store: a handle to one directory, and its two kinds of transactions.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::environment::Environment;
use crate::tables::{Tables, check_names};
use crate::txn::{ReadTxn, WriteTxn};
use crate::{OpenError, Settings, StoreError};

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
    /// [`OpenError::Damaged`] if the files are not those of a store or were cut short, and otherwise as the variants of
    /// [`OpenError`] say. [`OpenError::SettingsConflict`] if this process has it open with other settings.
    pub fn open(dir: impl AsRef<Path>, tables: &[&'static str], settings: Settings) -> Result<Store, OpenError> {
        check_names(tables)?;
        let environment = Environment::open(dir.as_ref(), Some(&settings))?;
        let tables = environment.tables(tables, true)?;
        Ok(Store { environment, tables, read_only: false })
    }

    /// Opens the store in `dir` for reading only. Never creates anything in it, except the engine's lock file.
    ///
    /// The process still needs write access to the lock file, in which readers register, unless the whole file system
    /// is read-only. Network file systems are always refused.
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

    /// Runs `f` on a consistent snapshot of all tables: what was committed when `read` was called, whatever is written
    /// meanwhile. Readers wait for nobody but a map that is being resized.
    ///
    /// A snapshot keeps the pages it can see from being reused, so the file grows while one is held and others write.
    /// `f` must not wait for another thread that uses the same store.
    ///
    /// # Errors
    /// What `f` returns, or a [`StoreError`] if the snapshot cannot be taken: [`StoreError::Nested`] within another
    /// transaction of this thread on this store, [`StoreError::Forked`] in a forked child,
    /// [`StoreError::TooManyReaders`], and those of the system and the engine.
    pub fn read<T, E: From<StoreError>>(&self, f: impl FnOnce(&ReadTxn<'_>) -> Result<T, E>) -> Result<T, E> {
        let nest = self.environment.nest()?;
        let (_inside, txn) = self.environment.begin_read(&nest)?;
        f(&ReadTxn::new(txn.into(), &self.tables, &self.environment))
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
    /// [`StoreError::NoSpace`], [`StoreError::Forked`], and those of the system and the engine.
    pub fn write<T, E: From<StoreError>>(&self, mut f: impl FnMut(&mut WriteTxn<'_>) -> Result<T, E>) -> Result<T, E> {
        if self.read_only {
            return Err(StoreError::ReadOnly { path: self.path().to_path_buf() }.into());
        }
        let nest = self.environment.nest()?;
        loop {
            let (inside, txn) = self.environment.begin_write(&nest)?;
            let mut txn = WriteTxn::new(ReadTxn::new(txn.into(), &self.tables, &self.environment));
            let answer = f(&mut txn);
            // Whatever `f` made of the error it got: once the map was full, the transaction is void.
            let value_bytes = match (txn.full_for(), answer) {
                (Some(value_bytes), _) => {
                    drop(txn);
                    value_bytes
                }
                (None, Err(error)) => return Err(error),
                (None, Ok(answer)) => match txn.commit() {
                    Ok(()) => return Ok(answer),
                    Err(heed::Error::Mdb(heed::MdbError::MapFull)) => 0,
                    Err(error) => return Err(self.environment.error(error).into()),
                },
            };
            let map_bytes = inside.map_bytes;
            drop(inside);
            self.environment.grow(map_bytes, value_bytes)?;
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).field("read_only", &self.read_only).finish_non_exhaustive()
    }
}

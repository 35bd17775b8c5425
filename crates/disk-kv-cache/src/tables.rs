//! The named tables that a process has open in an environment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use heed::types::Bytes;
use heed::{CommitOrAbort, CommitToken, MdbError, OnCommit};

use crate::environment::Environment;
use crate::gate::Nest;
use crate::{MAX_KEY_BYTES, OpenError, StoreError};

/// A named table of the engine.
pub(crate) type Table = heed::Database<'static, Bytes, Bytes>;
/// The tables a handle may use, by name.
pub(crate) type Tables = Arc<[(&'static str, Table)]>;

/// Tables one environment can have open in a process.
pub(crate) const MAX_TABLES: u32 = 64;

/// Refuses names that the engine cannot take, before anything is created.
pub(crate) fn check_names(names: &[&'static str]) -> Result<(), OpenError> {
    let takes = |name: &str| (1..=MAX_KEY_BYTES).contains(&name.len()) && !name.contains('\0');
    match names.iter().find(|name| !takes(name)) {
        Some(name) => Err(OpenError::InvalidTable { name }),
        None if names.len() > MAX_TABLES as usize => Err(OpenError::TooManyTables { max: MAX_TABLES }),
        None => Ok(()),
    }
}

/// The tables open in one environment. They stay open until it closes.
#[derive(Debug, Default)]
pub(crate) struct OpenTables {
    known_by_name: RwLock<HashMap<&'static str, Table>>,
    /// Held while a transaction opens tables: two at once could take the same slot in LMDB's table of tables.
    opening: Mutex<()>,
}

impl OpenTables {
    /// Opens tables by name, and makes those that are missing if `create`.
    pub(crate) fn open(
        &self,
        environment: &Environment,
        names: &[&'static str],
        create: bool,
    ) -> Result<Tables, OpenError> {
        if let Ok(tables) = self.known(names) {
            return Ok(tables);
        }
        let unusable = |source| unusable(environment, source);
        let nest = environment.nest().map_err(unusable)?;
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_up(environment, &nest, names)?;
        let missing = match self.known(names) {
            Ok(tables) => return Ok(tables),
            Err(missing) => missing,
        };
        if create {
            self.make(environment, &nest, names)?;
        }
        self.known(names)
            .map_err(|_| OpenError::MissingTable { path: environment.path().to_path_buf(), table: missing })
    }

    /// Opens those that exist.
    fn look_up(&self, environment: &Environment, nest: &Nest, names: &[&'static str]) -> Result<(), OpenError> {
        let begun = environment.begin_read(nest);
        let (_inside, txn) = begun.map_err(|source| unusable(environment, source))?;
        let engine = environment.engine();
        let found = engine.open_databases_and_commit(txn, |opener, txn| {
            let mut found = Vec::new();
            for name in names {
                if let Some(table) = opener.open_database(txn, Some(name))? {
                    found.push((*name, table));
                }
            }
            Ok(CommitOrAbort::<_, ()>::Commit(Opened(found)))
        });
        self.remember(found.map_err(|error| table_error(environment, error))?);
        Ok(())
    }

    /// Opens all, making those that do not exist.
    fn make(&self, environment: &Environment, nest: &Nest, names: &[&'static str]) -> Result<(), OpenError> {
        let unusable = |source| unusable(environment, source);
        loop {
            let (inside, txn) = environment.begin_write(nest).map_err(unusable)?;
            let engine = environment.engine();
            let made = engine.create_databases_and_commit(txn, |opener, txn| {
                let mut made = Vec::new();
                for name in names {
                    made.push((*name, opener.create_database(txn, Some(name))?));
                }
                Ok(CommitOrAbort::<_, ()>::Commit(Opened(made)))
            });
            match made {
                Ok(made) => {
                    self.remember(made);
                    return Ok(());
                }
                Err(heed::Error::Mdb(MdbError::MapFull)) => {
                    let full = inside.map_bytes;
                    drop(inside);
                    environment.grow(full, 0).map_err(unusable)?;
                }
                Err(error) => return Err(table_error(environment, error)),
            }
        }
    }

    /// The tables of these names, or the first name that is not open.
    fn known(&self, names: &[&'static str]) -> Result<Tables, &'static str> {
        let known = self.known_by_name.read();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        let table = |name: &&'static str| Ok((*name, *known.get(name).ok_or(*name)?));
        names.iter().map(table).collect()
    }

    fn remember(&self, opened: CommitOrAbort<Vec<(&'static str, Table)>, ()>) {
        if let CommitOrAbort::Commit(opened) = opened {
            let known = self.known_by_name.write();
            known.unwrap_or_else(PoisonError::into_inner).extend(opened);
        }
    }
}

fn unusable(environment: &Environment, source: StoreError) -> OpenError {
    match source {
        StoreError::Nested { path } => OpenError::Nested { path },
        StoreError::Forked { path, opened_by } => OpenError::Forked { path, opened_by },
        StoreError::NoSpace { path, source } => OpenError::NoSpace { path, source },
        StoreError::Damaged { path, damage } => OpenError::Damaged { path, damage },
        source => {
            let path = environment.path().to_path_buf();
            OpenError::Unusable { path, source }
        }
    }
}

fn table_error(environment: &Environment, error: heed::Error) -> OpenError {
    match error {
        heed::Error::Mdb(MdbError::DbsFull) => OpenError::TooManyTables { max: MAX_TABLES },
        other => OpenError::engine(environment.path(), other),
    }
}

/// Tables opened by a transaction that may still abort.
struct Opened<'e>(Vec<(&'static str, heed::Database<'e, Bytes, Bytes>)>);

impl OnCommit for Opened<'_> {
    type Committed = Vec<(&'static str, Table)>;

    fn on_commit(self, token: &CommitToken) -> Self::Committed {
        self.0.into_iter().map(|(name, table)| (name, table.on_commit(token))).collect()
    }
}

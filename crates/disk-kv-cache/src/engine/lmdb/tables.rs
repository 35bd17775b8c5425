//! The named tables that an environment has open.

use std::sync::OnceLock;

use heed::types::Bytes;
use heed::{CommitOrAbort, CommitToken, MdbError, OnCommit};

use super::{Lmdb, MAX_TABLES, Room, Table, open_error};
use crate::environment::unusable;
use crate::{OpenError, StoreError};

/// A named table of LMDB.
pub(super) type Handle = heed::Database<'static, Bytes, Bytes>;

/// The tables open in one environment. They stay open until it closes, and are looked up without a lock.
#[derive(Debug)]
pub(super) struct OpenTables([OnceLock<Handle>; MAX_TABLES]);

impl Default for OpenTables {
    fn default() -> OpenTables {
        OpenTables([const { OnceLock::new() }; MAX_TABLES])
    }
}

impl OpenTables {
    pub(super) fn get(&self, table: Table) -> Handle {
        match self.0[usize::from(table.0)].get() {
            Some(handle) => *handle,
            None => unreachable!("tables are numbered when they are opened"),
        }
    }

    fn number(&self, handle: Handle) -> Result<Table, OpenError> {
        let free = self.0.iter().position(|slot| slot.set(handle).is_ok());
        free.map(|slot| Table(slot as u8)).ok_or(OpenError::TooManyTables { max: MAX_TABLES as u32 })
    }
}

/// See [`Engine::open_tables`](super::Engine::open_tables). One call at a time: two transactions that open tables at once
/// could take the same slot in LMDB's own table of tables.
pub(super) fn open(
    lmdb: &Lmdb,
    names: &[&'static str],
    create: bool,
    nested: bool,
) -> Result<Vec<(&'static str, Table)>, OpenError> {
    let mut opened = look_up(lmdb, names, nested)?;
    if create && opened.len() < names.len() {
        opened = make(lmdb, names, nested)?;
    }
    opened.into_iter().map(|(name, handle)| Ok((name, lmdb.tables.number(handle)?))).collect()
}

/// Opens those that exist.
fn look_up(lmdb: &Lmdb, names: &[&'static str], nested: bool) -> Result<Vec<(&'static str, Handle)>, OpenError> {
    let (_inside, txn) = lmdb.begin_read(nested).map_err(|error| unusable(&lmdb.path, error))?;
    let found = lmdb.env.open_databases_and_commit(txn, |opener, txn| {
        let mut found = Vec::new();
        for name in names {
            if let Some(table) = opener.open_database(txn, Some(name))? {
                found.push((*name, table));
            }
        }
        Ok(CommitOrAbort::<_, ()>::Commit(Opened(found)))
    });
    found.map(committed).map_err(|error| table_error(lmdb, error))
}

/// Opens all, making those that do not exist.
fn make(lmdb: &Lmdb, names: &[&'static str], nested: bool) -> Result<Vec<(&'static str, Handle)>, OpenError> {
    let unusable = |error: StoreError| unusable(&lmdb.path, error);
    loop {
        let (inside, txn) = lmdb.begin_write(nested).map_err(unusable)?;
        let made = lmdb.env.create_databases_and_commit(txn, |opener, txn| {
            let mut made = Vec::new();
            for name in names {
                made.push((*name, opener.create_database(txn, Some(name))?));
            }
            Ok(CommitOrAbort::<_, ()>::Commit(Opened(made)))
        });
        match made {
            Ok(made) => return Ok(committed(made)),
            Err(heed::Error::Mdb(MdbError::MapFull)) => {
                let full_bytes = inside.map_bytes;
                drop(inside);
                lmdb.grow(Room { full_bytes, value_bytes: 0 }).map_err(unusable)?;
            }
            Err(error) => return Err(table_error(lmdb, error)),
        }
    }
}

fn table_error(lmdb: &Lmdb, error: heed::Error) -> OpenError {
    match error {
        heed::Error::Mdb(MdbError::DbsFull) => OpenError::TooManyTables { max: MAX_TABLES as u32 },
        other => open_error(&lmdb.path, other),
    }
}

fn committed<T: Default>(opened: CommitOrAbort<T, ()>) -> T {
    match opened {
        CommitOrAbort::Commit(opened) => opened,
        CommitOrAbort::Abort(()) => T::default(),
    }
}

/// Tables opened by a transaction that may still abort.
struct Opened<'e>(Vec<(&'static str, heed::Database<'e, Bytes, Bytes>)>);

impl OnCommit for Opened<'_> {
    type Committed = Vec<(&'static str, Handle)>;

    fn on_commit(self, token: &CommitToken) -> Self::Committed {
        self.0.into_iter().map(|(name, table)| (name, table.on_commit(token))).collect()
    }
}

//! Reading all there is in a store, to know that it fits together.

use crate::{Damage, Order, ReadTxn, Store, StoreError};

/// What [`Store::check`] has counted in a sound store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// Every table in the directory, whether this handle has it open or not, in the order of their names.
    pub tables: Vec<TableCheck>,
}

/// One table of a [`Check`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableCheck {
    /// The name.
    pub table: String,
    /// The number of its entries.
    pub entries: u64,
}

impl Store {
    /// Reads all tables and checks that the files fit together: that every page is where it is expected and used once, that
    /// keys are in order, and that counts are right; and in the tables of this handle, that every long key is whole.
    ///
    /// Others may read and write meanwhile, with LMDB; with sled their commits wait. What a value *says* is not checked:
    /// values have no checksum here. Takes time in proportion to the size of the store.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] says what does not fit, and otherwise as [`read`](Store::read).
    pub fn check(&self) -> Result<Check, StoreError> {
        let environment = self.environment();
        let counted = {
            let nest = environment.nest()?;
            environment.engine().check(nest.in_another)?
        };
        let mut tables: Vec<TableCheck> =
            counted.into_iter().map(|counted| TableCheck { table: counted.table, entries: counted.rows }).collect();
        tables.sort_by(|a, b| a.table.cmp(&b.table));
        for (table, _) in self.tables().iter() {
            self.read(|txn| in_order(txn, table))?;
        }
        Ok(Check { tables })
    }
}

/// The engine has seen to the order of what it stores; this is about the long keys within.
fn in_order(txn: &ReadTxn<'_>, table: &str) -> Result<(), StoreError> {
    let mut before: Option<&[u8]> = None;
    for entry in txn.scan(table, .., Order::Ascending)? {
        let (key, _) = entry?;
        if before.is_some_and(|before| before >= key) {
            let damage = Damage::LongKey { table: table.to_owned() };
            return Err(StoreError::Damaged { path: txn.path().to_path_buf(), damage });
        }
        before = Some(key);
    }
    Ok(())
}

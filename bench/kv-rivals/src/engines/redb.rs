//! redb: durable by `fsync`, or not durable at all; there is nothing between.

use std::path::Path;

use anyhow::Result;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::Engine;

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");

pub struct Redb {
    db: Database,
    durability: Durability,
}

impl Redb {
    pub fn open(dir: &Path, sync: bool) -> Result<Redb> {
        let db = Database::create(dir.join("redb"))?;
        let txn = db.begin_write()?;
        txn.open_table(TABLE)?;
        txn.commit()?;
        Ok(Redb { db, durability: if sync { Durability::Immediate } else { Durability::None } })
    }
}

impl Engine for Redb {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let txn = self.db.begin_read()?;
        Ok(txn.open_table(TABLE)?.get(key)?.map(|value| value.value().to_vec()))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(self.durability)?;
        txn.open_table(TABLE)?.insert(key, value)?;
        Ok(txn.commit()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(self.durability)?;
        let there = txn.open_table(TABLE)?.remove(key)?.is_some();
        txn.commit()?;
        Ok(there)
    }

    fn fill(&mut self, entries: u64, value: &mut dyn FnMut() -> Vec<u8>) -> Result<()> {
        let txn = self.db.begin_write()?;
        {
            let mut table = txn.open_table(TABLE)?;
            for n in 0..entries {
                table.insert(super::key(n).as_slice(), value().as_slice())?;
            }
        }
        Ok(txn.commit()?)
    }
}

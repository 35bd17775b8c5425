//! Raw LMDB: one table, or three of them in one transaction. No sync, as [`Cache`](super::Kind::Cache) by default.

use std::path::Path;

use anyhow::Result;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, EnvFlags, EnvOpenOptions, RwTxn, WithoutTls};

use super::Engine;

/// Room for the largest run; the file is sparse.
const MAP_BYTES: usize = 8 << 30;

type Table = Database<'static, Bytes, Bytes>;

pub struct Heed {
    env: heed::Env<WithoutTls>,
    tables: [Table; 3],
    three: bool,
}

impl Heed {
    pub fn open(dir: &Path, three: bool) -> Result<Heed> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(MAP_BYTES).max_dbs(3);
        // SAFETY: the directory is new and nobody else's; NO_SYNC risks only what a power cut would lose.
        let env = unsafe { options.flags(EnvFlags::NO_SYNC).open(dir)? };
        let mut tables = Vec::new();
        for name in ["entries", "tags", "expiry"] {
            let txn = env.write_txn()?;
            let made = env.create_databases_and_commit(txn, |opener, txn| {
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(opener.create_database(txn, Some(name))?))
            })?;
            if let CommitOrAbort::Commit(table) = made {
                tables.push(table);
            }
        }
        let tables = tables.try_into().map_err(|_| anyhow::anyhow!("three tables"))?;
        Ok(Heed { env, tables, three })
    }

    fn put(&self, txn: &mut RwTxn<'_>, key: &[u8], value: &[u8]) -> Result<()> {
        self.tables[0].put(txn, key, value)?;
        if self.three {
            let tag = [b"tag\0", key].concat();
            self.tables[1].put(txn, &tag, b"")?;
            let expiry = [&key.len().to_be_bytes(), key].concat();
            self.tables[2].put(txn, &expiry, key)?;
        }
        Ok(())
    }
}

impl Engine for Heed {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let txn = self.env.read_txn()?;
        Ok(self.tables[0].get(&txn, key)?.map(<[u8]>::to_vec))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.put(&mut txn, key, value)?;
        Ok(txn.commit()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let mut txn = self.env.write_txn()?;
        let there = self.tables[0].delete(&mut txn, key)?;
        if self.three {
            self.tables[1].delete(&mut txn, &[b"tag\0", key].concat())?;
            self.tables[2].delete(&mut txn, &[&key.len().to_be_bytes(), key].concat())?;
        }
        txn.commit()?;
        Ok(there)
    }
}

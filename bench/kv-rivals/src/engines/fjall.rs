//! fjall: by default, each write is in the kernel's page cache when it returns.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use super::Engine;

pub struct Fjall {
    entries: Keyspace,
    _db: Database,
}

impl Fjall {
    pub fn open(dir: &Path) -> Result<Fjall> {
        let db = Database::builder(dir).open()?;
        Ok(Fjall { entries: db.keyspace("entries", KeyspaceCreateOptions::default)?, _db: db })
    }
}

impl Engine for Fjall {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.entries.get(key)?.map(|value| value.to_vec()))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.entries.insert(key, value)?)
    }

    /// fjall does not say whether a key was there, so it is asked first, as a cache has to.
    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let there = self.entries.contains_key(key)?;
        self.entries.remove(key)?;
        Ok(there)
    }
}

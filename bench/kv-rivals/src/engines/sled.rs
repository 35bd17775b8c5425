//! sled 0.34: a commit is in memory until a background thread writes it, twice a second, or until it is flushed.

use std::path::Path;

use anyhow::Result;

use super::Engine;

pub struct Sled {
    db: sled::Db,
    flush: bool,
}

impl Sled {
    pub fn open(dir: &Path, flush: bool) -> Result<Sled> {
        Ok(Sled { db: sled::open(dir)?, flush })
    }

    fn done(&self) -> Result<()> {
        if self.flush {
            self.db.flush()?;
        }
        Ok(())
    }
}

impl Engine for Sled {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.insert(key, value)?;
        self.done()
    }

    fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let there = self.db.remove(key)?.is_some();
        self.done()?;
        Ok(there)
    }

    fn fill(&mut self, entries: u64, value: &mut dyn FnMut() -> Vec<u8>) -> Result<()> {
        for n in 0..entries {
            self.db.insert(super::key(n), value())?;
        }
        self.db.flush()?;
        Ok(())
    }
}

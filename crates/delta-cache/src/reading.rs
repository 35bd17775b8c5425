//! Who may be reading entries: a locked file each, which is what deletion waits for.
//!
//! *Invariants:* a reader locks its file before it looks anything up, and holds it for as long as it scans. Its name is
//! drawn anew each time, so a name that is gone does not come back. Runs, queries and plans all read, and look entries up
//! before a run is recorded as begun; so these files are not those of the ledgers' runs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::cache::DeltaCache;
use crate::error::CacheError;
use crate::lock_file::LockFile;

/// Leave to look entries up and to scan them: while it lives, no entry that was found with it is deleted. A process that
/// dies gives it back.
#[derive(Debug)]
#[must_use = "entries are safe from deletion only while it lives"]
pub struct Reading(#[expect(dead_code, reason = "held for its lock")] LockFile);

impl DeltaCache {
    /// Begins to read. Hold what this returns until the last scan is done.
    ///
    /// # Errors
    /// [`CacheError::Io`] when the reader's file cannot be made.
    pub fn begin_reading(&self) -> Result<Reading, CacheError> {
        let dir = self.readers_dir();
        std::fs::create_dir_all(&dir).map_err(CacheError::io("create the directory", &dir))?;
        loop {
            // A collector may be looking whether the new file's owner is alive: then another name is as good.
            if let Some(file) = LockFile::try_take(&dir.join(format!("{}.lock", self.seam.entry_id())))? {
                return Ok(Reading(file));
            }
        }
    }

    /// The names of all who read now. Files of dead readers are removed on the way.
    pub(crate) fn readers(&self) -> Result<BTreeSet<String>, CacheError> {
        let dir = self.readers_dir();
        let mut alive = BTreeSet::new();
        let files = match std::fs::read_dir(&dir) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(alive),
            Err(source) => return Err(CacheError::io("list the directory", &dir)(source)),
        };
        for file in files {
            let file = file.map_err(CacheError::io("list the directory", &dir))?;
            let path = file.path();
            if LockFile::is_held(&path) {
                alive.insert(file.file_name().to_string_lossy().into_owned());
            } else {
                // Locked while it is removed; one that just began takes another file.
                drop(LockFile::try_take(&path)?);
            }
        }
        Ok(alive)
    }

    fn readers_dir(&self) -> PathBuf {
        self.root.path().join("readers")
    }
}

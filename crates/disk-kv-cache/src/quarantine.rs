//! Setting a damaged store aside, so that an empty one can take its place.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::engine::EngineKind;
use crate::{Damage, OpenError, mark};

/// What happened to the store that was here before: it was damaged, was moved away, and an empty one was begun.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// Where the damaged files lie now: `quarantine-<n>` in the store's directory. Nothing here reads or removes them.
    pub quarantine: PathBuf,
    /// What was wrong with them.
    pub damage: Damage,
}

/// Moves the files of a damaged store to a new directory beside them. The caller holds the directory's lock, and nobody
/// has the store open.
pub(crate) fn set_aside(dir: &Path, kind: EngineKind, damage: Damage) -> Result<Recovered, OpenError> {
    let io = |error| OpenError::io(dir, "set the damaged files aside", error);
    let quarantine = new_directory(dir).map_err(io)?;
    mark::remove(dir);
    for name in kind.files().all {
        match fs::rename(dir.join(name), quarantine.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    let (path, aside) = (dir.display(), quarantine.display());
    tracing::warn!(%path, %aside, damage = %damage, "the store was damaged: set it aside and began an empty one");
    Ok(Recovered { quarantine, damage })
}

/// Whether files of the store in `dir` were ever set aside, and are still there.
pub(crate) fn has_some(dir: &Path) -> bool {
    dir.join(name(1)).is_dir()
}

fn name(n: u64) -> String {
    format!("quarantine-{n}")
}

fn new_directory(dir: &Path) -> io::Result<PathBuf> {
    let mut n = 1_u64;
    loop {
        let quarantine = dir.join(name(n));
        match DirBuilder::new().mode(0o700).create(&quarantine) {
            Ok(()) => return Ok(quarantine),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => n += 1,
            Err(error) => return Err(error),
        }
    }
}

//! Where a replay works: a directory that it holds a lock on for as long as it lives, and that the next replay removes if it was killed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// How the names of all of them begin.
const PREFIX: &str = "alluvium-replay-";

/// Beyond what losing to others who sweep explains.
const TRIES: usize = 16;

/// A directory of one replay, removed when it is dropped.
pub(super) struct Scratch {
    dir: TempDir,
    /// The kernel's, on the directory itself: it goes with the process, however that dies.
    _lock: File,
}

impl Scratch {
    /// Removes what killed replays have left in `parent`, by default where the system keeps temporary files, and makes a directory there.
    pub(super) fn make(parent: Option<&Path>) -> io::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
        sweep(&parent);
        for _ in 0..TRIES {
            let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent)?;
            // Until it is locked, another one's sweep may take it for abandoned. A name is never drawn again.
            if let Some(lock) = lock(dir.path()).filter(|_| dir.path().is_dir()) {
                return Ok(Self { dir, _lock: lock });
            }
        }
        Err(io::Error::other(format!("{} is swept all the time", parent.display())))
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the directories that nobody holds. What cannot be removed is another user's, and nothing to fail over.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    // A link is no directory of ours.
    let ours = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let ours = ours.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    for dir in ours.map(|entry| entry.path()).collect::<Vec<PathBuf>>() {
        let Some(_lock) = lock(&dir) else { continue };
        match fs::remove_dir_all(&dir) {
            Ok(()) => {
                tracing::info!(target: "alluvium.runs", "removed {}, which a killed replay had left", dir.display());
            }
            Err(error) => {
                tracing::debug!(target: "alluvium.runs", %error, "{} cannot be removed", dir.display());
            }
        }
    }
}

/// `None`: somebody holds it, or it is not there or not ours.
fn lock(dir: &Path) -> Option<File> {
    let dir = File::open(dir).ok()?;
    match dir.try_lock() {
        Ok(()) => Some(dir),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_replay_left_goes_and_what_a_live_one_has_stays() {
        let parent = tempfile::tempdir().unwrap();
        let live = Scratch::make(Some(parent.path())).unwrap();
        fs::write(live.path().join("rows"), "of a live one").unwrap();
        let left = parent.path().join(format!("{PREFIX}left"));
        fs::create_dir_all(left.join("root/kv")).unwrap();
        fs::write(left.join("root/kv/data"), "of a killed one").unwrap();
        let another = parent.path().join("another");
        fs::create_dir(&another).unwrap();
        let linked = parent.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(&another, &linked).unwrap();

        let mine = Scratch::make(Some(parent.path())).unwrap();
        assert!(!left.exists());
        assert!(live.path().join("rows").exists() && mine.path().is_dir() && another.is_dir() && linked.exists());
        let (live, mine) = (live.path().to_owned(), {
            drop(live);
            mine.path().to_owned()
        });
        assert!(!live.exists() && mine.exists(), "each goes with its replay");
    }

    #[test]
    fn replays_that_begin_at_once_each_have_a_directory() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let scratch = Scratch::make(Some(parent.path())).unwrap();
                        fs::write(scratch.path().join("mine"), "mine").unwrap();
                        assert!(scratch.path().join("mine").exists());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}

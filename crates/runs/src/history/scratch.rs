//! Where a replay works: a directory that it holds a lock on for as long as it lives, and that the next replay removes if it was killed.
//!
//! *Invariant:* such a directory carries its mark, which names it, from its locking on. One without is somebody else's, however it is
//! called.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// How the names of all of them begin.
const PREFIX: &str = "alluvium-replay-";

/// The file in each that says so, by the name of the directory: a copy of one is no longer ours.
const MARK: &str = ".alluvium-replay";

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
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent)?;
        let lock = File::open(dir.path())?;
        lock.lock()?;
        // After the lock: nobody sweeps what is not marked.
        fs::write(dir.path().join(MARK), name(dir.path()))?;
        Ok(Self { dir, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the directories of replays that nobody holds, and nothing else. What cannot be removed is another user's, and nothing to fail over.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    // A link is no directory of ours.
    let ours = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    for dir in ours.filter(|dir| is_marked(dir)).collect::<Vec<PathBuf>>() {
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

/// Whether a replay made the directory and locked it.
fn is_marked(dir: &Path) -> bool {
    let name = name(dir);
    name.starts_with(PREFIX.as_bytes()) && fs::read(dir.join(MARK)).is_ok_and(|mark| mark == name)
}

fn name(dir: &Path) -> &[u8] {
    dir.file_name().unwrap_or_default().as_encoded_bytes()
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
        fs::write(left.join(MARK), name(&left)).unwrap();
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

    /// Somebody's notes; the live directory of a build that marked and locked none; a copy that somebody made of one.
    #[test]
    fn what_has_the_name_and_not_the_mark_is_not_ours() {
        let parent = tempfile::tempdir().unwrap();
        let files = ["notes", "copy", "empty"].map(|name| parent.path().join(format!("{PREFIX}{name}")).join("mine"));
        for file in &files {
            fs::create_dir(file.parent().unwrap()).unwrap();
            fs::write(file, "mine").unwrap();
        }
        fs::write(files[1].with_file_name(MARK), format!("{PREFIX}original")).unwrap();
        fs::write(files[2].with_file_name(MARK), "").unwrap();
        drop(Scratch::make(Some(parent.path())).unwrap());
        assert!(files.iter().all(|file| file.exists()), "{files:?}");
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

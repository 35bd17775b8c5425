//! Locks that the kernel holds for a process and takes back when it dies, however it dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alluvium_contracts::CacheOperation;
use alluvium_telemetry::Seam;

use crate::LedgerError;
use crate::operation::{self, Meter};

/// The lock of the one drainer. Dropping it unlocks.
#[derive(Debug)]
pub(crate) struct DrainLock(#[expect(dead_code, reason = "held for its lock")] File);

/// How soon a lock that was found held is tried again: often at first, since most drains take a few milliseconds.
const FIRST_RETRY: Duration = Duration::from_millis(2);
const LAST_RETRY: Duration = Duration::from_millis(100);

impl DrainLock {
    /// Waits for other drainers, of this process or any other, but not longer than `bound`.
    pub(crate) async fn acquire(dir: &Path, bound: Duration, meter: &Meter) -> Result<DrainLock, LedgerError> {
        make(dir)?;
        let path = dir.join(".drain.lock");
        let file = open_or_create(&path).map_err(LedgerError::io(&path, "open"))?;
        if try_lock(&file).map_err(LedgerError::io(&path, "lock"))? {
            return Ok(DrainLock(file));
        }
        let waiting = meter.begin(CacheOperation::LeaseWait, "ledgers");
        let locked = Self::wait(file, path, bound, &meter.seam).await;
        operation::end(waiting, &locked, None);
        locked
    }

    async fn wait(file: File, path: PathBuf, bound: Duration, seam: &Seam) -> Result<DrainLock, LedgerError> {
        let watch = seam.stopwatch();
        let mut pause = FIRST_RETRY;
        loop {
            let left = bound.saturating_sub(watch.elapsed());
            if left.is_zero() {
                let waited_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
                return Err(LedgerError::Busy { path, waited_ms });
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LAST_RETRY);
            if try_lock(&file).map_err(LedgerError::io(&path, "lock"))? {
                return Ok(DrainLock(file));
            }
        }
    }
}

/// The directory of run files: one locked file for each run that is alive.
///
/// Run files are made under a shared lock of the directory and swept under an exclusive one, so that a sweep never
/// meets one that is made but not yet locked.
#[derive(Debug)]
pub(crate) struct RunFiles {
    dir: PathBuf,
}

/// A run file, locked for as long as the value lives.
#[derive(Debug)]
pub(crate) struct RunFile {
    path: PathBuf,
    file: File,
}

/// The exclusive lock of a sweep.
#[derive(Debug)]
pub(crate) struct Sweep<'d> {
    dir: &'d Path,
    _lock: File,
}

impl RunFiles {
    pub(crate) fn new(dir: PathBuf) -> RunFiles {
        RunFiles { dir }
    }

    /// Makes and locks the file `name`. `None`: it is locked already.
    pub(crate) fn create(&self, name: &str) -> Result<Option<RunFile>, LedgerError> {
        fs::create_dir_all(&self.dir).map_err(LedgerError::io(&self.dir, "create"))?;
        let dir = File::open(&self.dir).map_err(LedgerError::io(&self.dir, "open"))?;
        dir.lock_shared().map_err(LedgerError::io(&self.dir, "lock"))?;
        let path = self.dir.join(name);
        let file = open_or_create(&path).map_err(LedgerError::io(&path, "create"))?;
        let locked = try_lock(&file).map_err(LedgerError::io(&path, "lock"))?;
        Ok(locked.then_some(RunFile { path, file }))
    }

    /// Keeps new run files and other sweeps out while it lives.
    pub(crate) fn sweep(&self) -> Result<Sweep<'_>, LedgerError> {
        let dir = self.dir.as_path();
        fs::create_dir_all(dir).map_err(LedgerError::io(dir, "create"))?;
        let lock = File::open(dir).map_err(LedgerError::io(dir, "open"))?;
        lock.lock().map_err(LedgerError::io(dir, "lock"))?;
        Ok(Sweep { dir, _lock: lock })
    }
}

impl Sweep<'_> {
    /// The names of the run files whose run is dead, each locked for us.
    pub(crate) fn dead(&self) -> Result<Vec<(String, RunFile)>, LedgerError> {
        let mut dead = Vec::new();
        for entry in fs::read_dir(self.dir).map_err(LedgerError::io(self.dir, "list"))? {
            let entry = entry.map_err(LedgerError::io(self.dir, "list"))?;
            let path = entry.path();
            let file = match File::open(&path) {
                Ok(file) => file,
                // A run that ended while we listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(LedgerError::io(&path, "open")(error)),
            };
            if try_lock(&file).map_err(LedgerError::io(&path, "lock"))? {
                let name = entry.file_name().to_string_lossy().into_owned();
                dead.push((name, RunFile { path, file }));
            }
        }
        Ok(dead)
    }

    /// Whether there is a run file of this name, of a run alive or dead.
    pub(crate) fn holds(&self, name: &str) -> Result<bool, LedgerError> {
        let path = self.dir.join(name);
        path.try_exists().map_err(LedgerError::io(&path, "look for"))
    }
}

impl RunFile {
    /// Removes the file while it is still locked, then unlocks.
    pub(crate) fn remove(self) -> Result<(), LedgerError> {
        let RunFile { path, file } = self;
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LedgerError::io(&path, "remove")(error)),
            _ => Ok(()),
        };
        drop(file);
        removed
    }
}

/// Makes the directory of the ledgers. They sync themselves up to their names in it, so its own is synced here.
fn make(dir: &Path) -> Result<(), LedgerError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(LedgerError::io(dir, "create"))?;
    let above = dir.parent().unwrap_or(dir);
    File::open(above).and_then(|above| above.sync_all()).map_err(LedgerError::io(above, "sync"))
}

fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// `false`: somebody holds it.
fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

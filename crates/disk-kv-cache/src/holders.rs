//! Who has a directory open, over all processes: known by locks of the kernel, never by process ids.
//!
//! A process that has a directory open holds a shared lock on the file `holders-<n>` in it, where `n` is the inode of its
//! PID namespace. The kernel drops the lock with the process. So
//! - *nobody else has it open* if the lock can be had exclusively; only then may files be examined, moved away, or said to
//!   be closed well;
//! - *a process of another PID namespace has it open* if a file with another number is locked. LMDB tells its readers apart
//!   by process id alone, so two containers on one volume can have a "same" process, and one would free the pages that
//!   the other reads. That is refused.
//!
//! - *a process has it open for writing with the other durability* if `writers-process` or `writers-system`, on which
//!   writers hold a shared lock, is the other one and locked. That is refused too, for what [`OpenError::DurabilityConflict`]
//!   says; with nobody writing, a store changes its durability with the next who does.
//!
//! All of it happens under the directory's lock. A number is used again after a reboot, or by a later container; that does
//! no harm, because only a lock counts, and files that nobody has locked are removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::{Durability, OpenError};

const PREFIX: &str = "holders-";

/// This process, as one of those that have a directory open.
#[derive(Debug)]
pub(crate) struct Holders {
    /// `None` on a read-only file system, where no locks can be taken by name and nothing can be written either.
    ours: Option<Held>,
    /// Locked by those who write with one durability; `None` for who only reads.
    writes: Option<Held>,
    alone: bool,
}

/// A file with a lock on it.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    file: File,
}

impl Holders {
    /// Takes part. The caller holds the directory's lock.
    pub(crate) fn join(dir: &Path, read_only: bool) -> Result<Holders, OpenError> {
        Holders::join_from(dir, read_only, pid_namespace())
    }

    fn join_from(dir: &Path, read_only: bool, namespace: u64) -> Result<Holders, OpenError> {
        let io = |action| move |error| OpenError::io(dir, action, error);
        let name = format!("{PREFIX}{namespace}");
        for entry in fs::read_dir(dir).map_err(io("list the directory"))? {
            let entry = entry.map_err(io("list the directory"))?;
            let file_name = entry.file_name();
            let Some(other) = file_name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                continue;
            };
            if file_name.to_str() == Some(&name) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            let file = File::open(entry.path()).map_err(io("look for other holders"))?;
            match file.try_lock() {
                // Nobody's: whoever held it is gone. It may stay if it cannot be removed.
                Ok(()) => drop(fs::remove_file(entry.path())),
                Err(TryLockError::WouldBlock) => {
                    return Err(OpenError::OtherPidNamespace {
                        path: dir.to_path_buf(),
                        theirs: other.to_owned(),
                        ours: namespace.to_string(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(io("look for other holders")(error)),
            }
        }
        let ours = match open(dir, &name) {
            Ok(file) => file,
            Err(error) if read_only && error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                return Holders::on_read_only_mount(dir, &name);
            }
            Err(error) => return Err(io("register as a holder")(error)),
        };
        let alone = has_no_other(&ours).map_err(io("look for other holders"))?;
        ours.lock_shared().map_err(io("register as a holder"))?;
        Ok(Holders { ours: Some(Held { path: dir.join(name), file: ours }), writes: None, alone })
    }

    /// Where nothing can be written, there is nobody to reckon with but those who have it mounted otherwise.
    fn on_read_only_mount(dir: &Path, name: &str) -> Result<Holders, OpenError> {
        let nobody = match File::open(dir.join(name)) {
            Ok(theirs) => has_no_other(&theirs),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        };
        match nobody {
            Ok(true) => Ok(Holders { ours: None, writes: None, alone: true }),
            Ok(false) => Err(OpenError::ReadOnlyMount { path: dir.to_path_buf() }),
            Err(error) => Err(OpenError::io(dir, "look for other holders", error)),
        }
    }

    /// Takes part as one who writes. The caller holds the directory's lock.
    pub(crate) fn write_with(&mut self, dir: &Path, requested: Durability) -> Result<(), OpenError> {
        let io = |error| OpenError::io(dir, "register as a writer", error);
        let held = match requested {
            Durability::Process => Durability::System,
            Durability::System => Durability::Process,
        };
        match File::open(dir.join(writers(held))) {
            Ok(theirs) if has_no_other(&theirs).map_err(io)? => {}
            Ok(_) => return Err(OpenError::DurabilityConflict { path: dir.to_path_buf(), held, requested }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let file = open(dir, writers(requested)).map_err(io)?;
        file.lock_shared().map_err(io)?;
        self.writes = Some(Held { path: dir.join(writers(requested)), file });
        Ok(())
    }

    /// Whether nobody else had the directory open when this process took part.
    pub(crate) fn alone(&self) -> bool {
        self.alone
    }

    /// Whether nobody else has the directory open now. For one who is about to [`leave`](Holders::leave), because it may
    /// lose the shared lock. The caller holds the directory's lock.
    pub(crate) fn are_only_these(&self) -> bool {
        self.ours.as_ref().is_some_and(|ours| has_no_other(&ours.file).unwrap_or(false))
    }

    /// Takes part no longer, even if a forked child has inherited the lock.
    pub(crate) fn leave(&self) {
        for held in [&self.ours, &self.writes].into_iter().flatten() {
            // Cannot fail on a descriptor that is open; and closing it will do the same.
            let _ = held.file.unlock();
        }
    }

    /// The files that tell others of this process.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.ours, &self.writes].into_iter().flatten().map(|held| held.path.as_path())
    }
}

/// The file that those lock who write with a durability.
fn writers(durability: Durability) -> &'static str {
    match durability {
        Durability::Process => "writers-process",
        Durability::System => "writers-system",
    }
}

/// Opens a file to lock, and makes it if there is none.
fn open(dir: &Path, name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Not blocking: somebody may have put a pipe in its place, whose opening would wait for a reader.
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options.open(dir.join(name))
}

/// Whether nobody has the file locked but, perhaps, this descriptor. Takes the lock, if so.
fn has_no_other(ours: &File) -> io::Result<bool> {
    match ours.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The inode of this process's PID namespace; 0 where there are none, or where `/proc` does not tell.
fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |namespace| namespace.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_know_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let one = Holders::join(dir.path(), false).unwrap();
        assert!(one.alone());
        let two = Holders::join(dir.path(), true).unwrap();
        assert!(!two.alone() && !one.are_only_these());
        one.leave();
        assert!(two.are_only_these());
        drop(two);
        assert!(Holders::join(dir.path(), false).unwrap().alone());
    }

    #[test]
    fn writers_agree_on_what_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        let join = || Holders::join(dir.path(), false).unwrap();
        let (mut one, mut two, mut three) = (join(), join(), join());
        one.write_with(dir.path(), Durability::System).unwrap();
        two.write_with(dir.path(), Durability::System).unwrap();
        one.leave();
        let error = three.write_with(dir.path(), Durability::Process).unwrap_err();
        let (held, requested) = (Durability::System, Durability::Process);
        assert!(
            matches!(error, OpenError::DurabilityConflict { held: h, requested: r, .. } if (h, r) == (held, requested)),
            "{error:?}"
        );
        assert!(error.to_string().contains("Durability::System") && error.to_string().contains("Durability::Process"));
        drop(two);
        three.write_with(dir.path(), Durability::Process).unwrap();
        one.write_with(dir.path(), Durability::System).unwrap_err();
        one.write_with(dir.path(), Durability::Process).unwrap();
    }

    #[test]
    fn a_holder_in_another_pid_namespace_is_refused_as_long_as_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        let theirs = Holders::join_from(dir.path(), false, 1234).unwrap();
        let error = Holders::join_from(dir.path(), false, 5678).unwrap_err();
        assert!(matches!(&error, OpenError::OtherPidNamespace { theirs, .. } if theirs == "1234"), "{error:?}");
        assert!(error.to_string().contains("shareProcessNamespace"), "{error}");
        drop(theirs);
        let ours = Holders::join_from(dir.path(), false, 5678).unwrap();
        assert!(ours.alone());
        assert!(!dir.path().join("holders-1234").exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_a_pid_namespace() {
        assert_ne!(pid_namespace(), 0);
    }
}

//! Errors, one enum per operation: [`OpenError`] for opening a store, [`StoreError`] for using it.
//!
//! `Display` gives the context and what to do next; the cause is in `source()`.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{Damage, Durability, EngineError, EngineKind, Settings};

/// Why a store could not be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no store at this path (only [`Store::open_read_only`](crate::Store::open_read_only)).
    #[error("there is no store in {}: open it for writing once to create it", path.display())]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// The path, or one of its parents, is a file.
    #[error("{} is not a directory: name a directory, or move the file away", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A symbolic link lies where a directory below one of this crate's should. It was not followed.
    #[error("{} is a symbolic link below a directory of this crate's: put the directory itself in its place", path.display())]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The system refused access to the directory or to its files.
    #[error("no permission to open the store in {}: {}", path.display(), access_needed(source))]
    PermissionDenied {
        /// The directory.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The device, a quota or a file-size limit is exhausted.
    #[error("no room to open the store in {}: free some space there or raise the quota", path.display())]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The directory lies on a network file system, where memory maps and locks cannot be trusted.
    #[error(
        "{} is on a network file system ({file_system}): use a local directory, or set allow_network_fs if only one host \
         ever uses it",
        path.display()
    )]
    NetworkFileSystem {
        /// The directory.
        path: PathBuf,
        /// The file system's name.
        file_system: &'static str,
    },
    /// The files of the store are not what they should be. Nothing was changed.
    #[error("the store in {} is damaged: move the directory away and let it be created anew", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// The engine that this needs was left out of this build.
    #[error(
        "the store in {} needs the engine {engine}, which is not in this build: turn on the cargo feature `{engine}` of \
         alluvium-disk-kv-cache, or ask for another engine with Settings::with_sharing",
        path.display()
    )]
    EngineNotBuilt {
        /// The directory.
        path: PathBuf,
        /// The engine.
        engine: EngineKind,
    },
    /// The directory holds a store of another engine.
    #[error(
        "{} holds a store of the engine {found}, not {requested}: ask for Sharing::{:?}, or use another directory",
        path.display(), found.sharing()
    )]
    OtherEngine {
        /// The directory.
        path: PathBuf,
        /// The engine of the store that is there.
        found: EngineKind,
        /// The engine that [`Settings::with_sharing`] asked for.
        requested: EngineKind,
    },
    /// Another process has the directory open, and the engine serves one process only.
    #[error(
        "another process has {} open, and the engine {engine} serves one process at a time: close it there, or keep the \
         store in a new directory with Sharing::MultiProcess (the engine {})",
        path.display(), EngineKind::Lmdb
    )]
    HeldByAnotherProcess {
        /// The directory.
        path: PathBuf,
        /// The engine.
        engine: EngineKind,
    },
    /// A process of another PID namespace, which is another container, has the directory open.
    #[error(
        "{} is open in another PID namespace ({theirs}; this is {ours}), and the engine tells readers apart by process id: \
         let the containers share one (docker --pid=container:NAME, Kubernetes shareProcessNamespace: true), or give each \
         a directory of its own",
        path.display()
    )]
    OtherPidNamespace {
        /// The directory.
        path: PathBuf,
        /// The inode of the namespace of those who have it open.
        theirs: String,
        /// The inode of this process's namespace.
        ours: String,
    },
    /// A setting is out of its range.
    #[error("{field} = {value} cannot be: {rule}")]
    InvalidSettings {
        /// The field of [`Settings`].
        field: &'static str,
        /// The value given.
        value: u64,
        /// What is allowed.
        rule: &'static str,
    },
    /// A table name is empty, too long, or has a NUL byte.
    #[error("{name:?} cannot name a table: use 1 to 511 bytes without NUL")]
    InvalidTable {
        /// The name given.
        name: &'static str,
    },
    /// This process would use more tables of one directory than it can.
    #[error("more than {max} tables of one directory: split them over several directories")]
    TooManyTables {
        /// The limit.
        max: u32,
    },
    /// A store opened for reading only has no such table.
    #[error("the store in {} has no table {table:?}: open it for writing once to create it", path.display())]
    MissingTable {
        /// The directory.
        path: PathBuf,
        /// The table.
        table: &'static str,
    },
    /// This process has the same directory open with other settings.
    #[error(
        "{} is already open in this process with other settings ({}): use equal settings, or drop the other handles first",
        path.display(), differences(open, requested)
    )]
    SettingsConflict {
        /// The directory.
        path: PathBuf,
        /// The settings in use.
        open: Box<Settings>,
        /// The settings asked for.
        requested: Box<Settings>,
    },
    /// A process has the directory open for writing with the other durability. With LMDB, commits that are not synced may
    /// reach the device in parts, over pages that an earlier, synced one is made of: a power cut would lose both.
    #[error(
        "{} is open with Durability::{held:?} in another process, and asked for with Durability::{requested:?}: synced \
         commits would not survive a power cut beside those that are not; open it with Durability::{held:?}, or close it \
         there first",
        path.display()
    )]
    DurabilityConflict {
        /// The directory.
        path: PathBuf,
        /// What those who have it open asked for.
        held: Durability,
        /// What [`Settings::with_durability`] asked for here.
        requested: Durability,
    },
    /// The directory lies on a read-only mount, where a reader cannot register, and a process that can write has it open
    /// through another mount.
    #[error(
        "{} is mounted read-only here and open in a process that can write to it, which would not know of a reader: mount \
         it writable here too, or close it there first",
        path.display()
    )]
    ReadOnlyMount {
        /// The directory.
        path: PathBuf,
    },
    /// This process has the same directory open for reading only.
    #[error(
        "{} is already open in this process for reading only: drop those handles first, or open it for writing before them",
        path.display()
    )]
    OpenForReading {
        /// The directory.
        path: PathBuf,
    },
    /// This process has a store open that used to be at this path, but another directory has taken its place.
    #[error(
        "another directory has taken the place of the store in {} while it is open here: drop its handles first",
        path.display()
    )]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
    /// The file by which LMDB's processes know of each other was removed while others have the store open. With another one this process
    /// and they would write over each other.
    #[error(
        "the lock file of the store in {} was removed while another process has it open: that process will say so at its next write; \
         let it end, and open the store again",
        path.display()
    )]
    LockFileGone {
        /// The directory.
        path: PathBuf,
    },
    /// Other code in this process has opened the directory with the engine directly.
    #[error("{} is open in this process outside this crate: close that first", path.display())]
    OpenedElsewhere {
        /// The directory.
        path: PathBuf,
    },
    /// Opening new tables inside a transaction on the same store would wait for itself.
    #[error("new tables of {} opened inside a transaction on it: open them before", path.display())]
    Nested {
        /// The directory.
        path: PathBuf,
    },
    /// The store was opened before a fork, by the parent.
    #[error(
        "{} was opened by process {opened_by} before it forked: open it after the fork, or exec first",
        path.display()
    )]
    Forked {
        /// The directory.
        path: PathBuf,
        /// The process that opened it.
        opened_by: u32,
    },
    /// A running process holds the lock file in a format of another engine version.
    #[error(
        "lock.mdb in {} is in use by a program with another version of the engine: stop that program, or build both alike",
        path.display()
    )]
    LockFile {
        /// The directory.
        path: PathBuf,
        /// The engine's word.
        source: EngineError,
    },
    /// The device failed under the store earlier in this process, and its engine (sled) cannot be closed.
    #[error("the store in {} failed earlier in this process and cannot be opened again by it: start the process anew", path.display())]
    Broken {
        /// The directory.
        path: PathBuf,
    },
    /// Using the store for the first time failed.
    #[error("the store in {} was opened but cannot be used", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// Any other error of the operating system.
    #[error("could not {action} for the store in {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Any other error of the engine.
    #[error("the engine could not open the store in {}", path.display())]
    Engine {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: EngineError,
    },
}

/// Why a read or a write failed. A write that fails has changed nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A key is empty or too long.
    #[error("a key of {bytes} bytes for table {table:?}: keys have 1 to {max} bytes, hash or shorten longer ones", max = crate::MAX_KEY_BYTES)]
    KeyLength {
        /// The table.
        table: String,
        /// The key's length in bytes.
        bytes: usize,
    },
    /// A value is longer than the engine can store.
    #[error(
        "a value of {bytes} bytes for table {table:?}: the limit is 4 GiB less one byte, keep it in a file of its own"
    )]
    ValueLength {
        /// The table.
        table: String,
        /// The value's length in bytes.
        bytes: usize,
    },
    /// The table was not named when this handle was opened.
    #[error("table {table:?} was not named when the store in {} was opened: add it to the tables of `open`", path.display())]
    UnknownTable {
        /// The directory.
        path: PathBuf,
        /// The table.
        table: String,
    },
    /// `read` or `write` was called inside a transaction of the same thread on the same store.
    #[error(
        "a transaction on {} was begun inside another one of the same thread: pass the outer one down instead",
        path.display()
    )]
    Nested {
        /// The directory.
        path: PathBuf,
    },
    /// The store was opened before a fork, by the parent.
    #[error(
        "{} was opened by process {opened_by} before it forked: open it after the fork, or exec first",
        path.display()
    )]
    Forked {
        /// The directory.
        path: PathBuf,
        /// The process that opened it.
        opened_by: u32,
    },
    /// The files of the store are no longer where they were opened: removed, moved away, or replaced by others. What was
    /// written to them would be lost.
    #[error(
        "files of the store in {} were removed or replaced while it is open here: drop all its handles and open it again",
        path.display()
    )]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
    /// The handle was opened for reading only.
    #[error("the store in {} was opened for reading only: use `Store::open` to write", path.display())]
    ReadOnly {
        /// The directory.
        path: PathBuf,
    },
    /// The map is full. Inside `f` of [`Store::write`](crate::Store::write) it means: return, the map grows and `f` runs
    /// again. From `write` itself it means that the map may not grow further.
    #[error(
        "the store in {} is full: {map_bytes} of at most {max_map_bytes} bytes mapped; raise max_map_bytes, or store less",
        path.display()
    )]
    Full {
        /// The directory.
        path: PathBuf,
        /// The size of the map, in bytes.
        map_bytes: u64,
        /// The bound of [`Settings::with_max_map_bytes`].
        max_map_bytes: u64,
    },
    /// One transaction changed too many pages.
    #[error("a transaction on {} changed too much at once: split it into several", path.display())]
    TransactionTooLarge {
        /// The directory.
        path: PathBuf,
    },
    /// All reader slots of the environment are taken.
    #[error(
        "more than {max} transactions read the store in {} at once, over all processes: shorten them, or use fewer threads",
        path.display()
    )]
    TooManyReaders {
        /// The directory.
        path: PathBuf,
        /// The limit over all processes.
        max: u32,
    },
    /// The device, a quota or a file-size limit is exhausted.
    #[error("no room for the store in {}: free some space there or raise the quota, then try again", path.display())]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The data is inconsistent.
    #[error("the store in {} is damaged: move the directory away and let it be created anew", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// An earlier failure left this process's view of the store unusable.
    #[error("the store in {} failed earlier in this process: drop all its handles and open it again", path.display())]
    Broken {
        /// The directory.
        path: PathBuf,
    },
    /// Any other error of the operating system.
    #[error("could not {action} for the store in {}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// Any other error of the engine.
    #[error("the engine failed on the store in {}", path.display())]
    Engine {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: EngineError,
    },
}

/// What to do about a refusal.
fn access_needed(refusal: &io::Error) -> &'static str {
    match refusal.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "its file system is mounted read-only, so open it for reading only",
        _ => {
            "it needs read and write access to the directory and its files, for reading too, because readers register there \
             (unless the file system is mounted read-only)"
        }
    }
}

/// What differs between two settings, for people.
fn differences(open: &Settings, requested: &Settings) -> String {
    /// A setting: its name, and its value in words.
    type Shown = (&'static str, fn(&Settings) -> String);
    const SHOWN: [Shown; 6] = [
        ("sharing", |settings| format!("{:?}", settings.sharing())),
        ("on_damage", |settings| format!("{:?}", settings.on_damage())),
        ("durability", |settings| format!("{:?}", settings.durability())),
        ("initial_map_bytes", |settings| settings.initial_map_bytes().to_string()),
        ("max_map_bytes", |settings| settings.max_map_bytes().to_string()),
        ("allow_network_fs", |settings| settings.allow_network_fs().to_string()),
    ];
    let differing = SHOWN.iter().filter_map(|(name, show)| {
        let (open, requested) = (show(open), show(requested));
        (open != requested).then(|| format!("{name} is {open}, {requested} was asked for"))
    });
    differing.collect::<Vec<_>>().join("; ")
}

/// Whether the system says that there is no room: device, quota, or the process's file-size limit.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    // By the kind, because an engine may have lost the number.
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

impl OpenError {
    /// Sorts an error of the operating system.
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> OpenError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::PermissionDenied { path, source }
            }
            io::ErrorKind::NotADirectory => OpenError::NotADirectory { path },
            _ if is_no_space(&source) => OpenError::NoSpace { path, source },
            _ => OpenError::Io { path, action, source },
        }
    }
}

impl StoreError {
    /// Sorts an error of the operating system.
    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> StoreError {
        let path = path.to_path_buf();
        if is_no_space(&source) {
            StoreError::NoSpace { path, source }
        } else {
            StoreError::Io { path, action, source }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_of_settings_names_each_that_differs() {
        let all = Settings::new()
            .with_sharing(crate::Sharing::SingleProcess)
            .with_on_damage(crate::OnDamage::Quarantine)
            .with_durability(Durability::Process)
            .with_initial_map_bytes(1)
            .with_max_map_bytes(2)
            .with_allow_network_fs(true);
        let shown = differences(&Settings::new(), &all);
        // By its `Debug`, every field of the settings: none can be forgotten here.
        for field in format!("{all:?}").split(", ").map(|field| field.trim_start_matches("Settings { ")) {
            let name = field.split(':').next().unwrap();
            assert!(shown.contains(&format!("{name} is ")), "{name}: {shown}");
        }
        assert_eq!(
            differences(&Settings::new(), &Settings::new().with_durability(Durability::Process)),
            "durability is System, Process was asked for"
        );
    }

    #[test]
    fn refusals_of_the_system_are_sorted() {
        let at = Path::new("/store");
        let os = io::Error::from_raw_os_error;
        for code in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            assert!(matches!(OpenError::io(at, "x", os(code)), OpenError::NoSpace { .. }), "{code}");
            assert!(matches!(StoreError::io(at, "x", os(code)), StoreError::NoSpace { .. }), "{code}");
        }
        for (code, said) in
            [(libc::EACCES, "write access"), (libc::EPERM, "write access"), (libc::EROFS, "reading only")]
        {
            let error = OpenError::io(at, "x", os(code));
            assert!(matches!(error, OpenError::PermissionDenied { .. }) && error.to_string().contains(said), "{error}");
        }
        assert!(matches!(OpenError::io(at, "x", os(libc::ENOTDIR)), OpenError::NotADirectory { .. }));
        assert!(matches!(OpenError::io(at, "x", os(libc::EIO)), OpenError::Io { .. }));
        assert!(matches!(StoreError::io(at, "x", os(libc::EIO)), StoreError::Io { .. }));
    }
}

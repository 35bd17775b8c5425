//! One LMDB environment per directory and process: opening it, keeping its map large enough, closing it.
//!
//! Two invariants live here.
//! - *One environment per data file in a process.* LMDB's lock file is guarded by POSIX record locks, which a second
//!   environment on the same file would drop when it closes. The registry is keyed by the data file's device and inode,
//!   so that a bind mount or a link finds the same environment, and a directory that was replaced does not.
//! - *The data file is at least as long as any map.* It is extended (sparsely) before a map of that size is used for
//!   writing, under the directory's lock, and is never shortened. So the file reaches past its last page at any moment,
//!   a kill included, and a file that does not has been truncated.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use heed::{EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};

use crate::directory::{self, Directory, Identity, Network};
use crate::gate::{Gate, Nest, Pass};
use crate::header::{self, Header, HeaderError};
use crate::tables::{MAX_TABLES, OpenTables, Tables};
use crate::{Damage, Durability, OpenError, Settings, StoreError};

/// Transactions that can read an environment at once, over all processes. The first process to open it decides.
const MAX_READERS: u32 = 1024;
/// Map sizes are multiples of this: no system of ours has larger pages.
const MAP_STEP: u64 = 64 << 10;
/// How long an environment that is being closed by another thread may take.
const CLOSING: Duration = Duration::from_secs(10);

static OPEN: Mutex<Vec<Weak<Environment>>> = Mutex::new(Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// An open environment. Dropping the last reference closes it.
#[derive(Debug)]
pub(crate) struct Environment {
    id: u64,
    pid: u32,
    path: PathBuf,
    identity: Identity,
    directory: Directory,
    /// `None`: opened for reading only.
    settings: Option<Settings>,
    env: heed::Env<WithoutTls>,
    map_bytes: AtomicU64,
    gate: Gate,
    broken: AtomicBool,
    tables: OpenTables,
}

/// Held while a transaction lives; see [`Environment::begin_read`].
pub(crate) struct Inside<'e> {
    _pass: Pass<'e>,
    /// The size of the map during the transaction.
    pub(crate) map_bytes: u64,
}

impl Environment {
    /// Opens the environment in `dir`, or finds it among those this process has open. No settings: for reading only.
    pub(crate) fn open(dir: &Path, settings: Option<&Settings>) -> Result<Arc<Environment>, OpenError> {
        let path = match settings {
            Some(settings) => {
                validate(settings)?;
                directory::existing_or_new(dir, refused(settings))?
            }
            None => directory::existing(dir, Some(directory::network_file_system))?,
        };
        let io = |action| {
            let path = &path;
            move |error| OpenError::io(path, action, error)
        };
        // Neither lock is held by anyone who waits for a transaction.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|environment| environment.strong_count() > 0);
        let directory = Directory::open(&path).map_err(io("open the directory"))?;
        let locked = directory.lock().map_err(io("lock the directory"))?;

        let data = directory::data_file(&path)?;
        for environment in open.iter().filter_map(Weak::upgrade) {
            if data.as_ref().is_some_and(|(_, identity)| *identity == environment.identity) {
                return environment.join(settings);
            }
            if environment.path == path {
                return Err(OpenError::Replaced { path });
            }
        }

        let header = match &data {
            Some((file, _)) => {
                let file = File::open(file).map_err(io("open the data file"))?;
                header::read(&file).map_err(|error| match error {
                    HeaderError::Io(error) => io("read the data file")(error),
                    HeaderError::Damaged(damage) => OpenError::Damaged { path: path.clone(), damage },
                })?
            }
            None => None,
        };
        let map_bytes = match (settings, header) {
            (Some(settings), header) => first_map_bytes(settings, header),
            (None, Some(header)) => round_up(header.map_bytes.max(header.used_bytes)),
            (None, None) => return Err(OpenError::Absent { path }),
        };
        let env = open_engine(&path, settings, map_bytes)?;
        let file = env.try_clone_inner_file().map_err(|error| OpenError::engine(&path, error))?;
        let identity = Identity::from(&file.metadata().map_err(io("look at the data file"))?);
        if let Some(settings) = settings {
            extend(&file, map_bytes).map_err(io("extend the data file"))?;
            if header.is_none() && settings.durability() == Durability::System {
                // A commit is only as durable as the names of the files.
                directory.sync().map_err(io("sync the directory"))?;
            }
        }
        let stale = env.clear_stale_readers().map_err(|error| OpenError::engine(&path, error))?;
        if stale > 0 {
            tracing::debug!(path = %path.display(), stale, "cleared readers that died");
        }
        drop(locked);
        let environment = Arc::new(Environment {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            pid: process::id(),
            path,
            identity,
            directory,
            settings: settings.cloned(),
            env,
            map_bytes: AtomicU64::new(map_bytes),
            gate: Gate::default(),
            broken: AtomicBool::new(false),
            tables: OpenTables::default(),
        });
        open.push(Arc::downgrade(&environment));
        Ok(environment)
    }

    /// A second opening of what is open already.
    fn join(self: Arc<Environment>, settings: Option<&Settings>) -> Result<Arc<Environment>, OpenError> {
        if self.pid != process::id() {
            return Err(OpenError::Forked { path: self.path.clone(), opened_by: self.pid });
        }
        match (&self.settings, settings) {
            (None, Some(_)) => Err(OpenError::OpenForReading { path: self.path.clone() }),
            (Some(open), Some(requested)) if open != requested => Err(OpenError::SettingsConflict {
                path: self.path.clone(),
                open: Box::new(open.clone()),
                requested: Box::new(requested.clone()),
            }),
            _ => Ok(self),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Marks this thread as being in a transaction, unless it is in one, or in a child of the process that opened this.
    pub(crate) fn nest(&self) -> Result<Nest, StoreError> {
        // First: after a fork every lock in here may be held for ever by a thread that is not there.
        if self.pid != process::id() {
            return Err(StoreError::Forked { path: self.path.clone(), opened_by: self.pid });
        }
        Nest::enter(self.id).ok_or_else(|| StoreError::Nested { path: self.path.clone() })
    }

    /// Begins a read transaction, following the map as other processes grow it.
    pub(crate) fn begin_read(&self, nest: &Nest) -> Result<(Inside<'_>, RoTxn<'_, WithoutTls>), StoreError> {
        self.begin(nest, heed::Env::read_txn)
    }

    /// Begins the one write transaction, following the map as other processes grow it. Waits for other writers.
    pub(crate) fn begin_write(&self, nest: &Nest) -> Result<(Inside<'_>, RwTxn<'_>), StoreError> {
        self.begin(nest, heed::Env::write_txn)
    }

    fn begin<'e, X>(
        &'e self,
        nest: &Nest,
        begin: impl Fn(&'e heed::Env<WithoutTls>) -> heed::Result<X>,
    ) -> Result<(Inside<'e>, X), StoreError> {
        let mut looked_for_stale = false;
        loop {
            let pass = self.gate.enter(nest.in_another);
            if self.broken.load(Ordering::Acquire) {
                return Err(StoreError::Broken { path: self.path.clone() });
            }
            let map_bytes = self.map_bytes.load(Ordering::Acquire);
            match begin(&self.env) {
                Ok(txn) => {
                    return Ok((Inside { _pass: pass, map_bytes }, txn));
                }
                Err(heed::Error::Mdb(MdbError::MapResized)) => {
                    drop(pass);
                    self.remap(map_bytes, 0)?;
                }
                Err(heed::Error::Mdb(MdbError::ReadersFull)) if !looked_for_stale => {
                    looked_for_stale = true;
                    self.clear_stale_readers()?;
                }
                Err(error) => return Err(self.error(error)),
            }
        }
    }

    /// Makes room after a transaction found the map of `full_bytes` full, for a value of `value_bytes` among others.
    pub(crate) fn grow(&self, full_bytes: u64, value_bytes: u64) -> Result<(), StoreError> {
        // A reader that died keeps every page it could see from being used again.
        if self.clear_stale_readers()? > 0 {
            return Ok(());
        }
        let max = round_down(self.settings.as_ref().map_or(0, Settings::max_map_bytes));
        let wanted = full_bytes.saturating_mul(2).max(full_bytes.saturating_add(value_bytes).saturating_add(MAP_STEP));
        self.remap(full_bytes, round_up(wanted).min(max))?;
        if self.map_bytes.load(Ordering::Acquire) > full_bytes {
            return Ok(());
        }
        Err(StoreError::Full { path: self.path.clone(), map_bytes: full_bytes, max_map_bytes: max })
    }

    /// Changes the size of the map to what other processes have grown it to, or to `wanted_bytes` if that is more;
    /// unless it is no longer of `seen_bytes`, because another thread was here.
    fn remap(&self, seen_bytes: u64, wanted_bytes: u64) -> Result<(), StoreError> {
        let io = |action| move |error| StoreError::io(&self.path, action, error);
        let alone = self.gate.alone();
        if self.broken.load(Ordering::Acquire) {
            return Err(StoreError::Broken { path: self.path.clone() });
        }
        if self.map_bytes.load(Ordering::Acquire) != seen_bytes {
            return Ok(());
        }
        let file = self.env.try_clone_inner_file().map_err(|error| self.error(error))?;
        let locked = self.directory.lock().map_err(io("lock the directory"))?;
        let header = header::read(&file).map_err(|error| match error {
            HeaderError::Io(error) => io("read the data file")(error),
            HeaderError::Damaged(damage) => StoreError::Damaged { path: self.path.clone(), damage },
        })?;
        let others = header.map_or(0, |header| header.map_bytes.max(header.used_bytes));
        let target = round_up(others.max(wanted_bytes));
        if target <= seen_bytes {
            return Ok(());
        }
        let Ok(size) = usize::try_from(target) else {
            return Err(StoreError::Full {
                path: self.path.clone(),
                map_bytes: seen_bytes,
                max_map_bytes: usize::MAX as u64,
            });
        };
        if self.settings.is_some() {
            extend(&file, target).map_err(io("extend the data file"))?;
        }
        drop(locked);
        // SAFETY: LMDB asks that this process has no live transaction on the environment. Every transaction is begun
        // in `begin` and lives within a `Pass` of the gate, and `alone` is held, so there is no `Pass`.
        match unsafe { self.env.resize(size) } {
            Ok(()) => {
                self.map_bytes.store(target, Ordering::Release);
                tracing::debug!(path = %self.path.display(), from = seen_bytes, to = target, "map grown");
                Ok(())
            }
            Err(error) => {
                // The old map is gone and there is no new one: no transaction may begin any more.
                self.broken.store(true, Ordering::Release);
                tracing::warn!(path = %self.path.display(), to = target, "map lost");
                drop(alone);
                Err(self.error(error))
            }
        }
    }

    fn clear_stale_readers(&self) -> Result<usize, StoreError> {
        self.env.clear_stale_readers().map_err(|error| self.error(error))
    }

    /// Sorts an error of the engine.
    pub(crate) fn error(&self, error: heed::Error) -> StoreError {
        let path = self.path.clone();
        match error {
            heed::Error::Io(source) => StoreError::io(&path, "use the data file", source),
            heed::Error::Mdb(MdbError::MapFull) => StoreError::Full {
                path,
                map_bytes: self.map_bytes.load(Ordering::Acquire),
                max_map_bytes: self.settings.as_ref().map_or(0, Settings::max_map_bytes),
            },
            heed::Error::Mdb(MdbError::TxnFull) => StoreError::TransactionTooLarge { path },
            heed::Error::Mdb(MdbError::ReadersFull) => StoreError::TooManyReaders { path, max: self.env.max_readers() },
            heed::Error::Mdb(MdbError::Panic) => StoreError::Broken { path },
            heed::Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound | MdbError::Invalid) => {
                StoreError::Damaged { path, damage: Damage::Engine(error.into()) }
            }
            other => StoreError::Engine { path, source: other.into() },
        }
    }

    /// Opens tables by name, and makes those that are missing if `create`.
    pub(crate) fn tables(&self, names: &[&'static str], create: bool) -> Result<Tables, OpenError> {
        self.tables.open(self, names, create)
    }

    /// The engine's environment.
    pub(crate) fn engine(&self) -> &heed::Env<WithoutTls> {
        &self.env
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if self.pid != process::id() {
            // LMDB forbids an environment after fork, closing included. Leaking a reference keeps it from closing.
            std::mem::forget(self.env.clone());
        }
    }
}

fn open_engine(path: &Path, settings: Option<&Settings>, map_bytes: u64) -> Result<heed::Env<WithoutTls>, OpenError> {
    let Ok(map_size) = usize::try_from(map_bytes) else {
        return Err(OpenError::InvalidSettings {
            field: "max_map_bytes",
            value: map_bytes,
            rule: "the store is larger than this system can map",
        });
    };
    let flags = match settings {
        None => EnvFlags::READ_ONLY,
        Some(settings) => match settings.durability() {
            Durability::Process => EnvFlags::NO_SYNC,
            Durability::System => EnvFlags::empty(),
        },
    };
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size).max_dbs(MAX_TABLES).max_readers(MAX_READERS);
    // SAFETY: neither READ_ONLY nor NO_SYNC gives up a lock or maps memory for writing; what NO_SYNC gives up is
    // durability across a crash of the system, which `Durability::Process` documents.
    unsafe { options.flags(flags) };
    loop {
        // SAFETY: the files are a store of ours, or of LMDB, whose header has been checked, or they are absent; they are
        // private to the user; and this process has no other environment on them: the registry's lock is held, it has
        // no live entry for them, and heed itself refuses a path it has open.
        match unsafe { options.open(path) } {
            Ok(env) => return Ok(env),
            // The last handle is gone, but the thread that dropped it is not done closing.
            Err(heed::Error::EnvAlreadyOpened) => match heed::env_closing_event(path) {
                Some(closing) if !closing.wait_timeout(CLOSING) => {
                    return Err(OpenError::OpenedElsewhere { path: path.to_path_buf() });
                }
                _ => {}
            },
            Err(error) => return Err(OpenError::engine(path, error)),
        }
    }
}

/// Makes a file longer, never shorter. The caller holds the directory's lock, and LMDB itself never writes past a map,
/// so nobody else can make it longer between the look and the change.
fn extend(file: &File, bytes: u64) -> std::io::Result<()> {
    if file.metadata()?.len() < bytes {
        file.set_len(bytes)?;
    }
    Ok(())
}

/// How to tell the network file systems that are refused.
fn refused(settings: &Settings) -> Option<Network> {
    let network: Network = directory::network_file_system;
    (!settings.allow_network_fs()).then_some(network)
}

fn validate(settings: &Settings) -> Result<(), OpenError> {
    let error = |field, value, rule| Err(OpenError::InvalidSettings { field, value, rule });
    let (initial, max) = (settings.initial_map_bytes(), settings.max_map_bytes());
    if max < MAP_STEP {
        return error("max_map_bytes", max, "give at least 64 KiB");
    }
    if usize::try_from(max).is_err() || max > 1 << 46 {
        return error("max_map_bytes", max, "give no more than the system can map, and at most 64 TiB");
    }
    if initial == 0 || initial > round_down(max) {
        return error("initial_map_bytes", initial, "give at least 1 byte and at most max_map_bytes");
    }
    Ok(())
}

/// The first map of a store opened for writing: what it was grown to before, within this process's bounds, and in any
/// case all of its data.
fn first_map_bytes(settings: &Settings, header: Option<Header>) -> u64 {
    let max = round_down(settings.max_map_bytes());
    let (grown, used) = header.map_or((0, 0), |header| (header.map_bytes, header.used_bytes));
    round_up(settings.initial_map_bytes().max(grown.min(max)).max(used))
}

fn round_up(bytes: u64) -> u64 {
    bytes.div_ceil(MAP_STEP).saturating_mul(MAP_STEP)
}

fn round_down(bytes: u64) -> u64 {
    bytes / MAP_STEP * MAP_STEP
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn an_opening_waits_for_a_closing_that_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Environment::open(dir.path(), Some(&Settings::new()));
        let environment = open().unwrap();
        // As if the thread that drops the last handle had come no further than this.
        let closing = environment.engine().clone();
        drop(environment);
        let (told, hear) = mpsc::channel();
        thread::scope(|threads| {
            threads.spawn(move || told.send(open().map(drop)));
            let early = hear.recv_timeout(Duration::from_millis(50));
            drop(closing);
            assert!(early.is_err(), "{early:?}");
            hear.recv_timeout(CLOSING).unwrap().unwrap();
        });
    }

    #[test]
    fn commits_are_synced_unless_durability_is_of_processes() {
        let dir = tempfile::tempdir().unwrap();
        for (durability, syncs) in [(Durability::System, true), (Durability::Process, false)] {
            let settings = Settings::new().with_durability(durability);
            let environment = Environment::open(dir.path(), Some(&settings)).unwrap();
            let flags = environment.engine().flags().unwrap().unwrap();
            assert_eq!(!flags.contains(EnvFlags::NO_SYNC), syncs, "{durability:?}");
            assert!(!flags.intersects(EnvFlags::WRITE_MAP | EnvFlags::NO_META_SYNC | EnvFlags::NO_LOCK));
        }
    }

    #[test]
    fn network_file_systems_are_refused_unless_allowed() {
        assert!(refused(&Settings::new()).is_some());
        assert!(refused(&Settings::new().with_allow_network_fs(true)).is_none());
    }

    #[test]
    fn the_first_map_has_room_for_what_is_there() {
        const K: u64 = 1 << 10;
        let settings = Settings::new().with_initial_map_bytes(100 * K).with_max_map_bytes(1000 * K);
        let first = |map_bytes, used_bytes| first_map_bytes(&settings, Some(Header { map_bytes, used_bytes }));
        assert_eq!(first_map_bytes(&settings, None), 128 * K);
        assert_eq!(first(64 * K, 8 * K), 128 * K);
        assert_eq!(first(512 * K, 8 * K), 512 * K);
        assert_eq!(first(4096 * K, 8 * K), 960 * K, "not beyond what may be mapped");
        assert_eq!(first(4096 * K, 3000 * K), 3008 * K, "except for what is stored");
    }
}

//! LMDB, through heed: one environment, its map kept large enough.
//!
//! One invariant lives here: *the data file is at least as long as any map.* It is extended (sparsely) before a map of
//! that size is used for writing, under the directory's lock, and is never shortened. So the file reaches past its last
//! page at any moment, a kill included, and a file that does not has been truncated.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use heed::{EnvFlags, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};

use super::gate::{Gate, Pass};
use super::{Changes, Counted, Engine, Examined, Extent, MAX_TABLES, Place, Room, Snapshot, Table};
use crate::directory::Directory;
use crate::{Damage, Durability, OpenError, Settings, StoreError};

mod header;
mod room;
mod tables;
mod txn;
mod walk;
mod writers;

use header::{Header, HeaderError};
use tables::OpenTables;
use txn::{ReadTxn, WriteTxn};
use writers::{Turn, Writers};

/// Transactions that can read an environment at once, over all processes. The first process to open it decides.
const MAX_READERS: u32 = 1024;
/// Map sizes are multiples of this: no system of ours has larger pages.
const MAP_STEP: u64 = 64 << 10;
const DATA: &str = "data.mdb";

/// An open environment.
#[derive(Debug)]
pub(crate) struct Lmdb {
    path: PathBuf,
    directory: Arc<Directory>,
    /// `None`: opened for reading only.
    settings: Option<Settings>,
    env: heed::Env<WithoutTls>,
    map_bytes: AtomicU64,
    gate: Gate,
    writers: Writers,
    broken: AtomicBool,
    tables: OpenTables,
}

/// Held while a transaction lives; see [`Lmdb::begin`].
struct Inside<'e> {
    lmdb: &'e Lmdb,
    /// The size of the map during the transaction.
    map_bytes: u64,
    _turn: Option<Turn<'e>>,
    _pass: Pass<'e>,
}

impl Lmdb {
    pub(crate) fn open(place: &Place<'_>) -> Result<Lmdb, OpenError> {
        let Place { path, directory, settings } = *place;
        let io = |action| move |error| OpenError::io(path, action, error);
        let header = match File::open(path.join(DATA)) {
            Ok(file) => header::read(&file).map_err(|error| not_opened(path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io("open the data file")(error)),
        };
        let map_bytes = match (settings, header) {
            (Some(settings), header) => first_map_bytes(settings, header),
            (None, Some(header)) => round_up(header.map_bytes.max(header.used_bytes)),
            (None, None) => return Err(OpenError::Absent { path: path.to_path_buf() }),
        };
        if heed::env_closing_event(path).is_some() {
            return Err(OpenError::OpenedElsewhere { path: path.to_path_buf() });
        }
        match room::fill_lock_file(path) {
            // Then LMDB does without.
            Err(error) if settings.is_none() && error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            filled => filled.map_err(io("make the lock file"))?,
        }
        let env = open_environment(path, settings, map_bytes).inspect_err(|_| {
            if header.is_none() {
                forget_half_made(path);
            }
        })?;
        if settings.is_some() {
            let file = env.try_clone_inner_file().map_err(|error| open_error(path, error))?;
            extend(&file, map_bytes).map_err(io("extend the data file"))?;
        }
        let stale = env.clear_stale_readers().map_err(|error| open_error(path, error))?;
        if stale > 0 {
            tracing::debug!(path = %path.display(), stale, "cleared readers that died");
        }
        let writers = Writers::open(&path.join(DATA)).map_err(io("open the data file"))?;
        Ok(Lmdb {
            path: path.to_path_buf(),
            directory: Arc::clone(directory),
            settings: settings.cloned(),
            env,
            map_bytes: AtomicU64::new(map_bytes),
            gate: Gate::default(),
            writers,
            broken: AtomicBool::new(false),
            tables: OpenTables::default(),
        })
    }

    /// Begins a read transaction.
    fn begin_read(&self, nested: bool) -> Result<(Inside<'_>, RoTxn<'_, WithoutTls>), StoreError> {
        self.begin(nested, || Ok(None), heed::Env::read_txn)
    }

    /// Begins the one write transaction, waiting for other writers.
    fn begin_write(&self, nested: bool) -> Result<(Inside<'_>, RwTxn<'_>), StoreError> {
        self.begin(nested, || self.writers.turn().map(Some), heed::Env::write_txn)
    }

    /// Begins a transaction, following the map as other processes grow it.
    fn begin<'e, X>(
        &'e self,
        nested: bool,
        turn: impl Fn() -> io::Result<Option<Turn<'e>>>,
        begin: impl Fn(&'e heed::Env<WithoutTls>) -> heed::Result<X>,
    ) -> Result<(Inside<'e>, X), StoreError> {
        let mut looked_for_stale = false;
        loop {
            let pass = self.gate.enter(nested);
            if self.broken.load(Ordering::Acquire) {
                return Err(StoreError::Broken { path: self.path.clone() });
            }
            let turn = turn().map_err(|error| StoreError::io(&self.path, "wait for other writers", error))?;
            let map_bytes = self.map_bytes.load(Ordering::Acquire);
            match begin(&self.env) {
                Ok(txn) => return Ok((Inside { lmdb: self, map_bytes, _turn: turn, _pass: pass }, txn)),
                Err(heed::Error::Mdb(MdbError::MapResized)) => {
                    drop((turn, pass));
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

    /// Makes the map larger, after a transaction found it full.
    fn grow(&self, Room { full_bytes, value_bytes }: Room) -> Result<(), StoreError> {
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
        let header = header::read(&file).map_err(|error| self.unreadable(error))?;
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

    /// Sorts an error of reading the data file.
    fn unreadable(&self, error: HeaderError) -> StoreError {
        match error {
            HeaderError::Io(error) => StoreError::io(&self.path, "read the data file", error),
            HeaderError::Damaged(damage) => StoreError::Damaged { path: self.path.clone(), damage },
        }
    }

    fn clear_stale_readers(&self) -> Result<usize, StoreError> {
        self.env.clear_stale_readers().map_err(|error| self.error(error))
    }

    /// Sorts an error of the engine.
    fn error(&self, error: heed::Error) -> StoreError {
        let path = self.path.clone();
        match error {
            heed::Error::Io(source) => StoreError::io(&path, "use the data file", room::cause(&path, source)),
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
}

impl Engine for Lmdb {
    fn open_tables(
        &self,
        names: &[&'static str],
        create: bool,
        nested: bool,
    ) -> Result<Vec<(&'static str, Table)>, OpenError> {
        tables::open(self, names, create, nested)
    }

    fn read(&self, nested: bool) -> Result<Box<dyn Snapshot + '_>, StoreError> {
        let (inside, txn) = self.begin_read(nested)?;
        Ok(Box::new(ReadTxn { txn, inside }))
    }

    fn write(&self, nested: bool) -> Result<Box<dyn Changes + '_>, StoreError> {
        let (inside, txn) = self.begin_write(nested)?;
        Ok(Box::new(WriteTxn { reads: ReadTxn { txn, inside }, no_room_for: None }))
    }

    fn make_room(&self, room: Room) -> Result<(), StoreError> {
        self.grow(room)
    }

    fn extent(&self) -> Result<Option<Extent>, StoreError> {
        let file = self.env.try_clone_inner_file().map_err(|error| self.error(error))?;
        let header = header::read(&file).map_err(|error| self.unreadable(error))?;
        let map_bytes = self.map_bytes.load(Ordering::Acquire);
        Ok(Some(Extent { used_bytes: header.map_or(0, |header| header.used_bytes), map_bytes }))
    }

    /// Walks the file as of one read transaction, which keeps its pages from being used again, while others may write.
    fn check(&self, nested: bool) -> Result<Vec<Counted>, StoreError> {
        let file = self.env.try_clone_inner_file().map_err(|error| self.error(error))?;
        loop {
            let (_inside, txn) = self.begin_read(nested)?;
            // `None`: two commits came between the transaction and the look at its meta page.
            if let Some(walked) = walk::walk(&file, Some(txn.id() as u64)).map_err(|error| self.unreadable(error))? {
                return Ok(walked.tables);
            }
        }
    }

    fn commits(&self) -> Option<u64> {
        Some(self.env.info().last_txn_id as u64)
    }

    #[cfg(test)]
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// Walks the files of a store that nobody has open.
pub(super) fn examine(dir: &Path) -> Result<Examined, OpenError> {
    let walked = File::open(dir.join(DATA)).map_err(HeaderError::Io).and_then(|file| walk::walk(&file, None));
    match walked {
        Ok(walked) => Ok(Examined::Sound { commits: walked.map_or(0, |walked| walked.commits) }),
        Err(HeaderError::Damaged(damage)) => Ok(Examined::Damaged(damage)),
        Err(error) => Err(not_opened(dir, error)),
    }
}

fn not_opened(path: &Path, error: HeaderError) -> OpenError {
    match error {
        HeaderError::Io(error) => OpenError::io(path, "read the data file", error),
        HeaderError::Damaged(damage) => OpenError::Damaged { path: path.to_path_buf(), damage },
    }
}

/// Sorts an error of the engine met while it opens the environment. The data file's header has been checked by then, so
/// a wrong version or magic is that of the lock file.
fn open_error(path: &Path, error: heed::Error) -> OpenError {
    let path = path.to_path_buf();
    match error {
        heed::Error::Io(source) => OpenError::io(&path, "open the environment", room::cause(&path, source)),
        heed::Error::Mdb(MdbError::Invalid | MdbError::VersionMismatch) => {
            OpenError::LockFile { path, source: error.into() }
        }
        heed::Error::Mdb(MdbError::Corrupted | MdbError::PageNotFound) => {
            OpenError::Damaged { path, damage: Damage::Engine(error.into()) }
        }
        other => OpenError::Engine { path, source: other.into() },
    }
}

fn open_environment(
    path: &Path,
    settings: Option<&Settings>,
    map_bytes: u64,
) -> Result<heed::Env<WithoutTls>, OpenError> {
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
    options.map_size(map_size).max_dbs(MAX_TABLES as u32).max_readers(MAX_READERS);
    // SAFETY: neither READ_ONLY nor NO_SYNC gives up a lock or maps memory for writing; what NO_SYNC gives up is
    // durability across a crash of the system, which `Durability::Process` documents.
    unsafe { options.flags(flags) };
    // SAFETY: the files are a store of ours, or of LMDB, whose header has been checked, or they are absent; they are
    // private to the user; and this process has no other environment on them: the registry's lock is held, it has no
    // live entry for them, and heed itself refuses a path it has open.
    unsafe { options.open(path) }.map_err(|error| match error {
        heed::Error::EnvAlreadyOpened => OpenError::OpenedElsewhere { path: path.to_path_buf() },
        error => open_error(path, error),
    })
}

/// Empties the data file of a store that could not be made, so that it is not taken for a damaged one: on a full device,
/// LMDB writes one of its two meta pages and fails. The caller holds the directory's lock.
fn forget_half_made(path: &Path) {
    if let Ok(file) = OpenOptions::new().write(true).open(path.join(DATA)) {
        // Whatever fails here, the error of the opening is the one to tell.
        let _ = file.set_len(0);
    }
}

/// Makes a file longer, never shorter. The caller holds the directory's lock, and LMDB itself never writes past a map,
/// so nobody else can make it longer between the look and the change.
fn extend(file: &File, bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() < bytes {
        file.set_len(bytes)?;
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
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn commits_are_synced_unless_durability_is_of_processes() {
        let dir = tempfile::tempdir().unwrap();
        for (durability, syncs) in [(Durability::System, true), (Durability::Process, false)] {
            let settings = Settings::new().with_durability(durability);
            let environment = Environment::open(dir.path(), Some(&settings)).unwrap();
            let lmdb = environment.engine().as_any().downcast_ref::<Lmdb>().unwrap();
            let flags = lmdb.env.flags().unwrap().unwrap();
            assert_eq!(!flags.contains(EnvFlags::NO_SYNC), syncs, "{durability:?}");
            assert!(!flags.intersects(EnvFlags::WRITE_MAP | EnvFlags::NO_META_SYNC | EnvFlags::NO_LOCK));
        }
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

//! A directory held open by this process: one engine, whatever number of handles.
//!
//! One invariant lives here: *one engine on a data file in a process.* LMDB's lock file is guarded by POSIX record locks,
//! which a second environment on the same file would drop when it closes; sled would refuse. The registry is keyed by the
//! data file's device and inode, so that a bind mount or a link finds the same environment, and a directory that was
//! replaced does not.

use std::collections::HashMap;
use std::fs::File;
use std::mem::{self, ManuallyDrop};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use crate::directory::{self, Directory, Identity};
use crate::engine::{Engine, EngineKind, Examined, MAX_TABLES, Nest, Place, Table};
use crate::fork::Generation;
use crate::holders::Holders;
use crate::in_place::InPlace;
use crate::quarantine::{self, Recovered};
use crate::{Damage, Durability, OnDamage, OpenError, Settings, Sharing, StoreError, mark};

/// How long an environment that is being closed by another thread may take.
const CLOSING: Duration = Duration::from_secs(60);

static OPEN: Mutex<Vec<Registered>> = Mutex::new(Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The tables a handle may use, by name.
pub(crate) type Tables = Arc<[(&'static str, Table)]>;

/// An open environment. Dropping the last reference closes it.
#[derive(Debug)]
pub(crate) struct Environment {
    id: u64,
    pid: u32,
    generation: Generation,
    path: PathBuf,
    identity: Identity,
    in_place: InPlace,
    kind: EngineKind,
    directory: Arc<Directory>,
    /// `None`: opened for reading only.
    settings: Option<Settings>,
    recovered: Option<Recovered>,
    /// Closed by hand, before others are told.
    engine: ManuallyDrop<Box<dyn Engine>>,
    holders: Holders,
    known_tables: RwLock<HashMap<&'static str, Table>>,
    /// Held while tables are opened.
    opening: Mutex<()>,
    closed: Arc<Closed>,
}

/// An environment that is open, or not yet quite closed.
struct Registered {
    path: PathBuf,
    identity: Identity,
    environment: Weak<Environment>,
    closed: Arc<Closed>,
}

impl Environment {
    /// Opens the environment in `dir`, or finds it among those this process has open. No settings: for reading only.
    pub(crate) fn open(dir: &Path, settings: Option<&Settings>) -> Result<Arc<Environment>, OpenError> {
        let path = match settings {
            Some(settings) => {
                settings.validate()?;
                let network = (!settings.allow_network_fs()).then_some(directory::network_file_system as _);
                directory::existing_or_new(dir, network)?
            }
            None => directory::existing(dir, Some(directory::network_file_system))?,
        };
        let io = |action| {
            let path = &path;
            move |error| OpenError::io(path, action, error)
        };
        // Neither lock is held by anyone who waits for a transaction.
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|entry| !entry.closed.wait(Duration::ZERO));
        let directory = Arc::new(Directory::open(&path).map_err(io("open the directory"))?);
        let (locked, kind, data) = loop {
            let locked = directory.lock().map_err(io("lock the directory"))?;
            let kind = choose(&path, settings)?;
            let data = directory::data_file(&path, kind)?;
            let same_data = |entry: &Registered| data.is_some_and(|data| data.identity == entry.identity);
            let Some(found) = open.iter().position(|entry| same_data(entry) || entry.path == path) else {
                break (locked, kind, data);
            };
            // Not under the lock: who closes an environment takes it, and that may be this thread, if the other handles
            // go meanwhile.
            drop(locked);
            match open[found].environment.upgrade() {
                Some(environment) if same_data(&open[found]) => return environment.join(settings),
                Some(_) => return Err(OpenError::Replaced { path }),
                None if open.remove(found).closed.wait(CLOSING) => {}
                None => return Err(OpenError::OpenedElsewhere { path }),
            }
        };
        let mut holders = Holders::join(&path, settings.is_none())?;
        if kind.sharing() == Sharing::SingleProcess && !holders.alone() {
            return Err(OpenError::HeldByAnotherProcess { path, engine: kind });
        }
        if let Some(settings) = settings {
            holders.write_with(&path, settings.durability())?;
        }
        let there_is_data = data.is_some_and(|data| data.bytes > 0);
        // A file without a byte, or none, is a new store only where no mark tells of an old one.
        let lost = if there_is_data { None } else { mark::commits(&path).filter(|commits| *commits > 0) };
        if settings.is_none() && !there_is_data && lost.is_none() {
            return Err(OpenError::Absent { path });
        }
        let suspect = there_is_data && holders.alone() && !mark::is_clean(&path, kind);
        let damage = match lost {
            Some(expected) => Some(Damage::Lost { expected, found: 0 }),
            None if suspect => examine(&path, kind)?,
            None => None,
        };
        if there_is_data && !holders.alone() && kind.files().lock.is_some_and(|lock| !path.join(lock).exists()) {
            return Err(OpenError::LockFileGone { path });
        }
        let place = Place { path: &path, directory: &directory, settings };
        let opened = match damage {
            Some(damage) => Err(OpenError::Damaged { path: path.clone(), damage }),
            None => kind.open(&place),
        };
        let (engine, recovered) = match opened {
            Ok(engine) => (engine, None),
            Err(OpenError::Damaged { damage, .. }) if may_set_aside(settings, &holders, &damage) => {
                let recovered = quarantine::set_aside(&path, kind, damage)?;
                (kind.open(&place)?, Some(recovered))
            }
            Err(error) => return Err(error),
        };
        let Some(data) = directory::data_file(&path, kind)? else {
            return Err(OpenError::Replaced { path });
        };
        let asks_for = |durability| settings.is_some_and(|settings| settings.durability() == durability);
        if asks_for(Durability::System) && holders.alone() && !mark::is_synced(&path, kind) {
            // A commit is only as durable as the names of the files, and as what was committed before without syncing.
            let data = File::open(path.join(kind.files().data));
            data.and_then(|data| data.sync_all()).map_err(io("sync the data file"))?;
            directory.sync().map_err(io("sync the directory"))?;
        }
        if asks_for(Durability::Process) {
            mark::unsync(&path).map_err(io("take back the mark of a synced store"))?;
        }
        let lock = kind.files().lock.map(|lock| path.join(lock));
        let shared = holders.files().map(Path::to_path_buf).chain(lock);
        let in_place = InPlace::now(&path, kind, data, shared).map_err(io("look at its files"))?;
        drop(locked);
        let closed = Arc::new(Closed::default());
        let environment = Arc::new(Environment {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            pid: process::id(),
            generation: Generation::current(),
            path,
            identity: data.identity,
            in_place,
            kind,
            directory,
            settings: settings.cloned(),
            recovered,
            engine: ManuallyDrop::new(engine),
            holders,
            known_tables: RwLock::default(),
            opening: Mutex::default(),
            closed: Arc::clone(&closed),
        });
        open.push(Registered {
            path: environment.path.clone(),
            identity: environment.identity,
            environment: Arc::downgrade(&environment),
            closed,
        });
        Ok(environment)
    }

    /// A second opening of what is open already.
    fn join(self: Arc<Environment>, settings: Option<&Settings>) -> Result<Arc<Environment>, OpenError> {
        if self.generation != Generation::current() {
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

    pub(crate) fn kind(&self) -> EngineKind {
        self.kind
    }

    pub(crate) fn recovered(&self) -> Option<&Recovered> {
        self.recovered.as_ref()
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &**self.engine
    }

    /// Marks this thread as being in a transaction, unless it is in one, or in a child of the process that opened this.
    pub(crate) fn nest(&self) -> Result<Nest, StoreError> {
        // First: after a fork every lock in here may be held for ever by a thread that is not there.
        if self.generation != Generation::current() {
            return Err(StoreError::Forked { path: self.path.clone(), opened_by: self.pid });
        }
        Nest::enter(self.id).ok_or_else(|| StoreError::Nested { path: self.path.clone() })
    }

    /// Whether the files that are open are those at the store's path.
    pub(crate) fn in_place(&self) -> &InPlace {
        &self.in_place
    }

    /// Opens tables by name, and makes those that are missing if `create`.
    pub(crate) fn tables(&self, names: &[&'static str], create: bool) -> Result<Tables, OpenError> {
        if let Ok(tables) = self.known(names) {
            return Ok(tables);
        }
        let nest = self.nest().map_err(|error| unusable(&self.path, error))?;
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unknown: Vec<&'static str> = Vec::new();
        {
            let known = self.known_tables.read().unwrap_or_else(PoisonError::into_inner);
            for name in names {
                if !known.contains_key(name) && !unknown.contains(name) {
                    unknown.push(name);
                }
            }
            if known.len() + unknown.len() > MAX_TABLES {
                return Err(OpenError::TooManyTables { max: MAX_TABLES as u32 });
            }
        }
        let opened = self.engine.open_tables(&unknown, create, nest.in_another)?;
        self.known_tables.write().unwrap_or_else(PoisonError::into_inner).extend(opened);
        self.known(names).map_err(|table| OpenError::MissingTable { path: self.path.clone(), table })
    }

    /// The tables of these names, or the first name that is not open.
    fn known(&self, names: &[&'static str]) -> Result<Tables, &'static str> {
        let known = self.known_tables.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().map(|name| Ok((*name, *known.get(name).ok_or(*name)?))).collect()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        // SAFETY: nothing uses `engine` after this: `drop` runs once, and the field is private to this module.
        let engine = unsafe { ManuallyDrop::take(&mut self.engine) };
        if self.generation != Generation::current() {
            // No engine may be touched after fork, closing included.
            mem::forget(engine);
            self.closed.tell();
            return;
        }
        let commits = engine.commits();
        // Before the directory's lock is asked for: who has it may be waiting for this to be closed.
        drop(engine);
        self.mark_if_last(commits);
        self.holders.leave();
        self.closed.tell();
    }
}

impl Environment {
    /// The last one to close a store says that it was closed well, and in what state. Best effort: a store without the mark
    /// is examined when it is next opened.
    fn mark_if_last(&self, commits: Option<u64>) {
        let (Some(settings), Some(commits)) = (&self.settings, commits) else {
            return;
        };
        let Ok(_locked) = self.directory.lock() else {
            return;
        };
        // What took the place of these files is not what was closed.
        if !self.holders.are_only_these() || self.in_place.look().and_then(|()| self.in_place.measure()).is_err() {
            return;
        }
        let synced = settings.durability() == Durability::System;
        if let Err(error) = mark::set(&self.path, self.kind, commits, synced) {
            tracing::debug!(path = %self.path.display(), %error, "could not mark the store as closed");
        }
    }
}

/// The engine for what is asked, unless the directory is another engine's.
fn choose(path: &Path, settings: Option<&Settings>) -> Result<EngineKind, OpenError> {
    let found = EngineKind::found_in(path);
    let kind = match settings {
        Some(settings) => EngineKind::of(settings.sharing()),
        None => match found {
            Some(found) => found,
            None => {
                // Not absent, if something odd has its place.
                EngineKind::ALL.into_iter().try_for_each(|kind| directory::data_file(path, kind).map(drop))?;
                return Err(OpenError::Absent { path: path.to_path_buf() });
            }
        },
    };
    if let Some(found) = found.filter(|found| *found != kind) {
        return Err(OpenError::OtherEngine { path: path.to_path_buf(), found, requested: kind });
    }
    if !kind.is_built() {
        return Err(OpenError::EngineNotBuilt { path: path.to_path_buf(), engine: kind });
    }
    Ok(kind)
}

/// Looks through a store that was not closed well, or was changed since, and that nobody has open.
fn examine(path: &Path, kind: EngineKind) -> Result<Option<Damage>, OpenError> {
    tracing::debug!(path = %path.display(), engine = %kind, "not closed well, or changed since: examining the store");
    let commits = match kind.examine(path)? {
        Examined::Damaged(damage) => return Ok(Some(damage)),
        Examined::Sound { commits } => commits,
    };
    match mark::commits(path) {
        Some(expected) if commits < expected => Ok(Some(Damage::Lost { expected, found: commits })),
        _ => {
            // Best effort: without it the next opening examines the files again. Nothing is known to be synced.
            let _ = mark::set(path, kind, commits, false);
            Ok(None)
        }
    }
}

/// Only on request, and only what nobody else is using. What is no file of a store at all is left to the user.
fn may_set_aside(settings: Option<&Settings>, holders: &Holders, damage: &Damage) -> bool {
    settings.is_some_and(|settings| settings.on_damage() == OnDamage::Quarantine)
        && holders.alone()
        && !matches!(damage, Damage::NotAFile { .. })
}

/// What an error of a transaction means for an opening.
pub(crate) fn unusable(path: &Path, source: StoreError) -> OpenError {
    match source {
        StoreError::Nested { path } => OpenError::Nested { path },
        StoreError::Forked { path, opened_by } => OpenError::Forked { path, opened_by },
        StoreError::NoSpace { path, source } => OpenError::NoSpace { path, source },
        StoreError::Damaged { path, damage } => OpenError::Damaged { path, damage },
        StoreError::Replaced { path } => OpenError::Replaced { path },
        source => OpenError::Unusable { path: path.to_path_buf(), source },
    }
}

/// Tells the threads that wait for an environment to be closed.
#[derive(Debug, Default)]
struct Closed {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Closed {
    fn tell(&self) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// `false`: not within `patience`.
    fn wait(&self, patience: Duration) -> bool {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(closed, patience, |closed| !*closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

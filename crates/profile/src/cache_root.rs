//! A cache root on disk: who it is, and its key-value stores.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use alluvium_contracts::RootId;
use alluvium_disk_kv_cache::{Durability, OpenError, Settings, Store, StoreError};
use alluvium_telemetry::Seam;

use crate::kv_kind::KvKind;
use crate::root_error::RootError;
use crate::root_file::{RootFile, lock, set_aside};
use crate::root_path::real_path;

const META: &str = "meta";
/// The row of `meta` that binds a store to its root.
const ROOT_ID: &[u8] = b"root_id";

/// The directory that caches lie in, with its identity (`root.json`) and its key-value stores (`kv/<kind>`).
///
/// Any number of processes may use a root at once. Damage is never read as absence: a damaged `root.json` or store is set
/// aside under another name (`….damaged-<n>`), made anew, and reported by [`notices`](Self::notices).
#[derive(Debug)]
pub struct CacheRoot {
    path: PathBuf,
    id: RootId,
    read_only: bool,
    stores: [Slot; KvKind::ALL.len()],
    notices: Mutex<Vec<String>>,
}

/// A store that is opened when it is first wanted.
#[derive(Debug, Default)]
struct Slot {
    opening: Mutex<()>,
    store: OnceLock<Store>,
}

impl CacheRoot {
    /// Opens the root in `path` and makes it if there is none. Of several processes that come first, one names the root and
    /// the others follow. If `root.json` is missing or damaged, the root keeps the id that its stores are bound to.
    ///
    /// # Errors
    /// As the variants of [`RootError`] say: a file in the way, no permission, no space, a newer format.
    pub fn open(path: &Path, seam: &Seam) -> Result<Self, RootError> {
        let path = absolute(path)?;
        fs::create_dir_all(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => RootError::NotADirectory { path: path.clone() },
            _ => RootError::io(&path, "create", &path, source),
        })?;
        if let RootFile::Is(id) = RootFile::read(&path)? {
            return Ok(Self::new(path, id, false, Vec::new()));
        }
        let _lock = lock(&path)?;
        // Somebody may have been quicker.
        let found = RootFile::read(&path)?;
        if let RootFile::Is(id) = found {
            return Ok(Self::new(path, id, false, Vec::new()));
        }
        let bound = bound_id(&path);
        let id = bound.unwrap_or_else(|| seam.root_id());
        let kept = if bound.is_some() {
            "with the id that the key-value stores are bound to"
        } else {
            "with a new id: what was cached here before is not used any more"
        };
        let notice = match found {
            RootFile::Damaged(reason) => {
                let file = RootFile::path(&path);
                let aside = set_aside(&path, &file)?;
                Some(format!(
                    "{} was damaged ({reason}); it is kept as {} and was rebuilt {kept}",
                    file.display(),
                    aside.display()
                ))
            }
            RootFile::Absent | RootFile::Is(_) => {
                bound.map(|_| format!("{} was missing and was rebuilt {kept}", RootFile::path(&path).display()))
            }
        };
        RootFile::write(&path, id)?;
        Ok(Self::new(path, id, false, notice.into_iter().collect()))
    }

    /// Opens the root in `path` for reading only, as commands do that only show something: nothing is created, repaired or
    /// bound. `None` if there is no root.
    ///
    /// # Errors
    /// As the variants of [`RootError`] say; [`RootError::Damaged`] if `root.json` is damaged and no store tells the id.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, RootError> {
        let path = absolute(path)?;
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(RootError::NotADirectory { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RootError::io(&path, "look at", &path, error)),
        }
        let root = |id, notices| Ok(Some(Self::new(path.clone(), id, true, notices)));
        let file = RootFile::path(&path);
        match RootFile::read(&path)? {
            RootFile::Is(id) => root(id, Vec::new()),
            RootFile::Absent => match bound_id(&path) {
                Some(id) => root(id, vec![format!("{} is missing; `alluvium run` rebuilds it", file.display())]),
                None => Ok(None),
            },
            RootFile::Damaged(reason) => match bound_id(&path) {
                Some(id) => {
                    root(id, vec![format!("{} is damaged ({reason}); `alluvium run` rebuilds it", file.display())])
                }
                None => Err(RootError::Damaged { path: file, reason }),
            },
        }
    }

    /// The root's identity.
    #[must_use]
    pub fn id(&self) -> RootId {
        self.id
    }

    /// The directory, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where entries of views lie. It need not exist.
    #[must_use]
    pub fn view_cache(&self) -> PathBuf {
        self.path.join("view_cache")
    }

    /// Where the ledgers lie. It need not exist.
    #[must_use]
    pub fn ledgers(&self) -> PathBuf {
        self.path.join("cache_ledgers")
    }

    /// What was found damaged and made anew since the root was opened, one sentence each.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The store of `kind`, opened on first use. Every commit is synced to the device.
    ///
    /// A damaged store is set aside as `kv/<kind>.damaged-<n>` and an empty one takes its place; see
    /// [`notices`](Self::notices). What it held is rebuilt by those who own it.
    ///
    /// # Errors
    /// [`RootError::ForeignKv`] if it is bound to another root, and those of the store. Of a root opened for reading only also
    /// [`RootError::KvAbsent`], and [`RootError::KvOpen`] for a damaged store.
    pub fn kv(&self, kind: KvKind) -> Result<&Store, RootError> {
        let slot = &self.stores[kind as usize];
        if let Some(store) = slot.store.get() {
            return Ok(store);
        }
        let _opening = slot.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = slot.store.get() {
            return Ok(store);
        }
        let store = self.open_kv(kind)?;
        Ok(slot.store.get_or_init(|| store))
    }

    fn new(path: PathBuf, id: RootId, read_only: bool, notices: Vec<String>) -> Self {
        let root = Self { path, id, read_only, stores: Default::default(), notices: Mutex::default() };
        notices.into_iter().for_each(|notice| root.notice(notice));
        root
    }

    fn notice(&self, notice: String) {
        tracing::warn!(target: "alluvium.cache", "{notice}");
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }

    fn open_kv(&self, kind: KvKind) -> Result<Store, RootError> {
        let path = kv_path(&self.path, kind);
        match self.open_bound(kind, &path) {
            // Damage; or it vanished because somebody else is replacing it just now.
            Err(RootError::KvOpen { .. } | RootError::Kv { .. }) if !self.read_only => {}
            other => return other,
        }
        let _lock = lock(&self.path)?;
        // Under the lock nobody replaces it. Somebody may have done so meanwhile.
        match self.open_bound(kind, &path) {
            Err(error) if is_damage(&error) => {
                let aside = set_aside(&self.path, &path)?;
                let store = self.open_bound(kind, &path)?;
                self.notice(format!(
                    "the {kind} store in {} was damaged; it is kept as {} and was made anew, empty",
                    path.display(),
                    aside.display()
                ));
                Ok(store)
            }
            other => other,
        }
    }

    /// Opens a store and sees that it is this root's; one that is nobody's becomes this root's.
    fn open_bound(&self, kind: KvKind, path: &Path) -> Result<Store, RootError> {
        let opened = if self.read_only {
            Store::open_read_only(path, kind.tables())
        } else {
            Store::open(path, kind.tables(), Settings::new().with_durability(Durability::System))
        };
        let store = opened.map_err(|source| match source {
            OpenError::Absent { path } => RootError::KvAbsent { kind, path },
            source => RootError::KvOpen { kind, source },
        })?;
        let unusable = |source| RootError::Kv { kind, source };
        let own = self.id.to_string();
        let mut bound = bound_to(&store).map_err(unusable)?;
        if bound.is_none() && !self.read_only {
            let bind = store.write::<_, StoreError>(|txn| {
                // Somebody may have been quicker.
                if let Some(bound) = txn.get(META, ROOT_ID)? {
                    return Ok(bound.to_vec());
                }
                txn.put(META, ROOT_ID, own.as_bytes())?;
                Ok(own.clone().into_bytes())
            });
            bound = Some(bind.map_err(unusable)?);
        }
        match bound {
            Some(bound) if bound != own.as_bytes() => Err(RootError::ForeignKv {
                kind,
                path: path.to_owned(),
                found: String::from_utf8_lossy(&bound).into_owned(),
                expected: self.id,
            }),
            // One that is nobody's holds nothing yet.
            _ => Ok(store),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, RootError> {
    let path = real_path(path).map_err(|source| RootError::Io { path: path.to_owned(), action: "resolve", source })?;
    match path.as_os_str().as_encoded_bytes().iter().any(|byte| b"%\\".contains(byte)) {
        true => Err(RootError::Unaddressable { path }),
        false => Ok(path),
    }
}

fn kv_path(root: &Path, kind: KvKind) -> PathBuf {
    root.join("kv").join(kind.as_str())
}

fn bound_to(store: &Store) -> Result<Option<Vec<u8>>, StoreError> {
    store.read(|txn| Ok(txn.get(META, ROOT_ID)?.map(<[u8]>::to_vec)))
}

/// The id that a store of the root is bound to: of the first that can be read and is bound. Others that disagree are refused
/// when they are opened.
fn bound_id(root: &Path) -> Option<RootId> {
    KvKind::ALL.into_iter().find_map(|kind| {
        let store = Store::open_read_only(kv_path(root, kind), &[META]).ok()?;
        let bound = bound_to(&store).ok()??;
        std::str::from_utf8(&bound).ok()?.parse().ok()
    })
}

fn is_damage(error: &RootError) -> bool {
    match error {
        RootError::KvOpen { source, .. } => {
            matches!(source, OpenError::Damaged { .. } | OpenError::Unusable { source: StoreError::Damaged { .. }, .. })
        }
        RootError::Kv { source, .. } => matches!(source, StoreError::Damaged { .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests;

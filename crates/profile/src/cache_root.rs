//! A cache root on disk: who it is, and its key-value stores.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use alluvium_contracts::{KvStats, RootId};
use alluvium_disk_kv_cache::{Coordination, Durability, OpenError, Settings, Store, StoreError};
use alluvium_telemetry::Seam;

use crate::kv_cache::KvCache;
use crate::kv_kind::KvKind;
use crate::kv_settings::KvSettings;
use crate::kv_stats::Found;
use crate::root_error::RootError;
use crate::root_file::{Identity, RootFile, lock, set_aside};
use crate::root_path::real_path;

const META: &str = "meta";
/// The directory of the key-value stores, unless another is asked for.
const KV: &str = "kv";
/// The row of `meta` that binds a store to its root.
const ROOT_ID: &[u8] = b"root_id";

/// The directory that caches lie in, with its identity (`root.json`) and its key-value stores (`kv/<kind>`). This is the
/// one place where those are opened.
///
/// A root is written through one key-value root, which `root.json` names if it is not `kv`. Any number of processes may use a root at once. Damage is never read as absence: a damaged `root.json` or store is set
/// aside under another name (`….damaged-<n>`), made anew, and reported by [`notices`](Self::notices).
#[derive(Debug)]
pub struct CacheRoot {
    path: PathBuf,
    id: RootId,
    read_only: bool,
    /// Where the kinds lie, absolute.
    kv_root: PathBuf,
    kv: KvSettings,
    stores: [Slot<Store>; KvKind::ALL.len()],
    caches: [Slot<KvCache>; KvKind::ALL.len()],
    notices: Mutex<Vec<String>>,
    /// By which entries of caches expire.
    seam: Seam,
}

/// What is opened when it is first wanted.
#[derive(Debug)]
struct Slot<T> {
    opening: Mutex<()>,
    opened: OnceLock<T>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { opening: Mutex::default(), opened: OnceLock::new() }
    }
}

impl<T> Slot<T> {
    fn get_or_open(&self, open: impl FnOnce() -> Result<T, RootError>) -> Result<&T, RootError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = open()?;
        Ok(self.opened.get_or_init(|| opened))
    }
}

impl CacheRoot {
    /// [`open_with`](Self::open_with) the key-value stores in `kv`, with the presets of all kinds.
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path, seam: &Seam) -> Result<Self, RootError> {
        Self::open_with(path, KvSettings::default(), seam)
    }

    /// Opens the root in `path` and makes it if there is none; entries of its caches expire by the clock of `seam`. Of several processes that come first, one names the root and
    /// its key-value root, and the others follow. If `root.json` is missing or damaged, the root keeps the id that its stores
    /// are bound to.
    ///
    /// # Errors
    /// As the variants of [`RootError`] say: a file in the way, no permission, no space, a newer format, a key-value root
    /// other than the one that the root is written through.
    pub fn open_with(path: &Path, kv: KvSettings, seam: &Seam) -> Result<Self, RootError> {
        let path = absolute(path)?;
        fs::create_dir_all(&path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => RootError::NotADirectory { path: path.clone() },
            _ => RootError::io(&path, "create", &path, source),
        })?;
        let wanted = kv.root().map(absolute).transpose()?.filter(|root| *root != path.join(KV));
        let existing = |identity: Identity| {
            if identity.kv_root != wanted {
                let inside = path.join(KV);
                return Err(RootError::OtherKvRoot {
                    path: RootFile::path(&path),
                    recorded: identity.kv_root.unwrap_or_else(|| inside.clone()),
                    requested: wanted.clone().unwrap_or(inside),
                });
            }
            Ok(Self::new(path.clone(), identity, false, kv.clone(), Vec::new(), seam))
        };
        if let RootFile::Is(identity) = RootFile::read(&path)? {
            return existing(identity);
        }
        let _lock = lock(&path)?;
        // Somebody may have been quicker.
        let found = RootFile::read(&path)?;
        if let RootFile::Is(identity) = found {
            return existing(identity);
        }
        let bound = bound_id(wanted.as_deref().unwrap_or(&path.join(KV)));
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
        let identity = Identity { id, kv_root: wanted };
        RootFile::write(&path, &identity)?;
        Ok(Self::new(path, identity, false, kv, notice.into_iter().collect(), seam))
    }

    /// Opens the root in `path` for reading only, as commands do that only show something: nothing is created, repaired or
    /// bound, and the key-value root is the one that the root is written through. `None` if there is no root.
    ///
    /// # Errors
    /// As the variants of [`RootError`] say; [`RootError::Damaged`] if `root.json` is damaged and no store tells the id.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, RootError> {
        Self::open_existing_with(path, KvSettings::default())
    }

    /// [`open_existing`](Self::open_existing) with the settings of the kinds, for what is told of them. Their directory counts
    /// only where `root.json` cannot name one.
    ///
    /// # Errors
    /// As there.
    pub fn open_existing_with(path: &Path, kv: KvSettings) -> Result<Option<Self>, RootError> {
        let path = absolute(path)?;
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(RootError::NotADirectory { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RootError::io(&path, "look at", &path, error)),
        }
        let wanted = kv.root().map(absolute).transpose()?;
        let bound = bound_id(wanted.as_deref().unwrap_or(&path.join(KV)));
        // No cache of it is opened, so nothing asks for the time.
        let seam = Seam::system();
        let root = |identity, notices| Ok(Some(Self::new(path.clone(), identity, true, kv.clone(), notices, &seam)));
        let file = RootFile::path(&path);
        match (RootFile::read(&path)?, bound.map(|id| Identity { id, kv_root: wanted })) {
            (RootFile::Is(identity), _) => root(identity, Vec::new()),
            (RootFile::Absent, Some(identity)) => {
                root(identity, vec![format!("{} is missing; `alluvium run` rebuilds it", file.display())])
            }
            (RootFile::Absent, None) => Ok(None),
            (RootFile::Damaged(reason), Some(identity)) => {
                root(identity, vec![format!("{} is damaged ({reason}); `alluvium run` rebuilds it", file.display())])
            }
            (RootFile::Damaged(reason), None) => Err(RootError::Damaged { path: file, reason }),
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
        self.stores[kind as usize].get_or_open(|| self.open_kv(kind))
    }

    /// The cache of `kind`, opened on first use, which makes the settings of the kind those of the cache.
    ///
    /// A damaged one is set aside in its own directory, and an empty one takes its place; see [`notices`](Self::notices).
    ///
    /// # Errors
    /// [`RootError::NotACache`] for a kind that never forgets, [`RootError::ReadOnly`] of a root opened for reading only,
    /// [`RootError::KvCache`] among others if the cache was made with another number of shards, and as [`kv`](Self::kv).
    pub fn cache(&self, kind: KvKind) -> Result<&KvCache, RootError> {
        if !kind.is_cache() {
            return Err(RootError::NotACache { kind });
        }
        self.caches[kind as usize].get_or_open(|| {
            if self.read_only {
                return Err(RootError::ReadOnly { kind, path: self.path.clone() });
            }
            // It belongs to this root if the kind's store does.
            self.kv(kind)?;
            let (cache, is_mended) = KvCache::open(&self.kv_path(kind), kind, self.kv.kind(kind), &self.seam)
                .map_err(|source| RootError::KvCache { kind, source })?;
            if is_mended {
                self.notice(format!("the {kind} cache had lost a part of itself; that was made anew, empty"));
            }
            for recovered in cache.inner().shards().iter().filter_map(alluvium_disk_kv_cache::Cache::recovered) {
                self.notice(format!(
                    "a shard of the {kind} cache was damaged ({}); it is kept as {} and was made anew, empty",
                    recovered.damage,
                    recovered.quarantine.display()
                ));
            }
            Ok(cache)
        })
    }

    /// The locks, semaphores and counters in the kind [`KvKind::Coordination`]. Every change is synced to the device.
    ///
    /// # Errors
    /// [`RootError::ReadOnly`] of a root opened for reading only, [`RootError::Coordination`] if it cannot be opened, and as
    /// [`kv`](Self::kv).
    pub fn coordination(&self) -> Result<Coordination, RootError> {
        let kind = KvKind::Coordination;
        if self.read_only {
            return Err(RootError::ReadOnly { kind, path: self.path.clone() });
        }
        self.kv(kind)?;
        Coordination::open(self.kv_path(kind), store_settings()).map_err(|source| RootError::Coordination { source })
    }

    /// Where the kinds lie, as an absolute path.
    #[must_use]
    pub fn kv_root(&self) -> &Path {
        &self.kv_root
    }

    /// The settings of the kinds.
    #[must_use]
    pub fn kv_settings(&self) -> &KvSettings {
        &self.kv
    }

    /// The kinds whose stores are open here.
    pub fn open_kinds(&self) -> impl Iterator<Item = KvKind> {
        KvKind::ALL.into_iter().filter(|kind| self.stores[*kind as usize].opened.get().is_some())
    }

    /// How each kind that is there is used; hits and misses of those whose cache is open here. Reads every row of the
    /// stores: for people and reports, not for a hot path.
    ///
    /// # Errors
    /// As [`kv`](Self::kv), and if files cannot be measured.
    pub fn kv_stats(&self, seam: &Seam) -> Result<Vec<KvStats>, RootError> {
        let mut all = Vec::new();
        for kind in KvKind::ALL {
            let directory = self.kv_path(kind);
            if !directory.is_dir() {
                continue;
            }
            let store = self.kv(kind)?;
            let cache = self.caches[kind as usize].opened.get();
            all.push(Found { kind, directory: &directory, store, cache }.stats(&self.kv, seam.unix_ms())?);
        }
        Ok(all)
    }

    fn new(
        path: PathBuf,
        identity: Identity,
        read_only: bool,
        kv: KvSettings,
        notices: Vec<String>,
        seam: &Seam,
    ) -> Self {
        let kv_root = identity.kv_root.unwrap_or_else(|| path.join(KV));
        let root = Self {
            path,
            id: identity.id,
            read_only,
            kv_root,
            kv,
            stores: Default::default(),
            caches: Default::default(),
            notices: Mutex::default(),
            seam: seam.clone(),
        };
        notices.into_iter().for_each(|notice| root.notice(notice));
        root
    }

    fn kv_path(&self, kind: KvKind) -> PathBuf {
        self.kv_root.join(kind.as_str())
    }

    fn notice(&self, notice: String) {
        tracing::warn!(target: "alluvium.cache", "{notice}");
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }

    fn open_kv(&self, kind: KvKind) -> Result<Store, RootError> {
        let path = self.kv_path(kind);
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
            Store::open(path, kind.tables(), store_settings())
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

fn store_settings() -> Settings {
    Settings::new().with_durability(Durability::System)
}

fn bound_to(store: &Store) -> Result<Option<Vec<u8>>, StoreError> {
    store.read(|txn| Ok(txn.get(META, ROOT_ID)?.map(<[u8]>::to_vec)))
}

/// The id that a store in `kv_root` is bound to: of the first that can be read and is bound. Others that disagree are refused
/// when they are opened.
fn bound_id(kv_root: &Path) -> Option<RootId> {
    KvKind::ALL.into_iter().find_map(|kind| {
        let store = Store::open_read_only(kv_root.join(kind.as_str()), &[META]).ok()?;
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

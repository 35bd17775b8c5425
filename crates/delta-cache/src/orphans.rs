//! Directories of entries that have no row in the index, and what is to become of each: adopted or removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{CacheKey, EntryId, RunId};

use crate::adopt::{NoEntry, TakenIn};
use crate::cache::DeltaCache;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::scope::EntryScope;

/// A directory that no row of the index names.
#[derive(Debug, Clone)]
pub(crate) struct Orphan {
    pub(crate) scope: EntryScope,
    pub(crate) id: EntryId,
    pub(crate) key: CacheKey,
    /// The view, dataset or artifact, as its directory is called; of a [`Described`] one, as its commit says.
    pub(crate) view: String,
    /// Relative to the cache root.
    pub(crate) dir: String,
}

/// An orphan and the entry that its commit makes; none where there is no such commit, or it cannot be read.
pub(crate) type Described = (Orphan, Option<Entry>);

/// What an orphan turned out to be.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It has a row now.
    Adopted(Arc<Entry>),
    /// It could be given a row, and was not asked to be.
    Adoptable,
    /// Somebody holds the lease on its key, and may be writing it.
    UnderLease,
    /// Another entry stands for its key.
    Superseded,
    /// It can stand for nothing; why.
    Useless(String),
}

impl Fate {
    /// Why it was left as it is; none where it was adopted.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            Self::Adopted(_) | Self::Adoptable => None,
            Self::UnderLease => Some("its key is being computed just now".to_owned()),
            Self::Superseded => Some("another entry stands for its key".to_owned()),
            Self::Useless(why) => Some(why.clone()),
        }
    }
}

impl DeltaCache {
    /// Every directory of an entry without a row, in order of their paths. `live` are the entries with one.
    pub(crate) fn orphans(&self, live: &[Entry]) -> Result<Vec<Orphan>, CacheError> {
        let mut known: BTreeSet<EntryId> = live.iter().map(|entry| entry.id).collect();
        known.extend(self.index.condemned()?.iter().map(|condemned| condemned.id));
        let mut orphans = Vec::new();
        for scope in EntryScope::ALL {
            let root = self.root.path().join(scope.dir_name());
            for parent in names_in(&root)? {
                // What is not called as entries are is none of ours.
                let Some((view, key)) = parent.rsplit_once("__") else { continue };
                let Ok(key) = format!("{}:{key}", CacheKey::ALGORITHM).parse::<CacheKey>() else { continue };
                for name in names_in(&root.join(&parent))? {
                    let Ok(id) = name.parse::<EntryId>() else { continue };
                    if !known.contains(&id) {
                        let dir = format!("{}/{parent}/{id}", scope.dir_name());
                        orphans.push(Orphan { scope, id, key, view: view.to_owned(), dir });
                    }
                }
            }
        }
        Ok(orphans)
    }

    /// [`orphans`](Self::orphans), each with what its commit says. Their files are not looked at.
    pub(crate) fn described_orphans(&self, live: &[Entry]) -> Result<Vec<Described>, CacheError> {
        let described = self.orphans(live)?.into_iter().map(|mut orphan| {
            let entry = self.committed_entry(orphan.scope, orphan.id, orphan.dir.clone(), orphan.key).ok();
            if let Some(entry) = &entry {
                orphan.view.clone_from(&entry.view);
            }
            (orphan, entry)
        });
        Ok(described.collect())
    }

    /// Finds out what becomes of each orphan: of those of one key that no row stands for, the one with the highest token
    /// and no damage is adopted, if `adopt`.
    pub(crate) fn fates(
        &self,
        orphans: Vec<Orphan>,
        live: &[Entry],
        adopt: bool,
    ) -> Result<Vec<(Orphan, Fate)>, CacheError> {
        let held: BTreeSet<(EntryScope, CacheKey)> = live.iter().map(|entry| (entry.scope, entry.key)).collect();
        let mut by_key: BTreeMap<(EntryScope, CacheKey), Vec<Orphan>> = BTreeMap::new();
        for orphan in orphans {
            by_key.entry((orphan.scope, orphan.key)).or_default().push(orphan);
        }
        let mut fates = Vec::new();
        for ((scope, key), orphans) in by_key {
            if self.leases(&self.lease_dir()).is_held(key.as_bytes())? {
                fates.extend(orphans.into_iter().map(|orphan| (orphan, Fate::UnderLease)));
                continue;
            }
            let mut stands = held.contains(&(scope, key));
            let mut committed: Vec<(Orphan, Result<Entry, NoEntry>)> = orphans
                .into_iter()
                .map(|orphan| {
                    let entry = self.committed_entry(scope, orphan.id, orphan.dir.clone(), key);
                    (orphan, entry)
                })
                .collect();
            committed
                .sort_by_key(|(_, entry)| std::cmp::Reverse(entry.as_ref().map_or(0, |entry| entry.fencing_token)));
            for (orphan, entry) in committed {
                let fate = match entry {
                    Err(none) => Fate::Useless(none.why()),
                    Ok(_) if stands => Fate::Superseded,
                    Ok(_) if !adopt => Fate::Adoptable,
                    Ok(entry) => match self.take_in(entry)? {
                        TakenIn::Adopted(entry) => Fate::Adopted(entry),
                        TakenIn::Damaged(what) => Fate::Useless(what),
                        TakenIn::HasRow | TakenIn::Condemned => Fate::Superseded,
                    },
                };
                stands |= matches!(fate, Fate::Adopted(_) | Fate::Adoptable);
                fates.push((orphan, fate));
            }
        }
        Ok(fates)
    }

    /// Every entry that this run committed, whether or not it came to publish it. Reads the index, and the commits of directories that
    /// have no row there.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read, [`CacheError::Io`] when a directory cannot be listed.
    pub fn committed_by(&self, run_id: RunId) -> Result<Vec<Entry>, CacheError> {
        let live = self.index.entries()?.found;
        // What cannot be read is nobody's.
        let committed = self.described_orphans(&live)?.into_iter().filter_map(|(_, entry)| entry);
        let mut entries: Vec<Entry> = committed.chain(live).filter(|entry| entry.run_id == run_id).collect();
        entries.sort_by_key(|entry| entry.created_unix_ms);
        Ok(entries)
    }
}

/// The names in a directory, sorted; of one that is not there, none.
fn names_in(dir: &Path) -> Result<BTreeSet<String>, CacheError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(BTreeSet::new());
        }
        Err(source) => return Err(CacheError::io("list the directory", dir)(source)),
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    let names: io::Result<Vec<Option<String>>> = names.collect();
    Ok(names.map_err(CacheError::io("list the directory", dir))?.into_iter().flatten().collect())
}

/// Bytes in all files below a directory; what vanishes while it is looked at counts as nothing.
pub(crate) fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { bytes_below(&entry.path()) } else { metadata.len() })
    });
    sizes.sum()
}

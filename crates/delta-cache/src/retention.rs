//! How entries go: condemned in the index, kept until nobody can be reading them, then deleted.
//!
//! 1. *Condemn.* One transaction takes the row out of `entries` and puts it into `condemned`. From then on no lookup
//!    finds the entry: neither by the index, nor by its commit, because adoption leaves alone what is condemned.
//! 2. *Grace.* The readers that hold their files now, after the transaction, are all that can have found it before
//!    ([`Reading`](crate::Reading) is taken before a lookup). Their names are recorded once; readers who come later do
//!    not matter, so a busy cache is collected too.
//! 3. *Delete.* When none of those names is locked any more, and the row of `condemned` is still there, the directory goes, and after
//!    it the row. One that the file system does not delete stays condemned and is told: it holds up no other.
//!
//! What a kept run needs to be replayed is never condemned: [`DeltaCache::keep`] notes the directories of the entries that the run's
//! manifest names, and the transaction that condemns looks there. Where it cannot be read what was noted for a run, nothing is
//! condemned, and it is told, until that run is kept anew or released.
//!
//! *Invariants*
//! - An entry's directory is deleted only while it has a row in `condemned` whose readers are all gone. The one
//!   exception is a directory that its own writer drops because it was never committed.
//! - The row outlives the files: whoever asks whether an entry is condemned, and only then looks at its files, either
//!   sees that it is or finds them gone.
//! - A publication takes its own entry off the list, in its transaction. Its writer is a reader too, so that the
//!   directory is still there.
//! - A process that dies between any two steps leaves what the next pass goes on with. A condemned entry whose index was
//!   lost is an entry again: it was never damaged.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::{iter, thread};

use alluvium_contracts::{CacheKey, CachePolicy, CacheRemoval, EntryId, RemovalResult, RemovedEntry, RunId};
use alluvium_telemetry::carry_fn;
use fail::fail_point;

use crate::cache::DeltaCache;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::index::{Condemned, Standing};
use crate::operation::Subject;
use crate::orphans::{Orphan, bytes_below};

/// Deletions between two transactions of the index.
const BATCH: usize = 256;

/// What one thread of a batch deletes. A deletion waits for the file system's journal, not for a core, and many wait together: eight
/// threads are several times as quick as one, also on two cores.
const SHARE: usize = BATCH / 8;

/// What is to go, with its reason.
pub(crate) type Doomed = (Condemned, Standing);

impl DeltaCache {
    /// Keeps the entries in these directories, relative to the cache root, until [`release`](Self::release): a run's manifest names
    /// them, and a replay compares its rows with theirs. What else becomes of them (damage, a publication anew) is not held up: their
    /// files stay unless they are found damaged. Answers those of which nothing is there any more; they are kept all the same, and
    /// found again if they are adopted.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be used.
    pub fn keep(&self, run_id: RunId, dirs: &BTreeSet<String>) -> Result<Vec<String>, CacheError> {
        self.index.keep(run_id, dirs)?;
        // After the transaction: what was condemned before it is on its way out, and is told as gone.
        let condemned: BTreeSet<String> = self.index.condemned()?.into_iter().map(|condemned| condemned.dir).collect();
        let is_gone = |dir: &&String| condemned.contains(*dir) || !self.root.path().join(dir).is_dir();
        Ok(dirs.iter().filter(is_gone).cloned().collect())
    }

    /// Keeps nothing for this run any more; `false` if nothing was kept for it.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be used.
    pub fn release(&self, run_id: RunId) -> Result<bool, CacheError> {
        Ok(self.index.release(run_id)?)
    }

    /// The runs that are kept.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read.
    pub fn kept_runs(&self) -> Result<BTreeSet<RunId>, CacheError> {
        Ok(self.index.kept_runs()?)
    }

    /// How many directories evictions and collections could not delete since the last call. Each stays condemned, is told by
    /// [`take_notices`](Self::take_notices), and is tried again by the next of them.
    #[must_use]
    pub fn take_undeleted(&self) -> u64 {
        self.undeleted.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn doom_entry(&self, entry: &Entry, reason: String) -> Doomed {
        let condemned = Condemned {
            scope: entry.scope,
            id: entry.id,
            key: entry.key,
            view: entry.view.clone(),
            dir: entry.dir.clone(),
            size_bytes: entry.size_bytes(),
            reason,
            condemned_unix_ms: self.seam.unix_ms(),
            readers: None,
        };
        (condemned, Standing::Entry)
    }

    pub(crate) fn doom_orphan(&self, orphan: Orphan, reason: String) -> Doomed {
        let condemned = Condemned {
            size_bytes: bytes_below(&self.root.path().join(&orphan.dir)),
            scope: orphan.scope,
            id: orphan.id,
            key: orphan.key,
            view: orphan.view,
            dir: orphan.dir,
            reason,
            condemned_unix_ms: self.seam.unix_ms(),
            readers: None,
        };
        (condemned, Standing::Orphan)
    }

    /// Condemns `doomed`, deletes everything condemned that nobody can be reading, and reports both, earlier
    /// condemnations first. What cannot be deleted is reported as condemned. `max_bytes` is only for the report.
    pub(crate) fn remove(
        &self,
        doomed: Vec<Doomed>,
        max_bytes: Option<u64>,
        dry_run: bool,
    ) -> Result<CacheRemoval, CacheError> {
        let live = self.live_bytes()?;
        let kept = self.index.kept()?;
        for (run_id, run) in &kept.unreadable {
            let way_out = match run_id {
                Some(run) => {
                    format!("`alluvium runs keep {run}` notes it anew, or `alluvium runs release {run}` gives it up")
                }
                None => "`alluvium cache rebuild-index` drops it: no run has that name".to_owned(),
            };
            let told =
                format!("what is kept for the replay of run {run} cannot be read; nothing is removed until {way_out}");
            self.notice(told);
        }
        let (spared, doomed): (Vec<_>, Vec<_>) =
            doomed.into_iter().partition(|(condemned, _)| kept.keeper_of(&condemned.dir).is_some());
        let spared = spared.into_iter().map(|(condemned, _)| {
            let Condemned { dir, reason, .. } = &condemned;
            let is_known = kept.dirs.contains_key(dir);
            let by = kept.keeper_of(dir).unwrap_or_default();
            let kept = if is_known { "kept" } else { "it may be kept" };
            Condemned { reason: format!("{kept} for the replay of run {by}, though {reason}"), ..condemned }
        });
        let spared: Vec<Condemned> = spared.collect();
        let removed = |condemned: &Condemned, result| RemovedEntry {
            cache_scope: condemned.scope.word(),
            view_name: condemned.view.clone(),
            entry_id: condemned.id,
            cache_path: condemned.dir.clone(),
            size_bytes: condemned.size_bytes,
            reason: condemned.reason.clone(),
            result,
        };
        if dry_run {
            let earlier = self.index.condemned()?;
            let entries = earlier.iter().map(|condemned| removed(condemned, RemovalResult::Condemned));
            let planned = doomed.iter().map(|(condemned, _)| removed(condemned, RemovalResult::Planned));
            let of_entries = doomed.iter().filter(|(_, standing)| *standing == Standing::Entry);
            let freed: u64 = of_entries.map(|(condemned, _)| condemned.size_bytes).sum();
            return Ok(CacheRemoval {
                dry_run,
                max_bytes,
                live_bytes_before: live,
                live_bytes_after: live.saturating_sub(freed),
                entries: entries
                    .chain(planned)
                    .chain(spared.iter().map(|spared| removed(spared, RemovalResult::Kept)))
                    .collect(),
            });
        }
        let condemned = self.index.condemn(&doomed)?;
        fail_point!("gc.condemned");
        let ranks: BTreeMap<EntryId, usize> =
            condemned.iter().enumerate().map(|(rank, condemned)| (condemned.id, rank)).collect();
        let mut reported = self.delete_unread()?;
        // As the caller ordered them, behind what was condemned before.
        reported.sort_by_key(|(condemned, _)| ranks.get(&condemned.id));
        Ok(CacheRemoval {
            dry_run,
            max_bytes,
            live_bytes_before: live,
            live_bytes_after: self.live_bytes()?,
            entries: reported
                .iter()
                .map(|(condemned, result)| removed(condemned, *result))
                .chain(spared.iter().map(|spared| removed(spared, RemovalResult::Kept)))
                .collect(),
        })
    }

    /// One pass over everything condemned. What cannot be deleted keeps its mark for the next pass, and is told.
    fn delete_unread(&self) -> Result<Vec<(Condemned, RemovalResult)>, CacheError> {
        let mut condemned = self.index.condemned()?;
        fail_point!("gc.condemned.listed");
        // After the transactions that condemned them, or the list would miss who looked up in between.
        let alive = self.readers()?;
        // A writer that is not among them may have published and ended since: its entry is alive. What still stands now has no writer
        // any more, or one that is waited for. By its time, too: an entry that lived meanwhile is condemned anew.
        let mark = |one: &Condemned| (one.id, one.condemned_unix_ms);
        let standing: BTreeSet<_> = self.index.condemned()?.iter().map(mark).collect();
        condemned.retain(|one| standing.contains(&mark(one)));
        fail_point!("gc.readers.listed");
        let unseen: Vec<_> = condemned.iter().filter(|condemned| condemned.readers.is_none()).map(mark).collect();
        if !unseen.is_empty() && !alive.is_empty() {
            self.index.await_readers(&unseen, &alive)?;
        }
        let is_read = |one: &Condemned| !one.readers.as_ref().unwrap_or(&alive).is_disjoint(&alive);
        let mut stuck = BTreeMap::new();
        for batch in condemned.iter().filter(|one| !is_read(one)).collect::<Vec<_>>().chunks(BATCH) {
            let ends = side_by_side(batch, |condemned| self.delete(condemned));
            fail_point!("gc.deleted");
            // Before the marks go: who dies here leaves it to the next pass.
            self.remove_emptied(batch);
            let mut gone = Vec::with_capacity(batch.len());
            for (one, end) in batch.iter().zip(ends) {
                match end {
                    Ok(()) => gone.push(one.id),
                    Err(error) => {
                        let cause = error.source().unwrap_or(&error).to_string();
                        let way_out = "each collection tries again: see to its permissions, or delete it by hand";
                        self.notice(format!("{error}: {cause}; it serves no hit, and {way_out}"));
                        stuck.insert(one.id, cause);
                    }
                }
            }
            self.index.forget(&gone)?;
        }
        self.undeleted.fetch_add(stuck.len() as u64, Ordering::Relaxed);
        let passed = condemned.into_iter().map(|one| match stuck.remove(&one.id) {
            Some(cause) => {
                let reason = format!("{}; it cannot be deleted: {cause}", one.reason);
                (Condemned { reason, ..one }, RemovalResult::Condemned)
            }
            None if is_read(&one) => (one, RemovalResult::Condemned),
            None => (one, RemovalResult::Deleted),
        });
        Ok(passed.collect())
    }

    fn delete(&self, condemned: &Condemned) -> Result<(), CacheError> {
        fail_point!("gc.deleting");
        let subject = Subject {
            scope: condemned.scope.word(),
            policy: CachePolicy::DeltaStaging,
            name: &condemned.view,
            cache_key: Some(condemned.key),
        };
        let dir = self.root.path().join(&condemned.dir);
        self.evicting(&subject, Some(condemned.size_bytes), || match std::fs::remove_dir_all(&dir) {
            Ok(()) => Ok(true),
            // Its writer dropped it, or another collector was quicker.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(CacheError::io("delete the condemned entry", &dir)(source)),
        })
    }

    /// Removes the own directories of the keys of a batch, where nothing is left in them. Once a key, when all of the batch are
    /// deleted: who deletes the last of several side by side could find the lock held by another of them. A writer who is about to use
    /// one holds the lease.
    fn remove_emptied(&self, batch: &[&Condemned]) {
        let mut parents: BTreeMap<CacheKey, BTreeSet<&Path>> = BTreeMap::new();
        for one in batch {
            parents.entry(one.key).or_default().extend(Path::new(&one.dir).parent());
        }
        side_by_side(&Vec::from_iter(parents), |(key, parents)| {
            match self.leases(&self.lease_dir()).keep_out(key.as_bytes()) {
                Ok(Some(_keeping_out)) => {
                    for parent in parents {
                        let _ = std::fs::remove_dir(self.root.path().join(parent));
                    }
                }
                Ok(None) => {}
                // An empty directory is in nobody's way.
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the directory of a key may be left empty"
                    );
                }
            }
        });
    }

    fn live_bytes(&self) -> Result<u64, CacheError> {
        Ok(self.index.entries()?.found.iter().map(Entry::size_bytes).sum())
    }
}

/// Does `work` to all of a batch, on a thread for each share of it; what it answers, in their order.
fn side_by_side<T: Sync, R: Send>(batch: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let work_on = |share: &[T]| share.iter().map(&work).collect::<Vec<R>>();
    thread::scope(|threads| {
        let mut shares = batch.chunks(SHARE);
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|share| threads.spawn(carry_fn(move || work_on(share)))).collect();
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        iter::once(work_on(own)).chain(others).flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alluvium_profile::{CacheRoot, KvKind};
    use alluvium_telemetry::Seam;

    use super::*;
    use crate::index::Index;
    use crate::scope::EntryScope;

    #[test]
    fn readers_are_those_of_the_mark_that_was_seen_and_of_no_newer_one() {
        let (dir, seam) = (tempfile::tempdir().unwrap(), Seam::system());
        let root = Arc::new(CacheRoot::open(dir.path(), &seam).unwrap());
        let index = Index::new(root.kv(KvKind::Index).unwrap().clone());
        let id = seam.entry_id();
        let condemn = |condemned_unix_ms| {
            let condemned = Condemned {
                scope: EntryScope::View,
                id,
                key: CacheKey::of(b"key"),
                view: "first".to_owned(),
                dir: "view_cache/first".to_owned(),
                size_bytes: 0,
                reason: "asked for".to_owned(),
                condemned_unix_ms,
                readers: None,
            };
            assert_eq!(index.condemn(&[(condemned, Standing::Orphan)]).unwrap().len(), 1);
        };
        let readers = || index.condemned().unwrap().remove(0).readers;
        let earlier = BTreeSet::from(["earlier.lock".to_owned()]);
        let later = BTreeSet::from(["later.lock".to_owned()]);
        condemn(1);
        // It was published and condemned anew, and has other readers, when a collector comes to record those that it saw.
        condemn(2);
        index.await_readers(&[(id, 1)], &earlier).unwrap();
        assert_eq!(readers(), None);
        index.await_readers(&[(id, 2)], &later).unwrap();
        index.await_readers(&[(id, 2)], &earlier).unwrap();
        assert_eq!(readers(), Some(later));
    }
}

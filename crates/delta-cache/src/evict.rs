//! Eviction by name: the entries of a view, a tag, an age or a run. They go as [`crate::retention`] says.
//!
//! *Invariant:* what is evicted is computed again. A directory that the index does not know stands for its key as soon as no other
//! entry does ([`crate::adopt`]). So those of a key go with its live entry, in one transaction, and others by themselves if they fit.
//! Exempt are those whose key is being computed, which is told, and what is kept for a run.

use std::collections::BTreeSet;
use std::time::Duration;

use alluvium_contracts::{CacheRemoval, RunId};

use crate::cache::DeltaCache;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::names::all_known;
use crate::orphans::Described;
use crate::retention::Doomed;

/// Which entries: those that fit all that is said. One that says nothing means every entry.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Of any of these views; empty for all.
    pub views: Vec<String>,
    /// With any of these tags; empty for all.
    pub tags: Vec<String>,
    /// Written at least this long ago.
    pub older_than: Option<Duration>,
    /// Written by this run.
    pub run_id: Option<RunId>,
}

impl Selection {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.views.is_empty() && self.tags.is_empty() && self.older_than.is_none() && self.run_id.is_none()
    }

    /// What fits of something called `name`, in words; none where something does not. What makes no `entry` has no tag, age or run.
    fn fits(&self, name: &str, entry: Option<&Entry>, now_unix_ms: i64) -> Option<String> {
        let mut words = Vec::new();
        if !self.views.is_empty() {
            let view = self.views.iter().find(|view| *view == name)?;
            words.push(format!("view `{view}`"));
        }
        if !self.tags.is_empty() {
            let tags = &entry?.tags;
            let tag = self.tags.iter().find(|tag| tags.contains(tag))?;
            words.push(format!("tag `{tag}`"));
        }
        if let Some(age) = self.older_than {
            let created = i128::from(entry?.created_unix_ms);
            let written = created + i128::try_from(age.as_millis()).unwrap_or(i128::MAX / 2);
            if written > i128::from(now_unix_ms) {
                return None;
            }
            words.push(format!("{} s old or older", age.as_secs()));
        }
        if let Some(run_id) = self.run_id {
            if entry?.run_id != run_id {
                return None;
            }
            words.push(format!("run {run_id}"));
        }
        if words.is_empty() {
            words.push("everything".to_owned());
        }
        Some(format!("asked for: {}", words.join(", ")))
    }
}

impl DeltaCache {
    /// Condemns the selected entries, and deletes what was condemned and is read by nobody. With a live entry go the directories of its
    /// key that the index does not know; others go if they are selected by what their commits say. `dry_run` only says which. A tag or a
    /// run that no entry is of is noticed, and so is what stays because it is being written, and what cannot be deleted.
    ///
    /// # Errors
    /// [`CacheError::NoSuchEntry`] when one of the views has nothing in the cache: nothing went then; [`CacheError::Index`] when the index
    /// cannot be used, [`CacheError::Io`] when a directory cannot be listed.
    pub fn evict(&self, selection: &Selection, dry_run: bool) -> Result<CacheRemoval, CacheError> {
        let now = self.seam.unix_ms();
        let mut live = self.index.entries()?.found;
        let orphans = self.described_orphans(&live)?;
        let condemned = self.index.condemned()?;
        let known = live.iter().map(|entry| entry.view.as_str());
        let known = known.chain(condemned.iter().map(|condemned| condemned.view.as_str()));
        all_known(&selection.views, known.chain(orphans.iter().map(|(orphan, _)| orphan.view.as_str())))?;
        self.notice_unmatched(selection, &live, &orphans);
        live.sort_by_key(|entry| entry.created_unix_ms);
        let mut doomed = self.select(&live, orphans, |name, entry| selection.fits(name, entry, now))?;
        // Of each the live ones first.
        doomed.sort_by(|(one, _), (other, _)| one.view.cmp(&other.view));
        self.remove(doomed, None, dry_run)
    }

    /// What is to go: the live entries that fit with the orphans of their keys, and other orphans that fit. `fits` says of a name and of
    /// what is known by it why that goes.
    pub(crate) fn select(
        &self,
        live: &[Entry],
        orphans: Vec<Described>,
        fits: impl Fn(&str, Option<&Entry>) -> Option<String>,
    ) -> Result<Vec<Doomed>, CacheError> {
        let (mut doomed, mut keys) = (Vec::new(), BTreeSet::new());
        for entry in live {
            if let Some(reason) = fits(&entry.view, Some(entry)) {
                doomed.push(self.doom_entry(entry, reason));
                keys.insert((entry.scope, entry.key));
            }
        }
        for (orphan, entry) in orphans {
            let reason = fits(&orphan.view, entry.as_ref()).or_else(|| {
                // It would be adopted in the place of that one.
                let is_beside = keys.contains(&(orphan.scope, orphan.key));
                is_beside.then(|| "another entry of its key is asked for".to_owned())
            });
            let Some(reason) = reason else { continue };
            if self.leases(&self.lease_dir()).is_held(orphan.key.as_bytes())? {
                self.notice(format!("{} stays: its key is being computed just now", orphan.dir));
                continue;
            }
            doomed.push(self.doom_orphan(orphan, reason));
        }
        Ok(doomed)
    }

    /// No error: what is to go may have gone already, or never have come.
    fn notice_unmatched(&self, selection: &Selection, live: &[Entry], orphans: &[Described]) {
        let entries: Vec<&Entry> = live.iter().chain(orphans.iter().filter_map(|(_, entry)| entry.as_ref())).collect();
        for tag in selection.tags.iter().filter(|tag| !entries.iter().any(|entry| entry.tags.contains(tag))) {
            self.notice(format!("no entry has the tag `{tag}`"));
        }
        if let Some(run_id) = selection.run_id
            && entries.iter().all(|entry| entry.run_id != run_id)
        {
            self.notice(format!("no entry was written by run {run_id}"));
        }
    }
}

//! Eviction by name: the entries of a view, a tag, an age or a run. They go as [`crate::retention`] says.

use std::time::Duration;

use alluvium_contracts::{CacheRemoval, RunId};

use crate::cache::DeltaCache;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::names::all_known;

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

    /// What of an entry fits, in words; none where something does not.
    fn fits(&self, entry: &Entry, now_unix_ms: i64) -> Option<String> {
        let mut words = Vec::new();
        if !self.views.is_empty() {
            let view = self.views.iter().find(|view| **view == entry.view)?;
            words.push(format!("view `{view}`"));
        }
        if !self.tags.is_empty() {
            let tag = self.tags.iter().find(|tag| entry.tags.contains(tag))?;
            words.push(format!("tag `{tag}`"));
        }
        if let Some(age) = self.older_than {
            let written = i128::from(entry.created_unix_ms) + i128::try_from(age.as_millis()).unwrap_or(i128::MAX / 2);
            if written > i128::from(now_unix_ms) {
                return None;
            }
            words.push(format!("{} s old or older", age.as_secs()));
        }
        if let Some(run_id) = self.run_id {
            if entry.run_id != run_id {
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
    /// Condemns the selected entries, and deletes what was condemned and is read by nobody. `dry_run` only says which. A tag or a run
    /// that no entry is of is noticed, and so is what cannot be deleted.
    ///
    /// # Errors
    /// [`CacheError::NoSuchEntry`] when one of the views has no entry, condemned ones included: nothing went then;
    /// [`CacheError::Index`] when the index cannot be used, [`CacheError::Io`] when the readers cannot be listed.
    pub fn evict(&self, selection: &Selection, dry_run: bool) -> Result<CacheRemoval, CacheError> {
        let now = self.seam.unix_ms();
        let mut live = self.index.entries()?.found;
        let condemned = self.index.condemned()?;
        let known = live.iter().map(|entry| entry.view.as_str());
        all_known(&selection.views, known.chain(condemned.iter().map(|condemned| condemned.view.as_str())))?;
        self.notice_unmatched(selection, &live);
        live.sort_by(|one, other| (&one.view, one.created_unix_ms).cmp(&(&other.view, other.created_unix_ms)));
        let selected = live.iter().filter_map(|entry| Some((entry, selection.fits(entry, now)?)));
        let doomed = selected.map(|(entry, reason)| self.doom_entry(entry, reason)).collect();
        self.remove(doomed, None, dry_run)
    }

    /// No error: what is to go may have gone already, or never have come.
    fn notice_unmatched(&self, selection: &Selection, live: &[Entry]) {
        for tag in selection.tags.iter().filter(|tag| !live.iter().any(|entry| entry.tags.contains(tag))) {
            self.notice(format!("no live entry has the tag `{tag}`"));
        }
        if let Some(run_id) = selection.run_id
            && live.iter().all(|entry| entry.run_id != run_id)
        {
            self.notice(format!("no live entry was written by run {run_id}"));
        }
    }
}

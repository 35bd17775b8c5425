//! What lies in the cache: live entries, condemned ones, and directories without a row; and one entry in full.

use std::cmp::Reverse;

use alluvium_contracts::{
    CacheEntryDetail, CacheEntryDocument, CacheListing, CacheRebuild, CachedEntry, CachedFile, EntryState,
    LeftDirectory,
};

use crate::cache::DeltaCache;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::index::Condemned;
use crate::names::{all_known, no_such_entry};
use crate::orphans::{Described, Fate, bytes_below};
use crate::scope::EntryScope;

impl DeltaCache {
    /// Everything in the cache, by view, of each the newest first. Reads the index and lists directories; no file of an
    /// entry is looked at.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be read, [`CacheError::Io`] when a directory cannot be listed.
    pub fn list(&self) -> Result<CacheListing, CacheError> {
        let live = self.index.entries()?.found;
        let orphans = self.described_orphans(&live)?;
        let mut entries: Vec<CachedEntry> = live.iter().map(summary).collect();
        entries.extend(self.index.condemned()?.into_iter().map(condemned));
        entries.extend(orphans.into_iter().map(|described| {
            let size_bytes = bytes_below(&self.root.path().join(&described.0.dir));
            orphan(described, size_bytes)
        }));
        entries.sort_by(|one, other| {
            let order = |entry: &CachedEntry| (entry.state, Reverse(entry.created_unix_ms), entry.entry_id);
            let name = |entry: &CachedEntry| (entry.view_name.clone(), entry.cache_scope.as_str());
            name(one).cmp(&name(other)).then_with(|| order(one).cmp(&order(other)))
        });
        Ok(CacheListing {
            cache_root: self.root.path().display().to_string(),
            size_bytes: entries.iter().map(|entry| entry.size_bytes).sum(),
            entries,
        })
    }

    /// What [`list`](Self::list) has of `views`; of none named, all.
    ///
    /// # Errors
    /// As there, and [`CacheError::NoSuchEntry`] when one of them has nothing in the cache.
    pub fn list_of(&self, views: &[String]) -> Result<CacheListing, CacheError> {
        let mut listing = self.list()?;
        all_known(views, listing.entries.iter().map(|entry| entry.view_name.as_str()))?;
        listing.entries.retain(|entry| views.is_empty() || views.contains(&entry.view_name));
        listing.size_bytes = listing.entries.iter().map(|entry| entry.size_bytes).sum();
        Ok(listing)
    }

    /// The live entries that `wanted` names, in full, the newest first: those of a view, or the one of a cache key, which
    /// its first twelve characters tell (`b3:1c3f7a52…`), or of an entry's id.
    ///
    /// # Errors
    /// [`CacheError::NoSuchEntry`] when there is none, [`CacheError::Index`] when the index cannot be read.
    pub fn show(&self, wanted: &str) -> Result<CacheEntryDocument, CacheError> {
        let entries = self.named(wanted)?.into_iter().map(|entry| CacheEntryDetail {
            entry: summary(&entry),
            fencing_token: entry.fencing_token,
            files: entry
                .files
                .into_iter()
                .map(|file| CachedFile {
                    path: file.path,
                    size_bytes: file.stamp.size_bytes,
                    digest: file.digest,
                    row_count: file.row_count,
                })
                .collect(),
            components: entry.components,
            explanation: entry.explanation,
        });
        Ok(CacheEntryDocument { entries: entries.collect() })
    }

    /// Gives every sound entry that has none a row in the index again, taken from its own commit; of several under one key
    /// the one with the highest fencing token. Reads every byte of those. Rows that do not decode are dropped.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be used, [`CacheError::Io`] when a directory cannot be listed.
    pub fn rebuild_index(&self) -> Result<CacheRebuild, CacheError> {
        let dropped_count = self.drop_damaged_rows()? + self.index.drop_nameless_kept()?;
        let live = self.index.entries()?.found;
        let (mut adopted, mut left) = (Vec::new(), Vec::new());
        for (orphan, fate) in self.fates(self.orphans(&live)?, &live, true)? {
            if let Some(reason) = fate.reason() {
                left.push(LeftDirectory { cache_path: orphan.dir, reason });
            } else if let Fate::Adopted(entry) = fate {
                adopted.push(summary(&entry));
            }
        }
        Ok(CacheRebuild { kept_count: live.len() as u64, adopted, left, dropped_count })
    }

    /// How many rows did not decode; they are gone now.
    pub(crate) fn drop_damaged_rows(&self) -> Result<u64, CacheError> {
        let mut dropped = 0;
        for (scope, key) in self.index.entries()?.damaged {
            dropped += u64::from(self.index.drop_damaged(scope, &key)?);
        }
        Ok(dropped)
    }

    /// The live entries that a view's name, a key or an id means, the newest first.
    pub(crate) fn named(&self, wanted: &str) -> Result<Vec<Entry>, CacheError> {
        /// An algorithm, a colon and ten digits: short enough to type, and not met twice by accident.
        const TELLING: usize = 12;
        let live = self.index.entries()?.found;
        let is_named = |entry: &&Entry| {
            let key = entry.key.to_string();
            // Directories and tables are named by the digits alone.
            let digits = key.split_once(':').map_or(key.as_str(), |(_, digits)| digits);
            let given = wanted.trim_end_matches('…');
            entry.view == wanted
                || entry.id.to_string() == wanted
                || (wanted.len() >= TELLING && [key.as_str(), digits].iter().any(|key| key.starts_with(given)))
        };
        let mut entries: Vec<Entry> = live.iter().filter(is_named).cloned().collect();
        if entries.is_empty() {
            return Err(no_such_entry(wanted, live.iter().map(|entry| entry.view.as_str())));
        }
        entries.sort_by_key(|entry| (Reverse(entry.created_unix_ms), entry.id));
        Ok(entries)
    }
}

fn summary(entry: &Entry) -> CachedEntry {
    CachedEntry {
        cache_scope: entry.scope.word(),
        view_name: entry.view.clone(),
        state: EntryState::Live,
        entry_id: entry.id,
        cache_key: Some(entry.key),
        cache_path: entry.dir.clone(),
        delta_version: Some(0),
        schema_hash: Some(entry.schema_hash),
        plan_fingerprint: entry.plan_fingerprint,
        stability: Some(entry.stability),
        tags: entry.tags.clone(),
        run_id: Some(entry.run_id),
        created_unix_ms: Some(entry.created_unix_ms),
        compute_ms: Some(entry.compute_ms),
        row_count: Some(entry.row_count),
        file_count: Some(entry.files.len() as u64),
        size_bytes: entry.size_bytes(),
    }
}

fn condemned(condemned: Condemned) -> CachedEntry {
    let Condemned { scope, id, key, view, dir, size_bytes, .. } = condemned;
    CachedEntry { cache_key: Some(key), ..unknown(scope, EntryState::Condemned, view, id, dir, size_bytes) }
}

fn orphan((orphan, entry): Described, size_bytes: u64) -> CachedEntry {
    match entry {
        Some(entry) => CachedEntry { state: EntryState::Orphan, size_bytes, ..summary(&entry) },
        None => CachedEntry {
            cache_key: Some(orphan.key),
            ..unknown(orphan.scope, EntryState::Orphan, orphan.view, orphan.id, orphan.dir, size_bytes)
        },
    }
}

/// An entry of which no more is known than where it lies.
fn unknown(
    scope: EntryScope,
    state: EntryState,
    view_name: String,
    entry_id: alluvium_contracts::EntryId,
    cache_path: String,
    size_bytes: u64,
) -> CachedEntry {
    CachedEntry {
        cache_scope: scope.word(),
        view_name,
        state,
        entry_id,
        cache_key: None,
        cache_path,
        delta_version: None,
        schema_hash: None,
        plan_fingerprint: None,
        stability: None,
        tags: Vec::new(),
        run_id: None,
        created_unix_ms: None,
        compute_ms: None,
        row_count: None,
        file_count: None,
        size_bytes,
    }
}

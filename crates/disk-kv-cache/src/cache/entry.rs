//! How an entry is written and removed, with all its rows in the indexes.

use crate::cache::files::FileName;
use crate::cache::reads::Pending;
use crate::cache::row::{Content, Row, RowError, TagList};
use crate::cache::tables::{ACCESS, ENTRIES, EXPIRY, FILES, ORDER, TAGS, pair, tag_key, unpair};
use crate::cache::transaction::Transaction;
use crate::eviction::Access;
use crate::{CacheError, MAX_KEY_BYTES, Order, StoreError};

/// What is under a key, as far as changing it needs to know.
#[derive(Debug)]
pub(crate) enum Found {
    Absent,
    /// There is a row that cannot be read. Its rows in the indexes are left to whoever meets them.
    Damaged,
    Entry(Old),
}

/// An entry that is to be changed.
#[derive(Debug)]
pub(crate) struct Old {
    pub(crate) id: u64,
    pub(crate) expires: Option<u64>,
    seq: u64,
    tags: TagList,
    file: Option<FileName>,
    volume: u64,
}

/// An entry as it is to be.
#[derive(Debug)]
pub(crate) struct NewEntry<'n> {
    pub(crate) content: Content<'n>,
    pub(crate) expires: Option<u64>,
    pub(crate) tags: &'n TagList,
    pub(crate) stamp: Stamp,
}

/// What a write means for the order of eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// Nothing: the value stays.
    Keep,
    /// Stored anew, and not yet read.
    Stored,
    /// Stored anew, and read for it.
    Read,
}

impl Transaction<'_, '_> {
    pub(crate) fn find(&self, key: &[u8]) -> Result<Found, CacheError> {
        let Some(bytes) = self.rows.txn().get(ENTRIES, key)? else {
            return Ok(Found::Absent);
        };
        match Row::read(key, bytes) {
            Ok(row) => Ok(Found::Entry(Old {
                id: row.id,
                expires: row.expires,
                seq: row.seq,
                tags: row.tags.into(),
                file: match row.content {
                    Content::Inline(_) => None,
                    Content::File(file) => Some(file.name),
                },
                volume: row.volume(key),
            })),
            Err(RowError::Damaged) => Ok(Found::Damaged),
            Err(RowError::Newer(found)) => Err(self.cache.newer(found)),
        }
    }

    /// Writes an entry in place of what was found.
    pub(crate) fn write(&mut self, key: &[u8], found: Found, new: &NewEntry<'_>) -> Result<(), CacheError> {
        let old = match &found {
            Found::Entry(old) => Some(old),
            Found::Absent | Found::Damaged => None,
        };
        let id = old.map_or_else(|| self.state.draw(), |old| old.id);
        let seq = match (old, new.stamp) {
            (Some(old), Stamp::Keep) => old.seq,
            _ => self.state.draw(),
        };
        let row = Row { id, seq, expires: new.expires, tags: new.tags.as_tags(), content: new.content };
        let mut buffer = std::mem::take(&mut self.buffer);
        row.write(key, &mut buffer);
        self.rows.put(ENTRIES, key, &buffer)?;
        self.buffer = buffer;

        if new.stamp != Stamp::Keep {
            self.move_in_order(key, id, seq, old, new.stamp)?;
        }
        let before = old.and_then(|old| old.expires);
        if before != new.expires {
            if let Some(before) = before {
                self.rows.delete(EXPIRY, &pair(before, id))?;
            }
            if let Some(expires) = new.expires {
                self.rows.put(EXPIRY, &pair(expires, id), key)?;
            }
        }
        self.retag(key, id, old.map(|old| &old.tags), new.tags)?;
        let file = match new.content {
            Content::Inline(_) => None,
            Content::File(file) => Some(file.name),
        };
        if let Some(before) = old.and_then(|old| old.file).filter(|before| Some(*before) != file) {
            self.drop_file(before)?;
        }
        if let Some(file) = file {
            self.rows.put(FILES, &file.0, key)?;
        }
        let volume = self.state.volume.saturating_add(row.volume(key));
        self.state.volume = volume.saturating_sub(old.map_or(0, |old| old.volume));
        Ok(())
    }

    /// Removes what was found under a key, if anything.
    pub(crate) fn remove(&mut self, key: &[u8], found: Found) -> Result<(), CacheError> {
        let old = match found {
            Found::Absent => return Ok(()),
            Found::Damaged => {
                self.rows.delete(ENTRIES, key)?;
                return Ok(());
            }
            Found::Entry(old) => old,
        };
        self.rows.delete(ENTRIES, key)?;
        if let Some(rank) = self.rank(old.id, old.seq)? {
            self.rows.delete(ORDER, &pair(rank, old.id))?;
        }
        if self.state.settings.eviction.counts_reads() {
            self.rows.delete(ACCESS, &old.id.to_be_bytes())?;
        }
        if let Some(expires) = old.expires {
            self.rows.delete(EXPIRY, &pair(expires, old.id))?;
        }
        self.retag(key, old.id, Some(&old.tags), &TagList::default())?;
        if let Some(file) = old.file {
            self.drop_file(file)?;
        }
        self.state.volume = self.state.volume.saturating_sub(old.volume);
        Ok(())
    }

    /// Takes what reads have left behind into the order of eviction and the counters.
    pub(crate) fn record(&mut self, pending: &Pending) -> Result<(), CacheError> {
        self.state.hits += pending.hits;
        self.state.misses += pending.misses;
        self.state.damaged += pending.damaged;
        let policy = self.state.settings.eviction;
        if !policy.counts_reads() {
            return Ok(());
        }
        for seen in pending.accesses() {
            let before = self.access(seen.id)?;
            let Some(rank) = policy.rank(seen.stored, before) else { continue };
            let Some(key) = self.rows.txn().get(ORDER, &pair(rank, seen.id))?.map(<[u8]>::to_vec) else { continue };
            // The entry is gone, or was stored anew since it was read: then that was another value.
            let row = self.rows.txn().get(ENTRIES, &key)?;
            if row.and_then(Row::sequence) != Some(seen.stored) {
                continue;
            }
            let count = before.map_or(0, |access| access.count).saturating_add(seen.count);
            self.accessed(&key, seen.id, seen.stored, before, count)?;
        }
        Ok(())
    }

    /// Makes the order of eviction anew, after the policy has changed. Takes time in proportion to the entries.
    pub(crate) fn reorder(&mut self) -> Result<(), CacheError> {
        self.wipe(ORDER)?;
        let policy = self.state.settings.eviction;
        if !policy.counts_reads() {
            self.wipe(ACCESS)?;
        }
        let mut places = Vec::new();
        for entry in self.rows.txn().scan(ENTRIES, .., Order::Ascending)? {
            let (key, bytes) = entry?;
            // A damaged entry has no place.
            if let Ok(row) = Row::read(key, bytes)
                && let Some(rank) = policy.rank(row.seq, self.access(row.id)?)
            {
                places.push((pair(rank, row.id), key.to_vec()));
            }
        }
        for (place, key) in places {
            self.rows.put(ORDER, &place, &key)?;
        }
        Ok(())
    }

    /// Deletes all rows of a table.
    pub(crate) fn wipe(&mut self, table: &'static str) -> Result<(), CacheError> {
        while let Some(key) = self.rows.txn().first(table)?.map(|(key, _)| key.to_vec()) {
            self.rows.delete(table, &key)?;
        }
        Ok(())
    }

    /// What is known of the reads of an entry.
    pub(crate) fn access(&self, id: u64) -> Result<Option<Access>, StoreError> {
        let row = self.rows.txn().get(ACCESS, &id.to_be_bytes())?;
        Ok(row.and_then(unpair).map(|(last, count)| Access { last, count }))
    }

    /// The place of an entry that is there.
    fn rank(&self, id: u64, seq: u64) -> Result<Option<u64>, CacheError> {
        let policy = self.state.settings.eviction;
        let access = if policy.counts_reads() { self.access(id)? } else { None };
        Ok(policy.rank(seq, access))
    }

    fn move_in_order(
        &mut self,
        key: &[u8],
        id: u64,
        seq: u64,
        old: Option<&Old>,
        stamp: Stamp,
    ) -> Result<(), CacheError> {
        let policy = self.state.settings.eviction;
        let access = if old.is_some() && policy.counts_reads() { self.access(id)? } else { None };
        if let Some(old) = old
            && let Some(before) = policy.rank(old.seq, access)
        {
            self.rows.delete(ORDER, &pair(before, id))?;
        }
        let access = match stamp {
            Stamp::Read if policy.counts_reads() => {
                let count = access.map_or(0, |access| access.count).saturating_add(1);
                self.rows.put(ACCESS, &id.to_be_bytes(), &pair(seq, count))?;
                Some(Access { last: seq, count })
            }
            _ => {
                if access.is_some() {
                    self.rows.delete(ACCESS, &id.to_be_bytes())?;
                }
                None
            }
        };
        if let Some(rank) = policy.rank(seq, access) {
            self.rows.put(ORDER, &pair(rank, id), key)?;
        }
        Ok(())
    }

    fn accessed(
        &mut self,
        key: &[u8],
        id: u64,
        stored: u64,
        before: Option<Access>,
        count: u64,
    ) -> Result<(), CacheError> {
        let policy = self.state.settings.eviction;
        let after = Access { last: self.state.draw(), count };
        self.rows.put(ACCESS, &id.to_be_bytes(), &pair(after.last, after.count))?;
        let (from, to) = (policy.rank(stored, before), policy.rank(stored, Some(after)));
        if let (Some(from), Some(to)) = (from, to)
            && from != to
        {
            self.rows.delete(ORDER, &pair(from, id))?;
            self.rows.put(ORDER, &pair(to, id), key)?;
        }
        Ok(())
    }

    fn retag(&mut self, key: &[u8], id: u64, old: Option<&TagList>, new: &TagList) -> Result<(), CacheError> {
        if old == Some(new) {
            return Ok(());
        }
        let (old, new) = (old.map(TagList::as_tags).unwrap_or_default(), new.as_tags());
        for tag in old.iter().filter(|tag| new.iter().all(|new| new != *tag)) {
            self.rows.delete(TAGS, &tag_key(tag, id))?;
        }
        for tag in new.iter().filter(|tag| old.iter().all(|old| old != *tag)) {
            let tag = tag_key(tag, id);
            if tag.len() > MAX_KEY_BYTES {
                return Err(CacheError::Tags);
            }
            self.rows.put(TAGS, &tag, key)?;
        }
        Ok(())
    }

    fn drop_file(&mut self, file: FileName) -> Result<(), CacheError> {
        self.rows.delete(FILES, &file.0)?;
        self.effects.removed.push(file);
        Ok(())
    }
}

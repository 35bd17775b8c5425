//! Eviction: the policies, and what culling removes.

use std::ops::Bound;

use crate::cache::entry::Found;
use crate::cache::tables::{ACCESS, ENTRIES, EXPIRY, FILES, ORDER, TAGS, pair, tag_range};
use crate::cache::transaction::Transaction;
use crate::{CacheError, Order};

/// Which entries go first when the volume of a cache reaches its limit.
///
/// Whatever the policy, expired entries go before any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Eviction {
    /// Those whose value was set longest ago. Reading costs nothing more. The default.
    #[default]
    LeastRecentlyStored,
    /// Those that were neither read nor set for longest.
    LeastRecentlyUsed,
    /// Those that were read least often since they were set.
    LeastFrequentlyUsed,
    /// None: only what has expired is removed.
    None,
}

impl Eviction {
    /// The number that stands for it in the store.
    pub(crate) fn code(self) -> u8 {
        match self {
            Eviction::LeastRecentlyStored => 0,
            Eviction::LeastRecentlyUsed => 1,
            Eviction::LeastFrequentlyUsed => 2,
            Eviction::None => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Eviction> {
        Some(match code {
            0 => Eviction::LeastRecentlyStored,
            1 => Eviction::LeastRecentlyUsed,
            2 => Eviction::LeastFrequentlyUsed,
            3 => Eviction::None,
            _ => return None,
        })
    }

    /// Whether reads matter to it.
    pub(crate) fn counts_reads(self) -> bool {
        matches!(self, Eviction::LeastRecentlyUsed | Eviction::LeastFrequentlyUsed)
    }

    /// The place in the order of eviction of an entry stored at `stored` and accessed as `access` says; the lowest goes
    /// first. `None`: it has no place.
    pub(crate) fn rank(self, stored: u64, access: Option<Access>) -> Option<u64> {
        match self {
            Eviction::LeastRecentlyStored => Some(stored),
            Eviction::LeastRecentlyUsed => Some(access.map_or(stored, |access| access.last)),
            Eviction::LeastFrequentlyUsed => Some(access.map_or(0, |access| access.count)),
            Eviction::None => None,
        }
    }
}

/// What is known of the reads of an entry since it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// The sequence number of the last.
    pub(crate) last: u64,
    /// How many there were.
    pub(crate) count: u64,
}

/// Entries that one transaction removes at most, when many are to go.
pub(crate) const BATCH: usize = 100;
/// Entries that one transaction of [`Cache::cull`](crate::Cache::cull) removes by policy.
pub(crate) const CULL_BATCH: usize = 10;

impl Transaction<'_, '_> {
    /// What every write does at its end: removes up to `cull_limit` entries, expired ones first, and then, if the volume
    /// has reached its limit, by policy.
    pub(crate) fn cull_after_write(&mut self) -> Result<(), CacheError> {
        let limit = self.state.settings.cull_limit as usize;
        if limit == 0 {
            return Ok(());
        }
        let expired = self.remove_expired(limit)?;
        if expired < limit && self.state.volume >= self.state.settings.size_limit_bytes {
            self.remove_by_policy(limit - expired)?;
        }
        Ok(())
    }

    /// Takes the reads within this transaction into the order of eviction: they count too, and before what is stored after
    /// them.
    pub(crate) fn record_reads(&mut self) -> Result<(), CacheError> {
        if self.state.settings.eviction.counts_reads() {
            let taken = self.cache.reads.take();
            self.record(taken.pending())?;
            self.effects.taken.push(taken);
        }
        Ok(())
    }

    /// Removes up to `limit` entries that have expired, those first that did so first.
    pub(crate) fn remove_expired(&mut self, limit: usize) -> Result<usize, CacheError> {
        // All that expired now or before.
        let end = pair(self.cache.now(), u64::MAX);
        self.remove_indexed(EXPIRY, (Bound::Unbounded, Bound::Included(&end)), limit)
    }

    /// Removes up to `limit` entries in the order of eviction.
    pub(crate) fn remove_by_policy(&mut self, limit: usize) -> Result<usize, CacheError> {
        self.remove_indexed(ORDER, (Bound::Unbounded, Bound::Unbounded), limit)
    }

    /// Removes up to `limit` entries that have a tag.
    pub(crate) fn remove_tagged(&mut self, tag: &str, limit: usize) -> Result<usize, CacheError> {
        let (start, end) = tag_range(tag);
        self.remove_indexed(TAGS, (Bound::Included(&start), Bound::Excluded(&end)), limit)
    }

    /// Removes up to `limit` entries in the order of their keys; with the last of them, whatever damaged ones left in the
    /// indexes.
    pub(crate) fn remove_first(&mut self, limit: usize) -> Result<usize, CacheError> {
        let keys = self.rows.txn().scan(ENTRIES, .., Order::Ascending)?.take(limit);
        let keys = keys.map(|entry| entry.map(|(key, _)| key.to_vec())).collect::<Result<Vec<_>, _>>()?;
        for key in &keys {
            let found = self.find(key)?;
            self.remove(key, found)?;
        }
        if self.rows.txn().is_empty(ENTRIES)? {
            for index in [EXPIRY, ORDER, TAGS, ACCESS, FILES] {
                self.wipe(index)?;
            }
            self.state.volume = 0;
        }
        Ok(keys.len())
    }

    /// Removes the entries that rows of an index point to, in its order.
    fn remove_indexed(
        &mut self,
        index: &'static str,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        limit: usize,
    ) -> Result<usize, CacheError> {
        let mut removed = 0;
        while removed < limit {
            let mut rows = Vec::new();
            for row in self.rows.txn().scan(index, range, Order::Ascending)?.take(limit - removed) {
                let (place, key) = row?;
                rows.push((place.to_vec(), key.to_vec()));
            }
            if rows.is_empty() {
                break;
            }
            for (place, key) in rows {
                match self.find(&key)? {
                    Found::Entry(old) if place.ends_with(&old.id.to_be_bytes()) => {
                        self.remove(&key, Found::Entry(old))?;
                        removed += 1;
                    }
                    // Left behind by a damaged row, which could not say where it was indexed.
                    Found::Damaged => {
                        self.remove(&key, Found::Damaged)?;
                        self.rows.delete(index, &place)?;
                        removed += 1;
                    }
                    Found::Absent | Found::Entry(_) => drop(self.rows.delete(index, &place)?),
                }
            }
        }
        Ok(removed)
    }
}

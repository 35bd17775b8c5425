//! Keeping a cache in order: expiring, evicting, culling, clearing, checking; and what it knows of itself.

use crate::eviction::{BATCH, CULL_BATCH};
use crate::{Cache, CacheError, Problem, Transaction, View};

/// What a cache knows of itself. See [`Cache::stats`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Entries, those included that have expired and were not yet removed.
    pub entries: u64,
    /// See [`Cache::volume`].
    pub volume_bytes: u64,
    /// Reads by key (`get` and its like, `read`) that found a value, while statistics were on. What removes (`pop`, `pull`),
    /// looks (`contains`, `peek`, iteration) or changes is no read.
    pub hits: u64,
    /// Reads by key that found none, while statistics were on.
    pub misses: u64,
    /// How often an operation met an entry whose row or file was damaged or missing: an error each time, and neither a
    /// hit nor a miss. Always counted.
    pub damaged: u64,
}

/// What was done to keep a cache in order. See [`Cache::maintain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Maintenance {
    /// Entries removed because they had expired.
    pub expired: u64,
    /// Entries removed because the volume was above its limit.
    pub culled: u64,
    /// Files removed that a process had left behind when it died.
    pub orphan_files: u64,
}

impl Cache {
    /// Removes all entries that have expired, in transactions of 100, and counts them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn expire(&self) -> Result<u64, CacheError> {
        self.repeat(BATCH, |txn| txn.remove_expired(BATCH))
    }

    /// Removes all entries that have a tag, in transactions of 100, and counts them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn evict(&self, tag: &str) -> Result<u64, CacheError> {
        self.repeat(BATCH, |txn| txn.remove_tagged(tag, BATCH))
    }

    /// Removes what has expired; then, while the volume is above its limit, entries by the policy of eviction, in
    /// transactions of 10. Counts both.
    ///
    /// # Errors
    /// Those of the store.
    pub fn cull(&self) -> Result<u64, CacheError> {
        Ok(self.expire()? + self.cull_by_policy()?)
    }

    /// Removes all entries, in transactions of 100, and counts them. Settings and statistics stay.
    ///
    /// # Errors
    /// Those of the store.
    pub fn clear(&self) -> Result<u64, CacheError> {
        self.repeat(BATCH, |txn| txn.remove_first(BATCH))
    }

    /// Expires, culls, and removes the files that processes left behind when they died. Worth doing now and then.
    ///
    /// # Errors
    /// Those of the store and its files.
    pub fn maintain(&self) -> Result<Maintenance, CacheError> {
        let expired = self.expire()?;
        let culled = self.cull_by_policy()?;
        let orphan_files = self.inner.sweep(true, |_| true)?.len() as u64;
        Ok(Maintenance { expired, culled, orphan_files })
    }

    /// Looks everything over: each row, checksum, index and file; and with `fix` mends what is wrong, by removing
    /// entries that cannot be read. Returns what was found. Takes as long as reading everything does.
    ///
    /// # Errors
    /// [`StoreError::Damaged`](crate::StoreError::Damaged) if the files of the store itself do not fit together, which
    /// cannot be mended: close all handles, and the next opening sets it aside. Otherwise those of the store and its files.
    pub fn check(&self, fix: bool) -> Result<Vec<Problem>, CacheError> {
        self.inner.check(fix)
    }

    /// Entries, volume, hits and misses, with all that this handle has read; other handles write what they have
    /// read after 256 reads at the latest, with their next write, and when they are dropped.
    ///
    /// # Errors
    /// Those of the store.
    pub fn stats(&self) -> Result<Stats, CacheError> {
        if !self.inner.read_only && !self.inner.reads.is_empty() {
            self.inner.write(|_| Ok::<_, CacheError>(()))?;
        }
        self.inner.store.read(|txn| {
            let view = View::new(txn, &self.inner);
            let state = view.state()?.unwrap_or_default();
            Ok(Stats {
                entries: view.len()?,
                volume_bytes: state.volume,
                hits: state.hits,
                misses: state.misses,
                damaged: state.damaged,
            })
        })
    }

    /// Sets hits, misses and damaged reads back to 0, and returns the statistics until then.
    ///
    /// # Errors
    /// Those of the store.
    pub fn reset_stats(&self) -> Result<Stats, CacheError> {
        self.inner.write(|txn| {
            let entries = txn.view().len()?;
            let state = &mut txn.state;
            let stats = Stats {
                entries,
                volume_bytes: state.volume,
                hits: state.hits,
                misses: state.misses,
                damaged: state.damaged,
            };
            (state.hits, state.misses, state.damaged) = (0, 0, 0);
            Ok(stats)
        })
    }

    fn cull_by_policy(&self) -> Result<u64, CacheError> {
        self.repeat(CULL_BATCH, |txn| {
            if txn.state.volume > txn.state.settings.size_limit_bytes {
                txn.remove_by_policy(CULL_BATCH)
            } else {
                Ok(0)
            }
        })
    }

    /// Runs transactions until one removes less than a batch, and counts what they remove.
    fn repeat(
        &self,
        batch: usize,
        remove: impl Fn(&mut Transaction<'_, '_>) -> Result<usize, CacheError>,
    ) -> Result<u64, CacheError> {
        let mut sum = 0;
        loop {
            let removed = self.inner.write(&remove)?;
            sum += removed as u64;
            if removed < batch {
                return Ok(sum);
            }
        }
    }
}

//! What reads leave behind, kept in memory until a write transaction can take it: accesses, hits and misses.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::CacheSettings;

/// After how many reads a handle writes what it knows, and looks at the settings again.
pub(crate) const BATCH: u32 = 256;

/// The reads of one handle that are not yet in the store, and what of the settings matters to reads.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    reads: AtomicU32,
    min_file_size_bytes: AtomicU64,
    tracks_accesses: AtomicBool,
    counts: AtomicBool,
    pending: Mutex<Pending>,
}

/// What a write transaction is to take.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    accesses: HashMap<u64, Seen>,
    /// Numbers reads; goes on when what is pending is taken.
    next: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) damaged: u64,
}

/// Reads that were taken out of what is pending, for a transaction to write. If they were not written when this is dropped,
/// they are pending again.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pending: Pending,
    /// Where they are from; `None`: there are none.
    reads: Option<Arc<Reads>>,
}

impl Taken {
    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// To be called once the transaction that wrote them is committed.
    pub(crate) fn written(mut self) {
        self.reads = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(reads) = &self.reads {
            reads.give_back(std::mem::take(&mut self.pending));
        }
    }
}

/// The reads of one entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) id: u64,
    /// The entry's sequence number when it was read.
    pub(crate) stored: u64,
    pub(crate) count: u64,
    /// Its place among the last reads of entries.
    last: u64,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.accesses.is_empty() && self.hits == 0 && self.misses == 0 && self.damaged == 0
    }

    /// The entries that were read, the one read last at the end.
    pub(crate) fn accesses(&self) -> Vec<Seen> {
        let mut seen: Vec<Seen> = self.accesses.values().copied().collect();
        seen.sort_unstable_by_key(|seen| seen.last);
        seen
    }
}

impl Reads {
    /// Takes over what of the settings matters here.
    pub(crate) fn follow(&self, settings: &CacheSettings) {
        self.min_file_size_bytes.store(settings.min_file_size_bytes, Ordering::Relaxed);
        self.tracks_accesses.store(settings.eviction.counts_reads(), Ordering::Relaxed);
        self.counts.store(settings.statistics, Ordering::Relaxed);
    }

    pub(crate) fn min_file_size_bytes(&self) -> u64 {
        self.min_file_size_bytes.load(Ordering::Relaxed)
    }

    /// An entry was read.
    pub(crate) fn hit(&self, id: u64, stored: u64) {
        let (tracks, counts) = (self.tracks_accesses.load(Ordering::Relaxed), self.counts.load(Ordering::Relaxed));
        if !tracks && !counts {
            return;
        }
        let mut pending = self.pending();
        if tracks {
            let last = pending.next;
            pending.next += 1;
            let seen = pending.accesses.entry(id).or_insert(Seen { id, stored, count: 0, last });
            *seen = Seen { id, stored, count: seen.count + 1, last };
        }
        pending.hits += u64::from(counts);
    }

    /// There was no entry.
    pub(crate) fn miss(&self) {
        if self.counts.load(Ordering::Relaxed) {
            self.pending().misses += 1;
        }
    }

    /// An entry was found damaged.
    pub(crate) fn damaged(&self) {
        self.pending().damaged += 1;
    }

    /// Takes what is pending.
    pub(crate) fn take(self: &Arc<Self>) -> Taken {
        let mut pending = self.pending();
        if pending.is_empty() {
            return Taken::default();
        }
        let next = pending.next;
        let taken = std::mem::replace(&mut *pending, Pending { next, ..Pending::default() });
        Taken { pending: taken, reads: Some(Arc::clone(self)) }
    }

    /// Takes back what a transaction that failed was to write.
    fn give_back(&self, given: Pending) {
        let mut pending = self.pending();
        for seen in given.accesses.into_values() {
            // Reads since then are the later ones.
            pending.accesses.entry(seen.id).and_modify(|later| later.count += seen.count).or_insert(seen);
        }
        pending.next = pending.next.max(given.next);
        pending.hits += given.hits;
        pending.misses += given.misses;
        pending.damaged += given.damaged;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }

    /// Counts a read. `true` for each that completes a batch.
    pub(crate) fn is_due(&self) -> bool {
        self.reads.fetch_add(1, Ordering::Relaxed) % BATCH == BATCH - 1
    }

    /// Nothing in here panics between two changes.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

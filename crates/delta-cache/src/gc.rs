//! Garbage: what stands for nothing, and what is worth least where there is too much. It goes as [`crate::retention`]
//! says.
//!
//! An entry's worth is the time that one hit saves for each byte that it takes. Under a byte budget those of the least
//! worth go first, of equals the oldest, until the live entries fit. Those that a kept run needs stay whatever they are worth.

use std::cmp::Ordering;

use alluvium_contracts::{CacheOperation, CachePolicy, CacheRemoval, CacheScope};

use crate::cache::DeltaCache;
use crate::entry::Entry;
use crate::error::CacheError;
use crate::operation::Subject;
use crate::orphans::Fate;
use crate::retention::Doomed;

/// What to collect.
#[derive(Debug, Clone, Copy, Default)]
pub struct GcRequest {
    /// The most bytes that live entries may take together; without it, only what stands for nothing goes.
    pub max_bytes: Option<u64>,
    /// Only say what would go, and why.
    pub dry_run: bool,
}

impl DeltaCache {
    /// Collects garbage: adopts the directories that stand for a key which has no entry, condemns the others and what is
    /// over the budget, and deletes what was condemned and is read by nobody. What cannot be deleted is noticed.
    ///
    /// # Errors
    /// [`CacheError::Index`] when the index cannot be used, [`CacheError::Io`] when a directory cannot be read: what is condemned by then
    /// is deleted by the next collection.
    pub fn collect_garbage(&self, request: GcRequest) -> Result<CacheRemoval, CacheError> {
        let subject =
            Subject { scope: CacheScope::View, policy: CachePolicy::DeltaStaging, name: "view_cache", cache_key: None };
        let collecting = self.begin(CacheOperation::Gc, &subject);
        match collecting.span().in_scope(|| self.collect(request)) {
            Ok(removal) => {
                collecting.ok(Some(removal.live_bytes_before.saturating_sub(removal.live_bytes_after)));
                Ok(removal)
            }
            Err(error) => {
                collecting.error(error.kind());
                Err(error)
            }
        }
    }

    fn collect(&self, request: GcRequest) -> Result<CacheRemoval, CacheError> {
        let GcRequest { max_bytes, dry_run } = request;
        let mut live = self.index.entries()?.found;
        let mut doomed: Vec<Doomed> = Vec::new();
        for (orphan, fate) in self.fates(self.orphans(&live)?, &live, !dry_run)? {
            match fate {
                Fate::Adopted(entry) => live.push(Entry::clone(&entry)),
                Fate::Adoptable | Fate::UnderLease => {}
                Fate::Superseded => {
                    doomed.push(self.doom_orphan(orphan, "another entry stands for its key".to_owned()));
                }
                Fate::Useless(why) => doomed.push(self.doom_orphan(orphan, why)),
            }
        }
        if let Some(max_bytes) = max_bytes {
            // What is kept takes its bytes, and others go for it.
            let kept = self.index.kept()?;
            let spared = |entry: &Entry| kept.dirs.contains_key(&entry.dir);
            doomed.extend(over_budget(&mut live, max_bytes, &spared).map(|entry| {
                let saved = format!("over the budget: a hit saves {:.3} ms a kB", worth(entry) * 1000.0);
                self.doom_entry(entry, saved)
            }));
        }
        self.remove(doomed, max_bytes, dry_run)
    }
}

/// The entries that have to go for the others to fit, the least worth first.
fn over_budget<'e>(
    live: &'e mut [Entry],
    max_bytes: u64,
    spared: &'e dyn Fn(&Entry) -> bool,
) -> impl Iterator<Item = &'e Entry> {
    live.sort_by(by_worth);
    let mut left: u64 = live.iter().map(Entry::size_bytes).sum();
    live.iter().filter(|entry| !spared(entry)).take_while(move |entry| {
        let goes = left > max_bytes;
        left -= entry.size_bytes();
        goes
    })
}

fn by_worth(one: &Entry, other: &Entry) -> Ordering {
    let age = one.created_unix_ms.cmp(&other.created_unix_ms);
    worth(one).total_cmp(&worth(other)).then(age).then(one.id.cmp(&other.id))
}

/// Milliseconds that a hit saves for each byte.
fn worth(entry: &Entry) -> f64 {
    // An entry without files saves its time for nothing.
    entry.compute_ms / (entry.size_bytes().max(1) as f64)
}

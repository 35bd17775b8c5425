//! Iteration in key order, page by page: no snapshot is held between two pages.

use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Bound;

use crate::cache::tables::ENTRIES;
use crate::cache::view::View;
use crate::{Cache, CacheError, Item, KeyBuf, Order};

/// Keys fetched at once.
const PAGE: usize = 100;
/// Values are fetched at once up to this many bytes, and at least one.
const PAGE_BYTES: usize = 1 << 20;

/// Iterates over a cache in key order. Entries that have expired are passed over; entries that come and go meanwhile
/// may be seen or not, and none twice.
///
/// Each item may be an error; after one the iterator goes on behind the entry that is damaged, and is at its end after
/// any other.
pub struct Iter<T> {
    cache: Cache,
    page: VecDeque<Result<T, CacheError>>,
    /// The keys still to come.
    rest: Option<Rest>,
    order: Order,
    fetch: Fetch<T>,
}

type Rest = (Bound<Vec<u8>>, Bound<Vec<u8>>);
/// Takes an entry, given its key and row.
type Fetch<T> = fn(&View<'_, '_>, &[u8], &[u8]) -> Fetched<T>;
/// An entry with the number of its bytes, unless it has expired.
type Fetched<T> = Result<Option<(T, usize)>, CacheError>;

/// The keys of a cache. See [`Cache::keys`](crate::Cache::keys).
pub type Keys = Iter<KeyBuf>;
/// The entries of a cache. See [`Cache::items`](crate::Cache::items).
pub type Items = Iter<(KeyBuf, Item)>;

pub(crate) fn key(view: &View<'_, '_>, key: &[u8], bytes: &[u8]) -> Fetched<KeyBuf> {
    let live = view.parse_live(key, bytes)?.is_some();
    Ok(live.then(|| (KeyBuf::trusted(key.to_vec()), 0)))
}

pub(crate) fn item(view: &View<'_, '_>, key: &[u8], bytes: &[u8]) -> Fetched<(KeyBuf, Item)> {
    let Some(item) = view.item_of(key, bytes)? else {
        return Ok(None);
    };
    let bytes = item.value.len();
    Ok(Some(((KeyBuf::trusted(key.to_vec()), item), bytes)))
}

impl<T> Iter<T> {
    pub(crate) fn new(cache: Cache, from: Option<KeyBuf>, order: Order, fetch: Fetch<T>) -> Iter<T> {
        let from = from.map_or(Bound::Unbounded, |key| Bound::Included(key.as_bytes().to_vec()));
        let rest = match order {
            Order::Ascending => (from, Bound::Unbounded),
            Order::Descending => (Bound::Unbounded, from),
        };
        Iter { cache, page: VecDeque::new(), rest: Some(rest), order, fetch }
    }

    /// Fetches the next page. An error is part of it.
    fn turn(&mut self) {
        let Some((start, end)) = self.rest.take() else { return };
        let (order, fetch) = (self.order, self.fetch);
        let fetched = self.cache.inner().read(|view| {
            let range = (as_slice(&start), as_slice(&end));
            let (mut page, mut bytes, mut last, mut looked_at) = (VecDeque::new(), 0, None, 0);
            for entry in view.txn().scan(ENTRIES, range, order)? {
                let (key, row) = entry?;
                match fetch(&view, key, row) {
                    Ok(None) => {}
                    Ok(Some((entry, size))) => {
                        bytes += size;
                        page.push_back(Ok(entry));
                    }
                    // The first of a page is looked at again by `read`: its file may have gone with its entry.
                    Err(error @ CacheError::Damaged { .. }) if looked_at == 0 => return Err(error),
                    Err(CacheError::Damaged { .. }) => return Ok((page, last)),
                    Err(error) => return Err(error),
                }
                last = Some(key.to_vec());
                looked_at += 1;
                if looked_at == PAGE || bytes >= PAGE_BYTES {
                    return Ok((page, last));
                }
            }
            Ok((page, None))
        });
        let last = match fetched {
            Ok((page, last)) => {
                self.page = page;
                last
            }
            Err(error) => {
                let last = match &error {
                    CacheError::Damaged { key, .. } => Some(key.as_bytes().to_vec()),
                    _ => None,
                };
                self.page.push_back(Err(error));
                last
            }
        };
        self.rest = last.map(|last| match self.order {
            Order::Ascending => (Bound::Excluded(last), end),
            Order::Descending => (start, Bound::Excluded(last)),
        });
    }
}

impl<T> Iterator for Iter<T> {
    type Item = Result<T, CacheError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && self.rest.is_some() {
            self.turn();
        }
        self.page.pop_front()
    }
}

impl<T> FusedIterator for Iter<T> {}

impl<T> fmt::Debug for Iter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("cache", &self.cache).field("order", &self.order).finish_non_exhaustive()
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

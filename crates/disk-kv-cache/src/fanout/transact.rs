//! Transactions over all shards.
//!
//! Each shard is a store with transactions of its own, so there is no one commit. What is promised comes from the order: the
//! turn to write is taken in every shard, the first one first, before anything is done, and the commits come in the same
//! order after everything is done. Two such transactions never wait for each other in a circle, and neither sees half of the
//! other. What is left is the time between two commits: see [`FanoutCache::transact`].
//!
//! A map without room for a commit is no reason to fail there: before the first commit, every shard but the first has to have
//! more room than its commit can take (see [`room_for`]), or is given it, and everything runs again.

use std::time::Duration;

use super::{FanoutCache, place};
use crate::cache::inner::{Effects, Inner};
use crate::cache::reads::Taken;
use crate::cache::rows::Changed;
use crate::cache::state::State;
use crate::cache::transaction::Savepoint;
use crate::cache::view::View;
use crate::engine::{Commit, Extent, Room};
use crate::store::Begun;
use crate::{CacheError, Item, Key, KeyBuf, Order, SetOptions, StoreError, Transaction};

/// A write transaction on all shards of a [`FanoutCache`]. See [`FanoutCache::transact`].
#[derive(Debug)]
pub struct FanoutTransaction<'a, 't> {
    /// One for each shard, in their order.
    shards: Vec<Transaction<'a, 't>>,
}

/// What running a transaction has come to.
enum Ran<T> {
    Done(T),
    /// Nothing was done: a shard was lacking room.
    NoRoom {
        shard: usize,
        room: Room,
    },
    /// Nothing was done: the commit of a shard could lack room.
    Tight {
        shard: usize,
        room: Room,
    },
}

/// The end of a transaction on one shard, short of the commit.
struct End<'c> {
    cache: &'c Inner,
    /// What there is to commit besides reads.
    changed: Changed,
    effects: Effects,
    state: State,
    reads: Taken,
}

impl FanoutCache {
    /// Runs `f` in one write transaction over all shards: if it returns an error or panics, nothing of what it did is done.
    /// [`FanoutTransaction::transact`] nests.
    ///
    /// All writers of all shards wait meanwhile. Where the keys of a transaction can lie together, keep them in a
    /// [sub-cache](FanoutCache::cache), or use the [shard](FanoutCache::shard_of) that has the key. `f` may run more than
    /// once, and must not use this cache but through the transaction.
    ///
    /// Transactions are serializable among each other. Who reads and writes single keys sees them shard by shard: what was
    /// changed is committed in one shard after the other, in their order. A process that is killed between two of these
    /// commits has done the first of them and not the others; so has one that is told [`CacheError::PartlyCommitted`].
    /// What was changed within one shard is always done at once, or not at all.
    ///
    /// ```
    /// # use alluvium_disk_kv_cache::{CacheError, FanoutCache, SetOptions};
    /// # fn f(cache: &FanoutCache) -> Result<(), CacheError> {
    /// cache.transact::<_, CacheError>(|txn| {
    ///     let options = SetOptions::new();
    ///     txn.incr("stock", -1, Some(0), &options)?;
    ///     txn.incr("sold", 1, Some(0), &options)?;
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `f` returns, those of the stores, and [`CacheError::PartlyCommitted`]; all others have changed nothing.
    pub fn transact<T, E: From<CacheError>>(
        &self,
        mut f: impl FnMut(&mut FanoutTransaction<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let make_room = |shard: usize, room| self.shards[shard].inner().store.make_room(room);
        // Shards whose maps may not grow: they have to do with the room they have.
        let mut full = vec![false; self.shards.len()];
        loop {
            match self.run(&full, &mut f)? {
                Ran::Done(answer) => return Ok(answer),
                Ran::NoRoom { shard, room } => make_room(shard, room).map_err(CacheError::Store)?,
                Ran::Tight { shard, room } => match make_room(shard, room) {
                    Err(StoreError::Full { .. }) => full[shard] = true,
                    made => made.map_err(CacheError::Store)?,
                },
            }
        }
    }

    /// Runs `f` once, and commits what it did.
    fn run<T, E: From<CacheError>>(
        &self,
        full: &[bool],
        f: impl FnOnce(&mut FanoutTransaction<'_, '_>) -> Result<T, E>,
    ) -> Result<Ran<T>, E> {
        let begun = self.shards.iter().map(|shard| shard.inner().store.begin());
        let mut begun: Vec<Begun<'_>> = begun.collect::<Result<_, _>>().map_err(CacheError::Store)?;
        let answer = self.run_in(&mut begun, f);
        // Whatever `f` made of the error it got: once there was no room, the transaction is void.
        for (shard, begun) in begun.iter().enumerate() {
            if let Some(room) = begun.txn.no_room() {
                return Ok(Ran::NoRoom { shard, room });
            }
        }
        let (answer, ends) = answer?;
        // The first commit may fail: nothing was done before it.
        let others = ends.iter().enumerate().filter(|(_, end)| end.changed.rows > 0).skip(1);
        for (shard, end) in others.filter(|(shard, _)| !full[*shard]) {
            if let Some(room) = end.lacking().map_err(CacheError::Store)? {
                return Ok(Ran::Tight { shard, room });
            }
        }
        Ok(self.commit(begun, ends)?.map_or(Ran::Done(answer), |(shard, room)| Ran::NoRoom { shard, room }))
    }

    /// Runs `f` in transactions that were begun, and ends them short of their commits.
    fn run_in<T, E: From<CacheError>>(
        &self,
        begun: &mut [Begun<'_>],
        f: impl FnOnce(&mut FanoutTransaction<'_, '_>) -> Result<T, E>,
    ) -> Result<(T, Vec<End<'_>>), E> {
        let (mut shards, mut reads) = (Vec::with_capacity(begun.len()), Vec::with_capacity(begun.len()));
        for (shard, begun) in self.shards.iter().zip(begun) {
            let cache = shard.inner();
            let stored = View::new(&begun.txn, cache).state()?;
            let mut shard = Transaction::new(&mut begun.txn, cache, stored);
            let taken = cache.reads.take();
            shard.record(taken.pending())?;
            shard.rows.take_changed();
            shards.push(shard);
            reads.push(taken);
        }
        let mut transaction = FanoutTransaction { shards };
        let answer = f(&mut transaction)?;
        let ends = self.shards.iter().zip(transaction.shards).zip(reads).map(|((cache, mut shard), reads)| {
            let changed = shard.rows.take_changed();
            let (effects, state) = shard.end()?;
            Ok::<_, CacheError>(End { cache: cache.inner(), changed, effects, state, reads })
        });
        Ok((answer, ends.collect::<Result<_, _>>()?))
    }

    /// Commits the shards that were changed, in their order. `Some`: the first of them lacked room, and nothing was done.
    fn commit(&self, begun: Vec<Begun<'_>>, ends: Vec<End<'_>>) -> Result<Option<(usize, Room)>, CacheError> {
        let is_changed = |end: &End<'_>| end.changed.rows > 0;
        let changed = ends.iter().filter(|end| is_changed(end)).count();
        let mut committed = 0;
        for (shard, (begun, end)) in begun.into_iter().zip(ends).enumerate().filter(|(_, (_, end))| is_changed(end)) {
            let source = match begun.commit() {
                Ok(Commit::Done) => {
                    end.reads.written();
                    end.cache.settle(end.effects, &end.state);
                    committed += 1;
                    continue;
                }
                Ok(Commit::NoRoom(room)) if committed == 0 => return Ok(Some((shard, room))),
                Ok(Commit::NoRoom(room)) => StoreError::Full {
                    path: end.cache.store.path().to_path_buf(),
                    map_bytes: room.full_bytes,
                    max_map_bytes: self.options.store().max_map_bytes(),
                },
                Err(error) if committed == 0 => return Err(error.into()),
                Err(error) => error,
            };
            return Err(CacheError::PartlyCommitted { path: self.path.clone(), committed, changed, source });
        }
        Ok(None)
    }
}

impl End<'_> {
    /// The room that the commit could lack.
    fn lacking(&self) -> Result<Option<Room>, StoreError> {
        let Some(Extent { used_bytes, map_bytes }) = self.cache.store.extent()? else { return Ok(None) };
        let needed_bytes = room_for(self.changed, used_bytes);
        let is_tight = map_bytes.saturating_sub(used_bytes) < needed_bytes;
        Ok(is_tight.then_some(Room { full_bytes: map_bytes, value_bytes: needed_bytes }))
    }
}

/// More than a transaction takes beyond what a map is used to when it begins, its commit included.
///
/// LMDB copies the pages on the way to a row, each once, and puts what is new on others; and a commit writes lists of free
/// pages, of 8 bytes each, if it comes to it of all there are.
fn room_for(changed: Changed, used_bytes: u64) -> u64 {
    /// Eight levels of pages of 4 KiB; four are a hundred million rows.
    const WAY_BYTES: u64 = 32 << 10;
    const SPARE_BYTES: u64 = 256 << 10;
    let copied = changed.rows.saturating_mul(WAY_BYTES).min(used_bytes.saturating_add(changed.bytes));
    // Pages are split in halves.
    let pages = copied.saturating_add(changed.bytes.saturating_mul(2));
    let lists = pages.saturating_add(used_bytes) / 256;
    pages.saturating_add(lists).saturating_add(SPARE_BYTES)
}

impl<'a, 't> FanoutTransaction<'a, 't> {
    /// Runs `f` in a transaction within this one. If it returns an error, what it changed is taken back, in all shards; what
    /// was changed before stays.
    ///
    /// # Errors
    /// What `f` returns, or those of the stores while taking back.
    pub fn transact<T, E: From<CacheError>>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let inner: Vec<Savepoint> = self.shards.iter_mut().map(Transaction::enter).collect();
        let answer = f(self);
        for (shard, inner) in self.shards.iter_mut().zip(inner) {
            match &answer {
                Ok(_) => shard.leave(inner),
                Err(_) => shard.take_back(inner)?,
            }
        }
        answer
    }

    /// See [`Transaction::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Vec<u8>>, CacheError> {
        let key = key.to_key();
        self.shard(&key).get(&key)
    }

    /// See [`Transaction::get_item`].
    ///
    /// # Errors
    /// As there.
    pub fn get_item<K: Key + ?Sized>(&self, key: &K) -> Result<Option<Item>, CacheError> {
        let key = key.to_key();
        self.shard(&key).get_item(&key)
    }

    /// See [`Transaction::contains`].
    ///
    /// # Errors
    /// As there.
    pub fn contains<K: Key + ?Sized>(&self, key: &K) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.shard(&key).contains(&key)
    }

    /// See [`Transaction::value_len`].
    ///
    /// # Errors
    /// As there.
    pub fn value_len<K: Key + ?Sized>(&self, key: &K) -> Result<Option<u64>, CacheError> {
        let key = key.to_key();
        self.shard(&key).value_len(&key)
    }

    /// See [`Transaction::set`].
    ///
    /// # Errors
    /// As there.
    pub fn set<K: Key + ?Sized>(&mut self, key: &K, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
        let key = key.to_key();
        self.shard_mut(&key).set(&key, value, options)
    }

    /// See [`Transaction::add`].
    ///
    /// # Errors
    /// As there.
    pub fn add<K: Key + ?Sized>(&mut self, key: &K, value: &[u8], options: &SetOptions) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.shard_mut(&key).add(&key, value, options)
    }

    /// See [`Transaction::touch`].
    ///
    /// # Errors
    /// As there.
    pub fn touch<K: Key + ?Sized>(&mut self, key: &K, ttl: Option<Duration>) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.shard_mut(&key).touch(&key, ttl)
    }

    /// See [`Transaction::delete`].
    ///
    /// # Errors
    /// As there.
    pub fn delete<K: Key + ?Sized>(&mut self, key: &K) -> Result<bool, CacheError> {
        let key = key.to_key();
        self.shard_mut(&key).delete(&key)
    }

    /// See [`Transaction::pop`].
    ///
    /// # Errors
    /// As there.
    pub fn pop<K: Key + ?Sized>(&mut self, key: &K) -> Result<Option<Item>, CacheError> {
        let key = key.to_key();
        self.shard_mut(&key).pop(&key)
    }

    /// See [`Transaction::incr`].
    ///
    /// # Errors
    /// As there.
    pub fn incr<K: Key + ?Sized>(
        &mut self,
        key: &K,
        delta: i64,
        default: Option<i64>,
        options: &SetOptions,
    ) -> Result<Option<i64>, CacheError> {
        let key = key.to_key();
        self.shard_mut(&key).incr(&key, delta, default, options)
    }

    /// See [`Transaction::peek_item`].
    ///
    /// # Errors
    /// As there.
    pub fn peek_item(&self, order: Order) -> Result<Option<(KeyBuf, Item)>, CacheError> {
        let mut first: Option<(KeyBuf, Item)> = None;
        for shard in &self.shards {
            let Some(found) = shard.peek_item(order)? else { continue };
            let sooner = first.as_ref().is_none_or(|(first, _)| match order {
                Order::Ascending => found.0 < *first,
                Order::Descending => found.0 > *first,
            });
            if sooner {
                first = Some(found);
            }
        }
        Ok(first)
    }

    /// See [`Transaction::keys_by_tag`].
    ///
    /// # Errors
    /// As there.
    pub fn keys_by_tag(&self, tag: &str) -> Result<Vec<KeyBuf>, CacheError> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            keys.extend(shard.keys_by_tag(tag)?);
        }
        Ok(keys)
    }

    /// See [`Transaction::len`].
    ///
    /// # Errors
    /// As there.
    pub fn len(&self) -> Result<u64, CacheError> {
        self.shards.iter().map(Transaction::len).sum()
    }

    /// See [`Transaction::is_empty`].
    ///
    /// # Errors
    /// As there.
    pub fn is_empty(&self) -> Result<bool, CacheError> {
        Ok(self.len()? == 0)
    }

    fn shard(&self, key: &KeyBuf) -> &Transaction<'a, 't> {
        &self.shards[place(key, self.shards.len())]
    }

    fn shard_mut(&mut self, key: &KeyBuf) -> &mut Transaction<'a, 't> {
        let place = place(key, self.shards.len());
        &mut self.shards[place]
    }
}

//! The orders of several shards, merged into one.

use std::fmt;
use std::iter::Peekable;

use crate::{CacheError, Item, Items, KeyBuf, Keys, Order};

/// The keys of a [`FanoutCache`](crate::FanoutCache), in order.
pub type FanoutKeys = Merge<Keys>;
/// The entries of a [`FanoutCache`](crate::FanoutCache), in the order of their keys.
pub type FanoutItems = Merge<Items>;

/// Merges what shards iterate over into one order. An error comes before anything else.
pub struct Merge<I: Iterator> {
    shards: Vec<Peekable<I>>,
    order: Order,
}

impl<I: Iterator> Merge<I> {
    pub(super) fn new(shards: impl Iterator<Item = I>, order: Order) -> Merge<I> {
        Merge { shards: shards.map(Iterator::peekable).collect(), order }
    }
}

/// What is merged by its key.
trait Keyed {
    fn key(&self) -> &KeyBuf;
}

impl Keyed for KeyBuf {
    fn key(&self) -> &KeyBuf {
        self
    }
}

impl Keyed for (KeyBuf, Item) {
    fn key(&self) -> &KeyBuf {
        &self.0
    }
}

impl<T: Keyed, I: Iterator<Item = Result<T, CacheError>>> Iterator for Merge<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<(usize, Option<KeyBuf>)> = None;
        for (place, shard) in self.shards.iter_mut().enumerate() {
            // An error has no key, and `None` is below every key.
            let key = match shard.peek() {
                None => continue,
                Some(Ok(entry)) => Some(entry.key()),
                Some(Err(_)) => return shard.next(),
            };
            let sooner = first.as_ref().is_none_or(|(_, first)| match self.order {
                Order::Ascending => key < first.as_ref(),
                Order::Descending => key > first.as_ref(),
            });
            if sooner {
                first = Some((place, key.cloned()));
            }
        }
        first.and_then(|(place, _)| self.shards[place].next())
    }
}

impl<I: Iterator> fmt::Debug for Merge<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge").field("shards", &self.shards.len()).field("order", &self.order).finish_non_exhaustive()
    }
}

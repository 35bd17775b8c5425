//! Iteration from both ends, a batch at a time, so that no transaction outlives a call.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use super::CollectionError;
use crate::Order;

/// Entries read in one transaction.
pub(crate) const BATCH: usize = 64;

/// At most [`BATCH`] entries of a range of positions, from the end that the order says, each with its position.
type Load<'c, T> = dyn Fn(Range<u64>, Order) -> Result<Vec<(u64, T)>, CollectionError> + 'c;

/// The items of a collection, from either end.
///
/// Items are read in batches of up to 64, each batch in a transaction of its own: what others change meanwhile is seen or
/// not, batch by batch. After an error the iterator ends.
pub struct CollectionIter<'c, T> {
    load: Box<Load<'c, T>>,
    front: VecDeque<T>,
    back: VecDeque<T>,
    /// Positions not read yet: between those in `front` and those in `back`.
    rest: Range<u64>,
}

impl<'c, T> CollectionIter<'c, T> {
    pub(crate) fn new(
        range: Range<u64>,
        load: impl Fn(Range<u64>, Order) -> Result<Vec<(u64, T)>, CollectionError> + 'c,
    ) -> CollectionIter<'c, T> {
        CollectionIter { load: Box::new(load), front: VecDeque::new(), back: VecDeque::new(), rest: range }
    }

    /// Reads the next batch from one end.
    fn read(&mut self, order: Order) -> Result<(), CollectionError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let rest = std::mem::take(&mut self.rest);
        let batch = (self.load)(rest.clone(), order)?;
        if batch.len() == BATCH
            && let Some((last, _)) = batch.last()
        {
            self.rest = match order {
                Order::Ascending => last + 1..rest.end,
                Order::Descending => rest.start..*last,
            };
        }
        let items = batch.into_iter().map(|(_, item)| item);
        match order {
            Order::Ascending => self.front.extend(items),
            Order::Descending => items.for_each(|item| self.back.push_front(item)),
        }
        Ok(())
    }

    fn end<X>(&mut self, error: CollectionError) -> Option<Result<X, CollectionError>> {
        self.front.clear();
        self.back.clear();
        Some(Err(error))
    }
}

impl<T> Iterator for CollectionIter<'_, T> {
    type Item = Result<T, CollectionError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.front.is_empty()
            && let Err(error) = self.read(Order::Ascending)
        {
            return self.end(error);
        }
        self.front.pop_front().or_else(|| self.back.pop_front()).map(Ok)
    }
}

impl<T> DoubleEndedIterator for CollectionIter<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.back.is_empty()
            && let Err(error) = self.read(Order::Descending)
        {
            return self.end(error);
        }
        self.back.pop_back().or_else(|| self.front.pop_back()).map(Ok)
    }
}

impl<T> fmt::Debug for CollectionIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CollectionIter").field("rest", &self.rest).finish_non_exhaustive()
    }
}

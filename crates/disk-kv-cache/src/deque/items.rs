//! The tables of a deque: sealed items under contiguous positions, so that an index is a position.

use std::ops::Range;

use crate::collection::{corrupt, number, open};
use crate::{CollectionError, Order, ReadTxn, Scan, WriteTxn};

pub(super) const ITEMS: &str = "deque_items";
pub(super) const META: &str = "deque_meta";
pub(super) const TABLES: &[&str] = &[ITEMS, META];
pub(super) const MAX_LEN: &[u8] = b"max_len";

/// Where the first item of an empty deque goes: at a billion a second, either end is centuries away.
pub(super) const MIDDLE: u64 = 1 << 63;

/// A position and the bytes of the value there.
pub(super) type Item<'t> = (u64, &'t [u8]);

/// The positions in use. There is no gap among them.
pub(super) fn span(txn: &ReadTxn<'_>) -> Result<Range<u64>, CollectionError> {
    match (txn.first(ITEMS)?, txn.last(ITEMS)?) {
        (Some((first, _)), Some((last, _))) => Ok(number(ITEMS, first)?..number(ITEMS, last)? + 1),
        _ => Ok(MIDDLE..MIDDLE),
    }
}

pub(super) fn len(txn: &ReadTxn<'_>) -> Result<u64, CollectionError> {
    Ok(txn.len(ITEMS)?)
}

pub(super) fn max_len(txn: &ReadTxn<'_>) -> Result<Option<u64>, CollectionError> {
    let Some(sealed) = txn.get(META, MAX_LEN)? else { return Ok(None) };
    number(META, open(META, MAX_LEN, sealed)?).map(Some)
}

pub(super) fn front<'t>(txn: &'t ReadTxn<'_>) -> Result<Option<Item<'t>>, CollectionError> {
    txn.first(ITEMS)?.map(item).transpose()
}

pub(super) fn back<'t>(txn: &'t ReadTxn<'_>) -> Result<Option<Item<'t>>, CollectionError> {
    txn.last(ITEMS)?.map(item).transpose()
}

pub(super) fn get<'t>(txn: &'t ReadTxn<'_>, index: u64) -> Result<Option<Item<'t>>, CollectionError> {
    let span = span(txn)?;
    if index >= span.end - span.start {
        return Ok(None);
    }
    at(txn, span.start + index).map(Some)
}

/// The item at a position in use.
pub(super) fn at<'t>(txn: &'t ReadTxn<'_>, position: u64) -> Result<Item<'t>, CollectionError> {
    let key = position.to_be_bytes();
    let sealed = txn.get(ITEMS, &key)?.ok_or_else(|| corrupt(ITEMS, &key))?;
    Ok((position, open(ITEMS, &key, sealed)?))
}

pub(super) fn scan<'t>(txn: &'t ReadTxn<'_>) -> Result<Items<'t>, CollectionError> {
    Ok(Items(txn.scan(ITEMS, .., Order::Ascending)?))
}

pub(super) fn scan_range<'t>(
    txn: &'t ReadTxn<'_>,
    range: Range<u64>,
    order: Order,
) -> Result<Items<'t>, CollectionError> {
    let (start, end) = (range.start.to_be_bytes(), range.end.to_be_bytes());
    Ok(Items(txn.scan(ITEMS, start.as_slice()..end.as_slice(), order)?))
}

/// Copies everything into a deque that must be empty.
pub(super) fn copy(from: &ReadTxn<'_>, to: &mut WriteTxn<'_>) -> Result<(), CollectionError> {
    let len = len(to)?;
    if len > 0 {
        return Err(CollectionError::NotEmpty { len });
    }
    for table in [ITEMS, META] {
        for entry in from.scan(table, .., Order::Ascending)? {
            let (key, sealed) = entry?;
            open(table, key, sealed)?;
            to.put(table, key, sealed)?;
        }
    }
    Ok(())
}

fn item<'t>((key, sealed): (&'t [u8], &'t [u8])) -> Result<Item<'t>, CollectionError> {
    Ok((number(ITEMS, key)?, open(ITEMS, key, sealed)?))
}

/// Items in order of their positions.
pub(super) struct Items<'t>(Scan<'t>);

impl<'t> Iterator for Items<'t> {
    type Item = Result<Item<'t>, CollectionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.0.next()?;
        Some(entry.map_err(CollectionError::from).and_then(item))
    }
}

//! The tables of an index: entries by key, and keys by the order in which they were inserted.
//!
//! An entry holds its number in that order and its value. A key longer than the engine takes is cut, with its digest in
//! place of the rest; the table of the order holds every key whole. (The engine's order of keys is used only by
//! `push` and `pull`, whose keys are short.)

use std::borrow::Cow;
use std::ops::Range;

use crate::collection::{corrupt, number, open, seal};
use crate::{CollectionError, MAX_KEY_BYTES, Order, ReadTxn, WriteTxn};

pub(super) const ENTRIES: &str = "index_entries";
pub(super) const ORDER: &str = "index_order";
pub(super) const TABLES: &[&str] = &[ENTRIES, ORDER];

const DIGEST_BYTES: usize = 16;

/// The key of [`ENTRIES`]: the encoded key if it is shorter than [`MAX_KEY_BYTES`]; else as many bytes, the last of them
/// its digest.
pub(super) fn entry_key(key: &[u8]) -> Cow<'_, [u8]> {
    if key.len() < MAX_KEY_BYTES {
        return Cow::Borrowed(key);
    }
    let mut cut = key[..MAX_KEY_BYTES - DIGEST_BYTES].to_vec();
    cut.extend_from_slice(&blake3::hash(key).as_bytes()[..DIGEST_BYTES]);
    Cow::Owned(cut)
}

/// The number and the value of a key's entry.
pub(super) fn get<'t>(txn: &'t ReadTxn<'_>, key: &[u8]) -> Result<Option<(u64, &'t [u8])>, CollectionError> {
    let entry_key = entry_key(key);
    let Some(sealed) = txn.get(ENTRIES, &entry_key)? else { return Ok(None) };
    let entry = open(ENTRIES, &entry_key, sealed)?;
    let Some((number, value)) = entry.split_first_chunk() else { return Err(corrupt(ENTRIES, &entry_key)) };
    Ok(Some((u64::from_be_bytes(*number), value)))
}

/// The key with a number, whole.
fn key_of<'t>(number: &[u8], sealed: &'t [u8]) -> Result<&'t [u8], CollectionError> {
    open(ORDER, number, sealed)
}

/// An encoded key and the bytes of its value.
pub(super) type KeyValue<'t> = (&'t [u8], &'t [u8]);

/// The entry that a row of [`ORDER`] speaks of, with its number.
pub(super) fn entry<'t>(
    txn: &'t ReadTxn<'_>,
    (row, sealed): (&[u8], &'t [u8]),
) -> Result<(u64, KeyValue<'t>), CollectionError> {
    let key = key_of(row, sealed)?;
    let expected = number(ORDER, row)?;
    match get(txn, key)? {
        Some((number, value)) if number == expected => Ok((number, (key, value))),
        _ => Err(corrupt(ORDER, row)),
    }
}

/// The entry that was inserted first (`Ascending`) or last.
pub(super) fn end<'t>(txn: &'t ReadTxn<'_>, order: Order) -> Result<Option<KeyValue<'t>>, CollectionError> {
    let row = match order {
        Order::Ascending => txn.first(ORDER)?,
        Order::Descending => txn.last(ORDER)?,
    };
    row.map(|row| Ok(entry(txn, row)?.1)).transpose()
}

/// The numbers in use, gaps among them.
pub(super) fn span(txn: &ReadTxn<'_>) -> Result<Range<u64>, CollectionError> {
    match (txn.first(ORDER)?, txn.last(ORDER)?) {
        (Some((first, _)), Some((last, _))) => Ok(number(ORDER, first)?..number(ORDER, last)? + 1),
        _ => Ok(0..0),
    }
}

/// Entries whose numbers are in a range.
pub(super) fn scan<'t>(
    txn: &'t ReadTxn<'_>,
    range: Range<u64>,
    order: Order,
) -> Result<impl Iterator<Item = Result<(u64, KeyValue<'t>), CollectionError>>, CollectionError> {
    let (start, end) = (range.start.to_be_bytes(), range.end.to_be_bytes());
    let rows = txn.scan(ORDER, start.as_slice()..end.as_slice(), order)?;
    Ok(rows.map(move |row| entry(txn, row?)))
}

/// Sets the value of a key. A new key becomes the last; one that is there keeps its place.
pub(super) fn put(txn: &mut WriteTxn<'_>, key: &[u8], value: &[u8]) -> Result<(), CollectionError> {
    let number = match get(txn, key)? {
        Some((number, _)) => number,
        None => {
            let number = span(txn)?.end;
            let row = number.to_be_bytes();
            txn.put(ORDER, &row, &seal(&row, key))?;
            number
        }
    };
    let entry_key = entry_key(key);
    let entry = [&number.to_be_bytes(), value].concat();
    Ok(txn.put(ENTRIES, &entry_key, &seal(&entry_key, &entry))?)
}

/// Removes a key. `false`: it is not there.
pub(super) fn delete(txn: &mut WriteTxn<'_>, key: &[u8]) -> Result<bool, CollectionError> {
    let Some((number, _)) = get(txn, key)? else { return Ok(false) };
    txn.delete(ENTRIES, &entry_key(key))?;
    txn.delete(ORDER, &number.to_be_bytes())?;
    Ok(true)
}

/// Removes everything, damaged or not.
pub(super) fn clear(txn: &mut WriteTxn<'_>) -> Result<(), CollectionError> {
    for table in TABLES {
        while let Some((key, _)) = txn.first(table)? {
            let key = key.to_vec();
            txn.delete(table, &key)?;
        }
    }
    Ok(())
}

//! Keys that are longer than an engine takes, stored whole and in order.
//!
//! LMDB takes keys of up to 511 bytes. (Built otherwise, through heed's feature `longer-keys`, it takes what fits a page:
//! under 2 KiB, and then every program that opens the file must be built so.) Here a key of up to [`SHORT`] bytes is
//! stored as it is. A longer one is stored under its first 503 bytes and a *label* of 8, with the whole key before the
//! value:
//!
//! | stored key | stored value |
//! |---|---|
//! | the key, of 1 to 503 bytes | the value |
//! | the first 503 bytes of the key, a label (big-endian u64) | length of the key (little-endian u32), the key, the value |
//!
//! Keys that share their first 503 bytes, a *bucket*, get labels in the order of the keys, with gaps between them; so the
//! order of what is stored is the order of the keys, and a scan, the first and last entries and the number of entries
//! need nothing but the table itself. A key is looked up by halving the range of its bucket's labels: 64 steps at most,
//! and about as many as a binary search takes if keys came in any usual order. A new key takes a label between those of its
//! neighbours. If there is none left, the labels of the smallest surrounding range that is sparse enough are spread
//! evenly over it; that makes the cost of an insertion logarithmic on average (M. A. Bender et al., *Two Simplified
//! Algorithms for Maintaining Order in a List*, 2002).

use std::cmp::Ordering as Compared;
use std::ops::Bound;

use crate::engine::{Bounds, Changes, MAX_STORED_KEY_BYTES, Snapshot, Table};
use crate::{Entry, Order, StoreError};

const LABEL_BYTES: usize = 8;
/// Keys of up to this many bytes are stored as they are.
pub(crate) const SHORT: usize = MAX_STORED_KEY_BYTES - LABEL_BYTES;
const LENGTH_BYTES: usize = 4;
/// A label that no key has, beyond all that have.
const END: u64 = u64::MAX;
/// How far a key is put from its only neighbour: keys that come in order rarely run out of labels.
const STRIDE: u64 = 1 << 32;

/// Why an operation on long keys failed.
#[derive(Debug)]
pub(crate) enum Problem {
    Store(StoreError),
    /// A row that should hold a long key does not.
    Row,
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        Problem::Store(error)
    }
}

/// Bytes that are stored besides a value of a key.
pub(crate) fn overhead_bytes(key: &[u8]) -> u64 {
    if is_long(key) { (LENGTH_BYTES + key.len()) as u64 } else { 0 }
}

pub(crate) fn is_long(key: &[u8]) -> bool {
    key.len() > SHORT
}

/// The entry that a row stands for.
pub(crate) fn entry<'s>((stored, value): Entry<'s>) -> Result<Entry<'s>, Problem> {
    if stored.len() <= SHORT {
        return Ok((stored, value));
    }
    let (key, value) = split(stored, value).ok_or(Problem::Row)?;
    Ok((key, value))
}

/// Takes a row of a long key apart, if it is one.
fn split<'s>(stored: &[u8], value: &'s [u8]) -> Option<Entry<'s>> {
    let (length, rest) = value.split_first_chunk::<LENGTH_BYTES>()?;
    let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let is_its_row = stored.len() == MAX_STORED_KEY_BYTES && is_long(key) && key[..SHORT] == stored[..SHORT];
    is_its_row.then_some((key, value))
}

pub(crate) fn get<'s>(rows: &'s dyn Snapshot, table: Table, key: &[u8]) -> Result<Option<&'s [u8]>, Problem> {
    let bucket = Bucket { rows, table, key };
    match bucket.find()? {
        Found::At(label) => match rows.get(table, &stored(key, label))? {
            Some(value) => Ok(Some(split(&stored(key, label), value).ok_or(Problem::Row)?.1)),
            None => Err(Problem::Row),
        },
        Found::Between { .. } => Ok(None),
    }
}

pub(crate) fn put(rows: &mut dyn Changes, table: Table, key: &[u8], value: &[u8]) -> Result<(), Problem> {
    let label = loop {
        let (below, above) = match (Bucket { rows, table, key }).find()? {
            Found::At(label) => break label,
            Found::Between { below, above } => (below, above),
        };
        match label_between(below, above) {
            Some(label) => break label,
            None => spread(rows, table, key, below.or(above).unwrap_or(0))?,
        }
    };
    let mut row = Vec::with_capacity(LENGTH_BYTES + key.len() + value.len());
    row.extend_from_slice(&(key.len() as u32).to_le_bytes());
    row.extend_from_slice(key);
    row.extend_from_slice(value);
    Ok(rows.put(table, &stored(key, label), &row)?)
}

pub(crate) fn delete(rows: &mut dyn Changes, table: Table, key: &[u8]) -> Result<bool, Problem> {
    match (Bucket { rows, table, key }).find()? {
        Found::At(label) => Ok(rows.delete(table, &stored(key, label))?),
        Found::Between { .. } => Ok(false),
    }
}

/// The same bound, as one of stored keys.
pub(crate) fn bound(
    rows: &dyn Snapshot,
    table: Table,
    bound: Bound<&[u8]>,
    is_start: bool,
) -> Result<Bound<Vec<u8>>, Problem> {
    let (Bound::Included(key) | Bound::Excluded(key)) = bound else {
        return Ok(Bound::Unbounded);
    };
    if !is_long(key) {
        // A key of another length than a stored long one compares to it as it does to the key.
        return Ok(bound.map(<[u8]>::to_vec));
    }
    Ok(match (Bucket { rows, table, key }).find()? {
        Found::At(label) => bound.map(|key| stored(key, label).to_vec()),
        // Between two rows, or after the last of the bucket: before the one above, whichever kind of bound it is.
        Found::Between { above, .. } => {
            let above = stored(key, above.unwrap_or(END)).to_vec();
            if is_start { Bound::Included(above) } else { Bound::Excluded(above) }
        }
    })
}

/// The rows of all keys that share their first bytes with one key.
struct Bucket<'s, 'k> {
    rows: &'s dyn Snapshot,
    table: Table,
    key: &'k [u8],
}

/// Where a key is, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    At(u64),
    /// Its neighbours in the bucket.
    Between {
        below: Option<u64>,
        above: Option<u64>,
    },
}

impl<'s> Bucket<'s, '_> {
    fn find(&self) -> Result<Found, Problem> {
        // Every key with a label below `from` is less than this one, and every key with one from `to` on is greater.
        let (mut from, mut to) = (0, END);
        let (mut below, mut above) = (None, None);
        // Labels rarely fill their whole range, so the ends come first.
        for order in [Order::Ascending, Order::Descending] {
            let Some((label, key)) = self.row(from, to, order)? else {
                return Ok(Found::Between { below, above });
            };
            match key.cmp(self.key) {
                Compared::Equal => return Ok(Found::At(label)),
                // Past the last one.
                Compared::Less if order == Order::Descending => {
                    return Ok(Found::Between { below: Some(label), above });
                }
                Compared::Less => (below, from) = (Some(label), label + 1),
                Compared::Greater => (above, to) = (Some(label), label),
            }
        }
        while from < to {
            let middle = from + (to - from) / 2;
            match self.row(middle, to, Order::Ascending)? {
                None => to = middle,
                Some((label, key)) => match key.cmp(self.key) {
                    Compared::Equal => return Ok(Found::At(label)),
                    Compared::Less => (below, from) = (Some(label), label + 1),
                    Compared::Greater => (above, to) = (Some(label), middle),
                },
            }
        }
        Ok(Found::Between { below, above })
    }

    /// The first row, in an order, with a label from `from` on and below `to`: its label and its key.
    fn row(&self, from: u64, to: u64, order: Order) -> Result<Option<(u64, &'s [u8])>, Problem> {
        if from >= to {
            return Ok(None);
        }
        let (from, to) = (stored(self.key, from), stored(self.key, to));
        let bounds: Bounds<'_> = (Bound::Included(&from), Bound::Excluded(&to));
        let Some(row) = self.rows.range(self.table, bounds, order)?.next() else {
            return Ok(None);
        };
        let (stored, value) = row?;
        let (key, _) = split(stored, value).ok_or(Problem::Row)?;
        Ok(Some((label_of(stored).ok_or(Problem::Row)?, key)))
    }
}

fn stored(key: &[u8], label: u64) -> [u8; MAX_STORED_KEY_BYTES] {
    let mut stored = [0; MAX_STORED_KEY_BYTES];
    stored[..SHORT].copy_from_slice(&key[..SHORT]);
    stored[SHORT..].copy_from_slice(&label.to_be_bytes());
    stored
}

fn label_of(stored: &[u8]) -> Option<u64> {
    stored.last_chunk::<LABEL_BYTES>().map(|label| u64::from_be_bytes(*label))
}

/// A label between two neighbours, if there is one.
fn label_between(below: Option<u64>, above: Option<u64>) -> Option<u64> {
    let label = match (below, above) {
        (None, None) => END / 2,
        (Some(below), None) => below + STRIDE.min((END - below) / 2),
        (None, Some(above)) => above - STRIDE.min(above.div_ceil(2)),
        (Some(below), Some(above)) => below + (above - below) / 2,
    };
    (Some(label) != below && Some(label) != above).then_some(label)
}

/// Spreads the labels around one of them evenly over the smallest range, of a power of two of labels, that has more room
/// than the square of the number of its rows.
fn spread(rows: &mut dyn Changes, table: Table, key: &[u8], around: u64) -> Result<(), Problem> {
    for bits in 2..=u64::BITS {
        let last_of = u64::MAX >> (u64::BITS - bits);
        let (first, last) = (around & !last_of, around | last_of);
        let (from, to) = (stored(key, first), stored(key, last));
        let end = if last == END { Bound::Excluded(to.as_slice()) } else { Bound::Included(to.as_slice()) };
        let room = 1_u64 << (bits / 2);
        let mut moved = Vec::new();
        let range = (Bound::Included(from.as_slice()), end);
        for row in rows.range(table, range, Order::Ascending)?.take(room as usize + 1) {
            let (stored, _) = row?;
            moved.push(label_of(stored).ok_or(Problem::Row)?);
        }
        if moved.len() as u64 >= room {
            continue;
        }
        let step = (last - first) / (moved.len() as u64 + 1);
        let mut values = Vec::with_capacity(moved.len());
        for label in &moved {
            let stored = stored(key, *label);
            values.push(rows.get(table, &stored)?.ok_or(Problem::Row)?.to_vec());
            rows.delete(table, &stored)?;
        }
        for (value, n) in values.iter().zip(1..) {
            rows.put(table, &stored(key, first + n * step), value)?;
        }
        return Ok(());
    }
    // Half of all labels were taken, which is more rows than a table can have.
    Err(Problem::Row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lie_between_their_neighbours() {
        assert_eq!(label_between(None, None), Some(END / 2));
        assert_eq!(label_between(Some(5), None), Some(5 + STRIDE));
        assert_eq!(label_between(Some(END - 9), None), Some(END - 5));
        assert_eq!(label_between(Some(END - 1), None), None);
        assert_eq!(label_between(None, Some(9)), Some(4));
        assert_eq!(label_between(None, Some(1)), Some(0));
        assert_eq!(label_between(None, Some(0)), None);
        assert_eq!(label_between(Some(7), Some(9)), Some(8));
        assert_eq!(label_between(Some(7), Some(8)), None);
    }

    #[test]
    fn a_row_that_holds_another_key_is_none() {
        let key = [b'k'; SHORT + 1];
        let mut value = (key.len() as u32).to_le_bytes().to_vec();
        value.extend_from_slice(&key);
        value.extend_from_slice(b"value");
        let row = stored(&key, 1);
        assert_eq!(entry((&row, &value)).unwrap(), (key.as_slice(), b"value".as_slice()));
        let mut other = key;
        other[3] = b'x';
        assert!(entry((&stored(&other, 1), &value)).is_err());
        assert!(entry((&row, &value[..LENGTH_BYTES + SHORT])).is_err());
        assert!(entry((&row, b"")).is_err());
        assert!(entry((&row[..SHORT + 2], &value)).is_err());
    }
}

//! Keys as sled stores them: the number of the table, a byte, and the key, in which a byte 00 stands behind every three
//! bytes FF.
//!
//! That byte is for sled 0.34.7. Its backward scan steps from one node of the tree to the one before by looking for the first
//! key of the node with its last byte lowered by one and four bytes FF behind it. A node that begins after that, though
//! before the other, is never found: the scan goes around for a million rounds, and then panics. Where no key has four bytes
//! FF in a row, no node can begin there, since nodes begin with a prefix of a key. Two keys differ where they
//! differed before, so their order stays.

use std::borrow::Cow;
use std::ops::Bound;

use crate::engine::{Bounds, Table};

const RUN: usize = 3;
const STUFFED: u8 = 0x00;

/// The key of a row.
pub(super) fn stored(table: Table, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(table.0);
    let mut run = 0;
    for byte in key {
        stored.push(*byte);
        run = if *byte == 0xFF { run + 1 } else { 0 };
        if run == RUN {
            stored.push(STUFFED);
            run = 0;
        }
    }
    stored
}

/// The key that a row of a table has.
pub(super) fn key(stored: &[u8]) -> Cow<'_, [u8]> {
    let stored = stored.get(1..).unwrap_or_default();
    if !stored.windows(RUN).any(|window| window == [0xFF; RUN]) {
        return Cow::Borrowed(stored);
    }
    let mut key = Vec::with_capacity(stored.len());
    let (mut run, mut bytes) = (0, stored.iter());
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        run = if *byte == 0xFF { run + 1 } else { 0 };
        if run == RUN {
            bytes.next();
            run = 0;
        }
    }
    Cow::Owned(key)
}

/// The range of stored keys that bounds of keys are.
pub(super) fn stored_bounds(table: Table, (start, end): Bounds<'_>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let start = match start {
        Bound::Unbounded => Bound::Included(stored(table, &[])),
        start => start.map(|key| stored(table, key)),
    };
    let end = match (end, table.0.checked_add(1)) {
        (Bound::Unbounded, Some(next)) => Bound::Excluded(vec![next]),
        (end, _) => end.map(|key| stored(table, key)),
    };
    (start, end)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![2 => Just(0xFF_u8), 1 => Just(0), 1 => any::<u8>()], 0..12)
    }

    proptest! {
        #[test]
        fn stored_keys_come_back_in_their_order_and_have_no_four_ff(one in bytes(), other in bytes()) {
            let (first, second) = (stored(Table(7), &one), stored(Table(7), &other));
            prop_assert_eq!(&*key(&first), one.as_slice());
            prop_assert_eq!(first.cmp(&second), one.cmp(&other));
            prop_assert!(!first.windows(4).any(|window| window == [0xFF; 4]));
        }
    }

    #[test]
    fn what_has_no_run_is_stored_as_it_is() {
        assert_eq!(stored(Table(1), b"a\xFF\xFF"), b"\x01a\xFF\xFF");
        assert_eq!(stored(Table(1), b"\xFF\xFF\xFF\xFF"), b"\x01\xFF\xFF\xFF\0\xFF");
        assert!(matches!(key(b"\x01a\xFF\xFF"), Cow::Borrowed(b"a\xFF\xFF")));
    }
}

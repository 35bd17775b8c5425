//! The tables of a cache, and the keys of its indexes.
//!
//! Keys of entries are of any length the store takes; those of the indexes are short, and have the entry's key as value.
//!
//! | table | key | value |
//! |---|---|---|
//! | entries | the encoded key | the row |
//! | expiry | when, id | the encoded key |
//! | order | rank, id: the first is the next to be evicted; empty under `Eviction::None` | the encoded key |
//! | tags | the tag as an encoded key, id | the encoded key |
//! | access | id | sequence number of the last access, count; absent: not read since it was stored |
//! | files | name of a value's file | the encoded key |
//! | state | `state` | settings and counters |
//!
//! *Invariant:* each row of an entry has its rows in expiry, order, tags and files, and they have no others.

use crate::Key;

pub(crate) const ENTRIES: &str = "cache_entries";
pub(crate) const EXPIRY: &str = "cache_expiry";
pub(crate) const ORDER: &str = "cache_order";
pub(crate) const TAGS: &str = "cache_tags";
pub(crate) const ACCESS: &str = "cache_access";
pub(crate) const FILES: &str = "cache_files";
pub(crate) const STATE: &str = "cache_state";

/// Those looked up most come first: names are compared one after the other.
pub(crate) const TABLES: &[&str] = &[ENTRIES, STATE, ORDER, EXPIRY, TAGS, FILES, ACCESS];

pub(crate) const STATE_KEY: &[u8] = b"state";

/// Two numbers, big end first: a key of expiry or order, or a value of access.
pub(crate) fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

/// The numbers of a [`pair`].
pub(crate) fn unpair(bytes: &[u8]) -> Option<(u64, u64)> {
    let both = u128::from_be_bytes(bytes.try_into().ok()?);
    Some(((both >> 64) as u64, both as u64))
}

/// The keys of all entries under a tag: from the first up to, and without, the second.
///
/// Ids stay below 2^63; so the byte after the tag tells an id from the escaped NUL of a longer tag, which is `FF`.
pub(crate) fn tag_range(tag: &str) -> (Vec<u8>, Vec<u8>) {
    let start = tag.to_key().as_bytes().to_vec();
    let end = [start.as_slice(), &[0x80]].concat();
    (start, end)
}

/// The key of an entry under a tag.
pub(crate) fn tag_key(tag: &str, id: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(tag.len() + 2 + 8);
    tag.encode_into(&mut key);
    key.extend(id.to_be_bytes());
    key
}

//! The row of an entry: one header, then the value or the name of its file. Under a checksum, with its key.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | format version, 1 |
//! | 8 | XXH3-64 of all that follows, seeded with the XXH3-64 of the encoded key |
//! | 1 | flags: 1 the value is in a file, 2 it expires |
//! | 8 | id: the entry's for as long as its key is there |
//! | 8 | sequence number of the write that stored it |
//! | 8 | if it expires: when, in Unix nanoseconds |
//! | 2 | length of the tags in bytes; the tags follow, each as a length (2) and its UTF-8 bytes |
//! | rest | the value; or the file's name (16) and the value's length in bytes (8) |
//!
//! Numbers are big end first.

use twox_hash::XxHash3_64;

use crate::cache::files::{FileName, FileRef};

const VERSION: u8 = 1;
const CHECKSUM: usize = 1;
const COVERED: usize = CHECKSUM + 8;
const SEQUENCE: usize = COVERED + 1 + 8;
const FIXED: usize = COVERED + 1 + 8 + 8;
const FILE_REF: usize = 16 + 8;
const IN_FILE: u8 = 1;
const EXPIRES: u8 = 2;

/// Why a row cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowError {
    /// Bytes changed, or were cut off.
    Damaged,
    /// A later version of this crate wrote it.
    Newer(u8),
}

/// Where the value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content<'r> {
    Inline(&'r [u8]),
    File(FileRef),
}

/// A row that has been read, and whose checksum was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row<'r> {
    pub(crate) id: u64,
    pub(crate) seq: u64,
    /// Unix nanoseconds.
    pub(crate) expires: Option<u64>,
    pub(crate) tags: Tags<'r>,
    pub(crate) content: Content<'r>,
}

impl<'r> Row<'r> {
    /// Reads and verifies a row.
    pub(crate) fn read(key: &[u8], bytes: &'r [u8]) -> Result<Row<'r>, RowError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&newer) if newer > VERSION => return Err(RowError::Newer(newer)),
            _ => return Err(RowError::Damaged),
        }
        let (head, covered) = bytes.split_at_checked(COVERED).ok_or(RowError::Damaged)?;
        if head[CHECKSUM..] != checksum(key, covered).to_be_bytes() {
            return Err(RowError::Damaged);
        }
        Row::parse(covered).ok_or(RowError::Damaged)
    }

    /// The sequence number of a row, without reading the rest.
    pub(crate) fn sequence(bytes: &[u8]) -> Option<u64> {
        number(&mut bytes.get(SEQUENCE..)?)
    }

    fn parse(mut rest: &'r [u8]) -> Option<Row<'r>> {
        let flags = *rest.split_off_first()?;
        let id = number(&mut rest)?;
        let seq = number(&mut rest)?;
        let expires = if flags & EXPIRES == 0 { None } else { Some(number(&mut rest)?) };
        let tags = rest.split_off(..2)?;
        let tags = rest.split_off(..usize::from(u16::from_be_bytes([tags[0], tags[1]])))?;
        let content = if flags & IN_FILE == 0 {
            Content::Inline(rest)
        } else {
            let name = FileName(rest.split_off(..16)?.try_into().ok()?);
            Content::File(FileRef { name, bytes: number(&mut rest)? })
        };
        Some(Row { id, seq, expires, tags: Tags(tags), content })
    }

    /// Writes the row into `out`, in place of what is there.
    pub(crate) fn write(&self, key: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let content = match self.content {
            Content::Inline(value) => value.len(),
            Content::File(_) => FILE_REF,
        };
        out.reserve(FIXED + 8 + 2 + self.tags.0.len() + content);
        out.push(VERSION);
        out.extend([0; 8]);
        let flag = |set: bool, flag| if set { flag } else { 0 };
        out.push(flag(self.in_file(), IN_FILE) | flag(self.expires.is_some(), EXPIRES));
        out.extend(self.id.to_be_bytes());
        out.extend(self.seq.to_be_bytes());
        if let Some(expires) = self.expires {
            out.extend(expires.to_be_bytes());
        }
        out.extend((self.tags.0.len() as u16).to_be_bytes());
        out.extend_from_slice(self.tags.0);
        match self.content {
            Content::Inline(value) => out.extend_from_slice(value),
            Content::File(file) => {
                out.extend(file.name.0);
                out.extend(file.bytes.to_be_bytes());
            }
        }
        let sum = checksum(key, &out[COVERED..]);
        out[CHECKSUM..COVERED].copy_from_slice(&sum.to_be_bytes());
    }

    fn in_file(&self) -> bool {
        matches!(self.content, Content::File(_))
    }

    /// What the entry takes, in bytes: its key, row and file, and its rows in the indexes.
    pub(crate) fn volume(&self, key: &[u8]) -> u64 {
        let expires = if self.expires.is_some() { 8 } else { 0 };
        let row = FIXED + expires + 2 + self.tags.0.len();
        let content = match self.content {
            Content::Inline(value) => value.len() as u64,
            Content::File(file) => FILE_REF as u64 + file.bytes,
        };
        let tags = self.tags.iter().count();
        let index_rows = 1 + usize::from(self.expires.is_some()) + usize::from(self.in_file()) + tags;
        let indexes = index_rows * (16 + key.len()) + self.tags.0.len();
        (key.len() + row + indexes) as u64 + content
    }

    /// Whether the entry is there for readers at a time.
    pub(crate) fn is_live(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }
}

/// The tags of an entry, as they lie in its row. Sorted, each once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tags<'r>(&'r [u8]);

impl<'r> Tags<'r> {
    pub(crate) fn iter(self) -> impl Iterator<Item = &'r str> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let length = rest.split_off(..2)?;
            let tag = rest.split_off(..usize::from(u16::from_be_bytes([length[0], length[1]])))?;
            // Under the checksum, and written from a `str`.
            std::str::from_utf8(tag).ok()
        })
    }

    pub(crate) fn to_vec(self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }
}

/// Tags ready to be written into a row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TagList(Vec<u8>);

/// The tags of one entry together have more than 65,535 bytes, with two more for each.
#[derive(Debug)]
pub(crate) struct TooManyTags;

impl TagList {
    pub(crate) fn new(tags: &[String]) -> Result<TagList, TooManyTags> {
        if tags.is_empty() {
            return Ok(TagList::default());
        }
        let mut sorted: Vec<&str> = tags.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut bytes = Vec::new();
        for tag in sorted {
            let length = u16::try_from(tag.len()).map_err(|_| TooManyTags)?;
            bytes.extend(length.to_be_bytes());
            bytes.extend_from_slice(tag.as_bytes());
        }
        if u16::try_from(bytes.len()).is_err() {
            return Err(TooManyTags);
        }
        Ok(TagList(bytes))
    }

    pub(crate) fn as_tags(&self) -> Tags<'_> {
        Tags(&self.0)
    }
}

impl From<Tags<'_>> for TagList {
    fn from(tags: Tags<'_>) -> TagList {
        TagList(tags.0.to_vec())
    }
}

fn checksum(key: &[u8], covered: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot(key), covered)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.split_off(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_comes_back_and_any_changed_bit_is_found(
            key in proptest::collection::vec(any::<u8>(), 1..40),
            (id, seq, expires) in any::<(u64, u64, Option<u64>)>(),
            tags in proptest::collection::vec("[a-c]{0,3}", 0..4),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            file in any::<Option<([u8; 16], u64)>>(),
            (at, bit) in (any::<prop::sample::Index>(), 0..8_u8),
        ) {
            let list = TagList::new(&tags).unwrap();
            let content = match file {
                Some((name, bytes)) => Content::File(FileRef { name: FileName(name), bytes: bytes >> 1 }),
                None => Content::Inline(&value),
            };
            let row = Row { id, seq, expires, tags: list.as_tags(), content };
            let mut bytes = Vec::new();
            row.write(&key, &mut bytes);
            prop_assert_eq!(Row::read(&key, &bytes), Ok(row));
            prop_assert_eq!(Row::sequence(&bytes), Some(seq));
            let mut expected = tags;
            expected.sort();
            expected.dedup();
            prop_assert_eq!(row.tags.to_vec(), expected);
            let file_bytes = file.map_or(0, |(_, bytes)| bytes >> 1);
            let index_rows = 1 + u64::from(expires.is_some()) + u64::from(file.is_some()) + row.tags.iter().count() as u64;
            let indexes = index_rows * (16 + key.len() as u64) + list.0.len() as u64;
            prop_assert_eq!(row.volume(&key), (key.len() + bytes.len()) as u64 + indexes + file_bytes);

            let mut other = key.clone();
            other[0] ^= 1;
            prop_assert_eq!(Row::read(&other, &bytes), Err(RowError::Damaged), "the key is under the checksum");
            let cut = at.index(bytes.len());
            prop_assert!(Row::read(&key, &bytes[..cut]).is_err());
            bytes[cut] ^= 1 << bit;
            prop_assert!(Row::read(&key, &bytes).is_err());
        }
    }

    #[test]
    fn tags_that_do_not_fit_are_refused() {
        assert!(TagList::new(&["x".repeat(65_536)]).is_err());
        assert!(TagList::new(&["x".repeat(40_000), "y".repeat(40_000)]).is_err());
        assert!(TagList::new(&["x".repeat(65_533)]).is_ok());
    }
}

//! A value as a stream.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use crate::cache::files::FileReader;
use crate::cache::reads::Reads;
use crate::cache::row::Content;
use crate::cache::view::View;
use crate::{CacheError, EntryDamage, Key, KeyBuf};

/// The value of an entry, to be read. Made by [`Cache::read`](crate::Cache::read).
///
/// It is the value as it was then, whatever happens to the entry. A block that is not the one that was stored is an error
/// of kind [`InvalidData`](io::ErrorKind::InvalidData) around a [`CacheError::Damaged`], as often as it is asked for, and
/// counted each time while the cache is open.
#[derive(Debug)]
pub struct ValueReader(Source);

#[derive(Debug)]
enum Source {
    Inline(Cursor<Vec<u8>>),
    File {
        file: FileReader,
        /// The entry.
        key: KeyBuf,
        /// Where damage is counted.
        reads: Arc<Reads>,
    },
}

impl ValueReader {
    /// The length of the whole value, in bytes.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Source::Inline(value) => value.get_ref().len() as u64,
            Source::File { file, .. } => file.len(),
        }
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Read for ValueReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Inline(value) => value.read(out),
            Source::File { file, key, reads } => file.read(out).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => {
                    reads.damaged();
                    let damaged = CacheError::Damaged { key: key.clone(), damage: EntryDamage::File };
                    io::Error::new(io::ErrorKind::InvalidData, damaged)
                }
                _ => error,
            }),
        }
    }
}

impl View<'_, '_> {
    /// See [`Cache::read`](crate::Cache::read).
    ///
    /// # Errors
    /// As there.
    pub fn open<K: Key + ?Sized>(&self, key: &K) -> Result<Option<ValueReader>, CacheError> {
        self.open_key(key.to_key().as_bytes())
    }

    pub(crate) fn open_key(&self, key: &[u8]) -> Result<Option<ValueReader>, CacheError> {
        self.read(key, |row| {
            Ok(ValueReader(match row.content {
                Content::Inline(value) => Source::Inline(Cursor::new(value.to_vec())),
                Content::File(file) => {
                    let file = self.cache().files.open(file).map_err(|error| self.damaged(key, error))?;
                    let key = KeyBuf::trusted(key.to_vec());
                    Source::File { file, key, reads: Arc::clone(&self.cache().reads) }
                }
            }))
        })
    }
}

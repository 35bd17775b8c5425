//! A value as a stream.

use std::io::{self, Cursor, Read};

use crate::cache::files::FileReader;
use crate::cache::row::Content;
use crate::cache::view::View;
use crate::{CacheError, Key};

/// The value of an entry, to be read. Made by [`Cache::read`](crate::Cache::read).
///
/// It is the value as it was then, whatever happens to the entry. A byte that is not the one that was stored is an
/// error of kind [`InvalidData`](io::ErrorKind::InvalidData).
#[derive(Debug)]
pub struct ValueReader(Source);

#[derive(Debug)]
enum Source {
    Inline(Cursor<Vec<u8>>),
    File(FileReader),
}

impl ValueReader {
    /// The length of the whole value, in bytes.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Source::Inline(value) => value.get_ref().len() as u64,
            Source::File(file) => file.len(),
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
            Source::File(file) => file.read(out),
        }
    }
}

impl View<'_, '_> {
    /// See [`Cache::read`](crate::Cache::read).
    ///
    /// # Errors
    /// As there.
    pub fn open<K: Key + ?Sized>(&self, key: &K) -> Result<Option<ValueReader>, CacheError> {
        let key = key.to_key();
        let Some(row) = self.read(key.as_bytes())? else {
            return Ok(None);
        };
        let source = match row.content {
            Content::Inline(value) => Source::Inline(Cursor::new(value.to_vec())),
            Content::File(file) => {
                let opened = self.cache().files.open(file);
                Source::File(opened.map_err(|error| self.cache().read_error(key.as_bytes(), error))?)
            }
        };
        Ok(Some(ValueReader(source)))
    }
}

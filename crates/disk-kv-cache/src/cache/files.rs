//! The files of values that are too large for a row: `values/<32 hex digits>` in the directory of the store.
//!
//! # Format
//! Blocks of up to 64 KiB of the value, each followed by 8 bytes: the XXH3-64 of the block, seeded with the file's name
//! and the block's number, big end first. So no byte of a block is lent before the whole block was found right, and
//! blocks of other files or places are not taken for this one's.
//!
//! # Protocol
//! A file is written under a temporary name and renamed, before the transaction that refers to it commits; it is removed
//! after the commit that drops it. From its creation to that commit its writer holds a kernel lock (`flock`) on it. So a
//! file that no committed row refers to, and that nobody holds, was left by a process that died: [`ValueFiles::sweep`]
//! removes those, and only those.
//!
//! Names are looked up below the open directory and links are never followed: a hostile directory cannot lead reads,
//! writes or the sweep elsewhere. The directory has mode 0700, files 0600.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use twox_hash::XxHash3_64;

use crate::directory::Identity;

/// The directory's name.
pub(crate) const VALUES: &str = "values";
const TEMPORARY: &str = ".tmp";
const BLOCK: usize = 64 << 10;
const SUM: usize = 8;

/// The name of a value's file, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileName(pub(crate) [u8; 16]);

impl FileName {
    /// A name that nobody else draws: from this process's random hash keys, which the system seeds.
    fn new() -> FileName {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        // The process id tells the names of a forked child from those of its parent.
        let drawn = (process::id(), DRAWN.fetch_add(1, Ordering::Relaxed));
        let half = |which: u8| RandomState::new().hash_one((which, drawn)).to_be_bytes();
        let mut name = [0; 16];
        name[..8].copy_from_slice(&half(0));
        name[8..].copy_from_slice(&half(1));
        FileName(name)
    }

    fn parse(name: &str) -> Option<FileName> {
        let ours = name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let name = u128::from_str_radix(name, 16).ok().filter(|_| ours)?;
        Some(FileName(name.to_be_bytes()))
    }

    fn sum(self, block: u64, bytes: &[u8]) -> [u8; SUM] {
        let seed = u128::from_be_bytes(self.0);
        let seed = (seed as u64) ^ ((seed >> 64) as u64).rotate_left(32);
        XxHash3_64::oneshot_with_seed(seed.wrapping_add(block), bytes).to_be_bytes()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value's file, as its row refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileRef {
    pub(crate) name: FileName,
    /// The length of the value.
    pub(crate) bytes: u64,
}

impl FileRef {
    /// The length of the file.
    fn bytes_on_disk(self) -> u64 {
        self.bytes + self.bytes.div_ceil(BLOCK as u64) * SUM as u64
    }
}

/// Why a value cannot be read from its file.
#[derive(Debug)]
pub(crate) enum ReadError {
    Missing,
    /// Too short, changed, or not a file.
    Damaged,
    Io(io::Error),
}

/// The directory of values.
#[derive(Debug)]
pub(crate) struct ValueFiles {
    path: PathBuf,
    /// Opened when first needed, and made when first written to; opened again when another has taken its place.
    dir: Mutex<Option<Opened>>,
    /// Whether files and names are synced to the device.
    sync: bool,
}

/// The directory, and what tells it from every other.
#[derive(Debug, Clone)]
struct Opened {
    dir: Arc<OwnedFd>,
    identity: Identity,
}

impl ValueFiles {
    pub(crate) fn new(store: &Path, sync: bool) -> Arc<ValueFiles> {
        Arc::new(ValueFiles { path: store.join(VALUES), dir: Mutex::default(), sync })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a value to a new file. It is removed again when the [`NewFile`] is dropped, unless it was kept.
    ///
    /// # Errors
    /// [`WriteError::Source`] for those of `value`, otherwise those of the system.
    pub(crate) fn create(self: &Arc<Self>, value: &mut dyn Read) -> Result<NewFile, WriteError> {
        let dir = self.dir_or_new()?;
        let mut new = loop {
            let name = FileName::new();
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let temporary = format!("{name}{TEMPORARY}");
            let file = openat(&*dir, &temporary, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
            let new = NewFile {
                files: Arc::clone(self),
                file: File::from(file),
                reference: FileRef { name, bytes: 0 },
                linked: Some(temporary),
            };
            new.file.lock()?;
            // A sweep may have come between the creation and the lock.
            if rustix::fs::fstat(&new.file).map_err(io::Error::from)?.st_nlink > 0 {
                break new;
            }
        };
        new.fill(value)?;
        if self.sync {
            new.file.sync_all()?;
        }
        let name = new.reference.name.to_string();
        if let Some(temporary) = &new.linked {
            renameat(&*dir, temporary, &*dir, &name).map_err(io::Error::from)?;
        }
        new.linked = Some(name);
        if self.sync {
            rustix::fs::fsync(&*dir).map_err(io::Error::from)?;
        }
        Ok(new)
    }

    /// Opens a value's file for reading.
    pub(crate) fn open(&self, reference: FileRef) -> Result<FileReader, ReadError> {
        let Some(dir) = self.dir().map_err(ReadError::Io)? else {
            return Err(ReadError::Missing);
        };
        let file = open_file(&dir, &reference.name.to_string())?;
        Ok(FileReader { file, reference, read: 0, block: Vec::new(), lent: 0 })
    }

    /// Whether a value's file is there and has the right length.
    pub(crate) fn look_at(&self, reference: FileRef) -> Result<(), ReadError> {
        let file = self.open(reference)?.file;
        let found = file.metadata().map_err(ReadError::Io)?.len();
        if found == reference.bytes_on_disk() { Ok(()) } else { Err(ReadError::Damaged) }
    }

    /// Removes a file; one that is gone already is fine.
    pub(crate) fn remove(&self, name: FileName) -> io::Result<()> {
        match self.dir()? {
            Some(dir) => unlink(&dir, &name.to_string()),
            None => Ok(()),
        }
    }

    /// The files among those `wanted` that are not referred to and that no writer holds; removed if `remove`.
    ///
    /// `referred` answers from what is committed when it is called.
    pub(crate) fn sweep<E: From<io::Error>>(
        &self,
        remove: bool,
        wanted: impl Fn(&str) -> bool,
        referred: impl Fn(&[FileName]) -> Result<HashSet<FileName>, E>,
    ) -> Result<Vec<String>, E> {
        let Some(dir) = self.dir()? else {
            return Ok(Vec::new());
        };
        let mut listed = Vec::new();
        for entry in Dir::read_from(&*dir).map_err(io::Error::from)? {
            let entry = entry.map_err(io::Error::from)?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            // What has another name is not ours to judge.
            if let Some(file) = FileName::parse(name.strip_suffix(TEMPORARY).unwrap_or(name)).filter(|_| wanted(name)) {
                listed.push((name.to_owned(), file));
            }
        }
        let names: Vec<FileName> = listed.iter().map(|(_, file)| *file).collect();
        let kept = referred(&names)?;
        let mut orphans = Vec::new();
        for (name, file) in listed {
            if kept.contains(&file) && !name.ends_with(TEMPORARY) {
                continue;
            }
            let held = match open_file(&dir, &name) {
                Ok(found) => match found.try_lock() {
                    Ok(()) => Some(found),
                    // Its writer lives.
                    Err(std::fs::TryLockError::WouldBlock) => continue,
                    Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
                },
                Err(ReadError::Missing) => continue,
                // A link or another special file under a name of ours: it goes, what it points to stays.
                Err(ReadError::Damaged) => None,
                Err(ReadError::Io(error)) => return Err(error.into()),
            };
            // The writer may have committed, and let go, since the first question.
            if !name.ends_with(TEMPORARY) && referred(&[file])?.contains(&file) {
                continue;
            }
            if remove {
                match unlink(&dir, &name) {
                    Err(error) if error.kind() == io::ErrorKind::IsADirectory => clear_away(&dir, &name)?,
                    other => other?,
                }
            }
            drop(held);
            orphans.push(name);
        }
        Ok(orphans)
    }

    /// The directory that is there now, if there is one. Never one that was moved away: others would look for its files at
    /// the path, and take those that they do not find for lost.
    fn dir(&self) -> io::Result<Option<Arc<OwnedFd>>> {
        let mut opened = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        let there = match std::fs::symlink_metadata(&self.path) {
            Ok(there) => Identity::from(&there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *opened = None;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if let Some(opened) = opened.as_ref().filter(|opened| opened.identity == there) {
            return Ok(Some(Arc::clone(&opened.dir)));
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let dir = File::from(openat(CWD, &self.path, flags, Mode::empty())?);
        let identity = Identity::from(&dir.metadata()?);
        let dir = Arc::new(OwnedFd::from(dir));
        *opened = Some(Opened { dir: Arc::clone(&dir), identity });
        Ok(Some(dir))
    }

    fn dir_or_new(&self) -> io::Result<Arc<OwnedFd>> {
        if let Some(dir) = self.dir()? {
            return Ok(dir);
        }
        match mkdirat(CWD, &self.path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(store) = self.path.parent().filter(|_| self.sync) {
            // A file is only as durable as the names that lead to it.
            File::open(store)?.sync_all()?;
        }
        self.dir()?.ok_or_else(|| Errno::NOENT.into())
    }
}

/// Why a value could not be written to a file.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The reader that the caller gave failed.
    Source(io::Error),
    /// The file system failed.
    Io(io::Error),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> WriteError {
        WriteError::Io(error)
    }
}

/// A file that no committed row refers to yet. Locked; removed when dropped, unless kept.
#[derive(Debug)]
pub(crate) struct NewFile {
    files: Arc<ValueFiles>,
    file: File,
    reference: FileRef,
    /// The name it has.
    linked: Option<String>,
}

impl NewFile {
    pub(crate) fn reference(&self) -> FileRef {
        self.reference
    }

    /// To be called once the row that refers to it is committed.
    pub(crate) fn keep(mut self) {
        self.linked = None;
    }

    fn fill(&mut self, value: &mut dyn Read) -> Result<(), WriteError> {
        let mut block = Vec::with_capacity(BLOCK + SUM);
        for number in 0.. {
            block.clear();
            value.take(BLOCK as u64).read_to_end(&mut block).map_err(WriteError::Source)?;
            if block.is_empty() {
                break;
            }
            self.reference.bytes += block.len() as u64;
            let sum = self.reference.name.sum(number, &block);
            block.extend(sum);
            self.file.write_all(&block)?;
            if block.len() < BLOCK + SUM {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let (Some(name), Ok(Some(dir))) = (&self.linked, self.files.dir()) {
            // If it cannot be removed now, the next sweep does.
            let _ = unlink(&dir, name);
        }
    }
}

/// Reads a value from its file, block by block; lends no byte of a block that is not right.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: File,
    reference: FileRef,
    /// Bytes of the value read from the file.
    read: u64,
    /// The block at hand, and how much of it was lent.
    block: Vec<u8>,
    lent: usize,
}

impl FileReader {
    pub(crate) fn len(&self) -> u64 {
        self.reference.bytes
    }

    /// The whole value.
    pub(crate) fn read_all(mut self) -> Result<Vec<u8>, ReadError> {
        let bytes = usize::try_from(self.reference.bytes).map_err(|_| ReadError::Damaged)?;
        // The room is asked for as blocks arrive: a row's word alone must not exhaust memory.
        let mut value = Vec::with_capacity(bytes.min(16 * BLOCK));
        while self.next_block()? {
            value.extend_from_slice(&self.block);
        }
        Ok(value)
    }

    /// Reads the whole value for the sake of its checksums.
    pub(crate) fn verify(mut self) -> Result<(), ReadError> {
        while self.next_block()? {}
        Ok(())
    }

    /// Reads and verifies the next block. `false`: that was all.
    fn next_block(&mut self) -> Result<bool, ReadError> {
        let number = self.read / BLOCK as u64;
        let bytes = (self.reference.bytes - self.read).min(BLOCK as u64) as usize;
        self.block.clear();
        self.lent = 0;
        if bytes == 0 {
            return Ok(false);
        }
        self.block.resize(bytes + SUM, 0);
        match self.file.read_exact(&mut self.block) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ReadError::Damaged),
            Err(error) => return Err(ReadError::Io(error)),
        }
        let sum = self.reference.name.sum(number, &self.block[..bytes]);
        if self.block[bytes..] != sum {
            self.block.clear();
            return Err(ReadError::Damaged);
        }
        self.block.truncate(bytes);
        self.read += bytes as u64;
        Ok(true)
    }
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.lent == self.block.len() && !out.is_empty() {
            self.next_block().map_err(|error| match error {
                ReadError::Io(error) => error,
                // Whoever lends the stream knows the entry, and says more.
                ReadError::Missing | ReadError::Damaged => io::ErrorKind::InvalidData.into(),
            })?;
        }
        let lent = (&self.block[self.lent..]).read(out)?;
        self.lent += lent;
        Ok(lent)
    }
}

/// Opens a regular file and nothing else: no link is followed, and no FIFO waited for.
fn open_file(dir: &OwnedFd, name: &str) -> Result<File, ReadError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match openat(dir, name, flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            let regular = file.metadata().map_err(ReadError::Io)?.is_file();
            if regular { Ok(file) } else { Err(ReadError::Damaged) }
        }
        Err(Errno::NOENT) => Err(ReadError::Missing),
        Err(Errno::LOOP | Errno::NXIO) => Err(ReadError::Damaged),
        Err(error) => Err(ReadError::Io(error.into())),
    }
}

/// Removes a directory that lies under a name of ours and is empty; one that holds something keeps it, under another name.
fn clear_away(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        other => return other.map_err(io::Error::from),
    }
    for n in 1.. {
        match renameat(dir, name, dir, format!("{name}.other-{n}")) {
            // Another one that holds something, or a file.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
    Ok(())
}

fn unlink(dir: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;

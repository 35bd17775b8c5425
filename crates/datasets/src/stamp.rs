//! The identity of a local file: its stat stamp, and the digest of its bytes.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use alluvium_contracts::ContentDigest;
use serde::{Deserialize, Serialize};

/// Younger than this, a file can change without its stamp moving: clocks of file systems tick as slowly as 2 s (FAT).
const YOUTH_NS: i128 = 2_000_000_000;
const BUFFER_BYTES: usize = 1 << 18;

/// What `stat` says of a local file. Two equal stamps, neither of them [young](FileStamp::is_young) when it was taken,
/// mean the same bytes: `changed_ns` moves with every write, and no program can set it back.
///
/// A writer through a memory map is stamped at its first write to a page since the system last wrote that page back;
/// [`hash_file`] therefore has the file written back before it takes the stamp. Memory file systems (tmpfs) write nothing
/// back: there, a map that is written to for longer than 2 s is not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileStamp {
    /// The device.
    pub dev: u64,
    /// The inode on the device.
    pub inode: u64,
    /// The length in bytes.
    pub size_bytes: u64,
    /// The time of the last change of the content (`mtime`), in nanoseconds since 1970-01-01 UTC. Programs can set it.
    /// Serialised as text: canonical JSON has no integers of this size.
    #[serde(with = "text")]
    pub modified_ns: i128,
    /// The time of the last change of content or attributes (`ctime`), in nanoseconds since 1970-01-01 UTC.
    #[serde(with = "text")]
    pub changed_ns: i128,
}

impl FileStamp {
    /// The stamp of the file at `path`; of its target, if that is a symbolic link.
    ///
    /// # Errors
    /// Those of `stat`.
    pub fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::from_metadata(&metadata))
    }

    pub(crate) fn from_metadata(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether either time is under 2 s before `now_unix_ns`, or after it: then a later write might leave the same stamp.
    #[must_use]
    pub fn is_young(&self, now_unix_ns: i128) -> bool {
        now_unix_ns - self.modified_ns.max(self.changed_ns) < YOUTH_NS
    }

    /// The stamp as the key of a memo: fixed width, so that no two stamps share one.
    pub(crate) fn key(&self) -> [u8; 56] {
        let mut key = [0; 56];
        key[..8].copy_from_slice(&self.dev.to_be_bytes());
        key[8..16].copy_from_slice(&self.inode.to_be_bytes());
        key[16..24].copy_from_slice(&self.size_bytes.to_be_bytes());
        key[24..40].copy_from_slice(&self.modified_ns.to_be_bytes());
        key[40..].copy_from_slice(&self.changed_ns.to_be_bytes());
        key
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

mod text {
    //! Wide integers as decimal text.

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(value: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why a file could not be hashed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HashError {
    /// The system refused access.
    #[error("no permission to read {}: grant read access to the file, and search access to its directories", path.display())]
    PermissionDenied {
        /// The file.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// The file is gone.
    #[error("{} does not exist: restore it, or take it out of the source's `path`", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The path is a directory, a pipe or a device.
    #[error("{} is not a regular file: name files, or a directory of them", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The file changed while it was read, twice.
    #[error("{} keeps changing while it is read: try again when its writer has finished", path.display())]
    Changing {
        /// The file.
        path: PathBuf,
    },
}

impl HashError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { path, source },
            io::ErrorKind::NotFound => Self::NotFound { path, source },
            _ => Self::Io { path, source },
        }
    }
}

/// The BLAKE3 digest of a file's bytes, and the stamp that the file had before and after they were read.
///
/// If the file changes meanwhile it is read once more. Reads the whole file on the calling thread.
///
/// # Errors
/// As the variants of [`HashError`] say.
pub fn hash_file(path: impl AsRef<Path>) -> Result<(ContentDigest, FileStamp), HashError> {
    hash_file_with(path.as_ref(), || {})
}

/// [`hash_file`], with a hook between reading the bytes and looking at the stamp again.
fn hash_file_with(path: &Path, mut after_read: impl FnMut()) -> Result<(ContentDigest, FileStamp), HashError> {
    for _ in 0..2 {
        regular(path)?;
        let mut file = File::open(path).map_err(|source| HashError::io(path, source))?;
        // From here on, a write through a memory map moves the stamp. Where the file system refuses (it may be read-only)
        // there is nothing to write back.
        let _ = file.sync_data();
        let opened = file.metadata().map_err(|source| HashError::io(path, source))?;
        let before = FileStamp::from_metadata(&opened);
        let digest = hash(&mut file).map_err(|source| HashError::io(path, source))?;
        after_read();
        if regular(path)? == before {
            return Ok((digest, before));
        }
    }
    Err(HashError::Changing { path: path.to_path_buf() })
}

/// The stamp of a regular file. Asked before it is opened: opening a pipe would wait for a writer.
pub(crate) fn regular(path: &Path) -> Result<FileStamp, HashError> {
    let metadata = std::fs::metadata(path).map_err(|source| HashError::io(path, source))?;
    if metadata.is_file() {
        Ok(FileStamp::from_metadata(&metadata))
    } else {
        Err(HashError::NotAFile { path: path.to_path_buf() })
    }
}

fn hash(file: &mut File) -> io::Result<ContentDigest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(ContentDigest::from_bytes(hasher.finalize().into())),
            Ok(read) => {
                hasher.update(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_time_makes_a_file_young_and_so_does_the_future() {
        let second = 1_000_000_000;
        let stamp = |modified_ns, changed_ns| FileStamp { dev: 1, inode: 2, size_bytes: 3, modified_ns, changed_ns };
        let now = 100 * second;
        assert!(!stamp(98 * second, 98 * second).is_young(now));
        assert!(stamp(98 * second + 1, 0).is_young(now));
        assert!(stamp(0, 98 * second + 1).is_young(now));
        assert!(stamp(0, 101 * second).is_young(now));
        assert!(stamp(1_000 * second, 0).is_young(now));
    }

    #[test]
    fn keys_tell_every_part_apart_and_json_keeps_them() {
        let stamp = FileStamp { dev: 1, inode: 2, size_bytes: 3, modified_ns: i128::from(i64::MIN), changed_ns: 5 };
        let others = [
            FileStamp { dev: 9, ..stamp },
            FileStamp { inode: 9, ..stamp },
            FileStamp { size_bytes: 9, ..stamp },
            FileStamp { modified_ns: 9, ..stamp },
            FileStamp { changed_ns: 9, ..stamp },
        ];
        for other in others {
            assert_ne!(other.key(), stamp.key());
        }
        let json = alluvium_contracts::canonical_json(&stamp).unwrap();
        assert_eq!(serde_json::from_slice::<FileStamp>(&json).unwrap(), stamp);
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_read_again_and_then_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let mut writes = 0;
        let (digest, stamp) = hash_file_with(&path, || {
            if writes == 0 {
                std::fs::write(&path, "other").unwrap();
            }
            writes += 1;
        })
        .unwrap();
        assert_eq!(digest, ContentDigest::of(b"other"));
        assert_eq!((stamp, writes), (FileStamp::of(&path).unwrap(), 2));

        let mut length = 0;
        let error = hash_file_with(&path, || {
            length += 1;
            std::fs::write(&path, "x".repeat(length)).unwrap();
        });
        assert!(matches!(error, Err(HashError::Changing { .. })), "{error:?}");
    }

    #[test]
    fn what_is_no_readable_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(hash_file(dir.path()), Err(HashError::NotAFile { .. })));
        assert!(matches!(hash_file(dir.path().join("absent")), Err(HashError::NotFound { .. })));
        let denied = HashError::io(Path::new("/x/y"), io::ErrorKind::PermissionDenied.into());
        assert!(denied.to_string().contains("/x/y: grant read access"), "{denied}");
    }
}

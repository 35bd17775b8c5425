//! `root.json`: the identity of a cache root, and the lock under which it and damaged stores are replaced.
//!
//! The file ends with the digest of all that stands before it, in this format and in every later one. So damage is told
//! from a newer format, and a bit of the id that flips does not make the id of another root.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use alluvium_contracts::{ContentDigest, RootId};
use serde::Serialize;

use crate::root_error::RootError;

/// The format that is written, and the newest that is read.
const FORMAT_VERSION: u64 = 2;
/// The format that had no digest yet. It is read as it is.
const UNSEALED: u64 = 1;
const NAME: &str = "root.json";

/// What a root's file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RootFile {
    /// Who the root is.
    Is(Identity),
    /// There is no file.
    Absent,
    /// There is one, and this is wrong with it.
    Damaged(String),
}

/// Who a root is, and through which key-value root it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: RootId,
    /// Absolute; `None`: `kv` in the root.
    pub(crate) kv_root: Option<PathBuf>,
}

#[derive(Serialize)]
struct Content<'i> {
    id: RootId,
    format_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    kv_root: Option<&'i Path>,
}

impl RootFile {
    /// Where it is.
    pub(crate) fn path(root: &Path) -> PathBuf {
        root.join(NAME)
    }

    /// Reads it. A newer format is an error, not damage.
    pub(crate) fn read(root: &Path) -> Result<Self, RootError> {
        let path = Self::path(root);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) => return Self::unread(root, path, source),
        };
        let seal = Seal::of(&bytes);
        if seal == Seal::Broken {
            return Ok(Self::Damaged("it is not what its checksum is of".to_owned()));
        }
        let value: serde_json::Value = match serde_json::from_slice(&bytes) {
            Ok(value) => value,
            Err(error) => return Ok(Self::Damaged(format!("it is not JSON: {error}"))),
        };
        // The version comes first: it says what the rest means.
        match value.get("format_version").and_then(serde_json::Value::as_u64) {
            Some(found) if found > FORMAT_VERSION => {
                return Err(RootError::NewerFormat { path, found, supported: FORMAT_VERSION });
            }
            Some(UNSEALED) => {}
            Some(FORMAT_VERSION) if seal == Seal::Whole => {}
            Some(FORMAT_VERSION) => return Ok(Self::Damaged("it has no checksum".to_owned())),
            _ => return Ok(Self::Damaged("it has no valid format_version".to_owned())),
        }
        let Some(Ok(id)) = value.get("id").and_then(serde_json::Value::as_str).map(str::parse) else {
            return Ok(Self::Damaged("it has no valid id".to_owned()));
        };
        Ok(match value.get("kv_root").map(serde_json::Value::as_str) {
            None => Self::Is(Identity { id, kv_root: None }),
            Some(Some(kv_root)) => Self::Is(Identity { id, kv_root: Some(PathBuf::from(kv_root)) }),
            Some(None) => Self::Damaged("its kv_root is no path".to_owned()),
        })
    }

    /// What it means that the file at `path` cannot be read.
    pub(crate) fn unread(root: &Path, path: PathBuf, source: io::Error) -> Result<Self, RootError> {
        match source.kind() {
            io::ErrorKind::NotFound => Ok(Self::Absent),
            io::ErrorKind::IsADirectory => Ok(Self::Damaged("it is a directory".to_owned())),
            io::ErrorKind::PermissionDenied => Err(RootError::Unreadable { path, source }),
            _ => Err(RootError::io(root, "read", &path, source)),
        }
    }

    /// Puts it in place at once and whole; what was there is gone. Call it under [`lock`].
    pub(crate) fn write(root: &Path, identity: &Identity) -> Result<(), RootError> {
        let path = Self::path(root);
        let new = root.join("root.json.new");
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| RootError::io(root, action, &path, source)
        };
        let content = Content { id: identity.id, format_version: FORMAT_VERSION, kv_root: identity.kv_root.as_deref() };
        let text = serde_json::to_string(&content).map_err(io::Error::from).map_err(io("write", &new))?;
        let text = sealed(&text);
        let mut file = File::create(&new).map_err(io("create", &new))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write", &new))?;
        fs::rename(&new, &path).map_err(io("put in place", &path))?;
        sync(root).map_err(io("sync", root))
    }
}

/// What stands between the content and its digest.
const SEAL: &str = ",\"checksum\":\"";

/// How the digest at the end of a file fits what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seal {
    /// There is none.
    None,
    Whole,
    Broken,
}

impl Seal {
    fn of(bytes: &[u8]) -> Self {
        let at = bytes.windows(SEAL.len()).rposition(|window| window == SEAL.as_bytes());
        match at.and_then(|at| std::str::from_utf8(&bytes[..at]).ok()) {
            Some(content) if sealed_content(content).as_bytes() == bytes => Self::Whole,
            Some(_) => Self::Broken,
            None if at.is_some() => Self::Broken,
            None => Self::None,
        }
    }
}

/// The text of a file: a JSON object with the digest as its last member.
fn sealed(object: &str) -> String {
    sealed_content(object.strip_suffix('}').unwrap_or(object))
}

fn sealed_content(content: &str) -> String {
    format!("{content}{SEAL}{}\"}}\n", ContentDigest::of(content.as_bytes()))
}

/// Held while `root.json` or a store is replaced, by one thread of one process. The kernel lets go of it when the process ends.
#[derive(Debug)]
pub(crate) struct RootLock(#[expect(dead_code, reason = "closing the file unlocks it")] File);

/// Waits for the lock. It is on the directory itself, so it leaves no file behind.
pub(crate) fn lock(root: &Path) -> Result<RootLock, RootError> {
    let io = |source| RootError::io(root, "lock", root, source);
    let directory = File::open(root).map_err(io)?;
    directory.lock().map_err(io)?;
    Ok(RootLock(directory))
}

/// Renames `path` to `<path>.damaged-<n>`, the first free `n` from 1, and returns the new name. Call it under [`lock`].
pub(crate) fn set_aside(root: &Path, path: &Path) -> Result<PathBuf, RootError> {
    let io = |source| RootError::io(root, "set aside", path, source);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut n = 1_u64;
    let aside = loop {
        let aside = path.with_file_name(format!("{name}.damaged-{n}"));
        match fs::symlink_metadata(&aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break aside,
            Err(error) => return Err(io(error)),
            Ok(_) => n += 1,
        }
    };
    fs::rename(path, &aside).map_err(io)?;
    sync(path.parent().unwrap_or(root)).map_err(io)?;
    Ok(aside)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

//! The log as files: the newest commit and what it says, without replaying anything.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::commit::RESERVED_KEYS;
use crate::error::ReadError;
use crate::files::{CommitMetadata, DIGEST_TAG, DataFile};
use crate::write::row_count;

/// The newest commit of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadCommit {
    /// Its version.
    pub version: u64,
    /// Its `commitInfo`, with the engine's keys and ours. Empty when the writer left none.
    pub commit_info: Map<String, Value>,
}

/// The newest commit without replaying the log: one directory listing and one file read. `None`: there is no table (no
/// `_delta_log`, or no commit in it).
///
/// # Errors
/// [`ReadError`] when the log is damaged or cannot be read; damage is never taken for absence.
pub fn head_commit(table_dir: &Path) -> Result<Option<HeadCommit>, ReadError> {
    let Some(version) = head_version(table_dir)? else {
        return Ok(None);
    };
    Ok(Some(HeadCommit { version, commit_info: commit_info(table_dir, version)? }))
}

/// The `commitInfo` of one version. Empty when the writer left none.
///
/// # Errors
/// [`ReadError::NoSuchVersion`] when the commit is not there, another [`ReadError`] when it is damaged.
pub fn commit_info(table_dir: &Path, version: u64) -> Result<Map<String, Value>, ReadError> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "commitInfo")]
        commit_info: Option<Map<String, Value>>,
    }

    Ok(parse_commit::<Line>(table_dir, version)?.into_iter().find_map(|line| line.commit_info).unwrap_or_default())
}

/// The id of the table, as its first commit gave it. `None`: the first commit is not there any more, or says none.
///
/// # Errors
/// [`ReadError`] when that commit is damaged or cannot be read.
pub fn table_id(table_dir: &Path) -> Result<Option<String>, ReadError> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "metaData")]
        metadata: Option<Metadata>,
    }
    #[derive(Deserialize)]
    struct Metadata {
        id: String,
    }

    match parse_commit::<Line>(table_dir, 0) {
        Ok(lines) => Ok(lines.into_iter().find_map(|line| line.metadata).map(|metadata| metadata.id)),
        Err(ReadError::NoSuchVersion { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The actions of one commit, a value a line. Every line is parsed: that is what finds damage.
pub(crate) fn parse_commit<T: DeserializeOwned>(table_dir: &Path, version: u64) -> Result<Vec<T>, ReadError> {
    let path = commit_path(table_dir, version);
    let bytes = read_commit(table_dir, version)?;
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let actions = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace)).map(|(index, line)| {
        serde_json::from_slice(line).map_err(|source| ReadError::DamagedCommit {
            path: path.clone(),
            line: index + 1,
            source,
        })
    });
    let actions: Vec<T> = actions.collect::<Result<_, _>>()?;
    if actions.is_empty() {
        return Err(ReadError::EmptyCommit { path });
    }
    Ok(actions)
}

/// The data files that one commit added, in its order, with their digests where it has them. Nothing is replayed: these
/// are all files of a table whose first commit it is.
///
/// # Errors
/// [`ReadError::NoSuchVersion`] when the commit is not there, another [`ReadError`] when it is damaged or does not tell
/// the rows of a file.
pub fn added_files(table_dir: &Path, version: u64) -> Result<Vec<DataFile>, ReadError> {
    #[derive(Deserialize)]
    struct Line {
        add: Option<Add>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Add {
        path: String,
        size: u64,
        partition_values: BTreeMap<String, Option<String>>,
        stats: Option<String>,
        tags: Option<BTreeMap<String, Option<String>>>,
    }

    let bytes = read_commit(table_dir, version)?;
    let mut files = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let damaged =
            |source| ReadError::DamagedCommit { path: commit_path(table_dir, version), line: index + 1, source };
        let line: Line = serde_json::from_slice(line).map_err(damaged)?;
        let Some(add) = line.add else { continue };
        let rows = add.stats.as_deref().and_then(row_count);
        let digest = add.tags.and_then(|mut tags| tags.remove(DIGEST_TAG).flatten()).and_then(|tag| tag.parse().ok());
        files.push(DataFile {
            // The log holds paths as URLs do.
            path: percent_decode_str(&add.path).decode_utf8_lossy().into_owned(),
            size_bytes: add.size,
            row_count: rows.ok_or_else(|| damaged(serde::de::Error::missing_field("stats.numRecords")))?,
            partition_values: add.partition_values,
            digest,
        });
    }
    Ok(files)
}

/// What the writer of one version said of it: its `commitInfo` without the engine's own keys. The engine's history gives
/// commits without their versions.
///
/// # Errors
/// As [`commit_info`].
pub fn commit_metadata(table_dir: &Path, version: u64) -> Result<CommitMetadata, ReadError> {
    Ok(own_metadata(commit_info(table_dir, version)?))
}

/// A `commitInfo` without the engine's own keys.
pub(crate) fn own_metadata(info: Map<String, Value>) -> CommitMetadata {
    info.into_iter().filter(|(key, _)| !RESERVED_KEYS.contains(&key.as_str())).collect()
}

/// The versions whose commits are in the log, the oldest first.
pub(crate) fn commit_versions(table_dir: &Path) -> Result<Vec<u64>, ReadError> {
    let log = table_dir.join("_delta_log");
    let io = |source| ReadError::Io { path: log.clone(), source };
    let mut versions = Vec::new();
    for entry in fs::read_dir(&log).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if let Some((version, ".json")) = name.to_str().and_then(split_version) {
            versions.push(version);
        }
    }
    versions.sort_unstable();
    Ok(versions)
}

/// The newest version by the names in `_delta_log`.
pub(crate) fn head_version(table_dir: &Path) -> Result<Option<u64>, ReadError> {
    let log = table_dir.join("_delta_log");
    let io = |source| ReadError::Io { path: log.clone(), source };
    let entries = match fs::read_dir(&log) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let (mut commit, mut checkpoint) = (None, None);
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        let Some((version, rest)) = name.to_str().and_then(split_version) else {
            continue;
        };
        match rest {
            ".json" => commit = commit.max(Some(version)),
            rest if rest.starts_with(".checkpoint.") => checkpoint = checkpoint.max(Some(version)),
            _ => {}
        }
    }
    match checkpoint {
        // A checkpoint is only ever written of a commit: without it the head is unknown, and no table is the wrong answer.
        Some(version) if checkpoint > commit => {
            Err(ReadError::CommitMissing { path: table_dir.to_path_buf(), version })
        }
        _ => Ok(commit),
    }
}

/// The version of the newest checkpoint.
pub(crate) fn last_checkpoint(table_dir: &Path) -> Result<Option<u64>, ReadError> {
    Ok(checkpoint_versions(table_dir)?.into_iter().max())
}

/// The oldest version from which the log can be replayed: that of the first commit, or else of the oldest checkpoint.
pub(crate) fn oldest_readable_version(table_dir: &Path) -> Result<Option<u64>, ReadError> {
    match commit_path(table_dir, 0).exists() {
        true => Ok(Some(0)),
        false => Ok(checkpoint_versions(table_dir)?.into_iter().min()),
    }
}

/// The versions of the checkpoints, in any order; one that has several parts as often.
fn checkpoint_versions(table_dir: &Path) -> Result<Vec<u64>, ReadError> {
    let log = table_dir.join("_delta_log");
    let io = |source| ReadError::Io { path: log.clone(), source };
    let mut versions = Vec::new();
    for entry in fs::read_dir(&log).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if let Some((version, rest)) = name.to_str().and_then(split_version)
            && rest.starts_with(".checkpoint.")
        {
            versions.push(version);
        }
    }
    Ok(versions)
}

/// The bytes of one commit file.
pub(crate) fn read_commit(table_dir: &Path, version: u64) -> Result<Vec<u8>, ReadError> {
    let path = commit_path(table_dir, version);
    fs::read(&path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => ReadError::NoSuchVersion { path: table_dir.to_path_buf(), version },
        _ => ReadError::Io { path, source },
    })
}

pub(crate) fn commit_path(table_dir: &Path, version: u64) -> std::path::PathBuf {
    table_dir.join("_delta_log").join(commit_name(version))
}

/// The name of a commit in `_delta_log`.
pub(crate) fn commit_name(version: u64) -> String {
    format!("{version:020}.json")
}

pub(crate) fn split_version(name: &str) -> Option<(u64, &str)> {
    let (digits, rest) = name.split_at_checked(20)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(commits: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("_delta_log")).unwrap();
        for (name, text) in commits {
            fs::write(dir.path().join("_delta_log").join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn absence_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(head_commit(&dir.path().join("nowhere")).unwrap(), None);
        assert_eq!(head_commit(dir.path()).unwrap(), None);
        // What a killed commit leaves behind is no commit.
        let leftovers = table(&[("00000000000000000000.json#1", "x"), ("_commit_x.json.tmp", "x"), ("junk", "x")]);
        assert_eq!(head_commit(leftovers.path()).unwrap(), None);
    }

    #[test]
    fn the_newest_commit_wins_and_its_info_may_stand_anywhere() {
        let dir = table(&[
            ("00000000000000000009.json", r#"{"commitInfo":{"a":1}}"#),
            ("00000000000000000010.json", "{\"add\":{}}\n{\"commitInfo\":{\"a\":2}}\n"),
            ("00000000000000000009.checkpoint.parquet", ""),
        ]);
        let head = head_commit(dir.path()).unwrap().unwrap();
        assert_eq!((head.version, &head.commit_info["a"]), (10, &Value::from(2)));
        assert_eq!(commit_info(dir.path(), 9).unwrap()["a"], 1);
        assert!(matches!(commit_info(dir.path(), 8), Err(ReadError::NoSuchVersion { version: 8, .. })));
    }

    #[test]
    fn damage_is_an_error_that_says_where() {
        let garbage = table(&[("00000000000000000000.json", "{\"commitInfo\":{}}\n{\"add\":{\"path\":\"x")]);
        assert!(matches!(head_commit(garbage.path()), Err(ReadError::DamagedCommit { line: 2, .. })));
        for text in ["", "\n \n"] {
            let empty = table(&[("00000000000000000000.json", text)]);
            assert!(matches!(head_commit(empty.path()), Err(ReadError::EmptyCommit { .. })), "{text:?}");
        }
        let number = table(&[("00000000000000000000.json", "17")]);
        assert!(matches!(head_commit(number.path()), Err(ReadError::DamagedCommit { line: 1, .. })));
        let headless = table(&[("00000000000000000003.checkpoint.parquet", "")]);
        assert!(matches!(head_commit(headless.path()), Err(ReadError::CommitMissing { version: 3, .. })));
        let file = tempfile::tempdir().unwrap();
        fs::write(file.path().join("_delta_log"), "no directory").unwrap();
        assert!(matches!(head_commit(file.path()), Err(ReadError::Io { .. })));
    }
}

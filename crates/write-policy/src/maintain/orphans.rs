//! Files that a writer of ours left when it was killed: no commit names them, so nobody reads them, and nobody else deletes them.
//!
//! A file that is needed and taken for one of these is lost. So only what is surely ours and surely no version's goes: a name
//! as our writers make them, with a UUID that occurs nowhere in the log; in the table's own directory or that of a partition, not behind
//! a link nor in another table below; and only if the log has every commit from the first one on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::error::ReadError;
use crate::log::{commit_versions, read_commit};
use crate::table::{Loaded, TableDir};

/// The orphans that nobody has touched since `oldest_unix_ms`, with their sizes in bytes.
pub(super) fn orphans(
    table: &TableDir,
    loaded: &Loaded,
    oldest_unix_ms: i64,
) -> Result<Vec<(PathBuf, u64)>, ReadError> {
    let mut found = Vec::new();
    collect(table.path(), loaded.state.metadata().partition_columns(), oldest_unix_ms, &mut found)?;
    let versions = commit_versions(table.path())?;
    let is_whole = versions.iter().copied().eq(0..=loaded.state.version());
    for version in versions {
        if found.is_empty() || !is_whole {
            return Ok(Vec::new());
        }
        let commit = read_commit(table.path(), version)?;
        found.retain(|orphan| !commit.windows(orphan.id.len()).any(|window| window == orphan.id.as_bytes()));
    }
    Ok(found.into_iter().map(|orphan| (orphan.path, orphan.size_bytes)).collect())
}

struct Candidate {
    path: PathBuf,
    size_bytes: u64,
    /// What of its name no other file has.
    id: String,
}

/// What has a writer's name in `directory` and, as deep as there are `partitions`, below it.
fn collect(
    directory: &Path,
    partitions: &[String],
    oldest_unix_ms: i64,
    found: &mut Vec<Candidate>,
) -> Result<(), ReadError> {
    let oldest = UNIX_EPOCH + Duration::from_millis(u64::try_from(oldest_unix_ms).unwrap_or_default());
    let io = |source| ReadError::Io { path: directory.to_path_buf(), source };
    for entry in fs::read_dir(directory).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // Of a link, that it is one.
        let metadata = entry.metadata().map_err(io)?;
        if metadata.is_dir() {
            if let [partition, deeper @ ..] = partitions
                && name.strip_prefix(partition.as_str()).is_some_and(|rest| rest.starts_with('='))
                && !entry.path().join("_delta_log").exists()
            {
                collect(&entry.path(), deeper, oldest_unix_ms, found)?;
            }
        } else if metadata.is_file()
            && metadata.modified().map_err(io)? < oldest
            && let Some(id) = writers_id(name)
        {
            found.push(Candidate { path: entry.path(), size_bytes: metadata.len(), id: id.to_owned() });
        }
    }
    Ok(())
}

/// The UUID of `part-00000-<UUID>-c000.snappy.parquet`, also while it is written: `….parquet#1`.
fn writers_id(name: &str) -> Option<&str> {
    let (name, being_written) = name.split_once('#').unwrap_or((name, "0"));
    let rest = name.strip_prefix("part-")?.strip_suffix(".parquet")?;
    let (number, rest) = rest.split_once('-')?;
    let (id, rest) = rest.split_at_checked(36)?;
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_uuid = id.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    (is_digits(number) && is_digits(being_written) && is_uuid && rest.starts_with("-c")).then_some(id)
}

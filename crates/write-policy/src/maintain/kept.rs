//! Versions that somebody keeps: marks in the table itself, which every vacuum and log cleanup of ours honours, whoever asks for it.

use std::fs;
use std::io::{Error, ErrorKind};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use alluvium_contracts::RunId;

use super::error::MaintenanceError;
use super::lock::MaintenanceLock;
use crate::error::ReadError;
use crate::log::{head_version, oldest_readable_version};
use crate::table::TableDir;

/// Keeps the files and the commits of `versions` for `holder`, until [`release_versions`]: a vacuum leaves them alone, and so does a
/// log cleanup. It cannot bind other engines, and what they had deleted before is not brought back.
///
/// The mark is an empty file in the table's `_alluvium/kept`, named `<holder>.<first>-<last>`; every reader of the table skips it there.
///
/// # Errors
/// [`MaintenanceError::Busy`] while a vacuum may be under way, [`MaintenanceError::Table`] where there is no table or no such version,
/// [`MaintenanceError::Kept`] when the table's directory cannot be written.
pub fn keep_versions(table_dir: &Path, holder: RunId, versions: RangeInclusive<u64>) -> Result<(), MaintenanceError> {
    let path = table_dir.to_path_buf();
    let head = head_version(table_dir)?.ok_or_else(|| ReadError::NotATable { path: path.clone() })?;
    let (first, last) = versions.into_inner();
    if first > last || last > head {
        return Err(ReadError::NoSuchVersion { path, version: last }.into());
    }
    let table = TableDir::open(table_dir).map_err(|source| ReadError::Io { path, source })?;
    // A vacuum that has decided already what goes is waited out by nobody: the caller tries again.
    let _lock = MaintenanceLock::take(table.path())?;
    let marks = marks_dir(table.path());
    fs::create_dir_all(&marks).map_err(failed(&marks))?;
    let mark = marks.join(format!("{holder}.{first}-{last}"));
    fs::write(&mark, []).map_err(failed(&mark))
}

/// Keeps no version of the table for `holder` any more; `false` if none was kept. Nothing is deleted by this.
///
/// # Errors
/// [`MaintenanceError::Kept`] when the marks cannot be read or removed.
pub fn release_versions(table_dir: &Path, holder: RunId) -> Result<bool, MaintenanceError> {
    let mut released = false;
    for mark in marks(table_dir)?.into_iter().filter(|mark| mark.holder == holder) {
        match fs::remove_file(&mark.path) {
            Ok(()) => released = true,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&mark.path)(error)),
        }
    }
    Ok(released)
}

/// The versions that are kept and can still be read, in order, each once.
pub(super) fn kept_versions(table_dir: &Path) -> Result<Vec<u64>, MaintenanceError> {
    let marks = marks(table_dir)?;
    let (Some(oldest), Some(head)) = (oldest_readable_version(table_dir)?, head_version(table_dir)?) else {
        return Ok(Vec::new());
    };
    // What somebody else has made unreadable must not keep the rest of the table from being maintained.
    let readable = |mark: Mark| mark.first.max(oldest)..=mark.last.min(head);
    let mut versions: Vec<u64> = marks.into_iter().flat_map(readable).collect();
    versions.sort_unstable();
    versions.dedup();
    Ok(versions)
}

/// Whether the table's commits have to stay, because versions are kept. What cannot be read may keep some.
pub(crate) fn keeps_log(table_dir: &Path) -> bool {
    match fs::read_dir(marks_dir(table_dir)) {
        Ok(mut marks) => marks.next().is_some(),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

struct Mark {
    path: PathBuf,
    holder: RunId,
    first: u64,
    last: u64,
}

fn marks(table_dir: &Path) -> Result<Vec<Mark>, MaintenanceError> {
    let dir = marks_dir(table_dir);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&dir)(error)),
    };
    let mut marks = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(&dir))?.path();
        // A mark that is not understood may keep anything: nothing is deleted past it.
        let unread = || failed(&path)(Error::new(ErrorKind::InvalidData, "its name is not `<run id>.<first>-<last>`"));
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once('.'));
        let (holder, versions) = name.ok_or_else(unread)?;
        let (first, last) = versions.split_once('-').ok_or_else(unread)?;
        let [first, last] = [first, last].map(|version| version.parse().ok());
        let (Ok(holder), Some(first), Some(last)) = (holder.parse(), first, last) else {
            return Err(unread());
        };
        marks.push(Mark { holder, first, last, path });
    }
    Ok(marks)
}

fn marks_dir(table_dir: &Path) -> PathBuf {
    table_dir.join("_alluvium").join("kept")
}

fn failed(path: &Path) -> impl FnOnce(Error) -> MaintenanceError {
    let path = path.to_path_buf();
    move |source| MaintenanceError::Kept { path, source }
}

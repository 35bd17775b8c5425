//! Syncing a table to its device, so that what a commit says is there after a power cut too.
//!
//! Data files come first, with the names that lead to them, and the commit after them: a commit that outlives the files that it adds
//! is a damaged table, and one that is lost with them is a write that was not made.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{CommitError, ReadError, WriteError};
use crate::files::StagedFiles;
use crate::log::commit_path;

/// Syncs files that no commit refers to yet.
pub(crate) async fn sync_staged(staged: &StagedFiles) -> Result<(), WriteError> {
    let (mut paths, mut directories) = (Vec::new(), BTreeSet::from([staged.table.clone()]));
    for file in staged.files() {
        let path = staged.table.join(&file.path);
        directories.extend(path.ancestors().skip(1).take_while(|above| *above != staged.table).map(PathBuf::from));
        paths.push(path);
    }
    paths.extend(directories);
    sync_all(paths).await.map_err(|source| WriteError::Store { path: staged.table.clone(), source: source.into() })
}

/// Syncs a commit that landed; the first one with the names of the table and its log.
pub(crate) async fn sync_commit(table: &Path, version: u64) -> Result<(), CommitError> {
    let commit = commit_path(table, version);
    let log = commit.parent().unwrap_or(table);
    let above = [Some(table), table.parent()].into_iter().flatten().filter(|_| version == 0);
    let paths = [commit.as_path(), log].into_iter().chain(above).map(PathBuf::from).collect();
    let synced = sync_all(paths).await;
    synced.map_err(|source| CommitError::Unsynced { path: table.to_path_buf(), version, source })
}

/// Syncs every file of a table, of its log and of its directories: for who finds a commit that somebody else made, and relies on it.
///
/// # Errors
/// [`ReadError::Io`] with what could not be synced.
pub fn sync_table(table_dir: &Path) -> Result<(), ReadError> {
    let io = |source| ReadError::Io { path: table_dir.to_path_buf(), source };
    for entry in fs::read_dir(table_dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        match entry.file_type().map_err(io)? {
            kind if kind.is_dir() => sync_table(&entry.path())?,
            kind if kind.is_file() => match sync(&entry.path()) {
                // What a commit under way has moved to its place.
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ReadError::Io { path: entry.path(), source });
                }
                _ => {}
            },
            _ => {}
        }
    }
    sync(table_dir).map_err(io)
}

/// Syncs one after the other, on a thread of their own: tables that are written side by side wait for the device together.
async fn sync_all(paths: Vec<PathBuf>) -> io::Result<()> {
    #[cfg(test)]
    SYNCED.with_borrow_mut(|synced| synced.extend(paths.iter().cloned()));
    tokio::task::spawn_blocking(move || paths.iter().try_for_each(|path| flush(path))).await?
}

fn sync(path: &Path) -> io::Result<()> {
    #[cfg(test)]
    SYNCED.with_borrow_mut(|synced| synced.push(path.to_path_buf()));
    flush(path)
}

fn flush(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
thread_local! {
    /// What was synced for this thread, in order.
    pub(crate) static SYNCED: std::cell::RefCell<Vec<PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
}

//! Reading back by replaying the log.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use alluvium_contracts::ContentDigest;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::LogicalFileView;
use parquet::file::metadata::ParquetMetaDataReader;
use serde_json::Value;

use crate::error::ReadError;
use crate::files::{DIGEST_TAG, DataFile, ORDER_TAG};
use crate::log::head_version;
use crate::table::{Loaded, TableDir};
use crate::write::row_count;

/// The version of the application transaction that the table records for `app_id`. `None`: no table, or no such
/// transaction.
///
/// # Errors
/// [`ReadError`] when the log cannot be read.
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn transaction_version(table_dir: &Path, app_id: &str) -> Result<Option<i64>, ReadError> {
    if head_version(table_dir)?.is_none() {
        return Ok(None);
    }
    let loaded = open(table_dir)?.load(None).await?;
    recorded_transaction(table_dir, &loaded, app_id).await
}

pub(crate) async fn recorded_transaction(
    table_dir: &Path,
    loaded: &Loaded,
    app_id: &str,
) -> Result<Option<i64>, ReadError> {
    loaded
        .state
        .transaction_version(&loaded.log_store, app_id)
        .await
        .map_err(|source| ReadError::Log { path: table_dir.to_path_buf(), source: source.into() })
}

/// The data files of a version, by log replay; in order of their paths, with the digests that the
/// log holds.
///
/// # Errors
/// [`ReadError::NotPlainFiles`] when the files do not tell the rows (deletion vectors, column mapping, files outside the
/// table), another [`ReadError`] when the log cannot be read.
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn active_files(table_dir: &Path, version: u64) -> Result<Vec<DataFile>, ReadError> {
    match head_version(table_dir)? {
        None => {
            return Err(ReadError::NotATable { path: table_dir.to_path_buf() });
        }
        Some(head) if version > head => {
            return Err(ReadError::NoSuchVersion { path: table_dir.to_path_buf(), version });
        }
        Some(_) => {}
    }
    let table = open(table_dir)?;
    let loaded = table.load(Some(version)).await?;
    let not_plain = |feature| Err(ReadError::NotPlainFiles { path: table_dir.to_path_buf(), feature });
    let mapping = loaded.state.metadata().configuration().get("delta.columnMapping.mode");
    if mapping.is_some_and(|mode| mode != "none") {
        return not_plain("column mapping");
    }
    let mut files = Vec::new();
    for file in loaded.state.log_data().iter() {
        if file.deletion_vector_descriptor().is_some() {
            return not_plain("deletion vectors");
        }
        let path = file.path().into_owned();
        if path.starts_with('/') || path.contains("://") || path.starts_with("file:") {
            return not_plain("files outside the table");
        }
        let mut found = in_log(&file);
        if rows_in_log(&file).is_none() {
            // Statistics are optional in Delta: what the log does not say, the file does.
            found.row_count = footer_rows(&table.path().join(&path))?;
        }
        files.push(found);
    }
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// The columns by which the rows of a version are in order: inside each file, and over the files of each partition, which
/// do not overlap. `None`: no one write has ordered all of its files. It is read from the files' own tags, so an append, a
/// rewrite or another engine's commit takes the order from the version that it makes.
///
/// # Errors
/// As [`active_files`].
///
/// # Panics
/// Outside a Tokio runtime.
pub async fn table_order(table_dir: &Path, version: u64) -> Result<Option<Vec<String>>, ReadError> {
    let head = head_version(table_dir)?;
    match head {
        None => return Err(ReadError::NotATable { path: table_dir.to_path_buf() }),
        Some(head) if version > head => {
            return Err(ReadError::NoSuchVersion { path: table_dir.to_path_buf(), version });
        }
        Some(_) => {}
    }
    Ok(order_of(&open(table_dir)?.load(Some(version)).await?))
}

/// The order that one write gave to all files of a version, and which place in it each file has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedOrder {
    /// The columns, ascending, NULLs first: inside each file, and over the files of each partition, which do not overlap.
    pub columns: Vec<String>,
    /// The place of each file among those of its partition, by its path in the log, decoded. Smaller ones come first.
    pub places: BTreeMap<String, u64>,
}

/// [`table_order`] of a table that is loaded already, at the version that it is loaded at, with the files.
///
/// `None` also of a table that is loaded without its files.
#[must_use]
pub fn recorded_order(table: &DeltaTable) -> Option<RecordedOrder> {
    recorded(table.snapshot().ok()?.snapshot().try_log_data().ok()?.iter())
}

/// The order that all files of a version share.
pub(crate) fn order_of(loaded: &Loaded) -> Option<Vec<String>> {
    recorded(loaded.state.log_data().iter()).map(|order| order.columns)
}

fn recorded(files: impl Iterator<Item = LogicalFileView>) -> Option<RecordedOrder> {
    let (mut order, mut places) = (None, BTreeMap::new());
    for file in files {
        let tag: Value = serde_json::from_str(&tag(&file, ORDER_TAG)?).ok()?;
        let this = (tag.get("write")?.clone(), tag.get("columns")?.clone());
        if *order.get_or_insert_with(|| this.clone()) != this {
            return None;
        }
        places.insert(file.path().into_owned(), tag.get("index")?.as_u64()?);
    }
    Some(RecordedOrder { columns: serde_json::from_value(order?.1).ok()?, places })
}

pub(crate) fn open(table_dir: &Path) -> Result<TableDir, ReadError> {
    TableDir::open(table_dir).map_err(|source| ReadError::Io { path: table_dir.to_path_buf(), source })
}

/// A file as the log has it; without rows where the log does not say.
pub(crate) fn in_log(file: &LogicalFileView) -> DataFile {
    DataFile {
        path: file.path().into_owned(),
        // The engine reads the size as a signed number, which no file is.
        size_bytes: u64::try_from(file.size()).unwrap_or_default(),
        row_count: rows_in_log(file).unwrap_or_default(),
        partition_values: file.partition_values_map().into_iter().collect(),
        digest: digest(file),
    }
}

/// The rows of a file, where the log says.
pub(crate) fn rows_in_log(file: &LogicalFileView) -> Option<u64> {
    file.stats().as_deref().and_then(row_count)
}

/// A tag that is no digest is somebody else's.
fn digest(file: &LogicalFileView) -> Option<ContentDigest> {
    tag(file, DIGEST_TAG)?.parse().ok()
}

pub(crate) fn tag(file: &LogicalFileView, key: &str) -> Option<String> {
    #[expect(deprecated, reason = "the engine gives tags in no other way")]
    let tags = file.add_action().tags?;
    tags.get(key)?.clone()
}

/// The rows of a Parquet file, as its footer has them. Only the footer is read.
///
/// # Errors
/// [`ReadError::Io`] when the file cannot be opened, [`ReadError::Footer`] when it has no footer.
pub fn footer_rows(path: &Path) -> Result<u64, ReadError> {
    let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_path_buf(), source })?;
    let footer = |source| ReadError::Footer { path: path.to_path_buf(), source };
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).map_err(|error| footer(error.into()))?;
    u64::try_from(metadata.file_metadata().num_rows()).map_err(|error| footer(error.into()))
}

//! A table directory, and the engine's view of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake_core::kernel::Protocol;
use deltalake_core::kernel::transaction::{PROTOCOL, TransactionError};
use deltalake_core::logstore::{LogStoreRef, ObjectStoreRef, StorageConfig, default_logstore};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaResult, DeltaTableError};
use object_store::local::LocalFileSystem;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::error::ReadError;
use crate::log::{commit_versions, parse_commit};

/// From here on readers go by the names of features.
const NEWEST_READER_VERSION: u32 = 3;

/// A table directory that exists, in its canonical form: the engine's URLs know neither `..` nor relative paths.
#[derive(Debug, Clone)]
pub(crate) struct TableDir {
    path: PathBuf,
}

/// A loaded version of a table.
pub(crate) struct Loaded {
    pub(crate) state: DeltaTableState,
    pub(crate) log_store: LogStoreRef,
}

impl TableDir {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = fs::canonicalize(path)?;
        if !path.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A log store whose root is the table itself. Under a URL that holds the directory's own path the engine decodes
    /// that path twice, and a directory called `%20` is looked for under the name of a space.
    pub(crate) fn log_store(&self) -> DeltaResult<LogStoreRef> {
        let root = Url::parse("file:///").map_err(|error| DeltaTableError::InvalidTableLocation(error.to_string()))?;
        let store: ObjectStoreRef = Arc::new(self.store()?);
        Ok(default_logstore(Arc::clone(&store), store, &root, &StorageConfig::default()))
    }

    /// The table's files, under their paths relative to the table.
    pub(crate) fn store(&self) -> object_store::Result<LocalFileSystem> {
        LocalFileSystem::new_with_prefix(&self.path)
    }

    /// Replays the log up to `version`, or to its end.
    pub(crate) async fn load(&self, version: Option<u64>) -> Result<Loaded, ReadError> {
        let load = async {
            let log_store = self.log_store()?;
            let state = DeltaTableState::try_new(&log_store, version).await?;
            Ok(Loaded { state, log_store })
        };
        load.await.map_err(|error| match error {
            DeltaTableError::NotATable(_) => ReadError::NotATable { path: self.path.clone() },
            source => match unreadable_feature(&self.path) {
                Some(feature) => ReadError::Unsupported { path: self.path.clone(), feature, source: source.into() },
                None => ReadError::Log { path: self.path.clone(), source: source.into() },
            },
        })
    }
}

/// What the newest protocol in the log's commits asks of readers beyond what the engine can.
fn unreadable_feature(table: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        protocol: Option<Value>,
    }

    let newest_first = commit_versions(table).ok()?.into_iter().rev();
    let protocol = newest_first
        .filter_map(|version| parse_commit::<Line>(table, version).ok())
        .find_map(|lines| lines.into_iter().find_map(|line| line.protocol))?;
    let reader_version = crate::policy::Protocol::from_action(&protocol).min_reader_version;
    if reader_version > NEWEST_READER_VERSION {
        return Some(format!("reader version {reader_version}"));
    }
    let protocol: Protocol = serde_json::from_value(protocol).ok()?;
    match PROTOCOL.can_read_from_protocol(&protocol) {
        Err(TransactionError::UnsupportedTableFeatures(features)) => {
            let mut names: Vec<String> = features.iter().map(ToString::to_string).collect();
            names.sort_unstable();
            Some(names.join(", "))
        }
        _ => None,
    }
}

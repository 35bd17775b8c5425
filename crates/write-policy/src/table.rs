//! A table directory, and the engine's view of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deltalake_core::logstore::{LogStoreRef, ObjectStoreRef, StorageConfig, default_logstore};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaResult, DeltaTableError};
use object_store::local::LocalFileSystem;
use url::Url;

use crate::error::ReadError;

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
            source => ReadError::Log { path: self.path.clone(), source: source.into() },
        })
    }
}

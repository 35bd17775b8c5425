//! A table directory, and the engine's view of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deltalake_core::logstore::{LogStoreRef, StorageConfig, logstore_for};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaResult, DeltaTableError};
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

    pub(crate) fn log_store(&self) -> DeltaResult<LogStoreRef> {
        let url = Url::from_directory_path(&self.path)
            .map_err(|()| DeltaTableError::InvalidTableLocation(self.path.display().to_string()))?;
        logstore_for(&url, StorageConfig::default())
    }

    /// Replays the log up to `version`, or to its end.
    pub(crate) async fn load(&self, version: Option<u64>) -> Result<Loaded, ReadError> {
        let load = async {
            let log_store = self.log_store()?;
            let state = DeltaTableState::try_new(&log_store, version).await?;
            Ok(Loaded { state, log_store })
        };
        load.await.map_err(|error| match error {
            DeltaTableError::NotATable(_) => ReadError::NotATable {
                path: self.path.clone(),
            },
            source => ReadError::Log {
                path: self.path.clone(),
                source: source.into(),
            },
        })
    }
}

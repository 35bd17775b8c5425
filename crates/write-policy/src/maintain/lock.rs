//! One maintainer a table, over all processes.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::error::MaintenanceError;

/// The lock of a table's maintenance, held until it is dropped or its process ends.
///
/// It lies in the table's own `_alluvium/`, where every reader of the table skips it. It excludes whoever takes it: a
/// foreign OPTIMIZE does not, and the engine's lets two of them land on the same files.
#[derive(Debug)]
pub(crate) struct MaintenanceLock {
    _file: File,
}

impl MaintenanceLock {
    pub(crate) fn take(table: &Path) -> Result<Self, MaintenanceError> {
        let io = |source| MaintenanceError::Lock { path: table.to_path_buf(), source };
        let directory = table.join("_alluvium");
        fs::create_dir_all(&directory).map_err(io)?;
        let path = directory.join("maintenance.lock");
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(MaintenanceError::Busy { path: table.to_path_buf() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

//! Events in a file, one JSON envelope a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use alluvium_contracts::{DiagnosticsEvent, Envelope};

use super::DiagnosticsSink;

/// Largest file that is written to: past it, events are counted and not written.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Appends each event to a file, in its envelope and in one write, so that processes may share it.
#[derive(Debug)]
pub struct JsonLinesSink {
    file: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    written_bytes: u64,
    lost: u64,
}

impl JsonLinesSink {
    /// Opens `path` for appending, or creates it.
    ///
    /// # Errors
    /// What opening the file fails with; [`io::ErrorKind::InvalidInput`] for a pipe, which might hold up the work until somebody reads.
    pub fn open(path: &Path) -> io::Result<Self> {
        if is_pipe(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe, and not a file"));
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written_bytes = file.metadata()?.len();
        Ok(Self { file: Mutex::new(Open { file, written_bytes, lost: 0 }) })
    }

    /// Events that could not be written.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).lost
    }
}

/// Whether a pipe with a name is there: opening one waits for its reader.
pub(crate) fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    return std::fs::metadata(path)
        .is_ok_and(|metadata| std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()));
    #[cfg(not(unix))]
    return false;
}

/// What was lost is told once, at the end.
impl Drop for Open {
    fn drop(&mut self) {
        if self.lost > 0 {
            tracing::warn!(
                target: "alluvium.diagnostics",
                "the file of diagnostics is not complete: {} events were not written; is its disk full, or the file?",
                self.lost
            );
        }
    }
}

impl DiagnosticsSink for JsonLinesSink {
    fn emit(&self, event: &DiagnosticsEvent) {
        let line = serde_json::to_vec(&Envelope::new(event.clone())).map(|mut line| {
            line.push(b'\n');
            line
        });
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match line {
            Ok(line) if open.written_bytes < MAX_FILE_BYTES => {
                open.written_bytes += line.len() as u64;
                open.file.write_all(&line)
            }
            Ok(_) => Err(io::ErrorKind::FileTooLarge.into()),
            Err(error) => Err(error.into()),
        };
        if written.is_err() {
            open.lost += 1;
        }
    }
}

//! What can go wrong with the ledgers.

use std::io;
use std::path::{Path, PathBuf};

use alluvium_contracts::RunId;
use alluvium_disk_kv_cache::StoreError;
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake_core::DeltaTableError;

use crate::Ledger;

/// An operation on the ledgers failed. Events that were recorded before stay recorded, whatever failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store of the outbox.
    #[error("the outbox of the ledgers could not be used; nothing was recorded or taken out")]
    Store(#[from] StoreError),
    /// A value of the outbox's own book-keeping is not what this crate writes.
    #[error("the outbox's record `{key}` is damaged; move the queue store away to have it created anew")]
    Record {
        /// The key in the queue store.
        key: String,
    },
    /// An event, or a run's row, cannot be encoded.
    #[error("a ledger event could not be encoded")]
    Encode(#[source] serde_json::Error),
    /// Rows do not make a batch of their ledger's schema.
    #[error("the rows of ledger {ledger} could not be assembled; they stay in the outbox")]
    Assemble {
        /// The ledger.
        ledger: Ledger,
        /// The cause.
        #[source]
        source: ArrowError,
    },
    /// A query's answer is no rows of the ledger.
    #[error("the answer of a query is no rows of ledger {ledger}; select every column of it")]
    Decode {
        /// The ledger.
        ledger: Ledger,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The operating system refused something.
    #[error("could not {action} {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The refusal.
        #[source]
        source: io::Error,
    },
    /// The run was begun before, here or in another process.
    #[error("run {run_id} was begun already; draw a new run id")]
    RunBegun {
        /// The run.
        run_id: RunId,
    },
    /// The run has been ended or closed before.
    #[error("run {run_id} is not open: it has its row in the ledgers already, and gets no second one")]
    RunNotOpen {
        /// The run.
        run_id: RunId,
    },
    /// The summary is another run's.
    #[error("run {run_id} cannot be ended with the summary of run {summary_of}")]
    OtherRun {
        /// The run that was to be ended.
        run_id: RunId,
        /// The run that the summary names.
        summary_of: RunId,
    },
    /// Another process is draining, and did not finish in time.
    #[error(
        "another process has been draining the ledgers for more than {waited_ms} ms (it holds {}); \
         the events are safe in the outbox, try again later",
        path.display()
    )]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// The ledger was written by a newer Alluvium, or needs a Delta feature that this build lacks.
    #[error(
        "ledger {ledger} in {} has a newer format than this build understands ({found}); use a newer alluvium",
        path.display()
    )]
    NewerFormat {
        /// The ledger.
        ledger: Ledger,
        /// Its directory.
        path: PathBuf,
        /// What was met that is unknown here.
        found: String,
    },
    /// The ledger's files could not be read, which says nothing of whether they are sound.
    #[error("ledger {ledger} in {} could not be read; nothing was changed", path.display())]
    Unreadable {
        /// The ledger.
        ledger: Ledger,
        /// The file or directory that refused.
        path: PathBuf,
        /// The refusal.
        #[source]
        source: io::Error,
    },
    /// Files of the ledger are there, and are not what was written: rows of it could not be read.
    #[error(
        "ledger {ledger} in {} is damaged: {found}; put its files back from a copy, or move the directory away: the ledger is \
         begun anew then, without the rows that it held",
        path.display()
    )]
    Damaged {
        /// The ledger.
        ledger: Ledger,
        /// Its directory.
        path: PathBuf,
        /// What was found, file by file.
        found: String,
    },
    /// The engine could not make a scan of a table that it had loaded.
    #[error("ledger {ledger} in {} could not be made a table for SQL", path.display())]
    Scan {
        /// The ledger.
        ledger: Ledger,
        /// Its directory.
        path: PathBuf,
        /// The engine's word.
        #[source]
        source: Box<DataFusionError>,
    },
    /// The engine could not look up how far a ledger has been drained.
    #[error("ledger {ledger} in {} could not be asked how far it was drained", path.display())]
    Progress {
        /// The ledger.
        ledger: Ledger,
        /// Its directory.
        path: PathBuf,
        /// The engine's word.
        #[source]
        source: Box<DeltaTableError>,
    },
    /// A batch of rows could not be committed.
    #[error("could not append to ledger {ledger} in {}; its events stay in the outbox", path.display())]
    Append {
        /// The ledger.
        ledger: Ledger,
        /// Its directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync + 'static>,
    },
}

impl LedgerError {
    pub(crate) fn io<'p>(path: &'p Path, action: &'static str) -> impl FnOnce(io::Error) -> LedgerError + 'p {
        move |source| LedgerError::Io { path: path.to_path_buf(), action, source }
    }

    pub(crate) fn append(
        ledger: Ledger,
        path: &Path,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> LedgerError {
        LedgerError::Append { ledger, path: path.to_path_buf(), source: Box::new(source) }
    }
}

//! What can be wrong with the files of a store.

use std::path::PathBuf;

use thiserror::Error;

/// The error of the engine underneath, kept as a `source()`.
pub type EngineError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What is wrong with a data file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file ends before the data that its header speaks of.
    #[error("the data file is {bytes} bytes long but must have at least {needed_bytes}")]
    TooShort {
        /// The length found, in bytes.
        bytes: u64,
        /// The length that the header requires, in bytes.
        needed_bytes: u64,
    },
    /// A meta page has no LMDB magic number or is not marked as a meta page: some other file, or overwritten.
    #[error("meta page {page} of the data file is not one of LMDB's")]
    NotMeta {
        /// 0 or 1.
        page: u64,
    },
    /// The data file has a format version this crate does not read.
    #[error("the data file has format version {found}, not {expected}")]
    Version {
        /// The version found.
        found: u32,
        /// The version this crate reads and writes.
        expected: u32,
    },
    /// A number in a meta page is impossible.
    #[error("{field} is {value} in meta page {page} of the data file, which cannot be")]
    Field {
        /// 0 or 1.
        page: u64,
        /// The field.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// The page at the root of a tree is not a page of a tree.
    #[error("page {page} of the data file should be the root of a tree and is not")]
    Root {
        /// The page number.
        page: u64,
    },
    /// `data.mdb` or `lock.mdb` is a symbolic link, a directory or another special file.
    #[error("{} is not a regular file", file.display())]
    NotAFile {
        /// The offending path.
        file: PathBuf,
    },
    /// The engine found the damage.
    #[error("the engine found the data inconsistent")]
    Engine(#[source] EngineError),
    /// A page that the trees lead to is not what it must be there.
    #[error("page {page} of the data file {problem}")]
    Page {
        /// The page number.
        page: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A count that is kept with a table is not what was counted.
    #[error("table {table:?} says it has {expected} {counted} and has {found}")]
    Count {
        /// The table; one of the engine's own if empty.
        table: String,
        /// What was counted.
        counted: &'static str,
        /// The number that is kept.
        expected: u64,
        /// The number that was counted.
        found: u64,
    },
    /// The files hold an earlier state than the one that the store was closed with.
    #[error(
        "the files hold the state after {found} commits, but the store was closed after {expected} (if that is a copy you \
         have put back, delete the file `closed` beside it)"
    )]
    Lost {
        /// The number of commits when the store was closed well.
        expected: u64,
        /// The number of commits found.
        found: u64,
    },
    /// A row that should hold a long key does not.
    #[error("a row of table {table:?} should hold a long key and does not")]
    LongKey {
        /// The table.
        table: String,
    },
}

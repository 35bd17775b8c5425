//! What is wrong with an entry that was looked at: damage, told from what the system did not let be read.

use std::error::Error;
use std::io::{self, ErrorKind};

use alluvium_datasets::HashError;
use alluvium_write_policy::ReadError;

use crate::adopt::NoEntry;

/// Why an entry was not found to be as it was written.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Something is missing or changed.
    Damaged(String),
    /// The system did not let it be read: no permission, no descriptor left, a disk that fails. That says nothing of what is there, so
    /// it is no reason to set anything aside.
    Unreadable(ReadError),
}

impl Fault {
    /// In words.
    pub(crate) fn why(self) -> String {
        match self {
            Self::Damaged(why) => why,
            Self::Unreadable(error) => error.to_string(),
        }
    }
}

/// Of an entry that there was.
impl From<NoEntry> for Fault {
    fn from(none: NoEntry) -> Self {
        match none {
            NoEntry::Unreadable(error) => Self::Unreadable(error),
            NoEntry::Other(why) | NoEntry::Damaged(why) => Self::Damaged(why),
        }
    }
}

/// Why a file could not be hashed, where the system did not let it be read.
///
/// # Errors
/// The error as it was, where it says what is there.
pub(crate) fn refused(error: HashError) -> Result<ReadError, HashError> {
    match error {
        HashError::PermissionDenied { path, source } | HashError::Io { path, source } if is_refusal(&source) => {
            Ok(ReadError::Io { path, source })
        }
        error => Err(error),
    }
}

/// Whether an error, or what lies behind it, is that the system did not let a file be read.
pub(crate) fn is_unreadable(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(is_refusal) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// That there is no file is an answer. And what does not come from the system is said by a reader of what it has read: a file that ends too
/// early, a page that does not decompress.
fn is_refusal(error: &io::Error) -> bool {
    let is_answer = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory);
    error.raw_os_error().is_some() && !is_answer
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_the_system_refuses_is_told_from_what_is_there() {
        let path = || PathBuf::from("/t/a");
        // ENOENT, EIO, EACCES, ENOTDIR, EISDIR, EMFILE.
        let of_system = [(2, false), (5, true), (13, true), (20, false), (21, false), (24, true)];
        for (number, is_refused) in of_system {
            let error = || io::Error::from_raw_os_error(number);
            assert_eq!(is_unreadable(&error()), is_refused, "{}", error());
            let read = ReadError::Io { path: path(), source: error() };
            let footer = ReadError::Footer { path: path(), source: Box::new(error()) };
            assert_eq!([is_unreadable(&read), is_unreadable(&footer)], [is_refused; 2], "{}", error());
            assert_eq!(refused(HashError::Io { path: path(), source: error() }).is_ok(), is_refused, "{}", error());
        }
        for of_reader in [io::Error::from(ErrorKind::UnexpectedEof), io::Error::other("no such frame")] {
            assert!(!is_unreadable(&of_reader), "{of_reader}");
        }
        assert!(!is_unreadable(&ReadError::EmptyCommit { path: path() }));
        assert!(refused(HashError::NotAFile { path: path() }).is_err());
    }
}

//! Why an operation on a collection failed.

use thiserror::Error;

use crate::{CodecError, KeyError, StoreError};

/// Why an operation on a [`Deque`](crate::Deque), an [`Index`](crate::Index) or a [`WorkQueue`](crate::WorkQueue) failed.
/// One that fails has changed nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CollectionError {
    /// The store underneath failed.
    #[error("the store of the collection failed")]
    Store(#[from] StoreError),
    /// A value could not become bytes, or bytes are not such a value.
    #[error("a value of the collection cannot be used")]
    Value(#[from] ValueError),
    /// A stored key is of another type.
    #[error("a key of the collection cannot be used")]
    Key(#[from] KeyError),
    /// What is stored does not match its checksum, or contradicts another table. It is never returned as a value.
    #[error("the entry {key:?} of table {table:?} is damaged: clear the collection, or restore it")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The stored key.
        key: Vec<u8>,
    },
    /// A copy was asked for into a collection that holds something.
    #[error("the copy would mix with {len} items that are there already: copy into an empty directory, or clear it")]
    NotEmpty {
        /// How many items the target holds.
        len: u64,
    },
    /// The numbers of a queue within an index have reached their last on one side.
    #[error("the queue has no number left on this side: pull from it until it is empty, or use the other side")]
    QueueFull,
    /// A setting is out of its range.
    #[error("{field} must be {rule}")]
    InvalidSetting {
        /// The setting.
        field: &'static str,
        /// What is allowed.
        rule: &'static str,
    },
}

/// Why a value cannot become bytes, or bytes cannot become a value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Serializing failed.
    #[error("a {type_name:?} could not be stored")]
    Encode {
        /// [`Record::TYPE`](crate::Record::TYPE).
        type_name: &'static str,
        /// The cause.
        #[source]
        source: CodecError,
    },
    /// The bytes carry the right tag, and still are not such a value.
    #[error("the stored bytes are not the {type_name:?} of version {version} that they are said to be")]
    Decode {
        /// [`Record::TYPE`](crate::Record::TYPE).
        type_name: &'static str,
        /// [`Record::VERSION`](crate::Record::VERSION).
        version: u32,
        /// The cause.
        #[source]
        source: CodecError,
    },
    /// The value was stored as another type, or by another version of it.
    #[error(
        "a {stored_type:?} of version {stored_version} is stored where a {type_name:?} of version {version} was asked for: \
         read it as what it is, or delete it"
    )]
    OtherType {
        /// The type asked for.
        type_name: &'static str,
        /// The version asked for.
        version: u32,
        /// The type stored.
        stored_type: String,
        /// The version stored.
        stored_version: u32,
    },
    /// The bytes carry no tag: they were stored raw, or by something else.
    #[error(
        "the stored bytes carry no type in MessagePack: read them as raw bytes (`Vec<u8>`), not as a {type_name:?}"
    )]
    Untagged {
        /// The type asked for.
        type_name: &'static str,
    },
}

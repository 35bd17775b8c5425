//! What the shell answers when a request cannot be done.

use std::error::Error;
use std::io;

use alluvium_disk_kv_cache::{
    CacheError, CollectionError, CoordinationError, CopyError, LockError, MemoError, OpenCacheError, OpenError,
    StoreError,
};
use serde::Serialize;

/// An error as an answer: a kind for programs, a message for people, and the field that is at fault.
#[derive(Debug, Serialize)]
pub struct Fault {
    kind: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

/// Every kind there is, as docs/reference/kv-shell.md lists them.
pub mod kind {
    /// The line is not JSON, or nests too deeply.
    pub const BAD_JSON: &str = "bad_json";
    /// A field is missing, unknown, or not what it should be.
    pub const BAD_REQUEST: &str = "bad_request";
    /// There is no such operation.
    pub const UNKNOWN_OPERATION: &str = "unknown_operation";
    /// The line is longer than allowed.
    pub const LINE_TOO_LONG: &str = "line_too_long";
    /// What the directory holds cannot do it.
    pub const UNSUPPORTED: &str = "unsupported";
    /// The shell holds the lock already.
    pub const ALREADY_HELD: &str = "already_held";
    /// A key is longer than the store takes.
    pub const KEY_TOO_LONG: &str = "key_too_long";
    /// A value does not fit where it is to go.
    pub const VALUE_TOO_LONG: &str = "value_too_long";
    /// `incr` of something else.
    pub const NOT_AN_INTEGER: &str = "not_an_integer";
    /// A number leaves its range.
    pub const OVERFLOW: &str = "overflow";
    /// The target of a copy holds something.
    pub const NOT_EMPTY: &str = "not_empty";
    /// Something was made or opened with other settings.
    pub const CONFLICT: &str = "conflict";
    /// A transaction over several shards was committed in some of them.
    pub const PARTLY_DONE: &str = "partly_done";
    /// The directory or files in it were removed or replaced while the shell had it open.
    pub const REPLACED: &str = "replaced";
    /// Stored data is not what was stored.
    pub const DAMAGED: &str = "damaged";
    /// No room on the device or in the map.
    pub const NO_SPACE: &str = "no_space";
    /// The system refuses access.
    pub const PERMISSION_DENIED: &str = "permission_denied";
    /// Nobody reads the answers any more.
    pub const ABANDONED: &str = "abandoned";
    /// Anything else of the system or the engine.
    pub const FAILED: &str = "failed";
}

impl Fault {
    /// A fault of a kind.
    pub fn new(kind: &'static str, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into(), field: None }
    }

    /// A field that is not what it should be: `rule` says what it must be.
    pub fn field(at: &str, rule: impl Into<String>) -> Fault {
        let message = format!("`{at}` {}", rule.into());
        Fault { kind: kind::BAD_REQUEST, message, field: Some(at.to_owned()) }
    }

    /// An error, with all its causes.
    pub fn of(kind: &'static str, error: &dyn Error) -> Fault {
        let mut message = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // Some foreign errors repeat their cause.
            if !message.contains(&text) {
                message.push_str(&format!(": {text}"));
            }
            next = cause.source();
        }
        Fault { kind, message, field: None }
    }

    /// An error of a memoization.
    pub fn from_memo<E: Error + 'static>(error: &MemoError<E>) -> Fault {
        let kind = match error {
            MemoError::Cache(error) => of_cache(error),
            MemoError::Turn(error) => of_lock(error),
            _ => kind::FAILED,
        };
        Fault::of(kind, error)
    }

    /// Gives a fault that names no field a place: the part of the request that it is about.
    pub fn within(mut self, at: &str) -> Fault {
        if self.field.is_none() {
            self.message = format!("`{at}`: {}", self.message);
            self.field = Some(at.to_owned());
        }
        self
    }

    /// The message alone.
    pub fn into_message(self) -> String {
        self.message
    }

    /// See [`kind`].
    #[cfg(test)]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The field at fault.
    #[cfg(test)]
    pub fn place(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

/// Gives an error of the library its kind.
macro_rules! kinds {
    ($($error:ty => $kind:ident),+ $(,)?) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Fault {
                Fault::of($kind(&error), &error)
            }
        })+
    };
}

kinds! {
    OpenError => of_open,
    OpenCacheError => of_open_cache,
    CacheError => of_cache,
    CollectionError => of_collection,
    CopyError => of_copy,
    CoordinationError => of_coordination,
    LockError => of_lock,
    StoreError => of_store,
    io::Error => of_io,
}

fn of_open(error: &OpenError) -> &'static str {
    match error {
        OpenError::PermissionDenied { .. } => kind::PERMISSION_DENIED,
        OpenError::NoSpace { .. } => kind::NO_SPACE,
        OpenError::Damaged { .. } => kind::DAMAGED,
        OpenError::SettingsConflict { .. }
        | OpenError::OtherPidNamespace { .. }
        | OpenError::LockFileGone { .. }
        | OpenError::DurabilityConflict { .. }
        | OpenError::OpenForReading { .. } => kind::CONFLICT,
        OpenError::Unusable { source, .. } => of_store(source),
        OpenError::NetworkFileSystem { .. } | OpenError::NotADirectory { .. } | OpenError::Link { .. } => {
            kind::UNSUPPORTED
        }
        OpenError::Replaced { .. } => kind::REPLACED,
        _ => kind::FAILED,
    }
}

fn of_open_cache(error: &OpenCacheError) -> &'static str {
    match error {
        OpenCacheError::Store(error) => of_open(error),
        OpenCacheError::Cache(error) => of_cache(error),
        OpenCacheError::Shards { .. } | OpenCacheError::InShards { .. } | OpenCacheError::InOneStore { .. } => {
            kind::CONFLICT
        }
        OpenCacheError::MissingShard { .. }
        | OpenCacheError::OtherShard { .. }
        | OpenCacheError::ShardsUnknown { .. } => kind::DAMAGED,
        OpenCacheError::ShardCount { .. } => kind::BAD_REQUEST,
        _ => kind::FAILED,
    }
}

fn of_cache(error: &CacheError) -> &'static str {
    match error {
        CacheError::Store(error) => of_store(error),
        CacheError::NotAnInteger { .. } => kind::NOT_AN_INTEGER,
        CacheError::Overflow { .. } | CacheError::QueueFull { .. } => kind::OVERFLOW,
        CacheError::Tags => kind::BAD_REQUEST,
        CacheError::NoSpace { .. } => kind::NO_SPACE,
        CacheError::PartlyCommitted { .. } => kind::PARTLY_DONE,
        error if error.is_damage() => kind::DAMAGED,
        _ => kind::FAILED,
    }
}

fn of_collection(error: &CollectionError) -> &'static str {
    match error {
        CollectionError::Store(error) => of_store(error),
        CollectionError::Corrupt { .. } => kind::DAMAGED,
        CollectionError::NotEmpty { .. } => kind::NOT_EMPTY,
        CollectionError::QueueFull => kind::OVERFLOW,
        CollectionError::InvalidSetting { .. } | CollectionError::Key(_) => kind::BAD_REQUEST,
        _ => kind::FAILED,
    }
}

fn of_copy(error: &CopyError) -> &'static str {
    match error {
        CopyError::Open(error) => of_open(error),
        CopyError::Collection(error) => of_collection(error),
        CopyError::Itself { .. } => kind::BAD_REQUEST,
        _ => kind::FAILED,
    }
}

fn of_coordination(error: &CoordinationError) -> &'static str {
    match error {
        CoordinationError::Open(error) => of_open(error),
        CoordinationError::Locks { source, .. } => of_io(source),
        _ => kind::FAILED,
    }
}

fn of_lock(error: &LockError) -> &'static str {
    match error {
        LockError::Store(error) => of_store(error),
        LockError::State(error) => of_collection(error),
        LockError::Io { source, .. } => of_io(source),
        LockError::PermitsConflict { .. } => kind::CONFLICT,
        LockError::InvalidSetting { .. } => kind::BAD_REQUEST,
        _ => kind::FAILED,
    }
}

fn of_store(error: &StoreError) -> &'static str {
    match error {
        StoreError::ReadOnly { .. } => kind::PERMISSION_DENIED,
        StoreError::KeyLength { .. } => kind::KEY_TOO_LONG,
        StoreError::ValueLength { .. } => kind::VALUE_TOO_LONG,
        StoreError::Full { .. } | StoreError::NoSpace { .. } => kind::NO_SPACE,
        StoreError::Damaged { .. } => kind::DAMAGED,
        StoreError::Replaced { .. } => kind::REPLACED,
        _ => kind::FAILED,
    }
}

fn of_io(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => kind::NO_SPACE,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => kind::PERMISSION_DENIED,
        // What a reader of a value says where its bytes are not those that were stored.
        io::ErrorKind::InvalidData => kind::DAMAGED,
        _ => kind::FAILED,
    }
}

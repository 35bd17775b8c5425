#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod dataset;
mod delta;
mod error;
mod infer;
mod locate;
mod memo;
mod nan_safe;
mod null_regex;
mod options;
mod pin;
mod pinned_files;
mod scan;
mod schema_text;
mod spec;
mod stamp;
mod watched;

pub use dataset::PinnedDataset;
pub use error::{Change, ChangedError, PinError, SchemaConflict};
pub use locate::LocateError;
pub use memo::PinMemo;
pub use pin::{PinCounters, Pinner};
pub use pinned_files::{PinnedFile, PinnedFiles, PinnedFilesError};
pub use spec::{DatasetSpec, SpecError};
pub use stamp::{FileStamp, HashError, hash_file};

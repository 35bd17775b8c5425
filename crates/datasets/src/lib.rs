#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod columns;
mod conform;
mod dataset;
mod ddl;
mod delta;
mod delta_scan;
mod error;
mod file_table;
mod found;
mod infer;
mod layout;
mod locate;
mod memo;
mod nan_safe;
mod null_regex;
mod options;
mod ordering;
mod partitions;
mod pin;
mod pinned_files;
mod projection;
mod register;
mod scan;
mod schema_text;
mod shape;
mod shaped;
mod spec;
mod spec_error;
mod stamp;
mod watched;

pub use columns::{ColumnError, column_of, field_of};
pub use dataset::PinnedDataset;
pub use ddl::{CreateDataset, DdlError, Existing, SPEC_OPTION, create_external_table, parse_create_external_table};
pub use error::{Change, ChangedError, PinError, SchemaConflict};
pub use layout::ShapeError;
pub use locate::LocateError;
pub use memo::PinMemo;
pub use pin::{PinCounters, Pinner};
pub use pinned_files::{PinnedFile, PinnedFiles, PinnedFilesError};
pub use projection::ProjectionError;
pub use register::{RegisterError, Registration, register_dataset, register_dataset_ddl};
pub use spec::Dataset;
pub use spec_error::SpecError;
pub use stamp::{FileStamp, HashError, hash_file};

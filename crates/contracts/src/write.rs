//! How a Delta table is written: the policy a person declares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The layout of a written table (`[outputs.NAME.write]`). Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeltaWritePolicy {
    /// A data file is closed when it reaches this many bytes. Default: 96 MiB (100663296).
    #[schemars(range(min = 1))]
    pub target_file_size_bytes: u64,
    /// Columns whose values become directories, outermost first. Default: none.
    pub partition_by: Vec<String>,
    /// The Parquet codec of every column. Default: `snappy`.
    pub compression: Compression,
}

impl Default for DeltaWritePolicy {
    fn default() -> Self {
        Self { target_file_size_bytes: 96 * 1024 * 1024, partition_by: Vec::new(), compression: Compression::Snappy }
    }
}

/// A Parquet codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Snappy: the fastest to write and read.
    Snappy,
    /// Zstandard at level 3: smaller files for more time.
    Zstd,
    /// No compression.
    Uncompressed,
}

//! What one write does otherwise than its policy says.

#[cfg(doc)]
use alluvium_contracts::DeltaWritePolicy;
use alluvium_contracts::{DeltaFeature, SchemaMode, WriteMode, WriterPropertiesPolicy};

/// What one write does otherwise than its policy says. What is not said is as the policy says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteOverrides {
    /// Instead of [`DeltaWritePolicy::target_file_size_bytes`].
    pub target_file_size_bytes: Option<u64>,
    /// Instead of [`DeltaWritePolicy::partition_by`].
    pub partition_by: Option<Vec<String>>,
    /// Instead of [`DeltaWritePolicy::zorder_by`].
    pub zorder_by: Option<Vec<String>>,
    /// These columns get statistics, whatever `stats_policy` says.
    pub stats_columns: Option<Vec<String>>,
    /// Instead of [`DeltaWritePolicy::enable_features`].
    pub enable_features: Option<Vec<DeltaFeature>>,
    /// Instead of [`DeltaWritePolicy::mode`].
    pub mode: Option<WriteMode>,
    /// Instead of [`DeltaWritePolicy::keys`].
    pub keys: Option<Vec<String>>,
    /// Instead of [`DeltaWritePolicy::replace_where`].
    pub replace_where: Option<String>,
    /// Instead of [`DeltaWritePolicy::schema_mode`].
    pub schema_mode: Option<SchemaMode>,
    /// Instead of [`DeltaWritePolicy::writer_properties`].
    pub writer_properties: Option<WriterPropertiesPolicy>,
}

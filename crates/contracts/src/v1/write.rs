//! How a Delta table is written: the policies that a person declares.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bounds::{at_least_one, at_least_one_if_any};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::rate::FalsePositiveRate;
use crate::v1::sample::names;
use crate::words::words;

/// How a table is written (`[outputs.NAME.write]`). Unknown fields are refused.
///
/// Not every writer honours every field: [`DeltaWritePolicy::non_default_fields`] names what was asked for, so that a
/// writer can refuse by name what it would otherwise drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeltaWritePolicy {
    /// A data file is closed when it reaches this many bytes. Default: 96 MiB (100663296).
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub target_file_size_bytes: u64,
    /// Columns whose values become directories, outermost first. Default: none.
    pub partition_by: Vec<String>,
    /// Columns by which rows are ordered inside a partition, so that files hold ranges. Default: none.
    pub zorder_by: Vec<String>,
    /// Which columns have statistics in the log. Default: `auto`.
    pub stats_policy: StatsPolicy,
    /// The columns of `stats_policy = "explicit"`, in the order of their importance. Default: none.
    pub stats_columns: Option<Vec<String>>,
    /// At most so many columns have statistics. Default: 32.
    pub stats_max_columns: u32,
    /// Table features to switch on. Default: none.
    pub enable_features: Vec<DeltaFeature>,
    /// What to do about a feature that this build cannot read and write. Default: `error`.
    pub feature_gate: GateMode,
    /// What becomes of the rows that are there. Default: `overwrite`.
    pub mode: WriteMode,
    /// The columns that tell rows apart, for `merge` and `delete`. Default: none.
    pub keys: Vec<String>,
    /// The rows that are replaced, as an SQL predicate, for `replace_where`. Default: none.
    pub replace_where: Option<String>,
    /// CHECK constraints by name, as SQL predicates. Default: none.
    pub constraints: BTreeMap<String, String>,
    /// The semantic types that columns have to carry, by column, such as `NodeId`: what stands under `ARROW:extension:name`.
    /// Default: none.
    pub semantic_types: BTreeMap<String, String>,
    /// What may differ between the rows' schema and the table's. Default: `strict`.
    pub schema_mode: SchemaMode,
    /// How columns are found in the files. Default: `none`.
    pub column_mapping: ColumnMapping,
    /// Properties of the Parquet files.
    pub writer_properties: WriterPropertiesPolicy,
    /// What is done to the table after writing, and when.
    pub maintenance: MaintenancePolicy,
}

impl Default for DeltaWritePolicy {
    fn default() -> Self {
        Self {
            target_file_size_bytes: 96 * 1024 * 1024,
            partition_by: Vec::new(),
            zorder_by: Vec::new(),
            stats_policy: StatsPolicy::Auto,
            stats_columns: None,
            stats_max_columns: 32,
            enable_features: Vec::new(),
            feature_gate: GateMode::Error,
            mode: WriteMode::Overwrite,
            keys: Vec::new(),
            replace_where: None,
            constraints: BTreeMap::new(),
            semantic_types: BTreeMap::new(),
            schema_mode: SchemaMode::Strict,
            column_mapping: ColumnMapping::None,
            writer_properties: WriterPropertiesPolicy::default(),
            maintenance: MaintenancePolicy::default(),
        }
    }
}

impl DeltaWritePolicy {
    /// The schema part of the policy.
    #[must_use]
    pub fn schema_policy(&self) -> DeltaSchemaPolicy {
        DeltaSchemaPolicy { schema_mode: self.schema_mode, column_mapping: self.column_mapping }
    }

    /// The fields that ask for something: those that differ from their default, as dotted names such as
    /// `writer_properties.compression`, sorted.
    #[must_use]
    pub fn non_default_fields(&self) -> Vec<String> {
        let mut names = Vec::new();
        differing("", &object(self), &object(&Self::default()), &mut names);
        names
    }
}

/// A struct of text, numbers, lists and structs of them always encodes as an object.
fn object<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Parts of a policy that have fields of their own; anything else, maps included, is one field.
const PARTS: [&str; 2] = ["writer_properties", "maintenance"];

fn differing(prefix: &str, value: &Value, default: &Value, names: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let default = &default[name];
        if prefix.is_empty() && PARTS.contains(&name.as_str()) {
            differing(&format!("{name}."), value, default, names);
        } else if value != default {
            names.push(format!("{prefix}{name}"));
        }
    }
    names.sort_unstable();
}

impl Contract for DeltaWritePolicy {
    const KIND: &'static str = "delta_write_policy";
    const VERSION: u32 = 1;
    const DOC: &'static str = "how a Delta table is written: layout, statistics, features, mode";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refused;

    fn example() -> Self {
        Self {
            partition_by: names(["month"]),
            zorder_by: names(["origin", "flight_date"]),
            stats_policy: StatsPolicy::Explicit,
            stats_columns: Some(names(["flight_date", "delay"])),
            enable_features: vec![DeltaFeature::ChangeDataFeed],
            mode: WriteMode::Merge,
            keys: names(["flight_id"]),
            constraints: BTreeMap::from([("sane_delay".to_owned(), "delay > -1440".to_owned())]),
            semantic_types: BTreeMap::from([("flight_id".to_owned(), "NodeId".to_owned())]),
            schema_mode: SchemaMode::Merge,
            writer_properties: WriterPropertiesPolicy::example(),
            maintenance: MaintenancePolicy { compact_min_files: Some(16), ..MaintenancePolicy::default() },
            ..Self::default()
        }
    }
}

words!(
    /// Which columns have statistics in the log.
    StatsPolicy {
        /// None.
        Off => "off",
        /// Those of `stats_columns`.
        Explicit => "explicit",
        /// Z-order columns first, then those that readers filter, join and group by.
        Auto => "auto",
    }
);

words!(
    /// A table feature of the Delta protocol.
    DeltaFeature {
        /// Only appends are allowed.
        AppendOnly => "append_only",
        /// Invariants of columns.
        Invariants => "invariants",
        /// CHECK constraints.
        CheckConstraints => "check_constraints",
        /// Changes can be read row by row.
        ChangeDataFeed => "change_data_feed",
        /// Columns computed from others.
        GeneratedColumns => "generated_columns",
        /// Defaults of columns.
        AllowColumnDefaults => "allow_column_defaults",
        /// Columns are found by id or physical name.
        ColumnMapping => "column_mapping",
        /// Columns that count up.
        IdentityColumns => "identity_columns",
        /// Deleted rows are marked and not rewritten.
        DeletionVectors => "deletion_vectors",
        /// Rows keep an id.
        RowTracking => "row_tracking",
        /// Timestamps without a zone.
        TimestampNtz => "timestamp_ntz",
        /// Types of columns can widen.
        TypeWidening => "type_widening",
        /// Configuration by domain.
        DomainMetadata => "domain_metadata",
        /// Clustered tables.
        Clustering => "clustering",
        /// Checkpoints of the second format.
        V2Checkpoints => "v2_checkpoints",
        /// Commits carry their own time.
        InCommitTimestamps => "in_commit_timestamps",
        /// Vacuum checks the protocol.
        VacuumProtocolCheck => "vacuum_protocol_check",
        /// Readable as Iceberg, version 1.
        IcebergCompatV1 => "iceberg_compat_v1",
        /// Readable as Iceberg, version 2.
        IcebergCompatV2 => "iceberg_compat_v2",
        /// Semi-structured values.
        VariantType => "variant_type",
    }
);

words!(
    /// What to do about a feature that this build cannot read and write.
    GateMode {
        /// Refuse the write and name the feature.
        Error => "error",
        /// Leave the feature out and say so in the report.
        Warn => "warn",
        /// Leave the feature out.
        Ignore => "ignore",
    }
);

words!(
    /// What becomes of the rows that a table holds.
    WriteMode {
        /// They stay; the new ones join them.
        Append => "append",
        /// They go.
        Overwrite => "overwrite",
        /// They must not be there: a table that exists is an error.
        Error => "error",
        /// They stay, and nothing is written where a table exists.
        Ignore => "ignore",
        /// Those that match `replace_where` go; the new ones have to match it.
        ReplaceWhere => "replace_where",
        /// Those with the same `keys` are updated, others are inserted.
        Merge => "merge",
        /// Those with the same `keys` go.
        Delete => "delete",
    }
);

words!(
    /// What may differ between the schema of rows and that of their table.
    SchemaMode {
        /// New columns are added to the table.
        Merge => "merge",
        /// The table takes the schema of the rows.
        Overwrite => "overwrite",
        /// Nothing.
        Strict => "strict",
    }
);

words!(
    /// How columns are found in data files.
    ColumnMapping {
        /// By their name.
        None => "none",
        /// By a physical name.
        Name => "name",
        /// By a field id.
        Id => "id",
    }
);

/// What may differ between the rows' schema and the table's. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeltaSchemaPolicy {
    /// What may differ. Default: `strict`.
    pub schema_mode: SchemaMode,
    /// How columns are found in the files. Default: `none`.
    pub column_mapping: ColumnMapping,
}

impl Default for DeltaSchemaPolicy {
    fn default() -> Self {
        Self { schema_mode: SchemaMode::Strict, column_mapping: ColumnMapping::None }
    }
}

impl Contract for DeltaSchemaPolicy {
    const KIND: &'static str = "delta_schema_policy";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what may differ between the schema of rows and that of their table";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refused;

    fn example() -> Self {
        Self { schema_mode: SchemaMode::Merge, column_mapping: ColumnMapping::Name }
    }
}

words!(
    /// A Parquet codec.
    Compression {
        /// Snappy: the fastest to write and read.
        Snappy => "snappy",
        /// Zstandard at level 3: smaller files for more time.
        Zstd => "zstd",
        /// No compression.
        Uncompressed => "uncompressed",
    }
);

words!(
    /// How fine the statistics inside Parquet files are.
    StatisticsLevel {
        /// None, which leaves the log without statistics too.
        None => "none",
        /// For each column of a row group.
        Chunk => "chunk",
        /// For each page.
        Page => "page",
    }
);

/// Properties of Parquet files. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WriterPropertiesPolicy {
    /// The codec of every column. Default: `snappy`.
    pub compression: Compression,
    /// Columns with a dictionary. Default: all, where it pays; an empty list means none.
    pub dictionary_columns: Option<Vec<String>>,
    /// Columns with a Bloom filter. Default: none.
    pub bloom_filter_columns: Vec<String>,
    /// The share of absent values that a Bloom filter lets through. Default: 0.05.
    pub bloom_filter_fpp: FalsePositiveRate,
    /// Distinct values of a column in a row group, for the size of its Bloom filter. Default: 1000000.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub bloom_filter_ndv: u64,
    /// How fine the files' own statistics are. Default: `page`.
    pub statistics_level: StatisticsLevel,
    /// A page of data is closed at this size in bytes. Default: 1 MiB (1048576).
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub data_page_size_bytes: u64,
    /// A page of data holds at most so many rows. Default: 20000.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub data_page_max_rows: u64,
    /// A dictionary is given up at this size in bytes. Default: 1 MiB (1048576).
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub dictionary_page_size_bytes: u64,
    /// A row group holds at most so many rows. Default: 1048576.
    #[serde(deserialize_with = "at_least_one")]
    #[schemars(range(min = 1))]
    pub row_group_max_rows: u64,
    /// What differs for single columns, by their path in the schema, such as `address.city`.
    pub columns: BTreeMap<String, ColumnWriterProperties>,
}

impl Default for WriterPropertiesPolicy {
    fn default() -> Self {
        Self {
            compression: Compression::Snappy,
            dictionary_columns: None,
            bloom_filter_columns: Vec::new(),
            bloom_filter_fpp: FalsePositiveRate::default(),
            bloom_filter_ndv: 1_000_000,
            statistics_level: StatisticsLevel::Page,
            data_page_size_bytes: 1024 * 1024,
            data_page_max_rows: 20_000,
            dictionary_page_size_bytes: 1024 * 1024,
            row_group_max_rows: 1024 * 1024,
            columns: BTreeMap::new(),
        }
    }
}

impl Contract for WriterPropertiesPolicy {
    const KIND: &'static str = "writer_properties_policy";
    const VERSION: u32 = 1;
    const DOC: &'static str = "properties of the Parquet files of a table";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refused;

    fn example() -> Self {
        let remarks = ColumnWriterProperties { compression: Some(Compression::Zstd), ..Default::default() };
        Self {
            dictionary_columns: Some(names(["origin", "carrier"])),
            bloom_filter_columns: names(["flight_id"]),
            columns: BTreeMap::from([("remarks".to_owned(), remarks)]),
            ..Self::default()
        }
    }
}

/// What differs for one column; what is left out is as for every column. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnWriterProperties {
    /// The codec.
    pub compression: Option<Compression>,
    /// Whether there is a dictionary, where it pays.
    pub dictionary: Option<bool>,
    /// Whether there is a Bloom filter.
    pub bloom_filter: Option<bool>,
    /// The share of absent values that the Bloom filter lets through.
    pub bloom_filter_fpp: Option<FalsePositiveRate>,
    /// Distinct values in a row group.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub bloom_filter_ndv: Option<u64>,
    /// How fine the statistics are.
    pub statistics_level: Option<StatisticsLevel>,
}

/// What is done to a table after writing, and when; what is left out is not done. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenancePolicy {
    /// Small files of a partition are put together when there are so many.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub compact_min_files: Option<u32>,
    /// The table is ordered anew by `zorder_by` when so many files came without the order.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub zorder_min_files: Option<u32>,
    /// Files that no version younger than this many hours needs are deleted; at least 168.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub vacuum_retention_hours: Option<u32>,
    /// A checkpoint is written after so many commits.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub checkpoint_interval_commits: Option<u32>,
    /// Log files older than this many hours are deleted once a checkpoint covers them.
    #[serde(deserialize_with = "at_least_one_if_any")]
    #[schemars(range(min = 1))]
    pub log_retention_hours: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_asks_for_is_named() {
        assert_eq!(DeltaWritePolicy::default().non_default_fields(), Vec::<String>::new());
        assert_eq!(
            DeltaWritePolicy::example().non_default_fields(),
            [
                "constraints",
                "enable_features",
                "keys",
                "maintenance.compact_min_files",
                "mode",
                "partition_by",
                "schema_mode",
                "semantic_types",
                "stats_columns",
                "stats_policy",
                "writer_properties.bloom_filter_columns",
                "writer_properties.columns",
                "writer_properties.dictionary_columns",
                "zorder_by",
            ]
        );
    }

    #[test]
    fn every_field_of_the_policy_is_one_that_can_be_named() {
        // A new field that does not reach `non_default_fields` would be dropped in silence by every writer.
        let default = object(&DeltaWritePolicy::default());
        for (name, value) in default.as_object().unwrap() {
            let is_map = ["constraints", "semantic_types"].contains(&name.as_str());
            assert_eq!(value.is_object() && !is_map, PARTS.contains(&name.as_str()), "{name}");
        }
    }
}

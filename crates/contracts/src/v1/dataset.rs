//! A dataset as a person declares it: format, place, schema, options, evolution, change feed.
//!
//! This is the whole vocabulary of a dataset. A pipeline file has the same ([`SourceSpec`]).

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::ContentDigest;
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::pipeline::{SourcePath, SourceSpec};
use crate::v1::sample::{self, names};
use crate::v1::withheld::Options;
use crate::words::words;

words!(
    /// The format of a dataset.
    DatasetFormat {
        /// Parquet files.
        Parquet => "parquet",
        /// Delimited text.
        Csv => "csv",
        /// One JSON object a line.
        Json => "json",
        /// Arrow IPC files.
        Arrow => "arrow",
        /// Avro files.
        Avro => "avro",
        /// A Delta table.
        Delta => "delta",
    }
);

words!(
    /// Where a registered dataset is kept.
    DatasetCache {
        /// Nowhere: it is read from its files each time.
        None => "none",
        /// In memory, for the rest of the process.
        Memory => "memory",
        /// As a Delta table under the cache root.
        DeltaStaging => "delta_staging",
    }
);

/// A dataset. Unknown fields are refused.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// The format of the files.
    pub format: DatasetFormat,
    /// One path, a glob, or a list of either.
    pub path: SourcePath,
    /// The columns. Default: inferred from the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Vec<ColumnSpec>>,
    /// The format's own options; values as text.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Columns that are directories, outermost first.
    #[serde(default)]
    pub partition_columns: Vec<ColumnSpec>,
    /// The order of rows inside each file, outermost column first.
    #[serde(default)]
    pub ordering: Vec<OrderingSpec>,
    /// What every row has to satisfy.
    #[serde(default)]
    pub constraints: ConstraintSpec,
    /// How files of an older schema are read. Default: every file has the same schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evolution: Option<EvolutionSpec>,
    /// SQL expressions that become the columns, each with an alias. Default: the columns as they are.
    #[serde(default)]
    pub projection_exprs: Vec<String>,
    /// The version of a Delta table. Default: the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The time of a Delta table's version, in RFC 3339. Excludes `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// How a Delta table is scanned.
    #[serde(default)]
    pub scan: DeltaScanOptions,
    /// Registers the table's changes as `<name>__cdf`. Default: not registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cdf: Option<CdfOptions>,
    /// Where the registered dataset is kept. Default: `none`.
    #[serde(default = "no_cache")]
    pub cache: DatasetCache,
    /// A dataset with more columns is not kept. Default: 64.
    #[serde(default = "cache_max_columns")]
    pub cache_max_columns: u32,
}

/// Without the values of options.
impl fmt::Debug for DatasetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart, so that a field which is new here does not compile until it is shown.
        let Self {
            format,
            path,
            schema,
            options,
            partition_columns,
            ordering,
            constraints,
            evolution,
            projection_exprs,
            version,
            timestamp,
            scan,
            cdf,
            cache,
            cache_max_columns,
        } = self;
        f.debug_struct("DatasetSpec")
            .field("format", format)
            .field("path", path)
            .field("schema", schema)
            .field("options", &Options(options))
            .field("partition_columns", partition_columns)
            .field("ordering", ordering)
            .field("constraints", constraints)
            .field("evolution", evolution)
            .field("projection_exprs", projection_exprs)
            .field("version", version)
            .field("timestamp", timestamp)
            .field("scan", scan)
            .field("cdf", cdf)
            .field("cache", cache)
            .field("cache_max_columns", cache_max_columns)
            .finish()
    }
}

impl DatasetSpec {
    /// A dataset of which only format and place are declared.
    #[must_use]
    pub fn new(format: DatasetFormat, path: SourcePath) -> Self {
        Self {
            format,
            path,
            schema: None,
            options: BTreeMap::new(),
            partition_columns: Vec::new(),
            ordering: Vec::new(),
            constraints: ConstraintSpec::default(),
            evolution: None,
            projection_exprs: Vec::new(),
            version: None,
            timestamp: None,
            scan: DeltaScanOptions::default(),
            cdf: None,
            cache: no_cache(),
            cache_max_columns: cache_max_columns(),
        }
    }
}

impl From<&SourceSpec> for DatasetSpec {
    fn from(source: &SourceSpec) -> Self {
        // Taken apart, so that a field which is new here does not compile until it is handed on.
        let SourceSpec {
            format,
            path,
            options,
            version,
            timestamp,
            schema,
            partition_columns,
            ordering,
            constraints,
            evolution,
            projection_exprs,
            scan,
            cache,
            cache_max_columns,
            cdf,
            // Where a consumer stands is for the run to say.
            cdf_consumer: _,
        } = source.clone();
        // Written out, so that a field of a dataset that a source lacks does not compile either.
        Self {
            format,
            path,
            schema,
            options,
            partition_columns,
            ordering,
            constraints,
            evolution,
            projection_exprs,
            version,
            timestamp,
            scan,
            cdf,
            cache,
            cache_max_columns,
        }
    }
}

pub(crate) fn no_cache() -> DatasetCache {
    DatasetCache::None
}

pub(crate) fn cache_max_columns() -> u32 {
    64
}

pub(crate) fn is_no_cache(cache: &DatasetCache) -> bool {
    *cache == no_cache()
}

pub(crate) fn is_cache_max_columns(most: &u32) -> bool {
    *most == cache_max_columns()
}

/// One declared column. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// The name.
    pub name: String,
    /// The type in arrow's notation, such as `Int64`.
    pub data_type: String,
    /// Whether it may hold NULL. Default: true.
    #[serde(default = "yes")]
    pub nullable: bool,
    /// The field's metadata. Default: none.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

fn yes() -> bool {
    true
}

/// One column of an order. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderingSpec {
    /// The column.
    pub column: String,
    /// Whether large values come first. Default: false.
    #[serde(default)]
    pub descending: bool,
    /// Whether NULL comes first. Default: true.
    #[serde(default = "yes")]
    pub nulls_first: bool,
}

/// What every row has to satisfy. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConstraintSpec {
    /// Columns whose values tell rows apart. Default: none.
    pub primary_key: Vec<String>,
    /// Columns without NULL. Default: none.
    pub not_null: Vec<String>,
    /// SQL predicates by name. Default: none.
    pub check: BTreeMap<String, String>,
}

impl ConstraintSpec {
    /// Whether every row satisfies it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a Delta table is scanned. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeltaScanOptions {
    /// A column of this name holds the file of each row. Default: none.
    pub file_column_name: Option<String>,
    /// Whether filters go down into the files. Default: true.
    pub enable_parquet_pushdown: bool,
    /// Whether text is read as views. Default: the session's choice.
    pub schema_force_view_types: Option<bool>,
    /// Whether partition values are dictionaries. Default: false.
    pub wrap_partition_values: bool,
    /// The schema to read with. Default: the table's.
    pub schema: Option<Vec<ColumnSpec>>,
}

impl DeltaScanOptions {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for DeltaScanOptions {
    fn default() -> Self {
        Self {
            file_column_name: None,
            enable_parquet_pushdown: true,
            schema_force_view_types: None,
            wrap_partition_values: false,
            schema: None,
        }
    }
}

impl Contract for DatasetSpec {
    const KIND: &'static str = "dataset_spec";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a dataset: format, place, schema, options, evolution, change feed";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refused;

    fn example() -> Self {
        let column = |name: &str, data_type: &str| ColumnSpec {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            nullable: true,
            metadata: BTreeMap::new(),
        };
        Self {
            format: DatasetFormat::Delta,
            path: SourcePath::One("data/flights".to_owned()),
            schema: Some(vec![column("flight_id", "Int64"), column("delay", "Float64")]),
            options: BTreeMap::from([("skip_metadata".to_owned(), "true".to_owned())]),
            partition_columns: vec![column("month", "Utf8")],
            ordering: vec![OrderingSpec { column: "flight_id".to_owned(), descending: false, nulls_first: true }],
            constraints: ConstraintSpec {
                primary_key: names(["flight_id"]),
                not_null: names(["flight_id"]),
                check: BTreeMap::from([("sane_delay".to_owned(), "delay > -1440".to_owned())]),
            },
            evolution: Some(EvolutionSpec::example()),
            projection_exprs: names(["flight_id", "cast(delay as double) as delay"]),
            version: Some(42),
            timestamp: None,
            scan: DeltaScanOptions { file_column_name: Some("file".to_owned()), ..DeltaScanOptions::default() },
            cdf: Some(CdfOptions::example()),
            cache: DatasetCache::DeltaStaging,
            cache_max_columns: 64,
        }
    }
}

/// How files of an older schema are read. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvolutionSpec {
    /// Columns by their older names. Default: none.
    pub rename: BTreeMap<String, String>,
    /// Values of columns that a file does not have, as SQL literals say them. Untyped: a number is an integer where its
    /// value is one within ±(2⁵³−1), a double otherwise. Default: NULL.
    pub defaults: BTreeMap<String, Value>,
    /// Types that columns are cast to, in arrow's notation. Default: the schema's.
    pub casts: BTreeMap<String, String>,
    /// Columns that a file may lack. Default: none.
    pub allow_missing: Vec<String>,
    /// Columns that a file may have beyond the schema. Default: none.
    pub allow_extra: Vec<String>,
    /// Whether anything else is an error; if not, missing columns are NULL and others are left out. Default: false.
    pub strict: bool,
}

impl Contract for EvolutionSpec {
    const KIND: &'static str = "evolution_spec";
    const VERSION: u32 = 1;
    const DOC: &'static str = "how files of an older schema are read";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refused;

    fn example() -> Self {
        Self {
            rename: BTreeMap::from([("dep_delay".to_owned(), "delay".to_owned())]),
            defaults: BTreeMap::from([("delay".to_owned(), 0.into()), ("carrier".to_owned(), "??".into())]),
            casts: BTreeMap::from([("delay".to_owned(), "Float64".to_owned())]),
            allow_missing: names(["carrier"]),
            allow_extra: names(["tail_number"]),
            strict: true,
        }
    }
}

/// The change feed of a Delta table. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CdfOptions {
    /// The first version. Default: the one after the consumer's cursor.
    pub starting_version: Option<u64>,
    /// The last version. Default: the pinned one.
    pub ending_version: Option<u64>,
    /// The time of the first version, in RFC 3339. Excludes `starting_version`.
    pub starting_timestamp: Option<String>,
    /// The time of the last version, in RFC 3339. Excludes `ending_version`.
    pub ending_timestamp: Option<String>,
    /// The columns to read. Default: all.
    pub columns: Option<Vec<String>>,
    /// An SQL predicate on the changes. Default: none.
    pub predicate: Option<String>,
    /// Whether a range that begins beyond the table's end is empty, and no error. Default: false.
    pub allow_out_of_range: bool,
    /// Whether a table without a change feed is an error; if not, it has no `<name>__cdf`. Default: false.
    pub required: bool,
}

impl Contract for CdfOptions {
    const KIND: &'static str = "cdf_options";
    const VERSION: u32 = 1;
    const DOC: &'static str = "which changes of a Delta table are read";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refused;

    fn example() -> Self {
        Self {
            starting_version: Some(40),
            ending_version: Some(42),
            columns: Some(names(["flight_id", "delay"])),
            predicate: Some("_change_type <> 'update_preimage'".to_owned()),
            required: true,
            ..Self::default()
        }
    }
}

/// How far a consumer has read a change feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CdfCursor {
    /// Who reads.
    pub consumer: String,
    /// The dataset.
    pub dataset_name: String,
    /// The id of its table: a cursor means nothing in another one.
    pub table_id: String,
    /// The last version that was consumed.
    pub version: u64,
    /// When that version was committed, in milliseconds since 1970-01-01 UTC.
    pub timestamp_unix_ms: Option<i64>,
    /// The commit of that version, as the log had it. A log that has another one there is of a table that was put back meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_digest: Option<ContentDigest>,
    /// The run that moved the cursor here.
    pub run_id: Option<RunId>,
    /// When it was moved, in milliseconds since 1970-01-01 UTC.
    pub updated_unix_ms: i64,
}

impl Contract for CdfCursor {
    const KIND: &'static str = "cdf_cursor";
    const VERSION: u32 = 1;
    const DOC: &'static str = "how far a consumer has read a change feed";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            consumer: "daily_delays".to_owned(),
            dataset_name: "flights".to_owned(),
            table_id: "7d0c2b4e-1f7a-4f43-8a53-3f1d5d6d8b11".to_owned(),
            version: 42,
            timestamp_unix_ms: Some(sample::UNIX_MS),
            commit_digest: Some(ContentDigest::of(b"00000000000000000042.json")),
            run_id: Some(sample::run_id()),
            updated_unix_ms: sample::UNIX_MS + 2_431,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By their schemas, and by a declaration that says something of every field: what is new in one has to be in the other.
    #[test]
    fn a_source_can_say_whatever_a_dataset_can() {
        fn fields<T: JsonSchema>() -> Vec<String> {
            let schema = schemars::schema_for!(T).to_value();
            schema["properties"].as_object().unwrap().keys().cloned().collect()
        }
        let (source, dataset) = (fields::<SourceSpec>(), fields::<DatasetSpec>());
        let (same, more): (Vec<_>, Vec<_>) = source.into_iter().partition(|field| dataset.contains(field));
        assert_eq!(same, dataset, "a dataset can say more");
        assert_eq!(more, ["cdf_consumer"], "a source can say more");

        let at_a_time =
            DatasetSpec { version: None, timestamp: Some("2026-11-21T00:00:00Z".to_owned()), ..DatasetSpec::example() };
        for declared in [DatasetSpec::example(), at_a_time] {
            let text = serde_json::to_value(&declared).unwrap();
            let source: SourceSpec = serde_json::from_value(text).unwrap();
            assert_eq!(DatasetSpec::from(&source), declared);
            // And what is read back of it is it.
            let again: SourceSpec = serde_json::from_value(serde_json::to_value(&source).unwrap()).unwrap();
            assert_eq!(again, source);
        }
    }
}

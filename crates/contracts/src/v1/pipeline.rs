//! The pipeline file, `alluvium.toml`: what a person writes. Unknown fields are refused everywhere in it.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::v1::cache::CachePolicy;
use crate::v1::dataset::{
    CdfOptions, ColumnSpec, ConstraintSpec, DatasetCache, DatasetFormat, DeltaScanOptions, EvolutionSpec, OrderingSpec,
    cache_max_columns, is_cache_max_columns, is_no_cache, no_cache,
};
use crate::v1::profile::{KvCacheSpec, KvSpec, Preset, ProfileSpec, SqlPolicy};
use crate::v1::sample::names;
use crate::v1::withheld::{Options, Place};
use crate::v1::write::DeltaWritePolicy;

/// A whole `alluvium.toml`. Relative paths in it are relative to the file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineSpec {
    /// How the engine runs and where caches lie.
    pub profile: ProfileSpec,
    /// The registered inputs, by name.
    pub sources: BTreeMap<String, SourceSpec>,
    /// The named queries, by name.
    pub views: BTreeMap<String, ViewSpec>,
    /// The views that are published as Delta tables, by name.
    pub outputs: BTreeMap<String, OutputSpec>,
}

impl Contract for PipelineSpec {
    const KIND: &'static str = "pipeline_spec";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the pipeline file, alluvium.toml";
    const FORM: Form = Form::Bare;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Refused;

    fn example() -> Self {
        let column = |name: &str, data_type: &str| ColumnSpec {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            nullable: true,
            metadata: BTreeMap::new(),
        };
        let paths = SourcePath::Many(names(["data/2001-*.csv", "data/2002-01.csv"]));
        let flights = SourceSpec {
            options: BTreeMap::from([("delimiter".to_owned(), ";".to_owned())]),
            schema: Some(vec![column("flight_date", "Date32"), column("delay", "Float64")]),
            partition_columns: vec![column("month", "Utf8")],
            ordering: vec![OrderingSpec { column: "flight_date".to_owned(), descending: false, nulls_first: true }],
            constraints: ConstraintSpec { not_null: names(["flight_date"]), ..ConstraintSpec::default() },
            evolution: Some(EvolutionSpec {
                rename: BTreeMap::from([("dep_delay".to_owned(), "delay".to_owned())]),
                ..EvolutionSpec::default()
            }),
            projection_exprs: names(["flight_date", "delay / 60 as delay"]),
            cache: DatasetCache::DeltaStaging,
            ..SourceSpec::new(DatasetFormat::Csv, paths)
        };
        let airports = SourceSpec {
            version: Some(42),
            scan: DeltaScanOptions { schema_force_view_types: Some(false), ..DeltaScanOptions::default() },
            cdf: Some(CdfOptions { starting_version: Some(40), ..CdfOptions::default() }),
            cdf_consumer: Some("nightly".to_owned()),
            ..SourceSpec::new(DatasetFormat::Delta, SourcePath::One("data/airports".to_owned()))
        };
        let sql = "select flight_date, avg(delay) as mean_delay from flights group by flight_date";
        let delays = ViewSpec {
            sql: Some(sql.to_owned()),
            file: None,
            cache: CachePolicy::DeltaStaging,
            tags: names(["nightly"]),
        };
        let daily = OutputSpec {
            view: "daily_delays".to_owned(),
            path: "out/daily".to_owned(),
            foreign_commit: ForeignCommit::Overwrite,
            write: DeltaWritePolicy { partition_by: names(["month"]), ..DeltaWritePolicy::default() },
        };
        Self {
            profile: ProfileSpec {
                name: Some("nightly".to_owned()),
                preset: Preset::Prod,
                cache_output_root: Some(".alluvium".to_owned()),
                target_partitions: Some(4),
                memory_limit_bytes: Some(1 << 30),
                sql_policy: Some(SqlPolicy::Service),
                kv: KvSpec {
                    plan: KvCacheSpec { size_limit_bytes: Some(256 << 20), ..KvCacheSpec::default() },
                    ..KvSpec::default()
                },
                ..ProfileSpec::default()
            },
            sources: BTreeMap::from([("airports".to_owned(), airports), ("flights".to_owned(), flights)]),
            views: BTreeMap::from([("daily_delays".to_owned(), delays)]),
            outputs: BTreeMap::from([("daily".to_owned(), daily)]),
        }
    }
}

/// `[sources.NAME]`: a registered input.
///
/// The same names as in a [`DatasetSpec`](crate::DatasetSpec), all of them, and who reads its changes.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// The format of the files.
    pub format: DatasetFormat,
    /// One path, a glob, or a list of either; whatever the extension.
    pub path: SourcePath,
    /// The format's own options, such as `delimiter` or `null_regex`; values as text, or as the boolean or whole number
    /// that the text says.
    #[serde(default, deserialize_with = "option_texts")]
    #[schemars(with = "BTreeMap<String, OptionValue>")]
    pub options: BTreeMap<String, String>,
    /// The version of a Delta table to read. Default: the latest. Refused for other formats.
    #[serde(default)]
    pub version: Option<u64>,
    /// The time of a Delta table's version, in RFC 3339. Excludes `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// The columns. Default: inferred from the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Vec<ColumnSpec>>,
    /// Columns that are directories, outermost first. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_columns: Vec<ColumnSpec>,
    /// The order of rows inside each file, outermost column first. It is checked. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ordering: Vec<OrderingSpec>,
    /// What every row has to satisfy. A run that reads the source holds its rows against it before it computes anything.
    /// Default: nothing.
    #[serde(default, skip_serializing_if = "ConstraintSpec::is_empty")]
    pub constraints: ConstraintSpec,
    /// How files of an older schema are read. Default: every file has the same schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evolution: Option<EvolutionSpec>,
    /// SQL expressions that become the columns, each with an alias. Default: the columns as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub projection_exprs: Vec<String>,
    /// How a Delta table is scanned.
    #[serde(default, skip_serializing_if = "DeltaScanOptions::is_default")]
    pub scan: DeltaScanOptions,
    /// Where its rows are kept once they have been read. Default: `none`.
    #[serde(default = "no_cache", skip_serializing_if = "is_no_cache")]
    pub cache: DatasetCache,
    /// With more columns it is not kept. Default: 64.
    #[serde(default = "cache_max_columns", skip_serializing_if = "is_cache_max_columns")]
    pub cache_max_columns: u32,
    /// The changes of a Delta table, which views read as `NAME__cdf`. Default: none are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cdf: Option<CdfOptions>,
    /// Who reads them: then they are those since the last run that succeeded on its behalf. Pipelines that share a cache root
    /// share the consumers of a name. Default: nobody; `cdf` says the whole range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cdf_consumer: Option<String>,
}

/// Without the values of options.
impl fmt::Debug for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart, so that a field which is new here does not compile until it is shown.
        let Self {
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
            cdf_consumer,
        } = self;
        f.debug_struct("SourceSpec")
            .field("format", format)
            .field("path", path)
            .field("options", &Options(options))
            .field("version", version)
            .field("timestamp", timestamp)
            .field("schema", schema)
            .field("partition_columns", partition_columns)
            .field("ordering", ordering)
            .field("constraints", constraints)
            .field("evolution", evolution)
            .field("projection_exprs", projection_exprs)
            .field("scan", scan)
            .field("cache", cache)
            .field("cache_max_columns", cache_max_columns)
            .field("cdf", cdf)
            .field("cdf_consumer", cdf_consumer)
            .finish()
    }
}

impl SourceSpec {
    /// A source of which only format and place are declared.
    #[must_use]
    pub fn new(format: DatasetFormat, path: SourcePath) -> Self {
        Self {
            format,
            path,
            options: BTreeMap::new(),
            version: None,
            timestamp: None,
            schema: None,
            partition_columns: Vec::new(),
            ordering: Vec::new(),
            constraints: ConstraintSpec::default(),
            evolution: None,
            projection_exprs: Vec::new(),
            scan: DeltaScanOptions::default(),
            cache: no_cache(),
            cache_max_columns: cache_max_columns(),
            cdf: None,
            cdf_consumer: None,
        }
    }
}

/// What a person may write as the value of an option; kept as its text.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used: the values are read as text")]
enum OptionValue {
    Text(String),
    Flag(bool),
    Number(i64),
}

struct OptionText(String);

impl<'de> Deserialize<'de> for OptionText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl Visitor<'_> for Texts {
            type Value = OptionText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a boolean or a whole number")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OptionText, E> {
                Ok(OptionText(text.to_owned()))
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<OptionText, E> {
                Ok(OptionText(flag.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<OptionText, E> {
                Ok(OptionText(number.to_string()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<OptionText, E> {
                Ok(OptionText(number.to_string()))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

fn option_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let options = BTreeMap::<String, OptionText>::deserialize(deserializer)?;
    Ok(options.into_iter().map(|(name, OptionText(text))| (name, text)).collect())
}

/// Where a source's files lie.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SourcePath {
    /// One path or glob.
    One(String),
    /// Several paths or globs.
    Many(Vec<String>),
}

/// By hand, because the derived form cannot say which of several paths is none.
impl<'de> Deserialize<'de> for SourcePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Paths;

        impl<'de> Visitor<'de> for Paths {
            type Value = SourcePath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a list of paths")
            }

            fn visit_str<E: Error>(self, path: &str) -> Result<SourcePath, E> {
                Ok(SourcePath::One(path.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, paths: A) -> Result<SourcePath, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(paths)).map(SourcePath::Many)
            }
        }

        deserializer.deserialize_any(Paths)
    }
}

/// Of a URL no more than its scheme.
impl fmt::Debug for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(path) => f.debug_tuple("One").field(&Place(path)).finish(),
            Self::Many(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| Place(path)).collect();
                f.debug_tuple("Many").field(&paths).finish()
            }
        }
    }
}

impl SourcePath {
    /// The paths and globs, in the order they were written.
    #[must_use]
    pub fn patterns(&self) -> &[String] {
        match self {
            Self::One(pattern) => std::slice::from_ref(pattern),
            Self::Many(patterns) => patterns,
        }
    }
}

/// `[views.NAME]`: a named query. Exactly one of `sql` and `file`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ViewSpec {
    /// The query itself.
    pub sql: Option<String>,
    /// A file that holds the query.
    pub file: Option<String>,
    /// What becomes of the result. Default: `delta_staging`.
    pub cache: CachePolicy,
    /// Words by which its entries can be evicted together: `alluvium cache evict --tag`. They move no key; an entry has
    /// those of the time at which it was written.
    pub tags: Vec<String>,
}

/// `[outputs.NAME]`: a view published as a Delta table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The view to publish.
    pub view: String,
    /// The directory of the Delta table.
    pub path: String,
    /// What to do when somebody else committed to the table since our last publication. Default: `error`.
    #[serde(default)]
    pub foreign_commit: ForeignCommit,
    /// How the table is written.
    #[serde(default)]
    pub write: DeltaWritePolicy,
}

/// What to do when the head of an output's table is not our commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForeignCommit {
    /// Fail, name the foreign version, and leave the table as it is.
    #[default]
    Error,
    /// Publish over it.
    Overwrite,
}

/// The name of a source, view or output is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{name}` is not a name: use letters, digits and `_`, not starting with a digit")]
pub struct NameError {
    /// The name as it was written.
    pub name: String,
}

/// Checks that `name` matches `[A-Za-z_][A-Za-z0-9_]*`: it has to serve as an SQL identifier and a directory name.
///
/// # Errors
/// [`NameError`] otherwise.
pub fn validate_name(name: &str) -> Result<(), NameError> {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        Ok(())
    } else {
        Err(NameError { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_kept_as_text_however_they_are_written() {
        let source = |options: &str| {
            serde_json::from_str::<SourceSpec>(&format!(r#"{{"format":"csv","path":"x","options":{options}}}"#))
        };
        let options = source(r#"{"delimiter":";","has_header":false,"schema_infer_max_rec":10}"#).unwrap().options;
        let written: Vec<_> = options.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(written, [("delimiter", ";"), ("has_header", "false"), ("schema_infer_max_rec", "10")]);
        let error = source(r#"{"delimiter":[";"]}"#).unwrap_err().to_string();
        assert!(error.contains("expected text, a boolean or a whole number"), "{error}");
    }

    #[test]
    fn names_cannot_leave_their_directory() {
        for bad in ["", "../../x", "a/b", "1a", "a b", "ü", "a.b", ".", "a-b"] {
            assert!(validate_name(bad).is_err(), "{bad}");
        }
        for good in ["a", "_", "A1_b"] {
            validate_name(good).unwrap();
        }
    }

    #[test]
    fn unknown_fields_are_refused_at_every_level() {
        for bad in [
            r#"{"view": {}}"#,
            r#"{"views": {"a": {"sqll": "select 1"}}}"#,
            r#"{"sources": {"a": {"format": "csv", "path": "x", "opts": {}}}}"#,
            r#"{"outputs": {"a": {"view": "v", "path": "p", "write": {"partition": []}}}}"#,
            r#"{"profile": {"presets": "dev"}}"#,
        ] {
            let error = serde_json::from_str::<PipelineSpec>(bad).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{bad}: {error}");
        }
    }
}

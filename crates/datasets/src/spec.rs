//! A declared dataset, checked: absolute paths, known options, columns that do not contradict each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alluvium_contracts::{
    CdfCursor, CdfOptions, ConstraintSpec, DatasetCache, DatasetFormat, DatasetSpec, DeltaScanOptions, SourceSpec,
};
use arrow::datatypes::{Schema, SchemaRef};
use chrono::{DateTime, FixedOffset};

use crate::SpecError;
use crate::credentials;
use crate::options::{self, BadValue, ReadOptions};
use crate::shape::{self, Shape};

/// That of the contract.
const DEFAULT_MAX_COLUMNS: u32 = 64;

/// A declared dataset with its paths made absolute and everything checked that can be without reading it.
#[derive(Debug, Clone)]
pub struct Dataset {
    name: String,
    pub(crate) read: Read,
    pub(crate) shape: Shape,
    pub(crate) constraints: ConstraintSpec,
    pub(crate) cdf: Option<CdfOptions>,
    pub(crate) cursor: Option<CdfCursor>,
    cache: DatasetCache,
    cache_max_columns: usize,
}

/// What to read, and how.
#[derive(Debug, Clone)]
pub(crate) enum Read {
    Files { format: DatasetFormat, options: ReadOptions, patterns: Vec<PathBuf>, base_dir: PathBuf },
    Delta(DeltaRead),
}

#[derive(Debug, Clone)]
pub(crate) struct DeltaRead {
    pub(crate) path: PathBuf,
    pub(crate) at: At,
    pub(crate) scan: DeltaScanOptions,
    /// That of `scan`.
    pub(crate) scan_schema: Option<SchemaRef>,
}

/// Which state of a Delta table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    Latest,
    Version(u64),
    Time(DateTime<FixedOffset>),
}

impl Dataset {
    /// Checks `spec` and makes its paths absolute: relative ones are relative to `base_dir`.
    ///
    /// # Errors
    /// As the variants of [`SpecError`] say.
    pub fn resolve(name: &str, spec: &DatasetSpec, base_dir: &Path) -> Result<Self, SpecError> {
        let check = Check { dataset: name, spec };
        check.format()?;
        check.options()?;
        check.delta_only()?;
        let patterns = check.patterns()?;
        let shape = Shape::resolve(name, spec)?;
        let options =
            ReadOptions::resolve(spec.format, &spec.options).map_err(|BadValue { option, value, expected }| {
                SpecError::OptionValue { dataset: name.to_owned(), option, value, expected }
            })?;
        // Fails only without a working directory; then relative paths stay so, and are not found.
        let base_dir = std::path::absolute(base_dir).unwrap_or_else(|_| base_dir.to_path_buf());
        let read = match options {
            Some(options) => {
                // Kept relative to the base until they are expanded: its name may hold characters that mean something in a glob.
                let patterns = patterns.iter().map(PathBuf::from).collect();
                Read::Files { format: spec.format, options, patterns, base_dir }
            }
            None => match patterns {
                [path] => Read::Delta(DeltaRead {
                    path: base_dir.join(path),
                    at: check.at()?,
                    scan: spec.scan.clone(),
                    scan_schema: shape::declared(name, "scan.schema", spec.scan.schema.as_deref())?
                        .map(|fields| Schema::new(fields).into()),
                }),
                _ => {
                    return Err(SpecError::ManyTables { dataset: name.to_owned(), count: patterns.len() });
                }
            },
        };
        check.cdf()?;
        Ok(Self {
            name: name.to_owned(),
            read,
            shape,
            constraints: spec.constraints.clone(),
            cdf: spec.cdf.clone(),
            cursor: None,
            cache: spec.cache,
            cache_max_columns: usize::try_from(spec.cache_max_columns).unwrap_or(usize::MAX),
        })
    }

    /// Reads changes from behind the place where a consumer stands, whatever `cdf` says of the beginning.
    #[must_use]
    pub fn after(mut self, cursor: CdfCursor) -> Self {
        self.cursor = Some(cursor);
        self
    }

    /// Checks a `[sources.NAME]` of a pipeline file, as [`resolve`](Self::resolve).
    ///
    /// # Errors
    /// As there.
    pub fn of_source(name: &str, source: &SourceSpec, base_dir: &Path) -> Result<Self, SpecError> {
        Self::resolve(name, &source.into(), base_dir)
    }

    /// The name of the dataset.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its rows are to be kept when it is registered.
    #[must_use]
    pub fn cache(&self) -> DatasetCache {
        self.cache
    }

    /// With more columns than these they are not kept.
    #[must_use]
    pub fn cache_max_columns(&self) -> usize {
        self.cache_max_columns
    }

    /// The format of the dataset.
    #[must_use]
    pub fn format(&self) -> DatasetFormat {
        match &self.read {
            Read::Files { format, .. } => *format,
            Read::Delta(_) => DatasetFormat::Delta,
        }
    }

    /// Every option of the format by name, defaults included. An option that is unset and has no default is absent.
    #[must_use]
    pub fn options(&self) -> BTreeMap<&'static str, String> {
        match &self.read {
            Read::Files { options, .. } => options.resolved(),
            Read::Delta(_) => BTreeMap::new(),
        }
    }
}

struct Check<'a> {
    dataset: &'a str,
    spec: &'a DatasetSpec,
}

impl<'a> Check<'a> {
    fn dataset(&self) -> String {
        self.dataset.to_owned()
    }

    fn format(&self) -> Result<(), SpecError> {
        let format = self.spec.format;
        match format {
            DatasetFormat::Avro => Err(SpecError::FormatNotBuilt { dataset: self.dataset(), format }),
            _ => Ok(()),
        }
    }

    fn options(&self) -> Result<(), SpecError> {
        let known = options::names(self.spec.format);
        match self.spec.options.keys().find(|option| !known.contains(&option.as_str())) {
            None => Ok(()),
            Some(option) if credentials::is_of_cloud_store(option) => {
                Err(SpecError::CloudOption { dataset: self.dataset(), option: option.clone() })
            }
            Some(option) => Err(SpecError::UnknownOption {
                dataset: self.dataset(),
                format: self.spec.format,
                option: option.clone(),
                suggestion: nearest(option, known),
                known,
            }),
        }
    }

    /// Fields that would reach nothing.
    fn delta_only(&self) -> Result<(), SpecError> {
        let spec = self.spec;
        let (format, is_delta) = (spec.format, spec.format == DatasetFormat::Delta);
        if spec.version.is_some() && !is_delta {
            return Err(SpecError::VersionWithoutDelta { dataset: self.dataset(), format });
        }
        let only_delta = "only a Delta table has it; remove it, or set `format = \"delta\"`";
        let refused = [
            (!is_delta && spec.timestamp.is_some(), "timestamp", only_delta),
            (!is_delta && spec.scan != DeltaScanOptions::default(), "scan", only_delta),
            (!is_delta && spec.cdf.is_some(), "cdf", only_delta),
            (is_delta && !spec.ordering.is_empty(), "ordering", "its log says nothing of the order of rows; remove it"),
            (
                spec.cache == DatasetCache::None && spec.cache_max_columns != DEFAULT_MAX_COLUMNS,
                "cache_max_columns",
                "nothing is kept without `cache`; remove it",
            ),
        ];
        match refused.into_iter().find(|(holds, ..)| *holds) {
            None => Ok(()),
            Some((_, field, instead)) => {
                Err(SpecError::NotForFormat { dataset: self.dataset(), format, field, instead })
            }
        }
    }

    fn cdf(&self) -> Result<(), SpecError> {
        let Some(cdf) = &self.spec.cdf else {
            return Ok(());
        };
        for (is_version, timestamp, field, other) in [
            (cdf.starting_version.is_some(), &cdf.starting_timestamp, "cdf.starting_timestamp", "cdf.starting_version"),
            (cdf.ending_version.is_some(), &cdf.ending_timestamp, "cdf.ending_timestamp", "cdf.ending_version"),
        ] {
            let Some(value) = timestamp else {
                continue;
            };
            if is_version {
                let (dataset, instead) = (self.dataset(), "keep one of them");
                return Err(SpecError::Contradiction { dataset, field, other, column: None, instead });
            }
            self.time(field, value)?;
        }
        Ok(())
    }

    fn time(&self, field: &'static str, value: &str) -> Result<DateTime<FixedOffset>, SpecError> {
        DateTime::parse_from_rfc3339(value).map_err(|source| SpecError::Timestamp {
            dataset: self.dataset(),
            field,
            value: value.to_owned(),
            source,
        })
    }

    fn patterns(&self) -> Result<&'a [String], SpecError> {
        let patterns = self.spec.path.patterns();
        if patterns.is_empty() || patterns.iter().any(String::is_empty) {
            return Err(SpecError::NoPath { dataset: self.dataset() });
        }
        for path in patterns {
            match scheme(path) {
                None => {}
                Some("file") => {
                    return Err(SpecError::FileUrl { dataset: self.dataset(), path: path.clone() });
                }
                Some(scheme) => {
                    let (scheme, path) = (scheme.to_owned(), credentials::without(path));
                    return Err(SpecError::RemotePath { dataset: self.dataset(), path, scheme });
                }
            }
        }
        Ok(patterns)
    }

    fn at(&self) -> Result<At, SpecError> {
        match (self.spec.version, &self.spec.timestamp) {
            (Some(_), Some(_)) => Err(SpecError::Contradiction {
                dataset: self.dataset(),
                field: "timestamp",
                other: "version",
                column: None,
                instead: "keep one of them",
            }),
            (Some(version), None) => Ok(At::Version(version)),
            (None, None) => Ok(At::Latest),
            (None, Some(value)) => self.time("timestamp", value).map(At::Time),
        }
    }
}

/// The scheme of a URL with `//`, as in `s3://bucket`.
fn scheme(path: &str) -> Option<&str> {
    let (scheme, _) = path.split_once("://")?;
    let mut bytes = scheme.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic());
    (starts && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))).then_some(scheme)
}

fn nearest(option: &str, known: &'static [&'static str]) -> Option<&'static str> {
    let scored = known.iter().map(|name| (strsim::jaro_winkler(option, name), *name));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::{SourceFormat, SourcePath};

    use super::*;

    fn source(format: SourceFormat, path: &str, options: &[(&str, &str)]) -> SourceSpec {
        SourceSpec {
            options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..SourceSpec::new(format, SourcePath::One(path.to_owned()))
        }
    }

    fn refused(source: &SourceSpec) -> String {
        Dataset::of_source("s", source, Path::new("/base")).unwrap_err().to_string()
    }

    #[test]
    fn unknown_options_are_listed_with_the_likely_one() {
        let error = refused(&source(SourceFormat::Csv, "a.csv", &[("delimeter", ";")]));
        assert!(error.contains("csv has no option `delimeter` (did you mean `delimiter`?)"), "{error}");
        for name in CSV_NAMES {
            assert!(error.contains(name), "{error}");
        }
        let error = refused(&source(SourceFormat::Parquet, "a", &[("delimiter", ";")]));
        assert!(!error.contains("did you mean"), "{error}");
        let error = refused(&source(SourceFormat::Delta, "a", &[("x", "1")]));
        assert!(error.contains("it has none yet"), "{error}");
    }

    const CSV_NAMES: &[&str] = options::names(DatasetFormat::Csv);

    #[test]
    fn every_listed_option_is_resolved_and_every_value_checked() {
        let good = [
            ("comment", "#"),
            ("compression", "gzip"),
            ("delimiter", ";"),
            ("escape", "\\"),
            ("has_header", "false"),
            ("null_regex", "^(NA|)$"),
            ("quote", "'"),
            ("schema_infer_max_rec", "7"),
            ("truncated_rows", "true"),
        ];
        let spec = Dataset::of_source("s", &source(SourceFormat::Csv, "a", &good), Path::new("/base")).unwrap();
        let options: Vec<_> = spec.options().into_iter().collect();
        assert_eq!(options, good.map(|(name, value)| (name, value.to_owned())));
        for (format, option, value) in [
            (SourceFormat::Csv, "delimiter", ";;"),
            (SourceFormat::Csv, "delimiter", "é"),
            (SourceFormat::Csv, "delimiter", "\n"),
            (SourceFormat::Csv, "quote", ","),
            (SourceFormat::Csv, "has_header", "yes"),
            (SourceFormat::Csv, "null_regex", "("),
            (SourceFormat::Csv, "compression", "lz4"),
            (SourceFormat::Csv, "schema_infer_max_rec", "-1"),
            (SourceFormat::Json, "schema_infer_max_rec", "0"),
            (SourceFormat::Parquet, "coerce_int96", "day"),
            (SourceFormat::Parquet, "coerce_int96_tz", "UTC"),
        ] {
            let error = refused(&source(format, "a", &[(option, value)]));
            assert!(error.contains(&format!("option `{option}` cannot be `{value}`")), "{error}");
        }
        let short = [("null_regex", "^NA$"), ("truncated_rows", "true")];
        assert!(refused(&source(SourceFormat::Csv, "a", &short)).contains("matches the empty text too"));
        let zone = [("coerce_int96", "us"), ("coerce_int96_tz", "Mars/Olympus")];
        assert!(refused(&source(SourceFormat::Parquet, "a", &zone)).contains("a time zone"));
    }

    #[test]
    fn urls_and_versions_are_refused_by_name() {
        for url in ["s3://b/k", "gs://b/k", "az://c/k", "https://h/x", "abfss://c@a/x"] {
            let error = refused(&source(SourceFormat::Parquet, url, &[]));
            // Whatever stands before an `@` may be a credential.
            assert!(
                error.contains(&url.replace("c@", "")) && error.contains("cloud stores are not in this build"),
                "{error}"
            );
        }
        assert!(refused(&source(SourceFormat::Csv, "file:///x", &[])).contains("without `file://`"));
        assert!(refused(&source(SourceFormat::Csv, "", &[])).contains("`path` is empty"));
        let mut versioned = source(SourceFormat::Csv, "a", &[]);
        versioned.version = Some(3);
        assert!(refused(&versioned).contains("csv files have no version"));
        let mut many = source(SourceFormat::Delta, "a", &[]);
        many.path = SourcePath::Many(vec!["a".to_owned(), "b".to_owned()]);
        assert!(refused(&many).contains("a Delta table is one directory"));
    }
}

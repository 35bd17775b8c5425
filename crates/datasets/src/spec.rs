//! A source of the pipeline file, checked: absolute paths, known options.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alluvium_contracts::{SourceFormat, SourceSpec};

use crate::options::{self, BadValue, ReadOptions};

/// A `[sources.NAME]` with its paths made absolute and its options checked. Nothing has been read yet.
#[derive(Debug, Clone)]
pub struct DatasetSpec {
    name: String,
    pub(crate) read: Read,
}

/// What to read, and how.
#[derive(Debug, Clone)]
pub(crate) enum Read {
    Files { format: SourceFormat, options: ReadOptions, patterns: Vec<PathBuf>, base_dir: PathBuf },
    Delta { path: PathBuf, version: Option<u64> },
}

/// A source cannot be used as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The format has no such option.
    #[error(
        "source `{dataset}`: {} has no option `{option}`{}; {}",
        format.as_str(),
        suggestion.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default(),
        options_text(known)
    )]
    UnknownOption {
        /// The source.
        dataset: String,
        /// Its format.
        format: SourceFormat,
        /// The option as it was written.
        option: String,
        /// The option that was probably meant.
        suggestion: Option<&'static str>,
        /// The options of the format.
        known: &'static [&'static str],
    },
    /// An option's value cannot be.
    #[error("source `{dataset}`: option `{option}` cannot be `{value}`: it takes {expected}")]
    OptionValue {
        /// The source.
        dataset: String,
        /// The option.
        option: &'static str,
        /// Its value as it was written.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// Only a Delta table has versions.
    #[error("source `{dataset}`: {} files have no version: remove `version`, or set `format = \"delta\"`", format.as_str())]
    VersionWithoutDelta {
        /// The source.
        dataset: String,
        /// Its format.
        format: SourceFormat,
    },
    /// The path is a URL.
    #[error(
        "source `{dataset}`: cannot read `{path}`: cloud stores are not in this build (`{scheme}://`); copy the files to a \
         local directory and name that"
    )]
    RemotePath {
        /// The source.
        dataset: String,
        /// The path as it was written.
        path: String,
        /// The scheme of the URL.
        scheme: String,
    },
    /// The path is a `file://` URL.
    #[error("source `{dataset}`: write the path of `{path}` without `file://`")]
    FileUrl {
        /// The source.
        dataset: String,
        /// The path as it was written.
        path: String,
    },
    /// There is no path, or an empty one.
    #[error("source `{dataset}`: `path` is empty: name a file, a directory or a glob")]
    NoPath {
        /// The source.
        dataset: String,
    },
    /// A Delta table is one directory.
    #[error("source `{dataset}`: a Delta table is one directory, but `path` lists {count}: declare a source for each")]
    ManyTables {
        /// The source.
        dataset: String,
        /// How many paths were written.
        count: usize,
    },
}

fn options_text(known: &[&str]) -> String {
    if known.is_empty() {
        return "it has none yet".to_owned();
    }
    let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("its options are {}", known.join(", "))
}

impl DatasetSpec {
    /// Checks `source` and makes its paths absolute: relative ones are relative to `base_dir`.
    ///
    /// # Errors
    /// As the variants of [`SpecError`] say.
    pub fn resolve(name: &str, source: &SourceSpec, base_dir: &Path) -> Result<Self, SpecError> {
        let dataset = || name.to_owned();
        let known = options::names(source.format);
        if let Some(option) = source.options.keys().find(|option| !known.contains(&option.as_str())) {
            return Err(SpecError::UnknownOption {
                dataset: dataset(),
                format: source.format,
                option: option.clone(),
                suggestion: nearest(option, known),
                known,
            });
        }
        if source.version.is_some() && source.format != SourceFormat::Delta {
            return Err(SpecError::VersionWithoutDelta { dataset: dataset(), format: source.format });
        }
        let patterns = source.path.patterns();
        if patterns.is_empty() || patterns.iter().any(String::is_empty) {
            return Err(SpecError::NoPath { dataset: dataset() });
        }
        for path in patterns {
            match scheme(path) {
                None => {}
                Some("file") => {
                    return Err(SpecError::FileUrl { dataset: dataset(), path: path.clone() });
                }
                Some(scheme) => {
                    let scheme = scheme.to_owned();
                    return Err(SpecError::RemotePath { dataset: dataset(), path: path.clone(), scheme });
                }
            }
        }
        let options =
            ReadOptions::resolve(source.format, &source.options).map_err(|BadValue { option, value, expected }| {
                SpecError::OptionValue { dataset: dataset(), option, value, expected }
            })?;
        // Fails only without a working directory; then relative paths stay so, and are not found.
        let base_dir = std::path::absolute(base_dir).unwrap_or_else(|_| base_dir.to_path_buf());
        let read = match options {
            Some(options) => {
                // Kept relative to the base until they are expanded: its name may hold characters that mean something in a glob.
                let patterns = patterns.iter().map(PathBuf::from).collect();
                Read::Files { format: source.format, options, patterns, base_dir }
            }
            None => match patterns {
                [path] => Read::Delta { path: base_dir.join(path), version: source.version },
                _ => {
                    return Err(SpecError::ManyTables { dataset: dataset(), count: patterns.len() });
                }
            },
        };
        Ok(Self { name: dataset(), read })
    }

    /// The name of the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The format of the source.
    #[must_use]
    pub fn format(&self) -> SourceFormat {
        match &self.read {
            Read::Files { format, .. } => *format,
            Read::Delta { .. } => SourceFormat::Delta,
        }
    }

    /// Every option by name, defaults included. An option that is unset and has no default is absent.
    #[must_use]
    pub fn options(&self) -> BTreeMap<&'static str, String> {
        match &self.read {
            Read::Files { options, .. } => options.resolved(),
            Read::Delta { .. } => BTreeMap::new(),
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
    use alluvium_contracts::SourcePath;

    use super::*;

    fn source(format: SourceFormat, path: &str, options: &[(&str, &str)]) -> SourceSpec {
        SourceSpec {
            format,
            path: SourcePath::One(path.to_owned()),
            options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            version: None,
        }
    }

    fn refused(source: &SourceSpec) -> String {
        DatasetSpec::resolve("s", source, Path::new("/base")).unwrap_err().to_string()
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

    const CSV_NAMES: &[&str] = options::names(SourceFormat::Csv);

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
        let spec = DatasetSpec::resolve("s", &source(SourceFormat::Csv, "a", &good), Path::new("/base")).unwrap();
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
            assert!(error.contains(url) && error.contains("cloud stores are not in this build"), "{error}");
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

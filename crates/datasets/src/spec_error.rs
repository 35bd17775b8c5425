//! Why a dataset cannot be used as it is declared.

use alluvium_contracts::DatasetFormat;

use crate::ColumnError;

/// A dataset cannot be used as it is declared. Nothing has been read yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// This build does not read the format.
    #[error("source `{dataset}`: {} files cannot be read by this build: convert them to Parquet", format.as_str())]
    FormatNotBuilt {
        /// The source.
        dataset: String,
        /// Its format.
        format: DatasetFormat,
    },
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
        format: DatasetFormat,
        /// The option as it was written.
        option: String,
        /// The option that was probably meant.
        suggestion: Option<&'static str>,
        /// The options of the format.
        known: &'static [&'static str],
    },
    /// An option configures a cloud store, or holds what opens one. Its value is nowhere in this error.
    #[error(
        "source `{dataset}`: option `{option}` is of a cloud store, and cloud stores are not in this build: remove it, and name \
         local files"
    )]
    CloudOption {
        /// The source.
        dataset: String,
        /// The option as it was written.
        option: String,
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
        format: DatasetFormat,
    },
    /// The field would reach nothing.
    #[error("source `{dataset}`: `{field}` cannot be honoured for {}: {instead}", format.as_str())]
    NotForFormat {
        /// The source.
        dataset: String,
        /// Its format.
        format: DatasetFormat,
        /// The field.
        field: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// Two parts of the declaration cannot both hold.
    #[error("source `{dataset}`: `{field}` says otherwise than `{other}`{}: {instead}", of_column(column))]
    Contradiction {
        /// The source.
        dataset: String,
        /// The field.
        field: &'static str,
        /// The field that says otherwise.
        other: &'static str,
        /// The column of which they say it, if it is one.
        column: Option<String>,
        /// What to do.
        instead: &'static str,
    },
    /// A column is declared by a text that is none.
    #[error("source `{dataset}`: a column of `{field}` cannot be declared like this")]
    Column {
        /// The source.
        dataset: String,
        /// The field.
        field: &'static str,
        /// What is wrong with which column.
        source: ColumnError,
    },
    /// A column is declared twice.
    #[error("source `{dataset}`: the column `{column}` is declared in `{field}` and was before: declare it once")]
    ColumnTwice {
        /// The source.
        dataset: String,
        /// The field.
        field: &'static str,
        /// The column.
        column: String,
    },
    /// A field names a column that the dataset does not have.
    #[error("source `{dataset}`: `{field}` names the column `{column}`, which is none of its columns: {known:?}")]
    UnknownColumn {
        /// The source.
        dataset: String,
        /// The field.
        field: &'static str,
        /// The column.
        column: String,
        /// The columns that there are.
        known: Vec<String>,
    },
    /// A default is no value of a column.
    #[error(
        "source `{dataset}`: the default {value} of the column `{column}` cannot be: write NULL, a boolean, a number or a text"
    )]
    Default {
        /// The source.
        dataset: String,
        /// The column.
        column: String,
        /// Its default as it was written.
        value: String,
    },
    /// A time that is none.
    #[error(
        "source `{dataset}`: `{field}` cannot be `{value}`: write it as RFC 3339 does, such as `2024-02-29T12:00:00Z`"
    )]
    Timestamp {
        /// The source.
        dataset: String,
        /// The field.
        field: &'static str,
        /// Its value as it was written.
        value: String,
        /// What is wrong with it.
        source: chrono::ParseError,
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

fn of_column(column: &Option<String>) -> String {
    column.as_ref().map(|column| format!(" of the column `{column}`")).unwrap_or_default()
}

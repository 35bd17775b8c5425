//! How a format is read: the options of each, checked and with their defaults filled in.

use std::collections::BTreeMap;

use alluvium_contracts::DatasetFormat;
use datafusion::common::config::{CsvOptions, JsonOptions, ParquetOptions, TableParquetOptions};
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::datasource::file_format::DEFAULT_SCHEMA_INFER_MAX_RECORD;

const CSV: &[&str] = &[
    "comment",
    "compression",
    "delimiter",
    "escape",
    "has_header",
    "null_regex",
    "quote",
    "schema_infer_max_rec",
    "truncated_rows",
];
const JSON: &[&str] = &["compression", "schema_infer_max_rec"];
const PARQUET: &[&str] =
    &["binary_as_string", "coerce_int96", "coerce_int96_tz", "schema_force_view_types", "skip_metadata"];

/// The names of a format's options, sorted.
pub(crate) const fn names(format: DatasetFormat) -> &'static [&'static str] {
    match format {
        DatasetFormat::Parquet => PARQUET,
        DatasetFormat::Csv => CSV,
        DatasetFormat::Json => JSON,
        DatasetFormat::Arrow | DatasetFormat::Avro | DatasetFormat::Delta => &[],
    }
}

/// An option's value that cannot be.
#[derive(Debug)]
pub(crate) struct BadValue {
    pub(crate) option: &'static str,
    pub(crate) value: String,
    pub(crate) expected: &'static str,
}

/// How files of a format are read. Whatever can change rows or types is here, and so in the pin; what cannot is the
/// session's business.
#[derive(Debug, Clone)]
pub(crate) enum ReadOptions {
    Parquet(ParquetRead),
    Csv(CsvRead),
    Json(JsonRead),
    /// Arrow IPC files say everything themselves.
    Arrow,
}

#[derive(Debug, Clone)]
pub(crate) struct ParquetRead {
    skip_metadata: bool,
    schema_force_view_types: bool,
    binary_as_string: bool,
    coerce_int96: Option<String>,
    coerce_int96_tz: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct CsvRead {
    pub(crate) has_header: bool,
    delimiter: u8,
    quote: u8,
    escape: Option<u8>,
    comment: Option<u8>,
    pub(crate) null_regex: Option<regex::Regex>,
    pub(crate) truncated_rows: bool,
    compression: CompressionTypeVariant,
    pub(crate) schema_infer_max_rec: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct JsonRead {
    compression: CompressionTypeVariant,
    schema_infer_max_rec: usize,
}

impl Default for ParquetRead {
    fn default() -> Self {
        let engine = ParquetOptions::default();
        Self {
            skip_metadata: engine.skip_metadata,
            // View types, as the engine's default: its scans then share string buffers instead of copying them. A
            // view's published schema casts them back, so they are seen by plans only.
            schema_force_view_types: engine.schema_force_view_types,
            binary_as_string: engine.binary_as_string,
            coerce_int96: engine.coerce_int96,
            coerce_int96_tz: engine.coerce_int96_tz,
        }
    }
}

impl ReadOptions {
    /// Reads `options`, all of whose names are known. `None` for Delta, which is no format of files.
    pub(crate) fn resolve(format: DatasetFormat, options: &BTreeMap<String, String>) -> Result<Option<Self>, BadValue> {
        let options = Given(options);
        Ok(Some(match format {
            DatasetFormat::Parquet => Self::Parquet(parquet(&options)?),
            DatasetFormat::Csv => Self::Csv(csv(&options)?),
            DatasetFormat::Json => Self::Json(JsonRead {
                compression: options.compression()?,
                schema_infer_max_rec: options.number("schema_infer_max_rec", 1, "a whole number, at least 1")?,
            }),
            DatasetFormat::Arrow => Self::Arrow,
            // Avro has been refused by its name.
            DatasetFormat::Avro | DatasetFormat::Delta => return Ok(None),
        }))
    }

    /// Every option by name, defaults included. An option that is unset and has no default is absent.
    pub(crate) fn resolved(&self) -> BTreeMap<&'static str, String> {
        let mut all = BTreeMap::new();
        match self {
            Self::Parquet(read) => {
                all.insert("skip_metadata", read.skip_metadata.to_string());
                all.insert("schema_force_view_types", read.schema_force_view_types.to_string());
                all.insert("binary_as_string", read.binary_as_string.to_string());
                all.extend(read.coerce_int96.clone().map(|unit| ("coerce_int96", unit)));
                all.extend(read.coerce_int96_tz.clone().map(|zone| ("coerce_int96_tz", zone)));
            }
            Self::Csv(read) => {
                let text = |byte: u8| char::from(byte).to_string();
                all.insert("has_header", read.has_header.to_string());
                all.insert("delimiter", text(read.delimiter));
                all.insert("quote", text(read.quote));
                all.extend(read.escape.map(|byte| ("escape", text(byte))));
                all.extend(read.comment.map(|byte| ("comment", text(byte))));
                all.extend(read.null_regex.as_ref().map(|regex| ("null_regex", regex.as_str().to_owned())));
                all.insert("truncated_rows", read.truncated_rows.to_string());
                all.insert("compression", compression_name(read.compression).to_owned());
                all.insert("schema_infer_max_rec", read.schema_infer_max_rec.to_string());
            }
            Self::Json(read) => {
                all.insert("compression", compression_name(read.compression).to_owned());
                all.insert("schema_infer_max_rec", read.schema_infer_max_rec.to_string());
            }
            Self::Arrow => {}
        }
        all
    }
}

impl ParquetRead {
    /// The session's options, with those that can change rows or types taken from here.
    pub(crate) fn engine(&self, session: &ParquetOptions) -> TableParquetOptions {
        let mut global = session.clone();
        global.skip_metadata = self.skip_metadata;
        global.schema_force_view_types = self.schema_force_view_types;
        global.binary_as_string = self.binary_as_string;
        global.coerce_int96.clone_from(&self.coerce_int96);
        global.coerce_int96_tz.clone_from(&self.coerce_int96_tz);
        // What a file says of its minima and maxima leaves NaN out, and the engine orders it above every number.
        global.pruning = false;
        global.enable_page_index = false;
        global.bloom_filter_on_read = false;
        TableParquetOptions { global, ..TableParquetOptions::default() }
    }
}

impl CsvRead {
    pub(crate) fn engine(&self) -> CsvOptions {
        CsvOptions {
            has_header: Some(self.has_header),
            delimiter: self.delimiter,
            quote: self.quote,
            escape: self.escape,
            comment: self.comment,
            null_regex: self.null_regex.as_ref().map(|regex| regex.as_str().to_owned()),
            // Not the engine's default, and no option of ours: otherwise it splits a large file at any line break, and rows
            // with a quoted one come out differently on a machine with more cores, under the same pin.
            newlines_in_values: Some(true),
            truncated_rows: Some(self.truncated_rows),
            compression: self.compression,
            schema_infer_max_rec: Some(self.schema_infer_max_rec),
            ..CsvOptions::default()
        }
    }
}

impl JsonRead {
    pub(crate) fn engine(&self) -> JsonOptions {
        JsonOptions {
            compression: self.compression,
            schema_infer_max_rec: Some(self.schema_infer_max_rec),
            newline_delimited: true,
            ..JsonOptions::default()
        }
    }
}

fn parquet(options: &Given<'_>) -> Result<ParquetRead, BadValue> {
    let default = ParquetRead::default();
    let read = ParquetRead {
        skip_metadata: options.boolean("skip_metadata", default.skip_metadata)?,
        schema_force_view_types: options.boolean("schema_force_view_types", default.schema_force_view_types)?,
        binary_as_string: options.boolean("binary_as_string", default.binary_as_string)?,
        coerce_int96: match options.text("coerce_int96") {
            None => default.coerce_int96,
            Some(unit) if ["s", "ms", "us", "ns"].contains(&unit) => Some(unit.to_owned()),
            Some(unit) => return Err(bad("coerce_int96", unit, "`s`, `ms`, `us` or `ns`")),
        },
        coerce_int96_tz: options.text("coerce_int96_tz").map(str::to_owned).or(default.coerce_int96_tz),
    };
    match &read.coerce_int96_tz {
        Some(zone) if zone.parse::<arrow::array::timezone::Tz>().is_err() => {
            Err(bad("coerce_int96_tz", zone, "a time zone, such as `UTC` or `+02:00`"))
        }
        Some(zone) if read.coerce_int96.is_none() => {
            Err(bad("coerce_int96_tz", zone, "`coerce_int96` beside it: alone it has no effect"))
        }
        _ => Ok(read),
    }
}

fn csv(options: &Given<'_>) -> Result<CsvRead, BadValue> {
    let default = CsvOptions::default();
    let read = CsvRead {
        has_header: options.boolean("has_header", true)?,
        delimiter: options.byte("delimiter")?.unwrap_or(default.delimiter),
        quote: options.byte("quote")?.unwrap_or(default.quote),
        escape: options.byte("escape")?.or(default.escape),
        comment: options.byte("comment")?.or(default.comment),
        null_regex: match options.text("null_regex") {
            None => None,
            Some(text) => Some(
                regex::Regex::new(text).map_err(|_| bad("null_regex", text, "a regular expression, such as `^NA$`"))?,
            ),
        },
        truncated_rows: options.boolean("truncated_rows", default.truncated_rows.unwrap_or(false))?,
        compression: options.compression()?,
        schema_infer_max_rec: options.number("schema_infer_max_rec", 0, "a whole number")?,
    };
    // The decoder fills up a short row with empty texts, which are to be NULL and not something else.
    if let Some(regex) = read.null_regex.as_ref().filter(|regex| read.truncated_rows && !regex.is_match("")) {
        return Err(bad(
            "null_regex",
            regex.as_str(),
            "beside `truncated_rows` what matches the empty text too, such as `^(NA|)$`",
        ));
    }
    if read.quote == read.delimiter {
        return Err(bad("quote", &char::from(read.quote).to_string(), "another character than the delimiter"));
    }
    Ok(read)
}

/// The options as they were written.
struct Given<'a>(&'a BTreeMap<String, String>);

impl Given<'_> {
    fn text(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }

    fn boolean(&self, option: &'static str, default: bool) -> Result<bool, BadValue> {
        match self.text(option) {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(value) => Err(bad(option, value, "`true` or `false`")),
        }
    }

    fn byte(&self, option: &'static str) -> Result<Option<u8>, BadValue> {
        match self.text(option).map(|value| (value, value.as_bytes())) {
            None => Ok(None),
            Some((_, &[byte])) if byte.is_ascii() && byte != b'\n' && byte != b'\r' => Ok(Some(byte)),
            Some((value, _)) => Err(bad(option, value, "one ASCII character that ends no line")),
        }
    }

    fn number(&self, option: &'static str, least: usize, expected: &'static str) -> Result<usize, BadValue> {
        match self.text(option) {
            None => Ok(DEFAULT_SCHEMA_INFER_MAX_RECORD),
            Some(value) => match value.parse() {
                Ok(number) if number >= least => Ok(number),
                _ => Err(bad(option, value, expected)),
            },
        }
    }

    fn compression(&self) -> Result<CompressionTypeVariant, BadValue> {
        Ok(match self.text("compression") {
            None | Some("uncompressed") => CompressionTypeVariant::UNCOMPRESSED,
            Some("gzip") => CompressionTypeVariant::GZIP,
            Some("bzip2") => CompressionTypeVariant::BZIP2,
            Some("xz") => CompressionTypeVariant::XZ,
            Some("zstd") => CompressionTypeVariant::ZSTD,
            Some(value) => {
                return Err(bad("compression", value, "`uncompressed`, `gzip`, `bzip2`, `xz` or `zstd`"));
            }
        })
    }
}

fn compression_name(compression: CompressionTypeVariant) -> &'static str {
    match compression {
        CompressionTypeVariant::UNCOMPRESSED => "uncompressed",
        CompressionTypeVariant::GZIP => "gzip",
        CompressionTypeVariant::BZIP2 => "bzip2",
        CompressionTypeVariant::XZ => "xz",
        CompressionTypeVariant::ZSTD => "zstd",
    }
}

fn bad(option: &'static str, value: &str, expected: &'static str) -> BadValue {
    BadValue { option, value: value.to_owned(), expected }
}

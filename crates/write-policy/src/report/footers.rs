//! What the footers of written files say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use alluvium_contracts::{Compression, StatisticsLevel, WrittenFile};
use parquet::basic::Compression as Codec;
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use serde_json::Value;

use crate::error::ReadError;
use crate::files::DataFile;

/// The footers of one write, over all its files.
#[derive(Debug, Default)]
pub(crate) struct Footers {
    pub(crate) files: Vec<WrittenFile>,
    /// By column: everything that some file says of it.
    pub(crate) columns: BTreeMap<String, ColumnFacts>,
    pub(crate) max_row_group_rows: u64,
    pub(crate) max_page_rows: u64,
    pub(crate) max_page_bytes: u64,
    pub(crate) max_dictionary_bytes: u64,
}

/// What footers say of one column.
#[derive(Debug, Default)]
pub(crate) struct ColumnFacts {
    pub(crate) codecs: BTreeSet<String>,
    /// In every row group of every file.
    pub(crate) bloom_filter: bool,
    pub(crate) bloom_filter_bytes: u64,
    /// In some row group.
    pub(crate) dictionary: bool,
    pub(crate) statistics: BTreeSet<StatisticsLevel>,
}

impl Footers {
    /// Reads the footers of `files`; `stats` gives the statistics of each in the log, by path.
    pub(crate) fn read(table: &Path, files: &[DataFile], stats: &BTreeMap<String, Value>) -> Result<Self, ReadError> {
        let mut footers = Self::default();
        for file in files {
            let metadata = read_footer(&table.join(&file.path))?;
            footers.add(file, &metadata, stats.get(&file.path));
        }
        footers.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(footers)
    }

    /// The columns that `is` holds for.
    pub(crate) fn columns_where(&self, is: impl Fn(&ColumnFacts) -> bool) -> Vec<String> {
        self.columns.iter().filter(|(_, facts)| is(facts)).map(|(column, _)| column.clone()).collect()
    }

    fn add(&mut self, file: &DataFile, metadata: &ParquetMetaData, stats: Option<&Value>) {
        let mut own: BTreeMap<String, ColumnFacts> = BTreeMap::new();
        for (group_index, group) in metadata.row_groups().iter().enumerate() {
            let rows = u64::try_from(group.num_rows()).unwrap_or_default();
            self.max_row_group_rows = self.max_row_group_rows.max(rows);
            for (column_index, column) in group.columns().iter().enumerate() {
                let facts = own
                    .entry(column.column_path().string())
                    .or_insert_with(|| ColumnFacts { bloom_filter: true, ..ColumnFacts::default() });
                facts.add(column);
                self.max_dictionary_bytes = self.max_dictionary_bytes.max(dictionary_bytes(column));
                let pages = metadata.offset_index().map(|index| index[group_index][column_index].page_locations());
                let mut next = rows;
                for page in pages.into_iter().flatten().rev() {
                    let first = u64::try_from(page.first_row_index).unwrap_or_default();
                    self.max_page_rows = self.max_page_rows.max(next.saturating_sub(first));
                    let bytes = u64::try_from(page.compressed_page_size).unwrap_or_default();
                    self.max_page_bytes = self.max_page_bytes.max(bytes);
                    next = first;
                }
            }
        }
        let names = |is: &dyn Fn(&ColumnFacts) -> bool| {
            own.iter().filter(|(_, facts)| is(facts)).map(|(column, _)| column.clone()).collect()
        };
        if let Some(content_digest) = file.digest {
            self.files.push(WrittenFile {
                path: file.path.clone(),
                content_digest,
                row_count: file.row_count,
                size_bytes: file.size_bytes,
                partition_values: file.partition_values.clone(),
                row_group_count: metadata.num_row_groups() as u64,
                stats_columns: stats.map(stats_columns).unwrap_or_default(),
                bloom_filter_columns: names(&|facts| facts.bloom_filter),
                dictionary_columns: names(&|facts| facts.dictionary),
                compression: own
                    .iter()
                    .map(|(column, facts)| {
                        (column.clone(), facts.codecs.iter().cloned().collect::<Vec<_>>().join(", "))
                    })
                    .collect(),
            });
        }
        for (column, facts) in own {
            match self.columns.get_mut(&column) {
                None => {
                    self.columns.insert(column, facts);
                }
                Some(all) => all.join(facts),
            }
        }
    }
}

impl ColumnFacts {
    fn add(&mut self, column: &ColumnChunkMetaData) {
        self.codecs.insert(codec(column.compression()));
        self.bloom_filter &= column.bloom_filter_offset().is_some();
        let bytes = column.bloom_filter_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
        self.bloom_filter_bytes = self.bloom_filter_bytes.max(bytes);
        self.dictionary |= column.dictionary_page_offset().is_some();
        self.statistics.insert(match (column.statistics(), column.column_index_offset()) {
            (None, _) => StatisticsLevel::None,
            (Some(_), None) => StatisticsLevel::Chunk,
            (Some(_), Some(_)) => StatisticsLevel::Page,
        });
    }

    fn join(&mut self, other: Self) {
        self.codecs.extend(other.codecs);
        self.bloom_filter &= other.bloom_filter;
        self.bloom_filter_bytes = self.bloom_filter_bytes.max(other.bloom_filter_bytes);
        self.dictionary |= other.dictionary;
        self.statistics.extend(other.statistics);
    }
}

fn read_footer(path: &Path) -> Result<ParquetMetaData, ReadError> {
    let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_path_buf(), source })?;
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&file)
        .map_err(|source| ReadError::Footer { path: path.to_path_buf(), source: source.into() })
}

fn dictionary_bytes(column: &ColumnChunkMetaData) -> u64 {
    let Some(start) = column.dictionary_page_offset() else { return 0 };
    u64::try_from(column.data_page_offset().saturating_sub(start)).unwrap_or_default()
}

/// The codec by the word that a policy has for it, else by the parquet crate's.
fn codec(codec: Codec) -> String {
    match codec {
        Codec::SNAPPY => Compression::Snappy.as_str().to_owned(),
        Codec::ZSTD(_) => Compression::Zstd.as_str().to_owned(),
        Codec::UNCOMPRESSED => Compression::Uncompressed.as_str().to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

/// The columns that a file's statistics in the log speak of, nested ones as `a.b`.
pub(crate) fn stats_columns(stats: &Value) -> Vec<String> {
    fn walk(prefix: &str, value: &Value, columns: &mut BTreeSet<String>) {
        for (name, value) in value.as_object().into_iter().flatten() {
            let path = format!("{prefix}{name}");
            match value {
                Value::Object(_) => walk(&format!("{path}."), value, columns),
                _ => {
                    columns.insert(path);
                }
            }
        }
    }
    let mut columns = BTreeSet::new();
    for key in ["minValues", "maxValues", "nullCount"] {
        walk("", &stats[key], &mut columns);
    }
    columns.into_iter().collect()
}

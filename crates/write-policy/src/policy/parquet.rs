//! The policy in the parquet crate's terms.

use std::collections::BTreeMap;

use alluvium_contracts::Compression;
use arrow::datatypes::Schema;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::stats::path_parts;
use crate::error::PolicyError;
use alluvium_contracts::{FalsePositiveRate, StatisticsLevel, WriterPropertiesPolicy};

/// The engine hands rows to the parquet writer by so many.
const SLICE_ROWS: usize = 1024;

/// The writer's properties. `schema` is the files': partition columns are not in it.
pub(crate) fn writer_properties(
    policy: &WriterPropertiesPolicy,
    schema: &Schema,
) -> Result<WriterProperties, PolicyError> {
    let leaves = Leaves::of(schema)?;
    check_numbers(policy)?;
    let page_rows = count(policy.data_page_max_rows);
    // A page is closed by the batch of values that takes it to the limit, and a batch is as large as the limit where no value
    // is NULL: so that no page holds more rows than it may, it has to be closed earlier.
    let closing_rows = page_rows.saturating_sub(SLICE_ROWS - 1).max(page_rows.div_ceil(2));
    let mut builder = WriterProperties::builder()
        .set_compression(codec(policy.compression))
        .set_statistics_enabled(level(policy.statistics_level))
        .set_max_row_group_row_count(Some(count(policy.row_group_max_rows)))
        .set_data_page_size_limit(count(policy.data_page_size_bytes))
        .set_data_page_row_count_limit(closing_rows)
        .set_write_batch_size(closing_rows.min(SLICE_ROWS))
        .set_dictionary_page_size_limit(count(policy.dictionary_page_size_bytes));
    if let Some(columns) = &policy.dictionary_columns {
        builder = builder.set_dictionary_enabled(false);
        for path in leaves.all("writer_properties.dictionary_columns", columns)? {
            builder = builder.set_column_dictionary_enabled(path, true);
        }
    }
    for path in leaves.all("writer_properties.bloom_filter_columns", &policy.bloom_filter_columns)? {
        builder = bloom_filter(builder, path, policy.bloom_filter_fpp, policy.bloom_filter_ndv);
    }
    for (column, own) in &policy.columns {
        for path in leaves.of_column("writer_properties.columns", column)? {
            if let Some(compression) = own.compression {
                builder = builder.set_column_compression(path.clone(), codec(compression));
            }
            if let Some(dictionary) = own.dictionary {
                builder = builder.set_column_dictionary_enabled(path.clone(), dictionary);
            }
            if let Some(statistics) = own.statistics_level {
                builder = builder.set_column_statistics_enabled(path.clone(), level(statistics));
            }
            let listed = policy.bloom_filter_columns.contains(column);
            builder = match own.bloom_filter.unwrap_or(listed) {
                true => bloom_filter(
                    builder,
                    path,
                    own.bloom_filter_fpp.unwrap_or(policy.bloom_filter_fpp),
                    own.bloom_filter_ndv.unwrap_or(policy.bloom_filter_ndv),
                ),
                false => builder.set_column_bloom_filter_enabled(path, false),
            };
        }
    }
    Ok(builder.build())
}

fn bloom_filter(
    builder: WriterPropertiesBuilder,
    path: ColumnPath,
    fpp: FalsePositiveRate,
    ndv: u64,
) -> WriterPropertiesBuilder {
    builder
        .set_column_bloom_filter_enabled(path.clone(), true)
        .set_column_bloom_filter_fpp(path.clone(), fpp.get())
        .set_column_bloom_filter_max_ndv(path, ndv)
}

/// Beyond the machine's word there is no limit to keep.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The parquet crate panics on these.
fn check_numbers(policy: &WriterPropertiesPolicy) -> Result<(), PolicyError> {
    let zero = [
        ("writer_properties.row_group_max_rows", policy.row_group_max_rows == 0),
        ("writer_properties.data_page_size_bytes", policy.data_page_size_bytes == 0),
        ("writer_properties.data_page_max_rows", policy.data_page_max_rows == 0),
        ("writer_properties.dictionary_page_size_bytes", policy.dictionary_page_size_bytes == 0),
        ("writer_properties.bloom_filter_ndv", policy.bloom_filter_ndv == 0),
        ("writer_properties.columns", policy.columns.values().any(|own| own.bloom_filter_ndv == Some(0))),
    ];
    match zero.into_iter().find(|(_, zero)| *zero) {
        Some((field, _)) => Err(PolicyError::Value { field, problem: "is 0; give a number above it" }),
        None => Ok(()),
    }
}

/// The Parquet columns under each column of the schema.
struct Leaves(BTreeMap<Vec<String>, ColumnPath>, Schema);

impl Leaves {
    fn of(schema: &Schema) -> Result<Self, PolicyError> {
        let parquet = ArrowSchemaConverter::new()
            .convert(schema)
            .map_err(|error| PolicyError::Parquet { source: error.into() })?;
        let leaves = parquet.columns().iter().map(|column| (column.path().parts().to_vec(), column.path().clone()));
        Ok(Self(leaves.collect(), schema.clone()))
    }

    fn of_column(&self, field: &'static str, column: &str) -> Result<Vec<ColumnPath>, PolicyError> {
        let parts = path_parts(&self.1, column);
        let found: Vec<ColumnPath> =
            self.0.iter().filter(|(path, _)| path.starts_with(&parts)).map(|(_, path)| path.clone()).collect();
        match found.is_empty() {
            true => Err(PolicyError::unknown_column(field, column, &self.1)),
            false => Ok(found),
        }
    }

    fn all(&self, field: &'static str, columns: &[String]) -> Result<Vec<ColumnPath>, PolicyError> {
        let found: Result<Vec<Vec<ColumnPath>>, _> =
            columns.iter().map(|column| self.of_column(field, column)).collect();
        found.map(|paths| paths.concat())
    }
}

fn codec(compression: Compression) -> Codec {
    match compression {
        Compression::Snappy => Codec::SNAPPY,
        // The level that the contract documents, which is not the parquet crate's default.
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()),
        Compression::Uncompressed => Codec::UNCOMPRESSED,
    }
}

fn level(level: StatisticsLevel) -> EnabledStatistics {
    match level {
        StatisticsLevel::None => EnabledStatistics::None,
        StatisticsLevel::Chunk => EnabledStatistics::Chunk,
        StatisticsLevel::Page => EnabledStatistics::Page,
    }
}

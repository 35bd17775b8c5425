//! A schema and a policy against what Delta can hold.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;

use super::stats::find;
use crate::change_feed::FEED_COLUMNS;
use crate::error::{PolicyError, TypeCarrier};
use crate::maintain::MIN_RETENTION_HOURS;
use crate::semantic;
use alluvium_contracts::{
    ColumnMapping, DeltaFeature, DeltaWritePolicy, SchemaMode, StatisticsLevel, StatsPolicy, WriteMode,
};

/// The schema in Delta's terms.
pub(crate) fn delta_schema(schema: &Schema) -> Result<StructType, PolicyError> {
    schema.try_into_kernel().map_err(|source| PolicyError::Schema { source })
}

/// Checks everything that does not depend on a table.
pub(crate) fn check(policy: &DeltaWritePolicy, schema: &SchemaRef) -> Result<(), PolicyError> {
    if policy.maintenance.vacuum_retention_hours.is_some_and(|hours| hours < MIN_RETENTION_HOURS) {
        return Err(PolicyError::Value {
            field: "maintenance.vacuum_retention_hours",
            problem: "is below 168; readers and writers may need files that are a week old",
        });
    }
    if policy.maintenance.zorder_min_files.is_some() && policy.zorder_by.is_empty() {
        return Err(PolicyError::Contradiction {
            problem: "`maintenance.zorder_min_files` is given, and `zorder_by` names no column",
            fix: "name columns, or drop it",
        });
    }
    if policy.target_file_size_bytes == 0 {
        return Err(PolicyError::ZeroFileSize);
    }
    if schema.fields().is_empty() {
        return Err(PolicyError::NoColumns);
    }
    let ntz = policy.enable_features.contains(&DeltaFeature::TimestampNtz);
    let feed = policy.enable_features.contains(&DeltaFeature::ChangeDataFeed);
    let mut seen = HashSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name().to_lowercase()) {
            return Err(PolicyError::DuplicateColumn { column: field.name().clone() });
        }
        if feed && FEED_COLUMNS.contains(&field.name().as_str()) {
            return Err(PolicyError::Column {
                field: "enable_features",
                column: field.name().clone(),
                problem: "is a column that the change data feed adds; rename it, or drop `change_data_feed`",
            });
        }
        check_type(field.name(), field.data_type(), ntz)?;
    }
    check_partitions(&policy.partition_by, schema)?;
    check_zorder(policy, schema)?;
    check_statistics(policy, schema)?;
    check_mode(policy, schema)?;
    check_types(policy, schema)?;
    match policy.column_mapping {
        ColumnMapping::None => {}
        ColumnMapping::Name | ColumnMapping::Id => return Err(PolicyError::ColumnMapping),
    }
    delta_schema(schema).map(drop)
}

/// Rows that are looked for have keys alone, and rows that join a table may leave out what it has.
fn check_types(policy: &DeltaWritePolicy, schema: &Schema) -> Result<(), PolicyError> {
    if policy.mode == WriteMode::Delete {
        return Ok(());
    }
    let mut types = policy.semantic_types.clone();
    if policy.schema_mode == SchemaMode::Merge {
        types.retain(|column, _| schema.field_with_name(column).is_ok());
    }
    semantic::check(&types, schema, TypeCarrier::Rows)
}

fn check_zorder(policy: &DeltaWritePolicy, schema: &Schema) -> Result<(), PolicyError> {
    let mut seen = HashSet::new();
    for column in &policy.zorder_by {
        let problem = match find(schema, column) {
            None => return Err(PolicyError::unknown_column("zorder_by", column, schema)),
            Some(_) if schema.field_with_name(column).is_err() => "is nested; sort by a column of the table itself",
            Some(_) if policy.partition_by.contains(column) => {
                "is a partition column, which sorts by itself; name another column"
            }
            Some(data_type) if data_type.is_nested() => "has a nested type, which has no order; name another column",
            Some(_) if !seen.insert(column) => "comes twice; name it once",
            Some(_) => continue,
        };
        return Err(PolicyError::Column { field: "zorder_by", column: column.clone(), problem });
    }
    Ok(())
}

/// Bounds in the log come from the footers.
fn check_statistics(policy: &DeltaWritePolicy, schema: &Schema) -> Result<(), PolicyError> {
    let named = policy.stats_columns.as_deref().unwrap_or_default();
    if policy.stats_policy == StatsPolicy::Explicit && named.is_empty() {
        return Err(PolicyError::Contradiction {
            problem: "`stats_policy` is `explicit`, and `stats_columns` names no column",
            fix: "name columns, or set `stats_policy` to `off`",
        });
    }
    if policy.stats_policy != StatsPolicy::Explicit && !named.is_empty() {
        return Err(PolicyError::Contradiction {
            problem: "`stats_columns` names columns, and `stats_policy` is not `explicit`",
            fix: "set `stats_policy` to `explicit`, or drop `stats_columns`",
        });
    }
    let unknown = named.iter().find(|column| find(schema, column).is_none());
    if let Some(column) = unknown {
        return Err(PolicyError::unknown_column("stats_columns", column, schema));
    }
    if policy.stats_policy != StatsPolicy::Off && policy.writer_properties.statistics_level == StatisticsLevel::None {
        return Err(PolicyError::Contradiction {
            problem: "`writer_properties.statistics_level` is `none`, and the statistics that `stats_policy` asks for come from the footers",
            fix: "set `statistics_level` to `chunk` or `page`, or `stats_policy` to `off`",
        });
    }
    Ok(())
}

fn check_mode(policy: &DeltaWritePolicy, schema: &Schema) -> Result<(), PolicyError> {
    let keyed = !policy.keys.is_empty();
    let conditional = policy.replace_where.is_some();
    let contradiction = match policy.mode {
        WriteMode::Merge if !keyed => {
            Some(("`mode` is `merge`, and `keys` names no column", "name the columns that make a row the same row"))
        }
        WriteMode::Delete if !keyed && !conditional => Some((
            "`mode` is `delete`, and neither `keys` nor `replace_where` says of what",
            "name key columns, or give a condition",
        )),
        WriteMode::Delete if keyed && conditional => {
            Some(("`mode` is `delete`, and both `keys` and `replace_where` say of what", "drop one of them"))
        }
        WriteMode::ReplaceWhere if !conditional => {
            Some(("`mode` is `replace_where`, and `replace_where` is missing", "give a condition, or overwrite"))
        }
        WriteMode::Merge | WriteMode::Delete | WriteMode::ReplaceWhere => None,
        _ if keyed => Some(("`keys` is given, and `mode` does not use it", "set `mode` to `merge` or `delete`")),
        _ if conditional => {
            Some(("`replace_where` is given, and `mode` does not use it", "set `mode` to `replace_where` or `delete`"))
        }
        _ => None,
    };
    let contradiction = contradiction.or(match (policy.mode, policy.schema_mode) {
        (WriteMode::Merge, _) if conditional => {
            Some(("`mode` is `merge`, and `replace_where` is given", "drop `replace_where`"))
        }
        (WriteMode::ReplaceWhere, _) if keyed => {
            Some(("`mode` is `replace_where`, and `keys` is given", "drop `keys`"))
        }
        (WriteMode::Overwrite, _) => None,
        (_, SchemaMode::Overwrite) => Some((
            "`schema_mode` is `overwrite`, and `mode` keeps rows of the old schema",
            "set `mode` to `overwrite`, or `schema_mode` to `merge`",
        )),
        _ => None,
    });
    if let Some((problem, fix)) = contradiction {
        return Err(PolicyError::Contradiction { problem, fix });
    }
    let on = |feature| policy.enable_features.contains(&feature);
    let rewrites = matches!(policy.mode, WriteMode::ReplaceWhere | WriteMode::Merge | WriteMode::Delete);
    if (rewrites || policy.mode == WriteMode::Overwrite) && on(DeltaFeature::AppendOnly) {
        return Err(PolicyError::Contradiction {
            problem: "`enable_features` has `append_only`, and `mode` removes rows",
            fix: "set `mode` to `append`, or drop the feature",
        });
    }
    let mut seen = HashSet::new();
    for column in &policy.keys {
        let problem = match schema.field_with_name(column) {
            Err(_) => return Err(PolicyError::unknown_column("keys", column, schema)),
            Ok(field) if field.data_type().is_nested() => "has a nested type; name another column",
            Ok(_) if !seen.insert(column) => "comes twice; name it once",
            Ok(_) => continue,
        };
        return Err(PolicyError::Column { field: "keys", column: column.clone(), problem });
    }
    Ok(())
}

fn check_partitions(partition_by: &[String], schema: &SchemaRef) -> Result<(), PolicyError> {
    let mut seen = HashSet::new();
    for column in partition_by {
        let Ok(field) = schema.field_with_name(column) else {
            return Err(PolicyError::unknown_column("partition_by", column, schema));
        };
        if !seen.insert(column) {
            return Err(PolicyError::DuplicatePartitionColumn { column: column.clone() });
        }
        if !partitionable(field) {
            return Err(PolicyError::PartitionType { column: column.clone(), data_type: field.data_type().clone() });
        }
    }
    if partition_by.len() == schema.fields().len() {
        return Err(PolicyError::AllColumnsPartitions);
    }
    Ok(())
}

fn partitionable(field: &Field) -> bool {
    use DataType::*;
    // A timestamp was found to be one that Delta holds by `check_type`. Binary is left out: the engine writes it in a
    // form that no reader reads back.
    matches!(
        field.data_type(),
        Boolean
            | Int8
            | Int16
            | Int32
            | Int64
            | Utf8
            | LargeUtf8
            | Utf8View
            | Date32
            | Timestamp(_, _)
            | Decimal128(_, _)
    )
}

/// Walks the type exhaustively enough that a type new to arrow is refused, not passed on.
fn check_type(path: &str, data_type: &DataType, ntz: bool) -> Result<(), PolicyError> {
    use DataType::*;
    let refuse =
        |instead| Err(PolicyError::UnsupportedType { column: path.to_owned(), data_type: data_type.clone(), instead });
    match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 => Ok(()),
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_) | Date32 => Ok(()),
        Timestamp(TimeUnit::Microsecond, None) if ntz => Ok(()),
        Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.eq_ignore_ascii_case("utc") => Ok(()),
        Decimal128(_, scale) if *scale >= 0 => Ok(()),
        List(item) | LargeList(item) | FixedSizeList(item, _) => {
            check_type(&format!("{path}[]"), item.data_type(), ntz)
        }
        Map(entries, _) => check_type(&format!("{path}{{}}"), entries.data_type(), ntz),
        Struct(fields) => {
            fields.iter().try_for_each(|field| check_type(&format!("{path}.{}", field.name()), field.data_type(), ntz))
        }
        Dictionary(_, value) => check_type(path, value, ntz),
        UInt8 => refuse("cast it to Int16"),
        UInt16 => refuse("cast it to Int32"),
        UInt32 | UInt64 => refuse("cast it to Int64"),
        Float16 => refuse("cast it to Float32"),
        Timestamp(TimeUnit::Microsecond, None) => {
            refuse("cast it to Timestamp(Microsecond, \"UTC\"), or enable the feature `timestamp_ntz`")
        }
        Timestamp(_, _) => refuse("cast it to Timestamp(Microsecond, \"UTC\")"),
        Date64 => refuse("cast it to Date32"),
        Decimal32(_, _) | Decimal64(_, _) | Decimal128(_, _) | Decimal256(_, _) => {
            refuse("cast it to Decimal128 with a scale of 0 or more")
        }
        Time32(_) | Time64(_) | Duration(_) => refuse("cast it to Int64"),
        Null => refuse("cast it to the type that it should have"),
        _ => refuse("cast it to a type that Delta knows"),
    }
}

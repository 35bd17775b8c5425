//! A declared policy checked against a schema.

use std::collections::HashSet;

use alluvium_contracts::{Compression, DeltaWritePolicy, LayoutHash, canonical_json};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel as _;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;

use crate::error::PolicyError;

/// A policy checked against a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedWritePolicy {
    policy: DeltaWritePolicy,
    layout_hash: LayoutHash,
}

/// What the layout hash covers. The size is text: canonical JSON knows only doubles.
#[derive(Serialize)]
struct Layout<'a> {
    version: u32,
    target_file_size_bytes: String,
    partition_by: &'a [String],
    compression: Compression,
}

impl ResolvedWritePolicy {
    /// Checks `policy` against `schema`.
    ///
    /// The schema has to be one that Delta holds exactly: unsigned integers, zone-less or nanosecond timestamps, and
    /// the like are refused, because the engine would change them or raise the table's protocol in silence.
    ///
    /// # Errors
    /// [`PolicyError`] names the field or the column, and what to change.
    pub fn resolve(policy: &DeltaWritePolicy, schema: &SchemaRef) -> Result<Self, PolicyError> {
        check(policy, schema)?;
        let layout = Layout {
            version: 1,
            target_file_size_bytes: policy.target_file_size_bytes.to_string(),
            partition_by: &policy.partition_by,
            compression: policy.compression,
        };
        // Strings, a list of strings and an integer always have a canonical form.
        let canonical = canonical_json(&layout).unwrap_or_default();
        Ok(Self { policy: policy.clone(), layout_hash: LayoutHash::of(&canonical) })
    }

    /// The digest of what decides how the files are laid out.
    #[must_use]
    pub fn layout_hash(&self) -> LayoutHash {
        self.layout_hash
    }

    /// The partition columns, outermost first.
    #[must_use]
    pub fn partition_by(&self) -> &[String] {
        &self.policy.partition_by
    }

    /// Whether the policy, resolved against one schema, also suits `schema`.
    pub(crate) fn check(&self, schema: &SchemaRef) -> Result<(), PolicyError> {
        check(&self.policy, schema)
    }

    pub(crate) fn target_file_size_bytes(&self) -> u64 {
        self.policy.target_file_size_bytes
    }

    pub(crate) fn writer_properties(&self) -> WriterProperties {
        let codec = match self.policy.compression {
            Compression::Snappy => Codec::SNAPPY,
            // The level that the contract documents, which is not the parquet crate's default.
            Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()),
            Compression::Uncompressed => Codec::UNCOMPRESSED,
        };
        WriterProperties::builder().set_compression(codec).build()
    }
}

/// The schema in Delta's terms.
pub(crate) fn delta_schema(schema: &SchemaRef) -> Result<StructType, PolicyError> {
    schema.as_ref().try_into_kernel().map_err(|source| PolicyError::Schema { source })
}

fn check(policy: &DeltaWritePolicy, schema: &SchemaRef) -> Result<(), PolicyError> {
    if policy.target_file_size_bytes == 0 {
        return Err(PolicyError::ZeroFileSize);
    }
    if schema.fields().is_empty() {
        return Err(PolicyError::NoColumns);
    }
    let mut seen = HashSet::new();
    for field in schema.fields() {
        if !seen.insert(field.name().to_lowercase()) {
            return Err(PolicyError::DuplicateColumn { column: field.name().clone() });
        }
        check_type(field.name(), field.data_type())?;
    }
    check_partitions(&policy.partition_by, schema)?;
    delta_schema(schema).map(drop)
}

fn check_partitions(partition_by: &[String], schema: &SchemaRef) -> Result<(), PolicyError> {
    let mut seen = HashSet::new();
    for column in partition_by {
        let Ok(field) = schema.field_with_name(column) else {
            let available: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
            return Err(PolicyError::UnknownPartitionColumn {
                column: column.clone(),
                suggestion: nearest(column, &available),
                available,
            });
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

fn nearest(name: &str, candidates: &[String]) -> Option<String> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}

/// Walks the type exhaustively enough that a type new to arrow is refused, not passed on.
fn check_type(path: &str, data_type: &DataType) -> Result<(), PolicyError> {
    use DataType::*;
    let refuse =
        |instead| Err(PolicyError::UnsupportedType { column: path.to_owned(), data_type: data_type.clone(), instead });
    match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 => Ok(()),
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_) | Date32 => Ok(()),
        Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.eq_ignore_ascii_case("utc") => Ok(()),
        Decimal128(_, scale) if *scale >= 0 => Ok(()),
        List(item) | LargeList(item) | FixedSizeList(item, _) => check_type(&format!("{path}[]"), item.data_type()),
        Map(entries, _) => check_type(&format!("{path}{{}}"), entries.data_type()),
        Struct(fields) => {
            fields.iter().try_for_each(|field| check_type(&format!("{path}.{}", field.name()), field.data_type()))
        }
        Dictionary(_, value) => check_type(path, value),
        UInt8 => refuse("cast it to Int16"),
        UInt16 => refuse("cast it to Int32"),
        UInt32 | UInt64 => refuse("cast it to Int64"),
        Float16 => refuse("cast it to Float32"),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(
            fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>(),
        ))
    }

    fn by(columns: &[&str]) -> DeltaWritePolicy {
        DeltaWritePolicy {
            partition_by: columns.iter().map(|column| (*column).to_owned()).collect(),
            ..DeltaWritePolicy::default()
        }
    }

    #[test]
    fn a_misspelt_partition_column_is_named_with_a_suggestion() {
        let error = ResolvedWritePolicy::resolve(
            &by(&["regoin"]),
            &schema(&[("region", DataType::Utf8), ("n", DataType::Int64)]),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`partition_by` names `regoin`, which is no column (did you mean `region`?); the columns are region, n"
        );
        let error = ResolvedWritePolicy::resolve(&by(&["zzz"]), &schema(&[("region", DataType::Utf8)])).unwrap_err();
        assert!(matches!(error, PolicyError::UnknownPartitionColumn { suggestion: None, .. }), "{error}");
    }

    #[test]
    fn partitions_that_cannot_be_are_refused() {
        let list = DataType::new_list(DataType::Int64, true);
        let fields = schema(&[
            ("s", DataType::Utf8),
            ("f", DataType::Float64),
            ("l", list),
            ("b", DataType::Binary),
            ("n", DataType::Int64),
        ]);
        let resolve = |columns: &[&str]| ResolvedWritePolicy::resolve(&by(columns), &fields);
        assert!(matches!(resolve(&["s", "s"]), Err(PolicyError::DuplicatePartitionColumn { .. })));
        for column in ["f", "l", "b"] {
            assert!(matches!(resolve(&[column]), Err(PolicyError::PartitionType { .. })), "{column}");
        }
        assert!(resolve(&["s", "n"]).is_ok());
        let all =
            ResolvedWritePolicy::resolve(&by(&["s", "n"]), &schema(&[("s", DataType::Utf8), ("n", DataType::Int64)]));
        assert!(matches!(all, Err(PolicyError::AllColumnsPartitions)));
    }

    #[test]
    fn a_file_size_of_zero_is_refused() {
        let policy = DeltaWritePolicy { target_file_size_bytes: 0, ..DeltaWritePolicy::default() };
        let result = ResolvedWritePolicy::resolve(&policy, &schema(&[("n", DataType::Int64)]));
        assert!(matches!(result, Err(PolicyError::ZeroFileSize)));
    }

    #[test]
    fn schemas_that_delta_would_change_in_silence_are_refused() {
        let bad = [
            DataType::UInt64,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Duration(TimeUnit::Second),
            DataType::Null,
            DataType::Date64,
            DataType::new_list(DataType::UInt8, true),
            DataType::Struct(vec![Field::new("inner", DataType::Float16, true)].into()),
        ];
        for data_type in bad {
            let result = ResolvedWritePolicy::resolve(&by(&[]), &schema(&[("x", data_type.clone())]));
            assert!(matches!(result, Err(PolicyError::UnsupportedType { .. })), "{data_type}");
        }
        let same = schema(&[("a", DataType::Int64), ("A", DataType::Int64)]);
        assert!(matches!(ResolvedWritePolicy::resolve(&by(&[]), &same), Err(PolicyError::DuplicateColumn { .. })));
        assert!(matches!(ResolvedWritePolicy::resolve(&by(&[]), &schema(&[])), Err(PolicyError::NoColumns)));
    }

    #[test]
    fn every_field_moves_the_layout_hash() {
        let fields = schema(&[("s", DataType::Utf8), ("n", DataType::Int64), ("m", DataType::Int64)]);
        let hash = |policy: &DeltaWritePolicy| ResolvedWritePolicy::resolve(policy, &fields).unwrap().layout_hash();
        let base = DeltaWritePolicy::default();
        let variants = [
            DeltaWritePolicy { target_file_size_bytes: 1, ..base.clone() },
            DeltaWritePolicy { compression: Compression::Zstd, ..base.clone() },
            by(&["s"]),
            by(&["s", "n"]),
            by(&["n", "s"]),
        ];
        let mut hashes: Vec<LayoutHash> = variants.iter().map(hash).collect();
        hashes.push(hash(&base));
        let distinct: HashSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        // Pinned: outputs already written carry this hash, and a change of it rewrites them all.
        assert_eq!(hash(&base).to_string(), "b3:3b8373e0f16c9efed74d24c25f6924d720355a1dcf08c3e85ee1e0315284b3d2");
    }
}

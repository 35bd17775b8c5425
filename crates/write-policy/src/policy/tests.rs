//! What the policy refuses, what its hash covers, and what goes before what.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use alluvium_contracts::Compression;
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::*;
use alluvium_contracts::*;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>(),
    ))
}

/// `s`, `n`, `m`, `flag` and `st.leaf`.
fn columns() -> SchemaRef {
    let leaf = Field::new("leaf", DataType::Int64, true);
    schema(&[
        ("s", DataType::Utf8),
        ("n", DataType::Int64),
        ("m", DataType::Int64),
        ("flag", DataType::Boolean),
        ("st", DataType::Struct(vec![leaf].into())),
    ])
}

fn names(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| (*column).to_owned()).collect()
}

fn by(columns: &[&str]) -> DeltaWritePolicy {
    DeltaWritePolicy { partition_by: names(columns), ..DeltaWritePolicy::default() }
}

fn properties(change: impl FnOnce(&mut WriterPropertiesPolicy)) -> DeltaWritePolicy {
    let mut policy = DeltaWritePolicy::default();
    change(&mut policy.writer_properties);
    policy
}

fn rate(rate: f64) -> FalsePositiveRate {
    FalsePositiveRate::new(rate).unwrap()
}

fn refusal(policy: &DeltaWritePolicy) -> String {
    ResolvedWritePolicy::resolve(policy, &columns()).unwrap_err().to_string()
}

#[test]
fn a_misspelt_column_is_named_with_a_suggestion() {
    let region = schema(&[("region", DataType::Utf8), ("n", DataType::Int64)]);
    let error = ResolvedWritePolicy::resolve(&by(&["regoin"]), &region).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`partition_by` names `regoin`, which is no column (did you mean `region`?); the columns are region, n"
    );
    let error = ResolvedWritePolicy::resolve(&by(&["zzz"]), &region).unwrap_err();
    assert!(matches!(error, PolicyError::UnknownColumn { suggestion: None, .. }), "{error}");
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
    let all = ResolvedWritePolicy::resolve(&by(&["s", "n"]), &schema(&[("s", DataType::Utf8), ("n", DataType::Int64)]));
    assert!(matches!(all, Err(PolicyError::AllColumnsPartitions)));
}

#[test]
fn bad_values_and_contradictions_name_the_field_and_the_fix() {
    let base = DeltaWritePolicy::default();
    let mode = |mode| DeltaWritePolicy { mode, ..base.clone() };
    let cases = [
        (DeltaWritePolicy { target_file_size_bytes: 0, ..base.clone() }, "`target_file_size_bytes` is 0"),
        (DeltaWritePolicy { zorder_by: names(&["x"]), ..base.clone() }, "`zorder_by` names `x`"),
        (DeltaWritePolicy { zorder_by: names(&["n", "n"]), ..base.clone() }, "comes twice"),
        (DeltaWritePolicy { zorder_by: names(&["st.leaf"]), ..base.clone() }, "is nested"),
        (DeltaWritePolicy { zorder_by: names(&["st"]), ..base.clone() }, "has a nested type"),
        (DeltaWritePolicy { zorder_by: names(&["s"]), ..by(&["s"]) }, "is a partition column"),
        (DeltaWritePolicy { stats_policy: StatsPolicy::Explicit, ..base.clone() }, "names no column"),
        (DeltaWritePolicy { stats_columns: Some(names(&["n"])), ..base.clone() }, "`stats_policy` is not `explicit`"),
        (
            DeltaWritePolicy {
                stats_policy: StatsPolicy::Explicit,
                stats_columns: Some(names(&["nn"])),
                ..base.clone()
            },
            "`stats_columns` names `nn`",
        ),
        (mode(WriteMode::Merge), "`keys` names no column"),
        (mode(WriteMode::Delete), "neither `keys` nor `replace_where`"),
        (mode(WriteMode::ReplaceWhere), "`replace_where` is missing"),
        (DeltaWritePolicy { keys: names(&["n"]), ..base.clone() }, "`mode` does not use it"),
        (DeltaWritePolicy { replace_where: Some("n > 1".into()), ..base.clone() }, "`mode` does not use it"),
        (DeltaWritePolicy { keys: names(&["nope"]), ..mode(WriteMode::Merge) }, "`keys` names `nope`"),
        (DeltaWritePolicy { keys: names(&["st"]), ..mode(WriteMode::Merge) }, "nested type"),
        (DeltaWritePolicy { replace_where: Some("n >".into()), ..mode(WriteMode::ReplaceWhere) }, "`replace_where`"),
        (
            DeltaWritePolicy { constraints: BTreeMap::from([("c".into(), "n + 1".into())]), ..base.clone() },
            "`constraints.c`",
        ),
        (
            DeltaWritePolicy { schema_mode: SchemaMode::Overwrite, ..mode(WriteMode::Append) },
            "`schema_mode` is `overwrite`",
        ),
        (DeltaWritePolicy { column_mapping: ColumnMapping::Name, ..base.clone() }, "`column_mapping`"),
        (DeltaWritePolicy { enable_features: vec![DeltaFeature::AppendOnly], ..base.clone() }, "append_only"),
        (properties(|p| p.statistics_level = StatisticsLevel::None), "statistics_level"),
        (properties(|p| p.row_group_max_rows = 0), "row_group_max_rows"),
        (properties(|p| p.data_page_max_rows = 0), "data_page_max_rows"),
        (properties(|p| p.data_page_size_bytes = 0), "data_page_size_bytes"),
        (properties(|p| p.dictionary_page_size_bytes = 0), "dictionary_page_size_bytes"),
        (properties(|p| p.bloom_filter_ndv = 0), "bloom_filter_ndv"),
        (properties(|p| p.bloom_filter_columns = names(&["q"])), "bloom_filter_columns` names `q`"),
        (properties(|p| p.dictionary_columns = Some(names(&["q"]))), "dictionary_columns` names `q`"),
        (
            properties(|p| {
                p.columns.insert("q".into(), ColumnWriterProperties::default());
            }),
            "writer_properties.columns` names `q`",
        ),
    ];
    for (policy, expected) in cases {
        let said = refusal(&policy);
        assert!(said.contains(expected), "{said} does not say {expected}");
    }
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
    let zoneless = schema(&[("x", DataType::Timestamp(TimeUnit::Microsecond, None))]);
    let asked = DeltaWritePolicy { enable_features: vec![DeltaFeature::TimestampNtz], ..by(&[]) };
    assert!(ResolvedWritePolicy::resolve(&asked, &zoneless).is_ok());
}

#[test]
fn everything_physical_moves_the_layout_hash_and_nothing_else_does() {
    let hash = |policy: &DeltaWritePolicy| ResolvedWritePolicy::resolve(policy, &columns()).unwrap().layout_hash();
    let base = DeltaWritePolicy::default();
    let explicit = |columns| DeltaWritePolicy {
        stats_policy: StatsPolicy::Explicit,
        stats_columns: Some(columns),
        ..base.clone()
    };
    let own = |change: fn(&mut ColumnWriterProperties)| {
        let mut column = ColumnWriterProperties::default();
        change(&mut column);
        properties(|p| {
            p.columns.insert("n".into(), column);
        })
    };
    let moving = [
        DeltaWritePolicy { target_file_size_bytes: 1, ..base.clone() },
        by(&["s"]),
        by(&["s", "n"]),
        by(&["n", "s"]),
        DeltaWritePolicy { zorder_by: names(&["n"]), ..base.clone() },
        DeltaWritePolicy { stats_policy: StatsPolicy::Off, ..base.clone() },
        explicit(names(&["n"])),
        explicit(names(&["n", "m"])),
        DeltaWritePolicy { stats_max_columns: 3, ..base.clone() },
        DeltaWritePolicy { enable_features: vec![DeltaFeature::ChangeDataFeed], ..base.clone() },
        DeltaWritePolicy { constraints: BTreeMap::from([("c".into(), "n > 0".into())]), ..base.clone() },
        properties(|p| p.compression = Compression::Zstd),
        properties(|p| p.dictionary_columns = Some(names(&["s"]))),
        properties(|p| p.bloom_filter_columns = names(&["s"])),
        properties(|p| p.bloom_filter_fpp = rate(0.01)),
        properties(|p| p.bloom_filter_ndv = 10),
        properties(|p| p.statistics_level = StatisticsLevel::Chunk),
        properties(|p| p.row_group_max_rows = 10),
        properties(|p| p.data_page_size_bytes = 10),
        properties(|p| p.data_page_max_rows = 10),
        properties(|p| p.dictionary_page_size_bytes = 10),
        own(|c| c.compression = Some(Compression::Zstd)),
        own(|c| c.dictionary = Some(false)),
        own(|c| c.bloom_filter = Some(true)),
        own(|c| c.bloom_filter_fpp = Some(rate(0.5))),
        own(|c| c.bloom_filter_ndv = Some(5)),
        own(|c| c.statistics_level = Some(StatisticsLevel::None)),
    ];
    let mut hashes: Vec<LayoutHash> = moving.iter().map(hash).collect();
    hashes.push(hash(&base));
    let distinct: HashSet<_> = hashes.iter().collect();
    assert_eq!(distinct.len(), hashes.len());

    let keyed = DeltaWritePolicy { mode: WriteMode::Merge, keys: names(&["n"]), ..base.clone() };
    let conditional =
        DeltaWritePolicy { mode: WriteMode::ReplaceWhere, replace_where: Some("n > 1".into()), ..base.clone() };
    let gate = DeltaWritePolicy { feature_gate: GateMode::Warn, ..base.clone() };
    for same in [keyed, conditional, gate, DeltaWritePolicy { mode: WriteMode::Append, ..base.clone() }] {
        assert_eq!(hash(&same), hash(&base), "{same:?}");
    }
    let lineage = [ReaderColumn { column: "m".to_owned(), reason: StatsReason::Filter }];
    let read = ResolvedWritePolicy::resolve_with(&base, &columns(), &lineage, &WriteOverrides::default()).unwrap();
    assert_eq!(read.stats().stats_columns, Some(names(&["m"])));
    assert_eq!(read.layout_hash(), hash(&base), "what readers do is not what was asked for");
    // Pinned: outputs already written carry this hash, and a change of it rewrites them all.
    assert_eq!(hash(&base).to_string(), "b3:bb0a102411c5dff0702b6723c97fcf3860e95ff80c74901316df3a3f71893869");
}

/// One case a cell of the table of precedence: the policy's value, the write's, and what holds.
#[test]
fn the_write_goes_before_the_policy_and_the_policy_before_the_default() {
    let zstd = WriterPropertiesPolicy { compression: Compression::Zstd, ..WriterPropertiesPolicy::default() };
    let policy = DeltaWritePolicy {
        target_file_size_bytes: 7,
        partition_by: names(&["s"]),
        zorder_by: names(&["n"]),
        stats_policy: StatsPolicy::Off,
        enable_features: vec![DeltaFeature::DeletionVectors],
        mode: WriteMode::Merge,
        keys: names(&["n"]),
        schema_mode: SchemaMode::Merge,
        writer_properties: properties(|p| p.data_page_max_rows = 9).writer_properties,
        ..DeltaWritePolicy::default()
    };
    let resolve = |policy: &DeltaWritePolicy, overrides: &WriteOverrides| {
        ResolvedWritePolicy::resolve_with(policy, &columns(), &[], overrides).unwrap()
    };
    let nothing = WriteOverrides::default();
    let overrides = WriteOverrides {
        target_file_size_bytes: Some(8),
        partition_by: Some(names(&["m"])),
        zorder_by: Some(vec![]),
        stats_columns: Some(names(&["n"])),
        enable_features: Some(vec![]),
        mode: Some(WriteMode::Merge),
        keys: Some(names(&["s"])),
        replace_where: None,
        schema_mode: Some(SchemaMode::Strict),
        writer_properties: Some(zstd.clone()),
    };
    let (written, declared, default) =
        (resolve(&policy, &overrides), resolve(&policy, &nothing), resolve(&DeltaWritePolicy::default(), &nothing));
    macro_rules! cells {
        ($($field:literal: $get:expr => $write:expr, $policy:expr, $else:expr;)*) => {$(
            let get: fn(&ResolvedWritePolicy) -> _ = $get;
            assert_eq!((get(&written), get(&declared), get(&default)), ($write, $policy, $else), $field);
        )*};
    }
    cells! {
        "target_file_size_bytes": |r| r.policy().target_file_size_bytes => 8, 7, 96 << 20;
        "partition_by": |r| r.partition_by().to_vec() => names(&["m"]), names(&["s"]), vec![];
        "zorder_by": |r| r.policy().zorder_by.clone() => vec![], names(&["n"]), vec![];
        "statistics": |r| r.stats().stats_columns.clone() => Some(names(&["n"])), Some(vec![]), None;
        "enable_features": |r| r.protocol_features() => vec![], vec!["deletionVectors"], vec![];
        "mode": |r| r.policy().mode => WriteMode::Merge, WriteMode::Merge, WriteMode::Overwrite;
        "keys": |r| r.policy().keys.clone() => names(&["s"]), names(&["n"]), vec![];
        "schema_mode": |r| r.policy().schema_mode => SchemaMode::Strict, SchemaMode::Merge, SchemaMode::Strict;
        "writer_properties": |r| r.policy().writer_properties.clone() => zstd.clone(),
            policy.writer_properties.clone(), WriterPropertiesPolicy::default();
    }
    let conditional = WriteOverrides {
        mode: Some(WriteMode::ReplaceWhere),
        replace_where: Some("n > 1".into()),
        ..WriteOverrides::default()
    };
    let replaced = resolve(&DeltaWritePolicy::default(), &conditional);
    assert_eq!(replaced.policy().replace_where.as_deref(), Some("n > 1"));
}

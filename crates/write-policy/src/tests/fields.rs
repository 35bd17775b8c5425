//! Every field of the policy: what was asked for is in the log, the protocol and the footers, and nowhere without it.

use alluvium_contracts::Compression;
use alluvium_contracts::{
    ColumnWriterProperties, DeltaFeature, FalsePositiveRate, StatisticsLevel, StatsPolicy, WriteMode::*,
    WriterPropertiesPolicy,
};
use arrow::array::{StringArray, StructArray};
use parquet::basic::Encoding;
use parquet::file::metadata::PageIndexPolicy;
use serde_json::json;

use super::*;
use crate::{CommitError, TableWriteOutcome, WriteError, append, table_order};

/// `id` (distinct), `k` (ten values), `p` (two values), `st.id`, and a text.
fn wide() -> RecordBatch {
    let numbers = || 0..3_000_i64;
    let inner: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers().map(|n| -n)));
    let nested = StructArray::from(vec![(Arc::new(Field::new("id", DataType::Int64, true)), inner)]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(numbers().rev()))),
        ("k", Arc::new(Int64Array::from_iter_values(numbers().map(|n| n % 10)))),
        ("p", Arc::new(StringArray::from_iter_values(numbers().map(|n| if n % 2 == 0 { "even" } else { "odd" })))),
        ("st", Arc::new(nested)),
        (
            "t",
            Arc::new(StringArray::from_iter_values(
                numbers().map(|n| blake3::hash(&n.to_le_bytes()).to_hex().to_string()),
            )),
        ),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, column)| column).collect())
        .unwrap()
}

/// What another reader finds in a table: the log as text, the footers by the parquet crate.
fn observe(table: &Path) -> BTreeMap<&'static str, Value> {
    let mut facts = BTreeMap::new();
    let log = actions(table, 0);
    let configuration = &log["metaData"][0]["configuration"];
    let protocol = &log["protocol"][0];
    facts.insert("versions", json!([protocol["minReaderVersion"], protocol["minWriterVersion"]]));
    facts.insert("features", protocol["writerFeatures"].clone());
    facts.insert("partitions", log["metaData"][0]["partitionColumns"].clone());
    facts.insert("files > 2", json!(log["add"].len() > 2));
    for (fact, key) in [
        ("stats property", "delta.dataSkippingStatsColumns"),
        ("stats count property", "delta.dataSkippingNumIndexedCols"),
        ("feed property", "delta.enableChangeDataFeed"),
        ("constraint", "delta.constraints.c"),
    ] {
        facts.insert(fact, configuration[key].clone());
    }
    let stats: Value = serde_json::from_str(log["add"][0]["stats"].as_str().unwrap()).unwrap();
    let keys = |value: &Value| -> Vec<String> {
        let mut keys = Vec::new();
        for (key, value) in value.as_object().unwrap() {
            match value.as_object() {
                Some(inner) => keys.extend(inner.keys().map(|leaf| format!("{key}.{leaf}"))),
                None => keys.push(key.clone()),
            }
        }
        keys
    };
    facts.insert("stats", json!([keys(&stats["minValues"]), keys(&stats["maxValues"]), keys(&stats["nullCount"])]));
    let path = table.join(log["add"][0]["path"].as_str().unwrap());
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&fs::File::open(&path).unwrap())
        .unwrap();
    facts.insert("row groups", json!(metadata.num_row_groups()));
    let group = metadata.row_group(0);
    let by_column = |is: &dyn Fn(usize) -> bool| -> Value {
        let found = (0..group.num_columns()).filter(|index| is(*index));
        json!(found.map(|index| group.column(index).column_path().string()).collect::<Vec<_>>())
    };
    facts.insert("zstd", by_column(&|c| matches!(group.column(c).compression(), parquet::basic::Compression::ZSTD(_))));
    facts.insert("dictionary", by_column(&|c| group.column(c).dictionary_page_offset().is_some()));
    facts.insert("bloom", by_column(&|c| group.column(c).bloom_filter_offset().is_some()));
    facts.insert("footer stats", by_column(&|c| group.column(c).statistics().is_some()));
    facts.insert("page stats", by_column(&|c| group.column(c).column_index_offset().is_some()));
    // The dictionary overflows: some of its pages are plain.
    facts.insert(
        "plain pages",
        by_column(&|c| {
            group.column(c).dictionary_page_offset().is_some()
                && group.column(c).encodings().any(|encoding| encoding == Encoding::PLAIN)
                && group.column(c).page_encoding_stats_mask().is_some_and(|mask| mask.is_set(Encoding::PLAIN))
        }),
    );
    let offsets = &metadata.offset_index().unwrap()[0];
    let pages = |column: usize| offsets[column].page_locations().len();
    let mut starts: Vec<i64> =
        offsets[group.num_columns() - 1].page_locations().iter().map(|page| page.first_row_index).collect();
    starts.push(group.num_rows());
    let fits = starts.windows(2).all(|pair| pair[1] - pair[0] <= 100);
    facts.insert("pages of t hold 100 rows", json!(fits));
    facts.insert("pages of id > 1", json!(pages(0) > 1));
    facts.insert("bloom bytes of id", json!(group.column(0).bloom_filter_length()));
    facts
}

fn properties(change: impl FnOnce(&mut WriterPropertiesPolicy)) -> DeltaWritePolicy {
    let mut policy = DeltaWritePolicy::default();
    change(&mut policy.writer_properties);
    policy
}

fn own(column: &str, properties: ColumnWriterProperties) -> DeltaWritePolicy {
    self::properties(|all| {
        all.columns.insert(column.to_owned(), properties);
    })
}

async fn observed(policy: &DeltaWritePolicy) -> BTreeMap<&'static str, Value> {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), policy, vec![wide()]).await;
    observe(dir.path())
}

/// A field, a policy that sets it, and what there is to see then.
type Case = (&'static str, DeltaWritePolicy, Vec<(&'static str, Value)>);

#[tokio::test]
async fn each_field_is_what_is_there() {
    let base = DeltaWritePolicy::default();
    let explicit = |columns: &[&str]| DeltaWritePolicy {
        stats_policy: StatsPolicy::Explicit,
        stats_columns: Some(names(columns)),
        ..base.clone()
    };
    let rate = FalsePositiveRate::new(0.000_1).unwrap();
    let own_bloom = ColumnWriterProperties { bloom_filter: Some(true), ..Default::default() };
    let cases: Vec<Case> = vec![
        (
            "target_file_size_bytes",
            DeltaWritePolicy { target_file_size_bytes: 20_000, ..base.clone() },
            vec![("files > 2", json!(true))],
        ),
        (
            "partition_by",
            DeltaWritePolicy { partition_by: names(&["p"]), ..base.clone() },
            vec![("partitions", json!(["p"]))],
        ),
        (
            "stats_policy off",
            DeltaWritePolicy { stats_policy: StatsPolicy::Off, ..base.clone() },
            vec![("stats", json!([[], [], []])), ("stats count property", json!("0"))],
        ),
        (
            "stats_columns",
            explicit(&["k", "st.id"]),
            vec![
                ("stats", json!([["k", "st.id"], ["k", "st.id"], ["k", "st.id"]])),
                ("stats property", json!("k,st.id")),
            ],
        ),
        (
            "stats by z-order",
            DeltaWritePolicy { zorder_by: names(&["id"]), ..base.clone() },
            vec![("stats", json!([["id"], ["id"], ["id"]])), ("stats property", json!("id"))],
        ),
        (
            "stats_max_columns",
            DeltaWritePolicy { stats_max_columns: 2, ..base.clone() },
            vec![("stats", json!([["id", "k"], ["id", "k"], ["id", "k"]])), ("stats count property", json!("2"))],
        ),
        (
            "enable_features",
            DeltaWritePolicy { enable_features: vec![DeltaFeature::ChangeDataFeed], ..base.clone() },
            vec![
                ("features", json!(["changeDataFeed"])),
                ("feed property", json!("true")),
                ("versions", json!([1, 7])),
            ],
        ),
        (
            "constraints",
            DeltaWritePolicy { constraints: BTreeMap::from([("c".into(), "id >= 0".into())]), ..base.clone() },
            vec![("constraint", json!("id >= 0")), ("features", json!(["checkConstraints"]))],
        ),
        (
            "compression",
            properties(|p| p.compression = Compression::Zstd),
            vec![("zstd", json!(["id", "k", "p", "st.id", "t"]))],
        ),
        (
            "dictionary_columns",
            properties(|p| p.dictionary_columns = Some(names(&["k", "p"]))),
            vec![("dictionary", json!(["k", "p"]))],
        ),
        ("no dictionary", properties(|p| p.dictionary_columns = Some(vec![])), vec![("dictionary", json!([]))]),
        (
            "bloom_filter_columns",
            properties(|p| p.bloom_filter_columns = names(&["id", "st.id"])),
            vec![("bloom", json!(["id", "st.id"]))],
        ),
        (
            "statistics_level chunk",
            properties(|p| p.statistics_level = StatisticsLevel::Chunk),
            vec![("page stats", json!([]))],
        ),
        (
            "statistics_level none",
            DeltaWritePolicy {
                stats_policy: StatsPolicy::Off,
                ..properties(|p| p.statistics_level = StatisticsLevel::None)
            },
            vec![("footer stats", json!([]))],
        ),
        ("row_group_max_rows", properties(|p| p.row_group_max_rows = 1_000), vec![("row groups", json!(3))]),
        (
            "data_page_max_rows",
            properties(|p| p.data_page_max_rows = 100),
            vec![("pages of t hold 100 rows", json!(true)), ("pages of id > 1", json!(true))],
        ),
        ("data_page_size_bytes", properties(|p| p.data_page_size_bytes = 512), vec![("pages of id > 1", json!(true))]),
        (
            "dictionary_page_size_bytes",
            properties(|p| p.dictionary_page_size_bytes = 1_024),
            vec![("plain pages", json!(["id", "st.id", "t"]))],
        ),
        (
            "columns.compression",
            own("k", ColumnWriterProperties { compression: Some(Compression::Zstd), ..Default::default() }),
            vec![("zstd", json!(["k"]))],
        ),
        (
            "columns.dictionary",
            own("k", ColumnWriterProperties { dictionary: Some(false), ..Default::default() }),
            vec![("dictionary", json!(["id", "p", "st.id", "t"]))],
        ),
        ("columns.bloom_filter", own("st.id", own_bloom.clone()), vec![("bloom", json!(["st.id"]))]),
        (
            "columns.statistics_level",
            own("t", ColumnWriterProperties { statistics_level: Some(StatisticsLevel::None), ..Default::default() }),
            vec![("footer stats", json!(["id", "k", "p", "st.id"]))],
        ),
    ];
    let without = observed(&base).await;
    assert_eq!(without["versions"], json!([1, 2]), "nothing raises the protocol by itself");
    for (field, policy, expected) in cases {
        let with = observed(&policy).await;
        for (fact, value) in expected {
            assert_eq!(with[fact], value, "{field}: {fact}");
            assert_ne!(without[fact], value, "{field}: {fact} is there without it");
        }
    }
    // Sizes of bloom filters follow the rate and the count.
    let bloom = properties(|p| {
        p.bloom_filter_columns = names(&["id"]);
        p.bloom_filter_ndv = 3_000;
    });
    let bytes = |facts: &BTreeMap<&str, Value>| facts["bloom bytes of id"].as_i64().unwrap();
    let usual = bytes(&observed(&bloom).await);
    let mut finer = bloom.clone();
    finer.writer_properties.bloom_filter_fpp = rate;
    assert!(bytes(&observed(&finer).await) > usual, "fpp");
    let mut fewer = bloom;
    fewer.writer_properties.bloom_filter_ndv = 30;
    assert!(bytes(&observed(&fewer).await) < usual, "ndv");
    let own_finer = ColumnWriterProperties { bloom_filter_fpp: Some(rate), bloom_filter_ndv: Some(3_000), ..own_bloom };
    assert!(bytes(&observed(&own("id", own_finer)).await) > usual, "of a column");
}

#[tokio::test]
async fn a_later_writer_without_a_policy_writes_as_the_first_did() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy {
        stats_policy: StatsPolicy::Explicit,
        stats_columns: Some(names(&["k"])),
        target_file_size_bytes: 20_000,
        partition_by: names(&["p"]),
        zorder_by: names(&["id"]),
        ..properties(|p| {
            p.compression = Compression::Zstd;
            p.bloom_filter_columns = names(&["id"]);
        })
    };
    land(dir.path(), &policy, vec![wide()]).await;
    let outcome = append(dir.path(), wide().schema(), vec![wide()], &metadata("r"), ("o", 1)).await.unwrap();
    assert!(matches!(outcome, AppendOutcome::Committed(_)), "{outcome:?}");
    let log = actions(dir.path(), 1);
    assert!(!log.contains_key("metaData") && !log.contains_key("protocol"), "nothing of the table changed: {log:?}");
    assert!(log["add"].len() > 2, "the file size is the table's");
    for add in &log["add"] {
        assert!(add["partitionValues"]["p"].is_string());
        let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
        assert_eq!(stats["minValues"].as_object().unwrap().keys().collect::<Vec<_>>(), ["k"]);
        let group = footer(&dir.path().join(add["path"].as_str().unwrap())).row_group(0).clone();
        assert!(matches!(group.column(0).compression(), parquet::basic::Compression::ZSTD(_)));
        assert!(group.column(0).bloom_filter_offset().is_some());
        assert!(add["tags"]["alluvium.order"].is_string(), "sorted like the first");
    }
    assert_eq!(table_order(dir.path(), 0).await.unwrap(), Some(names(&["p", "id"])));
    assert_eq!(table_order(dir.path(), 1).await.unwrap(), None, "two orders beside each other are none");
}

#[tokio::test]
async fn rows_that_break_a_constraint_are_refused_on_every_path() {
    let constrained = DeltaWritePolicy {
        constraints: BTreeMap::from([("positive".to_owned(), "n > 0".to_owned())]),
        mode: Append,
        ..DeltaWritePolicy::default()
    };
    let broken = |result: Result<TableWriteOutcome, CommitError>| {
        let Err(CommitError::Write { source: WriteError::Constraint { constraint, violations, .. } }) = result else {
            panic!("{result:?}")
        };
        assert_eq!((constraint.as_str(), violations), ("positive", 1));
    };
    let dir = tempfile::tempdir().unwrap();
    let bad = || vec![batch(&[(Some("a"), 1), (Some("b"), -1)])];
    broken(write(dir.path(), &constrained, bad()).await);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    land(dir.path(), &constrained, vec![batch(&[(Some("a"), 1)])]).await;

    // The table asks for it now, whatever later policies say.

    let silent = DeltaWritePolicy::default();
    for policy in [
        DeltaWritePolicy { mode: Append, ..silent.clone() },
        DeltaWritePolicy { mode: Overwrite, ..silent.clone() },
        DeltaWritePolicy { mode: Merge, keys: names(&["s"]), ..silent.clone() },
        DeltaWritePolicy { mode: ReplaceWhere, replace_where: Some("n < 10".into()), ..silent.clone() },
    ] {
        broken(write(dir.path(), &policy, bad()).await);
    }
    let appended = append(dir.path(), schema(), bad(), &metadata("r"), ("o", 1)).await;
    assert!(matches!(appended, Err(CommitError::Write { source: WriteError::Constraint { .. } })), "{appended:?}");
    let staged = write_files(dir.path(), schema(), vec![stream(bad())], &plain()).await;
    assert!(matches!(staged, Err(WriteError::Constraint { .. })), "{staged:?}");
    let nulls = vec![batch(&[(None, 1)])];
    land(dir.path(), &DeltaWritePolicy { mode: Append, ..silent.clone() }, nulls).await;
    assert_eq!(rows(dir.path()).await, ["NULL|1", "a|1"]);

    // Files staged before the constraint came do not slip past it.
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &silent, vec![batch(&[(Some("a"), -5)])]).await;
    let staged = stage(dir.path(), vec![batch(&[(Some("a"), -1)])]).await;
    land(dir.path(), &DeltaWritePolicy { mode: Overwrite, ..constrained.clone() }, vec![batch(&[(Some("b"), 1)])])
        .await;
    let result = commit_replace(dir.path(), Some(1), schema(), staged, &plain(), &metadata("r"), None).await;
    assert!(matches!(result, Err(CommitError::NewConstraint { .. })), "{result:?}");

    // A constraint that the rows which stay were never checked for is not put on the table.
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &silent, vec![batch(&[(Some("a"), -5)])]).await;
    let result = write(dir.path(), &constrained, vec![batch(&[(Some("b"), 1)])]).await;
    assert!(matches!(result, Err(CommitError::UncheckedRows { .. })), "{result:?}");
    assert_eq!(rows(dir.path()).await, ["a|-5"]);
}

#[tokio::test]
async fn bad_input_leaves_a_table_as_it_was_and_makes_none() {
    let base = DeltaWritePolicy::default();
    let bad = [
        ("`partition_by` names `nope`", DeltaWritePolicy { partition_by: names(&["nope"]), ..base.clone() }),
        ("`partition_by` names every column", DeltaWritePolicy { partition_by: names(&["s", "n"]), ..base.clone() }),
        (
            "`zorder_by` names `s`, which is a partition column",
            DeltaWritePolicy { partition_by: names(&["s"]), zorder_by: names(&["s"]), ..base.clone() },
        ),
        (
            "`enable_features` asks for `rowTracking`",
            DeltaWritePolicy { enable_features: vec![DeltaFeature::RowTracking], ..base.clone() },
        ),
        ("`mode` is `merge`, and `keys` names no column", DeltaWritePolicy { mode: Merge, ..base.clone() }),
        ("`keys` is given, and `mode` does not use it", DeltaWritePolicy { keys: names(&["s"]), ..base.clone() }),
        ("`writer_properties.statistics_level` is `none`", properties(|p| p.statistics_level = StatisticsLevel::None)),
    ];
    let dir = tempfile::tempdir().unwrap();
    let (table, missing) = (dir.path().join("table"), dir.path().join("missing"));
    land(&table, &base, vec![batch(&[(Some("a"), 1)])]).await;
    let before = (actions(&table, 0), data_files(&table));
    for (said, policy) in bad {
        for table in [&table, &missing] {
            let result = write(table, &policy, vec![batch(&[(Some("b"), 2)])]).await;
            let Err(CommitError::Policy { source }) = result else { panic!("{said}: {result:?}") };
            assert!(source.to_string().contains(said), "{source} does not say {said}");
        }
        assert!(!missing.exists(), "{said}");
        assert_eq!((actions(&table, 0), data_files(&table)), before, "{said}");
        assert_eq!(fs::read_dir(table.join("_delta_log")).unwrap().count(), 1, "{said}");
    }
}

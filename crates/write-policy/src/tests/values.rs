//! Awkward values, types and directories.

use std::sync::Mutex;

use alluvium_contracts::WriteMode;
use alluvium_telemetry::{RunContext, RunSpan, Seam};
use arrow::array::{BooleanArray, Date32Array, Decimal128Array, TimestampMicrosecondArray};
use arrow::datatypes::TimeUnit;

use super::*;
use crate::{WriteError, added_files, commit_create, head_commit, transaction_version};

fn by_s() -> ResolvedWritePolicy {
    resolve(&DeltaWritePolicy { partition_by: vec!["s".to_owned()], ..DeltaWritePolicy::default() })
}

#[tokio::test]
async fn partition_values_come_back_whatever_they_hold() {
    let values = [
        "plain",
        "a b",
        "a/b",
        "a=b",
        "100%",
        "%20",
        "%2F",
        "#",
        "?",
        "*",
        "ü€𝄞",
        "'",
        "\"",
        "\\",
        "a\nb",
        "\u{1}",
        ":",
        "{}",
        "..",
        ".",
        " ",
        "null",
        "NULL",
        "+",
        "~",
        "a&b",
        "1=2/3=4",
    ];
    let mut input: Vec<(Option<&str>, i64)> = values.iter().copied().map(Some).zip(0..).collect();
    input.push((None, 99));
    let dir = tempfile::tempdir().unwrap();
    let staged = write_files(dir.path(), schema(), vec![stream(vec![batch(&input)])], &by_s()).await.unwrap();
    let by_path: BTreeMap<String, Option<String>> =
        staged.files().iter().map(|file| (file.path.clone(), file.partition_values["s"].clone())).collect();
    assert_eq!(by_path.len(), input.len(), "one file a value");
    for path in by_path.keys() {
        assert!(dir.path().join(path).is_file(), "the path is the one on disk: {path}");
    }
    commit_create(dir.path(), schema(), staged, &by_s(), &metadata("r")).await.unwrap();
    let mut expected: Vec<String> = input.iter().map(|(s, n)| format!("{}|{n}", s.unwrap_or("NULL"))).collect();
    expected.sort();
    assert_eq!(rows(dir.path()).await, expected);
    let active = active_files(dir.path(), 0).await.unwrap();
    let mut added = added_files(dir.path(), 0).unwrap();
    added.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(added, active, "the first commit tells what a replay tells");
    let replayed = active.into_iter().map(|mut file| (file.path, file.partition_values.remove("s").unwrap())).collect();
    assert_eq!(by_path, replayed);
    // And all of them can be replaced: a path encoded otherwise than it was added would stay.
    assert_eq!(replace_by_s(dir.path(), 0).await.version, 1);
    assert_eq!(rows(dir.path()).await, ["only|1"]);
}

async fn replace_by_s(table: &Path, expected: u64) -> Committed {
    let input = stream(vec![batch(&[(Some("only"), 1)])]);
    let staged = write_files(table, schema(), vec![input], &by_s()).await.unwrap();
    let outcome = commit_replace(table, Some(expected), schema(), staged, &by_s(), &metadata("r"), None).await.unwrap();
    let CommitOutcome::Committed(committed) = outcome else { panic!("{outcome:?}") };
    committed
}

#[tokio::test]
async fn partition_values_that_would_read_back_as_null_are_refused() {
    for value in ["", "__HIVE_DEFAULT_PARTITION__"] {
        let dir = tempfile::tempdir().unwrap();
        let input = batch(&[(Some("fine"), 1), (None, 2), (Some(value), 3)]);
        let result = write_files(dir.path(), schema(), vec![stream(vec![input.clone()])], &by_s()).await;
        assert!(matches!(&result, Err(WriteError::PartitionValue { column, .. }) if column == "s"), "{result:?}");
        assert_eq!(data_files(dir.path()), Vec::<PathBuf>::new());
        // Outside a partition column they are values like any other.
        assert_eq!(replace(dir.path(), None, vec![input]).await.version, 0);
        assert_eq!(rows(dir.path()).await.len(), 3);
    }
}

#[tokio::test]
async fn partitions_of_every_type_come_back() {
    let micros = |zone: &str| DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
    let fields = [
        ("date", DataType::Date32),
        ("at", micros("UTC")),
        ("ok", DataType::Boolean),
        ("price", DataType::Decimal128(10, 2)),
    ];
    let schema: SchemaRef = Arc::new(Schema::new(
        fields
            .iter()
            .map(|(name, data_type)| Field::new(*name, data_type.clone(), true))
            .chain([Field::new("n", DataType::Int64, true)])
            .collect::<Vec<_>>(),
    ));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from(vec![Some(-1), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("UTC")),
        Arc::new(BooleanArray::from(vec![Some(false), None])),
        Arc::new(Decimal128Array::from(vec![Some(-5), None]).with_precision_and_scale(10, 2).unwrap()),
        Arc::new(Int64Array::from(vec![1, 2])),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let policy = DeltaWritePolicy {
        partition_by: fields.iter().map(|(name, _)| (*name).to_owned()).collect(),
        ..DeltaWritePolicy::default()
    };
    let policy = ResolvedWritePolicy::resolve(&policy, &schema).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let staged = write_files(dir.path(), schema.clone(), vec![stream(vec![batch])], &policy).await.unwrap();
    commit_create(dir.path(), schema, staged, &policy, &metadata("r")).await.unwrap();
    assert_eq!(
        rows(dir.path()).await,
        ["1969-12-31|1969-12-31T23:59:59.999999Z|false|-0.05|1", "NULL|NULL|NULL|NULL|2"]
    );
}

#[tokio::test]
async fn a_partition_value_too_long_for_a_directory_is_told_from_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let long = "é".repeat(130);
    let rows = stream(vec![batch(&[(Some("short"), 1), (Some(&long), 2)])]);
    let result = write_files(dir.path(), schema(), vec![rows], &by_s()).await;
    assert!(matches!(result, Err(WriteError::NameTooLong { .. })), "{result:?}");
    assert_eq!(data_files(dir.path()), Vec::<PathBuf>::new());
}

/// Rows are asked for in tasks of the writer's own.
#[tokio::test]
async fn what_makes_the_rows_belongs_to_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let seam = Seam::system();
    let run = RunSpan::begin(&seam, seam.run_id(), None);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let batches =
        stream(vec![batch(&[(Some("a"), 1)])]).inspect(move |_| noted.lock().unwrap().push(RunContext::current()));
    let rows = Box::pin(RecordBatchStreamAdapter::new(schema(), batches));
    let staged = run.scope(write_files(dir.path(), schema(), vec![rows], &by_s())).await.unwrap();
    drop(staged);
    assert_eq!(*seen.lock().unwrap(), [Some(run.context().clone())]);
}

#[tokio::test]
async fn the_directory_may_have_any_name() {
    let names =
        ["a b", "100%", "%20", "%2e%2e", "a#b", "what?", "ünï€", "[x]{y}", "semi;colon", "back\\slash", "~", "a+b&c=d"];
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let table = dir.path().join(name).join("table");
        assert_eq!(replace(&table, None, vec![batch(&[(Some("a"), 1)])]).await.version, 0, "{name}");
        assert_eq!(replace(&table, Some(0), vec![batch(&[(Some("b"), 2)])]).await.version, 1, "{name}");
        append_row(&table, ("c", 3), ("o", 1)).await;
        assert_eq!(plain_rows(&table, 2).await, ["b|2", "c|3"], "{name}");
        assert_eq!(head_commit(&table).unwrap().unwrap().version, 2, "{name}");
        assert_eq!(transaction_version(&table, "o").await.unwrap(), Some(1), "{name}");
        for file in active_files(&table, 2).await.unwrap() {
            assert!(table.join(&file.path).is_file(), "{name}");
        }
    }
    let mut made: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    made.sort();
    let mut expected = names.map(std::ffi::OsString::from);
    expected.sort();
    assert_eq!(made, expected, "no directory of another name was made");
}

#[tokio::test]
async fn a_path_that_goes_up_and_down_is_the_table_it_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("x")).unwrap();
    replace(&dir.path().join("x/../table"), None, vec![batch(&[(Some("a"), 1)])]).await;
    assert_eq!(rows(&dir.path().join("table")).await, ["a|1"]);
}

#[tokio::test]
async fn bounds_of_decimals_hold_or_are_not_there() {
    let wide = [-1_i128, 899_999_999_999_999_999_i128];
    let types = [(15, 2), (18, 2), (38, 0)].map(|(precision, scale)| DataType::Decimal128(precision, scale));
    let fields: Vec<Field> =
        types.iter().zip(["d15", "d18", "d38"]).map(|(kind, name)| Field::new(name, kind.clone(), true)).collect();
    let nested = Field::new("in", DataType::Struct(fields.clone().into()), true);
    let schema: SchemaRef = Arc::new(Schema::new(fields.iter().cloned().chain([nested]).collect::<Vec<_>>()));
    let rows_of = |values: [i128; 3]| {
        let columns = values.iter().zip(&types).map(|(value, kind)| -> ArrayRef {
            let DataType::Decimal128(precision, scale) = kind else { panic!("{kind}") };
            Arc::new(Decimal128Array::from(vec![*value]).with_precision_and_scale(*precision, *scale).unwrap())
        });
        let columns: Vec<ArrayRef> = columns.collect();
        let nested: ArrayRef = Arc::new(arrow::array::StructArray::new(fields.clone().into(), columns.clone(), None));
        RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().chain([nested]).collect()).unwrap()
    };
    let values = [999_999_999_999_999, wide[1], i128::from(i64::MAX) * 1_000 + 1];
    for key in ["d15", "d18", "d38"] {
        let dir = tempfile::tempdir().unwrap();
        let merging = DeltaWritePolicy { mode: WriteMode::Merge, keys: names(&[key]), ..DeltaWritePolicy::default() };
        land(dir.path(), &DeltaWritePolicy::default(), vec![rows_of(values)]).await;
        land(
            dir.path(),
            &DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() },
            vec![rows_of([-1; 3])],
        )
        .await;
        land(dir.path(), &merging, vec![rows_of(values)]).await;
        assert_eq!(rows(dir.path()).await.len(), 2, "the row under the same {key} went");
        let stats: Value = serde_json::from_str(actions(dir.path(), 0)["add"][0]["stats"].as_str().unwrap()).unwrap();
        for bounds in ["minValues", "maxValues"] {
            assert_eq!(
                stats[bounds],
                serde_json::json!({"d15": 9_999_999_999_999.99, "in": {"d15": 9_999_999_999_999.99}})
            );
        }
        assert_eq!(stats["nullCount"]["d38"], 0, "what holds is kept");
    }
}

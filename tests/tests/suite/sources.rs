//! Sources with a `cache`: their files are read once a pin, their rows come back as they were, and no key moves.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{
    CacheCommitMetadata, CacheInventoryEntry, CacheScope, DatasetCache, DatasetFormat, DatasetSpec, LookupResult,
    RunDocument, SourcePath, ViewResult,
};
use alluvium_datasets::{Dataset, Pinner};
use alluvium_delta_cache::DeltaCache;
use alluvium_ledgers::decode_rows;
use alluvium_profile::{CacheRoot, Query};
use alluvium_runs::{OpenOptions, Pipeline};
use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, RecordBatch, StringArray, StringViewArray, TimestampNanosecondArray,
    UInt64Array,
};
use arrow::datatypes::Int8Type;
use parquet::arrow::ArrowWriter;
use url::Url;

use crate::lab::{Lab, answer, batches, later, results, run, sessions};
use crate::store::Counting;

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"
cache = "delta_staging"

[views.counted]
sql = "select s, count(*) as n, max(k - 1) as k from events group by s"

[views.late]
sql = "select k, at, d from events where at > '1970-01-01T00:00:00.000001Z'"
"#;

/// Types that no Delta table has, with what is hard to keep: NULL, NaN, -0.0, values at their limits.
fn events(first: u64) -> RecordBatch {
    let keys: ArrayRef = Arc::new(UInt64Array::from(vec![Some(first), None, Some(7), Some(0)]));
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), Some(""), None, Some("a")]));
    let at: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![Some(1_000), None, Some(-5_000), Some(9_000_000)]));
    let dictionary: DictionaryArray<Int8Type> = vec![Some("x"), None, Some("y"), Some("x")].into_iter().collect();
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.0), None, Some(1.5)]));
    RecordBatch::try_from_iter([
        ("k", keys),
        ("s", texts),
        ("at", at),
        ("d", Arc::new(dictionary) as ArrayRef),
        ("f", floats),
    ])
    .unwrap()
}

fn write(path: &Path, batch: &RecordBatch) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn lab(cache: &str) -> Lab {
    let lab = Lab::new(&TOML.replace("delta_staging", cache));
    write(&lab.path("data/events.parquet"), &events(1));
    lab
}

/// A pipeline that counts the reads of its source's files.
fn counting(lab: &Lab) -> (Pipeline, Arc<Counting>) {
    let store = Counting::new("events.parquet");
    let local = Url::parse("file:///").unwrap();
    let sessions = Some(sessions().with_object_store(local, Arc::clone(&store) as _));
    (Lab::open_with(lab.dir(), OpenOptions { sessions, ..OpenOptions::default() }), store)
}

/// The rows of the inventory about sources, in their order.
async fn inventory(lab: &Lab) -> Vec<CacheInventoryEntry> {
    let sql = "select * from alluvium.cache_inventory where cache_scope = 'dataset' order by event_time_unix_ms";
    batches(&lab.open(), sql).await.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect()
}

async fn told(lab: &Lab) -> Vec<ViewResult> {
    inventory(lab).await.iter().map(|row| row.result).collect()
}

fn tables(lab: &Lab) -> Vec<std::path::PathBuf> {
    let parents = std::fs::read_dir(lab.path(".alluvium/dataset_cache")).into_iter().flatten();
    parents
        .flat_map(|parent| std::fs::read_dir(parent.unwrap().path()).unwrap().map(|dir| dir.unwrap().path()))
        .collect()
}

fn succeeded(document: &RunDocument) {
    assert!(document.views.iter().all(|view| view.result != ViewResult::Error), "{document:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_once_a_pin_and_from_the_cache_afterwards() {
    let lab = lab("delta_staging");
    let (pipeline, files) = counting(&lab);
    succeeded(&run(&pipeline).await);
    assert!(files.reads() > 0);
    assert_eq!(told(&lab).await, [ViewResult::Write], "two views read it, and it was written once");
    let [table] = tables(&lab).try_into().unwrap();
    let commit = alluvium_write_policy::commit_info(&table, 0).unwrap();
    let commit = CacheCommitMetadata::from_commit_info(&commit).unwrap().unwrap();
    assert_eq!((commit.cache_scope, commit.name.as_str(), commit.row_count), (CacheScope::Dataset, "events", Some(4)));
    assert_eq!(commit.delta_inputs[0].name, "events");
    assert!(commit.plan_hash.is_none() && commit.cache_key.is_some() && commit.schema_hash.is_some());

    // All hits: nobody asks for the source.
    let (pipeline, files) = counting(&lab);
    run(&pipeline).await;
    assert_eq!((files.reads(), told(&lab).await.len()), (0, 1));

    lab.edit("alluvium.toml", "max(k - 1)", "max(k - 2)");
    let (pipeline, files) = counting(&lab);
    let third = run(&pipeline).await;
    assert_eq!(results(&third), ["counted: write", "late: hit"]);
    assert_eq!(files.reads(), 0, "its rows come from the cache");
    assert_eq!(told(&lab).await, [ViewResult::Write, ViewResult::Hit]);
    assert_eq!(inventory(&lab).await[1].run_id, third.run_id);
    answer(&pipeline, "select count(*), max(f) from events").await;
    assert_eq!(files.reads(), 0, "so do those of a query");

    // A changed file is another pin.
    write(&lab.path("data/events.parquet"), &events(1_000));
    let (pipeline, files) = counting(&lab);
    succeeded(&run(&pipeline).await);
    assert!(files.reads() > 0);
    assert_eq!(told(&lab).await, [ViewResult::Write, ViewResult::Hit, ViewResult::Write]);
    assert!(lab.sql("select max(k) as k from events").await.contains("1000"));
    assert_eq!(tables(&lab).len(), 2);
    let commits = lab.sql("select count(*) as n from alluvium.run_commits where cache_scope = 'dataset'").await;
    assert!(commits.contains("| 2 |"), "{commits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_no_row_and_no_schema_moves_with_the_policy() {
    let mut seen = Vec::new();
    for cache in ["none", "memory", "delta_staging"] {
        let lab = lab(cache);
        let document = run(&lab.open()).await;
        assert_eq!(results(&document), ["counted: write", "late: write"]);
        // Over the source itself, and planned when its rows were there.
        let pipeline = lab.open();
        let rows = batches(&pipeline, "select *, arrow_typeof(k), arrow_typeof(at), arrow_typeof(d) from events").await;
        let schema = rows[0].schema();
        let counted = answer(&pipeline, "select * from counted order by s, n").await;
        let all = answer(&pipeline, "select * from events order by k nulls first").await;
        let one = answer(&pipeline, "select d, k from events where f = 1.5 limit 1").await;
        let count = answer(&pipeline, "select count(*) from events").await;
        seen.push((lab.keys().await, schema, counted, all, one, count));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    assert_eq!(seen[0].1.field(0).data_type(), &arrow::datatypes::DataType::UInt64);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_it_is_read_once_a_process() {
    let lab = lab("memory");
    let (pipeline, files) = counting(&lab);
    run(&pipeline).await;
    let read = files.reads();
    answer(&pipeline, "select max(f) from events").await;
    assert_eq!(files.reads(), read);
    assert_eq!(told(&lab).await, [ViewResult::Computed]);
    assert!(tables(&lab).is_empty());
    let (pipeline, files) = counting(&lab);
    answer(&pipeline, "select max(f) from events").await;
    assert!(files.reads() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_told_or_refused_by_name() {
    let lab = lab("delta_staging");
    lab.edit("alluvium.toml", "cache = \"delta_staging\"", "cache = \"delta_staging\"\ncache_max_columns = 4");
    let document = run(&lab.open()).await;
    succeeded(&document);
    let notices = document.notices.join("\n");
    assert!(notices.contains("`events` has 5 columns, more than cache_max_columns = 4"), "{notices}");
    assert!(tables(&lab).is_empty());

    lab.edit("alluvium.toml", "\ncache_max_columns = 4", "");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    write(&lab.path("data/events.parquet"), &RecordBatch::try_from_iter([("a b", text)]).unwrap());
    let error = lab.open().plan(&[]).await.unwrap_err();
    assert!(error.is_input(), "{error}");
    let mut said = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        said = format!("{said}: {cause}");
        source = cause.source();
    }
    assert!(said.contains("dataset `events`") && said.contains("`a b`"), "{said}");

    lab.edit("alluvium.toml", "delta_staging", "delta_output");
    let error = alluvium_runs::Project::load(lab.dir()).unwrap_err().to_string();
    assert!(error.contains("unknown variant `delta_output`") || error.contains("unknown value"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_of_a_source_is_set_aside_and_its_files_are_read_again() {
    let lab = lab("delta_staging");
    run(&lab.open()).await;
    let before = lab.sql("select * from events order by k").await;
    let [table] = tables(&lab).try_into().unwrap();
    let files = std::fs::read_dir(&table).unwrap().map(|file| file.unwrap().path());
    let file = files.into_iter().find(|file| file.extension().is_some_and(|kind| kind == "parquet")).unwrap();
    std::fs::write(&file, b"PAR1").unwrap();
    lab.edit("alluvium.toml", "max(k - 1)", "max(k - 2)");
    let document = run(&lab.open()).await;
    succeeded(&document);
    assert!(document.notices.iter().any(|notice| notice.contains("the entry of dataset `events` was damaged")));
    assert_eq!(told(&lab).await, [ViewResult::Write, ViewResult::Write]);
    assert_eq!(lab.sql("select * from events order by k").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_registers_a_dataset_that_another_process_finds() {
    let lab = lab("none");
    let spec = DatasetSpec {
        cache: DatasetCache::DeltaStaging,
        ..DatasetSpec::new(DatasetFormat::Parquet, SourcePath::One("data/events.parquet".to_owned()))
    };
    let dataset = Dataset::resolve("events", &spec, lab.dir()).unwrap();
    let mut answers = Vec::new();
    for expected in [LookupResult::Ok, LookupResult::Hit] {
        let seam = later();
        let root = Arc::new(CacheRoot::open(&lab.path("root"), &seam).unwrap());
        let cache = DeltaCache::open(root, seam.clone()).unwrap();
        let (session, pinner) = (sessions().build().unwrap(), Pinner::new(None, seam.clone()));
        let reading = cache.begin_reading().unwrap();
        let registered = cache.register_dataset(&session, &pinner, &dataset, seam.run_id(), &reading).await;
        let (pinned, rows) = registered.unwrap();
        assert_eq!(rows.unwrap().outcome().result, expected);
        let frame = session.execute(Query::sql("select * from events order by k")).await.unwrap();
        let rows = frame.collect().await.unwrap();
        assert_eq!(&rows[0].schema(), pinned.schema());
        answers.push(arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string());
    }
    assert_eq!(answers[0], answers[1]);
}

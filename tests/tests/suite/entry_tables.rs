//! Live entries of every scope as tables that SQL can name.

use alluvium_delta_cache::{ArtifactKey, ArtifactPolicy, ArtifactRequest, ArtifactRows, DeltaCache};
use alluvium_profile::CacheRoot;
use alluvium_runs::Selection;
use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use std::sync::Arc;

use crate::lab::{Lab, later};

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"
cache = "delta_staging"

[views.clean]
sql = "select k, s from events where k > 1"
"#;

async fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b")]);
    lab.run().await;
    lab.parquet("data/events.parquet", &[(2, "b"), (3, "c")]);
    lab.run().await;
    let seam = later();
    let root = Arc::new(CacheRoot::open(&lab.path(".alluvium"), &seam).unwrap());
    let persist = ArtifactPolicy { persist: true, memory_limit_bytes: 0 };
    let cache = DeltaCache::open(root, seam.clone()).unwrap().with_artifact_policy(persist);
    let reading = cache.begin_reading().unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![41, 42]));
    let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
    let key = ArtifactKey::given("Mine", "v1");
    let rows = ArtifactRows::Batches { schema: batch.schema(), batches: vec![batch] };
    let request =
        ArtifactRequest { key: &key, rows, run_id: seam.run_id(), fresh: false, tags: &[], reading: &reading };
    cache.artifact(request).await.unwrap();
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_all_scopes_are_in_the_catalog_and_can_be_queried() {
    let lab = lab().await;
    let listed = lab
        .sql(
            "select table_schema, split_part(table_name, '__', 1) as name, count(*) as n, max(table_type) as kind
             from information_schema.tables
             where table_schema in ('view_cache', 'dataset_cache', 'runtime_artifacts')
             group by 1, 2 order by 1",
        )
        .await;
    for row in [
        "| dataset_cache     | events | 2 | BASE TABLE |",
        "| runtime_artifacts | Mine   | 1 | BASE TABLE |",
        "| view_cache        | clean  | 2 | BASE TABLE |",
    ] {
        assert!(listed.contains(row), "{listed}");
    }
    assert!(lab.sql("select max(k) as k from view_cache.clean").await.contains("| 3 |"), "the newest");
    assert!(lab.sql("select sum(k) as k from dataset_cache.events").await.contains("| 5 |"));
    assert!(lab.sql("select sum(x) as x from runtime_artifacts.\"Mine\"").await.contains("| 83 |"));
    let columns = lab
        .sql("select column_name from information_schema.columns where table_schema = 'view_cache' order by 1 limit 1")
        .await;
    assert!(columns.contains("| k "), "{columns}");

    // Each is in the inventory, with what it is and where it lies; what lies there answers.
    let told = lab
        .sql(
            "select t.table_name from information_schema.tables t join alluvium.cache_entries e
             on t.table_schema = e.table_schema and t.table_name = e.table_name
             where e.delta_version = 0 and e.schema_hash like 'b3:%' and e.row_count > 0
               and starts_with(e.cache_path, concat(e.table_schema, '/'))
               and (e.plan_fingerprint is not null) = (e.cache_scope = 'view')",
        )
        .await;
    assert_eq!(told.lines().count(), 4 + 5, "{told}");
    let earlier = lab
        .sql(
            "select table_name from alluvium.cache_entries where table_schema = 'view_cache' and table_name <> 'clean'",
        )
        .await;
    let name = earlier.lines().nth(3).unwrap().trim_matches(['|', ' ']).to_owned();
    assert!(lab.sql(&format!("select max(k) as k from view_cache.{name}")).await.contains("| 2 |"), "the one before");
    let ledger = lab
        .sql(
            "select count(*) as n from alluvium.cache_entries e join alluvium.cache_inventory i
             on e.cache_path = i.cache_path and e.schema_hash = i.schema_hash and e.delta_version = i.delta_version
             and i.result = 'write' and (e.plan_fingerprint is not distinct from i.plan_fingerprint)",
        )
        .await;
    assert!(ledger.contains("| 4 |"), "what runs wrote: {ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_is_no_table_and_no_view_can_read_one() {
    let lab = lab().await;
    for parent in std::fs::read_dir(lab.path(".alluvium/view_cache")).unwrap() {
        for dir in std::fs::read_dir(parent.unwrap().path()).unwrap() {
            for file in std::fs::read_dir(dir.unwrap().path()).unwrap().map(|file| file.unwrap().path()) {
                if file.extension().is_some_and(|kind| kind == "parquet") {
                    std::fs::write(file, b"").unwrap();
                }
            }
        }
    }
    let error = lab.open().sql("select * from view_cache.clean").await.err().unwrap();
    let error = format!("{error:?}");
    assert!(error.contains("clean"), "{error}");
    assert!(lab.path(".alluvium/quarantine").is_dir());

    lab.edit("alluvium.toml", "from events where", "from dataset_cache.events where");
    let error = lab.open().plan(&[]).await.unwrap_err();
    assert!(error.is_input(), "{error:?}");
}

/// An entry that is evicted, and a version of an output that another took the place of, were written and are not there.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_counted_of_what_is_there_and_by_another_name_of_what_was_written() {
    let lab = Lab::new(&format!("{TOML}[outputs.clean]\nview = \"clean\"\npath = \"out\"\n"));
    for rows in [vec![(1, "a"), (2, "b")], vec![(2, "b"), (3, "c")]] {
        lab.parquet("data/events.parquet", &rows);
        lab.run().await;
    }
    let now =
        "select cache_scope, entry_count, row_count, file_count, size_bytes from alluvium.bytes_by_scope order by 1";
    let written =
        "select cache_scope, write_count, row_count, file_count from alluvium.bytes_written_by_scope order by 1";
    let before = number_of_bytes(&lab, "view").await;
    let told = lab.sql(written).await;
    insta::assert_snapshot!(told, @r"
    +-------------+-------------+-----------+------------+
    | cache_scope | write_count | row_count | file_count |
    +-------------+-------------+-----------+------------+
    | dataset     | 2           | 4         | 2          |
    | output      | 2           | 3         | 2          |
    | view        | 2           | 3         | 2          |
    +-------------+-------------+-----------+------------+
    ");
    assert!(
        lab.sql(now).await.contains("| output      | 1           | 2         | 1          |"),
        "its newest version"
    );
    let size = std::fs::read_dir(lab.path("out")).unwrap().map(|file| file.unwrap()).filter(|file| {
        // Of the newer one.
        file.path().extension().is_some_and(|kind| kind == "parquet")
    });
    let newest = size.map(|file| file.metadata().unwrap()).max_by_key(|file| file.modified().unwrap()).unwrap().len();
    assert_eq!(number_of_bytes(&lab, "output").await, newest);

    let caches = crate::caches::caches_at(lab.dir());
    let clean = Selection { views: vec!["clean".to_owned()], ..Selection::default() };
    let removed = caches.cache().evict(&clean, false).unwrap();
    assert_eq!(removed.entries.iter().map(|entry| entry.size_bytes).sum::<u64>(), before);
    let after = lab.sql(now).await;
    assert!(!after.contains("view") && after.contains("| dataset     | 2 "), "{after}");
    assert_eq!(lab.sql(written).await, told);
}

async fn number_of_bytes(lab: &Lab, scope: &str) -> u64 {
    let sql = format!("select size_bytes from alluvium.bytes_by_scope where cache_scope = '{scope}'");
    let batches = crate::lab::batches(&lab.open(), &sql).await;
    u64::try_from(batches[0].column(0).as_primitive::<Int64Type>().value(0)).unwrap()
}

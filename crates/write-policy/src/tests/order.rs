//! Clustering: rows in order inside files, files in order beside each other, and an order that is said only while it holds.

use alluvium_contracts::WriteMode;
use std::collections::BTreeSet;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use rand_free::Shuffled;

use super::*;
use crate::{table_order, write_files_with};

/// Numbers in an order that is none, the same each time.
mod rand_free {
    pub(super) struct Shuffled(pub(super) i64);

    impl Shuffled {
        pub(super) fn numbers(&self) -> impl Iterator<Item = i64> + use<> {
            let count = self.0;
            // A step that shares no factor with the count visits every number once.
            (0..count).map(move |n| (n * 7_919 + 13) % count)
        }
    }
}

fn shuffled(count: i64) -> Vec<RecordBatch> {
    let numbers: Vec<i64> = Shuffled(count).numbers().collect();
    assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len() as i64, count);
    let chunk = |numbers: &[i64]| {
        let texts: Vec<String> = numbers.iter().map(|n| format!("p{}", n % 3)).collect();
        let rows: Vec<(Option<&str>, i64)> =
            texts.iter().map(|text| Some(text.as_str())).zip(numbers.iter().copied()).collect();
        batch(&rows)
    };
    numbers.chunks(1_000).map(chunk).collect()
}

/// The numbers of each file of a version, by partition and then by the place that the log gives it.
fn numbers_by_file(table: &Path, version: u64) -> BTreeMap<(String, i64), Vec<i64>> {
    actions(table, version)["add"]
        .iter()
        .map(|add| {
            let tag: Value = serde_json::from_str(add["tags"]["alluvium.order"].as_str().unwrap()).unwrap();
            let file = fs::File::open(table.join(add["path"].as_str().unwrap())).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            let numbers = reader.flat_map(|batch| batch.unwrap()["n"].as_primitive::<Int64Type>().values().to_vec());
            ((add["partitionValues"].to_string(), tag["index"].as_i64().unwrap()), numbers.collect())
        })
        .collect()
}

#[tokio::test]
async fn rows_are_in_order_inside_files_and_files_do_not_overlap() {
    for partition_by in [names(&[]), names(&["s"])] {
        let dir = tempfile::tempdir().unwrap();
        let policy = DeltaWritePolicy {
            zorder_by: names(&["n"]),
            target_file_size_bytes: 16 * 1024,
            partition_by: partition_by.clone(),
            ..DeltaWritePolicy::default()
        };
        let resolved = resolve(&policy);
        // Four streams, each with rows from everywhere.
        let mut streams: Vec<Vec<RecordBatch>> = vec![vec![]; 4];
        for (index, batch) in shuffled(20_000).into_iter().enumerate() {
            streams[index % 4].push(batch);
        }
        let streams = streams.into_iter().map(stream).collect();
        let outcome = TableWrite::new(dir.path(), schema(), streams, &resolved).run().await.unwrap();
        assert!(matches!(outcome, TableWriteOutcome::Committed(_)));
        let files = numbers_by_file(dir.path(), 0);
        let partitions: BTreeSet<&String> = files.keys().map(|(partition, _)| partition).collect();
        assert_eq!(partitions.len(), if partition_by.is_empty() { 1 } else { 3 });
        assert!(files.len() > partitions.len() * 2, "{} files", files.len());
        for partition in partitions {
            let numbers: Vec<i64> =
                files.iter().filter(|((of, _), _)| of == partition).flat_map(|(_, numbers)| numbers.clone()).collect();
            assert!(numbers.is_sorted(), "over the files of {partition}");
        }
        assert_eq!(files.values().map(Vec::len).sum::<usize>(), 20_000);
        let order = partition_by.iter().cloned().chain(names(&["n"])).collect();
        assert_eq!(table_order(dir.path(), 0).await.unwrap(), Some(order));
        assert!(rows(dir.path()).await.len() == 20_000);
    }
}

/// The numbers of the one file that two streams of `count` batches are sorted into, with so much memory.
async fn sorted_within(memory_bytes: usize, schema: SchemaRef, batches: Vec<RecordBatch>) -> Vec<i64> {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { zorder_by: names(&["n"]), ..DeltaWritePolicy::default() };
    let policy = ResolvedWritePolicy::resolve(&policy, &schema).unwrap();
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes))).build_arc().unwrap();
    let config =
        datafusion::prelude::SessionConfig::new().with_sort_spill_reservation_bytes(64 << 10).with_batch_size(1_024);
    let task = Arc::new(TaskContext::default().with_runtime(Arc::clone(&runtime)).with_session_config(config));
    let (left, right) = batches.split_at(batches.len() / 2);
    let streams = vec![stream(left.to_vec()), stream(right.to_vec())];
    let staged = write_files_with(dir.path(), schema, streams, &policy, &task).await.unwrap();
    assert_eq!(runtime.disk_manager.used_disk_space(), 0, "spill files are gone");
    let file = fs::File::open(dir.path().join(&staged.files()[0].path)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.flat_map(|batch| batch.unwrap()["n"].as_primitive::<Int64Type>().values().to_vec()).collect()
}

#[tokio::test]
async fn a_sort_beyond_its_memory_spills() {
    // Texts of 64 bytes: about 15 MB.
    let batches: Vec<RecordBatch> = (0..200_i64).rev().map(|n| numbered(n * 1_000, (n + 1) * 1_000)).collect();
    let numbers = sorted_within(2 << 20, schema(), batches.clone()).await;
    assert!(numbers.is_sorted() && numbers.len() == 200_000);

    // Views point into the batches that they came with, and take no more than their rows all the same.
    let views =
        Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8View, true), Field::new("n", DataType::Int64, true)]));
    let as_views = |batch: &RecordBatch| {
        let s = arrow::compute::cast(&batch["s"], &DataType::Utf8View).unwrap();
        RecordBatch::try_new(SchemaRef::clone(&views), vec![s, Arc::clone(&batch["n"])]).unwrap()
    };
    let numbers = sorted_within(2 << 20, SchemaRef::clone(&views), batches.iter().map(as_views).collect()).await;
    assert!(numbers.is_sorted() && numbers.len() == 200_000);
}

#[tokio::test]
async fn an_order_holds_for_the_version_whose_files_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let sorted = DeltaWritePolicy { zorder_by: names(&["n"]), ..DeltaWritePolicy::default() };
    land(dir.path(), &sorted, shuffled(100)).await;
    let appending = DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() };
    land(dir.path(), &appending, vec![batch(&[(Some("x"), 7)])]).await;
    land(dir.path(), &sorted, shuffled(100)).await;
    let deleting = DeltaWritePolicy {
        mode: WriteMode::Delete,
        replace_where: Some("n = 50".to_owned()),
        ..DeltaWritePolicy::default()
    };
    land(dir.path(), &deleting, vec![]).await;
    let mut orders = Vec::new();
    for version in 0..4 {
        orders.push(table_order(dir.path(), version).await.unwrap().is_some());
    }
    assert_eq!(orders, [true, false, true, false], "write, append, overwrite, delete");
}

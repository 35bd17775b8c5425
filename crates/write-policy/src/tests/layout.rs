//! What a policy asks for is in the files, the footers and the log.

use alluvium_contracts::WriterPropertiesPolicy;
use alluvium_contracts::{Compression, ContentDigest};
use arrow::array::{AsArray as _, BinaryArray};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression as Codec;

use super::*;
use crate::{active_files, commit_create};

/// What a table that was written under a policy holds.
#[derive(Debug, PartialEq)]
struct Observed {
    files: usize,
    codecs: Vec<Codec>,
    partition_columns: Value,
    directories: usize,
}

async fn observe(policy: &DeltaWritePolicy) -> Observed {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path();
    let policy = resolve(policy);
    let staged = write_files(table, schema(), vec![stream(vec![numbered(0, 6_000)])], &policy).await.unwrap();
    commit_create(table, schema(), staged, &policy, &metadata("r")).await.unwrap();
    let files = data_files(table);
    let mut codecs: Vec<Codec> = files
        .iter()
        .flat_map(|file| {
            let metadata = footer(&table.join(file));
            let columns = metadata.row_groups().iter().flat_map(|group| group.columns().to_vec());
            columns.map(|column| column.compression()).collect::<Vec<_>>()
        })
        .collect();
    codecs.dedup();
    Observed {
        files: files.len(),
        codecs,
        partition_columns: actions(table, 0)["metaData"][0]["partitionColumns"].clone(),
        directories: fs::read_dir(table).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count() - 1,
    }
}

#[tokio::test]
async fn every_field_of_the_policy_reaches_the_table() {
    let base = DeltaWritePolicy::default();
    let asked =
        Observed { files: 1, codecs: vec![Codec::SNAPPY], partition_columns: serde_json::json!([]), directories: 0 };
    assert_eq!(observe(&base).await, asked);

    let codec = |compression| DeltaWritePolicy {
        writer_properties: WriterPropertiesPolicy { compression, ..WriterPropertiesPolicy::default() },
        ..base.clone()
    };
    let zstd = observe(&codec(Compression::Zstd)).await;
    assert!(matches!(zstd.codecs[..], [Codec::ZSTD(_)]), "{zstd:?}");
    let none = observe(&codec(Compression::Uncompressed)).await;
    assert_eq!(none.codecs, [Codec::UNCOMPRESSED]);

    let small = observe(&DeltaWritePolicy { target_file_size_bytes: 64 * 1024, ..base.clone() }).await;
    assert!(small.files > 3, "{small:?}");
}

#[tokio::test]
async fn partition_columns_become_directories_and_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let policy = resolve(&DeltaWritePolicy { partition_by: vec!["s".to_owned()], ..DeltaWritePolicy::default() });
    let input = vec![batch(&[(Some("a"), 1), (Some("b"), 2)]), batch(&[(Some("a"), 3)])];
    let staged = write_files(dir.path(), schema(), vec![stream(input)], &policy).await.unwrap();
    commit_create(dir.path(), schema(), staged, &policy, &metadata("r")).await.unwrap();
    assert_eq!(actions(dir.path(), 0)["metaData"][0]["partitionColumns"], serde_json::json!(["s"]));
    let files = data_files(dir.path());
    assert_eq!(files.len(), 2);
    assert!(files[0].starts_with("s=a") && files[1].starts_with("s=b"), "{files:?}");
    let columns = footer(&dir.path().join(&files[0])).file_metadata().schema_descr().num_columns();
    assert_eq!(columns, 1, "a partition column is not in the file");
    assert_eq!(rows(dir.path()).await, ["a|1", "a|3", "b|2"]);
}

#[tokio::test]
async fn what_was_staged_is_what_is_on_disk_and_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let policy = resolve(&DeltaWritePolicy { target_file_size_bytes: 64 * 1024, ..DeltaWritePolicy::default() });
    let streams = vec![stream(vec![numbered(0, 3_000), numbered(3_000, 5_000)]), stream(vec![numbered(9_000, 9_010)])];
    let staged = write_files(dir.path(), schema(), streams, &policy).await.unwrap();
    assert_eq!(staged.row_count(), 5_010);
    assert_eq!(staged.size_bytes(), staged.files().iter().map(|file| file.size_bytes).sum::<u64>());
    for file in staged.files() {
        let bytes = fs::read(dir.path().join(&file.path)).unwrap();
        assert_eq!(file.size_bytes, bytes.len() as u64);
        assert_eq!(file.digest, Some(ContentDigest::of(&bytes)));
        assert_eq!(file.row_count, footer(&dir.path().join(&file.path)).file_metadata().num_rows() as u64);
    }
    // A second stream has files of its own, and each stream's rows come in their order.
    let read: Vec<Vec<i64>> = staged
        .files()
        .iter()
        .map(|file| {
            let file = fs::File::open(dir.path().join(&file.path)).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            reader.flat_map(|batch| batch.unwrap()["n"].as_primitive::<Int64Type>().values().to_vec()).collect()
        })
        .collect();
    assert_eq!(read.last().unwrap(), &(9_000..9_010).collect::<Vec<_>>());
    assert_eq!(read.concat(), (0..5_000).chain(9_000..9_010).collect::<Vec<_>>());

    let committed = commit_create(dir.path(), schema(), staged, &policy, &metadata("r")).await.unwrap();
    let mut expected: Vec<_> = committed.files;
    expected.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(expected.iter().all(|file| file.digest.is_some()));
    assert_eq!(active_files(dir.path(), 0).await.unwrap(), expected);
    let stats: Value = serde_json::from_str(actions(dir.path(), 0)["add"][0]["stats"].as_str().unwrap()).unwrap();
    assert_eq!(stats["minValues"]["n"], 0, "statistics come from the footers: {stats}");
}

#[tokio::test]
async fn a_file_of_several_parts_is_hashed_in_order() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("b", DataType::Binary, true)]));
    let properties =
        WriterPropertiesPolicy { compression: Compression::Uncompressed, ..WriterPropertiesPolicy::default() };
    let policy = DeltaWritePolicy { writer_properties: properties, ..DeltaWritePolicy::default() };
    let policy = ResolvedWritePolicy::resolve(&policy, &schema).unwrap();
    let blobs: Vec<Vec<u8>> = (0..12_u8).map(|n| vec![n; 1 << 20]).collect();
    let array = BinaryArray::from_iter_values(blobs);
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(array)]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let staged = write_files(dir.path(), schema, vec![stream(vec![batch])], &policy).await.unwrap();
    let [file] = staged.files() else { panic!("{:?}", staged.files()) };
    let bytes = fs::read(dir.path().join(&file.path)).unwrap();
    assert!(bytes.len() > 10 << 20, "two parts of 5 MiB and more: {}", bytes.len());
    assert_eq!((file.size_bytes, file.digest), (bytes.len() as u64, Some(ContentDigest::of(&bytes))));
}

#[tokio::test]
async fn no_rows_make_a_table_without_files() {
    for streams in [vec![], vec![stream(vec![])], vec![stream(vec![batch(&[])])]] {
        let dir = tempfile::tempdir().unwrap();
        let staged = write_files(dir.path(), schema(), streams, &plain()).await.unwrap();
        assert_eq!((staged.files().len(), staged.row_count()), (0, 0));
        let committed = commit_create(dir.path(), schema(), staged, &plain(), &metadata("r")).await.unwrap();
        assert_eq!(committed, Committed { version: 0, files: vec![] });
        assert_eq!(rows(dir.path()).await, [""; 0]);
        let text = actions(dir.path(), 0)["metaData"][0]["schemaString"].as_str().unwrap().to_owned();
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&read["fields"][0]["name"], &read["fields"][1]["type"]), (&"s".into(), &"long".into()));
    }
}

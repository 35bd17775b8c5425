//! Tests of sessions as a whole: what they read, plan and hold.

use std::fs::{self, File};
use std::path::Path;

use alluvium_contracts::ProfileSpec;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::logical_expr::{col, lit};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::prelude::{DataFrame, ParquetReadOptions};
use deltalake_core::DeltaTable;
use deltalake_core::delta_datafusion::SessionFallbackPolicy;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

use super::*;

fn factory(spec: &ProfileSpec) -> SessionFactory {
    SessionFactory::new(RuntimeProfile::from(spec))
}

fn session() -> Session {
    factory(&ProfileSpec::default()).build().unwrap()
}

fn batch(values: &[i64]) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
    RecordBatch::try_from_iter([("x", column)]).unwrap()
}

fn parquet(values: &[i64]) -> Vec<u8> {
    let batch = batch(values);
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

async fn values(frame: DataFrame) -> Vec<i64> {
    let mut values = Vec::new();
    for batch in frame.collect().await.unwrap() {
        let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().clone();
        values.extend(column.iter().flatten());
    }
    values
}

async fn read(session: &Session, path: &str) -> DataFrame {
    session.context().read_parquet(path, ParquetReadOptions::default()).await.unwrap()
}

#[test]
fn the_profile_reaches_the_engine() {
    let spec =
        ProfileSpec { target_partitions: Some(3), memory_limit_bytes: Some(12_345_678), ..ProfileSpec::default() };
    let session = factory(&spec).build().unwrap();
    let state = session.context().state();
    assert_eq!(state.config().target_partitions(), 3);
    let limit = state.runtime_env().memory_pool.memory_limit();
    assert!(matches!(limit, MemoryLimit::Finite(12_345_678)));
    assert_eq!(state.config_options().execution.time_zone.as_deref(), Some("UTC"));
}

#[test]
fn a_zero_is_refused_by_name() {
    for (spec, name) in [
        (ProfileSpec { target_partitions: Some(0), ..ProfileSpec::default() }, "target_partitions"),
        (ProfileSpec { memory_limit_bytes: Some(0), ..ProfileSpec::default() }, "memory_limit_bytes"),
    ] {
        let error = factory(&spec).build().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[tokio::test]
async fn a_file_rewritten_at_the_same_size_and_time_is_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let session = session();
    let (before, after) = (parquet(&[1, 1, 1]), parquet(&[2, 2, 2]));
    assert_eq!(before.len(), after.len());

    fs::write(&path, before).unwrap();
    let time = path.metadata().unwrap().modified().unwrap();
    let twos = async || {
        // The statistics of a stale footer would say that no 2 is there.
        let frame = read(&session, path.to_str().unwrap()).await;
        values(frame.filter(col("x").eq(lit(2_i64))).unwrap()).await
    };
    assert_eq!(twos().await, [0_i64; 0]);
    fs::write(&path, after).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    assert_eq!(twos().await, [2, 2, 2]);
}

#[tokio::test]
async fn a_new_file_in_a_directory_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let session = session();
    let path = format!("{}/", dir.path().display());
    fs::write(dir.path().join("a.parquet"), parquet(&[1])).unwrap();
    assert_eq!(values(read(&session, &path).await).await, [1]);
    fs::write(dir.path().join("b.parquet"), parquet(&[2])).unwrap();
    let mut both = values(read(&session, &path).await).await;
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
}

#[tokio::test]
async fn files_are_read_from_the_store_that_was_given() {
    let store = Arc::new(InMemory::new());
    store.put(&"nowhere/x.parquet".into(), parquet(&[7]).into()).await.unwrap();
    let url = Url::parse("file:///").unwrap();
    let session = factory(&ProfileSpec::default()).with_object_store(url, store).build().unwrap();
    assert_eq!(values(read(&session, "file:///nowhere/x.parquet").await).await, [7]);
}

#[tokio::test]
async fn delta_tables_are_written_and_read() {
    async fn table(path: &Path) -> DeltaTable {
        DeltaTable::try_from_url(Url::from_directory_path(path).unwrap()).await.unwrap()
    }
    let dir = tempfile::tempdir().unwrap();
    let session = session();
    let state = Arc::new(session.context().state());
    let write = table(dir.path()).await.write([batch(&[3, 4])]).with_session_state(state);
    write.with_session_fallback_policy(SessionFallbackPolicy::RequireSessionState).await.unwrap();

    let provider = table(dir.path()).await.table_provider().await.unwrap();
    let mut read = values(session.context().read_table(provider).unwrap()).await;
    read.sort_unstable();
    assert_eq!(read, [3, 4]);
}

#[tokio::test]
async fn a_name_of_a_file_is_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    fs::write(&path, parquet(&[1])).unwrap();
    let error = session().plan_query(format!("select * from '{}'", path.display()).as_str()).await.unwrap_err();
    assert!(error.to_string().contains("unknown table"), "{error}");
}

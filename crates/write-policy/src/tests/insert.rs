//! FEASIBILITY's fourth trap: SQL `INSERT`, the engine's way and ours.

use alluvium_contracts::{Compression, WriteMode, WriterPropertiesPolicy};
use datafusion::catalog::TableProvider;
use datafusion::prelude::SessionContext;

use super::*;
use crate::{GovernedTable, commit_metadata, head_commit};

async fn reader(table: &Path) -> Arc<dyn TableProvider> {
    let url = Url::from_directory_path(table).unwrap();
    let table = DeltaTableBuilder::from_url(url).unwrap().load().await.unwrap();
    table.table_provider().await.unwrap()
}

/// Runs one statement over `provider` as `t`.
#[expect(clippy::disallowed_methods, reason = "a session of the test's own, as a user of the crate has one")]
async fn sql(provider: Arc<dyn TableProvider>, statement: &str) -> Result<Vec<RecordBatch>, DataFusionError> {
    let session = SessionContext::new();
    session.register_table("t", provider)?;
    session.sql(statement).await?.collect().await
}

async fn governed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy {
        constraints: BTreeMap::from([("positive".to_owned(), "n > 0".to_owned())]),
        writer_properties: WriterPropertiesPolicy { compression: Compression::Zstd, ..Default::default() },
        mode: WriteMode::Append,
        ..DeltaWritePolicy::default()
    };
    land(dir.path(), &policy, vec![batch(&[(Some("a"), 1)])]).await;
    dir
}

#[tokio::test]
async fn a_governed_table_reads_what_the_table_holds() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { partition_by: vec!["s".to_owned()], ..DeltaWritePolicy::default() };
    land(dir.path(), &policy, vec![batch(&[(Some("a"), 1), (Some("b"), 2), (None, 3)])]).await;
    let asked = "select n from t where s in ('a', null)";
    let naive = sql(reader(dir.path()).await, asked).await.unwrap();
    assert_eq!(naive.iter().flat_map(texts).count(), 3, "the engine is right by itself: no guard is needed");
    let governed = Arc::new(GovernedTable::new(dir.path(), reader(dir.path()).await));
    let found = sql(governed, asked).await.unwrap();
    assert_eq!(found.iter().flat_map(texts).collect::<Vec<_>>(), ["1"]);
}

const BROKEN: &str = "insert into t values ('b', -1)";

#[tokio::test]
async fn the_engine_inserts_what_a_constraint_forbids_and_we_do_not() {
    let dir = governed().await;
    sql(reader(dir.path()).await, BROKEN).await.unwrap();
    assert_eq!(rows(dir.path()).await, ["a|1", "b|-1"], "the engine checks: our own provider may go");

    let dir = governed().await;
    let ours =
        || async { Arc::new(GovernedTable::new(dir.path(), reader(dir.path()).await).with_metadata(metadata("q"))) };
    let refused = sql(ours().await, BROKEN).await.unwrap_err();
    assert!(refused.to_string().contains("written"), "{refused}");
    assert_eq!((head_commit(dir.path()).unwrap().unwrap().version, data_files(dir.path()).len()), (0, 1));

    let counted = sql(ours().await, "insert into t values ('b', 2), ('c', 3)").await.unwrap();
    assert_eq!(texts(&counted[0]), ["2"]);
    assert_eq!(rows(dir.path()).await, ["a|1", "b|2", "c|3"]);
    assert_eq!(commit_metadata(dir.path(), 1).unwrap(), metadata("q"));
    let add = &actions(dir.path(), 1)["add"][0];
    assert!(add["tags"]["alluvium.digest"].is_string());
    let group = footer(&dir.path().join(add["path"].as_str().unwrap())).row_group(0).clone();
    assert!(matches!(group.column(0).compression(), parquet::basic::Compression::ZSTD(_)), "as the table was written");

    sql(ours().await, "insert overwrite t select s, n + 10 from t where n > 1").await.unwrap();
    assert_eq!(rows(dir.path()).await, ["b|12", "c|13"]);
    for statement in ["delete from t", "update t set n = 5"] {
        assert!(sql(ours().await, statement).await.is_err(), "{statement}");
    }
    assert_eq!(rows(dir.path()).await, ["b|12", "c|13"]);
}

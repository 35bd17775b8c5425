//! Files whose paths another engine wrote into the log in its own way: they are read, and never half removed.

use alluvium_contracts::{SchemaMode, WriteMode};
use alluvium_telemetry::Seam;

use super::*;
use crate::{CommitError, Maintenance, MaintenanceError, verify_table};

/// A table of two files whose paths stand in the log as they are: this engine would escape them.
async fn table() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() };
    for (version, row) in [("a", 1), ("b", 2)].into_iter().enumerate() {
        land(dir.path(), &policy, vec![batch(&[(Some(row.0), row.1)])]).await;
        let log = dir.path().join(format!("_delta_log/{version:020}.json"));
        let text = fs::read_to_string(&log).unwrap();
        let path = &actions(dir.path(), version as u64)["add"][0]["path"];
        let (path, foreign) = (path.as_str().unwrap(), format!("é {version}[].parquet"));
        fs::rename(dir.path().join(path), dir.path().join(&foreign)).unwrap();
        fs::write(log, text.replace(path, &foreign)).unwrap();
    }
    dir
}

#[tokio::test]
async fn what_would_remove_nothing_is_refused_and_the_rest_goes_on() {
    let dir = table().await;
    let (table, before) = (dir.path(), data_files(dir.path()));
    let mode = |mode| DeltaWritePolicy { mode, keys: names(&["s"]), ..DeltaWritePolicy::default() };
    let plain = |mode| DeltaWritePolicy { mode, ..DeltaWritePolicy::default() };
    let policies = [
        plain(WriteMode::Overwrite),
        DeltaWritePolicy { schema_mode: SchemaMode::Overwrite, ..plain(WriteMode::Overwrite) },
        mode(WriteMode::Merge),
        mode(WriteMode::Delete),
        DeltaWritePolicy { replace_where: Some("s = 'a'".to_owned()), ..plain(WriteMode::ReplaceWhere) },
    ];
    for policy in policies {
        let result = write(table, &policy, vec![batch(&[(Some("a"), 3)])]).await;
        let Err(CommitError::ForeignPath { file, .. }) = &result else { panic!("{policy:?}: {result:?}") };
        assert!(file.starts_with("é "), "{file}");
        assert_eq!((rows(table).await, data_files(table)), (names(&["a|1", "b|2"]), before.clone()), "{policy:?}");
    }
    let staged = stage(table, vec![batch(&[(Some("c"), 3)])]).await;
    let replaced = commit_replace(table, Some(1), schema(), staged, &super::plain(), &metadata("r"), None).await;
    assert!(matches!(replaced, Err(CommitError::ForeignPath { .. })), "{replaced:?}");

    let maintenance = Maintenance::begin(table, Seam::system()).unwrap();
    for result in [maintenance.compact(2).await, maintenance.zorder(&names(&["n"])).await, maintenance.restore(0).await]
    {
        let is_refused = matches!(&result, Err(MaintenanceError::Commit { source: CommitError::ForeignPath { .. } }));
        assert!(is_refused, "{result:?}");
    }
    maintenance.vacuum(168, &[]).await.unwrap();
    assert_eq!(land(table, &plain(WriteMode::Append), vec![batch(&[(Some("c"), 3)])]).await, 2);
    assert_eq!(rows(table).await, ["a|1", "b|2", "c|3"]);
    assert!(!format!("{:?}", verify_table(table, None).await.unwrap()).contains("Error"));
}

#[tokio::test]
async fn a_file_outside_of_the_table_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("table");
    land(&table, &DeltaWritePolicy::default(), vec![batch(&[(Some("a"), 1)])]).await;
    let log = table.join("_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&log).unwrap();
    let path = actions(&table, 0)["add"][0]["path"].as_str().unwrap().to_owned();
    fs::rename(table.join(&path), dir.path().join(&path)).unwrap();
    fs::write(log, text.replace(&path, &format!("../{path}"))).unwrap();
    let said = format!("{:?}", verify_table(&table, None).await.unwrap());
    assert!(said.contains("not looked at: ") && said.contains("files outside the table"), "{said}");
}

//! Looking at tables, and finding what is wrong with them.

use std::io::{Seek as _, SeekFrom, Write as _};

use alluvium_contracts::{CheckStatus, ColumnRef, DeltaFeature, LineageSummary, TableVerification, WriteMode};
use serde_json::json;

use super::*;
use crate::read::open;
use crate::stored::stored_policy;
use crate::{ReadError, ReaderColumn, inspect_table, pending_stats, table_history, verify_table};

fn constrained() -> DeltaWritePolicy {
    DeltaWritePolicy {
        partition_by: names(&["s"]),
        zorder_by: names(&["n"]),
        constraints: BTreeMap::from([("positive".to_owned(), "n >= 0".to_owned())]),
        enable_features: vec![DeltaFeature::ChangeDataFeed],
        ..DeltaWritePolicy::default()
    }
}

#[tokio::test]
async fn a_table_is_shown_as_it_lies_there() {
    let dir = tempfile::tempdir().unwrap();
    land(dir.path(), &constrained(), vec![batch(&[(Some("a"), 2), (Some("b"), 1), (Some("a"), 0)])]).await;
    let shown = inspect_table(dir.path(), None).await.unwrap();
    assert_eq!((shown.delta_version, shown.oldest_version, shown.checkpoint_version), (0, 0, None));
    assert_eq!((shown.file_count, shown.small_file_count, shown.row_count), (2, 2, Some(3)));
    assert_eq!(shown.partition_by, ["s"]);
    assert_eq!(shown.order.iter().map(|key| key.column.as_str()).collect::<Vec<_>>(), ["s", "n"]);
    assert_eq!(shown.stats_columns, ["n"]);
    let columns: Vec<_> =
        shown.columns.iter().map(|column| (column.name.as_str(), column.data_type.as_str())).collect();
    assert_eq!(columns, [("s", "Utf8"), ("n", "Int64")]);
    assert_eq!(shown.features, [DeltaFeature::CheckConstraints, DeltaFeature::ChangeDataFeed]);
    assert_eq!((shown.protocol.min_reader_version, shown.protocol.min_writer_version), (1, 7));
    assert_eq!(shown.constraints, BTreeMap::from([("positive".to_owned(), "n >= 0".to_owned())]));
    assert_eq!(shown.properties["delta.enableChangeDataFeed"], "true");
    assert_eq!(shown.write_policy.unwrap()["zorder_by"], json!(["n"]));
    assert_eq!(shown.commit_metadata["run_id"], "r");
    assert_eq!(shown.unwritable, None);

    // An older version is shown as it was, and a plain table claims nothing.
    let plain = tempfile::tempdir().unwrap();
    land(plain.path(), &DeltaWritePolicy::default(), vec![batch(&[(Some("a"), 1)])]).await;
    land(plain.path(), &DeltaWritePolicy::default(), vec![batch(&[(Some("a"), 1), (Some("b"), 2)])]).await;
    let shown = inspect_table(plain.path(), Some(0)).await.unwrap();
    assert_eq!((shown.delta_version, shown.row_count), (0, Some(1)));
    assert!(shown.features.is_empty() && shown.order.is_empty() && shown.write_policy.is_none(), "{shown:?}");
    let beyond = inspect_table(plain.path(), Some(2)).await;
    assert!(matches!(beyond, Err(ReadError::NoSuchVersion { version: 2, .. })), "{beyond:?}");
}

#[tokio::test]
async fn what_a_newer_build_stored_with_a_table_is_followed_as_far_as_it_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { zorder_by: vec!["n".to_owned()], ..DeltaWritePolicy::default() };
    land(dir.path(), &policy, vec![batch(&[(Some("a"), 1)])]).await;
    let commit = dir.path().join("_delta_log/00000000000000000000.json");
    let ours = fs::read_to_string(&commit).unwrap();
    let newer = ours.replacen(r#"\"zorder_by\":"#, r#"\"clustering\":\"liquid\",\"zorder_by\":"#, 1);
    assert_ne!(newer, ours);
    fs::write(&commit, newer).unwrap();

    let shown = inspect_table(dir.path(), None).await.unwrap();
    assert_eq!(shown.write_policy_unread, ["/clustering"]);
    assert_eq!(shown.write_policy.unwrap()["clustering"], "liquid");
    let loaded = open(dir.path()).unwrap().load(Some(0)).await.unwrap();
    assert_eq!(stored_policy(&loaded.state).0.zorder_by, ["n"]);
}

#[tokio::test]
async fn history_has_versions_the_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    append_row(dir.path(), ("a", 1), ("app", 7)).await;
    append_row(dir.path(), ("b", 2), ("app", 8)).await;
    crate::Maintenance::begin(dir.path(), alluvium_telemetry::Seam::system()).unwrap().compact(2).await.unwrap();
    let history = table_history(dir.path(), 10).unwrap();
    let said: Vec<_> = history
        .commits
        .iter()
        .map(|c| (c.delta_version, c.operation.as_deref().unwrap(), c.files_added, c.files_removed, c.data_changed))
        .collect();
    assert_eq!(said, [(2, "OPTIMIZE", 1, 2, false), (1, "WRITE", 1, 0, true), (0, "CREATE TABLE", 1, 0, true)]);
    let [_, append, create] = &history.commits[..] else { panic!() };
    assert_eq!((append.rows_added, append.app_transactions[0].version.0), (Some(1), 8));
    assert_eq!(append.commit_metadata, metadata("r"));
    assert!(append.commit_time_unix_ms.is_some() && !append.metadata_changed);
    assert!(create.metadata_changed && create.protocol_changed);
    assert_eq!(table_history(dir.path(), 1).unwrap().commits.len(), 1);
}

#[tokio::test]
async fn what_is_no_table_or_beyond_this_build_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join("nowhere")] {
        let error = inspect_table(&path, None).await.unwrap_err();
        assert!(matches!(error, ReadError::NotATable { .. }) && error.is_input(), "{error:?}");
    }
    let features = [
        (
            json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["futureThing"], "writerFeatures": ["futureThing"]}),
            "futureThing",
        ),
        (json!({"minReaderVersion": 9, "minWriterVersion": 9}), "reader version 9"),
    ];
    for (protocol, named) in features {
        let dir = foreign(&[json!({"protocol": protocol}), foreign_metadata(json!({}), json!({}))]);
        let error = inspect_table(dir.path(), None).await.unwrap_err();
        assert!(error.is_input() && error.to_string().contains(&format!("`{named}`")), "{error:?}");
    }
    // What can be read and not written is shown, and says why.
    let dir = foreign(&[
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["rowTracking", "domainMetadata"]}}),
        foreign_metadata(json!({}), json!({})),
    ]);
    let shown = inspect_table(dir.path(), None).await.unwrap();
    assert!(shown.unwritable.unwrap().contains("rowTracking"));
    let verified = verify_table(dir.path(), None).await.unwrap();
    assert_eq!(of(&verified, "protocol").0, CheckStatus::Warning);
    // A log that is broken is damage, and no input.
    let broken = foreign(&[json!({"nothing": 1})]);
    let error = inspect_table(broken.path(), None).await.unwrap_err();
    assert!(matches!(error, ReadError::Log { .. }) && !error.is_input(), "{error:?}");
}

#[tokio::test]
async fn what_readers_need_is_pending_until_the_next_write() {
    let dir = tempfile::tempdir().unwrap();
    let policy = DeltaWritePolicy { zorder_by: names(&["n"]), ..DeltaWritePolicy::default() };
    land(dir.path(), &policy, vec![batch(&[(Some("a"), 1)])]).await;
    let column = ColumnRef { table: "t".to_owned(), column: "s".to_owned() };
    let reader = LineageSummary { filter_columns: vec![column], ..LineageSummary::default() };
    let readers = ReaderColumn::of("t", &[reader]);
    let with = ResolvedWritePolicy::resolve_with(&policy, &schema(), &readers, &Default::default()).unwrap();
    assert_eq!(with.layout_hash(), resolve(&policy).layout_hash(), "readers are no part of the layout");
    assert_eq!(pending_stats(dir.path(), &with).await.unwrap().pending_columns, ["s"]);
    assert_eq!(pending_stats(dir.path(), &resolve(&policy)).await.unwrap().pending_columns, [""; 0]);
    let write = TableWrite::new(dir.path(), schema(), vec![stream(vec![batch(&[(Some("a"), 1)])])], &with);
    assert!(matches!(write.run().await.unwrap(), TableWriteOutcome::Committed(_)));
    assert_eq!(pending_stats(dir.path(), &with).await.unwrap().pending_columns, [""; 0]);
    assert_eq!(inspect_table(dir.path(), None).await.unwrap().stats_columns, ["n", "s"]);
    // Where nothing was decided, the first columns have statistics already.
    let plain = tempfile::tempdir().unwrap();
    land(plain.path(), &DeltaWritePolicy::default(), vec![batch(&[(Some("a"), 1)])]).await;
    assert_eq!(pending_stats(plain.path(), &with).await.unwrap().pending_columns, [""; 0]);
}

fn of<'a>(verified: &'a TableVerification, name: &str) -> (CheckStatus, &'a str) {
    let check = verified.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{verified:?}"));
    (check.status, &check.message)
}

fn unpartitioned() -> DeltaWritePolicy {
    DeltaWritePolicy { partition_by: vec![], target_file_size_bytes: 16 * 1024, ..constrained() }
}

async fn sound() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<RecordBatch> = vec![numbered(4_000, 8_000), numbered(0, 4_000)];
    land(dir.path(), &unpartitioned(), rows).await;
    dir
}

#[tokio::test]
async fn a_sound_table_verifies() {
    let dir = sound().await;
    let verified = verify_table(dir.path(), None).await.unwrap();
    assert!(verified.checks.iter().all(|check| check.status == CheckStatus::Ok), "{verified:?}");
    let names: Vec<&str> = verified.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["log", "protocol", "files", "rows", "policy"]);
    assert_eq!(verified.row_count, 8_000);
    assert!(verified.file_count > 1 && verified.bytes_read > 0);
    assert!(of(&verified, "rows").1.contains("in order of n"));
    // Rows of partitions, and a version that is not the newest.
    let parted = tempfile::tempdir().unwrap();
    for n in 0..2 {
        land(parted.path(), &constrained(), vec![batch(&[(Some("a"), n), (Some("b"), n)])]).await;
    }
    let verified = verify_table(parted.path(), Some(0)).await.unwrap();
    assert!(verified.checks.iter().all(|check| check.status == CheckStatus::Ok), "{verified:?}");
}

/// Changes the first commit's text, as a broken engine would have written it.
fn edit_log(table: &Path, from: &str, to: &str) {
    let path = table.join("_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_found() {
    let dir = sound().await;
    let file = |table: &Path| data_files(table).into_iter().next().map(|file| table.join(file)).unwrap();
    let mut byte = fs::File::options().write(true).open(file(dir.path())).unwrap();
    byte.seek(SeekFrom::Start(40)).unwrap();
    byte.write_all(b"\xff").unwrap();
    let verified = verify_table(dir.path(), None).await.unwrap();
    assert!(matches!(of(&verified, "files"), (CheckStatus::Error, text) if text.contains("and the log says b3:")));

    let dir = sound().await;
    fs::remove_file(file(dir.path())).unwrap();
    let verified = verify_table(dir.path(), None).await.unwrap();
    assert_eq!(of(&verified, "files").0, CheckStatus::Error);

    let dir = sound().await;
    edit_log(dir.path(), "n >= 0", "n > 0");
    let verified = verify_table(dir.path(), None).await.unwrap();
    assert!(matches!(of(&verified, "rows"), (CheckStatus::Error, text) if text.contains("positive")), "{verified:?}");

    // Rows of another order than the log claims: that of their text.
    let dir = sound().await;
    edit_log(dir.path(), r#"\"columns\":[\"n\"]"#, r#"\"columns\":[\"s\"]"#);
    let verified = verify_table(dir.path(), None).await.unwrap();
    assert!(matches!(of(&verified, "rows"), (CheckStatus::Error, text) if text.contains("order of s")), "{verified:?}");

    let dir = tempfile::tempdir().unwrap();
    for n in 0..3 {
        append_row(dir.path(), ("a", n), ("o", n)).await;
    }
    edit_log(dir.path(), r#"\"numRecords\":1"#, r#"\"numRecords\":2"#);
    let verified = verify_table(dir.path(), None).await.unwrap();
    assert!(
        matches!(of(&verified, "rows"), (CheckStatus::Error, text) if text.contains("the log says 2")),
        "{verified:?}"
    );
    // Bounds that leave a row out: readers would skip its file.
    for (from, to, column) in [
        (r#"\"maxValues\":{\"n\":0"#, r#"\"maxValues\":{\"n\":-1"#, "`n`"),
        (r#"\"minValues\":{\"n\":0,\"s\":\"a\""#, r#"\"minValues\":{\"n\":0,\"s\":\"b\""#, "`s`"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        append_row(dir.path(), ("a", 0), ("o", 0)).await;
        edit_log(dir.path(), from, to);
        let verified = verify_table(dir.path(), None).await.unwrap();
        assert!(
            matches!(of(&verified, "rows"), (CheckStatus::Error, text) if text.contains(column) && text.contains("bounds")),
            "{verified:?}"
        );
    }
    fs::write(dir.path().join("_delta_log/00000000000000000001.json"), "{\"add\":").unwrap();
    let log = verify_table(dir.path(), Some(0)).await.unwrap();
    assert_eq!(of(&log, "log").0, CheckStatus::Ok, "version 0 does not need it");
    assert!(verify_table(dir.path(), None).await.is_err(), "the log cannot be replayed");
}

#[tokio::test]
async fn a_table_that_left_its_policy_is_worth_a_warning() {
    let dir = sound().await;
    land(dir.path(), &DeltaWritePolicy { mode: WriteMode::Append, ..unpartitioned() }, vec![numbered(5, 6)]).await;
    let verified = verify_table(dir.path(), None).await.unwrap();
    let (status, message) = of(&verified, "policy");
    assert!(status == CheckStatus::Warning && message.contains("`zorder_by`"), "{verified:?}");
}

//! Appends that follow one another without replaying the log.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::sync::SYNCED;
use crate::{
    AppendTip, Appended, CommitError, append_after, append_or_create, head_commit, sync_table, transaction_version,
};

const APP: &str = "outbox";

/// Appends one row, by `tip` if there is one.
async fn follow(table: &Path, n: i64, tip: Option<&AppendTip>) -> Appended {
    try_follow(table, n, tip).await.unwrap()
}

async fn try_follow(table: &Path, n: i64, tip: Option<&AppendTip>) -> Result<Appended, CommitError> {
    let rows = vec![batch(&[(Some("x"), n)])];
    if let Some(tip) = tip
        && let Some(held) = tip.hold(table, &schema())?
        && let Some(appended) = append_after(held, rows.clone(), &metadata("r"), (APP, n)).await?
    {
        return Ok(appended);
    }
    append_or_create(table, schema(), rows, &DeltaWritePolicy::default(), &metadata("r"), (APP, n)).await
}

/// A table that has had three appends, and its tip.
async fn tipped(dir: &Path) -> AppendTip {
    let mut tip = None;
    for n in 1..=3 {
        tip = follow(dir, n, tip.as_ref()).await.tip;
    }
    tip.unwrap()
}

/// A table of [`schema`] that writes a checkpoint after every third commit, and has `properties` besides.
fn checkpointed(properties: Value) -> tempfile::TempDir {
    let mut configuration = json!({"delta.checkpointInterval": "3"});
    configuration.as_object_mut().unwrap().extend(properties.as_object().unwrap().clone());
    foreign(&[
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        foreign_metadata(configuration, json!({})),
    ])
}

fn checkpoints(table: &Path) -> usize {
    let names = fs::read_dir(table.join("_delta_log")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(".checkpoint.parquet")).count()
}

/// An action without what differs from one commit to the next: times, sizes, the names of files.
fn alike(action: &Value) -> Value {
    let mut action = action.clone();
    for volatile in ["timestamp", "modificationTime", "path", "tags", "size", "lastUpdated"] {
        if let Some(value) = action.get_mut(volatile) {
            *value = json!("…");
        }
    }
    action
}

#[tokio::test]
async fn one_that_follows_writes_what_one_that_replays_does() {
    let (followed, replayed) = (checkpointed(json!({})), checkpointed(json!({})));
    let mut tip = None;
    for n in 1..=7 {
        let appended = follow(followed.path(), n, tip.as_ref()).await;
        assert!(matches!(&appended.outcome, AppendOutcome::Committed(done) if done.version == n as u64));
        tip = appended.tip;
        assert_eq!(tip.as_ref().unwrap().version(), n as u64);
        assert_eq!(tip.as_ref().unwrap().transaction(APP), Some(n));
        assert_eq!(tip.as_ref().unwrap().transaction("another"), None);
        append_row(replayed.path(), ("x", n), (APP, n)).await;
        let kinds = |table| {
            let actions = actions(table, n as u64).into_iter();
            actions.map(|(kind, actions)| (kind, actions.iter().map(alike).collect::<Vec<_>>())).collect::<Vec<_>>()
        };
        assert_eq!(kinds(followed.path()), kinds(replayed.path()), "version {n}");
    }
    assert_eq!(rows(followed.path()).await, rows(replayed.path()).await);
    assert_eq!(transaction_version(followed.path(), APP).await.unwrap(), Some(7));
    // This is how one tells them apart.
    assert_eq!((checkpoints(followed.path()), checkpoints(replayed.path())), (0, 2));
}

/// A power cut between any two of these leaves rows and commit, or neither.
#[tokio::test]
async fn an_append_is_synced_files_first_and_the_names_that_lead_to_them_last() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().canonicalize().unwrap().join("table");
    let mut tip = None;
    // One that makes the table, one that replays its log, and one that follows.
    for n in 1..=3 {
        SYNCED.take();
        let appended = follow(&table, n, tip.as_ref()).await;
        let AppendOutcome::Committed(committed) = appended.outcome else { panic!("{n} was applied before") };
        tip = appended.tip;
        let mut expected = vec![table.join(&committed.files[0].path), table.clone()];
        expected.push(table.join(format!("_delta_log/{:020}.json", n - 1)));
        expected.push(table.join("_delta_log"));
        if n == 1 {
            expected.extend([table.clone(), dir.path().canonicalize().unwrap()]);
        }
        assert_eq!(SYNCED.take(), expected, "append {n}");
    }
    SYNCED.take();
    sync_table(&table).unwrap();
    // Three files, their table, three commits, their log.
    assert_eq!(SYNCED.take().len(), 8);
}

#[tokio::test]
async fn a_tip_holds_only_while_the_log_is_what_it_was() {
    let dir = checkpointed(json!({}));
    // Version 2 has a checkpoint: what lies before that is not read any more.
    for n in 1..=2 {
        append_row(dir.path(), ("x", n), (APP, n)).await;
    }
    let tip = follow(dir.path(), 3, None).await.tip.unwrap();
    let tip = follow(dir.path(), 4, Some(&tip)).await.tip.unwrap();
    let stored: AppendTip = serde_json::from_slice(&serde_json::to_vec(&tip).unwrap()).unwrap();
    assert_eq!(stored, tip);
    let holds = || tip.hold(dir.path(), &schema()).unwrap().is_some();
    assert!(holds());

    let log = dir.path().join("_delta_log");
    let named = |version: u64, rest: &str| format!("{version:020}{rest}");
    let read = ["_last_checkpoint".to_owned(), named(2, ".checkpoint.parquet"), named(3, ".json"), named(4, ".json")];
    for name in read {
        let path = log.join(&name);
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(50)) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert!(!holds(), "{name} with another byte {at}");
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(!holds(), "{name}, truncated");
        fs::remove_file(&path).unwrap();
        assert!(!holds(), "{name} has gone");
        fs::write(&path, &bytes).unwrap();
        assert!(holds(), "{name} is as it was");
    }
    let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("s", DataType::Utf8, true)]));
    assert!(tip.hold(dir.path(), &other).unwrap().is_none(), "other columns");
    for (name, bytes) in [(named(5, ".json"), "{}"), (named(4, ".checkpoint.parquet"), "PAR1")] {
        fs::write(log.join(&name), bytes).unwrap();
        assert!(!holds(), "{name} is new");
        fs::remove_file(log.join(&name)).unwrap();
    }
    fs::write(log.join(named(5, ".json#1")), "somebody is writing it").unwrap();
    assert!(holds());
}

#[tokio::test]
async fn what_was_committed_and_is_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let tip = tipped(dir.path()).await;
    let commit = |version: u64| dir.path().join(format!("_delta_log/{version:020}.json"));
    let lost = || tip.lost_commits(dir.path()).unwrap();
    assert_eq!(lost(), [0; 0]);
    append_row(dir.path(), ("y", 9), ("somebody", 1)).await;
    assert_eq!(lost(), [0; 0], "what others add takes nothing away");
    let was = fs::read(commit(1)).unwrap();
    fs::write(commit(1), "").unwrap();
    assert_eq!(lost(), [1]);
    fs::write(commit(1), was).unwrap();
    fs::remove_file(commit(3)).unwrap();
    fs::remove_file(commit(2)).unwrap();
    assert_eq!(lost(), [2]);
    append_row(dir.path(), ("z", 9), ("somebody", 1)).await;
    assert_eq!(lost(), [2], "another commit in its place is not it");
}

#[tokio::test]
async fn a_stale_tip_is_not_followed_and_nothing_is_applied_twice() {
    let dir = tempfile::tempdir().unwrap();
    let tip = tipped(dir.path()).await;
    let again = follow(dir.path(), 3, Some(&tip)).await;
    assert_eq!(again.outcome, AppendOutcome::AlreadyApplied);
    assert_eq!(append_row(dir.path(), ("y", 9), ("somebody", 1)).await.version, 3);
    for n in [4, 5] {
        let appended = follow(dir.path(), n, Some(&tip)).await;
        assert!(matches!(&appended.outcome, AppendOutcome::Committed(done) if done.version == n as u64));
    }
    // The transaction is in the table, though not in that tip.
    assert_eq!(follow(dir.path(), 5, Some(&tip)).await.outcome, AppendOutcome::AlreadyApplied);
    assert_eq!(rows(dir.path()).await, ["x|1", "x|2", "x|3", "x|4", "x|5", "y|9"]);
    assert_eq!(data_files(dir.path()).len(), 6);
}

#[tokio::test]
async fn many_that_follow_one_tip_land_each_once() {
    let dir = tempfile::tempdir().unwrap();
    let tip = tipped(dir.path()).await;
    let appends = (4..12).map(|n| {
        let (table, tip) = (dir.path().to_path_buf(), tip.clone());
        tokio::spawn(async move { (n, follow(&table, n, Some(&tip)).await.outcome) })
    });
    let mut expected: BTreeSet<String> = (1..=3).map(|n| format!("x|{n}")).collect();
    for append in appends.collect::<Vec<_>>() {
        if let (n, AppendOutcome::Committed(_)) = append.await.unwrap() {
            expected.insert(format!("x|{n}"));
        }
    }
    assert_eq!(rows(dir.path()).await, expected.iter().cloned().collect::<Vec<_>>());
    assert_eq!(head_commit(dir.path()).unwrap().unwrap().version as usize, expected.len() - 1);
    assert_eq!(data_files(dir.path()).len(), expected.len(), "those that lost left nothing behind");
}

#[tokio::test]
async fn a_table_that_asks_something_of_its_rows_has_no_tip() {
    let asking = [
        json!({"delta.constraints.positive": "n > 0"}),
        json!({"delta.dataSkippingStatsColumns": "n"}),
        json!({"alluvium.semanticTypes": "{}"}),
    ];
    for (properties, has_tip) in std::iter::once((json!({}), true)).chain(asking.into_iter().map(|it| (it, false))) {
        let dir = checkpointed(properties.clone());
        assert_eq!(follow(dir.path(), 1, None).await.tip.is_some(), has_tip, "{properties}");
    }
    let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}});
    let dir = foreign(&[protocol, foreign_metadata(json!({"delta.enableChangeDataFeed": "true"}), json!({}))]);
    assert_eq!(follow(dir.path(), 1, None).await.tip, None);
}

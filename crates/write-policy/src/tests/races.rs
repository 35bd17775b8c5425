//! Two writers at once: FEASIBILITY's second trap, where the engine lets both commit.

use alluvium_contracts::WriteMode;

use super::*;
use crate::commit::{Create, Landing, Retention, commit, overwrite};
use crate::table::TableDir;
use crate::{AppendOutcome, append, head_commit};

fn path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("table")
}

/// Two tasks replace what both saw as `expected`; the outcomes.
async fn race(table: &Path, expected: Option<u64>) -> Vec<CommitOutcome> {
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let tasks: Vec<_> = (0..2)
        .map(|writer| {
            let (table, barrier) = (table.to_path_buf(), Arc::clone(&barrier));
            tokio::spawn(async move {
                let staged = stage(&table, vec![numbered(writer * 10, writer * 10 + 10)]).await;
                barrier.wait().await;
                commit_replace(&table, expected, schema(), staged, &plain(), &metadata("r"), None).await.unwrap()
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replacements_one_wins_and_no_row_is_doubled() {
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let table = path(&dir);
        for (expected, version) in [(None, 0), (Some(0), 1)] {
            let outcomes = race(&table, expected).await;
            let won = outcomes.iter().filter(|outcome| matches!(outcome, CommitOutcome::Committed(_))).count();
            assert_eq!(won, 1, "round {round}: {outcomes:?}");
            assert!(outcomes.contains(&CommitOutcome::Conflict { head: version }), "round {round}: {outcomes:?}");
            assert_eq!(head_commit(&table).unwrap().unwrap().version, version);
            assert_eq!(rows(&table).await.len(), 10, "round {round}");
            assert_eq!(data_files(&table).len() as u64, version + 1, "the loser's files are gone, round {round}");
        }
    }
}

/// Two replacements of an empty version: neither removes or reads what the other does, so the engine, retrying, lands both.
#[tokio::test]
async fn a_replacement_does_not_land_behind_what_it_did_not_see() {
    let dir = tempfile::tempdir().unwrap();
    let path = path(&dir);
    replace(&path, None, vec![]).await;
    let table = TableDir::open(&path).unwrap();
    let empty = table.load(Some(0)).await.unwrap();
    let (schema, policy, metadata) = (schema(), plain(), metadata("r"));
    let mut landings = Vec::new();
    for _ in 0..2 {
        let mut staged = stage(&path, vec![numbered(0, 10)]).await;
        let retention = Retention::Keep;
        let all = Create { schema: &schema, policy: &policy, metadata: &metadata, transaction: None, retention };
        let change = overwrite(&table, &empty, &staged, all).await.unwrap();
        landings.push(match commit(&table, &empty, change, &mut [&mut staged]).await.unwrap() {
            Landing::Landed { version } => Ok(staged.committed(version).version),
            Landing::Taken { head } => Err(head),
        });
    }
    assert_eq!(landings, [Ok(1), Err(1)]);
    assert_eq!((rows(&path).await.len(), data_files(&path).len()), (10, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_at_once_all_land_once() {
    let dir = tempfile::tempdir().unwrap();
    let table = path(&dir);
    // Two tasks an application: the same transaction is sent twice, as a retry would. Many writers are for `processes`.
    let tasks: Vec<_> = (0..4_i64)
        .map(|task| {
            let (table, app) = (table.clone(), task / 2);
            tokio::spawn(async move {
                let mut landed = 0;
                for version in 0..4_i64 {
                    let rows = vec![batch(&[(Some("x"), app * 100 + version)])];
                    let app_id = format!("app{app}");
                    let outcome = append(&table, schema(), rows, &metadata("r"), (&app_id, version)).await.unwrap();
                    landed += i64::from(matches!(outcome, AppendOutcome::Committed(_)));
                }
                landed
            })
        })
        .collect();
    let mut landed = 0;
    for task in tasks {
        landed += task.await.unwrap();
    }
    assert_eq!(landed, 8);
    let mut expected: Vec<String> =
        (0..2).flat_map(|app| (0..4).map(move |version| format!("x|{}", app * 100 + version))).collect();
    expected.sort();
    assert_eq!(rows(&table).await, expected);
    assert_eq!(data_files(&table).len(), 8, "lost races leave no file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_say_the_same_and_add_no_file_are_not_taken_for_one_another() {
    let dir = tempfile::tempdir().unwrap();
    let appending = DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() };
    for n in 0..6 {
        land(dir.path(), &appending, vec![batch(&[(Some(&format!("row{n}")), n)])]).await;
    }
    let deletes = (0..6).map(|n| {
        let table = dir.path().to_path_buf();
        let policy = DeltaWritePolicy { mode: WriteMode::Delete, keys: names(&["s"]), ..DeltaWritePolicy::default() };
        tokio::spawn(async move { land(&table, &policy, vec![batch(&[(Some(&format!("row{n}")), n)])]).await })
    });
    let mut versions: Vec<u64> =
        futures::future::join_all(deletes).await.into_iter().map(|version| version.unwrap()).collect();
    versions.sort_unstable();
    assert_eq!(versions, [6, 7, 8, 9, 10, 11], "each landed by itself");
    assert_eq!(rows(dir.path()).await, [""; 0]);
}

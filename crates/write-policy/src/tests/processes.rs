//! Several processes write one table at once, and some are killed. What is in the table afterwards is what its commits say,
//! one after the other: nothing twice, nothing lost, and every acknowledged write among them.
//!
//! `ALLUVIUM_RACE_PROCESSES`, `ALLUVIUM_RACE_WRITES` and `ALLUVIUM_RACE_KILLS` set the processes (8 by default), the writes of
//! each (3), and how many are killed (3): `cargo xtask soak write` sets them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use alluvium_contracts::WriteMode;
use alluvium_telemetry::Seam;

use super::*;
use crate::{Maintenance, MaintenanceError, commit_info, commit_metadata, head_commit};

const CHILD: &str = "ALLUVIUM_RACE_CHILD";

fn processes() -> i64 {
    number("PROCESSES", 8)
}

fn writes() -> i64 {
    number("WRITES", 3)
}

fn number(name: &str, default: i64) -> i64 {
    match std::env::var(format!("ALLUVIUM_RACE_{name}")) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

/// What one write is to do; it is in the commit's metadata, and from there the table is told what it should hold.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    mode: WriteMode,
    key: String,
    value: i64,
}

impl Step {
    /// The step `n` of the process `index`: of a mix, some replace all rows, and some upsert, replace or delete those of one
    /// of four keys.
    fn of(kind: &str, index: i64, n: i64) -> Self {
        let value = index * 1_000 + n;
        let mode = match (kind, (n + index) % 8) {
            ("mix", 3) => WriteMode::Overwrite,
            ("mix", 1 | 5) => WriteMode::Merge,
            ("mix", 6) => WriteMode::ReplaceWhere,
            // The first write of all may be anybody's, and what is deleted from has to be there.
            ("mix", 7) if n > 0 => WriteMode::Delete,
            _ => WriteMode::Append,
        };
        let key = match mode {
            WriteMode::Merge | WriteMode::ReplaceWhere | WriteMode::Delete => format!("key{}", value % 4),
            _ => format!("row{value}"),
        };
        Self { mode, key, value }
    }

    fn policy(&self) -> ResolvedWritePolicy {
        let is_keyed = matches!(self.mode, WriteMode::Merge | WriteMode::Delete);
        resolve(&DeltaWritePolicy {
            mode: self.mode,
            keys: if is_keyed { names(&["s"]) } else { Vec::new() },
            replace_where: (self.mode == WriteMode::ReplaceWhere).then(|| format!("s = '{}'", self.key)),
            ..DeltaWritePolicy::default()
        })
    }

    fn to_metadata(&self) -> CommitMetadata {
        let pairs =
            [("mode", self.mode.as_str().into()), ("key", self.key.as_str().into()), ("value", self.value.into())];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn from_metadata(metadata: &CommitMetadata) -> Self {
        Self {
            mode: serde_json::from_value(metadata["mode"].clone()).unwrap(),
            key: metadata["key"].as_str().unwrap().to_owned(),
            value: metadata["value"].as_i64().unwrap(),
        }
    }
}

/// One writer: `table|kind|index`. It says `ack|version|n` of each write that was acknowledged.
#[tokio::test]
#[ignore = "a part of the tests below, run in a process of its own"]
async fn child() {
    let job = std::env::var(CHILD).unwrap();
    let [table, kind, index] = job.split('|').collect::<Vec<_>>()[..] else { panic!("{job}") };
    let (table, index) = (Path::new(table), index.parse::<i64>().unwrap());
    for n in 0..writes() {
        let step = Step::of(kind, index, n);
        let policy = step.policy();
        let rows = stream(vec![batch(&[(Some(&step.key), step.value)])]);
        let write = TableWrite::new(table, schema(), vec![rows], &policy).metadata(step.to_metadata()).keep_log();
        match write.run().await.unwrap() {
            TableWriteOutcome::Committed(committed) => println!("ack|{}|{n}", committed.version),
            other => panic!("{other:?}"),
        }
        if kind == "mix" && index == 0 {
            match Maintenance::begin(table, Seam::system()) {
                Ok(maintenance) => {
                    // Losing every race is no damage.
                    let _ = maintenance.compact(2).await;
                }
                Err(MaintenanceError::Busy { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn spawn(table: &Path, kind: &str, index: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["tests::processes::child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, format!("{}|{kind}|{index}", table.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs the children, kills the first `kills` of them, each somewhat later than the one before, and gives back the
/// acknowledged steps by version.
fn race(table: &Path, kind: &str, kills: i64) -> BTreeMap<u64, Step> {
    let children: Vec<(i64, Child)> = (0..processes()).map(|index| (index, spawn(table, kind, index))).collect();
    let mut acknowledged = BTreeMap::new();
    for (index, mut child) in children {
        let is_killed = index < kills;
        let last_words = 1 + index * writes() / (kills.max(1) + 1);
        let mut said = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // The test harness writes its own words before the first of ours.
            let Some((_, line)) = line.split_once("ack|") else { continue };
            let (version, n) = line.split_once('|').unwrap();
            let step = Step::of(kind, index, n.parse().unwrap());
            assert!(acknowledged.insert(version.parse().unwrap(), step).is_none(), "two writes got {version}");
            said += 1;
            if is_killed && said == last_words {
                child.kill().unwrap();
                break;
            }
        }
        let status = child.wait().unwrap();
        assert!(is_killed || (status.success() && said == writes()), "process {index}: {status}");
    }
    acknowledged
}

/// Checks that the rows are what the commits say, and that the acknowledged ones are among them. The steps in the log.
async fn check(table: &Path, acknowledged: &BTreeMap<u64, Step>) -> usize {
    let head = head_commit(table).unwrap().unwrap().version;
    let mut expected: Vec<(String, i64)> = Vec::new();
    let mut steps = Vec::new();
    for version in 0..=head {
        if commit_info(table, version).unwrap()["operation"] == "OPTIMIZE" {
            assert!(!acknowledged.contains_key(&version));
            continue;
        }
        let step = Step::from_metadata(&commit_metadata(table, version).unwrap());
        if let Some(said) = acknowledged.get(&version) {
            assert_eq!(*said, step, "version {version}");
        }
        match step.mode {
            WriteMode::Overwrite => expected.clear(),
            WriteMode::Merge | WriteMode::ReplaceWhere | WriteMode::Delete => {
                expected.retain(|(there, _)| *there != step.key);
            }
            _ => {}
        }
        if step.mode != WriteMode::Delete {
            expected.push((step.key.clone(), step.value));
        }
        steps.push((step.mode, step.value));
    }
    assert!(acknowledged.keys().all(|version| *version <= head));
    let mut once = steps.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), steps.len(), "no write landed twice");
    let mut expected: Vec<String> = expected.into_iter().map(|(key, value)| format!("{key}|{value}")).collect();
    expected.sort();
    assert_eq!(rows(table).await, expected);
    steps.len()
}

#[tokio::test]
async fn appends_of_many_processes_all_land_once() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = race(dir.path(), "append", 0);
    assert_eq!(check(dir.path(), &acknowledged).await as i64, processes() * writes());
    assert_eq!(data_files(dir.path()).len(), acknowledged.len(), "lost races leave no file");
}

#[tokio::test]
async fn overwrites_merges_and_a_maintainer_beside_appends_leave_what_the_commits_say() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = race(dir.path(), "mix", 0);
    assert_eq!(check(dir.path(), &acknowledged).await as i64, processes() * writes());
}

#[tokio::test]
async fn killed_writers_leave_a_table_that_goes_on() {
    for kind in ["append", "mix"] {
        let dir = tempfile::tempdir().unwrap();
        let acknowledged = race(dir.path(), kind, number("KILLS", 3));
        assert!(check(dir.path(), &acknowledged).await >= acknowledged.len());
        // The lock of a dead maintainer is free.
        drop(Maintenance::begin(dir.path(), Seam::system()).unwrap());
        land(dir.path(), &DeltaWritePolicy::default(), vec![batch(&[(Some("after"), 1)])]).await;
        assert_eq!(rows(dir.path()).await, ["after|1"]);
    }
}

//! kill -9 between any two steps of an entry's life, then a run: right rows, nothing half, finished views hit.
//!
//! The child is this very binary, asked by an environment variable to run a project and to die at a fail point.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use alluvium_contracts::RunResult;

use crate::lab::{Lab, answer, results, run};

const PROJECT: &str = "ALLUVIUM_TEST_CRASH_PROJECT";
const POINT: &str = "ALLUVIUM_TEST_CRASH_POINT";

/// Every step of the life of an entry, of an output, and of the events about them.
const POINTS: &[&str] = &[
    "view.lease.acquired",
    "view.files.written",
    "view.commit.before",
    "view.commit.after",
    "view.published",
    "run.event.before",
    "run.event.after",
    "output.files.written",
    "output.commit.before",
    "output.commit.after",
    "output.published",
    "ledger.drain.before_commit",
    "ledger.drain.after_commit",
];

pub fn lab() -> Lab {
    let lab = Lab::new(
        r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.first]
sql = "select k, s from events"

[views.second]
sql = "select s, sum(k) as total from first group by s"

[outputs.second]
view = "second"
path = "out/second"
"#,
    );
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

/// Lets this process die, or be stopped, where a [`child`] is to.
fn arm(point: &str) {
    let mut words = point.split('#');
    let (name, hit) = (words.next().unwrap(), words.next().unwrap());
    let hit: u32 = hit.parse().unwrap();
    let is_stopped = words.next() == Some("stop");
    let count = std::sync::atomic::AtomicU32::new(0);
    fail::cfg_callback(name, move || {
        if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == hit {
            if is_stopped {
                // Of this thread, so that it does not get a step further while another one takes the signal.
                // SAFETY: a signal to this very thread, whose process goes on here when it is woken.
                unsafe { libc::raise(libc::SIGSTOP) };
                return;
            }
            // SAFETY: a signal to this process itself, which does not survive it.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            loop {
                std::thread::park();
            }
        }
    })
    .unwrap();
}

/// The directory that this process is to work on, if it is a [`child`]; from here on it may die.
pub fn childhood() -> Option<PathBuf> {
    let (project, point) = (std::env::var_os(PROJECT)?, std::env::var(POINT).ok()?);
    arm(&point);
    Some(project.into())
}

/// Not a test of its own: what the child does.
#[tokio::test(flavor = "multi_thread")]
async fn crash_child() {
    let Some(project) = childhood() else { return };
    println!("{:#?}", run(&Lab::open_at(&project)).await);
}

/// A process that runs the project, and at the n-th time that it comes to a fail point (`NAME#N`) dies of it, or is
/// stopped (`NAME#N#stop`).
pub fn child(lab: &Lab, point: &str) -> Command {
    child_that("crash::crash_child", lab.dir(), point)
}

/// A process that does what `test` does where [`childhood`] says that it is a child.
pub fn child_that(test: &str, dir: &Path, point: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(PROJECT, dir).env(POINT, point);
    command
}

/// Whether the child died at the point; it may never have come to it that often.
pub fn crashes(lab: &Lab, point: &str, hit: u32) -> bool {
    crashes_at("crash::crash_child", lab.dir(), point, hit)
}

/// The same of a child that does what `test` does.
pub fn crashes_at(test: &str, dir: &Path, point: &str, hit: u32) -> bool {
    let output = child_that(test, dir, &format!("{point}#{hit}")).output().unwrap();
    match output.status.signal() {
        Some(signal) => {
            assert_eq!(signal, libc::SIGKILL);
            true
        }
        None => {
            assert!(output.status.success(), "{point}#{hit}: {}", String::from_utf8_lossy(&output.stdout));
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_the_next_run_is_right() {
    let mut died = 0;
    for point in POINTS {
        for hit in 1..=2 {
            let lab = lab();
            if !crashes(&lab, point, hit) {
                assert!(hit > 1, "{point} was never reached");
                continue;
            }
            died += 1;
            let published: Vec<bool> = {
                let plan = lab.plan().await;
                plan.views.iter().map(|view| view.result.as_str() == "hit").collect()
            };
            let document = lab.run().await;
            assert_eq!(document.result, RunResult::Succeeded, "{point}#{hit}: {document:#?}");
            for (view, was_published) in document.views.iter().zip(published) {
                let expected = if was_published { "hit" } else { "write" };
                assert_eq!(view.result.as_str(), expected, "{point}#{hit}: {}", view.name);
            }
            let pipeline = lab.open();
            for table in ["second", "outputs.second"] {
                let rows = answer(&pipeline, &format!("select s, total from {table} order by s")).await;
                insta::allow_duplicates! {
                    insta::assert_snapshot!(rows, @r"
                    +---+-------+
                    | s | total |
                    +---+-------+
                    | a | 1     |
                    | b | 5     |
                    +---+-------+
                    ");
                }
            }
            // Both runs are in the ledger, the killed one as such, unless it died after its end was recorded.
            let runs =
                answer(&pipeline, "select result, count(*) as n from alluvium.cache_runs group by 1 order by 1").await;
            let ended_first = point.starts_with("ledger.");
            assert_eq!(runs.contains("killed"), !ended_first, "{point}#{hit}:\n{runs}");
            let twice = "select run_id, view_name, output_name, count(*) as n from alluvium.cache_inventory \
                         group by 1, 2, 3 having count(*) > 1";
            assert!(!answer(&pipeline, twice).await.contains("first"), "{point}#{hit}: an event was recorded twice");
            let again = lab.run().await;
            assert_eq!(results(&again), ["first: hit", "second: hit"], "{point}#{hit}");
        }
    }
    assert!(died >= POINTS.len(), "{died}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_compute_each_view_once() {
    let lab = lab();
    let null = std::process::Stdio::null;
    let children: Vec<_> =
        (0..8).map(|_| child(&lab, "no such point#1").stdout(null()).stderr(null()).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let counts = lab
        .sql(
            "select view_name, output_name, result, count(*) as n from alluvium.cache_inventory \
             group by 1, 2, 3 order by 1, 2, 3",
        )
        .await;
    insta::assert_snapshot!(counts, @r"
    +-----------+-------------+--------+---+
    | view_name | output_name | result | n |
    +-----------+-------------+--------+---+
    | first     |             | hit    | 7 |
    | first     |             | write  | 1 |
    | second    | second      | hit    | 7 |
    | second    | second      | write  | 1 |
    | second    |             | hit    | 7 |
    | second    |             | write  | 1 |
    +-----------+-------------+--------+---+
    ");
}

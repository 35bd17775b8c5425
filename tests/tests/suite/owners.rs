//! Eight processes on one cold pipeline, some of them killed at random; and an owner of a lease that is stopped, overtaken
//! after its deadline, and wakes: with a successor that published, and with one that died.
//!
//! The children are those of [`crate::crash`].

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use alluvium_contracts::{CacheListing, EntryId, EntryState, OutputResult, RunResult};
use alluvium_telemetry::Seam;

use crate::caches::{caches_at, entry_dirs};
use crate::crash::{child, lab};
use crate::damage::{delete_row, put_row, raw_row};
use crate::lab::{Lab, answer, results, run};

/// Deaths of one test; `ALLUVIUM_KILLS` asks for more.
const KILLS: u64 = 6;

/// The same project, whose runs have a lease for so long from now on.
fn set_deadline(lab: &Lab, seconds: u64) {
    let text = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
    let rest = text.split_once("[sources").unwrap().1;
    lab.write("alluvium.toml", &format!("[profile]\nlease_deadline_seconds = {seconds}\n[sources{rest}"));
}

/// A process that is stopped at a fail point, with a lease for a second.
fn stopped_owner(lab: &Lab, point: &str) -> Child {
    set_deadline(lab, 1);
    let owner = child(lab, &format!("{point}#1#stop")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    stopped(&owner);
    owner
}

/// Wakes a stopped child; what it said by its end.
fn woken(mut child: Child) -> String {
    signal(&child, libc::SIGCONT);
    let mut said = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    said
}

/// How many views and outputs of a run's printed document ended so.
fn count_of(said: &str, result: &str) -> usize {
    said.matches(&format!("result: {result},")).count()
}

fn listing(lab: &Lab) -> CacheListing {
    caches_at(lab.dir()).cache().list().unwrap()
}

fn live(listing: &CacheListing) -> Vec<(String, EntryId)> {
    let live = listing.entries.iter().filter(|entry| entry.state == EntryState::Live);
    live.map(|entry| (entry.view_name.clone(), entry.entry_id)).collect()
}

fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: a signal to a child that has not been waited for yet, so its id is still its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// Waits until the child is stopped, which is not its end.
fn stopped(child: &Child) {
    let (pid, mut status) = (i32::try_from(child.id()).unwrap(), 0);
    // SAFETY: `status` is written to, and outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) }, pid);
    assert!(libc::WIFSTOPPED(status), "the child ended before it came to the point: {status}");
}

/// Equal sequences for equal seeds: xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_processes_some_are_killed_and_the_rest_are_right() {
    let setting = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seed = setting("ALLUVIUM_KILL_SEED").unwrap_or(0x5eed);
    let kills = setting("ALLUVIUM_KILLS").unwrap_or(KILLS);
    println!("{kills} kills, repeated by ALLUVIUM_KILL_SEED={seed}");
    let mut chance = Chance(seed.max(1));
    let mut killed = 0;
    while killed < kills {
        let lab = lab();
        let mut children: Vec<Child> = (0..8)
            .map(|_| child(&lab, "no such point#1").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
            .collect();
        for victim in [0, 3, 6] {
            tokio::time::sleep(Duration::from_millis(chance.below(120))).await;
            signal(&children[victim], libc::SIGKILL);
        }
        for child in &mut children {
            let status = child.wait().unwrap();
            match status.signal() {
                Some(signal) => {
                    assert_eq!(signal, libc::SIGKILL);
                    killed += 1;
                }
                None => assert!(status.success(), "seed {seed}: {status}"),
            }
        }
        let document = lab.run().await;
        assert_eq!(document.result, RunResult::Succeeded, "seed {seed}: {document:#?}");
        assert_eq!(results(&document), ["first: hit", "second: hit"], "seed {seed}: the survivors had all they needed");
        let pipeline = lab.open();
        for table in ["second", "outputs.second"] {
            let rows = answer(&pipeline, &format!("select s, total from {table} order by s")).await;
            assert!(rows.contains("| a | 1     |") && rows.contains("| b | 5     |"), "seed {seed}: {rows}");
        }
        let written = "select view_name, count(distinct cache_path) as n from alluvium.cache_inventory where result = 'write' \
                       and output_name is null group by 1 having count(distinct cache_path) > 1";
        let twice = answer(&pipeline, written).await;
        assert!(!twice.contains("first") && !twice.contains("second"), "seed {seed}: written twice\n{twice}");
        let _ = caches_at(lab.dir()).cache().collect_garbage(alluvium_runs::GcRequest::default()).unwrap();
        assert_eq!(
            entry_dirs(&lab.path(".alluvium"), "view_cache").len(),
            2,
            "seed {seed}: what the dead left is gone"
        );
    }
}

/// Nobody waits for a dead owner for more than two seconds. What the run takes besides depends on the machine, so it is compared with one
/// that waits for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_owner_goes_on_when_it_dies() {
    let seam = Seam::system();
    let watch = seam.stopwatch();
    assert_eq!(results(&lab().run().await), ["first: write", "second: write"]);
    let alone = watch.elapsed();

    let lab = lab();
    let mut owner =
        child(&lab, "view.lease.acquired#1#stop").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    stopped(&owner);
    let pipeline = lab.open();
    let waiting = tokio::spawn(async move { run(&pipeline).await });
    tokio::time::sleep(alone + Duration::from_secs(1)).await;
    assert!(!waiting.is_finished(), "it has to wait for the owner, which lives");
    signal(&owner, libc::SIGKILL);
    assert_eq!(owner.wait().unwrap().signal(), Some(libc::SIGKILL));
    let watch = seam.stopwatch();
    assert_eq!(results(&waiting.await.unwrap()), ["first: write", "second: write"]);
    let waited = watch.elapsed().saturating_sub(2 * alone);
    assert!(waited < Duration::from_secs(2), "{waited:?} beside {alone:?}");
}

/// Of several who wait for it one takes over, and the others wait for that one.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_wakes_after_its_deadline_publishes_nothing() {
    for point in ["view.lease.acquired", "view.files.written", "view.commit.after"] {
        let lab = lab();
        let owner = stopped_owner(&lab, point);
        // Who takes over is not overtaken in turn.
        set_deadline(&lab, 600);
        let null = Stdio::null;
        let heirs: Vec<Child> =
            (0..3).map(|_| child(&lab, "no such point#1").stdout(null()).stderr(null()).spawn().unwrap()).collect();
        for mut heir in heirs {
            assert!(heir.wait().unwrap().success(), "{point}");
        }
        let published = listing(&lab);
        assert_eq!(live(&published).len(), 2, "{point}: {published:#?}");
        let results_of_first = "select result, count(*) as n from alluvium.cache_inventory \
                                where view_name = 'first' and output_name is null group by 1 order by 1";
        let before = lab.sql(results_of_first).await;
        assert!(before.contains("| hit    | 2 |") && before.contains("| write  | 1 |"), "{point}: {before}");

        // It looks again, and serves what its successor published: views, and the output.
        let said = woken(owner);
        assert_eq!((count_of(&said, "Hit"), count_of(&said, "Write")), (3, 0), "{point}: {said}");
        let after = listing(&lab);
        assert_eq!(live(&after), live(&published), "{point}: {said}");
        // What it had begun to write it commits all the same; somebody may find that, so it is left to a collector.
        let left = usize::from(point != "view.lease.acquired");
        assert_eq!(after.entries.len(), 2 + left, "{point}: {after:#?}");
        let collected = caches_at(lab.dir()).cache().collect_garbage(alluvium_runs::GcRequest::default()).unwrap();
        assert_eq!(
            (collected.entries.len(), live(&listing(&lab))),
            (left, live(&published)),
            "{point}: {collected:#?}"
        );
        assert_eq!(results(&lab.run().await), ["first: hit", "second: hit"], "{point}");
    }
}

/// What an overtaken owner computed is right all the same, and is published where its successor left nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_successor_dies_has_not_computed_for_nothing() {
    for point in ["view.files.written", "view.commit.after"] {
        let lab = lab();
        let owner = stopped_owner(&lab, point);
        set_deadline(&lab, 600);
        let mut heir =
            child(&lab, "view.files.written#1#stop").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        stopped(&heir);
        // Nobody would wait for ten minutes here: a successor that dies is replaced at once too.
        signal(&heir, libc::SIGKILL);
        assert_eq!(heir.wait().unwrap().signal(), Some(libc::SIGKILL));
        let said = woken(owner);
        assert_eq!((count_of(&said, "Hit"), count_of(&said, "Write")), (0, 3), "{point}: {said}");
        let published = listing(&lab);
        assert_eq!(live(&published).len(), 2, "{point}: {published:#?}");
        assert_eq!(results(&lab.run().await), ["first: hit", "second: hit"], "{point}");
        assert!(lab.sql("select sum(total) as n from second").await.contains("| 6 |"), "{point}");
        assert_eq!(live(&listing(&lab)), live(&published), "{point}");
    }
}

/// What its successor has published is of a later state of the source.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_an_output_that_wakes_puts_nothing_over_that_of_its_successor() {
    let lab = lab();
    let owner = stopped_owner(&lab, "output.files.written");
    set_deadline(&lab, 600);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b"), (4, "b")]);
    assert_eq!(lab.run().await.outputs[0].result, OutputResult::Write);
    let said = woken(owner);
    assert!(said.contains("superseded") || said.contains("taken over after its deadline"), "{said}");
    let published = "select sum(total) as n from outputs.second";
    assert!(lab.sql(published).await.contains("| 10 |"), "{}", lab.sql(published).await);
    let again = lab.run().await;
    assert_eq!(again.outputs[0].result, OutputResult::Hit, "{again:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_dies_is_replaced_at_once() {
    let lab = lab();
    let owner = stopped_owner(&lab, "view.files.written");
    set_deadline(&lab, 600);
    let mut heir =
        child(&lab, "view.files.written#1#stop").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    stopped(&heir);
    let pipeline = lab.open();
    let waiting = tokio::spawn(async move { run(&pipeline).await });
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!waiting.is_finished(), "the successor has its ten minutes, though the first owner had one second");
    signal(&heir, libc::SIGKILL);
    heir.wait().unwrap();
    let document = tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
    assert_eq!(results(&document), ["first: write", "second: write"]);
    assert_eq!(count_of(&woken(owner), "Hit"), 3);
}

/// A waiter whose patience ends looks for the entry before it computes.
#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_waiting_looks_a_second_time() {
    let lab = lab();
    let first = lab.run().await;
    let key = first.views[0].cache_key.unwrap();
    // An owner that has just published and does not let go, before anybody looked: its row is not there yet.
    let root = lab.path(".alluvium");
    let row = raw_row(&root, "entries", key.as_bytes());
    for table in ["entries", "tokens"] {
        delete_row(&root, table, key.as_bytes());
    }
    let lease = std::fs::File::create(root.join(format!("leases/{}.lock", key.hex()))).unwrap();
    lease.try_lock().unwrap();
    set_deadline(&lab, 3);
    let mut heir = child(&lab, "no such point#1").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut told = 0;
    while told == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(heir.try_wait().unwrap().is_none(), "it has to wait");
        told = std::fs::read_dir(root.join("readers")).map_or(0, Iterator::count);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    put_row(&root, "entries", key.as_bytes(), &row);
    let mut said = String::new();
    std::io::Read::read_to_string(heir.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert!(heir.wait().unwrap().success(), "{said}");
    assert_eq!((count_of(&said, "Hit"), count_of(&said, "Write")), (3, 0), "{said}");
    drop(lease);
}

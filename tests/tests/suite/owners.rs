//! Eight processes on one cold pipeline, some of them killed at random; and an owner of a lease that is stopped, overtaken
//! after its deadline, and wakes.
//!
//! The children are those of [`crate::crash`].

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use alluvium_contracts::RunResult;
use alluvium_runs::OpenOptions;
use alluvium_telemetry::{Clock, Seam};

use crate::caches::{caches_at, entry_dirs};
use crate::crash::{child, lab};
use crate::lab::{Drawn, Lab, Later, answer, results, run};

/// Deaths of one test; `ALLUVIUM_KILLS` asks for more.
const KILLS: u64 = 6;

/// A clock that runs so fast that every deadline has passed in a moment.
#[derive(Debug)]
struct Hasty;

impl Clock for Hasty {
    fn since_epoch(&self) -> Duration {
        Later.since_epoch()
    }

    fn monotonic(&self) -> Duration {
        Later.monotonic() * 5_000
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_wakes_after_its_deadline_publishes_nothing() {
    for point in ["view.lease.acquired", "view.files.written", "view.commit.after"] {
        let lab = lab();
        let mut owner =
            child(&lab, &format!("{point}#1#stop")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        stopped(&owner);
        let hasty = OpenOptions { seam: Some(Seam::new(Arc::new(Hasty), Arc::new(Drawn))), ..OpenOptions::default() };
        let document = run(&Lab::open_with(lab.dir(), hasty)).await;
        assert_eq!(document.result, RunResult::Succeeded, "{point}: {document:#?}");
        assert_eq!(results(&document), ["first: write", "second: write"], "{point}");
        let published = caches_at(lab.dir()).cache().list().unwrap();
        let live = |listing: &alluvium_contracts::CacheListing| -> Vec<_> {
            let live = listing.entries.iter().filter(|entry| entry.state == alluvium_contracts::EntryState::Live);
            live.map(|entry| (entry.view_name.clone(), entry.entry_id)).collect()
        };

        signal(&owner, libc::SIGCONT);
        let mut said = String::new();
        std::io::Read::read_to_string(owner.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert!(owner.wait().unwrap().success(), "{point}: {said}");
        // It failed, or it looked again and took what was there; either way nothing of its own was published.
        let after = caches_at(lab.dir()).cache().list().unwrap();
        assert_eq!(live(&after), live(&published), "{point}: {said}");
        assert_eq!(after.entries.len(), 2, "{point}: its directory is gone too: {after:#?}");
        let superseded = point != "view.lease.acquired";
        assert_eq!(said.contains("taken over"), superseded, "{point}: {said}");
        assert_eq!(results(&lab.run().await), ["first: hit", "second: hit"], "{point}");
    }
}

//! Four writers, killed at random points again and again: what they were told is done stays done, and nothing is left by half.
//!
//! `cargo xtask soak kv` says how many kills there are, and from which seed; without it there are 20.

use std::collections::BTreeMap;
use std::io::{BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout};

use alluvium_disk_kv_cache::{Order, Store, StoreError};

use crate::child::{self, number, say};
use crate::random::Random;

const WRITER: &str = "ALLUVIUM_KV_TEST_WRITER";
const WRITERS: u64 = 4;
const TABLES: &[&str] = &["rows", "done", "total", "queue"];
/// A writer keeps its last so many rows.
const KEPT: u64 = 40;

fn open(dir: &Path) -> Store {
    Store::open(dir, TABLES, child::quick()).unwrap()
}

/// Every tenth key is a long one, between the short ones around it.
fn key(writer: u64, n: u64) -> Vec<u8> {
    let mut key = [writer.to_be_bytes(), n.to_be_bytes()].concat();
    if n.is_multiple_of(10) {
        key.resize(600 + (n % 7) as usize * 100, 0);
    }
    key
}

fn value(writer: u64, n: u64) -> Vec<u8> {
    // Now and then large enough for the map to grow.
    let length = if n.is_multiple_of(97) { 200_000 } else { (n % 30) as usize * 50 };
    vec![(writer * 31 + n) as u8; length]
}

/// Works for ever: each step changes four tables at once, and is said when it is acknowledged.
pub fn work(dir: &Path) {
    let writer: u64 = std::env::var(WRITER).unwrap().parse().unwrap();
    let store = open(dir);
    loop {
        let n = store.write::<_, StoreError>(|txn| {
            let n = number(txn.get("done", &writer.to_be_bytes())?) + 1;
            let total = number(txn.get("total", b"total")?) + 1;
            txn.put("rows", &key(writer, n), &value(writer, n))?;
            if n > KEPT {
                assert!(txn.delete("rows", &key(writer, n - KEPT))?);
            }
            txn.put("done", &writer.to_be_bytes(), &n.to_be_bytes())?;
            txn.put("total", b"total", &total.to_be_bytes())?;
            // First in, first out: what is taken is what was put in so many steps ago, by whomever.
            txn.put("queue", &total.to_be_bytes(), &writer.to_be_bytes())?;
            if txn.len("queue")? > KEPT {
                let (oldest, _) = txn.first("queue")?.unwrap();
                let oldest = oldest.to_vec();
                assert_eq!(number(Some(&oldest)), total - KEPT);
                txn.delete("queue", &oldest)?;
            }
            Ok(n)
        });
        say(n.unwrap());
    }
}

struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    acknowledged: u64,
}

impl Writer {
    fn start(writer: u64, dir: &Path, acknowledged: u64) -> Writer {
        let env = format!("{WRITER}={writer}");
        let (child, lines) = child::start_under(&["env", &env], "crash", dir);
        Writer { child, lines, acknowledged }
    }

    fn hear(&mut self, steps: usize) {
        let numbers = self.lines.by_ref().map_while(Result::ok).filter_map(|line| line.parse().ok());
        self.acknowledged = numbers.take(steps).last().unwrap_or(self.acknowledged);
    }

    /// Kills it, and hears what it still said.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.hear(usize::MAX);
        assert_eq!(self.child.wait().unwrap().signal(), Some(libc::SIGKILL), "it had failed before");
    }
}

fn verify(dir: &Path, writers: &[Writer], what: &str) {
    let store = open(dir);
    store.check().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let verified = store.read::<_, StoreError>(|txn| {
        let mut expected = BTreeMap::new();
        let mut total = 0;
        for (writer, state) in writers.iter().enumerate() {
            let writer = writer as u64;
            let done = number(txn.get("done", &writer.to_be_bytes())?);
            assert!(done >= state.acknowledged, "{what}: {writer} was told of {} and did {done}", state.acknowledged);
            total += done;
            expected.extend((done.saturating_sub(KEPT) + 1..=done).map(|n| (key(writer, n), value(writer, n))));
        }
        assert_eq!(number(txn.get("total", b"total")?), total, "{what}");
        assert_eq!(txn.len("queue")?, total.min(KEPT), "{what}");
        let mut rows = txn.scan("rows", .., Order::Ascending)?;
        for (key, value) in &expected {
            assert_eq!(rows.next().transpose()?, Some((key.as_slice(), value.as_slice())), "{what}");
        }
        assert!(rows.next().is_none(), "{what}");
        Ok(())
    });
    verified.unwrap_or_else(|error| panic!("{what}: {error:?}"));
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// How many kills a test does, and the seed that says when. Printed, so that a failure can be had again.
pub fn plan(test: &str) -> (u64, Random) {
    let kills = setting("ALLUVIUM_KV_KILLS").unwrap_or(20);
    let seed = setting("ALLUVIUM_KV_SEED").unwrap_or(0xC0FFEE);
    eprintln!("{test}: {kills} kills, seed {seed}");
    // xorshift stands still at 0.
    (kills, Random(seed.max(1)))
}

/// After so many kills a store begins anew, and grows again.
pub const KILLS_PER_STORE: u64 = 24;

#[test]
fn writers_killed_at_any_point_lose_nothing_they_were_told_of() {
    let (kills, mut random) = plan("store");
    let (mut killed, mut steps) = (0, 0);
    while killed < kills {
        let (more, acknowledged) = kill_writers(KILLS_PER_STORE.min(kills - killed), killed, &mut random);
        (killed, steps) = (killed + more, steps + acknowledged);
    }
    eprintln!("store: {killed} kills, {steps} steps acknowledged");
}

/// Kills writers of one store so many times, or a few more. Returns how many times, and how many steps they did.
fn kill_writers(kills: u64, before: u64, random: &mut Random) -> (u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut writers: Vec<Writer> = (0..WRITERS).map(|writer| Writer::start(writer, dir.path(), 0)).collect();
    let mut killed = 0;
    while killed < kills {
        let what = format!("after {} kills", before + killed);
        // The whole crowd now and then, after which the store is suspect; else one in the midst of the others.
        let all = random.below(8) == 0;
        let one = random.below(writers.len());
        let victims = if all { 0..writers.len() } else { one..one + 1 };
        let steps = 1 + random.below(60);
        writers[victims.start].hear(steps);
        for victim in victims.clone() {
            writers[victim].kill();
            killed += 1;
        }
        verify(dir.path(), &writers, &what);
        for victim in victims {
            writers[victim] = Writer::start(victim as u64, dir.path(), writers[victim].acknowledged);
        }
    }
    // None is killed before it did something.
    writers.iter_mut().for_each(|writer| writer.hear(1));
    writers.iter_mut().for_each(Writer::kill);
    verify(dir.path(), &writers, "at the end");
    (killed, writers.iter().map(|writer| writer.acknowledged).sum())
}

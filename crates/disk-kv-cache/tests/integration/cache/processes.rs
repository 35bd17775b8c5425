//! Several threads and processes on one cache.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;

use alluvium_disk_kv_cache::{Cache, CacheOptions, FanoutCache, Key, SetOptions, Side};

use super::support::{assert_sound, clock, files, options, settings};
use crate::child::{self, quick, say};

const PROCESSES: usize = 4;
const EACH: usize = 300;

fn open(dir: &Path) -> Cache {
    CacheOptions::new().with_store(quick()).open(dir).unwrap()
}

fn add_names(cache: &FanoutCache, who: &str) -> usize {
    let plain = SetOptions::new();
    (0..EACH).filter(|n| cache.add(&("name", *n as u64), who.as_bytes(), &plain).unwrap()).count()
}

/// Begins once its standard input is closed; says each sum that it was given, how many names it added, and how many jobs
/// it pulled.
pub fn compete(dir: &Path) {
    let cache = open(&dir.join("cache"));
    let fanout = FanoutCache::open_with(dir.join("fanout"), Some(3), &CacheOptions::new().with_store(quick())).unwrap();
    say("ready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    for n in 0..EACH {
        say(format!("sum {}", cache.incr("sum", 1).unwrap()));
        fanout.incr(&(n as u64 % 7), 1).unwrap();
        cache.push("jobs", n.to_string().as_bytes(), Side::Back, &SetOptions::new()).unwrap();
        // Values in files, replaced under the eyes of readers.
        let value = vec![n as u8; 40 << 10];
        cache.set("shared", &value).unwrap();
        let read = cache.get("shared").unwrap().unwrap();
        assert!(read.len() == 40 << 10 && read.iter().all(|byte| *byte == read[0]), "one write's bytes");
    }
    let added = add_names(&fanout, &std::process::id().to_string());
    let mut pulled = 0;
    while cache.pull("jobs", Side::Front).unwrap().is_some() {
        pulled += 1;
    }
    say(format!("done {added} {pulled}"));
}

#[test]
fn processes_count_add_and_pull_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<_> = (0..PROCESSES).map(|_| child::start("compete", dir.path())).collect();
    for (_, lines) in &mut children {
        assert!(lines.any(|line| line.unwrap() == "ready"));
    }
    for (child, _) in &mut children {
        drop(child.stdin.take());
    }
    let (mut added, mut pulled, mut sums) = (0, 0, BTreeSet::new());
    for (mut child, lines) in children {
        let said: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(child.wait().unwrap().success(), "{said:?}");
        let own: Vec<usize> = said.iter().filter_map(|line| line.strip_prefix("sum ")?.parse().ok()).collect();
        assert!(own.is_sorted(), "no process sees the counter go back");
        sums.extend(own);
        let done = said.iter().find_map(|line| line.strip_prefix("done ")).unwrap();
        let numbers: Vec<usize> = done.split(' ').map(|number| number.parse().unwrap()).collect();
        added += numbers[0];
        pulled += numbers[1];
    }
    assert_eq!(added, EACH, "each name was added by exactly one");
    assert!(sums.into_iter().eq(1..=PROCESSES * EACH), "each increment was given a sum of its own");
    let cache = open(&dir.path().join("cache"));
    while cache.pull("jobs", Side::Back).unwrap().is_some() {
        pulled += 1;
    }
    assert_eq!(pulled, PROCESSES * EACH);
    assert_eq!(cache.get("sum").unwrap().unwrap(), (PROCESSES * EACH).to_string().as_bytes());
    let fanout =
        FanoutCache::open_with(dir.path().join("fanout"), None, &CacheOptions::new().with_store(quick())).unwrap();
    let sum: usize = (0..7_u64)
        .map(|n| String::from_utf8(fanout.get(&n).unwrap().unwrap()).unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(sum, PROCESSES * EACH, "no write is dropped");
    assert_sound(&cache);
    assert_eq!(fanout.check(false).unwrap(), []);
    assert_eq!(files(&dir.path().join("cache")), 1);
}

#[test]
fn threads_count_add_and_pop_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    for n in 0..100_u64 {
        cache.set(&("pop", n), &n.to_be_bytes()).unwrap();
    }
    let (mut added, mut popped) = (0, 0);
    thread::scope(|threads| {
        let work = || {
            let mut done = (0, 0);
            for n in 0..100_u64 {
                cache.incr("sum", 1).unwrap();
                done.0 += usize::from(cache.add(&("add", n), b"", &SetOptions::new()).unwrap());
                done.1 += usize::from(cache.pop(&("pop", n)).unwrap().is_some());
            }
            done
        };
        let all: Vec<_> = (0..8).map(|_| threads.spawn(work)).collect();
        for one in all {
            let (adds, pops) = one.join().unwrap();
            added += adds;
            popped += pops;
        }
    });
    assert_eq!((added, popped), (100, 100));
    assert_eq!(cache.get("sum").unwrap().unwrap(), b"800");
    assert_sound(&cache);
}

#[test]
fn accesses_are_counted_by_threads_without_losing_any() {
    let dir = tempfile::tempdir().unwrap();
    let cache = options(&clock()).with_settings(settings().with_statistics(true)).open(dir.path()).unwrap();
    cache.set("key", b"").unwrap();
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| (0..1_000).for_each(|_| drop(cache.get("key").unwrap())));
        }
    });
    assert_eq!(cache.stats().unwrap().hits, 4_000);
}

#[test]
fn keys_of_one_process_are_those_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache.set(&(1_u8, "x"), b"value").unwrap();
    child::run("read-a-key", dir.path());
    assert_eq!(cache.get(&(2_i64, "y")).unwrap().unwrap(), b"child");
}

pub fn read_a_key(dir: &Path) {
    let cache = open(dir);
    assert_eq!(cache.get(&(1_i128, "x".to_owned()).to_key()).unwrap().unwrap(), b"value");
    cache.set(&(2_u16, "y"), b"child").unwrap();
}

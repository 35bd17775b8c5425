//! Several threads and processes on one cache; processes killed in the middle of it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::thread;

use alluvium_disk_kv_cache::{Cache, CacheOptions, Eviction, FanoutCache, Key, Order, SetOptions, Side};

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

/// Begins once its standard input is closed; says how many names it added, and how many jobs it pulled.
pub fn compete(dir: &Path) {
    let cache = open(&dir.join("cache"));
    let fanout = FanoutCache::open_with(dir.join("fanout"), Some(3), &CacheOptions::new().with_store(quick())).unwrap();
    say("ready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    for n in 0..EACH {
        cache.incr("sum", 1).unwrap();
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
    let (mut added, mut pulled) = (0, 0);
    for (mut child, lines) in children {
        let said: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(child.wait().unwrap().success(), "{said:?}");
        let done = said.iter().find_map(|line| line.strip_prefix("done ")).unwrap();
        let numbers: Vec<usize> = done.split(' ').map(|number| number.parse().unwrap()).collect();
        added += numbers[0];
        pulled += numbers[1];
    }
    assert_eq!(added, EACH, "each name was added by exactly one");
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

/// Changes its own keys for ever, and says each change before it begins (`?`) and once it is acknowledged (`!`).
pub fn churn(dir: &Path) {
    let settings = settings().with_eviction(Eviction::LeastRecentlyUsed).with_cull_limit(2);
    let cache = CacheOptions::new().with_store(quick()).open(dir).unwrap();
    cache.update_settings(|_| settings).unwrap();
    let me = u64::from(std::process::id());
    for n in 0_u64.. {
        // Kept keys are never evicted here: they are what must not be lost.
        let key = n % 20;
        let value = vec![n as u8; 8 + (n as usize * 37) % 400];
        let value = [&n.to_be_bytes()[..], &value].concat();
        match n % 8 {
            7 => {
                say(format!("? {me} {key} -"));
                cache.delete(&("kept", me, key)).unwrap();
                say(format!("! {me} {key} -"));
            }
            6 => {
                // Of no account to anybody, but full of files, expiry and eviction.
                let options =
                    SetOptions::new().with_tag(format!("t{}", n % 3)).with_ttl(std::time::Duration::from_millis(n % 5));
                cache.set_with(&("churn", me, n), &[7; 500], &options).unwrap();
                cache.push("queue", &[8; 300], Side::Back, &options).unwrap();
                cache.evict(&format!("t{}", (n + 1) % 3)).unwrap();
                cache.pull("queue", Side::Front).unwrap();
                cache.expire().unwrap();
            }
            _ => {
                say(format!("? {me} {key} {n}"));
                cache.set_with(&("kept", me, key), &value, &SetOptions::new().with_tag("kept")).unwrap();
                say(format!("! {me} {key} {n}"));
                cache.get(&("kept", me, key)).unwrap();
            }
        }
    }
}

/// What a child said of a key: what was acknowledged last, and what it may have done since.
#[derive(Debug, Default, Clone)]
struct Told {
    acknowledged: Option<u64>,
    begun: Option<Option<u64>>,
}

fn listen(lines: impl Iterator<Item = String>, told: &mut HashMap<(u64, u64), Told>) {
    for line in lines {
        let parts: Vec<&str> = line.split(' ').collect();
        let [sign @ ("?" | "!"), who, key, n] = parts[..] else { continue };
        // The last line may be cut off.
        let (Ok(who), Ok(key)) = (who.parse(), key.parse()) else { continue };
        let n: Option<u64> = if n == "-" { None } else { n.parse().ok() };
        let told = told.entry((who, key)).or_default();
        match sign {
            "?" => told.begun = Some(n),
            _ => *told = Told { acknowledged: n, begun: None },
        }
    }
}

/// Rounds of the crash test; CI's are few.
fn rounds() -> usize {
    std::env::var("ALLUVIUM_KV_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20)
}

#[test]
fn killed_writers_leave_a_sound_cache_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut told: HashMap<(u64, u64), Told> = HashMap::new();
    let mut changes = 0;
    for round in 0..rounds() {
        let mut children: Vec<_> = (0..PROCESSES).map(|_| child::start("churn", dir.path())).collect();
        let (first, lines) = &mut children[0];
        // A different moment each time: after so many acknowledged changes.
        let wait = 2 + (round * 13) % 60;
        let heard: Vec<String> = lines.map_while(Result::ok).filter(|line| line.starts_with('!')).take(wait).collect();
        assert_eq!(heard.len(), wait, "{first:?}");
        let first = first.id();
        for (child, _) in &mut children {
            child.kill().unwrap();
        }
        listen(heard.into_iter(), &mut told);
        for (mut child, lines) in children {
            listen(lines.map_while(Result::ok), &mut told);
            assert!(!child.wait().unwrap().success());
        }
        changes += told.len();

        let cache = open(dir.path());
        let orphans = cache.maintain().unwrap().orphan_files;
        assert_sound(&cache);
        assert_eq!(cache.maintain().unwrap().orphan_files, 0, "one sweep is enough");
        let mut found = BTreeMap::new();
        for item in cache.items(Order::Ascending) {
            let (key, item) = item.unwrap();
            if let Ok((_, who, key)) = key.decode::<(String, u64, u64)>()
                && item.tags == ["kept"]
            {
                found.insert((who, key), u64::from_be_bytes(item.value[..8].try_into().unwrap()));
            }
        }
        for (key, told) in &told {
            let now = found.get(key).copied();
            let possible = now == told.acknowledged || told.begun.is_some_and(|begun| now == begun);
            assert!(possible, "round {round}, {key:?}: {now:?}, but {told:?} ({orphans} orphans, first {first})");
        }
        let in_files =
            || cache.items(Order::Ascending).filter(|item| item.as_ref().unwrap().1.value.len() >= 100).count();
        // Seen once: a file that both sweeps found locked, as if its dead writer's lock outlived it by a moment.
        for _ in 0..1_000 {
            if files(dir.path()) == in_files() {
                break;
            }
            cache.maintain().unwrap();
        }
        assert_eq!(files(dir.path()), in_files());
        // Who is dead changes nothing any more.
        for ((who, key), told) in &mut told {
            *told = Told { acknowledged: found.get(&(*who, *key)).copied(), begun: None };
        }
        cache.evict("t0").unwrap();
    }
    assert!(changes > 0);
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

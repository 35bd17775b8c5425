//! Four writers of caches, killed at random points again and again: setting, deleting, counting, pushing and pulling,
//! expiring, evicting, culling, growing the map, and changing all shards of a cache at once. What they were told is done stays done; nothing is done by half; no file is
//! left behind, and none is missing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout};
use std::time::Duration;

use alluvium_disk_kv_cache::{
    Cache, CacheError, CacheOptions, Eviction, FanoutCache, ManualClock, Order, Problem, SetOptions, Side,
};

use super::support::{FILE_BYTES, files, settings};
use crate::child::{self, quick, say};
use crate::crash::{KILLS_PER_STORE, plan};
use crate::random::Random;

const WRITERS: u64 = 4;
const ENV: &str = "ALLUVIUM_KV_TEST_CHURN";
/// Keys of each writer in each cache.
const KEYS: usize = 20;

/// Nothing in it is ever evicted: it is what must not be lost. Reads are tracked, so that all tables are in use.
fn open_kept(dir: &Path, options: &CacheOptions) -> Cache {
    let settings = settings().with_eviction(Eviction::LeastRecentlyUsed).with_cull_limit(2);
    options.clone().with_settings(settings).open(dir.join("kept")).unwrap()
}

/// So small that every other write culls.
fn open_culled(dir: &Path, options: &CacheOptions) -> Cache {
    let settings = settings().with_eviction(Eviction::LeastRecentlyUsed).with_size_limit_bytes(16 << 10);
    options.clone().with_settings(settings).open(dir.join("culled")).unwrap()
}

/// Changed in all shards at once.
fn open_sharded(dir: &Path, options: &CacheOptions) -> FanoutCache {
    FanoutCache::open_with(dir.join("sharded"), Some(3), &options.clone().with_settings(settings())).unwrap()
}

/// Counters of a writer, one in each shard, in the shards' order.
fn counters(cache: &FanoutCache, writer: u64) -> Vec<(u64, u64)> {
    let lies_in = |key: &(u64, u64), shard: &Cache| cache.shard_of(key).path() == shard.path();
    let counter = |shard| (0..).map(|n| (writer, n)).find(|key| lies_in(key, shard)).unwrap();
    cache.shards().iter().map(counter).collect()
}

/// A value that says its number: small or in a file, as the number has it.
fn numbered(n: u64) -> Vec<u8> {
    let mut value = n.to_be_bytes().to_vec();
    value.resize(8 + (n as usize * 37) % 400, n as u8);
    // Now and then the map grows.
    if n.is_multiple_of(61) {
        value.resize(FILE_BYTES as usize - 1, 0);
    }
    value
}

fn number(value: &[u8]) -> u64 {
    let n = u64::from_be_bytes(value[..8].try_into().unwrap());
    assert_eq!(value, numbered(n), "one write's bytes");
    n
}

/// Works for ever, and says of each change that matters when it begins (`?`) and when it is acknowledged (`!`).
pub fn churn(dir: &Path) {
    let env = std::env::var(ENV).unwrap();
    let [writer, first, seed] = env.split(',').map(|part| part.parse().unwrap()).collect::<Vec<u64>>()[..] else {
        panic!("{env}")
    };
    // A panic of its own is told at once: the kill may come before its end.
    std::panic::set_hook(Box::new(|info| say(format!("! failed {}", info.to_string().replace('\n', " ")))));
    let options = CacheOptions::new().with_store(quick());
    let (kept, culled) = (open_kept(dir, &options), open_culled(dir, &options));
    let sharded = open_sharded(dir, &options);
    let counters = counters(&sharded, writer);
    let (mut random, plain) = (Random(seed), SetOptions::new());
    let told = |what: &str, change: &mut dyn FnMut()| {
        say(format!("? {what}"));
        change();
        say(format!("! {what}"));
    };
    for n in first.. {
        let key = random.below(KEYS) as u64;
        match random.below(11) {
            0..=2 => told(&format!("kept {writer} {key} {n}"), &mut || {
                let options = SetOptions::new().with_tag("kept");
                kept.set_with(&("kept", writer, key), &numbered(n), &options).unwrap();
            }),
            3 => told(&format!("kept {writer} {key} -"), &mut || {
                kept.delete(&("kept", writer, key)).unwrap();
            }),
            4..=5 => told(&format!("culled {writer} {key} {n}"), &mut || {
                culled.set(&("culled", writer, key), &numbered(n)).unwrap();
            }),
            6 => told(&format!("push {n}"), &mut || {
                kept.push("jobs", &numbered(n), Side::Back, &plain).unwrap();
            }),
            7 => {
                say("? pull");
                match kept.pull("jobs", Side::Front).unwrap() {
                    Some((_, job)) => say(format!("! pull {}", number(&job.value))),
                    None => say("! pull -"),
                }
            }
            8 => told("count", &mut || {
                kept.incr("count", 1).unwrap();
            }),
            9 => told(&format!("all {writer}"), &mut || {
                let counted = sharded.transact::<_, CacheError>(|txn| {
                    txn.set(&(writer, "passing", key), &numbered(n), &plain)?;
                    counters.iter().try_for_each(|counter| txn.incr(counter, 1, Some(0), &plain).map(drop))
                });
                counted.unwrap();
            }),
            // Of no account to anybody, but full of files, expiry, tags and eviction.
            _ => {
                let tag = format!("t{}", n % 3);
                let ttl = Duration::from_millis(random.below(5) as u64);
                kept.set_with(&("passing", n), &[7; 500], &SetOptions::new().with_ttl(ttl).with_tag(tag)).unwrap();
                kept.evict(&format!("t{}", (n + 1) % 3)).unwrap();
                kept.expire().unwrap();
                culled.cull().unwrap();
                kept.get(&("kept", writer, key)).unwrap();
            }
        }
    }
}

/// What was said of a key: what was acknowledged last, and what may have been done since.
#[derive(Debug, Default, Clone)]
struct Told {
    acknowledged: Option<u64>,
    begun: Option<Option<u64>>,
}

/// Everything that was said.
#[derive(Debug, Default)]
struct Heard {
    keys: HashMap<(String, u64, u64), Told>,
    counted: u64,
    pushed: HashSet<u64>,
    pulled: HashSet<u64>,
    /// Counts, pushes and pulls that were begun, and of which it is not known whether they were done.
    open: BTreeMap<&'static str, u64>,
    open_pushes: HashSet<u64>,
    /// Of each writer, how often it has counted in all shards; and how often it may have, in some of them or all.
    all: HashMap<u64, (u64, u64)>,
    acknowledged: u64,
}

impl Heard {
    fn line(&mut self, line: &str) {
        let parts: Vec<&str> = line.split(' ').collect();
        let done = parts[0] == "!";
        match parts[..] {
            ["!", "failed", ..] => panic!("a writer failed: {line}"),
            ["?" | "!", cache @ ("kept" | "culled"), writer, key, n] => {
                // The last line may be cut off.
                let (Ok(writer), Ok(key)) = (writer.parse(), key.parse()) else { return };
                let n = if n == "-" { None } else { n.parse().ok() };
                let told = self.keys.entry((cache.to_owned(), writer, key)).or_default();
                match done {
                    true => *told = Told { acknowledged: n, begun: None },
                    false => told.begun = Some(n),
                }
            }
            ["?", "count"] => *self.open.entry("count").or_default() += 1,
            ["!", "count"] => {
                self.counted += 1;
                *self.open.entry("count").or_default() -= 1;
            }
            ["?", "push", n] => drop(n.parse().map(|n| self.open_pushes.insert(n))),
            ["!", "push", n] => {
                let Ok(n) = n.parse() else { return };
                self.open_pushes.remove(&n);
                self.pushed.insert(n);
            }
            ["?", "all", writer] => {
                let Ok(writer) = writer.parse() else { return };
                self.all.entry(writer).or_default().1 += 1;
            }
            ["!", "all", writer] => {
                let Ok(writer) = writer.parse() else { return };
                let (done, open) = self.all.entry(writer).or_default();
                (*done, *open) = (*done + 1, *open - 1);
            }
            ["?", "pull"] => *self.open.entry("pull").or_default() += 1,
            ["!", "pull", n] => {
                *self.open.entry("pull").or_default() -= 1;
                if let Ok(n) = n.parse() {
                    assert!(self.pulled.insert(n), "{n} was pulled twice");
                }
            }
            _ => return,
        }
        self.acknowledged += u64::from(done);
    }
}

struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(writer: u64, first: u64, seed: u64, dir: &Path) -> Writer {
        let env = format!("{ENV}={writer},{first},{seed}");
        let (child, lines) = child::start_under(&["env", &env], "churn", dir);
        Writer { child, lines }
    }

    /// Hears so many lines, or all there are.
    fn hear(&mut self, lines: usize, heard: &mut Heard) {
        let said = self.lines.by_ref().map_while(Result::ok).filter(|line| line.starts_with(['?', '!']));
        said.take(lines).for_each(|line| heard.line(&line));
    }

    /// Kills it, and hears what it still said.
    fn kill(&mut self, heard: &mut Heard) {
        self.child.kill().unwrap();
        self.hear(usize::MAX, heard);
        assert_eq!(self.child.wait().unwrap().signal(), Some(libc::SIGKILL), "it had failed before");
    }
}

/// The far future, in which everything that can expire has: when the caches are looked at changes nothing.
fn long_after() -> CacheOptions {
    CacheOptions::new().with_store(quick()).with_clock(ManualClock::at(Duration::from_secs(1 << 33)))
}

/// Looks the caches over after some writers were killed, while the others go on.
fn verify(dir: &Path, victims: std::ops::Range<u64>, heard: &mut Heard, what: &str) {
    let (kept, culled) = (open_kept(dir, &long_after()), open_culled(dir, &long_after()));
    for (cache, name) in [(&kept, "kept"), (&culled, "culled")] {
        cache.maintain().unwrap();
        let mut problems = cache.check(false).unwrap();
        // What the dead have left is gone with that one sweep; the living make and remove files.
        problems.retain(|problem| !matches!(problem, Problem::OrphanFile { .. }));
        assert_eq!(problems, [], "{what}, {name}");
    }
    let sharded = open_sharded(dir, &long_after());
    sharded.maintain().unwrap();
    let mut problems = sharded.check(false).unwrap();
    problems.retain(|problem| !matches!(problem, Problem::OrphanFile { .. }));
    assert_eq!(problems, [], "{what}, sharded");
    for writer in victims {
        let (done, open) = heard.all.get(&writer).copied().unwrap_or_default();
        let counted = counters(&sharded, writer).into_iter().map(|counter| {
            let count = sharded.get(&counter).unwrap();
            count.map_or(0, |count| String::from_utf8(count).unwrap().parse::<u64>().unwrap())
        });
        let counted: Vec<u64> = counted.collect();
        // A shard is committed after the one before it.
        assert!(counted.is_sorted_by(|before, after| before >= after), "{what}, {writer}: {counted:?}");
        let possible = counted[0] <= done + open && counted[2] >= done;
        assert!(possible, "{what}, {writer}: {counted:?}, but {done} done and {open} begun");
        for key in 0..KEYS as u64 {
            for (cache, name) in [(&kept, "kept"), (&culled, "culled")] {
                let now = cache.get(&(name, writer, key)).unwrap().map(|value| number(&value));
                let told = heard.keys.entry((name.to_owned(), writer, key)).or_default();
                let evicted = name == "culled" && now.is_none();
                let possible = evicted || now == told.acknowledged || told.begun == Some(now);
                assert!(possible, "{what}, {name} {writer} {key}: {now:?}, but {told:?}");
                // Who is dead changes nothing any more.
                *told = Told { acknowledged: now, begun: None };
            }
        }
    }
}

/// What can be known only when nobody writes any more.
fn verify_all(dir: &Path, heard: &Heard, what: &str) {
    let (kept, culled) = (open_kept(dir, &long_after()), open_culled(dir, &long_after()));
    for (cache, name) in [(&kept, "kept"), (&culled, "culled")] {
        assert_eq!(cache.check(false).unwrap(), [], "{what}, {name}");
        let lengths = cache.items(Order::Ascending).map(|item| item.unwrap().1.value.len() as u64);
        let in_files = lengths.filter(|length| *length >= FILE_BYTES).count();
        assert_eq!(files(&dir.join(name)), in_files, "{what}, {name}");
    }
    let open = |what| heard.open.get(what).copied().unwrap_or_default();
    let count: u64 = kept.get("count").unwrap().map_or(0, |count| String::from_utf8(count).unwrap().parse().unwrap());
    assert!((heard.counted..=heard.counted + open("count")).contains(&count), "{what}: {count}, {heard:?}");
    let queued = kept.items(Order::Ascending).filter_map(|item| {
        let (key, item) = item.unwrap();
        let (prefix, _) = key.decode::<(String, i64)>().ok()?;
        (prefix == "jobs").then(|| number(&item.value))
    });
    let queued: Vec<u64> = queued.collect();
    let unique: HashSet<u64> = queued.iter().copied().collect();
    assert_eq!(unique.len(), queued.len(), "{what}: pushed twice");
    assert!(unique.is_disjoint(&heard.pulled), "{what}: pulled, and still there");
    assert!(unique.iter().all(|job| heard.pushed.contains(job) || heard.open_pushes.contains(job)), "{what}");
    let gone = heard.pushed.iter().filter(|job| !unique.contains(*job) && !heard.pulled.contains(*job)).count();
    assert!(gone as u64 <= open("pull"), "{what}: {gone} jobs are lost, {} may have been pulled", open("pull"));
}

#[test]
fn killed_writers_leave_sound_caches_and_lose_nothing() {
    let (kills, mut random) = plan("cache");
    let (mut killed, mut acknowledged) = (0, 0);
    while killed < kills {
        let dir = tempfile::tempdir().unwrap();
        let (mut heard, mut first) = (Heard::default(), 0);
        let mut start = |writer: u64, random: &mut Random| {
            first += 1_000_000;
            Writer::start(writer, first, 1 + random.below(1 << 30) as u64, dir.path())
        };
        let mut writers: Vec<Writer> = (0..WRITERS).map(|writer| start(writer, &mut random)).collect();
        let until = (killed + KILLS_PER_STORE).min(kills);
        while killed < until {
            let what = format!("after {killed} kills");
            // The whole crowd now and then, after which the stores are suspect; else one in the midst of the others.
            let one = random.below(writers.len()) as u64;
            let victims = if random.below(6) == 0 { 0..WRITERS } else { one..one + 1 };
            let lines = 1 + random.below(120);
            writers[victims.start as usize].hear(lines, &mut heard);
            for victim in victims.clone() {
                writers[victim as usize].kill(&mut heard);
                killed += 1;
            }
            verify(dir.path(), victims.clone(), &mut heard, &what);
            if victims == (0..WRITERS) {
                verify_all(dir.path(), &heard, &what);
            }
            for victim in victims {
                writers[victim as usize] = start(victim, &mut random);
            }
        }
        writers.iter_mut().for_each(|writer| writer.kill(&mut heard));
        verify(dir.path(), 0..WRITERS, &mut heard, "at the end");
        verify_all(dir.path(), &heard, "at the end");
        acknowledged += heard.acknowledged;
    }
    assert!(acknowledged > kills, "they got something done");
    eprintln!("cache: {killed} kills, {acknowledged} changes acknowledged");
}

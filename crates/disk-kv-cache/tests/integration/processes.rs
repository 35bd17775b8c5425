//! Several threads and several processes on one store; processes killed in the middle of it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use alluvium_disk_kv_cache::{Clock as _, Durability, OpenError, Order, Settings, Store, StoreError, SystemClock};

use crate::child::{self, TABLES, increment, number, quick, say};

const PROCESSES: u64 = 4;
const EACH: u64 = 1_500;

/// Counts once its standard input is closed.
pub fn count(dir: &Path) {
    let store = Store::open(dir, TABLES, quick()).unwrap();
    say("ready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    for _ in 0..EACH {
        increment(&store, b"sum").unwrap();
    }
}

#[test]
fn processes_count_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made by whoever is first");
    // They all create the store at once, and then all count at once.
    let mut children: Vec<_> = (0..PROCESSES).map(|_| child::start("count", &dir)).collect();
    for (_, lines) in &mut children {
        assert!(lines.any(|line| line.unwrap() == "ready"));
    }
    for (child, _) in &mut children {
        drop(child.stdin.take());
    }
    for (mut child, lines) in children {
        let said: Vec<_> = lines.map(Result::unwrap).collect();
        assert!(child.wait().unwrap().success(), "{said:?}");
    }
    let store = Store::open_read_only(&dir, TABLES).unwrap();
    let sum = store.read::<_, StoreError>(|txn| Ok(number(txn.get("a", b"sum")?))).unwrap();
    assert_eq!(sum, PROCESSES * EACH);
}

/// Writes n = 1, 2, 3 …, each to both tables in one transaction, and says n when it is acknowledged.
pub fn write_for_ever(dir: &Path) {
    let store = Store::open(dir, TABLES, quick()).unwrap();
    loop {
        let acknowledged = store.write::<_, StoreError>(|txn| {
            let n = number(txn.last("a")?.map(|(key, _)| key)) + 1;
            // Sizes that make the map grow now and then, and pages overflow.
            txn.put("a", &n.to_be_bytes(), &vec![n as u8; (n % 50) as usize * 100])?;
            txn.put("b", &n.to_be_bytes(), &n.to_be_bytes())?;
            Ok(n)
        });
        say(acknowledged.unwrap());
    }
}

#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    // Held open for half of the rounds: the survivors' view, and that of whoever comes after all are dead.
    let mut held = Some(Store::open(dir.path(), TABLES, quick()).unwrap());
    let mut last = 0;
    for round in 0..24_u64 {
        if round == 12 {
            held = None;
        }
        let (mut one, mut lines) = child::start("write-for-ever", dir.path());
        let (mut two, other_lines) = child::start("write-for-ever", dir.path());
        let mut acknowledged = Vec::new();
        let mut numbers = lines.by_ref().map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok());
        acknowledged.extend(numbers.by_ref().take(1 + (round as usize * 7) % 40));
        one.kill().unwrap();
        two.kill().unwrap();
        acknowledged.extend(numbers);
        acknowledged.extend(other_lines.map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok()));
        one.wait().unwrap();
        two.wait().unwrap();

        let store = held.clone().unwrap_or_else(|| Store::open(dir.path(), TABLES, quick()).unwrap());
        assert!(!acknowledged.is_empty());
        store
            .read::<_, StoreError>(|txn| {
                for n in &acknowledged {
                    let key = n.to_be_bytes();
                    assert_eq!(txn.get("b", &key)?, Some(key.as_slice()), "round {round}: {n} was acknowledged");
                }
                // Both tables, without a gap: no write was done by half.
                let mut entries = 0;
                for (index, entry) in txn.scan("a", .., Order::Ascending)?.enumerate() {
                    let (key, value) = entry?;
                    let n = index as u64 + 1;
                    assert_eq!(number(Some(key)), n);
                    assert_eq!(value, vec![n as u8; (n % 50) as usize * 100]);
                    entries = n;
                }
                assert_eq!(entries, txn.len("a")?);
                assert_eq!(entries, txn.len("b")?);
                assert!(entries >= last);
                last = entries;
                Ok(())
            })
            .unwrap();
    }
}

/// Reads for ever.
pub fn hold_a_read(dir: &Path) {
    let store = Store::open_read_only(dir, TABLES).unwrap();
    store
        .read::<(), StoreError>(|_txn| {
            say("reading");
            loop {
                thread::park();
            }
        })
        .unwrap();
}

#[test]
fn without_the_lock_file_two_processes_never_write_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), TABLES, Settings::new()).unwrap());
    let (mut child, mut lines) = child::start("hold-a-read", dir.path());
    assert!(lines.any(|line| line.unwrap() == "reading"));
    std::fs::remove_file(dir.path().join("lock.mdb")).unwrap();
    let error = Store::open(dir.path(), TABLES, Settings::new()).unwrap_err();
    assert!(matches!(error, OpenError::LockFileGone { .. }), "{error:?}");
    child.kill().unwrap();
    child.wait().unwrap();

    // Nobody has it open, so a new lock file is as good.
    let store = Store::open(dir.path(), TABLES, Settings::new()).unwrap();
    let put = |n: u8| store.write::<_, StoreError>(|txn| txn.put("a", b"key", &[n]));
    put(1).unwrap();
    let names =
        || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let shared: Vec<String> = names()
        .filter(|name| name == "lock.mdb" || name.starts_with("holders-") || name.starts_with("writers-"))
        .collect();
    assert_eq!(shared.len(), 3, "{shared:?}");
    // While the directory's time stamp is young, and when it has become a witness.
    for rest_millis in [0, 10, 49, 51, 80, 80] {
        for name in &shared {
            let (file, aside) = (dir.path().join(name), dir.path().join("aside"));
            SystemClock.sleep(Duration::from_millis(rest_millis));
            put(2).unwrap();
            std::fs::rename(&file, &aside).unwrap();
            assert!(matches!(put(3), Err(StoreError::Replaced { .. })), "{name} after {rest_millis} ms");
            std::fs::rename(&aside, &file).unwrap();
            put(4).unwrap();
        }
    }
}

#[test]
fn a_writer_that_waited_looks_again_when_it_is_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path, TABLES, quick()).unwrap();
    increment(&store, b"sum").unwrap();
    let (begun, waiting) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    thread::scope(|threads| {
        threads.spawn(|| {
            store
                .write::<_, StoreError>(|_| {
                    begun.wait();
                    waiting.wait();
                    // The other waits for its turn by now, and everything is taken from under both.
                    SystemClock.sleep(Duration::from_millis(200));
                    std::fs::rename(&path, dir.path().join("aside")).unwrap();
                    Ok(())
                })
                .unwrap();
        });
        begun.wait();
        waiting.wait();
        let waited = increment(&store, b"sum");
        assert!(matches!(waited, Err(StoreError::Replaced { .. })), "{waited:?}");
    });
}

#[test]
fn a_killed_reader_does_not_keep_the_file_growing() {
    let dir = tempfile::tempdir().unwrap();
    // Room for a few versions of the value, but not for all that a reader would keep alive.
    let settings = Settings::new()
        .with_durability(Durability::Process)
        .with_initial_map_bytes(256 << 10)
        .with_max_map_bytes(256 << 10);
    let store = Store::open(dir.path(), TABLES, settings).unwrap();
    let rewrite = |n: u8| store.write::<_, StoreError>(|txn| txn.put("a", b"value", &[n; 16 << 10]));
    rewrite(0).unwrap();
    let (mut child, mut lines) = child::start("hold-a-read", dir.path());
    assert!(lines.any(|line| line.unwrap() == "reading"));
    let full = (0..100).find_map(|n| rewrite(n).err());
    assert!(matches!(full, Some(StoreError::Full { .. })), "a live reader keeps its pages: {full:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    for n in 0..100 {
        rewrite(n).unwrap();
    }
}

/// Writes until its standard input is closed.
pub fn write_until_told(dir: &Path) {
    let store = Store::open(dir, TABLES, quick()).unwrap();
    say("ready");
    let told = thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap());
    while !told.is_finished() {
        store.write::<_, StoreError>(|txn| txn.put("b", b"survivor", b"")).unwrap();
    }
}

/// A waiter that is killed between being woken and going on must not take the wake-up with it: two writers go on for as
/// long as others are killed beside them, and both must come to their end.
#[test]
fn writers_that_are_killed_while_they_wait_keep_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let _held = Store::open(dir.path(), TABLES, quick()).unwrap();
    for round in 0..30_usize {
        let mut survivors =
            [child::start("write-until-told", dir.path()), child::start("write-until-told", dir.path())];
        for batch in 0..3 {
            let mut victims: Vec<_> = (0..4).map(|_| child::start("write-until-told", dir.path())).collect();
            for (_, lines) in &mut victims {
                assert!(lines.any(|line| line.unwrap() == "ready"));
            }
            for (number, (victim, _)) in victims.iter_mut().enumerate() {
                thread::park_timeout(Duration::from_micros((round * 70 + batch * 311 + number * 173) as u64 % 1_500));
                victim.kill().unwrap();
                victim.wait().unwrap();
            }
        }
        for (survivor, _) in &mut survivors {
            drop(survivor.stdin.take());
        }
        for (survivor, _) in &mut survivors {
            let mut patience = 20_000;
            while survivor.try_wait().unwrap().is_none() {
                thread::park_timeout(Duration::from_millis(1));
                patience -= 1;
                if patience == 0 {
                    survivor.kill().unwrap();
                    panic!("round {round}: a writer waits for ever");
                }
            }
        }
    }
}

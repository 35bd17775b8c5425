//! Bad bytes, missing files, refusing directories: an error or a miss, never wrong bytes, and `check` mends it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use alluvium_disk_kv_cache::{
    Cache, CacheError, EntryDamage, Eviction, Key, Order, Problem, SetOptions, Side, Store, StoreError,
};

use super::support::{Fixture, assert_sound, clock, files, large, options, settings};
use crate::child::{self, quick};

/// The tables of a cache, as its documentation of the format names them.
const TABLES: &[&str] =
    &["cache_entries", "cache_state", "cache_order", "cache_expiry", "cache_tags", "cache_files", "cache_access"];

fn tamper(cache: &Cache, change: impl Fn(&mut alluvium_disk_kv_cache::WriteTxn<'_>) -> Result<(), StoreError>) {
    let settings = quick().with_initial_map_bytes(1 << 20);
    Store::open(cache.path(), TABLES, settings).unwrap().write(change).unwrap();
}

/// Flips a bit of every byte of a row in turn.
fn flips(cache: &Cache, key: &str, mut look: impl FnMut(usize)) {
    let key = key.to_key();
    let store = Store::open(cache.path(), TABLES, quick().with_initial_map_bytes(1 << 20)).unwrap();
    let row = store.read(|txn| txn.get("cache_entries", key.as_bytes()).map(|row| row.unwrap().to_vec())).unwrap();
    for at in 0..row.len() {
        let mut flipped = row.clone();
        flipped[at] ^= 0x04;
        tamper(cache, |txn| txn.put("cache_entries", key.as_bytes(), &flipped));
        look(at);
    }
    tamper(cache, |txn| txn.put("cache_entries", key.as_bytes(), &row));
}

fn file(dir: &Path) -> PathBuf {
    fs::read_dir(dir.join("values")).unwrap().next().unwrap().unwrap().path()
}

fn is_damaged<T: std::fmt::Debug>(found: Result<T, CacheError>, expected: EntryDamage) {
    match found {
        Err(error @ CacheError::Damaged { damage, .. }) if damage == expected => assert!(error.is_damage()),
        other => panic!("{other:?} is not {expected:?}"),
    }
}

#[test]
fn a_flipped_bit_in_a_row_is_an_error_and_never_other_bytes() {
    let f = Fixture::new(settings());
    f.cache.set_with("key", b"value", &SetOptions::new().with_tag("tag")).unwrap();
    let mut refused = 0;
    flips(&f.cache, "key", |at| match f.cache.get_item("key") {
        // A first byte above what is known is a later version's.
        Err(CacheError::NewerFormat { .. }) => assert_eq!(at, 0),
        found => {
            is_damaged(found, EntryDamage::Row);
            is_damaged(f.cache.contains("key"), EntryDamage::Row);
            is_damaged(f.cache.incr("key", 1), EntryDamage::Row);
            is_damaged(f.cache.touch("key", None), EntryDamage::Row);
            refused += 2;
        }
    });
    assert!(refused > 60);
    assert!(f.cache.stats().unwrap().damaged >= refused);
    assert_eq!(f.cache.get("key").unwrap().unwrap(), b"value");
}

#[test]
fn a_damaged_entry_can_be_replaced_deleted_popped_and_passed_over() {
    let cut = |f: &Fixture| {
        f.cache.set_with("a", b"1", &SetOptions::new().with_tag("tag")).unwrap();
        f.cache.set("b", b"2").unwrap();
        tamper(&f.cache, |txn| txn.put("cache_entries", "a".to_key().as_bytes(), b"\x01short"));
    };
    let f = Fixture::new(settings());
    cut(&f);
    let keys: Vec<_> = f.cache.keys(Order::Ascending).collect();
    assert!(matches!(keys.as_slice(), [Err(CacheError::Damaged { .. }), Ok(key)] if *key == "b".to_key()), "{keys:?}");
    let keys: Vec<_> = f.cache.items(Order::Descending).map(|item| item.is_ok()).collect();
    assert_eq!(keys, [true, false]);
    f.cache.set("a", b"3").unwrap();
    assert_eq!(f.cache.get("a").unwrap().unwrap(), b"3");
    // What the damaged row had in the indexes leads to nothing.
    assert_eq!(f.cache.evict("tag").unwrap(), 0);
    assert_eq!(f.cache.get("a").unwrap().unwrap(), b"3");
    cut(&f);
    is_damaged(f.cache.pop("a"), EntryDamage::Row);
    assert_eq!(f.cache.pop("a").unwrap(), None);
    cut(&f);
    assert!(f.cache.delete("a").unwrap());
    assert!(!f.cache.contains("a").unwrap());
    cut(&f);
    assert_eq!(f.cache.evict("tag").unwrap(), 1, "it can still be evicted");
    assert!(!f.cache.check(true).unwrap().is_empty());
    assert_sound(&f.cache);
    cut(&f);
    assert_eq!(f.cache.clear().unwrap(), 2);
    assert_sound(&f.cache);
}

#[test]
fn a_damaged_queue_entry_does_not_block_the_queue() {
    let f = Fixture::new(settings());
    let key = f.cache.push("queue", b"1", Side::Back, &SetOptions::new()).unwrap();
    f.cache.push("queue", b"2", Side::Back, &SetOptions::new()).unwrap();
    tamper(&f.cache, |txn| txn.put("cache_entries", key.as_bytes(), b""));
    is_damaged(f.cache.peek("queue", Side::Front), EntryDamage::Row);
    is_damaged(f.cache.pull("queue", Side::Front), EntryDamage::Row);
    assert_eq!(f.cache.pull("queue", Side::Front).unwrap().unwrap().1.value, b"2");
}

#[test]
fn damaged_and_missing_files_are_errors_and_mended() {
    type Spoil = fn(&Path);
    let spoils: [(Spoil, EntryDamage); 4] = [
        (|file| fs::remove_file(file).unwrap(), EntryDamage::MissingFile),
        (|file| fs::write(file, b"").unwrap(), EntryDamage::File),
        (
            |file| {
                let mut bytes = fs::read(file).unwrap();
                bytes[150] ^= 1;
                fs::write(file, bytes).unwrap();
            },
            EntryDamage::File,
        ),
        (
            |file| {
                fs::remove_file(file).unwrap();
                symlink("/etc/passwd", file).unwrap();
            },
            EntryDamage::File,
        ),
    ];
    for (spoil, damage) in spoils {
        let f = Fixture::new(settings().with_statistics(true));
        f.cache.set("key", &large(1)).unwrap();
        spoil(&file(f.dir.path()));
        is_damaged(f.cache.get("key"), damage);
        let stats = f.cache.stats().unwrap();
        assert_eq!((stats.damaged, stats.hits, stats.misses), (1, 0, 0), "neither a hit nor a miss");
        let problem = Problem::Entry { key: "key".to_key(), damage };
        assert_eq!(f.cache.check(false).unwrap(), std::slice::from_ref(&problem));
        assert_eq!(f.cache.check(true).unwrap(), [problem]);
        assert_sound(&f.cache);
        assert_eq!((f.cache.get("key").unwrap(), f.cache.volume().unwrap(), files(f.dir.path())), (None, 0, 0));

        f.cache.set("key", &large(1)).unwrap();
        spoil(&file(f.dir.path()));
        is_damaged(f.cache.pop("key"), damage);
        assert!(!f.cache.contains("key").unwrap());
        assert_eq!(f.cache.stats().unwrap().damaged, 2, "a transaction counts it too");
        f.cache.set("key", &large(1)).unwrap();
        spoil(&file(f.dir.path()));
        f.cache.set("key", &large(2)).unwrap();
        assert_eq!(f.cache.get("key").unwrap().unwrap(), large(2));
        assert_sound(&f.cache);
    }
}

#[test]
fn damage_that_a_stream_meets_is_counted_and_no_byte_of_it_is_lent() {
    let f = Fixture::new(settings().with_statistics(true));
    let value: Vec<u8> = (0..200_000_u32).map(|n| (n / 100) as u8).collect();
    f.cache.set("key", &value).unwrap();
    let path = file(f.dir.path());
    let mut bytes = fs::read(&path).unwrap();
    // In the second block of 64 KiB, behind the first and its sum.
    bytes[(64 << 10) + 8 + 50] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (mut stream, mut lent) = (f.cache.read("key").unwrap().unwrap(), Vec::new());
    let error = stream.read_to_end(&mut lent).unwrap_err();
    assert_eq!((error.kind(), lent.as_slice()), (std::io::ErrorKind::InvalidData, &value[..64 << 10]));
    assert!(error.to_string().contains(r#"the entry of "key" is damaged"#), "{error}");
    let stats = f.cache.stats().unwrap();
    assert_eq!((stats.damaged, stats.hits, stats.misses), (1, 1, 0), "it was opened well");
}

#[test]
fn check_finds_and_mends_each_kind_of_damage() {
    let fill = || {
        let f = Fixture::new(settings().with_eviction(Eviction::LeastRecentlyUsed));
        let options = SetOptions::new().with_tag("a").with_tag("b").with_ttl(std::time::Duration::from_secs(60));
        for n in 0..5 {
            f.cache.set_with(&n, &large(n as u8), &options).unwrap();
            f.cache.get(&n).unwrap();
        }
        f.cache.stats().unwrap();
        assert_sound(&f.cache);
        f
    };
    let mended = |f: &Fixture| {
        let found = f.cache.check(true).unwrap();
        assert_sound(&f.cache);
        assert_eq!(f.cache.len().unwrap(), 5);
        found
    };
    for table in &TABLES[2..6] {
        let f = fill();
        tamper(&f.cache, |txn| {
            let first = txn.first(table)?.unwrap().0.to_vec();
            txn.delete(table, &first).map(|_| ())
        });
        let mut found = f.cache.check(false).unwrap();
        // A file that the index does not know is an orphan, until the index is mended: `fix` does that first.
        found.retain(|problem| !matches!(problem, Problem::OrphanFile { .. }));
        let index = matches!(&found[0], Problem::NotIndexed { index, .. } if index == table);
        assert!(index, "{table}: {found:?}");
        assert_eq!(mended(&f), found);
        assert_eq!(f.cache.evict("b").unwrap(), 5);

        let f = fill();
        tamper(&f.cache, |txn| txn.put(table, &[9; 24], 7.to_key().as_bytes()));
        let found = mended(&f);
        assert_eq!(found, [Problem::Stray { index: table, row: vec![9; 24] }]);
    }
    let f = fill();
    tamper(&f.cache, |txn| txn.put("cache_access", &[9; 8], &[0; 16]));
    assert_eq!(mended(&f), [Problem::Stray { index: "cache_access", row: vec![9; 8] }]);

    let f = fill();
    fs::write(f.dir.path().join("values").join("0123456789abcdef0123456789abcdef"), b"left").unwrap();
    assert_eq!(f.cache.maintain().unwrap().orphan_files, 1);
    fs::write(f.dir.path().join("values").join("0123456789abcdef0123456789abcdef.tmp"), b"left").unwrap();
    assert_eq!(mended(&f), [Problem::OrphanFile { name: "0123456789abcdef0123456789abcdef.tmp".to_owned() }]);

    // The state: everything else is as it was, and the settings are the defaults.
    let f = fill();
    let volume = f.cache.volume().unwrap();
    tamper(&f.cache, |txn| txn.put("cache_state", b"state", b"\x01nonsense"));
    assert!(matches!(f.cache.set("key", b""), Err(CacheError::DamagedState { .. })));
    drop(f.cache.clone());
    let again = options(&f.clock).open(f.dir.path()).unwrap();
    assert!(again.check(true).unwrap().contains(&Problem::State));
    assert_sound(&again);
    assert_eq!((again.volume().unwrap(), again.settings().unwrap()), (volume, Default::default()));
    again.set("key", b"new").unwrap();
    assert_sound(&again);
}

#[test]
fn check_counts_the_volume_anew() {
    let f = Fixture::new(settings());
    f.cache.set("key", b"value").unwrap();
    let state = |cache: &Cache| {
        let store = Store::open(cache.path(), TABLES, quick().with_initial_map_bytes(1 << 20)).unwrap();
        store.read(|txn| txn.get("cache_state", b"state").map(|row| row.unwrap().to_vec())).unwrap()
    };
    let (before, counted) = (state(&f.cache), f.cache.volume().unwrap());
    f.cache.set("other", &large(1)).unwrap();
    let recorded = f.cache.volume().unwrap();
    f.cache.delete("other").unwrap();
    assert_eq!(f.cache.volume().unwrap(), counted);
    // The state of an earlier moment: sums are wrong, and its numbers would be given out again.
    let now = state(&f.cache);
    f.cache.set("other", &large(1)).unwrap();
    tamper(&f.cache, |txn| txn.put("cache_state", b"state", &before));
    let found = f.cache.check(true).unwrap();
    assert_eq!(found, [Problem::Sequence, Problem::Volume { recorded: counted, counted: recorded }]);
    assert_sound(&f.cache);
    assert_ne!(now, before);
}

#[test]
fn a_hostile_values_directory_does_no_harm() {
    let elsewhere = tempfile::tempdir().unwrap();
    let precious = elsewhere.path().join("0123456789abcdef0123456789abcdef");
    fs::write(&precious, b"precious").unwrap();
    let f = Fixture::new(settings());
    symlink(elsewhere.path(), f.dir.path().join("values")).unwrap();
    assert!(matches!(f.cache.set("key", &large(1)), Err(CacheError::File { .. })));
    assert!(matches!(f.cache.check(true), Err(CacheError::File { .. })));
    assert!(f.cache.maintain().is_err());
    f.cache.set("key", b"small").unwrap();
    assert_eq!(f.cache.get("key").unwrap().unwrap(), b"small");
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    fs::remove_file(f.dir.path().join("values")).unwrap();
    fs::write(f.dir.path().join("values"), b"a file").unwrap();
    assert!(matches!(f.cache.set("key", &large(1)), Err(CacheError::File { .. })));
}

#[test]
fn a_values_directory_that_took_another_ones_place_is_the_one_from_then_on() {
    let f = Fixture::new(settings());
    f.cache.set("before", &large(1)).unwrap();
    let values = f.dir.path().join("values");
    fs::rename(&values, f.dir.path().join("aside")).unwrap();
    f.cache.set("after", &large(2)).unwrap();
    assert_eq!(files(f.dir.path()), 1, "it is written where others look for it");
    let others = options(&f.clock).with_settings(settings()).open(f.dir.path()).unwrap();
    assert_eq!(others.get("after").unwrap().unwrap(), large(2));
    assert!(matches!(f.cache.get("before"), Err(CacheError::Damaged { .. })));
    // Back again: nothing of it was lost.
    fs::rename(&values, f.dir.path().join("newer")).unwrap();
    fs::rename(f.dir.path().join("aside"), &values).unwrap();
    assert_eq!(f.cache.get("before").unwrap().unwrap(), large(1));
}

#[test]
fn check_takes_no_file_of_a_live_writer_for_an_orphan() {
    let f = Fixture::new(settings());
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        for key in 0..3_u8 {
            let (cache, done) = (&f.cache, &done);
            threads.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    cache.set(&key, &large(key)).unwrap();
                }
            });
        }
        for _ in 0..60 {
            let found = f.cache.check(false).unwrap();
            if !found.is_empty() {
                done.store(true, Ordering::Relaxed);
            }
            assert_eq!(found, []);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_sound(&f.cache);
}

#[test]
fn a_read_only_cache_reads_and_refuses_to_write() {
    let f = Fixture::new(settings().with_eviction(Eviction::LeastRecentlyUsed).with_statistics(true));
    f.cache.set("small", b"1").unwrap();
    f.cache.set("large", &large(1)).unwrap();
    let dir = f.dir;
    drop(f.cache);
    let cache = options(&clock()).open_read_only(dir.path()).unwrap();
    for _ in 0..300 {
        assert_eq!(cache.get("small").unwrap().unwrap(), b"1");
        assert_eq!(cache.get("large").unwrap().unwrap(), large(1));
    }
    assert_eq!(cache.keys(Order::Ascending).count(), 2);
    assert_eq!(cache.stats().unwrap().hits, 0);
    assert_sound(&cache);
    for refused in [cache.set("small", b"2"), cache.set("large", &large(2)), cache.expire().map(drop)] {
        assert!(matches!(refused, Err(CacheError::Store(StoreError::ReadOnly { .. }))), "{refused:?}");
    }
    assert_eq!(files(dir.path()), 1, "what was written for nothing is gone again");
}

/// Without the rights of root, which sees no refusals; the cache was opened before.
pub fn refused_directory(dir: &Path) {
    let cache = options(&clock()).open(dir).unwrap();
    assert_eq!(cache.get("key").unwrap().unwrap(), large(1));
    // SAFETY: no pointers; this process does nothing but what follows.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setgid(65_534) | libc::setuid(65_534) }, 0);
    }
    let refused = cache.set("key", &large(2));
    assert!(matches!(refused, Err(CacheError::File { .. })), "{refused:?}");
    let refused = cache.get("key");
    assert!(matches!(refused, Err(CacheError::File { .. })), "neither a miss nor damage: {refused:?}");
    assert_eq!(cache.get("small").unwrap().unwrap(), b"1");
}

#[test]
fn refusals_of_the_system_are_errors() {
    let f = Fixture::new(settings());
    f.cache.set("key", &large(1)).unwrap();
    f.cache.set("small", b"1").unwrap();
    drop(f.cache);
    child::run("refused-directory", f.dir.path());
    let cache = options(&clock()).open(f.dir.path()).unwrap();
    assert_eq!(cache.get("key").unwrap().unwrap(), large(1));
    assert_sound(&cache);
}

/// With files of at most 64 KiB beyond what the store has: as if the device were full.
pub fn no_room(dir: &Path) {
    let cache = options(&clock()).open(dir).unwrap();
    // SAFETY: the disposition is a constant, and the process has no handler of its own.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let limit = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
    // SAFETY: `limit` is a whole structure that outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
    let full = cache.set("huge", &[1; 200 << 10]);
    assert!(matches!(full, Err(CacheError::NoSpace { .. })), "{full:?}");
    assert_eq!(cache.get("huge").unwrap(), None);
}

#[test]
fn no_room_for_a_file_is_an_error_and_leaves_nothing() {
    let f = Fixture::new(settings());
    drop(f.cache);
    child::run("no-room", f.dir.path());
    assert_eq!(files(f.dir.path()), 0);
    assert_sound(&options(&clock()).open(f.dir.path()).unwrap());
}

#[cfg(feature = "lmdb")]
#[test]
fn a_cache_whose_store_was_cut_short_is_set_aside_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = Cache::open(&path).unwrap();
    (0_u64..200).for_each(|n| cache.set(&n, &[7; 1_000]).unwrap());
    cache.set("large", &[1; 40 << 10]).unwrap();
    drop(cache);
    let data = fs::File::options().write(true).open(path.join("data.mdb")).unwrap();
    data.set_len(data.metadata().unwrap().len() / 3).unwrap();

    let cache = Cache::open(&path).unwrap();
    assert!(cache.recovered().is_some());
    assert_eq!((cache.len().unwrap(), cache.get("large").unwrap()), (0, None));
    cache.set("new", b"1").unwrap();
    assert_eq!(cache.maintain().unwrap().orphan_files, 1);
    drop(cache);
    let cache = Cache::open(&path).unwrap();
    assert!(cache.recovered().is_none());
    assert_eq!(cache.get("new").unwrap().as_deref(), Some(b"1".as_slice()));
}

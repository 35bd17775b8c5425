//! Transactions over all shards: all or nothing, nesting, and one after the other over all processes.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;

use alluvium_disk_kv_cache::{
    CacheError, Eviction, FanoutCache, FanoutTransaction, Key, Order, SetOptions, StoreError,
};

use super::support::{clock, large, options, settings};
use crate::child::{self, quick};

fn open(dir: &Path) -> FanoutCache {
    FanoutCache::open_with(dir, Some(4), &options(&clock()).with_settings(settings().with_statistics(true))).unwrap()
}

/// Keys of which each lies in another shard.
fn one_a_shard(cache: &FanoutCache) -> Vec<u32> {
    let lies_in = |key: &u32, shard: usize| cache.shard_of(key).path() == cache.shards()[shard].path();
    (0..cache.shards().len()).map(|shard| (0..).find(|key| lies_in(key, shard)).unwrap()).collect()
}

#[derive(Debug)]
enum Failed {
    OnPurpose,
    InTheCache(#[expect(dead_code, reason = "shown where a test fails")] String),
}

impl From<CacheError> for Failed {
    fn from(error: CacheError) -> Failed {
        Failed::InTheCache(error.to_string())
    }
}

fn values(cache: &FanoutCache, keys: &[u32]) -> Vec<Option<Vec<u8>>> {
    cache.get_many(keys).unwrap()
}

#[test]
fn everything_is_done_or_nothing_in_all_shards() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let keys = one_a_shard(&cache);
    let options = SetOptions::new().with_tag("tag");
    let change = |txn: &mut FanoutTransaction<'_, '_>| -> Result<(), CacheError> {
        for key in &keys {
            assert!(txn.add(key, &large(1), &options)?);
            assert!(!txn.add(key, b"other", &options)?);
        }
        assert_eq!(txn.incr("n", 2, Some(40), &options)?, Some(42));
        assert_eq!((txn.len()?, txn.is_empty()?, txn.keys_by_tag("tag")?.len()), (5, false, 5));
        assert!(txn.contains(&keys[0])? && txn.touch(&keys[0], None)?);
        assert_eq!(txn.get(&keys[1])?.unwrap(), large(1));
        assert_eq!(txn.get_item(&keys[2])?.unwrap().tags, ["tag"]);
        assert_eq!(txn.peek_item(Order::Ascending)?.unwrap().0, "n".to_key(), "text comes before numbers");
        let last = keys.iter().max().unwrap();
        assert_eq!(txn.peek_item(Order::Descending)?.unwrap().0, last.to_key());
        assert_eq!(txn.pop(last)?.unwrap().value, large(1));
        assert!(txn.delete("n")? && !txn.delete("n")?);
        Ok(())
    };
    let failed = cache.transact(|txn| {
        change(txn)?;
        Err::<(), _>(Failed::OnPurpose)
    });
    assert!(matches!(failed, Err(Failed::OnPurpose)), "{failed:?}");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        cache.transact::<(), CacheError>(|txn| {
            change(txn)?;
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!((cache.len().unwrap(), cache.volume().unwrap()), (0, 0));
    assert_eq!(cache.check(false).unwrap(), [], "no file was left behind either");
    cache.transact(change).unwrap();
    assert_eq!(cache.len().unwrap(), 3);
    assert_eq!(cache.check(false).unwrap(), []);
}

#[test]
fn an_inner_transaction_takes_its_own_back_in_all_shards() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let (keys, options) = (one_a_shard(&cache), SetOptions::new());
    let set = |txn: &mut FanoutTransaction<'_, '_>, value: u8| {
        keys.iter().try_for_each(|key| txn.set(key, &large(value), &options))
    };
    cache
        .transact::<_, Failed>(|txn| {
            set(txn, 1)?;
            let inner = txn.transact(|txn| {
                set(txn, 2)?;
                txn.transact::<_, Failed>(|txn| Ok(set(txn, 3)?))?;
                assert_eq!(txn.get(&keys[3])?.unwrap(), large(3));
                Err::<(), _>(Failed::OnPurpose)
            });
            assert!(matches!(inner, Err(Failed::OnPurpose)), "{inner:?}");
            assert_eq!(txn.get(&keys[3])?.unwrap(), large(1));
            txn.transact::<_, Failed>(|txn| Ok(txn.delete(&keys[0])?))?;
            Ok(())
        })
        .unwrap();
    assert_eq!(values(&cache, &keys), [None, Some(large(1)), Some(large(1)), Some(large(1))]);
    assert_eq!(cache.check(false).unwrap(), []);
}

#[test]
fn within_a_transaction_the_cache_itself_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    cache
        .transact::<_, CacheError>(|_| {
            for refused in [cache.set("key", b""), cache.transact(|_| Ok(())), cache.get("key").map(drop)] {
                assert!(matches!(refused, Err(CacheError::Store(StoreError::Nested { .. }))), "{refused:?}");
            }
            Ok(())
        })
        .unwrap();
    drop(cache);
    let cache = FanoutCache::open_read_only(dir.path(), &options(&clock())).unwrap();
    let refused = cache.transact::<_, CacheError>(|_| Ok(()));
    assert!(matches!(refused, Err(CacheError::Store(StoreError::ReadOnly { .. }))), "{refused:?}");
}

#[test]
fn reads_are_recorded_once_whether_a_transaction_is_done_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings().with_statistics(true).with_eviction(Eviction::LeastRecentlyUsed);
    let cache = FanoutCache::open_with(dir.path(), Some(4), &options(&clock()).with_settings(settings)).unwrap();
    let keys = one_a_shard(&cache);
    keys.iter().for_each(|key| cache.set(key, b"value").unwrap());
    let read = || keys.iter().for_each(|key| drop(cache.get(key).unwrap()));
    read();
    let failed = cache.transact::<(), Failed>(|txn| {
        txn.set(&keys[0], b"other", &SetOptions::new())?;
        Err(Failed::OnPurpose)
    });
    assert!(failed.is_err());
    read();
    // Changes one shard: those of the others have reads to write and nothing else.
    cache.transact::<_, CacheError>(|txn| txn.delete(&keys[1])).unwrap();
    assert_eq!(cache.stats().unwrap().hits, 8);
    assert_eq!(cache.stats().unwrap().hits, 8);
}

#[test]
fn a_shard_without_room_makes_room_and_the_transaction_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let tight = options(&clock()).with_store(quick());
    let cache = FanoutCache::open_with(dir.path(), Some(4), &tight).unwrap();
    let keys = one_a_shard(&cache);
    let runs = Cell::new(0);
    for round in 0..20_u8 {
        cache
            .transact::<_, CacheError>(|txn| {
                runs.set(runs.get() + 1);
                for key in &keys {
                    for n in 0..8_u32 {
                        txn.set(&(*key, u32::from(round), n), &[round; 4_000], &SetOptions::new())?;
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    // Only LMDB has maps, and 64 KiB were not enough.
    assert_eq!(runs.get() > 20, cfg!(feature = "lmdb"));
    assert_eq!(cache.len().unwrap(), 20 * 4 * 8);
    assert_eq!(cache.check(false).unwrap(), []);
}

#[test]
fn transactions_and_single_writes_of_threads_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path());
    let keys = one_a_shard(&cache);
    let options = SetOptions::new();
    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                for round in 0..60 {
                    // From one shard to another, and the sum stays what it is.
                    let (from, to) = (keys[round % 4], keys[(round + 1) % 4]);
                    cache
                        .transact::<_, CacheError>(|txn| {
                            let sum = |txn: &FanoutTransaction<'_, '_>| -> Result<i64, CacheError> {
                                let number = |value: Option<Vec<u8>>| {
                                    value.map_or(0, |value| String::from_utf8(value).unwrap().parse::<i64>().unwrap())
                                };
                                keys.iter().map(|key| Ok(number(txn.get(key)?))).sum()
                            };
                            assert_eq!(sum(txn)?, 0, "nobody sees half of a transaction");
                            txn.incr(&from, -1, Some(0), &options)?;
                            txn.incr(&to, 1, Some(0), &options)?;
                            Ok(())
                        })
                        .unwrap();
                }
            });
            threads.spawn(|| (0..60).for_each(|_| assert!(cache.incr("single", 1).is_ok())));
        }
    });
    assert_eq!(cache.incr("single", 0).unwrap(), 180);
    assert_eq!(cache.check(false).unwrap(), []);
}

/// With room enough in the maps.
fn open_roomy(dir: &Path) -> FanoutCache {
    let roomy = options(&clock()).with_store(quick().with_initial_map_bytes(16 << 20));
    FanoutCache::open_with(dir, Some(4), &roomy).unwrap()
}

/// With files of at most 256 KiB, which is less than one of the shards has.
pub fn half_full(dir: &Path) {
    let cache = open_roomy(dir);
    let keys = one_a_shard(&cache);
    // SAFETY: the disposition is a constant, and the process has no handler of its own.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let limit = libc::rlimit { rlim_cur: 256 << 10, rlim_max: 256 << 10 };
    // SAFETY: `limit` is a whole structure that outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
    let set = |keys: &[u32]| {
        cache.transact::<_, CacheError>(|txn| keys.iter().try_for_each(|key| txn.set(key, b"new", &SetOptions::new())))
    };
    let failed = set(&keys[..3]);
    let Err(CacheError::PartlyCommitted { committed: 2, changed: 3, source, .. }) = &failed else {
        panic!("{failed:?}")
    };
    assert!(matches!(source, StoreError::NoSpace { .. }), "{source:?}");
    assert_eq!(values(&cache, &keys), [Some(b"new".to_vec()), Some(b"new".to_vec()), None, None]);
    // The first one to fail has nothing done before it.
    let failed = set(&keys[2..]);
    assert!(matches!(failed, Err(CacheError::Store(StoreError::NoSpace { .. }))), "{failed:?}");
    set(&keys[3..]).unwrap();
}

#[cfg(feature = "lmdb")]
#[test]
fn a_commit_that_fails_after_another_says_how_many_are_done() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open_roomy(dir.path());
    let keys = one_a_shard(&cache);
    let full = cache.shard_of(&keys[2]);
    (0..600_u32).for_each(|n| full.set(&(n, [n as u8; 400].as_slice()), b"").unwrap());
    drop(cache);
    child::run("half-full", dir.path());
    let cache = open_roomy(dir.path());
    assert_eq!(values(&cache, &keys), [Some(b"new".to_vec()), Some(b"new".to_vec()), None, Some(b"new".to_vec())]);
    assert_eq!(cache.check(false).unwrap(), []);
}

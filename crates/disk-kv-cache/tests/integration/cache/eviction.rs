//! What goes first, how many, and when: DiskCache's rules.

use std::time::Duration;

use alluvium_disk_kv_cache::{Cache, CacheError, CacheSettings, Eviction, Order, SetOptions};

use super::support::{Fixture, assert_sound, large, settings};

fn keys(cache: &Cache) -> Vec<i32> {
    cache.keys(Order::Ascending).map(|key| key.unwrap().decode().unwrap()).collect()
}

/// The volume of one entry of `fill`.
fn one() -> u64 {
    let f = Fixture::new(settings());
    f.cache.set(&1, &[0; 90]).unwrap();
    f.cache.volume().unwrap()
}

fn limited(eviction: Eviction, cull_limit: u32, entries: u64) -> CacheSettings {
    settings().with_eviction(eviction).with_cull_limit(cull_limit).with_size_limit_bytes(one() * entries)
}

fn set(cache: &Cache, keys: impl IntoIterator<Item = i32>) {
    keys.into_iter().for_each(|key| cache.set(&key, &[0; 90]).unwrap());
}

#[test]
fn the_least_recently_stored_goes_first() {
    let f = Fixture::new(limited(Eviction::LeastRecentlyStored, 1, 5));
    set(&f.cache, [1, 2, 3, 1]);
    f.cache.get(&2).unwrap();
    f.cache.touch(&2, None).unwrap();
    set(&f.cache, [4]);
    assert_eq!(keys(&f.cache), [1, 2, 3, 4], "below the limit nothing goes");
    set(&f.cache, [5]);
    assert_eq!(keys(&f.cache), [1, 3, 4, 5], "reaching it is enough; reads and touches are no stores");
    set(&f.cache, [6]);
    assert_eq!(keys(&f.cache), [1, 4, 5, 6]);
    assert_sound(&f.cache);
}

#[test]
fn the_least_recently_used_goes_first() {
    let f = Fixture::new(limited(Eviction::LeastRecentlyUsed, 1, 5));
    set(&f.cache, [1, 2, 3, 4]);
    for key in [1, 2, 1] {
        f.cache.get(&key).unwrap();
    }
    f.cache.contains(&3).unwrap();
    set(&f.cache, [5, 6, 7]);
    assert_eq!(keys(&f.cache), [1, 5, 6, 7], "in turn 3, 4 and 2 went");
    assert_sound(&f.cache);
}

#[test]
fn the_least_frequently_used_goes_first() {
    let f = Fixture::new(limited(Eviction::LeastFrequentlyUsed, 1, 5));
    set(&f.cache, [1, 2, 3, 4]);
    for key in [1, 1, 1, 2, 3, 3, 4, 4] {
        f.cache.get(&key).unwrap();
    }
    set(&f.cache, [4]);
    set(&f.cache, [5]);
    assert_eq!(keys(&f.cache), [1, 2, 3, 5], "storing 4 anew forgot its reads");
    f.cache.get(&5).unwrap();
    f.cache.get(&5).unwrap();
    set(&f.cache, [6]);
    assert_eq!(keys(&f.cache), [1, 2, 3, 5], "what is new was never read: it goes itself");
    assert_sound(&f.cache);
}

#[test]
fn a_read_of_what_was_then_stored_anew_counts_for_nothing() {
    let f = Fixture::new(limited(Eviction::LeastFrequentlyUsed, 1, 5));
    set(&f.cache, [1, 2, 3, 4]);
    f.cache
        .transact::<_, CacheError>(|txn| {
            txn.get(&1)?;
            txn.set(&1, &[0; 90], &SetOptions::new())
        })
        .unwrap();
    set(&f.cache, [5]);
    assert_eq!(keys(&f.cache), [2, 3, 4, 5]);
}

#[test]
fn without_a_policy_only_what_has_expired_goes() {
    let f = Fixture::new(limited(Eviction::None, 10, 2));
    set(&f.cache, 0..5);
    f.cache.set_with(&5, b"", &SetOptions::new().with_ttl(Duration::from_secs(1))).unwrap();
    f.clock.advance(Duration::from_secs(1));
    assert_eq!(f.cache.cull().unwrap(), 1, "expiring counts");
    assert_eq!(keys(&f.cache), [0, 1, 2, 3, 4]);
    assert_sound(&f.cache);
}

#[test]
fn a_write_removes_up_to_the_limit_and_what_expired_before_all_else() {
    let f = Fixture::new(limited(Eviction::LeastRecentlyStored, 3, 6).with_size_limit_bytes(1));
    f.cache.update_settings(|settings| settings.with_cull_limit(0)).unwrap();
    set(&f.cache, 0..20);
    for key in [20, 21] {
        f.cache.set_with(&key, b"", &SetOptions::new().with_ttl(Duration::from_secs(1))).unwrap();
    }
    f.clock.advance(Duration::from_secs(1));
    set(&f.cache, [30]);
    assert_eq!(f.cache.len().unwrap(), 23, "a limit of 0 removes nothing");
    f.cache.update_settings(|settings| settings.with_cull_limit(3)).unwrap();
    set(&f.cache, [31]);
    assert_eq!(f.cache.len().unwrap(), 21);
    assert_eq!(keys(&f.cache)[..2], [1, 2], "two had expired, one was evicted");
    set(&f.cache, [32]);
    assert_eq!(keys(&f.cache)[..2], [4, 5], "all three of a full batch, not only as many as needed");
    assert_sound(&f.cache);
}

#[test]
fn expired_entries_go_in_the_order_in_which_they_expired() {
    let f = Fixture::new(settings().with_cull_limit(1));
    for (key, seconds) in [(1, 30), (2, 10), (3, 20)] {
        f.cache.set_with(&key, b"", &SetOptions::new().with_ttl(Duration::from_secs(seconds))).unwrap();
    }
    f.clock.advance(Duration::from_secs(60));
    for left in [3, 2, 1] {
        f.cache.set(&0, b"").unwrap();
        assert_eq!(f.cache.len().unwrap(), left);
    }
    assert_eq!(f.cache.expire().unwrap(), 0);
}

#[test]
fn cull_stops_at_the_limit() {
    let f = Fixture::new(limited(Eviction::LeastRecentlyStored, 0, 25));
    set(&f.cache, 0..60);
    assert_eq!(f.cache.cull().unwrap(), 40, "in tens, until the limit is no longer exceeded");
    assert_eq!(keys(&f.cache), (40..60).collect::<Vec<_>>());
    assert_eq!(f.cache.cull().unwrap(), 0);
}

#[test]
fn the_bytes_of_files_count() {
    let f = Fixture::new(settings().with_size_limit_bytes(1_500).with_cull_limit(1));
    for key in 0..10 {
        f.cache.set(&key, &large(key as u8)).unwrap();
        assert!(f.cache.volume().unwrap() < 1_500);
    }
    assert_eq!(f.files(), 3);
    assert_sound(&f.cache);
}

#[test]
fn another_policy_takes_over_what_is_there() {
    let f = Fixture::new(limited(Eviction::None, 1, 5));
    set(&f.cache, [3, 1, 2, 4]);
    let to = |policy| f.cache.update_settings(|settings| settings.with_eviction(policy)).unwrap();
    to(Eviction::LeastRecentlyUsed);
    assert_sound(&f.cache);
    f.cache.get(&3).unwrap();
    set(&f.cache, [5]);
    assert_eq!(keys(&f.cache), [2, 3, 4, 5]);
    to(Eviction::LeastFrequentlyUsed);
    assert_sound(&f.cache);
    f.cache.get(&5).unwrap();
    f.cache.get(&5).unwrap();
    set(&f.cache, [6]);
    assert_eq!(keys(&f.cache), [3, 4, 5, 6]);
    to(Eviction::LeastRecentlyStored);
    assert_sound(&f.cache);
    set(&f.cache, [7]);
    assert_eq!(keys(&f.cache), [4, 5, 6, 7]);
    to(Eviction::None);
    assert_sound(&f.cache);
    set(&f.cache, [8, 9]);
    assert_eq!(keys(&f.cache), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn reads_of_one_handle_reach_the_order_when_it_is_dropped_or_after_a_batch() {
    for dropped in [true, false] {
        let f = Fixture::new(limited(Eviction::LeastRecentlyUsed, 1, 4));
        set(&f.cache, [1, 2, 3]);
        let other = super::support::options(&f.clock).open(f.dir.path()).unwrap();
        for _ in 0..if dropped { 1 } else { 256 } {
            other.get(&1).unwrap();
        }
        if dropped {
            drop(other);
        } else {
            std::mem::forget(other);
        }
        set(&f.cache, [4]);
        assert_eq!(keys(&f.cache), [1, 3, 4], "dropped: {dropped}");
    }
}

#[test]
fn a_read_in_a_transaction_is_older_than_what_is_stored_after_it() {
    let lru = settings().with_eviction(Eviction::LeastRecentlyUsed).with_cull_limit(1).with_size_limit_bytes(100);
    let f = Fixture::new(lru);
    f.cache.set("read", b"0").unwrap();
    f.cache
        .transact::<_, CacheError>(|txn| {
            assert!(txn.get("read")?.is_some());
            txn.set("stored", &[0; 60], &SetOptions::new())
        })
        .unwrap();
    assert_eq!((f.cache.contains("read").unwrap(), f.cache.contains("stored").unwrap()), (false, true));
}

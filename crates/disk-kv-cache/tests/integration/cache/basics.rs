//! One operation after the other, and what it leaves.

use std::io::Read;
use std::time::{Duration, UNIX_EPOCH};

use alluvium_disk_kv_cache::{
    CacheError, CacheOptions, CacheSettings, Clock, Durability, Eviction, Key, KeyBuf, MAX_KEY_BYTES, ManualClock,
    Order, SetOptions, Settings, Side, StoreError,
};

use super::support::{FILE_BYTES, Fixture, assert_sound, large, options, settings};

const MINUTE: Duration = Duration::from_secs(60);

fn ttl(ttl: Duration) -> SetOptions {
    SetOptions::new().with_ttl(ttl)
}

#[test]
fn keys_that_lie_between_those_of_a_queue_are_left_alone() {
    let f = Fixture::new(settings());
    let queue = |side| f.cache.peek("jobs", side).unwrap().map(|(_, item)| item.value);
    let others = [("jobs", 5, "x").to_key(), ("jobs", u64::MAX).to_key(), ("jobs", i128::MIN).to_key()];
    for key in &others {
        f.cache.set(key, b"mine").unwrap();
    }
    assert_eq!(queue(Side::Back), None);
    for (value, side) in [("b", Side::Back), ("c", Side::Back), ("a", Side::Front)] {
        f.cache.push("jobs", value.as_bytes(), side, &SetOptions::new()).unwrap();
    }
    assert_eq!((queue(Side::Front).unwrap(), queue(Side::Back).unwrap()), (b"a".to_vec(), b"c".to_vec()));
    for value in ["c", "b", "a"] {
        assert_eq!(f.cache.pull("jobs", Side::Back).unwrap().unwrap().1.value, value.as_bytes());
    }
    assert!(f.cache.pull("jobs", Side::Back).unwrap().is_none());
    for key in &others {
        assert_eq!(f.cache.get(key).unwrap().unwrap(), b"mine");
    }
}

#[test]
fn values_in_rows_and_in_files_come_back() {
    let f = Fixture::new(settings());
    for bytes in [0, 1, FILE_BYTES - 1, FILE_BYTES, FILE_BYTES * 200] {
        let value = vec![bytes as u8; bytes as usize];
        f.cache.set("key", &value).unwrap();
        assert_eq!(f.cache.get("key").unwrap(), Some(value.clone()));
        assert_eq!(f.cache.get_with("key", <[u8]>::len).unwrap(), Some(value.len()));
        let mut reader = f.cache.read("key").unwrap().unwrap();
        let mut streamed = Vec::new();
        reader.read_to_end(&mut streamed).unwrap();
        assert_eq!((streamed, reader.len()), (value.clone(), bytes));
        assert_eq!(f.files(), usize::from(bytes >= FILE_BYTES), "{bytes}");
        f.cache.set_from("streamed", &mut value.as_slice(), &SetOptions::new()).unwrap();
        assert_eq!(f.cache.pop("streamed").unwrap().unwrap().value, value);
        assert_sound(&f.cache);
    }
    assert_eq!(f.cache.get("other").unwrap(), None);
    assert!(f.cache.read("other").unwrap().is_none());
    assert!(f.cache.delete("key").unwrap());
    assert!(!f.cache.delete("key").unwrap());
    assert_eq!((f.files(), f.cache.len().unwrap(), f.cache.volume().unwrap()), (0, 0, 0));
}

#[test]
fn an_item_has_its_expiry_and_tags() {
    let f = Fixture::new(settings());
    let options = ttl(MINUTE).with_tag("b").with_tag("a").with_tag("b");
    f.cache.set_with("key", b"value", &options).unwrap();
    let item = f.cache.get_item("key").unwrap().unwrap();
    assert_eq!(item.value, b"value");
    assert_eq!(item.expires_at, Some(UNIX_EPOCH + Duration::from_nanos(f.clock.unix_nanos()) + MINUTE));
    assert_eq!(item.tags, ["a", "b"]);
    f.cache.set("key", b"value").unwrap();
    let item = f.cache.get_item("key").unwrap().unwrap();
    assert_eq!((item.expires_at, item.tags), (None, Vec::new()), "set drops both");
}

#[test]
fn what_has_expired_is_not_there() {
    let f = Fixture::new(settings().with_cull_limit(0));
    f.cache.set_with("key", b"1", &ttl(MINUTE)).unwrap();
    f.clock.advance(MINUTE - Duration::from_nanos(1));
    assert!(f.cache.contains("key").unwrap());
    f.clock.advance(Duration::from_nanos(1));
    assert_eq!(f.cache.get("key").unwrap(), None);
    assert!(!f.cache.contains("key").unwrap());
    assert!(!f.cache.touch("key", None).unwrap());
    assert_eq!(f.cache.pop("key").unwrap(), None);
    assert_eq!(f.cache.incr_with("key", 1, None, &SetOptions::new()).unwrap(), None);
    assert_eq!(f.cache.keys(Order::Ascending).count(), 0);
    assert_eq!(f.cache.peek_item(Order::Ascending).unwrap(), None);
    assert_eq!(f.cache.len().unwrap(), 1, "until it is removed");
    assert!(!f.cache.delete("key").unwrap());
    assert_eq!(f.cache.len().unwrap(), 0);

    f.cache.set_with("key", b"1", &ttl(Duration::ZERO)).unwrap();
    assert_eq!(f.cache.get("key").unwrap(), None);
    f.cache.set_with("key", b"1", &ttl(Duration::MAX)).unwrap();
    assert!(f.cache.contains("key").unwrap());
}

#[test]
fn a_clock_that_goes_backwards_makes_nothing_wrong() {
    let f = Fixture::new(settings());
    f.cache.set_with("key", b"1", &ttl(MINUTE)).unwrap();
    f.clock.set(Duration::from_secs(1));
    assert!(f.cache.contains("key").unwrap());
    f.cache.set_with("new", b"1", &ttl(MINUTE)).unwrap();
    f.clock.advance(2 * MINUTE);
    assert!(!f.cache.contains("new").unwrap());
    assert!(f.cache.contains("key").unwrap());
    assert_eq!(f.cache.expire().unwrap(), 1);
    assert_sound(&f.cache);
}

#[test]
fn add_stores_only_what_is_not_there() {
    let f = Fixture::new(settings());
    let options = ttl(MINUTE);
    assert!(f.cache.add("key", b"one", &options).unwrap());
    assert!(!f.cache.add("key", &large(2), &options).unwrap());
    assert_eq!((f.cache.get("key").unwrap().unwrap(), f.files()), (b"one".to_vec(), 0));
    f.clock.advance(MINUTE);
    assert!(f.cache.add("key", &large(3), &options).unwrap());
    assert_eq!((f.cache.get("key").unwrap().unwrap(), f.files()), (large(3), 1));
    assert_sound(&f.cache);
}

#[test]
fn touch_changes_nothing_but_the_expiry() {
    let f = Fixture::new(settings());
    for value in [b"small".to_vec(), large(1)] {
        f.cache.set_with("key", &value, &ttl(MINUTE).with_tag("tag")).unwrap();
        assert!(f.cache.touch("key", Some(3 * MINUTE)).unwrap());
        f.clock.advance(2 * MINUTE);
        let item = f.cache.get_item("key").unwrap().unwrap();
        assert_eq!((item.value, item.tags), (value, vec!["tag".to_owned()]));
        assert!(f.cache.touch("key", None).unwrap());
        assert_eq!(f.cache.get_item("key").unwrap().unwrap().expires_at, None);
        assert_sound(&f.cache);
    }
    assert!(!f.cache.touch("other", None).unwrap());
}

#[test]
fn incr_keeps_expiry_and_tags() {
    let f = Fixture::new(settings());
    f.cache.set_with("count", b"41", &ttl(MINUTE).with_tag("tag")).unwrap();
    let before = f.cache.get_item("count").unwrap().unwrap();
    assert_eq!(f.cache.incr("count", 1).unwrap(), 42);
    let after = f.cache.get_item("count").unwrap().unwrap();
    assert_eq!(after.value, b"42");
    assert_eq!((before.expires_at, before.tags), (after.expires_at, after.tags));
    assert_eq!(f.cache.decr("count", 50).unwrap(), -8);
    // Expired is as good as never there: the options say what the new one is like.
    f.clock.advance(MINUTE);
    assert_eq!(f.cache.incr_with("count", 5, Some(10), &ttl(MINUTE).with_tag("new")).unwrap(), Some(15));
    let item = f.cache.get_item("count").unwrap().unwrap();
    assert!(item.expires_at.is_some());
    assert_eq!(item.tags, ["new"]);
    assert_eq!(f.cache.incr("fresh", 2).unwrap(), 2);
    assert_sound(&f.cache);
}

#[test]
fn incr_refuses_what_is_no_number_or_would_not_fit() {
    let f = Fixture::new(settings());
    for bad in [b"".as_slice(), b"x", b"1.5", b" 1", b"9223372036854775808", &[0xFF]] {
        f.cache.set("key", bad).unwrap();
        assert!(matches!(f.cache.incr("key", 1), Err(CacheError::NotAnInteger { .. })), "{bad:?}");
        assert_eq!(f.cache.get("key").unwrap().unwrap(), bad);
    }
    f.cache.set("key", i64::MAX.to_string().as_bytes()).unwrap();
    assert!(matches!(f.cache.incr("key", 1), Err(CacheError::Overflow { value: i64::MAX, .. })));
    f.cache.set("key", b"-1").unwrap();
    assert_eq!(f.cache.decr("key", i64::MIN).unwrap(), i64::MAX);
    f.cache.set("key", b"5").unwrap();
    let beyond = f.cache.decr("key", i64::MIN).unwrap_err();
    let said = "from 5, the value of \"key\" would leave the range of 64 bits: nothing was changed, use smaller steps";
    assert_eq!(beyond.to_string(), said);
    assert_eq!(f.cache.get("key").unwrap().unwrap(), b"5");
}

#[test]
fn pop_returns_what_it_removes() {
    let f = Fixture::new(settings());
    for value in [b"small".to_vec(), large(7)] {
        f.cache.set_with("key", &value, &SetOptions::new().with_tag("tag")).unwrap();
        let item = f.cache.pop("key").unwrap().unwrap();
        assert_eq!((item.value, item.tags), (value, vec!["tag".to_owned()]));
        assert_eq!(f.cache.pop("key").unwrap(), None);
        assert_eq!((f.files(), f.cache.volume().unwrap()), (0, 0));
    }
}

#[test]
fn queues_give_back_in_order_from_both_ends() {
    let f = Fixture::new(settings());
    let (cache, plain) = (&f.cache, SetOptions::new());
    let value = |found: Option<(KeyBuf, alluvium_disk_kv_cache::Item)>| found.map(|(_, item)| item.value);
    for n in [b"1", b"2", b"3"] {
        cache.push("queue", n, Side::Back, &plain).unwrap();
    }
    let key = cache.push("queue", b"0", Side::Front, &plain).unwrap();
    assert_eq!(key, ("queue", -1).to_key());
    assert_eq!(cache.get(&key).unwrap().unwrap(), b"0");
    // Other keys of the same beginning, and other queues, are not part of it.
    cache.set(&("queue", "x"), b"x").unwrap();
    cache.set(&("queue", 1.5), b"x").unwrap();
    cache.set(&("queues", 0), b"x").unwrap();
    assert_eq!(value(cache.peek("queue", Side::Front).unwrap()).unwrap(), b"0");
    assert_eq!(value(cache.peek("queue", Side::Back).unwrap()).unwrap(), b"3");
    for (side, expected) in [(Side::Front, b"0"), (Side::Back, b"3"), (Side::Front, b"1"), (Side::Front, b"2")] {
        assert_eq!(value(cache.pull("queue", side).unwrap()).unwrap(), expected);
    }
    assert_eq!(cache.pull("queue", Side::Front).unwrap(), None);
    assert_eq!(cache.peek("queue", Side::Back).unwrap(), None);
    assert_eq!(cache.len().unwrap(), 3);
    // What has expired is passed over.
    cache.push("", b"old", Side::Back, &ttl(MINUTE)).unwrap();
    cache.push("", b"new", Side::Back, &plain).unwrap();
    f.clock.advance(MINUTE);
    assert_eq!(value(cache.peek("", Side::Front).unwrap()).unwrap(), b"new");
    assert_eq!(value(cache.pull("", Side::Front).unwrap()).unwrap(), b"new");
    assert_eq!(cache.pull("", Side::Back).unwrap(), None);
}

#[test]
fn a_queue_that_is_out_of_numbers_says_so() {
    let f = Fixture::new(settings());
    f.cache.set(&("queue", i64::MAX), b"").unwrap();
    let full = f.cache.push("queue", b"", Side::Back, &SetOptions::new());
    assert!(matches!(full, Err(CacheError::QueueFull { .. })), "{full:?}");
}

#[test]
fn iteration_is_in_key_order_from_a_key_and_both_ways() {
    let f = Fixture::new(settings());
    for n in 0..250 {
        f.cache.set(&n, n.to_string().as_bytes()).unwrap();
    }
    f.cache.set_with(&1_000, b"gone", &ttl(Duration::ZERO)).unwrap();
    let numbers =
        |keys: alluvium_disk_kv_cache::Keys| -> Vec<i32> { keys.map(|key| key.unwrap().decode().unwrap()).collect() };
    assert_eq!(numbers(f.cache.keys(Order::Ascending)), (0..250).collect::<Vec<_>>());
    assert_eq!(numbers(f.cache.keys(Order::Descending)), (0..250).rev().collect::<Vec<_>>());
    assert_eq!(numbers(f.cache.keys_from(&100, Order::Ascending)), (100..250).collect::<Vec<_>>());
    assert_eq!(numbers(f.cache.keys_from(&100, Order::Descending)), (0..=100).rev().collect::<Vec<_>>());
    assert_eq!(numbers(f.cache.keys_from(&"text", Order::Ascending)), (0..250).collect::<Vec<_>>());
    for item in f.cache.items_from(&7, Order::Ascending) {
        let (key, item) = item.unwrap();
        assert_eq!(item.value, key.decode::<i32>().unwrap().to_string().as_bytes());
    }
    assert_eq!(f.cache.items(Order::Descending).count(), 250);
    // No snapshot is held between pages: a writer gets in, and is seen.
    let mut keys = f.cache.keys(Order::Ascending);
    assert_eq!(keys.next().unwrap().unwrap(), 0.to_key());
    f.cache.delete(&249).unwrap();
    assert_eq!(keys.last().unwrap().unwrap(), 248.to_key());
    let (key, _) = f.cache.peek_item(Order::Ascending).unwrap().unwrap();
    assert_eq!(key, 0.to_key());
    let (key, _) = f.cache.peek_item(Order::Descending).unwrap().unwrap();
    assert_eq!(key, 248.to_key());
}

#[test]
fn iteration_passes_large_values_and_goes_on_behind_a_damaged_one() {
    let f = Fixture::new(settings());
    for n in 0..5_u8 {
        f.cache.set(&n, &vec![n; 700 << 10]).unwrap();
    }
    let values: Vec<_> = f.cache.items(Order::Descending).map(|item| item.unwrap().1.value).collect();
    assert!(values.iter().rev().enumerate().all(|(n, value)| *value == vec![n as u8; 700 << 10]));
    assert_eq!(values.len(), 5);
    std::fs::remove_dir_all(f.dir.path().join("values")).unwrap();
    f.cache.set(&2, b"small").unwrap();
    let items: Vec<_> = f.cache.items(Order::Ascending).collect();
    let damaged = |n: u8| matches!(&items[usize::from(n)], Err(CacheError::Damaged { key, .. }) if *key == n.to_key());
    assert!(damaged(0) && damaged(1) && damaged(3) && damaged(4), "{items:?}");
    assert_eq!(items[2].as_ref().unwrap().1.value, b"small");
    assert_eq!(items.len(), 5);
}

#[test]
fn reads_wait_for_no_writer() {
    let f = Fixture::new(settings().with_eviction(Eviction::LeastRecentlyUsed).with_statistics(true));
    f.cache.set("key", b"before").unwrap();
    f.cache
        .transact::<_, CacheError>(|txn| {
            txn.set("key", b"after", &SetOptions::new())?;
            // On another thread, while the write transaction is open; the thread would wait for ever.
            let reads = || (0..100).map(|_| f.cache.get("key").unwrap().unwrap()).all(|value| value == b"before");
            assert!(std::thread::scope(|threads| threads.spawn(reads).join().unwrap()));
            Ok(())
        })
        .unwrap();
    assert_eq!(f.cache.get("key").unwrap().unwrap(), b"after");
    assert_eq!(f.cache.stats().unwrap().hits, 101);
}

#[test]
fn evicting_any_tag_removes_an_entry() {
    let f = Fixture::new(settings());
    for n in 0..250 {
        let mut options = SetOptions::new().with_tag("all").with_tag(format!("by ten: {}", n / 10));
        if n % 2 == 0 {
            options = options.with_tag("");
        }
        f.cache.set_with(&n, &if n < 5 { large(1) } else { vec![] }, &options).unwrap();
    }
    assert_eq!(f.cache.keys_by_tag("by ten: 3").unwrap().len(), 10);
    assert_eq!(f.cache.evict("by ten: 3").unwrap(), 10);
    assert_eq!(f.cache.evict("by ten: 3").unwrap(), 0);
    assert_eq!(f.cache.evict("").unwrap(), 120);
    assert_eq!(f.cache.evict("al").unwrap(), 0);
    assert_sound(&f.cache);
    assert_eq!(f.cache.keys_by_tag("all").unwrap().len(), 120);
    assert_eq!(f.cache.evict("all").unwrap(), 120);
    assert_eq!((f.cache.len().unwrap(), f.files(), f.cache.volume().unwrap()), (0, 0, 0));
}

#[test]
fn many_at_once() {
    let f = Fixture::new(settings());
    let big = large(9);
    f.cache.set_many([(1, b"one".as_slice()), (2, b"two"), (3, &big)], &SetOptions::new().with_tag("many")).unwrap();
    assert_eq!(f.cache.get_many([3, 7, 1]).unwrap(), [Some(big), None, Some(b"one".to_vec())]);
    assert_eq!(f.cache.keys_by_tag("many").unwrap().len(), 3);
    assert_eq!(f.cache.delete_many([1, 3, 7]).unwrap(), 2);
    assert_eq!((f.cache.len().unwrap(), f.files()), (1, 0));
}

#[test]
fn a_transaction_is_all_or_nothing_and_nests() {
    let f = Fixture::new(settings());
    let plain = SetOptions::new();
    f.cache.set_with("kept", &large(1), &SetOptions::new().with_tag("t")).unwrap();
    let failed = f.cache.transact(|txn| {
        txn.set("kept", b"changed", &plain)?;
        txn.set("new", &large(2), &plain)?;
        txn.incr("count", 1, Some(0), &plain)?;
        assert_eq!(txn.get("kept")?.unwrap(), b"changed");
        Err::<(), _>(CacheError::Tags)
    });
    assert!(failed.is_err());
    assert_eq!((f.cache.get("kept").unwrap().unwrap(), f.cache.len().unwrap(), f.files()), (large(1), 1, 1));
    assert_sound(&f.cache);

    f.cache
        .transact::<_, CacheError>(|txn| {
            txn.set("outer", b"1", &plain)?;
            let inner: Result<(), CacheError> = txn.transact(|txn| {
                txn.set("outer", &large(3), &plain)?;
                txn.delete("kept")?;
                let innermost: Result<(), CacheError> = txn.transact(|txn| {
                    txn.set("innermost", b"2", &plain)?;
                    Ok(())
                });
                innermost?;
                txn.push("queue", &large(4), Side::Back, &plain)?;
                Err(CacheError::Tags)
            });
            assert!(inner.is_err());
            assert_eq!(txn.get("outer")?.unwrap(), b"1");
            assert_eq!(txn.get("innermost")?, None);
            txn.transact(|txn| txn.set("second", &large(5), &plain))
        })
        .unwrap();
    assert_eq!(f.cache.get("kept").unwrap().unwrap(), large(1));
    assert_eq!(f.cache.get("second").unwrap().unwrap(), large(5));
    assert_eq!((f.cache.len().unwrap(), f.files()), (3, 2));
    assert_sound(&f.cache);

    let nested = f.cache.transact(|_| f.cache.set("key", b""));
    assert!(matches!(nested, Err(CacheError::Store(StoreError::Nested { .. }))), "{nested:?}");
}

// With sled the write would wait for the view.
#[cfg(feature = "lmdb")]
#[test]
fn a_view_is_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    // Room enough that the map need not grow, for which a writer would wait for the view to end.
    let store = Settings::new().with_durability(Durability::Process);
    let cache = CacheOptions::new().with_store(store).open(dir.path()).unwrap();
    cache.set("a", b"1").unwrap();
    cache
        .view(|view| {
            let lent = view.get("a")?.unwrap();
            std::thread::scope(|threads| threads.spawn(|| cache.set("a", b"2").unwrap()).join().unwrap());
            assert_eq!(lent, b"1".as_slice());
            assert_eq!(view.get("a")?.unwrap(), b"1".as_slice());
            Ok(())
        })
        .unwrap();
    assert_eq!(cache.get("a").unwrap().unwrap(), b"2");
}

#[test]
fn settings_last_and_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::default();
    let cache = options(&clock).open(dir.path()).unwrap();
    assert_eq!(cache.settings().unwrap(), CacheSettings::new());
    let wanted = CacheSettings::new()
        .with_eviction(Eviction::LeastFrequentlyUsed)
        .with_statistics(true)
        .with_cull_limit(3)
        .with_size_limit_bytes(1 << 20)
        .with_min_file_size_bytes(77);
    let other = options(&clock).with_settings(wanted).open(dir.path()).unwrap();
    assert_eq!(cache.settings().unwrap(), wanted);
    drop((cache, other));
    let cache = options(&clock).open(dir.path()).unwrap();
    assert_eq!(cache.settings().unwrap(), wanted);
    cache.set("key", &[0; 77]).unwrap();
    assert_eq!(super::support::files(dir.path()), 1);
    cache.update_settings(|settings| settings.with_cull_limit(0)).unwrap();
    assert_eq!(cache.settings().unwrap(), wanted.with_cull_limit(0));
}

#[test]
fn statistics_count_when_they_are_on() {
    let f = Fixture::new(settings());
    let read = || {
        f.cache.get("key").unwrap();
        f.cache.get("other").unwrap();
        f.cache.contains("key").unwrap();
    };
    f.cache.set("key", b"").unwrap();
    read();
    let stats = f.cache.stats().unwrap();
    assert_eq!((stats.hits, stats.misses, stats.entries), (0, 0, 1));
    assert_eq!(stats.volume_bytes, f.cache.volume().unwrap());
    f.cache.update_settings(|settings| settings.with_statistics(true)).unwrap();
    read();
    read();
    let stats = f.cache.stats().unwrap();
    assert_eq!((stats.hits, stats.misses, stats.damaged), (2, 2, 0));
    assert_eq!(f.cache.reset_stats().unwrap(), stats);
    let stats = f.cache.stats().unwrap();
    assert_eq!((stats.hits, stats.misses), (0, 0));
}

#[test]
fn what_removes_or_looks_is_no_read() {
    let f = Fixture::new(settings().with_statistics(true));
    for key in ["a", "b"] {
        f.cache.set(key, b"1").unwrap();
    }
    f.cache.push("queue", b"1", Side::Back, &SetOptions::new()).unwrap();
    assert!(
        f.cache.peek("queue", Side::Back).unwrap().is_some() && f.cache.peek_item(Order::Ascending).unwrap().is_some()
    );
    assert!(
        f.cache.pull("queue", Side::Front).unwrap().is_some() && f.cache.pull("queue", Side::Front).unwrap().is_none()
    );
    assert!(f.cache.pop("a").unwrap().is_some() && f.cache.pop("a").unwrap().is_none());
    f.cache
        .transact::<_, CacheError>(|txn| {
            assert_eq!((txn.view().value_len("b")?, txn.view().value_len("a")?), (Some(1), None));
            txn.pop("b").map(drop)
        })
        .unwrap();
    f.cache.incr("n", 1).unwrap();
    assert_eq!(f.cache.items(Order::Ascending).count(), 1);
    let stats = f.cache.stats().unwrap();
    assert_eq!((stats.hits, stats.misses), (0, 0));
}

#[test]
fn clear_leaves_settings_and_nothing_else() {
    let f = Fixture::new(settings().with_cull_limit(7));
    for n in 0..250 {
        f.cache.set_with(&n, &if n % 50 == 0 { large(1) } else { vec![] }, &ttl(MINUTE).with_tag("t")).unwrap();
    }
    assert_eq!(f.cache.clear().unwrap(), 250);
    assert_eq!((f.cache.len().unwrap(), f.cache.volume().unwrap(), f.files()), (0, 0, 0));
    assert_eq!(f.cache.settings().unwrap(), settings().with_cull_limit(7));
    assert_sound(&f.cache);
}

#[test]
fn hostile_keys_tags_and_values_are_only_data() {
    let f = Fixture::new(settings());
    let keys = ["", "\0", "../../etc/passwd", "/", "values", "a\0b", "state", "'; DROP TABLE", "\u{10FFFF}"];
    for (n, key) in keys.iter().enumerate() {
        f.cache.set_with(*key, key.as_bytes(), &SetOptions::new().with_tag(*key)).unwrap();
        f.cache.set(key.as_bytes(), &large(n as u8)).unwrap();
    }
    let huge = vec![0_u8; 10 << 20];
    f.cache.set("huge", &huge).unwrap();
    assert_eq!(f.cache.get("huge").unwrap().unwrap(), huge);
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(f.cache.get(*key).unwrap().unwrap(), key.as_bytes());
        assert_eq!(f.cache.get(key.as_bytes()).unwrap().unwrap(), large(n as u8));
        assert_eq!(f.cache.keys_by_tag(key).unwrap(), [key.to_key()]);
        assert_eq!(f.cache.evict(key).unwrap(), 1);
    }
    assert_sound(&f.cache);
    // Too long a key costs no file; too long a tag changes nothing.
    let files = f.files();
    let long = vec![b'k'; MAX_KEY_BYTES];
    assert!(matches!(f.cache.set(&long, &large(1)), Err(CacheError::Store(StoreError::KeyLength { .. }))));
    let tag = SetOptions::new().with_tag("t".repeat(70_000));
    assert!(matches!(f.cache.set_with("tagged", &large(1), &tag), Err(CacheError::Tags)));
    assert_eq!(f.files(), files);
    assert_sound(&f.cache);
}

#[test]
fn a_source_that_fails_stores_nothing() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("on purpose"))
        }
    }
    let f = Fixture::new(settings());
    for value in [vec![1; 10], large(1)] {
        let set = f.cache.set_from("key", value.as_slice().chain(Failing), &SetOptions::new());
        assert!(matches!(set, Err(CacheError::Source { .. })), "{set:?}");
    }
    assert_eq!((f.cache.len().unwrap(), f.files()), (0, 0));
}

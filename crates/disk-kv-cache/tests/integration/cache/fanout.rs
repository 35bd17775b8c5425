//! Several shards that act as one cache.

use alluvium_disk_kv_cache::{CacheSettings, FanoutCache, Key, KeyBuf, OpenCacheError, Order, SetOptions};

use super::support::{clock, large, options, settings};

fn open(dir: &std::path::Path, shards: usize) -> FanoutCache {
    FanoutCache::open_with(dir, Some(shards), &options(&clock()).with_settings(settings())).unwrap()
}

#[test]
fn shards_act_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 4);
    let tagged = SetOptions::new().with_tag("even");
    for n in 0..300 {
        let options = if n % 2 == 0 { tagged.clone() } else { SetOptions::new() };
        cache.set_with(&n, n.to_string().as_bytes(), &options).unwrap();
    }
    assert!(cache.shards().iter().all(|shard| shard.len().unwrap() > 30), "every shard has its part");
    assert_eq!(cache.len().unwrap(), 300);
    let keys = |keys: alluvium_disk_kv_cache::FanoutKeys| keys.map(Result::unwrap).collect::<Vec<KeyBuf>>();
    let sorted: Vec<KeyBuf> = (0..300).map(|n| n.to_key()).collect();
    assert_eq!(keys(cache.keys(Order::Ascending)), sorted);
    assert_eq!(keys(cache.keys_from(&7, Order::Descending)), sorted[..=7].iter().rev().cloned().collect::<Vec<_>>());
    let items: Vec<_> = cache.items(Order::Descending).map(|item| item.unwrap().1.value).collect();
    assert_eq!(items, (0..300).rev().map(|n| n.to_string().into_bytes()).collect::<Vec<_>>());
    assert_eq!(cache.peek_item(Order::Descending).unwrap().unwrap().0, 299.to_key());
    assert_eq!(cache.keys_by_tag("even").unwrap().len(), 150);
    assert_eq!(cache.get_many([5, 1_000, 6]).unwrap(), [Some(b"5".to_vec()), None, Some(b"6".to_vec())]);
    assert_eq!(cache.evict("even").unwrap(), 150);
    assert_eq!(cache.delete_many([1, 2, 3]).unwrap(), 2);
    assert_eq!(cache.incr(&5, 10).unwrap(), 15);
    cache.set_many([(1_000, large(1).as_slice()), (1_001, b"x")], &SetOptions::new()).unwrap();
    assert_eq!(cache.get(&1_000).unwrap().unwrap(), large(1));
    assert!(cache.volume().unwrap() > 3_000);
    assert_eq!(cache.check(false).unwrap(), []);
    assert_eq!(cache.clear().unwrap(), 150);
    assert!(cache.is_empty().unwrap());
}

#[test]
fn the_number_of_shards_and_the_settings_last() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FanoutCache::open_with(dir.path(), Some(3), &options(&clock())).unwrap();
    let whole = CacheSettings::new().with_size_limit_bytes((1 << 30) / 3 * 3);
    assert_eq!(cache.settings().unwrap(), whole);
    assert_eq!(cache.shards()[2].settings().unwrap().size_limit_bytes(), (1 << 30) / 3);
    cache.set("key", b"value").unwrap();
    drop(cache);
    let other = FanoutCache::open_with(dir.path(), Some(4), &options(&clock()).with_settings(settings()));
    assert!(matches!(other, Err(OpenCacheError::Shards { found: 3, requested: 4, .. })), "{other:?}");
    let none = FanoutCache::open_with(dir.path(), Some(0), &options(&clock()));
    assert!(matches!(none, Err(OpenCacheError::ShardCount { requested: 0 })));
    let cache = FanoutCache::open_with(dir.path(), None, &options(&clock())).unwrap();
    assert_eq!((cache.shards().len(), cache.settings().unwrap()), (3, whole), "a refusal has changed nothing");
    assert_eq!(cache.get("key").unwrap().unwrap(), b"value");
    // Per shard it is now what a whole cache has by default.
    let large = whole.with_size_limit_bytes(3 << 30);
    cache.update_settings(|_| large).unwrap();
    drop(cache);
    let cache = FanoutCache::open_with(dir.path(), None, &options(&clock())).unwrap();
    assert_eq!(cache.settings().unwrap(), large);
}

#[test]
fn sub_caches_are_apart_and_found_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 2);
    let names = ["", "a", "a/b", "..", "../../x", "000"];
    for name in names {
        cache.cache(name).unwrap().set("name", name.as_bytes()).unwrap();
    }
    cache.clear().unwrap();
    for name in names {
        assert_eq!(cache.cache(name).unwrap().get("name").unwrap().unwrap(), name.as_bytes());
    }
    let below: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(below.len(), 3, "{below:?}");
}

//! Several shards that act as one cache.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use alluvium_disk_kv_cache::{
    CacheError, CacheSettings, CollectionError, FanoutCache, Key, KeyBuf, OnDamage, OpenCacheError, OpenError, Order,
    SetOptions, Store, StoreError,
};

use crate::child::quick;

use super::support::{clock, large, options, settings};

/// What a store of the engine that is built is known by.
const DATA: &str = if cfg!(feature = "lmdb") { "data.mdb" } else { "sled/db" };

fn open(dir: &Path, shards: usize) -> FanoutCache {
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
    let below: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(below.len(), 4, "{below:?}");
}

fn filled(dir: &Path) -> usize {
    let cache = open(dir, 4);
    (0..100).for_each(|n| cache.set(&n, b"value").unwrap());
    cache.shards()[2].len().unwrap() as usize
}

fn open_existing(dir: &Path) -> Result<FanoutCache, OpenCacheError> {
    FanoutCache::open_with(dir, None, &options(&clock()))
}

fn repair(dir: &Path, shards: Option<usize>) -> Result<Vec<String>, OpenCacheError> {
    FanoutCache::repair(dir, shards, &options(&clock()))
}

#[test]
fn a_lost_shard_is_named_and_begun_anew_on_request() {
    for lost in ["000", "002"] {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        // Lost as a directory, or only the store in it.
        for what in [PathBuf::from(lost), Path::new(lost).join(DATA)] {
            let (there, aside) = (dir.path().join(what), dir.path().join("aside"));
            fs::rename(&there, &aside).unwrap();
            for error in [
                open_existing(dir.path()).unwrap_err(),
                FanoutCache::open_with(dir.path(), Some(4), &options(&clock())).unwrap_err(),
                FanoutCache::open_read_only(dir.path(), &options(&clock())).unwrap_err(),
            ] {
                assert!(
                    matches!(&error, OpenCacheError::MissingShard { shard, shards: 4, .. } if shard == lost),
                    "{error:?}"
                );
                let said = error.to_string();
                assert!(said.contains(&format!("put the directory {lost} back")) && said.contains("repair"), "{said}");
            }
            assert!(FanoutCache::is_at(dir.path()));
            assert!(!there.exists() && !dir.path().join(DATA).exists(), "nothing was made in its place");
            fs::rename(aside, there).unwrap();
            assert_eq!(open_existing(dir.path()).unwrap().len().unwrap(), 100, "put back");
        }
        let held = open_existing(dir.path()).unwrap().shards()[lost.parse::<usize>().unwrap()].len().unwrap();
        fs::remove_dir_all(dir.path().join(lost)).unwrap();
        assert_eq!(repair(dir.path(), None).unwrap(), [lost]);
        let cache = open_existing(dir.path()).unwrap();
        assert_eq!(cache.len().unwrap(), 100 - held);
        (0..100).for_each(|n| cache.set(&n, b"value").unwrap());
        drop(cache);
        assert_eq!(repair(dir.path(), None).unwrap(), [""; 0], "nothing is wrong any more");
        assert_eq!(open_existing(dir.path()).unwrap().len().unwrap(), 100);
    }
}

#[test]
fn a_shard_that_is_another_one_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, other) = (parent.path().join("cache"), parent.path().join("other"));
    let held = filled(&dir) as u64;
    filled(&other);
    let refused = |shard: &str| {
        for error in
            [open_existing(&dir).unwrap_err(), FanoutCache::open_read_only(&dir, &options(&clock())).unwrap_err()]
        {
            assert!(matches!(&error, OpenCacheError::OtherShard { shard: named, .. } if named == shard), "{error:?}");
        }
    };
    let swap = |one: &Path, two: &Path| {
        let aside = parent.path().join("aside");
        fs::rename(one, &aside).unwrap();
        fs::rename(two, one).unwrap();
        fs::rename(aside, two).unwrap();
    };
    swap(&dir.join("001"), &dir.join("002"));
    refused("001");
    swap(&dir.join("001"), &dir.join("002"));
    assert_eq!(open_existing(&dir).unwrap().len().unwrap(), 100);
    swap(&dir.join("002"), &other.join("002"));
    refused("002");
    assert_eq!(repair(&dir, None).unwrap(), ["002"]);
    assert!(dir.join("002.other").join(DATA).exists(), "kept");
    assert_eq!(open_existing(&dir).unwrap().len().unwrap(), 100 - held);
    // An empty store in the place of a shard.
    fs::remove_dir_all(dir.join("003")).unwrap();
    drop(options(&clock()).open(dir.join("003")).unwrap());
    refused("003");
}

#[test]
fn the_number_of_shards_is_found_again_in_the_shards() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let file = dir.path().join("fanout.json");
    let kept = fs::read(&file).unwrap();
    for damage in [None, Some(b"{".as_slice()), Some(br#"{"format":1,"id":"x","shards":0,"made":true}"#)] {
        fs::remove_file(&file).unwrap();
        damage.into_iter().for_each(|bytes| fs::write(&file, bytes).unwrap());
        for error in [
            open_existing(dir.path()).unwrap_err(),
            FanoutCache::open_read_only(dir.path(), &options(&clock())).unwrap_err(),
        ] {
            assert!(matches!(&error, OpenCacheError::ShardsUnknown { .. }), "{error:?}");
        }
        assert!(matches!(repair(dir.path(), Some(3)), Err(OpenCacheError::Shards { found: 4, requested: 3, .. })));
        assert_eq!(repair(dir.path(), None).unwrap(), [""; 0]);
        assert_eq!(fs::read(&file).unwrap(), kept, "what it was");
        assert_eq!(open_existing(dir.path()).unwrap().len().unwrap(), 100);
    }
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(repair(nothing.path(), None), Err(OpenCacheError::Store(OpenError::Absent { .. }))));
    assert!(!FanoutCache::is_at(nothing.path()));
}

#[test]
fn a_store_that_is_no_cache_may_lie_beside_the_shards() {
    let dir = tempfile::tempdir().unwrap();
    let beside = || Store::open(dir.path(), &["meta"], quick()).unwrap();
    // It stays open, as that of a directory's owner does.
    let owner = beside();
    filled(dir.path());
    fs::remove_file(dir.path().join("fanout.json")).unwrap();
    assert!(FanoutCache::is_at(dir.path()));
    assert!(matches!(open_existing(dir.path()), Err(OpenCacheError::ShardsUnknown { .. })));
    assert_eq!(repair(dir.path(), None).unwrap(), [""; 0]);
    assert_eq!(open_existing(dir.path()).unwrap().len().unwrap(), 100);
    drop(owner);
    // Nor does a store that is a cache become one in shards when one is put beside it.
    let plain = tempfile::tempdir().unwrap();
    options(&clock()).open(plain.path()).unwrap().set("key", b"value").unwrap();
    fs::rename(dir.path().join("000"), plain.path().join("000")).unwrap();
    assert!(!FanoutCache::is_at(plain.path()));
    assert!(matches!(open_existing(plain.path()), Err(OpenCacheError::InOneStore { .. })));
    assert_eq!(options(&clock()).open(plain.path()).unwrap().get("key").unwrap().unwrap(), b"value");
}

#[test]
fn a_maker_that_died_is_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 4));
    let file = dir.path().join("fanout.json");
    let record = fs::read_to_string(&file).unwrap();
    fs::write(&file, record.replace(r#""made":true"#, r#""made":false"#)).unwrap();
    fs::remove_dir_all(dir.path().join("002")).unwrap();
    fs::remove_dir_all(dir.path().join("003")).unwrap();
    assert_eq!(open_existing(dir.path()).unwrap().shards().len(), 4);
    assert_eq!(fs::read_to_string(&file).unwrap(), record);
}

#[test]
fn a_damaged_shard_is_set_aside_and_the_cache_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let held = filled(dir.path()) as u64;
    let shard = dir.path().join("002");
    let file = fs::File::options().write(true).open(shard.join(DATA)).unwrap();
    file.set_len(file.metadata().unwrap().len() / 20).unwrap();
    let refused = open_existing(dir.path()).unwrap_err();
    assert!(matches!(refused, OpenCacheError::Store(OpenError::Damaged { .. })), "{refused:?}");
    let store = quick().with_initial_map_bytes(1 << 20).with_on_damage(OnDamage::Quarantine);
    let options = options(&clock()).with_store(store);
    let open = || FanoutCache::open_with(dir.path(), None, &options).unwrap();
    let cache = open();
    assert!(cache.shards()[2].recovered().is_some());
    assert_eq!(cache.len().unwrap(), 100 - held);
    drop(cache);
    // One who dies after it was set aside, and before there is another store in its place.
    fs::remove_file(shard.join(DATA)).unwrap();
    assert_eq!(open().len().unwrap(), 100 - held);
}

#[test]
fn a_cache_for_reading_only_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let absent = FanoutCache::open_read_only(dir.path(), &options(&clock()));
    assert!(matches!(absent, Err(OpenCacheError::Store(OpenError::Absent { .. }))), "{absent:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    filled(dir.path());
    let cache = open(dir.path(), 4);
    cache.cache("sub").unwrap().set("key", b"value").unwrap();
    cache.deque("recent").unwrap().push_back(&b"first".to_vec()).unwrap();
    cache.index("prices").unwrap().insert(&"orders".to_owned(), &b"3".to_vec()).unwrap();
    drop(cache);
    let cache = FanoutCache::open_read_only(dir.path(), &options(&clock())).unwrap();
    assert_eq!((cache.len().unwrap(), cache.shards().len()), (100, 4));
    assert_eq!(cache.get(&7).unwrap().unwrap(), b"value");
    assert_eq!(cache.cache("sub").unwrap().get("key").unwrap().unwrap(), b"value");
    let deque = cache.deque::<Vec<u8>>("recent").unwrap();
    assert_eq!(deque.front().unwrap().unwrap(), b"first");
    let refused = deque.push_back(&Vec::new());
    assert!(matches!(refused, Err(CollectionError::Store(StoreError::ReadOnly { .. }))), "{refused:?}");
    assert_eq!(cache.index::<String, Vec<u8>>("prices").unwrap().get(&"orders".into()).unwrap().unwrap(), b"3");
    assert!(matches!(cache.index::<String, Vec<u8>>("other"), Err(OpenError::Absent { .. })));
    assert_eq!(cache.check(false).unwrap(), []);
    for refused in [cache.set(&7, b"other"), cache.check(true).map(drop)] {
        assert!(matches!(refused, Err(CacheError::Store(StoreError::ReadOnly { .. }))), "{refused:?}");
    }
}

#[test]
fn a_plain_cache_and_one_in_shards_do_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, sharded) = (dir.path().join("plain"), dir.path().join("sharded"));
    options(&clock()).open(&plain).unwrap().set("key", b"value").unwrap();
    filled(&sharded);
    let refused = FanoutCache::open_with(&plain, Some(2), &options(&clock()));
    assert!(matches!(refused, Err(OpenCacheError::InOneStore { .. })), "{refused:?}");
    assert!(!plain.join("fanout.json").exists());
    assert_eq!(options(&clock()).open(&plain).unwrap().get("key").unwrap().unwrap(), b"value");
    for lost in [false, true] {
        if lost {
            fs::remove_file(sharded.join("fanout.json")).unwrap();
        }
        for refused in [options(&clock()).open(&sharded), options(&clock()).open_read_only(&sharded)] {
            assert!(matches!(refused, Err(OpenCacheError::InShards { .. })), "{refused:?}");
        }
    }
    assert!(!sharded.join(DATA).exists());
}

#[test]
fn links_below_the_directory_are_not_followed() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (parent.path().join("cache"), parent.path().join("elsewhere"));
    filled(&dir);
    fs::create_dir(&elsewhere).unwrap();
    let linked = |place: &str| {
        let place = dir.join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(&elsewhere, &place).unwrap();
        place
    };
    let is_link = |refused: Result<(), OpenError>, link: &Path| {
        assert!(matches!(&refused, Err(OpenError::Link { path }) if path.ends_with(link)), "{refused:?}");
    };
    let (sub, deques) = (linked("cache/name"), linked("deque"));
    let cache = open_existing(&dir).unwrap();
    match cache.cache("name") {
        Err(OpenCacheError::Store(error)) => is_link(Err(error), &sub),
        other => panic!("{other:?}"),
    }
    is_link(cache.deque::<Vec<u8>>("name").map(drop), &deques);
    drop(cache);
    fs::rename(dir.join("001"), parent.path().join("001")).unwrap();
    symlink(parent.path().join("001"), dir.join("001")).unwrap();
    for refused in [
        open_existing(&dir).map(drop),
        repair(&dir, None).map(drop),
        FanoutCache::open_read_only(&dir, &options(&clock())).map(drop),
    ] {
        let Err(OpenCacheError::Store(error)) = refused else { panic!("{refused:?}") };
        is_link(Err(error), &dir.join("001"));
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

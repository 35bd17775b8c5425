//! Tests of cache roots: races, damage, refusals.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::thread;

use alluvium_disk_kv_cache::Eviction;

use super::*;
use crate::{KvKey, KvTag};

fn open(path: &Path) -> Result<CacheRoot, RootError> {
    CacheRoot::open(path, &Seam::system())
}

fn put(root: &CacheRoot, kind: KvKind, table: &'static str, value: &[u8]) {
    root.kv(kind).unwrap().write::<_, StoreError>(|txn| txn.put(table, b"k", value)).unwrap();
}

fn get(root: &CacheRoot, kind: KvKind, table: &'static str) -> Option<Vec<u8>> {
    root.kv(kind).unwrap().read::<_, StoreError>(|txn| Ok(txn.get(table, b"k")?.map(<[u8]>::to_vec))).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_root_keeps_its_identity_and_its_stores() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/root");
    let root = open(&path).unwrap();
    for kind in KvKind::ALL {
        for &table in kind.tables() {
            put(&root, kind, table, table.as_bytes());
        }
    }
    let id = root.id();
    assert_eq!(root.view_cache(), path.join("view_cache"));
    assert_eq!(root.ledgers(), path.join("cache_ledgers"));
    drop(root);

    let root = open(&path).unwrap();
    assert_eq!(root.id(), id);
    for kind in KvKind::ALL {
        for &table in kind.tables() {
            assert_eq!(get(&root, kind, table).unwrap(), table.as_bytes());
        }
    }
    assert_eq!(root.notices(), [""; 0]);
    assert_eq!(names(&path), ["kv", "root.json"]);
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(path.join("root.json")).unwrap()).unwrap();
    assert!(json.as_object_mut().unwrap().remove("checksum").unwrap().as_str().unwrap().starts_with("b3:"));
    assert_eq!(json, serde_json::json!({ "id": id, "format_version": 2 }));
}

#[test]
fn no_bit_of_the_root_file_flips_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    let kv_root = dir.path().join("elsewhere");
    let settings = KvSettings::default().with_root(&kv_root);
    let root = CacheRoot::open_with(&dir.path().join("root"), settings, &Seam::system()).unwrap();
    let file = root.path().join("root.json");
    let whole = fs::read(&file).unwrap();
    assert!(matches!(RootFile::read(root.path()).unwrap(), RootFile::Is(_)));
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &flipped).unwrap();
        let found = RootFile::read(root.path()).unwrap();
        assert!(matches!(found, RootFile::Damaged(_)), "bit {bit}: {}", String::from_utf8_lossy(&flipped));
    }
}

#[test]
fn a_root_file_from_before_checksums_is_read_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let id = open(dir.path()).unwrap().id();
    let file = dir.path().join("root.json");
    let unsealed = format!(r#"{{"id":"{id}","format_version":1}}"#);
    fs::write(&file, &unsealed).unwrap();
    let root = open(dir.path()).unwrap();
    assert_eq!((root.id(), root.notices().len()), (id, 0));
    assert_eq!(fs::read_to_string(&file).unwrap(), unsealed);
}

#[test]
fn whoever_comes_first_names_the_root() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let barrier = Barrier::new(8);
        let ids: BTreeSet<RootId> = thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let root = open(dir.path()).unwrap();
                        root.kv(KvKind::Index).unwrap();
                        root.id()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(ids.len(), 1);
    }
}

#[test]
fn a_damaged_or_missing_root_file_is_rebuilt_with_the_id_of_the_stores() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(dir.path()).unwrap();
    let id = root.id();
    put(&root, KvKind::Queue, "outbox", b"kept");
    drop(root);
    let file = dir.path().join("root.json");
    for (n, damage) in
        ["", "{", "[]", "{}", r#"{"format_version":1,"id":"x"}"#, r#"{"format_version":0}"#].into_iter().enumerate()
    {
        fs::write(&file, damage).unwrap();
        // Readers see through it and change nothing.
        let seen = CacheRoot::open_existing(dir.path()).unwrap().unwrap();
        assert_eq!((seen.id(), seen.notices().len()), (id, 1));
        assert_eq!(fs::read_to_string(&file).unwrap(), damage);
        drop(seen);

        let root = open(dir.path()).unwrap();
        assert_eq!(root.id(), id, "{damage}");
        assert_eq!(get(&root, KvKind::Queue, "outbox").unwrap(), b"kept");
        let aside = dir.path().join(format!("root.json.damaged-{}", n + 1));
        assert_eq!(fs::read_to_string(&aside).unwrap(), damage);
        let notices = root.notices();
        assert!(notices.len() == 1 && notices[0].contains(aside.to_str().unwrap()), "{notices:?}");
        assert!(open(dir.path()).unwrap().notices().is_empty());
    }

    fs::remove_file(&file).unwrap();
    let root = open(dir.path()).unwrap();
    assert_eq!((root.id(), root.notices().len()), (id, 1));
}

#[test]
fn a_damaged_root_file_without_stores_gets_a_new_id() {
    let dir = tempfile::tempdir().unwrap();
    let id = open(dir.path()).unwrap().id();
    fs::write(dir.path().join("root.json"), "?").unwrap();
    let error = CacheRoot::open_existing(dir.path()).unwrap_err();
    assert!(matches!(error, RootError::Damaged { .. }), "{error}");
    let root = open(dir.path()).unwrap();
    assert_ne!(root.id(), id);
    assert_eq!(root.notices().len(), 1);
}

#[test]
fn a_damaged_store_is_set_aside_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let kv = dir.path().join("kv");
    for n in 1..3 {
        let root = open(dir.path()).unwrap();
        put(&root, KvKind::Index, "entries", b"lost");
        put(&root, KvKind::Queue, "outbox", b"kept");
        drop(root);
        fs::write(kv.join("index/data.mdb"), [0x55; 20_000]).unwrap();

        // A reader reports it and leaves it alone.
        let reader = CacheRoot::open_existing(dir.path()).unwrap().unwrap();
        assert!(matches!(reader.kv(KvKind::Index), Err(RootError::KvOpen { kind: KvKind::Index, .. })));
        drop(reader);

        let root = open(dir.path()).unwrap();
        assert_eq!(root.notices(), [""; 0]);
        assert_eq!(get(&root, KvKind::Index, "entries"), None);
        assert_eq!(get(&root, KvKind::Queue, "outbox").unwrap(), b"kept");
        let aside = kv.join(format!("index.damaged-{n}"));
        assert_eq!(fs::read(aside.join("data.mdb")).unwrap(), [0x55; 20_000]);
        let notices = root.notices();
        assert!(notices.len() == 1 && notices[0].contains(aside.to_str().unwrap()), "{notices:?}");
        // The new one is bound again.
        let (id, bound) = (root.id(), bound_to(root.kv(KvKind::Index).unwrap()).unwrap().unwrap());
        assert_eq!(bound, id.to_string().as_bytes());
    }
}

#[test]
fn many_that_meet_the_same_damage_replace_it_once() {
    // Again and again, because the window in which two of them could both replace it is small.
    for _ in 0..25 {
        let dir = tempfile::tempdir().unwrap();
        let root = open(dir.path()).unwrap();
        put(&root, KvKind::Index, "entries", b"lost");
        drop(root);
        fs::write(dir.path().join("kv/index/data.mdb"), [0x55; 20_000]).unwrap();
        let barrier = Barrier::new(6);
        let replaced: usize = thread::scope(|scope| {
            let racers: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        let root = open(dir.path()).unwrap();
                        barrier.wait();
                        root.kv(KvKind::Index).unwrap();
                        root.notices().len()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(replaced, 1);
        assert_eq!(names(&dir.path().join("kv")), ["index", "index.damaged-1"]);
    }
}

#[test]
fn a_store_of_another_root_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let root = open(&a).unwrap();
    root.kv(KvKind::Index).unwrap();
    let (id_a, id_b) = (root.id(), open(&b).unwrap().id());
    drop(root);
    fs::rename(a.join("kv"), b.join("kv")).unwrap();
    for root in [open(&b).unwrap(), CacheRoot::open_existing(&b).unwrap().unwrap()] {
        let error = root.kv(KvKind::Index).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RootError::ForeignKv { kind: KvKind::Index, .. }), "{text}");
        assert!(text.contains(&id_a.to_string()) && text.contains(&id_b.to_string()), "{text}");
    }
    assert_eq!(names(&b.join("kv")), ["index"]);
}

#[test]
fn reading_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(CacheRoot::open_existing(&dir.path().join("absent")).unwrap().is_none());
    assert!(CacheRoot::open_existing(dir.path()).unwrap().is_none());
    assert_eq!(names(dir.path()), [""; 0]);

    open(dir.path()).unwrap();
    let root = CacheRoot::open_existing(dir.path()).unwrap().unwrap();
    assert!(matches!(root.kv(KvKind::Index), Err(RootError::KvAbsent { kind: KvKind::Index, .. })));
    assert_eq!(names(dir.path()), ["root.json"]);
    drop(root);

    put(&open(dir.path()).unwrap(), KvKind::Index, "entries", b"v");
    let root = CacheRoot::open_existing(dir.path()).unwrap().unwrap();
    assert_eq!(get(&root, KvKind::Index, "entries").unwrap(), b"v");
    let refused = root.kv(KvKind::Index).unwrap().write::<_, StoreError>(|txn| txn.put("entries", b"k", b"w"));
    assert!(matches!(refused, Err(StoreError::ReadOnly { .. })));
}

#[test]
fn what_is_in_the_way_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&path).unwrap_err();
        assert!(matches!(&error, RootError::NotADirectory { path: named } if *named == path), "{error}");
        let error = CacheRoot::open_existing(&path).unwrap_err();
        assert!(matches!(error, RootError::NotADirectory { .. }), "{error}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    for name in ["feature%2Fx", "a\\b"] {
        let error = open(&dir.path().join(name).join("root")).unwrap_err();
        assert!(matches!(&error, RootError::Unaddressable { .. }), "{error}");
        assert!(!dir.path().join(name).exists());
    }

    let newer = dir.path().join("newer");
    fs::create_dir(&newer).unwrap();
    fs::write(newer.join("root.json"), r#"{"format_version": 3, "something": "else"}"#).unwrap();
    for error in [open(&newer).unwrap_err(), CacheRoot::open_existing(&newer).unwrap_err()] {
        assert!(matches!(error, RootError::NewerFormat { found: 3, supported: 2, .. }), "{error}");
    }
    assert_eq!(names(&newer), ["root.json"]);
}

#[test]
fn no_permission_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    if File::create(closed.join("probe")).is_ok() {
        return; // permissions do not bind the superuser; `errors_of_the_system_are_sorted` covers the mapping
    }
    for path in [closed.clone(), closed.join("below")] {
        let error = open(&path).unwrap_err();
        assert!(matches!(&error, RootError::NotWritable { path: named, .. } if *named == path), "{error}");
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    open(&closed).unwrap();
    fs::set_permissions(closed.join("root.json"), fs::Permissions::from_mode(0o0)).unwrap();
    let error = open(&closed).unwrap_err();
    assert!(matches!(error, RootError::Unreadable { .. }), "{error}");
}

#[test]
fn errors_of_the_system_are_sorted() {
    let sorted = |kind: io::ErrorKind| RootError::io(Path::new("r"), "write", Path::new("r/f"), kind.into());
    assert!(matches!(sorted(io::ErrorKind::PermissionDenied), RootError::NotWritable { .. }));
    assert!(matches!(sorted(io::ErrorKind::ReadOnlyFilesystem), RootError::NotWritable { .. }));
    assert!(matches!(sorted(io::ErrorKind::StorageFull), RootError::NoSpace { .. }));
    assert!(matches!(sorted(io::ErrorKind::NotADirectory), RootError::NotADirectory { .. }));
    assert!(matches!(sorted(io::ErrorKind::Other), RootError::Io { .. }));

    let unread = |kind: io::ErrorKind| RootFile::unread(Path::new("r"), "r/root.json".into(), kind.into());
    assert_eq!(unread(io::ErrorKind::NotFound).unwrap(), RootFile::Absent);
    assert!(matches!(unread(io::ErrorKind::IsADirectory), Ok(RootFile::Damaged(_))));
    assert!(matches!(unread(io::ErrorKind::PermissionDenied), Err(RootError::Unreadable { .. })));
    assert!(matches!(unread(io::ErrorKind::NotADirectory), Err(RootError::NotADirectory { .. })));
}

#[test]
fn a_cache_keeps_what_its_kind_says() {
    let dir = tempfile::tempdir().unwrap();
    let kv = KvSettings::default().with_kind(KvKind::Plan, |plan| {
        plan.ttl = Some(std::time::Duration::ZERO);
        plan.size_limit_bytes = 4096;
        plan.cull_limit = 3;
        plan.eviction = Eviction::LeastRecentlyUsed;
        plan.statistics = false;
        plan.shards = 2;
    });
    let root = CacheRoot::open_with(dir.path(), kv, &Seam::system()).unwrap();
    let key = KvKey::repo_scan("/r", "");
    let tag = KvTag::repo("r");
    let plan = root.cache(KvKind::Plan).unwrap();
    // Each shard has its part of the limit.
    let settings = plan.inner().shards()[1].settings().unwrap();
    assert_eq!((settings.size_limit_bytes(), settings.cull_limit()), (2048, 3));
    assert_eq!((settings.eviction(), settings.statistics()), (Eviction::LeastRecentlyUsed, false));
    assert_eq!(plan.inner().shards().len(), 2);
    plan.set(&key, b"gone at once", &[]).unwrap();
    assert_eq!(plan.get(&key).unwrap(), None);

    let scans = root.cache(KvKind::RepoScan).unwrap();
    scans.set(&key, b"there", std::slice::from_ref(&tag)).unwrap();
    assert_eq!(scans.get(&key).unwrap().as_deref(), Some(&b"there"[..]));
    assert_eq!(root.cache(KvKind::Extract).unwrap().inner().shards().len(), 8);
    assert_eq!(scans.evict(&tag).unwrap(), 1);
    assert_eq!(scans.get(&key).unwrap(), None);

    for kind in KvKind::ALL {
        match root.cache(kind) {
            Ok(cache) => assert!(kind.is_cache() && cache.kind() == kind),
            Err(error) => assert!(matches!(error, RootError::NotACache { .. }) && !kind.is_cache(), "{error}"),
        }
    }
    drop(root);
    // A cache keeps the shards it was made with; what another number would hide is an error that says so.
    let root = open(dir.path()).unwrap();
    let error = root.cache(KvKind::Plan).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(matches!(error, RootError::KvCache { kind: KvKind::Plan, .. }) && source.contains("2 shards"), "{source}");
}

#[test]
fn a_cache_that_lost_a_part_of_itself_is_mended_and_told() {
    let harms: [fn(&Path); 3] = [
        |cache| fs::remove_dir_all(cache.join("000")).unwrap(),
        |cache| fs::remove_file(cache.join("fanout.json")).unwrap(),
        |cache| fs::write(cache.join("fanout.json"), "{").unwrap(),
    ];
    let key = KvKey::repo_scan("a", "b");
    for harm in harms {
        let dir = tempfile::tempdir().unwrap();
        let root = open(dir.path()).unwrap();
        root.cache(KvKind::RepoScan).unwrap().set(&key, b"lost, or not", &[]).unwrap();
        drop(root);
        harm(&dir.path().join("kv/repo_scan"));
        let root = open(dir.path()).unwrap();
        let cache = root.cache(KvKind::RepoScan).unwrap();
        assert!(cache.get(&key).unwrap().is_none_or(|value| value == b"lost, or not"));
        cache.set(&key, b"there", &[]).unwrap();
        let [notice] = root.notices().try_into().unwrap();
        assert!(notice.contains("repo_scan cache"), "{notice}");
        drop(root);
        let root = open(dir.path()).unwrap();
        assert_eq!(root.cache(KvKind::RepoScan).unwrap().get(&key).unwrap().as_deref(), Some(&b"there"[..]));
        assert_eq!(root.notices(), [""; 0]);
    }
}

#[test]
fn the_stores_lie_where_the_root_says_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (dir.path().join("root"), dir.path().join("elsewhere/kv"));
    let kv = || KvSettings::default().with_root(&elsewhere);
    let root = CacheRoot::open_with(&path, kv(), &Seam::system()).unwrap();
    put(&root, KvKind::Index, "entries", b"x");
    let id = root.id();
    drop(root);
    assert!(elsewhere.join("index").is_dir() && !path.join("kv").exists());

    // Two key-value roots would not see each other's leases.
    for wrong in [KvSettings::default(), KvSettings::default().with_root(dir.path().join("third"))] {
        let error = CacheRoot::open_with(&path, wrong, &Seam::system()).unwrap_err();
        assert!(matches!(error, RootError::OtherKvRoot { .. }), "{error}");
        assert!(error.to_string().contains("elsewhere/kv"), "{error}");
    }
    // Whoever only reads follows.
    let reader = CacheRoot::open_existing(&path).unwrap().unwrap();
    assert_eq!(get(&reader, KvKind::Index, "entries").as_deref(), Some(&b"x"[..]));
    drop(reader);
    // A lost root.json is made again from the stores that are named.
    fs::remove_file(path.join("root.json")).unwrap();
    let root = CacheRoot::open_with(&path, kv(), &Seam::system()).unwrap();
    assert_eq!(root.id(), id);
    // `kv` in the root, spelled out, is the default.
    let plain = dir.path().join("plain");
    drop(open(&plain).unwrap());
    CacheRoot::open_with(&plain, KvSettings::default().with_root(plain.join("kv")), &Seam::system()).unwrap();
}

#[test]
fn stats_say_what_each_kind_holds() {
    let dir = tempfile::tempdir().unwrap();
    let seam = Seam::system();
    let root = open(dir.path()).unwrap();
    assert_eq!(root.kv_stats(&seam).unwrap(), []);
    put(&root, KvKind::Index, "entries", b"value");
    let plan = root.cache(KvKind::Plan).unwrap();
    let key = KvKey::repo_scan("/r", "");
    plan.set(&key, &[7; 1000], &[]).unwrap();
    plan.get(&key).unwrap();
    plan.get(&KvKey::repo_scan("/other", "")).unwrap();

    let check = |stats: &[KvStats]| {
        let kinds: Vec<_> = stats.iter().map(|stats| stats.kind.as_str()).collect();
        assert_eq!(kinds, ["index", "plan"]);
        let (index, plan) = (&stats[0], &stats[1]);
        assert_eq!((index.entry_count, index.volume_bytes), (1, 6), "one key of one byte, and `value`");
        assert_eq!((index.hits, index.cull_limit, index.tag_index), (None, 0, false));
        assert_eq!((plan.entry_count, plan.hits, plan.misses), (1, Some(1), Some(1)));
        assert!(plan.volume_bytes > 1000 && plan.file_bytes > plan.volume_bytes, "{plan:?}");
        assert_eq!((plan.size_limit_bytes, plan.shards, plan.engine.as_str()), (Some(512 << 20), 1, "lmdb"));
    };
    check(&root.kv_stats(&seam).unwrap());
    drop(root);
    let reader = CacheRoot::open_existing(dir.path()).unwrap().unwrap();
    check(&reader.kv_stats(&seam).unwrap());
    assert!(matches!(reader.cache(KvKind::Plan), Err(RootError::ReadOnly { .. })));
}

#[test]
fn processes_meet_in_the_coordination_kind() {
    let dir = tempfile::tempdir().unwrap();
    let root = open(dir.path()).unwrap();
    let averager = root.coordination().unwrap().averager("a");
    averager.add(1.0).unwrap();
    averager.add(3.0).unwrap();
    drop(averager);
    drop(root);
    let root = open(dir.path()).unwrap();
    assert_eq!(root.coordination().unwrap().averager("a").get().unwrap(), Some(2.0));
}

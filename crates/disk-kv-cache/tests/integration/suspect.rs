//! Stores that were not closed well, or changed since: examined before anything in them is served, and set aside if damaged.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use alluvium_disk_kv_cache::{
    CacheOptions, CacheSettings, Damage, Durability, EngineKind, Key, OnDamage, OpenError, Order, SetOptions, Settings,
    Store, StoreError,
};

use crate::child::{self, TABLES, increment, say};
use crate::conformance::{open, settings};
use crate::random::Random;

const ENTRIES: u32 = 600;

fn data(engine: EngineKind, dir: &Path) -> PathBuf {
    dir.join(if engine == EngineKind::Lmdb { "data.mdb" } else { "sled/db" })
}

fn value(n: u32) -> Vec<u8> {
    vec![n as u8; if n.is_multiple_of(50) { 9_000 } else { 90 }]
}

/// A closed store of some hundred entries, some of them on pages of their own, and a free list.
fn fill(engine: EngineKind, dir: &Path) {
    let store = open(engine, dir);
    for _ in 0..2 {
        for some in (0..ENTRIES).collect::<Vec<_>>().chunks(100) {
            let put =
                |n: &u32, txn: &mut alluvium_disk_kv_cache::WriteTxn<'_>| txn.put("a", &n.to_be_bytes(), &value(*n));
            store.write::<_, StoreError>(|txn| some.iter().try_for_each(|n| put(n, txn))).unwrap();
        }
    }
    store.check().unwrap();
}

fn quarantining(engine: EngineKind) -> Settings {
    settings(engine).with_on_damage(OnDamage::Quarantine)
}

/// The mark is replaced whenever a store is examined, or closed after a change.
fn mark(dir: &Path) -> u64 {
    fs::metadata(dir.join("closed")).unwrap().ino()
}

fn engines() -> impl Iterator<Item = EngineKind> {
    [EngineKind::Lmdb, EngineKind::Sled].into_iter().filter(|engine| engine.is_built())
}

#[cfg(feature = "lmdb")]
#[test]
fn only_what_is_suspect_is_examined() {
    let lmdb = EngineKind::Lmdb;
    for (durability, examined_after_boot) in [(Durability::Process, true), (Durability::System, false)] {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(lmdb).with_durability(durability);
        increment(&Store::open(dir.path(), TABLES, settings.clone()).unwrap(), b"sum").unwrap();
        let reopened = || {
            let before = mark(dir.path());
            // Kept, so that its inode is not used again at once.
            fs::hard_link(dir.path().join("closed"), dir.path().join("kept")).unwrap();
            let store = Store::open(dir.path(), TABLES, settings.clone()).unwrap();
            let examined = mark(dir.path()) != before;
            assert_eq!(store.read::<_, StoreError>(|txn| txn.len("a")).unwrap(), 1);
            drop(store);
            fs::remove_file(dir.path().join("kept")).unwrap();
            examined
        };
        assert!(!reopened(), "closed well");
        fs::File::options()
            .write(true)
            .open(data(lmdb, dir.path()))
            .unwrap()
            .set_modified(std::time::UNIX_EPOCH)
            .unwrap();
        assert!(reopened(), "touched");
        assert!(!reopened());
        // Marked by an opening that did not sync; a change and a closing mark it anew.
        increment(&Store::open(dir.path(), TABLES, settings.clone()).unwrap(), b"sum").unwrap();
        let file = dir.path().join("closed");
        let text = fs::read_to_string(&file).unwrap();
        let booted = text.lines().map(|line| if line.starts_with("boot") { "boot before" } else { line });
        fs::write(&file, booted.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        assert_eq!(reopened(), examined_after_boot, "after a boot, {durability:?}");
        fs::remove_file(&file).unwrap();
        drop(Store::open(dir.path(), TABLES, settings.clone()).unwrap());
        assert!(!reopened(), "examined, though it had no mark");
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn damage_deep_inside_is_found_and_set_aside_on_request() {
    let lmdb = EngineKind::Lmdb;
    let dir = tempfile::tempdir().unwrap();
    for n in 1..=2 {
        fill(lmdb, dir.path());
        let file = data(lmdb, dir.path());
        let mut bytes = fs::read(&file).unwrap();
        // Every leaf with some entries, those of old states too, gets the number of another page.
        // In the first meta page.
        let page_bytes = u32::from_ne_bytes(bytes[40..44].try_into().unwrap()) as usize;
        let is_full_leaf = |page: &[u8]| page[10..12] == [2, 0] && page[12] > 40;
        for leaf in bytes.chunks_exact_mut(page_bytes).skip(2).filter(|page| is_full_leaf(page)) {
            leaf[0] ^= 0x40;
        }
        fs::write(&file, &bytes).unwrap();

        let refused = |error| matches!(error, OpenError::Damaged { damage: Damage::Page { .. }, .. });
        assert!(refused(Store::open(dir.path(), TABLES, settings(lmdb)).unwrap_err()));
        assert!(refused(Store::open_read_only(dir.path(), TABLES).unwrap_err()));
        assert_eq!(fs::read(&file).unwrap(), bytes, "left as it was");

        let store = Store::open(dir.path(), TABLES, quarantining(lmdb)).unwrap();
        let recovered = store.recovered().unwrap();
        let aside = dir.path().canonicalize().unwrap().join(format!("quarantine-{n}"));
        assert_eq!(recovered.quarantine, aside);
        assert!(matches!(recovered.damage, Damage::Page { .. }), "{recovered:?}");
        assert_eq!(fs::read(aside.join("data.mdb")).unwrap(), bytes, "kept as it was");
        assert!(store.read(|txn| txn.is_empty("a")).unwrap());
        assert_eq!(increment(&store, b"sum").unwrap(), 1);
        assert!(Store::open(dir.path(), TABLES, quarantining(lmdb)).unwrap().recovered().is_some());
        drop(store);
        assert!(Store::open(dir.path(), TABLES, quarantining(lmdb)).unwrap().recovered().is_none());
    }
}

#[test]
fn a_file_cut_short_is_set_aside_on_request() {
    for engine in engines() {
        let dir = tempfile::tempdir().unwrap();
        fill(engine, dir.path());
        let file = fs::File::options().write(true).open(data(engine, dir.path())).unwrap();
        file.set_len(file.metadata().unwrap().len() / 3).unwrap();
        let refused = Store::open(dir.path(), TABLES, settings(engine)).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{engine}: {refused:?}");
        let store = Store::open(dir.path(), TABLES, quarantining(engine)).unwrap();
        assert!(store.recovered().is_some(), "{engine}");
        assert_eq!(increment(&store, b"sum").unwrap(), 1);
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn what_others_hold_is_not_moved() {
    let lmdb = EngineKind::Lmdb;
    let dir = tempfile::tempdir().unwrap();
    fill(lmdb, dir.path());
    let (mut child, mut lines) = child::start("hold-lmdb", dir.path());
    assert!(lines.any(|line| line.unwrap() == "open"));
    let file = fs::File::options().write(true).open(data(lmdb, dir.path())).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 64], 0).unwrap();
    let refused = Store::open(dir.path(), TABLES, quarantining(lmdb)).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
    assert!(!dir.path().join("quarantine-1").exists());
    assert!(Store::open(dir.path(), TABLES, quarantining(lmdb)).unwrap().recovered().is_some());
}

/// Opens a store whose file was garbled, and uses it. It is either found out, or it is an ordered map that can be read and
/// written; bytes of keys and values are the only ones that may be wrong.
fn use_garbled(engine: EngineKind, dir: &Path, what: &str) -> bool {
    let store = match Store::open(dir, TABLES, quarantining(engine)) {
        Ok(store) => store,
        Err(error) => panic!("{what}: {error:?}"),
    };
    if store.recovered().is_some() {
        return true;
    }
    let checked = store.check().unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let read = store.read::<_, StoreError>(|txn| {
        let mut keys = Vec::new();
        for order in [Order::Ascending, Order::Descending] {
            keys.clear();
            for entry in txn.scan("a", .., order)? {
                let (key, value) = entry?;
                assert_eq!(key.len(), 4, "{what}");
                assert!(matches!(value.len(), 90 | 9_000), "{what}");
                keys.push(key.to_vec());
            }
        }
        Ok(keys)
    });
    let keys = read.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(keys.len(), ENTRIES as usize, "{what}");
    assert_eq!(checked.tables[0].entries, u64::from(ENTRIES), "{what}");
    // Every page of the table is written anew, and pages of the free list are used.
    for (n, keys) in keys.chunks(50).enumerate() {
        let change = |txn: &mut alluvium_disk_kv_cache::WriteTxn<'_>| {
            for key in keys {
                assert!(txn.delete("a", key)?, "{what}");
                txn.put("b", key, &vec![n as u8; if n % 2 == 0 { 300 } else { 12_000 }])?;
            }
            Ok::<_, StoreError>(())
        };
        store.write(change).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    }
    store.check().unwrap_or_else(|error| panic!("{what}: after writing: {error:?}"));
    let moved = store.read::<_, StoreError>(|txn| {
        for (n, keys) in keys.chunks(50).enumerate() {
            for key in keys {
                let right = txn.get("b", key)?.is_some_and(|value| value.iter().all(|byte| *byte == n as u8));
                assert!(right, "{what}: what was written since is another's");
            }
        }
        txn.is_empty("a")
    });
    assert!(moved.unwrap(), "{what}");
    false
}

/// How many garbled stores are tried: more with `ALLUVIUM_KV_GARBLED`.
fn tries(usual: usize) -> usize {
    std::env::var("ALLUVIUM_KV_GARBLED").map_or(usual, |tries| tries.parse().unwrap())
}

/// Another with `ALLUVIUM_KV_SEED`.
fn seed() -> u64 {
    std::env::var("ALLUVIUM_KV_SEED").map_or(0x5EED, |seed| seed.parse().unwrap())
}

/// Changes bytes of a file: those that say what a page is more often than others.
fn garble(bytes: &mut Vec<u8>, used: usize, random: &mut Random) -> String {
    const PAGE: usize = 4096;
    let page = random.below(used / PAGE) * PAGE;
    let mut what = String::new();
    let mut flip = |at: usize, random: &mut Random| {
        let bit = random.below(8);
        bytes[at] ^= 1 << bit;
        what += &format!("bit {bit} of byte {}+{}, ", at / PAGE * PAGE, at % PAGE);
    };
    match random.below(8) {
        0 => flip(random.below(used), random),
        // The head of a page and the offsets of its nodes.
        1 | 2 => flip(page + random.below(16), random),
        3 => flip(page + random.below(100), random),
        // A meta page.
        4 => flip(random.below(2) * PAGE + 16 + random.below(136), random),
        5 => (0..1 + random.below(4)).for_each(|_| flip(page + random.below(PAGE.min(used - page)), random)),
        6 => {
            let garbage = [0, 0xFF, 0x55][random.below(3)];
            bytes[page..(page + PAGE).min(used)].fill(garbage);
            what = format!("{garbage} from byte {page}");
        }
        _ => {
            bytes.truncate(random.below(used));
            what = format!("cut off after {} bytes", bytes.len());
        }
    }
    what
}

/// The bytes of a closed store's data file, and how many of them are used: what lies behind the last page is never read.
fn sound(engine: EngineKind, dir: &Path) -> (Vec<u8>, usize) {
    let bytes = fs::read(data(engine, dir)).unwrap();
    let used = bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count();
    (bytes, used)
}

/// In a process of its own, which may come to harm: uses garbled copies of a store, and says which it is about to use.
pub fn garbled(engine: EngineKind, origin: &Path) {
    let usual = if engine == EngineKind::Lmdb { 200 } else { 25 };
    let (times, seed) = (tries(usual), seed());
    let (sound, used) = sound(engine, origin);
    let mut random = Random(seed);
    let mut found = 0;
    for n in 0..times {
        let dir = tempfile::tempdir().unwrap();
        copy(origin, dir.path());
        let mut bytes = sound.clone();
        let what = garble(&mut bytes, used, &mut random);
        fs::write(data(engine, dir.path()), bytes).unwrap();
        let what = format!("{engine}, seed {seed}, try {n}: {what}");
        say(&what);
        found += usize::from(use_garbled(engine, dir.path(), &what));
    }
    assert!(found > times / 10, "{found} of {times} were found out");
}

fn cached(n: u32) -> Vec<u8> {
    (0..=n.pow(2)).map(|byte| (byte * 7 + n) as u8).collect()
}

fn cache_options() -> CacheOptions {
    let store = settings(EngineKind::Lmdb).with_on_damage(OnDamage::Quarantine);
    CacheOptions::new().with_store(store)
}

const CACHED: u32 = 90;

fn fill_cache(dir: &Path) {
    let settings = CacheSettings::new().with_min_file_size_bytes(6_000);
    let cache = cache_options().with_settings(settings).open(dir).unwrap();
    for n in (0..CACHED).chain(10..40) {
        let options = SetOptions::new().with_ttl(std::time::Duration::from_secs(10_000)).with_tag(format!("{}", n % 3));
        cache.set_with(&n, &cached(n), &options).unwrap();
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn rows_of_an_index_that_lead_to_each_others_entries_are_mended_at_once() {
    let dir = tempfile::tempdir().unwrap();
    fill_cache(dir.path());
    let store = Store::open(dir.path(), &["cache_expiry"], settings(EngineKind::Lmdb)).unwrap();
    let swap = |txn: &mut alluvium_disk_kv_cache::WriteTxn<'_>| {
        let rows = txn.scan("cache_expiry", .., Order::Ascending)?.take(2);
        let rows: Vec<_> =
            rows.map(|row| row.map(|(at, key)| (at.to_vec(), key.to_vec()))).collect::<Result<_, _>>()?;
        txn.put("cache_expiry", &rows[0].0, &rows[1].1)?;
        txn.put("cache_expiry", &rows[1].0, &rows[0].1)
    };
    store.write::<_, StoreError>(swap).unwrap();
    drop(store);
    let cache = cache_options().open(dir.path()).unwrap();
    assert_eq!(cache.check(true).unwrap().len(), 4);
    assert_eq!(cache.check(false).unwrap(), []);
}

/// As [`garbled`], with a cache: what it gives is what was stored, or a miss, or damage.
pub fn garbled_cache(origin: &Path) {
    let lmdb = EngineKind::Lmdb;
    let (times, seed) = (tries(60), seed());
    let (sound, used) = sound(lmdb, origin);
    let mut random = Random(seed);
    let (mut wrong, mut lost) = (0, 0);
    for n in 0..times {
        let dir = tempfile::tempdir().unwrap();
        copy(origin, dir.path());
        let what = if random.below(4) == 0 {
            let files: Vec<_> =
                fs::read_dir(dir.path().join("values")).unwrap().map(|file| file.unwrap().path()).collect();
            let mut bytes = fs::read(&files[0]).unwrap();
            let used = bytes.len();
            let what = garble(&mut bytes, used, &mut Random(seed + n as u64));
            fs::write(&files[0], bytes).unwrap();
            format!("a value's file: {what}")
        } else {
            let mut bytes = sound.clone();
            let what = garble(&mut bytes, used, &mut random);
            fs::write(data(lmdb, dir.path()), bytes).unwrap();
            what
        };
        let what = format!("cache, seed {seed}, try {n}: {what}");
        say(&what);
        let cache = cache_options().open(dir.path()).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        for n in 0..CACHED {
            match cache.get(&n) {
                Ok(Some(value)) => assert!(value == cached(n), "{what}: wrong bytes for {n}"),
                Ok(None) => lost += 1,
                Err(error) => {
                    assert!(error.is_damage(), "{what}: {error:?}");
                    wrong += 1;
                }
            }
        }
        for item in cache.items(Order::Ascending) {
            match item {
                Ok((key, item)) => {
                    let n = (0..CACHED).find(|n| n.to_key() == key).unwrap_or_else(|| panic!("{what}: {key:?}"));
                    assert!(item.value == cached(n), "{what}: wrong bytes for {n}");
                }
                Err(error) => assert!(error.is_damage(), "{what}: {error:?}"),
            }
        }
        cache.check(true).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(cache.check(false).unwrap(), [], "{what}");
        for n in 0..CACHED {
            cache.set(&n, &cached(n + 1)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert!(cache.get(&n).unwrap().is_some_and(|value| value == cached(n + 1)), "{what}");
        }
        assert_eq!(cache.check(false).unwrap(), [], "{what}");
    }
    assert!(wrong > times / 10 && lost > times, "{wrong} damaged, {lost} lost in {times} tries");
}

/// Runs a role on a closed store, and tells what it was at when it came to harm.
fn unharmed(role: &str, dir: &Path) {
    let (mut child, lines) = child::start(role, dir);
    let last = lines.map_while(Result::ok).filter(|line| line.contains("seed")).last();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}, after {last:?}");
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else if !entry.file_name().to_string_lossy().starts_with("holders") {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn a_garbled_file_of_lmdb_never_harms_the_process() {
    let dir = tempfile::tempdir().unwrap();
    fill(EngineKind::Lmdb, dir.path());
    unharmed("garbled-lmdb", dir.path());
}

#[cfg(feature = "lmdb")]
#[test]
fn a_garbled_cache_gives_what_was_stored_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill_cache(dir.path());
    unharmed("garbled-cache", dir.path());
}

#[cfg(feature = "sled")]
#[test]
fn a_garbled_file_of_sled_never_harms_the_process() {
    let dir = tempfile::tempdir().unwrap();
    fill(EngineKind::Sled, dir.path());
    unharmed("garbled-sled", dir.path());
}

#[cfg(feature = "lmdb")]
#[test]
fn a_mark_says_synced_only_as_long_as_everybody_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let settings = |durability| settings(EngineKind::Lmdb).with_durability(durability);
    let is_synced = || fs::read_to_string(dir.path().join("closed")).unwrap().contains("synced");
    increment(&Store::open(dir.path(), TABLES, settings(Durability::System)).unwrap(), b"sum").unwrap();
    assert!(is_synced());
    drop(Store::open_read_only(dir.path(), TABLES).unwrap());
    assert!(is_synced());
    let store = Store::open(dir.path(), TABLES, settings(Durability::Process)).unwrap();
    assert!(!is_synced(), "before the first write");
    increment(&store, b"sum").unwrap();
    drop(store);
    assert!(!is_synced());
    increment(&Store::open(dir.path(), TABLES, settings(Durability::System)).unwrap(), b"sum").unwrap();
    assert!(is_synced());
}

/// What a power cut can leave of a file: its name, or not even that. The mark knows that there was more.
#[test]
#[cfg(feature = "lmdb")]
fn a_store_that_lost_its_data_is_not_taken_for_a_new_one() {
    let lose: [fn(&Path); 2] = [|file| drop(fs::File::create(file).unwrap()), |file| fs::remove_file(file).unwrap()];
    for lose in lose {
        for durability in [Durability::Process, Durability::System] {
            let dir = tempfile::tempdir().unwrap();
            let with = |on_damage| Settings::new().with_durability(durability).with_on_damage(on_damage);
            let store = Store::open(dir.path(), TABLES, with(OnDamage::Refuse)).unwrap();
            store.write::<_, StoreError>(|txn| txn.put(TABLES[0], b"k", b"v")).unwrap();
            drop(store);
            lose(&data(EngineKind::Lmdb, dir.path()));
            for _ in 0..2 {
                let refused = Store::open(dir.path(), TABLES, with(OnDamage::Refuse));
                let lost = matches!(refused, Err(OpenError::Damaged { damage: Damage::Lost { found: 0, .. }, .. }));
                assert!(lost, "{refused:?}");
            }
            let begun = Store::open(dir.path(), TABLES, with(OnDamage::Quarantine)).unwrap();
            assert!(begun.recovered().is_some());
            begun.write::<_, StoreError>(|txn| txn.put(TABLES[0], b"k", b"w")).unwrap();
            drop(begun);
            Store::open(dir.path(), TABLES, with(OnDamage::Refuse)).unwrap();
        }
    }
}

/// A pipe waits for whoever opens the other end; nobody does.
#[test]
#[cfg(feature = "lmdb")]
fn pipes_in_the_place_of_our_own_files_are_not_waited_for() {
    let pipe = |path: PathBuf| {
        let _ = fs::remove_file(&path);
        let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: a path that ends with a NUL.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    };
    for name in ["closed", "writers-process"] {
        let dir = tempfile::tempdir().unwrap();
        drop(CacheOptions::new().open(dir.path()).unwrap());
        pipe(dir.path().join(name));
        // Refused or not: it answers.
        let _ = CacheOptions::new().open(dir.path());
    }
    let dir = tempfile::tempdir().unwrap();
    pipe(dir.path().join("fanout.json"));
    assert!(alluvium_disk_kv_cache::FanoutCache::open(dir.path()).is_err());
}

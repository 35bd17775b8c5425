//! Stores that were not closed well, or changed since: examined before anything in them is served, and set aside if damaged.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use alluvium_disk_kv_cache::{Damage, Durability, EngineKind, OnDamage, OpenError, Order, Settings, Store, StoreError};

use crate::child::{TABLES, increment};
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
    let (mut child, mut lines) = crate::child::start("hold-lmdb", dir.path());
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
        let mut entries = 0;
        for order in [Order::Ascending, Order::Descending] {
            entries = 0;
            for entry in txn.scan("a", .., order)? {
                let (key, value) = entry?;
                assert_eq!(key.len(), 4, "{what}");
                assert!(matches!(value.len(), 90 | 9_000), "{what}");
                entries += 1;
            }
        }
        Ok(entries)
    });
    assert_eq!(read.unwrap_or_else(|error| panic!("{what}: {error:?}")), ENTRIES as usize, "{what}");
    assert_eq!(checked.tables[0].entries, u64::from(ENTRIES), "{what}");
    (0..200_u32).for_each(|n| store.write::<_, StoreError>(|txn| txn.put("b", &n.to_be_bytes(), &[7; 300])).unwrap());
    store.check().unwrap_or_else(|error| panic!("{what}: after writing: {error:?}"));
    false
}

fn garbled(engine: EngineKind, seed: u64, times: usize) {
    let origin = tempfile::tempdir().unwrap();
    fill(engine, origin.path());
    let file = data(engine, origin.path());
    let sound = fs::read(&file).unwrap();
    // What lies behind the last page is never read.
    let used = sound.len() - sound.iter().rev().take_while(|byte| **byte == 0).count();
    let mut random = Random(seed);
    let mut found = 0;
    for n in 0..times {
        let dir = tempfile::tempdir().unwrap();
        let to = data(engine, dir.path());
        copy(origin.path(), dir.path());
        let at = random.below(used);
        let mut bytes = sound.clone();
        let what = match n % 3 {
            0 | 1 => {
                let bit = random.below(8);
                bytes[at] ^= 1 << bit;
                format!("{engine}, seed {seed}, try {n}: bit {bit} of byte {at}")
            }
            _ => {
                let (page, garbage) = (at / 4096 * 4096, [0, 0xFF, 0x55][random.below(3)]);
                bytes[page..(page + 4096).min(used)].fill(garbage);
                format!("{engine}, seed {seed}, try {n}: {garbage} from byte {page}")
            }
        };
        fs::write(&to, bytes).unwrap();
        found += usize::from(use_garbled(engine, dir.path(), &what));
    }
    assert!(found > times / 10, "{found} of {times} were found out");
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
    garbled(EngineKind::Lmdb, 0x5EED, 300);
}

#[cfg(feature = "sled")]
#[test]
fn a_garbled_file_of_sled_never_harms_the_process() {
    garbled(EngineKind::Sled, 0x5EED, 60);
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

//! Files that are not those of a store: an error that says so, and the file is left as it was.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use alluvium_disk_kv_cache::{Clock, Damage, OpenError, Settings, Store, StoreError, SystemClock};

use crate::child::{self, TABLES};

fn store(dir: &Path) {
    let store = Store::open(dir, TABLES, Settings::new()).unwrap();
    for n in 0..200_u32 {
        store.write::<_, StoreError>(|txn| txn.put("a", &n.to_be_bytes(), &[1; 1_000])).unwrap();
    }
}

fn refused(dir: &Path) -> Damage {
    let before = fs::read(dir.join("data.mdb")).ok();
    let write = Store::open(dir, TABLES, Settings::new()).unwrap_err();
    let read = Store::open_read_only(dir, TABLES).unwrap_err();
    assert_eq!(fs::read(dir.join("data.mdb")).ok(), before);
    assert!(write.to_string().contains(&*dir.canonicalize().unwrap().to_string_lossy()), "{write}");
    assert!(write.source().is_some());
    match (write, read) {
        (OpenError::Damaged { damage, .. }, OpenError::Damaged { .. }) => damage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_truncated_file_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let file = dir.path().join("data.mdb");
    for bytes in [150_000, 50_000, 8_192, 8_191, 5_000, 4_096, 100, 1] {
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(bytes).unwrap();
        let damage = refused(dir.path());
        assert!(matches!(damage, Damage::TooShort { .. }), "{bytes}: {damage}");
    }
}

#[test]
fn a_file_of_something_else_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data.mdb");
    for content in [
        b"SQLite format 3\0".repeat(4096),
        b"just a note".to_vec(),
        vec![0; 1 << 20],
        (0..1_u32 << 18).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
    ] {
        fs::write(&file, &content).unwrap();
        let damage = refused(dir.path());
        assert!(matches!(damage, Damage::NotMeta { .. } | Damage::TooShort { .. }), "{damage}");
    }
}

#[test]
fn a_file_with_only_its_header_left_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    let file = dir.path().join("data.mdb");
    let sound = fs::read(&file).unwrap();
    for garbage in [0, 0x55, 0xFF] {
        let mut bytes = sound.clone();
        bytes[8_192..].fill(garbage);
        fs::write(&file, &bytes).unwrap();
        let damage = refused(dir.path());
        assert!(matches!(damage, Damage::Root { .. }), "{garbage}: {damage}");
    }
    fs::write(&file, &sound).unwrap();
    let store = Store::open(dir.path(), TABLES, Settings::new()).unwrap();
    assert_eq!(store.read(|txn| txn.len("a")).unwrap(), 200);
}

#[test]
fn links_and_directories_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    store(&elsewhere);
    for name in ["data.mdb", "lock.mdb"] {
        let hostile = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.join(name), hostile.path().join(name)).unwrap();
        assert!(matches!(refused(hostile.path()), Damage::NotAFile { file } if file.ends_with(name)));
        let odd = tempfile::tempdir().unwrap();
        fs::create_dir(odd.path().join(name)).unwrap();
        let error = Store::open(odd.path(), TABLES, Settings::new()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { damage: Damage::NotAFile { .. }, .. }), "{error:?}");
    }
}

#[test]
fn an_empty_data_file_is_a_store_not_yet_begun() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("data.mdb"), b"").unwrap();
    assert!(matches!(Store::open_read_only(dir.path(), TABLES), Err(OpenError::Absent { .. })));
    store(dir.path());
}

#[test]
fn a_garbled_lock_file_is_made_anew_when_nobody_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    fs::write(dir.path().join("lock.mdb"), vec![0xA5; 10_000]).unwrap();
    let store = Store::open(dir.path(), TABLES, Settings::new()).unwrap();
    assert_eq!(store.read(|txn| txn.len("a")).unwrap(), 200);
    store.write::<_, StoreError>(|txn| txn.put("a", b"key", b"value")).unwrap();
}

#[test]
fn a_file_that_is_cut_short_while_it_is_open_is_damaged_and_kills_nobody() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path());
    child::run("cut-short", dir.path());
    assert!(matches!(refused(dir.path()), Damage::TooShort { .. }));
}

/// In a process of its own, which would be killed by a look beyond the end of the file.
pub fn cut_short(dir: &Path) {
    let store = Store::open(dir, TABLES, Settings::new()).unwrap();
    let get = |n: u32| store.read::<_, StoreError>(|txn| Ok(txn.get("a", &n.to_be_bytes())?.map(<[u8]>::to_vec)));
    assert_eq!(get(150).unwrap().unwrap(), [1; 1_000]);
    // LMDB's own growth is no such thing.
    store
        .write::<_, StoreError>(|txn| (0..2_000_u32).try_for_each(|n| txn.put("b", &n.to_be_bytes(), &[2; 1_000])))
        .unwrap();
    let file = fs::File::options().write(true).open(dir.join("data.mdb")).unwrap();
    file.set_len(8_192).unwrap();
    let written = store.write::<_, StoreError>(|txn| txn.put("a", b"key", b"value"));
    assert!(
        matches!(written, Err(StoreError::Damaged { damage: Damage::TooShort { bytes: 8_192, .. }, .. })),
        "{written:?}"
    );
    // A read looks ten times a second.
    SystemClock.sleep(Duration::from_millis(250));
    let read = get(150);
    assert!(matches!(read, Err(StoreError::Damaged { damage: Damage::TooShort { .. }, .. })), "{read:?}");
}

//! The map: grown by this process, grown by another, and not further than allowed.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use alluvium_disk_kv_cache::{Settings, Store, StoreError};

use crate::child::{self, TABLES, quick};

const ENTRIES: u32 = 400;

fn fill(store: &Store, table: &str, value: u8) {
    for n in 0..ENTRIES {
        store.write::<_, StoreError>(|txn| txn.put(table, &n.to_be_bytes(), &[value; 5_000])).unwrap();
    }
}

fn filled_with(store: &Store, table: &str, value: u8) -> Result<bool, StoreError> {
    store.read(|txn| {
        for n in 0..ENTRIES {
            if txn.get(table, &n.to_be_bytes())? != Some(&[value; 5_000]) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

#[test]
fn a_full_map_grows_and_the_write_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), TABLES, quick()).unwrap();
    let mut runs = 0;
    store
        .write::<_, StoreError>(|txn| {
            runs += 1;
            assert_eq!(txn.len("a")?, 0, "each run starts over");
            for n in 0..ENTRIES {
                txn.put("a", &n.to_be_bytes(), &[1; 5_000])?;
            }
            Ok(())
        })
        .unwrap();
    assert!(runs > 1);
    assert!(filled_with(&store, "a", 1).unwrap());

    // One value larger than the whole map: it does not take a run for every doubling.
    runs = 0;
    let large = vec![3; 100 << 20];
    store
        .write::<_, StoreError>(|txn| {
            runs += 1;
            txn.put("b", b"large", &large)
        })
        .unwrap();
    assert!(runs <= 2, "{runs}");
    assert!(store.read::<_, StoreError>(|txn| Ok(txn.get("b", b"large")? == Some(&large))).unwrap());
}

#[test]
fn a_write_that_hides_a_full_map_is_not_taken_for_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), TABLES, quick()).unwrap();
    store
        .write::<_, StoreError>(|txn| {
            for n in 0..ENTRIES {
                let _ = txn.put("a", &n.to_be_bytes(), &[1; 5_000]);
            }
            Ok(())
        })
        .unwrap();
    assert!(filled_with(&store, "a", 1).unwrap());
}

#[test]
fn the_map_does_not_outgrow_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let bound = 512 << 10;
    let settings = quick().with_max_map_bytes(bound);
    let store = Store::open(dir.path(), TABLES, settings.clone()).unwrap();
    let put = |n: u32| store.write::<_, StoreError>(|txn| txn.put("a", &n.to_be_bytes(), &[1; 5_000]));
    let full = (0..ENTRIES).find_map(|n| put(n).err().map(|error| (n, error)));
    let Some((stored, StoreError::Full { map_bytes, max_map_bytes, .. })) = full else { panic!("{full:?}") };
    assert_eq!((map_bytes, max_map_bytes), (bound, bound));
    assert_eq!(std::fs::metadata(dir.path().join("data.mdb")).unwrap().len(), bound);
    // Nothing was lost by it, and more room helps.
    assert_eq!(store.read(|txn| txn.len("a")).unwrap(), u64::from(stored));
    drop(store);
    let store = Store::open(dir.path(), TABLES, settings.with_max_map_bytes(4 << 20)).unwrap();
    fill(&store, "a", 1);
}

pub fn grow(dir: &Path) {
    let store = Store::open(dir, TABLES, quick()).unwrap();
    fill(&store, "a", 7);
}

#[test]
fn a_map_that_another_process_has_grown_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = (tempfile::tempdir().unwrap(), dir.path());
    let store = Store::open(writer, TABLES, quick()).unwrap();
    let other = Store::open(reader.path(), TABLES, quick()).unwrap();

    // By a read first, then by a write first.
    child::run("grow", writer);
    assert!(filled_with(&store, "a", 7).unwrap());
    child::run("grow", reader.path());
    other.write::<_, StoreError>(|txn| txn.put("b", b"key", b"value")).unwrap();
    assert!(filled_with(&other, "a", 7).unwrap());

    // And the other way round: the bound of this process does not hold what others have stored.
    fill(&store, "b", 8);
    drop(store);
    let store = Store::open(writer, TABLES, quick().with_max_map_bytes(64 << 10)).unwrap();
    assert!(filled_with(&store, "a", 7).unwrap());
    assert!(filled_with(&store, "b", 8).unwrap());
}

#[test]
fn threads_read_and_write_while_the_map_grows() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), TABLES, quick()).unwrap();
    let (mut grower, _lines) = child::start("grow", dir.path());
    thread::scope(|threads| {
        let store = &store;
        let writer = Arc::new(threads.spawn(move || fill(store, "b", 9)));
        for _ in 0..3 {
            let writer = Arc::clone(&writer);
            threads.spawn(move || {
                let mut seen = 0;
                while !writer.is_finished() {
                    let now = store.read::<_, StoreError>(|txn| {
                        for table in TABLES {
                            if let Some((_, value)) = txn.last(table)? {
                                assert_eq!(value.len(), 5_000);
                            }
                        }
                        Ok(txn.len("a")? + txn.len("b")?)
                    });
                    let now = now.unwrap();
                    assert!(now >= seen);
                    seen = now;
                }
            });
        }
    });
    assert!(grower.wait().unwrap().success());
    assert!(filled_with(&store, "a", 7).unwrap() && filled_with(&store, "b", 9).unwrap());
}

#[test]
fn the_file_is_as_long_as_the_map_but_takes_no_more_than_its_data() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::new().with_initial_map_bytes(64 << 20);
    let _store = Store::open(dir.path(), TABLES, settings).unwrap();
    let file = std::fs::metadata(dir.path().join("data.mdb")).unwrap();
    assert_eq!(file.len(), 64 << 20);
    assert!(file.blocks() * 512 < 1 << 20, "{} blocks", file.blocks());
}

//! Handles: shared, dropped, in conflict, misused.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use alluvium_disk_kv_cache::{
    Clock, Durability, EngineKind, MAX_KEY_BYTES, OnDamage, OpenError, Order, Settings, Store, StoreError, SystemClock,
};

use crate::child::{TABLES, increment, quick};
use crate::conformance::settings;

fn open(dir: &Path) -> Store {
    Store::open(dir, TABLES, quick()).unwrap()
}

#[test]
fn handles_are_shared_between_threads() {
    fn shared<T: Clone + Send + Sync>() {}
    shared::<Store>();
}

#[test]
fn a_second_opening_is_a_handle_to_the_same_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let link = dir.path().with_extension("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let second = open(&link);
    let reader = Store::open_read_only(dir.path(), &["b"]).unwrap();
    fs::remove_file(link).unwrap();
    assert_eq!(store.path(), second.path());
    assert_eq!(store.path(), dir.path().canonicalize().unwrap());
    drop(store);

    second.write::<_, StoreError>(|txn| txn.put("b", b"key", b"value")).unwrap();
    let read = |store: &Store| store.read::<_, StoreError>(|txn| Ok(txn.get("b", b"key")?.map(<[u8]>::to_vec)));
    assert_eq!(read(&reader).unwrap().unwrap(), b"value");
    let refused = reader.write::<_, StoreError>(|txn| txn.put("b", b"key", b"other"));
    assert!(matches!(refused, Err(StoreError::ReadOnly { .. })));
    drop((second, reader));
    assert_eq!(read(&open(dir.path())).unwrap().unwrap(), b"value");
}

#[test]
fn settings_must_agree_while_a_handle_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for other in [
        quick().with_durability(Durability::System),
        quick().with_max_map_bytes(1 << 20),
        quick().with_initial_map_bytes(1 << 20),
        quick().with_allow_network_fs(true),
    ] {
        let error = Store::open(dir.path(), TABLES, other.clone()).unwrap_err();
        assert!(
            matches!(&error, OpenError::SettingsConflict { open, requested, .. }
            if **open == quick() && **requested == other),
            "{error:?}"
        );
    }
    drop(store);
    let reader = Store::open_read_only(dir.path(), TABLES).unwrap();
    assert!(matches!(Store::open(dir.path(), TABLES, quick()), Err(OpenError::OpenForReading { .. })));
    drop(reader);
    Store::open(dir.path(), TABLES, quick().with_durability(Durability::System)).unwrap();
}

#[test]
fn a_directory_that_was_replaced_is_not_mistaken_for_the_open_one() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let store = open(&dir);
    increment(&store, b"sum").unwrap();
    fs::rename(&dir, parent.path().join("aside")).unwrap();
    assert!(matches!(Store::open(&dir, TABLES, quick()), Err(OpenError::Replaced { .. })));
    let moved = open(&parent.path().join("aside"));
    assert!(matches!(increment(&moved, b"sum"), Err(StoreError::Replaced { .. })), "it is open under another name");
    drop((store, moved));
    assert_eq!(increment(&open(&parent.path().join("aside")), b"sum").unwrap(), 2);
    assert_eq!(increment(&open(&dir), b"sum").unwrap(), 1);
}

/// Removes a directory, or puts another in its place, under an open store.
fn a_store_that_is_gone_says_so(engine: EngineKind, take_away: impl Fn(&Path)) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let store = Store::open(&dir, TABLES, settings(engine)).unwrap();
    // The second write finds a directory whose time stamp can be a witness.
    SystemClock.sleep(Duration::from_millis(60));
    increment(&store, b"sum").unwrap();
    increment(&store, b"sum").unwrap();
    take_away(&dir);
    let mark = || fs::read(dir.join("closed")).ok();
    let marked = mark();
    let error = increment(&store, b"sum").unwrap_err();
    assert!(matches!(error, StoreError::Replaced { .. }), "{engine}: {error:?}");
    assert!(error.to_string().contains("open it again"), "{error}");
    // A read may be answered from what is no longer there, for a moment.
    SystemClock.sleep(Duration::from_millis(150));
    let error = store.read::<_, StoreError>(|txn| txn.len("a")).unwrap_err();
    assert!(matches!(error, StoreError::Replaced { .. }), "{engine}: {error:?}");
    drop(store);
    assert_eq!(mark(), marked, "what took its place is not said to be closed");
    let again = Store::open(&dir, TABLES, settings(engine).with_on_damage(OnDamage::Quarantine)).unwrap();
    increment(&again, b"sum").unwrap();
}

#[test]
fn a_store_whose_directory_is_removed_says_so() {
    for engine in [EngineKind::Lmdb, EngineKind::Sled].into_iter().filter(|engine| engine.is_built()) {
        a_store_that_is_gone_says_so(engine, |dir| fs::remove_dir_all(dir).unwrap());
        a_store_that_is_gone_says_so(engine, |dir| {
            let aside = dir.with_extension("aside");
            fs::rename(dir, &aside).unwrap();
            Store::open(dir, TABLES, settings(engine)).map(drop).unwrap_err();
            let other = dir.with_extension("other");
            increment(&Store::open(&other, TABLES, settings(engine)).unwrap(), b"sum").unwrap();
            fs::remove_file(other.join("closed")).unwrap();
            fs::remove_dir_all(dir).ok();
            fs::rename(other, dir).unwrap();
        });
    }
}

#[test]
fn handles_see_the_tables_they_named() {
    let dir = tempfile::tempdir().unwrap();
    let one = Store::open(dir.path(), &["one"], quick()).unwrap();
    let two = Store::open(dir.path(), &["two", "one", "two"], quick()).unwrap();
    two.write::<_, StoreError>(|txn| {
        txn.put("one", b"key", b"1")?;
        txn.put("two", b"key", b"2")
    })
    .unwrap();
    one.read::<_, StoreError>(|txn| {
        assert_eq!(txn.get("one", b"key")?, Some(b"1".as_slice()));
        let error = txn.get("two", b"key").unwrap_err();
        assert!(matches!(&error, StoreError::UnknownTable { table, .. } if table == "two"), "{error}");
        Ok(())
    })
    .unwrap();
    let error = Store::open_read_only(dir.path(), &["one", "three"]).unwrap_err();
    assert!(matches!(error, OpenError::MissingTable { table: "three", .. }), "{error}");
    let absent = dir.path().join("absent");
    for name in ["", "nul\0", Box::leak("x".repeat(512).into_boxed_str())] {
        assert!(matches!(Store::open(&absent, &[name], quick()), Err(OpenError::InvalidTable { .. })), "{name:?}");
    }
    let many: Vec<&'static str> = (0..65).map(|n| &*Box::leak(n.to_string().into_boxed_str())).collect();
    assert!(matches!(Store::open(&absent, &many, quick()), Err(OpenError::TooManyTables { .. })));
    assert!(!absent.exists());
    // One by one, past the limit: the first two tables are open already.
    Store::open(dir.path(), &many[..62], quick()).unwrap();
    assert!(matches!(Store::open(dir.path(), &many[62..], quick()), Err(OpenError::TooManyTables { .. })));
    one.write::<_, StoreError>(|txn| txn.put("one", b"key", b"3")).unwrap();
}

#[test]
fn settings_out_of_range_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent");
    for settings in [
        Settings::new().with_initial_map_bytes(0),
        Settings::new().with_initial_map_bytes(2 << 20).with_max_map_bytes(1 << 20),
        Settings::new().with_max_map_bytes(100),
        Settings::new().with_max_map_bytes(u64::MAX),
    ] {
        let error = Store::open(&absent, TABLES, settings).unwrap_err();
        assert!(matches!(error, OpenError::InvalidSettings { .. }), "{error}");
    }
    assert!(!absent.exists());
}

/// Runs `f` on another thread and fails if it does not come back.
fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || done.send(f()));
    wait.recv_timeout(Duration::from_secs(30)).expect("it hangs, or it panicked")
}

#[test]
fn a_transaction_inside_another_is_an_error_not_a_deadlock() {
    let dir = tempfile::tempdir().unwrap();
    let (store, elsewhere) = (open(&dir.path().join("one")), open(&dir.path().join("two")));
    in_time(move || {
        fn nested<T: std::fmt::Debug>(result: Result<T, StoreError>) {
            assert!(matches!(result, Err(StoreError::Nested { .. })), "{result:?}");
        }
        let inner = |store: &Store| {
            nested(store.read(|_| Ok(())));
            nested(store.write(|_| Ok(())));
            // The same tables need no transaction, others would.
            open(store.path());
            let more = Store::open(store.path(), &["more"], quick());
            assert!(matches!(more, Err(OpenError::Nested { .. })), "{more:?}");
            increment(&elsewhere, b"sum").map(drop)
        };
        store.read(|_| inner(&store)).unwrap();
        store.write(|_| inner(&store)).unwrap();
        // Afterwards all is as before; after a panic too.
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            store.write::<(), StoreError>(|txn| {
                txn.put("a", b"sum", &99_u64.to_be_bytes())?;
                panic!("on purpose");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(increment(&store, b"sum").unwrap(), 1);
        assert_eq!(increment(&elsewhere, b"sum").unwrap(), 3);
    });
}

#[test]
fn keys_have_1_byte_to_16_mib() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let longest = vec![b'k'; MAX_KEY_BYTES];
    store
        .write::<_, StoreError>(|txn| {
            txn.put("a", &longest, b"value")?;
            for key in [&[][..], &vec![b'k'; MAX_KEY_BYTES + 1][..]] {
                let long =
                    |error: &StoreError| matches!(error, StoreError::KeyLength { bytes, .. } if *bytes == key.len());
                assert!(long(&txn.put("a", key, b"").unwrap_err()));
                assert!(long(&txn.delete("a", key).unwrap_err()));
                assert!(long(&txn.get("a", key).unwrap_err()));
            }
            Ok(())
        })
        .unwrap();
    store
        .read::<_, StoreError>(|txn| {
            assert_eq!(txn.get("a", &longest)?, Some(b"value".as_slice()));
            assert_eq!(txn.len("a")?, 1);
            assert_eq!(txn.scan("a", .., Order::Descending)?.count(), 1);
            Ok(())
        })
        .unwrap();
}

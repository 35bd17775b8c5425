//! What every engine must do, run with each.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use alluvium_disk_kv_cache::{Durability, EngineKind, OpenError, Order, ReadTxn, Settings, Sharing, Store, StoreError};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::child::{self, TABLES, increment, number, quick, say};

/// Each test below, with each engine.
macro_rules! conforms {
    ($($test:ident)*) => {
        #[cfg(feature = "lmdb")]
        mod lmdb {
            $(#[test] fn $test() { super::$test(super::EngineKind::Lmdb); })*
        }

        #[cfg(feature = "sled")]
        mod sled {
            $(#[test] fn $test() { super::$test(super::EngineKind::Sled); })*
        }
    };
}

conforms! {
    a_store_is_two_ordered_maps
    keys_between_others_always_find_a_place
    hostile_keys_and_values_are_kept_whole
    a_write_sees_its_own_changes_in_order
    a_write_that_fails_or_panics_has_changed_nothing
    a_read_is_a_snapshot_over_all_tables
    a_scan_is_of_one_moment_however_long_it_takes
    writes_are_serial
    a_transaction_inside_another_is_an_error
    handles_share_and_what_was_written_stays
    a_handle_for_reading_only_reads_only
    opening_and_dropping_may_race
    a_directory_stays_with_its_engine
    a_forked_child_gets_an_error
    a_killed_writer_loses_nothing_it_acknowledged
    every_durability_keeps_what_was_written
}

pub fn settings(engine: EngineKind) -> Settings {
    quick().with_sharing(engine.sharing())
}

pub fn open(engine: EngineKind, dir: &Path) -> Store {
    let store = Store::open(dir, TABLES, settings(engine)).unwrap();
    assert_eq!(store.engine(), engine);
    store
}

type Key = Vec<u8>;
type Model = [BTreeMap<Key, Vec<u8>>; 2];

#[derive(Debug, Clone)]
enum Change {
    Put(usize, Key, Vec<u8>),
    Delete(usize, Key),
}

#[derive(Debug, Clone)]
enum Step {
    /// Some changes in one transaction; whether it commits.
    Write(Vec<Change>, bool),
    Reopen,
    Scan(usize, Bound<Key>, Bound<Key>),
    Prefix(usize, Key),
}

/// Short keys over few bytes, so that they meet, 0 and 255 among them; and long ones that differ around the length from which
/// on they are stored in another way, or far behind it.
fn key() -> impl Strategy<Value = Key> {
    let byte = || prop::sample::select(vec![0_u8, 1, b'a', b'b', 254, 255]);
    let long = |byte: u8, length: usize, end: Vec<u8>| [vec![byte; length], end].concat();
    prop_oneof![
        6 => vec(byte(), 1..4),
        3 => (byte(), 500..515_usize, vec(byte(), 0..3)).prop_map(move |(byte, length, end)| long(byte, length, end)),
        1 => (byte(), 60_000..65_536_usize, vec(byte(), 0..2)).prop_map(move |(byte, length, end)| long(byte, length, end)),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Key>> {
    let bytes = prop_oneof![8 => key(), 1 => Just(Vec::new()), 1 => vec(Just(255_u8), 600)];
    bytes.prop_flat_map(|key| {
        prop::sample::select(vec![Bound::Included(key.clone()), Bound::Excluded(key), Bound::Unbounded])
    })
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 3_000..20_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        3 => (0..2_usize, key(), value()).prop_map(|(table, key, value)| Change::Put(table, key, value)),
        1 => (0..2_usize, key()).prop_map(|(table, key)| Change::Delete(table, key)),
    ];
    prop_oneof![
        6 => (vec(change, 0..12), prop::bool::weighted(0.8)).prop_map(|(changes, commits)| Step::Write(changes, commits)),
        1 => Just(Step::Reopen),
        3 => (0..2_usize, bound(), bound()).prop_map(|(table, start, end)| Step::Scan(table, start, end)),
        1 => (0..2_usize, prop_oneof![vec(prop::sample::select(vec![b'a', 254, 255]), 0..3), vec(Just(b'a'), 501..506)])
            .prop_map(|(table, prefix)| Step::Prefix(table, prefix)),
    ]
}

#[derive(Debug)]
enum Failed {
    OnPurpose,
    InTheStore,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        // A full map is how the store asks for another run.
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        Failed::InTheStore
    }
}

fn pairs<'a>(
    entries: impl Iterator<Item = Result<(&'a [u8], &'a [u8]), StoreError>>,
) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
    entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

fn agrees(txn: &ReadTxn<'_>, model: &Model) -> Result<(), StoreError> {
    for (table, model) in TABLES.iter().zip(model) {
        let all = pairs(txn.scan(table, .., Order::Ascending)?)?;
        assert!(all.iter().map(|(key, value)| (key, value)).eq(model), "{table}: {all:?} is not {model:?}");
        let owned = |entry: Option<(&[u8], &[u8])>| entry.map(|(key, value)| (key.to_vec(), value.to_vec()));
        let cloned = |entry: Option<(&Key, &Vec<u8>)>| entry.map(|(key, value)| (key.clone(), value.clone()));
        assert_eq!(owned(txn.first(table)?), cloned(model.first_key_value()));
        assert_eq!(owned(txn.last(table)?), cloned(model.last_key_value()));
        assert_eq!(txn.len(table)?, model.len() as u64);
        assert_eq!(txn.is_empty(table)?, model.is_empty());
        for (key, value) in model {
            assert_eq!(txn.get(table, key)?, Some(value.as_slice()));
        }
    }
    Ok(())
}

fn a_store_is_two_ordered_maps(engine: EngineKind) {
    let cases = if engine == EngineKind::Lmdb { 96 } else { 48 };
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in vec(step(), 1..40))| {
        let dir = tempfile::tempdir().unwrap();
        let open = || open(engine, dir.path());
        let mut store = open();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Write(changes, commits) => {
                    let mut next = model.clone();
                    let outcome = store.write(|txn| {
                        next = model.clone();
                        for change in &changes {
                            match change {
                                Change::Put(table, key, value) => {
                                    txn.put(TABLES[*table], key, value)?;
                                    next[*table].insert(key.clone(), value.clone());
                                }
                                Change::Delete(table, key) => {
                                    let was = txn.delete(TABLES[*table], key)?;
                                    assert_eq!(was, next[*table].remove(key).is_some());
                                }
                            }
                        }
                        agrees(txn, &next)?;
                        if commits { Ok(()) } else { Err(Failed::OnPurpose) }
                    });
                    match outcome {
                        Ok(()) if commits => model = next,
                        Err(Failed::OnPurpose) if !commits => {}
                        other => panic!("{other:?}"),
                    }
                }
                Step::Reopen => {
                    drop(store);
                    store = open();
                }
                Step::Scan(table, start, end) => {
                    let range = (start.as_ref().map(Vec::as_slice), end.as_ref().map(Vec::as_slice));
                    let mut expected: Vec<_> = model[table].iter()
                        .filter(|(key, _)| std::ops::RangeBounds::<[u8]>::contains(&range, key.as_slice()))
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect();
                    let scan = |order| store.read(|txn| pairs(txn.scan(TABLES[table], range, order)?)).unwrap();
                    assert_eq!(scan(Order::Ascending), expected.clone());
                    expected.reverse();
                    assert_eq!(scan(Order::Descending), expected);
                }
                Step::Prefix(table, prefix) => {
                    let mut expected: Vec<_> = model[table].iter()
                        .filter(|(key, _)| key.starts_with(&prefix))
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect();
                    let scan = |order| store.read(|txn| pairs(txn.scan_prefix(TABLES[table], &prefix, order)?)).unwrap();
                    assert_eq!(scan(Order::Ascending), expected.clone());
                    expected.reverse();
                    assert_eq!(scan(Order::Descending), expected);
                }
            }
            store.read(|txn| agrees(txn, &model)).unwrap();
        }
    });
}

fn keys_between_others_always_find_a_place(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path());
    let shared = vec![b'/'; 600];
    let key = |end: &[u8]| [shared.as_slice(), end].concat();
    // Each between the first and the one before it, each between the last and the one before it, and each after all:
    // any of them uses up the room between two keys.
    let down = (0..=255_u8).rev().map(|n| key(&[b'a', n]));
    let up = (0..=255_u8).map(|n| key(&[b'm', n]));
    let mut keys = vec![key(b"a"), key(b"n"), shared.clone(), key(b"z")];
    keys.extend(down.zip(up).flat_map(|(down, up)| [down, up]));
    keys.extend((0..300_u32).map(|n| key(format!("z{n:04}").as_bytes())));
    let mut model = BTreeMap::new();
    for some in keys.chunks(50) {
        store
            .write::<_, StoreError>(|txn| {
                some.iter().try_for_each(|key| txn.put("a", key, &key[key.len().saturating_sub(3)..]))
            })
            .unwrap();
        model.extend(some.iter().map(|key| (key.clone(), key[key.len().saturating_sub(3)..].to_vec())));
        let all = store.read(|txn| pairs(txn.scan("a", .., Order::Ascending)?)).unwrap();
        assert!(all.iter().map(|(key, value)| (key, value)).eq(&model));
    }
    assert_eq!(store.check().unwrap().tables[0].entries, model.len() as u64);
    for key in &keys {
        assert!(store.write::<_, StoreError>(|txn| txn.delete("a", key)).unwrap());
    }
    assert!(store.read(|txn| txn.is_empty("a")).unwrap());
}

fn hostile_keys_and_values_are_kept_whole(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let large = |byte| vec![byte; 10 << 20];
    let entries: Vec<(Vec<u8>, Vec<u8>)> = vec![
        (b"\0".to_vec(), b"".to_vec()),
        (b"\0\0".to_vec(), b"\0".to_vec()),
        (b"../../etc/passwd".to_vec(), large(1)),
        (vec![255; 511], vec![255; 511]),
        (vec![0; 65_536], b"long".to_vec()),
        (large(b'k'), large(b'v')),
    ];
    let store = open(engine, dir.path());
    store.write::<_, StoreError>(|txn| entries.iter().try_for_each(|(key, value)| txn.put("a", key, value))).unwrap();
    drop(store);
    let store = open(engine, dir.path());
    store
        .read::<_, StoreError>(|txn| {
            for (key, value) in &entries {
                assert_eq!(txn.get("a", key)?, Some(value.as_slice()));
            }
            txn.len("a")
        })
        .unwrap();
    assert_eq!(store.check().unwrap().tables[0].entries, entries.len() as u64);
}

fn a_write_sees_its_own_changes_in_order(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path());
    let keys = |txn: &ReadTxn<'_>, order| {
        pairs(txn.scan("a", .., order)?).map(|all| all.into_iter().map(|(key, _)| key[0]).collect::<Vec<u8>>())
    };
    store.write::<_, StoreError>(|txn| [2, 4, 6].iter().try_for_each(|key| txn.put("a", &[*key], b"old"))).unwrap();
    store
        .write::<_, StoreError>(|txn| {
            txn.put("b", &[9], b"another table")?;
            txn.put("a", &[5], b"new")?;
            txn.put("a", &[1], b"new")?;
            txn.put("a", &[6], b"new")?;
            assert!(txn.delete("a", &[4])?);
            assert!(!txn.delete("a", &[7])?);
            assert_eq!(keys(txn, Order::Ascending)?, [1, 2, 5, 6]);
            assert_eq!(keys(txn, Order::Descending)?, [6, 5, 2, 1]);
            assert_eq!((txn.first("a")?.unwrap().0, txn.last("a")?.unwrap()), (&[1][..], (&[6][..], &b"new"[..])));
            assert_eq!((txn.len("a")?, txn.len("b")?), (4, 1));
            assert_eq!((txn.get("a", &[4])?, txn.get("a", &[2])?), (None, Some(&b"old"[..])));
            Ok(())
        })
        .unwrap();
    assert_eq!(store.read(|txn| keys(txn, Order::Ascending)).unwrap(), [1, 2, 5, 6]);
    assert_eq!(store.read(|txn| txn.len("a")).unwrap(), 4);
}

fn a_write_that_fails_or_panics_has_changed_nothing(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path());
    increment(&store, b"sum").unwrap();
    let change = |txn: &mut alluvium_disk_kv_cache::WriteTxn<'_>| {
        txn.put("a", b"sum", &99_u64.to_be_bytes())?;
        txn.put("b", b"other", b"")
    };
    let failed = store.write::<(), Failed>(|txn| {
        change(txn)?;
        Err(Failed::OnPurpose)
    });
    assert!(matches!(failed, Err(Failed::OnPurpose)));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.write::<(), StoreError>(|txn| {
            change(txn)?;
            panic!("on purpose");
        })
    }));
    assert!(panicked.is_err());
    assert!(store.read(|txn| txn.is_empty("b")).unwrap());
    assert_eq!(increment(&store, b"sum").unwrap(), 2);
}

fn a_read_is_a_snapshot_over_all_tables(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path());
    let put = |n: u64| {
        store.write::<_, StoreError>(|txn| TABLES.iter().try_for_each(|table| txn.put(table, b"n", &n.to_be_bytes())))
    };
    put(1).unwrap();
    let both = |txn: &ReadTxn<'_>| Ok::<_, StoreError>((number(txn.get("a", b"n")?), number(txn.get("b", b"n")?)));
    thread::scope(|threads| {
        let (begun, wait_for_begin) = mpsc::channel();
        let (written, wait_for_write) = mpsc::channel();
        let writer = threads.spawn(move || {
            wait_for_begin.recv().unwrap();
            put(2).unwrap();
            written.send(()).unwrap();
            (3..300).for_each(|n| put(n).unwrap());
        });
        store
            .read::<_, StoreError>(|txn| {
                begun.send(()).unwrap();
                // An engine that lets the commit wait for this read must not be waited for.
                let committed = wait_for_write.recv_timeout(Duration::from_millis(300)).is_ok();
                assert_eq!(committed, engine == EngineKind::Lmdb, "as EngineKind says of isolation");
                assert_eq!(both(txn)?, (1, 1));
                Ok(())
            })
            .unwrap();
        while !writer.is_finished() {
            let (a, b) = store.read(both).unwrap();
            assert_eq!(a, b);
        }
    });
    assert_eq!(store.read(both).unwrap(), (299, 299));
}

fn a_scan_is_of_one_moment_however_long_it_takes(engine: EngineKind) {
    const ROWS: u32 = 500;
    let dir = tempfile::tempdir().unwrap();
    // Room for all: a map that grows waits for reads.
    let store = Store::open(dir.path(), TABLES, settings(engine).with_initial_map_bytes(4 << 20)).unwrap();
    let fill = |value: u8| {
        store.write::<_, StoreError>(|txn| (0..ROWS).try_for_each(|n| txn.put("a", &n.to_be_bytes(), &[value; 100])))
    };
    fill(1).unwrap();
    for order in [Order::Ascending, Order::Descending] {
        thread::scope(|threads| {
            let (begun, wait_for_begin) = mpsc::channel();
            let (written, wait_for_write) = mpsc::channel();
            let store = &store;
            threads.spawn(move || {
                wait_for_begin.recv().unwrap();
                // Every row is another, one that was is gone, and there is one more.
                let written_there = store.write::<_, StoreError>(|txn| {
                    (1..=ROWS).try_for_each(|n| txn.put("a", &n.to_be_bytes(), &[2; 100]))?;
                    txn.delete("a", &0_u32.to_be_bytes()).map(drop)
                });
                written_there.unwrap();
                // Nobody hears of a commit that had to wait.
                let _ = written.send(());
            });
            store
                .read::<_, StoreError>(|txn| {
                    let mut scan = txn.scan("a", .., order)?;
                    let (first, _) = scan.next().unwrap()?;
                    begun.send(()).unwrap();
                    let committed = wait_for_write.recv_timeout(Duration::from_millis(300)).is_ok();
                    assert_eq!(committed, engine == EngineKind::Lmdb, "as EngineKind says of isolation");
                    // The scan that was begun goes on in what it began in, and one that begins now, in the same read, does too.
                    let rest = pairs(scan)?;
                    assert_eq!(rest.len() as u32, ROWS - 1);
                    assert!(rest.iter().all(|(key, value)| key != first && *value == [1; 100]));
                    let again = pairs(txn.scan("a", .., order)?)?;
                    assert!(again.len() as u32 == ROWS && again[1..] == rest, "{}", again.len());
                    Ok(())
                })
                .unwrap();
        });
        let now = store.read(|txn| pairs(txn.scan("a", .., order)?)).unwrap();
        assert!(now.len() as u32 == ROWS && now.iter().all(|(_, value)| *value == [2; 100]));
        store.write::<_, StoreError>(|txn| txn.delete("a", &ROWS.to_be_bytes()).map(drop)).unwrap();
        fill(1).unwrap();
    }
}

fn writes_are_serial(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path());
    thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| (0..50).for_each(|_| assert!(increment(&store, b"sum").is_ok())));
        }
    });
    assert_eq!(increment(&store, b"sum").unwrap(), 401);
}

fn a_transaction_inside_another_is_an_error(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path());
    let inner = |store: &Store| {
        assert!(matches!(store.read(|_| Ok(())), Err(StoreError::Nested { .. })));
        assert!(matches!(store.write(|_| Ok(())), Err(StoreError::Nested { .. })));
        assert!(matches!(store.check(), Err(StoreError::Nested { .. })));
        let more = Store::open(store.path(), &["more"], settings(engine));
        assert!(matches!(more, Err(OpenError::Nested { .. })), "{more:?}");
        Ok::<_, StoreError>(())
    };
    store.read(|_| inner(&store)).unwrap();
    store.write(|_| inner(&store)).unwrap();
}

fn handles_share_and_what_was_written_stays(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path());
    let second = Store::open(dir.path(), &["b", "c"], settings(engine)).unwrap();
    store.write::<_, StoreError>(|txn| txn.put("b", b"key", b"value")).unwrap();
    drop(store);
    let read = |store: &Store| store.read::<_, StoreError>(|txn| Ok(txn.get("b", b"key")?.map(<[u8]>::to_vec)));
    assert_eq!(read(&second).unwrap().unwrap(), b"value");
    let unknown = second.read(|txn| txn.len("a"));
    assert!(matches!(unknown, Err(StoreError::UnknownTable { .. })), "{unknown:?}");
    let conflict = Store::open(dir.path(), TABLES, settings(engine).with_durability(Durability::System));
    assert!(matches!(conflict, Err(OpenError::SettingsConflict { .. })), "{conflict:?}");
    let names =
        |store: &Store| store.check().unwrap().tables.into_iter().map(|t| (t.table, t.entries)).collect::<Vec<_>>();
    let expected = [("a", 0), ("b", 1), ("c", 0)].map(|(name, entries)| (name.to_owned(), entries));
    assert_eq!(names(&second), expected);
    drop(second);
    let again = open(engine, dir.path());
    assert_eq!(read(&again).unwrap().unwrap(), b"value");
    assert_eq!(names(&again), expected, "tables that are not open are checked too");
    assert!(again.recovered().is_none());
}

fn a_handle_for_reading_only_reads_only(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open_read_only(dir.path(), TABLES), Err(OpenError::Absent { .. })));
    increment(&open(engine, dir.path()), b"sum").unwrap();
    let store = Store::open_read_only(dir.path(), TABLES).unwrap();
    assert_eq!(store.engine(), engine);
    assert_eq!(store.read::<_, StoreError>(|txn| Ok(number(txn.get("a", b"sum")?))).unwrap(), 1);
    assert!(matches!(increment(&store, b"sum"), Err(StoreError::ReadOnly { .. })));
    assert!(matches!(Store::open(dir.path(), TABLES, settings(engine)), Err(OpenError::OpenForReading { .. })));
    let missing = Store::open_read_only(dir.path(), &["missing"]);
    assert!(matches!(missing, Err(OpenError::MissingTable { table: "missing", .. })), "{missing:?}");
}

fn opening_and_dropping_may_race(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| (0..20).for_each(|_| assert!(increment(&open(engine, dir.path()), b"sum").is_ok())));
        }
    });
    assert_eq!(increment(&open(engine, dir.path()), b"sum").unwrap(), 81);
}

fn a_directory_stays_with_its_engine(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    increment(&open(engine, dir.path()), b"sum").unwrap();
    let (other, asked) = match engine {
        EngineKind::Lmdb => (EngineKind::Sled, Sharing::SingleProcess),
        _ => (EngineKind::Lmdb, Sharing::MultiProcess),
    };
    let error = Store::open(dir.path(), TABLES, settings(engine).with_sharing(asked)).unwrap_err();
    let named =
        matches!(&error, OpenError::OtherEngine { found, requested, .. } if (*found, *requested) == (engine, other));
    assert!(named, "{error:?}");
    assert!(error.to_string().contains(engine.name()), "{error}");
}

fn a_forked_child_gets_an_error(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path());
    increment(&store, b"sum").unwrap();
    // SAFETY: the child touches nothing but the store, whose refusals take no lock, allocates (glibc allows that after a
    // fork), and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let read = matches!(store.read::<_, StoreError>(|_| Ok(())), Err(StoreError::Forked { .. }));
        let write = matches!(increment(&store, b"sum"), Err(StoreError::Forked { .. }));
        drop(store);
        // SAFETY: ends the process, without running anything of the parent's.
        unsafe { libc::_exit(if read && write { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: the pointer is to a value that outlives the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child must have seen both refusals");
    // What the child did, dropping included, changed nothing here.
    assert_eq!(increment(&store, b"sum").unwrap(), 2);
}

/// Writes n = 1, 2, 3 …, each to both tables in one transaction, and says n when it is acknowledged.
pub fn write_with(engine: EngineKind, dir: &Path) {
    let store = open(engine, dir);
    loop {
        let acknowledged = store.write::<_, StoreError>(|txn| {
            let n = number(txn.last("a")?.map(|(key, _)| key)) + 1;
            txn.put("a", &n.to_be_bytes(), &vec![n as u8; (n % 50) as usize * 100])?;
            txn.put("b", &n.to_be_bytes(), &n.to_be_bytes())?;
            Ok(n)
        });
        say(acknowledged.unwrap());
    }
}

fn a_killed_writer_loses_nothing_it_acknowledged(engine: EngineKind) {
    let dir = tempfile::tempdir().unwrap();
    let role = if engine == EngineKind::Lmdb { "write-lmdb" } else { "write-sled" };
    for round in 0..8_usize {
        let (mut writer, lines) = child::start(role, dir.path());
        let mut numbers = lines.map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok());
        let seen = numbers.by_ref().take(1 + round * 17).last();
        writer.kill().unwrap();
        let last = numbers.last().max(seen).unwrap();
        writer.wait().unwrap();

        let store = open(engine, dir.path());
        let tables = store.check().unwrap().tables;
        assert!(tables[0].entries >= last, "round {round}: {last} was acknowledged, {tables:?}");
        assert_eq!(tables[0].entries, tables[1].entries, "no write was done by half");
        let intact = store.read::<_, StoreError>(|txn| {
            let mut entries = txn.scan("a", .., Order::Ascending)?.zip(1_u64..);
            entries.try_fold(true, |intact, (entry, n)| {
                let (key, value) = entry?;
                Ok(intact && number(Some(key)) == n && value == vec![n as u8; (n % 50) as usize * 100])
            })
        });
        assert!(intact.unwrap(), "round {round}");
    }
}

fn every_durability_keeps_what_was_written(engine: EngineKind) {
    for durability in [Durability::Process, Durability::System] {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(engine).with_durability(durability);
        for n in 1..4 {
            let store = Store::open(dir.path(), TABLES, settings.clone()).unwrap();
            assert_eq!(increment(&store, b"sum").unwrap(), n);
        }
    }
}

//! Random operations against two `BTreeMap`s.

use std::collections::BTreeMap;
use std::ops::Bound;

use alluvium_disk_kv_cache::{Order, ReadTxn, Store, StoreError};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::child::{TABLES, quick};

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

/// Short keys over few bytes, so that they meet; 0 and 255 among them; and some of the longest.
fn key() -> impl Strategy<Value = Key> {
    let byte = prop::sample::select(vec![0_u8, 1, b'a', b'b', 254, 255]);
    prop_oneof![9 => vec(byte.clone(), 1..4), 1 => vec(byte, 505..=511)]
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
        1 => (0..2_usize, vec(prop::sample::select(vec![b'a', 254, 255]), 0..3))
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_two_ordered_maps(steps in vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), TABLES, quick()).unwrap();
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
    }
}

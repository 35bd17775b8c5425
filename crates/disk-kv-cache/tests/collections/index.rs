//! `Index`: against a list of pairs, over processes, killed in the middle.

use std::collections::HashMap;
use std::path::Path;

use alluvium_disk_kv_cache::{CollectionError, Index, MAX_KEY_BYTES, Sharing, Side};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::child::{self, on, quick, rounds, say};

#[derive(Debug, Clone)]
enum Step {
    Insert(usize, u64),
    GetOrInsert(usize, u64),
    Remove(usize),
    Delete(usize),
    PopFirst,
    PopLast,
    Extend(Vec<(usize, u64)>),
    Clear,
    Reopen,
}

/// Keys that meet, some longer than the engine takes, and alike up to their last byte.
fn keys() -> Vec<String> {
    let long = "k".repeat(700);
    let edge = |len: usize| "e".repeat(len);
    ["", "a", "b", "a\0"]
        .map(String::from)
        .into_iter()
        .chain([format!("{long}1"), format!("{long}2"), long, edge(507), edge(508), edge(509), edge(510), edge(511)])
        .collect()
}

fn step() -> impl Strategy<Value = Step> {
    let (key, value) = (0..12_usize, 0..9_u64);
    prop_oneof![
        6 => (key.clone(), value.clone()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key.clone(), value.clone()).prop_map(|(key, value)| Step::GetOrInsert(key, value)),
        3 => key.clone().prop_map(Step::Remove),
        1 => key.clone().prop_map(Step::Delete),
        1 => Just(Step::PopFirst),
        1 => Just(Step::PopLast),
        1 => vec((key, value), 0..9).prop_map(Step::Extend),
        1 => Just(Step::Clear),
        1 => Just(Step::Reopen),
    ]
}

type Model = Vec<(String, u64)>;

fn insert_into(model: &mut Model, key: &str, value: u64) {
    match model.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => *old = value,
        None => model.push((key.to_owned(), value)),
    }
}

fn remove_from(model: &mut Model, key: &str) -> Option<u64> {
    let at = model.iter().position(|(known, _)| known == key)?;
    Some(model.remove(at).1)
}

fn agrees(index: &Index<String, u64>, model: &Model) {
    assert_eq!(index.to_vec().unwrap(), *model);
    assert_eq!(index.len().unwrap(), model.len() as u64);
    assert_eq!(index.first().unwrap().as_ref(), model.first());
    assert_eq!(index.last().unwrap().as_ref(), model.last());
    assert!(index.equals_in_order(model).unwrap());
    assert!(index.equals(&HashMap::from_iter(model.clone())).unwrap());
    assert!(index.iter().unwrap().map(Result::unwrap).eq(model.iter().cloned()));
    assert!(index.keys().unwrap().rev().map(Result::unwrap).eq(model.iter().rev().map(|(key, _)| key.clone())));
    assert!(index.values().unwrap().rev().map(Result::unwrap).eq(model.iter().rev().map(|(_, value)| *value)));
    for key in keys() {
        let found = model.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
        assert_eq!(index.get(&key).unwrap(), found);
        assert_eq!(index.contains_key(&key).unwrap(), found.is_some());
    }
}

fn run(sharing: Sharing, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let open = || Index::<String, u64>::open(dir.path(), on(sharing)).unwrap();
    let mut index = open();
    let (mut model, keys) = (Model::new(), keys());
    for step in steps {
        match step {
            Step::Insert(key, value) => {
                index.insert(&keys[*key], value).unwrap();
                insert_into(&mut model, &keys[*key], *value);
            }
            Step::GetOrInsert(key, value) => {
                if !model.iter().any(|(known, _)| *known == keys[*key]) {
                    insert_into(&mut model, &keys[*key], *value);
                }
                let found = model.iter().find(|(known, _)| *known == keys[*key]).unwrap().1;
                assert_eq!(index.get_or_insert(&keys[*key], value).unwrap(), found);
            }
            Step::Remove(key) => {
                assert_eq!(index.remove(&keys[*key]).unwrap(), remove_from(&mut model, &keys[*key]));
            }
            Step::Delete(key) => {
                assert_eq!(index.delete(&keys[*key]).unwrap(), remove_from(&mut model, &keys[*key]).is_some());
            }
            Step::PopFirst => {
                let first = (!model.is_empty()).then(|| model.remove(0));
                assert_eq!(index.pop_first().unwrap(), first);
            }
            Step::PopLast => assert_eq!(index.pop_last().unwrap(), model.pop()),
            Step::Extend(entries) => {
                let entries = entries.iter().map(|(key, value)| (keys[*key].clone(), *value));
                entries.clone().for_each(|(key, value)| insert_into(&mut model, &key, value));
                index.extend(entries).unwrap();
            }
            Step::Clear => {
                index.clear().unwrap();
                model.clear();
            }
            Step::Reopen => {
                drop(index);
                index = open();
            }
        }
        agrees(&index, &model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[cfg(feature = "lmdb")]
    #[test]
    fn an_index_on_lmdb_is_an_ordered_map(steps in vec(step(), 1..40)) {
        run(Sharing::MultiProcess, &steps);
    }

    #[cfg(feature = "sled")]
    #[test]
    fn an_index_on_sled_is_an_ordered_map(steps in vec(step(), 1..40)) {
        run(Sharing::SingleProcess, &steps);
    }
}

#[test]
fn a_map_of_more_than_a_batch_is_iterated_while_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let index: Index<u64, u64> = Index::open(dir.path(), quick()).unwrap();
    index.extend((0..300).map(|n| (n, n))).unwrap();
    let mut seen = Vec::new();
    for entry in index.iter().unwrap() {
        let (key, _) = entry.unwrap();
        index.delete(&key).unwrap();
        seen.push(key);
    }
    assert!(seen.into_iter().eq(0..300));
    assert!(index.is_empty().unwrap());
}

#[test]
fn equality_minds_the_order_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let index: Index<String, u64> = Index::open(dir.path(), quick()).unwrap();
    let pair = |key: &str, value| (key.to_owned(), value);
    index.extend([pair("a", 1), pair("b", 2)]).unwrap();
    assert!(index.equals(&HashMap::from([pair("b", 2), pair("a", 1)])).unwrap());
    assert!(!index.equals_in_order(&[pair("b", 2), pair("a", 1)]).unwrap());
    assert!(!index.equals(&HashMap::from([pair("a", 1)])).unwrap());
    assert!(!index.equals(&HashMap::from([pair("a", 1), pair("b", 3)])).unwrap());
    assert!(!index.equals(&HashMap::from([pair("a", 1), pair("c", 2)])).unwrap());
}

#[test]
fn queues_of_prefixes_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let index: Index<(String, u64), String> = Index::open(dir.path(), quick()).unwrap();
    let push = |prefix: &str, value: &str, side| index.push_to(prefix, &value.to_owned(), side).unwrap();
    assert_eq!(push("a", "2", Side::Back), 500_000_000_000_000);
    assert_eq!(push("a", "3", Side::Back), 500_000_000_000_001);
    assert_eq!(push("a", "1", Side::Front), 499_999_999_999_999);
    assert_eq!(push("ab", "other", Side::Front), 500_000_000_000_000);
    let pull = |prefix: &str, side| index.pull_from(prefix, side).unwrap().map(|(_, value)| value);
    assert_eq!(pull("a", Side::Back).as_deref(), Some("3"));
    assert_eq!(pull("a", Side::Front).as_deref(), Some("1"));
    assert_eq!(pull("a", Side::Front).as_deref(), Some("2"));
    assert_eq!(pull("a", Side::Front), None);
    assert_eq!(pull("ab", Side::Back).as_deref(), Some("other"));
    let long = "p".repeat(MAX_KEY_BYTES);
    assert!(matches!(index.push_to(&long, &String::new(), Side::Back), Err(CollectionError::InvalidSetting { .. })));
}

#[test]
fn a_queue_that_has_no_number_left_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let index: Index<u64, u64> = Index::open(dir.path(), quick()).unwrap();
    index.extend([(0, 1), (999_999_999_999_999, 2), (u64::MAX, 3)]).unwrap();
    for side in [Side::Front, Side::Back] {
        assert!(matches!(index.push(&9, side), Err(CollectionError::QueueFull)), "{side:?}");
    }
    assert_eq!(index.pull(Side::Back).unwrap(), Some((999_999_999_999_999, 2)), "larger keys are not of the queue");
}

#[test]
fn what_is_memoized_is_computed_once() {
    let dir = tempfile::tempdir().unwrap();
    let index: Index<(String, u64), u64> = Index::open(dir.path(), quick()).unwrap();
    let mut computed = 0;
    for _ in 0..3 {
        let square = index.get_or_insert_with(&("square".to_owned(), 12), || {
            computed += 1;
            Ok::<_, CollectionError>(144)
        });
        assert_eq!(square.unwrap(), 144);
    }
    assert_eq!(computed, 1);
    let failed = index.get_or_insert_with(&("square".to_owned(), 13), || Err::<u64, _>(CollectionError::QueueFull));
    assert!(failed.is_err());
    assert_eq!(index.len().unwrap(), 1, "a failure is not remembered");
}

/// Inserts under new keys, removing one of three, for ever, and says each number once it is acknowledged.
pub fn insert(dir: &Path) {
    let index: Index<String, u64> = Index::open(dir, quick()).unwrap();
    for next in index.last().unwrap().map_or(0, |(_, value)| value) + 1.. {
        let inserted = index.transact::<_, CollectionError>(|txn| {
            txn.insert(&format!("key {next}"), &next)?;
            if next % 3 == 0 { txn.delete(&format!("key {}", next - 1)) } else { Ok(true) }
        });
        assert!(inserted.unwrap());
        say(next);
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn a_killed_writer_leaves_both_tables_in_agreement() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..rounds(5, 1) {
        let mut worker = child::start("insert", dir.path());
        let mut acknowledged = 0;
        for _ in 0..1 + round * 7 % 23 {
            acknowledged = worker.number().unwrap();
        }
        let acknowledged = worker.kill().into_iter().max().unwrap_or(acknowledged);
        let index: Index<String, u64> = Index::open(dir.path(), quick()).unwrap();
        // Reads both tables, and finds it an error if they disagree.
        let keys: Vec<u64> = index.to_vec().unwrap().into_iter().map(|(_, value)| value).collect();
        let last = *keys.last().unwrap();
        assert!(last >= acknowledged);
        let expected = (1..=last).filter(|n| n % 3 != 2 || *n == last);
        assert!(keys.iter().copied().eq(expected), "{keys:?}");
        for n in &keys {
            assert_eq!(index.get(&format!("key {n}")).unwrap(), Some(*n));
        }
    }
}

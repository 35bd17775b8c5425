//! `Deque`: against `VecDeque`, over processes, killed in the middle.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use alluvium_disk_kv_cache::{CollectionError, CopyError, Deque, Order, Sharing, Store, StoreError, ValueError};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::child::{self, on, quick, rounds, say, until_told};

#[derive(Debug, Clone)]
enum Step {
    PushBack(u64),
    PushFront(u64),
    PopBack,
    PopFront,
    Set(u64, u64),
    Remove(u64),
    RemoveValue(u64),
    ExtendBack(Vec<u64>),
    ExtendFront(Vec<u64>),
    Rotate(i64),
    Reverse,
    MaxLen(Option<u64>),
    Clear,
    Reopen,
    /// Changes that are undone by an error.
    Failing(Vec<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let value = 0..6_u64;
    prop_oneof![
        4 => value.clone().prop_map(Step::PushBack),
        4 => value.clone().prop_map(Step::PushFront),
        2 => Just(Step::PopBack),
        2 => Just(Step::PopFront),
        2 => (0..12_u64, value.clone()).prop_map(|(index, value)| Step::Set(index, value)),
        3 => (0..12_u64).prop_map(Step::Remove),
        2 => value.clone().prop_map(Step::RemoveValue),
        2 => vec(value.clone(), 0..80).prop_map(Step::ExtendBack),
        2 => vec(value.clone(), 0..80).prop_map(Step::ExtendFront),
        3 => prop_oneof![-9..9_i64, Just(i64::MIN), Just(i64::MAX)].prop_map(Step::Rotate),
        1 => Just(Step::Reverse),
        1 => prop::option::of(0..9_u64).prop_map(Step::MaxLen),
        1 => Just(Step::Clear),
        1 => Just(Step::Reopen),
        1 => vec(value, 0..4).prop_map(Step::Failing),
    ]
}

#[derive(Debug, Default)]
struct Model {
    items: VecDeque<u64>,
    max_len: Option<usize>,
}

impl Model {
    fn push_back(&mut self, value: u64) {
        self.items.push_back(value);
        while self.max_len.is_some_and(|max| self.items.len() > max) {
            self.items.pop_front();
        }
    }

    fn push_front(&mut self, value: u64) {
        self.items.push_front(value);
        while self.max_len.is_some_and(|max| self.items.len() > max) {
            self.items.pop_back();
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::PushBack(value) => self.push_back(*value),
            Step::PushFront(value) => self.push_front(*value),
            Step::ExtendBack(values) => values.iter().for_each(|value| self.push_back(*value)),
            Step::ExtendFront(values) => values.iter().for_each(|value| self.push_front(*value)),
            Step::Rotate(steps) if !self.items.is_empty() => {
                let steps = i128::from(*steps).rem_euclid(self.items.len() as i128);
                self.items.rotate_right(steps as usize);
            }
            Step::Reverse => self.items = self.items.iter().rev().copied().collect(),
            Step::Clear => self.items.clear(),
            Step::MaxLen(max) => {
                self.max_len = max.map(|max| max as usize);
                while self.max_len.is_some_and(|max| self.items.len() > max) {
                    self.items.pop_front();
                }
            }
            _ => {}
        }
    }
}

#[derive(Debug)]
struct OnPurpose;

impl From<StoreError> for OnPurpose {
    fn from(_: StoreError) -> OnPurpose {
        OnPurpose
    }
}

impl From<CollectionError> for OnPurpose {
    fn from(_: CollectionError) -> OnPurpose {
        OnPurpose
    }
}

fn agrees(deque: &Deque<u64>, model: &VecDeque<u64>) {
    let model: Vec<u64> = model.iter().copied().collect();
    assert_eq!(deque.to_vec().unwrap(), model);
    assert_eq!(deque.len().unwrap(), model.len() as u64);
    assert_eq!(deque.is_empty().unwrap(), model.is_empty());
    assert_eq!((deque.front().unwrap().as_ref(), deque.back().unwrap().as_ref()), (model.first(), model.last()));
    for index in 0..model.len() + 2 {
        assert_eq!(deque.get(index as u64).unwrap().as_ref(), model.get(index));
    }
    let up: Vec<u64> = deque.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(up, model);
    let mut down: Vec<u64> = deque.iter().unwrap().rev().map(Result::unwrap).collect();
    down.reverse();
    assert_eq!(down, model);
    // From both ends in turn, until they meet.
    let mut ends = deque.iter().unwrap();
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    loop {
        let Some(item) = ends.next() else { break };
        head.push(item.unwrap());
        let Some(item) = ends.next_back() else { break };
        tail.push(item.unwrap());
    }
    assert_eq!(head.into_iter().chain(tail.into_iter().rev()).collect::<Vec<_>>(), model);
    for value in 0..3 {
        assert_eq!(deque.count(&value).unwrap(), model.iter().filter(|item| **item == value).count() as u64);
    }
}

fn run(sharing: Sharing, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let open = || Deque::<u64>::open(dir.path(), on(sharing)).unwrap();
    let mut deque = open();
    let mut model = Model::default();
    for step in steps {
        model.apply(step);
        match step {
            Step::PushBack(value) => deque.push_back(value).unwrap(),
            Step::PushFront(value) => deque.push_front(value).unwrap(),
            Step::PopBack => assert_eq!(deque.pop_back().unwrap(), model.items.pop_back()),
            Step::PopFront => assert_eq!(deque.pop_front().unwrap(), model.items.pop_front()),
            Step::Set(index, value) => {
                let there = model.items.get_mut(*index as usize);
                assert_eq!(deque.set(*index, value).unwrap(), there.is_some());
                if let Some(item) = there {
                    *item = *value;
                }
            }
            Step::Remove(index) => assert_eq!(deque.remove(*index).unwrap(), model.items.remove(*index as usize)),
            Step::RemoveValue(value) => {
                let at = model.items.iter().position(|item| item == value);
                assert_eq!(deque.remove_value(value).unwrap(), at.is_some());
                if let Some(at) = at {
                    model.items.remove(at);
                }
            }
            Step::ExtendBack(values) => deque.extend_back(values).unwrap(),
            Step::ExtendFront(values) => deque.extend_front(values).unwrap(),
            Step::Rotate(steps) => deque.rotate(*steps).unwrap(),
            Step::Reverse => deque.reverse().unwrap(),
            Step::MaxLen(max) => {
                deque.set_max_len(*max).unwrap();
                assert_eq!(deque.max_len().unwrap(), *max);
            }
            Step::Clear => deque.clear().unwrap(),
            Step::Reopen => {
                drop(deque);
                deque = open();
            }
            Step::Failing(values) => {
                let undone = deque.transact(|txn| {
                    txn.clear()?;
                    for value in values {
                        txn.push_front(value)?;
                    }
                    Err::<(), _>(OnPurpose)
                });
                undone.unwrap_err();
            }
        }
        agrees(&deque, &model.items);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[cfg(feature = "lmdb")]
    #[test]
    fn a_deque_on_lmdb_is_a_vec_deque(steps in vec(step(), 1..40)) {
        run(Sharing::MultiProcess, &steps);
    }

    #[cfg(feature = "sled")]
    #[test]
    fn a_deque_on_sled_is_a_vec_deque(steps in vec(step(), 1..40)) {
        run(Sharing::SingleProcess, &steps);
    }
}

#[test]
fn deques_compare_as_slices_do() {
    let dir = tempfile::tempdir().unwrap();
    let deque: Deque<f64> = Deque::open(dir.path(), quick()).unwrap();
    assert_eq!(deque.compare(&[]).unwrap(), Some(Ordering::Equal));
    deque.extend_back([1.0, 2.0]).unwrap();
    for other in
        [&[][..], &[1.0], &[1.0, 2.0], &[1.0, 2.0, 0.0], &[1.0, 3.0], &[0.0, 9.0, 9.0], &[f64::NAN], &[1.0, f64::NAN]]
    {
        assert_eq!(deque.compare(other).unwrap(), [1.0, 2.0].as_slice().partial_cmp(other), "{other:?}");
    }
}

#[test]
fn a_copy_is_a_deque_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let deque: Deque<String> = Deque::open(dir.path().join("one"), quick()).unwrap();
    deque.set_max_len(Some(2)).unwrap();
    deque.extend_back(["a", "b", "c"].map(String::from)).unwrap();
    let copy = deque.copy_to(dir.path().join("two"), quick()).unwrap();
    copy.push_back(&"d".to_owned()).unwrap();
    assert_eq!(copy.to_vec().unwrap(), ["c", "d"]);
    assert_eq!(deque.to_vec().unwrap(), ["b", "c"]);
    let mixed = deque.copy_to(dir.path().join("two"), quick());
    assert!(matches!(mixed, Err(CopyError::Collection(CollectionError::NotEmpty { len: 2 }))), "{mixed:?}");
    std::os::unix::fs::symlink(dir.path().join("one"), dir.path().join("link")).unwrap();
    for (itself, settings) in [("one", quick()), ("link", quick().with_initial_map_bytes(1 << 21))] {
        let refused = deque.copy_to(dir.path().join(itself), settings);
        assert!(matches!(&refused, Err(CopyError::Itself { path }) if path == deque.path()), "{refused:?}");
    }
    assert_eq!(deque.to_vec().unwrap(), ["b", "c"]);
}

#[test]
fn values_of_another_type_and_damaged_ones_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let numbers: Deque<u64> = Deque::open(dir.path(), quick()).unwrap();
    numbers.push_back(&7).unwrap();
    let texts: Deque<String> = Deque::open(dir.path(), quick()).unwrap();
    for refused in [texts.front().map(|_| ()), texts.pop_front().map(|_| ()), texts.to_vec().map(|_| ())] {
        assert!(matches!(refused, Err(CollectionError::Value(ValueError::OtherType { .. }))), "{refused:?}");
    }
    assert_eq!(numbers.front().unwrap(), Some(7), "what failed has changed nothing");

    let store = Store::open(dir.path(), &["deque_items"], quick()).unwrap();
    store
        .write::<_, StoreError>(|txn| {
            let (key, value) = txn.first("deque_items")?.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap();
            let mut bad = value;
            *bad.last_mut().unwrap() ^= 1;
            txn.put("deque_items", &key, &bad)
        })
        .unwrap();
    for refused in [numbers.front().map(|_| ()), numbers.iter().unwrap().next().unwrap().map(|_| ())] {
        assert!(matches!(refused, Err(CollectionError::Corrupt { table: "deque_items", .. })), "{refused:?}");
    }
    numbers.clear().unwrap();
    assert!(numbers.is_empty().unwrap());
}

#[test]
fn large_and_odd_values_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let deque: Deque<Vec<u8>> = Deque::open(dir.path(), quick()).unwrap();
    let values = [vec![], vec![0; 3], b"../../x".to_vec(), vec![0xA5; 10 << 20]];
    deque.extend_back(&values).unwrap();
    assert!(deque.to_vec().unwrap() == values);
}

/// Puts 1, 2, 3 … at the back for ever, and says each once it is acknowledged.
pub fn push(dir: &Path) {
    let deque: Deque<u64> = Deque::open(dir, quick()).unwrap();
    loop {
        let next = deque.transact::<_, CollectionError>(|txn| {
            let next = txn.get(txn.len()?.saturating_sub(1))?.unwrap_or(0) + 1;
            txn.push_back(&next)?;
            Ok(next)
        });
        say(next.unwrap());
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..rounds(6, 2) {
        let mut workers = [child::start("push", dir.path()), child::start("push", dir.path())];
        let mut acknowledged: Vec<u64> = Vec::new();
        acknowledged.extend((0..1 + round * 5 % 17).map(|_| workers[0].number().unwrap()));
        acknowledged.extend(workers.into_iter().flat_map(child::Worker::kill));
        let deque: Deque<u64> = Deque::open(dir.path(), quick()).unwrap();
        let items = deque.to_vec().unwrap();
        assert!(items.iter().copied().eq(1..=items.len() as u64), "no gap and no half: {items:?}");
        assert!(acknowledged.iter().max().unwrap() <= &(items.len() as u64));
    }
}

/// Takes items from the front until there are none, and says each.
pub fn pop(dir: &Path) {
    let deque: Deque<u64> = Deque::open(dir, quick()).unwrap();
    until_told();
    while let Some(item) = deque.pop_front().unwrap() {
        say(item);
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn processes_take_each_item_once() {
    let dir = tempfile::tempdir().unwrap();
    let deque: Deque<u64> = Deque::open(dir.path(), quick()).unwrap();
    deque.extend_back(0..600_u64).unwrap();
    let mut workers: Vec<_> = (0..3).map(|_| child::start("pop", dir.path())).collect();
    workers.iter_mut().for_each(|worker| worker.wait_for("ready"));
    workers.iter_mut().for_each(child::Worker::tell);
    let taken: Vec<u64> = workers.into_iter().flat_map(child::Worker::finish).collect();
    assert_eq!(taken.len(), 600);
    assert_eq!(BTreeSet::from_iter(taken), (0..600).collect());
    assert!(deque.is_empty().unwrap());
}

#[test]
fn keys_of_the_tables_are_what_the_format_says() {
    let dir = tempfile::tempdir().unwrap();
    let deque: Deque<Vec<u8>> = Deque::open(dir.path(), quick()).unwrap();
    deque.push_back(&b"x".to_vec()).unwrap();
    deque.push_front(&b"w".to_vec()).unwrap();
    let store = Store::open(dir.path(), &["deque_items"], quick()).unwrap();
    let keys = store.read::<Vec<_>, StoreError>(|txn| {
        txn.scan("deque_items", .., Order::Ascending)?.map(|entry| Ok(entry?.0.to_vec())).collect()
    });
    let middle = 1_u64 << 63;
    assert_eq!(keys.unwrap(), [(middle - 1).to_be_bytes(), middle.to_be_bytes()]);
}

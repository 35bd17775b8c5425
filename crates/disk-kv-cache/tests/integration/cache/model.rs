//! Random operations against a model in memory, with time and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alluvium_disk_kv_cache::{
    Cache, CacheError, CacheSettings, Clock, Eviction, Key, KeyBuf, ManualClock, Order, SetOptions, Side,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::support::{assert_sound, clock, files, large, options, settings};

/// Keys that meet, of several kinds; some look like a queue's.
#[derive(Debug, Clone, Copy)]
struct K(u8);

impl Key for K {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self.0 {
            0 => "".encode_into(out),
            1 => b"\0".as_slice().encode_into(out),
            2 => ("q", 0).encode_into(out),
            n => i32::from(n).encode_into(out),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    Commits,
    InnerFails,
    Fails,
}

#[derive(Debug, Clone)]
enum Step {
    Set(K, Vec<u8>, Option<u64>, Vec<u8>),
    Add(K, Vec<u8>, Option<u64>),
    Get(K),
    Touch(K, Option<u64>),
    Pop(K),
    Delete(K),
    Incr(K, i64),
    Push(Side, Vec<u8>, Option<u64>),
    Pull(Side),
    Peek(Side),
    PeekItem(Order),
    Expire,
    Evict(u8),
    Cull,
    Clear,
    Advance(u64),
    Settings(CacheSettings),
    Reopen,
    /// Some in a transaction, some in one within it, and which of them fails.
    Transact(Vec<Step>, Vec<Step>, Outcome),
    Iterate(K, Order),
}

fn key() -> impl Strategy<Value = K> {
    (0..8_u8).prop_map(K)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..6),
        2 => (-3..30_i64).prop_map(|n| n.to_string().into_bytes()),
        2 => (0..250_u8).prop_map(large),
    ]
}

fn ttl() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![2 => Just(None), 1 => (0..30_u64).prop_map(Some)]
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Front), Just(Side::Back)]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Ascending), Just(Order::Descending)]
}

fn settings_of() -> impl Strategy<Value = CacheSettings> {
    let eviction = prop::sample::select(vec![
        Eviction::LeastRecentlyStored,
        Eviction::LeastRecentlyUsed,
        Eviction::LeastFrequentlyUsed,
        Eviction::None,
    ]);
    (eviction, 0..4_u32, prop_oneof![Just(1_u64 << 30), 1..10_000_u64], any::<bool>()).prop_map(
        |(eviction, cull_limit, bytes, statistics)| {
            let settings = settings().with_eviction(eviction).with_statistics(statistics);
            settings.with_cull_limit(cull_limit).with_size_limit_bytes(bytes)
        },
    )
}

/// What can be done within a transaction.
fn small_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (key(), value(), ttl(), vec(0..3_u8, 0..3)).prop_map(|(k, v, t, tags)| Step::Set(k, v, t, tags)),
        2 => (key(), value(), ttl()).prop_map(|(k, v, t)| Step::Add(k, v, t)),
        6 => key().prop_map(Step::Get),
        2 => (key(), ttl()).prop_map(|(k, t)| Step::Touch(k, t)),
        2 => key().prop_map(Step::Pop),
        2 => key().prop_map(Step::Delete),
        3 => (key(), -5..5_i64).prop_map(|(k, n)| Step::Incr(k, n)),
        3 => (side(), value(), ttl()).prop_map(|(s, v, t)| Step::Push(s, v, t)),
        2 => side().prop_map(Step::Pull),
    ]
}

fn transaction() -> impl Strategy<Value = Step> {
    let outcome = prop::sample::select(vec![Outcome::Commits, Outcome::InnerFails, Outcome::Fails]);
    (vec(small_step(), 0..4), vec(small_step(), 0..4), outcome).prop_map(|(mut outer, mut inner, outcome)| {
        // That something was read is not undone with the transaction: the model knows nothing of it.
        let reads = |step: &Step| matches!(step, Step::Get(_) | Step::Pop(_) | Step::Pull(_));
        if outcome == Outcome::Fails {
            outer.retain(|step| !reads(step));
        }
        if outcome != Outcome::Commits {
            inner.retain(|step| !reads(step));
        }
        Step::Transact(outer, inner, outcome)
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => small_step(),
        2 => side().prop_map(Step::Peek),
        2 => order().prop_map(Step::PeekItem),
        1 => Just(Step::Expire),
        2 => (0..3_u8).prop_map(Step::Evict),
        1 => Just(Step::Cull),
        1 => Just(Step::Clear),
        4 => (0..20_u64).prop_map(Step::Advance),
        2 => settings_of().prop_map(Step::Settings),
        1 => Just(Step::Reopen),
        3 => transaction(),
        2 => (key(), order()).prop_map(|(k, o)| Step::Iterate(k, o)),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    value: Vec<u8>,
    expires: Option<u64>,
    tags: BTreeSet<u8>,
    /// Distinguishes entries as their ids do: kept while the key stays.
    id: u64,
    stored: u64,
    used: u64,
    count: u64,
}

/// What a cache should be. Written for clarity, not speed.
#[derive(Debug, Clone)]
struct Model {
    entries: BTreeMap<KeyBuf, Entry>,
    settings: CacheSettings,
    tick: u64,
    now: u64,
}

type Found = Option<(Vec<u8>, Option<u64>, BTreeSet<u8>)>;

impl Model {
    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn live(&self, key: &KeyBuf) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expires.is_none_or(|expires| expires > self.now))
    }

    fn volume(&self) -> u64 {
        let one = |(key, entry): (&KeyBuf, &Entry)| {
            let (key, file) = (key.as_bytes().len() as u64, entry.value.len() as u64 >= super::support::FILE_BYTES);
            let tags: u64 = entry.tags.len() as u64 * 3;
            let row =
                28 + tags + entry.value.len() as u64 + u64::from(entry.expires.is_some()) * 8 + u64::from(file) * 24;
            let indexes = 1 + u64::from(entry.expires.is_some()) + u64::from(file) + entry.tags.len() as u64;
            key + row + indexes * (16 + key) + tags
        };
        self.entries.iter().map(one).sum()
    }

    fn read(&mut self, key: &KeyBuf) -> Found {
        let tick = self.tick();
        let counts =
            self.settings.eviction() != Eviction::LeastRecentlyStored && self.settings.eviction() != Eviction::None;
        let found = self.live(key).map(|entry| (entry.value.clone(), entry.expires, entry.tags.clone()));
        if counts && found.is_some() {
            let entry = self.entries.get_mut(key).unwrap();
            (entry.used, entry.count) = (tick, entry.count + 1);
        }
        found
    }

    fn set(&mut self, key: &KeyBuf, value: &[u8], ttl: Option<u64>, tags: &[u8]) {
        let (stored, fresh) = (self.tick(), self.tick());
        let id = self.entries.get(key).map_or(fresh, |entry| entry.id);
        let expires = ttl.map(|ttl| self.now + ttl);
        let tags = tags.iter().copied().collect();
        let entry = Entry { value: value.to_vec(), expires, tags, id, stored, used: stored, count: 0 };
        self.entries.insert(key.clone(), entry);
        let mut limit = self.settings.cull_limit() as usize;
        if limit > 0 {
            limit -= self.expire(limit);
            if limit > 0 && self.volume() >= self.settings.size_limit_bytes() {
                self.evict_by_policy(limit);
            }
        }
    }

    fn expire(&mut self, limit: usize) -> usize {
        let now = self.now;
        let mut expired: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(key, entry)| Some((entry.expires.filter(|expires| *expires <= now)?, entry.id, key.clone())))
            .collect();
        expired.sort();
        expired.truncate(limit);
        expired.iter().for_each(|(_, _, key)| drop(self.entries.remove(key)));
        expired.len()
    }

    fn evict_by_policy(&mut self, limit: usize) -> usize {
        let rank = |entry: &Entry| match self.settings.eviction() {
            Eviction::LeastRecentlyStored => Some(entry.stored),
            Eviction::LeastRecentlyUsed => Some(entry.used),
            Eviction::LeastFrequentlyUsed => Some(entry.count),
            _ => None,
        };
        let mut ranked: Vec<_> =
            self.entries.iter().filter_map(|(key, entry)| Some((rank(entry)?, entry.id, key.clone()))).collect();
        ranked.sort();
        ranked.truncate(limit);
        ranked.iter().for_each(|(_, _, key)| drop(self.entries.remove(key)));
        ranked.len()
    }

    fn incr(&mut self, key: &KeyBuf, delta: i64) -> Option<i64> {
        let Some(entry) = self.live(key) else {
            self.set(key, delta.to_string().as_bytes(), None, &[]);
            return Some(delta);
        };
        let next = std::str::from_utf8(&entry.value).ok()?.parse::<i64>().ok()? + delta;
        let stored = self.tick();
        let counts = matches!(self.settings.eviction(), Eviction::LeastRecentlyUsed | Eviction::LeastFrequentlyUsed);
        let entry = self.entries.get_mut(key).unwrap();
        entry.value = next.to_string().into_bytes();
        (entry.stored, entry.used) = (stored, stored);
        entry.count = if counts { entry.count + 1 } else { 0 };
        Some(next)
    }

    fn queue(&self) -> Vec<(i64, KeyBuf)> {
        let numbered = self.entries.keys().filter_map(|key| Some((key.decode::<(String, i64)>().ok()?.1, key.clone())));
        numbered.collect()
    }

    fn push(&mut self, side: Side, value: &[u8], ttl: Option<u64>) -> KeyBuf {
        let queue = self.queue();
        let number = match side {
            Side::Front => queue.first().map_or(0, |(first, _)| first - 1),
            Side::Back => queue.last().map_or(0, |(last, _)| last + 1),
        };
        let key = ("q", number).to_key();
        self.set(&key, value, ttl, &[]);
        key
    }

    fn pull(&mut self, side: Side) -> Option<(KeyBuf, Vec<u8>)> {
        loop {
            let queue = self.queue();
            let key = match side {
                Side::Front => queue.first()?.1.clone(),
                Side::Back => queue.last()?.1.clone(),
            };
            // Looking for it is a read, as `pop` is.
            let found = self.read(&key);
            self.entries.remove(&key);
            if let Some((value, ..)) = found {
                return Some((key, value));
            }
        }
    }

    fn change_settings(&mut self, settings: CacheSettings) {
        let counts = |eviction| matches!(eviction, Eviction::LeastRecentlyUsed | Eviction::LeastFrequentlyUsed);
        // What is not counted is forgotten.
        if !counts(settings.eviction()) {
            for entry in self.entries.values_mut() {
                (entry.used, entry.count) = (entry.stored, 0);
            }
        }
        self.settings = settings;
    }
}

/// A cache as the steps see it: itself, or a transaction on it.
trait Operations {
    fn set(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions);
    fn add(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> bool;
    fn item(&mut self, key: &KeyBuf) -> Option<alluvium_disk_kv_cache::Item>;
    fn touch(&mut self, key: &KeyBuf, ttl: Option<Duration>) -> bool;
    fn pop(&mut self, key: &KeyBuf) -> Option<alluvium_disk_kv_cache::Item>;
    fn delete(&mut self, key: &KeyBuf) -> bool;
    fn incr(&mut self, key: &KeyBuf, delta: i64) -> Option<i64>;
    fn push(&mut self, side: Side, value: &[u8], options: &SetOptions) -> KeyBuf;
    fn pull(&mut self, side: Side) -> Option<(KeyBuf, alluvium_disk_kv_cache::Item)>;
}

fn number(incremented: Result<Option<i64>, CacheError>) -> Option<i64> {
    match incremented {
        Ok(sum) => sum,
        Err(CacheError::NotAnInteger { .. }) => None,
        Err(error) => panic!("{error:?}"),
    }
}

macro_rules! operations {
    ($on:ty) => {
        impl Operations for $on {
            fn set(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions) {
                self.0.set_with(key, value, options).unwrap();
            }
            fn add(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> bool {
                self.0.add(key, value, options).unwrap()
            }
            fn item(&mut self, key: &KeyBuf) -> Option<alluvium_disk_kv_cache::Item> {
                self.0.item(key).unwrap()
            }
            fn touch(&mut self, key: &KeyBuf, ttl: Option<Duration>) -> bool {
                self.0.touch(key, ttl).unwrap()
            }
            fn pop(&mut self, key: &KeyBuf) -> Option<alluvium_disk_kv_cache::Item> {
                self.0.pop(key).unwrap()
            }
            fn delete(&mut self, key: &KeyBuf) -> bool {
                self.0.delete(key).unwrap()
            }
            fn incr(&mut self, key: &KeyBuf, delta: i64) -> Option<i64> {
                number(self.0.incr_by(key, delta))
            }
            fn push(&mut self, side: Side, value: &[u8], options: &SetOptions) -> KeyBuf {
                self.0.push("q", value, side, options).unwrap()
            }
            fn pull(&mut self, side: Side) -> Option<(KeyBuf, alluvium_disk_kv_cache::Item)> {
                self.0.pull("q", side).unwrap()
            }
        }
    };
}

/// The few operations that the two call differently.
trait Alike {
    fn set_with(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError>;
    fn item(&mut self, key: &KeyBuf) -> Result<Option<alluvium_disk_kv_cache::Item>, CacheError>;
    fn incr_by(&mut self, key: &KeyBuf, delta: i64) -> Result<Option<i64>, CacheError>;
}

impl Alike for &Cache {
    fn set_with(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
        Cache::set_with(self, key, value, options)
    }
    fn item(&mut self, key: &KeyBuf) -> Result<Option<alluvium_disk_kv_cache::Item>, CacheError> {
        self.get_item(key)
    }
    fn incr_by(&mut self, key: &KeyBuf, delta: i64) -> Result<Option<i64>, CacheError> {
        self.incr(key, delta).map(Some)
    }
}

impl Alike for &mut alluvium_disk_kv_cache::Transaction<'_, '_> {
    fn set_with(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
        self.set(key, value, options)
    }
    fn item(&mut self, key: &KeyBuf) -> Result<Option<alluvium_disk_kv_cache::Item>, CacheError> {
        self.view().get_item(key)
    }
    fn incr_by(&mut self, key: &KeyBuf, delta: i64) -> Result<Option<i64>, CacheError> {
        self.incr(key, delta, Some(0), &SetOptions::new())
    }
}

struct Whole<'c>(&'c Cache);
struct Within<'x, 'a, 't>(&'x mut alluvium_disk_kv_cache::Transaction<'a, 't>);
operations!(Whole<'_>);
operations!(Within<'_, '_, '_>);

fn set_options(ttl: Option<u64>, tags: &[u8]) -> SetOptions {
    let options = tags.iter().fold(SetOptions::new(), |options, tag| options.with_tag(tag.to_string()));
    match ttl {
        Some(ttl) => options.with_ttl(Duration::from_nanos(ttl)),
        None => options,
    }
}

fn found(item: Option<alluvium_disk_kv_cache::Item>) -> Found {
    item.map(|item| {
        let nanos = |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let tags = item.tags.iter().map(|tag| tag.parse().unwrap()).collect();
        (item.value, item.expires_at.map(nanos), tags)
    })
}

/// Does one of the small steps to both.
fn do_both(on: &mut dyn Operations, model: &mut Model, step: &Step) {
    match step {
        Step::Set(key, value, ttl, tags) => {
            on.set(&key.to_key(), value, &set_options(*ttl, tags));
            model.set(&key.to_key(), value, *ttl, tags);
        }
        Step::Add(key, value, ttl) => {
            let expected = model.live(&key.to_key()).is_none();
            assert_eq!(on.add(&key.to_key(), value, &set_options(*ttl, &[])), expected);
            if expected {
                model.set(&key.to_key(), value, *ttl, &[]);
            }
        }
        Step::Get(key) => assert_eq!(found(on.item(&key.to_key())), model.read(&key.to_key())),
        Step::Touch(key, ttl) => {
            let live = model.live(&key.to_key()).is_some();
            assert_eq!(on.touch(&key.to_key(), ttl.map(Duration::from_nanos)), live);
            if live {
                let expires = ttl.map(|ttl| model.now + ttl);
                model.entries.get_mut(&key.to_key()).unwrap().expires = expires;
            }
        }
        Step::Pop(key) => {
            let expected = model.read(&key.to_key());
            assert_eq!(found(on.pop(&key.to_key())), expected);
            if expected.is_some() {
                model.entries.remove(&key.to_key());
            }
        }
        Step::Delete(key) => {
            assert_eq!(on.delete(&key.to_key()), model.live(&key.to_key()).is_some());
            model.entries.remove(&key.to_key());
        }
        Step::Incr(key, delta) => assert_eq!(on.incr(&key.to_key(), *delta), model.incr(&key.to_key(), *delta)),
        Step::Push(side, value, ttl) => {
            assert_eq!(on.push(*side, value, &set_options(*ttl, &[])), model.push(*side, value, *ttl));
        }
        Step::Pull(side) => {
            let pulled = on.pull(*side).map(|(key, item)| (key, item.value));
            assert_eq!(pulled, model.pull(*side));
        }
        other => unreachable!("{other:?} is no small step"),
    }
}

fn transact(cache: &Cache, model: &mut Model, outer: &[Step], inner: &[Step], outcome: Outcome) {
    let mut after = model.clone();
    let end = |fails: bool| if fails { Err(CacheError::Tags) } else { Ok(()) };
    let done = cache.transact(|txn| {
        after = model.clone();
        outer.iter().for_each(|step| do_both(&mut Within(txn), &mut after, step));
        let mut within = after.clone();
        let done = txn.transact(|txn| {
            inner.iter().for_each(|step| do_both(&mut Within(txn), &mut within, step));
            end(outcome == Outcome::InnerFails)
        });
        match done {
            Ok(()) => after = within,
            Err(_) => assert_eq!(outcome, Outcome::InnerFails),
        }
        end(outcome == Outcome::Fails)
    });
    match done {
        Ok(()) => *model = after,
        Err(_) => assert_eq!(outcome, Outcome::Fails),
    }
}

fn agree(cache: &Cache, model: &Model, dir: &std::path::Path) {
    assert_sound(cache);
    assert_eq!(cache.len().unwrap(), model.entries.len() as u64);
    assert_eq!(cache.volume().unwrap(), model.volume());
    let live = |key: &&KeyBuf| model.live(key).is_some();
    let keys: Vec<_> = cache.keys(Order::Ascending).map(Result::unwrap).collect();
    assert!(keys.iter().eq(model.entries.keys().filter(live)), "{keys:?} {model:?}");
    for entry in cache.items(Order::Descending) {
        let (key, item) = entry.unwrap();
        let entry = &model.entries[&key];
        assert_eq!(found(Some(item)).unwrap(), (entry.value.clone(), entry.expires, entry.tags.clone()));
    }
    for tag in 0..3 {
        let mut tagged = cache.keys_by_tag(&tag.to_string()).unwrap();
        tagged.sort();
        let expected = model.entries.keys().filter(live).filter(|key| model.entries[*key].tags.contains(&tag));
        assert!(tagged.iter().eq(expected));
    }
    let with_files = model.entries.values().filter(|entry| entry.value.len() as u64 >= super::support::FILE_BYTES);
    assert_eq!(files(dir), with_files.count());
}

fn run(steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let clock: ManualClock = clock();
    let open = |settings: CacheSettings| options(&clock).with_settings(settings).open(dir.path()).unwrap();
    let mut cache = open(settings());
    let now = clock.unix_nanos();
    let mut model = Model { entries: BTreeMap::new(), settings: settings(), tick: 0, now };
    for step in steps {
        match step {
            Step::Peek(side) => {
                let queue = model.queue();
                let mut live = queue.iter().filter(|(_, key)| model.live(key).is_some());
                let expected = match side {
                    Side::Front => live.next(),
                    Side::Back => live.next_back(),
                };
                let peeked = cache.peek("q", *side).unwrap();
                assert_eq!(peeked.map(|(key, _)| key), expected.map(|(_, key)| key.clone()));
            }
            Step::PeekItem(order) => {
                let mut live = model.entries.keys().filter(|key| model.live(key).is_some());
                let expected = match order {
                    Order::Ascending => live.next(),
                    Order::Descending => live.next_back(),
                };
                assert_eq!(cache.peek_item(*order).unwrap().map(|(key, _)| key), expected.cloned());
            }
            Step::Expire => assert_eq!(cache.expire().unwrap(), model.expire(usize::MAX) as u64),
            Step::Evict(tag) => {
                let before = model.entries.len();
                model.entries.retain(|_, entry| !entry.tags.contains(tag));
                assert_eq!(cache.evict(&tag.to_string()).unwrap(), (before - model.entries.len()) as u64);
            }
            Step::Cull => {
                let mut expected = model.expire(usize::MAX);
                while model.volume() > model.settings.size_limit_bytes() {
                    match model.evict_by_policy(10) {
                        0 => break,
                        evicted => expected += evicted,
                    }
                }
                assert_eq!(cache.cull().unwrap(), expected as u64);
            }
            Step::Clear => {
                assert_eq!(cache.clear().unwrap(), model.entries.len() as u64);
                model.entries.clear();
            }
            Step::Advance(nanos) => {
                clock.advance(Duration::from_nanos(*nanos));
                model.now += nanos;
            }
            Step::Settings(settings) => {
                cache.update_settings(|_| *settings).unwrap();
                model.change_settings(*settings);
            }
            Step::Reopen => {
                drop(cache);
                cache = options(&clock).open(dir.path()).unwrap();
                assert_eq!(cache.settings().unwrap(), model.settings);
            }
            Step::Transact(outer, inner, outcome) => transact(&cache, &mut model, outer, inner, *outcome),
            Step::Iterate(from, order) => {
                let expected: Vec<KeyBuf> = match order {
                    Order::Ascending => model.entries.range(from.to_key()..).map(|(key, _)| key.clone()).collect(),
                    Order::Descending => {
                        model.entries.range(..=from.to_key()).rev().map(|(key, _)| key.clone()).collect()
                    }
                };
                let expected: Vec<_> = expected.into_iter().filter(|key| model.live(key).is_some()).collect();
                let keys: Vec<_> = cache.keys_from(from, *order).map(Result::unwrap).collect();
                assert_eq!(keys, expected);
            }
            small => do_both(&mut Whole(&cache), &mut model, small),
        }
        agree(&cache, &model, dir.path());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_is_what_the_model_says(first in settings_of(), steps in vec(step(), 1..40)) {
        let mut all = vec![Step::Settings(first)];
        all.extend(steps);
        run(&all);
    }
}

//! Every operation, in random order, against a model in memory: with time, restarts, and on each engine.

mod reference;
mod step;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use alluvium_disk_kv_cache::{
    Cache, CacheError, CacheOptions, Clock, Item, Key, KeyBuf, ManualClock, Order, SetOptions, Sharing, Side,
    Transaction, ValueReader,
};
use proptest::prelude::*;

use self::reference::{Found, Model, Refused};
use self::step::{Outcome, QUEUE, Small, Step, Stored, plan};
use super::support::{assert_sound, clock, files};
use crate::child::quick;

type Counted = Result<Option<i64>, CacheError>;

/// A cache as the small steps see it: itself, or a transaction on it.
trait Operations {
    fn set(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError>;
    fn add(&mut self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<bool, CacheError>;
    fn get(&mut self, key: &KeyBuf) -> Result<Option<Vec<u8>>, CacheError>;
    fn get_item(&mut self, key: &KeyBuf) -> Result<Option<Item>, CacheError>;
    fn read(&mut self, key: &KeyBuf) -> Result<Option<ValueReader>, CacheError>;
    fn contains(&mut self, key: &KeyBuf) -> Result<bool, CacheError>;
    fn touch(&mut self, key: &KeyBuf, ttl: Option<Duration>) -> Result<bool, CacheError>;
    fn pop(&mut self, key: &KeyBuf) -> Result<Option<Item>, CacheError>;
    fn delete(&mut self, key: &KeyBuf) -> Result<bool, CacheError>;
    fn incr(&mut self, key: &KeyBuf, delta: i64, default: Option<i64>, options: &SetOptions) -> Counted;
    fn push(&mut self, value: &[u8], side: Side, options: &SetOptions) -> Result<KeyBuf, CacheError>;
    fn pull(&mut self, side: Side) -> Result<Option<(KeyBuf, Item)>, CacheError>;
    fn peek(&mut self, side: Side) -> Result<Option<(KeyBuf, Item)>, CacheError>;
    fn peek_item(&mut self, order: Order) -> Result<Option<(KeyBuf, Item)>, CacheError>;
    fn keys_by_tag(&mut self, tag: &str) -> Result<Vec<KeyBuf>, CacheError>;
    fn len(&mut self) -> Result<u64, CacheError>;
}

/// Each by the method of its name: of the cache itself; or of a transaction, and for what only reads of its view.
macro_rules! operations {
    ($on:ty, $self:ident, reads: $reads:expr, set: $set:ident, incr: $incr:ident, read: $read:ident) => {
        impl Operations for $on {
            fn set(&mut $self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
                $self.0.$set(key, value, options)
            }
            fn add(&mut $self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<bool, CacheError> {
                $self.0.add(key, value, options)
            }
            fn get(&mut $self, key: &KeyBuf) -> Result<Option<Vec<u8>>, CacheError> {
                $self.0.get(key)
            }
            fn get_item(&mut $self, key: &KeyBuf) -> Result<Option<Item>, CacheError> {
                $reads.get_item(key)
            }
            fn read(&mut $self, key: &KeyBuf) -> Result<Option<ValueReader>, CacheError> {
                $reads.$read(key)
            }
            fn contains(&mut $self, key: &KeyBuf) -> Result<bool, CacheError> {
                $reads.contains(key)
            }
            fn touch(&mut $self, key: &KeyBuf, ttl: Option<Duration>) -> Result<bool, CacheError> {
                $self.0.touch(key, ttl)
            }
            fn pop(&mut $self, key: &KeyBuf) -> Result<Option<Item>, CacheError> {
                $self.0.pop(key)
            }
            fn delete(&mut $self, key: &KeyBuf) -> Result<bool, CacheError> {
                $self.0.delete(key)
            }
            fn incr(&mut $self, key: &KeyBuf, delta: i64, default: Option<i64>, options: &SetOptions) -> Counted {
                $self.0.$incr(key, delta, default, options)
            }
            fn push(&mut $self, value: &[u8], side: Side, options: &SetOptions) -> Result<KeyBuf, CacheError> {
                $self.0.push(QUEUE, value, side, options)
            }
            fn pull(&mut $self, side: Side) -> Result<Option<(KeyBuf, Item)>, CacheError> {
                $self.0.pull(QUEUE, side)
            }
            fn peek(&mut $self, side: Side) -> Result<Option<(KeyBuf, Item)>, CacheError> {
                $reads.peek(QUEUE, side)
            }
            fn peek_item(&mut $self, order: Order) -> Result<Option<(KeyBuf, Item)>, CacheError> {
                $reads.peek_item(order)
            }
            fn keys_by_tag(&mut $self, tag: &str) -> Result<Vec<KeyBuf>, CacheError> {
                $reads.keys_by_tag(tag)
            }
            fn len(&mut $self) -> Result<u64, CacheError> {
                $reads.len()
            }
        }
    };
}

struct Whole<'c>(&'c Cache);
struct Within<'x, 'a, 't>(&'x mut Transaction<'a, 't>);
operations!(Whole<'_>, self, reads: self.0, set: set_with, incr: incr_with, read: read);
operations!(Within<'_, '_, '_>, self, reads: self.0.view(), set: set, incr: incr, read: open);

fn found(item: Item) -> Found {
    let nanos = |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let tags = item.tags.iter().map(|tag| tag.parse().unwrap()).collect();
    (item.value, item.expires_at.map(nanos), tags)
}

fn found_at((key, item): (KeyBuf, Item)) -> (KeyBuf, Found) {
    (key, found(item))
}

fn refused<T: std::fmt::Debug>(counted: Result<T, CacheError>, key: &KeyBuf) -> Result<T, Refused> {
    counted.map_err(|error| match error {
        CacheError::NotAnInteger { key: of } if of == *key => Refused::NotAnInteger,
        CacheError::Overflow { key: of, value } if of == *key => Refused::Overflow(value),
        error => panic!("{error:?}"),
    })
}

/// Everything that a stream has, read piece by piece.
fn drained(mut stream: ValueReader) -> Vec<u8> {
    let (length, mut bytes, mut piece) = (stream.len(), Vec::new(), [0; 37]);
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => break,
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
    assert_eq!(length, bytes.len() as u64);
    bytes
}

/// Does one of the small steps to both.
fn do_both(on: &mut dyn Operations, model: &mut Model, step: &Small) {
    match step {
        Small::Set(key, value, stored) => {
            on.set(&key.to_key(), value, &stored.options()).unwrap();
            model.set(&key.to_key(), value, stored);
        }
        Small::Add(key, value, stored) => {
            let added = on.add(&key.to_key(), value, &stored.options()).unwrap();
            assert_eq!(added, model.add(&key.to_key(), value, stored));
        }
        Small::Get(key) => {
            let expected = model.read(&key.to_key()).map(|(value, ..)| value);
            assert_eq!(on.get(&key.to_key()).unwrap(), expected);
        }
        Small::GetItem(key) => {
            assert_eq!(on.get_item(&key.to_key()).unwrap().map(found), model.read(&key.to_key()));
        }
        Small::Read(key) => {
            let expected = model.read(&key.to_key()).map(|(value, ..)| value);
            assert_eq!(on.read(&key.to_key()).unwrap().map(drained), expected);
        }
        Small::Contains(key) => assert_eq!(on.contains(&key.to_key()).unwrap(), model.contains(&key.to_key())),
        Small::Touch(key, ttl) => {
            let touched = on.touch(&key.to_key(), ttl.map(Duration::from_nanos)).unwrap();
            assert_eq!(touched, model.touch(&key.to_key(), *ttl));
        }
        Small::Pop(key) => assert_eq!(on.pop(&key.to_key()).unwrap().map(found), model.pop(&key.to_key())),
        Small::Delete(key) => assert_eq!(on.delete(&key.to_key()).unwrap(), model.delete(&key.to_key())),
        Small::Incr(key, delta, default, stored) => {
            let key = key.to_key();
            let counted = refused(on.incr(&key, *delta, *default, &stored.options()), &key);
            assert_eq!(counted, model.incr(&key, i128::from(*delta), *default, stored));
        }
        Small::Push(side, value, stored) => {
            let pushed = on.push(value, *side, &stored.options()).unwrap();
            assert_eq!(pushed, model.push(*side, value, stored));
        }
        Small::Pull(side) => assert_eq!(on.pull(*side).unwrap().map(found_at), model.pull(*side)),
        Small::Peek(side) => assert_eq!(on.peek(*side).unwrap().map(found_at), model.peek(*side)),
        Small::PeekItem(order) => assert_eq!(on.peek_item(*order).unwrap().map(found_at), model.peek_item(*order)),
        Small::KeysByTag(tag) => {
            let mut keys = on.keys_by_tag(&tag.to_string()).unwrap();
            keys.sort();
            assert_eq!(keys, model.keys_by_tag(*tag));
        }
        Small::Len => assert_eq!(on.len().unwrap(), model.len()),
    }
}

fn transact(cache: &Cache, model: &mut Model, outer: &[Small], inner: &[Small], outcome: Outcome) {
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

/// Gives bytes a piece at a time, and an error once they are used up if it is to fail.
struct Source<'b> {
    bytes: &'b [u8],
    piece: usize,
    fails: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(std::io::Error::other("on purpose"));
        }
        let piece = self.bytes.split_off(..self.piece.min(out.len()).min(self.bytes.len())).unwrap();
        out[..piece.len()].copy_from_slice(piece);
        Ok(piece.len())
    }
}

/// A cache and its model.
struct Pair<'d> {
    dir: &'d Path,
    options: CacheOptions,
    clock: ManualClock,
    /// `None` while it is opened anew.
    cache: Option<Cache>,
    model: Model,
    /// Streams that were opened and not yet read, and what they must give.
    streams: Vec<(ValueReader, Vec<u8>)>,
}

impl Pair<'_> {
    fn cache(&self) -> &Cache {
        self.cache.as_ref().unwrap()
    }

    fn step(&mut self, step: &Step) {
        let (Some(cache), model) = (&self.cache, &mut self.model) else { unreachable!("it is open") };
        match step {
            Step::Small(small) => do_both(&mut Whole(cache), model, small),
            Step::Transact(outer, inner, outcome) => transact(cache, model, outer, inner, *outcome),
            Step::SetMany(entries, stored) => {
                let all = entries.iter().map(|(key, value)| (*key, value.as_slice()));
                cache.set_many(all, &stored.options()).unwrap();
                entries.iter().for_each(|(key, value)| model.set(&key.to_key(), value, stored));
            }
            Step::GetMany(keys) => {
                let expected: Vec<_> = keys.iter().map(|key| model.read(&key.to_key())).collect();
                let expected: Vec<_> = expected.into_iter().map(|found| found.map(|(value, ..)| value)).collect();
                assert_eq!(cache.get_many(keys).unwrap(), expected);
            }
            Step::DeleteMany(keys) => {
                let expected = keys.iter().filter(|key| model.delete(&key.to_key())).count();
                assert_eq!(cache.delete_many(keys).unwrap(), expected as u64);
            }
            Step::SetFrom(key, value, piece, stored) => {
                let source = Source { bytes: value, piece: *piece, fails: false };
                cache.set_from(key, source, &stored.options()).unwrap();
                model.set(&key.to_key(), value, stored);
            }
            Step::SetFromFailing(key, bytes) => {
                let source = Source { bytes: &vec![1; *bytes], piece: 50, fails: true };
                let failed = cache.set_from(key, source, &SetOptions::new());
                assert!(matches!(failed, Err(CacheError::Source { .. })), "{failed:?}");
            }
            Step::OpenStream(key) => {
                let (stream, expected) = (cache.read(key).unwrap(), model.read(&key.to_key()));
                assert_eq!(stream.is_some(), expected.is_some());
                self.streams.extend(stream.zip(expected.map(|(value, ..)| value)));
            }
            Step::ReadStreams => self.read_streams(),
            Step::GetWith(key) => {
                let expected = model.read(&key.to_key()).map(|(value, ..)| value);
                assert_eq!(cache.get_with(key, <[u8]>::to_vec).unwrap(), expected);
            }
            Step::View(keys) => {
                let lent = cache.view(|view| {
                    let lent = keys.iter().map(|key| Ok(view.get(key)?.map(|value| value.to_vec())));
                    lent.collect::<Result<Vec<_>, CacheError>>()
                });
                let expected: Vec<_> = keys.iter().map(|key| model.read(&key.to_key())).collect();
                let expected: Vec<_> = expected.into_iter().map(|found| found.map(|(value, ..)| value)).collect();
                assert_eq!(lent.unwrap(), expected);
            }
            Step::Decr(key, delta) => {
                let key = key.to_key();
                let expected = model.incr(&key, -i128::from(*delta), Some(0), &Stored::default());
                assert_eq!(refused(cache.decr(&key, *delta), &key).map(Some), expected);
            }
            Step::Iterate(from, order) => {
                let expected = model.keys(Some(&from.to_key()), *order);
                let keys: Vec<_> = cache.keys_from(from, *order).map(Result::unwrap).collect();
                assert_eq!(keys, expected);
                let items = cache.items_from(from, *order).map(|item| found_at(item.unwrap()));
                assert!(items.eq(expected.iter().map(|key| (key.clone(), model.item(key).unwrap()))));
            }
            Step::Stats => self.stats(false),
            Step::ResetStats => self.stats(true),
            Step::Expire => assert_eq!(cache.expire().unwrap(), model.expire(usize::MAX) as u64),
            Step::Evict(tag) => assert_eq!(cache.evict(&tag.to_string()).unwrap(), model.evict(*tag)),
            Step::Cull => {
                let expected = model.expire(usize::MAX) + model.cull();
                assert_eq!(cache.cull().unwrap(), expected as u64);
            }
            Step::Clear => assert_eq!(cache.clear().unwrap(), model.clear()),
            Step::Maintain => {
                let done = cache.maintain().unwrap();
                assert_eq!((done.expired, done.orphan_files), (model.expire(usize::MAX) as u64, 0));
                assert_eq!(done.culled, model.cull() as u64);
            }
            Step::Check => assert_eq!(cache.check(true).unwrap(), []),
            Step::Settings(settings) => {
                cache.update_settings(|_| *settings).unwrap();
                model.change_settings(*settings);
            }
            Step::Reopen => {
                self.cache = None;
                self.cache = Some(self.options.open(self.dir).unwrap());
            }
            Step::Advance(nanos) => {
                self.clock.advance(Duration::from_nanos(*nanos));
                model.now += nanos;
            }
            Step::SetBack(nanos) => {
                model.now -= nanos;
                self.clock.set(Duration::from_nanos(model.now));
            }
        }
    }

    fn stats(&mut self, reset: bool) {
        let cache = self.cache();
        let stats = if reset { cache.reset_stats() } else { cache.stats() }.unwrap();
        let model = &self.model;
        assert_eq!((stats.hits, stats.misses, stats.damaged), (model.hits, model.misses, 0));
        assert_eq!((stats.entries, stats.volume_bytes), (model.len(), model.volume()));
        if reset {
            (self.model.hits, self.model.misses) = (0, 0);
        }
    }

    fn read_streams(&mut self) {
        for (stream, expected) in self.streams.drain(..) {
            assert_eq!(drained(stream), expected);
        }
    }

    /// Everything that can be seen without changing anything.
    fn agree(&self) {
        let (cache, model) = (self.cache(), &self.model);
        assert_sound(cache);
        assert_eq!((cache.len().unwrap(), cache.is_empty().unwrap()), (model.len(), model.len() == 0));
        assert_eq!(cache.volume().unwrap(), model.volume());
        assert_eq!(cache.settings().unwrap(), model.settings);
        let keys: Vec<_> = cache.keys(Order::Ascending).map(Result::unwrap).collect();
        assert_eq!(keys, model.keys(None, Order::Ascending));
        let items = cache.items(Order::Descending).map(|item| found_at(item.unwrap()));
        assert!(items.eq(keys.iter().rev().map(|key| (key.clone(), model.item(key).unwrap()))));
        assert_eq!(files(self.dir), model.files());
    }
}

fn run(sharing: Sharing, plan: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let clock = clock();
    // Room enough, so that no transaction runs twice: the model counts each read once.
    let store = quick().with_sharing(sharing).with_initial_map_bytes(1 << 20);
    let options = CacheOptions::new().with_store(store).with_clock(clock.clone());
    let (cache, model) = (options.open(dir.path()).unwrap(), Model::new(clock.unix_nanos()));
    let mut pair = Pair { dir: dir.path(), options, clock, cache: Some(cache), model, streams: Vec::new() };
    for step in plan {
        pair.step(step);
        pair.agree();
    }
    pair.read_streams();
    pair.stats(false);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[cfg(feature = "lmdb")]
    #[test]
    fn a_cache_on_lmdb_is_what_the_model_says(plan in plan()) {
        run(Sharing::MultiProcess, &plan);
    }

    #[cfg(feature = "sled")]
    #[test]
    fn a_cache_on_sled_is_what_the_model_says(plan in plan()) {
        run(Sharing::SingleProcess, &plan);
    }
}

//! What the model test does: every operation of a cache, in any order.

use std::time::Duration;

use alluvium_disk_kv_cache::{CacheSettings, Eviction, Key, Order, SetOptions, Side};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cache::support::{FILE_BYTES, large, settings};

/// The queue that the keys below meet.
pub const QUEUE: &str = "q";

/// Keys that meet, of several kinds; some look like a queue's.
#[derive(Debug, Clone, Copy)]
pub struct K(u8);

impl Key for K {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self.0 {
            0 => "".encode_into(out),
            1 => b"\0".as_slice().encode_into(out),
            2 => (QUEUE, 0).encode_into(out),
            // Between the keys of the queue, and none of its.
            3 => (QUEUE, 0, "x").encode_into(out),
            4 => (QUEUE, i128::from(i64::MAX) + 1).encode_into(out),
            5 => (QUEUE, i128::from(i64::MIN) - 1, 7).encode_into(out),
            n => i32::from(n).encode_into(out),
        }
    }
}

/// How something is stored: nanoseconds to live, and tags.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    pub ttl: Option<u64>,
    pub tags: Vec<u8>,
}

impl Stored {
    pub fn options(&self) -> SetOptions {
        let options = self.tags.iter().fold(SetOptions::new(), |options, tag| options.with_tag(tag.to_string()));
        match self.ttl {
            Some(ttl) => options.with_ttl(Duration::from_nanos(ttl)),
            None => options,
        }
    }
}

/// What can be done within a transaction as well as on the cache itself.
#[derive(Debug, Clone)]
pub enum Small {
    Set(K, Vec<u8>, Stored),
    Add(K, Vec<u8>, Stored),
    Get(K),
    GetItem(K),
    /// The value as a stream.
    Read(K),
    Contains(K),
    Touch(K, Option<u64>),
    Pop(K),
    Delete(K),
    /// By how much, from which default.
    Incr(K, i64, Option<i64>, Stored),
    Push(Side, Vec<u8>, Stored),
    Pull(Side),
    Peek(Side),
    PeekItem(Order),
    KeysByTag(u8),
    Len,
}

impl Small {
    /// Whether it counts as a read. That something was read is not undone with a transaction.
    pub fn reads(&self) -> bool {
        matches!(self, Small::Get(_) | Small::GetItem(_) | Small::Read(_) | Small::Pop(_) | Small::Pull(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    Commits,
    InnerFails,
    Fails,
}

#[derive(Debug, Clone)]
pub enum Step {
    Small(Small),
    /// Some in a transaction, some in one within it, and which of them fails.
    Transact(Vec<Small>, Vec<Small>, Outcome),
    SetMany(Vec<(K, Vec<u8>)>, Stored),
    GetMany(Vec<K>),
    DeleteMany(Vec<K>),
    /// Read in pieces of so many bytes.
    SetFrom(K, Vec<u8>, usize, Stored),
    /// From a reader that fails after so many bytes.
    SetFromFailing(K, usize),
    /// A stream that is read only some steps later, whatever happens to its entry meanwhile.
    OpenStream(K),
    ReadStreams,
    GetWith(K),
    /// Several reads of one moment.
    View(Vec<K>),
    Decr(K, i64),
    Iterate(K, Order),
    Stats,
    ResetStats,
    Expire,
    Evict(u8),
    Cull,
    Clear,
    Maintain,
    Check,
    Settings(CacheSettings),
    Reopen,
    Advance(u64),
    /// The clock goes backwards.
    SetBack(u64),
}

fn key() -> impl Strategy<Value = K> {
    (0..8_u8).prop_map(K)
}

fn keys() -> impl Strategy<Value = Vec<K>> {
    vec(key(), 0..5)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..6),
        2 => (-3..30_i64).prop_map(|n| n.to_string().into_bytes()),
        1 => prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX]).prop_map(|n| n.to_string().into_bytes()),
        2 => (0..250_u8).prop_map(large),
    ]
}

fn ttl() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![2 => Just(None), 1 => (0..30_u64).prop_map(Some)]
}

fn stored() -> impl Strategy<Value = Stored> {
    (ttl(), vec(0..3_u8, 0..3)).prop_map(|(ttl, tags)| Stored { ttl, tags })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Front), Just(Side::Back)]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Ascending), Just(Order::Descending)]
}

fn delta() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -5..5_i64, 1 => prop::sample::select(vec![i64::MIN, i64::MAX])]
}

/// Settings of every kind.
pub fn settings_of() -> impl Strategy<Value = CacheSettings> {
    let eviction = prop::sample::select(vec![
        Eviction::LeastRecentlyStored,
        Eviction::LeastRecentlyUsed,
        Eviction::LeastFrequentlyUsed,
        Eviction::None,
    ]);
    let limit = prop_oneof![Just(1_u64 << 30), 1..10_000_u64];
    let file = prop_oneof![4 => Just(FILE_BYTES), 1 => Just(3), 1 => Just(1 << 20)];
    (eviction, 0..4_u32, limit, file, any::<bool>()).prop_map(|(eviction, cull_limit, limit, file, statistics)| {
        let settings = settings().with_eviction(eviction).with_statistics(statistics).with_cull_limit(cull_limit);
        settings.with_size_limit_bytes(limit).with_min_file_size_bytes(file)
    })
}

fn small() -> impl Strategy<Value = Small> {
    prop_oneof![
        8 => (key(), value(), stored()).prop_map(|(key, value, stored)| Small::Set(key, value, stored)),
        2 => (key(), value(), stored()).prop_map(|(key, value, stored)| Small::Add(key, value, stored)),
        3 => key().prop_map(Small::Get),
        2 => key().prop_map(Small::GetItem),
        2 => key().prop_map(Small::Read),
        1 => key().prop_map(Small::Contains),
        2 => (key(), ttl()).prop_map(|(key, ttl)| Small::Touch(key, ttl)),
        2 => key().prop_map(Small::Pop),
        2 => key().prop_map(Small::Delete),
        3 => (key(), delta(), prop::option::weighted(0.8, -1..2_i64), stored())
            .prop_map(|(key, delta, default, stored)| Small::Incr(key, delta, default, stored)),
        3 => (side(), value(), stored()).prop_map(|(side, value, stored)| Small::Push(side, value, stored)),
        2 => side().prop_map(Small::Pull),
        1 => side().prop_map(Small::Peek),
        1 => order().prop_map(Small::PeekItem),
        1 => (0..3_u8).prop_map(Small::KeysByTag),
        1 => Just(Small::Len),
    ]
}

fn transaction() -> impl Strategy<Value = Step> {
    let outcome = prop::sample::select(vec![Outcome::Commits, Outcome::InnerFails, Outcome::Fails]);
    (vec(small(), 0..4), vec(small(), 0..4), outcome).prop_map(|(mut outer, mut inner, outcome)| {
        // The model takes reads back with the rest.
        if outcome == Outcome::Fails {
            outer.retain(|step| !step.reads());
        }
        if outcome != Outcome::Commits {
            inner.retain(|step| !step.reads());
        }
        Step::Transact(outer, inner, outcome)
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => small().prop_map(Step::Small),
        6 => transaction(),
        2 => (vec((key(), value()), 0..4), stored()).prop_map(|(entries, stored)| Step::SetMany(entries, stored)),
        2 => keys().prop_map(Step::GetMany),
        2 => keys().prop_map(Step::DeleteMany),
        3 => (key(), value(), 1..120_usize, stored())
            .prop_map(|(key, value, piece, stored)| Step::SetFrom(key, value, piece, stored)),
        1 => (key(), 0..400_usize).prop_map(|(key, bytes)| Step::SetFromFailing(key, bytes)),
        2 => key().prop_map(Step::OpenStream),
        1 => Just(Step::ReadStreams),
        1 => key().prop_map(Step::GetWith),
        1 => keys().prop_map(Step::View),
        2 => (key(), delta()).prop_map(|(key, delta)| Step::Decr(key, delta)),
        2 => (key(), order()).prop_map(|(key, order)| Step::Iterate(key, order)),
        2 => Just(Step::Stats),
        1 => Just(Step::ResetStats),
        1 => Just(Step::Expire),
        2 => (0..3_u8).prop_map(Step::Evict),
        1 => Just(Step::Cull),
        1 => Just(Step::Clear),
        1 => Just(Step::Maintain),
        1 => Just(Step::Check),
        3 => settings_of().prop_map(Step::Settings),
        1 => Just(Step::Reopen),
        5 => (0..20_u64).prop_map(Step::Advance),
        1 => (0..40_u64).prop_map(Step::SetBack),
    ]
}

/// The settings to begin with, and what is then done.
pub fn plan() -> impl Strategy<Value = Vec<Step>> {
    (settings_of(), vec(step(), 1..40)).prop_map(|(first, steps)| {
        let mut plan = vec![Step::Settings(first)];
        plan.extend(steps);
        plan
    })
}

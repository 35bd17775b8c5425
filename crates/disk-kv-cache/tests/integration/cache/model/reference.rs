//! What a cache should be, in memory. Written for clarity, not speed.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_disk_kv_cache::{CacheSettings, Eviction, Key, KeyBuf, Order, Side};

use super::step::{QUEUE, Stored};
use crate::cache::support::settings;

/// A value with its expiry in Unix nanoseconds, and its tags.
pub type Found = (Vec<u8>, Option<u64>, BTreeSet<u8>);

/// Why an integer was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    NotAnInteger,
    /// Beyond 64 bits, from this one.
    Overflow(i64),
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    value: Vec<u8>,
    in_file: bool,
    expires: Option<u64>,
    tags: BTreeSet<u8>,
    /// Distinguishes entries as their ids do: kept while the key stays.
    id: u64,
    stored: u64,
    used: u64,
    count: u64,
}

#[derive(Debug, Clone)]
pub struct Model {
    entries: BTreeMap<KeyBuf, Entry>,
    pub settings: CacheSettings,
    tick: u64,
    pub now: u64,
    pub hits: u64,
    pub misses: u64,
}

impl Model {
    pub fn new(now: u64) -> Model {
        Model { entries: BTreeMap::new(), settings: settings(), tick: 0, now, hits: 0, misses: 0 }
    }

    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn live(&self, key: &KeyBuf) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expires.is_none_or(|expires| expires > self.now))
    }

    /// Entries, those included that have expired.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub fn files(&self) -> usize {
        self.entries.values().filter(|entry| entry.in_file).count()
    }

    pub fn contains(&self, key: &KeyBuf) -> bool {
        self.live(key).is_some()
    }

    /// What is under a key, without reading it.
    pub fn item(&self, key: &KeyBuf) -> Option<Found> {
        self.live(key).map(|entry| (entry.value.clone(), entry.expires, entry.tags.clone()))
    }

    /// The keys from one on, or all.
    pub fn keys(&self, from: Option<&KeyBuf>, order: Order) -> Vec<KeyBuf> {
        let live = self.entries.keys().filter(|key| self.contains(key)).cloned();
        match order {
            Order::Ascending => live.filter(|key| from.is_none_or(|from| key >= from)).collect(),
            Order::Descending => live.rev().filter(|key| from.is_none_or(|from| key <= from)).collect(),
        }
    }

    pub fn keys_by_tag(&self, tag: u8) -> Vec<KeyBuf> {
        let mut keys = self.keys(None, Order::Ascending);
        keys.retain(|key| self.entries[key].tags.contains(&tag));
        keys
    }

    pub fn volume(&self) -> u64 {
        let one = |(key, entry): (&KeyBuf, &Entry)| {
            let (key, file) = (key.as_bytes().len() as u64, entry.in_file);
            let tags: u64 = entry.tags.len() as u64 * 3;
            let row =
                28 + tags + entry.value.len() as u64 + u64::from(entry.expires.is_some()) * 8 + u64::from(file) * 24;
            let indexes = 1 + u64::from(entry.expires.is_some()) + u64::from(file) + entry.tags.len() as u64;
            key + row + indexes * (16 + key) + tags
        };
        self.entries.iter().map(one).sum()
    }

    fn counts_reads(&self) -> bool {
        matches!(self.settings.eviction(), Eviction::LeastRecentlyUsed | Eviction::LeastFrequentlyUsed)
    }

    /// Reads an entry: a hit, or a miss.
    pub fn read(&mut self, key: &KeyBuf) -> Option<Found> {
        let tick = self.tick();
        let found = self.item(key);
        if self.settings.statistics() {
            *(if found.is_some() { &mut self.hits } else { &mut self.misses }) += 1;
        }
        if found.is_some() && self.counts_reads() {
            let entry = self.entries.get_mut(key).unwrap();
            (entry.used, entry.count) = (tick, entry.count + 1);
        }
        found
    }

    pub fn set(&mut self, key: &KeyBuf, value: &[u8], stored: &Stored) {
        let (tick, fresh) = (self.tick(), self.tick());
        let entry = Entry {
            value: value.to_vec(),
            in_file: value.len() as u64 >= self.settings.min_file_size_bytes(),
            expires: stored.ttl.map(|ttl| self.now + ttl),
            tags: stored.tags.iter().copied().collect(),
            id: self.entries.get(key).map_or(fresh, |entry| entry.id),
            stored: tick,
            used: tick,
            count: 0,
        };
        self.entries.insert(key.clone(), entry);
        let mut limit = self.settings.cull_limit() as usize;
        if limit > 0 {
            limit -= self.expire(limit);
            if limit > 0 && self.volume() >= self.settings.size_limit_bytes() {
                self.evict_by_policy(limit);
            }
        }
    }

    pub fn add(&mut self, key: &KeyBuf, value: &[u8], stored: &Stored) -> bool {
        let absent = !self.contains(key);
        if absent {
            self.set(key, value, stored);
        }
        absent
    }

    pub fn touch(&mut self, key: &KeyBuf, ttl: Option<u64>) -> bool {
        let there = self.contains(key);
        if there {
            self.entries.get_mut(key).unwrap().expires = ttl.map(|ttl| self.now + ttl);
        }
        there
    }

    pub fn pop(&mut self, key: &KeyBuf) -> Option<Found> {
        let found = self.item(key);
        if found.is_some() {
            self.entries.remove(key);
        }
        found
    }

    pub fn delete(&mut self, key: &KeyBuf) -> bool {
        let there = self.contains(key);
        self.entries.remove(key);
        there
    }

    pub fn incr(
        &mut self,
        key: &KeyBuf,
        delta: i128,
        default: Option<i64>,
        stored: &Stored,
    ) -> Result<Option<i64>, Refused> {
        let sum = |value: i64| i64::try_from(i128::from(value) + delta).map_err(|_| Refused::Overflow(value));
        let Some(entry) = self.live(key) else {
            let Some(default) = default else { return Ok(None) };
            let value = sum(default)?;
            self.set(key, value.to_string().as_bytes(), stored);
            return Ok(Some(value));
        };
        let value = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
        let next = sum(value.ok_or(Refused::NotAnInteger)?)?;
        let (tick, counts) = (self.tick(), self.counts_reads());
        let in_file = next.to_string().len() as u64 >= self.settings.min_file_size_bytes();
        let entry = self.entries.get_mut(key).unwrap();
        (entry.value, entry.in_file) = (next.to_string().into_bytes(), in_file);
        (entry.stored, entry.used) = (tick, tick);
        entry.count = if counts { entry.count + 1 } else { 0 };
        Ok(Some(next))
    }

    /// The entries of the queue, expired or not, with their numbers.
    fn queue(&self) -> Vec<(i64, KeyBuf)> {
        let numbered = self.entries.keys().filter_map(|key| {
            let (prefix, number) = key.decode::<(String, i64)>().ok()?;
            Some((number, key.clone())).filter(|_| prefix == QUEUE)
        });
        numbered.collect()
    }

    fn head(queue: &[(i64, KeyBuf)], side: Side) -> Option<&(i64, KeyBuf)> {
        match side {
            Side::Front => queue.first(),
            Side::Back => queue.last(),
        }
    }

    pub fn push(&mut self, side: Side, value: &[u8], stored: &Stored) -> KeyBuf {
        let number = match (Model::head(&self.queue(), side), side) {
            (None, _) => 0,
            (Some((first, _)), Side::Front) => first - 1,
            (Some((last, _)), Side::Back) => last + 1,
        };
        let key = (QUEUE, number).to_key();
        self.set(&key, value, stored);
        key
    }

    pub fn pull(&mut self, side: Side) -> Option<(KeyBuf, Found)> {
        loop {
            let (_, key) = Model::head(&self.queue(), side)?.clone();
            let found = self.item(&key);
            self.entries.remove(&key);
            if let Some(found) = found {
                return Some((key, found));
            }
        }
    }

    pub fn peek(&self, side: Side) -> Option<(KeyBuf, Found)> {
        let mut queue = self.queue();
        queue.retain(|(_, key)| self.contains(key));
        let (_, key) = Model::head(&queue, side)?;
        Some((key.clone(), self.item(key)?))
    }

    pub fn peek_item(&self, order: Order) -> Option<(KeyBuf, Found)> {
        let key = self.keys(None, order).into_iter().next()?;
        let found = self.item(&key)?;
        Some((key, found))
    }

    pub fn expire(&mut self, limit: usize) -> usize {
        let now = self.now;
        let expired = |entry: &Entry| entry.expires.filter(|expires| *expires <= now);
        self.remove_first(limit, expired)
    }

    fn evict_by_policy(&mut self, limit: usize) -> usize {
        match self.settings.eviction() {
            Eviction::LeastRecentlyStored => self.remove_first(limit, |entry| Some(entry.stored)),
            Eviction::LeastRecentlyUsed => self.remove_first(limit, |entry| Some(entry.used)),
            Eviction::LeastFrequentlyUsed => self.remove_first(limit, |entry| Some(entry.count)),
            _ => 0,
        }
    }

    /// Removes entries of the lowest rank, the oldest of equals first.
    fn remove_first(&mut self, limit: usize, rank: impl Fn(&Entry) -> Option<u64>) -> usize {
        let ranked = self.entries.iter().filter_map(|(key, entry)| Some((rank(entry)?, entry.id, key.clone())));
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort();
        ranked.truncate(limit);
        ranked.iter().for_each(|(_, _, key)| drop(self.entries.remove(key)));
        ranked.len()
    }

    /// By policy alone.
    pub fn cull(&mut self) -> usize {
        let mut culled = 0;
        while self.volume() > self.settings.size_limit_bytes() {
            match self.evict_by_policy(10) {
                0 => break,
                evicted => culled += evicted,
            }
        }
        culled
    }

    pub fn evict(&mut self, tag: u8) -> u64 {
        let before = self.len();
        self.entries.retain(|_, entry| !entry.tags.contains(&tag));
        before - self.len()
    }

    pub fn clear(&mut self) -> u64 {
        let before = self.len();
        self.entries.clear();
        before
    }

    pub fn change_settings(&mut self, settings: CacheSettings) {
        self.settings = settings;
        // What is not counted is forgotten.
        if !self.counts_reads() {
            for entry in self.entries.values_mut() {
                (entry.used, entry.count) = (entry.stored, 0);
            }
        }
    }
}

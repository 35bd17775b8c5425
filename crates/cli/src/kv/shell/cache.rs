//! The operations of caches.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use alluvium_disk_kv_cache::{Cache, CacheError, CacheSettings, Key, KeyBuf, Order, Side, Transaction};
use rustix::fs::OFlags;
use serde_json::{Value, json};

use super::answer;
use super::operations::{Operation, op};
use super::request::Fields;
use super::session::Session;
use super::transactions;
use crate::kv::codec::{bytes_to_json, key_to_json};
use crate::kv::describe::{self, EVICTIONS};
use crate::kv::document;
use crate::kv::fault::{Fault, kind};
use crate::kv::target::{Target, has_prefix, with_cache};

/// How many entries a page has, unless told otherwise.
const PAGE: u64 = 100;
const MAX_PAGE: u64 = 10_000;
/// A page ends once its values have so many bytes.
const PAGE_BYTES: usize = 1 << 20;
/// The longest entry of a page: with what can be before it, and the lists of keys beside it, it fits into an answer.
const MAX_ENTRY_BYTES: usize = answer::MAX_BYTES / 2;

/// The ends of queues.
pub const SIDES: &[(&str, Side)] = &[("front", Side::Front), ("back", Side::Back)];
/// The orders of keys.
pub const ORDERS: &[(&str, Order)] = &[("ascending", Order::Ascending), ("descending", Order::Descending)];

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    op("cache.open", &["shards?", "in?"], open),
    op("cache.get", &["key", "in?"], get),
    op("cache.get_item", &["key", "in?"], |session, fields| {
        let key = fields.key("key")?;
        let item = with_cache!(session.cache(fields)?, cache => cache.get_item(&key))?;
        Ok(item.map_or(Value::Null, describe::item))
    }),
    op("cache.get_many", &["keys", "in?"], |session, fields| {
        let keys = fields.keys("keys")?;
        let values = with_cache!(session.cache(fields)?, cache => cache.get_many(&keys))?;
        Ok(values.into_iter().map(|value| value.map_or(Value::Null, bytes_to_json)).collect())
    }),
    op("cache.read_to", &["key", "path", "in?"], read_to),
    op("cache.contains", &["key", "in?"], |session, fields| {
        let key = fields.key("key")?;
        Ok(with_cache!(session.cache(fields)?, cache => cache.contains(&key))?.into())
    }),
    op("cache.set", &["key", "value", "ttl?", "tags?", "in?"], |session, fields| {
        let (key, value, options) = (fields.key("key")?, fields.bytes("value")?, fields.set_options()?);
        with_cache!(session.cache(fields)?, cache => cache.set_with(&key, &value, &options))?;
        Ok(Value::Null)
    }),
    op("cache.set_from", &["key", "path", "ttl?", "tags?", "in?"], |session, fields| {
        let (key, path, options) = (fields.key("key")?, fields.text("path")?, fields.set_options()?);
        let file = open_file(path).map_err(|error| fields.wrong("path", format!("cannot be opened: {error}")))?;
        with_cache!(session.cache(fields)?, cache => cache.set_from(&key, file, &options))?;
        Ok(Value::Null)
    }),
    op("cache.set_many", &["entries", "ttl?", "tags?", "in?"], |session, fields| {
        let (entries, options) = (fields.entries("entries")?, fields.set_options()?);
        let entries = entries.iter().map(|(key, value)| (key, value.as_slice()));
        with_cache!(session.cache(fields)?, cache => cache.set_many(entries, &options))?;
        Ok(Value::Null)
    }),
    op("cache.add", &["key", "value", "ttl?", "tags?", "in?"], |session, fields| {
        let (key, value, options) = (fields.key("key")?, fields.bytes("value")?, fields.set_options()?);
        Ok(with_cache!(session.cache(fields)?, cache => cache.add(&key, &value, &options))?.into())
    }),
    op("cache.touch", &["key", "ttl?", "in?"], |session, fields| {
        let (key, ttl) = (fields.key("key")?, fields.optional_seconds("ttl")?);
        Ok(with_cache!(session.cache(fields)?, cache => cache.touch(&key, ttl))?.into())
    }),
    op("cache.pop", &["key", "in?"], |session, fields| {
        let key = fields.key("key")?;
        removed(session.cache(fields)?.store_of(&key), |txn| {
            answer::fits(txn.value_len(&key)?)?;
            Ok(txn.pop(&key)?.map_or(Value::Null, describe::item))
        })
    }),
    op("cache.delete", &["key", "in?"], |session, fields| {
        let key = fields.key("key")?;
        Ok(with_cache!(session.cache(fields)?, cache => cache.delete(&key))?.into())
    }),
    op("cache.delete_many", &["keys", "in?"], |session, fields| {
        let keys = fields.keys("keys")?;
        Ok(with_cache!(session.cache(fields)?, cache => cache.delete_many(&keys))?.into())
    }),
    op("cache.incr", &["key", "delta?", "default?", "make?", "ttl?", "tags?", "in?"], |session, fields| {
        let (key, by) = (fields.key("key")?, Increment::of(fields)?);
        let options = fields.set_options()?;
        let sum = with_cache!(session.cache(fields)?, cache => cache.incr_with(&key, by.delta, by.default, &options))?;
        Ok(sum.into())
    }),
    op("cache.decr", &["key", "delta?", "in?"], |session, fields| {
        let (key, delta) = (fields.key("key")?, fields.optional_integer("delta")?.unwrap_or(1));
        Ok(with_cache!(session.cache(fields)?, cache => cache.decr(&key, delta))?.into())
    }),
    op("cache.push", &["prefix", "value", "side?", "ttl?", "tags?", "in?"], |session, fields| {
        let (prefix, value, options) = (fields.text("prefix")?, fields.bytes("value")?, fields.set_options()?);
        let side = fields.optional_choice("side", SIDES)?.unwrap_or(Side::Back);
        Ok(key_to_json(&plain(session, fields)?.push(prefix, &value, side, &options)?))
    }),
    op("cache.pull", &["prefix", "side?", "in?"], |session, fields| {
        let (prefix, side) = (fields.text("prefix")?, fields.optional_choice("side", SIDES)?.unwrap_or(Side::Front));
        removed(&plain(session, fields)?, |txn| Ok(txn.pull(prefix, side)?.map_or(Value::Null, describe::entry)))
    }),
    op("cache.peek", &["prefix", "side?", "in?"], |session, fields| {
        let (prefix, side) = (fields.text("prefix")?, fields.optional_choice("side", SIDES)?.unwrap_or(Side::Front));
        Ok(plain(session, fields)?.peek(prefix, side)?.map_or(Value::Null, describe::entry))
    }),
    op("cache.peek_item", &["order?", "in?"], |session, fields| {
        let order = fields.optional_choice("order", ORDERS)?.unwrap_or(Order::Descending);
        let entry = with_cache!(session.cache(fields)?, cache => cache.peek_item(order))?;
        Ok(entry.map_or(Value::Null, describe::entry))
    }),
    op("cache.transact", &["do", "in?"], |session, fields| {
        let steps = transactions::steps(fields, transactions::CACHE)?;
        with_cache!(session.cache(fields)?, cache => {
            cache.transact(|txn| transactions::cache(txn.into(), &steps))
        })
    }),
    op("cache.keys", &["from?", "prefix?", "order?", "limit?", "in?"], |session, fields| {
        let page = Page::of(fields)?;
        let cache = session.cache(fields)?;
        page.take(cache.keys(page.from.as_ref(), page.order), |key| key, |_| 0, |key| key_to_json(&key))
    }),
    op("cache.items", &["from?", "prefix?", "order?", "limit?", "in?"], |session, fields| {
        let page = Page::of(fields)?;
        let cache = session.cache(fields)?;
        page.take(
            cache.items(page.from.as_ref(), page.order),
            |(key, _)| key,
            |(_, item)| item.value.len(),
            describe::entry,
        )
    }),
    op("cache.keys_by_tag", &["tag", "in?"], |session, fields| {
        let tag = fields.text("tag")?;
        let mut keys = with_cache!(session.cache(fields)?, cache => cache.keys_by_tag(tag))?;
        keys.sort_unstable();
        Ok(keys.iter().map(key_to_json).collect())
    }),
    op("cache.len", &["in?"], |session, fields| Ok(with_cache!(session.cache(fields)?, cache => cache.len())?.into())),
    op("cache.volume", &["in?"], |session, fields| {
        Ok(with_cache!(session.cache(fields)?, cache => cache.volume())?.into())
    }),
    op("cache.stats", &["reset?", "in?"], |session, fields| {
        let reset = fields.optional_flag("reset")?.unwrap_or(false);
        let cache = session.cache(fields)?;
        let stats = with_cache!(cache, cache => if reset { cache.reset_stats() } else { cache.stats() })?;
        Ok(describe::stats(&stats))
    }),
    op("cache.settings", &["in?"], |session, fields| {
        Ok(describe::settings(&with_cache!(session.cache(fields)?, cache => cache.settings())?))
    }),
    op(
        "cache.update_settings",
        &["eviction?", "statistics?", "cull_limit?", "size_limit_bytes?", "min_file_size_bytes?", "in?"],
        |session, fields| {
            let change = Change::of(fields)?;
            with_cache!(session.cache(fields)?, cache => {
                cache.update_settings(|settings| change.applied(settings))?;
                Ok(describe::settings(&cache.settings()?))
            })
        },
    ),
    op("cache.expire", &["in?"], |session, fields| {
        Ok(with_cache!(session.cache(fields)?, cache => cache.expire())?.into())
    }),
    op("cache.evict", &["tag", "in?"], |session, fields| {
        let tag = fields.text("tag")?;
        Ok(with_cache!(session.cache(fields)?, cache => cache.evict(tag))?.into())
    }),
    op(
        "cache.cull",
        &["in?"],
        |session, fields| Ok(with_cache!(session.cache(fields)?, cache => cache.cull())?.into()),
    ),
    op("cache.clear", &["in?"], |session, fields| {
        Ok(with_cache!(session.cache(fields)?, cache => cache.clear())?.into())
    }),
    op("cache.maintain", &["in?"], |session, fields| {
        Ok(describe::maintenance(&with_cache!(session.cache(fields)?, cache => cache.maintain())?))
    }),
    op("cache.check", &["fix?", "in?"], |session, fields| {
        let fix = fields.optional_flag("fix")?.unwrap_or(false);
        let problems = with_cache!(session.cache(fields)?, cache => cache.check(fix))?;
        let told = problems.iter().map(document::shell_problem).collect::<Result<_, _>>();
        told.map_err(|error| Fault::of(kind::FAILED, &error))
    }),
];

fn open(session: &mut Session, fields: &Fields<'_>) -> Result<Value, Fault> {
    let shards = fields.optional_small_count("shards")?;
    let cache = session.cache_of(fields, shards.map(|shards| shards as usize))?;
    Ok(json!({ "shards": cache.shards() }))
}

fn get(session: &mut Session, fields: &Fields<'_>) -> Result<Value, Fault> {
    let key = fields.key("key")?;
    let Some(mut value) = with_cache!(session.cache(fields)?, cache => cache.read(&key))? else {
        return Ok(Value::Null);
    };
    answer::fits(Some(value.len()))?;
    let mut bytes = Vec::with_capacity(value.len() as usize);
    value.read_to_end(&mut bytes)?;
    Ok(bytes_to_json(bytes))
}

fn read_to(session: &mut Session, fields: &Fields<'_>) -> Result<Value, Fault> {
    let (key, path) = (fields.key("key")?, Path::new(fields.text("path")?));
    let Some(mut value) = with_cache!(session.cache(fields)?, cache => cache.read(&key))? else {
        return Ok(Value::Null);
    };
    // Nobody's file is written over.
    let mut file =
        File::create_new(path).map_err(|error| fields.wrong("path", format!("cannot be created: {error}")))?;
    let written = io::copy(&mut value, &mut file);
    if written.is_err() {
        // Half a value is of no use; the error is what is told.
        let _ = fs::remove_file(path);
    }
    Ok(json!({ "bytes": written? }))
}

/// What a transaction has removed, as an answer that is not too long; otherwise it is not removed. What is damaged is
/// removed, and told.
fn removed(cache: &Cache, remove: impl Fn(&mut Transaction<'_, '_>) -> Result<Value, Removal>) -> Result<Value, Fault> {
    cache.transact(|txn| match remove(txn) {
        Ok(answer) => Ok(Ok(answer::fit(answer)?)),
        Err(Removal::Failed(error)) if error.is_damage() => Ok(Err(error.into())),
        Err(Removal::Failed(error)) => Err(error.into()),
        Err(Removal::Refused(fault)) => Err(fault),
    })?
}

/// Why nothing was removed, or something damaged.
enum Removal {
    Failed(CacheError),
    Refused(Fault),
}

impl From<CacheError> for Removal {
    fn from(error: CacheError) -> Removal {
        Removal::Failed(error)
    }
}

impl From<Fault> for Removal {
    fn from(fault: Fault) -> Removal {
        Removal::Refused(fault)
    }
}

/// The cache of a request, where only one store can do what it asks for.
fn plain(session: &mut Session, fields: &Fields<'_>) -> Result<Cache, Fault> {
    match session.cache(fields)? {
        Target::Plain(cache) => Ok(cache),
        Target::Fanout(_) => Err(transactions::in_shards()),
    }
}

/// By how much, and from where on.
pub struct Increment {
    /// What is added.
    pub delta: i64,
    /// Where a missing entry begins. `None`: none is made.
    pub default: Option<i64>,
}

impl Increment {
    /// As a request says.
    pub fn of(fields: &Fields<'_>) -> Result<Increment, Fault> {
        let default = fields.optional_integer("default")?.unwrap_or(0);
        let make = fields.optional_flag("make")?.unwrap_or(true);
        let delta = fields.optional_integer("delta")?.unwrap_or(1);
        Ok(Increment { delta, default: make.then_some(default) })
    }
}

/// What a request says of a page of entries.
struct Page {
    from: Option<KeyBuf>,
    prefix: Option<String>,
    order: Order,
    limit: usize,
}

impl Page {
    fn of(fields: &Fields<'_>) -> Result<Page, Fault> {
        let order = fields.optional_choice("order", ORDERS)?.unwrap_or_default();
        let prefix = fields.optional_text("prefix")?.map(str::to_owned);
        if prefix.is_some() && order == Order::Descending {
            return Err(fields.wrong("order", "must be ascending where there is a `prefix`"));
        }
        let limit = fields.optional_count("limit")?.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(fields.wrong("limit", format!("must be an integer from 1 to {MAX_PAGE}")));
        }
        // No text with a prefix is before the prefix itself.
        let first = prefix.as_deref().map(Key::to_key);
        let from = fields.optional_key("from")?.max(first);
        Ok(Page { from, prefix, order, limit: limit as usize })
    }

    /// The first entries that belong to the page, the key of the one behind them, and the keys of damaged ones.
    fn take<T>(
        &self,
        entries: impl Iterator<Item = Result<T, CacheError>>,
        key: impl Fn(&T) -> &KeyBuf,
        bytes: impl Fn(&T) -> usize,
        show: impl Fn(T) -> Value,
    ) -> Result<Value, Fault> {
        let (mut page, mut damaged, mut too_long) = (Vec::new(), Vec::new(), Vec::new());
        let (mut next, mut sum) = (Value::Null, 0);
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(CacheError::Damaged { key, .. }) => {
                    damaged.push(key_to_json(&key));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if self.prefix.as_deref().is_some_and(|prefix| !has_prefix(key(&entry), prefix)) {
                break;
            }
            if page.len() == self.limit || sum >= PAGE_BYTES {
                next = key_to_json(key(&entry));
                break;
            }
            sum += bytes(&entry);
            let key = key_to_json(key(&entry));
            let shown = show(entry);
            if answer::bytes(&shown) > MAX_ENTRY_BYTES { too_long.push(key) } else { page.push(shown) }
        }
        Ok(json!({ "page": page, "next": next, "damaged": damaged, "too_long": too_long }))
    }
}

/// Settings that change.
#[derive(Clone, Copy)]
struct Change {
    eviction: Option<alluvium_disk_kv_cache::Eviction>,
    statistics: Option<bool>,
    cull_limit: Option<u32>,
    size_limit_bytes: Option<u64>,
    min_file_size_bytes: Option<u64>,
}

impl Change {
    fn of(fields: &Fields<'_>) -> Result<Change, Fault> {
        let cull_limit = fields.optional_count("cull_limit")?.map(u32::try_from).transpose();
        Ok(Change {
            eviction: fields.optional_choice("eviction", EVICTIONS)?,
            statistics: fields.optional_flag("statistics")?,
            cull_limit: cull_limit.map_err(|_| fields.wrong("cull_limit", "must be an integer from 0 to 2^32 − 1"))?,
            size_limit_bytes: fields.optional_count("size_limit_bytes")?,
            min_file_size_bytes: fields.optional_count("min_file_size_bytes")?,
        })
    }

    fn applied(&self, settings: CacheSettings) -> CacheSettings {
        settings
            .with_eviction(self.eviction.unwrap_or(settings.eviction()))
            .with_statistics(self.statistics.unwrap_or(settings.statistics()))
            .with_cull_limit(self.cull_limit.unwrap_or(settings.cull_limit()))
            .with_size_limit_bytes(self.size_limit_bytes.unwrap_or(settings.size_limit_bytes()))
            .with_min_file_size_bytes(self.min_file_size_bytes.unwrap_or(settings.min_file_size_bytes()))
    }
}

/// Opens a file to read it, and nothing that a reader would have to wait for.
fn open_file(path: &str) -> io::Result<File> {
    let waits_for_nobody = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(waits_for_nobody).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

//! Several operations at once: all of them or none.

use alluvium_disk_kv_cache::{DequeTxn, FanoutTransaction, Held, IndexTxn, KeyBuf, Order, QueueTxn, Side, Transaction};
use serde_json::{Value, json};

use super::answer;
use super::cache::{Increment, ORDERS, SIDES};
use super::operations;
use super::queue;
use super::request::{Declared, Fields, OP};
use crate::kv::codec::{bytes_to_json, key_to_json, kind_of};
use crate::kv::describe;
use crate::kv::fault::{Fault, kind};

/// What can be done within a transaction, and the fields it takes.
type Steps = &'static [(&'static str, Declared)];

/// One operation within a transaction.
pub struct Step<'r> {
    name: &'static str,
    fields: Fields<'r>,
}

/// Within `cache.transact`.
pub const CACHE: Steps = &[
    ("get", &["key"]),
    ("get_item", &["key"]),
    ("contains", &["key"]),
    ("set", &["key", "value", "ttl?", "tags?"]),
    ("add", &["key", "value", "ttl?", "tags?"]),
    ("touch", &["key", "ttl?"]),
    ("pop", &["key"]),
    ("delete", &["key"]),
    ("incr", &["key", "delta?", "default?", "make?", "ttl?", "tags?"]),
    ("push", &["prefix", "value", "side?", "ttl?", "tags?"]),
    ("pull", &["prefix", "side?"]),
    ("peek", &["prefix", "side?"]),
    ("peek_item", &["order?"]),
    ("keys_by_tag", &["tag"]),
    ("len", &[]),
    ("transact", &["do"]),
];

/// Within `deque.transact`.
pub const DEQUE: Steps = &[
    ("push_back", &["value"]),
    ("push_front", &["value"]),
    ("pop_back", &[]),
    ("pop_front", &[]),
    ("get", &["index"]),
    ("set", &["index", "value"]),
    ("remove", &["index"]),
    ("rotate", &["steps"]),
    ("reverse", &[]),
    ("clear", &[]),
    ("len", &[]),
];

/// Within `index.transact`.
pub const INDEX: Steps = &[
    ("get", &["key"]),
    ("contains", &["key"]),
    ("set", &["key", "value"]),
    ("get_or_set", &["key", "value"]),
    ("pop", &["key"]),
    ("delete", &["key"]),
    ("pop_first", &[]),
    ("pop_last", &[]),
    ("clear", &[]),
    ("len", &[]),
];

/// Within `queue.transact`.
pub const QUEUE: Steps = &[
    ("put", &["value", "delay?"]),
    ("lease", &["lease"]),
    ("ack", &["job", "token"]),
    ("nack", &["job", "token", "retry?", "reason?"]),
    ("extend", &["job", "token", "lease"]),
    ("requeue", &["job"]),
    ("remove", &["job"]),
];

/// How deep transactions nest within each other. JSON itself would allow a few more.
const MAX_DEPTH: usize = 16;

/// The steps of the field `do`.
pub fn steps<'r>(fields: &Fields<'r>, known: Steps) -> Result<Vec<Step<'r>>, Fault> {
    fields.list("do", |step, at| {
        let wrong = || Fault::field(at, format!("must be an object, not {}", kind_of(step)));
        let step = step.as_object().ok_or_else(wrong)?;
        let at = format!("{at}.");
        let name = operations::name(step, &at)?;
        let Some((name, declared)) = known.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let rule = format!("must be what a transaction of this kind can do: {}", names.join(", "));
            return Err(Fault::field(&format!("{at}{OP}"), rule));
        };
        Ok(Step { name, fields: Fields::of(step, &at, declared)? })
    })
}

/// Does all steps with `run`. What fails names its step, if it does not name a field of it; so do results that are too long for
/// an answer.
pub fn each(steps: &[Step<'_>], mut run: impl FnMut(&Step<'_>) -> Result<Value, Fault>) -> Result<Value, Fault> {
    let mut room = answer::MAX_BYTES;
    let mut result = |step: &Step<'_>| {
        let result = run(step)?;
        let bytes = answer::bytes(&result);
        room = room.checked_sub(bytes).ok_or_else(|| answer::too_long(bytes as u64))?;
        Ok(result)
    };
    steps.iter().map(|step| result(step).map_err(|fault: Fault| fault.within(step.fields.object()))).collect()
}

/// A transaction of a cache of either kind.
pub enum CacheTxn<'x, 'a, 't> {
    /// Of one store.
    Plain(&'x mut Transaction<'a, 't>),
    /// Of several.
    Fanout(&'x mut FanoutTransaction<'a, 't>),
}

impl<'x, 'a, 't> From<&'x mut Transaction<'a, 't>> for CacheTxn<'x, 'a, 't> {
    fn from(txn: &'x mut Transaction<'a, 't>) -> CacheTxn<'x, 'a, 't> {
        CacheTxn::Plain(txn)
    }
}

impl<'x, 'a, 't> From<&'x mut FanoutTransaction<'a, 't>> for CacheTxn<'x, 'a, 't> {
    fn from(txn: &'x mut FanoutTransaction<'a, 't>) -> CacheTxn<'x, 'a, 't> {
        CacheTxn::Fanout(txn)
    }
}

impl<'a, 't> CacheTxn<'_, 'a, 't> {
    /// For what only one store can do.
    fn plain(&mut self) -> Result<&mut Transaction<'a, 't>, Fault> {
        match self {
            CacheTxn::Plain(txn) => Ok(txn),
            CacheTxn::Fanout(_) => Err(in_shards()),
        }
    }
}

/// Does the same in a transaction of either kind.
macro_rules! with_txn {
    ($of_either:expr, $txn:ident => $do:expr) => {
        match $of_either {
            CacheTxn::Plain($txn) => $do,
            CacheTxn::Fanout($txn) => $do,
        }
    };
}

/// Does all steps of a transaction of a cache.
pub fn cache(txn: CacheTxn<'_, '_, '_>, steps: &[Step<'_>]) -> Result<Value, Fault> {
    cache_within(txn, steps, MAX_DEPTH)
}

fn cache_within(mut txn: CacheTxn<'_, '_, '_>, steps: &[Step<'_>], depth: usize) -> Result<Value, Fault> {
    each(steps, |step| cache_step(&mut txn, step, depth))
}

fn cache_step(txn: &mut CacheTxn<'_, '_, '_>, step: &Step<'_>, depth: usize) -> Result<Value, Fault> {
    let fields = &step.fields;
    Ok(match step.name {
        "get" => {
            let key = fields.key("key")?;
            answer::fits(with_txn!(txn, txn => txn.value_len(&key))?)?;
            with_txn!(txn, txn => txn.get(&key))?.map_or(Value::Null, bytes_to_json)
        }
        "get_item" => {
            let key = fields.key("key")?;
            answer::fits(with_txn!(txn, txn => txn.value_len(&key))?)?;
            with_txn!(txn, txn => txn.get_item(&key))?.map_or(Value::Null, describe::item)
        }
        "contains" => with_txn!(txn, txn => txn.contains(&fields.key("key")?))?.into(),
        "set" => {
            let (key, value, options) = (fields.key("key")?, fields.bytes("value")?, fields.set_options()?);
            nothing(with_txn!(txn, txn => txn.set(&key, &value, &options))?)
        }
        "add" => {
            let (key, value, options) = (fields.key("key")?, fields.bytes("value")?, fields.set_options()?);
            with_txn!(txn, txn => txn.add(&key, &value, &options))?.into()
        }
        "touch" => {
            let (key, ttl) = (fields.key("key")?, fields.optional_seconds("ttl")?);
            with_txn!(txn, txn => txn.touch(&key, ttl))?.into()
        }
        "pop" => {
            let key = fields.key("key")?;
            answer::fits(with_txn!(txn, txn => txn.value_len(&key))?)?;
            with_txn!(txn, txn => txn.pop(&key))?.map_or(Value::Null, describe::item)
        }
        "delete" => with_txn!(txn, txn => txn.delete(&fields.key("key")?))?.into(),
        "incr" => {
            let (key, by, options) = (fields.key("key")?, Increment::of(fields)?, fields.set_options()?);
            with_txn!(txn, txn => txn.incr(&key, by.delta, by.default, &options))?.into()
        }
        "push" => {
            let side = fields.optional_choice("side", SIDES)?.unwrap_or(Side::Back);
            let (prefix, value, options) = (fields.text("prefix")?, fields.bytes("value")?, fields.set_options()?);
            key_to_json(&txn.plain()?.push(prefix, &value, side, &options)?)
        }
        "pull" => {
            let side = fields.optional_choice("side", SIDES)?.unwrap_or(Side::Front);
            txn.plain()?.pull(fields.text("prefix")?, side)?.map_or(Value::Null, describe::entry)
        }
        "peek" => {
            let side = fields.optional_choice("side", SIDES)?.unwrap_or(Side::Front);
            txn.plain()?.view().peek(fields.text("prefix")?, side)?.map_or(Value::Null, describe::entry)
        }
        "peek_item" => {
            let order = fields.optional_choice("order", ORDERS)?.unwrap_or(Order::Descending);
            with_txn!(txn, txn => txn.peek_item(order))?.map_or(Value::Null, describe::entry)
        }
        "keys_by_tag" => {
            let mut keys = with_txn!(txn, txn => txn.keys_by_tag(fields.text("tag")?))?;
            keys.sort_unstable();
            keys.iter().map(key_to_json).collect()
        }
        "len" => with_txn!(txn, txn => txn.len())?.into(),
        "transact" if depth == 0 => {
            return Err(fields.wrong("do", format!("must not nest deeper than {MAX_DEPTH} transactions")));
        }
        "transact" => {
            let inner = steps(fields, CACHE)?;
            // What fails within is taken back, told, and does not end the transaction around it.
            let done = with_txn!(txn, txn => txn.transact(|txn| cache_within(txn.into(), &inner, depth - 1)));
            match done {
                Ok(results) => json!({ "result": results }),
                Err(fault) => json!({ "error": fault }),
            }
        }
        other => return Err(undone(other)),
    })
}

/// The refusal of what the keys of a cache in shards cannot do, because they lie in several stores.
pub fn in_shards() -> Fault {
    Fault::new(
        kind::UNSUPPORTED,
        "the keys of a cache with shards lie in several stores: name a cache of one store with `in`",
    )
}

/// Does one step in a transaction of a deque.
pub fn deque(txn: &mut DequeTxn<'_, '_, Vec<u8>>, step: &Step<'_>) -> Result<Value, Fault> {
    let fields = &step.fields;
    let value = |value: Option<Vec<u8>>| value.map_or(Value::Null, bytes_to_json);
    Ok(match step.name {
        "push_back" => nothing(txn.push_back(&fields.bytes("value")?)?),
        "push_front" => nothing(txn.push_front(&fields.bytes("value")?)?),
        "pop_back" => value(txn.pop_back()?),
        "pop_front" => value(txn.pop_front()?),
        "get" => value(txn.get(fields.count("index")?)?),
        "set" => txn.set(fields.count("index")?, &fields.bytes("value")?)?.into(),
        "remove" => value(txn.remove(fields.count("index")?)?),
        "rotate" => nothing(txn.rotate(fields.integer("steps")?)?),
        "reverse" => nothing(txn.reverse()?),
        "clear" => nothing(txn.clear()?),
        "len" => txn.len()?.into(),
        other => return Err(undone(other)),
    })
}

/// Does one step in a transaction of an index.
pub fn index(txn: &mut IndexTxn<'_, '_, KeyBuf, Vec<u8>>, step: &Step<'_>) -> Result<Value, Fault> {
    let fields = &step.fields;
    let value = |value: Option<Vec<u8>>| value.map_or(Value::Null, bytes_to_json);
    let entry = |entry: Option<(KeyBuf, Vec<u8>)>| entry.map_or(Value::Null, super::index::entry);
    Ok(match step.name {
        "get" => value(txn.get(&fields.key("key")?)?),
        "contains" => txn.contains_key(&fields.key("key")?)?.into(),
        "set" => nothing(txn.insert(&fields.key("key")?, &fields.bytes("value")?)?),
        "get_or_set" => bytes_to_json(txn.get_or_insert(&fields.key("key")?, &fields.bytes("value")?)?),
        "pop" => value(txn.remove(&fields.key("key")?)?),
        "delete" => txn.delete(&fields.key("key")?)?.into(),
        "pop_first" => entry(txn.pop_first()?),
        "pop_last" => entry(txn.pop_last()?),
        "clear" => nothing(txn.clear()?),
        "len" => txn.len()?.into(),
        other => return Err(undone(other)),
    })
}

/// Does one step in a transaction of a work queue.
pub fn queue(txn: &mut QueueTxn<'_, '_, Vec<u8>>, step: &Step<'_>) -> Result<Value, Fault> {
    let fields = &step.fields;
    let held = |held: Held| Value::Bool(held == Held::Yes);
    Ok(match step.name {
        "put" => {
            let value = fields.bytes("value")?;
            let id = match fields.optional_seconds("delay")? {
                None => txn.put(&value)?,
                Some(delay) => txn.put_after(&value, delay)?,
            };
            id.0.into()
        }
        "lease" => txn.lease(fields.seconds("lease")?)?.map_or(Value::Null, queue::leased),
        "ack" => held(txn.ack(&queue::job(fields)?)?),
        "nack" => held(txn.nack(&queue::job(fields)?, queue::retry(fields)?, fields.optional_text("reason")?)?),
        "extend" => held(txn.extend(&mut queue::job(fields)?, fields.seconds("lease")?)?),
        "requeue" => txn.requeue(queue::id(fields)?)?.into(),
        "remove" => txn.remove(queue::id(fields)?)?.into(),
        other => return Err(undone(other)),
    })
}

fn nothing((): ()) -> Value {
    Value::Null
}

/// A step that is in the table and not done: a mistake in here that a test finds.
fn undone(name: &str) -> Fault {
    Fault::new(kind::UNSUPPORTED, format!("`{name}` cannot be done in a transaction"))
}

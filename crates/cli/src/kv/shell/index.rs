//! The operations of indexes.

use alluvium_disk_kv_cache::{CollectionError, Durability, Index, KeyBuf, Side};
use serde_json::{Value, json};

use super::answer;
use super::cache::SIDES;
use super::operations::{Operation, op};
use super::request::Fields;
use super::session::Session;
use super::transactions;
use crate::kv::codec::{bytes_to_json, key_to_json};
use crate::kv::fault::Fault;

/// How many entries a page has, unless told otherwise.
const PAGE: u64 = 100;
const MAX_PAGE: u64 = 10_000;
/// A page ends once its values have so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    op("index.get", &["key", "in?"], |session, fields| {
        let key = fields.key("key")?;
        Ok(value(session.index(fields)?.get(&key)?))
    }),
    op("index.contains", &["key", "in?"], |session, fields| {
        let key = fields.key("key")?;
        Ok(session.index(fields)?.contains_key(&key)?.into())
    }),
    op("index.set", &["key", "value", "in?"], |session, fields| {
        let (key, value) = (fields.key("key")?, fields.bytes("value")?);
        session.index(fields)?.insert(&key, &value)?;
        Ok(Value::Null)
    }),
    op("index.set_many", &["entries", "in?"], |session, fields| {
        let entries = fields.entries("entries")?;
        session.index(fields)?.extend(entries)?;
        Ok(Value::Null)
    }),
    op("index.get_or_set", &["key", "value", "in?"], |session, fields| {
        let (key, value) = (fields.key("key")?, fields.bytes("value")?);
        session.index(fields)?.transact(|txn| answer::fit(bytes_to_json(txn.get_or_insert(&key, &value)?)))
    }),
    op("index.pop", &["key", "in?"], |session, fields| {
        let key = fields.key("key")?;
        session.index(fields)?.transact(|txn| answer::fit(value(txn.remove(&key)?)))
    }),
    op("index.delete", &["key", "in?"], |session, fields| {
        let key = fields.key("key")?;
        Ok(session.index(fields)?.delete(&key)?.into())
    }),
    op("index.pop_first", &["in?"], |session, fields| {
        session.index(fields)?.transact(|txn| answer::fit(txn.pop_first()?.map_or(Value::Null, entry)))
    }),
    op("index.pop_last", &["in?"], |session, fields| {
        session.index(fields)?.transact(|txn| answer::fit(txn.pop_last()?.map_or(Value::Null, entry)))
    }),
    op("index.first", &["in?"], |session, fields| Ok(session.index(fields)?.first()?.map_or(Value::Null, entry))),
    op("index.last", &["in?"], |session, fields| Ok(session.index(fields)?.last()?.map_or(Value::Null, entry))),
    op("index.push", &["value", "side?", "prefix?", "in?"], push),
    op("index.pull", &["side?", "prefix?", "in?"], pull),
    op("index.keys", &["offset?", "limit?", "in?"], |session, fields| {
        let page = Page::of(fields)?;
        let index = session.index(fields)?;
        page.take(index.keys()?, |_| 0, |key| key_to_json(&key))
    }),
    op("index.items", &["offset?", "limit?", "in?"], |session, fields| {
        let page = Page::of(fields)?;
        let index = session.index(fields)?;
        page.take(index.iter()?, |(_, value)| value.len(), entry)
    }),
    op("index.clear", &["in?"], |session, fields| {
        session.index(fields)?.clear()?;
        Ok(Value::Null)
    }),
    op("index.len", &["in?"], |session, fields| Ok(session.index(fields)?.len()?.into())),
    op("index.transact", &["do", "in?"], |session, fields| {
        let steps = transactions::steps(fields, transactions::INDEX)?;
        session.index(fields)?.transact(|txn| transactions::each(&steps, |step| transactions::index(txn, step)))
    }),
];

/// A key with its value.
pub fn entry((key, value): (KeyBuf, Vec<u8>)) -> Value {
    json!({ "key": key_to_json(&key), "value": bytes_to_json(value) })
}

fn value(value: Option<Vec<u8>>) -> Value {
    value.map_or(Value::Null, bytes_to_json)
}

fn push(session: &mut Session, fields: &Fields<'_>) -> Result<Value, Fault> {
    let (value, prefix) = (fields.bytes("value")?, fields.optional_text("prefix")?);
    let side = fields.optional_choice("side", SIDES)?.unwrap_or(Side::Back);
    let number = match prefix {
        None => numbers::<u64>(session, fields)?.push(&value, side)?,
        Some(prefix) => numbers::<(String, u64)>(session, fields)?.push_to(prefix, &value, side)?,
    };
    Ok(number.into())
}

fn pull(session: &mut Session, fields: &Fields<'_>) -> Result<Value, Fault> {
    let prefix = fields.optional_text("prefix")?;
    let side = fields.optional_choice("side", SIDES)?.unwrap_or(Side::Front);
    let answer = |pulled: Option<(u64, Vec<u8>)>| {
        answer::fit(
            pulled.map_or(Value::Null, |(number, value)| json!({ "number": number, "value": bytes_to_json(value) })),
        )
    };
    match prefix {
        None => numbers::<u64>(session, fields)?.transact(|txn| answer(txn.pull(side)?)),
        Some(prefix) => numbers::<(String, u64)>(session, fields)?.transact(|txn| answer(txn.pull_from(prefix, side)?)),
    }
}

/// The index that a request names, with keys of a queue.
fn numbers<K: alluvium_disk_kv_cache::Key + alluvium_disk_kv_cache::FromKey>(
    session: &mut Session,
    fields: &Fields<'_>,
) -> Result<Index<K, Vec<u8>>, Fault> {
    // Kept open by the session, so that this handle costs nothing.
    session.index(fields)?;
    Ok(Index::open(session.index_dir(fields)?, session.open_args().store(Durability::System))?)
}

/// What a request says of a page of entries, in the order in which they were inserted.
struct Page {
    offset: u64,
    limit: u64,
}

impl Page {
    fn of(fields: &Fields<'_>) -> Result<Page, Fault> {
        let offset = fields.optional_count("offset")?.unwrap_or(0);
        let limit = fields.optional_count("limit")?.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(fields.wrong("limit", format!("must be an integer from 1 to {MAX_PAGE}")));
        }
        Ok(Page { offset, limit })
    }

    /// The entries of the page, and the offset behind them: null at the end.
    fn take<T>(
        &self,
        entries: impl Iterator<Item = Result<T, CollectionError>>,
        bytes: impl Fn(&T) -> usize,
        show: impl Fn(T) -> Value,
    ) -> Result<Value, Fault> {
        let (mut page, mut sum, mut next) = (Vec::new(), 0, Value::Null);
        for (place, entry) in (0_u64..).zip(entries) {
            let entry = entry?;
            if place < self.offset {
                continue;
            }
            if page.len() as u64 == self.limit || sum >= PAGE_BYTES {
                next = place.into();
                break;
            }
            sum += bytes(&entry);
            page.push(show(entry));
        }
        Ok(json!({ "page": page, "next": next }))
    }
}

//! The operations of deques.

use std::cmp::Ordering;

use alluvium_disk_kv_cache::{Deque, Durability};
use serde_json::{Value, json};

use super::answer;
use super::operations::{Operation, op};
use super::transactions;
use crate::kv::codec::bytes_to_json;
use crate::kv::fault::Fault;

/// How many items a page has, unless told otherwise.
const PAGE: u64 = 100;
const MAX_PAGE: u64 = 10_000;
/// A page ends once its items have so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    op("deque.push_back", &["value", "in?"], |session, fields| {
        let value = fields.bytes("value")?;
        session.deque(fields)?.push_back(&value)?;
        Ok(Value::Null)
    }),
    op("deque.push_front", &["value", "in?"], |session, fields| {
        let value = fields.bytes("value")?;
        session.deque(fields)?.push_front(&value)?;
        Ok(Value::Null)
    }),
    op("deque.extend_back", &["values", "in?"], |session, fields| {
        let values = fields.many_bytes("values")?;
        session.deque(fields)?.extend_back(values)?;
        Ok(Value::Null)
    }),
    op("deque.extend_front", &["values", "in?"], |session, fields| {
        let values = fields.many_bytes("values")?;
        session.deque(fields)?.extend_front(values)?;
        Ok(Value::Null)
    }),
    op("deque.pop_back", &["in?"], |session, fields| {
        session.deque(fields)?.transact(|txn| answer::fit(value(txn.pop_back()?)))
    }),
    op("deque.pop_front", &["in?"], |session, fields| {
        session.deque(fields)?.transact(|txn| answer::fit(value(txn.pop_front()?)))
    }),
    op("deque.back", &["in?"], |session, fields| Ok(value(session.deque(fields)?.back()?))),
    op("deque.front", &["in?"], |session, fields| Ok(value(session.deque(fields)?.front()?))),
    op("deque.get", &["index", "in?"], |session, fields| {
        let index = fields.count("index")?;
        Ok(value(session.deque(fields)?.get(index)?))
    }),
    op("deque.set", &["index", "value", "in?"], |session, fields| {
        let (index, value) = (fields.count("index")?, fields.bytes("value")?);
        Ok(session.deque(fields)?.set(index, &value)?.into())
    }),
    op("deque.remove", &["index", "in?"], |session, fields| {
        let index = fields.count("index")?;
        session.deque(fields)?.transact(|txn| answer::fit(value(txn.remove(index)?)))
    }),
    op("deque.remove_value", &["value", "in?"], |session, fields| {
        let value = fields.bytes("value")?;
        Ok(session.deque(fields)?.remove_value(&value)?.into())
    }),
    op("deque.count", &["value", "in?"], |session, fields| {
        let value = fields.bytes("value")?;
        Ok(session.deque(fields)?.count(&value)?.into())
    }),
    op("deque.rotate", &["steps", "in?"], |session, fields| {
        let steps = fields.integer("steps")?;
        session.deque(fields)?.rotate(steps)?;
        Ok(Value::Null)
    }),
    op("deque.reverse", &["in?"], |session, fields| {
        session.deque(fields)?.reverse()?;
        Ok(Value::Null)
    }),
    op("deque.clear", &["in?"], |session, fields| {
        session.deque(fields)?.clear()?;
        Ok(Value::Null)
    }),
    op("deque.len", &["in?"], |session, fields| Ok(session.deque(fields)?.len()?.into())),
    op("deque.max_len", &["in?"], |session, fields| Ok(session.deque(fields)?.max_len()?.into())),
    op("deque.set_max_len", &["max_len?", "in?"], |session, fields| {
        let max_len = fields.optional_count("max_len")?;
        session.deque(fields)?.set_max_len(max_len)?;
        Ok(Value::Null)
    }),
    op("deque.items", &["from?", "limit?", "in?"], |session, fields| {
        let from = fields.optional_count("from")?.unwrap_or(0);
        let limit = fields.optional_count("limit")?.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(fields.wrong("limit", format!("must be an integer from 1 to {MAX_PAGE}")));
        }
        page(&session.deque(fields)?, from, limit)
    }),
    op("deque.compare", &["values", "in?"], |session, fields| {
        let values = fields.many_bytes("values")?;
        Ok(match session.deque(fields)?.compare(&values)? {
            Some(Ordering::Less) => "less".into(),
            Some(Ordering::Equal) => "equal".into(),
            Some(Ordering::Greater) => "greater".into(),
            None => Value::Null,
        })
    }),
    op("deque.copy_to", &["path", "in?"], |session, fields| {
        let path = fields.text("path")?;
        let settings = session.open_args().store(Durability::System);
        session.deque(fields)?.copy_to(path, settings)?;
        Ok(Value::Null)
    }),
    op("deque.transact", &["do", "in?"], |session, fields| {
        let steps = transactions::steps(fields, transactions::DEQUE)?;
        session.deque(fields)?.transact(|txn| transactions::each(&steps, |step| transactions::deque(txn, step)))
    }),
];

fn value(value: Option<Vec<u8>>) -> Value {
    value.map_or(Value::Null, bytes_to_json)
}

/// Items from an index on, and the index behind them: null at the end.
fn page(deque: &Deque<Vec<u8>>, from: u64, limit: u64) -> Result<Value, Fault> {
    let (mut page, mut bytes, mut next) = (Vec::new(), 0, Value::Null);
    for index in from..=u64::MAX {
        let Some(item) = deque.get(index)? else { break };
        if page.len() as u64 == limit || bytes >= PAGE_BYTES {
            next = index.into();
            break;
        }
        bytes += item.len();
        page.push(bytes_to_json(item));
    }
    Ok(json!({ "page": page, "next": next }))
}

//! The tables of a queue, and what is stored of a job besides its value.
//!
//! A job's value is in [`VALUES`], its [`State`] in [`STATES`], and its id in exactly one of four places: [`READY`] by id,
//! [`LEASED`] and [`DELAYED`] by the time at which that ends and id, [`DEAD`] by id. So a lease rewrites small entries only,
//! and each question is the first entry of a table.

use serde::{Deserialize, Serialize};

use super::JobId;
use crate::collection::{corrupt, number, open, seal};
use crate::{CollectionError, Order, ReadTxn, Record, Value, WriteTxn};

pub(super) const VALUES: &str = "queue_values";
pub(super) const STATES: &str = "queue_states";
pub(super) const READY: &str = "queue_ready";
pub(super) const LEASED: &str = "queue_leased";
pub(super) const DELAYED: &str = "queue_delayed";
pub(super) const DEAD: &str = "queue_dead";
pub(super) const META: &str = "queue_meta";
pub(super) const TABLES: &[&str] = &[VALUES, STATES, READY, LEASED, DELAYED, DEAD, META];

const COUNTERS: &[u8] = b"counters";

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    Ready,
    /// Until a time, by the worker with this token.
    Leased {
        until_unix_ms: u64,
        token: u64,
    },
    Delayed {
        until_unix_ms: u64,
    },
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) attempts: u32,
    pub(super) put_at_unix_ms: u64,
    pub(super) place: Place,
    pub(super) reason: Option<String>,
}

impl Record for State {
    const TYPE: &'static str = "queue_state";
    const VERSION: u32 = 1;
}

/// What counts up over the life of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) put: u64,
    pub(super) acked: u64,
    pub(super) tokens: u64,
}

impl Record for Counters {
    const TYPE: &'static str = "queue_counters";
    const VERSION: u32 = 1;
}

/// The table and the key that a place stands for.
fn slot(id: JobId, place: Place) -> (&'static str, Vec<u8>) {
    let id = id.0.to_be_bytes();
    let timed = |until: u64| [until.to_be_bytes(), id].concat();
    match place {
        Place::Ready => (READY, id.to_vec()),
        Place::Leased { until_unix_ms, .. } => (LEASED, timed(until_unix_ms)),
        Place::Delayed { until_unix_ms } => (DELAYED, timed(until_unix_ms)),
        Place::Dead => (DEAD, id.to_vec()),
    }
}

/// The state of a job, if there is one. A damaged one must not stand in the way of all others: where the job is, other
/// tables tell, and for the rest it is as good as new. Whoever has it leased is not known any more, so it is handed out again.
pub(super) fn state(txn: &ReadTxn<'_>, id: JobId) -> Result<Option<State>, CollectionError> {
    let key = id.0.to_be_bytes();
    let Some(sealed) = txn.get(STATES, &key)? else { return Ok(None) };
    match open(STATES, &key, sealed) {
        Ok(bytes) => Ok(Some(State::from_bytes(bytes)?)),
        Err(CollectionError::Corrupt { .. }) => {
            let place = place(txn, id)?.ok_or_else(|| corrupt(STATES, &key))?;
            let reason = Some("its state was damaged".to_owned());
            Ok(Some(State { attempts: 0, put_at_unix_ms: 0, place, reason }))
        }
        Err(error) => Err(error),
    }
}

/// Where a job is, by the tables of the places.
fn place(txn: &ReadTxn<'_>, id: JobId) -> Result<Option<Place>, CollectionError> {
    for place in [Place::Ready, Place::Dead] {
        let (table, key) = slot(id, place);
        if txn.get(table, &key)?.is_some() {
            return Ok(Some(place));
        }
    }
    for table in [LEASED, DELAYED] {
        for entry in txn.scan(table, .., Order::Ascending)? {
            let (until_unix_ms, found) = timed(table, entry?.0)?;
            if found == id {
                // No lease has the token 0.
                let leased = Place::Leased { until_unix_ms, token: 0 };
                return Ok(Some(if table == LEASED { leased } else { Place::Delayed { until_unix_ms } }));
            }
        }
    }
    Ok(None)
}

/// The state of a job that another table speaks of.
pub(super) fn known_state(txn: &ReadTxn<'_>, id: JobId) -> Result<State, CollectionError> {
    state(txn, id)?.ok_or_else(|| corrupt(STATES, &id.0.to_be_bytes()))
}

pub(super) fn value<V: Value>(txn: &ReadTxn<'_>, id: JobId) -> Result<V, CollectionError> {
    let key = id.0.to_be_bytes();
    let sealed = txn.get(VALUES, &key)?.ok_or_else(|| corrupt(VALUES, &key))?;
    Ok(V::from_bytes(open(VALUES, &key, sealed)?)?)
}

/// Takes a job from where it is (if it is anywhere) to where its new state says.
pub(super) fn put_state(
    txn: &mut WriteTxn<'_>,
    id: JobId,
    was: Option<Place>,
    state: &State,
) -> Result<(), CollectionError> {
    if let Some(was) = was {
        vacate(txn, id, was)?;
    }
    let (table, key) = slot(id, state.place);
    txn.put(table, &key, &[])?;
    let key = id.0.to_be_bytes();
    Ok(txn.put(STATES, &key, &seal(&key, &state.to_bytes()?))?)
}

/// Removes a job and all that speaks of it.
pub(super) fn remove(txn: &mut WriteTxn<'_>, id: JobId, was: Place) -> Result<(), CollectionError> {
    vacate(txn, id, was)?;
    let key = id.0.to_be_bytes();
    txn.delete(STATES, &key)?;
    txn.delete(VALUES, &key)?;
    Ok(())
}

fn vacate(txn: &mut WriteTxn<'_>, id: JobId, place: Place) -> Result<(), CollectionError> {
    let (table, key) = slot(id, place);
    if txn.delete(table, &key)? { Ok(()) } else { Err(corrupt(table, &key)) }
}

pub(super) fn counters(txn: &ReadTxn<'_>) -> Result<Counters, CollectionError> {
    let Some(sealed) = txn.get(META, COUNTERS)? else { return Ok(Counters::default()) };
    Ok(Counters::from_bytes(open(META, COUNTERS, sealed)?)?)
}

pub(super) fn put_counters(txn: &mut WriteTxn<'_>, counters: Counters) -> Result<(), CollectionError> {
    Ok(txn.put(META, COUNTERS, &seal(COUNTERS, &counters.to_bytes()?))?)
}

/// The ids of [`READY`] or [`DEAD`], in order.
pub(super) fn ids<'t>(
    txn: &'t ReadTxn<'_>,
    table: &'static str,
) -> Result<impl Iterator<Item = Result<JobId, CollectionError>> + 't, CollectionError> {
    let scan = txn.scan(table, .., Order::Ascending)?;
    Ok(scan.map(move |entry| number(table, entry?.0).map(JobId)))
}

/// The first job of [`LEASED`] or [`DELAYED`] whose time is over at `now_unix_ms`.
pub(super) fn due(txn: &ReadTxn<'_>, table: &'static str, now_unix_ms: u64) -> Result<Option<JobId>, CollectionError> {
    match txn.first(table)? {
        Some((key, _)) => {
            let (until, id) = timed(table, key)?;
            Ok((until <= now_unix_ms).then_some(id))
        }
        None => Ok(None),
    }
}

/// How many jobs of [`LEASED`] or [`DELAYED`] have a time that is over at `now_unix_ms`.
pub(super) fn count_due(txn: &ReadTxn<'_>, table: &'static str, now_unix_ms: u64) -> Result<u64, CollectionError> {
    let mut count = 0;
    for entry in txn.scan(table, .., Order::Ascending)? {
        if timed(table, entry?.0)?.0 > now_unix_ms {
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// Removes all jobs. By what is there, not by what refers to it: it has to work on a damaged queue too.
pub(super) fn clear(txn: &mut WriteTxn<'_>) -> Result<(), CollectionError> {
    for table in [VALUES, STATES, READY, LEASED, DELAYED, DEAD] {
        while let Some((key, _)) = txn.first(table)? {
            let key = key.to_vec();
            txn.delete(table, &key)?;
        }
    }
    Ok(())
}

fn timed(table: &'static str, key: &[u8]) -> Result<(u64, JobId), CollectionError> {
    match key.split_first_chunk::<8>() {
        Some((until, id)) => Ok((u64::from_be_bytes(*until), JobId(number(table, id)?))),
        None => Err(corrupt(table, key)),
    }
}

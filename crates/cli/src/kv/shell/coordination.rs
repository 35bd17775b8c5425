//! The operations of locks, semaphores, averages and throttles. What is held is the shell's: it goes with its process.

use std::time::Duration;

use alluvium_disk_kv_cache::{
    Averager, BoundedSemaphore, Clock, LockError, LockGuard, Owner, Pass, Permit, ReentrantGuard, SystemClock, Throttle,
};
use serde_json::{Value, json};

use super::operations::{Operation, op};
use super::request::Fields;
use super::session::{LockName, Session, lock_name};
use super::wait::wait;
use crate::kv::describe::millis_as_seconds;
use crate::kv::fault::{Fault, kind};

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    op("lock.acquire", &["name", "timeout?", "lease?", "in?"], acquire),
    op("lock.release", &["name", "in?"], |session, fields| {
        let guard = session.locks.remove(&lock_name(fields)?);
        released(guard.as_ref(), LockGuard::is_current)
    }),
    op("lock.is_current", &["name", "in?"], |session, fields| {
        let guard = session.locks.get(&lock_name(fields)?);
        Ok(guard.map(LockGuard::is_current).transpose()?.unwrap_or(false).into())
    }),
    op("lock.owner", &["name", "in?"], |session, fields| {
        let name = lock_name(fields)?;
        Ok(session.coordination(fields)?.lock(&name.1).owner()?.map_or(Value::Null, owner))
    }),
    op("rlock.acquire", &["name", "timeout?", "lease?", "in?"], acquire_again),
    op("rlock.release", &["name", "in?"], |session, fields| {
        let name = lock_name(fields)?;
        let Some(guards) = session.reentrant.get_mut(&name) else { return Ok(false.into()) };
        let guard = guards.pop();
        if guards.is_empty() {
            session.reentrant.remove(&name);
        }
        released(guard.as_ref(), ReentrantGuard::is_current)
    }),
    op("rlock.is_current", &["name", "in?"], |session, fields| {
        let guard = session.reentrant.get(&lock_name(fields)?).and_then(|guards| guards.last());
        Ok(guard.map(ReentrantGuard::is_current).transpose()?.unwrap_or(false).into())
    }),
    op("rlock.owner", &["name", "in?"], |session, fields| {
        let name = lock_name(fields)?;
        Ok(session.coordination(fields)?.reentrant_lock(&name.1).owner()?.map_or(Value::Null, owner))
    }),
    op("semaphore.acquire", &["name", "permits", "timeout?", "lease?", "in?"], |session, fields| {
        let (name, timeout) = (lock_name(fields)?, fields.timeout()?);
        let semaphore = semaphore(session, fields, &name)?;
        let Some(permit) = wait(timeout, |slice| Ok(semaphore.acquire_within(slice)?))? else {
            return Ok(Value::Null);
        };
        let token = permit.token();
        session.permits.entry(name).or_default().push(permit);
        Ok(json!({ "token": token }))
    }),
    op("semaphore.release", &["name", "token", "in?"], |session, fields| {
        let (name, token) = (lock_name(fields)?, fields.count("token")?);
        let Some(permits) = session.permits.get_mut(&name) else { return Ok(false.into()) };
        let Some(place) = permits.iter().position(|permit| permit.token() == token) else { return Ok(false.into()) };
        let permit = permits.swap_remove(place);
        if permits.is_empty() {
            session.permits.remove(&name);
        }
        released(Some(&permit), Permit::is_current)
    }),
    op("semaphore.is_current", &["name", "token", "in?"], |session, fields| {
        let (name, token) = (lock_name(fields)?, fields.count("token")?);
        let permits = session.permits.get(&name).map(Vec::as_slice).unwrap_or_default();
        let permit = permits.iter().find(|permit| permit.token() == token);
        Ok(permit.map(Permit::is_current).transpose()?.unwrap_or(false).into())
    }),
    op("semaphore.owners", &["name", "permits", "in?"], |session, fields| {
        let name = lock_name(fields)?;
        Ok(semaphore(session, fields, &name)?.owners()?.into_iter().map(owner).collect())
    }),
    op("averager.add", &["name", "number", "in?"], |session, fields| {
        let number = fields.number("number")?;
        averager(session, fields)?.add(number)?;
        Ok(Value::Null)
    }),
    op("averager.get", &["name", "in?"], |session, fields| Ok(averager(session, fields)?.get()?.into())),
    op("averager.pop", &["name", "in?"], |session, fields| Ok(averager(session, fields)?.pop()?.into())),
    op("throttle.pass", &["name", "count", "per", "timeout?", "in?"], |session, fields| {
        let (count, per, timeout) = (fields.small_count("count")?, fields.seconds("per")?, fields.timeout()?);
        let throttle = session.coordination(fields)?.throttle(fields.text("name")?, count, per)?;
        pass(&throttle, timeout)
    }),
];

fn acquire(session: &mut Session, fields: &Fields<'_>) -> Result<Value, Fault> {
    let (name, timeout, lease) = (lock_name(fields)?, fields.timeout()?, fields.optional_seconds("lease")?);
    if let Some(held) = session.locks.get(&name) {
        if held.is_current()? {
            let message = "this shell holds the lock already: release it, or use rlock, which can be taken again";
            return Err(Fault::new(kind::ALREADY_HELD, message));
        }
        // Another took it after its lease: what is left of it is of no use.
        session.locks.remove(&name);
    }
    let mut lock = session.coordination(fields)?.lock(&name.1);
    if let Some(lease) = lease {
        lock = lock.with_lease(lease);
    }
    let Some(guard) = wait(timeout, |slice| Ok(lock.acquire_within(slice)?))? else { return Ok(Value::Null) };
    let token = guard.token();
    session.locks.insert(name, guard);
    Ok(json!({ "token": token }))
}

fn acquire_again(session: &mut Session, fields: &Fields<'_>) -> Result<Value, Fault> {
    let (name, timeout, lease) = (lock_name(fields)?, fields.timeout()?, fields.optional_seconds("lease")?);
    let mut lock = session.coordination(fields)?.reentrant_lock(&name.1);
    if let Some(lease) = lease {
        lock = lock.with_lease(lease);
    }
    let Some(guard) = wait(timeout, |slice| Ok(lock.acquire_within(slice)?))? else { return Ok(Value::Null) };
    let token = guard.token();
    let guards = session.reentrant.entry(name).or_default();
    // Guards of an earlier holding, which another has ended after its lease.
    guards.retain(|held| held.token() == token);
    guards.push(guard);
    Ok(json!({ "token": token, "depth": guards.len() }))
}

/// Whether what is given back was still held: another may have taken it after its lease.
fn released<G>(held: Option<&G>, is_current: impl Fn(&G) -> Result<bool, LockError>) -> Result<Value, Fault> {
    Ok(held.map(is_current).transpose()?.unwrap_or(false).into())
}

fn semaphore(session: &mut Session, fields: &Fields<'_>, name: &LockName) -> Result<BoundedSemaphore, Fault> {
    let (permits, lease) = (fields.small_count("permits")?, fields.optional_seconds("lease")?);
    let semaphore = session.coordination(fields)?.semaphore(&name.1, permits)?;
    Ok(match lease {
        None => semaphore,
        Some(lease) => semaphore.with_lease(lease),
    })
}

fn averager(session: &mut Session, fields: &Fields<'_>) -> Result<Averager, Fault> {
    Ok(session.coordination(fields)?.averager(fields.text("name")?))
}

/// Passes within a time, or tells how long the next try should be put off.
fn pass(throttle: &Throttle, patience: Duration) -> Result<Value, Fault> {
    let mut put_off = Duration::ZERO;
    let passed = wait(patience, |slice| match throttle.try_pass()? {
        Pass::Passed => Ok(Some(())),
        Pass::Wait(wait) => {
            put_off = wait;
            SystemClock.sleep(wait.min(slice));
            Ok(None)
        }
    })?;
    Ok(match passed {
        Some(()) => json!({ "passed": true }),
        None => json!({ "passed": false, "wait": put_off.as_secs_f64() }),
    })
}

fn owner(owner: Owner) -> Value {
    json!({
        "owner": owner.name,
        "pid": owner.pid,
        "token": owner.token,
        "since": millis_as_seconds(owner.since_unix_ms),
        "until": owner.until_unix_ms.map(millis_as_seconds),
    })
}

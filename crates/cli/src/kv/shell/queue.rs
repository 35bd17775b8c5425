//! The operations of work queues.

use std::time::Duration;

use alluvium_disk_kv_cache::{Clock, DeadLetter, Held, Job, JobId, Retry, SystemClock};
use serde_json::{Value, json};

use super::answer;
use super::operations::{Operation, op};
use super::request::Fields;
use super::transactions;
use super::wait::wait;
use crate::kv::codec::bytes_to_json;
use crate::kv::describe::millis_as_seconds;
use crate::kv::fault::Fault;

/// How late a job of another process may be noticed.
const NAP: Duration = Duration::from_millis(20);

/// All of them.
pub const OPERATIONS: &[Operation] = &[
    op("queue.put", &["value", "delay?", "in?"], |session, fields| {
        let (value, delay) = (fields.bytes("value")?, fields.optional_seconds("delay")?);
        let queue = session.queue(fields)?;
        let id = match delay {
            None => queue.put(&value)?,
            Some(delay) => queue.put_after(&value, delay)?,
        };
        Ok(id.0.into())
    }),
    op("queue.lease", &["lease", "timeout?", "max_attempts?", "in?"], |session, fields| {
        let (lease, timeout) = (fields.seconds("lease")?, fields.timeout()?);
        let queue = session.queue(fields)?;
        let leased = wait(timeout, |slice| {
            // Most looks at an idle queue find nothing, and need no write transaction for it.
            if queue.stats()?.ready == 0 {
                SystemClock.sleep(slice.min(NAP));
                return Ok(None);
            }
            queue.transact(|txn| txn.lease(lease)?.map(|job| answer::fit(leased(job))).transpose())
        })?;
        Ok(leased.unwrap_or_default())
    }),
    op("queue.ack", &["job", "token", "in?"], |session, fields| {
        let job = job(fields)?;
        Ok(held(session.queue(fields)?.ack(&job)?))
    }),
    op("queue.nack", &["job", "token", "retry?", "reason?", "max_attempts?", "in?"], |session, fields| {
        let (job, retry, reason) = (job(fields)?, retry(fields)?, fields.optional_text("reason")?);
        Ok(held(session.queue(fields)?.nack(&job, retry, reason)?))
    }),
    op("queue.extend", &["job", "token", "lease", "in?"], |session, fields| {
        let (mut job, lease) = (job(fields)?, fields.seconds("lease")?);
        Ok(held(session.queue(fields)?.extend(&mut job, lease)?))
    }),
    op("queue.dead_letters", &["in?"], |session, fields| {
        let letters = session.queue(fields)?.dead_letters()?.into_iter();
        let mut room = answer::MAX_BYTES;
        Ok(letters
            .map(|letter| match letter {
                Ok(letter) => dead_letter(letter, &mut room),
                Err(error) => json!({ "error": Fault::from(error) }),
            })
            .collect())
    }),
    op("queue.requeue", &["job", "in?"], |session, fields| {
        let id = id(fields)?;
        Ok(session.queue(fields)?.requeue(id)?.into())
    }),
    op("queue.requeue_all", &["in?"], |session, fields| Ok(session.queue(fields)?.requeue_all()?.into())),
    op("queue.remove", &["job", "in?"], |session, fields| {
        let id = id(fields)?;
        Ok(session.queue(fields)?.remove(id)?.into())
    }),
    op("queue.clear", &["in?"], |session, fields| {
        session.queue(fields)?.clear()?;
        Ok(Value::Null)
    }),
    op("queue.len", &["in?"], |session, fields| Ok(session.queue(fields)?.len()?.into())),
    op("queue.stats", &["in?"], |session, fields| {
        let stats = session.queue(fields)?.stats()?;
        Ok(json!({
            "ready": stats.ready,
            "leased": stats.leased,
            "delayed": stats.delayed,
            "dead": stats.dead,
            "put": stats.put,
            "acked": stats.acked,
        }))
    }),
    op("queue.transact", &["do", "max_attempts?", "in?"], |session, fields| {
        let steps = transactions::steps(fields, transactions::QUEUE)?;
        session.queue(fields)?.transact(|txn| transactions::each(&steps, |step| transactions::queue(txn, step)))
    }),
];

/// The id of a job.
pub fn id(fields: &Fields<'_>) -> Result<JobId, Fault> {
    fields.count("job").map(JobId)
}

/// A leased job, as far as the queue needs it to be given back: its id and its token.
pub fn job(fields: &Fields<'_>) -> Result<Job<Vec<u8>>, Fault> {
    Ok(Job {
        id: id(fields)?,
        token: fields.count("token")?,
        value: Vec::new(),
        attempt: 0,
        put_at_unix_ms: 0,
        leased_until_unix_ms: 0,
    })
}

/// When a job that is given back is handed out again: `"now"`, `"never"`, or after seconds.
pub fn retry(fields: &Fields<'_>) -> Result<Retry, Fault> {
    const WORDS: &[(&str, Retry)] = &[("now", Retry::Now), ("never", Retry::Never)];
    match fields.get("retry") {
        Some(Value::Number(_)) => fields.seconds("retry").map(Retry::After),
        Some(_) => fields
            .optional_choice("retry", WORDS)
            .map(|retry| retry.unwrap_or(Retry::Now))
            .map_err(|_| fields.wrong("retry", "must be \"now\", \"never\" or seconds")),
        None => Ok(Retry::Now),
    }
}

/// A job that was handed out.
pub fn leased(job: Job<Vec<u8>>) -> Value {
    json!({
        "job": job.id.0,
        "token": job.token,
        "value": bytes_to_json(job.value),
        "attempt": job.attempt,
        "put_at": millis_as_seconds(job.put_at_unix_ms),
        "leased_until": millis_as_seconds(job.leased_until_unix_ms),
    })
}

/// A dead letter; only its job, and why, if there is no room left for it in the answer.
fn dead_letter(letter: DeadLetter<Vec<u8>>, room: &mut usize) -> Value {
    let told = json!({
        "job": letter.id.0,
        "value": bytes_to_json(letter.value),
        "attempts": letter.attempts,
        "put_at": millis_as_seconds(letter.put_at_unix_ms),
        "reason": letter.reason,
    });
    let bytes = answer::bytes(&told);
    match room.checked_sub(bytes) {
        Some(left) => {
            *room = left;
            told
        }
        None => json!({ "job": letter.id.0, "error": answer::too_long(bytes as u64) }),
    }
}

fn held(held: Held) -> Value {
    Value::Bool(held == Held::Yes)
}

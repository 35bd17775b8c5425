//! [`QueueTxn`]: the operations of a queue within one write transaction.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::time::Duration;

use super::state::{self, Counters, DEAD, DELAYED, LEASED, Place, READY, State, VALUES};
use super::{Held, Job, JobId, Retry};
use crate::collection::{number, seal};
use crate::{CollectionError, Value, WriteTxn};

/// Jobs whose lease or delay has ended that one call looks after, so that no transaction grows with the queue.
const SWEEP: usize = 128;

/// A [`WorkQueue`](crate::WorkQueue) within [`transact`](crate::WorkQueue::transact): for finishing a job and putting the
/// next one at once, say. It sees its own changes, and its time stands still.
///
/// Methods do what those of the queue with the same name do.
pub struct QueueTxn<'a, 't, V> {
    txn: &'a mut WriteTxn<'t>,
    now_unix_ms: u64,
    max_attempts: NonZeroU32,
    values: PhantomData<fn() -> V>,
}

impl<'a, 't, V: Value> QueueTxn<'a, 't, V> {
    pub(super) fn new(txn: &'a mut WriteTxn<'t>, now_unix_ms: u64, max_attempts: NonZeroU32) -> QueueTxn<'a, 't, V> {
        QueueTxn { txn, now_unix_ms, max_attempts, values: PhantomData }
    }

    /// Adds a job.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn put(&mut self, value: &V) -> Result<JobId, CollectionError> {
        self.put_at(value, Place::Ready)
    }

    /// Adds a job that is handed out only after `delay`.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn put_after(&mut self, value: &V, delay: Duration) -> Result<JobId, CollectionError> {
        self.put_at(value, Place::Delayed { until_unix_ms: self.after(delay) })
    }

    fn put_at(&mut self, value: &V, place: Place) -> Result<JobId, CollectionError> {
        let mut counters = state::counters(self.txn)?;
        counters.put += 1;
        let id = JobId(counters.put);
        state::put_counters(self.txn, counters)?;
        let key = id.0.to_be_bytes();
        self.txn.put(VALUES, &key, &seal(&key, &value.to_bytes()?))?;
        let state = State { attempts: 0, put_at_unix_ms: self.now_unix_ms, place, reason: None };
        state::put_state(self.txn, id, None, &state)?;
        Ok(id)
    }

    /// Hands out the oldest job that is ready.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn lease(&mut self, timeout: Duration) -> Result<Option<Job<V>>, CollectionError> {
        self.sweep()?;
        loop {
            let Some((key, _)) = self.txn.first(READY)? else { return Ok(None) };
            let id = JobId(number(READY, key)?);
            let value = match state::value(self.txn, id) {
                Ok(value) => value,
                // A damaged job must not stand in the way of all that come after it.
                Err(CollectionError::Corrupt { .. }) => {
                    let state = state::known_state(self.txn, id)?;
                    self.bury(id, state, Some("its value is damaged".to_owned()))?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            return self.hand_out(id, value, timeout).map(Some);
        }
    }

    fn hand_out(&mut self, id: JobId, value: V, timeout: Duration) -> Result<Job<V>, CollectionError> {
        let mut counters = state::counters(self.txn)?;
        counters.tokens += 1;
        let token = counters.tokens;
        state::put_counters(self.txn, counters)?;
        let mut state = state::known_state(self.txn, id)?;
        let until_unix_ms = self.after(timeout);
        state.attempts = state.attempts.saturating_add(1);
        let was = std::mem::replace(&mut state.place, Place::Leased { until_unix_ms, token });
        state::put_state(self.txn, id, Some(was), &state)?;
        Ok(Job {
            id,
            value,
            attempt: state.attempts,
            token,
            put_at_unix_ms: state.put_at_unix_ms,
            leased_until_unix_ms: until_unix_ms,
        })
    }

    /// Finishes a job.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn ack(&mut self, job: &Job<V>) -> Result<Held, CollectionError> {
        let Some(state) = self.held(job)? else { return Ok(Held::No) };
        state::remove(self.txn, job.id, state.place)?;
        let counters = state::counters(self.txn)?;
        state::put_counters(self.txn, Counters { acked: counters.acked + 1, ..counters })?;
        Ok(Held::Yes)
    }

    /// Makes a lease end `timeout` from now.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn extend(&mut self, job: &mut Job<V>, timeout: Duration) -> Result<Held, CollectionError> {
        let Some(mut state) = self.held(job)? else { return Ok(Held::No) };
        let until_unix_ms = self.after(timeout);
        let was = std::mem::replace(&mut state.place, Place::Leased { until_unix_ms, token: job.token });
        state::put_state(self.txn, job.id, Some(was), &state)?;
        job.leased_until_unix_ms = until_unix_ms;
        Ok(Held::Yes)
    }

    /// Gives a job back unfinished.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn nack(&mut self, job: &Job<V>, retry: Retry, reason: Option<&str>) -> Result<Held, CollectionError> {
        let Some(mut state) = self.held(job)? else { return Ok(Held::No) };
        let reason = reason.map(str::to_owned);
        let place = match retry {
            _ if state.attempts >= self.max_attempts.get() => Place::Dead,
            Retry::Never => Place::Dead,
            Retry::Now => Place::Ready,
            Retry::After(delay) => Place::Delayed { until_unix_ms: self.after(delay) },
        };
        let was = std::mem::replace(&mut state.place, place);
        state::put_state(self.txn, job.id, Some(was), &State { reason, ..state })?;
        Ok(Held::Yes)
    }

    /// Makes a dead letter a job again, with all its attempts before it. `false`: there is no such dead letter.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn requeue(&mut self, id: JobId) -> Result<bool, CollectionError> {
        match state::state(self.txn, id)? {
            Some(state) if state.place == Place::Dead => {
                let fresh = State { attempts: 0, place: Place::Ready, reason: None, ..state };
                state::put_state(self.txn, id, Some(Place::Dead), &fresh)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Makes all dead letters jobs again; returns how many there were.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn requeue_all(&mut self) -> Result<u64, CollectionError> {
        let ids: Vec<JobId> = state::ids(self.txn, DEAD)?.collect::<Result<_, _>>()?;
        for id in &ids {
            self.requeue(*id)?;
        }
        Ok(ids.len() as u64)
    }

    /// Removes a job, wherever it is: a worker that has it has lost it. `false`: there is no such job.
    ///
    /// # Errors
    /// [`CollectionError`].
    pub fn remove(&mut self, id: JobId) -> Result<bool, CollectionError> {
        let Some(state) = state::state(self.txn, id)? else { return Ok(false) };
        state::remove(self.txn, id, state.place)?;
        Ok(true)
    }

    /// The state of a job, if it still is with the worker that has this lease. A lease whose time is over still holds as
    /// long as nobody else was given the job.
    fn held(&self, job: &Job<V>) -> Result<Option<State>, CollectionError> {
        let state = state::state(self.txn, job.id)?;
        Ok(state.filter(|state| matches!(state.place, Place::Leased { token, .. } if token == job.token)))
    }

    /// Brings back the jobs whose lease or delay has ended.
    fn sweep(&mut self) -> Result<(), CollectionError> {
        for table in [LEASED, DELAYED] {
            for _ in 0..SWEEP {
                let Some(id) = state::due(self.txn, table, self.now_unix_ms)? else { break };
                let mut state = state::known_state(self.txn, id)?;
                let spent = state.attempts >= self.max_attempts.get() && table == LEASED;
                if spent {
                    self.bury(id, state, None)?;
                } else {
                    let was = std::mem::replace(&mut state.place, Place::Ready);
                    state::put_state(self.txn, id, Some(was), &state)?;
                }
            }
        }
        Ok(())
    }

    fn bury(&mut self, id: JobId, mut state: State, reason: Option<String>) -> Result<(), CollectionError> {
        let was = std::mem::replace(&mut state.place, Place::Dead);
        state::put_state(self.txn, id, Some(was), &State { reason, ..state })
    }

    fn after(&self, time: Duration) -> u64 {
        self.now_unix_ms.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }
}

impl<V> fmt::Debug for QueueTxn<'_, '_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueTxn").field("now_unix_ms", &self.now_unix_ms).finish_non_exhaustive()
    }
}

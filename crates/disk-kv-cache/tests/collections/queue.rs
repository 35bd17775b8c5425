//! `WorkQueue`: against a model with its own time, over processes, with workers killed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_disk_kv_cache::{
    CollectionError, Held, Job, JobId, ManualClock, QueueSettings, QueueStats, Retry, Sharing, Store, StoreError,
    ValueError, WorkQueue,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::child::{self, on, quick, rounds, say};

const MAX_ATTEMPTS: u32 = 3;
const START: Duration = Duration::from_secs(1_000_000);

fn settings() -> QueueSettings {
    QueueSettings::new().with_store(quick()).with_max_attempts(NonZeroU32::new(MAX_ATTEMPTS).unwrap())
}

fn timed(dir: &Path) -> (WorkQueue<u64>, ManualClock) {
    let clock = ManualClock::at(START);
    (WorkQueue::open_with_clock(dir, settings(), Arc::new(clock.clone())).unwrap(), clock)
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64),
    PutAfter(u64, u64),
    Lease(u64),
    /// With the n-th of all leases ever given out.
    Ack(usize),
    Extend(usize, u64),
    Nack(usize, u8, u64),
    Requeue(u64),
    RequeueAll,
    Remove(u64),
    Clear,
    Pass(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let (lease, time) = (0..12_usize, 1..40_u64);
    prop_oneof![
        4 => (0..99_u64).prop_map(Step::Put),
        2 => (0..99_u64, time.clone()).prop_map(|(value, delay)| Step::PutAfter(value, delay)),
        6 => time.clone().prop_map(Step::Lease),
        3 => lease.clone().prop_map(Step::Ack),
        1 => (lease.clone(), time.clone()).prop_map(|(lease, time)| Step::Extend(lease, time)),
        3 => (lease, 0..3_u8, time.clone()).prop_map(|(lease, retry, delay)| Step::Nack(lease, retry, delay)),
        1 => (1..8_u64).prop_map(Step::Requeue),
        1 => Just(Step::RequeueAll),
        1 => (1..8_u64).prop_map(Step::Remove),
        1 => Just(Step::Clear),
        5 => time.prop_map(Step::Pass),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Debug, Clone, PartialEq)]
enum Place {
    Ready,
    Leased { until: u64, token: u64 },
    Delayed { until: u64 },
    Dead,
}

#[derive(Debug, Clone)]
struct Entry {
    value: u64,
    attempts: u32,
    place: Place,
    reason: Option<String>,
}

/// Everything a queue should know, in the simplest form there is.
#[derive(Debug, Default)]
struct Model {
    jobs: BTreeMap<u64, Entry>,
    put: u64,
    tokens: u64,
    acked: u64,
    now: u64,
}

impl Model {
    fn put(&mut self, value: u64, place: Place) {
        self.put += 1;
        self.jobs.insert(self.put, Entry { value, attempts: 0, place, reason: None });
    }

    fn lease(&mut self, timeout: u64) -> Option<(u64, Entry)> {
        for job in self.jobs.values_mut() {
            match job.place {
                Place::Leased { until, .. } if until <= self.now => {
                    job.place = if job.attempts >= MAX_ATTEMPTS { Place::Dead } else { Place::Ready };
                    job.reason = if job.place == Place::Dead { None } else { job.reason.take() };
                }
                Place::Delayed { until } if until <= self.now => job.place = Place::Ready,
                _ => {}
            }
        }
        let (id, job) = self.jobs.iter_mut().find(|(_, job)| job.place == Place::Ready)?;
        self.tokens += 1;
        job.attempts += 1;
        job.place = Place::Leased { until: self.now + timeout, token: self.tokens };
        Some((*id, job.clone()))
    }

    fn held(&mut self, lease: &Job<u64>) -> Option<&mut Entry> {
        let entry = self.jobs.get_mut(&lease.id.0)?;
        matches!(entry.place, Place::Leased { token, .. } if token == lease.token).then_some(entry)
    }

    fn stats(&self) -> (u64, u64, u64, u64) {
        let mut stats = (0, 0, 0, 0);
        for job in self.jobs.values() {
            match job.place {
                Place::Leased { until, .. } if until > self.now => stats.1 += 1,
                Place::Delayed { until } if until > self.now => stats.2 += 1,
                Place::Dead => stats.3 += 1,
                _ => stats.0 += 1,
            }
        }
        stats
    }
}

fn held(is: bool) -> Held {
    if is { Held::Yes } else { Held::No }
}

fn run(sharing: Sharing, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(START);
    let open = || {
        let settings = settings().with_store(on(sharing));
        WorkQueue::<u64>::open_with_clock(dir.path(), settings, Arc::new(clock.clone())).unwrap()
    };
    let mut queue = open();
    let mut model = Model { now: START.as_millis() as u64, ..Model::default() };
    let mut leases: Vec<Job<u64>> = Vec::new();
    let millis = Duration::from_millis;
    for step in steps {
        match step {
            Step::Put(value) => {
                model.put(*value, Place::Ready);
                assert_eq!(queue.put(value).unwrap(), JobId(model.put));
            }
            Step::PutAfter(value, delay) => {
                model.put(*value, Place::Delayed { until: model.now + delay });
                assert_eq!(queue.put_after(value, millis(*delay)).unwrap(), JobId(model.put));
            }
            Step::Lease(timeout) => {
                let job = queue.lease(millis(*timeout)).unwrap();
                let expected = model.lease(*timeout);
                assert_eq!(
                    job.as_ref().map(|job| (job.id.0, job.value, job.attempt)),
                    expected.map(|(id, entry)| (id, entry.value, entry.attempts))
                );
                if let Some(job) = &job {
                    assert_eq!((job.token, job.leased_until_unix_ms), (model.tokens, model.now + timeout));
                }
                leases.extend(job);
            }
            Step::Ack(lease) => {
                if let Some(lease) = leases.get(*lease) {
                    let ours = model.held(lease).is_some();
                    if ours {
                        model.jobs.remove(&lease.id.0);
                        model.acked += 1;
                    }
                    assert_eq!(queue.ack(lease).unwrap(), held(ours));
                }
            }
            Step::Extend(lease, time) => {
                if let Some(lease) = leases.get_mut(*lease) {
                    let until = model.now + time;
                    let entry = model.held(lease);
                    assert_eq!(queue.extend(lease, millis(*time)).unwrap(), held(entry.is_some()));
                    if let Some(entry) = entry {
                        entry.place = Place::Leased { until, token: lease.token };
                        assert_eq!(lease.leased_until_unix_ms, until);
                    }
                }
            }
            Step::Nack(lease, retry, delay) => {
                if let Some(lease) = leases.get(*lease) {
                    let until = model.now + delay;
                    let entry = model.held(lease);
                    let retry = [Retry::Now, Retry::After(millis(*delay)), Retry::Never][usize::from(*retry)];
                    assert_eq!(queue.nack(lease, retry, Some("why")).unwrap(), held(entry.is_some()));
                    if let Some(entry) = entry {
                        entry.reason = Some("why".to_owned());
                        entry.place = match retry {
                            Retry::Now if entry.attempts < MAX_ATTEMPTS => Place::Ready,
                            Retry::After(_) if entry.attempts < MAX_ATTEMPTS => Place::Delayed { until },
                            _ => Place::Dead,
                        };
                    }
                }
            }
            Step::Requeue(id) => {
                let dead = model.jobs.get_mut(id).filter(|entry| entry.place == Place::Dead);
                assert_eq!(queue.requeue(JobId(*id)).unwrap(), dead.is_some());
                if let Some(entry) = dead {
                    *entry = Entry { attempts: 0, place: Place::Ready, reason: None, ..entry.clone() };
                }
            }
            Step::RequeueAll => {
                let dead = model.jobs.values_mut().filter(|entry| entry.place == Place::Dead);
                let count = dead
                    .map(|entry| {
                        *entry = Entry { attempts: 0, place: Place::Ready, reason: None, ..entry.clone() };
                    })
                    .count();
                assert_eq!(queue.requeue_all().unwrap(), count as u64);
            }
            Step::Remove(id) => {
                assert_eq!(queue.remove(JobId(*id)).unwrap(), model.jobs.remove(id).is_some());
            }
            Step::Clear => {
                queue.clear().unwrap();
                model.jobs.clear();
            }
            Step::Pass(time) => {
                clock.advance(millis(*time));
                model.now += time;
            }
            Step::Reopen => {
                drop(queue);
                queue = open();
            }
        }
        let QueueStats { ready, leased, delayed, dead, put, acked, .. } = queue.stats().unwrap();
        assert_eq!((ready, leased, delayed, dead), model.stats());
        assert_eq!((put, acked), (model.put, model.acked));
        assert_eq!(queue.len().unwrap(), ready + leased + delayed);
        let letters = queue.dead_letters().unwrap().into_iter().map(|letter| letter.unwrap());
        let letters: Vec<_> =
            letters.map(|letter| (letter.id.0, letter.value, letter.attempts, letter.reason)).collect();
        let dead = model.jobs.iter().filter(|(_, entry)| entry.place == Place::Dead);
        let dead: Vec<_> = dead.map(|(id, entry)| (*id, entry.value, entry.attempts, entry.reason.clone())).collect();
        assert_eq!(letters, dead);
    }
    queue.clear().unwrap();
    assert!(queue.is_empty().unwrap() && queue.dead_letters().unwrap().is_empty());
    assert_eq!(queue.put(&1).unwrap(), JobId(model.put + 1), "ids are never used again");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[cfg(feature = "lmdb")]
    #[test]
    fn a_queue_on_lmdb_does_what_its_model_does(steps in vec(step(), 1..60)) {
        run(Sharing::MultiProcess, &steps);
    }

    #[cfg(feature = "sled")]
    #[test]
    fn a_queue_on_sled_does_what_its_model_does(steps in vec(step(), 1..60)) {
        run(Sharing::SingleProcess, &steps);
    }
}

#[test]
fn finishing_a_job_and_putting_the_next_is_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = timed(dir.path());
    queue.put(&1).unwrap();
    let job = queue.lease(Duration::from_secs(1)).unwrap().unwrap();
    let failed = queue.transact::<(), CollectionError>(|txn| {
        assert_eq!(txn.ack(&job)?, Held::Yes);
        txn.put(&2)?;
        Err(CollectionError::QueueFull)
    });
    failed.unwrap_err();
    assert_eq!(queue.stats().unwrap().leased, 1);
    let next = queue.transact::<_, CollectionError>(|txn| {
        assert_eq!(txn.ack(&job)?, Held::Yes);
        txn.put(&2)
    });
    assert_eq!(queue.lease(Duration::from_secs(1)).unwrap().unwrap().id, next.unwrap());
}

#[test]
fn a_clock_that_is_set_back_makes_leases_longer_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, clock) = timed(dir.path());
    queue.put(&1).unwrap();
    let job = queue.lease(Duration::from_secs(10)).unwrap().unwrap();
    clock.set(START - Duration::from_secs(100));
    assert_eq!(queue.lease(Duration::from_secs(10)).unwrap(), None);
    clock.advance(Duration::from_secs(110));
    let again = queue.lease(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!((again.id, again.attempt), (job.id, 2));
    assert_eq!(queue.ack(&job).unwrap(), Held::No);
    assert_eq!(queue.ack(&again).unwrap(), Held::Yes);
}

#[test]
fn a_damaged_job_becomes_a_dead_letter_and_one_of_another_type_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = timed(dir.path());
    let bad = queue.put(&1).unwrap();
    queue.put(&2).unwrap();
    let store = Store::open(dir.path(), &["queue_values"], quick()).unwrap();
    store.write::<_, StoreError>(|txn| txn.put("queue_values", &bad.0.to_be_bytes(), b"garbage")).unwrap();
    assert_eq!(queue.lease(Duration::from_secs(1)).unwrap().unwrap().value, 2);
    let letters = queue.dead_letters().unwrap();
    assert!(matches!(letters.as_slice(), [Err(CollectionError::Corrupt { .. })]), "{letters:?}");
    assert!(queue.remove(bad).unwrap());

    queue.put(&3).unwrap();
    let texts: WorkQueue<String> = WorkQueue::open(dir.path(), settings()).unwrap();
    let refused = texts.lease(Duration::from_secs(1));
    assert!(matches!(refused, Err(CollectionError::Value(ValueError::OtherType { .. }))), "{refused:?}");
    assert_eq!(queue.lease(Duration::from_secs(1)).unwrap().unwrap().value, 3);
}

#[test]
fn a_damaged_state_stands_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, clock) = timed(dir.path());
    let store = Store::open(dir.path(), &["queue_states"], quick()).unwrap();
    let damage = |id: JobId| {
        store.write::<_, StoreError>(|txn| txn.put("queue_states", &id.0.to_be_bytes(), b"garbage")).unwrap();
    };
    let (ready, leased) = (queue.put(&1).unwrap(), queue.put(&2).unwrap());
    let dead = queue.put(&3).unwrap();
    let delayed = queue.put_after(&4, Duration::from_secs(60)).unwrap();
    let hour = Duration::from_secs(3_600);
    let held: Vec<_> = (0..3).map(|_| queue.lease(hour).unwrap().unwrap()).collect();
    assert_eq!(queue.nack(&held[0], Retry::Now, Some("again")).unwrap(), Held::Yes);
    assert_eq!(queue.nack(&held[2], Retry::Never, Some("bad")).unwrap(), Held::Yes);
    for id in [ready, leased, dead, delayed] {
        damage(id);
    }
    let job = queue.lease(hour).unwrap().unwrap();
    assert_eq!((job.id, job.attempt), (ready, 1), "as good as new");
    assert_eq!(queue.ack(&job).unwrap(), Held::Yes);
    // Nobody knows whose it is, so it comes back when its lease ends.
    assert_eq!(queue.ack(&held[1]).unwrap(), Held::No);
    clock.advance(hour * 2);
    let back: Vec<_> = (0..2).map(|_| queue.lease(hour).unwrap().unwrap().id).collect();
    assert_eq!(back, [leased, delayed]);
    assert!(queue.requeue(dead).unwrap());
    assert_eq!(queue.lease(hour).unwrap().unwrap().value, 3);
    damage(delayed);
    assert!(queue.remove(delayed).unwrap());
}

#[test]
fn waiting_ends_with_a_job_or_with_patience() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = timed(dir.path());
    // The clock moves as it is slept by.
    assert_eq!(queue.lease_wait(Duration::from_secs(1), Duration::from_secs(5)).unwrap(), None);
    queue.put_after(&1, Duration::from_secs(2)).unwrap();
    let job = queue.lease_wait(Duration::from_secs(1), Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!(job.value, 1);
    let next = queue.lease_wait(Duration::from_secs(1), Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!((next.id, next.attempt), (job.id, 2), "its lease ended");
}

const LEASE: Duration = Duration::from_millis(400);

/// Takes a job and holds it for ever.
pub fn take_one(dir: &Path) {
    let queue: WorkQueue<u64> = WorkQueue::open(dir, settings()).unwrap();
    let job = queue.lease(LEASE).unwrap().unwrap();
    say(job.id.0);
    loop {
        std::thread::park();
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn a_killed_workers_job_is_handed_out_again_after_its_lease() {
    let dir = tempfile::tempdir().unwrap();
    let queue: WorkQueue<u64> = WorkQueue::open(dir.path(), settings()).unwrap();
    let id = queue.put(&7).unwrap();
    let mut worker = child::start("take-one", dir.path());
    assert_eq!(worker.number(), Some(id.0));
    worker.kill();
    assert_eq!(queue.lease(LEASE).unwrap(), None, "its lease still runs");
    let job = queue.lease_wait(LEASE, Duration::from_secs(20)).unwrap().unwrap();
    assert_eq!((job.id, job.attempt), (id, 2));
    assert_eq!(queue.ack(&job).unwrap(), Held::Yes);
}

/// Works until the queue is empty, saying each job that it has finished.
pub fn work(dir: &Path) {
    let settings = settings().with_max_attempts(NonZeroU32::MAX);
    let queue: WorkQueue<u64> = WorkQueue::open(dir, settings).unwrap();
    loop {
        match queue.lease_wait(LEASE, Duration::from_millis(10)).unwrap() {
            Some(job) if queue.ack(&job).unwrap() == Held::Yes => say(job.value),
            None if queue.is_empty().unwrap() => return,
            _ => {}
        }
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn workers_that_are_killed_lose_no_job_and_undo_no_ack() {
    let dir = tempfile::tempdir().unwrap();
    const JOBS: u64 = 400;
    for round in 0..rounds(3, 4) {
        let queue: WorkQueue<u64> = WorkQueue::open(dir.path(), settings()).unwrap();
        let before = queue.stats().unwrap();
        queue.transact::<_, CollectionError>(|txn| (0..JOBS).try_for_each(|job| txn.put(&job).map(|_| ()))).unwrap();
        drop(queue);
        let mut workers: Vec<_> = (0..3).map(|_| child::start("work", dir.path())).collect();
        let mut done: Vec<u64> = Vec::new();
        for victim in 0..4 {
            let mut worker = workers.remove(0);
            let wanted = 5 + (round * 13 + victim * 7) % 29;
            done.extend(std::iter::from_fn(|| worker.number()).take(wanted as usize));
            done.extend(worker.kill());
            workers.push(child::start("work", dir.path()));
        }
        done.extend(workers.into_iter().flat_map(child::Worker::finish));

        let unique: BTreeSet<u64> = done.iter().copied().collect();
        assert_eq!(unique.len(), done.len(), "what was acknowledged is not handed out again");
        let queue: WorkQueue<u64> = WorkQueue::open(dir.path(), settings()).unwrap();
        let after = queue.stats().unwrap();
        assert_eq!(after.acked - before.acked, JOBS);
        assert_eq!((after.ready, after.leased, after.delayed, after.dead), (0, 0, 0, 0));
        // A worker can be killed between its acknowledgement and its saying so: once for each that was killed.
        assert!(done.len() as u64 + 4 >= JOBS, "{} of {JOBS}", done.len());
    }
}

//! Locks and semaphores: over threads and processes, with owners killed and owners stuck.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use alluvium_disk_kv_cache::{Coordination, Index, LockError, ManualClock, barrier};

use crate::child::{self, quick, rounds, say, until_told};

const SOON: Duration = Duration::from_millis(30);
const LATE: Duration = Duration::from_secs(20);

fn open(dir: &Path) -> Coordination {
    Coordination::open(dir, quick()).unwrap()
}

/// Runs a future on this thread: there is no executor among the dependencies.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park();
    }
}

#[test]
fn names_of_any_bytes_are_locks_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let coordination = open(dir.path());
    let long = vec![b'x'; 10 << 10];
    let names: [&[u8]; 6] = [b"", b"a", b"../../a", b"\0", &long, &long[1..]];
    let guards: Vec<_> = names.iter().map(|name| coordination.lock(name).try_acquire().unwrap().unwrap()).collect();
    for name in names {
        assert!(coordination.lock(name).try_acquire().unwrap().is_none());
    }
    // Of another kind: not the same lock.
    let _other = coordination.reentrant_lock("a").try_acquire().unwrap().unwrap();
    drop(guards);
    for name in names {
        assert!(coordination.lock(name).try_acquire().unwrap().is_some());
    }
}

#[test]
fn threads_exclude_each_other_through_one_handle_and_through_two() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path()), open(dir.path()));
    let mut last = 0;
    let counter = std::sync::Mutex::new(&mut last);
    thread::scope(|threads| {
        for coordination in [&one, &one, &two, &two] {
            let counter = &counter;
            threads.spawn(move || {
                for _ in 0..25 {
                    let guard = coordination.lock("counter").acquire().unwrap();
                    // Never contended, or the lock does not exclude.
                    let mut last = counter.try_lock().unwrap();
                    assert!(guard.token() > **last, "tokens grow");
                    **last = guard.token();
                    thread::yield_now();
                }
            });
        }
    });
    assert_eq!(last, 100);
}

/// Adds one to a number by reading and writing it in two transactions, which is right only under the lock.
pub fn increment(dir: &Path) {
    let lock = open(&dir.join("coordination")).lock("counter");
    let numbers: Index<String, u64> = Index::open(dir.join("numbers"), quick()).unwrap();
    until_told();
    for _ in 0..60 {
        barrier(&lock, || {
            let number = numbers.get(&"n".to_owned()).unwrap().unwrap_or(0);
            thread::yield_now();
            numbers.insert(&"n".to_owned(), &(number + 1)).unwrap();
        })
        .unwrap();
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn processes_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut workers: Vec<_> = (0..4).map(|_| child::start("increment", dir.path())).collect();
    workers.iter_mut().for_each(|worker| worker.wait_for("ready"));
    workers.iter_mut().for_each(child::Worker::tell);
    workers.into_iter().for_each(|worker| drop(worker.finish()));
    let numbers: Index<String, u64> = Index::open(dir.path().join("numbers"), quick()).unwrap();
    assert_eq!(numbers.get(&"n".to_owned()).unwrap(), Some(240));
}

/// Takes the lock, says its token, and holds it for ever.
pub fn hold(dir: &Path) {
    let coordination = open(dir).with_owner("the child");
    let guard = coordination.lock("held").acquire().unwrap();
    say(guard.token());
    loop {
        thread::park();
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn a_killed_owner_is_replaced_at_once_by_a_larger_token() {
    let dir = tempfile::tempdir().unwrap();
    let lock = open(dir.path()).lock("held");
    for _ in 0..rounds(4, 1) {
        let mut owner = child::start("hold-a-lock", dir.path());
        let token = owner.number().unwrap();
        assert!(lock.acquire_within(SOON).unwrap().is_none());
        let seen = lock.owner().unwrap().unwrap();
        assert_eq!((seen.name.as_str(), seen.token, seen.pid), ("the child", token, owner.process.id()));

        let waiter = lock.clone();
        let waiting = thread::spawn(move || waiter.acquire_within(LATE).unwrap().unwrap().token());
        owner.kill();
        assert!(waiting.join().unwrap() > token);
        assert_eq!(lock.owner().unwrap(), None);
    }
}

/// As [`hold`], on a lease that is over as soon as it begins.
pub fn hold_a_lease(dir: &Path) {
    let guard = open(dir).lock("held").with_lease(Duration::from_millis(1)).acquire().unwrap();
    say(guard.token());
    until_told();
    say(u8::from(guard.is_current().unwrap()));
    drop(guard);
    say("dropped");
}

#[cfg(feature = "lmdb")]
#[test]
fn an_owner_that_outstays_its_lease_is_replaced_and_can_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let lock = open(dir.path()).lock("held");
    let mut stuck = child::start("hold-a-lease", dir.path());
    let token = stuck.number().unwrap();
    let guard = lock.acquire_within(LATE).unwrap().unwrap();
    assert!(guard.token() > token);
    assert!(guard.is_current().unwrap());

    // The zombie learns of it, and its giving back is not ours.
    stuck.wait_for("ready");
    assert_eq!(stuck.finish(), [0]);
    assert!(lock.acquire_within(SOON).unwrap().is_none());
    assert_eq!(lock.owner().unwrap().map(|owner| owner.token), Some(guard.token()));
    drop(guard);
    assert!(lock.try_acquire().unwrap().is_some());
    // Of the files of the generations, the last is left.
    assert_eq!(std::fs::read_dir(dir.path().join("locks")).unwrap().count(), 1);
}

#[test]
fn a_lease_is_judged_by_the_clock_and_a_lock_without_one_is_never_lost() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Duration::from_secs(1_000));
    let coordination = Coordination::open_with_clock(dir.path(), quick(), Arc::new(clock.clone())).unwrap();
    let leased = coordination.lock("a").with_lease(Duration::from_secs(10));
    let first = leased.acquire().unwrap();
    clock.advance(Duration::from_millis(9_999));
    assert!(leased.try_acquire().unwrap().is_none());
    clock.advance(Duration::from_millis(1));
    let second = leased.try_acquire().unwrap().unwrap();
    assert!(!first.is_current().unwrap() && second.is_current().unwrap());

    let kept = coordination.lock("b").acquire().unwrap();
    clock.advance(Duration::from_secs(1 << 30));
    assert!(coordination.lock("b").acquire_within(Duration::from_secs(5)).unwrap().is_none());
    assert!(kept.is_current().unwrap());
}

#[test]
fn a_reentrant_lock_is_free_when_its_last_guard_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let lock = open(dir.path()).reentrant_lock("r");
    let elsewhere = || {
        let lock = lock.clone();
        thread::spawn(move || lock.acquire_within(SOON).unwrap().is_some()).join().unwrap()
    };
    let outer = lock.acquire().unwrap();
    // Through another handle of the same directory, too.
    let inner = open(dir.path()).reentrant_lock("r").try_acquire().unwrap().unwrap();
    assert_eq!(outer.token(), inner.token());
    drop(outer);
    assert!(!elsewhere(), "one guard is left");
    drop(inner);
    assert!(elsewhere());
    let again = lock.try_acquire().unwrap().unwrap();
    assert!(again.is_current().unwrap());
}

#[test]
fn a_reentrant_lock_that_was_lost_is_not_taken_for_held() {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(Duration::from_secs(1_000));
    let coordination = Coordination::open_with_clock(dir.path(), quick(), Arc::new(clock.clone())).unwrap();
    let lock = coordination.reentrant_lock("r").with_lease(Duration::from_secs(10));
    let lost = lock.acquire().unwrap();
    clock.advance(Duration::from_secs(11));
    let (told, hear) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    thread::scope(|threads| {
        let lock = &lock;
        threads.spawn(move || {
            let _held = lock.try_acquire().unwrap().unwrap();
            told.send(()).unwrap();
            wait.recv().unwrap();
        });
        hear.recv().unwrap();
        let again = lock.try_acquire().unwrap();
        go.send(()).unwrap();
        assert!(again.is_none());
    });
    assert!(!lost.is_current().unwrap());
}

/// Takes a permit, says its token, and holds it for ever.
pub fn take_a_permit(dir: &Path) {
    let permit = open(dir).semaphore("s", 3).unwrap().acquire().unwrap();
    say(permit.token());
    loop {
        thread::park();
    }
}

#[cfg(feature = "lmdb")]
#[test]
fn a_semaphore_has_so_many_owners_and_a_killed_one_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let coordination = open(dir.path());
    let semaphore = coordination.semaphore("s", 3).unwrap();
    let mut others = [child::start("take-a-permit", dir.path()), child::start("take-a-permit", dir.path())];
    let mut tokens: Vec<u64> = others.iter_mut().map(|other| other.number().unwrap()).collect();
    let ours = semaphore.acquire().unwrap();
    tokens.push(ours.token());
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2, 3]);
    assert!(semaphore.acquire_within(SOON).unwrap().is_none());
    assert_eq!(semaphore.owners().unwrap().len(), 3);

    let [one, two] = others;
    one.kill();
    let fourth = semaphore.acquire_within(LATE).unwrap().unwrap();
    assert_eq!(fourth.token(), 4);
    assert!(semaphore.try_acquire().unwrap().is_none());
    drop(ours);
    let fifth = block_on(semaphore.acquire_within_async(LATE)).unwrap().unwrap();
    assert_eq!(fifth.token(), 5);
    two.kill();
}

#[test]
fn a_barrier_of_permits_lets_so_many_in_and_one_of_a_reentrant_lock_its_own_thread() {
    let dir = tempfile::tempdir().unwrap();
    let coordination = open(dir.path());
    let (inside, most) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|threads| {
        for _ in 0..4 {
            let semaphore = coordination.semaphore("s", 2).unwrap();
            let (inside, most) = (&inside, &most);
            threads.spawn(move || {
                for _ in 0..10 {
                    let answer = barrier(&semaphore, || {
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst)
                    });
                    assert!(answer.unwrap() <= 2);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 2);
    let lock = coordination.reentrant_lock("r");
    assert_eq!(barrier(&lock, || barrier(&lock, || 7).unwrap()).unwrap(), 7);
}

#[test]
fn all_must_agree_on_the_number_of_permits() {
    let dir = tempfile::tempdir().unwrap();
    let coordination = open(dir.path());
    coordination.semaphore("s", 3).unwrap();
    let conflict = coordination.semaphore("s", 4);
    assert!(matches!(&conflict, Err(LockError::PermitsConflict { stored: 3, requested: 4, name }) if name == "s"));
    assert!(matches!(coordination.semaphore("t", 0), Err(LockError::InvalidSetting { .. })));
}

#[test]
fn a_future_waits_for_the_lock_and_a_dropped_one_does_not_take_it() {
    let dir = tempfile::tempdir().unwrap();
    let lock = open(dir.path()).lock("async");
    let guard = lock.acquire().unwrap();
    assert!(block_on(lock.acquire_within_async(SOON)).unwrap().is_none());

    let (other, token) = (lock.clone(), guard.token());
    let waiting = thread::spawn(move || block_on(other.acquire_within_async(LATE)).unwrap().unwrap().token());
    thread::yield_now();
    drop(guard);
    assert!(waiting.join().unwrap() > token);

    let guard = lock.acquire().unwrap();
    {
        let abandoned = lock.acquire_within_async(LATE);
        let mut abandoned = std::pin::pin!(abandoned);
        assert!(abandoned.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(guard);
    // Its thread may have got the lock at the last moment: it gives it back.
    let after = lock.acquire_within(LATE).unwrap().unwrap();
    assert!(after.is_current().unwrap());
}

#[test]
fn a_lock_file_that_is_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let coordination = open(dir.path());
    drop(coordination.lock("a").acquire().unwrap());
    let file = std::fs::read_dir(dir.path().join("locks")).unwrap().next().unwrap().unwrap().path();
    let precious = dir.path().join("precious");
    std::fs::write(&precious, "text").unwrap();
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&precious, &file).unwrap();
    assert!(matches!(coordination.lock("a").try_acquire(), Err(LockError::Io { .. })));
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "text");
}

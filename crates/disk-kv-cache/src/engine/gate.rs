//! Who may use a map, and when it may move: any number of transactions, or one resize.
//!
//! LMDB may change the size of its map only while the process has no live transaction on it. A [`Gate`] lets
//! transactions in together and a resize alone. [`Nest`] knows, per thread, which stores it is inside of, so that a
//! thread which would wait for itself gets an error instead.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A lock like `RwLock`, with one difference: a thread that is already inside another store's transaction is not held
/// back by a *waiting* resize. Otherwise two threads reading two stores in opposite orders, and one waiting resize on
/// each, would wait for each other for ever.
///
/// While no resize waits or runs, going in and out is one change of an atomic number each: every read does both.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// How many are inside, [`WAITER`] for each resize that waits, and [`RESIZING`].
    users: AtomicU64,
    /// Held by whoever begins to wait for a change of `users`, or makes one that is waited for, so that none is missed.
    /// Nobody goes in past a resize but under it.
    waiting: Mutex<()>,
    changed: Condvar,
}

const INSIDE: u64 = WAITER - 1;
const WAITER: u64 = 1 << 32;
const RESIZING: u64 = 1 << 63;

/// Held while a transaction lives.
#[derive(Debug)]
pub(crate) struct Pass<'g>(&'g Gate);

/// Held while the map is resized.
#[derive(Debug)]
pub(crate) struct Alone<'g>(&'g Gate);

impl Gate {
    /// Waits until no resize runs (nor waits, unless `nested` in another store's transaction) and goes in.
    pub(crate) fn enter(&self, nested: bool) -> Pass<'_> {
        if !self.go_in(INSIDE) {
            let held_back_by = if nested { RESIZING } else { !INSIDE };
            let mut waiting = self.waiting();
            while !self.go_in(!held_back_by) {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
        }
        Pass(self)
    }

    /// Goes in, unless there is more than `allowed` among the users.
    fn go_in(&self, allowed: u64) -> bool {
        let one_more = |users| (users & !allowed == 0).then_some(users + 1);
        self.users.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_more).is_ok()
    }

    /// Waits until nobody is inside and keeps everybody out.
    pub(crate) fn alone(&self) -> Alone<'_> {
        let mut waiting = self.waiting();
        // From here on nobody goes in but nested ones, which need the lock that is held.
        let mut users = self.users.fetch_add(WAITER, Ordering::Acquire);
        while users & (RESIZING | INSIDE) != 0 {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            users = self.users.load(Ordering::Acquire);
        }
        // In this order: at no moment is there neither.
        self.users.fetch_or(RESIZING, Ordering::Relaxed);
        self.users.fetch_sub(WAITER, Ordering::Relaxed);
        Alone(self)
    }

    fn waiting(&self) -> MutexGuard<'_, ()> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let users = self.0.users.fetch_sub(1, Ordering::Release);
        // Waking costs a system call, and only a resize waits for those inside.
        if users & INSIDE == 1 && users & !INSIDE != 0 {
            let _waiting = self.0.waiting();
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let _waiting = self.0.waiting();
        self.0.users.fetch_and(!RESIZING, Ordering::Release);
        self.0.changed.notify_all();
    }
}

thread_local! {
    /// The stores this thread has a transaction on.
    static WITHIN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Marks this thread as being inside a transaction on one store.
#[derive(Debug)]
pub(crate) struct Nest {
    store: u64,
    /// Whether the thread was already inside another store.
    pub(crate) in_another: bool,
}

impl Nest {
    /// `None` when this thread is already inside that store.
    pub(crate) fn enter(store: u64) -> Option<Nest> {
        WITHIN.with_borrow_mut(|inside| {
            if inside.contains(&store) {
                return None;
            }
            let in_another = !inside.is_empty();
            inside.push(store);
            Some(Nest { store, in_another })
        })
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        WITHIN.with_borrow_mut(|inside| inside.retain(|store| *store != self.store));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(20);

    fn a_resize_arrives(gate: &Gate) {
        for _ in 0..LATE.as_millis() {
            if gate.users.load(Ordering::Relaxed) & !INSIDE != 0 {
                return;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        panic!("no resize waits");
    }

    #[test]
    fn a_resize_waits_for_those_inside() {
        let gate = Gate::default();
        let (told, hear) = mpsc::channel();
        thread::scope(|threads| {
            let pass = gate.enter(false);
            let gate = &gate;
            threads.spawn(move || {
                let _alone = gate.alone();
                told.send(()).unwrap();
            });
            assert!(hear.recv_timeout(SOON).is_err());
            drop(pass);
            assert_eq!(hear.recv_timeout(LATE), Ok(()));
        });
    }

    #[test]
    fn a_resize_keeps_newcomers_out_while_it_waits_and_while_it_runs() {
        let gate = Gate::default();
        let (told, hear) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        thread::scope(|threads| {
            let pass = gate.enter(false);
            let gate = &gate;
            let resizes = told.clone();
            threads.spawn(move || {
                let alone = gate.alone();
                resizes.send("resize").unwrap();
                wait.recv().unwrap();
                drop(alone);
            });
            a_resize_arrives(gate);
            threads.spawn(move || {
                let _pass = gate.enter(false);
                told.send("enter").unwrap();
            });
            let while_waiting = hear.recv_timeout(SOON);
            drop(pass);
            let first = hear.recv_timeout(LATE);
            let while_running = hear.recv_timeout(SOON);
            go.send(()).unwrap();
            let second = hear.recv_timeout(LATE);
            assert_eq!(while_waiting, Err(RecvTimeoutError::Timeout));
            assert_eq!(first, Ok("resize"));
            assert_eq!(while_running, Err(RecvTimeoutError::Timeout));
            assert_eq!(second, Ok("enter"));
        });
    }

    #[test]
    fn a_thread_inside_another_store_passes_a_waiting_resize() {
        let gate = Gate::default();
        let (told, hear) = mpsc::channel();
        thread::scope(|threads| {
            let pass = gate.enter(false);
            let gate = &gate;
            threads.spawn(|| drop(gate.alone()));
            a_resize_arrives(gate);
            threads.spawn(move || {
                let _pass = gate.enter(true);
                told.send(()).unwrap();
            });
            let passed = hear.recv_timeout(LATE);
            drop(pass);
            assert_eq!(passed, Ok(()));
        });
    }

    #[test]
    fn nobody_is_inside_while_one_is_alone_and_no_change_is_missed() {
        const ROUNDS: u32 = 500;
        let gate = Gate::default();
        let (one_is_alone, two_met, over) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|threads| {
            let resize = || {
                for _ in 0..ROUNDS {
                    let _alone = gate.alone();
                    two_met.fetch_or(one_is_alone.swap(true, Ordering::Relaxed), Ordering::Relaxed);
                    thread::yield_now();
                    one_is_alone.store(false, Ordering::Relaxed);
                }
            };
            for nested in [false, true, false] {
                let (gate, one_is_alone, two_met, over) = (&gate, &one_is_alone, &two_met, &over);
                threads.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let _pass = gate.enter(nested);
                        thread::yield_now();
                        two_met.fetch_or(one_is_alone.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                });
            }
            let resizes = [threads.spawn(resize), threads.spawn(resize)];
            resizes.into_iter().for_each(|resizes| resizes.join().unwrap());
            over.store(true, Ordering::Relaxed);
        });
        assert!(!two_met.into_inner());
        assert_eq!(gate.users.into_inner(), 0);
    }

    #[test]
    fn a_thread_is_inside_a_store_once() {
        let outer = Nest::enter(1).unwrap();
        assert!(!outer.in_another);
        assert!(Nest::enter(1).is_none());
        let other = Nest::enter(2).unwrap();
        assert!(other.in_another);
        drop(outer);
        assert!(Nest::enter(2).is_none());
        assert!(Nest::enter(1).is_some());
        assert!(thread::spawn(|| Nest::enter(2).is_some()).join().unwrap());
    }
}

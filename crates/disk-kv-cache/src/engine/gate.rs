//! Who may use a map, and when it may move: any number of transactions, or one resize.
//!
//! LMDB may change the size of its map only while the process has no live transaction on it. A [`Gate`] lets
//! transactions in together and a resize alone. [`Nest`] knows, per thread, which stores it is inside of, so that a
//! thread which would wait for itself gets an error instead.

use std::cell::RefCell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A lock like `RwLock`, with one difference: a thread that is already inside another store's transaction is not held
/// back by a *waiting* resize. Otherwise two threads reading two stores in opposite orders, and one waiting resize on
/// each, would wait for each other for ever.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    resize_waiting: usize,
    resizing: bool,
}

/// Held while a transaction lives.
#[derive(Debug)]
pub(crate) struct Pass<'g>(&'g Gate);

/// Held while the map is resized.
#[derive(Debug)]
pub(crate) struct Alone<'g>(&'g Gate);

impl Gate {
    /// Waits until no resize runs (nor waits, unless `nested` in another store's transaction) and goes in.
    pub(crate) fn enter(&self, nested: bool) -> Pass<'_> {
        let mut state = self.state();
        while state.resizing || (state.resize_waiting > 0 && !nested) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.inside += 1;
        Pass(self)
    }

    /// Waits until nobody is inside and keeps everybody out.
    pub(crate) fn alone(&self) -> Alone<'_> {
        let mut state = self.state();
        state.resize_waiting += 1;
        while state.resizing || state.inside > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.resize_waiting -= 1;
        state.resizing = true;
        Alone(self)
    }

    /// The state stays true whatever panics: nothing in here can, between two changes of it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.inside -= 1;
        // Waking costs a system call, and only a resize waits for those inside.
        if state.inside == 0 && state.resize_waiting > 0 {
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.state().resizing = false;
        self.0.changed.notify_all();
    }
}

thread_local! {
    /// The stores this thread has a transaction on.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
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
        INSIDE.with_borrow_mut(|inside| {
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
        INSIDE.with_borrow_mut(|inside| inside.retain(|store| *store != self.store));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(20);

    fn a_resize_arrives(gate: &Gate) {
        for _ in 0..LATE.as_millis() {
            let state = gate.state();
            if state.resize_waiting > 0 || state.resizing {
                return;
            }
            drop(state);
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

//! Waiting for what another process may free at any moment.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::Clock;

/// The first and the longest time between two attempts. `flock` itself waits without a limit and for one file only, so
/// there is no waiting in the kernel with a timeout, for one of several slots, or past an owner that is stuck.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(5);

/// Tries until something comes of it, `patience` is over (`None`: without a limit) or `abandoned` is set.
pub(super) fn until<T, E>(
    clock: &dyn Clock,
    patience: Option<Duration>,
    abandoned: &AtomicBool,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let begun = clock.monotonic();
    let mut nap = SHORTEST;
    loop {
        if let Some(got) = attempt()? {
            return Ok(Some(got));
        }
        let left = patience.map(|patience| patience.saturating_sub(clock.monotonic().saturating_sub(begun)));
        if left.is_some_and(|left| left.is_zero()) || abandoned.load(Ordering::Acquire) {
            return Ok(None);
        }
        clock.sleep(left.map_or(nap, |left| nap.min(left)));
        nap = (nap * 2).min(LONGEST);
    }
}

/// A future of what a thread of its own computes, for any executor. Dropping it sets the flag that `work` is given, and
/// drops what `work` then still returns.
pub(super) fn on_a_thread<T: Send + 'static>(work: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> OnAThread<T> {
    let shared = Arc::new(Shared { abandoned: AtomicBool::new(false), state: Mutex::new(State::Waiting(None)) });
    let theirs = Arc::clone(&shared);
    thread::spawn(move || {
        // Unwinding leaves `None` behind, which the future turns into its own panic.
        let answer = Answer { shared: theirs, value: None };
        let mut answer = answer;
        let value = work(&answer.shared.abandoned);
        answer.value = Some(value);
    });
    OnAThread { shared }
}

/// See [`on_a_thread`].
pub(super) struct OnAThread<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    abandoned: AtomicBool,
    state: Mutex<State<T>>,
}

enum State<T> {
    Waiting(Option<Waker>),
    Done(Option<T>),
}

/// Delivers when it is dropped, so that a panic is delivered too.
struct Answer<T> {
    shared: Arc<Shared<T>>,
    value: Option<T>,
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let was = std::mem::replace(&mut *state, State::Done(self.value.take()));
        // Neither the waker nor, below, an abandoned value runs code of others under the lock.
        drop(state);
        if let State::Waiting(Some(waker)) = was {
            waker.wake();
        }
    }
}

impl<T> Future for OnAThread<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Done(value) => match value.take() {
                Some(value) => Poll::Ready(value),
                None => panic!("the thread of a future panicked, or the future was polled after it was ready"),
            },
            State::Waiting(waker) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for OnAThread<T> {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
    }
}

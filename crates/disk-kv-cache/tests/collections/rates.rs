//! Averages and throttles.

use std::sync::Arc;
use std::time::Duration;

use alluvium_disk_kv_cache::{Clock, Coordination, LockError, ManualClock, Pass};

use crate::child::quick;

fn timed(dir: &std::path::Path) -> (Coordination, ManualClock) {
    let clock = ManualClock::at(Duration::from_secs(1_000));
    (Coordination::open_with_clock(dir, quick(), Arc::new(clock.clone())).unwrap(), clock)
}

#[test]
fn threads_average_together() {
    let dir = tempfile::tempdir().unwrap();
    let (coordination, _) = timed(dir.path());
    std::thread::scope(|threads| {
        for number in 0..4 {
            let averager = coordination.averager("a");
            threads.spawn(move || (0..25).for_each(|_| averager.add(f64::from(number)).unwrap()));
        }
    });
    let averager = coordination.averager("a");
    assert_eq!(averager.get().unwrap(), Some(1.5));
    assert_eq!(coordination.averager("b").get().unwrap(), None);
    assert_eq!(averager.pop().unwrap(), Some(1.5));
    assert_eq!(averager.pop().unwrap(), None);
}

#[test]
fn a_sum_that_no_float_holds_is_refused_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let averager = timed(dir.path()).0.averager("a");
    averager.add(1e308).unwrap();
    for too_much in [1e308, f64::INFINITY, f64::NAN] {
        assert!(matches!(averager.add(too_much), Err(LockError::InvalidSetting { field: "number", .. })));
    }
    assert_eq!(averager.pop().unwrap(), Some(1e308));
}

#[test]
fn a_throttle_lets_so_many_through_in_so_much_time() {
    let dir = tempfile::tempdir().unwrap();
    let (coordination, clock) = timed(dir.path());
    let throttle = coordination.throttle("t", 4, Duration::from_secs(1)).unwrap();
    for _ in 0..4 {
        assert_eq!(throttle.try_pass().unwrap(), Pass::Passed, "the bucket is full at first");
    }
    assert_eq!(throttle.try_pass().unwrap(), Pass::Wait(Duration::from_millis(250)));
    clock.advance(Duration::from_millis(125));
    assert_eq!(throttle.try_pass().unwrap(), Pass::Wait(Duration::from_millis(125)));
    // Another handle, and so another process, has the same bucket; another name has its own.
    let same = coordination.throttle("t", 4, Duration::from_secs(1)).unwrap();
    clock.advance(Duration::from_millis(125));
    assert_eq!(same.try_pass().unwrap(), Pass::Passed);
    assert_ne!(throttle.try_pass().unwrap(), Pass::Passed);
    assert_eq!(coordination.throttle("u", 1, Duration::from_secs(1)).unwrap().try_pass().unwrap(), Pass::Passed);

    let begun = clock.monotonic();
    for _ in 0..8 {
        throttle.pass().unwrap();
    }
    let took = clock.monotonic() - begun;
    assert!(took >= Duration::from_millis(1_999) && took < Duration::from_millis(2_100), "{took:?}");
    clock.advance(Duration::from_secs(60));
    for _ in 0..4 {
        assert_eq!(throttle.try_pass().unwrap(), Pass::Passed);
    }
    assert_ne!(throttle.try_pass().unwrap(), Pass::Passed, "a full bucket does not overflow");
}

#[test]
fn a_clock_that_is_set_back_neither_blocks_nor_opens_a_throttle() {
    let dir = tempfile::tempdir().unwrap();
    let (coordination, clock) = timed(dir.path());
    let throttle = coordination.throttle("t", 1, Duration::from_secs(1)).unwrap();
    assert_eq!(throttle.try_pass().unwrap(), Pass::Passed);
    clock.set(Duration::from_secs(10));
    let mut waited = Duration::ZERO;
    while let Pass::Wait(wait) = throttle.try_pass().unwrap() {
        waited += wait;
        clock.advance(wait);
        assert!(waited < Duration::from_secs(3), "it must not wait for the old time to come back");
    }
    assert!(waited >= Duration::from_millis(999), "{waited:?}");
}

#[test]
fn throttles_of_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (coordination, _) = timed(dir.path());
    for (count, per) in [(0, 1), (1, 0)] {
        let refused = coordination.throttle("t", count, Duration::from_secs(per));
        assert!(matches!(refused, Err(LockError::InvalidSetting { .. })), "{refused:?}");
    }
}

//! Memoization: what is computed, and how often, by one caller, many threads and many processes.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use alluvium_disk_kv_cache::{
    Cache, CacheOptions, Clock, Deque, FanoutCache, ManualClock, MemoError, SetOptions, Stampede, Store, StoreError,
    memoize, memoize_async,
};

use crate::child::{self, quick, rounds, say, until_told};
use crate::locks::block_on;

#[derive(Debug, PartialEq)]
struct Failed;

const TTL: Duration = Duration::from_secs(100);

fn options() -> CacheOptions {
    CacheOptions::new().with_store(quick())
}

fn cache(dir: &Path) -> Cache {
    options().open(dir).unwrap()
}

fn timed(dir: &Path) -> (Cache, ManualClock) {
    let clock = ManualClock::at(Duration::from_secs(1_000));
    (options().with_clock(clock.clone()).open(dir).unwrap(), clock)
}

#[test]
fn a_memoized_value_is_computed_once_until_it_expires_or_is_evicted() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, clock) = timed(dir.path());
    let options = SetOptions::new().with_ttl(TTL).with_tag("squares");
    let computed = Cell::new(0);
    // The log is an argument that the key leaves out.
    let square = |n: u64, log: &str| {
        memoize(&cache, &("square", n), &options, || {
            computed.set(computed.get() + 1);
            if log == "fail" { Err(Failed) } else { Ok(n * n) }
        })
    };
    assert!(matches!(square(3, "fail"), Err(MemoError::Compute(Failed))));
    for log in ["a", "b", "fail"] {
        assert_eq!(square(3, log).unwrap(), 9);
    }
    assert_eq!(computed.get(), 2, "a failure is not remembered, a value is");
    assert_eq!(square(4, "a").unwrap(), 16);
    clock.advance(TTL);
    assert_eq!(square(3, "a").unwrap(), 9);
    assert_eq!(computed.get(), 4);
    assert_eq!(cache.evict("squares").unwrap(), 1, "the other has expired");
    assert_eq!(square(3, "a").unwrap(), 9);
    assert_eq!(computed.get(), 5);

    let awaited = || {
        block_on(memoize_async(&cache, &("square", 5), &options, async || {
            computed.set(computed.get() + 1);
            Ok::<_, Failed>(25_u64)
        }))
    };
    assert_eq!((awaited().unwrap(), awaited().unwrap()), (25, 25));
    assert_eq!(computed.get(), 6);
}

#[test]
fn a_value_of_another_type_or_a_damaged_one_is_computed_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = timed(dir.path());
    let options = SetOptions::new();
    memoize(&cache, "key", &options, || Ok::<_, Failed>(7_u64)).unwrap();
    assert_eq!(memoize(&cache, "key", &options, || Ok::<_, Failed>("text".to_owned())).unwrap(), "text");
    let store = Store::open(dir.path(), &["cache_entries"], quick()).unwrap();
    store
        .write::<_, StoreError>(|txn| {
            let (key, value) = txn.first("cache_entries")?.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap();
            let mut bad = value;
            *bad.last_mut().unwrap() ^= 1;
            txn.put("cache_entries", &key, &bad)
        })
        .unwrap();
    assert_eq!(memoize(&cache, "key", &options, || Ok::<_, Failed>("anew".to_owned())).unwrap(), "anew");
    assert_eq!(memoize(&cache, "key", &options, || Err::<String, _>(Failed)).unwrap(), "anew");
}

#[test]
fn many_threads_compute_a_cold_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let stampede = Stampede::new(cache(dir.path()), TTL).unwrap();
    let computed = AtomicU32::new(0);
    let compute = || {
        computed.fetch_add(1, Ordering::SeqCst);
        thread::park_timeout(Duration::from_millis(30));
        Ok::<_, Failed>(1_u64)
    };
    thread::scope(|threads| {
        for number in 0..8 {
            let (stampede, compute) = (&stampede, &compute);
            threads.spawn(move || {
                let value = match number % 2 {
                    0 => stampede.get("cold", compute),
                    _ => block_on(stampede.get_async("cold", async || compute())),
                };
                assert_eq!(value.unwrap(), 1);
            });
        }
    });
    assert_eq!(computed.load(Ordering::SeqCst), 1);
    assert_eq!(std::fs::read_dir(dir.path().join("flights")).unwrap().count(), 0);
}

#[test]
fn a_fanout_cache_keeps_what_is_computed_and_collections_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let cache = FanoutCache::open_with(dir.path(), None, &options()).unwrap();
    let stampede = Stampede::new(cache.clone(), TTL).unwrap();
    for number in 0..20_u64 {
        assert_eq!(stampede.get(&number, || Ok::<_, Failed>(number * 2)).unwrap(), number * 2);
        assert_eq!(stampede.get(&number, || Err::<u64, _>(Failed)).unwrap(), number * 2);
    }
    for name in ["a", "../a", "a/b", ""] {
        let deque = cache.deque::<String>(name).unwrap();
        let index = cache.index::<String, u64>(name).unwrap();
        assert!(deque.is_empty().unwrap() && index.is_empty().unwrap(), "{name:?} is another's");
        deque.push_back(&name.to_owned()).unwrap();
        index.insert(&name.to_owned(), &1).unwrap();
        assert_eq!(cache.deque::<String>(name).unwrap().to_vec().unwrap(), [name]);
        assert!(deque.path().starts_with(dir.path().canonicalize().unwrap()));
    }
    assert_eq!(cache.len().unwrap(), 20, "none of it lies in a shard");
}

#[test]
fn when_the_one_that_computes_fails_the_next_does() {
    let dir = tempfile::tempdir().unwrap();
    let stampede = Stampede::new(cache(dir.path()), TTL).unwrap();
    let attempts = AtomicU32::new(0);
    let compute = || {
        thread::park_timeout(Duration::from_millis(10));
        if attempts.fetch_add(1, Ordering::SeqCst) == 0 { Err(Failed) } else { Ok(1_u64) }
    };
    let outcomes: Vec<_> = thread::scope(|threads| {
        let waiting: Vec<_> = (0..4).map(|_| threads.spawn(|| stampede.get("cold", compute).is_ok())).collect();
        waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 3);
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
}

#[test]
fn a_value_is_computed_early_as_chance_and_beta_have_it() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, clock) = timed(dir.path());
    // −ln(e⁻²) = 2: the head start is twice what the computation took, times beta.
    let chance = (-2.0_f64).exp();
    let stampede = |beta| {
        let stampede = Stampede::new(cache.clone(), TTL).unwrap().with_clock(clock.clone());
        stampede.with_beta(beta).with_random(move || chance)
    };
    let took = Duration::from_secs(5);
    let computed = Cell::new(0_u64);
    let get = |beta: f64| {
        let value = stampede(beta).get("key", || {
            clock.sleep(took);
            computed.set(computed.get() + 1);
            Ok::<_, Failed>(computed.get())
        });
        value.unwrap()
    };
    assert_eq!(get(1.0), 1);
    clock.advance(TTL - took * 2 - Duration::from_millis(1));
    assert_eq!(get(1.0), 1, "not yet within ten seconds of the expiry");
    clock.advance(Duration::from_millis(2));
    assert_eq!(get(0.0), 1, "never early without beta");
    assert_eq!(get(0.9), 1);
    assert_eq!(get(1.0), 2);
    assert_eq!(get(1.0), 2, "the new value has its whole time before it");
    clock.advance(TTL - took * 4 + Duration::from_millis(1));
    assert_eq!(get(1.0), 2);
    assert_eq!(get(2.0), 3);
}

#[test]
fn while_one_computes_early_the_others_have_the_old_value() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, clock) = timed(dir.path());
    let stampede = Stampede::new(cache, TTL).unwrap().with_clock(clock.clone()).with_random(|| 1e-300);
    let compute = |value: u64| {
        clock.sleep(Duration::from_secs(1));
        Ok::<_, Failed>(value)
    };
    assert_eq!(stampede.get("key", || compute(1)).unwrap(), 1);
    let value = stampede.get("key", || {
        assert_eq!(stampede.get("key", || compute(9)).unwrap(), 1, "another caller, meanwhile");
        compute(2)
    });
    assert_eq!(value.unwrap(), 2);
}

#[test]
fn a_future_that_is_dropped_gives_its_turn_away() {
    let dir = tempfile::tempdir().unwrap();
    let stampede = Stampede::new(cache(dir.path()), TTL).unwrap();
    {
        let never = stampede.get_async("key", async || std::future::pending::<Result<u64, Failed>>().await);
        let mut never = std::pin::pin!(never);
        assert!(never.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(stampede.get("key", || Ok::<_, Failed>(1_u64)).unwrap(), 1);
}

/// Asks for a cold key once told, computing slowly, and says what it computed.
pub fn ask(dir: &Path) {
    let computed: Deque<u64> = Deque::open(dir.join("computed"), quick()).unwrap();
    let stampede = Stampede::new(cache(&dir.join("cache")), TTL).unwrap();
    until_told();
    let value = stampede.get("cold", || {
        computed.push_back(&u64::from(std::process::id())).unwrap();
        thread::park_timeout(Duration::from_millis(50));
        Ok::<_, Failed>(vec![7_u8; 100])
    });
    assert_eq!(value.unwrap(), [7; 100]);
}

#[cfg(feature = "lmdb")]
#[test]
fn many_processes_compute_a_cold_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut workers: Vec<_> = (0..6).map(|_| child::start("ask", dir.path())).collect();
    workers.iter_mut().for_each(|worker| worker.wait_for("ready"));
    workers.iter_mut().for_each(child::Worker::tell);
    workers.into_iter().for_each(|worker| drop(worker.finish()));
    let computed: Deque<u64> = Deque::open(dir.path().join("computed"), quick()).unwrap();
    assert_eq!(computed.len().unwrap(), 1);
}

/// Begins to compute, says so, and never ends.
pub fn compute_for_ever(dir: &Path) {
    let stampede = Stampede::new(cache(dir), TTL).unwrap();
    let never = stampede.get("cold", || {
        say("computing");
        loop {
            thread::park();
        }
        #[expect(unreachable_code, reason = "it says what would be computed")]
        Ok::<u64, Failed>(0)
    });
    never.unwrap();
}

#[cfg(feature = "lmdb")]
#[test]
fn when_the_one_that_computes_is_killed_the_next_computes() {
    for _ in 0..rounds(2, 1) {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = child::start("compute-for-ever", dir.path());
        worker.wait_for("computing");
        let stampede = Arc::new(Stampede::new(cache(dir.path()), TTL).unwrap());
        let waits = Arc::clone(&stampede);
        let waiting = thread::spawn(move || waits.get("cold", || Ok::<_, Failed>(5_u64)).unwrap());
        thread::park_timeout(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        worker.kill();
        assert_eq!(waiting.join().unwrap(), 5);
        assert_eq!(std::fs::read_dir(dir.path().join("flights")).unwrap().count(), 0);
    }
}

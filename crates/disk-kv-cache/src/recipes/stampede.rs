//! [`Stampede`]: memoization that computes a value once, however many ask for it at once.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::flight::{Flight, Flights};
use super::memoize::entry;
use super::{LockError, MemoCache, MemoError, wait};
use crate::{Clock, Key, KeyBuf, SetOptions, SystemClock, Value};

/// Memoization for values that are expensive and expire, protected against stampedes over all threads and processes:
/// - *A value that is missing is computed by one caller*; the others wait and then find it. If that caller dies or fails,
///   the next one computes.
/// - *A value that is there is computed again before it expires*, by one caller that chance picks: the likelier, the nearer
///   the expiry and the longer the computation took. The others keep getting the old value meanwhile. (This is XFetch, as
///   in DiskCache's `memoize_stampede`.)
///
/// The caller that is picked computes before it gets its answer. A computation must not ask for its own key.
///
/// ```
/// use std::time::Duration;
/// use alluvium_disk_kv_cache::{Cache, Stampede};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let dir = temp.path();
/// let reports = Stampede::new(Cache::open(dir)?, Duration::from_secs(60))?;
/// let report = reports.get(&("report", 2026), || Ok::<_, std::io::Error>("42 rows".to_owned()))?;
/// assert_eq!(report, "42 rows");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Stampede<C> {
    cache: C,
    flights: Flights,
    options: SetOptions,
    beta: f64,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// What a look at the cache found.
struct Found<V> {
    value: V,
    /// How long it took to compute.
    took: Duration,
    /// How long until it expires; `None`: it does not.
    left: Option<Duration>,
}

/// What asking for a value has led to.
enum Arrival<V> {
    /// It is there.
    Found(V),
    /// It is this caller's turn.
    Turn(Flight),
}

impl<C: MemoCache> Stampede<C> {
    /// Keeps values in `cache` for `ttl` each. Whoever computes is known by files in a directory `flights` in that of the
    /// cache.
    ///
    /// # Errors
    /// [`LockError::Io`] if that directory cannot be made.
    pub fn new(cache: C, ttl: Duration) -> Result<Stampede<C>, LockError> {
        let flights = Flights::open(cache.path()).map_err(|source| LockError::Io {
            path: cache.path().to_path_buf(),
            action: "make a directory for computations",
            source,
        })?;
        let options = SetOptions::new().with_ttl(ttl);
        Ok(Stampede { cache, flights, options, beta: 1.0, clock: Arc::new(SystemClock), random: Arc::new(chance) })
    }

    /// How eagerly a value is computed again before it expires: 2 is earlier than 1, 0 is never. Default: 1, which is
    /// optimal if computations take about the same time each.
    #[must_use]
    pub fn with_beta(mut self, beta: f64) -> Stampede<C> {
        self.beta = beta;
        self
    }

    /// One more tag for the values.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Stampede<C> {
        self.options = self.options.with_tag(tag);
        self
    }

    /// The clock by which computations are timed and expiry is near; the cache should have the same. Default: the
    /// machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Stampede<C> {
        self.clock = Arc::new(clock);
        self
    }

    /// Where chance comes from: numbers evenly spread from 0 to 1. Default: the standard library's random hash keys.
    #[must_use]
    pub fn with_random(mut self, random: impl Fn() -> f64 + Send + Sync + 'static) -> Stampede<C> {
        self.random = Arc::new(random);
        self
    }

    /// The key that the value of `key` has in the cache: for deleting it there, say.
    pub fn cache_key<K: Key + ?Sized>(&self, key: &K) -> KeyBuf {
        // Of its own, since what is stored is more than the value.
        ("memoize_stampede", key).to_key()
    }

    /// The value of `key`: found, waited for, or computed, as [`Stampede`] says. See [`memoize`](super::memoize()) for the
    /// key, and for what counts as missing. Blocks the thread while another computes.
    ///
    /// # Errors
    /// [`MemoError`].
    pub fn get<K: Key + ?Sized, V: Value, E>(
        &self,
        key: &K,
        compute: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, MemoError<E>> {
        let key = self.cache_key(key);
        let mut arrival = self.glance(&key)?;
        let flight = loop {
            arrival = match arrival {
                Some(Arrival::Found(value)) => return Ok(value),
                Some(Arrival::Turn(flight)) => break flight,
                None => self.arrive(&key, &AtomicBool::new(false))?,
            }
        };
        let begun = self.clock.monotonic();
        let value = compute().map_err(MemoError::Compute)?;
        self.land(flight, &key, value, begun)
    }

    /// As [`get`](Stampede::get), for a computation that is awaited, under any executor. While another computes, a thread
    /// of its own waits; dropping the future ends that, and a computation that was begun. The cache itself blocks the
    /// thread for a read and a write.
    ///
    /// # Errors
    /// [`MemoError`].
    pub async fn get_async<K: Key + ?Sized, V: Value + Send + 'static, E: Send + 'static>(
        &self,
        key: &K,
        compute: impl AsyncFnOnce() -> Result<V, E>,
    ) -> Result<V, MemoError<E>> {
        let key = self.cache_key(key);
        let mut arrival = match self.glance(&key)? {
            None => self.try_arrive(&key)?,
            arrival => arrival,
        };
        let flight = loop {
            arrival = match arrival {
                Some(Arrival::Found(value)) => return Ok(value),
                Some(Arrival::Turn(flight)) => break flight,
                None => {
                    let (this, key) = (self.clone(), key.clone());
                    wait::on_a_thread(move |abandoned| this.arrive(&key, abandoned)).await?
                }
            }
        };
        let begun = self.clock.monotonic();
        let value = compute().await.map_err(MemoError::Compute)?;
        self.land(flight, &key, value, begun)
    }

    /// A value that is there; or the turn to compute it before it expires, if chance will have it so and no other has the
    /// turn. `None`: it is missing.
    fn glance<V: Value, E>(&self, key: &KeyBuf) -> Result<Option<Arrival<V>>, MemoError<E>> {
        let Some(Found { value, took, left }) = self.look(key)? else { return Ok(None) };
        // XFetch: −ln of a number from 0 to 1 is mostly below 1, and rarely far above it.
        let is_early = left.is_some_and(|left| {
            let head_start = took.as_secs_f64() * self.beta * -(self.random)().ln();
            head_start >= left.as_secs_f64()
        });
        let flight = if is_early { self.turn(key)? } else { None };
        Ok(Some(flight.map_or(Arrival::Found(value), Arrival::Turn)))
    }

    /// Waits for a value that is missing, or for the turn to compute it. `None`: abandoned.
    fn arrive<V: Value, E>(&self, key: &KeyBuf, abandoned: &AtomicBool) -> Result<Option<Arrival<V>>, MemoError<E>> {
        wait::until(&*self.clock, None, abandoned, || self.try_arrive(key))
    }

    fn try_arrive<V: Value, E>(&self, key: &KeyBuf) -> Result<Option<Arrival<V>>, MemoError<E>> {
        let flight = self.turn(key)?;
        // Looked for after the turn was had: the one before may just have stored it.
        Ok(match self.look(key)? {
            Some(found) => Some(Arrival::Found(found.value)),
            None => flight.map(Arrival::Turn),
        })
    }

    fn turn<E>(&self, key: &KeyBuf) -> Result<Option<Flight>, MemoError<E>> {
        self.flights.try_begin(key).map_err(|source| {
            let path = self.flights.dir().to_path_buf();
            MemoError::Turn(LockError::Io { path, action: "lock a file for a computation", source })
        })
    }

    /// What is stored: 8 bytes of nanoseconds that the computation took, big end first, then the value.
    fn look<V: Value, E>(&self, key: &KeyBuf) -> Result<Option<Found<V>>, MemoError<E>> {
        let Some(item) = entry(&self.cache, key).map_err(MemoError::Cache)? else { return Ok(None) };
        let Some((took, value)) = item.value.split_first_chunk() else { return Ok(None) };
        let Ok(value) = V::from_bytes(value) else { return Ok(None) };
        let now = Duration::from_nanos(self.clock.unix_nanos());
        let left = item.expires_at.map(|at| at.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(now));
        Ok(Some(Found { value, took: Duration::from_nanos(u64::from_be_bytes(*took)), left }))
    }

    /// Stores what was computed, and only then lets others have their turn.
    fn land<V: Value, E>(&self, flight: Flight, key: &KeyBuf, value: V, begun: Duration) -> Result<V, MemoError<E>> {
        let took = crate::clock::nanos(self.clock.monotonic().saturating_sub(begun));
        let bytes = [&took.to_be_bytes(), &*value.to_bytes().map_err(MemoError::Value)?].concat();
        self.cache.remember(key, &bytes, &self.options).map_err(MemoError::Cache)?;
        drop(flight);
        Ok(value)
    }
}

/// A number from 0 to 1, neither of which it reaches. The keys of [`RandomState`] are random once a thread, and differ
/// from one to the next; hashing spreads them.
fn chance() -> f64 {
    static DRAWN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let random = RandomState::new().hash_one(DRAWN.fetch_add(1, Ordering::Relaxed));
    ((random >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

impl<C: fmt::Debug> fmt::Debug for Stampede<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stampede { cache, options, beta, .. } = self;
        f.debug_struct("Stampede")
            .field("cache", cache)
            .field("options", options)
            .field("beta", beta)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "lmdb"))]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicU32;

    use super::super::memoize::sealed::Sealed;
    use super::*;
    use crate::{Cache, CacheError, Item};

    /// A cache that tries to have the turn whenever it is looked at.
    #[derive(Clone)]
    struct Meddling {
        cache: Cache,
        flights: Flights,
        turns: Arc<AtomicU32>,
    }

    impl Sealed for Meddling {}

    impl MemoCache for Meddling {
        fn recall(&self, key: &KeyBuf) -> Result<Option<Item>, CacheError> {
            let turn = self.flights.try_begin(key).unwrap();
            self.turns.fetch_add(u32::from(turn.is_some()), Ordering::SeqCst);
            self.cache.recall(key)
        }

        fn remember(&self, key: &KeyBuf, value: &[u8], options: &SetOptions) -> Result<(), CacheError> {
            self.cache.remember(key, value, options)
        }

        fn path(&self) -> &Path {
            self.cache.path()
        }
    }

    #[test]
    fn the_look_that_decides_to_compute_comes_after_the_turn() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let turns = Arc::new(AtomicU32::new(0));
        let meddling = Meddling { flights: Flights::open(cache.path()).unwrap(), cache, turns: Arc::clone(&turns) };
        let stampede = Stampede::new(meddling, Duration::from_secs(1)).unwrap();
        stampede.get("key", || Ok::<_, CacheError>(1_u64)).unwrap();
        // Had it been the second look too, another could have computed and ended between that look and our turn.
        assert_eq!(turns.load(Ordering::SeqCst), 1, "the first look only");
    }

    #[test]
    fn chance_is_spread_evenly_and_reaches_neither_end() {
        let mut tenths = [0_u32; 10];
        for _ in 0..10_000 {
            let number = chance();
            assert!(number > 0.0 && number < 1.0);
            tenths[(number * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (800..1_200).contains(count)), "{tenths:?}");
    }
}

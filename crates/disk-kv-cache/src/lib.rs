#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![cfg_attr(not(feature = "lmdb"), allow(dead_code, reason = "what only the engine that is left out uses"))]

#[cfg(not(unix))]
compile_error!("alluvium-disk-kv-cache needs a Unix system: it relies on flock and Unix permissions");

mod cache;
mod check;
mod clock;
mod codec;
mod collection;
mod damage;
mod deque;
mod directory;
mod engine;
mod environment;
mod error;
mod eviction;
mod fanout;
mod fork;
mod holders;
mod in_place;
mod index;
mod key;
mod layout;
mod long_keys;
mod mark;
mod quarantine;
mod queue;
mod recipes;
mod settings;
mod store;
mod tag;
mod txn;
mod typed;

pub use cache::Cache;
pub use cache::check::Problem;
pub use cache::error::{CacheError, EntryDamage, OpenCacheError};
pub use cache::fifo::Side;
pub use cache::iter::{Items, Iter, Keys};
pub use cache::options::CacheOptions;
pub use cache::settings::CacheSettings;
pub use cache::stream::ValueReader;
pub use cache::transaction::{SetOptions, Transaction};
pub use cache::upkeep::{Maintenance, Stats};
pub use cache::view::{Item, View};
pub use check::{Check, TableCheck};
pub use clock::{Clock, ManualClock, SystemClock};
pub use codec::{Codec, CodecError, Json, MessagePack};
pub use collection::{CollectionError, CollectionIter, Record, Value, ValueError};
pub use damage::{Damage, EngineError};
pub use deque::{CopyError, Deque, DequeTxn};
pub use engine::EngineKind;
pub use error::{OpenError, StoreError};
pub use eviction::Eviction;
pub use fanout::{FanoutCache, FanoutItems, FanoutKeys, FanoutTransaction, Merge};
pub use index::{Index, IndexTxn};
pub use key::{FromKey, Key, KeyBuf, KeyElement, KeyError};
pub use layout::named_dir;
pub use quarantine::Recovered;
pub use queue::{DeadLetter, Held, Job, JobId, QueueSettings, QueueStats, QueueTxn, Retry, WorkQueue};
pub use recipes::{
    Averager, Barrier, BoundedSemaphore, Coordination, CoordinationError, Lock, LockError, LockGuard, MemoCache,
    MemoError, Owner, Pass, Permit, ReentrantGuard, ReentrantLock, Stampede, Throttle, barrier, memoize, memoize_async,
};
pub use settings::{Durability, OnDamage, Settings, Sharing};
pub use store::Store;
pub use tag::TypeTag;
pub use txn::{Entry, MAX_KEY_BYTES, Order, ReadTxn, Scan, WriteTxn};
pub use typed::{TypedCache, TypedError, TypedItem};

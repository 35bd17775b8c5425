#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(not(unix))]
compile_error!("alluvium-disk-kv-cache needs a Unix system: it relies on flock and Unix permissions");

mod directory;
mod environment;
mod error;
mod gate;
mod header;
mod settings;
mod store;
mod tables;
mod txn;

pub use error::{Damage, EngineError, OpenError, StoreError};
pub use settings::{Durability, Settings};
pub use store::Store;
pub use txn::{Entry, MAX_KEY_BYTES, Order, ReadTxn, Scan, WriteTxn};

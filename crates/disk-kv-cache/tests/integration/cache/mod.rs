//! Caches: what each operation does, against a model, and under everything that can go wrong.

mod basics;
#[cfg(feature = "lmdb")]
pub mod crash;
mod eviction;
mod fanout;
pub mod fanout_transactions;
#[cfg(feature = "lmdb")]
pub mod faults;
mod model;
#[cfg(feature = "lmdb")]
pub mod processes;
mod support;
mod typed;

//! Behaviour of whole stores: against a model, across threads and processes, and with bad files.

#![allow(clippy::unwrap_used)]
#![cfg_attr(not(feature = "lmdb"), allow(dead_code, unused_imports, reason = "tests of LMDB use the rest"))]

#[cfg(any(feature = "lmdb", feature = "sled"))]
mod cache;
mod child;
mod conformance;
#[cfg(feature = "lmdb")]
mod crash;
#[cfg(feature = "lmdb")]
mod damage;
#[cfg(feature = "lmdb")]
mod growth;
#[cfg(feature = "lmdb")]
mod handles;
mod holders;
#[cfg(feature = "lmdb")]
mod processes;
mod random;
#[cfg(feature = "lmdb")]
mod readers;
mod suspect;
#[cfg(feature = "lmdb")]
mod system;

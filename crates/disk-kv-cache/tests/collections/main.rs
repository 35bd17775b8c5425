//! The collections and recipes from outside: against models, over processes, and with processes killed.

#![cfg(any(feature = "lmdb", feature = "sled"))]
#![allow(clippy::unwrap_used)]
#![cfg_attr(not(feature = "lmdb"), allow(dead_code, unused_imports, reason = "several processes are LMDB's alone"))]

mod child;
mod deque;
mod index;
mod locks;
mod memo;
mod queue;
mod rates;

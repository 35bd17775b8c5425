//! The collections and recipes from outside: against models, over processes, and with processes killed.

#![allow(clippy::unwrap_used)]
// Recipes work over processes, which is LMDB's.
#![cfg(feature = "lmdb")]

mod child;
mod deque;
mod index;
mod locks;
mod memo;
mod queue;
mod rates;

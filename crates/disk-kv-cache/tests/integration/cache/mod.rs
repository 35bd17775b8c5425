//! Caches: what each operation does, against a model, and under everything that can go wrong.

mod basics;
mod eviction;
mod fanout;
pub mod faults;
mod model;
pub mod processes;
mod support;
mod typed;

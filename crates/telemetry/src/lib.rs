//! Live signals of Alluvium, and the seam through which every crate reads clocks and draws ids.
//!
//! A cache operation ends as one [`CacheOutcome`](alluvium_contracts::CacheOutcome); [`record`] turns it into a
//! `tracing` event, and the ledgers store the same value, so that the two cannot disagree.
//!
//! ```
//! use alluvium_telemetry::Seam;
//!
//! let seam = Seam::system();
//! let (first, second) = (seam.run_id(), seam.run_id());
//! assert!(first < second, "run ids sort by the time at which they were drawn");
//! ```
//!
//! # What this crate is not
//! It never fails the work it observes, and it knows no query engine. Whoever wants the events installs a `tracing`
//! subscriber; without one an event costs a branch.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod outcome;
mod seam;

pub use outcome::record;
pub use seam::{Clock, Ids, Seam, Stopwatch};

/// Compiles the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! What leaves the process: the contract of spans, metrics and logs, its bounds, its secrets, and its cost when nobody
//! takes it.

#![allow(clippy::unwrap_used)]

mod cardinality;
mod collector_file;
mod contract;
mod layer;
#[cfg(feature = "otlp-http")]
mod outage;
mod queries;
mod secrets;
mod support;

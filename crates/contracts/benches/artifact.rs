//! What canonical forms and strict decoding cost beside plain serde_json and rmp-serde, on an artifact of about 1 KiB.
//!
//! `cargo bench -p alluvium-contracts` prints a table: the quickest of many short rounds in which the rivals take turns,
//! because whatever else a machine does only makes a round slower.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where something is wrong")]
#![expect(clippy::disallowed_methods, reason = "it measures time, and depends on nothing that owns a clock")]

use std::hint::black_box;
use std::time::Instant;

use alluvium_contracts::{CacheCommitMetadata, Contract, Envelope};

type Artifact = Envelope<CacheCommitMetadata>;

const ROUNDS: usize = 4_000;
const CALLS: u32 = 20;

fn main() {
    let artifact = Artifact::new(CacheCommitMetadata::example());
    let json = artifact.to_canonical_json().unwrap();
    let packed = artifact.to_canonical_messagepack().unwrap();
    let plain_json = serde_json::to_vec(&artifact).unwrap();
    let plain_packed = rmp_serde::to_vec_named(&artifact).unwrap();
    println!("{} bytes of JSON, {} of MessagePack\n", json.len(), packed.len());

    println!("| | plain µs | ours µs | ratio |\n|---|---|---|---|");
    row(
        "JSON, encode",
        || serde_json::to_vec(&artifact).unwrap().len(),
        || artifact.to_canonical_json().unwrap().len(),
    );
    row(
        "JSON, decode",
        || serde_json::from_slice::<Artifact>(&plain_json).unwrap().payload.name.len(),
        || Artifact::from_json(&json).unwrap().payload.name.len(),
    );
    row(
        "MessagePack, encode",
        || rmp_serde::to_vec_named(&artifact).unwrap().len(),
        || artifact.to_canonical_messagepack().unwrap().len(),
    );
    row(
        "MessagePack, decode",
        || rmp_serde::from_slice::<Artifact>(&plain_packed).unwrap().payload.name.len(),
        || Artifact::from_messagepack(&packed).unwrap().payload.name.len(),
    );
}

fn row(what: &str, plain: impl Fn() -> usize, ours: impl Fn() -> usize) {
    let (mut plain_us, mut ours_us) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        plain_us = plain_us.min(microseconds(&plain));
        ours_us = ours_us.min(microseconds(&ours));
    }
    println!("| {what} | {plain_us:.2} | {ours_us:.2} | {:.2} |", ours_us / plain_us);
}

/// One call, on average over a few.
fn microseconds(call: &impl Fn() -> usize) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        black_box(call());
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

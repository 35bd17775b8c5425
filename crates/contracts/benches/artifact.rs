//! What canonical forms and strict decoding cost beside plain serde_json and rmp-serde, on an artifact of about 1 KiB.
//!
//! Prints its figures as JSON, for `cargo xtask bench contracts`. Both sides take turns in short rounds, so that whatever
//! else the machine does meets both; `--quick` does a fiftieth of them, to see that everything runs.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where something is wrong")]
#![expect(clippy::disallowed_methods, reason = "it measures time, and depends on nothing that owns a clock")]

use std::hint::black_box;
use std::time::Instant;

use alluvium_contracts::{CacheCommitMetadata, Contract, Envelope};
use serde_json::{Value, json};

type Artifact = Envelope<CacheCommitMetadata>;

/// Rounds of each side.
const ROUNDS: usize = 5_000;
/// Calls in a round, so that reading the clock does not count.
const CALLS: u32 = 20;

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--quick") { ROUNDS / 50 } else { ROUNDS };
    let artifact = Artifact::new(CacheCommitMetadata::example());
    let json = artifact.to_canonical_json().unwrap();
    let packed = artifact.to_canonical_messagepack().unwrap();
    let plain_json = serde_json::to_vec(&artifact).unwrap();
    let plain_packed = rmp_serde::to_vec_named(&artifact).unwrap();
    let rows = [
        row(
            "JSON, encode",
            rounds,
            || serde_json::to_vec(&artifact).unwrap().len(),
            || artifact.to_canonical_json().unwrap().len(),
        ),
        row(
            "JSON, decode",
            rounds,
            || serde_json::from_slice::<Artifact>(&plain_json).unwrap().payload.name.len(),
            || Artifact::from_json(&json).unwrap().payload.name.len(),
        ),
        row(
            "MessagePack, encode",
            rounds,
            || rmp_serde::to_vec_named(&artifact).unwrap().len(),
            || artifact.to_canonical_messagepack().unwrap().len(),
        ),
        row(
            "MessagePack, decode",
            rounds,
            || rmp_serde::from_slice::<Artifact>(&plain_packed).unwrap().payload.name.len(),
            || Artifact::from_messagepack(&packed).unwrap().payload.name.len(),
        ),
    ];
    let sizes = json!({ "json_bytes": json.len(), "messagepack_bytes": packed.len() });
    println!("{}", json!({ "rounds": rounds, "calls": CALLS, "sizes": sizes, "rows": rows }));
}

/// The medians of both sides, in microseconds a call.
fn row(what: &str, rounds: usize, plain: impl Fn() -> usize, ours: impl Fn() -> usize) -> Value {
    let (mut plain_us, mut ours_us) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for _ in 0..rounds {
        plain_us.push(microseconds(&plain));
        ours_us.push(microseconds(&ours));
    }
    json!({ "what": what, "plain_us": median(plain_us), "ours_us": median(ours_us) })
}

/// One call, on average over a few.
fn microseconds(call: &impl Fn() -> usize) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        black_box(call());
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

//! Values of 1 KiB among more and more entries.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::engines::Kind;
use crate::figures::Times;
use crate::random::Random;

const VALUE_BYTES: usize = 1 << 10;

/// Fills an engine with `entries`, then overwrites and reads `operations` of them at random.
pub fn measure(kind: Kind, entries: u64, operations: u64, dir: &Path) -> Result<Value> {
    let scratch = tempfile::tempdir_in(dir).context("cannot make a directory")?;
    let mut engine = kind.open(scratch.path())?;
    let mut random = Random::new(entries);
    let mut value = vec![0; VALUE_BYTES];
    let mut refill = move |random: &mut Random| {
        value.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_be_bytes()));
        value.clone()
    };

    let begun = Instant::now();
    engine.fill(entries, &mut || refill(&mut random))?;
    let fill_seconds = begun.elapsed().as_secs_f64();

    let mut random = Random::new(entries + 1);
    let mut value = vec![0xA5; VALUE_BYTES];
    let (mut set, mut get) = (Times::default(), Times::default());
    for count in 0..operations {
        value[..8].copy_from_slice(&count.to_be_bytes());
        let key = key(random.below(entries));
        set.time(|| engine.set(&key, &value))?;
    }
    for _ in 0..operations {
        let key = key(random.below(entries));
        let found = get.time(|| engine.get(&key))?;
        ensure!(found.as_ref().is_some_and(|value| value.len() == VALUE_BYTES), "{} lost {key:?}", kind.name());
    }
    let (set, get) = (set.summary(), get.summary());
    eprintln!("scale, {entries} entries, {}: set {:.1}, get {:.1} µs", kind.name(), set.p50, get.p50);
    Ok(json!({
        "engine": kind.name(),
        "entries": entries,
        "durability": kind.durability(),
        "fill_seconds": fill_seconds,
        "set": set,
        "get": get,
    }))
}

/// The key of the n-th entry, scattered as names are.
pub fn key(n: u64) -> Vec<u8> {
    format!("{:016x}", Random::new(n).next()).into_bytes()
}

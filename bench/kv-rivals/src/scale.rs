//! Values of 1 KiB among more and more entries.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engines::{Engine, Kind};
use crate::figures::Times;
use crate::random::Random;

pub const VALUE_BYTES: usize = 1 << 10;
/// How many turns each side takes.
const TURNS: u64 = 10;

/// A side that is full, and what was measured of it.
struct Side {
    kind: Kind,
    engine: Box<dyn Engine>,
    random: Random,
    operations: u64,
    fill_seconds: f64,
    set: Times,
    get: Times,
    _scratch: TempDir,
}

/// Fills each side with `entries`, then lets the sides take turns in overwriting and reading `operations` of them at
/// random.
pub fn measure(kinds: &[Kind], entries: u64, operations: u64, dir: &Path) -> Result<Vec<Value>> {
    let mut sides = kinds.iter().map(|kind| Side::fill(*kind, entries, operations, dir)).collect::<Result<Vec<_>>>()?;
    for turn in 0..TURNS {
        // Nobody always comes after the same one.
        let first = turn as usize % sides.len().max(1);
        sides.rotate_left(first);
        sides.iter_mut().try_for_each(|side| side.take_turn(entries))?;
        sides.rotate_right(first);
    }
    Ok(sides.into_iter().map(|side| side.figures(entries)).collect())
}

impl Side {
    fn fill(kind: Kind, entries: u64, operations: u64, dir: &Path) -> Result<Side> {
        let scratch = tempfile::tempdir_in(dir).context("cannot make a directory")?;
        let mut engine = kind.open(scratch.path())?;
        let begun = Instant::now();
        engine.fill(entries, &mut values(entries))?;
        Ok(Side {
            kind,
            engine,
            random: Random::new(entries + 1),
            operations: if kind.syncs() { operations / 50 } else { operations },
            fill_seconds: begun.elapsed().as_secs_f64(),
            set: Times::default(),
            get: Times::default(),
            _scratch: scratch,
        })
    }

    fn take_turn(&mut self, entries: u64) -> Result<()> {
        let mut value = vec![0xA5; VALUE_BYTES];
        let count = self.operations.div_ceil(TURNS);
        for _ in 0..count {
            value[..8].copy_from_slice(&self.random.next().to_be_bytes());
            let key = key(self.random.below(entries));
            self.set.time(|| self.engine.set(&key, &value))?;
        }
        for _ in 0..count {
            let key = key(self.random.below(entries));
            let found = self.get.time(|| self.engine.get(&key))?;
            let whole = found.as_ref().is_some_and(|value| value.len() == VALUE_BYTES);
            ensure!(whole, "{} lost {key:?}", self.kind.name());
        }
        Ok(())
    }

    fn figures(self, entries: u64) -> Value {
        let (set, get) = (self.set.summary(), self.get.summary());
        eprintln!("scale, {entries} entries, {}: set {:.1}, get {:.1} µs", self.kind.name(), set.p50, get.p50);
        json!({
            "engine": self.kind.name(),
            "entries": entries,
            "durability": self.kind.durability(),
            "fill_seconds": self.fill_seconds,
            "set": set,
            "get": get,
        })
    }
}

/// Values that no engine can compress, the same for every side.
pub fn values(seed: u64) -> impl FnMut() -> Vec<u8> {
    let mut random = Random::new(seed);
    move || (0..VALUE_BYTES / 8).flat_map(|_| random.next().to_be_bytes()).collect()
}

/// The key of the n-th entry, scattered as names are.
pub fn key(n: u64) -> Vec<u8> {
    format!("{:016x}", Random::new(n).next()).into_bytes()
}

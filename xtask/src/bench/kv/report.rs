//! What `kv-rivals` prints.

use serde::{Deserialize, Serialize};

/// Everything measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether a hundredth of the work was done.
    pub quick: bool,
    /// How often each side of the mix was measured.
    #[serde(default)]
    pub rounds: u64,
    /// The loop of DiskCache's benchmark.
    pub mix: Vec<Mix>,
    /// Values of 1 KiB among more and more entries.
    pub scale: Vec<Scale>,
    /// Where the time goes; empty without `perf`.
    #[serde(default)]
    pub profile: Vec<Profile>,
}

/// One side of the mix.
#[derive(Debug, Serialize, Deserialize)]
pub struct Mix {
    pub engine: String,
    pub processes: u32,
    /// Why it was not measured, or what was.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of measuring a side.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    Measured(Box<Measured>),
    Refused { refused: String },
}

/// The mix in figures.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub durability: String,
    /// Of each process.
    pub operations: u64,
    /// Sets that did not happen.
    pub drops: u64,
    pub get: Summary,
    pub set: Summary,
    pub delete: Summary,
    /// The times of all operations, added up.
    pub total_seconds: f64,
    /// From the start of all processes to the end of the last.
    pub wall_seconds: f64,
}

/// One side at one size.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scale {
    pub engine: String,
    pub entries: u64,
    pub durability: String,
    pub fill_seconds: f64,
    pub set: Summary,
    pub get: Summary,
}

/// Where the time of one operation of a side goes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile {
    pub engine: String,
    pub operation: String,
    pub entries: u64,
    /// Those with the most of it first.
    pub functions: Vec<Function>,
}

/// A function with its own share of the samples.
#[derive(Debug, Serialize, Deserialize)]
pub struct Function {
    pub name: String,
    pub percent: f64,
    pub kernel: bool,
}

/// Times of one kind of operation, in microseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    pub count: u64,
    pub misses: u64,
    /// `None`: there was none.
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
    pub total_seconds: f64,
}

impl Measured {
    /// Microseconds an operation, over all kinds. Sides that sync do fewer operations, so totals do not compare.
    pub fn mean(&self) -> f64 {
        let count = self.get.count + self.set.count + self.delete.count;
        1e6 * self.total_seconds / count as f64
    }
}

impl Report {
    /// A side of the mix, if it was measured.
    pub fn mix(&self, engine: &str, processes: u32) -> Option<&Measured> {
        let found = self.mix.iter().find(|mix| mix.engine == engine && mix.processes == processes)?;
        match &found.outcome {
            Outcome::Measured(measured) => Some(measured),
            Outcome::Refused { .. } => None,
        }
    }

    /// The best of the sides whose names begin so, by the mean over all operations.
    pub fn best<'r>(&'r self, prefixes: &[&str], processes: u32) -> Option<(&'r str, &'r Measured)> {
        let ours = self.mix.iter().filter(|mix| prefixes.iter().any(|prefix| mix.engine.starts_with(prefix)));
        let measured = ours.filter_map(|mix| Some((mix.engine.as_str(), self.mix(&mix.engine, processes)?)));
        measured.min_by(|(_, one), (_, other)| one.mean().total_cmp(&other.mean()))
    }

    /// A side at the n-th size, from the smallest.
    pub fn scale(&self, engine: &str, size: usize) -> Option<&Scale> {
        self.scale.iter().find(|scale| scale.engine == engine && Some(&scale.entries) == self.sizes().get(size))
    }

    /// The sizes, ascending.
    pub fn sizes(&self) -> Vec<u64> {
        let mut sizes: Vec<u64> = self.scale.iter().map(|scale| scale.entries).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

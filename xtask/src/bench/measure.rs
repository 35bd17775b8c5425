//! What is measured, and how: both sides in turn, with what they did compared, not only how long it took.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::project::{self, Alluvium};
use crate::stopwatch::Stopwatch;

/// Views of the two synthetic pipelines; their difference is what "each further view" is measured over.
pub const FEW: u32 = 10;
/// See [`FEW`].
pub const MANY: u32 = 210;

/// A digest of a file is remembered only once the file is this old; measuring starts after.
const SETTLED: Duration = Duration::from_millis(2_500);

/// Both programs, and how often to run them.
pub struct Bench<'a> {
    /// The workspace.
    pub root: &'a Path,
    /// Ours.
    pub alluvium: Alluvium,
    /// The plain DataFusion program.
    pub plain: PathBuf,
    /// Measured runs of each.
    pub runs: u32,
}

/// Times of one thing, in seconds, sorted.
#[derive(Debug, Default)]
pub struct Times(Vec<f64>);

/// The same work done by two sides, or at two sizes.
#[derive(Debug, Default)]
pub struct Pair {
    /// Ours, or the smaller.
    pub first: Times,
    /// The rival's, or the larger.
    pub second: Times,
}

impl Bench<'_> {
    /// A first run, cache and outputs empty, against the plain program.
    pub fn cold(&self) -> Result<Pair> {
        let scratch = scratch()?;
        let (dir, plain_out) = (scratch.path().join("flights"), scratch.path().join("plain"));
        let ours = [dir.join(".alluvium"), dir.join("out")];
        project::copy_flights(self.root, &dir)?;

        let plan = self.alluvium.payload(&["plan", "--format", "json"], &dir)?;
        let order: Vec<&str> = views(&plan)?.iter().map(name).collect();
        let mut pair = Pair::default();
        for round in 0..=self.runs {
            let (mut first, mut second) = (0.0, 0.0);
            // Neither side always goes first, into the caches the other has warmed.
            for side in [round % 2, (round + 1) % 2] {
                remove(&ours)?;
                remove(std::slice::from_ref(&plain_out))?;
                if side == 0 {
                    let watch = Stopwatch::start();
                    let run = self.alluvium.payload(&["run", "--format", "json"], &dir)?;
                    first = watch.elapsed().as_secs_f64();
                    all(&run, "write")?;
                } else {
                    let mut plain = Command::new(&self.plain);
                    plain.arg(&dir).arg(&plain_out).args(&order);
                    let watch = Stopwatch::start();
                    let wrote = project::json(&mut plain)?;
                    second = watch.elapsed().as_secs_f64();
                    remove(&ours)?;
                    self.same_rows(&dir, &wrote, round)?;
                }
            }
            eprintln!("bench: cold, round {round}: alluvium {first:.3} s, plain {second:.3} s");
            // Round 0 brings the data into the system's page cache.
            if round > 0 {
                pair.first.add(first);
                pair.second.add(second);
            }
        }
        Ok(pair)
    }

    /// In the unmeasured round: the rival wrote as many rows of every view, or the comparison means nothing.
    fn same_rows(&self, dir: &Path, plain: &Value, round: u32) -> Result<()> {
        if round > 0 {
            return Ok(());
        }
        let run = self.alluvium.payload(&["run", "--format", "json"], dir)?;
        let ours: BTreeMap<&str, Option<u64>> =
            views(&run)?.iter().map(|view| (name(view), view["rows"].as_u64())).collect();
        let theirs: BTreeMap<&str, Option<u64>> = plain["views"]
            .as_object()
            .context("the rival does not say what it wrote")?
            .iter()
            .map(|(view, rows)| (view.as_str(), rows.as_u64()))
            .collect();
        if ours != theirs {
            bail!("the two sides wrote different rows: {ours:?} and {theirs:?}");
        }
        Ok(())
    }

    /// A run in which nothing has changed.
    pub fn all_hit(&self) -> Result<Times> {
        let scratch = scratch()?;
        project::copy_flights(self.root, scratch.path())?;
        let mut times = Times::default();
        self.warm(scratch.path())?;
        for _ in 0..self.runs {
            times.add(self.hit(scratch.path())?);
        }
        eprintln!("bench: all-hit: {:.1} ms", 1_000.0 * times.median());
        Ok(times)
    }

    /// All-hit runs with each of several lists of arguments, in turn.
    pub fn all_hit_with(&self, arguments: &[&[&str]]) -> Result<Vec<Times>> {
        let scratch = scratch()?;
        project::copy_flights(self.root, scratch.path())?;
        self.warm(scratch.path())?;
        let mut times: Vec<Times> = arguments.iter().map(|_| Times::default()).collect();
        for _ in 0..self.runs {
            for (arguments, times) in arguments.iter().zip(&mut times) {
                times.add(self.hit_with(scratch.path(), arguments)?);
            }
        }
        Ok(times)
    }

    /// All-hit runs of [`FEW`] and of [`MANY`] trivial views over one small source.
    pub fn further_views(&self) -> Result<Pair> {
        let scratch = scratch()?;
        let (few, many) = (scratch.path().join("few"), scratch.path().join("many"));
        for (dir, count) in [(&few, FEW), (&many, MANY)] {
            synthesize(dir, count)?;
            self.warm(dir)?;
        }
        let mut pair = Pair::default();
        for _ in 0..self.runs {
            pair.first.add(self.hit(&few)?);
            pair.second.add(self.hit(&many)?);
        }
        eprintln!(
            "bench: all-hit, {FEW} and {MANY} views: {:.1} and {:.1} ms",
            1_000.0 * pair.first.median(),
            1_000.0 * pair.second.median()
        );
        Ok(pair)
    }

    /// The runs before those that are measured: one computes, one remembers digests.
    fn warm(&self, dir: &Path) -> Result<()> {
        let run = self.alluvium.payload(&["run", "--format", "json"], dir)?;
        all(&run, "write")?;
        settle();
        self.hit(dir)?;
        Ok(())
    }

    /// Seconds of a run in which every view hits.
    fn hit(&self, dir: &Path) -> Result<f64> {
        self.hit_with(dir, &[])
    }

    fn hit_with(&self, dir: &Path, arguments: &[&str]) -> Result<f64> {
        let watch = Stopwatch::start();
        let run = self.alluvium.payload(&[&["run", "--format", "json"], arguments].concat(), dir)?;
        let seconds = watch.elapsed().as_secs_f64();
        all(&run, "hit")?;
        Ok(seconds)
    }
}

impl Times {
    /// One more.
    pub fn add(&mut self, seconds: f64) {
        let at = self.0.partition_point(|other| *other < seconds);
        self.0.insert(at, seconds);
    }

    /// The one in the middle, in seconds; of an even number, the mean of the two.
    pub fn median(&self) -> f64 {
        let (low, high) = (self.0.len().saturating_sub(1) / 2, self.0.len() / 2);
        match (self.0.get(low), self.0.get(high)) {
            (Some(low), Some(high)) => f64::midpoint(*low, *high),
            _ => f64::NAN,
        }
    }

    /// The fastest and the slowest, in seconds.
    pub fn range(&self) -> (f64, f64) {
        let at = |time: Option<&f64>| time.copied().unwrap_or(f64::NAN);
        (at(self.0.first()), at(self.0.last()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromIterator<f64> for Times {
    fn from_iter<I: IntoIterator<Item = f64>>(seconds: I) -> Self {
        let mut times = Self::default();
        seconds.into_iter().for_each(|seconds| times.add(seconds));
        times
    }
}

/// Waits until files are old enough for their digests to be remembered.
#[expect(clippy::disallowed_methods, reason = "files have to age by the real clock; there is no event to wait for")]
pub fn settle() {
    std::thread::sleep(SETTLED);
}

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().context("cannot make a temporary directory")
}

fn remove(dirs: &[PathBuf]) -> Result<()> {
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// A pipeline of `count` views over a source of a hundred rows.
fn synthesize(dir: &Path, count: u32) -> Result<()> {
    let mut numbers = String::from("id,amount\n");
    for id in 0..100 {
        let _ = writeln!(numbers, "{id},{}", id * 7 % 13);
    }
    let mut pipeline = String::from("[sources.numbers]\nformat = \"csv\"\npath = \"numbers.csv\"\n");
    for view in 1..=count {
        let _ = write!(pipeline, "\n[views.v{view:03}]\nsql = \"select id, amount + {view} as amount from numbers\"\n");
    }
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(dir.join("numbers.csv"), numbers))
        .and_then(|()| std::fs::write(dir.join("alluvium.toml"), pipeline))
        .with_context(|| format!("cannot write a pipeline to {}", dir.display()))
}

fn views(payload: &Value) -> Result<&Vec<Value>> {
    payload["views"].as_array().filter(|views| !views.is_empty()).context("the document names no view")
}

fn name(view: &Value) -> &str {
    view["name"].as_str().unwrap_or_default()
}

/// Every view of a run came out as `wanted`, or the time is of something else.
pub fn all(run: &Value, wanted: &str) -> Result<()> {
    let others: Vec<String> = views(run)?
        .iter()
        .filter(|view| view["result"] != wanted)
        .map(|view| format!("{}: {}", name(view), view["result"]))
        .collect();
    if !others.is_empty() {
        bail!("a run whose views should all be `{wanted}` has {}", others.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn medians_and_ranges_do_not_depend_on_the_order_of_measuring() {
        let odd: Times = [3.0, 1.0, 9.0].into_iter().collect();
        assert_eq!((odd.median(), odd.range()), (3.0, (1.0, 9.0)));
        let even: Times = [4.0, 1.0, 2.0, 9.0].into_iter().collect();
        assert_eq!((even.median(), even.range()), (3.0, (1.0, 9.0)));
        assert!(Times::default().median().is_nan());
    }

    #[test]
    fn a_run_that_did_something_else_is_not_measured() {
        let run = json!({"views": [{"name": "a", "result": "hit"}, {"name": "b", "result": "write"}]});
        let error = all(&run, "hit").unwrap_err().to_string();
        assert!(error.ends_with("has b: \"write\""), "{error}");
        assert!(all(&json!({"views": []}), "hit").is_err());
        all(&json!({"views": [{"name": "a", "result": "hit"}]}), "hit").unwrap();
    }

    #[test]
    fn a_synthetic_pipeline_has_as_many_different_views_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        synthesize(dir.path(), FEW).unwrap();
        let text = std::fs::read_to_string(dir.path().join("alluvium.toml")).unwrap();
        let pipeline: toml::Table = text.parse().unwrap();
        let views = pipeline["views"].as_table().unwrap();
        let queries: std::collections::BTreeSet<&str> =
            views.values().map(|view| view["sql"].as_str().unwrap()).collect();
        assert_eq!((views.len(), queries.len()), (FEW as usize, FEW as usize));
    }
}

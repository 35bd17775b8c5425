//! docs/benchmarks-runs.md: what ledgers cost a run and whoever asks them, and the flights pipeline beside dbt and SQLMesh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::build::{binary, build};
use super::measure::{Times, all, settle};
use super::page::Machine;
use super::runs_page;
use crate::metadata::Metadata;
use crate::project::{self, Alluvium};
use crate::stopwatch::Stopwatch;
use crate::{cargo, python};

const RIVALS: &str = "bench/runs/rivals.py";
/// Each in an environment of its own: they want other versions of what they share.
const SIDES: [(&str, &str); 2] =
    [("dbt", "bench/runs/dbt-requirements.txt"), ("sqlmesh", "bench/runs/sqlmesh-requirements.txt")];

/// What is asked of a large inventory.
pub const QUESTIONS: [(&str, &str); 6] = [
    ("latest entry of each view", "select * from alluvium.latest_entries"),
    ("runs, with hit rate and seconds saved", "select * from alluvium.runs order by started_at desc limit 20"),
    ("slowest views", "select * from alluvium.slowest_views order by rank limit 20"),
    ("bytes by scope", "select * from alluvium.bytes_by_scope"),
    ("bytes written by scope", "select * from alluvium.bytes_written_by_scope"),
    (
        "miss history of a view",
        "select * from alluvium.view_misses where view_name = 'view_001' order by computed_at desc limit 20",
    ),
];

/// Arguments of `cargo xtask bench runs`.
#[derive(clap::Args)]
pub struct Args {
    /// Few past runs and rows, each thing once, without optimising anything, to see that everything runs; only print the page.
    #[arg(long)]
    quick: bool,
    /// How often each thing is measured; the page shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Leave dbt and SQLMesh out.
    #[arg(long)]
    without_python: bool,
    /// Measure with the `alluvium` and `runs-bench` in this directory instead of building them; the page says so.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks-runs.md")]
    out: PathBuf,
}

/// How much of everything there is.
pub struct Sizes {
    /// Past runs: few, and many.
    pub past: [u64; 2],
    /// Rows of the large inventory.
    pub rows: u64,
    /// Rows of one run in it.
    pub rows_of_run: u64,
}

/// Everything measured.
pub struct Figures {
    /// Whether there was little of everything, measured with binaries that nobody optimised.
    pub quick: bool,
    /// Whether the binaries were given, and may be of any profile.
    pub given: bool,
    /// See [`Sizes`].
    pub sizes: Sizes,
    /// Runs that hit, and runs that write, over few and over many past runs.
    pub past: [Past; 2],
    /// The answers of [`QUESTIONS`], in order.
    pub answers: Vec<Times>,
    /// What recording a run takes: one that hits, and one that writes.
    pub recorded: [Times; 2],
    /// By side and kind of run.
    pub sides: BTreeMap<String, BTreeMap<String, Times>>,
}

/// Runs over so many past ones.
#[derive(Default)]
pub struct Past {
    /// Of a run that hits.
    pub hit: Times,
    /// Of a run that writes one view.
    pub write: Times,
}

/// Measure, print the page, and write it into the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let metadata = Metadata::load(root)?;
    let binaries = match &args.binaries {
        Some(dir) => dir.clone(),
        None => build(root, &metadata, args.quick)?,
    };
    let sizes = match args.quick {
        true => Sizes { past: [2, 20], rows: 2_000, rows_of_run: 100 },
        false => Sizes { past: [10, 10_000], rows: 1_000_000, rows_of_run: 1_000 },
    };
    let bench = Bench {
        root,
        alluvium: Alluvium::new(&binary(&binaries, "alluvium"))?,
        seeder: binary(&binaries, "runs-bench"),
        runs: if args.quick { 1 } else { args.runs },
    };
    let (past, recorded) = bench.past(&sizes)?;
    let figures = Figures {
        quick: args.quick,
        given: args.binaries.is_some(),
        answers: bench.answers(&sizes)?,
        sides: bench.sides(&metadata, args.without_python)?,
        past,
        recorded,
        sizes,
    };
    let versions = if args.without_python { Vec::new() } else { versions(root)? };
    let page = runs_page::render(&figures, &Machine::of(root, &metadata)?, &versions);
    print!("{page}");
    if args.quick {
        return Ok(());
    }
    let out = root.join(&args.out);
    std::fs::write(&out, &page).with_context(|| format!("cannot write {}", out.display()))
}

/// What measurements need.
struct Bench<'a> {
    root: &'a Path,
    alluvium: Alluvium,
    seeder: PathBuf,
    runs: u32,
}

/// What the seeder and the rivals print.
#[derive(Deserialize)]
struct Took {
    seconds: f64,
}

impl Bench<'_> {
    /// Runs over few past ones and over many, in turn; and what recording one takes over many.
    fn past(&self, sizes: &Sizes) -> Result<([Past; 2], [Times; 2])> {
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let dirs = sizes.past.map(|count| scratch.path().join(format!("past-{count}")));
        for (dir, count) in dirs.iter().zip(sizes.past) {
            project::copy_flights(self.root, dir)?;
            self.ours(dir)?;
            self.seed(dir, count, 10)?;
            eprintln!("bench: {count} past runs are there");
        }
        settle();
        let mut past = [Past::default(), Past::default()];
        // The first round only warms.
        for round in 0..=self.runs {
            for (dir, past) in dirs.iter().zip(&mut past) {
                let (hit, run) = self.ours(dir)?;
                all(&run, "hit")?;
                let (write, run) = self.ours_with(dir, &["--fresh", "--select", "month_delays"])?;
                if run["views"].as_array().is_none_or(|views| views.iter().all(|view| view["result"] != "write")) {
                    bail!("a run that should write one view has {run}");
                }
                if round > 0 {
                    past.hit.add(hit);
                    past.write.add(write);
                }
            }
        }
        let mut recorded = [Times::default(), Times::default()];
        for _ in 0..self.runs {
            for (drain, times) in [false, true].into_iter().zip(&mut recorded) {
                let mut command = Command::new(&self.seeder);
                // As many as the flights example has views and outputs.
                command.arg("record").arg(dirs[1].join(".alluvium")).args(["--rows", "13"]);
                if drain {
                    command.arg("--drain");
                }
                let figures: Took = serde_json::from_slice(&cargo::read(&mut command)?)?;
                times.add(figures.seconds);
            }
        }
        Ok((past, recorded))
    }

    /// How long each question takes over a large inventory, the process included.
    fn answers(&self, sizes: &Sizes) -> Result<Vec<Times>> {
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        project::copy_flights(self.root, scratch.path())?;
        self.ours(scratch.path())?;
        self.seed(scratch.path(), sizes.rows / sizes.rows_of_run, sizes.rows_of_run)?;
        eprintln!("bench: {} rows are there", sizes.rows);
        let mut answers = Vec::new();
        for (_, question) in QUESTIONS {
            let mut times = Times::default();
            for round in 0..=self.runs {
                let watch = Stopwatch::start();
                self.ask(scratch.path(), question)?;
                let seconds = watch.elapsed().as_secs_f64();
                if round > 0 {
                    times.add(seconds);
                }
            }
            answers.push(times);
        }
        Ok(answers)
    }

    /// The flights pipeline by all sides, in turn: cold over five months, again, with one view edited, and with the sixth month.
    fn sides(&self, metadata: &Metadata, without_python: bool) -> Result<BTreeMap<String, BTreeMap<String, Times>>> {
        let mut sides: BTreeMap<String, BTreeMap<String, Times>> = BTreeMap::new();
        let mut pythons = Vec::new();
        for (side, requirements) in SIDES.iter().filter(|_| !without_python) {
            let venv = metadata.target_directory.join(format!("runs-bench-{side}-venv"));
            pythons.push((*side, python::venv(self.root, requirements, &venv)?));
        }
        for round in 0..self.runs {
            let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
            let flights = scratch.path().join("flights");
            project::copy_flights(self.root, &flights)?;
            let (month, held) = (flights.join("data/2001-06.parquet"), scratch.path().join("2001-06.parquet"));
            std::fs::rename(&month, &held).context("the flights example has no June")?;
            for (side, python) in &pythons {
                self.rival(python, &["make", side], &[&flights, &scratch.path().join(side)])?;
            }
            for what in ["cold", "unchanged", "view", "data"] {
                match what {
                    "view" => {
                        edit(&flights.join("views/airport_days.sql"), round)?;
                        for (side, _) in &pythons {
                            edit(&scratch.path().join(side).join("models/airport_days.sql"), round)?;
                        }
                    }
                    "data" => std::fs::rename(&held, &month).context("cannot put June in its place")?,
                    _ => {}
                }
                settle();
                let (seconds, run) = self.ours(&flights)?;
                if what == "unchanged" {
                    all(&run, "hit")?;
                }
                sides.entry("alluvium".to_owned()).or_default().entry(what.to_owned()).or_default().add(seconds);
                let entries = self.entries(&flights)?;
                for (side, python) in &pythons {
                    let project = scratch.path().join(side);
                    let words = [Path::new(what), Path::new(&entries)];
                    let printed = self.rival(python, &["run", side], &[&[&*project], &words[..]].concat())?;
                    let ran: Took = serde_json::from_slice(&printed)?;
                    eprintln!("bench: {what}, round {round}: alluvium {seconds:.3} s, {side} {:.3} s", ran.seconds);
                    let times = sides.entry((*side).to_owned()).or_default();
                    times.entry(what.to_owned()).or_default().add(ran.seconds);
                }
            }
        }
        Ok(sides)
    }

    /// Where the rows of each view lie, as an object of JSON from its name to its Parquet files: entries are never written again.
    fn entries(&self, dir: &Path) -> Result<String> {
        let question = "select view_name, cache_path from alluvium.latest_entries where cache_scope = 'view'";
        let rows = self.ask(dir, question)?;
        let entries: serde_json::Map<String, Value> = rows
            .iter()
            .filter_map(|row| {
                let files = dir.join(".alluvium").join(row["cache_path"].as_str()?).join("*.parquet");
                Some((row["view_name"].as_str()?.to_owned(), files.to_str()?.into()))
            })
            .collect();
        Ok(Value::Object(entries).to_string())
    }

    /// The rows that `alluvium sql` answers with.
    fn ask(&self, dir: &Path, question: &str) -> Result<Vec<Value>> {
        let mut command = Command::new(self.alluvium.binary());
        command.arg("sql").arg(dir).arg(question).args(["--format", "json"]);
        match project::json(&mut command)? {
            Value::Array(rows) if !rows.is_empty() => Ok(rows),
            _ => bail!("`{question}` has no answer"),
        }
    }

    fn rival(&self, python: &Path, words: &[&str], paths: &[&Path]) -> Result<Vec<u8>> {
        let mut command = Command::new(python);
        cargo::read(command.arg("-B").arg(self.root.join(RIVALS)).args(words).args(paths))
    }

    fn ours(&self, dir: &Path) -> Result<(f64, Value)> {
        self.ours_with(dir, &[])
    }

    fn ours_with(&self, dir: &Path, arguments: &[&str]) -> Result<(f64, Value)> {
        let watch = Stopwatch::start();
        let run = self.alluvium.payload(&[&["run", "--format", "json"], arguments].concat(), dir)?;
        Ok((watch.elapsed().as_secs_f64(), run))
    }

    fn seed(&self, dir: &Path, runs: u64, rows: u64) -> Result<()> {
        let mut command = Command::new(&self.seeder);
        command.arg("seed").arg(dir.join(".alluvium"));
        command.args(["--runs", &runs.to_string(), "--rows", &rows.to_string()]);
        cargo::read(&mut command).map(drop)
    }
}

/// Another query with the same rows, another one each round.
fn edit(file: &Path, round: u32) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let Some((before, after)) = text.rsplit_once("group by") else {
        bail!("{} groups by nothing", file.display());
    };
    let text = format!("{before}where delay_minutes > -{}\ngroup by{after}", 100_000 + round);
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn versions(root: &Path) -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for (_, requirements) in SIDES {
        let text = std::fs::read_to_string(root.join(requirements)).context("cannot read the rivals' requirements")?;
        versions.extend(text.lines().map(|line| line.replace("==", " ")));
    }
    // Both rivals are over the same DuckDB.
    versions.sort_unstable();
    versions.dedup();
    Ok(versions)
}

//! docs/benchmarks.md: figures against goals, in a layout that changes only where a figure does.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::measure::{FEW, MANY, Pair, Times};
use crate::cargo;
use crate::metadata::Metadata;

const COLD_RATIO: f64 = 1.25;
const ALL_HIT_MS: f64 = 100.0;
const FURTHER_VIEW_MS: f64 = 2.0;
const BINARY_MB: f64 = 120.0;
const COLD_BUILD_MINUTES: f64 = 30.0;

/// How the row of the build begins, which a later page keeps.
const COLD_BUILD: &str = "| first release build |";

/// Everything measured.
pub struct Figures {
    /// Ours and the rival's.
    pub cold: Pair,
    /// Of examples/flights.
    pub all_hit: Times,
    /// Of the small and the large synthetic pipeline.
    pub further: Pair,
    /// Size of `alluvium`.
    pub binary_bytes: u64,
    /// The row about the build, whole.
    pub cold_build: String,
}

/// Where it was measured, and with which versions.
pub struct Machine {
    cores: usize,
    memory_gib: Option<f64>,
    system: String,
    rustc: String,
    versions: Vec<String>,
}

impl Machine {
    /// This machine and the locked versions of the workspace at `root`.
    pub fn of(root: &Path, metadata: &Metadata) -> Result<Self> {
        let rustc = String::from_utf8(cargo::read(Command::new("rustc").arg("--version").current_dir(root))?)
            .context("rustc prints its version in no text")?;
        let versions = ["alluvium-cli", "datafusion", "deltalake-core", "arrow", "parquet"]
            .into_iter()
            .filter_map(|name| metadata.packages.iter().find(|package| package.name == name))
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory_gib(&text)),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            // `rustc 1.95.0 (59807616e 2026-04-14)`: the version is enough.
            rustc: rustc.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
            versions,
        })
    }

    /// What it is, but for the versions.
    pub fn describe(&self) -> String {
        let memory = self.memory_gib.map_or_else(String::new, |memory| format!(", {memory:.1} GiB of memory"));
        format!("{}, {} cores{memory}, with {}", self.system, self.cores, self.rustc)
    }
}

/// The row about the build: as measured now, or as the page had it.
pub fn cold_build(minutes: Option<f64>, earlier: &str) -> String {
    match minutes {
        Some(minutes) => row(
            COLD_BUILD,
            &format!("≤ {COLD_BUILD_MINUTES} min"),
            &format!("{minutes:.1} min"),
            &verdict(minutes, COLD_BUILD_MINUTES, 1, "min"),
        ),
        None => earlier.lines().find(|line| line.starts_with(COLD_BUILD)).map_or_else(
            || row(COLD_BUILD, &format!("≤ {COLD_BUILD_MINUTES} min"), "not measured", "open"),
            str::to_owned,
        ),
    }
}

/// The sections that other benchmarks write into the page, which outlive a page that did not measure them.
pub fn sections(earlier: &str) -> &str {
    earlier.find("\n## ").map_or("", |at| &earlier[at..])
}

/// `page` with the section under `heading` in place of the one it has, or behind everything.
pub fn put_section(page: &str, heading: &str, section: &str) -> String {
    let start = page.find(heading).unwrap_or(page.len());
    let (before, old) = page.split_at(start);
    let after = old.get(heading.len()..).and_then(|rest| rest.find("\n## ").map(|at| &rest[at..])).unwrap_or_default();
    format!("{}\n\n{section}{after}", before.trim_end())
}

/// The page. Binaries that were `given` rather than built may be of any profile, and the page says so.
pub fn render(figures: &Figures, machine: &Machine, command: &str, given: bool) -> String {
    let cold = &figures.cold;
    let ratio = cold.first.median() / cold.second.median();
    let all_hit = 1_000.0 * figures.all_hit.median();
    let (few, many) = (&figures.further.first, &figures.further.second);
    let further = 1_000.0 * (many.median() - few.median()) / f64::from(MANY - FEW);
    let megabytes = figures.binary_bytes as f64 / 1e6;

    let rows = [
        row(
            "| cold run of `examples/flights`, its time over that of plain DataFusion |",
            &format!("≤ {COLD_RATIO} ×"),
            &format!("{ratio:.2} ×: {} against {}", seconds(&cold.first), seconds(&cold.second)),
            &verdict(ratio, COLD_RATIO, 2, "×"),
        ),
        row(
            "| all-hit run of `examples/flights` |",
            &format!("≤ {ALL_HIT_MS} ms"),
            &milliseconds(&figures.all_hit),
            &verdict(all_hit, ALL_HIT_MS, 1, "ms"),
        ),
        row(
            "| each further view of an all-hit run |",
            &format!("≤ {FURTHER_VIEW_MS} ms"),
            &format!("{further:.2} ms: {FEW} views {}, {MANY} views {}", milliseconds(few), milliseconds(many)),
            &verdict(further, FURTHER_VIEW_MS, 2, "ms"),
        ),
        row(
            "| stripped `alluvium` |",
            &format!("≤ {BINARY_MB} MB"),
            &format!("{megabytes:.1} MB"),
            &verdict(megabytes, BINARY_MB, 1, "MB"),
        ),
        figures.cold_build.clone(),
    ];
    let given = if given {
        "\n**The binaries were given by path: they may be neither release builds nor stripped.**\n"
    } else {
        ""
    };
    format!(
        "\
# Benchmarks

Written by `{command}`, which measures them anew; nothing here is written by hand.
{given}
| what | goal | measured | verdict |
|---|---|---|---|
{}

Medians of {} runs, with the fastest and the slowest; times are of whole processes, from start to exit.

- **Cold**: cache and outputs empty, files in the system's page cache. Plain DataFusion is `bench/`: the same
  views in the same order with as many partitions, each written as Parquet and read back, then the outputs,
  partitioned and compressed as the pipeline says; no Delta log, no cache. The two sides take turns, and have to
  write equally many rows.
- **All-hit**: nothing has changed since the run before; a run in which a view is not `hit` is no figure.
- **Each further view**: the difference of two all-hit runs, of {MANY} and {FEW} trivial views over one small CSV
  file, divided by {}.
- **MB** is 10⁶ bytes.

Measured on {}; {}.
",
        rows.join("\n"),
        figures.all_hit.count(),
        MANY - FEW,
        machine.describe(),
        machine.versions.join(", "),
    )
}

/// A row of a table of figures: `what` begins it, up to the goal.
pub fn row(what: &str, goal: &str, measured: &str, verdict: &str) -> String {
    format!("{what} {goal} | {measured} | {verdict} |")
}

/// Whether a figure is within its goal, or by how much it is not.
pub fn verdict(figure: f64, goal: f64, decimals: usize, unit: &str) -> String {
    if figure <= goal {
        "met".to_owned()
    } else if figure.is_nan() {
        "not measured".to_owned()
    } else {
        format!("missed by {:.decimals$} {unit}", figure - goal)
    }
}

/// A row about a figure that is to stay within its goal.
pub fn goal(what: &str, wanted: f64, measured: f64, unit: &str) -> String {
    let verdict = verdict(measured, wanted, 3, unit);
    row(&format!("| {what} |"), &format!("≤ {wanted} {unit}"), &format!("{measured:.3} {unit}"), &verdict)
}

/// What a page says first of figures that were measured in a hurry, or with a `given` binary.
pub fn notes(quick: bool, given: bool) -> String {
    let mut notes = String::new();
    if quick {
        notes.push_str("\n**Measured with --quick: this shows that everything runs, and the figures mean nothing.**\n");
    }
    if given {
        notes.push_str("\n**The binary was given by path: it may be no release build.**\n");
    }
    notes
}

/// Seconds, with the fastest and the slowest.
pub fn seconds(times: &Times) -> String {
    let (fastest, slowest) = times.range();
    format!("{:.2} s ({fastest:.2}–{slowest:.2})", times.median())
}

/// The median, with the fastest and the slowest.
pub fn milliseconds(times: &Times) -> String {
    let (fastest, slowest) = times.range();
    format!("{:.1} ms ({:.1}–{:.1})", 1_000.0 * times.median(), 1_000.0 * fastest, 1_000.0 * slowest)
}

/// From /proc/meminfo, which counts in KiB.
fn memory_gib(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / (1024.0 * 1024.0))
}

#[cfg(test)]
impl Machine {
    /// A machine that is the same everywhere.
    pub fn for_tests() -> Self {
        Self {
            cores: 2,
            memory_gib: memory_gib("MemTotal:       8388608 kB\nMemFree: 1 kB\n"),
            system: "linux x86_64".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            versions: vec!["datafusion 55.2.0".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cold_build: String) -> Figures {
        let pair = |first: &[f64], second: &[f64]| Pair {
            first: first.iter().copied().collect(),
            second: second.iter().copied().collect(),
        };
        Figures {
            cold: pair(&[3.0, 2.6, 2.8], &[2.0, 2.1, 1.9]),
            all_hit: [0.064, 0.061, 0.070].into_iter().collect(),
            further: pair(&[0.040, 0.041, 0.039], &[0.140, 0.150, 0.130]),
            binary_bytes: 121_500_000,
            cold_build,
        }
    }

    fn page(figures: &Figures) -> String {
        render(figures, &Machine::for_tests(), "cargo xtask bench --runs 3", false)
    }

    #[test]
    fn each_goal_is_met_or_missed_by_a_figure() {
        let page = page(&figures(cold_build(Some(34.26), "")));
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        assert_eq!(
            rows,
            [
                "| cold run of `examples/flights`, its time over that of plain DataFusion | ≤ 1.25 × | 1.40 ×: 2.80 s (2.60–3.00) against 2.00 s (1.90–2.10) | missed by 0.15 × |",
                "| all-hit run of `examples/flights` | ≤ 100 ms | 64.0 ms (61.0–70.0) | met |",
                "| each further view of an all-hit run | ≤ 2 ms | 0.50 ms: 10 views 40.0 ms (39.0–41.0), 210 views 140.0 ms (130.0–150.0) | met |",
                "| stripped `alluvium` | ≤ 120 MB | 121.5 MB | missed by 1.5 MB |",
                "| first release build | ≤ 30 min | 34.3 min | missed by 4.3 min |",
            ]
        );
        assert!(page.contains("Medians of 3 runs"), "{page}");
        assert!(
            page.contains("linux x86_64, 2 cores, 8.0 GiB of memory, with rustc 1.95.0; datafusion 55.2.0."),
            "{page}"
        );
    }

    #[test]
    fn sections_of_other_benchmarks_outlive_the_page() {
        let page = page(&figures(cold_build(Some(28.0), "")));
        assert_eq!(sections(&page), "");
        assert_eq!(sections(&format!("{page}\n## Contracts\n\nSome.\n")), "\n## Contracts\n\nSome.\n");
    }

    #[test]
    fn the_row_of_the_build_outlives_a_page_that_did_not_measure_it() {
        let first = page(&figures(cold_build(Some(28.0), "")));
        let second = page(&figures(cold_build(None, &first)));
        assert_eq!(second, first);
        assert!(first.contains("| first release build | ≤ 30 min | 28.0 min | met |"));
        assert_eq!(cold_build(None, "# Benchmarks\n"), "| first release build | ≤ 30 min | not measured | open |");
    }
}

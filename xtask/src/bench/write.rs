//! The section "Writes of tables" of docs/benchmarks.md: tables written by alluvium-write-policy, by plain DataFusion, and by
//! other libraries, each write in a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::build::{binary, build};
use super::page::{Machine, put_section};
use super::write_page::{self, HEADING};
use crate::cargo;
use crate::metadata::Metadata;
use crate::python;

const REQUIREMENTS: &str = "bench/write/requirements.txt";
const RIVALS: &str = "bench/write/rivals.py";

/// What a sort may take in the measurement of memory.
pub const SORT_MEMORY_BYTES: u64 = 256 << 20;
/// The size of files in the measurement of reads.
pub const READ_FILE_BYTES: u64 = 4 << 20;

/// Arguments of `cargo xtask bench write`.
#[derive(clap::Args)]
pub struct Args {
    /// A Parquet file, or a directory of them, to write beside TPC-H's lineitem.
    #[arg(long, value_name = "PATH", env = "ALLUVIUM_DATA")]
    data: Option<PathBuf>,
    /// Write a hundredth of the rows once, without optimising anything, to see that everything runs; only print the section.
    #[arg(long)]
    quick: bool,
    /// How often each write is measured; the page shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Leave Python's deltalake, Polars and DuckDB out; lineitem has to be there from an earlier run.
    #[arg(long)]
    without_python: bool,
    /// Measure in this directory instead of the target directory: the device matters.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Measure with this `write-bench` instead of building one; the section says so.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The page whose section is written.
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    out: PathBuf,
}

impl Args {
    /// The scale factor of lineitem: 1 has 6 million rows.
    fn scale(&self) -> &'static str {
        if self.quick { "0.01" } else { "1" }
    }

    fn runs(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }
}

/// Everything measured.
pub struct Figures {
    /// Whether hardly anything was written, by a binary that nobody optimised.
    pub quick: bool,
    /// Whether the binary was given, and may be of any profile.
    pub given_binary: bool,
    /// By source and side.
    pub writes: BTreeMap<String, BTreeMap<String, Side>>,
    /// Bytes that a selective query read: of the unordered table, and of the clustered one.
    pub read_bytes: [u64; 2],
    /// The most memory of a sorted write above what the process had before.
    pub sort_peak_bytes: u64,
    /// Bytes of the table that was sorted, in its files.
    pub sorted_bytes: u64,
}

/// What one side did with one source.
#[derive(Default)]
pub struct Side {
    /// Of each write.
    pub seconds: Vec<f64>,
    /// Of the Parquet files of the last write: sides that write much less do another work.
    pub bytes: u64,
}

impl Side {
    fn add(&mut self, seconds: f64, out: &Path) -> Result<()> {
        self.seconds.push(seconds);
        self.bytes = parquet_bytes(out).with_context(|| format!("cannot look at {}", out.display()))?;
        Ok(())
    }
}

/// Measure, print the section, and put it into the page of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let metadata = Metadata::load(root)?;
    let bench = Bench::new(root, &metadata, args)?;
    let lineitem = bench.lineitem(args.scale())?;
    let mut sources = vec![(format!("lineitem, scale {}", args.scale()), lineitem.clone())];
    if let Some(data) = &args.data {
        let name =
            data.file_stem().map_or_else(|| data.display().to_string(), |name| name.to_string_lossy().into_owned());
        sources.push((name, data.canonicalize().with_context(|| format!("no data at {}", data.display()))?));
    }
    let mut writes = BTreeMap::new();
    for (name, source) in &sources {
        writes.insert(name.clone(), bench.writes(source, args.runs())?);
    }
    let (sort_peak_bytes, sorted_bytes) = bench.sort_memory(&lineitem)?;
    let figures = Figures {
        quick: args.quick,
        given_binary: args.binary.is_some(),
        writes,
        read_bytes: bench.read_bytes(&lineitem)?,
        sort_peak_bytes,
        sorted_bytes,
    };
    let section = write_page::render(&figures, &Machine::of(root, &metadata)?, &versions(root)?);
    print!("{section}");
    if args.quick {
        return Ok(());
    }
    let page = root.join(&args.out);
    let earlier = std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    std::fs::write(&page, put_section(&earlier, HEADING, &section))
        .with_context(|| format!("cannot write {}", page.display()))
}

/// What measurements need.
struct Bench<'a> {
    root: &'a Path,
    binary: PathBuf,
    /// The Python with the other libraries.
    python: Option<PathBuf>,
    dir: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(root: &'a Path, metadata: &Metadata, args: &Args) -> Result<Self> {
        let dir = args.dir.clone().unwrap_or_else(|| metadata.target_directory.join("write-bench"));
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let binary = match &args.binary {
            Some(binary) => binary.canonicalize().with_context(|| format!("no binary at {}", binary.display()))?,
            None => binary(&build(root, metadata, args.quick)?, "write-bench"),
        };
        let python = match args.without_python {
            true => None,
            false => Some(python::venv(root, REQUIREMENTS, &metadata.target_directory.join("write-bench-venv"))?),
        };
        Ok(Self { root, binary, python, dir })
    }

    /// TPC-H's lineitem, generated once.
    fn lineitem(&self, scale: &str) -> Result<PathBuf> {
        let dir = self.dir.join(format!("lineitem-{scale}"));
        let file = dir.join("lineitem.parquet");
        if file.is_file() {
            return Ok(file);
        }
        let python = self.python.as_ref().context("lineitem is not there yet, and Python's tpchgen-cli makes it")?;
        let generator = python.with_file_name(format!("tpchgen-cli{}", std::env::consts::EXE_SUFFIX));
        let mut generate = Command::new(generator);
        generate.args(["parquet", "--scale-factor", scale, "--tables", "lineitem", "--output-dir"]);
        cargo::run(generate.arg(&dir))?;
        ensure!(file.is_file(), "tpchgen-cli made no {}", file.display());
        Ok(file)
    }

    /// The sides write in turn, so that what the machine does meanwhile falls on all of them.
    fn writes(&self, source: &Path, runs: u32) -> Result<BTreeMap<String, Side>> {
        let mut sides: BTreeMap<String, Side> = BTreeMap::new();
        for _ in 0..runs {
            for side in ["parquet", "delta"] {
                let out = self.fresh(side)?;
                let figures: Written = self.bench(&[side.as_ref(), source.as_ref(), out.as_ref()])?;
                sides.entry(side.to_owned()).or_default().add(figures.seconds, &out)?;
            }
            for side in ["deltalake", "polars", "duckdb"] {
                let Some(python) = &self.python else { continue };
                let out = self.fresh(side)?;
                let mut command = Command::new(python);
                command.arg(self.root.join(RIVALS)).arg(side).arg(source).arg(&out);
                let figures: Written = serde_json::from_slice(&cargo::read(&mut command)?)?;
                sides.entry(side.to_owned()).or_default().add(figures.seconds, &out)?;
            }
        }
        Ok(sides)
    }

    /// What a query for a thousandth of the parts reads, of files in the order of orders and in that of parts.
    fn read_bytes(&self, lineitem: &Path) -> Result<[u64; 2]> {
        let bytes = READ_FILE_BYTES.to_string();
        // Parts are numbered from 1 on; these are a thousandth of them at scale 1.
        let query = "select sum(l_quantity) from t where l_partkey between 1001 and 1200";
        let mut read = [0, 0];
        for (slot, zorder) in read.iter_mut().zip([None, Some("l_partkey")]) {
            let table = self.fresh("read")?;
            let mut arguments: Vec<&std::ffi::OsStr> = vec!["delta".as_ref(), lineitem.as_ref(), table.as_ref()];
            arguments.extend(["--file-bytes".as_ref(), bytes.as_ref()] as [&std::ffi::OsStr; 2]);
            if let Some(column) = zorder {
                arguments.extend(["--zorder".as_ref(), column.as_ref()] as [&std::ffi::OsStr; 2]);
            }
            let _: Written = self.bench(&arguments)?;
            let figures: Read = self.bench(&["read".as_ref(), table.as_ref(), query.as_ref()])?;
            *slot = figures.bytes_scanned;
        }
        Ok(read)
    }

    /// The peak of a sorted write above its baseline, and what it wrote.
    fn sort_memory(&self, lineitem: &Path) -> Result<(u64, u64)> {
        let bytes = SORT_MEMORY_BYTES.to_string();
        let table = self.fresh("sorted")?;
        let arguments: [&std::ffi::OsStr; 7] = [
            "delta".as_ref(),
            lineitem.as_ref(),
            table.as_ref(),
            "--zorder".as_ref(),
            "l_partkey".as_ref(),
            "--memory-bytes".as_ref(),
            bytes.as_ref(),
        ];
        let figures: Written = self.bench(&arguments)?;
        Ok((figures.peak_above_baseline_bytes.context("write-bench measured no memory")?, figures.bytes))
    }

    /// A place to write to, with nothing there.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("out-{name}"));
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(path),
        }
    }

    fn bench<T: for<'de> Deserialize<'de>>(&self, arguments: &[&std::ffi::OsStr]) -> Result<T> {
        let mut command = Command::new(&self.binary);
        Ok(serde_json::from_slice(&cargo::read(command.args(arguments))?)?)
    }
}

#[derive(Deserialize)]
struct Written {
    seconds: f64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    peak_above_baseline_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct Read {
    bytes_scanned: u64,
}

fn parquet_bytes(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "parquet") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn versions(root: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join(REQUIREMENTS)).context("cannot read the rivals' requirements")?;
    Ok(text.lines().map(|line| line.replace("==", " ")).collect())
}

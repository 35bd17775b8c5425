//! `cache …`: the arguments.

use std::path::PathBuf;
use std::time::Duration;

use alluvium_contracts::RunId;
use alluvium_runs::Selection;
use clap::{Args, Subcommand};

use crate::args::{DocumentFormat, ProjectArgs};

/// `cache …`
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// What can be done with a cache root.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the entries: those that serve hits, those on their way out, and directories that the index does not know
    Ls {
        /// Only entries of these views
        #[arg(value_name = "VIEW")]
        views: Vec<String>,
        /// The cache.
        #[command(flatten)]
        place: CachePlace,
    },
    /// Show an entry in full: files, components of its key, and why it was computed
    Show {
        /// A view, a cache key (its first twelve characters will do), or the id of an entry
        #[arg(value_name = "WHAT")]
        wanted: String,
        /// The cache.
        #[command(flatten)]
        place: CachePlace,
    },
    /// Read every byte of every entry and compare it with its record; exit code 1 if something was damaged, and set aside
    Verify {
        /// Only entries of these views
        #[arg(value_name = "VIEW")]
        views: Vec<String>,
        /// The cache.
        #[command(flatten)]
        place: CachePlace,
    },
    /// Remove the entries that fit everything that is said; who is reading one still can
    Evict(EvictArgs),
    /// Remove what stands for nothing, and entries beyond a byte budget, those that save the least time a byte first
    Gc {
        /// The most that all entries may take together, such as 500000000, 500MB or 2GiB
        #[arg(long, value_name = "SIZE", value_parser = size)]
        max_bytes: Option<u64>,
        /// Only list what would go, and why
        #[arg(long)]
        dry_run: bool,
        /// The cache.
        #[command(flatten)]
        place: CachePlace,
    },
    /// Find entries that the index has lost by their own commits
    RebuildIndex {
        /// The cache.
        #[command(flatten)]
        place: CachePlace,
    },
    /// Copy the newest entry to a directory of its own, as a Delta table
    Export {
        /// A view, a cache key (its first twelve characters will do), or the id of an entry
        #[arg(value_name = "WHAT")]
        wanted: String,
        /// The directory to make
        #[arg(value_name = "TO")]
        to: PathBuf,
        /// The cache.
        #[command(flatten)]
        place: CachePlace,
    },
}

/// Which cache root, and how what is said of it is printed. A root that is named needs no project.
#[derive(Debug, Args)]
pub struct CachePlace {
    /// The project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// How it is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
    pub format: DocumentFormat,
}

/// `cache evict …`
#[derive(Debug, Args)]
pub struct EvictArgs {
    /// Entries of any of these views
    #[arg(value_name = "VIEW", required_unless_present_any = ["tag", "older_than", "run", "all"])]
    views: Vec<String>,
    /// Entries whose view has this tag (`tags` of `[views.NAME]`); may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Entries written at least this long ago, such as 90s, 45m, 12h or 30d
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Duration>,
    /// Entries written by this run
    #[arg(long, value_name = "RUN_ID")]
    run: Option<RunId>,
    /// Every entry
    #[arg(long, conflicts_with_all = ["views", "tag", "older_than", "run"])]
    all: bool,
    /// Only list what would go, and why
    #[arg(long)]
    pub dry_run: bool,
    /// The cache.
    #[command(flatten)]
    pub place: CachePlace,
}

impl EvictArgs {
    /// What they select. Everything only by `--all`: clap asks for something else without it.
    pub fn selection(&self) -> Selection {
        Selection { views: self.views.clone(), tags: self.tag.clone(), older_than: self.older_than, run_id: self.run }
    }
}

impl CacheCommand {
    /// The place that the command is about.
    pub fn place(&self) -> &CachePlace {
        match self {
            Self::Ls { place, .. }
            | Self::Show { place, .. }
            | Self::Verify { place, .. }
            | Self::Gc { place, .. }
            | Self::RebuildIndex { place }
            | Self::Export { place, .. } => place,
            Self::Evict(args) => &args.place,
        }
    }
}

fn age(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    scaled(text, &units).map(Duration::from_secs).ok_or_else(|| "expected a number and s, m, h or d".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
        ("", 1),
    ];
    scaled(text, &units).ok_or_else(|| "expected a number of bytes, or one with kB, MB, GB, KiB, MiB or GiB".to_owned())
}

/// A whole number in the first of the units that it ends with.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.trim_end().parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_have_units() {
        assert_eq!(age("45m"), Ok(Duration::from_secs(2_700)));
        assert_eq!(age("30d"), Ok(Duration::from_secs(2_592_000)));
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        assert_eq!(size("7B"), Ok(7));
        for wrong in ["", "5", "m", "-1s", "1.5h", "99999999999999999999d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "MB", "1.5GB", "-1", "1XB", "99999999TiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}

//! `table …`: the arguments.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::args::{DocumentFormat, ProjectArgs};
use crate::failure::Failure;

/// `table …`
#[derive(Debug, Args)]
pub struct TableArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: TableCommand,
}

/// What can be done with a table.
#[derive(Debug, Subcommand)]
pub enum TableCommand {
    /// Show columns, layout, statistics, protocol, properties and the stored write policy
    Show {
        /// The table.
        #[command(flatten)]
        table: TablePath,
        /// At this version [default: the newest]
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
    },
    /// List the commits, the newest first
    History {
        /// The table.
        #[command(flatten)]
        table: TablePath,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Do what is due by the table's own write policy, or what is named here
    Maintain(MaintainArgs),
    /// Read every commit, file and row, and compare them with the log; exit code 1 if something is wrong
    Verify {
        /// The table.
        #[command(flatten)]
        table: TablePath,
        /// At this version [default: the newest]
        #[arg(long, value_name = "VERSION")]
        version: Option<u64>,
    },
}

/// A table, and how what is said of it is printed.
#[derive(Debug, Args)]
pub struct TablePath {
    /// The directory of the table
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// How it is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
    pub format: DocumentFormat,
}

impl TablePath {
    /// The directory. Of a URL, which may hold what opens a cloud store, no more than the scheme is told.
    pub fn path(&self) -> Result<&Path, Failure> {
        match self.path.to_str().and_then(|path| path.split_once("://")) {
            None => Ok(&self.path),
            Some((scheme, _)) => Err(Failure::input(format!(
                "the table is named by a {scheme}:// URL, and this build has no cloud stores: name a local directory"
            ))),
        }
    }
}

/// `table maintain PATH`
#[derive(Debug, Args)]
pub struct MaintainArgs {
    /// The table.
    #[command(flatten)]
    pub table: TablePath,
    /// The project whose ledgers tell what was done [default: the nearest one above the table].
    #[command(flatten)]
    pub project: ProjectArgs,
    /// Make this older version the newest again, before everything else
    #[arg(long, value_name = "VERSION")]
    pub restore: Option<u64>,
    /// Order all rows anew by these columns within their partitions
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', conflicts_with = "compact")]
    pub zorder: Vec<String>,
    /// Put small files of a partition together, where there are at least so many
    #[arg(long, value_name = "MIN_FILES", value_parser = clap::value_parser!(u32).range(1..))]
    pub compact: Option<u32>,
    /// Write a checkpoint of the newest version
    #[arg(long)]
    pub checkpoint: bool,
    /// Delete files that no version younger than so many hours needs, and no run that is kept; 168 or more
    #[arg(long, value_name = "HOURS")]
    pub vacuum: Option<u32>,
    /// A version whose files a vacuum keeps; may be repeated
    #[arg(long, value_name = "VERSION")]
    pub keep: Vec<u64>,
    /// Delete log files older than so many hours that a checkpoint covers and no run that is kept needs
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..))]
    pub cleanup_log: Option<u32>,
}

impl MaintainArgs {
    /// Whether the table's own policy decides.
    pub fn is_by_policy(&self) -> bool {
        self.restore.is_none()
            && !self.rewrites()
            && !self.checkpoint
            && self.vacuum.is_none()
            && self.cleanup_log.is_none()
    }

    /// Whether a commit is made that moves rows.
    pub fn rewrites(&self) -> bool {
        self.restore.is_some() || !self.zorder.is_empty() || self.compact.is_some()
    }
}

//! `runs …`: the arguments.

use std::path::PathBuf;

use alluvium_runs::RunName;
use clap::{Args, Subcommand};

use crate::args::{DocumentFormat, ProjectArgs};

/// `runs …`
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RunsCommand,
}

/// What can be asked of past runs. A run is `latest`, or its id, or at least 4 letters of the beginning or end of its id.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List the runs of the cache root, the newest first
    Ls {
        /// The directory of the project [default: .]
        #[arg(value_name = "DIR", conflicts_with = "directory")]
        dir: Option<PathBuf>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// The project.
        #[command(flatten)]
        project: ProjectArgs,
        /// How it is printed
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
        format: DocumentFormat,
    },
    /// Show one run: what it read, did and left
    Show {
        /// The run: `latest`, its id, or at least 4 letters of the id's beginning or end
        #[arg(value_name = "RUN", default_value = "latest", value_parser = run_name)]
        run: RunName,
        /// The project.
        #[command(flatten)]
        project: ProjectArgs,
        /// How it is printed
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
        format: DocumentFormat,
    },
    /// Compare two runs by their manifests: inputs, queries, environment, results
    Diff {
        /// The run to compare with
        #[arg(value_name = "BEFORE", value_parser = run_name)]
        before: RunName,
        /// The run to compare
        #[arg(value_name = "AFTER", default_value = "latest", value_parser = run_name)]
        after: RunName,
        /// The project.
        #[command(flatten)]
        project: ProjectArgs,
        /// How it is printed
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
        format: DocumentFormat,
    },
    /// Keep what a replay of a run needs: its entries from `cache gc` and `cache evict`, the Delta versions that it read and
    /// published from every `table maintain`
    Keep {
        /// The run: `latest`, its id, or at least 4 letters of the id's beginning or end
        #[arg(value_name = "RUN", value_parser = run_name)]
        run: RunName,
        /// The project.
        #[command(flatten)]
        project: ProjectArgs,
    },
    /// Keep a run no longer
    Release {
        /// The run: `latest`, its id, or at least 4 letters of the id's beginning or end
        #[arg(value_name = "RUN", value_parser = run_name)]
        run: RunName,
        /// The project.
        #[command(flatten)]
        project: ProjectArgs,
    },
    /// Run one again over the inputs that it read, and compare the rows; exit code 1 if they differ or cannot be compared
    Replay {
        /// The run: `latest`, its id, or at least 4 letters of the id's beginning or end
        #[arg(value_name = "RUN", value_parser = run_name)]
        run: RunName,
        /// Where the scratch caches lie while it runs [default: where the system keeps temporary files]
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
        /// The project.
        #[command(flatten)]
        project: ProjectArgs,
        /// How it is printed
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = DocumentFormat::Text)]
        format: DocumentFormat,
    },
}

fn run_name(text: &str) -> Result<RunName, String> {
    RunName::parse(text).map_err(|error| error.to_string())
}

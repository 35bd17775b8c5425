//! `kv DIR …`: the arguments.

use std::path::PathBuf;
use std::time::Duration;

use alluvium_disk_kv_cache::{Durability, Settings};
use clap::{Args, Subcommand, ValueEnum};

/// `kv DIR …`
#[derive(Debug, Args)]
pub struct KvArgs {
    /// The directory of the cache
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// How the directory is opened.
    #[command(flatten)]
    pub open: OpenArgs,
    /// What to do with it.
    #[command(subcommand)]
    pub command: KvCommand,
}

/// How a directory is opened, whatever lies in it.
#[derive(Debug, Clone, Args)]
pub struct OpenArgs {
    /// What a write survives [default: process for caches, system for all else]
    #[arg(long, value_name = "WHAT", value_enum, global = true, help_heading = "Opening")]
    durability: Option<Survives>,
    /// Open it even on a network file system; one host at a time, or the data is lost
    #[arg(long, global = true, help_heading = "Opening")]
    allow_network_fs: bool,
}

impl OpenArgs {
    /// The settings of a store that would otherwise be opened with `durability`.
    pub fn store(&self, durability: Durability) -> Settings {
        let durability = match self.durability {
            None => durability,
            Some(Survives::Process) => Durability::Process,
            Some(Survives::System) => Durability::System,
        };
        Settings::new().with_durability(durability).with_allow_network_fs(self.allow_network_fs)
    }
}

/// What a write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Survives {
    /// The death of any process
    Process,
    /// A power cut too: every write is synced to the device
    System,
}

/// What can be done with a directory.
#[derive(Debug, Subcommand)]
pub enum KvCommand {
    /// Show entries, volume, hits and settings
    Stats {
        /// How they are printed
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// List the keys, in their order
    Ls(LsArgs),
    /// Write the value of a key, as it is, and a newline; exit code 1 if there is none
    Get {
        /// The key
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Store a text; makes the cache if there is none
    Set(SetArgs),
    /// Remove an entry
    Delete {
        /// The key
        #[command(flatten)]
        key: KeyArgs,
        /// How the count is printed
        #[command(flatten)]
        print: PrintArgs,
    },
    /// Remove all entries that have a tag
    Evict {
        /// The tag
        #[arg(value_name = "TAG")]
        tag: String,
        /// How the count is printed
        #[command(flatten)]
        print: PrintArgs,
    },
    /// Remove all entries that have expired
    Expire(PrintArgs),
    /// Remove what has expired, then entries by the eviction policy until the size limit is kept
    Cull(PrintArgs),
    /// Look everything over; exit code 1 if something is wrong and was not mended
    Check {
        /// Mend what is wrong, by removing entries that cannot be read
        #[arg(long)]
        fix: bool,
        /// How many shards the cache had, where nothing is left in it that tells
        #[arg(long, value_name = "N", requires = "fix")]
        shards: Option<usize>,
        /// How the problems are printed
        #[command(flatten)]
        print: PrintArgs,
    },
    /// Remove all entries; settings and statistics stay
    Clear(PrintArgs),
    /// Answer one JSON request a line (see docs/reference/kv-shell.md); makes what is named and not there
    Shell(ShellArgs),
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct PrintArgs {
    /// How it is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// For people, or as a document of the contracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One enveloped document
    Json,
}

/// A key.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// The key: text as it is
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Read KEY as JSON, for keys of other kinds: 42, '["orders", 7]', '{"base64": "/w=="}'
    #[arg(long)]
    pub json_key: bool,
}

/// `kv DIR ls`
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only keys that are text and begin with this
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Text: a line each, printable text as it is and other keys as JSON. JSON: one document of all keys
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `kv DIR set`
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The key
    #[command(flatten)]
    pub key: KeyArgs,
    /// The value. One that starts with `-` goes behind `--`
    #[arg(value_name = "VALUE")]
    pub value: String,
    /// Seconds until it expires [default: never]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub ttl: Option<Duration>,
    /// A tag to evict it by; may be repeated
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
}

/// `kv DIR shell`
#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The longest request, in bytes; a longer line is refused, and skipped
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_line_bytes: u64,
    /// The name under which others see the locks held here [default: the process id]
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "seconds are 0 or more, and fewer than 2^64".to_owned())
}

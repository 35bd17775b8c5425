//! A pipeline folder in a temporary directory, and the `alluvium` binary run on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cargo::{self, WHOLE_WORKSPACE};
use crate::metadata::Metadata;

/// The example that is measured and read by others.
const FLIGHTS: &str = "examples/flights/";

/// Variables that the binary reads.
const OURS: [&str; 3] = ["ALLUVIUM_CACHE_ROOT", "ALLUVIUM_KILL_AT", "ALLUVIUM_LOG"];

/// Copies the committed files of examples/flights, and so no output or cache of a run there, into `to`.
pub fn copy_flights(root: &Path, to: &Path) -> Result<()> {
    let files = cargo::committed_files(root)?;
    let mut copied = 0;
    for file in &files {
        let Some(name) = file.strip_prefix(FLIGHTS) else {
            continue;
        };
        let target = to.join(name);
        std::fs::create_dir_all(target.parent().unwrap_or(to))
            .and_then(|()| std::fs::copy(root.join(file), &target))
            .with_context(|| format!("cannot copy {file} to {}", target.display()))?;
        copied += 1;
    }
    if copied == 0 {
        bail!("{FLIGHTS} holds no file that git knows or would add");
    }
    Ok(())
}

/// Builds the workspace as the whole check does, and returns its `alluvium`.
///
/// `cargo run -p alluvium-cli` would unify the features of that package alone and could compile a second
/// engine; the binary of the whole-workspace build is the one the other steps made.
pub fn debug_binary(root: &Path) -> Result<PathBuf> {
    let mut build = cargo::cargo(root);
    build.arg("build").args(WHOLE_WORKSPACE).args(crate::ci::WITH_DEV_FEATURES);
    cargo::run(&mut build)?;
    Ok(Metadata::load(root)?.target_directory.join("debug").join(format!("alluvium{}", std::env::consts::EXE_SUFFIX)))
}

/// The `alluvium` binary; its messages on standard error are left out unless it fails.
pub struct Alluvium {
    binary: PathBuf,
}

impl Alluvium {
    /// The binary at `binary`.
    pub fn new(binary: &Path) -> Result<Self> {
        let binary = binary.canonicalize().with_context(|| format!("no binary at {}", binary.display()))?;
        Ok(Self { binary })
    }

    /// Where the binary lies.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Runs it with `args` and returns the payload of the document that it prints.
    pub fn payload(&self, args: &[&str], dir: &Path) -> Result<Value> {
        let document = json(Command::new(&self.binary).args(args).arg(dir))?;
        match document {
            Value::Object(mut document) => document.remove("payload"),
            _ => None,
        }
        .with_context(|| format!("`alluvium {}` printed no enveloped document", args.join(" ")))
    }
}

/// Runs `command` and reads its standard output as one JSON document.
pub fn json(command: &mut Command) -> Result<Value> {
    plain_environment(command);
    let output = command.output().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed something that is not JSON"))
}

/// Leaves out of `command`'s environment what would make a run differ from one machine to the next.
pub fn plain_environment(command: &mut Command) {
    for name in OURS {
        command.env_remove(name);
    }
}

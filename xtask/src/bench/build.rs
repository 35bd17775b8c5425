//! The binaries that are measured.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo;
use crate::ci::WITH_DEV_FEATURES;
use crate::metadata::Metadata;

/// The directory with `alluvium` and the binaries of the bench crate: release builds, made together whatever is measured,
/// so that all benchmarks share one engine; or where it is only to be seen that everything runs, what tests build.
pub fn build(root: &Path, metadata: &Metadata, quick: bool) -> Result<PathBuf> {
    let mut build = cargo::cargo(root);
    build.arg("build");
    let profile = if quick {
        build.args(cargo::WHOLE_WORKSPACE).args(WITH_DEV_FEATURES);
        "debug"
    } else {
        build.args(["--release", "--locked", "-p", "alluvium-cli", "-p", "alluvium-bench"]);
        "release"
    };
    cargo::run(&mut build)?;
    Ok(metadata.target_directory.join(profile))
}

/// A binary that [`build`] made in `dir`.
pub fn binary(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// A benchmark of the bench crate, the one `given` or else the one [`build`] makes, and an empty place for what it writes.
pub fn bench(
    root: &Path,
    metadata: &Metadata,
    given: Option<&Path>,
    quick: bool,
    name: &str,
) -> Result<(Command, PathBuf)> {
    let program = match given {
        Some(given) => given.canonicalize().with_context(|| format!("no binary at {}", given.display()))?,
        None => binary(&build(root, metadata, quick)?, name),
    };
    let dir = metadata.target_directory.join(name);
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok((Command::new(program), dir)),
    }
}

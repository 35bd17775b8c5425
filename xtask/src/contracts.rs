//! Contract schemas: export them with the binary, and compare or update `docs/contracts`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{self, WHOLE_WORKSPACE};
use crate::metadata::Metadata;

/// Where the exported contracts are committed.
const COMMITTED: &str = "docs/contracts";

/// Arguments of `cargo xtask contracts`.
#[derive(clap::Args)]
pub struct Args {
    /// Change nothing; fail where docs/contracts is not what the binary exports.
    #[arg(long)]
    pub check: bool,
}

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Export or check the contracts of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let binary = debug_binary(root)?;
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    cargo::run(Command::new(binary).current_dir(root).args(["contracts", "export"]).arg(scratch.path()))?;
    let exported = files(scratch.path())?;
    if exported.is_empty() {
        bail!("`alluvium contracts export` wrote nothing");
    }

    let committed = root.join(COMMITTED);
    if !args.check {
        std::fs::create_dir_all(&committed).with_context(|| format!("cannot make {COMMITTED}"))?;
        for (name, bytes) in &exported {
            std::fs::write(committed.join(name), bytes).with_context(|| format!("cannot write {COMMITTED}/{name}"))?;
        }
    }
    let drift = drift(&files(&committed)?, &exported);
    for problem in &drift {
        eprintln!("contracts: {problem}");
    }
    if !drift.is_empty() {
        bail!("{COMMITTED} and the binary disagree about {} file(s)", drift.len());
    }
    eprintln!("contracts: {} files are what the binary exports", exported.len());
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

fn drift(committed: &Files, exported: &Files) -> Vec<String> {
    let mut drift = Vec::new();
    for (name, bytes) in exported {
        match committed.get(name) {
            None => drift.push(format!("{COMMITTED}/{name} is missing: `cargo xtask contracts` writes it")),
            Some(old) if old != bytes => drift.push(format!(
                "{COMMITTED}/{name} differs: `cargo xtask contracts` rewrites it; a published version may only gain a successor"
            )),
            Some(_) => {}
        }
    }
    for name in committed.keys().filter(|name| !exported.contains_key(*name)) {
        drift.push(format!(
            "{COMMITTED}/{name} is no longer exported: versions are append-only, so delete it only if it was never released"
        ));
    }
    drift
}

fn files(dir: &Path) -> Result<Files> {
    let mut files = Files::new();
    if !dir.exists() {
        return Ok(files);
    }
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.insert(name, bytes);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_drift_names_its_file() {
        let set = |files: &[(&str, &str)]| -> Files {
            files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect()
        };
        let committed = set(&[("same", "1"), ("changed", "1"), ("gone", "1")]);
        let exported = set(&[("same", "1"), ("changed", "2"), ("new", "1")]);
        let drift = drift(&committed, &exported);
        assert_eq!(drift.len(), 3, "{drift:?}");
        assert!(drift[0].starts_with("docs/contracts/changed differs"), "{drift:?}");
        assert!(drift[1].starts_with("docs/contracts/new is missing"), "{drift:?}");
        assert!(drift[2].starts_with("docs/contracts/gone is no longer exported"), "{drift:?}");
    }
}

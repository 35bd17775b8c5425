//! Golden snapshots: run every test named `…golden…`, and compare or rewrite what they are compared with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::cargo::{self, WHOLE_WORKSPACE};

/// What the name of every golden test contains.
const GOLDEN: &str = "golden";

/// Arguments of `cargo xtask snapshots`.
#[derive(clap::Args)]
pub struct Args {
    /// Change nothing; fail where a snapshot is out of date, unreviewed or read by no golden test.
    #[arg(long)]
    pub check: bool,
}

/// Regenerate or check the snapshots of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let read = scratch.path().join("read");
    let mut command = cargo::cargo(root);
    if cargo::has_subcommand(root, "nextest") {
        command.args(["nextest", "run"]).args(WHOLE_WORKSPACE).args(["-E", &format!("test({GOLDEN})")]);
    } else {
        command.args(["test", "--lib", "--bins", "--tests", "--examples"]).args(WHOLE_WORKSPACE).arg(GOLDEN);
    }
    command
        .env("INSTA_UPDATE", if args.check { "no" } else { "always" })
        .env_remove("INSTA_FORCE_PASS")
        // Insta appends the path of each snapshot that a test reads; it is how cargo-insta finds the rest.
        .env("INSTA_SNAPSHOT_REFERENCES_FILE", &read);
    cargo::run(&mut command).context(if args.check {
        "golden tests: review the difference, then `cargo xtask snapshots` accepts it"
    } else {
        "golden tests"
    })?;

    let read = std::fs::read_to_string(&read)
        .with_context(|| format!("no test whose name contains `{GOLDEN}` read a snapshot"))?;
    let problems = problems(&snapshot_files(root)?, &real(read.lines().map(PathBuf::from)));
    for problem in &problems {
        eprintln!("snapshots: {problem}");
    }
    if !problems.is_empty() {
        bail!("{} snapshot(s) want a decision", problems.len());
    }
    Ok(())
}

fn problems(files: &[PathBuf], read: &BTreeSet<PathBuf>) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        let shown = file.display();
        if file.extension().is_some_and(|extension| extension == "new") {
            problems.push(format!("{shown}: unreviewed: `cargo insta review` accepts or rejects it"));
        } else if !real([file.clone()]).is_subset(read) {
            problems.push(format!(
                "{shown}: read by no test whose name contains `{GOLDEN}`: delete it, or rename the test"
            ));
        }
    }
    problems
}

/// Every snapshot in the directories that hold sources; ignored ones (`*.snap.new`) too.
fn snapshot_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs: Vec<PathBuf> = ["crates", "tests", "xtask"].map(|dir| root.join(dir)).into();
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                dirs.push(path);
            } else if name.ends_with(".snap") || name.ends_with(".snap.new") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Canonical paths: insta builds its own from `file!()`, with `..` in them.
fn real(paths: impl IntoIterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    paths.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unread_and_an_unreviewed_snapshot_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = dir.path().join("crates/a/src/snapshots");
        std::fs::create_dir_all(&snapshots).unwrap();
        for other in ["tests", "xtask"] {
            std::fs::create_dir(dir.path().join(other)).unwrap();
        }
        for name in ["read.snap", "unread.snap", "fresh.snap.new", "notes.md"] {
            std::fs::write(snapshots.join(name), "x").unwrap();
        }
        let read = real([dir.path().join("crates/a/src/../src/snapshots/read.snap")]);

        let problems = problems(&snapshot_files(dir.path()).unwrap(), &read);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("fresh.snap.new: unreviewed"), "{problems:?}");
        assert!(problems[1].contains("unread.snap: read by no test"), "{problems:?}");
    }
}

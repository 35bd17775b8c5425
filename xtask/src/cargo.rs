//! How every task calls cargo and git: one set of build flags, a clean environment, streaming output.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Flags of every step that compiles. One feature set and one profile (dev) throughout, so that the
/// engine is compiled once for checking and once for building, whichever steps run.
pub const WHOLE_WORKSPACE: [&str; 3] = ["--workspace", "--all-features", "--locked"];

/// The directory of the workspace manifest.
pub fn workspace_root() -> Result<PathBuf> {
    // Cargo sets the variable when it runs a binary; the compiled-in value serves a binary run directly.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let own = PathBuf::from(own);
    let root = own.parent().context("xtask has no parent directory")?;
    if !root.join("Cargo.lock").exists() {
        bail!("{} is not the workspace root: run this as `cargo xtask` inside the checkout", root.display());
    }
    Ok(root.to_path_buf())
}

/// A cargo command in `dir`, without the variables that cargo set for xtask itself.
///
/// Build scripts that ask to be rerun when `CARGO_MANIFEST_DIR` or `CARGO_PKG_*` changes (ring does)
/// would see xtask's values, differ from a plain `cargo build`, and recompile the engine each time.
pub fn cargo(dir: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(dir);
    without_own_variables(command)
}

/// `command` without the variables that cargo set for xtask itself.
pub fn without_own_variables(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(set_by_cargo_run) {
            command.env_remove(name);
        }
    }
    command
}

fn set_by_cargo_run(name: &str) -> bool {
    name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_MANIFEST_")
        || name.starts_with("CARGO_BIN_")
        || matches!(name, "CARGO" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR")
}

/// Whether `cargo NAME` is installed.
pub fn has_subcommand(dir: &Path, name: &str) -> bool {
    cargo(dir).args([name, "--version"]).output().is_ok_and(|output| output.status.success())
}

/// Print `command`, run it with its output streaming, and fail unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Run `command` and return its standard output; its standard error streams.
pub fn read(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed ({})", output.status);
    }
    Ok(output.stdout)
}

/// The files of the change under review: tracked, or untracked and not ignored, relative to `root`.
pub fn committed_files(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = String::from_utf8(read(&mut git)?).context("git lists a path that is not UTF-8")?;
    let mut files: Vec<String> = listed
        .split_terminator('\0')
        // A file deleted but not yet staged is still listed.
        .filter(|file| root.join(file).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut shown = program.file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_settings_of_the_user_survive_and_those_of_this_run_do_not() {
        for kept in
            ["CARGO_TARGET_DIR", "CARGO_HOME", "CARGO_INCREMENTAL", "CARGO_TERM_COLOR", "CARGO_PROFILE_DEV_DEBUG"]
        {
            assert!(!set_by_cargo_run(kept), "{kept} is the user's");
        }
        for dropped in ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_PKG_VERSION", "CARGO_BIN_NAME"] {
            assert!(set_by_cargo_run(dropped), "{dropped} is xtask's own");
        }
    }
}

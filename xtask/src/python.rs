//! A virtual environment of Python with what a requirements file says, made once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo;

/// Makes the environment at `venv` unless it is there with exactly these requirements (a file below `root`), and returns
/// its Python.
pub fn venv(root: &Path, requirements: &str, venv: &Path) -> Result<PathBuf> {
    let python = venv.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let wanted =
        std::fs::read_to_string(root.join(requirements)).with_context(|| format!("cannot read {requirements}"))?;
    // Written last, so that an interrupted installation is made anew.
    let installed = venv.join("requirements.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    cargo::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv))
        .context("Python 3.11 or newer with its venv module is needed")?;
    cargo::run(
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(root.join(requirements)),
    )?;
    std::fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}

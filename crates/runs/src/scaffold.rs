//! A new project that runs.

use std::path::{Path, PathBuf};

use crate::project::PROJECT_FILE;

const FILES: [(&str, &str); 5] = [
    (PROJECT_FILE, include_str!("scaffold/alluvium.toml")),
    ("data/orders.csv", include_str!("scaffold/orders.csv")),
    ("views/orders_clean.sql", include_str!("scaffold/orders_clean.sql")),
    ("views/daily_revenue.sql", include_str!("scaffold/daily_revenue.sql")),
    (".gitignore", "/.alluvium/\n/out/\n"),
];

/// A project cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScaffoldError {
    /// A file of the project is there already; nothing was written.
    #[error("{} is there already; nothing was written: choose another directory", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ScaffoldError {
    /// Whether the user named a directory that cannot be used.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }
}

/// Writes a small project into `dir`: a CSV source, two views, one output. Returns the files.
///
/// # Errors
/// [`ScaffoldError::Exists`] when any of its files is there already, before anything is written.
pub fn scaffold(dir: &Path) -> Result<Vec<PathBuf>, ScaffoldError> {
    let paths: Vec<PathBuf> = FILES.iter().map(|(name, _)| dir.join(name)).collect();
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        return Err(ScaffoldError::Exists { path: path.clone() });
    }
    for (path, (_, content)) in paths.iter().zip(FILES) {
        let write = |path: &PathBuf| {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(path, content)
        };
        write(path).map_err(|source| ScaffoldError::Write { path: path.clone(), source })?;
    }
    Ok(paths)
}

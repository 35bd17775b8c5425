//! Crates whose features leave code out: linted with every combination of them, and tested with those that no other step
//! tests.
//!
//! Every other step builds with all features; here they are taken away. Only light crates belong in the list: each
//! combination compiles the crate again.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cargo;

/// A crate and the combinations of its features, as cargo takes them. All of them together is what the other steps build.
const CRATES: [(&str, &[&str]); 2] =
    [("alluvium-contracts", &["", "toml"]), ("alluvium-disk-kv-cache", &["", "lmdb", "sled", "lmdb,sled"])];

/// Lint and test them in the workspace at `root`.
pub fn run(root: &Path) -> Result<()> {
    for (package, combinations) in CRATES {
        for features in combinations {
            let cargo = |task: &[&str], rest: &[&str]| {
                let mut command = cargo::cargo(root);
                command.args(task).args(["--locked", "-p", package, "--no-default-features", "--features", features]);
                cargo::run(command.args(rest))
                    .with_context(|| format!("{package} with the features `{features}` and no others"))
            };
            cargo(&["clippy", "--all-targets"], &["--", "-D", "warnings"])?;
            if !features.contains(',') {
                cargo(&["test", "--lib", "--tests"], &[])?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_features_is_listed() {
        let root = cargo::workspace_root().unwrap();
        for (package, combinations) in CRATES {
            let dir = package.strip_prefix("alluvium-").unwrap();
            let manifest = std::fs::read_to_string(root.join("crates").join(dir).join("Cargo.toml")).unwrap();
            let manifest: toml::Table = manifest.parse().unwrap();
            let features = manifest["features"].as_table().unwrap().keys().filter(|name| *name != "default").count();
            assert_eq!(combinations.len(), 1 << features, "{package}");
        }
    }
}

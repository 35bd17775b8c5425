//! Each library crate as its users meet it: alone, from outside the workspace, and as a package.
//!
//! Inside the workspace a crate borrows the features that its neighbours turn on; here nobody does.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::cargo;
use crate::metadata::{Metadata, Package};

/// Arguments of `cargo xtask consumers`.
#[derive(clap::Args)]
pub struct Args {
    /// Check these crates only; all library crates unless given.
    #[arg(value_name = "CRATE")]
    crates: Vec<String>,
}

/// Check and package the library crates of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let metadata = Metadata::load(root)?;
    let libraries: Vec<&Package> = metadata
        .members()
        .filter(|package| package.is_library() && package.manifest_path.starts_with(root.join("crates")))
        .collect();
    let unknown: Vec<&str> = args
        .crates
        .iter()
        .map(String::as_str)
        .filter(|name| !libraries.iter().any(|package| package.name == *name))
        .collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = libraries.iter().map(|package| package.name.as_str()).collect();
        bail!("no library crate is called {}; there are {}", unknown.join(", "), known.join(", "));
    }
    let wanted = libraries.iter().filter(|package| args.crates.is_empty() || args.crates.contains(&package.name));
    let profiles = profiles(root)?;
    for package in wanted {
        for default_features in [true, false] {
            eprintln!("consumers: {} with default-features = {default_features}", package.name);
            check(root, &metadata, package, default_features, &profiles)?;
        }
        eprintln!("consumers: {} as a package", package.name);
        pack(root, &metadata, package)?;
    }
    Ok(())
}

fn check(root: &Path, metadata: &Metadata, package: &Package, default_features: bool, profiles: &Value) -> Result<()> {
    let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
    let manifest = manifest(package, default_features, profiles)?;
    let library = format!("use {} as _;\n", package.name.replace('-', "_"));
    std::fs::write(dir.path().join("Cargo.toml"), manifest)
        .and_then(|()| std::fs::create_dir(dir.path().join("src")))
        .and_then(|()| std::fs::write(dir.path().join("src/lib.rs"), library))
        // The versions that the workspace is tested with; cargo drops those the consumer does not need.
        .and_then(|()| std::fs::copy(root.join("Cargo.lock"), dir.path().join("Cargo.lock")))
        .with_context(|| format!("cannot write a consumer of {}", package.name))?;
    let mut command = cargo::cargo(dir.path());
    command.args(["check", "--quiet"]).arg("--target-dir").arg(&metadata.target_directory);
    cargo::run(&mut command)
        .with_context(|| format!("{} does not build alone with default-features = {default_features}", package.name))
}

/// The consumer's manifest: a workspace of its own, with the profiles of ours so that builds are shared.
fn manifest(package: &Package, default_features: bool, profiles: &Value) -> Result<String> {
    let dir = package.manifest_path.parent().and_then(Path::to_str).context("the crate's path is not UTF-8")?;
    let mut dependency = Table::new();
    dependency.insert("path".to_owned(), dir.into());
    dependency.insert("default-features".to_owned(), default_features.into());
    let mut manifest: Table = "[package]\nname = \"consumer\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n"
        .parse()
        .context("cannot write a consumer's manifest")?;
    manifest.insert("dependencies".to_owned(), Table::from_iter([(package.name.clone(), dependency.into())]).into());
    manifest.insert("profile".to_owned(), profiles.clone());
    Ok(manifest.to_string())
}

fn profiles(root: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(root.join("Cargo.toml")).context("cannot read Cargo.toml")?;
    let manifest: Table = text.parse().context("cannot parse Cargo.toml")?;
    Ok(manifest.get("profile").cloned().unwrap_or_else(|| Table::new().into()))
}

/// Package the crate together with those of ours that it needs: cargo resolves unpublished crates only
/// among the packages of one call.
fn pack(root: &Path, metadata: &Metadata, package: &Package) -> Result<()> {
    let mut command = cargo::cargo(root);
    // Building from the package would compile the engine once more; `check` has built the same sources.
    command.args(["package", "--quiet", "--no-verify", "--allow-dirty"]);
    for name in ours(metadata, package) {
        command.args(["-p", name]);
    }
    cargo::run(&mut command).with_context(|| format!("{} cannot be packaged", package.name))
}

/// The names of `package` and of every member it depends on, however far.
fn ours<'a>(metadata: &'a Metadata, package: &'a Package) -> BTreeSet<&'a str> {
    let mut ids = vec![package.id.as_str()];
    let mut names = BTreeSet::new();
    while let Some(id) = ids.pop() {
        let Some(member) = metadata.members().find(|member| member.id == id) else {
            continue;
        };
        if names.insert(member.name.as_str())
            && let Some(node) = metadata.resolve.nodes.iter().find(|node| node.id == id)
        {
            ids.extend(node.deps.iter().map(|dep| dep.pkg.as_str()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_names_the_crate_its_features_and_our_profiles() {
        let package = Package {
            id: "a".to_owned(),
            name: "alluvium-a".to_owned(),
            version: "0.1.0".to_owned(),
            manifest_path: "/src/crates/a/Cargo.toml".into(),
            targets: Vec::new(),
        };
        let profiles: Table = "[dev]\ndebug = \"line-tables-only\"".parse().unwrap();
        let text = manifest(&package, false, &profiles.into()).unwrap();
        let read: Table = text.parse().unwrap();
        assert_eq!(read["dependencies"]["alluvium-a"]["path"].as_str(), Some("/src/crates/a"), "{text}");
        assert_eq!(read["dependencies"]["alluvium-a"]["default-features"].as_bool(), Some(false), "{text}");
        assert_eq!(read["profile"]["dev"]["debug"].as_str(), Some("line-tables-only"), "{text}");
        assert!(read.contains_key("workspace"), "{text}");
    }

    #[test]
    fn a_crate_is_packaged_with_its_own_of_ours_and_no_others() {
        let metadata: Metadata = serde_json::from_str(
            r#"{"target_directory": "t", "workspace_members": ["a", "b", "c", "d"],
                "packages": [
                    {"id": "a", "name": "alluvium-a", "version": "1.0.0", "manifest_path": "a", "targets": []},
                    {"id": "b", "name": "alluvium-b", "version": "1.0.0", "manifest_path": "b", "targets": []},
                    {"id": "c", "name": "alluvium-c", "version": "1.0.0", "manifest_path": "c", "targets": []},
                    {"id": "d", "name": "alluvium-d", "version": "1.0.0", "manifest_path": "d", "targets": []},
                    {"id": "x", "name": "serde", "version": "1.0.0", "manifest_path": "x", "targets": []}],
                "resolve": {"nodes": [
                    {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]}]},
                    {"id": "b", "deps": [{"pkg": "c", "dep_kinds": [{"kind": "dev"}]}, {"pkg": "x", "dep_kinds": [{"kind": null}]}]},
                    {"id": "c", "deps": []}, {"id": "d", "deps": []}, {"id": "x", "deps": []}]}}"#,
        )
        .unwrap();
        let package = &metadata.packages[0];
        assert_eq!(ours(&metadata, package), BTreeSet::from(["alluvium-a", "alluvium-b", "alluvium-c"]));
    }
}

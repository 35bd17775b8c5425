//! The part of `cargo metadata` that the tasks read.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::cargo;

/// Output of `cargo metadata --format-version 1`.
#[derive(Deserialize)]
pub struct Metadata {
    /// Every package of the resolved graph.
    pub packages: Vec<Package>,
    /// Package ids of the members.
    pub workspace_members: Vec<String>,
    /// Where cargo builds.
    pub target_directory: PathBuf,
    /// The resolved graph.
    pub resolve: Resolve,
}

/// One package.
#[derive(Deserialize)]
pub struct Package {
    /// Opaque id, unique in the graph.
    pub id: String,
    /// Name in the manifest.
    pub name: String,
    /// Version, resolved.
    pub version: String,
    /// Absolute path of the manifest.
    pub manifest_path: PathBuf,
    /// What the package builds.
    pub targets: Vec<Target>,
}

/// One target of a package.
#[derive(Deserialize)]
pub struct Target {
    /// `lib`, `bin`, `test` …
    pub kind: Vec<String>,
}

/// The resolved graph.
#[derive(Deserialize)]
pub struct Resolve {
    /// One node a package.
    pub nodes: Vec<Node>,
}

/// One package of the resolved graph and what it depends on.
#[derive(Deserialize)]
pub struct Node {
    /// Package id.
    pub id: String,
    /// Resolved dependencies.
    pub deps: Vec<NodeDep>,
}

/// One resolved dependency.
#[derive(Deserialize)]
pub struct NodeDep {
    /// Package id of the dependency.
    pub pkg: String,
    /// How it is depended on: one element a table of the manifest.
    pub dep_kinds: Vec<DepKind>,
}

/// The table of the manifest that names a dependency.
#[derive(Deserialize)]
pub struct DepKind {
    /// `None` for a normal dependency, else `dev` or `build`.
    pub kind: Option<String>,
}

impl Metadata {
    /// Ask cargo about the workspace at `root`, all features on.
    pub fn load(root: &Path) -> Result<Self> {
        let mut command = cargo::cargo(root);
        command.args(["metadata", "--quiet", "--format-version", "1", "--all-features"]);
        serde_json::from_slice(&cargo::read(&mut command)?).context("cannot read the output of cargo metadata")
    }

    /// The workspace's members.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| self.workspace_members.contains(&package.id))
    }
}

impl Package {
    /// Whether others can depend on it.
    pub fn is_library(&self) -> bool {
        self.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "lib"))
    }
}

//! The dependency graph against the declared layers, and the crates that some of ours must never reach.
//!
//! The rules read a plain [`Graph`], so a test can plant an edge without a workspace around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use anyhow::{Result, bail};

use crate::metadata::Metadata;

/// The layer of every member. A member depends on members of strictly lower layers only.
///
/// The crate that the design names and no issue has built yet is in the table already.
const LAYERS: &[(&str, u8)] = &[
    ("alluvium-contracts", 0),
    ("alluvium-disk-kv-cache", 0),
    ("alluvium-telemetry", 1),
    ("alluvium-functions", 1),
    ("alluvium-write-policy", 2),
    ("alluvium-profile", 2),
    ("alluvium-datasets", 3),
    ("alluvium-ledgers", 4),
    ("alluvium-plans", 4),
    ("alluvium-delta-cache", 5),
    ("alluvium-runs", 6),
    ("alluvium-cli", 7),
    ("alluvium-code-graph", 7),
    ("alluvium-tests", 8),
    ("alluvium-bench", 8),
    ("xtask", 8),
];

/// What a crate must not reach, through its own dependencies of any kind and theirs of kind normal or build.
struct Forbidden {
    from: &'static str,
    /// Names, or prefixes where they end in `*`.
    never: &'static [&'static str],
    reason: &'static str,
}

const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        from: "alluvium-contracts",
        never: &["arrow*", "datafusion*", "deltalake*", "opentelemetry*", "parquet"],
        reason: "contracts are read by programs that have no engine",
    },
    Forbidden {
        from: "alluvium-disk-kv-cache",
        never: &["alluvium-*", "arrow*", "datafusion*", "deltalake*", "opentelemetry*", "parquet"],
        reason: "the key-value cache is embedded alone",
    },
    Forbidden {
        from: "alluvium-telemetry",
        never: &["datafusion*", "deltalake*"],
        reason: "telemetry observes the engine through plain values",
    },
];

/// The table of a manifest that an edge comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Build,
    Dev,
}

/// Resolved dependencies by package name (versions of one name share a node, which can only add reach).
#[derive(Default)]
struct Graph {
    members: BTreeSet<String>,
    edges: BTreeMap<String, Vec<(String, Kind)>>,
}

/// Check the workspace at `root`.
pub fn run(root: &Path) -> Result<()> {
    let graph = Graph::of(&Metadata::load(root)?);
    let problems = check(&graph, LAYERS, FORBIDDEN);
    for problem in &problems {
        eprintln!("layers: {problem}");
    }
    if !problems.is_empty() {
        bail!("{} edge(s) break the layers declared in xtask/src/layers.rs", problems.len());
    }
    eprintln!("layers: {} members, every edge points down", graph.members.len());
    Ok(())
}

fn check(graph: &Graph, layers: &[(&str, u8)], forbidden: &[Forbidden]) -> Vec<String> {
    let layers: BTreeMap<&str, u8> = layers.iter().copied().collect();
    let mut problems = Vec::new();
    for member in &graph.members {
        let Some(layer) = layers.get(member.as_str()) else {
            problems.push(format!("{member} has no layer: declare it in LAYERS and in ARCHITECTURE.md"));
            continue;
        };
        for (to, kind) in graph.from(member) {
            if !graph.members.contains(to) {
                continue;
            }
            // An undeclared target is reported as a member of its own.
            let Some(below) = layers.get(to.as_str()) else {
                continue;
            };
            if below >= layer {
                let kind = match kind {
                    Kind::Normal => "depends on",
                    Kind::Build => "build-depends on",
                    Kind::Dev => "dev-depends on",
                };
                problems.push(format!(
                    "{member} (layer {layer}) {kind} {to} (layer {below}): only a lower layer is allowed"
                ));
            }
        }
    }
    for rule in forbidden {
        for path in graph.reach(rule.from, rule.never) {
            problems.push(format!("{}: {}", path.join(" -> "), rule.reason));
        }
    }
    problems
}

impl Graph {
    fn of(metadata: &Metadata) -> Self {
        let names: BTreeMap<&str, &str> =
            metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
        let name = |id: &str| names.get(id).map_or_else(|| id.to_owned(), |name| (*name).to_owned());
        let mut graph =
            Self { members: metadata.members().map(|package| package.name.clone()).collect(), edges: BTreeMap::new() };
        for node in &metadata.resolve.nodes {
            let edges = graph.edges.entry(name(&node.id)).or_default();
            for dep in &node.deps {
                for kind in &dep.dep_kinds {
                    let kind = match kind.kind.as_deref() {
                        None => Kind::Normal,
                        Some("build") => Kind::Build,
                        Some(_) => Kind::Dev,
                    };
                    edges.push((name(&dep.pkg), kind));
                }
            }
        }
        graph
    }

    fn from(&self, name: &str) -> &[(String, Kind)] {
        self.edges.get(name).map_or(&[], Vec::as_slice)
    }

    /// The shortest path from `start` to each package whose name matches one of `never`.
    fn reach(&self, start: &str, never: &[&str]) -> Vec<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        let mut found = Vec::new();
        while let Some(at) = queue.pop_front() {
            for (to, kind) in self.from(at) {
                // The dev-dependencies of what we depend on are never built.
                if (*kind == Kind::Dev && at != start) || to == start || came_from.contains_key(to.as_str()) {
                    continue;
                }
                came_from.insert(to, at);
                if never.iter().any(|pattern| matches(pattern, to)) {
                    // What lies behind a forbidden crate is its own business; one path is enough.
                    let mut path = vec![to.clone()];
                    let mut at = to.as_str();
                    while let Some(before) = came_from.get(at) {
                        path.push((*before).to_owned());
                        at = before;
                    }
                    path.reverse();
                    found.push(path);
                } else {
                    queue.push_back(to);
                }
            }
        }
        found
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo;

    const SMALL: &[(&str, u8)] = &[("base", 0), ("kv", 0), ("top", 1)];
    const RULE: &[Forbidden] = &[Forbidden { from: "base", never: &["arrow*", "parquet"], reason: "base is light" }];

    fn graph(edges: &[(&str, &str, Kind)]) -> Graph {
        let mut graph = Graph { members: ["base", "kv", "top"].map(str::to_owned).into(), ..Graph::default() };
        for (from, to, kind) in edges {
            graph.edges.entry((*from).to_owned()).or_default().push(((*to).to_owned(), *kind));
        }
        graph
    }

    #[test]
    fn edges_that_point_down_pass() {
        let graph = graph(&[
            ("top", "base", Kind::Normal),
            ("top", "kv", Kind::Dev),
            ("top", "arrow-array", Kind::Normal),
            ("base", "serde", Kind::Normal),
        ]);
        assert_eq!(check(&graph, SMALL, RULE), Vec::<String>::new());
    }

    #[test]
    fn an_upward_edge_is_named_with_both_layers() {
        let problems = check(&graph(&[("base", "top", Kind::Normal)]), SMALL, RULE);
        assert_eq!(problems, ["base (layer 0) depends on top (layer 1): only a lower layer is allowed"]);
    }

    #[test]
    fn an_edge_within_a_layer_fails_whatever_its_kind() {
        let edges = [("base", "kv", Kind::Dev), ("kv", "base", Kind::Build)];
        assert_eq!(
            check(&graph(&edges), SMALL, RULE),
            [
                "base (layer 0) dev-depends on kv (layer 0): only a lower layer is allowed",
                "kv (layer 0) build-depends on base (layer 0): only a lower layer is allowed",
            ]
        );
    }

    #[test]
    fn a_member_without_a_layer_fails() {
        let mut graph = graph(&[]);
        graph.members.insert("newcomer".to_owned());
        let problems = check(&graph, SMALL, RULE);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("newcomer has no layer"), "{problems:?}");
    }

    #[test]
    fn a_forbidden_crate_is_named_with_the_path_to_it() {
        let edges = [
            ("base", "uuid", Kind::Normal),
            ("uuid", "helper", Kind::Build),
            ("helper", "arrow-array", Kind::Normal),
            ("arrow-array", "parquet", Kind::Normal),
            ("uuid", "parquet", Kind::Dev),
        ];
        assert_eq!(check(&graph(&edges), SMALL, RULE), ["base -> uuid -> helper -> arrow-array: base is light"]);
    }

    #[test]
    fn a_dev_dependency_of_the_crate_itself_is_forbidden_too() {
        let problems = check(&graph(&[("base", "parquet", Kind::Dev)]), SMALL, RULE);
        assert_eq!(problems, ["base -> parquet: base is light"]);
    }

    #[test]
    fn an_edge_planted_in_manifests_is_seen_through_cargo() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let package = |name: &str, rest: &str| {
            write(&format!("{name}/src/lib.rs"), "//! planted");
            write(
                &format!("{name}/Cargo.toml"),
                &format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n{rest}"),
            );
        };
        write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"alluvium-contracts\", \"alluvium-runs\", \"arrow\"]\n",
        );
        package(
            "alluvium-contracts",
            "[dependencies]\narrow = { path = \"../arrow\" }\n[build-dependencies]\nalluvium-runs = { path = \"../alluvium-runs\" }\n",
        );
        package("alluvium-runs", "");
        package("arrow", "");

        let metadata = Metadata::load(dir.path()).unwrap();
        assert_eq!(
            check(&Graph::of(&metadata), LAYERS, FORBIDDEN),
            [
                "alluvium-contracts (layer 0) build-depends on alluvium-runs (layer 6): only a lower layer is allowed",
                "arrow has no layer: declare it in LAYERS and in ARCHITECTURE.md",
                "alluvium-contracts -> arrow: contracts are read by programs that have no engine",
            ]
        );
    }

    #[test]
    fn this_workspace_keeps_its_layers() {
        run(&cargo::workspace_root().unwrap()).unwrap();
    }
}

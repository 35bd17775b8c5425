//! Whether what the registry says of where contracts are written is so: by the names that the workspace imports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use alluvium_contracts::{Written, contracts};
use anyhow::{Context, Result};

/// Where the sources of crates lie.
const CRATES: &str = "crates";
/// Before every path into the contracts.
const PREFIX: &str = "alluvium_contracts::";
/// What decoding answers: it comes from the contracts' own crate.
const OF_THEIR_OWN: &str = "error_report";

/// Contracts that are said to be written and that no crate below `root` names, and the other way round.
pub(super) fn untrue(root: &Path) -> Result<Vec<String>> {
    let named = named(&root.join(CRATES))?;
    let said = contracts().into_iter().map(|contract| (contract.kind, contract.written));
    Ok(said.filter_map(|(kind, written)| contradiction(kind, written, &named)).collect())
}

fn contradiction(kind: &str, written: Written, named: &BTreeMap<String, PathBuf>) -> Option<String> {
    let type_name: String = kind.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
    match (written, named.get(&type_name)) {
        (Written::In(place), None) if kind != OF_THEIR_OWN => Some(format!(
            "{kind}: the registry says that it is in {place}, and no crate imports `{type_name}`: say `NotYet` in \
             crates/contracts/src/registry.rs"
        )),
        (Written::NotYet(_), Some(file)) => Some(format!(
            "{kind}: the registry says that nothing writes it yet, and {} imports `{type_name}`: say `In` and where in \
             crates/contracts/src/registry.rs",
            file.display()
        )),
        _ => None,
    }
}

/// The contracts' names that the crates in `dir` import outside their tests, each with a file that does.
fn named(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut named = BTreeMap::new();
    let mut dirs: Vec<PathBuf> = Vec::new();
    for entry in list(dir)? {
        // What the contracts' own crate says of them is no use of them.
        if !entry.ends_with("contracts") && entry.join("src").is_dir() {
            dirs.push(entry.join("src"));
        }
    }
    while let Some(next) = dirs.pop() {
        for path in list(&next)? {
            match path.file_stem().and_then(|stem| stem.to_str()) {
                Some("tests") => {}
                _ if path.is_dir() => dirs.push(path),
                _ if path.extension().is_some_and(|extension| extension == "rs") => {
                    let text =
                        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                    named.extend(imports(&text).into_iter().map(|name| (name.to_owned(), path.clone())));
                }
                _ => {}
            }
        }
    }
    Ok(named)
}

/// The names behind `alluvium_contracts::`, one or a list in braces.
fn imports(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(PREFIX) {
        let rest = &text[at + PREFIX.len()..];
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default(),
        };
        found.extend(names.split(',').map(str::trim).filter(|name| !name.is_empty()));
    }
    found
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo;

    #[test]
    fn what_the_registry_says_is_so() {
        assert_eq!(untrue(&cargo::workspace_root().unwrap()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_claim_without_a_writer_and_a_writer_without_a_claim_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("runs/src/deep");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("report.rs"), "use alluvium_contracts::{\n    RunDocument,\n    RunId,\n};\n")
            .unwrap();
        std::fs::write(source.join("tests.rs"), "use alluvium_contracts::PlanDocument;\n").unwrap();
        let named = named(dir.path()).unwrap();
        let told = |kind, written| contradiction(kind, written, &named).unwrap_or_default();
        assert_eq!(told("run_document", Written::In("x")), "");
        assert!(told("run_document", Written::NotYet("x")).contains("report.rs imports `RunDocument`"));
        assert!(told("plan_document", Written::In("x")).contains("no crate imports `PlanDocument`"));
        assert_eq!(told("plan_document", Written::NotYet("x")), "");
    }
}

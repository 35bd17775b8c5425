//! `alluvium contracts`: the registry of contracts, as text and as files.

use std::fs;
use std::path::Path;

use alluvium_contracts::{ContractEntry, contracts as registry};
use serde_json::Value;

use crate::args::ContractsCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// The index page among the exported files.
const INDEX: &str = "README.md";

/// Does what was asked.
pub fn contracts(command: &ContractsCommand) -> Result<Exit, Failure> {
    match command {
        ContractsCommand::Ls => output::print(&list())?,
        ContractsCommand::Show { kind } => {
            for contract in registry().iter().filter(|contract| contract.kind == kind) {
                output::print(&schema_text(contract))?;
            }
        }
        ContractsCommand::Export { dir } => output::print(&export(dir)?)?,
    }
    Ok(Exit::Done)
}

fn list() -> String {
    let rows: Vec<_> = registry().into_iter().map(|c| (c.kind, format!("v{}", c.version), c.doc)).collect();
    let kind_width = rows.iter().map(|(kind, ..)| kind.len()).max().unwrap_or_default();
    let version_width = rows.iter().map(|(_, version, _)| version.len()).max().unwrap_or_default();
    rows.iter().map(|(kind, version, doc)| format!("{kind:kind_width$}  {version:version_width$}  {doc}\n")).collect()
}

/// Writes every file into `dir`, and lists them.
fn export(dir: &Path) -> Result<String, Failure> {
    let cannot = |what: &str, path: &Path, error: std::io::Error| {
        Failure::failed(format!("cannot {what} {}", path.display())).because(error)
    };
    fs::create_dir_all(dir).map_err(|error| cannot("make the directory", dir, error))?;
    let mut listing = String::new();
    for (name, text) in files() {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| cannot("write", &path, error))?;
        listing.push_str(&format!("{}\n", path.display()));
    }
    Ok(listing)
}

/// Every exported file, by name.
fn files() -> Vec<(String, String)> {
    let contracts = registry();
    let mut files: Vec<_> = contracts.iter().map(|contract| (contract.file_name(), schema_text(contract))).collect();
    files.push((INDEX.to_owned(), index(&contracts)));
    files
}

fn schema_text(contract: &ContractEntry) -> String {
    // Another crate of a build may switch on that `Value` keeps insertion order: sorted keys give the same bytes
    // whoever is in the build.
    format!("{:#}\n", sorted(contract.schema().to_value()))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        scalar => scalar,
    }
}

fn index(contracts: &[ContractEntry]) -> String {
    let mut page = String::from(
        "# Contracts\n\n\
         What Alluvium writes for others to read, as JSON Schema 2020-12. Written by `alluvium contracts export`.\n\n\
         | contract | version | what it is | what a reader may rely on |\n\
         |---|---|---|---|\n",
    );
    for contract in contracts {
        page.push_str(&format!(
            "| [{}]({}) | {} | {} | {} |\n",
            contract.kind,
            contract.file_name(),
            contract.version,
            contract.doc,
            contract.compatibility
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_exported_schema_is_a_2020_12_schema() {
        let schemas: Vec<_> = files().into_iter().filter(|(name, _)| name != INDEX).collect();
        assert_eq!(schemas.len(), registry().len());
        for (name, text) in schemas {
            let schema: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
            assert!(text.ends_with("}\n") && text.lines().count() > 5, "{name} is not pretty");
        }
    }

    #[test]
    fn the_exported_files_are_the_registry_and_its_index() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("not/yet/there");
        let listing = export(&target).unwrap();
        assert_eq!(listing.lines().count(), registry().len() + 1);
        let written: BTreeSet<String> =
            fs::read_dir(&target).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        let mut expected: BTreeSet<String> = registry().iter().map(ContractEntry::file_name).collect();
        let page = fs::read_to_string(target.join(INDEX)).unwrap();
        for name in &expected {
            assert!(page.contains(&format!("({name})")), "{name} is not in the index");
        }
        expected.insert(INDEX.to_owned());
        assert_eq!(written, expected);
    }

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value: Value = serde_json::from_str(r#"{"b": [{"d": 1, "c": 2}], "a": {"f": 1, "e": 2}}"#).unwrap();
        assert_eq!(sorted(value).to_string(), r#"{"a":{"e":2,"f":1},"b":[{"c":2,"d":1}]}"#);
    }

    #[test]
    fn the_list_names_every_contract() {
        let list = list();
        for contract in registry() {
            assert!(list.contains(contract.kind) && list.contains(contract.doc), "{}", contract.kind);
        }
    }
}

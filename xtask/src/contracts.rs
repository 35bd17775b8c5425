//! Contract schemas: written to `docs/contracts`, or compared with what is there; a breaking change is refused by both, and
//! so is an index that says of a contract what is not so.

mod writers;

use std::collections::BTreeMap;
use std::path::Path;

use alluvium_contracts::{BreakingRule, INDEX, breaking_changes};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Where the exported contracts are committed.
const COMMITTED: &str = "docs/contracts";
/// The schemas that a release has published, one file name a line; `#` begins a comment.
const RELEASED: &str = "released.txt";
/// How the name of a schema ends.
const SCHEMA: &str = ".schema.json";

/// Arguments of `cargo xtask contracts`.
#[derive(clap::Args)]
pub struct Args {
    /// Change nothing; fail where docs/contracts is not what the contracts export.
    #[arg(long)]
    pub check: bool,
}

/// Texts by file name.
type Files = BTreeMap<String, String>;

/// Write or check the contracts of the workspace at `root`.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let exported: Files = alluvium_contracts::export().into_iter().collect();
    // Before anything is written: the index page says where contracts are written.
    let mut problems = writers::untrue(root)?;
    if problems.is_empty() {
        problems = apply(&root.join(COMMITTED), &exported, args.check)?;
    }
    for problem in &problems {
        eprintln!("contracts: {problem}");
    }
    if !problems.is_empty() {
        bail!("{COMMITTED} wants {} decision(s); nothing was written", problems.len());
    }
    eprintln!("contracts: {} files are what the contracts export", exported.len());
    Ok(())
}

/// Compares `exported` with what `dir` holds and, unless `check` is set or something breaks, writes it there.
///
/// The committed schemas are the baseline of both modes: writing cannot move it past a breaking change.
fn apply(dir: &Path, exported: &Files, check: bool) -> Result<Vec<String>> {
    let committed = files(dir)?;
    let mut problems = lost(dir, &committed)?;
    problems.extend(broken(&committed, exported)?);
    if check {
        problems.extend(drift(&committed, exported));
    }
    if check || !problems.is_empty() {
        return Ok(problems);
    }
    for (name, text) in exported {
        std::fs::write(dir.join(name), text).with_context(|| format!("cannot write {COMMITTED}/{name}"))?;
    }
    Ok(problems)
}

/// Released schemas that are not there: without them nothing tells what may change. Nor does anything without the list.
fn lost(dir: &Path, committed: &Files) -> Result<Vec<String>> {
    let path = dir.join(RELEASED);
    let released = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read {}, which lists the released schemas: restore it from version control. Where nothing was ever \
             released, make it with a comment line (`#`) alone",
            path.display()
        )
    })?;
    let names = released.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(names
        .filter(|name| !committed.contains_key(*name))
        .map(|name| format!("{COMMITTED}/{name} was released and is not there: restore it, it is the baseline"))
        .collect())
}

/// What breaks for readers and writers of the committed versions.
fn broken(committed: &Files, exported: &Files) -> Result<Vec<String>> {
    let parse = |name: &str, text: &str| -> Result<Value> {
        serde_json::from_str(text).with_context(|| format!("{name} is not JSON"))
    };
    let mut broken = Vec::new();
    for (name, old) in committed.iter().filter(|(name, _)| name.ends_with(SCHEMA)) {
        let Some(new) = exported.get(name) else {
            broken.push(format!(
                "{name}: {}: versions are append-only; keep the type. If it was never released, delete the file",
                BreakingRule::ContractRemoved
            ));
            continue;
        };
        for change in breaking_changes(&parse(name, old)?, &parse(name, new)?) {
            broken.push(format!(
                "{name}: {change}. Put the new shape beside it, as the next version. If this one was never released, \
                 delete the file first, and say so in the commit"
            ));
        }
    }
    Ok(broken)
}

fn drift(committed: &Files, exported: &Files) -> Vec<String> {
    exported
        .iter()
        .filter_map(|(name, text)| match committed.get(name) {
            None => Some(format!("{COMMITTED}/{name} is missing: `cargo xtask contracts` writes it")),
            Some(old) if old != text => {
                Some(format!("{COMMITTED}/{name} is out of date: `cargo xtask contracts` rewrites it"))
            }
            Some(_) => None,
        })
        .collect()
}

/// The schemas in `dir` and their index; pages that people write lie beside them.
fn files(dir: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(SCHEMA) || name == INDEX {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.insert(name, text);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAME: &str = "thing.v1.schema.json";

    fn schema(fields: &[&str], required: &[&str], words: &[&str]) -> Value {
        let mut properties: serde_json::Map<String, Value> =
            fields.iter().map(|field| ((*field).to_owned(), json!({"type": "integer", "title": *field}))).collect();
        properties.insert("word".to_owned(), json!({"type": "string", "enum": words}));
        json!({"type": "object", "properties": properties, "required": required})
    }

    fn set(schema: &Value) -> Files {
        Files::from([(NAME.to_owned(), schema.to_string()), (INDEX.to_owned(), "# Index\n".to_owned())])
    }

    /// A directory in which nothing was released.
    fn unreleased() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(RELEASED), "# nothing yet\n").unwrap();
        dir
    }

    /// Both modes over a directory that holds `old` when the contracts export `new`.
    fn both(old: &Value, new: &Value) -> (Vec<String>, Vec<String>, bool) {
        let dir = unreleased();
        assert_eq!(apply(dir.path(), &set(old), false).unwrap(), Vec::<String>::new());
        let checked = apply(dir.path(), &set(new), true).unwrap();
        let written = apply(dir.path(), &set(new), false).unwrap();
        let moved = std::fs::read_to_string(dir.path().join(NAME)).unwrap() == set(new)[NAME];
        (checked, written, moved)
    }

    #[test]
    fn a_breaking_change_is_refused_by_both_modes_and_the_baseline_stays() {
        let old = schema(&["a", "b"], &["a"], &["x", "y"]);
        let mut retyped = old.clone();
        retyped["properties"]["a"]["type"] = json!("string");
        for (rule, new) in [
            ("field_removed", schema(&["a"], &["a"], &["x", "y"])),
            ("field_renamed", schema(&["a", "c"], &["a"], &["x", "y"])),
            ("field_retyped", retyped),
            ("field_newly_required", schema(&["a", "b"], &["a", "b"], &["x", "y"])),
            ("enum_narrowed", schema(&["a", "b"], &["a"], &["x"])),
            ("enum_widened", schema(&["a", "b"], &["a"], &["x", "y", "z"])),
        ] {
            let (checked, written, moved) = both(&old, &new);
            assert_eq!(written.len(), 1, "{rule}: {written:?}");
            assert!(written[0].starts_with(&format!("{NAME}: {rule} at ")), "{rule}: {written:?}");
            assert!(checked.contains(&written[0]), "{rule}: {checked:?}");
            assert!(!moved, "{rule}: writing moved the baseline");
        }
    }

    #[test]
    fn a_change_that_readers_do_not_notice_drifts_and_is_written() {
        let old = schema(&["a", "b"], &["a"], &["x"]);
        let (checked, written, moved) = both(&old, &schema(&["a", "b", "c"], &["a"], &["x"]));
        assert_eq!(checked, [format!("{COMMITTED}/{NAME} is out of date: `cargo xtask contracts` rewrites it")]);
        assert_eq!(written, Vec::<String>::new());
        assert!(moved);
        assert_eq!(both(&old, &old).0, Vec::<String>::new());
    }

    #[test]
    fn a_contract_that_is_gone_and_a_lost_baseline_are_refused() {
        let dir = unreleased();
        let old = set(&schema(&["a"], &[], &["x"]));
        apply(dir.path(), &old, false).unwrap();
        let none = Files::from([(INDEX.to_owned(), String::new())]);
        for check in [true, false] {
            let problems = apply(dir.path(), &none, check).unwrap();
            assert!(problems[0].starts_with(&format!("{NAME}: contract_removed")), "{problems:?}");
        }
        std::fs::write(dir.path().join(RELEASED), format!("# released\n{NAME}\n")).unwrap();
        assert_eq!(apply(dir.path(), &old, true).unwrap(), Vec::<String>::new());
        std::fs::remove_file(dir.path().join(NAME)).unwrap();
        for check in [true, false] {
            let problems = apply(dir.path(), &old, check).unwrap();
            assert!(problems[0].contains("restore it, it is the baseline"), "{problems:?}");
        }
    }

    #[test]
    fn without_the_list_of_released_schemas_nothing_is_checked_or_written() {
        let dir = unreleased();
        let old = set(&schema(&["a"], &[], &["x"]));
        apply(dir.path(), &old, false).unwrap();
        std::fs::remove_file(dir.path().join(RELEASED)).unwrap();
        let new = set(&schema(&["a", "b"], &[], &["x"]));
        for check in [true, false] {
            let error = format!("{:#}", apply(dir.path(), &new, check).unwrap_err());
            assert!(error.contains("restore it from version control"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(dir.path().join(NAME)).unwrap(), old[NAME]);
    }

    #[test]
    fn pages_beside_the_schemas_are_left_alone() {
        let dir = unreleased();
        std::fs::write(dir.path().join("fields.md"), "by hand").unwrap();
        apply(dir.path(), &set(&schema(&[], &[], &["x"])), false).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("fields.md")).unwrap(), "by hand");
    }
}

//! `alluvium contracts`: the registry of contracts, as text and as files, and documents held against it.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::Path;

use alluvium_contracts::{
    Contract, ContractEntry, Encoding, ErrorCode, PipelineSpec, UnknownFields, contract, contracts as registry,
    validate_toml,
};
use serde::de::IgnoredAny;

use crate::args::ContractsCommand;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

/// Does what was asked.
pub fn contracts(command: &ContractsCommand) -> Result<Exit, Failure> {
    match command {
        ContractsCommand::Ls => output::print(&list())?,
        ContractsCommand::Show { kind } => output::print(&known(kind)?.schema_text())?,
        ContractsCommand::Example { kind } => output::print(&example(known(kind)?)?)?,
        ContractsCommand::Validate { file, kind } => output::print(&validate(file, kind.as_deref())?)?,
        ContractsCommand::Export { dir } => output::print(&export(dir)?)?,
    }
    Ok(Exit::Done)
}

fn list() -> String {
    let contracts = registry();
    let rows: Vec<_> = contracts.iter().map(|c| (c.kind, format!("v{}", c.version), c.doc)).collect();
    let kind_width = rows.iter().map(|(kind, ..)| kind.len()).max().unwrap_or_default();
    let version_width = rows.iter().map(|(_, version, _)| version.len()).max().unwrap_or_default();
    let line = |(kind, version, doc): &(_, String, _)| format!("{kind:kind_width$}  {version:version_width$}  {doc}\n");
    let mut list: String = rows.iter().map(line).collect();
    // Most are written by programs; those that people write are few enough to be named.
    for unknown_fields in [UnknownFields::Refused, UnknownFields::Ignored] {
        let of_it: Vec<_> = contracts.iter().filter(|contract| contract.unknown_fields == unknown_fields).collect();
        let kinds: Vec<_> = of_it.iter().map(|contract| contract.kind).collect();
        let whose = if unknown_fields == UnknownFields::Refused { kinds.join(", ") } else { "all others".to_owned() };
        list.extend(of_it.first().map(|contract| format!("\n{whose}: {}\n", contract.compatibility())));
    }
    list
}

/// The contract of a kind, which the arguments' parser found in the registry.
fn known(kind: &str) -> Result<ContractEntry, Failure> {
    contract(kind).ok_or_else(|| Failure::input(format!("no contract is called `{kind}`")))
}

fn example(contract: ContractEntry) -> Result<String, Failure> {
    contract
        .example_text()
        .map_err(|error| Failure::failed(format!("the example of `{}` is broken", contract.kind)).because(error))
}

/// Checks the document in `file` (`-`: standard input), and says what it is, and what was not looked at.
fn validate(file: &Path, kind: Option<&str>) -> Result<String, Failure> {
    let shown = file.display();
    let bytes = read(file)?;
    let (checked, encoding) = if is_toml(file, &bytes) {
        // What people write in TOML is most often a pipeline file.
        (validate_toml(&bytes, kind.or(Some(PipelineSpec::KIND))), "TOML")
    } else {
        (alluvium_contracts::validate(&bytes, kind), Encoding::of(&bytes).as_str())
    };
    let valid = checked.map_err(|report| {
        // Well-formed, but no envelope.
        let wanted_kind = kind.is_none()
            && report.contract.is_none()
            && matches!(report.code, ErrorCode::MissingField | ErrorCode::WrongType);
        let no_encoding = encoding == "TOML" && report.code == ErrorCode::Malformed;
        let failure = Failure::input(format!("{shown} is not a valid document")).because(report);
        match () {
            () if wanted_kind => failure.with_hint("a payload without its envelope needs --kind KIND"),
            () if no_encoding => failure.with_hint("it is neither JSON nor MessagePack either"),
            () => failure,
        }
    })?;
    let mut said = format!("{shown}: a valid {} v{} in {encoding}\n", valid.kind, valid.version);
    if let Some(id) = valid.artifact_id {
        said.push_str(&format!("{id}\n"));
    }
    if valid.kind == PipelineSpec::KIND {
        said.push_str("its shape was checked; `alluvium plan` checks names, references, files and SQL too\n");
    }
    Ok(said)
}

/// Whether a document is in TOML: its name says so, or its first byte, with which no object of JSON or MessagePack begins.
fn is_toml(file: &Path, bytes: &[u8]) -> bool {
    match file.extension().and_then(OsStr::to_str) {
        Some("toml") => true,
        Some("json") => false,
        _ => {
            // A byte order mark says nothing of what follows it.
            let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
            let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
            Encoding::of(bytes) == Encoding::Json
                && first.is_some_and(|first| *first != b'{')
                // `[` begins a table of TOML and a list of JSON, which is to be refused as such.
                && serde_json::from_slice::<IgnoredAny>(bytes).is_err()
        }
    }
}

/// Reads at most a little more than the longest document that is valid.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let limit = alluvium_contracts::Limits::default().max_bytes as u64 + 1;
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|opened| opened.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::input(format!("cannot read {}", file.display())).because(error))?;
    Ok(bytes)
}

/// Writes every file into `dir`, and lists them.
fn export(dir: &Path) -> Result<String, Failure> {
    let cannot = |what: &str, path: &Path, error: std::io::Error| {
        Failure::failed(format!("cannot {what} {}", path.display())).because(error)
    };
    fs::create_dir_all(dir).map_err(|error| cannot("make the directory", dir, error))?;
    let mut listing = String::new();
    for (name, text) in alluvium_contracts::export() {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| cannot("write", &path, error))?;
        listing.push_str(&format!("{}\n", path.display()));
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alluvium_contracts::INDEX;

    use super::*;

    #[test]
    fn the_exported_files_are_the_registry_and_its_index() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("not/yet/there");
        let listing = export(&target).unwrap();
        assert_eq!(listing.lines().count(), registry().len() + 1);
        let written: BTreeSet<String> =
            fs::read_dir(&target).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        let mut expected: BTreeSet<String> = registry().iter().map(ContractEntry::file_name).collect();
        expected.insert(INDEX.to_owned());
        assert_eq!(written, expected);
    }

    #[test]
    fn the_list_names_every_contract() {
        let list = list();
        for contract in registry() {
            assert!(list.contains(contract.kind) && list.contains(contract.doc), "{}", contract.kind);
        }
    }

    #[test]
    fn an_example_is_valid_and_a_broken_one_is_the_users_fault() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("document.json");
        for contract in registry() {
            let text = example(contract).unwrap();
            fs::write(&file, &text).unwrap();
            let said = validate(&file, Some(contract.kind)).unwrap();
            assert!(said.contains(&format!("a valid {} v1 in JSON", contract.kind)), "{said}");
            fs::write(&file, &text[..text.len() / 2]).unwrap();
            assert_eq!(validate(&file, Some(contract.kind)).unwrap_err().exit(), Exit::Input);
        }
        assert_eq!(validate(&dir.path().join("absent"), None).unwrap_err().exit(), Exit::Input);
    }

    #[test]
    fn a_pipeline_file_needs_no_kind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alluvium.toml");
        fs::write(&file, "[views.a]\nsql = \"select 1 as x\"\n").unwrap();
        let said = validate(&file, None).unwrap();
        assert!(said.contains("a valid pipeline_spec v1 in TOML\nits shape was checked; `alluvium plan` "), "{said}");
        for (bad, place) in [("[views.a]\nsqll = \"select 1\"\n", "line: Some(2)"), ("[views", "line: Some(1)")] {
            fs::write(&file, bad).unwrap();
            let failure = validate(&file, None).unwrap_err();
            assert_eq!(failure.exit(), Exit::Input, "{bad}");
            assert!(format!("{failure:?}").contains(place), "{failure:?}");
        }
    }

    #[test]
    fn toml_is_known_by_its_name_or_its_first_byte() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["alluvium.toml", "alluvium.toml.orig", "pipeline"] {
            let file = dir.path().join(name);
            for text in ["[views.a]\nsql = \"select 1\"\n", "\n# A comment\n\"views\" = {}\n"] {
                fs::write(&file, text).unwrap();
                assert!(validate(&file, None).unwrap().contains(": a valid pipeline_spec v1 in TOML\n"), "{name}");
            }
        }
        let file = dir.path().join("document");
        for (text, said) in [
            ("[1, 2]", "envelope"),
            ("nonsense", "expected: \"TOML\""),
            ("{", "after 1 bytes"),
            ("\u{feff}{}", "byte order mark"),
        ] {
            fs::write(&file, text).unwrap();
            let failure = format!("{:?}", validate(&file, None).unwrap_err());
            assert!(failure.contains(said), "{text}: {failure}");
        }
    }

    #[test]
    fn what_json_does_not_have_is_refused_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alluvium.toml");
        for (value, said) in [
            ("nan", "BadNumber"),
            ("-0.0", "BadNumber"),
            ("9007199254740993", "9007199254740993"),
            ("0.10000000000000001", "0.10000000000000001, which would become 0.1"),
            ("2026-01-15", "a date or time"),
        ] {
            fs::write(&file, format!("[views.\"a/b\"]\nsql = [1, {{ x = {value} }}]\n")).unwrap();
            let failure = format!("{:?}", validate(&file, None).unwrap_err());
            assert!(failure.contains("/views/a~1b/sql/1/x") && failure.contains(said), "{value}: {failure}");
        }
    }
}

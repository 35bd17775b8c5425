//! Golden snapshots: for each contract its example in both encodings, its schema, and how mistakes in it are reported.
//!
//! The schema stands in one line; `docs/contracts` holds it in a form to be read, and is compared too.

use std::fmt::Write;

use alluvium_contracts::{ArtifactId, ContractEntry, Encoding, canonical_json, contracts, validate};
use serde_json::{Value, json};

use crate::example;

#[test]
fn golden_contracts() {
    for contract in contracts() {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(crate::stem(&contract), golden(&contract)));
    }
}

#[test]
fn golden_schemas_are_the_committed_files() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/contracts");
    for contract in contracts() {
        let file = format!("{committed}/{}", contract.file_name());
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(text, contract.schema_text(), "{file}: `cargo xtask contracts` rewrites it");
    }
}

fn golden(contract: &ContractEntry) -> String {
    let packed = contract.example(Encoding::MessagePack).unwrap();
    let schema = String::from_utf8(canonical_json(contract.schema().as_value()).unwrap()).unwrap();
    let mut text = format!("{}\n\njson:\n{}", ArtifactId::of(&packed), contract.example_text().unwrap());
    text.push_str("\nmessagepack:\n");
    for line in packed.chunks(48) {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    write!(text, "\nschema:\n{schema}\n\nerrors:\n").unwrap();
    for (mistake, document) in mistakes(&example(contract)) {
        let bytes = serde_json::to_vec(&document).unwrap();
        match validate(&bytes, Some(&contract.name())) {
            Ok(_) => writeln!(text, "{mistake}: valid").unwrap(),
            Err(report) => writeln!(text, "{mistake}: {}: {report}", report.code).unwrap(),
        }
    }
    text
}

/// The example with one mistake each: a field of the payload left out, and one of another type.
fn mistakes(document: &Value) -> Vec<(String, Value)> {
    let pointer = if document.get("payload").is_some() { "/payload" } else { "" };
    let payload = document.pointer(pointer).unwrap().as_object().unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut document = document.clone();
        change(document.pointer_mut(pointer).unwrap().as_object_mut().unwrap());
        document
    };
    let mut mistakes = vec![("unknown".to_owned(), with(&|payload| drop(payload.insert("unheard".into(), json!(1)))))];
    for field in payload.keys() {
        mistakes.push((format!("without {field}"), with(&|payload| drop(payload.remove(field)))));
        mistakes.push((format!("odd {field}"), with(&|payload| drop(payload.insert(field.clone(), json!([[true]]))))));
    }
    mistakes
}

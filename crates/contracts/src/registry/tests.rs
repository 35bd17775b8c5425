//! A second version of a contract, beside the first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

/// The next version of [`FieldSpec`], with a field that has to be there.
#[derive(Serialize, Deserialize, JsonSchema)]
struct FieldSpecV2 {
    name: String,
    sort: String,
}

impl Contract for FieldSpecV2 {
    const KIND: &'static str = FieldSpec::KIND;
    const VERSION: u32 = 2;
    const DOC: &'static str = "a column, planted";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self { name: "day".to_owned(), sort: "date".to_owned() }
    }
}

fn with_a_second() -> Vec<ContractEntry> {
    let mut contracts = contracts();
    let first = contracts.iter().position(|contract| contract.kind == FieldSpec::KIND).unwrap();
    contracts.insert(first + 1, entry::<FieldSpecV2>(Written::NotYet("a test")));
    contracts
}

fn validate_among(contracts: &[ContractEntry], document: &[u8], name: Option<&str>) -> Result<Validated, ErrorReport> {
    let named = named(contracts, name)?;
    check(contracts, read(document, Encoding::of(document), Limits::default())?, named)
}

#[test]
fn both_versions_are_known_by_their_envelopes_and_names() {
    let contracts = with_a_second();
    let find = |name: &str| find(&contracts, name).map(|named| named.entry.name());
    assert_eq!(find("field_spec").as_deref(), Some("field_spec.v2"));
    assert_eq!(find("field_spec.v1").as_deref(), Some("field_spec.v1"));
    assert_eq!(find("field_spec.v3"), None);
    let names = contracts.iter().filter(|contract| contract.kind == "field_spec").map(ContractEntry::file_name);
    assert_eq!(names.collect::<Vec<_>>(), ["field_spec.v1.schema.json", "field_spec.v2.schema.json"]);

    let [first, second] = ["field_spec.v1", "field_spec.v2"].map(|name| super::find(&contracts, name).unwrap().entry);
    for contract in [first, second] {
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let example = contract.example(encoding).unwrap();
            for name in [None, Some("field_spec"), Some(contract.name().as_str())] {
                let valid = validate_among(&contracts, &example, name).unwrap();
                assert_eq!((valid.kind, valid.version), (contract.kind, contract.version), "{name:?}");
            }
        }
    }
    let example = second.example(Encoding::Json).unwrap();
    let report = validate_among(&contracts, &example, Some("field_spec.v1")).unwrap_err();
    assert_eq!((report.pointer.as_str(), report.expected.as_str(), report.found.as_str()), ("/version", "1", "2"));
    let third = String::from_utf8(example).unwrap().replace("\"version\":2", "\"version\":3");
    for name in [None, Some("field_spec")] {
        let report = validate_among(&contracts, third.as_bytes(), name).unwrap_err();
        assert_eq!((report.pointer.as_str(), report.expected.as_str()), ("/version", "1 or 2"));
    }
    let report = validate_among(&contracts, third.as_bytes(), Some("run_document")).unwrap_err();
    assert_eq!((report.pointer.as_str(), report.found.as_str()), ("/kind", "\"field_spec\""));
}

#[test]
fn what_is_quoted_of_an_envelope_says_nothing_to_a_terminal() {
    let document = r#"{"kind": "\u001b]0;x\u0007\n\u202e", "version": 1, "payload": {}}"#;
    for name in [None, Some("run_document")] {
        let report = validate(document.as_bytes(), name).unwrap_err();
        assert!(!report.found.contains(['\u{1b}', '\u{7}', '\n', '\u{202e}']), "{report:?}");
    }
}

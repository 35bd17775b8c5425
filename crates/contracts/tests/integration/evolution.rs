//! An older reader and a newer writer, and the other way round: what the rules promise holds across builds.

use alluvium_contracts::{
    Contract, Envelope, EnvelopeError, Form, RunDocument, UnknownFields, breaking_changes, contract, decode_json,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// [`RunDocument`] as a later build might have it: one more optional field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct LaterRunDocument {
    #[serde(flatten)]
    today: RunDocument,
    /// How many processes took part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process_count: Option<u32>,
}

impl Contract for LaterRunDocument {
    const KIND: &'static str = RunDocument::KIND;
    const VERSION: u32 = RunDocument::VERSION;
    const DOC: &'static str = RunDocument::DOC;
    const FORM: Form = RunDocument::FORM;
    const UNKNOWN_FIELDS: UnknownFields = RunDocument::UNKNOWN_FIELDS;

    fn example() -> Self {
        Self { today: RunDocument::example(), process_count: Some(8) }
    }
}

fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

#[test]
fn todays_reader_meets_a_newer_writer() {
    let later = Envelope::new(LaterRunDocument::example());
    for bytes in [later.to_canonical_json().unwrap(), later.to_canonical_messagepack().unwrap()] {
        let encoding = alluvium_contracts::Encoding::of(&bytes);
        let read = Envelope::<RunDocument>::decode(&bytes, encoding, Default::default()).unwrap();
        assert_eq!(read.payload, RunDocument::example());
        // The identity is that of the bytes, whatever today's reader knows of them.
        let valid = alluvium_contracts::validate(&bytes, None).unwrap();
        assert_eq!(valid.artifact_id, Some(later.artifact_id().unwrap()));
        assert_ne!(valid.artifact_id, Some(read.artifact_id().unwrap()));
    }
}

#[test]
fn a_newer_reader_meets_todays_writer() {
    let today = Envelope::new(RunDocument::example());
    let expected = LaterRunDocument { process_count: None, ..LaterRunDocument::example() };
    let json = Envelope::<LaterRunDocument>::from_json(&today.to_canonical_json().unwrap()).unwrap();
    let packed = Envelope::<LaterRunDocument>::from_messagepack(&today.to_canonical_messagepack().unwrap()).unwrap();
    assert_eq!((&json.payload, &packed.payload), (&expected, &expected));
}

#[test]
fn the_comparison_of_schemas_lets_that_field_through_and_not_the_reverse() {
    let (today, later) = (schema::<RunDocument>(), schema::<LaterRunDocument>());
    assert_eq!(breaking_changes(&today, &later), []);
    let rules: Vec<_> = breaking_changes(&later, &today).iter().map(|change| change.rule.as_str()).collect();
    assert_eq!(rules, ["field_removed"]);
}

#[test]
fn where_a_person_writes_only_the_newer_reader_is_promised() {
    // A pipeline file of today is read by a build that knows more; a file that says more is refused today, by name.
    let entry = contract("pipeline_spec").unwrap();
    assert_eq!(entry.unknown_fields, UnknownFields::Refused);
    let report =
        decode_json::<alluvium_contracts::PipelineSpec>(br#"{"views": {"a": {"sql": "select 1", "retries": 3}}}"#);
    assert_eq!(report.unwrap_err().pointer, "/views/a/retries");
    let mut later = entry.schema().to_value();
    later["$defs"]["ViewSpec"]["properties"]["retries"] = json!({"type": "integer"});
    assert_eq!(breaking_changes(entry.schema().as_value(), &later), []);
}

#[test]
fn an_envelope_of_another_kind_or_version_is_told_from_a_broken_one() {
    let other = |kind: &str, version: u32| {
        // What is inside does not matter then.
        let document = json!({"kind": kind, "version": version, "payload": 7}).to_string();
        match Envelope::<RunDocument>::from_json(document.as_bytes()).unwrap_err() {
            EnvelopeError::OtherContract { found, found_version, .. } => Some((found, found_version)),
            EnvelopeError::Malformed { source, .. } => {
                assert_eq!(source.pointer, "/payload");
                None
            }
            other => panic!("{other}"),
        }
    };
    assert_eq!(other("run_document", 2), Some(("run_document".to_owned(), 2)));
    assert_eq!(other("plan_document", 1), Some(("plan_document".to_owned(), 1)));
    assert_eq!(other("run_document", 1), None);
}

//! TOML: the same documents by the same rules, with line and column of what is wrong.

use alluvium_contracts::{
    ErrorCode, ErrorReport, PipelineSpec, contract, contracts, decode_toml, validate, validate_toml,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::check::is_small;
use crate::check_toml::check_toml;
use crate::example;
use crate::instances::instances;

fn wrong(text: &str) -> ErrorReport {
    decode_toml::<Value>(text.as_bytes()).unwrap_err()
}

/// As TOML, which has no null: a field that is null is left out.
fn toml_of(value: &Value) -> String {
    fn strip(value: &Value) -> Option<Value> {
        match value {
            Value::Null => None,
            Value::Object(map) => {
                Some(map.iter().filter_map(|(key, value)| Some((key.clone(), strip(value)?))).collect())
            }
            Value::Array(items) => Some(items.iter().filter_map(strip).collect()),
            scalar => Some(scalar.clone()),
        }
    }
    toml::to_string(&strip(value)).unwrap()
}

/// Pairs of numbers that are one double: one says what the canonical form says, the other is refused with its place.
#[test]
fn no_two_numbers_share_an_identity() {
    let document = |number: &str| {
        format!(
            "kind = \"diagnostics_event\"\nversion = 1\n[payload]\nname = \"x\"\nevent_kind = \"event\"\n\
             severity = \"info\"\nevent_time_unix_ms = 0\nversion = 1\n[payload.payload]\na = [true, {{ n = {number} }}]\n"
        )
    };
    let identity = |number: &str| validate_toml(document(number).as_bytes(), None).unwrap().artifact_id;
    for (kept, refused) in [
        ("0.1", "0.10000000000000001"),
        ("0.1", "1.0000000000000001e-1"),
        ("0.1", "0.1000000000000000055511151231257827021181583404541015625"),
        ("0.0", "1e-400"),
        ("0.0", "-1e-400"),
        ("9007199254740992.0", "9007199254740993.0"),
        ("9007199254740992", "9007199254740993"),
        ("9007199254740992", "9_007_199_254_740_993"),
        ("9007199254740992", "0x20000000000001"),
        ("9007199254740992", "0o400000000000000001"),
        ("9007199254740992", "0b100000000000000000000000000000000000000000000000000001"),
        ("9223372036854776000.0", "9223372036854775807"),
        ("9223372036854776000", "0x7fffffffffffffff"),
        ("18446744073709552000", "18446744073709551615"),
        ("1000000000000000000000", "1000000000000000000001"),
        (
            "1e300",
            "1000000000000000052504760255204420248704468581108159154915854115111802457988908195786371375080447854045104367616.0",
        ),
    ] {
        let kept = identity(kept);
        let report = validate_toml(document(refused).as_bytes(), None).unwrap_err();
        assert_eq!(
            (report.code, report.pointer.as_str()),
            (ErrorCode::BadNumber, "/payload/payload/a/1/n"),
            "{refused}"
        );
        assert_eq!((report.line, report.column), (Some(10), Some(18)), "{refused}");
        assert!(kept.is_some());
    }
    for (one, other) in [
        ("5", "5.0"),
        ("5", "0x5"),
        ("5", "+5"),
        ("5", "+0.5e+1"),
        ("1000", "1_000"),
        ("1000.5", "1_000.5_0"),
        ("9007199254740991", "0x1f_ffff_ffff_ffff"),
        ("-9007199254740991", "-9007199254740991.0"),
    ] {
        assert_eq!(identity(one), identity(other), "{one} {other}");
    }
    // In JSON and in TOML, in one identity.
    let json = br#"{"kind": "diagnostics_event", "version": 1, "payload": {"name": "x", "event_kind": "event",
        "severity": "info", "event_time_unix_ms": 0, "version": 1, "payload": {"a": [true, {"n": 0.1}]}}}"#;
    assert_eq!(identity("0.1"), validate(json, None).unwrap().artifact_id);
}

#[test]
fn what_json_does_not_have() {
    let beyond = format!("0x{}", "f".repeat(33));
    let wide = "9".repeat(400);
    for (value, code) in [
        ("nan", ErrorCode::BadNumber),
        ("-nan", ErrorCode::BadNumber),
        ("+inf", ErrorCode::BadNumber),
        ("-0.0", ErrorCode::BadNumber),
        ("1e400", ErrorCode::BadNumber),
        (&beyond, ErrorCode::BadNumber),
        (&wide, ErrorCode::BadNumber),
        ("2026-01-15", ErrorCode::WrongType),
        ("07:30:00", ErrorCode::WrongType),
    ] {
        let report = wrong(&format!("[\"a/b\"]\nx = [1, {{ y = {value} }}]\n"));
        assert_eq!((report.code, report.pointer.as_str()), (code, "/a~1b/x/1/y"), "{value}");
        assert_eq!((report.line, report.column), (Some(2), Some(15)), "{value}");
    }
}

#[test]
fn a_mistake_has_its_line_and_column() {
    let typed = |text: &str| decode_toml::<PipelineSpec>(text.as_bytes()).unwrap_err().to_string();
    let a = "[views.a]\nsql = \"select 1\"\n";
    for (text, said) in [
        (
            format!("{a}chache = \"none\"\n"),
            "at /views/a/chache (line 3, column 1): expected one of `sql`, `file`, `cache`, ",
        ),
        (format!("{a}cache = \"nome\"\n"), "at /views/a/cache (line 3, column 9): expected one of `none`, "),
        (
            format!("{a}[outputs.\"ü\"]\npath = \"x\"\n"),
            "at /outputs/ü (line 3, column 1): expected the field `view`, ",
        ),
        (
            "sources.a.path = [\"x\", 7]\nsources.a.format = \"csv\"\n".into(),
            "at /sources/a/path/1 (line 1, column 24): ",
        ),
        ("views = 7\n".into(), "at /views (line 1, column 9): expected an object, found the integer 7"),
        ("[views\n".into(), "at line 1, column 7: expected TOML, found text that is none ("),
        (format!("{a}{a}"), "at line 3, column 8: expected each key once, found a key that is there twice"),
        ("x = \"\\q\"\n".into(), "at line 1, column 7: expected TOML, "),
    ] {
        assert!(typed(&text).starts_with(said), "{text}: {}", typed(&text));
    }
}

#[test]
fn what_is_too_much_is_refused_before_it_is_built() {
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    // The object around it is a level too.
    decode_toml::<Value>(format!("a = {}", deep(63)).as_bytes()).unwrap();
    assert_eq!(wrong(&format!("a = {}", deep(64))).code, ErrorCode::TooDeep);
    for bomb in [
        format!("a = {}", deep(100_000)),
        format!("a = {}", "[".repeat(500_000)),
        format!("a = {}", "{a=".repeat(300_000)),
        format!("{}a = 1", "a.".repeat(400_000)),
        format!("[{}a]", "a . ".repeat(200_000)),
        format!("[[{}a]]", "'a'.".repeat(200_000)),
        format!("a = {}", format!("{{{}a = ", "a.".repeat(60)).repeat(1_000)),
    ] {
        assert_eq!(wrong(&bomb).code, ErrorCode::TooDeep, "{bomb:.60}");
    }
    let report = wrong(&format!("a = \"{}\"", "x".repeat(1 << 20)));
    assert_eq!((report.code, report.expected.as_str()), (ErrorCode::TooLarge, "at most 1048576 bytes"));
    // As many values as there is room for, and dots that nest nothing.
    decode_toml::<Value>(format!("a = [{}]", "1.5,".repeat(200_000)).as_bytes()).unwrap();
    decode_toml::<Value>(format!("a = '{}'\n{}", "a.".repeat(1_000), "# a.b.c.d.e.f\n".repeat(1_000)).as_bytes())
        .unwrap();
    for long in ["x".repeat(1 << 19), "\\".repeat(1 << 18), format!("\"{}\" = 1, 2", "x".repeat(1 << 19))] {
        let report = wrong(&long);
        assert!(is_small(&report), "{:.200}", report.to_string());
    }
}

#[test]
fn a_byte_order_mark_is_ignored_and_other_encodings_are_named() {
    assert_eq!(decode_toml::<Value>("\u{feff}a = 1".as_bytes()).unwrap()["a"], 1);
    let report = decode_toml::<Value>(b"\xff\xfea\0").unwrap_err();
    assert_eq!((report.code, report.expected.as_str()), (ErrorCode::Malformed, "text in UTF-8"));
}

#[test]
fn every_example_is_valid_in_toml() {
    for contract in contracts() {
        let text = toml_of(&example(&contract));
        validate_toml(text.as_bytes(), Some(contract.kind)).unwrap_or_else(|report| panic!("{text}: {report}"));
        check_toml(text.as_bytes());
    }
    // A bare payload needs its kind, as in JSON.
    let text = toml_of(&example(&contract("pipeline_spec").unwrap()));
    assert_eq!(validate_toml(text.as_bytes(), None).unwrap_err().code, ErrorCode::MissingField);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_documents_say_the_same_in_toml(
        document in prop::sample::select(contracts())
            .prop_flat_map(|contract| instances(contract.schema().as_value())),
    ) {
        check_toml(toml_of(&document).as_bytes());
    }

    #[test]
    fn random_text_never_panics(text in "[a-b\\[\\]{}=.,\"'\\n \\-+_0-9e#\\\\]{0,60}") {
        check_toml(text.as_bytes());
    }
}

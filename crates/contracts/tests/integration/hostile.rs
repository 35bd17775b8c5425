//! Bytes that nobody vouches for: an error with its place, never a panic, and memory in proportion to the bytes.

use alluvium_contracts::{
    Encoding, Envelope, ErrorCode, Limits, RunDocument, canonical_json, contracts, decode, decode_json,
    decode_messagepack, validate,
};
use proptest::prelude::*;
use serde_json::Value;

use crate::{example, recode};

fn json(bytes: &[u8]) -> (ErrorCode, String) {
    let report = decode_json::<Value>(bytes).unwrap_err();
    (report.code, report.pointer)
}

fn packed(bytes: &[u8]) -> (ErrorCode, String) {
    let report = decode_messagepack::<Value>(bytes).unwrap_err();
    (report.code, report.pointer)
}

fn at(code: ErrorCode, pointer: &str) -> (ErrorCode, String) {
    (code, pointer.to_owned())
}

#[test]
fn depth_bombs() {
    for levels in [65, 10_000, 1_000_000] {
        assert_eq!(json("[".repeat(levels).as_bytes()), at(ErrorCode::TooDeep, &"/0".repeat(64)));
        assert_eq!(json(r#"{"a":"#.repeat(levels).as_bytes()), at(ErrorCode::TooDeep, &"/a".repeat(64)));
        assert_eq!(packed(&vec![0x91; levels]), at(ErrorCode::TooDeep, &"/0".repeat(64)));
        assert_eq!(packed(&[0x81, 0xa1, b'a'].repeat(levels)), at(ErrorCode::TooDeep, &"/a".repeat(64)));
    }
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    decode_json::<Value>(deep(64).as_bytes()).unwrap();
    assert_eq!(json(deep(65).as_bytes()).0, ErrorCode::TooDeep);
}

#[test]
fn lengths_that_no_bytes_back() {
    // str 32, bin 32, array 32 and map 32 of four gigabytes each.
    for marker in [0xdb, 0xdd, 0xdf] {
        assert_eq!(packed(&[marker, 0xff, 0xff, 0xff, 0xff]).0, ErrorCode::Truncated);
    }
    assert_eq!(packed(&[0x81, 0xa1, b'k', 0xdb, 0xff, 0xff, 0xff, 0xff, b'x']), at(ErrorCode::Truncated, "/k"));
    let report = decode_messagepack::<Value>(&[0xdb, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
    assert_eq!(report.expected, "4294967295 bytes from byte 5");
}

#[test]
fn more_than_the_limits() {
    let limits = Limits::default().with_max_bytes(10).with_max_values(4);
    let refused = |bytes: &[u8], encoding| decode::<Value>(bytes, encoding, limits).unwrap_err();
    assert_eq!(refused(b"[1,1,1,1,1]", Encoding::Json).found, "11 bytes");
    let report = refused(b"[1,1,1,1]", Encoding::Json);
    assert_eq!((report.code, report.pointer.as_str()), (ErrorCode::TooLarge, "/3"));
    let report = refused(&[0x94, 1, 1, 1, 1], Encoding::MessagePack);
    assert_eq!((report.code, report.pointer.as_str()), (ErrorCode::TooLarge, "/3"));
    decode::<Value>(b"[1,1,1]", Encoding::Json, limits).unwrap();
}

#[test]
fn keys_that_are_there_twice() {
    assert_eq!(json(br#"{"a":{"b":1,"c":2,"b":1}}"#), at(ErrorCode::DuplicateKey, "/a/b"));
    assert_eq!(json(br#"[{"a":1,"\u0061":1}]"#), at(ErrorCode::DuplicateKey, "/0/a"));
    assert_eq!(packed(&[0x82, 0xa1, b'a', 1, 0xa1, b'a', 1]), at(ErrorCode::DuplicateKey, "/a"));
    let many: Vec<String> = (0..1_000).chain([500]).map(|n| format!("\"k{n}\":1")).collect();
    assert_eq!(json(format!("{{{}}}", many.join(",")).as_bytes()), at(ErrorCode::DuplicateKey, "/k500"));
    // Where unknown fields are ignored, they are still told apart.
    let text = br#"{"kind":"miss_explanation","version":1,"payload":{"changes":[],"x":{"y":1,"y":2}}}"#;
    let report = validate(text, None).unwrap_err();
    assert_eq!((report.code, report.pointer.as_str()), (ErrorCode::DuplicateKey, "/payload/x/y"));
}

#[test]
fn numbers_without_a_canonical_form() {
    assert_eq!(json(b"[-0]"), at(ErrorCode::BadNumber, "/0"));
    assert_eq!(json(b"[-0.0]"), at(ErrorCode::BadNumber, "/0"));
    assert_eq!(json(b"[1, 1e999]"), at(ErrorCode::BadNumber, "/1"));
    let report = decode_json::<Value>(br#"{"a": [0.5, 9007199254740993]}"#).unwrap_err();
    assert_eq!((report.code, report.pointer.as_str()), (ErrorCode::BadNumber, "/a/1"));
    assert_eq!(report.found, "9007199254740993, which would become 9007199254740992");
    let report = decode_json::<Value>(format!("[{}]", "9".repeat(300)).as_bytes()).unwrap_err();
    assert!(report.found.len() < 200, "{}", report.found);
    assert_eq!(packed(&[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]).0, ErrorCode::BadNumber);
    assert_eq!(packed(&[0xca, 0x7f, 0x80, 0, 0]).0, ErrorCode::BadNumber);
    assert_eq!(packed(&[0x91, 0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0]), at(ErrorCode::BadNumber, "/0"));
    assert_eq!(packed(&[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).0, ErrorCode::BadNumber);
    // Doubles beyond 2^53-1 are none of those, as their canonical forms spell them and in any other way.
    for text in ["9007199254740992", "1152921504606847000", "1152921504606847e3", "1e300", "123456789012345680000"] {
        let value = decode_json::<f64>(text.as_bytes()).unwrap();
        let canonical = canonical_json(&value).unwrap();
        assert_eq!(decode_json::<f64>(&canonical).unwrap(), value, "{text}");
    }
    for five in ["5", "5.0", "0.5e1", "500e-2"] {
        assert_eq!(decode_json::<u8>(five.as_bytes()).unwrap(), 5);
    }
}

/// Pairs of documents that a parser of doubles cannot tell apart: one of them says what the canonical form says, the
/// other is refused with its place. So no identity stands for two numbers.
#[test]
fn no_two_numbers_share_an_identity() {
    let document = |number: &str| {
        format!(
            r#"{{"kind": "diagnostics_event", "version": 1, "payload": {{"name": "x", "event_kind": "event",
                "severity": "info", "event_time_unix_ms": 0, "version": 1, "payload": {{"a": [true, {{"n": {number}}}]}}}}}}"#
        )
    };
    for (kept, refused) in [
        ("9007199254740992", "9007199254740993"),
        ("9007199254740992", "9007199254740992.5"),
        ("9007199254740992", "9.007199254740993e15"),
        ("18446744073709552000", "18446744073709551615"),
        ("18446744073709552000", "18446744073709551616"),
        ("18446744073709552000", "18446744073709551617"),
        ("-9223372036854776000", "-9223372036854775809"),
        ("1e+22", "10000000000000000000001"),
        ("1152921504606847000", "1152921504606846976"),
        ("5", "5.00000000000000000001"),
        ("0.1", "0.10000000000000001"),
        ("0.1", "0.1000000000000000055511151231257827021181583404541015625"),
        ("0.3", "3.00000000000000001e-1"),
        ("0", "1e-400"),
        ("0", "-1e-400"),
    ] {
        let numbers = [kept, refused].map(|number| serde_json::from_str::<f64>(number).unwrap().abs());
        assert_eq!(numbers[0], numbers[1], "{kept} and {refused} are one double");
        let id = validate(document(kept).as_bytes(), None).unwrap().artifact_id;
        let report = validate(document(refused).as_bytes(), None).unwrap_err();
        assert_eq!(
            (report.code, report.pointer.as_str()),
            (ErrorCode::BadNumber, "/payload/payload/a/1/n"),
            "{refused}"
        );
        // Of the same value, in another spelling: the same number, and the same identity.
        let (mantissa, exponent) = kept.split_once('e').unwrap_or((kept, "0"));
        let respelt = if mantissa.contains('.') {
            format!("{mantissa}00e{exponent}")
        } else {
            format!("{mantissa}.00E{exponent}")
        };
        assert_eq!(validate(document(&respelt).as_bytes(), None).unwrap().artifact_id, id, "{respelt}");
    }
}

#[test]
fn what_json_does_not_have() {
    assert_eq!(packed(&[0xc4, 1, 0]).0, ErrorCode::Malformed);
    assert_eq!(packed(&[0xd4, 1, 0]).0, ErrorCode::Malformed);
    assert_eq!(packed(&[0xc1]).0, ErrorCode::Malformed);
    assert_eq!(packed(&[0x81, 1, 1]).0, ErrorCode::Malformed);
    assert_eq!(packed(&[0xa1, 0xff]).0, ErrorCode::Malformed);
    assert_eq!(packed(&[0x01, 0x02]).0, ErrorCode::Malformed);
    assert_eq!(json(b"{} {}").0, ErrorCode::Malformed);
    assert_eq!(json(b"{\"a\": \"\\ud800\"}"), at(ErrorCode::Malformed, "/a"));
    assert_eq!(json(b"\"\xff\"").0, ErrorCode::Malformed);
    assert_eq!(json(b"").0, ErrorCode::Truncated);
    assert_eq!(packed(b"").0, ErrorCode::Truncated);
}

#[test]
fn text_that_is_no_json_is_reported_with_its_line() {
    let report = decode_json::<Value>(b"{\n  \"a\": 1,\n}").unwrap_err();
    assert_eq!(report.to_string(), "at line 3, column 1: expected JSON, found text that is none (trailing comma)");
    let report = decode_json::<Value>(b"{\"a\":\n[1, nul]}").unwrap_err();
    assert_eq!(
        report.to_string(),
        "at /a/1 (line 2, column 8): expected JSON, found text that is none (expected ident)"
    );
}

#[test]
fn a_byte_order_mark_is_named() {
    for (mark, said) in [
        (&b"\xef\xbb\xbf"[..], "one; save it without"),
        (b"\xff\xfe", "one of UTF-16; save it as UTF-8"),
        (b"\xfe\xff", "one of UTF-16; save it as UTF-8"),
    ] {
        let report = validate(&[mark, br#"{"kind": "field_spec"}"#].concat(), None).unwrap_err();
        assert_eq!((report.code, report.found.as_str()), (ErrorCode::Malformed, said));
        assert_eq!(report.expected, "JSON in UTF-8 without a byte order mark");
    }
    // Within a text it is a character as any other.
    assert_eq!(decode_json::<String>("\"\u{feff}\"".as_bytes()).unwrap(), "\u{feff}");
}

#[test]
fn a_list_is_no_document_in_either_encoding() {
    let packed = [0x92, 0x81, 0xa1, b'a', 1, 2];
    for list in [&b"[{\"a\": 1}, 2]"[..], &packed, &[0xdc, 0, 0], &[0xdd, 0, 0, 0, 0]] {
        let report = validate(list, None).unwrap_err();
        assert_eq!(
            report.to_string(),
            "at the top: expected an envelope: an object with `kind`, `version` and `payload`, found a list"
        );
    }
}

#[test]
fn what_is_quoted_of_a_hostile_document_stays_small() {
    let text = format!(r#"{{"kind":"{}","version":1,"payload":1}}"#, "x".repeat(1 << 20));
    let report = validate(text.as_bytes(), None).unwrap_err();
    assert!(report.to_string().len() < 4_096, "{} bytes", report.to_string().len());
    let text = format!(r#"{{"kind":"run_document","version":1,"payload":{{"result":"{}"}}}}"#, "ü".repeat(1 << 20));
    let report = validate(text.as_bytes(), None).unwrap_err();
    assert!(report.to_string().len() < 4_096, "{} bytes", report.to_string().len());
}

/// Whatever is long in a document: keys, on the way and twice, kinds, words, numbers, and what serde echoes.
#[test]
fn no_report_is_long() {
    const LONG: usize = 1 << 17;
    let long = "ü".repeat(LONG);
    let nested: String = (0..60).map(|level| format!("{{\"{level}{}\":", "k".repeat(1_000))).collect();
    let run = |payload: &str| format!(r#"{{"kind": "run_document", "version": 1, "payload": {payload}}}"#);
    for document in [
        format!("{nested}nul"),
        format!(r#"{{"{long}": nul}}"#),
        format!(r#"{{"{long}": 1, "{long}": 1}}"#),
        format!(r#"{{"{long}": {{"{long}": 0.10000000000000001}}}}"#),
        format!(r#"[{}]"#, "9".repeat(LONG)),
        format!(r#"[0.{}]"#, "1".repeat(LONG)),
        format!(r#"{{"kind": "{long}", "version": 1, "payload": 1}}"#),
        run(&format!(r#""{long}""#)),
        run(&format!(r#"{{"run_id": "{long}"}}"#)),
        run(&format!(r#"{{"result": {{"{long}": 1}}}}"#)),
    ] {
        let report = validate(document.as_bytes(), None).unwrap_err();
        let texts = [&report.pointer, &report.expected, &report.found];
        assert!(texts.iter().all(|text| text.chars().count() <= 2_049), "{:.200}", report.to_string());
    }
    // Of a person's file: an unknown field, twice over.
    for document in [format!(r#"{{"{long}": 1}}"#), format!(r#"{{"sources": {{"{long}": {{"{long}": 1}}}}}}"#)] {
        let report = validate(document.as_bytes(), Some("pipeline_spec")).unwrap_err();
        assert_eq!(report.code, ErrorCode::UnknownField);
        assert!(report.to_string().len() < 8_192, "{} bytes", report.to_string().len());
    }
    // A kind that was asked for, and one that an envelope names instead of another.
    let report = validate(b"{}", Some(&long)).unwrap_err();
    assert!(report.to_string().len() < 8_192);
    let tag = format!(r#"{{"kind": "{long}", "version": 1, "payload": 1}}"#);
    let report = validate(tag.as_bytes(), Some("run_document")).unwrap_err();
    assert!(report.to_string().len() < 1_024);
    let error = Envelope::<RunDocument>::from_json(tag.as_bytes()).unwrap_err();
    assert!(error.to_string().len() < 1_024);
    // What has no canonical form is told by its place too.
    let error = canonical_json(&std::collections::BTreeMap::from([(&long, f64::NAN)])).unwrap_err();
    assert!(error.to_string().len() < 1_024);
}

#[test]
fn no_prefix_of_an_example_is_a_document() {
    for contract in contracts() {
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let whole = contract.example(encoding).unwrap();
            assert_eq!(contract.transcode(&whole, encoding, encoding).unwrap(), whole, "{}", contract.kind);
            for length in 0..whole.len() {
                let report = validate(&whole[..length], Some(contract.kind)).unwrap_err();
                assert_eq!(report.code, ErrorCode::Truncated, "{} {encoding} {length}: {report}", contract.kind);
            }
        }
    }
}

/// What no writer of JSON has heard of.
const RUST: &[&str] = &[
    "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f32", "f64", "usize", "struct", "tuple", "sequence", "map",
    "enum", "unit", "newtype", "Option", "Vec", "borrowed",
];

#[test]
fn a_value_of_another_type_is_reported_where_it_is() {
    for contract in contracts() {
        let document = example(&contract);
        let mut places = Vec::new();
        leaves(&document, String::new(), &mut places);
        for place in places {
            let mut changed = document.clone();
            // No field of any contract is a list of lists of booleans.
            *changed.pointer_mut(&place).unwrap() = serde_json::json!([[true]]);
            match recode(&contract, &changed) {
                // Untyped values take anything.
                Ok(recoded) => assert_eq!(recoded, changed, "{} {place}", contract.kind),
                Err(alluvium_contracts::TranscodeError::Invalid(report)) => {
                    // A list of the wrong things is reported at the thing; an untagged choice as a whole.
                    assert!(report.pointer.starts_with(&place), "{} {place}: {report}", contract.kind);
                    // What stands between backticks is the contract's own.
                    let said = report.expected.split('`').step_by(2).collect::<String>();
                    let spoken = said.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| RUST.contains(word));
                    assert_eq!(spoken, None, "{} {place} speaks Rust: {report}", contract.kind);
                }
                Err(other) => panic!("{} {place}: {other}", contract.kind),
            }
        }
    }
}

fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| leaves(value, format!("{at}/{}", escaped(key)), found));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(n, item)| leaves(item, format!("{at}/{n}"), found)),
        _ => found.push(at),
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_json::<Value>(&bytes);
        let _ = decode_messagepack::<Value>(&bytes);
        let _ = validate(&bytes, None);
    }

    #[test]
    fn flipped_bits_never_panic(which in 0_usize..1_000, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let contracts = contracts();
        let contract = contracts[which % contracts.len()];
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let mut bytes = contract.example(encoding).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = validate(&bytes, Some(contract.kind));
            let _ = validate(&bytes, None);
        }
    }
}

/// What the fuzz targets of `fuzz/` check, over the corpus that lies there: once here, with plain `cargo test`.
#[test]
fn the_fuzz_corpus_is_replayed() {
    use crate::check::check;
    replay("decode_json", |bytes| check(bytes, Encoding::Json));
    replay("decode_messagepack", |bytes| check(bytes, Encoding::MessagePack));
    #[cfg(feature = "toml")]
    replay("decode_toml", crate::check_toml::check_toml);
}

fn replay(target: &str, check: impl Fn(&[u8])) {
    let corpus = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus")).join(target);
    let mut replayed = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed >= contracts().len(), "{target}: only {replayed} files");
}

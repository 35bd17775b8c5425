//! The typed half of decoding: what serde makes of nodes, and what is said of mistakes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    Unit,
    One(u8),
    Two(u8, u8),
    Named { a: u8 },
}

#[derive(Debug, PartialEq, Deserialize)]
struct Whole {
    small: u8,
    #[serde(default)]
    shape: Option<Shape>,
    #[serde(default)]
    pair: Option<(u8, String)>,
}

fn good<T: DeserializeOwned>(text: &str) -> T {
    decode_json(text.as_bytes()).unwrap()
}

fn bad<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
    let report = decode_json::<T>(text.as_bytes()).unwrap_err();
    format!("{} {report}", report.code)
}

#[test]
fn every_form_of_a_variant() {
    assert_eq!(good::<Shape>(r#""unit""#), Shape::Unit);
    assert_eq!(good::<Shape>(r#"{"unit": null}"#), Shape::Unit);
    assert_eq!(good::<Shape>(r#"{"one": 1}"#), Shape::One(1));
    assert_eq!(good::<Shape>(r#"{"two": [1, 2]}"#), Shape::Two(1, 2));
    assert_eq!(good::<Shape>(r#"{"named": {"a": 1}}"#), Shape::Named { a: 1 });
    assert_eq!(
        bad::<Shape>(r#""one""#),
        "wrong_type at the top: expected a variant with its content, found its name alone"
    );
    assert_eq!(bad::<Shape>(r#"{"two": [1, 2, 3]}"#), "bad_value at /two: expected 2 items, found 3 items");
    assert_eq!(bad::<Shape>(r#"{"named": [1]}"#), "wrong_type at /named: expected an object, found a list");
    assert_eq!(
        bad::<Shape>(r#"{"three": 1}"#),
        "unknown_variant at /three: expected one of `unit`, `one`, `two`, `named`, found \"three\""
    );
    assert_eq!(
        bad::<Shape>("{}"),
        "wrong_type at the top: expected one of `unit`, `one`, `two`, `named`, found an object"
    );
}

#[test]
fn mistakes_are_taken_apart() {
    let whole = Whole { small: 1, shape: Some(Shape::Unit), pair: Some((2, "x".to_owned())) };
    assert_eq!(good::<Whole>(r#"{"small": 1.0, "shape": "unit", "pair": [2, "\u0078"], "new": {}}"#), whole);
    assert_eq!(
        bad::<Whole>(r#"{"small": 256}"#),
        "bad_value at /small: expected an integer from 0 to 255, found the integer 256"
    );
    assert_eq!(
        bad::<Whole>(r#"{"small": 1.5}"#),
        "wrong_type at /small: expected an integer from 0 to 255, found the number 1.5"
    );
    assert_eq!(
        bad::<Whole>("{}"),
        "missing_field at the top: expected the field `small`, found an object without `small`"
    );
    assert_eq!(bad::<Whole>(r#"[1]"#), "wrong_type at the top: expected an object, found a list");
    assert_eq!(
        bad::<Whole>(r#"{"small": 1, "pair": [1]}"#),
        "bad_value at /pair: expected a list of 2 items, found 1 of them"
    );
    assert_eq!(
        bad::<BTreeMap<String, Vec<bool>>>(r#"{"a/b": [true, null]}"#),
        "wrong_type at /a~1b/1: expected a boolean, found null"
    );
}

#[test]
fn an_identity_of_another_algorithm_is_a_bad_value() {
    let id = crate::ArtifactId::of(b"x");
    assert_eq!(
        bad::<crate::CacheKey>(&format!("\"{id}\"")),
        format!("bad_value at the top: expected `b3:` and 64 lower-case hexadecimal digits, found the text \"{id}\"")
    );
    assert_eq!(
        bad::<crate::RunId>("\"x\""),
        "bad_value at the top: expected a hyphenated lower-case UUID of version 7, found the text \"x\""
    );
}

#[test]
fn the_first_byte_tells_the_encoding_of_an_object() {
    assert_eq!(Encoding::of(b" {"), Encoding::Json);
    assert_eq!(Encoding::of(b""), Encoding::Json);
    for (map, encoding) in [(&[0x80][..], Encoding::MessagePack), (&[0xde, 0, 1], Encoding::MessagePack)] {
        assert_eq!(Encoding::of(map), encoding);
    }
}

//! Both canonical forms against their rules, and our JSON against another implementation of RFC 8785.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::*;

fn text(value: &impl Serialize) -> String {
    String::from_utf8(canonical_json(value).unwrap()).unwrap()
}

fn hex(value: &impl Serialize) -> String {
    canonical_messagepack(value).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn refused(value: &impl Serialize) -> (String, NoCanonicalForm) {
    let error = canonical_json(value).unwrap_err();
    assert_eq!(canonical_messagepack(value).unwrap_err(), error, "both forms refuse the same");
    (error.pointer, error.problem)
}

#[test]
fn field_order_does_not_matter() {
    #[derive(Serialize)]
    struct Ab {
        a: u8,
        b: u8,
    }
    #[derive(Serialize)]
    struct Ba {
        b: u8,
        a: u8,
    }
    assert_eq!(text(&Ab { a: 1, b: 2 }), r#"{"a":1,"b":2}"#);
    assert_eq!(text(&Ba { b: 2, a: 1 }), r#"{"a":1,"b":2}"#);
    assert_eq!(hex(&Ba { b: 2, a: 1 }), "82a16101a16202");
}

#[test]
fn the_example_of_the_rfc() {
    let value: Value = serde_json::from_str(
        r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
            "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#,
    )
    .unwrap();
    assert_eq!(
        text(&value),
        "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
         \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
    );
}

#[test]
fn keys_are_in_the_order_of_each_form() {
    // U+1F600 is a surrogate pair in UTF-16, and so comes before U+FB33 there and after it in UTF-8.
    let map = BTreeMap::from([("\u{1F600}", 1), ("\u{FB33}", 2), ("€", 3), ("1", 4)]);
    assert_eq!(text(&map), "{\"1\":4,\"€\":3,\"\u{1F600}\":1,\"\u{FB33}\":2}");
    assert_eq!(hex(&map), "84a13104a3e282ac03a3efacb302a4f09f988001");
}

#[test]
fn a_number_has_one_form_whatever_its_type() {
    for five in [json!(5), json!(5.0), json!(5u64)] {
        assert_eq!((text(&five), hex(&five)), ("5".to_owned(), "05".to_owned()));
    }
    assert_eq!(hex(&5.0f32), "05");
    assert_eq!(hex(&0.5f32), "cb3fe0000000000000");
    assert_eq!(hex(&-1), "ff");
    assert_eq!(hex(&-33), "d0df");
    assert_eq!(hex(&128), "cc80");
    assert_eq!(hex(&SAFE_INTEGER), "cf001fffffffffffff");
    // Not an integer of JSON any more, but a double all the same.
    assert_eq!(hex(&9_007_199_254_740_992.0), "cb4340000000000000");
    assert_eq!(text(&9_007_199_254_740_992.0), "9007199254740992");
    assert_eq!(text(&-0.5), "-0.5");
    assert_eq!(text(&i64::from(i32::MIN)), "-2147483648");
    assert_eq!(text(&0), "0");
}

#[test]
fn what_has_no_form_is_refused_with_its_place() {
    let at = |value| json!({"a/b": [1, {"c~": value}]});
    #[derive(Serialize)]
    struct Deep<T> {
        a: Vec<T>,
    }
    assert_eq!(refused(&Deep { a: vec![1.0, f64::NAN] }), ("/a/1".to_owned(), NoCanonicalForm::NotFinite));
    assert_eq!(refused(&Deep { a: vec![f64::NEG_INFINITY] }), ("/a/0".to_owned(), NoCanonicalForm::NotFinite));
    assert_eq!(refused(&at(json!(-0.0))), ("/a~1b/1/c~0".to_owned(), NoCanonicalForm::NegativeZero));
    let wide = NoCanonicalForm::WideInteger("9007199254740992".to_owned());
    assert_eq!(refused(&at(json!(9_007_199_254_740_992_u64))), ("/a~1b/1/c~0".to_owned(), wide));
    assert_eq!(refused(&i64::MIN).1, NoCanonicalForm::WideInteger(i64::MIN.to_string()));
    assert_eq!(refused(&u128::MAX).1, NoCanonicalForm::WideInteger(u128::MAX.to_string()));
    assert_eq!(refused(&BTreeMap::from([(1, 2)])), (String::new(), NoCanonicalForm::KeyNotText));
    struct Raw;
    impl Serialize for Raw {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(b"x")
        }
    }
    assert_eq!(refused(&Deep { a: vec![Raw] }), ("/a/0".to_owned(), NoCanonicalForm::Bytes));
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    struct Twice(&'static [&'static str]);
    impl Serialize for Twice {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().map(|key| (key, 1)))
        }
    }
    let twice = |key: &str| (String::new(), NoCanonicalForm::DuplicateKey(key.to_owned()));
    assert_eq!(refused(&Twice(&["a", "a"])), twice("a"));
    assert_eq!(refused(&Twice(&["b", "a", "b"])), twice("b"));
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    canonical_json(&nested(MAX_DEPTH)).unwrap();
    assert_eq!(refused(&nested(MAX_DEPTH + 1)).1, NoCanonicalForm::TooDeep);
}

#[test]
fn variants_and_unknown_lengths() {
    #[derive(Serialize)]
    enum Shape {
        Unit,
        One(u8),
        Two(u8, u8),
        Named { b: u8, a: u8 },
    }
    let shapes = [Shape::Unit, Shape::One(1), Shape::Two(1, 2), Shape::Named { b: 1, a: 2 }];
    assert_eq!(text(&shapes), r#"["Unit",{"One":1},{"Two":[1,2]},{"Named":{"a":2,"b":1}}]"#);
    assert_eq!(hex(&shapes), "94a4556e697481a34f6e650181a354776f92010281a54e616d656482a16102a16201");
    struct Lazy;
    impl Serialize for Lazy {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            // A filter's size hint is no length.
            serializer.collect_seq((0..40).filter(|n| n % 2 == 0))
        }
    }
    assert_eq!(&hex(&Lazy)[..12], "dc0014000204");
    assert_eq!(hex(&((), Some('x'), None::<u8>)), "93c0a178c0");
}

/// Any JSON value whose numbers have a canonical form.
fn any_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        (-SAFE_INTEGER..=SAFE_INTEGER).prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite, and not −0.0", |n| n.is_finite() && !(*n == 0.0 && n.is_sign_negative()))
            .prop_map(Value::from),
    ];
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number, ".*".prop_map(Value::from)];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..6).prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_what_another_implementation_writes(value in any_value()) {
        prop_assert_eq!(canonical_json(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
    }

    #[test]
    fn each_form_is_stable(value in any_value()) {
        let json = canonical_json(&value).unwrap();
        let packed = canonical_messagepack(&value).unwrap();
        // Read by parsers that are not ours, written again: the same bytes, in both forms.
        let from_packed: Value = rmp_serde::from_slice(&packed).unwrap();
        prop_assert_eq!(&canonical_messagepack(&from_packed).unwrap(), &packed);
        prop_assert_eq!(&canonical_json(&from_packed).unwrap(), &json);
        let from_json = crate::decode_json::<Value>(&json).unwrap();
        prop_assert_eq!(&canonical_json(&from_json).unwrap(), &json);
        prop_assert_eq!(&canonical_messagepack(&from_json).unwrap(), &packed);
    }
}

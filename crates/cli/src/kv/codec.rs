//! Keys and values as JSON, both ways without loss.
//!
//! | key | JSON |
//! |---|---|
//! | text | a string |
//! | integer | an integer; beyond 64 bits `{"int": "170141183460469231731687303715884105727"}` |
//! | bool | `true`, `false` |
//! | tuple | an array of keys |
//! | bytes | `{"base64": "…"}` |
//! | float | `{"float": "1.5"}`, also `"inf"`, `"-inf"`, `"NaN"`: many languages write 1.0 as `1`, which is another key |
//! | UUID | `{"uuid": "…"}` |
//! | any | `{"encoded": "…"}`: its encoded bytes, in base64 |
//!
//! A value is a string if its bytes are UTF-8, and `{"base64": "…"}` if not.

use alluvium_disk_kv_cache::{Key, KeyBuf, KeyElement};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fault::Fault;

/// The key that `value`, at the place `at` of a request, stands for.
pub fn key_from_json(value: &Value, at: &str) -> Result<KeyBuf, Fault> {
    let mut bytes = Vec::new();
    element_from_json(value, at, KeyElement::MAX_DEPTH)?.encode_into(&mut bytes);
    KeyBuf::from_bytes(bytes).map_err(|error| Fault::field(at, error.to_string()))
}

/// A key as JSON.
pub fn key_to_json(key: &KeyBuf) -> Value {
    let shown = key.decode().ok().and_then(element_to_json);
    // What JSON has no form for here, such as a NaN with a payload.
    shown.unwrap_or_else(|| json!({ "encoded": STANDARD.encode(key.as_bytes()) }))
}

/// The bytes that `value`, at the place `at` of a request, stands for.
pub fn bytes_from_json(value: &Value, at: &str) -> Result<Vec<u8>, Fault> {
    match (value, tagged(value)) {
        (Value::String(text), _) => Ok(text.clone().into_bytes()),
        (_, Some(("base64", Value::String(text)))) => from_base64(text, at),
        _ => Err(Fault::field(at, format!("must be a string or {{\"base64\": …}}, not {}", kind_of(value)))),
    }
}

/// Bytes as JSON.
pub fn bytes_to_json(bytes: Vec<u8>) -> Value {
    String::from_utf8(bytes).map_or_else(|error| json!({ "base64": STANDARD.encode(error.as_bytes()) }), Value::String)
}

/// What a JSON value is, for messages.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn element_from_json(value: &Value, at: &str, depth: usize) -> Result<KeyElement, Fault> {
    let wrong = |rule: &str| Err(Fault::field(at, rule.to_owned()));
    let integer = |negative, magnitude| KeyElement::Integer { negative, magnitude };
    Ok(match (value, tagged(value)) {
        (Value::String(text), _) => KeyElement::Text(text.clone()),
        (Value::Bool(bool), _) => KeyElement::Bool(*bool),
        (Value::Number(number), _) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => integer(number < 0, number.unsigned_abs().into()),
            (None, Some(number)) => integer(false, number.into()),
            (None, None) => {
                return wrong(
                    "a number in a key is an integer of 64 bits: write others as {\"float\": \"1.5\"} or {\"int\": \"…\"}",
                );
            }
        },
        (Value::Array(_), _) if depth == 0 => return wrong("keys nest no deeper than 64 tuples"),
        (Value::Array(elements), _) => {
            let elements = elements.iter().enumerate();
            let element = |(index, element)| element_from_json(element, &format!("{at}[{index}]"), depth - 1);
            KeyElement::Tuple(elements.map(element).collect::<Result<_, _>>()?)
        }
        (_, Some(("base64", Value::String(text)))) => KeyElement::Bytes(from_base64(text, at)?),
        (_, Some(("int", Value::String(text)))) => match (text.parse::<i128>(), text.parse::<u128>()) {
            (Ok(number), _) => integer(number < 0, number.unsigned_abs()),
            (Err(_), Ok(number)) => integer(false, number),
            _ => return wrong("must be {\"int\": \"…\"} with the decimal digits of an integer of 128 bits"),
        },
        (_, Some(("float", Value::String(text)))) => match text.parse::<f64>() {
            // Digits beyond the range of a double would be the key of infinity.
            Ok(float) if float.is_finite() || !text.contains(|c: char| c.is_ascii_digit()) => KeyElement::Float(float),
            _ => return wrong("must be {\"float\": \"…\"} with a decimal number, inf, -inf or NaN"),
        },
        (_, Some(("uuid", Value::String(text)))) => match Uuid::parse_str(text) {
            Ok(uuid) => KeyElement::Fixed(uuid.into_bytes()),
            Err(_) => return wrong("must be {\"uuid\": \"…\"} with the 32 hex digits of a UUID"),
        },
        (_, Some(("encoded", Value::String(text)))) => {
            let key = KeyBuf::from_bytes(from_base64(text, at)?).and_then(|key| key.decode());
            match key {
                Ok(element) => element,
                Err(error) => return wrong(&format!("is not an encoded key: {error}")),
            }
        }
        _ => {
            return wrong(&format!(
                "must be a key, not {}: a string, an integer, a bool, an array of keys, or an object with one of base64, \
                 int, float, uuid and encoded, whose value is a string",
                kind_of(value)
            ));
        }
    })
}

/// `None`: there is no form for it.
fn element_to_json(element: KeyElement) -> Option<Value> {
    Some(match element {
        KeyElement::Text(text) => text.into(),
        KeyElement::Bytes(bytes) => json!({ "base64": STANDARD.encode(bytes) }),
        KeyElement::Bool(bool) => bool.into(),
        KeyElement::Integer { negative, magnitude } => integer_to_json(negative, magnitude)?,
        KeyElement::Float(nan) if nan.is_nan() && nan.to_bits() != f64::NAN.to_bits() => return None,
        KeyElement::Float(float) => json!({ "float": format!("{float:?}") }),
        KeyElement::Fixed(bytes) => json!({ "uuid": Uuid::from_bytes(bytes).to_string() }),
        KeyElement::Tuple(elements) => elements.into_iter().map(element_to_json).collect::<Option<_>>()?,
    })
}

fn integer_to_json(negative: bool, magnitude: u128) -> Option<Value> {
    if !negative {
        let short = u64::try_from(magnitude).map(Value::from);
        return Some(short.unwrap_or_else(|_| json!({ "int": magnitude.to_string() })));
    }
    let number = 0_i128.checked_sub_unsigned(magnitude)?;
    Some(i64::try_from(number).map_or_else(|_| json!({ "int": number.to_string() }), Value::from))
}

/// The one field of an object with one field.
fn tagged(value: &Value) -> Option<(&str, &Value)> {
    let mut fields = value.as_object()?.iter();
    let (name, value) = fields.next()?;
    fields.next().is_none().then_some((name.as_str(), value))
}

fn from_base64(text: &str, at: &str) -> Result<Vec<u8>, Fault> {
    let decoded = STANDARD.decode(text);
    decoded.map_err(|error| Fault::field(at, format!("is not base64 of the standard alphabet, padded: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(key: KeyBuf, expected: Value) {
        let shown = key_to_json(&key);
        assert_eq!(shown, expected);
        let text = shown.to_string();
        assert_eq!(key_from_json(&serde_json::from_str(&text).unwrap(), "key").unwrap(), key, "{text}");
    }

    #[test]
    fn every_kind_of_key_comes_back() {
        round("a\n\0ü".to_key(), json!("a\n\0ü"));
        round(b"\xff\0".as_slice().to_key(), json!({"base64": "/wA="}));
        for integer in [0, -1, i64::MAX, i64::MIN] {
            round(integer.to_key(), json!(integer));
        }
        round(u64::MAX.to_key(), json!(u64::MAX));
        for integer in [i128::MIN, i128::MAX, i128::from(i64::MIN) - 1, i128::from(u64::MAX) + 1] {
            round(integer.to_key(), json!({"int": integer.to_string()}));
        }
        round(u128::MAX.to_key(), json!({"int": u128::MAX.to_string()}));
        for float in [0.0, -0.0, 0.1, -1e300, f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            round(float.to_key(), json!({"float": format!("{float:?}")}));
        }
        let payload = f64::from_bits(f64::NAN.to_bits() | 5).to_key();
        round(payload.clone(), json!({"encoded": STANDARD.encode(payload.as_bytes())}));
        let beyond = KeyElement::Integer { negative: true, magnitude: u128::MAX }.to_key();
        round(beyond.clone(), json!({"encoded": STANDARD.encode(beyond.as_bytes())}));
        round([7; 16].to_key(), json!({"uuid": "07070707-0707-0707-0707-070707070707"}));
        round(true.to_key(), json!(true));
        round(("a", 1, (false, b"x".as_slice())).to_key(), json!(["a", 1, [false, {"base64": "eA=="}]]));
        assert_ne!(key_from_json(&json!(1), "").unwrap(), key_from_json(&json!({"float": "1"}), "").unwrap());
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_place() {
        for (json, place) in [
            (r#"[1, ["a", null]]"#, "key[1][1]"),
            ("1.5", "key"),
            ("18446744073709551616", "key"),
            (r#"{"base64": "?"}"#, "key"),
            (r#"{"base64": "eA==", "x": 1}"#, "key"),
            (r#"{"float": 1.5}"#, "key"),
            (r#"{"int": "1e3"}"#, "key"),
            (r#"{"float": "1e400"}"#, "key"),
            (r#"{"uuid": "07"}"#, "key"),
            (r#"{"encoded": ""}"#, "key"),
        ] {
            let fault = key_from_json(&serde_json::from_str(json).unwrap(), "key").unwrap_err();
            assert_eq!((fault.kind(), fault.place()), ("bad_request", Some(place)), "{json}");
        }
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        round(key_from_json(&nested(64), "").unwrap(), nested(64));
        assert!(key_from_json(&nested(65), "").is_err());
    }

    #[test]
    fn values_are_text_or_base64() {
        for bytes in [&b""[..], b"text", "ü\0".as_bytes(), b"\xff\xfe"] {
            let json = bytes_to_json(bytes.to_vec());
            assert_eq!(bytes_from_json(&json, "value").unwrap(), bytes);
        }
        assert_eq!(bytes_to_json(vec![0xff]), json!({"base64": "/w=="}));
        for wrong in [json!(1), json!(null), json!(["a"]), json!({"base64": 1})] {
            assert_eq!(bytes_from_json(&wrong, "value").unwrap_err().place(), Some("value"));
        }
    }
}

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

use alluvium_disk_kv_cache::{FromKey, Key, KeyBuf, KeyError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fault::Fault;

/// How deep tuples nest: the library shows no deeper ones either.
const MAX_DEPTH: usize = 64;

// The first bytes of encoded elements, which the library promises to keep.
const BYTES: u8 = 0x01;
const TEXT: u8 = 0x02;
const TUPLE: u8 = 0x05;
const FIRST_INTEGER: u8 = 0x0B;
const LAST_INTEGER: u8 = 0x1D;
const FLOAT: u8 = 0x21;
const FALSE: u8 = 0x26;
const TRUE: u8 = 0x27;
const FIXED_16: u8 = 0x30;
const TUPLE_END: u8 = 0x00;

/// The key that `value`, at the place `at` of a request, stands for.
pub fn key_from_json(value: &Value, at: &str) -> Result<KeyBuf, Fault> {
    let mut bytes = Vec::new();
    encode(value, at, MAX_DEPTH, &mut bytes)?;
    KeyBuf::from_bytes(bytes).map_err(|error| Fault::field(at, error.to_string()))
}

/// A key as JSON.
pub fn key_to_json(key: &KeyBuf) -> Value {
    match key.decode::<Shown>() {
        Ok(Shown(value)) => value,
        // Of a kind that JSON has no form for here, such as a NaN with a payload.
        Err(_) => json!({ "encoded": STANDARD.encode(key.as_bytes()) }),
    }
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

fn encode(value: &Value, at: &str, depth: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let wrong = |rule: &str| Err(Fault::field(at, rule.to_owned()));
    match (value, tagged(value)) {
        (Value::String(text), _) => text.encode_into(out),
        (Value::Bool(bool), _) => bool.encode_into(out),
        (Value::Number(number), _) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => integer.encode_into(out),
            (None, Some(integer)) => integer.encode_into(out),
            (None, None) => {
                return wrong(
                    "a number in a key is an integer of 64 bits: write others as {\"float\": \"1.5\"} or {\"int\": \"…\"}",
                );
            }
        },
        (Value::Array(_), _) if depth == 0 => return wrong("keys nest no deeper than 64 tuples"),
        (Value::Array(elements), _) => {
            out.push(TUPLE);
            for (index, element) in elements.iter().enumerate() {
                encode(element, &format!("{at}[{index}]"), depth - 1, out)?;
            }
            out.push(TUPLE_END);
        }
        (_, Some(("base64", Value::String(text)))) => from_base64(text, at)?.encode_into(out),
        (_, Some(("int", Value::String(text)))) => match (text.parse::<i128>(), text.parse::<u128>()) {
            (Ok(integer), _) => integer.encode_into(out),
            (Err(_), Ok(integer)) => integer.encode_into(out),
            _ => return wrong("must be {\"int\": \"…\"} with the decimal digits of an integer of 128 bits"),
        },
        (_, Some(("float", Value::String(text)))) => match text.parse::<f64>() {
            Ok(float) => float.encode_into(out),
            Err(_) => return wrong("must be {\"float\": \"…\"} with a decimal number, inf, -inf or NaN"),
        },
        (_, Some(("uuid", Value::String(text)))) => match Uuid::parse_str(text) {
            Ok(uuid) => uuid.into_bytes().encode_into(out),
            Err(_) => return wrong("must be {\"uuid\": \"…\"} with the 32 hex digits of a UUID"),
        },
        (_, Some(("encoded", Value::String(text)))) => match KeyBuf::from_bytes(from_base64(text, at)?) {
            Ok(key) => key.encode_into(out),
            Err(error) => return wrong(&format!("is not an encoded key: {error}")),
        },
        _ => {
            return wrong(&format!(
                "must be a key, not {}: a string, an integer, a bool, an array of keys, or an object with one of base64, \
                 int, float, uuid and encoded, whose value is a string",
                kind_of(value)
            ));
        }
    }
    Ok(())
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

/// Any key, read as JSON.
struct Shown(Value);

impl FromKey for Shown {
    fn decode_from(bytes: &mut &[u8]) -> Result<Shown, KeyError> {
        decode(bytes, MAX_DEPTH).map(Shown)
    }
}

fn decode(bytes: &mut &[u8], depth: usize) -> Result<Value, KeyError> {
    const EXPECTED: &str = "key";
    let found = *bytes.first().ok_or(KeyError::Ended { expected: EXPECTED })?;
    Ok(match found {
        TEXT => String::decode_from(bytes)?.into(),
        BYTES => json!({ "base64": STANDARD.encode(Vec::decode_from(bytes)?) }),
        FALSE | TRUE => bool::decode_from(bytes)?.into(),
        FIRST_INTEGER..=LAST_INTEGER => decode_integer(bytes)?,
        FLOAT => match f64::decode_from(bytes)? {
            nan if nan.is_nan() && nan.to_bits() != f64::NAN.to_bits() => {
                return Err(KeyError::Kind { expected: EXPECTED, found });
            }
            float => json!({ "float": format!("{float:?}") }),
        },
        FIXED_16 => json!({ "uuid": Uuid::from_bytes(FromKey::decode_from(bytes)?).to_string() }),
        TUPLE if depth > 0 => {
            *bytes = &bytes[1..];
            let mut elements = Vec::new();
            while bytes.first() != Some(&TUPLE_END) {
                elements.push(decode(bytes, depth - 1)?);
            }
            *bytes = &bytes[1..];
            Value::Array(elements)
        }
        _ => return Err(KeyError::Kind { expected: EXPECTED, found }),
    })
}

fn decode_integer(bytes: &mut &[u8]) -> Result<Value, KeyError> {
    let mut again = *bytes;
    let integer = match i128::decode_from(bytes) {
        Ok(integer) => integer,
        Err(_) => {
            let integer = u128::decode_from(&mut again)?;
            *bytes = again;
            return Ok(json!({ "int": integer.to_string() }));
        }
    };
    Ok(match (i64::try_from(integer), u64::try_from(integer)) {
        (Ok(integer), _) => integer.into(),
        (Err(_), Ok(integer)) => integer.into(),
        _ => json!({ "int": integer.to_string() }),
    })
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

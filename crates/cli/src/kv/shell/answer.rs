//! How long an answer may be.

use serde_json::Value;

use crate::kv::fault::{Fault, kind};

/// The most text that an answer has, in bytes: callers read it as one line.
pub const MAX_BYTES: usize = 64 << 20;

/// Lets an answer pass, unless it is too long. What removes something asks before the removal is committed: nobody would have
/// what was removed.
pub fn fit(answer: Value) -> Result<Value, Fault> {
    let bytes = bytes(&answer);
    if bytes <= MAX_BYTES { Ok(answer) } else { Err(too_long(bytes as u64)) }
}

/// Refuses a value for its length alone, before it is read.
pub fn fits(value_bytes: Option<u64>) -> Result<(), Fault> {
    match value_bytes.filter(|bytes| *bytes > MAX_BYTES as u64) {
        Some(bytes) => Err(too_long(bytes)),
        None => Ok(()),
    }
}

/// The bytes of text in an answer. (What JSON puts around it, and in front of quotes, is not counted.)
pub fn bytes(answer: &Value) -> usize {
    match answer {
        Value::String(text) => text.len(),
        Value::Array(elements) => elements.iter().map(bytes).sum(),
        Value::Object(fields) => fields.values().map(bytes).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The refusal of an answer of so many bytes.
pub fn too_long(bytes: u64) -> Fault {
    let message = format!(
        "the answer would have {bytes} bytes, more than {MAX_BYTES}: ask for less at once; a cache's value goes to a file with \
         cache.read_to"
    );
    Fault::new(kind::VALUE_TOO_LONG, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_counts_wherever_it_is() {
        assert_eq!(bytes(&json!([null, 1, true, "abc", {"name": "de", "more": [["f"]]}])), 6);
        let long = "x".repeat(MAX_BYTES / 2 + 1);
        assert!(fit(json!([long])).is_ok());
        assert!(fit(json!({"one": long, "two": long})).is_err());
        assert!(
            fits(Some(MAX_BYTES as u64)).is_ok() && fits(None).is_ok() && fits(Some(MAX_BYTES as u64 + 1)).is_err()
        );
    }
}

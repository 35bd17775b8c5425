//! Canonical JSON (RFC 8785), the text under every digest of a payload.

use serde::Serialize;

/// The value has no canonical form.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error("the value has no canonical JSON form; it must hold no NaN or infinity and only string keys")]
pub struct CanonicalError {
    #[source]
    source: serde_json::Error,
}

/// Encodes `value` as canonical JSON by RFC 8785: sorted keys, shortest numbers, no white space.
///
/// Numbers are doubles in RFC 8785: an integer field that may exceed 2⁵³−1 has to be a string in its type.
///
/// # Errors
/// [`CanonicalError`] when the value holds something JSON cannot say (a map with keys that are no strings).
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    serde_json_canonicalizer::to_vec(value).map_err(|source| CanonicalError { source })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let ab = canonical_json(&Ab { a: 1, b: 2 }).unwrap();
        assert_eq!(ab, canonical_json(&Ba { b: 2, a: 1 }).unwrap());
        assert_eq!(ab, br#"{"a":1,"b":2}"#);
    }
}

//! What must hold for any bytes taken for TOML.

use alluvium_contracts::{Encoding, Limits, canonical_json, contracts, decode, decode_toml, validate, validate_toml};
use serde_json::Value;

use super::check::is_small;

/// Decodes `bytes` as TOML. What decodes says the same in JSON, of whatever contract it is.
pub fn check_toml(bytes: &[u8]) {
    let value = match decode_toml::<Value>(bytes) {
        Ok(value) => value,
        Err(report) => {
            assert!(is_small(&report), "{report}");
            assert!(validate_toml(bytes, None).is_err(), "only one way to read it refuses");
            return;
        }
    };
    let json = canonical_json(&value).expect("what decodes has a canonical form");
    let again: Value = decode(&json, Encoding::Json, Limits::default()).expect("a canonical form decodes");
    assert_eq!(again, value);
    for contract in contracts() {
        match (validate_toml(bytes, Some(contract.kind)), validate(&json, Some(contract.kind))) {
            (Ok(toml), Ok(json)) => assert_eq!(toml, json, "{}", contract.kind),
            (Err(toml), Err(json)) => {
                assert!(is_small(&toml) && toml.line.is_some(), "{toml}");
                assert_eq!(toml.code, json.code, "{}: {toml}; {json}", contract.kind);
            }
            (toml, json) => panic!("{}: {toml:?}; {json:?}", contract.kind),
        }
    }
}

//! What must hold for any bytes: the check of every fuzz target, and of the test that replays their corpus.

use alluvium_contracts::{Encoding, Limits, canonical_json, canonical_messagepack, contracts, decode, validate};
use serde_json::Value;

/// Decodes `bytes` as anything and as each contract. What decodes has both canonical forms, each decodes into the same
/// value, and each is a fixed point.
pub fn check(bytes: &[u8], encoding: Encoding) {
    let Ok(value) = decode::<Value>(bytes, encoding, Limits::default()) else {
        assert!(validate(bytes, None).is_err() || Encoding::of(bytes) != encoding, "only one way to read it refuses");
        return;
    };
    let json = canonical_json(&value).expect("what decodes has a canonical form");
    let packed = canonical_messagepack(&value).expect("what decodes has a canonical form");
    for (canonical, encoding) in [(&json, Encoding::Json), (&packed, Encoding::MessagePack)] {
        let again: Value = decode(canonical, encoding, Limits::default()).expect("a canonical form decodes");
        assert_eq!(again, value);
    }
    for contract in contracts() {
        let Ok(packed) = contract.transcode(bytes, encoding, Encoding::MessagePack) else {
            continue;
        };
        let json = contract.transcode(&packed, Encoding::MessagePack, Encoding::Json).expect("ours decodes");
        let back = contract.transcode(&json, Encoding::Json, Encoding::MessagePack).expect("ours decodes");
        assert_eq!(back, packed, "{}", contract.kind);
    }
}

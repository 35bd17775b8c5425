//! What must hold for any bytes: the check of every fuzz target, and of the test that replays their corpus.

use alluvium_contracts::{
    Encoding, ErrorReport, Limits, TranscodeError, canonical_json, canonical_messagepack, contracts, decode, validate,
};
use serde_json::Value;

/// A report is small, whatever it is about: its texts are cut after 2,048 characters.
pub fn is_small(report: &ErrorReport) -> bool {
    [&report.pointer, &report.expected, &report.found].iter().all(|text| text.chars().count() <= 2_049)
}

/// Decodes `bytes` as anything and as each contract. What decodes has both canonical forms, each decodes into the same
/// value, and each is a fixed point. What does not is told in a small report.
pub fn check(bytes: &[u8], encoding: Encoding) {
    let value = match decode::<Value>(bytes, encoding, Limits::default()) {
        Ok(value) => value,
        Err(report) => {
            assert!(is_small(&report), "{report}");
            assert!(
                validate(bytes, None).is_err() || Encoding::of(bytes) != encoding,
                "only one way to read it refuses"
            );
            return;
        }
    };
    let json = canonical_json(&value).expect("what decodes has a canonical form");
    let packed = canonical_messagepack(&value).expect("what decodes has a canonical form");
    for (canonical, encoding) in [(&json, Encoding::Json), (&packed, Encoding::MessagePack)] {
        let again: Value = decode(canonical, encoding, Limits::default()).expect("a canonical form decodes");
        assert_eq!(again, value);
    }
    for contract in contracts() {
        let packed = match contract.transcode(bytes, encoding, Encoding::MessagePack) {
            Ok(packed) => packed,
            Err(TranscodeError::Invalid(report)) => {
                assert!(is_small(&report), "{report}");
                continue;
            }
            Err(error) => panic!("{}: what was decoded has no canonical form: {error:?}", contract.kind),
        };
        let json = contract.transcode(&packed, Encoding::MessagePack, Encoding::Json).expect("ours decodes");
        let back = contract.transcode(&json, Encoding::Json, Encoding::MessagePack).expect("ours decodes");
        assert_eq!(back, packed, "{}", contract.kind);
    }
}

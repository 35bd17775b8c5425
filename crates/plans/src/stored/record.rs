//! A stored plan as bytes: the digest of all that follows, what the plan was made with and what it scans, and the plan.
//!
//! The digest is what keeps damage from the engine's decoders, which trust what they read.

use std::collections::BTreeMap;

use alluvium_contracts::{ContentDigest, PlanEncoding, PlanFingerprint};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The versions of the engine that made it: no other reads it.
    pub(super) engine: BTreeMap<String, String>,
    /// What the plan has to come to.
    pub(super) fingerprint: PlanFingerprint,
    /// The names that it scans.
    pub(super) tables: Vec<String>,
    /// How it is encoded.
    pub(super) encoding: PlanEncoding,
    /// Why not as was asked.
    pub(super) reason: Option<String>,
    /// The plan, so encoded; it stands behind the rest.
    #[serde(skip)]
    pub(super) plan: Vec<u8>,
}

impl Record {
    /// Digest, length of the head (four bytes, the lowest first), head as JSON, plan.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Maps and lists of text have a form in JSON, and names do not fill 4 GiB.
        let head = serde_json::to_vec(self).unwrap_or_default();
        let length = u32::try_from(head.len()).unwrap_or_default().to_le_bytes();
        let rest = [&length[..], &head, &self.plan].concat();
        [&ContentDigest::of(&rest).as_bytes()[..], &rest].concat()
    }

    /// None if these are not bytes of [`to_bytes`](Self::to_bytes).
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digest, rest) = bytes.split_first_chunk::<32>()?;
        if ContentDigest::of(rest).as_bytes() != digest {
            return None;
        }
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (head, plan) = rest.split_at_checked(length)?;
        let head: Self = serde_json::from_slice(head).ok()?;
        Some(Self { plan: plan.to_vec(), ..head })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_counts() {
        let record = Record {
            engine: BTreeMap::from([("datafusion".to_owned(), "55.2.0".to_owned())]),
            fingerprint: PlanFingerprint::of(b"plan"),
            tables: vec!["events".to_owned()],
            encoding: PlanEncoding::Engine,
            reason: Some("Substrait has no JOIN USING".to_owned()),
            plan: vec![0, 1, 2, 255],
        };
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes).as_ref(), Some(&record));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(Record::from_bytes(&flipped), None, "bit {bit} of byte {at}");
            }
            assert_eq!(Record::from_bytes(&bytes[..at]), None, "cut off at {at}");
        }
        assert_eq!(Record::from_bytes(&[&bytes[..], b"\0"].concat()), None);
        // Whole, and none of ours.
        for rest in [&b""[..], b"\xff\xff\xff\xff", b"\x02\0\0\0{}"] {
            assert_eq!(Record::from_bytes(&[&ContentDigest::of(rest).as_bytes()[..], rest].concat()), None);
        }
    }
}

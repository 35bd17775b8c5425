//! Ids that are derived from values: the same values give the same id, in every run, on every machine, for ever.
//!
//! The digest of some parts is BLAKE3 over their encodings one after the other, cut to its first bytes and written as
//! lower-case hexadecimal digits. A part is encoded as one byte for its kind, its length in bytes (64 bits, least
//! significant byte first), and its bytes: so no two lists of parts share an encoding. Ids are stored in tables, so none of
//! this ever changes; another digest is another function.

use std::fmt;

use crate::semantic_type::SemanticType;

/// One value that an id is derived from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part<'a> {
    /// Text, as its UTF-8 bytes: kind `t`.
    Text(&'a str),
    /// Bytes: kind `b`.
    Bytes(&'a [u8]),
    /// A whole number, however wide its column is, in 16 bytes of two's complement, least significant first: kind `i`.
    Integer(i128),
    /// `1` or `0` as one byte: kind `o`.
    Boolean(bool),
    /// Days since 1970-01-01 in 4 bytes of two's complement, least significant first: kind `d`.
    Date(i32),
}

/// The id of type `semantic_type` that stands for `parts`, such as `node:` and 32 digits.
#[must_use]
pub fn stable_id(semantic_type: SemanticType, parts: &[Part<'_>]) -> String {
    prefixed_hash128(semantic_type.prefix(), parts)
}

/// `prefix`, a colon, and 32 digits (128 bits) of the digest of `parts`. The prefix is no part of the digest.
#[must_use]
pub fn prefixed_hash128(prefix: &str, parts: &[Part<'_>]) -> String {
    format!("{prefix}:{}", digest(parts.iter().copied(), &mut Vec::new()).hex::<16>())
}

/// `prefix`, a colon, and 16 digits (64 bits) of the digest of `parts`: short, and two of some four billion are likely to
/// collide. The prefix is no part of the digest.
#[must_use]
pub fn prefixed_hash64(prefix: &str, parts: &[Part<'_>]) -> String {
    format!("{prefix}:{}", digest(parts.iter().copied(), &mut Vec::new()).hex::<8>())
}

/// The digest of some parts, of which an id shows the beginning.
pub(crate) struct Digest(blake3::Hash);

/// Digests `parts`, with `encoding` as room to work in.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = Part<'a>>, encoding: &mut Vec<u8>) -> Digest {
    encoding.clear();
    parts.into_iter().for_each(|part| part.encode(encoding));
    Digest(blake3::hash(encoding))
}

impl Digest {
    /// The first `BYTES` bytes as digits.
    pub(crate) fn hex<const BYTES: usize>(&self) -> impl fmt::Display {
        let digits = self.0.to_hex();
        fmt::from_fn(move |f| f.write_str(&digits[..2 * BYTES]))
    }
}

impl Part<'_> {
    fn encode(self, out: &mut Vec<u8>) {
        let mut put = |kind: u8, bytes: &[u8]| {
            out.push(kind);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match self {
            Self::Text(text) => put(b't', text.as_bytes()),
            Self::Bytes(bytes) => put(b'b', bytes),
            Self::Integer(number) => put(b'i', &number.to_le_bytes()),
            Self::Boolean(value) => put(b'o', &[u8::from(value)]),
            Self::Date(days) => put(b'd', &days.to_le_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_id_shows_the_digest_of_the_documented_encoding() {
        let parts = [Part::Text("é"), Part::Integer(-2)];
        let mut encoded = b"t\x02\0\0\0\0\0\0\0\xc3\xa9i\x10\0\0\0\0\0\0\0\xfe".to_vec();
        encoded.extend([0xff; 15]);
        let digits = blake3::hash(&encoded).to_hex();
        assert_eq!(stable_id(SemanticType::EdgeId, &parts), format!("edge:{}", &digits[..32]));
        assert_eq!(prefixed_hash128("edge", &parts), stable_id(SemanticType::EdgeId, &parts));
        assert_eq!(prefixed_hash64("a:b", &parts), format!("a:b:{}", &digits[..16]));
    }

    #[test]
    fn no_two_lists_of_parts_share_an_id() {
        let lists: [&[Part<'_>]; 12] = [
            &[],
            &[Part::Text("")],
            &[Part::Text(""), Part::Text("")],
            &[Part::Text("ab")],
            &[Part::Text("a"), Part::Text("b")],
            &[Part::Text("b"), Part::Text("a")],
            &[Part::Bytes(b"ab")],
            &[Part::Text("1")],
            &[Part::Integer(1)],
            &[Part::Boolean(true)],
            &[Part::Date(1)],
            &[Part::Integer(-1)],
        ];
        let ids: BTreeSet<String> = lists.iter().map(|parts| prefixed_hash64("x", parts)).collect();
        assert_eq!(ids.len(), lists.len());
    }
}

//! Identity digests: one newtype per meaning, one text form that names the algorithm.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not a digest of the expected algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{text}` is not a digest: expected `{algorithm}:` and 64 lower-case hexadecimal digits")]
pub struct DigestParseError {
    /// The algorithm prefix that was expected (`b3` or `sha256`).
    pub algorithm: &'static str,
    /// What was found.
    pub text: String,
}

macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $algorithm:literal, $hash:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The prefix of the text form.
            pub const ALGORITHM: &'static str = $algorithm;

            /// The digest of `bytes`.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                let hash: fn(&[u8]) -> [u8; 32] = $hash;
                Self(hash(bytes))
            }

            /// A digest that was computed elsewhere, by the same algorithm.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes of the digest.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 64 hexadecimal digits without the algorithm, for use inside a file name.
            #[must_use]
            pub fn hex(&self) -> String {
                hex(&self.0).iter().map(|digit| char::from(*digit)).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($algorithm, ":"))?;
                f.write_str(str::from_utf8(&hex(&self.0)).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = DigestParseError;

            fn from_str(text: &str) -> Result<Self, DigestParseError> {
                parse(text, concat!($algorithm, ":"))
                    .map(Self)
                    .ok_or_else(|| DigestParseError { algorithm: $algorithm, text: text.to_owned() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                let expected = concat!("`", $algorithm, ":` and 64 lower-case hexadecimal digits");
                text.parse().map_err(|_| de::Error::invalid_value(Unexpected::Str(&text), &expected))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": concat!("^", $algorithm, ":[0-9a-f]{64}$") })
            }
        }
    };
}

digest!(
    /// The identity of a computation: canonical plan, functions, semantic settings, engine versions.
    PlanFingerprint, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// Plan fingerprint and pins together: what makes a cache entry valid.
    CacheKey, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The identity of a pinned input: its content and the way it is read.
    PinDigest, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The digest of a file's bytes.
    ContentDigest, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The digest of a published schema.
    SchemaHash, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The digest of a resolved write policy: how a table is laid out, which is no part of what it says.
    LayoutHash, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// All plan fingerprints of a run together: one value that tells whether two runs computed the same things.
    PlanSignature, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The digest of a runtime profile: every setting of it.
    ProfileHash, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The digest of the SQL policy under which a plan was made.
    SqlPolicyHash, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The digest of a plan's normalised Substrait encoding.
    SubstraitHash, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The digest of what a function says of itself: names, arguments, results, volatility, version.
    FunctionHash, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The digest of a table's rows, whatever their order and layout.
    RowsDigest, "b3", |bytes| blake3::hash(bytes).into()
);
digest!(
    /// The identity of a stored artifact: the SHA-256 of its canonical encoding.
    ArtifactId, "sha256", |bytes| { use sha2::Digest as _; sha2::Sha256::digest(bytes).into() }
);

/// The digits of a digest. Digests are in every payload many times over, and `format!` would be most of encoding one.
fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    digits
}

fn parse(text: &str, prefix: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix(prefix)?.as_bytes();
    if hex.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let key = CacheKey::of(b"x");
        assert_eq!(key.to_string().parse::<CacheKey>().unwrap(), key);
        assert_eq!(serde_json::from_str::<CacheKey>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
    }

    #[test]
    fn the_algorithm_is_part_of_the_text() {
        let id = ArtifactId::of(b"x").to_string();
        assert!(id.starts_with("sha256:2d711642b726b044"), "{id}");
        assert!(id.parse::<CacheKey>().is_err());
    }

    #[test]
    fn near_misses_are_refused() {
        let good = CacheKey::of(b"x").to_string();
        for bad in [good.to_uppercase(), good[..good.len() - 1].to_owned(), good[3..].to_owned(), format!("{good}0")] {
            assert!(bad.parse::<CacheKey>().is_err(), "{bad}");
        }
    }
}

//! Identifiers that are drawn, not computed: runs, cache roots, entries, stores and commits.
//!
//! Drawing one needs a clock and randomness, so it happens in `alluvium-telemetry`'s one seam, never here.
//!
//! # The text form
//! A digest says its algorithm in a prefix (`b3:…`), because its digits do not. A UUID says it in its digits: the first
//! one of the third group is the version, that is the way it was drawn (RFC 9562), so `0190b3a5-7c1e-7def-8123-…` is a
//! UUIDv7 to every library and database that reads one. A prefix of ours would say it a second time, and take from those
//! readers a type that they know. Each kind of identifier has one version, and text of another is refused.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{Uuid, Variant};

/// The text is not an identifier of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{text}` is not a {kind}: expected {expected}")]
pub struct IdParseError {
    /// The kind of identifier that was expected.
    pub kind: &'static str,
    /// Its text form, in words.
    pub expected: &'static str,
    /// What was found.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $version:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// How it is drawn, which the text form says too.
            pub const ALGORITHM: &'static str = concat!("UUIDv", $version);

            const EXPECTED: &'static str = concat!("a hyphenated lower-case UUID of version ", $version);

            /// Wraps a drawn UUID.
            ///
            /// # Panics
            /// When it is not of [this version](Self::ALGORITHM): the text of another would not be read back.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                assert!(uuid.get_version_num() == $version, "a UUID of another version was drawn");
                Self(uuid)
            }

            /// The UUID inside.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                let drawn = |uuid: &Uuid| uuid.get_version_num() == $version && uuid.get_variant() == Variant::RFC4122;
                // `Uuid` reads several spellings; one identifier has one text form here.
                match Uuid::parse_str(text) {
                    Ok(uuid) if drawn(&uuid) && uuid.to_string() == text => Ok(Self(uuid)),
                    _ => Err(IdParseError { kind: $kind, expected: Self::EXPECTED, text: text.to_owned() }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // Text in every encoding; `Uuid` itself is bytes in some.
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &Self::EXPECTED))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                // `format` is an annotation that validators may ignore; the pattern is what decoding holds to.
                json_schema!({
                    "type": "string",
                    "format": "uuid",
                    "pattern": concat!("^[0-9a-f]{8}-[0-9a-f]{4}-", $version, "[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"),
                })
            }
        }
    };
}

id!(
    /// One execution: a UUIDv7, so that run ids sort by start.
    RunId, "run id", 7
);
id!(
    /// A cache root, written once into its `root.json`.
    RootId, "root id", 4
);
id!(
    /// One cached table: the name of its fresh directory.
    EntryId, "entry id", 4
);
id!(
    /// A key-value store, drawn when it is created: sequence numbers mean nothing in another one.
    StoreId, "store id", 4
);
id!(
    /// One commit to a table that adds no file, by which its writer knows it again.
    CommitId, "commit id", 4
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_form() {
        let text = "0190b3a5-7c1e-7def-8123-456789abcdef";
        assert_eq!(text.parse::<RunId>().unwrap().to_string(), text);
        assert!(text.to_uppercase().parse::<RunId>().is_err());
        assert!(text.replace('-', "").parse::<RunId>().is_err());
    }

    #[test]
    fn the_text_names_the_algorithm() {
        assert_eq!((RunId::ALGORITHM, RootId::ALGORITHM), ("UUIDv7", "UUIDv4"));
        let (ordered, random) = ("0190b3a5-7c1e-7def-8123-456789abcdef", "5b1f0c8e-3a52-4d8f-9c60-2f6f0d1f2a33");
        assert!(ordered.parse::<RunId>().is_ok() && random.parse::<EntryId>().is_ok());
        let error = random.parse::<RunId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("`{random}` is not a run id: expected a hyphenated lower-case UUID of version 7")
        );
        assert!(ordered.parse::<StoreId>().is_err());
        // Of the right version, but not laid out as RFC 9562 says.
        assert!("0190b3a5-7c1e-7def-c123-456789abcdef".parse::<RunId>().is_err());
    }

    #[test]
    fn the_text_form_is_that_of_every_encoding() {
        let id: RunId = "0190b3a5-7c1e-7def-8123-456789abcdef".parse().unwrap();
        let packed = rmp_serde::to_vec(&id).unwrap();
        assert_eq!(rmp_serde::from_slice::<String>(&packed).unwrap(), id.to_string());
        assert_eq!(rmp_serde::from_slice::<RunId>(&packed).unwrap(), id);
        assert!(serde_json::from_str::<RunId>("\"0190B3A5-7C1E-7DEF-8123-456789ABCDEF\"").is_err());
    }
}

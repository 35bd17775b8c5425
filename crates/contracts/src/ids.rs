//! Identifiers that are drawn, not computed: runs, cache roots, entries and stores.
//!
//! Drawing one needs a clock and randomness, so it happens in `alluvium-telemetry`'s one seam, never here.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// The text is not an identifier of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{text}` is not a {kind}: expected a hyphenated lower-case UUID")]
pub struct IdParseError {
    /// The kind of identifier that was expected.
    pub kind: &'static str,
    /// What was found.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a drawn UUID.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
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
                // `Uuid` reads several spellings; one identifier has one text form here.
                match Uuid::parse_str(text) {
                    Ok(uuid) if uuid.to_string() == text => Ok(Self(uuid)),
                    _ => Err(IdParseError { kind: $kind, text: text.to_owned() }),
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
                let expected = "a hyphenated lower-case UUID";
                text.parse().map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &expected))
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
                    "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
                })
            }
        }
    };
}

id!(
    /// One execution: a UUIDv7, so that run ids sort by start.
    RunId, "run id"
);
id!(
    /// A cache root, written once into its `root.json`.
    RootId, "root id"
);
id!(
    /// One cached table: the name of its fresh directory.
    EntryId, "entry id"
);
id!(
    /// A key-value store, drawn when it is created: sequence numbers mean nothing in another one.
    StoreId, "store id"
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
    fn the_text_form_is_that_of_every_encoding() {
        let id: RunId = "0190b3a5-7c1e-7def-8123-456789abcdef".parse().unwrap();
        let packed = rmp_serde::to_vec(&id).unwrap();
        assert_eq!(rmp_serde::from_slice::<String>(&packed).unwrap(), id.to_string());
        assert_eq!(rmp_serde::from_slice::<RunId>(&packed).unwrap(), id);
        assert!(serde_json::from_str::<RunId>("\"0190B3A5-7C1E-7DEF-8123-456789ABCDEF\"").is_err());
    }
}

//! How typed values are written: MessagePack or JSON, through serde.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Writes and reads values of any serde type.
pub trait Codec: fmt::Debug + Send + Sync {
    /// The byte that marks values of this codec, 128 and above for those of one's own.
    const ID: u8;

    /// Appends a value.
    ///
    /// # Errors
    /// [`CodecError`] if the value cannot be written in this format.
    fn encode<V: Serialize + ?Sized>(value: &V, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value, of which `bytes` are all.
    ///
    /// # Errors
    /// [`CodecError`] if they are not such a value.
    fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, CodecError>;
}

/// Why a value could not be written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A value of this type cannot be written so.
    #[error("a value cannot be written as {format}: use another codec, or another type")]
    Encode {
        /// The format.
        format: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The bytes are not a value of the type.
    #[error("the bytes are not a value of the type in {format}: it has changed since, give it another version")]
    Decode {
        /// The format.
        format: &'static str,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// [MessagePack](https://msgpack.org), with the names of fields: short, quick, and readable in any language. The default.
#[derive(Debug, Clone, Copy, Default)]
pub struct MessagePack;

/// JSON, for values that are to be read by people, or with other tools.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Codec for MessagePack {
    const ID: u8 = 1;

    fn encode<V: Serialize + ?Sized>(value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        // With names, so that a field that was renamed or moved is missed instead of taken for another.
        rmp_serde::encode::write_named(out, value)
            .map_err(|error| CodecError::Encode { format: "MessagePack", source: error.into() })
    }

    fn decode<V: DeserializeOwned>(mut bytes: &[u8]) -> Result<V, CodecError> {
        let error = |source| CodecError::Decode { format: "MessagePack", source };
        let value = rmp_serde::from_read(&mut bytes).map_err(|cause| error(cause.into()))?;
        if bytes.is_empty() { Ok(value) } else { Err(error("there are bytes after the value".into())) }
    }
}

impl Codec for Json {
    const ID: u8 = 2;

    fn encode<V: Serialize + ?Sized>(value: &V, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(|error| CodecError::Encode { format: "JSON", source: error.into() })
    }

    fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, CodecError> {
        serde_json::from_slice(bytes).map_err(|error| CodecError::Decode { format: "JSON", source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Point {
        x: i32,
        y: i32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Renamed {
        x: i32,
        z: i32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Swapped {
        y: i32,
        x: i32,
    }

    fn round<C: Codec>() {
        let mut bytes = Vec::new();
        C::encode(&Point { x: 1, y: -2 }, &mut bytes).unwrap();
        assert_eq!(C::decode::<Point>(&bytes).unwrap(), Point { x: 1, y: -2 });
        assert!(C::decode::<Renamed>(&bytes).is_err(), "fields go by name");
        assert_eq!(C::decode::<Swapped>(&bytes).unwrap(), Swapped { x: 1, y: -2 });
        assert!(C::decode::<Point>(&bytes[..bytes.len() - 1]).is_err());
        bytes.push(0);
        assert!(C::decode::<Point>(&bytes).is_err(), "nothing may follow");
    }

    #[test]
    fn message_pack_goes_by_names() {
        round::<MessagePack>();
    }

    #[test]
    fn json_goes_by_names() {
        round::<Json>();
    }
}

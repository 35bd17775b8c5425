//! What stands before every typed value: its codec, its type and its version, in one form for caches and collections.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | [`Codec::ID`] |
//! | 1 | length of the name |
//! | that many | name of the type, UTF-8 |
//! | 4 | version, big end first |
//! | rest | the value, as the codec writes it |

use serde::Serialize;

use crate::{Codec, CodecError};

/// Names a type and its version, as values in a store carry it.
///
/// ```
/// use alluvium_disk_kv_cache::TypeTag;
///
/// const RATE: TypeTag = TypeTag::new("rate", 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeTag {
    name: &'static str,
    version: u32,
}

impl TypeTag {
    /// A name of the application's, and a version to raise whenever the type changes its shape or its meaning.
    ///
    /// # Panics
    /// If the name has more than 255 bytes; in a constant, that does not compile.
    pub const fn new(name: &'static str, version: u32) -> TypeTag {
        assert!(name.len() <= u8::MAX as usize, "the name of a type has at most 255 bytes");
        TypeTag { name, version }
    }

    /// A value with what stands before it.
    pub(crate) fn encode<C: Codec>(self, value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
        let mut bytes = vec![C::ID, self.name.len() as u8];
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        C::encode(value, &mut bytes)?;
        Ok(bytes)
    }
}

/// A value with a tag, whatever its type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tagged<'b> {
    pub(crate) codec: u8,
    pub(crate) name: &'b str,
    pub(crate) version: u32,
    /// The value, as the codec wrote it.
    pub(crate) content: &'b [u8],
}

impl<'b> Tagged<'b> {
    /// Takes bytes apart. `None`: they carry no tag.
    pub(crate) fn split(bytes: &'b [u8]) -> Option<Tagged<'b>> {
        let (&[codec, length], rest) = bytes.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        let (version, content) = rest.split_first_chunk()?;
        Some(Tagged { codec, name: str::from_utf8(name).ok()?, version: u32::from_be_bytes(*version), content })
    }

    /// Whether the value is of a type, in a codec.
    pub(crate) fn is<C: Codec>(&self, tag: TypeTag) -> bool {
        (self.codec, self.name, self.version) == (C::ID, tag.name, tag.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, MessagePack};

    #[test]
    fn a_tag_comes_back_and_the_form_is_the_documented_one() {
        let tag = TypeTag::new("job", 7);
        assert_eq!(tag.encode::<Json>(&true).unwrap(), b"\x02\x03job\0\0\0\x07true");
        let bytes = tag.encode::<MessagePack>(&true).unwrap();
        assert_eq!(Tagged::split(&bytes), Some(Tagged { codec: 1, name: "job", version: 7, content: b"\xC3" }));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(Tagged::split(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(Tagged::split(b"\x01\x02\xFF\xFF\0\0\0\x01"), None, "no UTF-8");
    }
}

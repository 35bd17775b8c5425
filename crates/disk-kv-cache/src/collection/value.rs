//! How values become bytes: as they are, or through serde with a tag of type and version.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ValueError;
use crate::tag::Tagged;
use crate::{Codec, MessagePack, TypeTag};

/// What a collection can hold: raw bytes (`Vec<u8>`), or any [`Record`].
pub trait Value: Sized {
    /// The bytes to store.
    ///
    /// # Errors
    /// [`ValueError::Encode`].
    fn to_bytes(&self) -> Result<Cow<'_, [u8]>, ValueError>;

    /// The value that the stored bytes are.
    ///
    /// # Errors
    /// Any [`ValueError`] but `Encode`. Never a value of another type or version.
    fn from_bytes(bytes: &[u8]) -> Result<Self, ValueError>;
}

/// A type that is stored as MessagePack, under a name and a version.
///
/// Both are stored with each value, so that what a changed or another type has written is an error that says so, and not
/// garbage. Raise the version whenever values written before could no longer be read, or would mean something else.
///
/// ```
/// use alluvium_disk_kv_cache::{Record, Value, ValueError};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Job { table: String, rows: u64 }
///
/// impl Record for Job {
///     const TYPE: &'static str = "job";
///     const VERSION: u32 = 1;
/// }
///
/// # fn main() -> Result<(), ValueError> {
/// let job = Job { table: "orders".into(), rows: 3 };
/// assert_eq!(Job::from_bytes(&job.to_bytes()?)?, job);
/// let other = String::from_bytes(&job.to_bytes()?);
/// assert!(matches!(other, Err(ValueError::OtherType { stored_version: 1, .. })));
/// # Ok(()) }
/// ```
pub trait Record: Serialize + DeserializeOwned {
    /// A name that no other type in the same collection has; at most 255 bytes.
    const TYPE: &'static str;
    /// The version of the type's serialized form.
    const VERSION: u32;
}

impl Value for Vec<u8> {
    fn to_bytes(&self) -> Result<Cow<'_, [u8]>, ValueError> {
        Ok(Cow::Borrowed(self))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Vec<u8>, ValueError> {
        Ok(bytes.to_vec())
    }
}

impl<T: Record> Value for T {
    fn to_bytes(&self) -> Result<Cow<'_, [u8]>, ValueError> {
        let bytes = const { TypeTag::new(T::TYPE, T::VERSION) }.encode::<MessagePack>(self);
        bytes.map(Cow::Owned).map_err(|source| ValueError::Encode { type_name: T::TYPE, source })
    }

    fn from_bytes(bytes: &[u8]) -> Result<T, ValueError> {
        let (type_name, version) = (T::TYPE, T::VERSION);
        let found = Tagged::split(bytes).filter(|found| found.codec == MessagePack::ID);
        let found = found.ok_or(ValueError::Untagged { type_name })?;
        if (found.name, found.version) != (type_name, version) {
            let (stored_type, stored_version) = (found.name.to_owned(), found.version);
            return Err(ValueError::OtherType { type_name, version, stored_type, stored_version });
        }
        MessagePack::decode(found.content).map_err(|source| ValueError::Decode { type_name, version, source })
    }
}

/// The plain types are records of version 1 under their own names.
macro_rules! plain_records {
    ($($plain:ty),*) => {$(
        impl Record for $plain {
            const TYPE: &'static str = stringify!($plain);
            const VERSION: u32 = 1;
        }
    )*};
}

plain_records!(bool, u32, u64, i32, i64, f64, String);

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Old {
        from: u32,
        to: u32,
    }

    impl Record for Old {
        const TYPE: &'static str = "move";
        const VERSION: u32 = 1;
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        to: u32,
        from: u32,
    }

    impl Record for New {
        const TYPE: &'static str = "move";
        const VERSION: u32 = 2;
    }

    #[test]
    fn another_version_is_an_error_and_not_garbage() {
        let bytes = Old { from: 1, to: 2 }.to_bytes().unwrap().into_owned();
        let refused = New::from_bytes(&bytes);
        assert!(matches!(&refused, Err(ValueError::OtherType { stored_version: 1, version: 2, .. })), "{refused:?}");
        assert_eq!(Old::from_bytes(&bytes).unwrap(), Old { from: 1, to: 2 });
    }

    #[test]
    fn bytes_without_a_tag_or_with_a_broken_body_are_refused() {
        for raw in [&b""[..], b"x", b"plain text", &[MessagePack::ID], &[MessagePack::ID, 200, b'a']] {
            assert!(matches!(String::from_bytes(raw), Err(ValueError::Untagged { .. })), "{raw:?}");
        }
        let mut cut = "a string".to_owned().to_bytes().unwrap().into_owned();
        cut.pop();
        assert!(matches!(String::from_bytes(&cut), Err(ValueError::Decode { .. })));
    }

    #[test]
    fn raw_bytes_are_stored_as_they_are() {
        let raw = vec![MessagePack::ID, 0, 255];
        assert_eq!(&*raw.to_bytes().unwrap(), raw.as_slice());
        assert_eq!(Vec::from_bytes(&raw).unwrap(), raw);
    }
}

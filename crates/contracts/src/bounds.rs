//! Bounds that a schema states, held on decoding too.

use serde::de::{Deserialize, Deserializer, Error, Unexpected};

/// An integer of at least 1 (`#[schemars(range(min = 1))]`).
pub(crate) fn at_least_one<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<u8> + PartialEq,
{
    let value = T::deserialize(deserializer)?;
    if value == T::from(0) {
        return Err(D::Error::invalid_value(Unexpected::Unsigned(0), &"an integer of at least 1"));
    }
    Ok(value)
}

/// The same where the field may be left out.
pub(crate) fn at_least_one_if_any<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + From<u8> + PartialEq,
{
    match Option::<T>::deserialize(deserializer)? {
        Some(value) if value == T::from(0) => {
            Err(D::Error::invalid_value(Unexpected::Unsigned(0), &"an integer of at least 1"))
        }
        value => Ok(value),
    }
}

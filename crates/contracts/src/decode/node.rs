//! A document as it was read: the data model of JSON, with text borrowed from the bytes where it can be.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::{Fault, quoted};
use crate::canonical::{Step, safe_integer};
use crate::v1::ErrorCode;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node<'de> {
    Null,
    Boolean(bool),
    /// Within ±(2⁵³−1).
    Integer(i64),
    /// Finite, and no [`Node::Integer`].
    Float(f64),
    Text(Cow<'de, str>),
    List(Vec<Node<'de>>),
    Object(Vec<(Cow<'de, str>, Node<'de>)>),
}

impl<'de> Node<'de> {
    /// The node of a float, or what is wrong with it.
    pub(super) fn float(value: f64) -> Result<Self, Fault> {
        if !value.is_finite() {
            return Err(Fault::new(ErrorCode::BadNumber, "a finite number", value.to_string()));
        }
        if value == 0.0 && value.is_sign_negative() {
            return Err(Fault::new(ErrorCode::BadNumber, "0, which has one form", "-0.0"));
        }
        Ok(safe_integer(value).map_or(Self::Float(value), Self::Integer))
    }

    /// The node of an object, unless a key is there twice.
    pub(super) fn object(entries: Vec<(Cow<'de, str>, Node<'de>)>) -> Result<Self, Fault> {
        match repeated(&entries) {
            None => Ok(Self::Object(entries)),
            Some(key) => {
                let fault = Fault::new(ErrorCode::DuplicateKey, "each key once", format!("{} twice", quoted(key)));
                Err(fault.under(Step::Key(key.to_owned().into())))
            }
        }
    }

    /// Takes the value of a key out of an object.
    pub(crate) fn take(&mut self, key: &str) -> Option<Node<'de>> {
        let Self::Object(entries) = self else {
            return None;
        };
        let at = entries.iter().position(|(name, _)| name == key)?;
        Some(entries.swap_remove(at).1)
    }

    /// What it is, in words for a report.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => format!("the integer {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(text) => format!("the text {}", quoted(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

/// A key that is there twice.
fn repeated<'a>(entries: &'a [(Cow<'_, str>, Node<'_>)]) -> Option<&'a str> {
    // In a canonical form they are in order.
    if entries.is_sorted_by(|(key, _), (next, _)| key < next) {
        return None;
    }
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_ref()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

//! A share that a Bloom filter may be wrong in: a number between 0 and 1, which makes it comparable.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};

/// The share of absent values that a Bloom filter lets through: above 0 and below 1. Default: 0.05.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct FalsePositiveRate(f64);

/// No NaN can be inside, so equality is reflexive.
impl Eq for FalsePositiveRate {}

impl FalsePositiveRate {
    /// The rate; `None` unless it is above 0 and below 1.
    #[must_use]
    pub fn new(rate: f64) -> Option<Self> {
        (rate > 0.0 && rate < 1.0).then_some(Self(rate))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Default for FalsePositiveRate {
    fn default() -> Self {
        Self(0.05)
    }
}

impl<'de> Deserialize<'de> for FalsePositiveRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rate = f64::deserialize(deserializer)?;
        Self::new(rate).ok_or_else(|| D::Error::invalid_value(Unexpected::Float(rate), &"a number above 0 and below 1"))
    }
}

impl JsonSchema for FalsePositiveRate {
    fn schema_name() -> Cow<'static, str> {
        "FalsePositiveRate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0.0, "exclusiveMaximum": 1.0 })
    }
}

//! A column as the contracts say it: no arrow type, only its text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One column of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldSpec {
    /// The column's name, without a qualifier.
    pub name: String,
    /// Its type in arrow's notation, such as `Int64` or `Timestamp(Microsecond, Some("UTC"))`.
    pub data_type: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
}

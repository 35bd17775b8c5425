//! A column as the contracts say it: no arrow type, only its text.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};

/// One column of a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldSpec {
    /// The column's name, without a qualifier.
    pub name: String,
    /// Its type in arrow's notation, such as `Int64` or `Timestamp(Microsecond, Some("UTC"))`.
    pub data_type: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// The field's metadata, such as the semantic type under `ARROW:extension:name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Contract for FieldSpec {
    const KIND: &'static str = "field_spec";
    const VERSION: u32 = 1;
    const DOC: &'static str = "one column of a schema, without an arrow type";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            name: "node_id".to_owned(),
            data_type: "Utf8".to_owned(),
            nullable: false,
            metadata: BTreeMap::from([("ARROW:extension:name".to_owned(), "alluvium.node_id".to_owned())]),
        }
    }
}

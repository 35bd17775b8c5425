//! Semantic types of columns: what is declared, and whether a schema keeps it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::sample;
use crate::words::words;

/// The semantic type that a column has to carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SemanticColumnSpec {
    /// The column.
    pub column_name: String,
    /// The semantic type, such as `NodeId`.
    pub semantic_type: String,
    /// The key of the field's metadata under which it stands, such as `ARROW:extension:name`.
    pub metadata_key: String,
}

impl Contract for SemanticColumnSpec {
    const KIND: &'static str = "semantic_column_spec";
    const VERSION: u32 = 1;
    const DOC: &'static str = "the semantic type that a column has to carry";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            column_name: "node_id".to_owned(),
            semantic_type: "NodeId".to_owned(),
            metadata_key: "ARROW:extension:name".to_owned(),
        }
    }
}

words!(
    /// Whether a column carries its semantic type.
    SemanticStatus {
        /// It does.
        Ok => "ok",
        /// It carries none, or is not there.
        Missing => "missing",
        /// It carries another.
        Mismatch => "mismatch",
    }
);

/// A schema held against the semantic types of its columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SemanticValidation {
    /// The dataset, view or output whose schema it is.
    pub name: String,
    /// The run, where there was one.
    pub run_id: Option<RunId>,
    /// `ok` where every column is; otherwise the first other status.
    pub status: SemanticStatus,
    /// Every column that has to carry a semantic type.
    pub columns: Vec<SemanticColumnResult>,
}

/// One column of a validation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SemanticColumnResult {
    /// What it has to carry.
    pub expected: SemanticColumnSpec,
    /// What it carries, where it carries any.
    pub found_type: Option<String>,
    /// How the two compare.
    pub status: SemanticStatus,
}

impl Contract for SemanticValidation {
    const KIND: &'static str = "semantic_validation";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a schema held against the semantic types of its columns";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            name: "call_edges".to_owned(),
            run_id: Some(sample::run_id()),
            status: SemanticStatus::Mismatch,
            columns: vec![SemanticColumnResult {
                expected: SemanticColumnSpec::example(),
                found_type: Some("SpanId".to_owned()),
                status: SemanticStatus::Mismatch,
            }],
        }
    }
}

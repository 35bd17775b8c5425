//! What a query reads: tables, columns, keys, functions, and where each output column comes from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::v1::sample::names;
use crate::words::words;

/// What a query reads. Lists are sorted and hold nothing twice, unless their order is said to mean something.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineageSummary {
    /// The sources and views that it reads.
    pub tables: Vec<String>,
    /// The columns that it needs of each of them.
    pub required_columns: BTreeMap<String, Vec<String>>,
    /// Columns that are joined by.
    pub join_keys: Vec<ColumnRef>,
    /// Columns that rows are filtered by.
    pub filter_columns: Vec<ColumnRef>,
    /// Columns that rows are grouped by.
    pub group_keys: Vec<ColumnRef>,
    /// Columns that windows are partitioned or ordered by.
    pub window_keys: Vec<ColumnRef>,
    /// The functions that it calls.
    pub functions: Vec<String>,
    /// Where each output column comes from, in the order of the output.
    pub columns: Vec<ColumnLineage>,
}

/// A column of a source or view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct ColumnRef {
    /// The source or view.
    pub table: String,
    /// Its column.
    pub column: String,
}

words!(
    /// What happens to values on their way into an output column.
    ColumnTransformation {
        /// Nothing.
        Identity => "identity",
        /// An expression over the values of one row.
        Expression => "expression",
        /// An aggregate over rows.
        Aggregation => "aggregation",
        /// A window function.
        Window => "window",
        /// No column goes into it.
        Constant => "constant",
    }
);

/// Where one output column comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ColumnLineage {
    /// The output column.
    pub column: String,
    /// What happens on the way; of several steps, the last one in the list of transformations.
    pub transformation: ColumnTransformation,
    /// The columns whose values go into it.
    pub inputs: Vec<ColumnRef>,
}

impl Contract for LineageSummary {
    const KIND: &'static str = "lineage_summary";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what a query reads, and where each of its columns comes from";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let column = |table: &str, column: &str| ColumnRef { table: table.to_owned(), column: column.to_owned() };
        Self {
            tables: names(["airports", "flights"]),
            required_columns: BTreeMap::from([
                ("airports".to_owned(), names(["code", "city"])),
                ("flights".to_owned(), names(["delay", "flight_date", "origin"])),
            ]),
            join_keys: vec![column("airports", "code"), column("flights", "origin")],
            filter_columns: vec![column("flights", "flight_date")],
            group_keys: vec![column("airports", "city")],
            window_keys: Vec::new(),
            functions: names(["avg"]),
            columns: vec![
                ColumnLineage {
                    column: "city".to_owned(),
                    transformation: ColumnTransformation::Identity,
                    inputs: vec![column("airports", "city")],
                },
                ColumnLineage {
                    column: "mean_delay".to_owned(),
                    transformation: ColumnTransformation::Aggregation,
                    inputs: vec![column("flights", "delay")],
                },
            ],
        }
    }
}

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
    /// The columns that decide which rows there are, and so influence every output column without going into it.
    pub rows: Vec<IndirectInput>,
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

words!(
    /// How a column decides over values that it does not go into. The words are those of OpenLineage.
    ColumnInfluence {
        /// Rows are joined by it.
        Join => "join",
        /// Rows are kept or left out by it.
        Filter => "filter",
        /// Rows are grouped by it, or told apart as in DISTINCT.
        GroupBy => "group_by",
        /// Rows are ordered by it.
        Sort => "sort",
        /// A window is partitioned or ordered by it.
        Window => "window",
        /// A CASE chooses by it.
        Conditional => "conditional",
    }
);

/// Where one output column comes from. What decides over rows is said once, in [`LineageSummary::rows`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ColumnLineage {
    /// The output column.
    pub column: String,
    /// What happens on the way; of several steps, the last one in the list of transformations.
    pub transformation: ColumnTransformation,
    /// The columns whose values go into it.
    pub inputs: Vec<DirectInput>,
    /// The columns that decide over this column's values alone, and do not go into them.
    pub indirect: Vec<IndirectInput>,
}

/// A column whose values go into an output column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct DirectInput {
    /// The source or view.
    pub table: String,
    /// Its column.
    pub column: String,
    /// What happens to it on the way.
    pub transformation: ColumnTransformation,
}

/// A column that decides over values, and does not go into them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct IndirectInput {
    /// The source or view.
    pub table: String,
    /// Its column.
    pub column: String,
    /// How it decides.
    pub influence: ColumnInfluence,
}

impl Contract for LineageSummary {
    const KIND: &'static str = "lineage_summary";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what a query reads, and where each of its columns comes from";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let column = |table: &str, column: &str| ColumnRef { table: table.to_owned(), column: column.to_owned() };
        let decides = |table: &str, column: &str, influence| IndirectInput {
            table: table.to_owned(),
            column: column.to_owned(),
            influence,
        };
        let becomes = |name: &str, transformation, table: &str, column: &str| ColumnLineage {
            column: name.to_owned(),
            transformation,
            inputs: vec![DirectInput { table: table.to_owned(), column: column.to_owned(), transformation }],
            indirect: Vec::new(),
        };
        Self {
            tables: names(["airports", "flights"]),
            required_columns: BTreeMap::from([
                ("airports".to_owned(), names(["city", "code"])),
                ("flights".to_owned(), names(["delay", "flight_date", "is_diverted", "origin"])),
            ]),
            join_keys: vec![column("airports", "code"), column("flights", "origin")],
            filter_columns: vec![column("flights", "flight_date")],
            group_keys: vec![column("airports", "city")],
            window_keys: Vec::new(),
            functions: names(["avg"]),
            rows: vec![
                decides("airports", "city", ColumnInfluence::GroupBy),
                decides("airports", "code", ColumnInfluence::Join),
                decides("flights", "flight_date", ColumnInfluence::Filter),
                decides("flights", "origin", ColumnInfluence::Join),
            ],
            columns: vec![
                becomes("city", ColumnTransformation::Identity, "airports", "city"),
                ColumnLineage {
                    indirect: vec![decides("flights", "is_diverted", ColumnInfluence::Conditional)],
                    ..becomes("mean_delay", ColumnTransformation::Aggregation, "flights", "delay")
                },
            ],
        }
    }
}

/// What `alluvium lineage --format json` prints: a view or one of its columns, traced to the sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineageDocument {
    /// The view that was asked about.
    pub view: String,
    /// The column that was asked about; none when it was the whole view.
    pub column: Option<String>,
    /// The view, then every view that it reads, readers before what they read. Where a column was asked about, only what
    /// influences it is there.
    pub views: Vec<ViewLineage>,
}

/// The lineage of one view over what it reads itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ViewLineage {
    /// The view.
    pub view: String,
    /// What its query reads: sources, and views by their published columns.
    pub lineage: LineageSummary,
}

impl Contract for LineageDocument {
    const KIND: &'static str = "lineage_document";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium lineage --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let mut lineage = LineageSummary::example();
        lineage.columns.retain(|column| column.column == "mean_delay");
        Self {
            view: "daily_delays".to_owned(),
            column: Some("mean_delay".to_owned()),
            views: vec![ViewLineage { view: "daily_delays".to_owned(), lineage }],
        }
    }
}

//! Why a view's key moved: the components that differ, and what of its query changed, in words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::CacheKey;
use crate::envelope::{Contract, Form, UnknownFields};
use crate::words::words;

/// Why a view's key is not that of an earlier entry, component by component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MissExplanation {
    /// The key of the earlier entry; none when the view was never cached here.
    pub compared_with: Option<CacheKey>,
    /// Every component that differs, by name.
    pub changes: Vec<ComponentChange>,
    /// What of the query changed, where the components `plan` or `columns` did: columns first, then part by part.
    #[serde(default)]
    pub query_changes: Vec<QueryChange>,
    /// How many more changes of the query there are.
    #[serde(default)]
    pub query_changes_left_out: u64,
    /// Why it is not known what of the query changed; none where it is known, or nothing did.
    pub query_unknown: Option<String>,
}

impl MissExplanation {
    /// Whether the query is another one, or its columns are.
    #[must_use]
    pub fn is_of_query(&self) -> bool {
        self.changes.iter().any(|change| matches!(change.component.as_str(), PLAN | COLUMNS))
    }

    /// All of it in words, a line each: what of the query changed, then the components that this does not explain.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.query_changes.iter().map(ToString::to_string).collect();
        if self.query_changes_left_out > 0 {
            lines.push(format!("{} more changes of the query", self.query_changes_left_out));
        }
        let unexplained = self.changes.iter().filter(|change| !self.is_explained(change));
        lines.extend(unexplained.map(ToString::to_string));
        if let Some(reason) = &self.query_unknown {
            lines.push(format!("what of the query changed is not known: {reason}"));
        }
        lines
    }

    /// Whether a change of the query accounts for that of a digest.
    fn is_explained(&self, change: &ComponentChange) -> bool {
        match change.component.as_str() {
            PLAN => self.query_changes.iter().any(|change| change.change != QueryChangeKind::Renamed),
            COLUMNS => self.query_changes.iter().any(QueryChange::is_of_columns),
            _ => false,
        }
    }
}

/// The component that is the digest of the canonical plan.
const PLAN: &str = "plan";

/// The component that is the digest of the published columns.
const COLUMNS: &str = "columns";

impl Contract for MissExplanation {
    const KIND: &'static str = "miss_explanation";
    const VERSION: u32 = 1;
    const DOC: &'static str = "why a view's key is not that of an earlier entry, component by component";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            compared_with: Some(CacheKey::of(b"daily_delays before")),
            changes: vec![
                ComponentChange {
                    component: "plan".to_owned(),
                    before: Some("b3:0c1e42a7d310".to_owned()),
                    after: Some("b3:77b2f0c9614d".to_owned()),
                },
                ComponentChange {
                    component: "source flights: version".to_owned(),
                    before: Some("41".to_owned()),
                    after: Some("42".to_owned()),
                },
            ],
            query_changes: vec![
                QueryChange {
                    part: QueryPart::Column,
                    change: QueryChangeKind::Changed,
                    name: Some("mean_delay".to_owned()),
                    before: Some("avg(delay)".to_owned()),
                    after: Some("max(delay)".to_owned()),
                },
                QueryChange {
                    part: QueryPart::Filter,
                    change: QueryChangeKind::Added,
                    name: None,
                    before: None,
                    after: Some("delay > 15".to_owned()),
                },
            ],
            query_changes_left_out: 0,
            query_unknown: None,
        }
    }
}

/// One component of an identity that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentChange {
    /// What changed, such as `source flights: file 2001-03.parquet`.
    pub component: String,
    /// What it was; none when it is new.
    pub before: Option<String>,
    /// What it is; none when it went away.
    pub after: Option<String>,
}

impl std::fmt::Display for ComponentChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        changed(f, &self.component, self.before.as_deref(), self.after.as_deref())
    }
}

words!(
    /// A part of a query.
    QueryPart {
        /// A column of the result.
        Column => "column",
        /// A source or view that it reads, once for each time that it does.
        Table => "table",
        /// A join: of which kind, and with what.
        Join => "join",
        /// An equation that rows are joined by.
        JoinKey => "join_key",
        /// Any other condition of a join.
        JoinCondition => "join_condition",
        /// A condition on rows or groups.
        Filter => "filter",
        /// What rows are grouped by.
        GroupKey => "group_key",
        /// What is computed of a group.
        Aggregate => "aggregate",
        /// What is computed over a window.
        Window => "window",
        /// What a CTE, a subquery or a derived table computes of a row.
        Expression => "expression",
        /// By what rows are told apart.
        Distinct => "distinct",
        /// Queries whose rows are put together.
        Union => "union",
        /// An order of rows.
        Order => "order",
        /// How many rows there may be.
        Limit => "limit",
        /// A row that the query itself has.
        Values => "values",
        /// Lists or structs that are taken apart.
        Unnest => "unnest",
        /// A recursive CTE.
        Recursion => "recursion",
    }
);

words!(
    /// What became of a part of a query.
    QueryChangeKind {
        /// It is new.
        Added => "added",
        /// It is gone.
        Removed => "removed",
        /// It has another name, and is computed as before.
        Renamed => "renamed",
        /// It has another type.
        Retyped => "retyped",
        /// Columns stand in another order.
        Moved => "moved",
        /// It says something else.
        Changed => "changed",
    }
);

/// One part of a query that changed. Texts are those of the analyzed query: without aliases of tables, with the casts that the engine adds,
/// without credentials, and cut where they are long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueryChange {
    /// What it is.
    pub part: QueryPart,
    /// What became of it.
    pub change: QueryChangeKind,
    /// The column of the result, by its name now, or before where it is gone; none for another part, or for several columns.
    pub name: Option<String>,
    /// What it was; none when it is new. Of a column: what it was computed as, or its name or type where that changed.
    pub before: Option<String>,
    /// What it is; none when it is gone.
    pub after: Option<String>,
}

impl QueryChange {
    /// Whether names, types or the order of the result's columns changed.
    fn is_of_columns(&self) -> bool {
        self.part == QueryPart::Column && self.change != QueryChangeKind::Changed
    }
}

impl std::fmt::Display for QueryChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { part, change, name, before, after } = self;
        let what = match (change, name) {
            (QueryChangeKind::Renamed, _) => format!("name of a {part}"),
            (QueryChangeKind::Moved, _) => format!("order of {part}s"),
            (QueryChangeKind::Retyped, Some(name)) => format!("type of {part} {name}"),
            (_, Some(name)) => format!("{part} {name}"),
            (_, None) => part.as_str().replace('_', " "),
        };
        changed(f, &what, before.as_deref(), after.as_deref())
    }
}

/// What was, and what is.
fn changed(f: &mut std::fmt::Formatter<'_>, what: &str, before: Option<&str>, after: Option<&str>) -> std::fmt::Result {
    match (before, after) {
        (Some(before), Some(after)) => write!(f, "{what}: {before} → {after}"),
        (None, Some(after)) => write!(f, "{what}: added ({after})"),
        (Some(before), None) => write!(f, "{what}: removed ({before})"),
        (None, None) => f.write_str(what),
    }
}

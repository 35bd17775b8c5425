//! What a query is made of, in words: what an entry keeps of its query, so that a later miss can name what was edited.
//!
//! An identity says *that* a query changed; an [`Outline`] says what. It is no identity: two queries that differ may have one outline, and
//! nothing but an explanation is made of it. Aliases of tables leave no trace, as in the canonical plan. Credentials are not in it, and
//! no literal of a query that names some.

mod difference;
mod walk;
mod words;

#[cfg(test)]
mod tests;

use alluvium_contracts::QueryPart;
use datafusion::logical_expr::LogicalPlan;
use serde::{Deserialize, Serialize};

pub(crate) use difference::{Difference, difference};

use crate::published::PublishedSchema;

/// What a query is made of. Every text is short, and all of them are together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Of the result, in their order.
    columns: Vec<OutlineColumn>,
    /// Everything else, sorted; what is there twice is listed twice.
    parts: Vec<(QueryPart, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OutlineColumn {
    name: String,
    data_type: String,
    /// What it is computed as, or the column that it is.
    value: String,
}

impl Outline {
    /// Texts of all together, in bytes, above which none is made: nobody wrote such a query by hand, and an index keeps several of each
    /// view.
    const LARGEST: usize = 64 << 10;

    /// The outline of an analyzed plan that is published as `published`; none where it would be too large. With `hides_literals`, `?` stands
    /// for each of them.
    pub(crate) fn of(plan: &LogicalPlan, published: &PublishedSchema, hides_literals: bool) -> Option<Self> {
        let words = words::Words::of(plan, hides_literals);
        let columns: Vec<OutlineColumn> = published
            .arrow()
            .fields()
            .iter()
            .enumerate()
            .map(|(index, field)| OutlineColumn {
                name: words.name(field.name()),
                data_type: field.data_type().to_string(),
                value: words.value(plan, index),
            })
            .collect();
        let parts = walk::parts(plan, &words);
        let of_columns = columns.iter().map(|column| column.name.len() + column.data_type.len() + column.value.len());
        let size: usize = of_columns.chain(parts.iter().map(|(_, text)| text.len())).sum();
        (size <= Self::LARGEST).then_some(Self { columns, parts })
    }
}

//! Lineage: what a query reads, and which source columns each of its output columns depends on.
//!
//! The analyzed plan is walked once, from its leaves up. Every node is a [`Relation`]: for each of its columns the source
//! columns that go into its values (*direct*) and those that decide over them without going in (*indirect*: the condition
//! of a CASE, the keys of a window), and apart from the columns what decides over the rows (join, filter, group, sort). So
//! everything that an output column depends on is its own provenance and that of the rows, and nothing else: what the
//! query mentions and no result depends on leaves no trace.
//!
//! # Invariants
//! - Plans and expressions are matched without a wildcard arm. What cannot be told apart depends on everything beneath it.
//! - It errs to one side only: a column that is not named has no influence; one that is named may have none.

mod expr;
mod open_lineage;
mod plan;
mod provenance;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{ColumnInfluence, ColumnLineage, ColumnRef, IndirectInput, LineageSummary};
use datafusion::logical_expr::LogicalPlan;

pub use open_lineage::open_lineage_facet;
use provenance::Relation;

/// What an analyzed `plan` reads, and where each of its columns comes from. Tables are the plan's scans, by the names that
/// they were registered with; a registered view that is planned opaquely ([`ViewRef`](crate::ViewRef)) is such a table.
///
/// Reads nothing but the plan.
#[must_use]
pub fn lineage(plan: &LogicalPlan) -> LineageSummary {
    let mut walk = Walk::default();
    let relation = walk.plan(plan);
    let names = plan.schema().fields().iter().map(|field| field.name().clone());
    summary(walk, relation, names)
}

/// The state of one walk.
#[derive(Default)]
struct Walk {
    tables: BTreeSet<String>,
    functions: BTreeSet<String>,
    /// What the enclosing queries range over, outermost first: what a correlated column may refer to.
    outer: Vec<Enclosing>,
    /// What is known so far of the recursive CTEs whose recursive term is being walked, outermost first.
    work_tables: Vec<(String, Relation)>,
}

/// A query around the place of the walk.
struct Enclosing {
    relation: Relation,
    /// Whether the place sees it. The left side of a join is seen from the right one only where that is lateral; a derived table there
    /// looks past it.
    is_seen: bool,
}

fn summary(walk: Walk, relation: Relation, names: impl Iterator<Item = String>) -> LineageSummary {
    let columns = names.zip(relation.columns).map(|(column, provenance)| {
        let transformation = provenance.transformation();
        let (inputs, indirect) = provenance.into_inputs();
        ColumnLineage { column, transformation, inputs, indirect }
    });
    let columns = columns.collect();
    let rows = relation.rows.into_iter().collect();
    let functions = walk.functions.into_iter().collect();
    summarize(walk.tables.into_iter().collect(), functions, rows, columns)
}

/// The same query as if it had `columns` only: what influences none of them is left out. Its tables all stay, because
/// the rows of each may count.
#[must_use]
pub fn lineage_of_columns(lineage: &LineageSummary, columns: &BTreeSet<String>) -> LineageSummary {
    let LineageSummary { tables, functions, rows, columns: all, .. } = lineage.clone();
    let kept = all.into_iter().filter(|column| columns.contains(&column.column)).collect();
    summarize(tables, functions, rows, kept)
}

/// Lists by kind what is said column by column.
fn summarize(
    tables: Vec<String>,
    functions: Vec<String>,
    rows: Vec<IndirectInput>,
    columns: Vec<ColumnLineage>,
) -> LineageSummary {
    let indirect: BTreeSet<_> = columns.iter().flat_map(|column| &column.indirect).chain(&rows).collect();
    let direct = columns.iter().flat_map(|column| &column.inputs).map(|input| (&input.table, &input.column));

    let mut required: BTreeMap<&String, BTreeSet<&String>> =
        tables.iter().map(|table| (table, BTreeSet::new())).collect();
    for (table, column) in direct.chain(indirect.iter().map(|input| (&input.table, &input.column))) {
        required.entry(table).or_default().insert(column);
    }
    let required_columns =
        required.into_iter().map(|(table, columns)| (table.clone(), columns.into_iter().cloned().collect())).collect();
    let decide_by = |influence: ColumnInfluence| -> Vec<ColumnRef> {
        let of_kind = indirect.iter().filter(|input| input.influence == influence);
        of_kind.map(|input| ColumnRef { table: input.table.clone(), column: input.column.clone() }).collect()
    };
    LineageSummary {
        required_columns,
        join_keys: decide_by(ColumnInfluence::Join),
        filter_columns: decide_by(ColumnInfluence::Filter),
        group_keys: decide_by(ColumnInfluence::GroupBy),
        window_keys: decide_by(ColumnInfluence::Window),
        tables,
        functions,
        rows,
        columns,
    }
}

//! What is known of a column, and of a node of the plan.

use std::collections::BTreeSet;

use alluvium_contracts::{ColumnInfluence, ColumnTransformation, DirectInput, IndirectInput};
use datafusion::common::{Column, DFSchemaRef};

/// Source columns and how they decide.
pub(super) type Influences = BTreeSet<IndirectInput>;

/// Where the values of one column, or of one expression, come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provenance {
    direct: BTreeSet<DirectInput>,
    indirect: Influences,
    /// The furthest step on the way. Kept beside the inputs, because `count(*)` is an aggregate and has none.
    step: ColumnTransformation,
}

/// A node of the plan: its columns, and what decides over its rows.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) schema: DFSchemaRef,
    pub(super) columns: Vec<Provenance>,
    pub(super) rows: Influences,
}

impl Provenance {
    /// Of a value that no column goes into.
    pub(super) const fn none() -> Self {
        Self { direct: BTreeSet::new(), indirect: BTreeSet::new(), step: ColumnTransformation::Identity }
    }

    /// Of a source's own column.
    pub(super) fn source(table: &str, column: &str) -> Self {
        let transformation = ColumnTransformation::Identity;
        let input = DirectInput { table: table.to_owned(), column: column.to_owned(), transformation };
        Self { direct: BTreeSet::from([input]), ..Self::none() }
    }

    /// Of a value that the rows decide over, and nothing goes into.
    pub(super) fn decided_by(indirect: Influences) -> Self {
        Self { indirect, step: ColumnTransformation::Expression, ..Self::none() }
    }

    /// The values of several that become one by `step`.
    pub(super) fn combined(parts: impl IntoIterator<Item = Self>, step: ColumnTransformation) -> Self {
        parts.into_iter().fold(Self::none(), Self::or).through(step)
    }

    /// The values of either.
    pub(super) fn or(mut self, other: Self) -> Self {
        self.direct.extend(other.direct);
        self.indirect.extend(other.indirect);
        self.step = self.step.max(other.step);
        self
    }

    /// The same values after `step`.
    pub(super) fn through(mut self, step: ColumnTransformation) -> Self {
        self.step = self.step.max(step);
        self.direct = self
            .direct
            .into_iter()
            .map(|input| DirectInput { transformation: input.transformation.max(step), ..input })
            .collect();
        self
    }

    /// The same values, which `others` decide over.
    pub(super) fn under(mut self, others: Influences) -> Self {
        self.indirect.extend(others);
        self
    }

    /// What a decision by these values is a decision by. What a CASE chose by is part of what is decided by now; every
    /// other influence stays what it first was.
    pub(super) fn deciding(self, influence: ColumnInfluence) -> Influences {
        let direct =
            self.direct.into_iter().map(|DirectInput { table, column, .. }| IndirectInput { table, column, influence });
        let indirect = self.indirect.into_iter().map(|input| match input.influence {
            ColumnInfluence::Conditional => IndirectInput { influence, ..input },
            ColumnInfluence::Join
            | ColumnInfluence::Filter
            | ColumnInfluence::GroupBy
            | ColumnInfluence::Sort
            | ColumnInfluence::Window => input,
        });
        direct.chain(indirect).collect()
    }

    pub(super) const fn direct(&self) -> &BTreeSet<DirectInput> {
        &self.direct
    }

    /// The furthest step, or that no column goes in.
    pub(super) fn transformation(&self) -> ColumnTransformation {
        match self.step {
            ColumnTransformation::Identity | ColumnTransformation::Expression
                if self.direct.is_empty() && self.indirect.is_empty() =>
            {
                ColumnTransformation::Constant
            }
            step => step,
        }
    }

    pub(super) fn into_inputs(self) -> (Vec<DirectInput>, Vec<IndirectInput>) {
        (self.direct.into_iter().collect(), self.indirect.into_iter().collect())
    }
}

impl Relation {
    /// The provenance of a column of this node; none when it has no such column.
    pub(super) fn column(&self, column: &Column) -> Option<&Provenance> {
        self.columns.get(self.schema.maybe_index_of_column(column)?)
    }

    /// All columns at once: the provenance of what cannot be told apart.
    pub(super) fn everything(&self) -> Provenance {
        Provenance::combined(self.columns.iter().cloned(), ColumnTransformation::Expression)
    }
}

//! Our own canonical text of an analyzed logical plan.
//!
//! Two queries with the same text compute the same rows; that is what a cache key rests on, so the walk matches every
//! variant of plans, expressions, literals and types by name: an engine upgrade that adds one does not compile until
//! somebody decides what it means. What has no canonical form is written as `unsupported` **and** recorded as a denial,
//! which makes the view uncacheable; it is never guessed.
//!
//! What does not matter leaves no trace: a column is the position it resolves to, so aliases of tables and of inner
//! columns disappear; white space and comments went with the parser. What means something is kept in order.

mod expr;
mod literal;
mod plan;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use alluvium_functions::Function;
use alluvium_telemetry::Redactor;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::logical_expr::{LogicalPlan, TableScan};

pub(crate) use plan::is_work_table;
pub(crate) use types::data_type;

/// The canonical text of a plan and what was met on the way.
#[derive(Debug, Default)]
pub(crate) struct Canonical {
    pub(crate) text: String,
    /// Every leaf that is no part of the query itself.
    pub(crate) scans: Vec<TableScan>,
    pub(crate) functions: Vec<Function>,
    /// What has no canonical form.
    pub(crate) denials: Vec<String>,
}

/// Writes the canonical text of an analyzed `plan`.
pub(crate) fn canonicalize(plan: &LogicalPlan) -> Canonical {
    let mut walk = Walk::default();
    walk.plan(plan);
    walk.found
}

/// The canonical text of `plan` as it may be stored: without credentials in metadata or names, and where `hides_literals` with `?` for the
/// value of each literal. Columns are positions here, so that nothing tells any more which literal a column called `password` is compared with.
pub(crate) fn kept_text(plan: &LogicalPlan, hides_literals: bool) -> String {
    let redactor = Redactor::default();
    let mut walk = Walk { hides_literals, redactor: Some(redactor.clone()), ..Walk::default() };
    walk.plan(plan);
    redactor.kept(&walk.found.text).into_owned()
}

/// The state of one walk: what is written, and the schemas that names resolve against.
#[derive(Default)]
struct Walk {
    found: Canonical,
    /// Schemas of the enclosing queries, outermost first: what a correlated column may refer to.
    outer: Vec<DFSchemaRef>,
    /// Names of the recursive CTEs whose recursive term is being walked, outermost first.
    work_tables: Vec<String>,
    /// Whether the values of literals are left out. What is written then is no identity.
    hides_literals: bool,
    /// What takes credentials out of metadata; none where the text is an identity.
    redactor: Option<Redactor>,
}

impl Walk {
    fn open(&mut self, name: &str) {
        if !self.found.text.is_empty() && !self.found.text.ends_with(' ') {
            self.found.text.push(' ');
        }
        self.found.text.push('(');
        self.found.text.push_str(name);
    }

    fn close(&mut self) {
        self.found.text.push(')');
    }

    /// One word of ours: never text of the user's.
    fn word(&mut self, word: &str) {
        self.found.text.push(' ');
        self.found.text.push_str(word);
    }

    /// Text of the user's, quoted so that no two differ in their meaning and agree in their form.
    fn quoted(&mut self, text: &str) {
        let _ = write!(self.found.text, " {text:?}");
    }

    fn number(&mut self, number: impl std::fmt::Display) {
        let _ = write!(self.found.text, " {number}");
    }

    /// A fieldless enum of the engine's: its variant's name is injective, and the engine's version is hashed beside it.
    fn variant(&mut self, value: impl std::fmt::Debug) {
        let _ = write!(self.found.text, " {value:?}");
    }

    fn deny(&mut self, reason: String) {
        self.word("unsupported");
        self.found.denials.push(reason);
    }

    /// The types of a node's output: a net under the positions, should a name ever decide a type.
    fn types(&mut self, schema: &DFSchema) {
        self.open("types");
        for field in schema.fields() {
            self.data_type(field.data_type());
            self.word(if field.is_nullable() { "null" } else { "not-null" });
            self.metadata(field.metadata().iter());
        }
        self.close();
    }

    fn metadata<'a>(&mut self, metadata: impl Iterator<Item = (&'a String, &'a String)>) {
        let sorted: BTreeMap<_, _> = metadata.collect();
        if sorted.is_empty() {
            return;
        }
        self.open("metadata");
        for (key, value) in sorted {
            self.quoted(key);
            match self.redactor.clone() {
                Some(redactor) => self.quoted(&redactor.kept_option(key, value)),
                None => self.quoted(value),
            }
        }
        self.close();
    }
}

//! What we can write to, asked before anything is written.
//!
//! The engine refuses features that it does not know, but only when it commits. What its own writer enforces, `checks` does
//! for files that we write ourselves: constraints, invariants, generated columns.

use deltalake_core::kernel::DataType;
use deltalake_core::kernel::transaction::{PROTOCOL, TransactionError};
use deltalake_core::table::state::DeltaTableState;

/// The feature, or the property that asks for it, that keeps us from writing to a table.
pub(crate) fn unwritable(state: &DeltaTableState) -> Option<String> {
    match PROTOCOL.can_write_to(state) {
        Ok(()) => {}
        Err(TransactionError::UnsupportedTableFeatures(features)) => {
            let mut names: Vec<String> = features.iter().map(ToString::to_string).collect();
            names.sort_unstable();
            return Some(names.join(", "));
        }
        Err(other) => return Some(other.to_string()),
    }
    let properties = state.metadata().configuration();
    if properties.get("delta.columnMapping.mode").is_some_and(|mode| mode != "none") {
        return Some("delta.columnMapping.mode".to_owned());
    }
    let nested = |data_type: &DataType| format!("{data_type:?}").contains("delta.invariants");
    let field = state.schema().fields().find(|field| nested(field.data_type())).map(|field| field.name().clone());
    field.map(|name| format!("nested delta.invariants of column {name}"))
}

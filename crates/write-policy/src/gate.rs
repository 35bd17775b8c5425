//! What we can write to, asked before anything is written.
//!
//! The engine refuses features that it does not know, but only when it commits; and features that its own writer
//! enforces and we do not (generated columns) would be skipped in silence by files that we write ourselves. Constraints
//! and invariants are checked by `checks`.

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
    state.schema().fields().find_map(|field| {
        let generated = field.metadata().contains_key("delta.generationExpression");
        let nested = format!("{:?}", field.data_type()).contains("delta.invariants");
        let key = match (generated, nested) {
            (true, _) => "delta.generationExpression",
            (_, true) => "nested delta.invariants",
            _ => return None,
        };
        Some(format!("{key} of column {}", field.name()))
    })
}

//! The policy that a table was written under, for whoever writes it next without one of their own.

use alluvium_contracts::{DeltaFeature, DeltaWritePolicy, decode_json};
use deltalake_core::table::state::DeltaTableState;
use serde_json::Value;

use crate::overrides::WriteOverrides;
use crate::policy::POLICY_PROPERTY;
use crate::table_actions::protocol_of;

/// The policy that is stored with the table, and the columns that its property gives statistics to.
pub(crate) fn stored_policy(state: &DeltaTableState) -> (DeltaWritePolicy, WriteOverrides) {
    let properties = state.metadata().configuration();
    let Stored { mut policy, unread } =
        properties.get(POLICY_PROPERTY).map(|text| read_policy(text)).unwrap_or_default();
    if !unread.is_empty() {
        let unread = unread.join(", ");
        tracing::warn!(
            unread,
            property = POLICY_PROPERTY,
            "a newer build stored a write policy with parts that this one does not know; it follows the rest"
        );
    }
    policy.partition_by = state.metadata().partition_columns().to_vec();
    policy.enable_features =
        protocol_of(state).has("timestampNtz").then_some(DeltaFeature::TimestampNtz).into_iter().collect();
    let indexed = properties.get("delta.dataSkippingNumIndexedCols").and_then(|count| count.parse::<i64>().ok());
    if let Some(count) = indexed {
        // -1 stands for all of them.
        policy.stats_max_columns = u32::try_from(count).unwrap_or(u32::MAX);
    }
    let stats_columns = properties.get("delta.dataSkippingStatsColumns").map(|list| parse_columns(list));
    (policy, WriteOverrides { stats_columns, ..WriteOverrides::default() })
}

/// A policy as this build understands it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Stored {
    pub(crate) policy: DeltaWritePolicy,
    /// JSON pointers to what it does not understand, and has not followed.
    pub(crate) unread: Vec<String>,
}

/// The policy in a table's property. A person's policy is refused whole for one unknown field; this one was written by a
/// program, perhaps a newer one, and what such a one added must not cost the table all that was asked for beside it.
pub(crate) fn read_policy(text: &str) -> Stored {
    let mut unread = Vec::new();
    let Ok(mut rest) = serde_json::from_str::<Value>(text) else {
        return Stored { policy: DeltaWritePolicy::default(), unread: vec![String::new()] };
    };
    loop {
        let pointer = match decode_json(rest.to_string().as_bytes()) {
            Ok(policy) => return Stored { policy, unread },
            Err(report) => report.pointer,
        };
        // Each turn takes one value out, so that there is an end.
        if !take_out(&mut rest, &pointer) {
            return Stored { policy: DeltaWritePolicy::default(), unread: vec![String::new()] };
        }
        unread.push(pointer);
    }
}

/// Removes what `pointer` names; false where it names nothing, or the whole.
fn take_out(document: &mut Value, pointer: &str) -> bool {
    let Some((parent, name)) = pointer.rsplit_once('/') else {
        return false;
    };
    match document.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.remove(&name.replace("~1", "/").replace("~0", "~")).is_some(),
        Some(Value::Array(items)) => match name.parse::<usize>() {
            Ok(index) if index < items.len() => {
                items.remove(index);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// The columns of `delta.dataSkippingStatsColumns`: paths between commas, names in backticks where they need them.
fn parse_columns(list: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(column) = columns.last_mut() else { break };
        match c {
            '`' if quoted && chars.peek() == Some(&'`') => {
                column.push('`');
                chars.next();
            }
            '`' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            ' ' if !quoted => {}
            c => column.push(c),
        }
    }
    columns.retain(|column| !column.is_empty());
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_builds_policy_keeps_what_this_one_knows() {
        let text = r#"{
            "zorder_by": ["n"],
            "clustering": {"by": ["n"]},
            "enable_features": ["change_data_feed", "variant_shredding"],
            "writer_properties": {"compression": "lz5", "data_page_max_rows": 7, "page_index": true},
            "maintenance": {"compact_min_files": "many", "checkpoint_interval_commits": 3}
        }"#;
        let Stored { policy, unread } = read_policy(text);
        assert_eq!(policy.zorder_by, ["n"]);
        assert_eq!(policy.enable_features, [DeltaFeature::ChangeDataFeed]);
        assert_eq!(policy.writer_properties.data_page_max_rows, 7);
        assert_eq!(policy.maintenance.checkpoint_interval_commits, Some(3));
        let mut unread = unread;
        unread.sort();
        let newer = ["/clustering", "/enable_features/1", "/maintenance/compact_min_files"];
        assert_eq!(unread[..3], newer);
        assert_eq!(unread[3..], ["/writer_properties/compression", "/writer_properties/page_index"]);
        for nothing in ["", "[]", "7", "{", r#""zorder_by""#] {
            assert_eq!(
                read_policy(nothing),
                Stored { policy: DeltaWritePolicy::default(), unread: vec![String::new()] }
            );
        }
    }

    #[test]
    fn a_list_of_columns_reads_back() {
        assert_eq!(parse_columns("x, a.b,`odd name`,`x,y`,`a``b`"), ["x", "a.b", "odd name", "x,y", "a`b"]);
        assert_eq!(parse_columns(""), [""; 0]);
    }
}

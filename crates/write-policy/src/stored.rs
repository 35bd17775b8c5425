//! The policy that a table was written under, for whoever writes it next without one of their own.

use alluvium_contracts::{DeltaFeature, DeltaWritePolicy, decode_json};
use deltalake_core::table::state::DeltaTableState;
use serde_json::{Map, Value, json};

use crate::overrides::WriteOverrides;
use crate::policy::POLICY_PROPERTY;
use crate::table_actions::protocol_of;

/// The policy that is stored with the table, and the columns that its property gives statistics to.
pub(crate) fn stored_policy(state: &DeltaTableState) -> (DeltaWritePolicy, WriteOverrides) {
    let properties = state.metadata().configuration();
    let Stored { mut policy, unread } = read_policy(properties.get(POLICY_PROPERTY));
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

/// The policy in a table's [`POLICY_PROPERTY`], the default one where it is not set. A person's policy is refused whole for one unknown field; this one was written by a
/// program, perhaps a newer one, and what such a one added must not cost the table all that was asked for beside it.
pub(crate) fn read_policy(property: Option<&String>) -> Stored {
    let Some(text) = property else { return Stored::default() };
    let mut unread = Vec::new();
    let stored = serde_json::from_str::<Value>(text).ok();
    let known = stored.and_then(|stored| known(stored, "", &|part| decoded(&part).is_some(), &mut unread));
    match known.as_ref().and_then(decoded) {
        Some(policy) => Stored { policy, unread },
        None => Stored { policy: DeltaWritePolicy::default(), unread: vec![String::new()] },
    }
}

fn decoded(policy: &Value) -> Option<DeltaWritePolicy> {
    decode_json(policy.to_string().as_bytes()).ok()
}

/// What of `value` fits into a policy, where `fits` says so of a part at its place; the rest goes to `unread`.
///
/// Every part is asked for by itself, all others being left out: that a field is not known says nothing of the next one.
fn known(value: Value, pointer: &str, fits: &dyn Fn(Value) -> bool, unread: &mut Vec<String>) -> Option<Value> {
    if fits(value.clone()) {
        return Some(value);
    }
    let known = match value {
        Value::Object(fields) if fits(json!({})) => {
            let fields = fields.into_iter().filter_map(|(name, value)| {
                let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                let alone = |part| fits(Value::Object(Map::from_iter([(name.clone(), part)])));
                known(value, &pointer, &alone, unread).map(|known| (name, known))
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) if fits(json!([])) => {
            let items = items.into_iter().enumerate().filter_map(|(index, item)| {
                known(item, &format!("{pointer}/{index}"), &|part| fits(json!([part])), unread)
            });
            Value::Array(items.collect())
        }
        _ => {
            unread.push(pointer.to_owned());
            return None;
        }
    };
    Some(known)
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

    fn read(text: &str) -> Stored {
        read_policy(Some(&text.to_owned()))
    }

    #[test]
    fn a_newer_builds_policy_keeps_what_this_one_knows() {
        let text = r#"{
            "zorder_by": ["n"],
            "clustering": {"by": ["n"]},
            "enable_features": ["change_data_feed", "variant_shredding"],
            "writer_properties": {"compression": "lz5", "data_page_max_rows": 7, "page_index": true},
            "maintenance": {"compact_min_files": "many", "checkpoint_interval_commits": 3}
        }"#;
        let Stored { policy, unread } = read(text);
        assert_eq!(policy.zorder_by, ["n"]);
        assert_eq!(policy.enable_features, [DeltaFeature::ChangeDataFeed]);
        assert_eq!(policy.writer_properties.data_page_max_rows, 7);
        assert_eq!(policy.maintenance.checkpoint_interval_commits, Some(3));
        let newer = ["/clustering", "/enable_features/1", "/maintenance/compact_min_files"];
        assert_eq!(unread[..3], newer);
        assert_eq!(unread[3..], ["/writer_properties/compression", "/writer_properties/page_index"]);
        let odd = format!(r#"{{"zorder_by": ["n"], "{}": 1, "a/b\u0007~": {{"deep": [1]}}}}"#, "long".repeat(100));
        let Stored { policy, unread } = read(&odd);
        assert_eq!(
            (policy.zorder_by, unread),
            (vec!["n".to_owned()], vec!["/a~1b\u{7}~0".to_owned(), format!("/{}", "long".repeat(100))])
        );
        for nothing in ["", "[]", "7", "{", r#""zorder_by""#] {
            assert_eq!(read(nothing), Stored { policy: DeltaWritePolicy::default(), unread: vec![String::new()] });
        }
        assert_eq!(read_policy(None), Stored::default());
    }

    #[test]
    fn a_list_of_columns_reads_back() {
        assert_eq!(parse_columns("x, a.b,`odd name`,`x,y`,`a``b`"), ["x", "a.b", "odd name", "x,y", "a`b"]);
        assert_eq!(parse_columns(""), [""; 0]);
    }
}

//! The policy that a table was written under, for whoever writes it next without one of their own.

use deltalake_core::table::state::DeltaTableState;

use crate::overrides::WriteOverrides;
use crate::policy::POLICY_PROPERTY;
use crate::table_actions::protocol_of;
use alluvium_contracts::{DeltaFeature, DeltaWritePolicy};

/// The policy that is stored with the table, and the columns that its property gives statistics to.
pub(crate) fn stored_policy(state: &DeltaTableState) -> (DeltaWritePolicy, WriteOverrides) {
    let properties = state.metadata().configuration();
    let stored = properties.get(POLICY_PROPERTY).and_then(|text| match serde_json::from_str(text) {
        Ok(policy) => Some(policy),
        Err(error) => {
            tracing::warn!(%error, property = POLICY_PROPERTY, "the stored write policy is not known to this build");
            None
        }
    });
    let mut policy: DeltaWritePolicy = stored.unwrap_or_default();
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
    fn a_list_of_columns_reads_back() {
        assert_eq!(parse_columns("x, a.b,`odd name`,`x,y`,`a``b`"), ["x", "a.b", "odd name", "x,y", "a`b"]);
        assert_eq!(parse_columns(""), [""; 0]);
    }
}

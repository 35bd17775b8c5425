//! What a person should know of a write that did all that it was asked for.

use alluvium_contracts::{GateMode, StatsReason};

use crate::policy::ResolvedWritePolicy;
use crate::read::order_of;
use crate::table::Loaded;

/// One sentence each: features that were left out, columns that were asked for and have no statistics, an order that was lost.
pub(crate) fn notices(policy: &ResolvedWritePolicy, before: Option<&Loaded>, after: &Loaded) -> Vec<String> {
    let mut notices = Vec::new();
    if policy.policy().feature_gate == GateMode::Warn {
        let left_out = policy.left_out().iter();
        notices.extend(left_out.map(|(feature, reason)| format!("the feature {feature} was left out: {reason}")));
    }
    for column in policy.stats().columns.iter().filter(|column| !column.taken) {
        let why = match column.reason {
            StatsReason::Unknown => "the table has no such column",
            StatsReason::Type => "files cannot be skipped by values of its type",
            StatsReason::Cap => "`stats_max_columns` was reached",
            // Partition columns need none.
            _ => continue,
        };
        notices.push(format!("the log has no statistics of {}: {why}", column.column));
    }
    let lost = before.and_then(order_of).filter(|order| order_of(after).as_ref() != Some(order));
    if let Some(order) = lost {
        notices.push(format!(
            "the table was in order of {} and is no more; `Maintenance::zorder` orders all rows anew",
            order.join(", ")
        ));
    }
    notices
}

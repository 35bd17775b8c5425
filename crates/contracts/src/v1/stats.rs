//! Which columns got statistics, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::sample::{self, names};
use crate::v1::write::StatsPolicy;
use crate::words::words;

/// The statistics of one write: what was decided, and for each column why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeltaStatsDecision {
    /// The table.
    pub dataset_name: String,
    /// The run, where there was one.
    pub run_id: Option<RunId>,
    /// The policy.
    pub stats_policy: StatsPolicy,
    /// The columns that were decided on, in order; none where the engine's own choice was left alone.
    pub stats_columns: Option<Vec<String>>,
    /// The cap.
    pub stats_max_columns: u32,
    /// The columns that readers filter, join and group by.
    pub lineage_columns: Vec<String>,
    /// The partition columns, which never have statistics.
    pub partition_by: Vec<String>,
    /// The columns by which the table is ordered.
    pub zorder_by: Vec<String>,
    /// Columns that readers were found to need after the last write: they apply at the next.
    pub pending_columns: Vec<String>,
    /// Every column that was considered, in the order of consideration.
    pub columns: Vec<StatsColumn>,
}

words!(
    /// Why a column was taken or left.
    StatsReason {
        /// Taken: the caller of this one write said so.
        Override => "override",
        /// Taken: it is in `stats_columns`.
        Explicit => "explicit",
        /// Taken: the table is ordered by it.
        Zorder => "zorder",
        /// Taken: a reader filters by it.
        Filter => "filter",
        /// Taken: a reader joins by it.
        Join => "join",
        /// Taken: a reader groups by it.
        Group => "group",
        /// Left: the policy is `off`.
        Off => "off",
        /// Left: partitions need no statistics.
        Partition => "partition",
        /// Left: files cannot be skipped by values of its type.
        Type => "type",
        /// Left: the table has no such column.
        Unknown => "unknown",
        /// Left: the engine collects none, because it matches the last name of a nested path.
        Engine => "engine",
        /// Left: the cap was reached.
        Cap => "cap",
    }
);

/// One column that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatsColumn {
    /// The column, as a path in the schema.
    pub column: String,
    /// Whether it has statistics.
    pub taken: bool,
    /// Why.
    pub reason: StatsReason,
}

impl Contract for DeltaStatsDecision {
    const KIND: &'static str = "delta_stats_decision";
    const VERSION: u32 = 1;
    const DOC: &'static str = "which columns of a written table have statistics, and why";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let column = |column: &str, taken: bool, reason| StatsColumn { column: column.to_owned(), taken, reason };
        Self {
            dataset_name: "daily".to_owned(),
            run_id: Some(sample::run_id()),
            stats_policy: StatsPolicy::Auto,
            stats_columns: Some(names(["flight_date", "origin"])),
            stats_max_columns: 2,
            lineage_columns: names(["delay", "month", "origin"]),
            partition_by: names(["month"]),
            zorder_by: names(["flight_date"]),
            pending_columns: names(["carrier"]),
            columns: vec![
                column("flight_date", true, StatsReason::Zorder),
                column("month", false, StatsReason::Partition),
                column("origin", true, StatsReason::Filter),
                column("delay", false, StatsReason::Cap),
            ],
        }
    }
}

//! Which columns get statistics in the log, and why.

use std::collections::HashSet;

use arrow::datatypes::{DataType, Schema};

use alluvium_contracts::{DeltaStatsDecision, DeltaWritePolicy, LineageSummary, StatsColumn, StatsPolicy, StatsReason};

/// Decides which columns get statistics.
///
/// The first of these that applies: the write's `overrides`; the policy `off`; the policy `explicit`; `auto`, which takes
/// the z-order columns and then those of `lineage`. Unknown columns, partition columns and types that files cannot be
/// skipped by leave before the cap counts, and the order is kept. Where `auto` finds none, the first columns get them.
#[must_use]
pub fn resolve_stats_columns(
    policy: &DeltaWritePolicy,
    schema: &Schema,
    lineage: &[ReaderColumn],
    overrides: Option<&[String]>,
) -> DeltaStatsDecision {
    let named = |reason, columns: &[String]| columns.iter().map(|column| (reason, column.clone())).collect::<Vec<_>>();
    let explicit = policy.stats_columns.as_deref().unwrap_or_default();
    let read_by = lineage.iter().map(|read| (read.reason, read.column.clone()));
    let candidates = match (overrides, policy.stats_policy) {
        (Some(columns), _) => named(StatsReason::Override, columns),
        (None, StatsPolicy::Off) => Vec::new(),
        (None, StatsPolicy::Explicit) => named(StatsReason::Explicit, explicit),
        (None, StatsPolicy::Auto) => named(StatsReason::Zorder, &policy.zorder_by).into_iter().chain(read_by).collect(),
    };
    let cap = usize::try_from(policy.stats_max_columns).unwrap_or(usize::MAX);
    let mut taken: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    let mut columns = Vec::new();
    for (source, column) in candidates {
        if !seen.insert(column.clone()) {
            continue;
        }
        let left = match find(schema, &column) {
            _ if policy.partition_by.contains(&column) => Some(StatsReason::Partition),
            None => Some(StatsReason::Unknown),
            Some(data_type) if !skippable(data_type) => Some(StatsReason::Type),
            Some(_) if taken.len() >= cap => Some(StatsReason::Cap),
            Some(_) => None,
        };
        if left.is_none() {
            taken.push(column.clone());
        }
        columns.push(StatsColumn { column, taken: left.is_none(), reason: left.unwrap_or(source) });
    }
    let nothing_known = overrides.is_none() && policy.stats_policy == StatsPolicy::Auto && taken.is_empty();
    let mut lineage_columns: Vec<String> = lineage.iter().map(|read| read.column.clone()).collect();
    lineage_columns.sort_unstable();
    lineage_columns.dedup();
    DeltaStatsDecision {
        dataset_name: String::new(),
        run_id: None,
        stats_policy: policy.stats_policy,
        stats_columns: (!nothing_known).then_some(taken),
        stats_max_columns: policy.stats_max_columns,
        lineage_columns,
        partition_by: policy.partition_by.clone(),
        zorder_by: policy.zorder_by.clone(),
        pending_columns: Vec::new(),
        columns,
    }
}

/// A column that readers of a table use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderColumn {
    /// The column.
    pub column: String,
    /// How: `Filter`, `Join` or `Group`.
    pub reason: StatsReason,
}

impl ReaderColumn {
    /// What the readers with these lineages use of `table`: what they filter by, then join by, then group by.
    #[must_use]
    pub fn of(table: &str, readers: &[LineageSummary]) -> Vec<Self> {
        let mut columns = Vec::new();
        for reason in [StatsReason::Filter, StatsReason::Join, StatsReason::Group] {
            let used = readers.iter().flat_map(|reader| match reason {
                StatsReason::Filter => &reader.filter_columns,
                StatsReason::Join => &reader.join_keys,
                _ => &reader.group_keys,
            });
            let used = used.filter(|column| column.table == table);
            columns.extend(used.map(|column| Self { column: column.column.clone(), reason }));
        }
        columns
    }
}

/// The type of the column at `path`: a top-level name, else a path through structs. `a.b` may be either.
pub(crate) fn find<'a>(schema: &'a Schema, path: &str) -> Option<&'a DataType> {
    if let Ok(field) = schema.field_with_name(path) {
        return Some(field.data_type());
    }
    let mut fields = schema.fields();
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let field = fields.iter().find(|field| field.name() == part)?;
        match field.data_type() {
            data_type if parts.peek().is_none() => return Some(data_type),
            DataType::Struct(inner) => fields = inner,
            _ => return None,
        }
    }
    None
}

/// The path of a column through the schema, part by part.
pub(crate) fn path_parts(schema: &Schema, path: &str) -> Vec<String> {
    match schema.field_with_name(path) {
        Ok(field) => vec![field.name().clone()],
        Err(_) => path.split('.').map(str::to_owned).collect(),
    }
}

/// The digits of a decimal that a double keeps. The engine's bounds of decimals are doubles: of more digits they are others.
pub(crate) const EXACT_DIGITS: u8 = 15;

/// Whether readers skip files by bounds of this type. Booleans have bounds of no use, and binary ones are not collected.
fn skippable(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Dictionary(_, value) => skippable(value),
        Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Utf8 | LargeUtf8 | Utf8View | Date32 => true,
        Timestamp(_, _) => true,
        Decimal128(precision, _) => *precision <= EXACT_DIGITS,
        _ => false,
    }
}

/// The value of `delta.dataSkippingStatsColumns`: protocol paths, each part in backticks where it needs them.
pub(crate) fn stats_property(schema: &Schema, columns: &[String]) -> String {
    let quoted = |part: String| {
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().next().is_some_and(|c| !c.is_ascii_digit());
        if plain { part } else { format!("`{}`", part.replace('`', "``")) }
    };
    let path = |column: &String| path_parts(schema, column).into_iter().map(quoted).collect::<Vec<_>>().join(".");
    columns.iter().map(path).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use alluvium_contracts::ColumnRef;
    use arrow::datatypes::Field;

    use super::*;

    fn schema() -> Schema {
        let inner = Field::new("b", DataType::Int64, true);
        let field = |name: &str, data_type| Field::new(name, data_type, true);
        Schema::new(vec![
            field("p", DataType::Utf8),
            field("x", DataType::Int64),
            field("y", DataType::Int64),
            field("z", DataType::Utf8),
            field("flag", DataType::Boolean),
            field("blob", DataType::Binary),
            field("a", DataType::Struct(vec![inner].into())),
            field("odd name", DataType::Int64),
            field("x.y", DataType::Int64),
        ])
    }

    fn names(columns: &[&str]) -> Vec<String> {
        columns.iter().map(|column| (*column).to_owned()).collect()
    }

    fn lineage() -> Vec<ReaderColumn> {
        let of = |columns: &[&str]| {
            let column = |column: &&str| ColumnRef { table: "t".to_owned(), column: (*column).to_owned() };
            columns.iter().map(column).collect::<Vec<_>>()
        };
        let elsewhere = ColumnRef { table: "other".to_owned(), column: "odd name".to_owned() };
        let reader = LineageSummary {
            filter_columns: [of(&["nowhere", "z", "flag"]), vec![elsewhere]].concat(),
            join_keys: of(&["x"]),
            group_keys: of(&["y", "z"]),
            ..LineageSummary::default()
        };
        ReaderColumn::of("t", &[reader])
    }

    fn decide(policy: DeltaWritePolicy, overrides: Option<&[&str]>) -> DeltaStatsDecision {
        let overrides = overrides.map(names);
        resolve_stats_columns(&policy, &schema(), &lineage(), overrides.as_deref())
    }

    fn policy(stats_policy: StatsPolicy) -> DeltaWritePolicy {
        DeltaWritePolicy {
            stats_policy,
            stats_columns: Some(names(&["y", "p", "a.b", "blob", "nowhere", "y", "x"])),
            zorder_by: names(&["y"]),
            partition_by: names(&["p"]),
            ..DeltaWritePolicy::default()
        }
    }

    #[test]
    fn precedence_is_override_then_off_then_explicit_then_zorder_and_lineage() {
        let taken = |policy, overrides| decide(policy, overrides).stats_columns;
        assert_eq!(taken(policy(StatsPolicy::Off), Some(&["x"])), Some(names(&["x"])));
        assert_eq!(taken(policy(StatsPolicy::Off), None), Some(vec![]));
        assert_eq!(taken(policy(StatsPolicy::Explicit), None), Some(names(&["y", "a.b", "x"])));
        assert_eq!(taken(policy(StatsPolicy::Auto), None), Some(names(&["y", "z", "x"])));
        assert_eq!(taken(policy(StatsPolicy::Auto), Some(&[])), Some(vec![]));
        let unknown = resolve_stats_columns(&DeltaWritePolicy::default(), &schema(), &[], None);
        assert_eq!(unknown.stats_columns, None, "nothing known: the engine's first columns");
        let by_flag = [ReaderColumn { column: "flag".to_owned(), reason: StatsReason::Filter }];
        let useless = resolve_stats_columns(&DeltaWritePolicy::default(), &schema(), &by_flag, None);
        assert_eq!(useless.stats_columns, None, "a reader of what cannot be skipped by takes nothing away");
        assert_eq!(decide(policy(StatsPolicy::Auto), None).lineage_columns, ["flag", "nowhere", "x", "y", "z"]);
    }

    #[test]
    fn columns_that_cannot_have_statistics_leave_before_the_cap() {
        let policy = DeltaWritePolicy { stats_max_columns: 2, ..policy(StatsPolicy::Explicit) };
        let decision = decide(policy, None);
        assert_eq!(decision.stats_columns, Some(names(&["y", "a.b"])));
        let why: Vec<_> = decision.columns.iter().map(|c| (c.column.as_str(), c.taken, c.reason)).collect();
        assert_eq!(
            why,
            [
                ("y", true, StatsReason::Explicit),
                ("p", false, StatsReason::Partition),
                ("a.b", true, StatsReason::Explicit),
                ("blob", false, StatsReason::Type),
                ("nowhere", false, StatsReason::Unknown),
                ("x", false, StatsReason::Cap),
            ]
        );
    }

    #[test]
    fn the_property_holds_protocol_paths() {
        let property = stats_property(&schema(), &names(&["x", "a.b", "odd name", "x.y"]));
        assert_eq!(property, "x,a.b,`odd name`,`x.y`");
    }
}

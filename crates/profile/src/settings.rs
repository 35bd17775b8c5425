//! The engine's settings: which the factory sets, and which cannot change rows.

use std::collections::BTreeMap;

use alluvium_contracts::ProfileSpec;
use datafusion::config::ConfigOptions;
use datafusion::prelude::SessionConfig;

use crate::runtime_profile::RuntimeProfile;

const ARRIVAL: &str = "splits or joins batches of rows; what a row holds does not depend on its batch";
const PARALLEL: &str =
    "spreads the same rows over more or fewer workers; a view whose rows depend on the spread is marked unstable";
const SPILL: &str = "says when and how intermediate rows leave memory; they come back as they were";
const BUFFER: &str = "says how much may wait in memory; order of arrival is all it moves";
const WRITE: &str =
    "shapes Parquet files that the engine itself writes; no query may write, and policies set their own";
const LATE_FILTER: &str = "applies a filter during decoding instead of after it; the same rows pass";
const PARTIAL: &str = "decides whether rows are combined in one step or two; the groups are the same";
const EXPLAIN: &str = "shapes the text of EXPLAIN, which no query may contain";
const PLACE: &str = "says where something lies; what it holds is the same";
const FINISH: &str = "decides whether a query finishes, not what it returns";
const DISPLAY: &str = "shapes printed tables; values are untouched";

/// Settings that cannot change the rows of a query, each with the argument why. Every other one is semantic: it is part of
/// a plan's fingerprint, and flipping it recomputes.
///
/// "Rows" means the multiset of rows of a query that determines one. Where parallel execution may pick another (sums of
/// floats, ties in a top-k), the view is marked unstable; that is judged from the plan, not from settings.
///
/// Not here on purpose: whatever trusts what a file says about itself (`collect_statistics`, `parquet.pruning`,
/// `parquet.enable_page_index`, `parquet.bloom_filter_on_read`), because a file may lie, and
/// `optimizer.repartition_file_scans`, because a CSV file with newlines in quoted values reads differently when split.
///
/// Limits of memory, spill space and the engine's caches are no settings of this list: they belong to the runtime, which a
/// profile sets directly, and they decide whether a query finishes, not what it returns.
pub const NEUTRAL_SETTINGS: &[(&str, &str)] = &[
    ("datafusion.execution.batch_size", ARRIVAL),
    ("datafusion.execution.coalesce_batches", ARRIVAL),
    ("datafusion.execution.enable_file_stream_work_stealing", PARALLEL),
    ("datafusion.execution.enforce_batch_size_in_joins", ARRIVAL),
    ("datafusion.execution.hash_join_buffering_capacity", BUFFER),
    ("datafusion.execution.max_buffered_batches_per_output_file", WRITE),
    ("datafusion.execution.max_spill_file_size_bytes", SPILL),
    (
        "datafusion.execution.meta_fetch_concurrency",
        "reads footers in parallel; they are put in the order of their paths",
    ),
    ("datafusion.execution.minimum_parallel_output_files", WRITE),
    ("datafusion.execution.objectstore_writer_buffer_size", WRITE),
    ("datafusion.execution.parquet.allow_single_file_parallelism", WRITE),
    ("datafusion.execution.parquet.bloom_filter_fpp", WRITE),
    ("datafusion.execution.parquet.bloom_filter_ndv", WRITE),
    ("datafusion.execution.parquet.bloom_filter_on_write", WRITE),
    ("datafusion.execution.parquet.column_index_truncate_length", WRITE),
    ("datafusion.execution.parquet.compression", WRITE),
    ("datafusion.execution.parquet.content_defined_chunking.enabled", WRITE),
    ("datafusion.execution.parquet.content_defined_chunking.max_chunk_size", WRITE),
    ("datafusion.execution.parquet.content_defined_chunking.min_chunk_size", WRITE),
    ("datafusion.execution.parquet.content_defined_chunking.norm_level", WRITE),
    ("datafusion.execution.parquet.created_by", WRITE),
    ("datafusion.execution.parquet.data_page_row_count_limit", WRITE),
    ("datafusion.execution.parquet.data_pagesize_limit", WRITE),
    ("datafusion.execution.parquet.dictionary_enabled", WRITE),
    ("datafusion.execution.parquet.dictionary_page_size_limit", WRITE),
    ("datafusion.execution.parquet.encoding", WRITE),
    ("datafusion.execution.parquet.force_filter_selections", LATE_FILTER),
    ("datafusion.execution.parquet.max_predicate_cache_size", BUFFER),
    ("datafusion.execution.parquet.max_row_group_bytes", WRITE),
    ("datafusion.execution.parquet.max_row_group_size", WRITE),
    ("datafusion.execution.parquet.maximum_buffered_record_batches_per_stream", WRITE),
    ("datafusion.execution.parquet.maximum_parallel_row_group_writers", WRITE),
    ("datafusion.execution.parquet.metadata_size_hint", "guesses a footer's length; a wrong guess costs a second read"),
    ("datafusion.execution.parquet.pushdown_filters", LATE_FILTER),
    ("datafusion.execution.parquet.reorder_filters", LATE_FILTER),
    ("datafusion.execution.parquet.statistics_enabled", WRITE),
    ("datafusion.execution.parquet.statistics_truncate_length", WRITE),
    ("datafusion.execution.parquet.write_batch_size", WRITE),
    ("datafusion.execution.parquet.writer_version", WRITE),
    ("datafusion.execution.planning_concurrency", "plans parts of one query in parallel; the plan is the same"),
    ("datafusion.execution.skip_partial_aggregation_probe_ratio_threshold", PARTIAL),
    ("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", PARTIAL),
    ("datafusion.execution.soft_max_rows_per_output_file", WRITE),
    (
        "datafusion.execution.sort_in_place_threshold_bytes",
        "picks between two ways to sort; ties have no promised order",
    ),
    ("datafusion.execution.sort_pushdown_buffer_capacity", BUFFER),
    ("datafusion.execution.sort_spill_reservation_bytes", SPILL),
    ("datafusion.execution.spill_compression", SPILL),
    ("datafusion.execution.target_partitions", PARALLEL),
    ("datafusion.execution.use_row_number_estimates_to_optimize_partitioning", PARALLEL),
    ("datafusion.explain.analyze_categories", EXPLAIN),
    ("datafusion.explain.analyze_level", EXPLAIN),
    ("datafusion.explain.format", EXPLAIN),
    ("datafusion.explain.logical_plan_only", EXPLAIN),
    ("datafusion.explain.physical_plan_only", EXPLAIN),
    ("datafusion.explain.show_schema", EXPLAIN),
    ("datafusion.explain.show_sizes", EXPLAIN),
    ("datafusion.explain.show_statistics", EXPLAIN),
    ("datafusion.explain.tree_maximum_render_width", EXPLAIN),
    ("datafusion.format.date_format", DISPLAY),
    ("datafusion.format.datetime_format", DISPLAY),
    ("datafusion.format.duration_format", DISPLAY),
    ("datafusion.format.null", DISPLAY),
    ("datafusion.format.safe", DISPLAY),
    ("datafusion.format.time_format", DISPLAY),
    ("datafusion.format.timestamp_format", DISPLAY),
    ("datafusion.format.timestamp_tz_format", DISPLAY),
    ("datafusion.format.types_info", DISPLAY),
    ("datafusion.optimizer.enable_round_robin_repartition", PARALLEL),
    ("datafusion.optimizer.repartition_aggregations", PARALLEL),
    ("datafusion.optimizer.repartition_joins", PARALLEL),
    ("datafusion.optimizer.repartition_sorts", PARALLEL),
    ("datafusion.optimizer.repartition_windows", PARALLEL),
    ("datafusion.optimizer.subset_repartition_threshold", PARALLEL),
    ("datafusion.sql_parser.collect_spans", "remembers where names stand in the SQL text, for messages"),
    ("datafusion.sql_parser.recursion_limit", "refuses deeper SQL; what is accepted parses alike"),
];

/// Settings of a profile that move no cache key, each with the argument why. One that names a table covers all below it.
/// Every other one is semantic: it stands for settings of the engine that are not among [`NEUTRAL_SETTINGS`].
pub const NEUTRAL_PROFILE_SETTINGS: &[(&str, &str)] = &[
    ("batch_size", ARRIVAL),
    ("cache_output_root", PLACE),
    ("diagnostics", "says who is told of a run; nothing is computed differently"),
    (
        "engine_caches",
        "decides how often a file is opened; a pin is what says that it is the same file, and it is stated again before \
         anything is published",
    ),
    ("kv", "decides what is remembered and for how long; what was forgotten is computed again, alike"),
    ("kv_root", PLACE),
    ("lease_deadline_seconds", "decides which process computes what several want; each would compute the same"),
    ("memory_limit_bytes", FINISH),
    ("memory_pool", FINISH),
    ("metadata_snapshots", "writes down what the engine remembers when a run has ended"),
    ("name", "is shown to people, and read by nobody else"),
    ("parquet.metadata_size_hint_bytes", "guesses a footer's length; a wrong guess costs a second read"),
    ("parquet.predicate_cache_bytes", BUFFER),
    ("parquet.pushdown_filters", LATE_FILTER),
    ("parquet.reorder_filters", LATE_FILTER),
    ("preset", "stands for values of other settings, which count by themselves"),
    ("query_spans", "says whether what operators measure anyway is told"),
    ("spill_directory", PLACE),
    ("spill_limit_bytes", FINISH),
    ("sql_policy", "decides whether a statement runs; a view is one query under every policy"),
    (
        "stored_plans",
        "decides where a plan comes from; its identity is derived from the plan that is executed, wherever that came from",
    ),
    ("target_partitions", PARALLEL),
];

/// What a semantic setting without a value is written as.
const UNSET: &str = "(unset)";

/// The engine's settings in every session of a profile. What is not named has the engine's default; nothing comes from the
/// environment.
pub(crate) fn session_config(profile: &RuntimeProfile) -> SessionConfig {
    let spec = profile.spec();
    let mut config = SessionConfig::new().with_target_partitions(profile.target_partitions());
    if let (Some(catalog), Some(schema)) = (&spec.default_catalog, &spec.default_schema) {
        config = config.with_default_catalog_and_schema(catalog, schema);
    }
    // `alluvium sql` shows what is registered.
    config = config.with_information_schema(spec.information_schema.unwrap_or(true));
    if profile.batch_size() > 0 {
        config = config.with_batch_size(profile.batch_size());
    }
    read_settings(config.options_mut(), spec);
    let options = config.options_mut();
    // The one zone that Delta has for instants; it is the type of `now()` and of TIMESTAMP WITH TIME ZONE.
    options.execution.time_zone = Some("UTC".to_owned());
    // Messages say where a wrong name stands.
    options.sql_parser.collect_spans = true;
    // The engine's own default, stated because it shapes types: strings are views while a query runs, as the Parquet and
    // Delta scans produce them, so no cast to VARCHAR forces a conversion. Published schemas know no views.
    options.sql_parser.map_string_types_to_utf8view = true;
    options.execution.parquet.schema_force_view_types = true;
    // Parquet leaves NaN out of its minima and maxima, and the engine orders NaN above every number: pruning by them drops
    // rows that a filter keeps, so that a cached view would differ from a computed one. Until float columns alone can be
    // excepted, nothing is pruned by what files say of themselves.
    options.execution.parquet.pruning = false;
    options.execution.parquet.enable_page_index = false;
    options.execution.parquet.bloom_filter_on_read = false;
    // Hash joins on dictionary keys panic when a build side's values are pushed into the probe side's scan as a list
    // (deltalake-core works around it in its own sessions too); the hash table itself is pushed down instead.
    options.optimizer.hash_join_inlist_pushdown_max_size = 0;
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = 0;
    config
}

/// What a profile says of reading files and of the parts of the engine.
fn read_settings(options: &mut ConfigOptions, spec: &ProfileSpec) {
    let parquet = &mut options.execution.parquet;
    parquet.pushdown_filters = spec.parquet.pushdown_filters.unwrap_or(false);
    parquet.reorder_filters = spec.parquet.reorder_filters.unwrap_or(false);
    parquet.metadata_size_hint = spec.parquet.metadata_size_hint_bytes.map(bytes);
    parquet.max_predicate_cache_size = spec.parquet.predicate_cache_bytes.map(bytes);
    let (features, optimizer) = (&spec.features, &mut options.optimizer);
    optimizer.enable_topk_dynamic_filter_pushdown = features.topk_dynamic_filters.unwrap_or(true);
    optimizer.enable_join_dynamic_filter_pushdown = features.join_dynamic_filters.unwrap_or(true);
    optimizer.enable_aggregate_dynamic_filter_pushdown = features.aggregate_dynamic_filters.unwrap_or(true);
}

fn bytes(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Every setting that may change rows, with its value.
pub(crate) fn semantic(options: &ConfigOptions) -> BTreeMap<String, String> {
    options
        .entries()
        .into_iter()
        .filter(|entry| !NEUTRAL_SETTINGS.iter().any(|(name, _)| *name == entry.key))
        .map(|entry| (entry.key, entry.value.unwrap_or_else(|| UNSET.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write;

    use super::*;

    fn profile() -> RuntimeProfile {
        RuntimeProfile::from(&ProfileSpec { target_partitions: Some(4), ..ProfileSpec::default() })
    }

    /// An engine upgrade shows its new settings here: as semantic, until somebody argues otherwise.
    #[test]
    fn golden_every_setting_is_semantic_or_argued() {
        let options = session_config(&profile()).options().as_ref().clone();
        let semantic = semantic(&options);
        let neutral: BTreeSet<_> = NEUTRAL_SETTINGS.iter().map(|(name, _)| *name).collect();
        let names: BTreeSet<_> = options.entries().into_iter().map(|entry| entry.key).collect();
        let gone: Vec<_> = neutral.iter().filter(|name| !names.contains(**name)).collect();
        assert!(gone.is_empty(), "the engine has no such settings: {gone:?}");

        let mut text = String::new();
        for name in &names {
            match (semantic.get(name), neutral.contains(name.as_str())) {
                (Some(value), false) => writeln!(text, "semantic {name} = {value}").unwrap(),
                (None, true) => writeln!(text, "neutral  {name}").unwrap(),
                both => panic!("{name}: {both:?}"),
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn neutral_settings_are_listed_once_each_in_order() {
        assert!(NEUTRAL_SETTINGS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(NEUTRAL_PROFILE_SETTINGS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_semantic_setting_shows_its_value_and_a_neutral_one_never() {
        let of = |change: fn(&mut ConfigOptions)| {
            let mut options = session_config(&profile()).options().as_ref().clone();
            change(&mut options);
            semantic(&options)
        };
        let base = of(|_| {});
        assert_eq!(base["datafusion.execution.time_zone"], "UTC");
        assert_ne!(base, of(|o| o.execution.time_zone = None));
        assert_ne!(base, of(|o| o.sql_parser.default_null_ordering = "nulls_min".to_owned()));
        assert_eq!(base, of(|o| o.execution.target_partitions = 64));
        assert_eq!(base, of(|o| o.set("datafusion.execution.batch_size", "17").unwrap()));
    }

    /// What depends on the machine must be neutral, or a cache key would.
    #[test]
    fn no_semantic_setting_depends_on_the_machine() {
        let cores = std::thread::available_parallelism().unwrap().to_string();
        let options = session_config(&profile()).options().as_ref().clone();
        assert!(options.entries().iter().any(|e| {
            e.key == "datafusion.execution.planning_concurrency" && e.value.as_deref() == Some(cores.as_str())
        }));
        assert!(!semantic(&options).contains_key("datafusion.execution.planning_concurrency"));
        assert!(!semantic(&options).contains_key("datafusion.execution.target_partitions"));
    }
}

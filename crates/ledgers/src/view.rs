//! What people ask the ledgers most, as SQL views over them.

use std::fmt;

use crate::Ledger;

/// A view over the ledgers, which are expected under the SQL schema `alluvium` by their [`sql_name`](crate::Ledger::sql_name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LedgerView {
    /// `runs`: each run with when it began and ended, how long it took, its hit rate and what its hits saved. A killed run has neither
    /// end nor duration, but `last_sign_at`: when it last recorded or committed something.
    Runs,
    /// `latest_entries`: the newest row of the inventory for each view and each output.
    LatestEntries,
    /// `slowest_views`: what computing each view has cost in all, by rank.
    SlowestViews,
    /// `bytes_written_by_scope`: what runs have ever written, entries and versions of outputs, whether it is still there or not.
    BytesWrittenByScope,
    /// `view_misses`: every time that a view was computed though it may be cached, and why.
    ViewMisses,
    /// `entry_hits`: for each entry what it cost, how often it was hit, and what that saved.
    EntryHits,
    /// `run_commits`: each commit of each run, with the run's trace: from a version of a table to its run, and back.
    RunCommits,
    /// `run_inputs`: what each run read.
    RunInputs,
    /// `run_outputs`: what each output held after each run, and which run had written that.
    RunOutputs,
}

impl LedgerView {
    /// Every view.
    #[must_use]
    pub const fn all() -> [LedgerView; 9] {
        [
            LedgerView::Runs,
            LedgerView::LatestEntries,
            LedgerView::SlowestViews,
            LedgerView::BytesWrittenByScope,
            LedgerView::ViewMisses,
            LedgerView::EntryHits,
            LedgerView::RunCommits,
            LedgerView::RunInputs,
            LedgerView::RunOutputs,
        ]
    }

    /// The name of the view under the SQL schema `alluvium`.
    #[must_use]
    pub const fn sql_name(self) -> &'static str {
        match self {
            LedgerView::Runs => "runs",
            LedgerView::LatestEntries => "latest_entries",
            LedgerView::SlowestViews => "slowest_views",
            LedgerView::BytesWrittenByScope => "bytes_written_by_scope",
            LedgerView::ViewMisses => "view_misses",
            LedgerView::EntryHits => "entry_hits",
            LedgerView::RunCommits => "run_commits",
            LedgerView::RunInputs => "run_inputs",
            LedgerView::RunOutputs => "run_outputs",
        }
    }

    /// The ledgers that it is over.
    #[must_use]
    pub const fn ledgers(self) -> &'static [Ledger] {
        match self {
            LedgerView::Runs => &[Ledger::CacheRuns],
            LedgerView::LatestEntries
            | LedgerView::SlowestViews
            | LedgerView::BytesWrittenByScope
            | LedgerView::ViewMisses
            | LedgerView::EntryHits => &[Ledger::CacheInventory],
            LedgerView::RunCommits | LedgerView::RunInputs | LedgerView::RunOutputs => &[Ledger::RunManifests],
        }
    }

    /// Its definition.
    #[must_use]
    pub const fn sql(self) -> &'static str {
        match self {
            LedgerView::Runs => RUNS,
            LedgerView::LatestEntries => LATEST_ENTRIES,
            LedgerView::SlowestViews => SLOWEST_VIEWS,
            LedgerView::BytesWrittenByScope => BYTES_WRITTEN_BY_SCOPE,
            LedgerView::ViewMisses => VIEW_MISSES,
            LedgerView::EntryHits => ENTRY_HITS,
            LedgerView::RunCommits => RUN_COMMITS,
            LedgerView::RunInputs => RUN_INPUTS,
            LedgerView::RunOutputs => RUN_OUTPUTS,
        }
    }
}

impl fmt::Display for LedgerView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.sql_name())
    }
}

/// What was computed for one run alone is in no cache, so it counts against the hit rate and for nothing else. When a run was killed
/// nobody knows: there is only the last sign of life that it left.
const RUNS: &str = "
    select run_id,
           profile_name,
           result,
           to_timestamp_millis(started_unix_ms) as started_at,
           case when result <> 'killed' then to_timestamp_millis(finished_unix_ms) end as finished_at,
           to_timestamp_millis(finished_unix_ms) as last_sign_at,
           case when result <> 'killed' then (finished_unix_ms - started_unix_ms) / 1000.0 end as duration_seconds,
           hit_count, write_count, computed_count, skipped_count, error_count,
           cast(hit_count as double) / nullif(hit_count + write_count + computed_count, 0) as hit_rate,
           saved_ms / 1000.0 as saved_seconds
    from alluvium.cache_runs";

/// The newest time is found without sorting the inventory; only rows that share it are told apart by their runs, whose ids are in
/// the order of their beginnings. The newest times come first in the join: its left side is held in memory, and that would be
/// the inventory.
const LATEST_ENTRIES: &str = "
    select * except (place)
    from (
        select i.*,
               row_number() over (
                   partition by i.cache_scope, i.view_name, i.output_name order by i.run_id desc
               ) as place
        from (
            select cache_scope, view_name, coalesce(output_name, '') as output_name,
                   max(event_time_unix_ms) as event_time_unix_ms
            from alluvium.cache_inventory
            group by 1, 2, 3
        ) newest
        join alluvium.cache_inventory i
          on i.cache_scope = newest.cache_scope
         and i.view_name = newest.view_name
         and coalesce(i.output_name, '') = newest.output_name
         and i.event_time_unix_ms = newest.event_time_unix_ms
    )
    where place = 1";

const SLOWEST_VIEWS: &str = "
    select cast(row_number() over (order by total_seconds desc) as bigint) as rank, *
    from (
        select view_name,
               count(*) as computed_count,
               sum(duration_ms) / 1000.0 as total_seconds,
               avg(duration_ms) / 1000.0 as mean_seconds,
               max(duration_ms) / 1000.0 as max_seconds
        from alluvium.cache_inventory
        where cache_scope = 'view' and result in ('write', 'computed')
        group by view_name
    )";

/// An output that is the cache of its view is one table and has two rows.
const BYTES_WRITTEN_BY_SCOPE: &str = "
    select cache_scope,
           count(*) as write_count,
           sum(size_bytes) as size_bytes,
           sum(row_count) as row_count,
           sum(file_count) as file_count
    from alluvium.cache_inventory
    where result = 'write' and (cache_scope = 'output' or cache_policy = 'delta_staging')
    group by cache_scope";

const VIEW_MISSES: &str = "
    select view_name,
           to_timestamp_millis(event_time_unix_ms) as computed_at,
           run_id, reason, cache_key, plan_fingerprint, duration_ms / 1000.0 as duration_seconds
    from alluvium.cache_inventory
    where cache_scope = 'view' and result = 'write'";

const ENTRY_HITS: &str = "
    select view_name,
           cache_key,
           count(*) filter (where result = 'hit') as hit_count,
           coalesce(sum(saved_ms), 0.0) / 1000.0 as saved_seconds,
           max(case when result = 'write' then duration_ms end) / 1000.0 as compute_seconds,
           max(size_bytes) as size_bytes,
           to_timestamp_millis(max(case when result = 'write' then event_time_unix_ms end)) as written_at,
           to_timestamp_millis(max(case when result = 'hit' then event_time_unix_ms end)) as last_hit_at
    from alluvium.cache_inventory
    where cache_scope = 'view' and result in ('hit', 'write') and cache_key is not null
    group by view_name, cache_key";

const RUN_COMMITS: &str = "
    select run_id, traceparent, to_timestamp_millis(started_unix_ms) as started_at,
           c['cache_scope'] as cache_scope, c['name'] as name, c['path'] as path,
           c['table_id'] as table_id, c['delta_version'] as delta_version
    from (select run_id, traceparent, started_unix_ms, unnest(commits) as c from alluvium.run_manifests)";

const RUN_INPUTS: &str = "
    select run_id, i['name'] as name, i['kind'] as kind, i['path'] as path, i['pin'] as pin,
           i['table_id'] as table_id, i['version'] as delta_version, i['schema_hash'] as schema_hash,
           i['file_count'] as file_count, i['size_bytes'] as size_bytes, i['files'] as files
    from (select run_id, unnest(delta_inputs) as i from alluvium.run_manifests)";

const RUN_OUTPUTS: &str = "
    select run_id, o['name'] as name, o['view'] as view, o['path'] as path, o['result'] as result,
           o['table_id'] as table_id, o['delta_version'] as delta_version, o['written_by'] as written_by,
           o['row_count'] as row_count, o['content_hash'] as content_hash,
           o['plan_fingerprint'] as plan_fingerprint, o['cache_key'] as cache_key
    from (select run_id, unnest(outputs) as o from alluvium.run_manifests)";

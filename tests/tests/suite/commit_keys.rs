//! What every commit says of itself, read back from the log: for each scope of the cache the keys that apply to it, in every commit
//! of it; and rows of the inventory that name the same plan bundle. The artifact here has a key of its own; one whose key is a
//! plan's names that plan and its bundle too, which `artifacts` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use alluvium_contracts::{CacheCommitMetadata, CacheInventoryEntry, CacheScope, RunResult};
use alluvium_delta_cache::ArtifactKey;
use alluvium_ledgers::decode_rows;
use alluvium_telemetry::RunSpan;
use alluvium_write_policy::commit_info;

use crate::artifacts::{NONE_IN_MEMORY, batches as artifact_rows, caches, keep};
use crate::counts::tables;
use crate::lab::{Lab, answer, batches, later, run};
use crate::signals::Signals;

const EVERY_SCOPE: &str = r#"
[profile]
metadata_snapshots = "on_run_end"
engine_caches.preset = "always_latest"

[sources.events]
format = "parquet"
path = "data/events.parquet"
cache = "delta_staging"

[views.first]
sql = "select k, s from events"
tags = ["nightly"]

[views.second]
sql = "select s, sum(k) as total from first group by s"
cache = "delta_output"

[outputs.first]
view = "first"
path = "out/first"

[outputs.second]
view = "second"
path = "out/second"
"#;

const SCOPES: [CacheScope; 6] = [
    CacheScope::View,
    CacheScope::Dataset,
    CacheScope::Artifact,
    CacheScope::Snapshot,
    CacheScope::Output,
    CacheScope::Ledger,
];

/// Every commit below the project, as its log has it.
fn commits(lab: &Lab) -> Vec<CacheCommitMetadata> {
    let mut found = Vec::new();
    tables(lab.dir(), &mut found);
    let mut commits = Vec::new();
    for table in found {
        for version in 0.. {
            let Ok(info) = commit_info(&table, version) else { break };
            let metadata = CacheCommitMetadata::from_commit_info(&info).unwrap();
            commits.push(metadata.unwrap_or_else(|| panic!("{} at {version} is nobody's: {info:?}", table.display())));
        }
    }
    commits
}

async fn inventory(lab: &Lab) -> Vec<CacheInventoryEntry> {
    let rows = batches(&lab.open(), "select * from alluvium.cache_inventory").await;
    rows.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect()
}

/// A project after two runs and an artifact of a library's user, in a trace.
async fn lab() -> Lab {
    let lab = Lab::new(EVERY_SCOPE);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    let signals = Signals::new();
    signals
        .record(async {
            for rows in [&[(1, "a"), (2, "b")][..], &[(1, "a"), (2, "b"), (3, "b")]] {
                lab.parquet("data/events.parquet", rows);
                let document = run(&Lab::open_with(lab.dir(), signals.options())).await;
                assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
            }
            let span = RunSpan::begin(&later(), later().run_id(), None);
            let key = ArtifactKey::given("made", "v1");
            span.scope(keep(&caches(&lab.path(".alluvium"), NONE_IN_MEMORY), &key, artifact_rows(9))).await;
            span.finish("succeeded", None);
        })
        .await;
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_every_commit_of_every_scope_says_what_applies() {
    let lab = lab().await;
    let mut said: BTreeMap<String, BTreeSet<CacheScope>> = BTreeMap::new();
    let mut of_scope: BTreeMap<CacheScope, BTreeSet<String>> = BTreeMap::new();
    for commit in commits(&lab) {
        let keys: BTreeSet<String> = commit.to_map().into_keys().collect();
        let scope = commit.cache_scope;
        // The tags are those of one of the views.
        let untagged = |keys: &BTreeSet<String>| keys.iter().filter(|key| *key != "tags").cloned().collect::<Vec<_>>();
        let earlier = of_scope.entry(scope).or_insert_with(|| keys.clone());
        assert_eq!(untagged(&keys), untagged(earlier), "two commits of one scope: {commit:#?}");
        for key in keys {
            said.entry(key).or_default().insert(scope);
        }
    }
    let mut table = format!("{:<16}", "key");
    SCOPES.iter().for_each(|scope| write!(table, " {scope:<9}").unwrap());
    for (key, scopes) in said {
        write!(table, "\n{key:<16}").unwrap();
        for scope in SCOPES {
            write!(table, " {:<9}", if scopes.contains(&scope) { "x" } else { "" }).unwrap();
        }
    }
    let table: Vec<&str> = table.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(table.join("\n"), @r"
    key              view      dataset   artifact  snapshot  output    ledger
    artifact_ids     x                                       x
    cache_key        x         x         x                   x
    cache_operation  x         x         x         x         x         x
    cache_policy     x         x         x         x         x         x
    cache_result     x         x         x         x         x         x
    cache_scope      x         x         x         x         x         x
    components       x         x         x
    compute_ms       x         x         x                   x
    content_hash                                             x
    delta_inputs     x         x                             x
    fencing_token    x         x         x                   x
    layout_hash      x         x         x         x         x
    name             x         x         x         x         x         x
    plan_hash        x                                       x
    row_count        x         x         x         x         x
    run_id           x         x         x         x         x         x
    schema_hash      x         x         x         x         x
    stability        x         x         x                   x
    tags             x                   x
    traceparent      x         x         x         x         x
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_inventory_name_the_plan_bundles_of_their_commits() {
    let lab = lab().await;
    let commits = commits(&lab);
    let rows = inventory(&lab).await;
    let named = |row: &CacheInventoryEntry| {
        let commit = commits.iter().find(|commit| {
            let name = row.output_name.as_ref().unwrap_or(&row.view_name);
            (commit.run_id, commit.cache_scope, &commit.name) == (row.run_id, row.cache_scope, name)
        });
        commit.and_then(|commit| commit.artifact_ids.first().copied())
    };
    let written: Vec<_> = rows.iter().filter(|row| named(row).is_some()).collect();
    assert_eq!(written.len(), 6, "a view and two outputs in two runs: {rows:#?}");
    for row in &written {
        assert_eq!(row.plan_artifact_id, named(row), "{row:#?}");
    }
    // Those of the view that is its output too, and of hits: the plan that the rows are of.
    lab.run().await;
    let hits: Vec<_> = inventory(&lab).await.into_iter().filter(|row| row.result.as_str() == "hit").collect();
    assert_eq!(hits.len(), 4, "{hits:#?}");
    for row in hits {
        let is_its = |earlier: &&CacheInventoryEntry| {
            earlier.view_name == row.view_name
                && earlier.cache_key == row.cache_key
                && earlier.result.as_str() == "write"
        };
        let earlier = rows.iter().find(is_its).unwrap();
        assert!(row.plan_artifact_id.is_some() && row.plan_artifact_id == earlier.plan_artifact_id, "{row:#?}");
    }
    let bundles = "select a.artifact_kind, count(distinct i.plan_artifact_id) as named, count(distinct a.artifact_id) as kept \
                   from alluvium.cache_inventory i left join alluvium.cache_artifacts a on a.artifact_id = i.plan_artifact_id \
                   where i.plan_artifact_id is not null group by 1";
    let kept = answer(&lab.open(), bundles).await;
    insta::assert_snapshot!(kept, @r"
    +----------------------+-------+------+
    | artifact_kind        | named | kept |
    +----------------------+-------+------+
    | plan_bundle_artifact | 4     | 4    |
    +----------------------+-------+------+
    ");
}

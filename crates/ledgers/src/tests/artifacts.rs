//! Manifests and documents: read back by their contracts, from runs that ended and from runs that were killed.

use alluvium_contracts::{
    CacheArtifact, CacheInventoryEntry, LedgerEvent, OutputResult, PlanBundleArtifact, RunManifest, RunResult,
    ViewResult,
};
use serde_json::json;

use super::support::{Root, bundle, entry, full_entry, manifest, select, sql, summary};
use crate::Ledger;

#[tokio::test]
async fn a_manifest_and_documents_come_back_from_delta_as_they_were() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run_id = root.seam.run_id();
    let manifest = manifest(run_id);
    let run = ledgers.begin_run(run_id, None, Some(&manifest)).unwrap();
    let documents = [bundle(run_id, "a"), bundle(run_id, "b")];
    ledgers.record(&documents.clone().map(LedgerEvent::CacheArtifacts)).unwrap();
    ledgers.end_run(run, &summary(run_id), &[LedgerEvent::RunManifests(Box::new(manifest.clone()))]).unwrap();
    assert_eq!(ledgers.drain().await.unwrap().commits, 3);

    assert_eq!(select::<RunManifest>(&ledgers, "select * from run_manifests").await, [manifest]);
    let found = select::<CacheArtifact>(&ledgers, "select * from cache_artifacts order by name").await;
    assert_eq!(found, documents);
    assert_eq!(found[1].decode::<PlanBundleArtifact>().unwrap().view_name, "b");
    // Its insides answer to SQL.
    let inputs = sql(
        &ledgers,
        "select i.name, i.version from (select unnest(delta_inputs) as i from run_manifests) \
         where i.cdf_range.ending_version = 42",
    )
    .await;
    assert_eq!(inputs.len(), 1, "{inputs:?}");
    let specs = sql(&ledgers, "select resolved_sql['daily_delays'] as q from run_manifests").await;
    assert!(specs[0]["q"].to_string().contains("from flights"), "{specs:?}");
}

#[tokio::test]
async fn a_plan_bundle_is_kept_once_while_its_ledger_is_there() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let record = || {
        let run_id = root.seam.run_id();
        ledgers.record(&[LedgerEvent::CacheArtifacts(bundle(run_id, "a"))]).unwrap();
    };
    record();
    record();
    assert_eq!(ledgers.pending().unwrap(), 1);
    ledgers.drain().await.unwrap();
    record();
    assert_eq!(ledgers.pending().unwrap(), 0);

    // What was in a ledger that is set aside is recorded again.
    std::fs::remove_dir_all(root.dir_of(Ledger::CacheArtifacts)).unwrap();
    ledgers.table(Ledger::CacheArtifacts).await.unwrap();
    record();
    assert_eq!(ledgers.pending().unwrap(), 1);
}

#[tokio::test]
async fn a_killed_run_leaves_the_manifest_that_it_began_with_and_what_it_published() {
    let root = Root::new();
    let ledgers = root.ledgers();
    let run_id = root.seam.run_id();
    let begun = RunManifest {
        views: Vec::new(),
        outputs: Vec::new(),
        commits: Vec::new(),
        artifact_ids: None,
        ..manifest(run_id)
    };
    let run = ledgers.begin_run(run_id, None, Some(&begun)).unwrap();
    let published = full_entry(run_id);
    let failed =
        CacheInventoryEntry { output_name: Some("failed".to_owned()), result: ViewResult::Error, ..full_entry(run_id) };
    ledgers.record(&[published.clone(), failed].map(LedgerEvent::CacheInventory)).unwrap();
    ledgers.record(&[LedgerEvent::CacheInventory(entry(run_id, "v", ViewResult::Write))]).unwrap();
    drop(run);
    assert_eq!(ledgers.close_killed_runs().unwrap(), [run_id]);
    ledgers.drain().await.unwrap();

    let found = select::<RunManifest>(&ledgers, "select * from run_manifests").await;
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(found.result, RunResult::Killed);
    assert_eq!(found.resolved_sql, begun.resolved_sql);
    let [failed, output] = found.outputs.as_slice() else { panic!("{found:?}") };
    assert_eq!((failed.result, failed.written_by), (OutputResult::Error, None));
    assert_eq!((output.result, output.written_by), (OutputResult::Write, Some(run_id)));
    assert_eq!((output.name.as_str(), output.delta_version), ("routes", published.delta_version));
    assert_eq!((output.cache_key, output.row_count), (published.cache_key, published.row_count));
    let [view] = found.views.as_slice() else { panic!("{found:?}") };
    assert_eq!((view.name.as_str(), view.result), ("v", ViewResult::Write));
    let ends = sql(&ledgers, "select r.result from cache_runs r join run_manifests using (run_id)").await;
    assert_eq!(ends, [json!({"result": "killed"})]);
}

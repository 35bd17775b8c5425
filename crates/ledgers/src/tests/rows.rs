//! Every field of a contract is a column, and survives.

use alluvium_contracts::{
    CacheInventoryEntry, CacheRunSummary, CacheSnapshotEntry, Contract as _, DeltaInputPin, LedgerEvent, LookupResult,
    RunManifest, RunOutput, RunResult, ViewResult,
};
use alluvium_telemetry::Seam;
use serde::Serialize;
use serde_json::Value;

use super::support::{bundle, entry, full_entry, manifest, summary};
use crate::rows::objects;
use crate::{Ledger, rows};

/// One batch of `events`, against the contracts as serde writes them.
fn assert_survive(ledger: Ledger, events: &[LedgerEvent], expected: &[impl Serialize]) {
    let rows: Vec<rows::Row> = events.iter().map(|event| rows::row(event).unwrap()).collect();
    let batch = rows::batch(ledger.schema(), rows.iter()).unwrap();
    let expected: Vec<Value> = expected.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
    assert_eq!(objects(&batch), expected);
    // Serde keeps the fields' order, JSON objects do not.
    let columns: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    let text = serde_json::to_string(&expected[0]).unwrap();
    assert_eq!(columns.len(), serde_json::from_str::<Value>(&text).unwrap().as_object().unwrap().len());
}

#[test]
fn every_field_of_an_inventory_entry_is_a_column() {
    let run_id = Seam::system().run_id();
    let rows = [full_entry(run_id), entry(run_id, "sparse", ViewResult::Skipped)];
    assert_survive(Ledger::CacheInventory, &rows.clone().map(LedgerEvent::CacheInventory), &rows);
}

#[test]
fn every_field_of_a_run_summary_is_a_column() {
    let run_id = Seam::system().run_id();
    let killed =
        CacheRunSummary { profile_name: Some("nightly".to_owned()), result: RunResult::Killed, ..summary(run_id) };
    let rows = [killed, summary(run_id)];
    assert_survive(Ledger::CacheRuns, &rows.clone().map(LedgerEvent::CacheRuns), &rows);
}

#[test]
fn every_field_of_an_artifact_is_a_column() {
    let run_id = Seam::system().run_id();
    let rows = [bundle(run_id, "a"), bundle(run_id, "b")];
    assert_survive(Ledger::CacheArtifacts, &rows.clone().map(LedgerEvent::CacheArtifacts), &rows);
}

#[test]
fn every_field_of_a_snapshot_is_a_column() {
    let full = CacheSnapshotEntry::example();
    let failed = CacheSnapshotEntry {
        result: LookupResult::Error,
        error_type: Some("commit".to_owned()),
        delta_version: None,
        schema_hash: None,
        row_count: None,
        cached_bytes: None,
        hit_count: None,
        ..full.clone()
    };
    let rows = [full, failed];
    assert_survive(Ledger::CacheSnapshots, &rows.clone().map(LedgerEvent::CacheSnapshots), &rows);
}

#[test]
fn a_manifest_decodes_from_its_row_by_its_contract() {
    let run_id = Seam::system().run_id();
    let full = manifest(run_id);
    let input = DeltaInputPin { cdf_range: None, version: None, ..full.delta_inputs[0].clone() };
    let output = RunOutput { content_hash: None, ..full.outputs[0].clone() };
    let sparse = RunManifest {
        traceparent: None,
        delta_inputs: vec![input.clone(), full.delta_inputs[0].clone(), input],
        outputs: vec![output],
        artifact_ids: None,
        resolved_sql: Default::default(),
        ..full.clone()
    };
    let bare = RunManifest { delta_inputs: Vec::new(), outputs: Vec::new(), ..sparse.clone() };
    let manifests = [sparse, full, bare];
    let rows: Vec<rows::Row> = manifests
        .iter()
        .map(|manifest| rows::row(&LedgerEvent::RunManifests(Box::new(manifest.clone()))).unwrap())
        .collect();
    let batch = rows::batch(Ledger::RunManifests.schema(), rows.iter()).unwrap();
    assert_eq!(rows::decode_rows::<RunManifest>(&batch).unwrap(), manifests);
}

#[test]
fn a_column_is_nullable_exactly_where_its_field_is_optional() {
    let run_id = Seam::system().run_id();
    let sparse = [
        (Ledger::CacheInventory, serde_json::to_value(entry(run_id, "v", ViewResult::Hit)).unwrap()),
        (Ledger::CacheRuns, serde_json::to_value(summary(run_id)).unwrap()),
    ];
    for (ledger, row) in sparse {
        for field in ledger.schema().fields() {
            assert_eq!(field.is_nullable(), row[field.name()].is_null(), "{ledger}.{}", field.name());
        }
    }
}

#[test]
fn a_count_that_a_signed_column_cannot_hold_is_refused_by_name() {
    let too_many = CacheInventoryEntry { row_count: Some(u64::MAX), ..full_entry(Seam::system().run_id()) };
    let error = rows::row(&LedgerEvent::CacheInventory(too_many)).unwrap_err();
    assert_eq!(error.to_string(), "18446744073709551615 does not fit into the 64-bit signed column `row_count`");
}

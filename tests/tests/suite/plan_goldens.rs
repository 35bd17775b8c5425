//! Plan goldens: the plan bundle of every view of the flights example and of every TPC-H query, as checked-in documents. A
//! plan fingerprint that moves is a diff to be reviewed.
//!
//! TPC-H's tables are empty files with its schemas: to build a bundle nothing is executed, and a pin is a pin.

use std::path::Path;

use alluvium_contracts::{Contract, Envelope, PlanBundleArtifact};
use alluvium_runs::{OpenOptions, Pipeline};
use insta::assert_json_snapshot;
use serde_json::{Value, json};

use crate::lab::{Lab, results};
use crate::tpch;

/// Every bundle of `pipeline`, by view, in its envelope. What all bundles have in common (some hundred settings, and the
/// versions of the engine) is a golden of its own.
async fn documents(pipeline: &Pipeline) -> (Vec<(String, Value)>, Value) {
    let mut common = None;
    let bundles = pipeline.bundles(&[]).await.unwrap();
    let documents = bundles.into_iter().map(|bundle| {
        let name = bundle.view_name.clone();
        let bytes = Envelope::new(bundle).to_canonical_json().unwrap();
        // What a reader gets is what was meant.
        Envelope::<PlanBundleArtifact>::from_json(&bytes).unwrap();
        let mut document: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(document["kind"], PlanBundleArtifact::KIND);
        let components = &mut document["payload"]["components"];
        let shared = json!([components["semantic_settings"].take(), components["engine_versions"].take()]);
        components["semantic_settings"] = json!("see the golden `common`");
        components["engine_versions"] = json!("see the golden `common`");
        assert_eq!(common.get_or_insert_with(|| shared.clone()), &shared, "{name}");
        (name, document)
    });
    let documents = documents.collect();
    (documents, common.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_plan_bundles_of_tpch() {
    let (documents, common) = documents(&tpch::empty().open()).await;
    assert_eq!(documents.len(), 23);
    assert_json_snapshot!("common", common);
    for (name, document) in documents {
        assert_eq!(document["payload"]["cacheable"], true, "{name}: {}", document["payload"]["reasons"]);
        assert_json_snapshot!(format!("tpch_{name}"), document);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_plan_bundles_of_flights() {
    let root = tempfile::tempdir().unwrap();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/flights");
    let options = OpenOptions { cache_root: Some(root.path().to_owned()), ..OpenOptions::default() };
    let (documents, _) = documents(&Lab::open_with(&project, options)).await;
    assert_eq!(documents.len(), 10);
    for (name, document) in documents {
        assert_json_snapshot!(format!("flights_{name}"), document);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn building_a_bundle_computes_nothing_and_says_what_stands_behind_each_name() {
    let lab = Lab::new(
        "[sources.t]\nformat = \"parquet\"\npath = [\"t.parquet\", \"u.parquet\"]\n\
         [views.a]\nsql = \"select k from t\"\n[views.b]\nsql = \"select k, now() as at from a\"\n\
         [views.c]\nsql = \"select k from b\"\n",
    );
    lab.parquet("t.parquet", &[(1, "a")]);
    lab.parquet("u.parquet", &[(2, "b")]);
    let bundles = lab.open().bundles(&[]).await.unwrap();
    let [a, b, c] = bundles.as_slice() else { panic!("{bundles:?}") };

    assert_eq!(a.pins[0].path.as_deref(), Some("t.parquet, u.parquet"));
    assert_eq!((a.pins[0].files.len(), a.pins[0].file_count), (2, Some(2)));
    assert_eq!(a.pins[0].size_bytes, Some(a.pins[0].files.iter().map(|file| file.size_bytes).sum()));
    assert_eq!(b.pins[0].cache_key, a.cache_key);
    assert_eq!((a.cacheable, b.cacheable, c.cacheable), (true, false, false));
    // What reads an uncacheable view has no pin for it, and says so.
    assert!(c.pins.is_empty() && c.reasons[0].contains("uncacheable view b"), "{c:?}");
    assert_eq!(results(&lab.run().await), ["a: write", "b: computed", "c: computed"]);
}

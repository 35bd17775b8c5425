//! The signals of every scope of the cache that a pipeline of views does not go through: kept sources, artifacts, and snapshots of the
//! engine's caches; looked up, written, waited for, verified, evicted.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{CacheKey, DatasetCache, DatasetFormat, DatasetSpec, SourcePath};
use alluvium_datasets::{Dataset, Pinner};
use alluvium_delta_cache::{
    ArtifactKey, ArtifactPolicy, ArtifactRequest, ArtifactRows, DatasetRequest, DeltaCache, GcRequest, Reading,
    Selection,
};
use alluvium_profile::CacheRoot;
use alluvium_telemetry::{RunContext, RunSpan};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};

use crate::lab::{Lab, later, sessions};
use crate::signals::Signals;

/// Does `work` while somebody else has the lease on `key`, as far as it comes, and the rest when the lease is free.
async fn waiting<T>(root: &Path, key: CacheKey, work: impl Future<Output = T>) -> T {
    let digits: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let lease = std::fs::File::create(root.join(format!("leases/{digits}.lock"))).unwrap();
    lease.lock().unwrap();
    let mut work = std::pin::pin!(work);
    assert!(futures::poll!(work.as_mut()).is_pending(), "somebody else has the lease");
    drop(lease);
    work.await
}

/// A source under both policies, the second time as a hit, and once more after its eviction.
async fn sources(lab: &Lab, cache: &DeltaCache) {
    let (session, pinner) = (sessions().build().unwrap(), Pinner::new(None, later()));
    let run_id = RunContext::current().unwrap().run_id();
    for (name, kept) in [("staged", DatasetCache::DeltaStaging), ("held", DatasetCache::Memory)] {
        let path = SourcePath::One("data/events.parquet".to_owned());
        let spec = DatasetSpec { cache: kept, ..DatasetSpec::new(DatasetFormat::Parquet, path) };
        let dataset = Dataset::resolve(name, &spec, lab.dir()).unwrap();
        let pinned = pinner.pin(session.context(), &dataset).await.unwrap();
        let dataset = cache.kept_dataset(&session, &dataset, &pinned).unwrap().unwrap();
        let rows = async |reading: &Reading| {
            let request = DatasetRequest { dataset: &dataset, run_id, reading };
            cache.dataset(&session, request, &|| Ok(())).await.unwrap().inventory(run_id, 0).cache_key
        };
        let reading = cache.begin_reading().unwrap();
        rows(&reading).await;
        let key = rows(&reading).await.unwrap();
        drop(reading);
        if kept == DatasetCache::DeltaStaging {
            assert_eq!(cache.verify(&[name.to_owned()]).unwrap().damaged_count, 0);
            cache.evict(&Selection::default(), false).unwrap();
            waiting(&lab.path("root"), key, rows(&cache.begin_reading().unwrap())).await;
        }
    }
    cache.snapshot_engine_caches(&session, run_id).await;
}

/// A table of a library's own, in memory or not.
async fn artifact(cache: &DeltaCache, key: &ArtifactKey) {
    let reading = cache.begin_reading().unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..9));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let rows = ArtifactRows::Batches { schema: batch.schema(), batches: vec![batch] };
    let run_id = RunContext::current().unwrap().run_id();
    let request = ArtifactRequest { key, rows, run_id, fresh: false, tags: &[], reading: &reading };
    cache.artifact(request).await.unwrap();
}

async fn artifacts(lab: &Lab, cache: DeltaCache) {
    let in_memory = ArtifactKey::given("small", "v1");
    for _ in 0..2 {
        artifact(&cache, &in_memory).await;
    }
    let cache = cache.with_artifact_policy(ArtifactPolicy { persist: true, memory_limit_bytes: 0 });
    let staged = ArtifactKey::given("large", "v1");
    for _ in 0..2 {
        artifact(&cache, &staged).await;
    }
    cache.evict(&Selection { views: vec!["large".to_owned()], ..Selection::default() }, false).unwrap();
    waiting(&lab.path("root"), staged.cache_key(), artifact(&cache, &staged)).await;
    cache.collect_garbage(GcRequest { max_bytes: Some(0), dry_run: false }).unwrap();
}

#[tokio::test]
async fn golden_signals_of_sources_artifacts_and_snapshots() {
    let lab = Lab::new("");
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b")]);
    let signals = Signals::new();
    signals
        .record(async {
            let run = RunSpan::begin(&later(), later().run_id(), None);
            let done = async {
                let root = Arc::new(CacheRoot::open(&lab.path("root"), &later()).unwrap());
                let cache = DeltaCache::open(root, later()).unwrap().with_metrics(signals.options().metrics.unwrap());
                sources(&lab, &cache).await;
                artifacts(&lab, cache).await;
            };
            run.scope(done).await;
            run.finish("succeeded", None);
        })
        .await;
    insta::assert_snapshot!("spans_of_every_scope", signals.tree());
    insta::assert_snapshot!("metrics_of_every_scope", signals.metrics_text());
}

//! Many entries: what finding one costs, and what collecting all does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::ProfileSpec;
use alluvium_delta_cache::{
    ArtifactKey, ArtifactPolicy, ArtifactRequest, ArtifactRows, DeltaCache, GcRequest, Lookup, UnstableRows,
    WriteRequest,
};
use alluvium_plans::{PlanBundle, plan_view};
use alluvium_profile::{CacheRoot, RuntimeProfile, Session, SessionFactory};
use alluvium_telemetry::Seam;
use anyhow::{Context, Result, ensure};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};

use crate::{median, now};

/// The caches under a new root.
pub fn caches(root: &Path) -> Result<DeltaCache> {
    let seam = Seam::system();
    let root = Arc::new(CacheRoot::open(root, &seam)?);
    let persist = ArtifactPolicy { persist: true, memory_limit_bytes: 0 };
    Ok(DeltaCache::open(root, seam)?.with_artifact_policy(persist))
}

/// A session as pipelines have it.
pub fn session() -> Result<Session> {
    Ok(SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build()?)
}

/// Computes a view and keeps it.
pub async fn write(cache: &DeltaCache, session: &Session, bundle: &PlanBundle) -> Result<()> {
    let reading = cache.begin_reading()?;
    let request = WriteRequest {
        bundle,
        key: bundle.cache_key().context("the view has no key")?,
        run_id: Seam::system().run_id(),
        fresh: true,
        tags: &[],
        unstable_rows: &UnstableRows::new(),
        reading: &reading,
    };
    let _written = cache.write(session, request, &|| Ok(())).await?;
    Ok(())
}

/// Seconds to find a view's entry, and to bind what scans it: of each of `views`, medians of `runs` rounds.
pub async fn lookups(root: &Path, views: u32, runs: u32) -> Result<f64> {
    let (cache, session) = (caches(root)?, session()?);
    let mut bundles = Vec::new();
    for view in 0..views {
        let sql = format!("select x, x + {view} as y from (values (1), (2)) as t(x)");
        let bundle = plan_view(&session, &format!("view_{view}"), &sql, &BTreeMap::new()).await?;
        write(&cache, &session, &bundle).await?;
        bundles.push(bundle);
    }
    let mut seconds = Vec::new();
    for _ in 0..runs {
        let start = now();
        let reading = cache.begin_reading()?;
        for bundle in &bundles {
            let Lookup::Hit(entry, _) = cache.lookup(&reading, bundle)? else {
                anyhow::bail!("{} is not there", bundle.name());
            };
            cache.provider(&entry, bundle.published().arrow())?;
        }
        seconds.push(start.elapsed().as_secs_f64() / f64::from(views));
    }
    Ok(median(seconds))
}

/// Seconds to collect so many entries, all at once.
pub async fn collected(root: &Path, entries: u32) -> Result<f64> {
    let cache = caches(root)?;
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_from_iter([("x", numbers)])?;
    let run_id = Seam::system().run_id();
    let reading = cache.begin_reading()?;
    for entry in 0..entries {
        let key = ArtifactKey::given(&format!("entry_{entry}"), "v1");
        let rows = ArtifactRows::Batches { schema: batch.schema(), batches: vec![batch.clone()] };
        cache.artifact(ArtifactRequest { key: &key, rows, run_id, fresh: false, tags: &[], reading: &reading }).await?;
    }
    drop(reading);
    let start = now();
    let removal = cache.collect_garbage(GcRequest { max_bytes: Some(0), dry_run: false })?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(removal.entries.len() == entries as usize, "{} of {entries} were collected", removal.entries.len());
    Ok(seconds)
}

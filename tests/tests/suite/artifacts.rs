//! Runtime artifacts: tables of a library's user, kept under a name and a key; in memory while they are small.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use alluvium_contracts::{
    CacheCommitMetadata, CacheInventoryEntry, CachePolicy, CacheScope, LedgerEvent, LookupResult, PlanFingerprint,
    RemovalResult, ViewResult,
};
use alluvium_delta_cache::{Artifact, ArtifactKey, ArtifactPolicy, ArtifactRequest, ArtifactRows, DeltaCache};
use alluvium_ledgers::{Ledger, Ledgers, decode_rows};
use alluvium_plans::plan_view;
use alluvium_profile::{CacheRoot, KvKind, Query, Session};
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, Session as EngineSession, TableProvider};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tempfile::TempDir;

use crate::lab::{later, sessions};

pub const NONE_IN_MEMORY: ArtifactPolicy = ArtifactPolicy { persist: true, memory_limit_bytes: 0 };

/// A process's caches over a root: each has memory of its own.
pub fn caches(root: &Path, policy: ArtifactPolicy) -> DeltaCache {
    let seam = later();
    let root = Arc::new(CacheRoot::open(root, &seam).unwrap());
    DeltaCache::open(root, seam).unwrap().with_artifact_policy(policy)
}

fn schema() -> SchemaRef {
    let metadata = [("unit".to_owned(), "km".to_owned())].into();
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::UInt64, false).with_metadata(metadata),
        Field::new("s", DataType::Utf8View, true),
    ]))
}

fn batch(rows: u64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..rows));
    let texts = StringArray::from_iter((0..rows).map(|row| (row % 3 > 0).then(|| format!("row {row}"))));
    let texts = arrow::compute::cast(&texts, &DataType::Utf8View).unwrap();
    RecordBatch::try_new(schema(), vec![numbers, texts]).unwrap()
}

pub fn batches(rows: u64) -> ArtifactRows {
    ArtifactRows::Batches { schema: schema(), batches: vec![batch(rows)] }
}

pub async fn keep(cache: &DeltaCache, key: &ArtifactKey, rows: ArtifactRows) -> Artifact {
    let reading = cache.begin_reading().unwrap();
    let tags = ["mine".to_owned()];
    let request = ArtifactRequest { key, rows, run_id: later().run_id(), fresh: false, tags: &tags, reading: &reading };
    cache.artifact(request).await.unwrap()
}

pub fn load(cache: &DeltaCache, key: &ArtifactKey) -> Option<Artifact> {
    cache.load_artifact(&cache.begin_reading().unwrap(), key).unwrap()
}

pub async fn rows_of(session: &Session, artifact: &Artifact) -> String {
    artifact.register(session).unwrap();
    let sql = format!("select * from \"{}\" order by n", artifact.record().name);
    let rows = session.execute(Query::sql(sql.as_str())).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&rows).unwrap().to_string()
}

pub fn tables(root: &Path) -> usize {
    let parents = std::fs::read_dir(root.join("runtime_artifacts")).into_iter().flatten();
    parents.map(|parent| std::fs::read_dir(parent.unwrap().path()).unwrap().count()).sum()
}

/// A table that counts its scans.
#[derive(Debug)]
struct Counted {
    table: MemTable,
    scans: Arc<AtomicUsize>,
}

#[async_trait]
impl TableProvider for Counted {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn EngineSession,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        self.table.scan(state, projection, filters, limit).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_table_stays_in_memory_and_is_gone_with_its_process() {
    let root = TempDir::new().unwrap();
    let (session, cache) = (sessions().build().unwrap(), caches(root.path(), ArtifactPolicy::default()));
    let key = ArtifactKey::given("Small One", "v1");
    let made = keep(&cache, &key, batches(10)).await;
    assert_eq!(made.record().storage, CachePolicy::Memory);
    assert_eq!((made.outcome().policy, made.outcome().result), (CachePolicy::Memory, LookupResult::Ok));
    assert_eq!(tables(root.path()), 0);
    let again = keep(&cache, &key, batches(99)).await;
    assert_eq!(again.outcome().result, LookupResult::Hit);
    assert_eq!(rows_of(&session, &again).await, rows_of(&session, &made).await);
    assert_eq!(cache.artifact_records().unwrap(), [made.record().clone()]);

    let other = caches(root.path(), ArtifactPolicy::default());
    assert!(load(&other, &key).is_none());
    assert!(other.artifact_records().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_table_leaves_memory_with_its_commit_and_comes_back_in_another_process() {
    let root = TempDir::new().unwrap();
    let (session, cache) = (sessions().build().unwrap(), caches(root.path(), NONE_IN_MEMORY));
    let key = ArtifactKey::given("big", "v1").with_plan_fingerprint(PlanFingerprint::of(b"plan"));
    let (first, second) = (batch(1_000), batch(1_000));
    let held: Vec<Weak<dyn Array>> =
        [&first, &second].iter().flat_map(|batch| batch.columns()).map(Arc::downgrade).collect();
    let rows = ArtifactRows::Batches { schema: schema(), batches: vec![first, second] };
    let made = keep(&cache, &key, rows).await;
    assert!(held.iter().all(|column| column.upgrade().is_none()), "rows outlive their commit");
    assert_eq!(made.record().storage, CachePolicy::DeltaStaging);
    assert_eq!(tables(root.path()), 1);

    let dir = root.path().join(made.record().cache_path.as_ref().unwrap());
    let commit = alluvium_write_policy::commit_info(&dir, 0).unwrap();
    let commit = CacheCommitMetadata::from_commit_info(&commit).unwrap().unwrap();
    assert_eq!((commit.cache_scope, commit.name.as_str()), (CacheScope::Artifact, "big"));
    assert_eq!((commit.cache_policy, commit.row_count), (CachePolicy::DeltaStaging, Some(2_000)));
    assert_eq!((commit.cache_key, commit.plan_hash), (Some(key.cache_key()), Some(PlanFingerprint::of(b"plan"))));
    assert_eq!((commit.schema_hash, commit.tags), (Some(made.record().schema_hash), vec!["mine".to_owned()]));
    assert!(commit.fencing_token.is_some() && commit.components["key"] == "v1", "{:?}", commit.components);

    let other = caches(root.path(), NONE_IN_MEMORY);
    let loaded = load(&other, &key).unwrap();
    assert_eq!(loaded.record(), made.record());
    assert_eq!(loaded.provider().schema(), made.provider().schema());
    assert_eq!(loaded.provider().schema().field(0).metadata()["unit"], "km");
    assert_eq!(loaded.provider().schema().field(0).data_type(), &DataType::Int64);
    assert_eq!(rows_of(&session, &loaded).await, rows_of(&session, &made).await);
    assert!(load(&other, &ArtifactKey::given("big", "v2")).is_none());
    assert!(load(&other, &ArtifactKey::given("bigger", "v1")).is_none());

    // What only the process remembers is no condition for loading.
    drop((cache, other));
    std::fs::remove_dir_all(root.path().join("kv/runtime")).unwrap();
    let bereft = caches(root.path(), NONE_IN_MEMORY);
    assert_eq!(load(&bereft, &key).unwrap().record(), made.record());
    assert_eq!(caches(root.path(), NONE_IN_MEMORY).seed_artifacts(), 1, "it is remembered again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_is_executed_once_and_wherever_its_rows_are_kept_they_are_the_same() {
    let root = TempDir::new().unwrap();
    let session = sessions().build().unwrap();
    let scans = Arc::new(AtomicUsize::new(0));
    let table = MemTable::try_new(schema(), vec![vec![batch(700)], vec![batch(900)]]).unwrap();
    let counted = Arc::new(Counted { table, scans: Arc::clone(&scans) });
    let frame = || ArtifactRows::Frame(Box::new(session.context().read_table(Arc::clone(&counted) as _).unwrap()));
    let limit = ArtifactPolicy { persist: true, memory_limit_bytes: 8_192 };
    let key = ArtifactKey::given("frame", "v1");

    let cache = caches(root.path(), limit);
    let persisted = keep(&cache, &key, frame()).await;
    assert_eq!(persisted.record().storage, CachePolicy::DeltaStaging);
    assert_eq!(persisted.record().row_count, 1_600);
    let hit = keep(&caches(root.path(), limit), &key, frame()).await;
    assert_eq!(hit.outcome().result, LookupResult::Hit);
    assert_eq!(scans.load(Ordering::Relaxed), 1);

    // The toggle: nothing is written, and the rows and their schema are the same.
    let off = caches(root.path(), ArtifactPolicy { persist: false, memory_limit_bytes: 0 });
    let held = keep(&off, &ArtifactKey::given("held", "v1"), frame()).await;
    assert_eq!((held.record().storage, scans.load(Ordering::Relaxed)), (CachePolicy::Memory, 2));
    assert_eq!(tables(root.path()), 1);
    assert_eq!(held.provider().schema(), persisted.provider().schema());
    assert_eq!(rows_of(&session, &held).await, rows_of(&session, &persisted).await);

    let reading = cache.begin_reading().unwrap();
    let request = ArtifactRequest {
        key: &key,
        rows: frame(),
        run_id: later().run_id(),
        fresh: true,
        tags: &[],
        reading: &reading,
    };
    assert_eq!(cache.artifact(request).await.unwrap().outcome().result, LookupResult::Ok);
    assert_eq!(scans.load(Ordering::Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_a_plan_have_its_identity_and_go_with_it() {
    let root = TempDir::new().unwrap();
    let (session, cache) = (sessions().build().unwrap(), caches(root.path(), NONE_IN_MEMORY));
    let plan = async |sql: &str| plan_view(&session, "v", sql, &Default::default()).await.unwrap();
    let one = plan("select x from (values (1), (2)) as t(x)").await;
    let two = plan("select x from (values (1), (3)) as t(x)").await;
    assert!(ArtifactKey::of_plan("a", &plan("select now() as x").await).is_none(), "it has no identity");
    let key = ArtifactKey::of_plan("a", &one).unwrap();
    assert_eq!(key.cache_key(), ArtifactKey::of_plan("a", &one).unwrap().cache_key());
    assert_ne!(key.cache_key(), ArtifactKey::of_plan("a", &two).unwrap().cache_key());

    let made = keep(&cache, &key, batches(5)).await;
    keep(&cache, &ArtifactKey::of_plan("a", &two).unwrap(), batches(5)).await;
    // The document of its plan is named by the commit, and by what is known of it.
    let document = Some(one.artifact_id().unwrap());
    let dir = root.path().join(made.record().cache_path.as_ref().unwrap());
    let commit = alluvium_write_policy::commit_info(&dir, 0).unwrap();
    let commit = CacheCommitMetadata::from_commit_info(&commit).unwrap().unwrap();
    assert_eq!(commit.artifact_ids, Vec::from_iter(document));
    assert_eq!(made.record().plan_artifact_id, document);
    assert_ne!(document, Some(two.artifact_id().unwrap()));
    drop(made);
    let entry = &cache.list().unwrap().entries[0];
    assert_eq!((entry.cache_scope, entry.view_name.as_str()), (CacheScope::Artifact, "a"));
    assert_eq!(cache.verify(&[]).unwrap().damaged_count, 0);
    let removed = cache.evict_artifacts(&one.identity().plan_fingerprint).unwrap();
    assert_eq!(removed.entries.len(), 1);
    assert!(load(&cache, &key).is_none());
    assert_eq!(cache.artifact_records().unwrap().len(), 1);
    assert_eq!(caches(root.path(), NONE_IN_MEMORY).seed_artifacts(), 1);

    // The index can be lost: the entry's own commit says what it is.
    let kept = ArtifactKey::of_plan("a", &two).unwrap();
    drop(cache);
    std::fs::remove_dir_all(root.path().join("kv/index")).unwrap();
    std::fs::remove_dir_all(root.path().join("kv/runtime")).unwrap();
    let found = load(&caches(root.path(), NONE_IN_MEMORY), &kept).unwrap();
    assert_eq!((found.record().row_count, found.record().plan_artifact_id), (5, two.artifact_id().ok()));
    let file = std::fs::read_dir(root.path().join("runtime_artifacts")).unwrap().next().unwrap().unwrap().path();
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with("a__"));
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_a_plan_leave_memory_though_one_of_it_cannot_be_deleted() {
    let root = TempDir::new().unwrap();
    let cache = caches(root.path(), ArtifactPolicy { persist: true, memory_limit_bytes: 65_536 });
    let plan = PlanFingerprint::of(b"plan");
    let key = |name: &str| ArtifactKey::given(name, "v1").with_plan_fingerprint(plan);
    let (small, large) = (key("small"), key("large"));
    assert_eq!(keep(&cache, &small, batches(3)).await.record().storage, CachePolicy::Memory);
    let path = keep(&cache, &large, batches(9_000)).await.record().cache_path.clone().unwrap();
    let dir = root.path().join(&path);
    // No directory can be removed by this name, by root neither.
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "").unwrap();
    let removed = cache.evict_artifacts(&plan).unwrap();
    let results: Vec<_> = removed.entries.iter().map(|entry| entry.result).collect();
    assert_eq!(results, [RemovalResult::Condemned]);
    let told = cache.take_notices();
    assert!(told.len() == 1 && told[0].contains(&path), "{told:?}");
    assert!(load(&cache, &small).is_none() && load(&cache, &large).is_none());
    assert_eq!(cache.artifact_records().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_a_plan_come_back_from_no_directory_that_was_left() {
    let root = TempDir::new().unwrap();
    let cache = caches(root.path(), NONE_IN_MEMORY);
    let plan = PlanFingerprint::of(b"plan");
    let key = ArtifactKey::given("made twice", "v1").with_plan_fingerprint(plan);
    keep(&cache, &key, batches(5)).await;
    let reading = cache.begin_reading().unwrap();
    let request = ArtifactRequest {
        key: &key,
        rows: batches(5),
        run_id: later().run_id(),
        fresh: true,
        tags: &[],
        reading: &reading,
    };
    cache.artifact(request).await.unwrap();
    drop(reading);
    assert_eq!(tables(root.path()), 2);
    assert_eq!(cache.evict_artifacts(&plan).unwrap().entries.len(), 2);
    assert!(load(&cache, &key).is_none());
    assert_eq!(tables(root.path()), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_leaves_a_row_in_the_inventory_that_says_what_its_operation_was() {
    let root = TempDir::new().unwrap();
    let seam = later();
    let cache_root = Arc::new(CacheRoot::open(root.path(), &seam).unwrap());
    let queue = cache_root.kv(KvKind::Queue).unwrap().clone();
    let ledgers = Ledgers::open(cache_root.ledgers(), queue, seam.clone()).unwrap();
    let cache = caches(root.path(), NONE_IN_MEMORY);
    let key = ArtifactKey::given("kept", "v1");
    let run_id = seam.run_id();
    let made = keep(&cache, &key, batches(3)).await;
    let hit = load(&cache, &key).unwrap();
    let events = [&made, &hit].map(|artifact| LedgerEvent::CacheInventory(artifact.inventory(run_id, 7)));
    let guard = ledgers.begin_run(run_id, None, None).unwrap();
    ledgers.record(&events).unwrap();
    drop(guard);
    assert_eq!(ledgers.close_killed_runs().unwrap(), [run_id]);
    ledgers.drain().await.unwrap();

    let session = sessions().build().unwrap();
    let table = ledgers.table(Ledger::CacheInventory).await.unwrap();
    let rows = session.context().read_table(table).unwrap().collect().await.unwrap();
    let rows: Vec<CacheInventoryEntry> = rows.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect();
    let told: Vec<_> = rows.iter().map(|row| (row.cache_scope, row.view_name.as_str(), row.result)).collect();
    assert_eq!(
        told,
        [(CacheScope::Artifact, "kept", ViewResult::Write), (CacheScope::Artifact, "kept", ViewResult::Hit)]
    );
    assert_eq!(rows[0].cache_path, made.record().cache_path);
    assert_eq!((rows[0].delta_version, rows[0].row_count), (Some(0), Some(3)));
    assert_eq!(rows[0].duration_ms, made.outcome().duration_ms);
    assert_eq!(rows[0].size_bytes, made.outcome().bytes);
    // A run that was killed counts views alone.
    let table = ledgers.table(Ledger::CacheRuns).await.unwrap();
    let runs = session.context().read_table(table).unwrap().collect().await.unwrap();
    let runs: Vec<alluvium_contracts::CacheRunSummary> =
        runs.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect();
    assert_eq!((runs[0].hit_count, runs[0].write_count), (0, 0));
}

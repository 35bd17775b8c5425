//! A cache root in a temporary directory, sample events, and SQL over the ledgers.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use alluvium_contracts::{
    ArtifactId, CacheArtifact, CacheInventoryEntry, CacheKey, CachePolicy, CacheRunSummary, CacheScope, Contract as _,
    LedgerEvent, PlanBundleArtifact, PlanFingerprint, RunId, RunManifest, RunResult, SchemaHash, ViewResult,
};
use alluvium_disk_kv_cache::{Settings, Store};
use alluvium_telemetry::Seam;
use arrow::array::RecordBatch;
use datafusion::common::TableReference;
use datafusion::prelude::SessionContext;
use serde_json::Value;
use tempfile::TempDir;

use crate::rows::objects;
use crate::{Ledger, LedgerRow, LedgerView, Ledgers, decode_rows};

pub(super) struct Root {
    dir: TempDir,
    pub(super) seam: Seam,
}

impl Root {
    pub(super) fn new() -> Root {
        Root { dir: tempfile::tempdir().unwrap(), seam: Seam::system() }
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn queue_dir(&self) -> PathBuf {
        self.path().join("kv/queue")
    }

    pub(super) fn dir_of(&self, ledger: Ledger) -> PathBuf {
        self.path().join("cache_ledgers").join(ledger.dir_name())
    }

    pub(super) fn queue(&self) -> Store {
        queue(self.path())
    }

    pub(super) fn ledgers(&self) -> Ledgers {
        ledgers(self.path())
    }

    pub(super) fn run_files(&self) -> Vec<String> {
        names(&self.path().join("run_locks"))
    }
}

pub(super) fn queue(root: &Path) -> Store {
    Store::open(root.join("kv/queue"), &["outbox", "meta"], Settings::new()).unwrap()
}

pub(super) fn ledgers(root: &Path) -> Ledgers {
    Ledgers::open(root.join("cache_ledgers"), queue(root), Seam::system()).unwrap()
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(super) fn entry(run_id: RunId, view: &str, result: ViewResult) -> CacheInventoryEntry {
    CacheInventoryEntry {
        run_id,
        event_time_unix_ms: 1_700_000_000_123,
        cache_scope: CacheScope::View,
        view_name: view.to_owned(),
        output_name: None,
        cache_policy: CachePolicy::DeltaStaging,
        result,
        reason: None,
        cache_key: None,
        plan_fingerprint: None,
        schema_hash: None,
        cache_path: None,
        delta_version: None,
        row_count: None,
        file_count: None,
        size_bytes: None,
        duration_ms: 12.5,
        saved_ms: None,
        plan_artifact_id: None,
    }
}

/// As [`entry`], with every optional field filled, each with a value of its own.
pub(super) fn full_entry(run_id: RunId) -> CacheInventoryEntry {
    CacheInventoryEntry {
        cache_scope: CacheScope::Output,
        output_name: Some("routes".to_owned()),
        cache_policy: CachePolicy::DeltaOutput,
        reason: Some("orders 41→42".to_owned()),
        cache_key: Some(CacheKey::of(b"key")),
        plan_fingerprint: Some(PlanFingerprint::of(b"plan")),
        schema_hash: Some(SchemaHash::of(b"schema")),
        cache_path: Some("out/routes".to_owned()),
        delta_version: Some(7),
        row_count: Some(8),
        file_count: Some(9),
        size_bytes: Some((1 << 53) - 1),
        saved_ms: Some(0.25),
        plan_artifact_id: Some(ArtifactId::of(b"plan bundle")),
        ..entry(run_id, "route_delays", ViewResult::Write)
    }
}

pub(super) fn event(run_id: RunId, view: &str) -> LedgerEvent {
    LedgerEvent::CacheInventory(entry(run_id, view, ViewResult::Write))
}

pub(super) fn hit(run_id: RunId, view: &str, saved_ms: f64) -> LedgerEvent {
    LedgerEvent::CacheInventory(CacheInventoryEntry {
        saved_ms: Some(saved_ms),
        ..entry(run_id, view, ViewResult::Hit)
    })
}

pub(super) fn summary(run_id: RunId) -> CacheRunSummary {
    CacheRunSummary {
        run_id,
        profile_name: None,
        started_unix_ms: 1_700_000_000_000,
        finished_unix_ms: 1_700_000_000_999,
        result: RunResult::Succeeded,
        hit_count: 1,
        write_count: 2,
        computed_count: 3,
        skipped_count: 4,
        error_count: 5,
        saved_ms: 6.5,
    }
}

pub(super) fn manifest(run_id: RunId) -> RunManifest {
    RunManifest { run_id, ..RunManifest::example() }
}

/// A plan bundle of a view; bundles of one view are one document.
pub(super) fn bundle(run_id: RunId, view: &str) -> CacheArtifact {
    let document = PlanBundleArtifact { view_name: view.to_owned(), ..PlanBundleArtifact::example() };
    CacheArtifact::of(run_id, 1_700_000_000_456, view, document).unwrap()
}

/// The rows of a query over the ledgers, as JSON objects.
pub(super) async fn sql(ledgers: &Ledgers, sql: &str) -> Vec<Value> {
    batches(ledgers, sql).await.iter().flat_map(objects).collect()
}

/// The rows of a query over the ledgers, as their contract.
pub(super) async fn select<R: LedgerRow>(ledgers: &Ledgers, sql: &str) -> Vec<R> {
    batches(ledgers, sql).await.iter().flat_map(|batch| decode_rows(batch).unwrap()).collect()
}

/// The rows of a query over the ledgers and the views over them, under the schema `alluvium`.
#[expect(clippy::disallowed_methods, reason = "a bare session over nothing but the tables under test")]
pub(super) async fn view(ledgers: &Ledgers, sql: &str) -> Vec<Value> {
    let session = SessionContext::new();
    session.sql("create schema alluvium").await.unwrap();
    let named = |name: &str| TableReference::partial("alluvium", name.to_owned());
    for ledger in Ledger::all() {
        session.register_table(named(ledger.sql_name()), ledgers.table(ledger).await.unwrap()).unwrap();
    }
    for view in LedgerView::all() {
        let definition = session.sql(view.sql()).await.unwrap().into_view();
        session.register_table(named(view.sql_name()), definition).unwrap();
    }
    session.sql(sql).await.unwrap().collect().await.unwrap().iter().flat_map(objects).collect()
}

#[expect(clippy::disallowed_methods, reason = "a bare session over nothing but the tables under test")]
pub(super) async fn batches(ledgers: &Ledgers, sql: &str) -> Vec<RecordBatch> {
    let session = SessionContext::new();
    for ledger in Ledger::all() {
        session.register_table(ledger.sql_name(), ledgers.table(ledger).await.unwrap()).unwrap();
    }
    session.sql(sql).await.unwrap().collect().await.unwrap()
}

pub(super) async fn views(ledgers: &Ledgers) -> Vec<String> {
    let rows = sql(ledgers, "select view_name from cache_inventory order by 1").await;
    rows.iter().map(|row| row["view_name"].as_str().unwrap().to_owned()).collect()
}

const ROLE: &str = "ALLUVIUM_LEDGERS_TEST_ROLE";
const ROOT: &str = "ALLUVIUM_LEDGERS_TEST_ROOT";
const REACHED: &str = "child reached its place";

/// Starts this test binary again as a process that plays `role`, and returns when it calls [`wait_to_be_killed`].
pub(super) fn spawn(test: &str, role: &str, root: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ROOT, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reached = lines.map_while(Result::ok).any(|line| line.contains(REACHED));
    assert!(reached, "the child never reached its place: {:?}", child.wait());
    child
}

/// `kill -9`.
pub(super) fn kill(mut child: Child) {
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

/// In a child: the role it plays and the root it plays on. `None`: somebody ran the ignored tests by hand.
pub(super) fn role() -> Option<(String, PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(ROOT)?.into()))
}

/// In a child: tells the parent, and stays until it is killed.
pub(super) fn wait_to_be_killed() {
    println!("{REACHED}");
    loop {
        std::thread::park();
    }
}

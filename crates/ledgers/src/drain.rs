//! From the outbox into the Delta ledgers, each event exactly once.
//!
//! A commit carries the app transaction (`alluvium-outbox-<store id>`, highest sequence number in it). Sequence numbers are
//! given out in the order of the queue's transactions, so a ledger at number *n* holds each of its events up to *n*: after a
//! crash between a commit and the emptying of the outbox, those are only taken out, not written again.

use std::collections::BTreeMap;
use std::path::Path;

use alluvium_contracts::{
    CacheCommitMetadata, CacheOperation, CachePolicy, CacheScope, LedgerEvent, LookupResult, MaintenanceEvent, RunId,
};
use alluvium_write_policy::{AppendOutcome, AppendTip, Appended, HeldTip, append_after, append_or_create};
use arrow::array::RecordBatch;
use deltalake_core::DeltaTable;
use tracing::Instrument as _;

use crate::operation::{self, Meter};
use crate::queue::{self, Queue, Queued};
use crate::rows::{self, Row};
use crate::table::{self, Access, Found};
use crate::upkeep;
use crate::{Ledger, LedgerError};

/// What a drain did.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Rows committed, by ledger; a ledger without new rows is not named.
    pub rows: BTreeMap<Ledger, u64>,
    /// Delta commits made: at most one a ledger.
    pub commits: u64,
    /// Events that stay in the outbox, because their ledger has a newer format than this build writes.
    pub kept: u64,
    /// Events that decode as no row of a ledger; they were put aside in the queue store.
    pub rejected: u64,
    /// What maintenance did, where it was due.
    pub maintenance: Vec<MaintenanceEvent>,
    /// What a person should know: damage that was set aside, events kept or rejected.
    pub notices: Vec<String>,
}

/// An event on its way.
struct Moving {
    sequence: u64,
    run_id: RunId,
    row: Row,
}

/// Drains `queue` into the tables under `dir`, and reports what it did even where it fails: a ledger that cannot be written keeps its
/// events in the outbox, and none of the others from being drained. The caller holds the drain lock.
pub(crate) async fn drain(
    queue: &Queue,
    dir: &Path,
    meter: &Meter,
    report: &mut DrainReport,
) -> Result<BTreeMap<Ledger, LedgerError>, LedgerError> {
    let (moving, rejected) = sort(queue.events()?);
    if !rejected.is_empty() {
        let sequences: Vec<u64> = rejected.iter().map(|(sequence, _)| *sequence).collect();
        queue.reject(&sequences)?;
        report.rejected = sequences.len() as u64;
        report.notices.extend(
            rejected.into_iter().map(|(sequence, reason)| {
                format!("ledger event {sequence} was put aside in the queue store: {reason}")
            }),
        );
    }
    let mut failed = BTreeMap::new();
    for (ledger, events) in moving {
        let dir = dir.join(ledger.dir_name());
        match drain_one(queue, ledger, &dir, &events, meter, report).await {
            Ok(Some(version)) => {
                if let Some(last) = events.last() {
                    let done = upkeep::after(ledger, &dir, version, last.run_id, &meter.seam).await;
                    // They wait for the next drain: this one has seen what it drains.
                    queue.record(&upkeep::documents(ledger, &done, last.run_id, &meter.seam))?;
                    report.maintenance.extend(done);
                }
            }
            Ok(None) => {}
            Err(error @ LedgerError::NewerFormat { .. }) => {
                report.kept += events.len() as u64;
                report.notices.push(format!("{error}; {} of its events stay in the outbox", events.len()));
            }
            Err(error) => {
                failed.insert(ledger, error);
            }
        }
    }
    Ok(failed)
}

/// Looks at a ledger and sets it aside if it is damaged; then there is none. The caller holds the drain lock.
pub(crate) async fn open(
    queue: &Queue,
    ledger: Ledger,
    dir: &Path,
    access: Access,
    meter: &Meter,
    notices: &mut Vec<String>,
) -> Result<Option<Box<DeltaTable>>, LedgerError> {
    match table::look(ledger, dir, queue.is_made(ledger)?, access).await? {
        Found::Absent => Ok(None),
        Found::Sound(table) => Ok(Some(table)),
        Found::Damaged(why) => {
            let aside = meter.measure(CacheOperation::Evict, ledger.sql_name(), || table::set_aside(dir))?;
            // After the renaming: killed between the two, the next to look finds nothing where something should be, and
            // says so.
            queue.unmake(ledger)?;
            let now = match aside {
                Some(aside) => format!("it was set aside as {}", aside.display()),
                None => "there was nothing left to set aside".to_owned(),
            };
            notices.push(format!("ledger {ledger} in {} was damaged: {why}; {now}", dir.display()));
            Ok(None)
        }
    }
}

/// Moves the events of one ledger, and answers the version that its commit made.
async fn drain_one(
    queue: &Queue,
    ledger: Ledger,
    dir: &Path,
    events: &[Moving],
    meter: &Meter,
    report: &mut DrainReport,
) -> Result<Option<u64>, LedgerError> {
    let app_id = format!("alluvium-outbox-{}", queue.id());
    // A ledger that is as it was left is neither damaged nor newer.
    let left = queue.tip(ledger)?;
    let held = left.as_ref().and_then(|left| left.hold(dir, &ledger.schema()).unwrap_or(None));
    let mut tip = if held.is_some() { left.clone() } else { None };
    let applied = match held.as_ref().and_then(|held| held.transaction(&app_id)) {
        Some(applied) => u64::try_from(applied).unwrap_or(0),
        None => match open(queue, ledger, dir, Access::Append, meter, &mut report.notices).await? {
            None => 0,
            Some(table) => {
                report.notices.extend(left.as_ref().and_then(|left| lost(ledger, dir, left)));
                applied(ledger, dir, &table, &app_id).await?
            }
        },
    };
    let mut version = None;
    let fresh = &events[events.partition_point(|event| event.sequence <= applied)..];
    if let Some(last) = fresh.last() {
        let batch = rows::batch(ledger.schema(), fresh.iter().map(|event| &event.row))
            .map_err(|source| LedgerError::Assemble { ledger, source })?;
        fail::fail_point!("ledger.drain.before_commit");
        let writing = meter.begin(CacheOperation::Write, ledger.sql_name());
        let span = writing.span().clone();
        let appended = commit(ledger, dir, batch, last, &app_id, held).instrument(span).await;
        let committed = appended.map(|appended| {
            tip = appended.tip;
            match appended.outcome {
                AppendOutcome::Committed(committed) => Some(committed),
                // As good as committed: the app transaction says that these very events are in the table.
                AppendOutcome::AlreadyApplied => None,
            }
        });
        let files = committed.iter().flatten().flat_map(|committed| &committed.files);
        let bytes = files.map(|file| file.size_bytes).sum();
        operation::end(writing, &committed, Some(bytes));
        let committed = committed?;
        fail::fail_point!("ledger.drain.after_commit");
        if let Some(committed) = committed {
            version = Some(committed.version);
            report.rows.insert(ledger, fresh.len() as u64);
            report.commits += 1;
        }
    }
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    queue.drained(ledger, &sequences, tip.as_ref())?;
    Ok(version)
}

/// What a person should know of a ledger that loads and is not what the last drain left: it has lost rows, and what is left of it goes on.
pub(crate) fn lost(ledger: Ledger, dir: &Path, left: &AppendTip) -> Option<String> {
    let lost = left.lost_commits(dir).unwrap_or_default();
    let (first, last) = (lost.first()?, lost.last()?);
    Some(format!(
        "ledger {ledger} in {} is not as it was left: of the commits {first} to {last}, {} are damaged or gone, and with them the rows of \
         runs; `alluvium table verify` tells more of it",
        dir.display(),
        lost.len()
    ))
}

/// The highest sequence number that the table holds; 0 for none.
async fn applied(ledger: Ledger, dir: &Path, table: &DeltaTable, app_id: &str) -> Result<u64, LedgerError> {
    let progress = |source| LedgerError::Progress { ledger, path: dir.to_path_buf(), source: Box::new(source) };
    let state = table.snapshot().map_err(progress)?;
    let version = state.transaction_version(table.log_store().as_ref(), app_id).await.map_err(progress)?;
    Ok(version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0))
}

async fn commit(
    ledger: Ledger,
    dir: &Path,
    batch: RecordBatch,
    last: &Moving,
    app_id: &str,
    after: Option<HeldTip<'_>>,
) -> Result<Appended, LedgerError> {
    let metadata = CacheCommitMetadata {
        cache_operation: CacheOperation::Write,
        cache_scope: CacheScope::Ledger,
        // No view's policy applies.
        cache_policy: CachePolicy::None,
        cache_result: LookupResult::Ok,
        name: ledger.sql_name().to_owned(),
        // The run whose end made it drain; of a drain that somebody asked for, the last run in it.
        run_id: last.run_id,
        cache_key: None,
        schema_hash: None,
        plan_hash: None,
        layout_hash: None,
        delta_inputs: Vec::new(),
        artifact_ids: Vec::new(),
        fencing_token: None,
        traceparent: None,
        row_count: None,
        content_hash: None,
        compute_ms: None,
        stability: None,
        components: BTreeMap::new(),
        tags: Vec::new(),
    };
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| LedgerError::Append {
        ledger,
        path: dir.to_path_buf(),
        source,
    };
    let version = i64::try_from(last.sequence).map_err(|error| failed(error.into()))?;
    let transaction = (app_id, version);
    let first = upkeep::policy();
    let metadata = metadata.to_map();
    if let Some(held) = after {
        let appended = append_after(held, vec![batch.clone()], &metadata, transaction).await;
        if let Some(appended) = appended.map_err(|error| failed(error.into()))? {
            return Ok(appended);
        }
    }
    append_or_create(dir, ledger.schema(), vec![batch], &first, &metadata, transaction)
        .await
        .map_err(|error| failed(error.into()))
}

type Rejected = Vec<(u64, String)>;

/// By ledger, in order; and what is no row of a ledger, with the reason.
fn sort(queued: Vec<Queued>) -> (BTreeMap<Ledger, Vec<Moving>>, Rejected) {
    let mut moving: BTreeMap<Ledger, Vec<Moving>> = BTreeMap::new();
    let mut rejected = Vec::new();
    for Queued { sequence, bytes } in queued {
        let event = match queue::decode(&bytes) {
            Ok(event) => event,
            Err(error) => {
                rejected.push((sequence, error.to_string()));
                continue;
            }
        };
        match rows::row(&event) {
            Ok(row) => {
                let moved = Moving { sequence, run_id: run_of(&event), row };
                moving.entry(Ledger::of(&event)).or_default().push(moved);
            }
            Err(error) => rejected.push((sequence, error.to_string())),
        }
    }
    (moving, rejected)
}

fn run_of(event: &LedgerEvent) -> RunId {
    match event {
        LedgerEvent::CacheInventory(entry) => entry.run_id,
        LedgerEvent::CacheRuns(summary) => summary.run_id,
        LedgerEvent::RunManifests(manifest) => manifest.run_id,
        LedgerEvent::CacheArtifacts(artifact) => artifact.run_id,
        LedgerEvent::CacheSnapshots(snapshot) => snapshot.run_id,
    }
}

//! From the outbox into the Delta ledgers, each event exactly once.
//!
//! A commit carries the app transaction (`alluvium-outbox-<store id>`, highest sequence number in it). Sequence numbers grow in the
//! order of the queue's transactions, so a ledger at number *n* holds each of its events up to *n*: after a crash between a commit and
//! the emptying of the outbox, those are only taken out, not written again.
//!
//! *Invariant:* the number of a ledger is that of the last drain, or of an event that waits. So what was put back from a copy is known:
//! a ledger that is behind the last drain has lost rows, and a ledger at a number that the outbox knows nothing of, the outbox has lost
//! events. Either way, what is recorded from then on gets higher numbers than the ledger has, and comes into it once.

use std::collections::BTreeMap;
use std::path::Path;

use alluvium_contracts::{
    CacheCommitMetadata, CacheOperation, CachePolicy, CacheScope, LedgerEvent, LookupResult, MaintenanceEvent, RunId,
};
use alluvium_write_policy::{AppendOutcome, AppendTip, Appended, HeldTip, append_after, append_or_create, sync_table};
use arrow::array::RecordBatch;
use deltalake_core::DeltaTable;
use futures::future::join_all;
use tracing::Instrument as _;

use crate::event::{self, DecodeError};
use crate::loss::Loss;
use crate::operation::{self, Meter};
use crate::queue::{Drained, Left, Queue, Queued, Reason, Undrainable};
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
    /// Events of contracts that came after this build: they wait in the queue store, and are drained by one that knows them.
    pub waiting: u64,
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
    let (moving, undrainable) = sort(queue.events()?);
    if !undrainable.is_empty() {
        queue.put_aside(&undrainable)?;
        tell(&undrainable, report);
    }
    let (mut done, mut failed) = (Vec::new(), BTreeMap::new());
    // Side by side: each waits for the device more than for a core.
    let drains = moving.iter().map(|(ledger, events)| async move {
        let mut notices = Vec::new();
        let drained = drain_one(queue, *ledger, &dir.join(ledger.dir_name()), events, meter, &mut notices).await;
        (*ledger, events, drained, notices)
    });
    for (ledger, events, drained, notices) in join_all(drains).await {
        report.notices.extend(notices);
        match drained {
            Ok(drained) => done.push(drained),
            Err(error @ LedgerError::NewerFormat { .. }) => {
                report.kept += events.len() as u64;
                report.notices.push(format!("{error}; {} of its events stay in the outbox", events.len()));
            }
            Err(error) => {
                failed.insert(ledger, error);
            }
        }
    }
    let (drained, committed): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    queue.forget(&drained)?;
    for loss in drained.iter().filter_map(|drained| drained.loss.as_ref()) {
        let what = loss.what().to_owned();
        // The outbox is before several ledgers.
        if !report.notices.contains(&what) {
            report.notices.push(what);
        }
    }
    for Committed { ledger, version, rows, run_id } in committed.into_iter().flatten() {
        report.rows.insert(ledger, rows);
        report.commits += 1;
        let done = upkeep::after(ledger, &dir.join(ledger.dir_name()), version, run_id, &meter.seam).await;
        // They wait for the next drain: this one has seen what it drains.
        queue.record(&upkeep::documents(ledger, &done, run_id, &meter.seam))?;
        report.maintenance.extend(done);
    }
    Ok(failed)
}

/// A commit that a drain made.
struct Committed {
    ledger: Ledger,
    version: u64,
    rows: u64,
    /// The last run in it.
    run_id: RunId,
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
    match table::look(ledger, dir, queue.left(ledger)?.is_some(), access).await? {
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

/// Commits the events of one ledger that it does not hold yet, durably: then all of them may be forgotten.
async fn drain_one(
    queue: &Queue,
    ledger: Ledger,
    dir: &Path,
    events: &[Moving],
    meter: &Meter,
    notices: &mut Vec<String>,
) -> Result<(Drained, Option<Committed>), LedgerError> {
    let app_id = app_id(queue);
    // A ledger that is as it was left is neither damaged nor newer.
    let known = queue.left(ledger)?;
    let is_known = known.is_some();
    let left = known.unwrap_or_default();
    let held = left.tip.as_ref().and_then(|tip| tip.hold(dir, &ledger.schema()).unwrap_or(None));
    let mut tip = if held.is_some() { left.tip.clone() } else { None };
    let mut loss = None;
    let applied = match held.as_ref().and_then(|held| held.transaction(&app_id)) {
        Some(applied) => u64::try_from(applied).unwrap_or(0),
        None => match open(queue, ledger, dir, Access::Append, meter, notices).await? {
            None => 0,
            Some(table) => {
                let applied = applied(ledger, dir, &table, &app_id).await?;
                loss = match is_known || applied > 0 {
                    true => put_back(queue, ledger, dir, &left, applied)?,
                    false => lost_outbox(queue, dir)?,
                };
                applied
            }
        },
    };
    let mut committed = None;
    let fresh = &events[events.partition_point(|event| event.sequence <= applied)..];
    if fresh.len() < events.len() {
        // Whoever committed them was killed before it could forget them, and before it synced them for all we know.
        sync_table(dir).map_err(|error| LedgerError::append(ledger, dir, error))?;
    }
    if let Some(last) = fresh.last() {
        let batch = rows::batch(ledger.schema(), fresh.iter().map(|event| &event.row))
            .map_err(|source| LedgerError::Assemble { ledger, source })?;
        fail::fail_point!("ledger.drain.before_commit");
        let writing = meter.begin(CacheOperation::Write, ledger.sql_name());
        let span = writing.span().clone();
        let appended = commit(ledger, dir, batch, last, &app_id, held).instrument(span).await;
        let landed = appended.map(|appended| {
            tip = appended.tip;
            match appended.outcome {
                AppendOutcome::Committed(committed) => Some(committed),
                // As good as committed: the app transaction says that these very events are in the table.
                AppendOutcome::AlreadyApplied => None,
            }
        });
        let files = landed.iter().flatten().flat_map(|landed| &landed.files);
        let bytes = files.map(|file| file.size_bytes).sum();
        operation::end(writing, &landed, Some(bytes));
        let landed = landed?;
        fail::fail_point!("ledger.drain.after_commit");
        let (rows, run_id) = (fresh.len() as u64, last.run_id);
        committed = landed.map(|landed| Committed { ledger, version: landed.version, rows, run_id });
    }
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    let left = Left { applied: sequences.last().copied().max(Some(applied)), tip };
    Ok((Drained { ledger, sequences, left, loss }, committed))
}

/// Whether the ledger or the outbox was put back from a copy. The caller holds the drain lock.
fn put_back(queue: &Queue, ledger: Ledger, dir: &Path, left: &Left, applied: u64) -> Result<Option<Loss>, LedgerError> {
    if let Some(damage) = left.tip.as_ref().and_then(|tip| lost(ledger, dir, tip)) {
        return Ok(Some(Loss::Ledger(damage)));
    }
    Ok(match left.applied {
        Some(last) if applied < last => Some(Loss::Ledger(format!(
            "ledger {ledger} in {} was put back to an earlier state: the rows of runs that were drained since then are gone, unless a \
             newer copy is put back",
            dir.display()
        ))),
        // A drain that was killed after its commit has left the events of that where they were.
        Some(last) if applied > last && !queue.holds(applied)? => Some(Loss::Outbox(
            "the outbox of the ledgers was put back to an earlier state: what was recorded since then and not drained is gone, \
             consumers of changes stand where they stood then, and a run that was going on then is closed as killed, unless \
             `cache_runs` has its end"
                .to_owned(),
        )),
        _ => None,
    })
}

/// Whether the outbox that was drained into a ledger before this one is gone, and that is not known yet. This one has neither left the
/// ledger nor committed to it.
pub(crate) fn lost_outbox(queue: &Queue, dir: &Path) -> Result<Option<Loss>, LedgerError> {
    const LOST: &str = "the outbox of the ledgers was lost: what was recorded and not drained is gone, and consumers of changes \
                        begin anew";
    let is_told = queue.losses()?.iter().any(|loss| loss.what == LOST);
    Ok((!is_told && table::names_application(dir, OUTBOX)).then(|| Loss::Outbox(LOST.to_owned())))
}

/// How the app transactions of all outboxes begin.
const OUTBOX: &str = "alluvium-outbox-";

/// The app transaction of this one.
pub(crate) fn app_id(queue: &Queue) -> String {
    format!("{OUTBOX}{}", queue.id())
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
pub(crate) async fn applied(ledger: Ledger, dir: &Path, table: &DeltaTable, app_id: &str) -> Result<u64, LedgerError> {
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
        unstable_rows: BTreeMap::new(),
        tags: Vec::new(),
    };
    let failed = |error| LedgerError::append(ledger, dir, error);
    let version = i64::try_from(last.sequence).map_err(|error| LedgerError::append(ledger, dir, error))?;
    let transaction = (app_id, version);
    let first = upkeep::policy();
    let metadata = metadata.to_map();
    if let Some(held) = after {
        let appended = append_after(held, vec![batch.clone()], &metadata, transaction).await;
        if let Some(appended) = appended.map_err(failed)? {
            return Ok(appended);
        }
    }
    append_or_create(dir, ledger.schema(), vec![batch], &first, &metadata, transaction).await.map_err(failed)
}

/// By ledger, in order; and what cannot be drained.
fn sort(queued: Vec<Queued>) -> (BTreeMap<Ledger, Vec<Moving>>, Vec<Undrainable>) {
    let mut moving: BTreeMap<Ledger, Vec<Moving>> = BTreeMap::new();
    let mut undrainable = Vec::new();
    for Queued { sequence, bytes } in queued {
        let row = event::decode(&bytes).map_err(|error| match error {
            DecodeError::Newer { .. } => Reason::Newer(error.to_string()),
            error => Reason::Wrong(error.to_string()),
        });
        let row = row.and_then(|event| match rows::row(&event) {
            Ok(row) => Ok((Ledger::of(&event), Moving { sequence, run_id: run_of(&event), row })),
            Err(error) => Err(Reason::Wrong(error.to_string())),
        });
        match row {
            Ok((ledger, moved)) => moving.entry(ledger).or_default().push(moved),
            Err(reason) => undrainable.push(Undrainable { sequence, reason }),
        }
    }
    (moving, undrainable)
}

/// Tells of each event that is none, and of each newer contract once.
fn tell(undrainable: &[Undrainable], report: &mut DrainReport) {
    let mut newer: BTreeMap<&str, u64> = BTreeMap::new();
    for Undrainable { sequence, reason } in undrainable {
        match reason {
            Reason::Newer(contract) => {
                report.waiting += 1;
                *newer.entry(contract).or_default() += 1;
            }
            Reason::Wrong(why) => {
                report.rejected += 1;
                report.notices.push(format!("ledger event {sequence} was put aside in the queue store: {why}"));
            }
        }
    }
    report.notices.extend(newer.into_iter().map(|(contract, count)| {
        format!("ledger events of {contract} ({count}) wait for an alluvium that knows it; use the newer one that recorded them")
    }));
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

//! The life of a run: begun durably, ended once, and closed by the next run if it was killed.

use std::collections::BTreeMap;

use alluvium_contracts::{CacheRunSummary, LedgerEvent, RunId, RunManifest};
use alluvium_telemetry::Seam;

use crate::LedgerError;
use crate::lock::{RunFile, RunFiles};
use crate::queue::{Closed, CursorMove, KilledRun, Queue, Testimony};
use crate::run_row::RunRow;

/// A run that is alive. It holds a locked file for as long as it lives.
///
/// Dropped without [`Ledgers::end_run`](crate::Ledgers::end_run), it leaves a killed run behind, which the next
/// [`Ledgers::close_killed_runs`](crate::Ledgers::close_killed_runs) finds.
#[derive(Debug)]
#[must_use = "a guard that is dropped is a run that was killed"]
pub struct RunGuard {
    run_id: RunId,
    started_unix_ms: i64,
    file: RunFile,
}

impl RunGuard {
    /// The run.
    #[must_use]
    pub fn run_id(&self) -> RunId {
        self.run_id
    }

    /// When it was begun, in milliseconds since 1970-01-01 UTC: what its summary should say.
    #[must_use]
    pub fn started_unix_ms(&self) -> i64 {
        self.started_unix_ms
    }
}

pub(crate) fn begin(
    queue: &Queue,
    files: &RunFiles,
    seam: &Seam,
    run_id: RunId,
    profile_name: Option<&str>,
    manifest: Option<&RunManifest>,
) -> Result<RunGuard, LedgerError> {
    // The file comes before the row: a row without a locked file is a dead run.
    let Some(file) = files.create(&file_name(run_id))? else {
        return Err(LedgerError::RunBegun { run_id });
    };
    let started_unix_ms = seam.unix_ms();
    queue.begin(run_id, &RunRow::new(profile_name, started_unix_ms), manifest)?;
    Ok(RunGuard { run_id, started_unix_ms, file })
}

pub(crate) fn end(
    queue: &Queue,
    guard: RunGuard,
    summary: &CacheRunSummary,
    last: &[LedgerEvent],
    moves: &[CursorMove],
) -> Result<Vec<CursorMove>, LedgerError> {
    if summary.run_id != guard.run_id {
        return Err(LedgerError::OtherRun { run_id: guard.run_id, summary_of: summary.run_id });
    }
    let lost = queue.end(summary, last, moves)?;
    if let Err(error) = guard.file.remove() {
        // The run has ended all the same; the next sweep removes the file.
        tracing::warn!(run_id = %guard.run_id, error = &error as &dyn std::error::Error, "left a run file behind");
    }
    Ok(lost)
}

/// The open runs that have no file. A run that was killed leaves its own, so either somebody tidied up too much, or the row is that of a
/// run that has ended, and came back with a copy of the queue store.
pub(crate) fn suspects(queue: &Queue, files: &RunFiles) -> Result<Vec<RunId>, LedgerError> {
    let open = queue.open_runs()?;
    if open.is_empty() {
        return Ok(open);
    }
    let sweep = files.sweep()?;
    let held = |run_id: &RunId| sweep.holds(&file_name(*run_id));
    open.into_iter().filter_map(|run_id| held(&run_id).map(|held| (!held).then_some(run_id)).transpose()).collect()
}

/// The runs that were closed, and what a person should know.
pub(crate) fn close_killed(
    queue: &Queue,
    files: &RunFiles,
    testify: &mut dyn FnMut(&KilledRun) -> Option<Testimony>,
) -> Result<(Vec<RunId>, Vec<String>), LedgerError> {
    let sweep = files.sweep()?;
    // Rows first: a run that ends after this has neither row nor file when it is looked at below.
    let open = queue.open_runs()?;
    let mut dead: BTreeMap<String, RunFile> = sweep.dead()?.into_iter().collect();
    let (mut closed, mut notices) = (Vec::new(), Vec::new());
    for run_id in open {
        let name = file_name(run_id);
        let file = dead.remove(&name);
        if file.is_none() && sweep.holds(&name)? {
            continue;
        }
        let testimony = match queue.told(run_id)? {
            Some(killed) => testify(&killed),
            None => Some(Testimony::default()),
        };
        // Left to whoever can tell what it wrote: its row and its file stay.
        let Some(testimony) = testimony else { continue };
        match queue.close(run_id, &testimony)? {
            Closed::Killed => closed.push(run_id),
            Closed::Ended => {}
            Closed::Rejected(reason) => notices.push(format!(
                "run {run_id} was killed, and its row in the queue store does not decode ({reason}); it was put aside, and \
                 the run has no row in {}",
                crate::Ledger::CacheRuns
            )),
        }
        if let Some(file) = file {
            file.remove()?;
        }
    }
    // Files of runs that were killed before their row was written, or after it was removed.
    for file in dead.into_values() {
        file.remove()?;
    }
    Ok((closed, notices))
}

fn file_name(run_id: RunId) -> String {
    format!("{run_id}.lock")
}

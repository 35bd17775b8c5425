//! The one handle: runs and events go in, tables come out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_contracts::{CacheOperation, CacheRunSummary, CdfCursor, CheckStatus, LedgerEvent, RunId, RunManifest};
use alluvium_disk_kv_cache::Store;
use alluvium_telemetry::{CacheMetrics, Seam};
use datafusion::catalog::TableProvider;
use deltalake_core::DeltaTable;
use tracing::Instrument as _;

use crate::drain::{self, DrainReport};
use crate::lock::{DrainLock, RunFiles};
use crate::loss::LedgerLoss;
use crate::operation::{self, Meter};
use crate::queue::{CursorMove, Drained, KilledRun, Left, Queue, Testimony};
use crate::run::{self, RunGuard};
use crate::table::{self, Access, Found};
use crate::{Ledger, LedgerError, decode_rows};

/// The ledgers of one cache root and the outbox before them. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Ledgers {
    shared: Arc<Shared>,
    drain_wait: Duration,
    meter: Meter,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    queue: Queue,
    run_files: RunFiles,
    notices: Mutex<Vec<String>>,
}

impl Ledgers {
    /// Opens the ledgers in `ledger_dir` (`<root>/cache_ledgers`), whose outbox is `queue`: a store with the tables `outbox`
    /// and `meta`. Run files lie beside the ledgers, in `<root>/run_locks`. Directories are made when they are first needed.
    ///
    /// # Errors
    /// [`LedgerError::Store`] and [`LedgerError::Record`] if the queue store cannot be used, [`LedgerError::Io`] if a relative
    /// `ledger_dir` cannot be made absolute.
    pub fn open(ledger_dir: PathBuf, queue: Store, seam: Seam) -> Result<Ledgers, LedgerError> {
        let dir = std::path::absolute(&ledger_dir).map_err(LedgerError::io(&ledger_dir, "find"))?;
        let root = dir.parent().unwrap_or(&dir);
        Ok(Ledgers {
            shared: Arc::new(Shared {
                queue: Queue::open(queue, &seam)?,
                run_files: RunFiles::new(root.join("run_locks")),
                notices: Mutex::default(),
                dir,
            }),
            drain_wait: Duration::from_secs(30),
            meter: Meter { seam, metrics: CacheMetrics::global().clone() },
        })
    }

    /// How long a drain waits for another one to finish. Default: 30 seconds.
    #[must_use]
    pub fn with_drain_wait(mut self, wait: Duration) -> Ledgers {
        self.drain_wait = wait;
        self
    }

    /// Counts operations on ledgers by `metrics` instead of those of the process: for a process that has several.
    #[must_use]
    pub fn with_metrics(mut self, metrics: CacheMetrics) -> Ledgers {
        self.meter.metrics = metrics;
        self
    }

    /// Begins a run, durably: a locked file, then a row in one transaction. The lock is the kernel's and goes with the process,
    /// however it dies. With a manifest, as far as it is known when the run begins, a run that is killed leaves one too.
    ///
    /// # Errors
    /// [`LedgerError::RunBegun`] if there is such a run, [`LedgerError::Io`], [`LedgerError::Store`].
    pub fn begin_run(
        &self,
        run_id: RunId,
        profile_name: Option<&str>,
        manifest: Option<&RunManifest>,
    ) -> Result<RunGuard, LedgerError> {
        let Shared { queue, run_files, .. } = &*self.shared;
        run::begin(queue, run_files, &self.meter.seam, run_id, profile_name, manifest)
    }

    /// Puts a manifest in the place of the one that a run began with, where it begins anew, over other inputs: if it is killed from
    /// then on, this is the one that it leaves.
    ///
    /// # Errors
    /// [`LedgerError::RunNotOpen`] if somebody closed the run meanwhile, [`LedgerError::Store`], [`LedgerError::Encode`]; then the run
    /// has the manifest that it had.
    pub fn renew_manifest(&self, run: &RunGuard, manifest: &RunManifest) -> Result<(), LedgerError> {
        self.shared.queue.renew_manifest(run.run_id(), manifest)
    }

    /// Records events in one transaction, with consecutive sequence numbers, and counts those of scope `view` in the rows of
    /// their runs. When it returns they are as durable as the queue store makes its commits. A plan bundle, a
    /// declaration of a dataset or a write policy that was recorded before is not recorded again.
    ///
    /// The summary of a run is not recorded so: [`end_run`](Ledgers::end_run) does it.
    ///
    /// # Errors
    /// [`LedgerError::Store`], [`LedgerError::Encode`], [`LedgerError::Record`]; then nothing was recorded.
    pub fn record(&self, events: &[LedgerEvent]) -> Result<(), LedgerError> {
        self.shared.queue.record(events)
    }

    /// Ends a run: its last events (such as its manifest) and its summary are recorded and its row removed in one
    /// transaction, then its file is removed.
    ///
    /// # Errors
    /// [`LedgerError::OtherRun`] if the summary is not of this run, [`LedgerError::RunNotOpen`] if somebody closed it meanwhile,
    /// [`LedgerError::Store`], [`LedgerError::Encode`]; after any of them the run counts as killed.
    pub fn end_run(&self, guard: RunGuard, summary: &CacheRunSummary, last: &[LedgerEvent]) -> Result<(), LedgerError> {
        self.end_run_with(guard, summary, last, &[]).map(drop)
    }

    /// [`end_run`](Self::end_run) of a run that has read changes on behalf of consumers: where its summary says that it succeeded, their
    /// cursors are moved in the same transaction, each from where the run found it. Returns the moves that were not made, because
    /// another run has moved the cursor elsewhere meanwhile.
    ///
    /// # Errors
    /// As there; then no cursor was moved.
    pub fn end_run_with(
        &self,
        guard: RunGuard,
        summary: &CacheRunSummary,
        last: &[LedgerEvent],
        moves: &[CursorMove],
    ) -> Result<Vec<CursorMove>, LedgerError> {
        run::end(&self.shared.queue, guard, summary, last, moves)
    }

    /// How far `consumer` has read the changes of `dataset`; `None` if it has read nothing yet. A queue store that was lost has lost its
    /// cursors, and consumers begin anew.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn cursor(&self, consumer: &str, dataset: &str) -> Result<Option<CdfCursor>, LedgerError> {
        self.shared.queue.cursor(consumer, dataset)
    }

    /// How far every consumer has read, by consumer and dataset.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn cursors(&self) -> Result<Vec<CdfCursor>, LedgerError> {
        self.shared.queue.cursors()
    }

    /// Finds runs that hold no lock any more and records each as `killed`, with the counts of the events that it recorded,
    /// drained or not. A run whose own row is damaged is reported by [`take_notices`](Ledgers::take_notices).
    ///
    /// # Errors
    /// [`LedgerError::Io`], [`LedgerError::Store`]; runs that were closed before the failure stay closed.
    pub fn close_killed_runs(&self) -> Result<Vec<RunId>, LedgerError> {
        self.close_killed_runs_by(|_| Some(Testimony::default()))
    }

    /// [`close_killed_runs`](Self::close_killed_runs) with what their commits say: `testify` is asked for each of them. A run may be
    /// killed between a commit and the event of it; what it wrote and had not recorded is recorded with its end, in the same
    /// transaction. A run of which `testify` can say nothing (`None`), because its tables are out of sight, stays open for the next one.
    ///
    /// # Errors
    /// As there.
    pub fn close_killed_runs_by(
        &self,
        mut testify: impl FnMut(&KilledRun) -> Option<Testimony>,
    ) -> Result<Vec<RunId>, LedgerError> {
        let Shared { queue, run_files, .. } = &*self.shared;
        let (closed, notices) = run::close_killed(queue, run_files, &mut testify)?;
        self.notice(notices);
        Ok(closed)
    }

    /// Drops the rows of open runs that have ended, as `cache_runs` says: they came back with a copy of the queue store that was taken
    /// while the run went on. Call it before [`close_killed_runs`](Self::close_killed_runs), which would give each a second summary. The
    /// ledger is asked only where an open run has no run file; if it cannot be read, nothing is dropped.
    ///
    /// # Errors
    /// [`LedgerError::Io`], [`LedgerError::Store`].
    pub async fn forget_ended_runs(&self) -> Result<Vec<RunId>, LedgerError> {
        let Shared { queue, run_files, .. } = &*self.shared;
        let suspects = run::suspects(queue, run_files)?;
        if suspects.is_empty() {
            return Ok(suspects);
        }
        let ended = match self.on_record(&suspects).await {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "it cannot be read how runs without a file ended"
                );
                return Ok(Vec::new());
            }
        };
        queue.drop_ended(&ended)?;
        Ok(ended)
    }

    /// Those of the runs that have a summary.
    async fn on_record(&self, runs: &[RunId]) -> Result<Vec<RunId>, LedgerError> {
        let ledger = Ledger::CacheRuns;
        let table = self.table(ledger).await?;
        let path = self.shared.dir.join(ledger.dir_name());
        let found = table::having(table, "run_id", runs.iter().map(ToString::to_string).collect()).await;
        let found = found.map_err(|source| LedgerError::Scan { ledger, path, source: Box::new(source) })?;
        let mut on_record = BTreeSet::new();
        for batch in &found {
            let summaries: Vec<CacheRunSummary> = decode_rows(batch)?;
            on_record.extend(summaries.into_iter().map(|summary| summary.run_id));
        }
        Ok(on_record.into_iter().collect())
    }

    /// The number of events that wait in the outbox.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn pending(&self) -> Result<u64, LedgerError> {
        self.shared.queue.len()
    }

    /// Moves the outbox into the ledgers, with at most one commit for each; none, and no lock, if the outbox is empty. Waits for
    /// another drainer. Killed anywhere, the next drain neither loses an event nor writes one twice.
    ///
    /// A damaged ledger is set aside as `<name>.damaged-<n>` and begun anew, and the report says so; events of a ledger with a
    /// newer format stay in the outbox.
    ///
    /// # Errors
    /// [`LedgerError::Busy`] after [`with_drain_wait`](Ledgers::with_drain_wait); [`LedgerError::Append`],
    /// [`LedgerError::Unreadable`] and others for one ledger, after the rest was drained: its events stay in the outbox.
    pub async fn drain(&self) -> Result<DrainReport, LedgerError> {
        let (report, failed) = self.drain_each().await?;
        match failed.into_values().next() {
            Some(error) => {
                self.notice(report.notices);
                Err(error)
            }
            None => {
                warn(&report.notices);
                Ok(report)
            }
        }
    }

    /// What was drained, and why not what was not.
    async fn drain_each(&self) -> Result<(DrainReport, BTreeMap<Ledger, LedgerError>), LedgerError> {
        let mut report = DrainReport::default();
        if self.pending()? == 0 {
            return Ok((report, BTreeMap::new()));
        }
        let Shared { dir, queue, .. } = &*self.shared;
        let _lock = self.drain_lock().await?;
        match drain::drain(queue, dir, &self.meter, &mut report).await {
            Ok(failed) => Ok((report, failed)),
            Err(error) => {
                self.notice(report.notices);
                Err(error)
            }
        }
    }

    /// Drains the outbox and opens `ledgers` as tables for SQL, each by itself: one that cannot be drained, or opened, is an error in
    /// its own place, and the others are answered.
    ///
    /// # Errors
    /// Of the whole, where nothing can be drained: [`LedgerError::Busy`], [`LedgerError::Store`]. Of one ledger, what
    /// [`drain`](Ledgers::drain) and [`table`](Ledgers::table) fail with.
    pub async fn tables(
        &self,
        ledgers: impl IntoIterator<Item = Ledger>,
    ) -> Result<BTreeMap<Ledger, Result<Arc<dyn TableProvider>, LedgerError>>, LedgerError> {
        let (report, mut failed) = self.drain_each().await?;
        self.notice(report.notices);
        let mut tables = BTreeMap::new();
        for ledger in ledgers {
            let table = match failed.remove(&ledger) {
                Some(error) => Err(error),
                None => self.table(ledger).await,
            };
            tables.insert(ledger, table);
        }
        Ok(tables)
    }

    /// Reads every file of a ledger, after a query of it failed: whether that was damage, and where. Opening a ledger looks at the
    /// lengths of its files, and no further.
    pub async fn damage(&self, ledger: Ledger) -> Option<LedgerError> {
        let path = self.shared.dir.join(ledger.dir_name());
        let found = match alluvium_write_policy::verify_table(&path, None).await {
            Ok(verification) => {
                verification.checks.into_iter().find(|check| check.status == CheckStatus::Error)?.message
            }
            // Where there is none, or its log does not load, it was not this ledger that was queried.
            Err(_) => return None,
        };
        Some(LedgerError::Damaged { ledger, path, found })
    }

    /// The newest committed version of a ledger as a table for SQL, with the schema of [`Ledger::schema`]. It cannot be written
    /// through. Events that still wait are not in it: [`drain`](Ledgers::drain) first.
    ///
    /// A ledger that was never committed to is a table without rows. So is a damaged one, after it was set aside as
    /// `<name>.damaged-<n>`; [`take_notices`](Ledgers::take_notices) tells. Its files are checked for presence and length here,
    /// their contents when they are scanned.
    ///
    /// # Errors
    /// [`LedgerError::NewerFormat`]; [`LedgerError::Unreadable`] and [`LedgerError::Io`] where the system refuses;
    /// [`LedgerError::Busy`] if a damaged ledger cannot be set aside because somebody is draining.
    pub async fn table(&self, ledger: Ledger) -> Result<Arc<dyn TableProvider>, LedgerError> {
        let dir = self.shared.dir.join(ledger.dir_name());
        let reading = self.meter.begin(CacheOperation::Read, ledger.sql_name());
        let found = self.look(ledger, &dir).instrument(reading.span().clone()).await;
        operation::end_lookup(reading, found.as_ref().map(Option::is_some));
        match found? {
            Some(table) => table::provider(ledger, &dir, &table),
            None => Ok(table::empty(ledger)),
        }
    }

    /// The newest version; `None` if there is none, or none any more.
    async fn look(&self, ledger: Ledger, dir: &Path) -> Result<Option<Box<DeltaTable>>, LedgerError> {
        let queue = &self.shared.queue;
        let left = queue.left(ledger)?;
        Ok(match table::look(ledger, dir, left.is_some(), Access::Read).await? {
            Found::Absent => None,
            Found::Sound(table) => {
                let tip = queue.left(ledger)?.and_then(|left| left.tip);
                let lost = tip.and_then(|tip| drain::lost(ledger, dir, &tip));
                self.notice(lost.into_iter().collect());
                if left.is_none() && drain::applied(ledger, dir, &table, &drain::app_id(queue)).await? == 0 {
                    self.look_for_lost_outbox(ledger, dir).await?;
                }
                Some(table)
            }
            Found::Damaged(_) => {
                // Look again when no drainer is at work: what looked like damage may have been a commit under way.
                let _lock = self.drain_lock().await?;
                let mut notices = Vec::new();
                let found = drain::open(queue, ledger, dir, Access::Read, &self.meter, &mut notices).await;
                self.notice(notices);
                found?
            }
        })
    }

    /// Tells, once, of an outbox that is gone: a run that has nothing to drain does not find out.
    async fn look_for_lost_outbox(&self, ledger: Ledger, dir: &Path) -> Result<(), LedgerError> {
        let queue = &self.shared.queue;
        // Nobody drains meanwhile.
        let _lock = self.drain_lock().await?;
        if queue.left(ledger)?.is_none()
            && let Some(loss) = drain::lost_outbox(queue, dir)?
        {
            let what = loss.what().to_owned();
            let left = Left::default();
            queue.forget(&[Drained { ledger, sequences: Vec::new(), left, loss: Some(loss) }])?;
            self.notice(vec![what]);
        }
        Ok(())
    }

    /// The ledgers that were set aside as damaged, and where each lies: no answer has the rows that only they hold.
    ///
    /// # Errors
    /// [`LedgerError::Io`] when the directory of the ledgers cannot be listed.
    pub fn set_aside(&self) -> Result<Vec<(Ledger, PathBuf)>, LedgerError> {
        table::all_set_aside(&self.shared.dir)
    }

    /// The number of events that wait for a build that knows their contracts: a newer one recorded them, and this one drained. They are in the
    /// outbox again as soon as such a build opens it.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn waiting(&self) -> Result<u64, LedgerError> {
        self.shared.queue.waiting()
    }

    /// Rows that are gone because a ledger, or the outbox, was put back from a copy, or because the outbox was lost: what was found, the
    /// newest of each. A ledger that was set aside is not among them: it lies beside the others.
    ///
    /// # Errors
    /// [`LedgerError::Store`].
    pub fn losses(&self) -> Result<Vec<LedgerLoss>, LedgerError> {
        self.shared.queue.losses()
    }

    /// What [`table`](Ledgers::table) and [`close_killed_runs`](Ledgers::close_killed_runs) found that a person should know,
    /// each told once. [`drain`](Ledgers::drain) tells in its report, or here if it fails.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The directory that holds the ledgers, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.dir
    }

    async fn drain_lock(&self) -> Result<DrainLock, LedgerError> {
        DrainLock::acquire(&self.shared.dir, self.drain_wait, &self.meter).await
    }

    fn notice(&self, notices: Vec<String>) {
        warn(&notices);
        self.shared.notices.lock().unwrap_or_else(PoisonError::into_inner).extend(notices);
    }
}

fn warn(notices: &[String]) {
    for notice in notices {
        tracing::warn!(target: "alluvium.notice", "{notice}");
    }
}

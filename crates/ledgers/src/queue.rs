//! The queue store: events in the order of their global sequence numbers, and the rows of open runs beside them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `outbox` | sequence number, big-endian u64 | the event's contract in its envelope, as JSON |
//! | `meta` | `ledgers/store_id` | the id of this store, as text |
//! | `meta` | `ledgers/next_sequence` | the least number that the next event may get, big-endian u64 |
//! | `meta` | `ledgers/run/` + run id | the row of a run that has not ended, as JSON |
//! | `meta` | `ledgers/manifest/` + run id | the manifest that such a run last began with, as the event that it would be |
//! | `meta` | `ledgers/hits/` + view name | what the newest entries of that name have been worth, as JSON |
//! | `meta` | `ledgers/once/` + artifact id | empty: a document of a kind that is recorded once, and was |
//! | `meta` | `ledgers/cursor/` + consumer + `/` + dataset | how far the consumer has read the changes of the dataset, in its envelope |
//! | `meta` | `ledgers/made/` + directory name | the ledger has been committed to: how the last drain left it, as JSON |
//! | `meta` | `ledgers/loss/` + directory name, or `outbox` | what a drain found lost of the ledger, or of the outbox, as JSON |
//! | `meta` | `ledgers/waiting/` + sequence number | what stood in `outbox`, and is of a contract that came after the build that found it |
//! | `meta` | `ledgers/rejected/event/` + sequence number | what stood in `outbox` and does not decode |
//! | `meta` | `ledgers/rejected/run/` + run id | what stood in `ledgers/run/` and does not decode |
//!
//! A run's row and manifest lie in the store of its events, not in that of the leases, because an event and the count of it, and
//! the last event and the end of the run, have to be one transaction. So do the cursors that a run moves.
//!
//! Numbers are microseconds since 1970, or one more than the last where the clock is not ahead of it. So they grow in the order of
//! transactions, and a store that is put back from a copy does not give those again that it gave after the copy, unless the clock was
//! put back too.

use std::collections::BTreeMap;

use alluvium_contracts::{
    CacheArtifact, CacheCommitMetadata, CacheInventoryEntry, CacheRunSummary, CacheSnapshotEntry, CdfCursor,
    LedgerEvent, RunCommit, RunId, RunManifest, RunOutput, RunResult, RunView, Stability, StoreId,
};
use alluvium_disk_kv_cache::{Order, ReadTxn, Store, StoreError, WriteTxn};
use alluvium_telemetry::Seam;
use alluvium_write_policy::AppendTip;
use serde::{Deserialize, Serialize};

use crate::event::{Encoded, decode, encode, encode_all, enveloped, payload};
use crate::hits::{self, Hits};
use crate::loss::{LedgerLoss, Loss};
use crate::run_row::RunRow;
use crate::{Ledger, LedgerError};

const OUTBOX: &str = "outbox";
const META: &str = "meta";
const STORE_ID: &[u8] = b"ledgers/store_id";
const NEXT_SEQUENCE: &[u8] = b"ledgers/next_sequence";
const RUN: &str = "ledgers/run/";
const MANIFEST: &str = "ledgers/manifest/";
const HITS: &str = "ledgers/hits/";
const ONCE: &str = "ledgers/once/";
const CURSOR: &str = "ledgers/cursor/";
const MADE: &str = "ledgers/made/";
const LOSS: &str = "ledgers/loss/";
const WAITING: &str = "ledgers/waiting/";
const REJECTED_EVENT: &str = "ledgers/rejected/event/";
const REJECTED_RUN: &str = "ledgers/rejected/run/";

/// The queue store, as the ledgers use it.
#[derive(Debug)]
pub(crate) struct Queue {
    store: Store,
    id: StoreId,
    seam: Seam,
}

/// How the last drain left a ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Left {
    /// The number of the newest event that it held. `None`: nobody remembers.
    pub(crate) applied: Option<u64>,
    /// The table as it was, where the next drain may follow it.
    pub(crate) tip: Option<AppendTip>,
}

/// What a drain has done for one ledger.
#[derive(Debug)]
pub(crate) struct Drained {
    pub(crate) ledger: Ledger,
    /// The events that the ledger holds now.
    pub(crate) sequences: Vec<u64>,
    pub(crate) left: Left,
    pub(crate) loss: Option<Loss>,
}

/// One event of the outbox, still encoded.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) sequence: u64,
    pub(crate) bytes: Vec<u8>,
}

/// An event that this build cannot drain.
#[derive(Debug)]
pub(crate) struct Undrainable {
    pub(crate) sequence: u64,
    pub(crate) reason: Reason,
}

/// Why not.
#[derive(Debug)]
pub(crate) enum Reason {
    /// It is of this contract, which came after this build: a later one drains it.
    Newer(String),
    /// It is no row of a ledger.
    Wrong(String),
}

/// A run that was killed, as far as it came to say.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KilledRun {
    /// The run.
    pub run_id: RunId,
    /// When it began, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: i64,
    /// The manifest that it began with, if it had one.
    pub begun: Option<RunManifest>,
    /// What it recorded of its views.
    pub views: Vec<RunView>,
    /// What it recorded of its outputs.
    pub outputs: Vec<RunOutput>,
}

/// What the commits of a killed run say of it, and those of what it read.
#[derive(Debug, Clone, Default)]
pub struct Testimony {
    /// The rows of what it wrote, whether it recorded them or not.
    pub writes: Vec<CacheInventoryEntry>,
    /// The commits themselves, for its manifest, each with what it says of itself, where that can be read.
    pub commits: Vec<(RunCommit, Option<CacheCommitMetadata>)>,
    /// The snapshots of the engine's caches that it took. They are recorded with the end of a run, so it came to record none.
    pub snapshots: Vec<CacheSnapshotEntry>,
    /// Whether the rows of its views have to be the same each time, by view, as the commits of their entries say: of those too that
    /// were hits.
    pub stability: BTreeMap<String, Stability>,
    /// When the last of its commits was made, in milliseconds since 1970-01-01 UTC.
    pub last_unix_ms: Option<i64>,
}

/// A consumer has read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorMove {
    /// Where it stood when the run began to read; none at its beginning.
    pub from: Option<CdfCursor>,
    /// Where it stands now.
    pub to: CdfCursor,
}

/// What became of a run that was to be closed.
#[derive(Debug)]
pub(crate) enum Closed {
    /// It has its summary now.
    Killed,
    /// It had ended meanwhile.
    Ended,
    /// Its row did not decode and was put aside, so that there is nothing to make a summary of.
    Rejected(String),
}

impl Queue {
    /// Takes the store into use, drawing its id if nobody has before.
    pub(crate) fn open(store: Store, seam: &Seam) -> Result<Queue, LedgerError> {
        let known = store.read(store_id)?;
        let id = match known {
            Some(id) => id,
            None => {
                let drawn = seam.store_id();
                store.write::<_, LedgerError>(|txn| {
                    // Another process may have been quicker.
                    if let Some(id) = store_id(txn)? {
                        return Ok(id);
                    }
                    txn.put(META, STORE_ID, drawn.to_string().as_bytes())?;
                    Ok(drawn)
                })?
            }
        };
        let queue = Queue { store, id, seam: seam.clone() };
        queue.recall()?;
        Ok(queue)
    }

    /// Puts events into the outbox again that an older build could not drain, under new numbers: their ledgers have passed the old ones.
    fn recall(&self) -> Result<(), LedgerError> {
        if self.store.read(known)?.is_empty() {
            return Ok(());
        }
        self.store.write(|txn| {
            let known = known(txn)?;
            for key in known.keys() {
                txn.delete(META, key)?;
            }
            append(txn, &known.into_values().collect::<Vec<_>>(), &self.seam)
        })
    }

    /// The number of events that wait for a build that knows their contracts.
    pub(crate) fn waiting(&self) -> Result<u64, LedgerError> {
        self.store.read(|txn| Ok(txn.scan_prefix(META, WAITING.as_bytes(), Order::Ascending)?.count() as u64))
    }

    pub(crate) fn id(&self) -> StoreId {
        self.id
    }

    /// The number of events that wait.
    pub(crate) fn len(&self) -> Result<u64, LedgerError> {
        Ok(self.store.read(|txn| txn.len(OUTBOX))?)
    }

    /// Appends events, and for each hit or write of a view's entry what that entry has been worth; counts events in the rows
    /// of their runs.
    pub(crate) fn record(&self, events: &[LedgerEvent]) -> Result<(), LedgerError> {
        if events.is_empty() {
            return Ok(());
        }
        let encoded = encode_all(events)?;
        let mut inventory: BTreeMap<RunId, Vec<&CacheInventoryEntry>> = BTreeMap::new();
        for event in events {
            if let LedgerEvent::CacheInventory(entry) = event {
                inventory.entry(entry.run_id).or_default().push(entry);
            }
        }
        self.store.write::<_, LedgerError>(|txn| {
            append(txn, &encoded, &self.seam)?;
            let worth = worth(txn, inventory.values().flatten().copied())?;
            append(txn, &encode_all(&worth)?, &self.seam)?;
            for (run_id, entries) in &inventory {
                // An event of a run that was never begun here is an event all the same. A row that does not decode is left
                // for `close` to put aside.
                if let Some(Ok(mut row)) = run_row(txn, *run_id)? {
                    for entry in entries {
                        row.note(entry);
                    }
                    put_run(txn, *run_id, &row)?;
                }
            }
            Ok(())
        })
    }

    /// Writes the row of a run that begins, and the manifest that it begins with.
    pub(crate) fn begin(&self, run_id: RunId, row: &RunRow, manifest: Option<&RunManifest>) -> Result<(), LedgerError> {
        let manifest = manifest.map(enveloped).transpose()?;
        self.store.write(|txn| {
            if run_row(txn, run_id)?.is_some() {
                return Err(LedgerError::RunBegun { run_id });
            }
            if let Some(manifest) = &manifest {
                txn.put(META, &run_key(MANIFEST, run_id), manifest)?;
            }
            put_run(txn, run_id, row)
        })
    }

    /// Puts another manifest in the place of the one that an open run began with.
    pub(crate) fn renew_manifest(&self, run_id: RunId, manifest: &RunManifest) -> Result<(), LedgerError> {
        let manifest = enveloped(manifest)?;
        self.store.write(|txn| {
            if run_row(txn, run_id)?.is_none() {
                return Err(LedgerError::RunNotOpen { run_id });
            }
            Ok(txn.put(META, &run_key(MANIFEST, run_id), &manifest)?)
        })
    }

    /// Appends the last events of a run and its summary, moves the cursors of one that succeeded, and removes its row. Returns the
    /// moves that others were quicker than.
    pub(crate) fn end(
        &self,
        summary: &CacheRunSummary,
        last: &[LedgerEvent],
        moves: &[CursorMove],
    ) -> Result<Vec<CursorMove>, LedgerError> {
        let mut encoded = encode_all(last)?;
        encoded.push(encode(&LedgerEvent::CacheRuns(summary.clone()))?);
        let moves = if summary.result == RunResult::Succeeded { moves } else { &[] };
        self.store.write(|txn| {
            let run_id = summary.run_id;
            if !txn.delete(META, &run_key(RUN, run_id))? {
                return Err(LedgerError::RunNotOpen { run_id });
            }
            txn.delete(META, &run_key(MANIFEST, run_id))?;
            append(txn, &encoded, &self.seam)?;
            let mut lost = Vec::new();
            for one in moves {
                let key = cursor_key(&one.to.consumer, &one.to.dataset_name);
                let stands = txn.get(META, &key)?.and_then(|bytes| payload::<CdfCursor>(bytes).ok());
                let place = |cursor: &CdfCursor| (cursor.table_id.clone(), cursor.version);
                match (stands.as_ref().map(place), one.from.as_ref().map(place)) {
                    (stands, from) if stands == from => txn.put(META, &key, &enveloped(&one.to)?)?,
                    // Somebody read the very same changes.
                    (Some(stands), _) if stands == place(&one.to) => {}
                    _ => lost.push(one.clone()),
                }
            }
            Ok(lost)
        })
    }

    /// Where a consumer stands. A cursor that does not decode is none.
    pub(crate) fn cursor(&self, consumer: &str, dataset: &str) -> Result<Option<CdfCursor>, LedgerError> {
        self.store.read(|txn| {
            let bytes = txn.get(META, &cursor_key(consumer, dataset))?;
            Ok(bytes.and_then(|bytes| payload(bytes).ok()))
        })
    }

    /// Where every consumer stands.
    pub(crate) fn cursors(&self) -> Result<Vec<CdfCursor>, LedgerError> {
        self.store.read(|txn| {
            let rows = txn.scan_prefix(META, CURSOR.as_bytes(), Order::Ascending)?;
            rows.filter_map(|row| row.map(|(_, bytes)| payload(bytes).ok()).map_err(LedgerError::from).transpose())
                .collect()
        })
    }

    /// What an open run has come to say; `None` where it has ended or its row does not decode.
    pub(crate) fn told(&self, run_id: RunId) -> Result<Option<KilledRun>, LedgerError> {
        self.store.read(|txn| {
            let Some(Ok(row)) = run_row(txn, run_id)? else { return Ok(None) };
            let begun = txn.get(META, &run_key(MANIFEST, run_id))?.and_then(|bytes| payload(bytes).ok());
            Ok(Some(row.told(run_id, begun)))
        })
    }

    /// Ends a run that was killed, with the counts of the events that it recorded, and of those that it came to no more.
    pub(crate) fn close(&self, run_id: RunId, testimony: &Testimony) -> Result<Closed, LedgerError> {
        self.store.write(|txn| match run_row(txn, run_id)? {
            None => Ok(Closed::Ended),
            Some(Err((bytes, error))) => {
                txn.put(META, &run_key(REJECTED_RUN, run_id), &bytes)?;
                txn.delete(META, &run_key(RUN, run_id))?;
                txn.delete(META, &run_key(MANIFEST, run_id))?;
                Ok(Closed::Rejected(error.to_string()))
            }
            Some(Ok(mut row)) => {
                let unrecorded = row.believe(testimony).into_iter().cloned();
                let mut events: Vec<_> = unrecorded.map(LedgerEvent::CacheInventory).collect();
                events.extend(testimony.snapshots.iter().cloned().map(LedgerEvent::CacheSnapshots));
                if let Some(bytes) = txn.get(META, &run_key(MANIFEST, run_id))? {
                    // One that does not decode is lost with the run; its summary is not.
                    if let Ok(begun) = payload::<RunManifest>(bytes) {
                        let manifest = row.killed_manifest(begun, &testimony.commits);
                        events.push(LedgerEvent::RunManifests(Box::new(manifest)));
                    }
                }
                events.push(LedgerEvent::CacheRuns(row.killed(run_id)));
                append(txn, &encode_all(&events)?, &self.seam)?;
                txn.delete(META, &run_key(RUN, run_id))?;
                txn.delete(META, &run_key(MANIFEST, run_id))?;
                Ok(Closed::Killed)
            }
        })
    }

    /// Drops what is left of runs that have ended: they are on record as it is.
    pub(crate) fn drop_ended(&self, ended: &[RunId]) -> Result<(), LedgerError> {
        self.store.write(|txn| {
            for run_id in ended {
                txn.delete(META, &run_key(RUN, *run_id))?;
                txn.delete(META, &run_key(MANIFEST, *run_id))?;
            }
            Ok(())
        })
    }

    /// The runs that have begun and not ended.
    pub(crate) fn open_runs(&self) -> Result<Vec<RunId>, LedgerError> {
        self.store.read(|txn| {
            txn.scan_prefix(META, RUN.as_bytes(), Order::Ascending)?
                .map(|entry| {
                    let (key, _) = entry?;
                    let text = String::from_utf8_lossy(key);
                    let run_id = text.strip_prefix(RUN).and_then(|id| id.parse().ok());
                    run_id.ok_or_else(|| LedgerError::Record { key: text.into_owned() })
                })
                .collect()
        })
    }

    /// Every event that waits, in order.
    pub(crate) fn events(&self) -> Result<Vec<Queued>, LedgerError> {
        self.store.read(|txn| {
            txn.scan(OUTBOX, .., Order::Ascending)?
                .map(|entry| {
                    let (key, value) = entry?;
                    Ok(Queued { sequence: sequence(OUTBOX, key)?, bytes: value.to_vec() })
                })
                .collect()
        })
    }

    /// Takes events out of the outbox that this build cannot drain, and keeps them.
    pub(crate) fn put_aside(&self, undrainable: &[Undrainable]) -> Result<(), LedgerError> {
        self.store.write::<_, LedgerError>(|txn| {
            for Undrainable { sequence, reason } in undrainable {
                let key = sequence.to_be_bytes();
                let Some(bytes) = txn.get(OUTBOX, &key)?.map(<[u8]>::to_vec) else {
                    continue;
                };
                let aside = match reason {
                    Reason::Newer(_) => WAITING,
                    Reason::Wrong(_) => REJECTED_EVENT,
                };
                txn.put(META, &[aside.as_bytes(), &key].concat(), &bytes)?;
                txn.delete(OUTBOX, &key)?;
            }
            Ok(())
        })
    }

    /// Takes events out of the outbox that their ledgers hold, and notes how each was left.
    pub(crate) fn forget(&self, drained: &[Drained]) -> Result<(), LedgerError> {
        let found_unix_ms = self.seam.unix_ms();
        self.store.write::<_, LedgerError>(|txn| {
            for Drained { ledger, sequences, left, loss } in drained {
                for sequence in sequences {
                    txn.delete(OUTBOX, &sequence.to_be_bytes())?;
                }
                txn.put(META, &ledger_key(MADE, *ledger), &json(left)?)?;
                // No number that the ledger has passed is given again.
                let passed = left.applied.map_or(0, |applied| applied + 1);
                if passed > next_sequence(txn)? {
                    txn.put(META, NEXT_SEQUENCE, &passed.to_be_bytes())?;
                }
                let Some(loss) = loss else { continue };
                let key = match loss {
                    Loss::Ledger(_) => {
                        forget_once(txn, *ledger)?;
                        ledger_key(LOSS, *ledger)
                    }
                    Loss::Outbox(_) => format!("{LOSS}{OUTBOX}").into_bytes(),
                };
                txn.put(META, &key, &json(&LedgerLoss { found_unix_ms, what: loss.what().to_owned() })?)?;
            }
            Ok(())
        })
    }

    /// Whether an event of this number waits, be it for a build that knows it.
    pub(crate) fn holds(&self, sequence: u64) -> Result<bool, LedgerError> {
        let key = sequence.to_be_bytes();
        self.store.read(|txn| {
            let waiting = [WAITING.as_bytes(), &key].concat();
            Ok(txn.get(OUTBOX, &key)?.is_some() || txn.get(META, &waiting)?.is_some())
        })
    }

    /// How the last drain left the ledger, of which nothing is remembered where that does not decode. `None`: the ledger has not been
    /// committed to, or was set aside since, and should not be there.
    pub(crate) fn left(&self, ledger: Ledger) -> Result<Option<Left>, LedgerError> {
        self.store.read(|txn| {
            let bytes = txn.get(META, &ledger_key(MADE, ledger))?;
            Ok(bytes.map(|bytes| serde_json::from_slice(bytes).unwrap_or_default()))
        })
    }

    /// What drains have found lost, the last of each ledger.
    pub(crate) fn losses(&self) -> Result<Vec<LedgerLoss>, LedgerError> {
        self.store.read(|txn| {
            let rows = txn.scan_prefix(META, LOSS.as_bytes(), Order::Ascending)?;
            rows.filter_map(|row| {
                row.map(|(_, bytes)| serde_json::from_slice(bytes).ok()).map_err(LedgerError::from).transpose()
            })
            .collect()
        })
    }

    /// Forgets that the ledger exists, and with it what it held.
    pub(crate) fn unmake(&self, ledger: Ledger) -> Result<(), LedgerError> {
        self.store.write(|txn| {
            txn.delete(META, &ledger_key(MADE, ledger))?;
            forget_once(txn, ledger)
        })
    }
}

/// Lets documents be recorded again that a ledger has lost, or may have.
fn forget_once(txn: &mut WriteTxn<'_>, ledger: Ledger) -> Result<(), LedgerError> {
    if ledger == Ledger::CacheArtifacts {
        let scan = txn.scan_prefix(META, ONCE.as_bytes(), Order::Ascending)?;
        let keys: Vec<Vec<u8>> = scan.map(|entry| Ok(entry?.0.to_vec())).collect::<Result<_, StoreError>>()?;
        for key in keys {
            txn.delete(META, &key)?;
        }
    }
    Ok(())
}

/// Counts the entries that events tell of, and says what each has been worth.
fn worth<'e>(
    txn: &mut WriteTxn<'_>,
    inventory: impl Iterator<Item = &'e CacheInventoryEntry>,
) -> Result<Vec<LedgerEvent>, LedgerError> {
    let mut documents = Vec::new();
    for row in inventory.filter(|row| hits::counts(row)) {
        let key = format!("{HITS}{}", row.view_name).into_bytes();
        // Counts that do not decode are lost, and begin again.
        let known = txn.get(META, &key)?.and_then(|bytes| serde_json::from_slice::<Hits>(bytes).ok());
        let mut known = known.unwrap_or_default();
        let Some(artifact) = known.note(row) else { continue };
        txn.put(META, &key, &json(&known)?)?;
        let document = CacheArtifact::of(row.run_id, row.event_time_unix_ms, &row.view_name, artifact);
        // A duration that is no number has no canonical form; its row says it all the same.
        documents.extend(document.ok().map(LedgerEvent::CacheArtifacts));
    }
    Ok(documents)
}

/// The events that wait for a build that knows them, where this is one, by their keys.
fn known(txn: &ReadTxn<'_>) -> Result<BTreeMap<Vec<u8>, Encoded>, LedgerError> {
    let mut known = BTreeMap::new();
    for entry in txn.scan_prefix(META, WAITING.as_bytes(), Order::Ascending)? {
        let (key, bytes) = entry?;
        if decode(bytes).is_ok() {
            known.insert(key.to_vec(), Encoded { bytes: bytes.to_vec(), once: None });
        }
    }
    Ok(known)
}

/// Gives the events the next sequence numbers.
fn append(txn: &mut WriteTxn<'_>, events: &[Encoded], seam: &Seam) -> Result<(), LedgerError> {
    let clock = u64::try_from(seam.unix_ns() / 1_000).unwrap_or(0);
    let mut next = next_sequence(txn)?.max(clock);
    for event in events {
        if let Some(document) = &event.once {
            let key = format!("{ONCE}{document}").into_bytes();
            if txn.get(META, &key)?.is_some() {
                continue;
            }
            txn.put(META, &key, b"")?;
        }
        txn.put(OUTBOX, &next.to_be_bytes(), &event.bytes)?;
        next += 1;
    }
    txn.put(META, NEXT_SEQUENCE, &next.to_be_bytes())?;
    Ok(())
}

/// The first is 1, so that 0 stands before every event.
fn next_sequence(txn: &ReadTxn<'_>) -> Result<u64, LedgerError> {
    txn.get(META, NEXT_SEQUENCE)?.map_or(Ok(1), |bytes| sequence("ledgers/next_sequence", bytes))
}

fn sequence(key: &str, bytes: &[u8]) -> Result<u64, LedgerError> {
    let bytes = bytes.try_into().map_err(|_| LedgerError::Record { key: key.to_owned() })?;
    Ok(u64::from_be_bytes(bytes))
}

fn store_id(txn: &ReadTxn<'_>) -> Result<Option<StoreId>, LedgerError> {
    let Some(bytes) = txn.get(META, STORE_ID)? else {
        return Ok(None);
    };
    let id = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| LedgerError::Record { key: "ledgers/store_id".to_owned() })
}

/// The row of an open run; if it does not decode, its bytes and why.
type Found = Option<Result<RunRow, (Vec<u8>, serde_json::Error)>>;

fn run_row(txn: &ReadTxn<'_>, run_id: RunId) -> Result<Found, LedgerError> {
    let bytes = txn.get(META, &run_key(RUN, run_id))?;
    Ok(bytes.map(|bytes| serde_json::from_slice(bytes).map_err(|error| (bytes.to_vec(), error))))
}

fn put_run(txn: &mut WriteTxn<'_>, run_id: RunId, row: &RunRow) -> Result<(), LedgerError> {
    Ok(txn.put(META, &run_key(RUN, run_id), &json(row)?)?)
}

fn run_key(prefix: &str, run_id: RunId) -> Vec<u8> {
    format!("{prefix}{run_id}").into_bytes()
}

fn cursor_key(consumer: &str, dataset: &str) -> Vec<u8> {
    format!("{CURSOR}{consumer}/{dataset}").into_bytes()
}

fn ledger_key(prefix: &str, ledger: Ledger) -> Vec<u8> {
    format!("{prefix}{}", ledger.dir_name()).into_bytes()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, LedgerError> {
    serde_json::to_vec(value).map_err(LedgerError::Encode)
}

//! The index: which entry holds a key, and which token may publish one.
//!
//! | table | key | value |
//! |---|---|---|
//! | `entries`, `datasets`, `artifacts` | the 32 bytes of a cache key | the entry of a view, a dataset, an artifact |
//! | `condemned` | an entry's id | an entry that serves no new hit and is to be deleted |
//! | `kept` | the id of a run that is kept | the directories of the entries that its manifest names; damaged, it may be all |
//! | `latest` | a view's name; for another scope `SCOPE:NAME`, for its output `output:NAME` | keys, components and outlines of the newest, kept when they go |
//! | `outputs` | an output's name and table | its last known publication |
//! | `tokens` | what is leased | the current fencing token, and until when its owner is not overtaken |
//! | `meta` | `next_token` | the last token drawn, over all that is leased |
//!
//! A store tells damage of its pages and not of what is in them. *Invariant:* no bit of a row flips unnoticed: every row but that
//! of `meta`, which is a number, carries the digest of the rest, and an entry's says its key.

mod latest;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alluvium_contracts::{CacheKey, ContentDigest, EntryId, RunId};
use alluvium_disk_kv_cache::{Order, ReadTxn, Store, StoreError, WriteTxn};
use alluvium_plans::Outline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::entry::{Entry, EntryFile};
use crate::scope::EntryScope;

pub(crate) use self::latest::{Latest, row_of_output};

const CONDEMNED: &str = "condemned";
const KEPT: &str = "kept";
const LATEST: &str = "latest";
const OUTPUTS: &str = "outputs";
const TOKENS: &str = "tokens";
const META: &str = "meta";
const NEXT_TOKEN: &[u8] = b"next_token";

/// Who holds a lease: see [`crate::lease`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tenure {
    /// The current fencing token; 0 where none was drawn.
    pub(crate) token: u64,
    /// Which of its lock files the lease is held by: how often it was taken over.
    pub(crate) seat: u64,
    /// How long its owner is not overtaken; none of a seat that nobody has taken yet.
    pub(crate) length_ms: Option<u64>,
    /// When that ends, in milliseconds since 1970-01-01 UTC.
    pub(crate) until_unix_ms: Option<i64>,
}

/// The files of an output's publication, as this root last saw them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OutputRow {
    pub(crate) version: u64,
    /// With the token, which commit it is: a version number can be used twice, after a rollback by hand.
    pub(crate) run_id: RunId,
    pub(crate) fencing_token: Option<u64>,
    pub(crate) files: Vec<EntryFile>,
}

/// An entry, or a directory that no entry is in, on its way out: see [`crate::retention`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Condemned {
    #[serde(default)]
    pub(crate) scope: EntryScope,
    pub(crate) id: EntryId,
    pub(crate) key: CacheKey,
    pub(crate) view: String,
    /// Its directory, relative to the cache root.
    pub(crate) dir: String,
    pub(crate) size_bytes: u64,
    pub(crate) reason: String,
    pub(crate) condemned_unix_ms: i64,
    /// Those who read when it had been condemned, and may have found it before; none while nobody has looked.
    pub(crate) readers: Option<BTreeSet<String>>,
}

/// What is kept for replays.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The directories of entries, each with a run for which it is kept.
    pub(crate) dirs: BTreeMap<String, String>,
    /// The runs of which it cannot be read what is kept for them, as far as it can be read which they are.
    pub(crate) unreadable: Vec<(Option<RunId>, String)>,
}

impl Kept {
    /// The run that a directory is kept for, or may be.
    pub(crate) fn keeper_of(&self, dir: &str) -> Option<&str> {
        self.dirs.get(dir).or(self.unreadable.first().map(|(_, run)| run)).map(String::as_str)
    }
}

/// Whether what is condemned has a row in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Entry,
    Orphan,
}

/// All rows of the tables of entries.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(crate) found: Vec<Entry>,
    /// The keys of damaged rows, and how those are addressed.
    pub(crate) damaged: Vec<(EntryScope, Vec<u8>)>,
}

/// How many rows there are.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) entries: Vec<(EntryScope, u64)>,
    pub(crate) outputs: u64,
}

/// What a row holds: damage is told from absence.
#[derive(Debug)]
pub(crate) enum Row<T> {
    Absent,
    Found(T),
    /// The bytes are not those that were put there.
    Damaged,
}

/// How a guarded publication ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publication {
    Published,
    /// The token is no longer current, or the entry is no longer what was seen.
    Superseded,
}

/// The tables above, in one store: a publication is one transaction over them.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    store: Store,
}

impl Index {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    pub(crate) fn entry(&self, scope: EntryScope, key: CacheKey) -> Result<Row<Entry>, StoreError> {
        self.row(scope.table(), key.as_bytes(), entry_of)
    }

    /// The identities that what has this row had, newest first.
    pub(crate) fn latest(&self, row: &str) -> Result<Vec<Latest>, StoreError> {
        // Only explains a miss: damage costs the explanation, no more.
        Ok(match self.row(LATEST, row.as_bytes(), |_, row| decode(row))? {
            Row::Found(latest) => latest,
            Row::Absent | Row::Damaged => Vec::new(),
        })
    }

    pub(crate) fn output(&self, output: &str) -> Result<Option<OutputRow>, StoreError> {
        // The table's own log says the same, at the price of reading it.
        Ok(match self.row(OUTPUTS, output.as_bytes(), |_, row| decode(row))? {
            Row::Found(row) => Some(row),
            Row::Absent | Row::Damaged => None,
        })
    }

    /// How many entries of each scope, and how many outputs, it has rows of.
    pub(crate) fn counts(&self) -> Result<Counts, StoreError> {
        self.store.read(|txn| {
            let entries = EntryScope::ALL.into_iter().map(|scope| Ok((scope, txn.len(scope.table())?)));
            Ok(Counts { entries: entries.collect::<Result<_, StoreError>>()?, outputs: txn.len(OUTPUTS)? })
        })
    }

    /// Who holds the lease on `resource`, or held it last. What is damaged, and so not known, is nobody.
    pub(crate) fn tenure(&self, resource: &[u8]) -> Result<Tenure, StoreError> {
        self.store.read(|txn| Ok(txn.get(TOKENS, resource)?.and_then(decode).unwrap_or_default()))
    }

    /// Draws the next token and makes it the current one of `resource`, for `length` from `unix_ms` on; none if `seat` is no more
    /// where its lease is held. Tokens are not below the clock's milliseconds, so that an index that was lost does not give those of
    /// its commits again.
    pub(crate) fn begin_tenure(
        &self,
        resource: &[u8],
        seat: u64,
        unix_ms: i64,
        length: Duration,
    ) -> Result<Option<u64>, StoreError> {
        self.store.write(|txn| {
            let held: Tenure = txn.get(TOKENS, resource)?.and_then(decode).unwrap_or_default();
            if held.seat != seat {
                return Ok(None);
            }
            let last = txn.get(META, NEXT_TOKEN)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
            let token = (last + 1).max(u64::try_from(unix_ms).unwrap_or(0));
            txn.put(META, NEXT_TOKEN, &token.to_be_bytes())?;
            let length_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            let until_unix_ms = unix_ms.saturating_add_unsigned(length_ms);
            let tenure = Tenure { token, seat, length_ms: Some(length_ms), until_unix_ms: Some(until_unix_ms) };
            txn.put(TOKENS, resource, &encode(&tenure))?;
            Ok(Some(token))
        })
    }

    /// Ends a tenure for its owner, who holds on to its seat: the lease is held on the next one. `false`: it is another by now.
    pub(crate) fn vacate(&self, resource: &[u8], seen: &Tenure) -> Result<bool, StoreError> {
        self.store.write(|txn| {
            let held: Tenure = txn.get(TOKENS, resource)?.and_then(decode).unwrap_or_default();
            if held != *seen {
                return Ok(false);
            }
            // Its token stays the current one until the next is drawn.
            let vacant = Tenure { seat: held.seat + 1, length_ms: None, until_unix_ms: None, ..held };
            txn.put(TOKENS, resource, &encode(&vacant))?;
            Ok(true)
        })
    }

    /// Publishes `entry` if `token` is current and the index still holds what was `seen` for its key, or an older one that was
    /// adopted since. One that was adopted itself stands, whatever the token. `outline` is what its query is made of. The entry keeps
    /// the token of its commit, however often its writer had to take the lease.
    pub(crate) fn publish(
        &self,
        entry: &Entry,
        outline: Option<&Outline>,
        seen: Option<EntryId>,
        token: u64,
    ) -> Result<Publication, StoreError> {
        let key = entry.key.as_bytes();
        let value = encode(entry);
        self.store.write(|txn| {
            let held = txn.get(entry.scope.table(), key)?.and_then(|row| entry_of(key, row));
            let is_seen = held.as_ref().map(|held| held.id) == seen;
            let is_own = held.as_ref().is_some_and(|held| held.id == entry.id);
            let is_older = held.as_ref().is_some_and(|held| held.fencing_token < token);
            let is_ours = (is_seen || is_older) && is_current(txn.get(TOKENS, key)?, token);
            if !(is_own || is_ours) {
                return Ok(Publication::Superseded);
            }
            txn.put(entry.scope.table(), key, &value)?;
            // A collector may have taken its directory for one that nobody finishes.
            txn.delete(CONDEMNED, &id_key(entry.id))?;
            latest::remember(txn, &entry.scope.latest_row(&entry.view), &Latest::of_entry(entry, outline))?;
            Ok(Publication::Published)
        })
    }

    /// Gives a row to an entry that has none. `false`: its key has a row by now, or it is condemned.
    pub(crate) fn adopt(&self, entry: &Entry) -> Result<bool, StoreError> {
        let value = encode(entry);
        self.store.write(|txn| {
            if txn.get(CONDEMNED, &id_key(entry.id))?.is_some() {
                return Ok(false);
            }
            let (table, key) = (entry.scope.table(), entry.key.as_bytes());
            if txn.get(table, key)?.and_then(|row| entry_of(key, row)).is_some() {
                return Ok(false);
            }
            txn.put(table, key, &value)?;
            latest::remember(txn, &entry.scope.latest_row(&entry.view), &Latest::of_entry(entry, None))?;
            Ok(true)
        })
    }

    /// Records today's stamps of an entry that was hashed again; does nothing when another entry took its place.
    pub(crate) fn restamp(&self, entry: &Entry) -> Result<(), StoreError> {
        let value = encode(entry);
        self.store.write(|txn| {
            let (table, key) = (entry.scope.table(), entry.key.as_bytes());
            let held = txn.get(table, key)?.and_then(|row| entry_of(key, row));
            if held.is_some_and(|held| held.id == entry.id) {
                txn.put(table, key, &value)?;
            }
            Ok(())
        })
    }

    /// Removes the row of `key` if it is still `id`, or still damaged.
    pub(crate) fn remove(&self, scope: EntryScope, key: CacheKey, id: Option<EntryId>) -> Result<bool, StoreError> {
        let (table, key) = (scope.table(), key.as_bytes());
        self.store.write(|txn| {
            let held = txn.get(table, key)?.map(|row| entry_of(key, row).map(|entry| entry.id));
            match held {
                Some(held) if held == id => txn.delete(table, key),
                Some(_) | None => Ok(false),
            }
        })
    }

    /// Every row of the tables of entries.
    pub(crate) fn entries(&self) -> Result<Entries, StoreError> {
        self.store.read(|txn| {
            let mut entries = Entries::default();
            for scope in EntryScope::ALL {
                for row in txn.scan(scope.table(), .., Order::Ascending)? {
                    let (key, value) = row?;
                    match entry_of(key, value) {
                        Some(entry) => entries.found.push(entry),
                        None => entries.damaged.push((scope, key.to_vec())),
                    }
                }
            }
            Ok(entries)
        })
    }

    /// Removes the row of an entry that is still damaged.
    pub(crate) fn drop_damaged(&self, scope: EntryScope, key: &[u8]) -> Result<bool, StoreError> {
        let table = scope.table();
        self.store.write(|txn| match txn.get(table, key)? {
            Some(row) if entry_of(key, row).is_none() => txn.delete(table, key),
            Some(_) | None => Ok(false),
        })
    }

    /// What is condemned. A damaged row is left out: its directory is an orphan then, and condemned anew.
    pub(crate) fn condemned(&self) -> Result<Vec<Condemned>, StoreError> {
        self.store.read(|txn| {
            let rows = txn.scan(CONDEMNED, .., Order::Ascending)?;
            rows.filter_map(|row| row.map(|(_, value)| decode(value)).transpose()).collect()
        })
    }

    pub(crate) fn is_condemned(&self, id: EntryId) -> Result<bool, StoreError> {
        self.store.read(|txn| Ok(txn.get(CONDEMNED, &id_key(id))?.is_some()))
    }

    /// Keeps the entries in these directories for a run, beside what is kept for it already.
    pub(crate) fn keep(&self, run_id: RunId, dirs: &BTreeSet<String>) -> Result<(), StoreError> {
        self.store.write(|txn| {
            let key = run_id.to_string();
            let mut kept: BTreeSet<String> = txn.get(KEPT, key.as_bytes())?.and_then(decode).unwrap_or_default();
            kept.extend(dirs.iter().cloned());
            txn.put(KEPT, key.as_bytes(), &encode(&kept))
        })
    }

    /// Keeps nothing for a run any more. `false`: nothing was.
    pub(crate) fn release(&self, run_id: RunId) -> Result<bool, StoreError> {
        self.store.write(|txn| txn.delete(KEPT, run_id.to_string().as_bytes()))
    }

    /// What is kept.
    pub(crate) fn kept(&self) -> Result<Kept, StoreError> {
        self.store.read(kept)
    }

    /// The runs for which something is kept, whether or not it can be read what.
    pub(crate) fn kept_runs(&self) -> Result<BTreeSet<RunId>, StoreError> {
        self.store.read(|txn| {
            let mut runs = BTreeSet::new();
            for row in txn.scan(KEPT, .., Order::Ascending)? {
                runs.extend(run_of(row?.0));
            }
            Ok(runs)
        })
    }

    /// Drops rows of what is kept that neither name a run nor decode: nobody could keep them anew, or release them. How many.
    pub(crate) fn drop_nameless_kept(&self) -> Result<u64, StoreError> {
        self.store.write(|txn| {
            let mut nameless = Vec::new();
            for row in txn.scan(KEPT, .., Order::Ascending)? {
                let (key, value) = row?;
                if run_of(key).is_none() && decode::<BTreeSet<String>>(value).is_none() {
                    nameless.push(key.to_vec());
                }
            }
            for key in &nameless {
                txn.delete(KEPT, key)?;
            }
            Ok(nameless.len() as u64)
        })
    }

    /// Condemns all of these that still stand as they did and that no run keeps; returns those. Where it cannot be read what a
    /// run keeps, it may be any of them.
    pub(crate) fn condemn(&self, doomed: &[(Condemned, Standing)]) -> Result<Vec<Condemned>, StoreError> {
        self.store.write(|txn| {
            let mut condemned = Vec::new();
            let kept = kept(txn)?;
            for (one, standing) in doomed {
                if kept.keeper_of(&one.dir).is_some() {
                    continue;
                }
                let (table, key) = (one.scope.table(), one.key.as_bytes());
                let held = txn.get(table, key)?.and_then(|row| entry_of(key, row)).map(|held| held.id);
                let stands = match standing {
                    Standing::Entry => held == Some(one.id),
                    Standing::Orphan => held != Some(one.id),
                };
                if !stands {
                    continue;
                }
                if *standing == Standing::Entry {
                    txn.delete(table, key)?;
                }
                txn.put(CONDEMNED, &id_key(one.id), &encode(one))?;
                condemned.push(one.clone());
            }
            Ok(condemned)
        })
    }

    /// Records who reads, for those marks (an id, and when it was condemned) of which that is not recorded yet.
    pub(crate) fn await_readers(&self, marks: &[(EntryId, i64)], readers: &BTreeSet<String>) -> Result<(), StoreError> {
        self.store.write(|txn| {
            for (id, at) in marks {
                let row = txn.get(CONDEMNED, &id_key(*id))?.and_then(decode::<Condemned>);
                if let Some(row) = row.filter(|row| row.readers.is_none() && row.condemned_unix_ms == *at) {
                    let row = Condemned { readers: Some(readers.clone()), ..row };
                    txn.put(CONDEMNED, &id_key(*id), &encode(&row))?;
                }
            }
            Ok(())
        })
    }

    /// Forgets what is deleted.
    pub(crate) fn forget(&self, ids: &[EntryId]) -> Result<(), StoreError> {
        self.store.write(|txn| {
            for id in ids {
                txn.delete(CONDEMNED, &id_key(*id))?;
            }
            Ok(())
        })
    }

    /// Records a publication of an output, if the token is current; and of one that is the entry of its view, whose name comes with
    /// it, the identity.
    pub(crate) fn publish_output(
        &self,
        output: &str,
        resource: &[u8],
        token: u64,
        row: &OutputRow,
        identity: Option<(&str, Latest)>,
    ) -> Result<Publication, StoreError> {
        self.store.write(|txn| {
            if !is_current(txn.get(TOKENS, resource)?, token) {
                return Ok(Publication::Superseded);
            }
            put_output(txn, output, row, identity.as_ref())?;
            Ok(Publication::Published)
        })
    }

    /// Records the files of a publication that were compared with the digests in its table's log. Guards nothing: the row
    /// names the commit that it speaks of.
    pub(crate) fn remember_output(
        &self,
        output: &str,
        row: &OutputRow,
        identity: Option<(&str, Latest)>,
    ) -> Result<(), StoreError> {
        self.store.write(|txn| put_output(txn, output, row, identity.as_ref()))
    }

    /// What is under a key, by a function of the key and its row.
    fn row<T>(&self, table: &str, key: &[u8], of: impl Fn(&[u8], &[u8]) -> Option<T>) -> Result<Row<T>, StoreError> {
        self.store.read(|txn| {
            Ok(match txn.get(table, key)? {
                None => Row::Absent,
                Some(row) => of(key, row).map_or(Row::Damaged, Row::Found),
            })
        })
    }
}

fn run_of(key: &[u8]) -> Option<RunId> {
    std::str::from_utf8(key).ok()?.parse().ok()
}

/// A damaged row may keep anything: until its run is kept anew or released, nothing is known not to be kept.
fn kept(txn: &ReadTxn<'_>) -> Result<Kept, StoreError> {
    let mut kept = Kept::default();
    for row in txn.scan(KEPT, .., Order::Ascending)? {
        let (key, value) = row?;
        // A damaged key is no run's, and what it names is kept all the same.
        let run = String::from_utf8_lossy(key).into_owned();
        match decode::<BTreeSet<String>>(value) {
            Some(dirs) => kept.dirs.extend(dirs.into_iter().map(|dir| (dir, run.clone()))),
            None => kept.unreadable.push((run_of(key), run)),
        }
    }
    Ok(kept)
}

fn put_output(
    txn: &mut WriteTxn<'_>,
    output: &str,
    row: &OutputRow,
    identity: Option<&(&str, Latest)>,
) -> Result<(), StoreError> {
    txn.put(OUTPUTS, output.as_bytes(), &encode(row))?;
    identity.map_or(Ok(()), |(view, identity)| latest::remember(txn, &row_of_output(view), identity))
}

/// The entry of a row; none if that is not the row that was put under the key.
fn entry_of(key: &[u8], row: &[u8]) -> Option<Entry> {
    decode::<Entry>(row).filter(|entry| entry.key.as_bytes() == key)
}

fn id_key(id: EntryId) -> [u8; 16] {
    *id.as_uuid().as_bytes()
}

fn is_current(held: Option<&[u8]>, token: u64) -> bool {
    held.and_then(decode::<Tenure>).is_some_and(|tenure| tenure.token == token)
}

/// The digest of the row, and the row.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Structs of strings, finite numbers and maps with string keys always encode.
    let row = serde_json::to_vec(value).unwrap_or_default();
    [ContentDigest::of(&row).as_bytes().as_slice(), &row].concat()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (digest, row) = bytes.split_first_chunk::<32>()?;
    if ContentDigest::of(row).as_bytes() != digest {
        return None;
    }
    serde_json::from_slice(row).ok()
}

#[cfg(test)]
mod tests;

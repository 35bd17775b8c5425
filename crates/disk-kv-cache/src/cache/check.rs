//! Looking a whole cache over: every row, every checksum, every index, every file. Never part of another operation.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use crate::cache::files::{FileReader, FileRef, ReadError};
use crate::cache::inner::Inner;
use crate::cache::row::{Content, Row, RowError};
use crate::cache::state::State;
use crate::cache::tables::{ACCESS, ENTRIES, EXPIRY, FILES, ORDER, TAGS, pair, tag_key, unpair};
use crate::cache::transaction::Transaction;
use crate::cache::view::View;
use crate::eviction::Access;
use crate::{CacheError, Clock, EntryDamage, KeyBuf, Order, StoreError, SystemClock};

/// How long a file has to be an orphan to be one: longer than a writer takes from a commit to the files, or from making a
/// file to locking it.
const MOMENT: Duration = Duration::from_millis(100);

/// Something that [`Cache::check`](crate::Cache::check) found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// An entry cannot be read. Mended by removing it.
    Entry {
        /// The entry.
        key: KeyBuf,
        /// What is wrong.
        damage: EntryDamage,
    },
    /// An entry is missing in an index. Mended by adding it there.
    NotIndexed {
        /// The entry.
        key: KeyBuf,
        /// The table of the index.
        index: &'static str,
    },
    /// An index has a row that no entry stands behind. Mended by removing the row.
    Stray {
        /// The table of the index.
        index: &'static str,
        /// The row's key, as it lies in the store.
        row: Vec<u8>,
    },
    /// The volume is not the sum of the entries' volumes. Mended by counting anew.
    Volume {
        /// What the cache had recorded, in bytes.
        recorded: u64,
        /// What the entries take, in bytes.
        counted: u64,
    },
    /// The row of settings and counters is damaged. Mended with the default settings.
    State,
    /// The next sequence number is not above all those in use. Mended by raising it.
    Sequence,
    /// A file that no entry refers to and no writer holds. Mended by removing it; a directory under the name of a file that is
    /// not empty is kept, as `<name>.other-<n>`.
    ///
    /// It was so for 100 ms. A writer that stood still for as long between making a file and locking it, or between a commit
    /// and the removal of what it had replaced, may be behind it: removing the file does no harm then.
    OrphanFile {
        /// Its name in the directory of values.
        name: String,
    },
}

/// What a look at all entries found.
struct Survey {
    problems: Vec<Problem>,
    /// What the state should be.
    state: State,
}

/// Which value files a survey reads.
enum Files<'f> {
    All,
    Of(&'f HashSet<KeyBuf>),
}

impl Inner {
    /// Finds what is wrong, and mends it if `fix`.
    pub(crate) fn check(&self, fix: bool) -> Result<Vec<Problem>, CacheError> {
        if fix && self.read_only {
            return Err(StoreError::ReadOnly { path: self.store.path().to_path_buf() }.into());
        }
        self.store.check()?;
        let mut problems = self.store.read(|txn| survey(&View::new(txn, self), &Files::All))?.problems;
        self.confirm(&mut problems)?;
        if fix && !problems.is_empty() {
            let suspects = problems.iter().filter_map(|problem| match problem {
                Problem::Entry { key, .. } => Some(key.clone()),
                _ => None,
            });
            let suspects = suspects.collect();
            // What is mended is what is wrong now: others may have changed it since.
            self.mend(|transaction| {
                let survey = survey(&transaction.view(), &Files::Of(&suspects))?;
                // A stray row may lie where an entry's own belongs, so those go first.
                let is_stray = |problem: &&Problem| matches!(problem, Problem::Stray { .. });
                let others = survey.problems.iter().filter(|problem| !is_stray(problem));
                for problem in survey.problems.iter().filter(is_stray).chain(others) {
                    transaction.mend(problem)?;
                }
                transaction.state = survey.state;
                Ok(())
            })?;
        }
        let orphans = self.orphans()?;
        if fix && !orphans.is_empty() {
            self.sweep(true, |name| orphans.contains(name))?;
        }
        problems.extend(orphans.into_iter().map(|name| Problem::OrphanFile { name }));
        Ok(problems)
    }

    /// The files that nothing refers to, and that are not only so while a writer makes or removes them.
    fn orphans(&self) -> Result<BTreeSet<String>, CacheError> {
        let found: BTreeSet<String> = self.sweep(false, |_| true)?.into_iter().collect();
        if found.is_empty() {
            return Ok(found);
        }
        // By the machine's clock: it is machines that are waited for.
        SystemClock.sleep(MOMENT);
        Ok(self.sweep(false, |name| found.contains(name))?.into_iter().collect())
    }

    /// Finds the files among those `wanted` that nothing refers to, and removes them if `remove`.
    pub(crate) fn sweep(&self, remove: bool, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, CacheError> {
        let swept = self.files.sweep(remove, wanted, |files| {
            self.store.read(|txn| View::new(txn, self).referred(files)).map_err(SweepError::Cache)
        });
        swept.map_err(|error| match error {
            SweepError::Cache(error) => error,
            SweepError::Io(error) => CacheError::file(self.files.path(), "sweep", error),
        })
    }

    /// Drops the problems with files that are none: the entry was replaced while the survey looked.
    fn confirm(&self, problems: &mut Vec<Problem>) -> Result<(), CacheError> {
        let mut confirmed = Vec::with_capacity(problems.len());
        for problem in problems.drain(..) {
            let still = match &problem {
                Problem::Entry { key, damage: EntryDamage::MissingFile | EntryDamage::File } => {
                    self.is_file_damaged(key)?
                }
                _ => true,
            };
            if still {
                confirmed.push(problem);
            }
        }
        *problems = confirmed;
        Ok(())
    }

    /// Whether the file of an entry is damaged or gone, and not only replaced while it was looked at: a file goes after the commit that
    /// replaced it, so one that was gone before a transaction began in which the entry still has it is missing.
    fn is_file_damaged(&self, key: &KeyBuf) -> Result<bool, CacheError> {
        let mut suspect = None;
        loop {
            let file = self.store.read(|txn| {
                let found = txn.get(ENTRIES, key.as_bytes())?;
                let row = found.and_then(|bytes| Row::read(key.as_bytes(), bytes).ok());
                Ok::<_, CacheError>(match row.map(|row| row.content) {
                    Some(Content::File(file)) => Some(file),
                    _ => None,
                })
            })?;
            let Some(file) = file else {
                return Ok(false);
            };
            if suspect == Some(file) {
                return Ok(true);
            }
            if file_damage(self, file)?.is_none() {
                return Ok(false);
            }
            suspect = Some(file);
        }
    }
}

enum SweepError {
    Cache(CacheError),
    Io(std::io::Error),
}

impl From<std::io::Error> for SweepError {
    fn from(error: std::io::Error) -> SweepError {
        SweepError::Io(error)
    }
}

impl Transaction<'_, '_> {
    fn mend(&mut self, problem: &Problem) -> Result<(), CacheError> {
        match problem {
            Problem::Entry { key, .. } => {
                let found = self.find(key.as_bytes())?;
                self.remove(key.as_bytes(), found)
            }
            Problem::NotIndexed { key, .. } => {
                // Its rows are few: all are written again.
                let rows = match self.rows.txn().get(ENTRIES, key.as_bytes())? {
                    Some(bytes) => match Row::read(key.as_bytes(), bytes) {
                        Ok(row) => index_rows(self.state, &row, self.access(row.id)?),
                        Err(_) => return Ok(()),
                    },
                    None => return Ok(()),
                };
                for (index, place) in rows {
                    self.rows.put(index, &place, key.as_bytes())?;
                }
                Ok(())
            }
            Problem::Stray { index, row } => {
                self.rows.delete(index, row)?;
                Ok(())
            }
            Problem::Volume { .. } | Problem::State | Problem::Sequence | Problem::OrphanFile { .. } => Ok(()),
        }
    }
}

/// Looks at everything in the store, and at the files asked for.
fn survey(view: &View<'_, '_>, files: &Files<'_>) -> Result<Survey, CacheError> {
    let txn = view.txn();
    let mut problems = Vec::new();
    let recorded = match view.state() {
        Ok(state) => state.unwrap_or_default(),
        Err(CacheError::DamagedState { .. }) => {
            problems.push(Problem::State);
            State::default()
        }
        Err(error) => return Err(error),
    };
    let mut state = State { volume: 0, ..recorded };
    // Rows of accesses have no key to find their entry by.
    let mut ids = HashSet::new();
    for entry in txn.scan(ENTRIES, .., Order::Ascending)? {
        let (key, bytes) = entry?;
        let owned = || KeyBuf::trusted(key.to_vec());
        let row = match Row::read(key, bytes) {
            Ok(row) => row,
            Err(RowError::Damaged) => {
                problems.push(Problem::Entry { key: owned(), damage: EntryDamage::Row });
                continue;
            }
            Err(RowError::Newer(found)) => return Err(view.cache().newer(found)),
        };
        let access = access(view, row.id)?;
        if access.is_some() {
            ids.insert(row.id);
        }
        let used = [row.id, row.seq, access.map_or(0, |access| access.last)];
        state.next = used.iter().fold(state.next, |next, used| next.max(used.saturating_add(1)));
        if let Content::File(file) = row.content
            && files.include(&owned())
            && let Some(damage) = file_damage(view.cache(), file)?
        {
            problems.push(Problem::Entry { key: owned(), damage });
            continue;
        }
        state.volume += row.volume(key);
        for (index, place) in index_rows(recorded, &row, access) {
            if txn.get(index, &place)? != Some(key) {
                problems.push(Problem::NotIndexed { key: owned(), index });
                break;
            }
        }
    }
    if state.next != recorded.next {
        problems.push(Problem::Sequence);
    }
    for entry in txn.scan(ACCESS, .., Order::Ascending)? {
        let (id, seen) = entry?;
        let known = id.try_into().is_ok_and(|id| ids.contains(&u64::from_be_bytes(id)));
        if !known || unpair(seen).is_none() {
            problems.push(Problem::Stray { index: ACCESS, row: id.to_vec() });
        }
    }
    for index in [ORDER, EXPIRY, TAGS, FILES] {
        for entry in txn.scan(index, .., Order::Ascending)? {
            let (place, key) = entry?;
            if !stands_for_an_entry(view, recorded, index, place, key)? {
                problems.push(Problem::Stray { index, row: place.to_vec() });
            }
        }
    }
    // Entries that cannot be read still count in what was recorded.
    let unreadable = problems.iter().any(|problem| matches!(problem, Problem::Entry { .. } | Problem::State));
    if state.volume != recorded.volume && !unreadable {
        problems.push(Problem::Volume { recorded: recorded.volume, counted: state.volume });
    }
    Ok(Survey { problems, state })
}

impl Files<'_> {
    fn include(&self, key: &KeyBuf) -> bool {
        match self {
            Files::All => true,
            Files::Of(keys) => keys.contains(key),
        }
    }
}

fn file_damage(cache: &Inner, file: FileRef) -> Result<Option<EntryDamage>, CacheError> {
    let read = cache.files.look_at(file).and_then(|()| cache.files.open(file)).and_then(FileReader::verify);
    match read {
        Ok(()) => Ok(None),
        Err(ReadError::Missing) => Ok(Some(EntryDamage::MissingFile)),
        Err(ReadError::Damaged) => Ok(Some(EntryDamage::File)),
        Err(ReadError::Io(error)) => Err(CacheError::file(cache.files.path(), "check a value", error)),
    }
}

fn access(view: &View<'_, '_>, id: u64) -> Result<Option<Access>, CacheError> {
    let row = view.txn().get(ACCESS, &id.to_be_bytes())?;
    Ok(row.and_then(unpair).map(|(last, count)| Access { last, count }))
}

/// The rows that an entry should have in the indexes; each has the entry's key as value.
fn index_rows(state: State, row: &Row<'_>, access: Option<Access>) -> Vec<(&'static str, Vec<u8>)> {
    let mut rows = Vec::new();
    if let Some(rank) = state.settings.eviction.rank(row.seq, access) {
        rows.push((ORDER, pair(rank, row.id).to_vec()));
    }
    if let Some(expires) = row.expires {
        rows.push((EXPIRY, pair(expires, row.id).to_vec()));
    }
    rows.extend(row.tags.iter().map(|tag| (TAGS, tag_key(tag, row.id))));
    if let Content::File(file) = row.content {
        rows.push((FILES, file.name.0.to_vec()));
    }
    rows
}

/// Whether an index should have a row.
fn stands_for_an_entry(
    view: &View<'_, '_>,
    state: State,
    index: &'static str,
    place: &[u8],
    value: &[u8],
) -> Result<bool, CacheError> {
    if value.is_empty() {
        return Ok(false);
    }
    let Some(bytes) = view.txn().get(ENTRIES, value)? else {
        return Ok(false);
    };
    let Ok(row) = Row::read(value, bytes) else {
        return Ok(false);
    };
    let access = access(view, row.id)?;
    Ok(index_rows(state, &row, access).iter().any(|(table, key)| *table == index && key == place))
}

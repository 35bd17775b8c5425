//! What all handles of a cache share: the store, the files, the clock; and how reads and writes run on them.

use std::sync::Arc;

use crate::cache::files::{FileName, NewFile, ValueFiles};
use crate::cache::reads::{Reads, Taken};
use crate::cache::state::State;
use crate::cache::transaction::Transaction;
use crate::cache::view::View;
use crate::{CacheError, Clock, EntryDamage, Store, StoreError};

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) files: Arc<ValueFiles>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) read_only: bool,
}

/// What a transaction does to files once it is committed.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Those that a row of it refers to. Dropped without a commit, they are removed.
    pub(crate) created: Vec<NewFile>,
    /// Those that no row refers to any more.
    pub(crate) removed: Vec<FileName>,
    /// The reads that it wrote.
    pub(crate) taken: Vec<Taken>,
}

/// Why a transaction ended without a commit.
enum Failed<E> {
    InTheStore(StoreError),
    InTheCache(CacheError),
    Told(E),
}

impl<E> From<StoreError> for Failed<E> {
    fn from(error: StoreError) -> Failed<E> {
        Failed::InTheStore(error)
    }
}

impl Inner {
    /// Unix nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.clock.unix_nanos()
    }

    /// Runs `f` on a snapshot. It may run again: a value's file can vanish under a snapshot once its entry is replaced.
    pub(crate) fn read<T>(&self, mut f: impl FnMut(View<'_, '_>) -> Result<T, CacheError>) -> Result<T, CacheError> {
        let mut before = None;
        let answer = loop {
            let answer = self.store.read(|txn| {
                let view = View::new(txn, self);
                let answer = f(view);
                // The row at which a file was found missing, as this snapshot has it.
                let missing = match &answer {
                    Err(CacheError::Damaged { key, damage: EntryDamage::MissingFile }) => {
                        txn.get(super::tables::ENTRIES, key.as_bytes())?.map(<[u8]>::to_vec)
                    }
                    _ => None,
                };
                Ok::<_, CacheError>((answer, missing))
            });
            match answer? {
                (answer, Some(missing)) if before.as_ref() != Some(&missing) => {
                    drop(answer);
                    before = Some(missing);
                }
                (answer, missing) => {
                    if missing.is_some() {
                        self.reads.damaged();
                    }
                    break answer;
                }
            }
        };
        if self.reads.is_due() {
            self.batch();
        }
        answer
    }

    /// Runs `f` in the write transaction, then does to files what it asks for.
    pub(crate) fn write<T, E: From<CacheError>>(
        &self,
        f: impl FnMut(&mut Transaction<'_, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.run(f, |stored| stored, self.reads.take())
    }

    /// As [`write`](Inner::write), but puts up with a damaged state, which `f` is to replace.
    pub(crate) fn mend(
        &self,
        f: impl FnMut(&mut Transaction<'_, '_>) -> Result<(), CacheError>,
    ) -> Result<(), CacheError> {
        let tolerate = |stored| match stored {
            Err(CacheError::DamagedState { .. }) => Ok(None),
            stored => stored,
        };
        self.run(f, tolerate, Taken::default())
    }

    fn run<T, E: From<CacheError>>(
        &self,
        mut f: impl FnMut(&mut Transaction<'_, '_>) -> Result<T, E>,
        judge: impl Fn(Result<Option<State>, CacheError>) -> Result<Option<State>, CacheError>,
        reads: Taken,
    ) -> Result<T, E> {
        let mut effects = Effects::default();
        let mut state = None;
        let answer = self.store.write(|txn| {
            // Whatever an earlier run did was undone.
            drop(std::mem::take(&mut effects));
            let stored = judge(View::new(txn, self).state()).map_err(Failed::InTheCache)?;
            let mut transaction = Transaction::new(txn, self, stored);
            transaction.record(reads.pending()).map_err(Failed::InTheCache)?;
            let answer = f(&mut transaction).map_err(Failed::Told)?;
            let (ended, after) = transaction.end().map_err(Failed::InTheCache)?;
            (effects, state) = (ended, Some(after));
            Ok(answer)
        });
        match answer {
            Ok(answer) => {
                reads.written();
                if let Some(state) = state {
                    self.settle(effects, &state);
                }
                Ok(answer)
            }
            Err(Failed::InTheStore(error)) => Err(CacheError::Store(error).into()),
            Err(Failed::InTheCache(error)) => Err(error.into()),
            Err(Failed::Told(error)) => Err(error),
        }
    }

    /// Does what is to be done after a commit, which left the cache in `state`.
    pub(crate) fn settle(&self, effects: Effects, state: &State) {
        self.reads.follow(&state.settings);
        effects.taken.into_iter().for_each(Taken::written);
        effects.created.into_iter().for_each(NewFile::keep);
        for file in effects.removed {
            if let Err(error) = self.files.remove(file) {
                tracing::warn!(path = %self.files.path().display(), %file, %error, "left for the next sweep");
            }
        }
    }

    /// Writes what reads have left behind, and looks at the settings again. A read must not fail for it.
    fn batch(&self) {
        let done = if self.read_only || self.reads.is_empty() {
            self.state().map(|state| self.reads.follow(&state.settings))
        } else {
            self.write(|_| Ok(()))
        };
        if let Err(error) = done {
            tracing::debug!(path = %self.store.path().display(), %error, "accesses not recorded");
        }
    }

    /// Settings and counters, as committed.
    pub(crate) fn state(&self) -> Result<State, CacheError> {
        self.store.read(|txn| Ok(View::new(txn, self).state()?.unwrap_or_default()))
    }

    pub(crate) fn newer(&self, found: u8) -> CacheError {
        CacheError::NewerFormat { path: self.store.path().to_path_buf(), found }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.read_only && !self.reads.is_empty() {
            self.batch();
        }
    }
}

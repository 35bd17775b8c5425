//! A slot: what one owner can hold at a time, over all processes. Locks are one slot, semaphores are several.
//!
//! Two things make up a slot, and each has one task.
//! - *A file that the owner keeps locked with `flock`.* It says whether the owner lives: the kernel unlocks it when the
//!   owner's last descriptor closes, however the process ends. Process ids, which repeat and which containers share, are
//!   never asked.
//! - *A [`Claim`] in the store.* It says who the owner is, gives it a fencing token, and names the *generation*: which
//!   file counts. An owner that lives but has outstayed its lease is replaced by moving to the next generation; it may
//!   keep its old file locked for as long as it likes.
//!
//! Whoever has locked the file of the current generation, and has written its claim in one transaction that found that
//! generation current, is the owner.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LockError;
use super::coordination::Shared;
use crate::collection::{number, open, seal};
use crate::{CollectionError, ReadTxn, Record, Value, WriteTxn};

pub(super) const CLAIMS: &str = "coordination_claims";
pub(super) const TOKENS: &str = "coordination_tokens";

/// What kind of thing a name names: names of different kinds do not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Lock = 1,
    Reentrant = 2,
    Semaphore = 3,
    Averager = 4,
    Throttle = 5,
}

/// A kind and a name of any length, in a fixed number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id([u8; 16]);

impl Id {
    pub(super) fn new(kind: Kind, name: &[u8]) -> Id {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind as u8]).update(name);
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Id(id)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Who holds, or last held, a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) owner: String,
    pub(super) pid: u32,
    pub(super) token: u64,
    pub(super) since_unix_ms: u64,
    /// After this, another may take the slot though the owner lives.
    pub(super) until_unix_ms: Option<u64>,
    pub(super) generation: u64,
}

impl Record for Claim {
    const TYPE: &'static str = "coordination_claim";
    const VERSION: u32 = 1;
}

/// One of the slots of a name.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) shared: Arc<Shared>,
    pub(super) id: Id,
    pub(super) number: u32,
    /// How long an owner may stay while others wait; `None`: as long as it lives.
    pub(super) lease: Option<Duration>,
}

/// A slot that is this process's until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    file: File,
    slot: Slot,
    pid: u32,
    pub(super) token: u64,
}

impl Slot {
    /// Takes the slot, if it is free, or its owner is dead or has outstayed its lease.
    pub(super) fn try_take(&self) -> Result<Option<Held>, LockError> {
        let seen = self.claim()?;
        let generation = seen.as_ref().map_or(0, |claim| claim.generation);
        let file = self.file(generation)?;
        if try_lock(&file).map_err(|error| self.shared.io("lock a file", error))? {
            return self.enter(file, generation);
        }
        match seen {
            Some(claim) if claim.until_unix_ms.is_some_and(|until| until <= self.shared.now_unix_ms()) => {
                self.succeed(&claim)
            }
            _ => Ok(None),
        }
    }

    /// With the file of a generation locked: the slot is ours if that generation is still the one that counts.
    fn enter(&self, file: File, generation: u64) -> Result<Option<Held>, LockError> {
        let token = self.shared.store.write(|txn| {
            let current = self.claim_in(txn)?.map_or(0, |claim| claim.generation);
            if current == generation { self.sign(txn, generation).map(Some) } else { Ok::<_, CollectionError>(None) }
        })?;
        if token.is_none() {
            // Perhaps made anew by us after its successor had removed it.
            let _ = fs::remove_file(self.path(generation));
        }
        Ok(token.map(|token| self.held(file, token)))
    }

    /// Takes the place of an owner that lives but has outstayed its lease.
    fn succeed(&self, claim: &Claim) -> Result<Option<Held>, LockError> {
        let generation = claim.generation + 1;
        let taken = self.shared.store.write(|txn| {
            if self.claim_in(txn)?.as_ref() != Some(claim) {
                return Ok::<_, LockError>(None);
            }
            let file = self.file(generation)?;
            if !try_lock(&file).map_err(|error| self.shared.io("lock a file", error))? {
                return Ok(None);
            }
            Ok(Some((file, self.sign(txn, generation)?)))
        })?;
        if taken.is_some() {
            // Of no use to anyone any more; nor is it an error to find it gone.
            let _ = fs::remove_file(self.path(claim.generation));
        }
        Ok(taken.map(|(file, token)| self.held(file, token)))
    }

    /// Writes our claim, with the next token of the name.
    fn sign(&self, txn: &mut WriteTxn<'_>, generation: u64) -> Result<u64, CollectionError> {
        let id = self.id.bytes();
        let token = 1 + match txn.get(TOKENS, id)? {
            Some(sealed) => number(TOKENS, open(TOKENS, id, sealed)?)?,
            None => 0,
        };
        txn.put(TOKENS, id, &seal(id, &token.to_be_bytes()))?;
        let since_unix_ms = self.shared.now_unix_ms();
        let millis = |lease: Duration| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let claim = Claim {
            owner: self.shared.owner.clone(),
            pid: process::id(),
            token,
            since_unix_ms,
            until_unix_ms: self.lease.map(|lease| since_unix_ms.saturating_add(millis(lease))),
            generation,
        };
        let key = self.key();
        txn.put(CLAIMS, &key, &seal(&key, &claim.to_bytes()?))?;
        Ok(token)
    }

    /// Who holds the slot now.
    pub(super) fn holder(&self) -> Result<Option<Claim>, LockError> {
        let Some(claim) = self.claim()? else { return Ok(None) };
        let file = self.file(claim.generation)?;
        // Shared, so that two that look do not see each other.
        let free = file.try_lock_shared();
        match free {
            Ok(()) => Ok(None),
            Err(fs::TryLockError::WouldBlock) => Ok(Some(claim)),
            Err(fs::TryLockError::Error(error)) => Err(self.shared.io("look at a lock", error)),
        }
    }

    pub(super) fn claim(&self) -> Result<Option<Claim>, LockError> {
        Ok(self.shared.store.read(|txn| self.claim_in(txn))?)
    }

    fn claim_in(&self, txn: &ReadTxn<'_>) -> Result<Option<Claim>, CollectionError> {
        let key = self.key();
        let Some(sealed) = txn.get(CLAIMS, &key)? else { return Ok(None) };
        Ok(Some(Claim::from_bytes(open(CLAIMS, &key, sealed)?)?))
    }

    fn key(&self) -> Vec<u8> {
        [self.id.bytes(), &self.number.to_be_bytes()].concat()
    }

    fn held(&self, file: File, token: u64) -> Held {
        Held { file, slot: self.clone(), pid: process::id(), token }
    }

    fn path(&self, generation: u64) -> PathBuf {
        let id: String = self.id.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.shared.locks.join(format!("{id}.{}.{generation}", self.number))
    }

    /// Opens a file to lock, never through a symbolic link.
    fn file(&self, generation: u64) -> Result<File, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options.open(self.path(generation)).map_err(|error| self.shared.io("open a lock file", error))
    }
}

impl Held {
    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether nobody has taken the slot over since.
    pub(super) fn is_current(&self) -> Result<bool, LockError> {
        Ok(self.pid == process::id() && self.slot.claim()?.is_some_and(|claim| claim.token == self.token))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Unlocked and not only closed: a child made by fork meanwhile has the descriptor too. In such a child the lock is
        // the parent's, and is left alone.
        if self.pid == process::id() {
            let _ = self.file.unlock();
        }
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(all(test, feature = "lmdb"))]
mod tests {
    use super::*;
    use crate::{Coordination, Durability, ManualClock, Settings};

    #[test]
    fn the_file_of_an_earlier_generation_is_worth_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Duration::from_secs(1_000));
        let settings = Settings::new().with_durability(Durability::Process);
        let coordination = Coordination::open_with_clock(dir.path(), settings, Arc::new(clock.clone())).unwrap();
        let slot = coordination.slot(Kind::Lock, b"name", Some(Duration::from_secs(1)));
        let stuck = slot.try_take().unwrap().unwrap();
        clock.advance(Duration::from_secs(1));
        let successor = slot.try_take().unwrap().unwrap();

        // Whoever looked before the succession, and comes to lock the file only now.
        let late = slot.file(0).unwrap();
        assert!(try_lock(&late).unwrap());
        assert!(slot.enter(late, 0).unwrap().is_none());
        assert!(!slot.path(0).exists());
        assert!(successor.is_current().unwrap() && !stuck.is_current().unwrap());
    }

    #[test]
    fn names_and_kinds_have_ids_of_their_own() {
        let ids = [Id::new(Kind::Lock, b"a"), Id::new(Kind::Lock, b"b"), Id::new(Kind::Semaphore, b"a")];
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    }
}

//! Whether the files that are open are still those at the store's path.
//!
//! Every write asks, and looking each name up costs more than half of what LMDB takes for a small commit. One look at the
//! directory stands for all of them: its change time moves whenever a name in it is made, removed or given to another file.
//! As with git's index, a time is a witness only if it had passed when the names were looked up: a change in the same tick
//! of the clock would leave it as it is.
//!
//! The directory itself is looked up by its path each time: files for large values, for locks and for the mark are opened
//! by that path, and must not be those of a store that has taken this one's place.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;
use crate::directory::{DataFile, Identity};
use crate::engine::EngineKind;
use crate::{Damage, StoreError};

/// How long a read may be answered from files that are no longer in their place, in milliseconds.
const LOOK_MILLIS: u64 = 100;

/// Longer than a tick of any clock that stamps files, and than what a file system keeps of it, in nanoseconds.
const TICK_NANOS: u64 = 50_000_000;

/// The files of an open store.
#[derive(Debug)]
pub(crate) struct InPlace {
    path: PathBuf,
    directory: Identity,
    /// The data file, and the files by which processes know of each other, as they were when this was opened. Somebody who finds none
    /// makes others, and knows nothing of this process.
    names: Vec<(PathBuf, Identity)>,
    /// LMDB's data file, for its length. (LMDB locks no byte of it, so closing this drops no lock of LMDB's.)
    mapped: Option<File>,
    /// The directory's change time for which all names were found to be right, in nanoseconds; 0 for none.
    witness: AtomicU64,
    /// When a read last looked.
    looked_millis: AtomicU64,
    /// The longest that the data file was seen to be, in bytes.
    longest_bytes: AtomicU64,
}

impl InPlace {
    /// Those of the store at `path`: its data file, and the `shared` ones that are there. (On a read-only file system
    /// nobody needs the others.)
    pub(crate) fn now(
        path: &Path,
        kind: EngineKind,
        data: DataFile,
        shared: impl Iterator<Item = PathBuf>,
    ) -> io::Result<InPlace> {
        let data_path = path.join(kind.files().data);
        let mapped = match kind {
            EngineKind::Lmdb => Some(File::open(&data_path)?),
            EngineKind::Sled => None,
        };
        let shared = shared.filter_map(|file| {
            let identity = Identity::from(&fs::symlink_metadata(&file).ok()?);
            Some((file, identity))
        });
        Ok(InPlace {
            path: path.to_path_buf(),
            directory: Identity::from(&fs::symlink_metadata(path)?),
            names: std::iter::once((data_path, data.identity)).chain(shared).collect(),
            mapped,
            witness: AtomicU64::new(0),
            looked_millis: AtomicU64::new(clock::coarse_millis()),
            longest_bytes: AtomicU64::new(data.bytes),
        })
    }

    /// Fails unless the files that are open are those at the store's path: others would not see what is written to them, or would
    /// write beside it.
    pub(crate) fn look(&self) -> Result<(), StoreError> {
        let directory = fs::symlink_metadata(&self.path).map_err(|_| self.replaced())?;
        if Identity::from(&directory) != self.directory {
            return Err(self.replaced());
        }
        let changed = changed_nanos(&directory);
        match changed.is_some_and(|changed| changed == self.witness.load(Ordering::Acquire)) {
            true => Ok(()),
            false => self.look_up(changed),
        }
    }

    /// Looks for both, names and length, but only if no read has lately: it would slow reads down.
    pub(crate) fn look_lately(&self) -> Result<(), StoreError> {
        let now = clock::coarse_millis();
        if now.wrapping_sub(self.looked_millis.load(Ordering::Relaxed)) < LOOK_MILLIS {
            return Ok(());
        }
        self.look()?;
        self.measure()?;
        self.looked_millis.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Follows each name to its file. `changed` is the directory's change time from before, which may stand for this look
    /// from now on.
    fn look_up(&self, changed: Option<u64>) -> Result<(), StoreError> {
        let now = clock::stamp_nanos();
        let is_there = |(file, opened): &(PathBuf, Identity)| {
            fs::symlink_metadata(file).is_ok_and(|found| Identity::from(&found) == *opened)
        };
        if !self.names.iter().all(is_there) {
            return Err(self.replaced());
        }
        let in_the_directory = |(file, _): &(PathBuf, Identity)| file.parent() == Some(&self.path);
        let has_passed = |changed: &u64| now.checked_sub(*changed).is_some_and(|since| since > TICK_NANOS);
        if let Some(changed) = changed.filter(has_passed).filter(|_| self.names.iter().all(in_the_directory)) {
            self.witness.store(changed, Ordering::Release);
        }
        Ok(())
    }

    /// Fails if LMDB's data file, which never gets shorter, did: what is mapped beyond its end kills the process.
    pub(crate) fn measure(&self) -> Result<(), StoreError> {
        let Some(mapped) = &self.mapped else {
            return Ok(());
        };
        // Before the look: what others see meanwhile may be longer than what is seen here.
        let needed_bytes = self.longest_bytes.load(Ordering::Acquire);
        let cannot = |source| StoreError::Io { path: self.path.clone(), action: "look at the data file", source };
        let bytes = mapped.metadata().map_err(cannot)?.len();
        if bytes < needed_bytes {
            let damage = Damage::TooShort { bytes, needed_bytes };
            return Err(StoreError::Damaged { path: self.path.clone(), damage });
        }
        self.longest_bytes.fetch_max(bytes, Ordering::Release);
        Ok(())
    }

    fn replaced(&self) -> StoreError {
        StoreError::Replaced { path: self.path.clone() }
    }
}

/// When a name in the directory last changed; `None` where it may be a whole second that is meant.
fn changed_nanos(directory: &Metadata) -> Option<u64> {
    let seconds = u64::try_from(directory.ctime()).ok()?;
    let nanos = u64::try_from(directory.ctime_nsec()).ok().filter(|nanos| *nanos != 0)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::directory;

    #[test]
    fn a_directory_that_has_come_to_rest_stands_for_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        for name in ["data.mdb", "lock.mdb"] {
            fs::write(path.join(name), name).unwrap();
        }
        let data = directory::data_file(&path, EngineKind::Lmdb).unwrap().unwrap();
        let shared = ["lock.mdb", "never-there"].map(|name| path.join(name)).into_iter();
        let files = InPlace::now(&path, EngineKind::Lmdb, data, shared).unwrap();
        files.look().unwrap();
        assert_eq!(files.witness.load(Ordering::Relaxed), 0, "its time stamp may be of this very tick");

        SystemClock.sleep(Duration::from_nanos(2 * TICK_NANOS));
        files.look().unwrap();
        let witness = files.witness.load(Ordering::Relaxed);
        assert_eq!(Some(witness), changed_nanos(&fs::symlink_metadata(&path).unwrap()));

        // Any other name makes it look again.
        fs::write(path.join("beside"), "").unwrap();
        files.look().unwrap();
        assert_ne!(Some(witness), changed_nanos(&fs::symlink_metadata(&path).unwrap()));
        fs::rename(path.join("beside"), path.join("lock.mdb")).unwrap();
        assert!(matches!(files.look(), Err(StoreError::Replaced { .. })));
    }

    #[test]
    fn what_takes_the_place_of_the_way_to_a_store_is_another_at_once() {
        let above = tempfile::tempdir().unwrap();
        let above = above.path().canonicalize().unwrap();
        let path = above.join("way/store");
        for way in ["way", "other"] {
            fs::create_dir_all(above.join(way).join("store")).unwrap();
            fs::write(above.join(way).join("store/data.mdb"), "").unwrap();
        }
        let data = directory::data_file(&path, EngineKind::Lmdb).unwrap().unwrap();
        let files = InPlace::now(&path, EngineKind::Lmdb, data, std::iter::empty()).unwrap();
        SystemClock.sleep(Duration::from_nanos(2 * TICK_NANOS));
        files.look().unwrap();
        files.look_lately().unwrap();
        fs::rename(above.join("way"), above.join("aside")).unwrap();
        assert!(matches!(files.look(), Err(StoreError::Replaced { .. })));
        fs::rename(above.join("other"), above.join("way")).unwrap();
        assert!(matches!(files.look(), Err(StoreError::Replaced { .. })));
    }

    #[test]
    fn a_shorter_file_is_seen_though_no_name_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        fs::write(path.join("data.mdb"), [0; 64]).unwrap();
        let data = directory::data_file(&path, EngineKind::Lmdb).unwrap().unwrap();
        let files = InPlace::now(&path, EngineKind::Lmdb, data, std::iter::empty()).unwrap();
        File::options().write(true).open(path.join("data.mdb")).unwrap().set_len(63).unwrap();
        let Err(StoreError::Damaged { damage, .. }) = files.measure() else { panic!("a shorter file is taken") };
        assert!(matches!(damage, Damage::TooShort { bytes: 63, needed_bytes: 64 }), "{damage:?}");
    }
}

//! Readers and the slots they take in LMDB's table of readers: given back, told of when there are none, taken from the dead.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use alluvium_disk_kv_cache::{Store, StoreError};

use crate::child::{self, TABLES, quick, say};

/// As many as the first process to open a store makes.
const SLOTS: usize = 1024;
const STACK_BYTES: usize = 64 << 10;

/// Runs `f`, which must not panic, while other threads hold a read in every slot.
fn while_every_slot_is_taken<T>(store: &Store, f: impl FnOnce() -> T) -> T {
    let (taken, done) = (Barrier::new(SLOTS + 1), Barrier::new(SLOTS + 1));
    thread::scope(|threads| {
        for _ in 0..SLOTS {
            let hold = || {
                store.read::<(), StoreError>(|_txn| {
                    taken.wait();
                    done.wait();
                    Ok(())
                })
            };
            thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(threads, move || hold().unwrap()).unwrap();
        }
        taken.wait();
        let answer = f();
        done.wait();
        answer
    })
}

fn reads(store: &Store) -> Result<u64, StoreError> {
    store.read(|txn| txn.len("a"))
}

#[test]
fn more_reads_at_once_than_there_are_slots_are_an_error_that_passes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), TABLES, quick()).unwrap();
    let (refused, written) = while_every_slot_is_taken(&store, || (reads(&store), child::increment(&store, b"sum")));
    assert!(matches!(refused, Err(StoreError::TooManyReaders { max: 1024, .. })), "{refused:?}");
    // Writes need none.
    assert_eq!(written.unwrap(), 1);
    assert_eq!(reads(&store).unwrap(), 1);
}

#[test]
fn a_read_that_panics_gives_its_slot_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), TABLES, quick()).unwrap();
    for _ in 0..SLOTS + 1 {
        let panicking = || store.read::<(), StoreError>(|_txn| resume_unwind(Box::new("on purpose")));
        catch_unwind(AssertUnwindSafe(panicking)).unwrap_err();
    }
    assert_eq!(reads(&store).unwrap(), 0);
}

/// Holds a read in every slot until it is killed.
pub fn hold_every_slot(dir: &Path) {
    let store = Store::open(dir, TABLES, quick()).unwrap();
    while_every_slot_is_taken(&store, || {
        say("reading");
        loop {
            thread::park();
        }
    });
}

#[test]
fn slots_of_killed_readers_are_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), TABLES, quick()).unwrap();
    let (mut child, mut lines) = child::start("hold-every-slot", dir.path());
    assert!(lines.any(|line| line.unwrap() == "reading"));
    let refused = reads(&store);
    assert!(matches!(refused, Err(StoreError::TooManyReaders { .. })), "{refused:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(reads(&store).unwrap(), 0);
}

#[test]
fn a_slot_of_a_read_that_is_over_keeps_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let settings = quick().with_initial_map_bytes(256 << 10).with_max_map_bytes(256 << 10);
    let store = Store::open(dir.path(), TABLES, settings).unwrap();
    while_every_slot_is_taken(&store, || ());
    // Each would have kept a version, of which there is room for a few.
    for n in 0..100 {
        store.write::<_, StoreError>(|txn| txn.put("a", b"value", &[n; 16 << 10])).unwrap();
    }
}

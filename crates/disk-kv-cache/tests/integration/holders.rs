//! Who may have a directory open at the same time.

use std::path::Path;
use std::process::{Child, Command};

use alluvium_disk_kv_cache::{Durability, EngineKind, OpenError, Store};

use crate::child::{self, TABLES, increment, say};
use crate::conformance::{open, settings};

/// Has the store open for ever.
pub fn hold(engine: EngineKind, dir: &Path) {
    let store = open(engine, dir);
    increment(&store, b"sum").unwrap();
    say("open");
    loop {
        std::thread::park();
    }
}

/// Kills the child when the test is over, however it ends.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[cfg(feature = "sled")]
#[test]
fn a_second_process_on_sled_is_told_of_the_other_engine() {
    let dir = tempfile::tempdir().unwrap();
    let (child, mut lines) = child::start("hold-sled", dir.path());
    let held = Held(child);
    assert!(lines.any(|line| line.unwrap() == "open"));
    for error in [
        Store::open(dir.path(), TABLES, settings(EngineKind::Sled)).unwrap_err(),
        Store::open_read_only(dir.path(), TABLES).unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::HeldByAnotherProcess { engine: EngineKind::Sled, .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("lmdb") && said.contains("MultiProcess"), "{said}");
    }
    drop(held);
    assert_eq!(increment(&open(EngineKind::Sled, dir.path()), b"sum").unwrap(), 2);
}

#[cfg(all(feature = "lmdb", target_os = "linux"))]
#[test]
fn containers_with_their_own_process_ids_are_kept_apart() {
    let unshare = ["unshare", "--pid", "--fork", "--kill-child"];
    if !Command::new(unshare[0]).args(&unshare[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        child::skip("making a PID namespace needs `unshare` and the rights of root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (child, mut lines) = child::start_under(&unshare, "hold-lmdb", dir.path());
    let held = Held(child);
    assert!(lines.any(|line| line.unwrap() == "open"));
    for error in [
        Store::open(dir.path(), TABLES, settings(EngineKind::Lmdb)).unwrap_err(),
        Store::open_read_only(dir.path(), TABLES).unwrap_err(),
    ] {
        assert!(matches!(error, OpenError::OtherPidNamespace { .. }), "{error:?}");
        assert!(error.to_string().contains("--pid=container"), "{error}");
    }
    drop(held);
    // The pipe ends with the last process of the namespace.
    assert_eq!(lines.map_while(Result::ok).count(), 0);
    assert_eq!(increment(&open(EngineKind::Lmdb, dir.path()), b"sum").unwrap(), 2);
}

#[cfg(feature = "lmdb")]
#[test]
fn writers_of_several_processes_agree_on_durability() {
    let dir = tempfile::tempdir().unwrap();
    let system = || settings(EngineKind::Lmdb).with_durability(Durability::System);
    increment(&Store::open(dir.path(), TABLES, system()).unwrap(), b"sum").unwrap();
    let (child, mut lines) = child::start("hold-lmdb", dir.path());
    let held = Held(child);
    assert!(lines.any(|line| line.unwrap() == "open"), "nobody holds it: it may change");
    let error = Store::open(dir.path(), TABLES, system()).unwrap_err();
    let (held_with, requested_with) = (Durability::Process, Durability::System);
    assert!(
        matches!(error, OpenError::DurabilityConflict { held, requested, .. } if (held, requested) == (held_with, requested_with)),
        "{error:?}"
    );
    assert!(error.to_string().contains("open it with Durability::Process"), "{error}");
    let reader = Store::open_read_only(dir.path(), TABLES).unwrap();
    drop(held);
    drop(reader);
    let reader = Store::open_read_only(dir.path(), TABLES).unwrap();
    drop(reader);
    assert_eq!(increment(&Store::open(dir.path(), TABLES, system()).unwrap(), b"sum").unwrap(), 3);
}

#[cfg(feature = "lmdb")]
#[test]
fn processes_of_one_namespace_share_lmdb() {
    let dir = tempfile::tempdir().unwrap();
    let (child, mut lines) = child::start("hold-lmdb", dir.path());
    let held = Held(child);
    assert!(lines.any(|line| line.unwrap() == "open"));
    assert_eq!(increment(&open(EngineKind::Lmdb, dir.path()), b"sum").unwrap(), 2);
    assert!(!dir.path().join("closed").exists(), "it is still open there");
    drop(held);
    assert_eq!(increment(&open(EngineKind::Lmdb, dir.path()), b"sum").unwrap(), 3);
    assert!(dir.path().join("closed").exists());
}

#[test]
fn an_engine_that_is_not_built_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("store");
    for engine in [EngineKind::Lmdb, EngineKind::Sled] {
        let opened = Store::open(&there, TABLES, settings(engine));
        if engine.is_built() {
            assert_eq!(opened.unwrap().engine(), engine);
            std::fs::remove_dir_all(&there).unwrap();
            continue;
        }
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::EngineNotBuilt { engine: missing, .. } if missing == engine), "{error:?}");
        assert!(error.to_string().contains(&format!("cargo feature `{engine}`")), "{error}");
    }
}

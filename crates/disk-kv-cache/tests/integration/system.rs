//! What the operating system has a say in: permissions, room, fork.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use alluvium_disk_kv_cache::{OpenError, Store, StoreError};

use crate::child::{self, TABLES, increment, quick};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_created_is_private_and_what_exists_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("some/where");
    Store::open(&dir, TABLES, quick()).unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&parent.path().join("some")), 0o700);
    assert_eq!(mode(&dir.join("data.mdb")), 0o600);
    assert_eq!(mode(&dir.join("lock.mdb")), 0o600);

    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.join("data.mdb"), fs::Permissions::from_mode(0o640)).unwrap();
    Store::open(&dir, TABLES, quick()).unwrap();
    assert_eq!(mode(&dir), 0o755);
    assert_eq!(mode(&dir.join("data.mdb")), 0o640);
}

#[test]
fn paths_that_cannot_be_a_store_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        assert!(matches!(Store::open(&path, TABLES, quick()), Err(OpenError::NotADirectory { .. })), "{path:?}");
        assert!(matches!(Store::open_read_only(&path, TABLES), Err(OpenError::NotADirectory { .. })), "{path:?}");
    }
    for path in [dir.path().join("absent"), dir.path().to_path_buf()] {
        assert!(matches!(Store::open_read_only(&path, TABLES), Err(OpenError::Absent { .. })), "{path:?}");
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["file"], "nothing was created");
}

/// Without the rights of root, which sees no refusals.
pub fn no_permission(dir: &Path) {
    // SAFETY: no pointers; this process does nothing but what follows.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setgid(65_534) | libc::setuid(65_534) }, 0);
    }
    for path in [dir.to_path_buf(), dir.join("new")] {
        let error = Store::open(&path, TABLES, quick()).unwrap_err();
        assert!(matches!(error, OpenError::PermissionDenied { .. }), "{path:?}: {error:?}");
    }
}

#[test]
fn a_directory_without_write_permission_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = parent.path().join("read-only");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).unwrap();
    child::run("no-permission", &dir);
    // Nor may it be closed to readers.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o000)).unwrap();
    child::run("no-permission", &dir);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
}

fn limit_files(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a value that outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) }, 0);
}

/// With a limit on the size of files, which the system reports much like a full device.
pub fn small_files(dir: &Path) {
    // SAFETY: the signal is ignored, so no handler runs; ignored, a write past the limit is an error.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    limit_files(32 << 10);
    let error = Store::open(dir, TABLES, quick()).unwrap_err();
    assert!(matches!(error, OpenError::NoSpace { .. }), "{error:?}");
    limit_files(256 << 10);
    let store = Store::open(dir, TABLES, quick()).unwrap();
    full_then_room(&store, || limit_files(libc::RLIM_INFINITY));
}

fn full_then_room(store: &Store, make_room: impl FnOnce()) {
    let put = |n: u32| store.write::<_, StoreError>(|txn| txn.put("a", &n.to_be_bytes(), &[1; 5_000]));
    let (stored, error) = (0..2_000).find_map(|n| put(n).err().map(|error| (n, error))).unwrap();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert!(stored > 5, "{stored}");
    let read = || {
        store.read::<_, StoreError>(|txn| {
            for n in 0..stored {
                assert_eq!(txn.get("a", &n.to_be_bytes())?, Some([1; 5_000].as_slice()));
            }
            txn.len("a")
        })
    };
    assert_eq!(read().unwrap(), u64::from(stored), "nothing is lost and nothing done by half");
    make_room();
    for n in 0..stored + 50 {
        put(n).unwrap();
    }
    assert_eq!(read().unwrap(), u64::from(stored) + 50);
}

#[test]
fn no_room_is_an_error_and_more_room_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    child::run("small-files", &dir.path().join("store"));
}

/// On a device of 2 MiB.
pub fn full_device(dir: &Path) {
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let store = Store::open(dir.join("store"), TABLES, quick()).unwrap();
    full_then_room(&store, || fs::remove_file(ballast).unwrap());
}

#[test]
#[ignore = "needs the right to mount: run it as root"]
fn a_full_device_is_an_error_and_more_room_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |program: &str, args: &[&str]| {
        assert!(std::process::Command::new(program).args(args).arg(dir.path()).status().unwrap().success());
    };
    mount("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs"]);
    let outcome = std::panic::catch_unwind(|| child::run("full-device", dir.path()));
    mount("umount", &[]);
    outcome.unwrap();
}

#[test]
fn a_forked_child_gets_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), TABLES, quick()).unwrap();
    increment(&store, b"sum").unwrap();
    // SAFETY: the child touches nothing but the store, whose refusals take no lock, allocates (glibc allows that after a
    // fork), and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let read = matches!(store.read::<_, StoreError>(|_| Ok(())), Err(StoreError::Forked { .. }));
        let write = matches!(increment(&store, b"sum"), Err(StoreError::Forked { .. }));
        drop(store);
        // SAFETY: ends the process, without running anything of the parent's.
        unsafe { libc::_exit(if read && write { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: the pointer is to a value that outlives the call.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child must have seen both refusals");
    // What the child did, dropping included, changed nothing here.
    assert_eq!(increment(&store, b"sum").unwrap(), 2);
}

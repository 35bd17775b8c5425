//! What the operating system has a say in: permissions, room, fork.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use alluvium_disk_kv_cache::{
    Cache, CacheError, CacheOptions, Clock, CollectionError, FanoutCache, OpenCacheError, OpenError, QueueSettings,
    Sharing, Store, StoreError, SystemClock, WorkQueue,
};

use crate::child::{self, TABLES, quick};

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

/// On a device with room for some pages: a store is made there, or there is no room for it; nothing in between.
pub fn brim(dir: &Path) {
    let ballast = dir.join("ballast");
    let to_the_brim = || {
        use std::io::Write;
        let mut file = fs::File::options().append(true).create(true).open(&ballast).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        file
    };
    let mut made = 0;
    for pages in 0..48 {
        let there = dir.join("store");
        let file = to_the_brim();
        file.set_len(file.metadata().unwrap().len() - pages * 4096).unwrap();
        drop(file);
        match Store::open(&there, TABLES, quick()) {
            Ok(store) => {
                let file = to_the_brim();
                made += 1;
                if made % 8 == 1 {
                    readers_at_once(&store, 140);
                }
                // Room for a part of what follows, so that a write is cut short.
                file.set_len(file.metadata().unwrap().len() - 3 * 4096).unwrap();
                drop(file);
                let put = |n: u32| store.write::<_, StoreError>(|txn| txn.put("a", &n.to_be_bytes(), &[1; 30_000]));
                let error = (0..1_000).find_map(|n| put(n).err()).unwrap();
                assert!(matches!(error, StoreError::NoSpace { .. }), "{pages} pages: {error:?}");
            }
            Err(error) => assert!(matches!(error, OpenError::NoSpace { .. }), "{pages} pages: {error:?}"),
        }
        fs::remove_file(&ballast).unwrap();
        let store = Store::open(&there, TABLES, quick()).unwrap_or_else(|error| panic!("{pages} pages: {error:?}"));
        assert_eq!(child::increment(&store, b"sum").unwrap(), 1);
        store.check().unwrap();
        drop(store);
        fs::remove_dir_all(there).unwrap();
    }
    assert!((8..40).contains(&made), "{made}");
}

/// So many that they take several pages of LMDB's table of readers.
fn readers_at_once(store: &Store, readers: usize) {
    let barrier = std::sync::Barrier::new(readers);
    std::thread::scope(|threads| {
        for _ in 0..readers {
            threads.spawn(|| {
                store.read::<_, StoreError>(|txn| {
                    barrier.wait();
                    txn.len("a")
                })
            });
        }
    });
}

#[test]
fn a_store_is_made_or_not_on_a_device_that_fills_up() {
    on_small_device("1m", &["brim"]);
}

#[cfg(target_os = "linux")]
#[test]
fn the_lock_file_is_no_hole_and_has_a_slot_for_each_reader() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    // As another program may have made it.
    for bytes in [None, Some(0), Some(8_192), Some(100_000)] {
        let lock = dir.path().join("lock.mdb");
        if let Some(bytes) = bytes {
            fs::remove_file(&lock).unwrap();
            fs::File::create(&lock).unwrap().set_len(bytes).unwrap();
        }
        let store = Store::open(dir.path(), TABLES, quick()).unwrap();
        let found = fs::metadata(&lock).unwrap();
        assert!(found.blocks() * 512 >= 65_664 && found.len() >= 65_664, "{bytes:?}: {found:?}");
        readers_at_once(&store, 200);
    }
}

/// On a device that is mounted for reading only.
pub fn read_only_media(dir: &Path) {
    let read = |cache: Cache| {
        assert_eq!(cache.get("key").unwrap().unwrap(), vec![7; 50_000]);
        assert_eq!(cache.check(false).unwrap(), []);
        let refused = cache.check(true);
        assert!(matches!(refused, Err(CacheError::Store(StoreError::ReadOnly { .. }))), "{refused:?}");
    };
    let options = CacheOptions::new();
    read(options.open_read_only(dir.join("cache")).unwrap());
    let fanout = FanoutCache::open_read_only(dir.join("fanout"), &options).unwrap();
    assert_eq!(fanout.get("key").unwrap().unwrap(), b"value");
    read(fanout.cache("sub").unwrap());
    assert_eq!(fanout.deque::<Vec<u8>>("deque").unwrap().to_vec().unwrap(), [b"item".to_vec()]);
    assert_eq!(fanout.index::<String, Vec<u8>>("index").unwrap().len().unwrap(), 1);
    let queue = WorkQueue::<Vec<u8>>::open_read_only(dir.join("queue"), QueueSettings::new()).unwrap();
    assert_eq!(queue.stats().unwrap().ready, 1);
    let leased = queue.lease(Duration::from_secs(1));
    assert!(matches!(leased, Err(CollectionError::Store(StoreError::ReadOnly { .. }))), "{leased:?}");
    let refused = options.open(dir.join("fanout/000"));
    assert!(matches!(
        refused,
        Err(OpenCacheError::Store(OpenError::SettingsConflict { .. } | OpenError::OpenForReading { .. }))
    ));
    drop(fanout);
    for refused in [Cache::open(dir.join("cache")).map(drop), FanoutCache::open(dir.join("fanout")).map(drop)] {
        let Err(OpenCacheError::Store(error @ OpenError::PermissionDenied { .. })) = refused else {
            panic!("{refused:?}")
        };
        assert!(error.to_string().contains("open it for reading only"), "{error}");
    }
}

#[test]
fn media_for_reading_only_are_read_and_checked() {
    let Some(device) = Mounted::new(&["-t", "tmpfs", "tmpfs"]) else {
        return;
    };
    let dir = device.path();
    let fill = |cache: &Cache| cache.set("key", &[7; 50_000]).unwrap();
    let cache = Cache::open(dir.join("cache")).unwrap();
    fill(&cache);
    let fanout = FanoutCache::open(dir.join("fanout")).unwrap();
    fanout.set("key", b"value").unwrap();
    fill(&fanout.cache("sub").unwrap());
    fanout.deque("deque").unwrap().push_back(&b"item".to_vec()).unwrap();
    fanout.index("index").unwrap().insert(&"key".to_owned(), &b"value".to_vec()).unwrap();
    WorkQueue::open(dir.join("queue"), QueueSettings::new()).unwrap().put(&b"job".to_vec()).unwrap();
    drop((cache, fanout));
    // Most were closed well; this one is suspect.
    fs::remove_file(dir.join("fanout/003/closed")).unwrap();
    device.remount("ro");
    child::run("read-only-media", dir);
    device.remount("rw");
    // As a container has it, that may not write; this process may.
    let _cache = Cache::open(dir.join("cache")).unwrap();
    let view = Mounted::new(&["-o", "bind,ro", dir.to_str().unwrap()]).unwrap();
    child::run("read-only-view", view.path());
}

/// Where others can write, and would not know of a reader.
pub fn read_only_view(dir: &Path) {
    let refused = CacheOptions::new().open_read_only(dir.join("cache"));
    assert!(matches!(refused, Err(OpenCacheError::Store(OpenError::ReadOnlyMount { .. }))), "{refused:?}");
    assert!(CacheOptions::new().open_read_only(dir.join("fanout/000")).is_ok(), "which nobody has open");
}

fn open_sled(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir.join("store"), TABLES, quick().with_sharing(Sharing::SingleProcess))
}

fn put_in_sled(store: &Store, n: u32) -> Result<(), StoreError> {
    store.write(|txn| txn.put("a", &n.to_be_bytes(), &[n as u8; 20_000]))
}

/// sled is done for, in this process, after it has met a full device.
pub fn full_device_of_sled(dir: &Path) {
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    let store = open_sled(dir).unwrap();
    let (stored, error) = (0..2_000).find_map(|n| put_in_sled(&store, n).err().map(|error| (n, error))).unwrap();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert!(matches!(put_in_sled(&store, stored), Err(StoreError::Broken { .. })));
    fs::remove_file(ballast).unwrap();
    drop(store);
    let again = open_sled(dir);
    assert!(matches!(again, Err(OpenError::Broken { .. })), "{again:?}");
    assert!(!dir.join("store/closed").exists(), "it was not closed well");
    fs::write(dir.join("stored"), stored.to_string()).unwrap();
}

/// Another process finds what was acknowledged, and has room for more.
pub fn after_full_device_of_sled(dir: &Path) {
    let stored: u32 = fs::read_to_string(dir.join("stored")).unwrap().parse().unwrap();
    let store = open_sled(dir).unwrap();
    (stored..stored + 20).for_each(|n| put_in_sled(&store, n).unwrap());
    store.check().unwrap();
    for n in 0..stored + 20 {
        let intact = store.read::<_, StoreError>(|txn| Ok(txn.get("a", &n.to_be_bytes())? == Some(&[n as u8; 20_000])));
        assert!(intact.unwrap(), "{n} of {stored}");
    }
}

/// A directory that something is mounted on, until this is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None` without the rights of root, which is said.
    fn new(args: &[&str]) -> Option<Mounted> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(args).arg(dir.path()).status().is_ok_and(|status| status.success());
        if !mounted {
            child::skip("mounting needs the rights of root");
        }
        mounted.then_some(Mounted(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, how: &str) {
        let done = || {
            let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.path()).status();
            status.unwrap().success()
        };
        // A child that another test forks meanwhile has what is open here open too, until it ends.
        let tried = (0..50).any(|_| {
            let done = done();
            if !done {
                SystemClock.sleep(Duration::from_millis(100));
            }
            done
        });
        assert!(tried, "remount,{how}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever still has a file open there.
        assert!(Command::new("umount").arg("--lazy").arg(self.path()).status().unwrap().success());
    }
}

/// Runs children, one after the other, on a device of so many bytes, if this process may mount one.
fn on_small_device(size: &str, roles: &[&str]) {
    if let Some(device) = Mounted::new(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]) {
        roles.iter().for_each(|role| child::run(role, device.path()));
    }
}

#[test]
fn a_full_device_is_an_error_and_more_room_ends_it() {
    on_small_device("2m", &["full-device"]);
}

#[cfg(feature = "sled")]
#[test]
fn a_full_device_is_an_error_of_sled_and_another_process_goes_on() {
    on_small_device("6m", &["full-device-sled", "after-full-device-sled"]);
}

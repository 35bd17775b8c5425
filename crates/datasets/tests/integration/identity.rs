//! What moves a pin and what does not, and what is read to find out.

use std::fs::{File, FileTimes};
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{ContentDigest, SourceFormat, SourcePath, SourceSpec};
use alluvium_datasets::{Change, Dataset, FileStamp, PinError, Pinner, hash_file};
use alluvium_telemetry::Seam;
use arrow::array::Int64Array;

use crate::support::{Project, parquet, sorted, source, with_options};

/// Rewrites a file at its size, and sets its modification time back.
fn rewrite_in_secret(path: &Path, content: &[u8]) {
    let before = std::fs::metadata(path).unwrap();
    assert_eq!(before.len(), content.len() as u64);
    let stamp = FileStamp::of(path).unwrap();
    // Until the kernel's clock has ticked, even `ctime` is the same.
    while FileStamp::of(path).unwrap().changed_ns == stamp.changed_ns {
        std::fs::write(path, content).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
    }
    let after = FileStamp::of(path).unwrap();
    assert_eq!((after.modified_ns, after.size_bytes, after.inode), (stamp.modified_ns, stamp.size_bytes, stamp.inode));
}

fn ints(values: &[i64]) -> Vec<u8> {
    parquet(&[("a", Arc::new(Int64Array::from(values.to_vec())))])
}

#[tokio::test]
async fn a_second_pin_reads_no_byte_of_data() {
    for (format, content) in [
        (SourceFormat::Csv, b"a,b\n1,x\n".to_vec()),
        (SourceFormat::Json, b"{\"a\":1}\n".to_vec()),
        (SourceFormat::Parquet, ints(&[1, 2])),
    ] {
        let mut project = Project::new();
        let file = project.write("one", &content);
        let bytes = std::fs::metadata(file).unwrap().len();
        project.write("two", &content);
        let first = project.pin(&source(format, "*")).await;
        let counters = project.pinner.counters();
        assert_eq!((counters.files_hashed, counters.bytes_hashed, counters.schemas_inferred), (2, 2 * bytes, 1));
        assert!(project.store.reads() > 0, "inference reads through the session's store");

        project.restart();
        let second = project.pin(&source(format, "*")).await;
        assert_eq!(project.pinner.counters(), Default::default(), "{format:?}");
        assert_eq!((project.store.reads(), project.store.lists()), (0, 0), "{format:?}");
        assert_eq!((second.digest(), second.components()), (first.digest(), first.components()));
        assert_eq!(second.schema(), first.schema());
        second.recheck().unwrap();
        assert_eq!(project.pinner.counters().files_hashed, 0);

        // A scan reads, and lists nothing.
        project.query(&second, "select count(a) from t").await;
        assert!(project.store.reads() > 0);
        assert_eq!(project.store.lists(), 0);
    }
}

#[tokio::test]
async fn young_files_are_neither_remembered_nor_believed() {
    let mut project = Project::new();
    let path = project.write("a.csv", "a\n1\n");
    let stamp = FileStamp::of(&path).unwrap();
    let csv = source(SourceFormat::Csv, "a.csv");
    let second = 1_000_000_000;

    // Young: hashed each time, and its schema is not remembered either.
    for now in [stamp.changed_ns, stamp.changed_ns + 2 * second - 1, stamp.changed_ns - 10 * second] {
        project.restart();
        project.clock.set(now);
        let pinned = project.pin(&csv).await;
        let counters = project.pinner.counters();
        // Once to pin, and once more because the schema came from bytes that the stamp cannot vouch for.
        assert_eq!((counters.files_hashed, counters.schemas_inferred), (2, 1));
        pinned.recheck().unwrap();
        assert_eq!(project.pinner.counters().files_hashed, 3);
    }
    // Old enough: hashed once more, then remembered.
    project.restart();
    project.clock.set(stamp.changed_ns + 2 * second);
    project.pin(&csv).await;
    assert_eq!(project.pinner.counters().files_hashed, 1);
    project.restart();
    project.pin(&csv).await.recheck().unwrap();
    assert_eq!(project.pinner.counters().files_hashed, 0);
    // Remembered, but the clock has been set back: not believed.
    project.restart();
    project.clock.set(stamp.changed_ns + second);
    project.pin(&csv).await;
    assert_eq!(project.pinner.counters().files_hashed, 1);
}

#[tokio::test]
async fn a_secret_rewrite_is_noticed_by_its_change_time() {
    let mut project = Project::new();
    // Two files of one size whose footers differ, so that a stale footer could not be read as the new file.
    let (before, after) = (b"a\n1\n", b"b\n2\n");
    let path = project.write("a.csv", before);
    let csv = source(SourceFormat::Csv, "a.csv");
    let first = project.pin(&csv).await;
    rewrite_in_secret(&path, after);
    assert!(matches!(first.recheck().unwrap_err().change, Change::Touched));
    for _ in 0..2 {
        let second = project.pin(&csv).await;
        assert_ne!(second.digest(), first.digest());
        assert_eq!(second.components()["file a.csv"], ContentDigest::of(after).to_string());
        assert_eq!(second.components()["schema"], "b: Int64");
        project.restart();
    }
}

#[tokio::test]
async fn the_engines_footer_cache_does_not_outlive_a_secret_rewrite() {
    let project = Project::new();
    let (before, after) = (ints(&[1, 2, 3]), parquet(&[("b", Arc::new(Int64Array::from(vec![7, 8, 9])))]));
    let path = project.write("a.parquet", &before);
    let parquet = source(SourceFormat::Parquet, "a.parquet");
    let first = project.pin(&parquet).await;
    assert_eq!(project.query(&first, "select sum(a) as s from t").await.lines().nth(3), Some("| 6 |"));
    rewrite_in_secret(&path, &after);
    // The same session, whose cache knows the file by path, size and modification time.
    let second = project.pin(&parquet).await;
    assert_eq!(second.components()["schema"], "b: Int64");
    assert_eq!(project.query(&second, "select sum(b) as s from t").await.lines().nth(3), Some("| 24 |"));
}

#[tokio::test]
async fn recheck_names_the_file_and_what_changed() {
    let project = Project::new();
    let path = project.write("a.csv", "a\n1\n");
    project.write("b.csv", "a\n2\n");
    let csv = source(SourceFormat::Csv, "*.csv");

    let pinned = project.pin(&csv).await;
    pinned.recheck().unwrap();
    project.write("c.csv", "a\n3\n");
    pinned.recheck().unwrap();

    std::fs::write(&path, "a\n1\n2\n").unwrap();
    let error = pinned.recheck().unwrap_err();
    assert_eq!(error.path, path.canonicalize().unwrap());
    assert!(matches!(error.change, Change::Size { was_bytes: 4, is_bytes: 6 }), "{error}");
    assert!(error.to_string().contains("a.csv had 4 bytes and now has 6"), "{error}");

    let pinned = project.pin(&csv).await;
    std::fs::rename(project.data().join("b.csv"), &path).unwrap();
    assert!(matches!(pinned.recheck().unwrap_err().change, Change::Replaced));

    let pinned = project.pin(&csv).await;
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(pinned.recheck().unwrap_err().change, Change::Gone { .. }));
}

/// Young when pinned, and rewritten within one tick of the clock: the stamps are equal, the bytes are not.
#[tokio::test]
async fn recheck_hashes_what_was_young() {
    let project = Project::new();
    let path = project.write("a.csv", "a\n1\n");
    for attempt in 0.. {
        let stamp = FileStamp::of(&path).unwrap();
        project.clock.set(stamp.changed_ns);
        // Pinned on a thread that is as quick as it can be: the kernel's clock ticks every few milliseconds.
        let spec = Dataset::of_source("t", &source(SourceFormat::Csv, "a.csv"), &project.data()).unwrap();
        std::fs::write(&path, "a\n1\n").unwrap();
        let pinned = project.pinner.pin(&project.ctx, &spec).await.unwrap();
        let before = FileStamp::of(&path).unwrap();
        std::fs::write(&path, "a\n2\n").unwrap();
        let unseen = FileStamp::of(&path).unwrap() == before;
        let change = pinned.recheck().unwrap_err().change;
        assert!(matches!((unseen, &change), (true, Change::Content { .. }) | (false, Change::Touched)), "{change:?}");
        if unseen {
            break;
        }
        if attempt == 2_000 {
            // A file system whose clock never repeats itself has nothing to show here.
            break;
        }
    }
}

#[tokio::test]
async fn places_names_and_touches_do_not_move_the_pin() {
    let project = Project::new();
    let csv = |path: &str| source(SourceFormat::Csv, path);
    project.write("d/a.csv", "a\n1\n");
    project.write("d/b.csv", "a\n2\n");
    let first = project.pin(&csv("d")).await;

    // Renamed so that their order turns round.
    std::fs::rename(project.data().join("d/a.csv"), project.data().join("d/z.csv")).unwrap();
    assert_eq!(project.pin(&csv("d/*.csv")).await.digest(), first.digest());
    // Moved.
    std::fs::rename(project.data().join("d"), project.data().join("elsewhere")).unwrap();
    let moved = project.pin(&csv("elsewhere")).await;
    assert_eq!(moved.digest(), first.digest());
    let names: Vec<_> = moved.components().keys().filter(|name| name.starts_with("file")).collect();
    assert_eq!(names, ["file b.csv", "file z.csv"]);
    // Touched.
    let file = File::options().write(true).open(project.data().join("elsewhere/b.csv")).unwrap();
    file.set_times(FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
    assert_eq!(project.pin(&csv("elsewhere")).await.digest(), first.digest());
    // As a list, in another order, named twice; by another project, under another name, without a memo.
    let list = ["elsewhere/z.csv", "elsewhere/b.csv", "elsewhere/../elsewhere/z.csv"].map(str::to_owned);
    let many = SourceSpec { path: SourcePath::Many(list.to_vec()), ..csv("") };
    let pinned = project.pin(&many).await;
    assert_eq!((pinned.digest(), pinned.file_count()), (first.digest(), 2));
    let spec = Dataset::of_source("other", &csv("."), &project.data().join("elsewhere")).unwrap();
    let other = Pinner::new(None, Seam::system()).pin(&Project::new().ctx, &spec).await.unwrap();
    assert_eq!((other.digest(), other.components()), (first.digest(), moved.components()));
}

#[tokio::test]
async fn content_and_the_way_of_reading_move_the_pin() {
    let project = Project::new();
    project.write("d/a.csv", "a\n1\n");
    let csv = |options: &[(&str, &str)]| with_options(SourceFormat::Csv, "d", options);
    let mut seen = vec![project.pin(&csv(&[])).await];
    let mut moved = async |what: &str, source: &SourceSpec| {
        let pinned = project.pin(source).await;
        assert!(seen.iter().all(|one| one.digest() != pinned.digest()), "{what}");
        assert!(seen.iter().all(|one| one.components() != pinned.components()), "{what}");
        seen.push(pinned);
    };
    for option in [
        ("comment", "#"),
        ("delimiter", ";"),
        ("escape", "\\"),
        ("has_header", "false"),
        ("null_regex", "^NA$"),
        ("quote", "'"),
        ("schema_infer_max_rec", "7"),
        ("truncated_rows", "true"),
    ] {
        moved(option.0, &csv(&[option])).await;
    }
    project.write("d/b.csv", "a\n2\n");
    moved("a file more", &csv(&[])).await;
    project.write("d/b.csv", "a\n1\n");
    moved("the same file twice is not once", &csv(&[])).await;
    std::fs::remove_file(project.data().join("d/b.csv")).unwrap();
    project.write("d/a.csv", "b\n1\n");
    moved("the schema", &csv(&[])).await;

    // The defaults written out are the defaults.
    let defaults = [("delimiter", ","), ("has_header", "true"), ("compression", "uncompressed")];
    assert_eq!(project.pin(&csv(&defaults)).await.digest(), project.pin(&csv(&[])).await.digest());
}

#[tokio::test]
async fn one_content_read_as_two_formats_has_two_pins() {
    let project = Project::new();
    project.write("a", "{\"a\": 1}\n{\"a\": 2}\n");
    let json = project.pin(&source(SourceFormat::Json, "a")).await;
    let csv = project.pin(&source(SourceFormat::Csv, "a")).await;
    assert_ne!(json.digest(), csv.digest());
    assert_eq!(json.components()["file a"], csv.components()["file a"]);
    assert_eq!((&*json.components()["format"], &*csv.components()["format"]), ("json", "csv"));
}

/// The schema has to come from the bytes that were hashed.
#[tokio::test]
async fn a_file_that_changes_between_hashing_and_inference_is_pinned_anew() {
    let mut project = Project::new();
    let path = project.write("a.csv", "a\n1\n");
    let csv = source(SourceFormat::Csv, "a.csv");
    let (rewritten, mut writes) = (path.clone(), 0);
    project.store.before_read(move || {
        if writes == 0 {
            rewrite_in_secret(&rewritten, b"b\nx\n");
        }
        writes += 1;
    });
    let pinned = project.pin(&csv).await;
    assert_eq!(pinned.components()["file a.csv"], ContentDigest::of(b"b\nx\n").to_string());
    assert_eq!(pinned.components()["schema"], "b: Utf8");
    pinned.recheck().unwrap();

    // What was inferred in vain was not remembered.
    project.restart();
    project.write("a.csv", "a\n1\n");
    assert_eq!(project.pin(&csv).await.components()["schema"], "a: Int64");

    // It never stops.
    project.write("a.csv", "c\n1\n");
    let mut writes = 0;
    project.store.before_read(move || {
        writes += 1;
        std::fs::write(&path, format!("c\n{writes:05}\n")).unwrap();
    });
    let error = project.try_pin(&csv).await.unwrap_err();
    assert!(matches!(error, PinError::Changing { .. }), "{error}");
}

#[tokio::test]
async fn a_scan_reads_the_pinned_list() {
    let project = Project::new();
    project.write("a.csv", "a\n1\n");
    let pinned = project.pin(&source(SourceFormat::Csv, "*.csv")).await;
    project.write("b.csv", "a\n2\n");
    assert_eq!(sorted(&project.query(&pinned, "select * from t").await), "| a |\n| 1 |");
}

/// The memo's store is read-only here, which fails every write to it.
#[tokio::test]
async fn a_failing_memo_is_counted_and_done_without() {
    let project = Project::new();
    project.write("a.csv", "a\n1\n");
    let dir = project.dir.path().join("other-kv");
    drop(crate::support::memo(&dir));
    let store = alluvium_disk_kv_cache::Store::open_read_only(&dir, &["pins", "schemas"]).unwrap();
    let memo = alluvium_datasets::PinMemo::new(store.clone(), store);
    let pinner = Pinner::new(Some(memo), crate::support::seam(&project.clock));
    let spec = Dataset::of_source("t", &source(SourceFormat::Csv, "a.csv"), &project.data()).unwrap();
    let pinned = pinner.pin(&project.ctx, &spec).await.unwrap();
    assert_eq!(pinner.counters().memo_failures, 2);
    assert_eq!(pinned.digest(), project.pin(&source(SourceFormat::Csv, "a.csv")).await.digest());
}

/// A memo that says something else of a file's schema would be believed: so its key has to hold all that decides it.
#[tokio::test]
async fn a_remembered_schema_is_that_of_the_same_files_options_and_order() {
    let project = Project::new();
    project.write("a.parquet", ints(&[1]));
    project.write("b.parquet", parquet(&[("b", Arc::new(Int64Array::from(vec![1])))]));
    let list = |names: [&str; 2]| SourceSpec {
        path: SourcePath::Many(names.map(str::to_owned).to_vec()),
        ..source(SourceFormat::Parquet, "")
    };
    let one = project.pin(&list(["a.parquet", "b.parquet"])).await;
    let other = project.pin(&list(["b.parquet", "a.parquet"])).await;
    assert_eq!(one.components()["schema"], "a: Int64, b: Int64");
    assert_eq!(other.components()["schema"], "b: Int64, a: Int64");
    assert_ne!(one.digest(), other.digest());
}

/// Every stamp is as it was when the run ends; but what the scan opened was another file.
#[tokio::test]
async fn a_directory_exchanged_under_a_scan_and_put_back_is_noticed() {
    let project = Project::new();
    for (name, content) in [("d/a.csv", "a\n1\n"), ("other/a.csv", "a\n2\n")] {
        project.write(name, content);
    }
    let (data, csv) = (project.data(), source(SourceFormat::Csv, "d/a.csv"));
    let [there, other, aside] = ["d", "other", "aside"].map(|name| data.join(name));
    let parquet = source(SourceFormat::Parquet, "d/a.parquet");
    project.write("d/a.parquet", ints(&[1]));
    project.write("other/a.parquet", ints(&[2]));
    for (source, sql) in [(&csv, "select sum(a) as s from t"), (&parquet, "select sum(a) as s from t")] {
        let pinned = project.pin(source).await;
        std::fs::rename(&there, &aside).unwrap();
        std::fs::rename(&other, &there).unwrap();
        let read = project.query(&pinned, sql).await;
        std::fs::rename(&there, &other).unwrap();
        std::fs::rename(&aside, &there).unwrap();
        assert_eq!(read.lines().nth(3), Some("| 2 |"), "the engine reads by path");
        assert!(matches!(pinned.recheck().unwrap_err().change, Change::Replaced));
        // Pinned anew, it is read as it is.
        let again = project.pin(source).await;
        assert_eq!(project.query(&again, sql).await.lines().nth(3), Some("| 1 |"));
        again.recheck().unwrap();
    }
}

/// A page that was dirty when the file was hashed can be written again without moving either time.
#[test]
fn a_write_through_an_old_memory_map_moves_the_stamp() {
    use std::os::fd::AsRawFd as _;
    // Not in the system's temporary directory, which may be in memory: there nothing is ever written back.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("a");
    std::fs::write(&path, [0_u8; 4096]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: a new mapping of an open file, as long as the file.
    let page =
        unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    assert_ne!(page, libc::MAP_FAILED);
    let write = |byte: u8| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        // SAFETY: the mapping is one page and lives until the end of the test.
        unsafe { page.cast::<u8>().write_volatile(byte) };
    };
    write(1);
    let (before, stamp) = hash_file(&path).unwrap();
    write(2);
    let now = FileStamp::of(&path).unwrap();
    assert_ne!(now, stamp);
    assert_ne!(hash_file(&path).unwrap().0, before);
    // SAFETY: mapped above, and not used again.
    unsafe { libc::munmap(page, 4096) };
}

//! Value files: what comes back, what is found damaged, what a sweep takes, and hostile directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn files() -> (tempfile::TempDir, Arc<ValueFiles>) {
    let dir = tempfile::tempdir().unwrap();
    let files = ValueFiles::new(dir.path(), true);
    (dir, files)
}

fn store(files: &Arc<ValueFiles>, value: &[u8]) -> FileRef {
    let new = files.create(&mut &*value).unwrap();
    let reference = new.reference();
    new.keep();
    reference
}

fn read(files: &ValueFiles, reference: FileRef) -> Result<Vec<u8>, ReadError> {
    files.open(reference)?.read_all()
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn sweep(files: &ValueFiles, remove: bool, kept: &[FileRef]) -> Vec<String> {
    let kept: HashSet<FileName> = kept.iter().map(|kept| kept.name).collect();
    files.sweep::<io::Error>(remove, |_| true, |_| Ok(kept.clone())).unwrap()
}

#[test]
fn values_of_every_length_come_back() {
    let (_dir, files) = files();
    for bytes in [0, 1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 5] {
        let value = pattern(bytes);
        let reference = store(&files, &value);
        assert_eq!(reference.bytes, bytes as u64);
        assert_eq!(read(&files, reference).unwrap(), value);
        files.look_at(reference).unwrap();
        let mut streamed = Vec::new();
        files.open(reference).unwrap().read_to_end(&mut streamed).unwrap();
        assert_eq!(streamed, value);
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let (_dir, files) = files();
    let value = pattern(BLOCK + 100);
    let reference = store(&files, &value);
    let path = files.path.join(reference.name.to_string());
    let sound = fs::read(&path).unwrap();
    for at in [0, 1_000, BLOCK - 1, BLOCK, BLOCK + SUM, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(read(&files, reference), Err(ReadError::Damaged)), "{at}");
        let mut streamed = Vec::new();
        let error = files.open(reference).unwrap().read_to_end(&mut streamed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(value.starts_with(&streamed), "only what is right was lent");
    }
    for bytes in [0, 5, BLOCK, BLOCK + SUM, sound.len() - 1] {
        fs::write(&path, &sound[..bytes]).unwrap();
        assert!(matches!(read(&files, reference), Err(ReadError::Damaged)), "{bytes}");
        assert!(matches!(files.look_at(reference), Err(ReadError::Damaged)));
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(read(&files, reference), Err(ReadError::Missing)));
    assert!(matches!(files.look_at(reference), Err(ReadError::Missing)));
}

#[test]
fn blocks_of_another_place_or_file_are_not_taken() {
    let (_dir, files) = files();
    let one = store(&files, &[1; 2 * BLOCK]);
    let two = store(&files, &[1; 2 * BLOCK]);
    let path = |file: FileRef| files.path.join(file.name.to_string());
    fs::copy(path(one), path(two)).unwrap();
    assert!(matches!(read(&files, two), Err(ReadError::Damaged)));
    let mut bytes = fs::read(path(one)).unwrap();
    bytes.rotate_left(BLOCK + SUM);
    fs::write(path(one), bytes).unwrap();
    assert!(matches!(read(&files, one), Err(ReadError::Damaged)));
}

#[test]
fn a_sweep_takes_what_is_neither_referred_to_nor_held() {
    let (_dir, files) = files();
    let kept = store(&files, b"kept");
    let lost = store(&files, b"lost");
    let held = files.create(&mut b"held".as_slice()).unwrap();
    let temporary = format!("{}{TEMPORARY}", FileName::new());
    fs::write(files.path.join(&temporary), b"cut off").unwrap();
    fs::write(files.path.join("README"), b"not ours").unwrap();

    let mut found = sweep(&files, false, &[kept]);
    found.sort();
    let mut expected = vec![lost.name.to_string(), temporary];
    expected.sort();
    assert_eq!(found, expected);
    assert_eq!(sweep(&files, true, &[kept]).len(), 2);
    assert_eq!(sweep(&files, true, &[kept]), [""; 0]);
    assert_eq!(read(&files, held.reference()).unwrap(), b"held");
    let reference = held.reference();
    drop(held);
    assert!(matches!(read(&files, reference), Err(ReadError::Missing)), "a file that was not kept goes");
    assert!(files.path.join("README").exists());
}

#[test]
fn a_file_committed_while_the_sweep_looks_stays() {
    let (_dir, files) = files();
    let late = store(&files, b"late");
    let asked = AtomicU64::new(0);
    let referred = |_: &[FileName]| {
        let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(if first { HashSet::new() } else { HashSet::from([late.name]) })
    };
    let orphans = files.sweep::<io::Error>(true, |_| true, referred);
    assert_eq!(orphans.unwrap(), [""; 0]);
    assert_eq!(read(&files, late).unwrap(), b"late");
}

#[test]
fn a_reader_that_fails_leaves_no_file() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("on purpose"))
        }
    }
    let (_dir, files) = files();
    let error = files.create(&mut pattern(BLOCK).chain(Failing)).map(|_| ()).unwrap_err();
    assert!(matches!(error, WriteError::Source(_)));
    assert_eq!(fs::read_dir(&files.path).unwrap().count(), 0);
}

#[test]
fn what_is_made_is_private() {
    let (_dir, files) = files();
    let reference = store(&files, b"value");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&files.path), 0o700);
    assert_eq!(mode(&files.path.join(reference.name.to_string())), 0o600);
}

#[test]
fn links_are_not_followed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join(FileName::new().to_string());
    fs::write(&victim, b"precious").unwrap();

    // The directory itself.
    let (dir, linked) = files();
    symlink(elsewhere.path(), dir.path().join(VALUES)).unwrap();
    assert!(linked.create(&mut b"value".as_slice()).is_err());
    assert!(linked.sweep::<io::Error>(true, |_| true, |_| Ok(HashSet::new())).is_err());

    // A file in it.
    let (_dir, files) = files();
    let reference = store(&files, b"precious");
    let path = files.path.join(reference.name.to_string());
    fs::remove_file(&path).unwrap();
    symlink(&victim, &path).unwrap();
    assert!(matches!(read(&files, reference), Err(ReadError::Damaged)));
    // Not even to the very bytes that would be right.
    let sound = store(&files, b"precious");
    let moved = elsewhere.path().join("moved");
    let linked = files.path.join(sound.name.to_string());
    fs::rename(&linked, &moved).unwrap();
    symlink(&moved, &linked).unwrap();
    assert!(matches!(read(&files, sound), Err(ReadError::Damaged)));
    assert_eq!(sweep(&files, true, &[]).len(), 2);
    assert!(moved.exists());
    assert!(path.symlink_metadata().is_err(), "the link goes");
    // A FIFO is not waited for.
    rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
    assert!(matches!(read(&files, reference), Err(ReadError::Damaged)));
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_directory_in_the_place_of_a_file_is_cleared_away_and_what_it_holds_is_kept() {
    let (_dir, files) = files();
    let reference = store(&files, b"value");
    let name = reference.name.to_string();
    let path = files.path.join(&name);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(read(&files, reference), Err(ReadError::Damaged)));
    assert_eq!(sweep(&files, false, &[]), [name.as_str()]);
    assert_eq!(sweep(&files, true, &[]), [name.as_str()]);
    assert_eq!(fs::read_dir(&files.path).unwrap().count(), 0);
    for n in 1..=2 {
        fs::create_dir(&path).unwrap();
        fs::write(path.join("precious"), [n]).unwrap();
        assert_eq!(sweep(&files, true, &[]), [name.as_str()]);
        assert_eq!(sweep(&files, true, &[]), [""; 0], "it is no file of ours any more");
        assert_eq!(fs::read(files.path.join(format!("{name}.other-{n}/precious"))).unwrap(), [n]);
    }
}

//! Whether a store was closed well, and nobody has touched it since.
//!
//! Whoever closes a store last writes the file `closed` beside it: the boot of the machine, or that all is synced to the
//! device; inode, length, mtime and ctime of the data file; and the number of commits, so that an engine which finds an
//! earlier state in its files is found out. A store that nobody has open is *clean* if its data file
//! is still what the mark says, and if either all was synced or the machine has not booted since. Every other store is
//! suspect and is examined before anything in it is served: after a power cut or a kill of its last process, when it was
//! copied or edited, and when there is no mark.
//!
//! Times of files move in steps of some milliseconds, so a change right after the mark could leave them as they are.
//! Therefore the mark sets the mtime back by a second first: any write after it sets it to another value.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::directory;
use crate::engine::EngineKind;

const FILE: &str = "closed";
const NEW_FILE: &str = "closed.new";
/// Instead of the boot.
const SYNCED: &str = "synced";
const FORMAT: &str = "alluvium-disk-kv-cache closed 1";

/// Whether the store is clean. Anything that is not known for sure is a no.
pub(crate) fn is_clean(dir: &Path, kind: EngineKind) -> bool {
    is_synced(dir, kind) || boot().is_some_and(|boot| is_marked(dir, kind, &boot))
}

/// Whether the store is clean, and all of it is on the device.
pub(crate) fn is_synced(dir: &Path, kind: EngineKind) -> bool {
    is_marked(dir, kind, SYNCED)
}

fn is_marked(dir: &Path, kind: EngineKind, with: &str) -> bool {
    let (Ok(data), Some(commits)) = (fs::symlink_metadata(dir.join(kind.files().data)), commits(dir)) else {
        return false;
    };
    read(dir).is_some_and(|mark| mark == text(&data, commits, with))
}

/// The number of commits when the store was last marked.
pub(crate) fn commits(dir: &Path) -> Option<u64> {
    let mark = read(dir)?;
    mark.lines().find_map(|line| line.strip_prefix("commits "))?.parse().ok()
}

/// Marks the store as closed well, syncing it first if `synced`. The caller holds the directory's lock, and nobody has
/// the store open.
pub(crate) fn set(dir: &Path, kind: EngineKind, commits: u64, synced: bool) -> io::Result<()> {
    if is_clean(dir, kind) {
        return Ok(());
    }
    let data = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(dir.join(kind.files().data))?;
    let with = if synced {
        data.sync_all()?;
        SYNCED.to_owned()
    } else if let Some(boot) = boot() {
        boot
    } else {
        // The next opening could not tell whether the machine has booted since.
        return Ok(());
    };
    data.set_modified(data.metadata()?.modified()? - Duration::from_secs(1))?;
    let mark = text(&data.metadata()?, commits, &with);
    write(dir, &mark).map(drop)
}

/// Takes back that all is synced, before anybody writes without syncing: after a power cut such a write could be in the file
/// and its time not. The caller holds the directory's lock.
pub(crate) fn unsync(dir: &Path) -> io::Result<()> {
    let Some(mark) = read(dir) else {
        return Ok(());
    };
    let Some((before, after)) = mark.split_once(&format!("\n{SYNCED}\n")) else {
        return Ok(());
    };
    match boot() {
        Some(boot) => write(dir, &format!("{before}\n{boot}\n{after}"))?.sync_all()?,
        None => remove(dir),
    }
    File::open(dir)?.sync_all()
}

fn read(dir: &Path) -> Option<String> {
    String::from_utf8(directory::read_small(&dir.join(FILE)).ok()?).ok()
}

/// Writes by rename, so that a mark is whole or the old one.
fn write(dir: &Path, mark: &str) -> io::Result<File> {
    let new = dir.join(NEW_FILE);
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(mark.as_bytes())?;
    fs::rename(new, dir.join(FILE))?;
    Ok(file)
}

/// Forgets the mark of a store whose files are moved away.
pub(crate) fn remove(dir: &Path) {
    let _ = fs::remove_file(dir.join(FILE));
}

fn text(data: &Metadata, commits: u64, with: &str) -> String {
    format!(
        "{FORMAT}\n{with}\ncommits {commits}\ninode {}\nbytes {}\nmtime {}.{:09}\nctime {}.{:09}\n",
        data.ino(),
        data.len(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    )
}

/// What tells this run of the machine from every other; `None` where the system does not say.
fn boot() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| format!("boot {}", id.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: EngineKind = EngineKind::Lmdb;

    fn marked(synced: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("data.mdb"), b"some data").unwrap();
        assert!(!is_clean(dir.path(), KIND));
        set(dir.path(), KIND, 7, synced).unwrap();
        assert_eq!(commits(dir.path()), Some(7));
        assert!(is_clean(dir.path(), KIND));
        dir
    }

    #[test]
    fn any_change_of_the_file_shows_even_at_once() {
        for synced in [false, true] {
            for change in [
                |file: &Path| fs::write(file, b"same size").unwrap(),
                |file: &Path| fs::write(file, b"longer than before").unwrap(),
                |file: &Path| {
                    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
                    std::thread::park_timeout(Duration::from_millis(20));
                    fs::set_permissions(file, mode).unwrap();
                },
                |file: &Path| {
                    fs::copy(file, file.with_extension("copy")).unwrap();
                    fs::rename(file.with_extension("copy"), file).unwrap();
                },
                |file: &Path| fs::remove_file(file).unwrap(),
            ] {
                let dir = marked(synced);
                change(&dir.path().join("data.mdb"));
                assert!(!is_clean(dir.path(), KIND));
            }
        }
    }

    #[test]
    fn another_boot_shows_unless_all_was_synced() {
        for (synced, clean) in [(false, false), (true, true)] {
            let dir = marked(synced);
            let file = dir.path().join(FILE);
            let mark = fs::read_to_string(&file).unwrap();
            let rebooted: Vec<&str> =
                mark.lines().map(|line| if line.starts_with("boot ") { "boot another" } else { line }).collect();
            fs::write(&file, rebooted.join("\n") + "\n").unwrap();
            assert_eq!(is_clean(dir.path(), KIND), clean);
        }
    }

    #[test]
    fn who_does_not_sync_takes_back_that_all_is_synced() {
        let dir = marked(true);
        unsync(dir.path()).unwrap();
        assert!(!fs::read_to_string(dir.path().join(FILE)).unwrap().contains(SYNCED));
        assert!(is_clean(dir.path(), KIND), "as long as the machine has not booted");
        assert_eq!(commits(dir.path()), Some(7));
    }

    #[test]
    fn a_mark_that_is_cut_short_counts_for_nothing() {
        let dir = marked(true);
        let file = dir.path().join(FILE);
        let mark = fs::read(&file).unwrap();
        fs::write(&file, &mark[..mark.len() - 2]).unwrap();
        assert!(!is_clean(dir.path(), KIND));
    }
}

//! Where that lies which a directory has by name: sub-caches, deques, indexes and the like, each below a directory of its kind.

use std::io;
use std::path::{Path, PathBuf};

use crate::OpenError;

/// The directory of what is called `name` among the things of one kind below `root`: `root/<kind>/<name>`, as
/// [`FanoutCache::cache`](crate::FanoutCache::cache) (`cache`), [`deque`](crate::FanoutCache::deque) and
/// [`index`](crate::FanoutCache::index) have it.
///
/// A name is any text: letters, digits, `-` and `_` stay, every other byte becomes `%` and two hex digits, so that no name
/// leads out of the directory or to another one's place. `kind` is one word of these letters. Nothing is made.
///
/// # Errors
/// [`OpenError::Link`] if the directory, or that of the kind, is a symbolic link: whoever could put one there would have stores
/// opened, and made, in any place. `root` itself may be one.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let root = temp.path();
/// let dir = alluvium_disk_kv_cache::named_dir(root, "queue", "../jobs")?;
/// assert_eq!(dir, root.join("queue").join("%2E%2E%2Fjobs"));
/// # Ok(()) }
/// ```
pub fn named_dir(root: &Path, kind: &str, name: &str) -> Result<PathBuf, OpenError> {
    below(root, &[kind, &segment(name)])
}

/// A place below a directory, none of whose segments is a symbolic link now.
pub(crate) fn below(dir: &Path, segments: &[&str]) -> Result<PathBuf, OpenError> {
    let mut place = dir.to_path_buf();
    for segment in segments {
        place.push(segment);
        match place.symlink_metadata() {
            Ok(found) if found.is_symlink() => return Err(OpenError::Link { path: place }),
            Ok(_) => {}
            // What is in the way, if anything is, shows when it is opened.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(OpenError::io(dir, "look for links below the directory", error)),
        }
    }
    Ok(place)
}

/// A name as one segment of a path. No text is `.` or `..`, or has a `/`; the empty one is `%`.
fn segment(name: &str) -> String {
    if name.is_empty() {
        return "%".to_owned();
    }
    let mut segment = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => segment.push(char::from(byte)),
            other => segment.push_str(&format!("%{other:02X}")),
        }
    }
    segment
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_stay_within_their_directory_and_do_not_meet() {
        let names = ["", "a", "A", "a/b", "a%2Fb", "..", ".", "../x", "\0", "ü", "%"];
        let segments: HashSet<String> = names.iter().map(|name| segment(name)).collect();
        assert_eq!(segments.len(), names.len());
        for segment in segments {
            assert!(!segment.contains(['/', '\0', '.']), "{segment}");
        }
    }

    #[test]
    fn links_below_a_directory_are_refused_and_the_directory_may_be_one() {
        let temp = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (temp.path().join("root"), temp.path().join("elsewhere"));
        std::fs::create_dir_all(root.join("cache")).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        symlink(&elsewhere, root.join("cache/name")).unwrap();
        symlink("nowhere", root.join("deque")).unwrap();
        for (kind, link) in [("cache", "cache/name"), ("deque", "deque")] {
            let refused = named_dir(&root, kind, "name");
            assert!(matches!(&refused, Err(OpenError::Link { path }) if *path == root.join(link)), "{refused:?}");
        }
        let alias = temp.path().join("alias");
        symlink(&root, &alias).unwrap();
        assert_eq!(named_dir(&alias, "cache", "other").unwrap(), alias.join("cache/other"));
    }
}

//! From the paths of a source to the files they mean, each once, in an order that does not depend on where they lie.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::HashError;
use crate::partitions::directories;

/// A file to read.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    /// The canonical path.
    pub(crate) path: PathBuf,
    /// Its name below the directory that the source names: the same wherever that directory lies.
    pub(crate) label: String,
    /// The value of each partition column as text, in their order.
    pub(crate) partition_values: Vec<Option<String>>,
}

/// The paths of a source mean no files, or cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// No file matches.
    #[error("`{}` matches no file in {}: correct the path, or create the file first", pattern.display(), directory.display())]
    NoMatch {
        /// The path or glob, as it was written.
        pattern: PathBuf,
        /// The directory that was searched.
        directory: PathBuf,
    },
    /// The glob is malformed.
    #[error("`{}` is not a glob: write `[[]` for a bracket that means itself", pattern.display())]
    Glob {
        /// The glob, as it was written.
        pattern: PathBuf,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// Globs work on text.
    #[error("the glob `{}` lies in a directory whose name is not UTF-8: rename that, or list the files", pattern.display())]
    NotUtf8 {
        /// The glob, as it was written.
        pattern: PathBuf,
    },
    /// A directory or file cannot be looked at.
    #[error("cannot look into {}: check that it exists and that you may read and search it", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The directory is a Delta table, whose files are not all current.
    #[error(
        "{} is a Delta table, and reading its files directly would bring back deleted rows: set `format = \"delta\"`",
        directory.display()
    )]
    DeltaTable {
        /// The directory.
        directory: PathBuf,
    },
    /// A directory is named `key=value`: Hive partitions.
    #[error(
        "{} looks like a Hive partition, whose column would be lost: declare it in `partition_columns`, or name the files by \
         a glob to read them without it",
        directory.display()
    )]
    HivePartition {
        /// The directory.
        directory: PathBuf,
    },
    /// The directories above a file are not the partition columns.
    #[error(
        "{} lies in the partitions {found:?} below {}, but `partition_columns` are {expected:?}: make them agree, outermost \
         first, and name the directory above all of them",
        path.display(),
        directory.display()
    )]
    Partitions {
        /// The file.
        path: PathBuf,
        /// The directory that the source names.
        directory: PathBuf,
        /// The columns that its directories name.
        found: Vec<String>,
        /// The partition columns.
        expected: Vec<String>,
    },
}

/// The files that `patterns` mean. Each is a path or, where nothing has that name, a glob.
///
/// They come in the order of the patterns, those of one pattern by name; a file that several name comes once.
///
/// With `partition_columns`, exactly these are the `key=value` directories between the directory that a pattern names and
/// each of its files.
pub(crate) fn locate(
    patterns: &[PathBuf],
    base_dir: &Path,
    partition_columns: &[String],
) -> Result<Vec<Located>, LocateError> {
    let mut files = Vec::new();
    let (mut paths, mut labels) = (HashSet::new(), HashSet::new());
    for pattern in patterns {
        let (directory, mut found) = expand(pattern, base_dir, partition_columns)?;
        if found.is_empty() {
            return Err(LocateError::NoMatch { pattern: pattern.clone(), directory });
        }
        found.sort();
        for file in found {
            let path = file.canonicalize().map_err(|source| LocateError::Io { path: file.clone(), source })?;
            if !paths.insert(path.clone()) {
                continue;
            }
            let below = file.strip_prefix(&directory).unwrap_or(&file);
            let partition_values = partition_values(&file, below, &directory, partition_columns)?;
            let name = below.to_string_lossy().into_owned();
            let mut label = name.clone();
            for count in 2.. {
                if labels.insert(label.clone()) {
                    break;
                }
                label = format!("{name} ({count})");
            }
            files.push(Located { path, label, partition_values });
        }
    }
    Ok(files)
}

fn partition_values(
    path: &Path,
    below: &Path,
    directory: &Path,
    columns: &[String],
) -> Result<Vec<Option<String>>, LocateError> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let (found, values): (Vec<_>, Vec<_>) = directories(below).unwrap_or_default().into_iter().unzip();
    if found == columns {
        return Ok(values);
    }
    Err(LocateError::Partitions {
        path: path.to_path_buf(),
        directory: directory.to_path_buf(),
        found,
        expected: columns.to_vec(),
    })
}

/// The files of one pattern, and the directory that its fixed part names.
fn expand(
    pattern: &Path,
    base_dir: &Path,
    partition_columns: &[String],
) -> Result<(PathBuf, Vec<PathBuf>), LocateError> {
    let path = base_dir.join(pattern);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {
            let mut files = Vec::new();
            let mut walk = Walk { partitioned: !partition_columns.is_empty(), seen: HashSet::new() };
            walk.below(&path, &mut files)?;
            return Ok((path, files));
        }
        Ok(_) => return Ok((parent(&path), vec![path])),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(LocateError::Io { path, source }),
    }
    if !is_glob(pattern.as_os_str()) {
        return Ok((parent(&path), Vec::new()));
    }
    let not_utf8 = || LocateError::NotUtf8 { pattern: pattern.to_path_buf() };
    let mut text = pattern.to_str().ok_or_else(not_utf8)?.to_owned();
    if pattern.is_relative() {
        // The base is a name, not a glob, whatever characters it holds.
        text = format!("{}/{text}", glob::Pattern::escape(base_dir.to_str().ok_or_else(not_utf8)?));
    }
    let options =
        glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let matches = glob::glob_with(&text, options)
        .map_err(|source| LocateError::Glob { pattern: pattern.to_path_buf(), source })?;
    let mut files = Vec::new();
    for path in matches {
        let path = path.map_err(|error| LocateError::Io { path: error.path().to_path_buf(), source: error.into() })?;
        if !path.is_dir() {
            files.push(path);
        }
    }
    let fixed: PathBuf = pattern.components().take_while(|part| !is_glob(part.as_os_str())).collect();
    Ok((base_dir.join(fixed), files))
}

fn is_glob(text: &OsStr) -> bool {
    text.as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_path_buf()
}

/// A walk through directories.
struct Walk {
    /// Whether directories may be called `key=value`.
    partitioned: bool,
    /// Links may lead in circles.
    seen: HashSet<PathBuf>,
}

impl Walk {
    /// Every file below `directory`, but for those that are hidden or start with `_`, which is how writers mark what is
    /// not data.
    fn below(&mut self, directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), LocateError> {
        let io = |source| LocateError::Io { path: directory.to_path_buf(), source };
        if !self.seen.insert(directory.canonicalize().map_err(io)?) {
            return Ok(());
        }
        if directory.join("_delta_log").is_dir() {
            return Err(LocateError::DeltaTable { directory: directory.to_path_buf() });
        }
        for entry in std::fs::read_dir(directory).map_err(io)? {
            let entry = entry.map_err(io)?;
            let (path, name) = (entry.path(), entry.file_name());
            if name.as_encoded_bytes().starts_with(b".") || name.as_encoded_bytes().starts_with(b"_") {
                continue;
            }
            if !path.is_dir() {
                files.push(path);
            } else if !self.partitioned && name.as_encoded_bytes().contains(&b'=') {
                return Err(LocateError::HivePartition { directory: path });
            } else {
                self.below(&path, files)?;
            }
        }
        Ok(())
    }
}

/// The path of a file as an object store knows it.
pub(crate) fn store_path(path: &Path) -> Result<object_store::path::Path, HashError> {
    object_store::path::Path::from_absolute_path(path)
        .map_err(|error| HashError::Io { path: path.to_path_buf(), source: io::Error::other(error) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree of empty files.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    fn labels(dir: &Path, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<_> = patterns.iter().map(PathBuf::from).collect();
        locate(&patterns, dir, &[]).unwrap().into_iter().map(|file| file.label).collect()
    }

    fn refused(dir: &Path, pattern: &str) -> LocateError {
        locate(&[PathBuf::from(pattern)], dir, &[]).unwrap_err()
    }

    #[test]
    fn a_directory_means_its_data_files_by_name() {
        let dir = tree(&["d/b", "d/a.parquet", "d/.hidden", "d/_SUCCESS", "d/sub/c", "d/.git/x", "d/_tmp/x"]);
        assert_eq!(labels(dir.path(), &["d"]), ["a.parquet", "b", "sub/c"]);
        assert_eq!(labels(dir.path(), &[dir.path().join("d/").to_str().unwrap()]), ["a.parquet", "b", "sub/c"]);
    }

    #[test]
    fn a_glob_leaves_out_hidden_files_and_directories() {
        let dir = tree(&["d/2.csv", "d/1.csv", "d/.3.csv", "d/4.csv/x", "d/e/5.csv"]);
        assert_eq!(labels(dir.path(), &["d/*.csv"]), ["1.csv", "2.csv"]);
        assert_eq!(labels(dir.path(), &["d/**/*.csv"]), ["1.csv", "2.csv", "e/5.csv"]);
    }

    #[test]
    fn the_order_is_that_of_the_patterns_and_a_file_comes_once() {
        let dir = tree(&["z/x", "a/x", "a/y"]);
        symlink(dir.path().join("a/y"), dir.path().join("z/link")).unwrap();
        assert_eq!(labels(dir.path(), &["z", "a", "z/x", "a/../a/x"]), ["link", "x", "x (2)"]);
    }

    #[test]
    fn names_that_look_like_globs_are_names_first() {
        let dir = tree(&["d[1]/data[1].csv", "d[1]/data1.csv", "d[1]/what?.csv", "d[1]/50%#.csv"]);
        let base = dir.path().join("d[1]");
        assert_eq!(labels(&base, &["data[1].csv"]), ["data[1].csv"]);
        assert_eq!(labels(&base, &["data[[]1].csv"]), ["data[1].csv"]);
        assert_eq!(labels(&base, &["what?.csv"]), ["what?.csv"]);
        assert_eq!(labels(&base, &["data?.csv", "50%#.csv"]), ["data1.csv", "50%#.csv"]);
    }

    #[test]
    fn links_may_lead_in_circles() {
        let dir = tree(&["d/a"]);
        symlink(dir.path().join("d"), dir.path().join("d/again")).unwrap();
        assert_eq!(labels(dir.path(), &["d"]), ["a"]);
    }

    #[test]
    fn what_matches_nothing_is_named_with_the_directory_searched() {
        let dir = tree(&["d/.hidden", "only/dir/x"]);
        for (pattern, directory) in
            [("d", "d"), ("d/*.csv", "d"), ("absent.csv", ""), ("only/*", "only"), ("no/*/x", "no")]
        {
            let error = refused(dir.path(), pattern);
            let searched = if directory.is_empty() { dir.path().to_path_buf() } else { dir.path().join(directory) };
            assert!(
                matches!(&error, LocateError::NoMatch { pattern: p, directory: d } if p.as_os_str() == pattern && *d == searched),
                "{error:?}"
            );
        }
        assert!(matches!(refused(dir.path(), "a[/*"), LocateError::Glob { .. }));
        symlink("nowhere", dir.path().join("d/broken")).unwrap();
        assert!(matches!(refused(dir.path(), "d"), LocateError::Io { .. }));
    }

    #[test]
    fn directories_that_would_be_misread_are_refused() {
        let dir = tree(&["t/_delta_log/0.json", "t/a.parquet", "h/year=2024/a.parquet"]);
        assert!(matches!(refused(dir.path(), "t"), LocateError::DeltaTable { .. }));
        assert!(matches!(refused(dir.path(), "h"), LocateError::HivePartition { .. }));
        assert_eq!(labels(dir.path(), &["h/*/*.parquet"]), ["year=2024/a.parquet"]);
    }

    #[test]
    fn declared_partitions_are_the_directories_and_no_others() {
        let dir = tree(&["h/year=2024/m=1/a", "h/year=2024/m=__HIVE_DEFAULT_PARTITION__/b"]);
        let values = |patterns: &[&str], columns: &[&str]| {
            let patterns: Vec<_> = patterns.iter().map(PathBuf::from).collect();
            let columns: Vec<_> = columns.iter().map(|column| (*column).to_owned()).collect();
            let located = locate(&patterns, dir.path(), &columns)?;
            Ok::<_, LocateError>(located.into_iter().map(|file| file.partition_values).collect::<Vec<_>>())
        };
        let text = |value: &str| Some(value.to_owned());
        let expected = [vec![text("2024"), text("1")], vec![text("2024"), None]];
        assert_eq!(values(&["h"], &["year", "m"]).unwrap(), expected);
        assert_eq!(values(&["h/*/*/*"], &["year", "m"]).unwrap(), expected);
        for (pattern, columns) in [
            ("h", &["m", "year"][..]),
            ("h", &["year"]),
            ("h/year=2024", &["year", "m"]),
            ("h/year=2024/m=1/a", &["m"]),
        ] {
            let error = values(&[pattern], columns);
            assert!(matches!(&error, Err(LocateError::Partitions { .. })), "{pattern} {columns:?} {error:?}");
        }
    }
}

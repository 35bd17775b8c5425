//! Where the cache root is: flag, environment, file, default.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::root_error::{RootError, RootOrigin};

/// The name of the default cache root, beside the pipeline file.
const DEFAULT: &str = ".alluvium";

/// The cache root: `flag` (`--cache-root`), else `env` (the value of `ALLUVIUM_CACHE_ROOT`; empty counts as unset), else
/// `declared` (`cache_output_root` of the pipeline file, relative to `base_dir`, the file's directory), else `.alluvium` in
/// `base_dir`. Relative paths of the first two are relative to the working directory, and are left so. Only the winner is
/// looked at.
///
/// # Errors
/// [`RootError::Url`] if it is a URL, [`RootError::EmptyPath`] if it is empty.
pub fn resolve_cache_root(
    flag: Option<&Path>,
    env: Option<&OsStr>,
    declared: Option<&str>,
    base_dir: &Path,
) -> Result<PathBuf, RootError> {
    if let Some(flag) = flag {
        return local(flag.as_os_str(), RootOrigin::Flag);
    }
    if let Some(env) = env.filter(|env| !env.is_empty()) {
        return local(env, RootOrigin::Environment);
    }
    match declared {
        Some(declared) => Ok(base_dir.join(local(declared.as_ref(), RootOrigin::Declared)?)),
        None => Ok(base_dir.join(DEFAULT)),
    }
}

/// The path from the file system's root, without `.`, `..` or symbolic links as far as it exists. The engine addresses
/// files by URL, which has no working directory and no `..`.
///
/// # Errors
/// Where the working directory cannot be told.
pub fn real_path(path: &Path) -> std::io::Result<PathBuf> {
    let mut real = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                real.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => {
                real.push(component);
                // Before the next component: `..` behind a link leads to the parent of what it points to.
                if let Ok(resolved) = real.canonicalize() {
                    real = resolved;
                }
            }
        }
    }
    Ok(real)
}

fn local(named: &OsStr, origin: RootOrigin) -> Result<PathBuf, RootError> {
    if named.is_empty() {
        return Err(RootError::EmptyPath { origin });
    }
    let text = named.to_string_lossy();
    if let Some((scheme, _)) = text.split_once("://")
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    {
        return Err(RootError::Url { origin, scheme: scheme.to_owned() });
    }
    Ok(PathBuf::from(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(flag: Option<&str>, env: Option<&str>, declared: Option<&str>) -> Result<PathBuf, RootError> {
        resolve_cache_root(flag.map(Path::new), env.map(OsStr::new), declared, Path::new("/project"))
    }

    #[test]
    fn the_nearer_to_the_user_wins() {
        let path = |flag, env, declared| resolve(flag, env, declared).unwrap();
        assert_eq!(path(Some("f"), Some("e"), Some("d")), Path::new("f"));
        assert_eq!(path(None, Some("e"), Some("d")), Path::new("e"));
        assert_eq!(path(None, Some(""), Some("d")), Path::new("/project/d"));
        assert_eq!(path(None, None, Some("/abs")), Path::new("/abs"));
        assert_eq!(path(None, None, None), Path::new("/project/.alluvium"));
        // What loses is not judged.
        assert_eq!(path(Some("f"), Some("s3://b/p"), None), Path::new("f"));
        assert_eq!(path(Some("a:b//c"), None, None), Path::new("a:b//c"));
    }

    #[test]
    fn real_paths_have_no_way_up() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(real.join("a/b")).unwrap();
        std::os::unix::fs::symlink(real.join("a/b"), real.join("link")).unwrap();
        for (path, is) in [
            ("a/../c/d", "c/d"),
            ("a/./b/../../x/../y", "y"),
            ("link/../z", "a/z"),
            ("none/../../q", "../q"),
            ("a/b", "a/b"),
        ] {
            let parent = real.parent().unwrap();
            let expected = is.strip_prefix("../").map_or_else(|| real.join(is), |rest| parent.join(rest));
            assert_eq!(real_path(&real.join(path)).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn urls_and_nothing_are_refused_and_credentials_stay_unsaid() {
        for (flag, env, declared, origin) in [
            (Some("s3://key:secret@bucket/p"), None, None, "--cache-root"),
            (None, Some("abfss://key:secret@bucket/p"), None, "ALLUVIUM_CACHE_ROOT"),
            (None, None, Some("file:///secret"), "cache_output_root"),
        ] {
            let error = resolve(flag, env, declared).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, RootError::Url { .. }), "{text}");
            assert!(text.contains(origin) && text.contains("://") && !text.contains("secret"), "{text}");
        }
        assert!(matches!(resolve(Some(""), None, None), Err(RootError::EmptyPath { origin: RootOrigin::Flag })));
        assert!(matches!(resolve(None, None, Some("")), Err(RootError::EmptyPath { origin: RootOrigin::Declared })));
    }
}

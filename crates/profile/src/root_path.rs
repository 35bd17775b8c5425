//! Where the cache root is: flag, environment, file, default.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

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

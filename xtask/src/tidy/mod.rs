//! The rules that no compiler checks: module docs, file lengths, licences, manifests, committed text.

mod manifests;
mod sources;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Others' sources, generated or as they publish them: only what holds for any text holds for them.
const OTHERS: &str = "vendor/";

/// Check the workspace at `root`.
pub fn run(root: &Path) -> Result<()> {
    let files = cargo::committed_files(root)?;
    let problems = check(root, &files)?;
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if !problems.is_empty() {
        bail!("{} problem(s)", problems.len());
    }
    eprintln!("tidy: {} files in order", files.len());
    Ok(())
}

fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut problems = licences(root);
    for file in files {
        let bytes = std::fs::read(root.join(file)).with_context(|| format!("cannot read {file}"))?;
        // Data files are not text, and nobody wrote a path into them by hand.
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        if text.contains('\0') {
            continue;
        }
        problems.extend(sources::check_text(file, &text));
        if file.starts_with(OTHERS) {
            continue;
        }
        if file.ends_with(".rs") {
            problems.extend(sources::check_rust(file, &text));
        }
        if file == "Cargo.toml" || !file.ends_with("Cargo.toml") {
            continue;
        }
        let dir = file.trim_end_matches("Cargo.toml");
        let has = |name: &str| root.join(dir).join(name).is_file();
        let readme = std::fs::read_to_string(root.join(dir).join("README.md")).ok();
        problems.extend(manifests::check(
            file,
            &text,
            &manifests::Beside { library: dir.starts_with("crates/") && has("src/lib.rs"), readme: readme.as_deref() },
        ));
    }
    Ok(problems)
}

fn licences(root: &Path) -> Vec<String> {
    [("LICENSE-APACHE", "Apache License"), ("LICENSE-MIT", "Permission is hereby granted, free of charge")]
        .into_iter()
        .filter(|(file, phrase)| !std::fs::read_to_string(root.join(file)).is_ok_and(|text| text.contains(phrase)))
        .map(|(file, phrase)| format!("{file}: missing, or not the licence (no {phrase:?} in it)"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkout_without_licences_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("LICENSE-MIT"), "all rights reserved").unwrap();
        let problems = licences(dir.path());
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("LICENSE-APACHE: missing"), "{problems:?}");
        assert!(problems[1].starts_with("LICENSE-MIT: missing"), "{problems:?}");
    }

    #[test]
    fn a_planted_crate_is_checked_file_by_file_and_data_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Vec::new();
        for (path, bytes) in [
            ("LICENSE-APACHE", b"Apache License".as_slice()),
            ("LICENSE-MIT", b"Permission is hereby granted, free of charge"),
            ("Cargo.toml", b"[workspace]\nmembers = [\"crates/*\"]\n"),
            ("crates/a/Cargo.toml", b"[package]\nname = \"alluvium-a\"\n"),
            ("crates/a/src/lib.rs", b"fn f() {}\n"),
            ("data.parquet", b"PAR1\0/root/secret"),
            ("vendor/b/src/lib.rs", b"fn f() {}\n"),
        ] {
            let full = dir.path().join(path);
            std::fs::create_dir_all(full.parent().unwrap()).unwrap();
            std::fs::write(full, bytes).unwrap();
            files.push(path.to_owned());
        }
        let problems = check(dir.path(), &files).unwrap();
        assert!(problems.iter().any(|p| p.starts_with("crates/a/Cargo.toml: no README.md")), "{problems:?}");
        assert!(problems.iter().any(|p| p.starts_with("crates/a/src/lib.rs:1: no `//!`")), "{problems:?}");
        assert!(problems.iter().all(|p| p.starts_with("crates/a/")), "{problems:?}");
    }

    #[test]
    fn this_workspace_is_tidy() {
        run(&cargo::workspace_root().unwrap()).unwrap();
    }
}

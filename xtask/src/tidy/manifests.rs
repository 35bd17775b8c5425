//! Rules over a member's manifest and the README beside it.

use toml::{Table, Value};

/// Fields of `[package]` that are said once, in the workspace manifest.
const INHERITED: [&str; 6] = ["version", "edition", "rust-version", "license", "authors", "repository"];

/// Tables of dependencies, here and under `[target.'…']`.
const DEPENDENCIES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// What lies beside the manifest.
pub struct Beside<'a> {
    /// The member is a library that others embed.
    pub library: bool,
    /// The text of its README.md.
    pub readme: Option<&'a str>,
}

/// Problems of the manifest `file` of a workspace member.
pub fn check(file: &str, text: &str, beside: &Beside<'_>) -> Vec<String> {
    let manifest: Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![format!("{file}: {error}")],
    };
    // A workspace of its own, such as `fuzz/`, has nobody to inherit from.
    if manifest.contains_key("workspace") {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let mut complain = |problem: String| problems.push(format!("{file}: {problem}"));

    let package = table(&manifest, "package");
    for field in INHERITED {
        if !package.and_then(|package| package.get(field)).is_some_and(inherits) {
            complain(format!("`{field}` is not inherited: write `{field}.workspace = true`"));
        }
    }
    if !manifest.get("lints").is_some_and(inherits) {
        complain("lints are not inherited: write `[lints]` with `workspace = true`".to_owned());
    }
    let targets = table(&manifest, "target").into_iter().flatten().filter_map(|(_, value)| value.as_table());
    for holder in std::iter::once(&manifest).chain(targets) {
        for kind in DEPENDENCIES {
            for (name, _) in table(holder, kind).into_iter().flatten().filter(|(_, value)| !inherits(value)) {
                complain(format!("`{name}` in {kind} is not inherited: write `{name}.workspace = true`"));
            }
        }
    }

    let description = package.and_then(|package| package.get("description")).and_then(Value::as_str).unwrap_or("");
    if description.trim().is_empty() || description.to_ascii_lowercase().contains("todo") {
        complain("`description` is empty: say in one sentence what the crate is for".to_owned());
    }
    let wants_readme = beside.library || package.is_some_and(|package| package.contains_key("readme"));
    match beside.readme {
        None if wants_readme => {
            complain("no README.md beside it: it is how users meet the crate".to_owned());
        }
        Some(readme) if beside.library && !has_example(readme) => {
            complain("README.md has no ```rust example that compiles".to_owned());
        }
        _ => {}
    }
    problems
}

fn table<'a>(parent: &'a Table, key: &str) -> Option<&'a Table> {
    parent.get(key).and_then(Value::as_table)
}

fn inherits(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn has_example(readme: &str) -> bool {
    readme.lines().any(|line| {
        line.trim_start().strip_prefix("```").is_some_and(|info| {
            let mut words = info.split(',').map(str::trim);
            words.next() == Some("rust") && words.all(|word| word != "ignore")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[package]
name = "alluvium-a"
description = "A crate."
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
authors.workspace = true
repository.workspace = true

[lints]
workspace = true

[dependencies]
serde = { workspace = true, features = ["derive"] }

[dev-dependencies]
tempfile.workspace = true

[target.'cfg(unix)'.dependencies]
libc.workspace = true
"#;
    const README: &str = "# A\n\n```rust\nfn main() {}\n```\n";

    fn problems(text: &str, readme: Option<&str>) -> Vec<String> {
        check("crates/a/Cargo.toml", text, &Beside { library: true, readme })
    }

    #[track_caller]
    fn one(text: &str, readme: Option<&str>, phrase: &str) {
        let problems = problems(text, readme);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(phrase), "{problems:?}");
    }

    #[test]
    fn a_workspace_of_its_own_inherits_nothing() {
        let text = "[package]\nname = \"fuzz\"\nversion = \"0.0.0\"\n[workspace]\n";
        assert_eq!(check("fuzz/Cargo.toml", text, &Beside { library: false, readme: None }), Vec::<String>::new());
        let member = text.replace("[workspace]\n", "");
        assert_ne!(check("a/Cargo.toml", &member, &Beside { library: false, readme: None }), Vec::<String>::new());
    }

    #[test]
    fn a_member_that_inherits_everything_passes() {
        assert_eq!(problems(GOOD, Some(README)), Vec::<String>::new());
    }

    #[test]
    fn each_field_that_is_not_inherited_is_named() {
        for field in INHERITED {
            let planted = GOOD.replace(&format!("\n{field}.workspace = true"), &format!("\n{field} = \"1\""));
            one(&planted, Some(README), &format!("`{field}` is not inherited"));
        }
    }

    #[test]
    fn lints_of_its_own_are_found() {
        one(&GOOD.replace("[lints]\nworkspace = true", "[lints.rust]\nmissing_docs = \"warn\""), Some(README), "lints");
        one(&GOOD.replace("[lints]\nworkspace = true", ""), Some(README), "lints");
    }

    #[test]
    fn a_dependency_of_its_own_is_found_in_every_table() {
        one(
            &GOOD.replace("{ workspace = true, features = [\"derive\"] }", "\"1\""),
            Some(README),
            "`serde` in dependencies",
        );
        one(
            &GOOD.replace("tempfile.workspace = true", "alluvium-b = { path = \"../b\" }"),
            Some(README),
            "`alluvium-b` in dev-dependencies",
        );
        one(&GOOD.replace("libc.workspace = true", "libc = \"0.2\""), Some(README), "`libc` in dependencies");
        one(&format!("{GOOD}\n[build-dependencies]\ncc = \"1\"\n"), Some(README), "`cc` in build-dependencies");
    }

    #[test]
    fn a_description_that_says_nothing_is_found() {
        one(&GOOD.replace("A crate.", "TODO"), Some(README), "`description`");
        one(&GOOD.replace("description = \"A crate.\"", ""), Some(README), "`description`");
    }

    #[test]
    fn a_library_needs_a_readme_with_an_example_that_compiles() {
        one(GOOD, None, "no README.md");
        one(GOOD, Some("# A\n"), "no ```rust example");
        one(GOOD, Some(&README.replace("```rust", "```rust,ignore")), "no ```rust example");
        assert_eq!(problems(GOOD, Some(&README.replace("```rust", "```rust,no_run"))), Vec::<String>::new());
    }

    #[test]
    fn a_binary_needs_a_readme_only_if_it_names_one() {
        let beside = Beside { library: false, readme: None };
        assert_eq!(check("xtask/Cargo.toml", GOOD, &beside), Vec::<String>::new());
        let named = GOOD.replace("[lints]", "readme = \"README.md\"\n\n[lints]");
        assert_eq!(check("crates/cli/Cargo.toml", &named, &beside).len(), 1);
    }
}

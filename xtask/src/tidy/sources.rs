//! Rules over the text of one file.

/// Longest source file, in lines: past it, a module holds more than one concept.
const LONGEST_SOURCE: usize = 600;
/// Longest test file, in lines.
const LONGEST_TEST: usize = 1_000;

/// Text that no committed file holds. Split so that this file does not hold it either.
const NEVER_IN_TEXT: [(&str, &str); 3] = [
    (concat!("/wo", "rk/"), "a path of one machine: name the file relative to the workspace"),
    (concat!("/ro", "ot/"), "a path of one machine: name the file relative to the workspace"),
    (concat!("tod", "o!("), "unfinished: finish it, or make its absence an explicit error"),
];

/// Sessions made through a trait, which clippy's list of banned methods cannot name.
const SESSIONS_BY_TRAIT: [&str; 6] = [
    concat!("SessionContext", "::default("),
    concat!("SessionContext", "::from("),
    concat!("SessionContext", " as Default>"),
    concat!("SessionContext", " as From<"),
    concat!("SessionStateBuilder", "::default("),
    concat!("SessionStateBuilder", "::from("),
];

/// A crate root may say what its README says; the README's example is a doctest then.
const README_AS_DOCS: &str = "#![doc = include_str!(\"../README.md\")]";

/// The one crate that makes sessions.
const MAKES_SESSIONS: &str = "crates/profile/";

/// Problems of any committed text file.
pub fn check_text(file: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in numbered(text) {
        for (needle, why) in NEVER_IN_TEXT {
            if holds(line, needle) {
                problems.push(format!("{file}:{number}: `{needle}`: {why}"));
            }
        }
    }
    problems
}

/// Problems of a Rust file.
pub fn check_rust(file: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if !text.starts_with("//!") && !text.starts_with(README_AS_DOCS) {
        problems.push(format!("{file}:1: no `//!` documentation on the first line: say what the module is for"));
    }
    let (limit, what) = if is_test(file) { (LONGEST_TEST, "test") } else { (LONGEST_SOURCE, "source") };
    let lines = text.lines().count();
    if lines > limit {
        problems.push(format!("{file}: {lines} lines, and a {what} file has at most {limit}: split it by concept"));
    }
    if !file.starts_with(MAKES_SESSIONS) {
        for (number, line) in numbered(text) {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for needle in SESSIONS_BY_TRAIT.iter().filter(|needle| line.contains(**needle)) {
                problems.push(format!(
                    "{file}:{number}: `{needle}`: sessions are made by alluvium-profile's session factory"
                ));
            }
        }
    }
    problems
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

fn is_test(file: &str) -> bool {
    let mut parts: Vec<&str> = file.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    name == "tests.rs" || parts.iter().any(|part| matches!(*part, "tests" | "benches"))
}

/// Whether `line` holds `needle` at the start of a word or path: `docs/work/x` is no machine's path.
fn holds(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || "._-~*)}>".contains(before))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_path_is_found_with_its_line() {
        let planted = format!("fine\nsee {}x/y for it\n", concat!("/wo", "rk/"));
        let problems = check_text("docs/page.md", &planted);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("docs/page.md:2: "), "{problems:?}");
        let planted = format!("\"{}.cargo\"", concat!("/ro", "ot/"));
        assert_eq!(check_text("a.rs", &planted).len(), 1);
    }

    #[test]
    fn unfinished_code_is_found() {
        let planted = format!("    {}\"later\")\n", concat!("tod", "o!("));
        assert_eq!(check_text("a.rs", &planted).len(), 1);
    }

    #[test]
    fn a_longer_relative_path_is_no_machine_path() {
        for fine in ["docs/work/plan.md", "{cache}/root/x", "../work/y", "https://example.com/root/z"] {
            assert_eq!(check_text("a.md", fine), Vec::<String>::new(), "{fine}");
        }
    }

    #[test]
    fn a_module_without_docs_is_found() {
        assert_eq!(check_rust("src/main.rs", "//! Docs.\nfn main() {}\n"), Vec::<String>::new());
        assert_eq!(check_rust("src/main.rs", "fn main() {}\n").len(), 1);
        assert_eq!(check_rust("build.rs", "// a comment\n//! too late\n").len(), 1);
    }

    #[test]
    fn a_crate_may_be_documented_by_its_readme() {
        let text = format!("{README_AS_DOCS}\n\nmod a;\n");
        assert_eq!(check_rust("crates/a/src/lib.rs", &text), Vec::<String>::new());
    }

    #[test]
    fn a_long_file_is_found_and_tests_may_be_longer() {
        let lines = |count: usize| format!("//! Docs.\n{}", "//\n".repeat(count - 1));
        assert_eq!(check_rust("crates/a/src/b.rs", &lines(600)).len(), 0);
        assert_eq!(check_rust("crates/a/src/b.rs", &lines(601)).len(), 1);
        for test in ["crates/a/src/b/tests.rs", "crates/a/tests/main.rs", "tests/src/lib.rs"] {
            assert_eq!(check_rust(test, &lines(1_000)).len(), 0, "{test}");
            assert_eq!(check_rust(test, &lines(1_001)).len(), 1, "{test}");
        }
        assert_eq!(check_rust("crates/a/src/contests.rs", &lines(601)).len(), 1);
    }

    #[test]
    fn a_session_made_through_a_trait_is_found_outside_profile() {
        let planted = format!("//! Docs.\nlet ctx = {}state);\n", concat!("SessionContext", "::from("));
        assert_eq!(check_rust("crates/runs/src/a.rs", &planted).len(), 1);
        assert_eq!(check_rust("crates/profile/src/a.rs", &planted).len(), 0);
        let prose = format!("//! Docs.\n/// {}\n", concat!("SessionContext", "::default()"));
        assert_eq!(check_rust("crates/runs/src/a.rs", &prose).len(), 0);
    }
}

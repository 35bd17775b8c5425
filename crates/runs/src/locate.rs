//! Places in the pipeline file: which line says what.

use std::ops::Range;

/// Line and column, both from 1, of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// Where `span` begins; the start of the file when there is none.
pub(crate) fn of_span(text: &str, span: Option<Range<usize>>) -> (usize, usize) {
    position(text, span.map_or(0, |span| span.start))
}

/// The line that declares `[section.name]`, in whichever of TOML's spellings; none when it is not found.
pub(crate) fn declaration(text: &str, section: &str, name: &str) -> Option<usize> {
    let header = format!("[{section}.");
    let bare = format!("[{section}]");
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line.starts_with(&bare);
            let declared = line.strip_prefix(&header).map(str::trim_start);
            if declared.is_some_and(|rest| names(rest, name, &[']', '.', ' '])) {
                return Some(index + 1);
            }
        } else if inside && names(line, name, &['=', '.', ' ']) {
            return Some(index + 1);
        }
    }
    None
}

/// Whether `text` begins with the key `name`, bare or quoted, and then one of `ends`.
fn names(text: &str, name: &str, ends: &[char]) -> bool {
    [name.to_owned(), format!("\"{name}\""), format!("'{name}'")]
        .iter()
        .any(|key| text.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with(ends)))
}

/// The candidate that was probably meant by `word`.
pub(crate) fn meant<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const LIKE_ENOUGH: f64 = 0.6;
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_found_in_every_spelling() {
        let text =
            "[profile]\nname = 'x'\n[views.a]\nsql = ''\n[views.\"b/c\"]\n[outputs]\nd = { view = 'a' }\n[views.ab]\n";
        assert_eq!(declaration(text, "views", "a"), Some(3));
        assert_eq!(declaration(text, "views", "b/c"), Some(5));
        assert_eq!(declaration(text, "outputs", "d"), Some(7));
        assert_eq!(declaration(text, "views", "ab"), Some(8));
        assert_eq!(declaration(text, "views", "nope"), None);
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("aé\nüb", "aé\nü".len()), (2, 2));
    }

    #[test]
    fn near_words_are_meant() {
        assert_eq!(meant("sqll", ["sql", "file"]), Some("sql".to_owned()));
        assert_eq!(meant("zzz", ["sql", "file"]), None);
    }
}

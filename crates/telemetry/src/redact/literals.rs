//! Where texts are quoted, whatever language they are written in.

/// What may be quoted by.
pub(super) const QUOTES: [char; 3] = ['"', '\'', '`'];

/// A quoted text, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Literal {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) quote: char,
}

/// The quoted texts of `text`, in their order; what is quoted within them is part of them.
pub(super) fn literals(text: &str) -> Vec<Literal> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].find(QUOTES).map(|next| at + next) {
        let quote = char::from(text.as_bytes()[next]);
        at = next + 1;
        if opens(&text[..next]) {
            let end = closing(text, at, quote);
            found.push(Literal { start: at, end, quote });
            at = (end + 1).min(text.len());
        }
    }
    found
}

/// Whether a quote after `before` opens a text: in a word it is an apostrophe, but for the one letter of `E'…'`.
fn opens(before: &str) -> bool {
    let mut chars = before.chars().rev();
    match chars.next() {
        Some(letter) if letter.is_ascii_alphabetic() => !chars.next().is_some_and(char::is_alphanumeric),
        Some(other) => !other.is_alphanumeric(),
        None => true,
    }
}

/// Where the quote is closed, a doubled one and one after a backslash being part of the text; the end where it is not. Not
/// every language escapes by a backslash, and taking too much shows less than taking too little.
pub(super) fn closing(text: &str, from: usize, quote: char) -> usize {
    let mut escaped = false;
    let mut chars = text[from..].char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return from + at;
        }
    }
    text.len()
}

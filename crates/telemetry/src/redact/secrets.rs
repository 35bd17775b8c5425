//! Credentials and quoted text.

use super::{REDACTED, paths};

/// Parts of the names of options that hold credentials.
const SECRET_WORDS: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "access_key",
    "access-key",
    "accesskey",
    "account_key",
    "private_key",
    "credential",
    "authorization",
    "signature",
    "sas_key",
];

/// How tokens of well-known makers begin.
const TOKEN_PREFIXES: [&str; 12] =
    ["AKIA", "ASIA", "AIza", "eyJ", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "dapi"];

/// A word shorter than this is no token, whatever it begins with.
const MIN_TOKEN_BYTES: usize = 16;

/// Whether the values of an option called `key` are credentials.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    // A fencing token is a number that commits carry, and guards nothing but an order.
    key != "fencing_token" && SECRET_WORDS.iter().any(|word| key.contains(word))
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// `text` without the values of options that hold credentials, and without words that are tokens by their looks; `None`
/// where there is none.
pub(super) fn without_credentials(text: &str) -> Option<String> {
    let mut left = String::new();
    let mut done = 0;
    let mut at = 0;
    while at < text.len() {
        let word = &text[at..at + text[at..].find(|c| !in_word(c)).unwrap_or(text.len() - at)];
        if word.is_empty() {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let end = at + word.len();
        let secret = if names_a_secret(word) {
            value_of(text, end)
        } else if is_scheme_of_authorization(word) {
            word_after(text, end).filter(|(start, end)| end - start >= MIN_TOKEN_BYTES)
        } else if looks_like_token(word) {
            // What is encoded in base64 goes on past the letters of a word.
            Some((at, at + text[at..].find(ends_value).unwrap_or(text.len() - at)))
        } else {
            None
        };
        match secret {
            Some((start, stop)) if &text[start..stop] != REDACTED => {
                left.push_str(&text[done..start]);
                left.push_str(REDACTED);
                done = stop;
                at = stop;
            }
            Some((_, stop)) => at = stop,
            None => at = end,
        }
    }
    (done > 0).then(|| left + &text[done..])
}

fn ends_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | '&' | ')' | '}' | '<' | '>')
}

fn is_scheme_of_authorization(word: &str) -> bool {
    ["bearer", "basic"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

fn looks_like_token(word: &str) -> bool {
    word.len() >= MIN_TOKEN_BYTES && TOKEN_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

/// Where the value lies of the option whose name ends at `end`: after `=` or `:`, or in quotes after the name in quotes,
/// as SQL writes its options.
fn value_of(text: &str, end: usize) -> Option<(usize, usize)> {
    let after = &text[end..];
    let unquoted = after.trim_start_matches(['"', '\'', '`']);
    let quoted_name = unquoted.len() < after.len();
    let rest = unquoted.trim_start();
    let value = match rest.strip_prefix("=>").or_else(|| rest.strip_prefix(['=', ':'])) {
        Some(value) => value.trim_start(),
        None if quoted_name && rest.starts_with('\'') => rest,
        None => return None,
    };
    let start = text.len() - value.len();
    let (start, stop) = match value.chars().next()? {
        quote @ ('"' | '\'' | '`') => {
            let inside = start + 1;
            (inside, text[inside..].find(quote).map_or(text.len(), |at| inside + at))
        }
        '[' if value.starts_with(REDACTED) => (start, start + REDACTED.len()),
        _ => (start, text[start..].find(ends_value).map_or(text.len(), |at| start + at)),
    };
    if is_scheme_of_authorization(&text[start..stop]) {
        return word_after(text, stop).map(|(_, end)| (start, end));
    }
    (start < stop).then_some((start, stop))
}

fn word_after(text: &str, end: usize) -> Option<(usize, usize)> {
    let rest = text[end..].trim_start_matches(' ');
    let start = text.len() - rest.len();
    let stop = text[start..].find(ends_value).map_or(text.len(), |at| start + at);
    (start > end && stop > start).then_some((start, stop))
}

/// `text` with `?` for what stands in single quotes, and for what the engine prints as a typed literal, `Utf8("…")`;
/// `None` where there is neither. A message quotes values that way, and a value may be anybody's.
pub(super) fn without_quoted(text: &str) -> Option<String> {
    let mut left = String::new();
    let mut done = 0;
    let mut at = 0;
    let mut before = ' ';
    while let Some(c) = text[at..].chars().next() {
        let opens = match c {
            '\'' => !before.is_alphanumeric(),
            '"' => before == '(',
            _ => false,
        };
        let inside = at + c.len_utf8();
        if opens {
            let stop = closing(text, inside, c);
            if stop > inside && !is_harmless(&text[inside..stop]) {
                left.push_str(&text[done..inside]);
                left.push('?');
                done = stop;
            }
            at = (stop + 1).min(text.len());
            before = c;
        } else {
            before = c;
            at = inside;
        }
    }
    (done > 0).then(|| left + &text[done..])
}

/// Where the quote is closed, a doubled one being part of the text; the end where it is not.
fn closing(text: &str, from: usize, quote: char) -> usize {
    let mut at = from;
    while let Some(next) = text[at..].find(quote).map(|next| at + next) {
        if !text[next + 1..].starts_with(quote) {
            return next;
        }
        at = next + 2;
    }
    text.len()
}

/// What redaction itself puts in place.
fn is_harmless(inside: &str) -> bool {
    inside == "?" || inside == REDACTED || paths::is_digest(inside.rsplit('/').next().unwrap_or(inside))
}

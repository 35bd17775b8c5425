//! Credentials and quoted text.
//!
//! Where a credential ends is often a guess: `Password=a,b` may be one value or a value and the next. Too much is taken then.

use super::literals::{self, Literal, QUOTES};
use super::tokens::{self, MIN_TOKEN_BYTES, looks_like_token};
use super::{REDACTED, paths};

/// Parts of the names of options that hold credentials, in small letters and without what separates words.
const SECRET_WORDS: [&str; 28] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "dbpass",
    "pgpass",
    "userpass",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "accountkey",
    "privatekey",
    "sharedkey",
    "storagekey",
    "subscriptionkey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "saskey",
    "credential",
    "authorization",
    "signature",
    "connectionstring",
    "connstr",
    "bearer",
    "cookie",
];

/// Last words of those that are written as two.
const LAST_WORDS: [&str; 5] = ["key", "string", "phrase", "word", "code"];

/// Names of such options that are too short to be looked for within others.
const SECRET_NAMES: [&str; 6] = ["sas", "sig", "pw", "pass", "auth", "userpwd"];

/// What may stand before a credential in a header.
const SCHEMES_OF_AUTHORIZATION: [&str; 8] =
    ["bearer", "basic", "token", "digest", "negotiate", "apikey", "sharedkey", "sharedaccesssignature"];

/// Whether the values of an option called `key` are credentials.
pub(crate) fn names_a_secret(key: &str) -> bool {
    // A fencing token is a number that commits carry, and guards nothing but an order.
    if key.eq_ignore_ascii_case("fencing_token") {
        return false;
    }
    let name = normal(key);
    let last = key.rsplit(['_', '-', '.', ' ']).next().unwrap_or(key);
    SECRET_WORDS.iter().any(|word| name.contains(word))
        || SECRET_NAMES.iter().any(|name| last.eq_ignore_ascii_case(name))
}

/// `name` as it is compared: `AccountKey`, `account_key`, `account-key` and `Account Key` are one name.
fn normal(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a name of several words that ends with `text[at..end]` holds credentials, as in `Account Key=…`.
fn ends_a_secret(text: &str, at: usize, end: usize) -> bool {
    let last = normal(&text[at..end]);
    let (true, Some(before)) = (LAST_WORDS.contains(&last.as_str()), text[..at].strip_suffix(' ')) else {
        return false;
    };
    let previous = before.rsplit(|c| !in_word(c)).next().unwrap_or(before);
    let name = normal(previous) + &last;
    let says_so = |name: &str| SECRET_WORDS.iter().any(|word| name.contains(word));
    !says_so(&normal(previous)) && SECRET_WORDS.iter().any(|word| name.ends_with(word))
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// `text` without the values of options that hold credentials, and without what is one by its looks; `None` where there is
/// none.
pub(super) fn without_credentials(text: &str) -> Option<String> {
    let mut left = String::new();
    let mut done = 0;
    let mut at = 0;
    let mut literals = None;
    let mut passwords = tokens::Passwords::new(text);
    while at < text.len() {
        let word = &text[at..at + text[at..].find(|c| !in_word(c)).unwrap_or(text.len() - at)];
        if word.is_empty() {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let end = at + word.len();
        let named = || {
            let names = names_a_secret(word) || ends_a_secret(text, at, end);
            names.then(|| value_of(text, word, end, literals.get_or_insert_with(|| literals::literals(text)))).flatten()
        };
        let shaped = || {
            // What is encoded in base64 goes on past the letters of a word.
            let rest = looks_like_token(word).then(|| text[at..].find(ends_value).unwrap_or(text.len() - at));
            rest.map(|length| (at, at + length))
        };
        let secret = tokens::pem(text, at, end).or_else(named).or_else(|| {
            let follows = is_scheme_of_authorization(word) && !word.eq_ignore_ascii_case("token");
            let after = || word_after(text, end).filter(|(start, end)| end - start >= MIN_TOKEN_BYTES);
            follows.then(after).flatten()
        });
        match secret.or_else(|| passwords.of(word, end)).or_else(shaped) {
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
    SCHEMES_OF_AUTHORIZATION.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Where the value lies of the option `name` that ends at `end`: after `=`, `:` or a comparison, in quotes after the name, as SQL
/// writes its options, after a blank, as `--name value` has it, or in an element of XML.
fn value_of(text: &str, name: &str, end: usize, literals: &[Literal]) -> Option<(usize, usize)> {
    let after = &text[end..];
    let unquoted = after.trim_start_matches(['"', '\'', '`', '\\', ']']);
    // In prose a token is what a parser did not expect.
    let names_quoted = unquoted.len() < after.len() || !name.eq_ignore_ascii_case("token");
    let rest = without_cast(unquoted.trim_start());
    let before = &text[..end - name.len()];
    if let Some(content) = unquoted.strip_prefix('>')
        && before.ends_with('<')
    {
        let start = text.len() - content.len();
        return content.find('<').filter(|length| *length > 0).map(|length| (start, start + length));
    }
    let is_argument = || name.starts_with("--") && after.starts_with(' ') && !rest.starts_with('-');
    let value = match after_operator(rest) {
        Some(value) => value.trim_start(),
        None if names_quoted && rest.starts_with('\'') || is_argument() => rest,
        None => return None,
    };
    let start = text.len() - value.len();
    let within = literals[..literals.partition_point(|literal| literal.start <= end)].last();
    // A name in quotes of its own is within no text.
    let within = within.filter(|literal| end < literal.end && start < literal.end);
    let (start, stop) = match (value.chars().next()?, within) {
        (quote, None) if QUOTES.contains(&quote) => (start + 1, literals::closing(text, start + 1, quote)),
        (quote, Some(literal)) if QUOTES.contains(&quote) && quote != literal.quote => {
            (start + 1, literals::closing(text, start + 1, quote).min(literal.end))
        }
        (_, Some(literal)) => (start, literal.end),
        (_, None) if value.starts_with(REDACTED) => (start, start + REDACTED.len()),
        (_, None) => (start, start + bare_length(value)),
    };
    if within.is_none() && is_scheme_of_authorization(&text[start..stop]) {
        return word_after(text, stop).map(|(_, end)| (start, end));
    }
    (start < stop && &text[start..stop] != "?").then_some((start, stop))
}

/// `rest` after the type of `name::type`.
fn without_cast(rest: &str) -> &str {
    rest.strip_prefix("::").map_or(rest, |cast| cast.trim_start_matches(in_word).trim_start())
}

/// What follows the operator at the start of `rest`; those that are words, only before a quoted text or a list.
fn after_operator(rest: &str) -> Option<&str> {
    let signs = ["=>", "==", ":=", "<>", "!=", "<=", ">=", "=", ":", "%3D", "%3d"];
    if let Some(value) = signs.iter().find_map(|sign| rest.strip_prefix(sign)) {
        return Some(value);
    }
    let mut rest = rest;
    let mut is_comparison = false;
    loop {
        let length = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
        let word = &rest[..length];
        if !["not", "like", "ilike", "in", "is", "to", "by"].iter().any(|known| word.eq_ignore_ascii_case(known)) {
            return (is_comparison && rest.starts_with(['\'', '('])).then_some(rest);
        }
        is_comparison = true;
        rest = rest[length..].trim_start();
    }
}

/// How long the value is that begins without a quote, outside of any: a list or a call up to its last parenthesis, else up
/// to a blank, but for the punctuation of a sentence.
fn bare_length(value: &str) -> usize {
    let word = value.find(|c| !in_word(c)).unwrap_or(value.len());
    if value[word..].starts_with('(') {
        return word + list_length(&value[word..]);
    }
    let length = value.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(value.len());
    value[..length].trim_end_matches([',', ')', ']', '}', '>', '"', '\'', '`']).len()
}

/// How long the list is in its parentheses, what is quoted in it being no part of them; all where it is not closed.
fn list_length(list: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(c) = list[at..].chars().next() {
        at += c.len_utf8();
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return at,
            ')' => depth -= 1,
            quote if QUOTES.contains(&quote) => at = (literals::closing(list, at, quote) + 1).min(list.len()),
            _ => {}
        }
    }
    list.len()
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

/// Where the quote is closed, a doubled one being part of the text; the end where it is not, or where a backslash before it
/// leaves open whether it is.
fn closing(text: &str, from: usize, quote: char) -> usize {
    let mut at = from;
    while let Some(next) = text[at..].find(quote).map(|next| at + next) {
        if text[from..next].ends_with('\\') {
            break;
        }
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

//! Paths and URLs in texts.

use super::{PathPolicy, tokens};

/// What ends a path or URL in running text.
fn ends_path(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '|' | ',' | ';' | ')' | ']' | '}')
}

/// Like [`ends_path`], for URLs: what could stand in a password does not end one.
fn ends_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

/// Whether `text` can stand before `://`.
pub(super) fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Whether the values of a field called `key` are paths or URLs.
pub(super) fn names_a_path(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["path", "dir", "directory", "root", "location", "uri", "url", "file", "endpoint"]
        .iter()
        .any(|word| key == *word || key.ends_with(&format!("_{word}")) || key.ends_with(&format!(".{word}")))
}

/// The digest of a path: the same for the same path everywhere, so that two signals can be compared.
fn digest(text: &str) -> String {
    let hex = blake3::hash(text.as_bytes()).to_hex();
    format!("path#{}", &hex[..16])
}

/// A path as it leaves.
pub(super) fn path(text: &str, policy: PathPolicy) -> String {
    match policy {
        PathPolicy::Hashed if text.is_empty() || is_digest(text) => text.to_owned(),
        PathPolicy::Hashed => digest(text),
        PathPolicy::Shown => match home_length(text) {
            Some(length) => format!("~{}", &text[length..]),
            None => text.to_owned(),
        },
    }
}

/// Whether `text` is what [`path`] makes: redacting twice changes nothing.
pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("path#").is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether the first `length` bytes of `text` are a whole path.
fn is_whole(text: &str, length: usize) -> bool {
    text[length..].is_empty() || text[length..].starts_with(['/', '\\'])
}

/// How much of `text` names the home directory of whoever runs this. It may hold blanks.
fn own_home_length(text: &str) -> Option<usize> {
    let own = std::env::home_dir()?;
    let own = own.to_str().filter(|home| home.len() > 1 && text.starts_with(*home))?;
    is_whole(text, own.len()).then_some(own.len())
}

/// How much of `text` names a home directory.
fn home_length(text: &str) -> Option<usize> {
    if let Some(length) = own_home_length(text) {
        return Some(length);
    }
    if text.starts_with("/root") && is_whole(text, "/root".len()) {
        return Some("/root".len());
    }
    let drive = if text.get(1..3) == Some(":\\") { 2 } else { 0 };
    let users = ["/home/", "/Users/", "\\Users\\"].into_iter().find(|users| text[drive..].starts_with(users))?;
    let start = drive + users.len();
    Some(text[start..].find(['/', '\\']).map_or(text.len(), |end| start + end))
}

/// A URL as it leaves. Neither policy lets user info or a query through.
pub(super) fn url(text: &str, policy: PathPolicy) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    // A password may hold anything but `@`; what is cut off too much was a path.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let (place, tail) = rest.find(['?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    if is_digest(rest) || place.rsplit_once('/').is_some_and(|(_, last)| is_digest(&format!("{last}{tail}"))) {
        return format!("{scheme}://{rest}");
    }
    if scheme == "file" {
        return path(place, policy);
    }
    match policy {
        PathPolicy::Shown if tail.starts_with('?') => format!("{scheme}://{place}?redacted"),
        PathPolicy::Shown => format!("{scheme}://{place}"),
        PathPolicy::Hashed if matches!(scheme, "http" | "https" | "grpc") => match place.split_once('/') {
            // Which server did not answer is worth knowing, and no secret.
            Some((host, rest)) if !rest.is_empty() => format!("{scheme}://{host}/{}", digest(rest)),
            _ => format!("{scheme}://{place}"),
        },
        PathPolicy::Hashed => format!("{scheme}://{}", digest(place)),
    }
}

/// `text` with its URLs as they leave; `None` where there is none.
pub(super) fn without_urls(text: &str, policy: PathPolicy) -> Option<String> {
    replace_urls(text, |found| url(found, policy))
}

/// `text` whose URLs have neither user info nor a query; `None` where there is no URL.
pub(super) fn without_user_info(text: &str) -> Option<String> {
    replace_urls(text, |found| match found.split_once("://") {
        Some(("file", _)) | None => found.to_owned(),
        Some(_) => url(found, PathPolicy::Shown),
    })
}

/// How far a password is looked for after a quote that may be part of it.
const MAX_PASSWORD_BYTES: usize = 1024;

/// Where the URL ends whose `://` is at `at`. A quote ends it, but not in a password.
fn url_end(text: &str, at: usize) -> usize {
    let end_from = |from: usize| text[from..].find(ends_url).map_or(text.len(), |end| from + end);
    let (place, end) = (at + "://".len(), end_from(at));
    let near = &text[..text.floor_char_boundary(end.saturating_add(MAX_PASSWORD_BYTES))];
    let run = near[end..].find(char::is_whitespace).map_or(near.len(), |blank| end + blank);
    let is_port =
        |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.bytes().all(|b| b.is_ascii_digit());
    let opens_password = text[place..end].split_once(':').is_some_and(|(user, rest)| {
        !user.contains(['/', '?', '#', '@']) && (!is_port(rest) || tokens::run_length(&near[place..]) > end - place)
    });
    match text[end..run].rfind('@') {
        Some(sign) if opens_password && !text[place..end].contains('@') => end_from(end + sign),
        _ => end,
    }
}

fn replace_urls(text: &str, leaves: impl Fn(&str) -> String) -> Option<String> {
    let mut left = String::new();
    let mut done = 0;
    let mut from = 0;
    while let Some(at) = text[from..].find("://").map(|at| from + at) {
        let start = text[done..at]
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .map_or(done, |last| done + last + text[done + last..].chars().next().map_or(1, char::len_utf8));
        if !is_scheme(&text[start..at]) {
            from = at + 3;
            continue;
        }
        let end = url_end(text, at);
        from = end.max(at + 3);
        // Punctuation at the end belongs to the sentence.
        let end = start + text[start..end].trim_end_matches(['.', ',', ';', ':', ')', ']', '}']).len();
        left.push_str(&text[done..start]);
        left.push_str(&leaves(&text[start..end]));
        done = end;
        from = from.max(done);
    }
    (done > 0).then(|| left + &text[done..])
}

/// `text` with its absolute paths as they leave; `None` where there is none.
pub(super) fn without_paths(text: &str, policy: PathPolicy) -> Option<String> {
    let mut left = String::new();
    let mut done = 0;
    let mut before = ' ';
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let opens = before.is_whitespace()
            || matches!(before, '"' | '\'' | '`' | '=' | '(' | '[' | '{' | '<' | ',' | ':' | '|' | ';');
        if opens && starts_path(&text[at..]) {
            // In quotes a path may hold blanks.
            let known = at + own_home_length(&text[at..]).unwrap_or(0);
            let end = match before {
                quote @ ('"' | '\'' | '`') => text[known..].find(quote),
                _ => text[known..].find(ends_path),
            };
            let end = end.map_or(text.len(), |end| known + end);
            let end = at + text[at..end].trim_end_matches(['.', ':']).len();
            left.push_str(&text[done..at]);
            left.push_str(&path(&text[at..end], policy));
            done = end;
            at = end.max(at + c.len_utf8());
            before = text[..at].chars().next_back().unwrap_or(' ');
        } else {
            before = c;
            at += c.len_utf8();
        }
    }
    (done > 0).then(|| left + &text[done..])
}

/// Whether an absolute path begins here.
fn starts_path(text: &str) -> bool {
    let mut chars = text.chars();
    let name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '%'));
    match chars.next() {
        Some('/') => name(chars.next()),
        Some('~') => chars.next() == Some('/'),
        Some('\\') => chars.next() == Some('\\') && name(chars.next()),
        Some(drive) if drive.is_ascii_alphabetic() => {
            chars.next() == Some(':') && matches!(chars.next(), Some('\\' | '/')) && name(chars.next())
        }
        _ => false,
    }
}

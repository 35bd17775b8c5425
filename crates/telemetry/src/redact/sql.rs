//! SQL without its literals.

/// Whether the values of a field called `key` are SQL.
pub(super) fn names_sql(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["sql", "query", "statement"].iter().any(|word| key == *word || key.ends_with(&format!("_{word}")))
}

/// `text` with `?` for each string and number, and without comments. It reads tokens and no grammar, so that a query with
/// an error in it is redacted as well as a good one; what is not closed ends with the text.
pub(super) fn without_literals(text: &str) -> String {
    let mut left = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '\'' => {
                drop_prefix(&mut left);
                left.push('?');
                string_length(rest, escapes(text, rest))
            }
            '"' | '`' => copy(&mut left, rest, quoted_length(rest, c)),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment_length(rest),
            '$' => match dollar_length(rest) {
                Some(length) => {
                    left.push('?');
                    length
                }
                None => copy(&mut left, rest, 1),
            },
            c if c.is_ascii_digit() => {
                left.push('?');
                number_length(rest)
            }
            c if c.is_alphabetic() || c == '_' => {
                let word = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$'))).unwrap_or(rest.len());
                copy(&mut left, rest, word)
            }
            c => copy(&mut left, rest, c.len_utf8()),
        };
        rest = &rest[taken..];
    }
    left.trim().to_owned()
}

fn copy(left: &mut String, rest: &str, length: usize) -> usize {
    left.push_str(&rest[..length]);
    length
}

/// Takes the letter of `E'…'`, `X'…'`, `B'…'` or `N'…'` back: it is part of the literal.
fn drop_prefix(left: &mut String) {
    let mut chars = left.chars().rev();
    let letter = chars.next().is_some_and(|c| matches!(c.to_ascii_uppercase(), 'E' | 'X' | 'B' | 'N'));
    if letter && !chars.next().is_some_and(|c| c.is_alphanumeric() || c == '_') {
        left.pop();
    }
}

/// Whether the string at `rest` is written `E'…'`, in which a backslash escapes a quote.
fn escapes(text: &str, rest: &str) -> bool {
    text[..text.len() - rest.len()].ends_with(['E', 'e'])
}

fn string_length(rest: &str, backslash_escapes: bool) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if backslash_escapes => at += 2,
            // Dialects differ on whether this quote ends the string: all that follows may be its rest.
            b'\\' if bytes.get(at + 1) == Some(&b'\'') => return rest.len(),
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `/* … */`, which may hold others.
fn comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(sign) = rest.get(at..).and_then(|left| left.find(['/', '*'])).map(|sign| at + sign) {
        at = sign + 2;
        match &rest.as_bytes()[sign..rest.len().min(at)] {
            b"/*" => depth += 1,
            b"*/" if depth == 1 => return at,
            b"*/" => depth -= 1,
            _ => at = sign + 1,
        }
    }
    rest.len()
}

fn quoted_length(rest: &str, quote: char) -> usize {
    rest[1..].find(quote).map_or(rest.len(), |end| end + 2)
}

/// `$tag$ … $tag$`; `None` where it is none, such as the parameter `$1`.
fn dollar_length(rest: &str) -> Option<usize> {
    let tag_end = rest[1..].find('$')? + 2;
    let tag = &rest[..tag_end];
    let name = &tag[1..tag_end - 1];
    let is_tag =
        name.chars().all(|c| c.is_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| rest[tag_end..].find(tag).map_or(rest.len(), |end| tag_end + end + tag.len()))
}

fn number_length(rest: &str) -> usize {
    let mut before = '0';
    rest.find(|c: char| {
        let sign_of_exponent = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
        before = c;
        !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || sign_of_exponent)
    })
    .unwrap_or(rest.len())
}

//! Credentials that are known by their shape, whatever they are called.

use super::literals::QUOTES;

/// How tokens of well-known makers begin.
const TOKEN_PREFIXES: [&str; 38] = [
    "AKIA",
    "ASIA",
    "AIza",
    "eyJ",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "dapi",
    "dop_v1_",
    "dckr_pat_",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "rk_test_",
    "whsec_",
    "sk-ant-",
    "sk-proj-",
    "sk-",
    "npm_",
    "hf_",
    "pypi-",
    "shpat_",
    "SG.",
    "hvs.",
    "ya29.",
    "lin_api_",
    "ATATT",
    "PMAK-",
];

/// A word shorter than this is no token, whatever it begins with.
pub(super) const MIN_TOKEN_BYTES: usize = 16;

const PEM_BEGIN: &str = "-----BEGIN";
const PEM_END: &str = "-----END";

/// Whether `word` begins as a token does and goes on as no name would: names of columns are of one case.
pub(super) fn looks_like_token(word: &str) -> bool {
    let random = |rest: &str| rest.chars().any(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    word.len() >= MIN_TOKEN_BYTES && TOKEN_PREFIXES.iter().any(|prefix| word.strip_prefix(prefix).is_some_and(random))
}

/// The PEM block that begins in `text[at..end]`, up to its last dash, or to the end of what is cut off.
pub(super) fn pem(text: &str, at: usize, end: usize) -> Option<(usize, usize)> {
    let start = at + text[at..end].find(PEM_BEGIN)?;
    let stop = text[start..].find(PEM_END).map(|footer| start + footer + PEM_END.len());
    let stop = stop.and_then(|name| text[name..].find("-----").map(|dashes| name + dashes + "-----".len()));
    Some((start, stop.unwrap_or(text.len())))
}

/// Finds the passwords of `user:password@host`, from the beginning of a text to its end.
pub(super) struct Passwords<'t> {
    text: &'t str,
    /// Where the run ends that was looked at last. It ends there wherever it begins after a colon, so that a text full of colons
    /// is read once and not once a colon.
    run_end: usize,
    /// The last `@` in it that a host may follow.
    sign: Option<usize>,
}

impl<'t> Passwords<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, run_end: 0, sign: None }
    }

    /// The password after `user`, which ends at `end`.
    pub(super) fn of(&mut self, user: &str, end: usize) -> Option<(usize, usize)> {
        let (text, start) = (self.text, end + 1);
        let is_user = user.starts_with(|c: char| c.is_alphabetic() || c == '_') && !user.eq_ignore_ascii_case("mailto");
        if !is_user || !text[end..].starts_with(':') || text[start..].starts_with([':', '/']) {
            return None;
        }
        if start >= self.run_end {
            let run = &text[start..start + run_length(&text[start..])];
            let sign = run.rmatch_indices('@').find(|(at, _)| run[at + 1..].starts_with(char::is_alphanumeric));
            self.sign = sign.map(|(at, _)| start + at);
            self.run_end = start + run.len();
        }
        self.sign.filter(|sign| *sign > start).map(|sign| (start, sign))
    }
}

/// How far `text` goes on without a blank and without a quote that is neither doubled nor escaped.
pub(super) fn run_length(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            return at;
        }
        if c == '\\' {
            let _ = chars.next_if(|(_, next)| QUOTES.contains(next));
        } else if QUOTES.contains(&c) && chars.next_if(|(_, next)| *next == c).is_none() {
            return at;
        }
    }
    text.len()
}

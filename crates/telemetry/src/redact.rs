//! What is taken out of a text before it leaves the process.
//!
//! Three things never leave: credentials, the literals of SQL, and where a person's home is. Paths and URLs leave as a
//! digest, which says whether two are the same and not which they are, unless their owner opts in.

mod literals;
mod paths;
mod secrets;
mod sql;
mod tokens;

use std::borrow::Cow;

use serde_json::Value;

pub(crate) use secrets::names_a_secret;

use crate::vocabulary::{self, Content};

/// What stands for a credential.
pub const REDACTED: &str = "[redacted]";

/// How paths and URLs leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathPolicy {
    /// As `path#` and the first 16 digits of their BLAKE3.
    #[default]
    Hashed,
    /// As they are, with `~` for a home directory and without credentials.
    Shown,
}

/// Takes out of a text what may not leave the process.
///
/// ```
/// use alluvium_telemetry::Redactor;
///
/// let redactor = Redactor::default();
/// let left = redactor.text("cannot read s3://ada:pw@bucket/x with password=hunter2, bad value '1990-01-01'");
/// assert!(left.starts_with("cannot read s3://path#"));
/// assert!(left.ends_with("with password=[redacted], bad value '?'"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    paths: PathPolicy,
    allowed_prefixes: Vec<String>,
}

impl Redactor {
    /// How paths leave; hashed unless this says otherwise.
    #[must_use]
    pub fn with_paths(mut self, paths: PathPolicy) -> Self {
        self.paths = paths;
        self
    }

    /// Lets attributes through whose names start with `prefix`, as free text: those of a crate that traces queries, say.
    #[must_use]
    pub fn with_allowed_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.allowed_prefixes.push(prefix.into());
        self
    }

    /// What the values of the attribute `name` are; `None` where it may not leave.
    #[must_use]
    pub fn allows(&self, name: &str) -> Option<Content> {
        match vocabulary::attribute_named(name) {
            Some(attribute) => Some(attribute.content),
            None => self.allowed_prefixes.iter().any(|prefix| name.starts_with(prefix)).then_some(Content::Text),
        }
    }

    /// `text` as it may leave where it is of the kind `content`.
    #[must_use]
    pub fn value<'a>(&self, content: Content, text: &'a str) -> Cow<'a, str> {
        match content {
            Content::Word | Content::Id | Content::Number | Content::Name => self.identifiers(text),
            Content::Text => self.text(text),
            Content::Sql => Cow::Owned(self.sql(text)),
            Content::Path => Cow::Owned(self.path(text)),
        }
    }

    /// Free text, such as the message of an error: without credentials, with `'?'` for what is in single quotes, and
    /// with digests for paths and URLs.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        then(self.identifiers(text), secrets::without_quoted)
    }

    /// Free text as it may be stored and shown to its owner, in ledgers and reports: without credentials. Values, paths and
    /// the rest stay, so that it still helps whoever has to mend it.
    #[must_use]
    pub fn kept<'a>(&self, text: &'a str) -> Cow<'a, str> {
        then(then(Cow::Borrowed(text), paths::without_user_info), secrets::without_credentials)
    }

    /// SQL with `?` for each literal, without comments, and without credentials in quoted names.
    #[must_use]
    pub fn sql(&self, text: &str) -> String {
        self.kept(&sql::without_literals(text)).into_owned()
    }

    /// A path or URL as a whole.
    #[must_use]
    pub fn path(&self, text: &str) -> String {
        match text.split_once("://") {
            Some((scheme, _)) if paths::is_scheme(scheme) => paths::url(text, self.paths),
            _ => paths::path(text, self.paths),
        }
    }

    /// Redacts every value of `payload`, and every key that is a path or a credential itself.
    pub fn json(&self, payload: &mut Value) {
        match payload {
            Value::String(text) => {
                if let Cow::Owned(left) = self.text(text) {
                    *text = left;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(map) => {
                *map = std::mem::take(map)
                    .into_iter()
                    .map(|(key, mut value)| {
                        self.json_field(&key, &mut value);
                        (self.identifiers(&key).into_owned(), value)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn json_field(&self, key: &str, value: &mut Value) {
        if names_a_secret(key) {
            // A flag or a count tells no secret.
            if matches!(value, Value::String(_) | Value::Array(_) | Value::Object(_)) {
                *value = Value::String(REDACTED.to_owned());
            }
            return;
        }
        match value {
            Value::String(text) if paths::names_a_path(key) => *text = self.path(text),
            Value::String(text) if sql::names_sql(key) => *text = self.sql(text),
            _ => self.json(value),
        }
    }

    fn identifiers<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = then(Cow::Borrowed(text), |text| paths::without_urls(text, self.paths));
        let text = then(text, secrets::without_credentials);
        then(text, |text| paths::without_paths(text, self.paths))
    }
}

/// Applies a pass that answers `None` where it has nothing to take out; owned is what was changed.
fn then<'a>(text: Cow<'a, str>, pass: impl Fn(&str) -> Option<String>) -> Cow<'a, str> {
    match pass(&text) {
        Some(left) if left != *text => Cow::Owned(left),
        _ => text,
    }
}

#[cfg(test)]
mod tests;

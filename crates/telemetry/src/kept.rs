//! What is taken out of an option, and of a whole document, before it is stored or shown to its owner: credentials, by the names of
//! fields as well as by their looks. All else stays, as in [`Redactor::kept`].

use std::borrow::Cow;

use serde_json::Value;

use crate::redact::{REDACTED, Redactor, names_a_secret};

/// Fields of our documents whose keys are anybody's words with anybody's values beneath. Elsewhere the keys are the contract's, or
/// names of columns with types and the like, which are no credential of a column called `token`.
const FREE: [&str; 9] = [
    "check",
    "commit_metadata",
    "constraints",
    "defaults",
    "metadata",
    "observed",
    "options",
    "properties",
    "requested",
];

/// Fields that name files, partitions and parts of an identity: names stay.
const NAMES: [&str; 3] = ["component", "files", "partition_values"];

impl Redactor {
    /// The value of the option `name`, as it may be stored: nothing of it where the name says that it is a credential.
    ///
    /// ```
    /// use alluvium_telemetry::Redactor;
    ///
    /// let redactor = Redactor::default();
    /// assert_eq!(redactor.kept_option("api_key", "7"), "[redacted]");
    /// assert_eq!(redactor.kept_option("delimiter", ";"), ";");
    /// ```
    #[must_use]
    pub fn kept_option<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        match names_a_secret(name) && !value.is_empty() && value != REDACTED {
            true => Cow::Borrowed(REDACTED),
            false => self.kept(value),
        }
    }

    /// Makes of `document` what may be stored, and says whether that took anything out. A flag or a number tells no secret.
    pub fn keep_document(&self, document: &mut Value) -> bool {
        self.keep(document, false)
    }

    /// `is_free`: the keys of `value`, where it has any, are anybody's words.
    fn keep(&self, value: &mut Value, is_free: bool) -> bool {
        match value {
            Value::String(text) => replace(text, |text| self.kept(text)),
            Value::Array(items) => items.iter_mut().fold(false, |any, item| self.keep(item, is_free) | any),
            Value::Object(fields) => {
                fields.iter_mut().fold(false, |any, (key, field)| self.keep_field(key, field, is_free) | any)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    fn keep_field(&self, key: &str, value: &mut Value, is_free: bool) -> bool {
        match value {
            _ if NAMES.contains(&key) => false,
            Value::String(text) if is_free => replace(text, |text| self.kept_option(key, text)),
            Value::Array(_) | Value::Object(_) if is_free && names_a_secret(key) => {
                *value = Value::String(REDACTED.to_owned());
                true
            }
            _ => self.keep(value, is_free || FREE.contains(&key)),
        }
    }
}

/// Whether `text` was replaced.
fn replace(text: &mut String, by: impl Fn(&str) -> Cow<'_, str>) -> bool {
    let kept = by(text);
    let is_other = *kept != **text;
    if is_other {
        *text = kept.into_owned();
    }
    is_other
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_kept_without_what_its_fields_call_a_credential() {
        let mut document = json!({
            "options": { "sas_token": "x1", "delimiter": ";", "header": true, "retries_token": 3 },
            "schema": [{ "name": "token", "data_type": "Utf8", "metadata": { "api_key": "x2", "doc": "a", "unit": "pwd=x3" } }],
            "evolution": { "casts": { "token": "Int64" }, "defaults": { "api_token": "x4", "nested": { "secret": ["x5"] } } },
            "write": { "constraints": { "password": "v <> 'x6'", "ok": "v <> 'password=x7'" } },
            "fields": [{ "field": "constraints", "requested": { "password": "v <> 'x8'" }, "observed": { "password": "" } }],
            "files": [{ "path": "token=EU/part-1.parquet" }],
            "partition_values": { "token": "EU" },
            "changes": [{ "component": "source u: file token=EU/a.csv", "after": "b3:00" }],
            "sql": "select 'https://ada:x9@host/a'",
        });
        let redactor = Redactor::default();
        assert!(redactor.keep_document(&mut document));
        let text = document.to_string();
        for n in 1..=9 {
            assert!(!text.contains(&format!("x{n}")), "x{n}: {text}");
        }
        let kept = [
            ("/options", json!({ "sas_token": REDACTED, "delimiter": ";", "header": true, "retries_token": 3 })),
            ("/schema/0/name", json!("token")),
            ("/schema/0/metadata/doc", json!("a")),
            ("/evolution/casts/token", json!("Int64")),
            ("/evolution/defaults/nested/secret", json!(REDACTED)),
            ("/files/0/path", json!("token=EU/part-1.parquet")),
            ("/partition_values/token", json!("EU")),
            ("/changes/0/component", json!("source u: file token=EU/a.csv")),
        ];
        for (pointer, value) in kept {
            assert_eq!(document.pointer(pointer), Some(&value), "{pointer}");
        }
        assert!(!redactor.keep_document(&mut document), "twice takes nothing out");
    }

    #[test]
    fn a_document_without_credentials_is_as_it_was() {
        let document = json!({ "options": { "a": "b" }, "commit_metadata": { "fencing_token": 7, "run_id": "x" } });
        let mut kept = document.clone();
        assert!(!Redactor::default().keep_document(&mut kept));
        assert_eq!(kept, document);
    }
}

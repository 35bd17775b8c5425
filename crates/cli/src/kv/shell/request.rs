//! A request: its fields, each read as what it should be, or refused by its place.

use std::time::Duration;

use alluvium_disk_kv_cache::{KeyBuf, SetOptions};
use serde_json::{Map, Value};

use super::json::{self, JsonError};
use crate::kv::codec::{bytes_from_json, key_from_json, kind_of};
use crate::kv::fault::{Fault, kind};

/// An object of a request, as it came.
pub type Request = Map<String, Value>;

/// The field that names the operation.
pub const OP: &str = "op";
const ID: &str = "id";

/// The request that a line is.
pub fn parse(line: &[u8]) -> Result<Request, Fault> {
    match json::parse(line) {
        Ok(Value::Object(request)) => Ok(request),
        Ok(other) => Err(Fault::new(kind::BAD_REQUEST, format!("a request is an object, not {}", kind_of(&other)))),
        Err(JsonError::Malformed(error)) => {
            Err(Fault::new(kind::BAD_JSON, format!("the line is not one JSON object: {error}")))
        }
        Err(JsonError::Twice(place)) => Err(Fault::field(&place, "is there twice: leave one of them out")),
    }
}

/// Takes the `id` out of a request; null if there is none.
pub fn take_id(request: &mut Request) -> Result<Value, Fault> {
    match request.remove(ID).unwrap_or_default() {
        id @ (Value::Null | Value::String(_)) => Ok(id),
        Value::Number(id) if id.is_i64() || id.is_u64() => Ok(id.into()),
        _ => Err(Fault::field(ID, "must be a string or an integer of 64 bits")),
    }
}

/// The fields of one operation. A field that is null is one that is not there.
#[derive(Debug, Clone)]
pub struct Fields<'r> {
    map: &'r Request,
    /// The place of the object in the request: empty, or `do[2].`.
    at: String,
}

/// What an operation takes: names, with a `?` where one can be left out.
pub type Declared = &'static [&'static str];

impl<'r> Fields<'r> {
    /// The fields of an operation, all of which must be among those declared.
    pub fn of(map: &'r Request, at: &str, declared: Declared) -> Result<Fields<'r>, Fault> {
        let known = |name: &str| name == OP || declared.iter().any(|declared| declared.trim_end_matches('?') == name);
        let fields = Fields { map, at: at.to_owned() };
        match map.keys().find(|name| !known(name)) {
            None => Ok(fields),
            Some(unknown) => {
                let takes = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
                Err(Fault::field(
                    &fields.place(unknown),
                    format!("is not a field of this operation, which takes {takes}"),
                ))
            }
        }
    }

    /// The place of a field in the request.
    pub fn place(&self, name: &str) -> String {
        format!("{}{name}", self.at)
    }

    /// The place of the object itself in the request.
    pub fn object(&self) -> &str {
        self.at.trim_end_matches('.')
    }

    /// A field, if it is there.
    pub fn get(&self, name: &str) -> Option<&'r Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A refusal of a field.
    pub fn wrong(&self, name: &str, rule: impl Into<String>) -> Fault {
        Fault::field(&self.place(name), rule)
    }

    /// A key.
    pub fn key(&self, name: &str) -> Result<KeyBuf, Fault> {
        key_from_json(self.required(name)?, &self.place(name))
    }

    /// A key, if it is there.
    pub fn optional_key(&self, name: &str) -> Result<Option<KeyBuf>, Fault> {
        self.get(name).map(|value| key_from_json(value, &self.place(name))).transpose()
    }

    /// Several keys.
    pub fn keys(&self, name: &str) -> Result<Vec<KeyBuf>, Fault> {
        self.list(name, key_from_json)
    }

    /// A value.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>, Fault> {
        bytes_from_json(self.required(name)?, &self.place(name))
    }

    /// Several values.
    pub fn many_bytes(&self, name: &str) -> Result<Vec<Vec<u8>>, Fault> {
        self.list(name, bytes_from_json)
    }

    /// Several entries, each an array of a key and a value.
    pub fn entries(&self, name: &str) -> Result<Vec<(KeyBuf, Vec<u8>)>, Fault> {
        self.list(name, |entry, at| match entry.as_array().map(Vec::as_slice) {
            Some([key, value]) => {
                Ok((key_from_json(key, &format!("{at}[0]"))?, bytes_from_json(value, &format!("{at}[1]"))?))
            }
            _ => Err(Fault::field(at, "must be an array of a key and a value")),
        })
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<&'r str, Fault> {
        let value = self.required(name)?;
        value.as_str().ok_or_else(|| self.wrong(name, format!("must be a string, not {}", kind_of(value))))
    }

    /// A text, if it is there.
    pub fn optional_text(&self, name: &str) -> Result<Option<&'r str>, Fault> {
        self.get(name).map(|_| self.text(name)).transpose()
    }

    /// Several texts; none, if the field is not there.
    pub fn texts(&self, name: &str) -> Result<Vec<&'r str>, Fault> {
        if self.get(name).is_none() {
            return Ok(Vec::new());
        }
        self.list(name, |text, at| {
            let wrong = || Fault::field(at, format!("must be a string, not {}", kind_of(text)));
            text.as_str().ok_or_else(wrong)
        })
    }

    /// A number of things.
    pub fn count(&self, name: &str) -> Result<u64, Fault> {
        let value = self.required(name)?;
        value.as_u64().ok_or_else(|| self.wrong(name, "must be an integer from 0 to 2^64 − 1"))
    }

    /// A number of things, if it is there.
    pub fn optional_count(&self, name: &str) -> Result<Option<u64>, Fault> {
        self.get(name).map(|_| self.count(name)).transpose()
    }

    /// A number of things that is at least 1, if it is there.
    pub fn optional_small_count(&self, name: &str) -> Result<Option<u32>, Fault> {
        let Some(count) = self.optional_count(name)? else { return Ok(None) };
        let count = u32::try_from(count).ok().filter(|count| *count > 0);
        count.map(Some).ok_or_else(|| self.wrong(name, "must be an integer from 1 to 2^32 − 1"))
    }

    /// A number of things that is at least 1.
    pub fn small_count(&self, name: &str) -> Result<u32, Fault> {
        self.required(name)?;
        Ok(self.optional_small_count(name)?.unwrap_or(1))
    }

    /// An integer.
    pub fn integer(&self, name: &str) -> Result<i64, Fault> {
        self.required(name)?;
        Ok(self.optional_integer(name)?.unwrap_or_default())
    }

    /// An integer, if it is there.
    pub fn optional_integer(&self, name: &str) -> Result<Option<i64>, Fault> {
        let integer = |value: &Value| value.as_i64().ok_or_else(|| self.wrong(name, "must be an integer of 64 bits"));
        self.get(name).map(integer).transpose()
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<f64, Fault> {
        let value = self.required(name)?;
        value.as_f64().ok_or_else(|| self.wrong(name, format!("must be a number, not {}", kind_of(value))))
    }

    /// A length of time in seconds, whole or not.
    pub fn seconds(&self, name: &str) -> Result<Duration, Fault> {
        Duration::try_from_secs_f64(self.number(name)?)
            .map_err(|_| self.wrong(name, "must be seconds: 0 or more, and fewer than 2^64"))
    }

    /// A length of time, if it is there.
    pub fn optional_seconds(&self, name: &str) -> Result<Option<Duration>, Fault> {
        self.get(name).map(|_| self.seconds(name)).transpose()
    }

    /// How long to wait: not at all, if nothing is said.
    pub fn timeout(&self) -> Result<Duration, Fault> {
        Ok(self.optional_seconds("timeout")?.unwrap_or_default())
    }

    /// A yes or no, if it is there.
    pub fn optional_flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        let flag = |value: &Value| {
            let wrong = || self.wrong(name, format!("must be true or false, not {}", kind_of(value)));
            value.as_bool().ok_or_else(wrong)
        };
        self.get(name).map(flag).transpose()
    }

    /// One of several words, if it is there.
    pub fn optional_choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, Fault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let chosen = choices.iter().find(|(word, _)| value == word).map(|(_, choice)| *choice);
        chosen.map(Some).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(name, format!("must be one of: {}", words.join(", ")))
        })
    }

    /// How a value is stored, by `ttl` and `tags`.
    pub fn set_options(&self) -> Result<SetOptions, Fault> {
        let mut options = SetOptions::new();
        if let Some(ttl) = self.optional_seconds("ttl")? {
            options = options.with_ttl(ttl);
        }
        options = self.texts("tags")?.into_iter().fold(options, SetOptions::with_tag);
        Ok(options)
    }

    /// An array, each element read with its place.
    pub fn list<T>(&self, name: &str, read: impl Fn(&'r Value, &str) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let value = self.required(name)?;
        let wrong = || self.wrong(name, format!("must be an array, not {}", kind_of(value)));
        let elements = value.as_array().ok_or_else(wrong)?.iter().enumerate();
        elements.map(|(index, element)| read(element, &format!("{}[{index}]", self.place(name)))).collect()
    }

    fn required(&self, name: &str) -> Result<&'r Value, Fault> {
        self.get(name).ok_or_else(|| self.wrong(name, "is missing"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_refused_by_their_place() {
        let request = json!({
            "op": "x", "key": [1, null], "ttl": -1, "tags": ["a", 1], "n": 1.5, "entries": [["a", "b"], ["a", 1]], "none": null,
        });
        let request = request.as_object().unwrap();
        let fields = Fields::of(request, "do[2].", &["key", "ttl?", "tags?", "n", "entries", "none"]).unwrap();
        let place = |fault: Fault| fault.place().unwrap().to_owned();
        assert_eq!(place(fields.key("key").unwrap_err()), "do[2].key[1]");
        assert_eq!(place(fields.seconds("ttl").unwrap_err()), "do[2].ttl");
        assert_eq!(place(fields.count("n").unwrap_err()), "do[2].n");
        assert_eq!(place(fields.entries("entries").unwrap_err()), "do[2].entries[1][1]");
        assert_eq!(place(fields.text("none").unwrap_err()), "do[2].none");
        assert!(fields.optional_text("none").unwrap().is_none());
        let tags = json!({"op": "x", "tags": ["a", 1]});
        assert_eq!(place(Fields::of(tags.as_object().unwrap(), "do[0].", &["tag"]).unwrap_err()), "do[0].tags");
        let fault = Fields::of(tags.as_object().unwrap(), "", &["tags?"]).unwrap().set_options().unwrap_err();
        assert_eq!(place(fault), "tags[1]");
    }

    #[test]
    fn ids_are_strings_and_integers() {
        let id = |json: &str| take_id(&mut parse(json.as_bytes()).unwrap());
        assert_eq!(id(r#"{"id": 18446744073709551615}"#).unwrap(), json!(u64::MAX));
        assert_eq!(id(r#"{"id": "a"}"#).unwrap(), json!("a"));
        assert_eq!(id("{}").unwrap(), Value::Null);
        for wrong in [r#"{"id": 18446744073709551616}"#, r#"{"id": [1]}"#, r#"{"id": true}"#] {
            assert_eq!(id(wrong).unwrap_err().place(), Some("id"));
        }
    }
}

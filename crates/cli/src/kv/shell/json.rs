//! JSON in which no object names a field twice: with two, which one counts would be anybody's guess.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why a line cannot be read.
#[derive(Debug)]
pub enum JsonError {
    /// It is not one JSON value.
    Malformed(serde_json::Error),
    /// The field at this place (`do[2].key`) is there twice.
    Twice(String),
}

/// The one value that a line is.
pub fn parse(line: &[u8]) -> Result<Value, JsonError> {
    let twice = RefCell::new(None);
    let mut parser = serde_json::Deserializer::from_slice(line);
    let parsed = Strict { twice: &twice }.deserialize(&mut parser);
    parsed.and_then(|value| parser.end().map(|()| value)).map_err(|error| match twice.take() {
        Some(place) => JsonError::Twice(place),
        None => JsonError::Malformed(error),
    })
}

#[derive(Clone, Copy)]
struct Strict<'p> {
    /// The place of a field that is there twice, as seen from here.
    twice: &'p RefCell<Option<String>>,
}

impl Strict<'_> {
    /// Puts what lies around a place in front of it.
    fn around(self, outer: impl fmt::Display) {
        if let Some(place) = &mut *self.twice.borrow_mut() {
            let dot = if place.starts_with('[') { "" } else { "." };
            *place = format!("{outer}{dot}{place}");
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) =
            list.next_element_seed(self).inspect_err(|_| self.around(format_args!("[{}]", values.len())))?
        {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            if fields.contains_key(&name) {
                self.twice.replace(Some(name));
                return Err(A::Error::custom("a field is there twice"));
            }
            let value = object.next_value_seed(self).inspect_err(|_| self.around(&name))?;
            fields.insert(name, value);
        }
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_a_field_that_is_there_twice_is_as_serde_json_has_it() {
        for line in [
            r#"{"a": [1, -2, 18446744073709551615, 1.5, 1e300, true, null, "x\n\u00e9", {"a": {}, "b": []}], "": "ü"}"#,
            " 7 ",
            "[]",
            "\"text\"",
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap(), serde_json::from_str::<Value>(line).unwrap());
        }
        for line in ["", "{", "{} {}", "[1,]", "{\"a\" 1}", "nul", "{1: 2}", "\"\u{7}\""] {
            let refused = serde_json::from_str::<Value>(line).unwrap_err().to_string();
            assert!(matches!(parse(line.as_bytes()), Err(JsonError::Malformed(error)) if error.to_string() == refused));
        }
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused_by_its_place() {
        for (line, expected) in [
            (r#"{"op": "x", "op": "y"}"#, "op"),
            (r#"{"a": {"b": 1, "b": null}}"#, "a.b"),
            (r#"{"do": [1, {"key": 1}, {"key": {"base64": "", "base64": ""}}]}"#, "do[2].key.base64"),
            (r#"[[1, [{"a": 1, "\u0061": 1}]]]"#, "[0][1][0].a"),
            // The rest of the line is not looked at.
            (r#"{"a": 1, "a": 2"#, "a"),
        ] {
            assert!(matches!(parse(line.as_bytes()), Err(JsonError::Twice(place)) if place == expected), "{line}");
        }
    }
}

//! JSON text into nodes, through serde_json's parser.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::LazyLock;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::number::{self, Numbers};
use super::{Fault, Limits, Node};
use crate::canonical::{MAX_DEPTH, Step};
use crate::v1::ErrorCode;

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Node<'_>, Fault> {
    if let Some(mark) = byte_order_mark(bytes) {
        return Err(Fault::new(ErrorCode::Malformed, "JSON in UTF-8 without a byte order mark", mark));
    }
    let state = State {
        values: Cell::new(0),
        limits,
        numbers: RefCell::new(Numbers::of(bytes)),
        numbers_read: Cell::new(0),
        fault: RefCell::new(None),
        steps: RefCell::new(Vec::new()),
    };
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    // Our own limit is half of the parser's and comes first.
    let read = Reader { state: &state, depth: 0 }.deserialize(&mut parser);
    let error = match read.and_then(|node| parser.end().map(|()| node)) {
        Ok(node) => return Ok(node),
        Err(error) => error,
    };
    let mut fault = match state.fault.into_inner() {
        Some(fault) => fault,
        None if error.is_eof() => {
            Fault::new(ErrorCode::Truncated, "a whole JSON document", format!("its end after {} bytes", bytes.len()))
        }
        // The parser tells this from other mistakes in its message alone.
        None if error.to_string().starts_with("number out of range") => {
            let number = state.numbers.borrow_mut().at(state.numbers_read.get());
            number::out_of_range(number.unwrap_or("a wider one"))
        }
        None => {
            let said = error.to_string();
            let problem = said.rsplit_once(" at line ").map_or(said.as_str(), |(problem, _)| problem);
            let fault = Fault::new(ErrorCode::Malformed, "JSON", format!("text that is none ({problem})"));
            fault.at(error.line(), error.column().max(1))
        }
    };
    fault.0.steps.extend(state.steps.into_inner());
    Err(fault)
}

/// The byte order mark that a document begins with, in words.
fn byte_order_mark(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => Some("one; save it without"),
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => Some("one of UTF-16; save it as UTF-8"),
        _ => None,
    }
}

/// What the readers of one document share.
struct State<'de> {
    values: Cell<usize>,
    limits: Limits,
    /// The numbers as they are spelled, and how many of them the parser has read.
    numbers: RefCell<Numbers<'de>>,
    numbers_read: Cell<usize>,
    /// The mistake that ended reading, where it was one of ours and not the parser's.
    fault: RefCell<Option<Fault>>,
    /// Where it was, innermost first.
    steps: RefCell<Vec<Step>>,
}

impl<'de> State<'de> {
    fn refuse<E: Error>(&self, fault: Fault) -> E {
        self.fault.replace(Some(fault));
        E::custom("refused")
    }

    fn accept<E: Error>(&self, node: Result<Node<'de>, Fault>) -> Result<Node<'de>, E> {
        node.map_err(|fault| self.refuse(fault))
    }

    /// Counts a number, and says how many there were before.
    fn count_number(&self) -> usize {
        self.numbers_read.replace(self.numbers_read.get() + 1)
    }
}

#[derive(Clone, Copy)]
struct Reader<'a, 'de> {
    state: &'a State<'de>,
    depth: usize,
}

impl Reader<'_, '_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.state.refuse(Fault::too_deep()));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_, 'de> {
    type Value = Node<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node<'de>, D::Error> {
        let values = self.state.values.get() + 1;
        if values > self.state.limits.max_values {
            return Err(self.state.refuse(Fault::too_many(self.state.limits)));
        }
        self.state.values.set(values);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, 'de> {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node<'de>, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node<'de>, E> {
        Ok(Node::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node<'de>, E> {
        self.state.count_number();
        self.state.accept(number::integer(i128::from(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node<'de>, E> {
        self.state.count_number();
        self.state.accept(number::integer(i128::from(value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node<'de>, E> {
        let index = self.state.count_number();
        let text = self.state.numbers.borrow_mut().at(index);
        self.state.accept(text.map_or_else(|| Node::float(value), |text| number::spelled(text, value)))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node<'de>, E> {
        Ok(Node::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node<'de>, A::Error> {
        let reader = self.deeper()?;
        let mut items = Vec::new();
        loop {
            match list.next_element_seed(reader) {
                Ok(Some(item)) => items.push(item),
                Ok(None) => return Ok(Node::List(items)),
                Err(error) => {
                    self.state.steps.borrow_mut().push(Step::Index(items.len()));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Node<'de>, A::Error> {
        let reader = self.deeper()?;
        let mut entries = Vec::new();
        while let Some(key) = object.next_key_seed(Key)? {
            if entries.is_empty() && key == NUMBER && numbers_are_objects() {
                let text: Cow<'de, str> = object.next_value_seed(Key)?;
                self.state.count_number();
                return self.state.accept(number::of_text(&text));
            }
            match object.next_value_seed(reader) {
                Ok(value) => entries.push((key, value)),
                Err(error) => {
                    self.state.steps.borrow_mut().push(Step::Key(key.into_owned().into()));
                    return Err(error);
                }
            }
        }
        self.state.accept(Node::object(entries))
    }
}

/// The key under which serde_json hands numbers over with its feature `arbitrary_precision`.
const NUMBER: &str = "$serde_json::private::Number";

/// Whether something in this build has turned that feature on: cargo has one set of features for all who use a crate.
fn numbers_are_objects() -> bool {
    struct Shape;

    impl<'de> Visitor<'de> for Shape {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<bool, E> {
            Ok(false)
        }

        fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<bool, A::Error> {
            Ok(true)
        }
    }

    static ARE_OBJECTS: LazyLock<bool> =
        LazyLock::new(|| serde_json::Deserializer::from_str("0.5").deserialize_any(Shape).unwrap_or(true));
    *ARE_OBJECTS
}

/// A key, borrowed where it holds no escape.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

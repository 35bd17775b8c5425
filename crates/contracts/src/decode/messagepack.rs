//! MessagePack into nodes.
//!
//! Read here and not through `rmp-serde`, which cannot say that bytes are left over, where a mistake lies, or that a
//! value has a form that JSON does not have. A length is only believed as far as there are bytes for it.

use std::borrow::Cow;

use rmp::Marker;

use super::number::integer;
use super::{Fault, Limits, Node};
use crate::canonical::{MAX_DEPTH, Step};
use crate::v1::ErrorCode;

pub(super) fn read(bytes: &[u8], limits: Limits) -> Result<Node<'_>, Fault> {
    let mut reader = Reader { rest: bytes, length: bytes.len(), values: 0, limits };
    let node = reader.value(0)?;
    match reader.rest.len() {
        0 => Ok(node),
        left => Err(Fault::new(ErrorCode::Malformed, "one document", format!("{left} bytes behind it"))),
    }
}

struct Reader<'de> {
    rest: &'de [u8],
    length: usize,
    values: usize,
    limits: Limits,
}

impl<'de> Reader<'de> {
    fn value(&mut self, depth: usize) -> Result<Node<'de>, Fault> {
        self.values += 1;
        if self.values > self.limits.max_values {
            return Err(Fault::too_many(self.limits));
        }
        let [marker] = self.array()?;
        match Marker::from_u8(marker) {
            Marker::Null => Ok(Node::Null),
            Marker::False => Ok(Node::Boolean(false)),
            Marker::True => Ok(Node::Boolean(true)),
            Marker::FixPos(value) => Ok(Node::Integer(i64::from(value))),
            Marker::FixNeg(value) => Ok(Node::Integer(i64::from(value))),
            Marker::U8 => self.array().and_then(|bytes| integer(u8::from_be_bytes(bytes).into())),
            Marker::U16 => self.array().and_then(|bytes| integer(u16::from_be_bytes(bytes).into())),
            Marker::U32 => self.array().and_then(|bytes| integer(u32::from_be_bytes(bytes).into())),
            Marker::U64 => self.array().and_then(|bytes| integer(u64::from_be_bytes(bytes).into())),
            Marker::I8 => self.array().and_then(|bytes| integer(i8::from_be_bytes(bytes).into())),
            Marker::I16 => self.array().and_then(|bytes| integer(i16::from_be_bytes(bytes).into())),
            Marker::I32 => self.array().and_then(|bytes| integer(i32::from_be_bytes(bytes).into())),
            Marker::I64 => self.array().and_then(|bytes| integer(i64::from_be_bytes(bytes).into())),
            Marker::F32 => self.array().and_then(|bytes| Node::float(f32::from_be_bytes(bytes).into())),
            Marker::F64 => self.array().and_then(|bytes| Node::float(f64::from_be_bytes(bytes))),
            Marker::FixArray(length) => self.list(length.into(), depth),
            Marker::Array16 => self.array().and_then(|bytes| self.list(u16::from_be_bytes(bytes).into(), depth)),
            Marker::Array32 => self.array().and_then(|bytes| self.list(u32::from_be_bytes(bytes), depth)),
            Marker::FixMap(length) => self.object(length.into(), depth),
            Marker::Map16 => self.array().and_then(|bytes| self.object(u16::from_be_bytes(bytes).into(), depth)),
            Marker::Map32 => self.array().and_then(|bytes| self.object(u32::from_be_bytes(bytes), depth)),
            marker => match self.text(marker)? {
                Some(text) => Ok(Node::Text(text)),
                None => Err(Fault::new(ErrorCode::Malformed, "a value that JSON has", unlike_json(marker))),
            },
        }
    }

    fn list(&mut self, length: u32, depth: usize) -> Result<Node<'de>, Fault> {
        let depth = deeper(depth)?;
        let mut items = Vec::with_capacity(room(length));
        for index in 0..length as usize {
            items.push(self.value(depth).map_err(|fault| fault.under(Step::Index(index)))?);
        }
        Ok(Node::List(items))
    }

    fn object(&mut self, length: u32, depth: usize) -> Result<Node<'de>, Fault> {
        let depth = deeper(depth)?;
        let mut entries = Vec::with_capacity(room(length));
        for _ in 0..length {
            let [marker] = self.array()?;
            let Some(key) = self.text(Marker::from_u8(marker))? else {
                return Err(Fault::new(ErrorCode::Malformed, "a key that is text", "another key"));
            };
            match self.value(depth) {
                Ok(value) => entries.push((key, value)),
                Err(fault) => return Err(fault.under(Step::Key(key.into_owned().into()))),
            }
        }
        Node::object(entries)
    }

    /// The text that `marker` begins; `None` where it begins something else.
    fn text(&mut self, marker: Marker) -> Result<Option<Cow<'de, str>>, Fault> {
        let length = match marker {
            Marker::FixStr(length) => u32::from(length),
            Marker::Str8 => u8::from_be_bytes(self.array()?).into(),
            Marker::Str16 => u16::from_be_bytes(self.array()?).into(),
            Marker::Str32 => u32::from_be_bytes(self.array()?),
            _ => return Ok(None),
        };
        let bytes = self.bytes(length as usize)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(Cow::Borrowed(text))),
            Err(error) => Err(Fault::new(ErrorCode::Malformed, "text in UTF-8", error.to_string())),
        }
    }

    fn bytes(&mut self, length: usize) -> Result<&'de [u8], Fault> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(Fault::new(
                ErrorCode::Truncated,
                format!("{length} bytes from byte {}", self.length - self.rest.len()),
                format!("the end after {} bytes", self.length),
            ));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }
}

/// For how many parts there is room at once: a length is only a claim.
fn room(length: u32) -> usize {
    const AT_ONCE: u32 = 32;
    length.min(AT_ONCE) as usize
}

fn deeper(depth: usize) -> Result<usize, Fault> {
    if depth == MAX_DEPTH { Err(Fault::too_deep()) } else { Ok(depth + 1) }
}

fn unlike_json(marker: Marker) -> &'static str {
    match marker {
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "binary data",
        Marker::Reserved => "the reserved byte 0xc1",
        _ => "an extension type",
    }
}

//! Keys: [`Key`] writes any key as bytes whose order is the order of the keys; [`FromKey`] reads them back; [`KeyBuf`]
//! is a key that was read from a store.
//!
//! # Format
//! The bytes are those of FoundationDB's tuple layer, so other languages have libraries for them. They are stable: what
//! one version of this crate wrote, every later one finds. Every key is one element:
//!
//! | element | bytes |
//! |---|---|
//! | bytes | `01`, the bytes with each `00` as `00 FF`, `00` |
//! | text (UTF-8) | `02`, as bytes |
//! | tuple | `05`, its elements, `00` |
//! | integer, by value, whatever its Rust type | 0: `14`; of n ≤ 8 bytes: `14`+n and the n bytes, big end first; negative: `14`−n and the ones' complement of −value; longer: `1D` or `0B`, n (or its complement), the n bytes |
//! | float (`f32` is widened to `f64`) | `21`, the IEEE bits, big end first, sign bit flipped (negative: all bits) |
//! | bool | `26` false, `27` true |
//! | UUID or any other 16 bytes | `30`, the 16 bytes |
//!
//! So bytes < text < tuples < integers < floats < bools; within a kind the order is the natural one (text by code point,
//! tuples element by element, a shorter one first). `1_u8` and `1_i64` are the same key, `1` and `1.0` are not, nor are
//! `"a"` and `("a",)`.

use std::fmt;

use thiserror::Error;

const BYTES: u8 = 0x01;
const TEXT: u8 = 0x02;
const TUPLE: u8 = 0x05;
const LONG_NEGATIVE: u8 = 0x0B;
const ZERO: u8 = 0x14;
const LONG_POSITIVE: u8 = 0x1D;
/// What integers begin with lies between these two.
pub(crate) const FIRST_INTEGER: u8 = LONG_NEGATIVE;
pub(crate) const LAST_INTEGER: u8 = LONG_POSITIVE;
const FLOAT: u8 = 0x21;
const FALSE: u8 = 0x26;
const TRUE: u8 = 0x27;
const FIXED_16: u8 = 0x30;

const END: u8 = 0x00;
/// After a zero byte that is part of bytes or text.
const ESCAPED: u8 = 0xFF;

/// What can be a key: text, bytes, integers of every width, floats, bools, and tuples of up to six keys.
///
/// Byte strings are `[u8]` and `Vec<u8>`; `[u8; 16]` is the fixed-width kind that UUIDs use.
///
/// ```
/// use alluvium_disk_kv_cache::{Key, KeyBuf};
///
/// let key = ("orders", 2026, -1_i8).to_key();
/// assert!(key < ("orders", 2026, 0).to_key());
/// assert_eq!(key.decode::<(String, u16, i64)>().unwrap(), ("orders".to_owned(), 2026, -1));
/// assert_eq!(format!("{key:?}"), r#"("orders", 2026, -1)"#);
/// assert_ne!(1.to_key(), 1.0.to_key());
/// ```
pub trait Key {
    /// Appends the encoded key, as the module says. An implementation of one's own calls those of other types: the
    /// bytes must be exactly one element.
    fn encode_into(&self, out: &mut Vec<u8>);

    /// The encoded key.
    fn to_key(&self) -> KeyBuf {
        let mut bytes = Vec::with_capacity(32);
        self.encode_into(&mut bytes);
        KeyBuf(bytes)
    }
}

/// A type that can be read back from an encoded key.
pub trait FromKey: Sized {
    /// Reads one element from the front of `bytes` and moves past it.
    ///
    /// # Errors
    /// [`KeyError`] if there is an element of another kind, a number out of range, or none.
    fn decode_from(bytes: &mut &[u8]) -> Result<Self, KeyError>;
}

/// Why an encoded key is not of the type asked for.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The bytes end within an element, or there is none.
    #[error("the key ends where a {expected} should be: it was written with fewer elements or is damaged")]
    Ended {
        /// What was asked for.
        expected: &'static str,
    },
    /// There is an element of another kind.
    #[error("the key has an element of kind {found:#04x} where a {expected} should be: read it as what it was written")]
    Kind {
        /// What was asked for.
        expected: &'static str,
        /// The first byte of the element found.
        found: u8,
    },
    /// A number does not fit the type asked for.
    #[error("the key has a number that does not fit {expected}: read it as a wider type")]
    Range {
        /// What was asked for.
        expected: &'static str,
    },
    /// Text is not UTF-8.
    #[error("the key has text that is not UTF-8: it is damaged")]
    Text,
    /// There are bytes after the key.
    #[error("the key goes on after the {expected}: it was written with more elements")]
    Trailing {
        /// What was asked for.
        expected: &'static str,
    },
}

/// An encoded key. Compares, sorts and hashes as the key does, and is itself a [`Key`].
///
/// `Debug` shows the key as it was written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyBuf(Vec<u8>);

impl KeyBuf {
    /// Takes encoded bytes, of [`as_bytes`](KeyBuf::as_bytes) or of another language's tuple layer.
    ///
    /// # Errors
    /// [`KeyError`] if they are not exactly one element.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<KeyBuf, KeyError> {
        let mut rest = bytes.as_slice();
        KeyElement::decode_from(&mut rest)?;
        if rest.is_empty() { Ok(KeyBuf(bytes)) } else { Err(KeyError::Trailing { expected: "key" }) }
    }

    /// A key as it lies in a store, which is under a checksum: not looked at again.
    pub(crate) fn trusted(bytes: Vec<u8>) -> KeyBuf {
        KeyBuf(bytes)
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the key as a type.
    ///
    /// # Errors
    /// [`KeyError`] if it was written as something else.
    pub fn decode<K: FromKey>(&self) -> Result<K, KeyError> {
        let mut rest = self.0.as_slice();
        let key = K::decode_from(&mut rest)?;
        if rest.is_empty() { Ok(key) } else { Err(KeyError::Trailing { expected: "key" }) }
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        match KeyElement::decode_from(&mut rest) {
            Ok(element) if rest.is_empty() => element.fmt(f),
            _ => write!(f, "KeyBuf({:02x?})", self.0),
        }
    }
}

impl Key for KeyBuf {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl FromKey for KeyBuf {
    fn decode_from(bytes: &mut &[u8]) -> Result<KeyBuf, KeyError> {
        let whole = *bytes;
        KeyElement::decode_from(bytes)?;
        Ok(KeyBuf(whole[..whole.len() - bytes.len()].to_vec()))
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn encode_into(&self, out: &mut Vec<u8>) {
        (**self).encode_into(out);
    }
}

impl Key for str {
    fn encode_into(&self, out: &mut Vec<u8>) {
        escape(TEXT, self.as_bytes(), out);
    }
}

impl Key for String {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.as_str().encode_into(out);
    }
}

impl FromKey for String {
    fn decode_from(bytes: &mut &[u8]) -> Result<String, KeyError> {
        expect(bytes, TEXT, "text")?;
        String::from_utf8(unescape(bytes, "text")?).map_err(|_| KeyError::Text)
    }
}

impl Key for [u8] {
    fn encode_into(&self, out: &mut Vec<u8>) {
        escape(BYTES, self, out);
    }
}

impl Key for Vec<u8> {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.as_slice().encode_into(out);
    }
}

impl FromKey for Vec<u8> {
    fn decode_from(bytes: &mut &[u8]) -> Result<Vec<u8>, KeyError> {
        expect(bytes, BYTES, "byte string")?;
        unescape(bytes, "byte string")
    }
}

impl Key for [u8; 16] {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(FIXED_16);
        out.extend_from_slice(self);
    }
}

impl FromKey for [u8; 16] {
    fn decode_from(bytes: &mut &[u8]) -> Result<[u8; 16], KeyError> {
        expect(bytes, FIXED_16, "fixed 16 bytes")?;
        take(bytes, "fixed 16 bytes")
    }
}

impl Key for bool {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(if *self { TRUE } else { FALSE });
    }
}

impl FromKey for bool {
    fn decode_from(bytes: &mut &[u8]) -> Result<bool, KeyError> {
        match kind(bytes, "bool")? {
            FALSE => Ok(false),
            TRUE => Ok(true),
            found => Err(KeyError::Kind { expected: "bool", found }),
        }
    }
}

impl Key for f64 {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let bits = self.to_bits();
        // Negative numbers sort the other way round, below the positive ones.
        let sortable = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
        out.push(FLOAT);
        out.extend_from_slice(&sortable.to_be_bytes());
    }
}

impl FromKey for f64 {
    fn decode_from(bytes: &mut &[u8]) -> Result<f64, KeyError> {
        expect(bytes, FLOAT, "float")?;
        let sortable = u64::from_be_bytes(take(bytes, "float")?);
        let bits = if sortable >> 63 == 1 { sortable & !(1 << 63) } else { !sortable };
        Ok(f64::from_bits(bits))
    }
}

impl Key for f32 {
    fn encode_into(&self, out: &mut Vec<u8>) {
        f64::from(*self).encode_into(out);
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Key for $integer {
            fn encode_into(&self, out: &mut Vec<u8>) {
                #[allow(unused_comparisons, reason = "one body for signed and unsigned integers")]
                let negative = *self < 0;
                #[allow(clippy::unnecessary_cast, reason = "one body for all widths")]
                let magnitude = if negative { (*self as u128).wrapping_neg() } else { *self as u128 };
                encode_integer(negative, magnitude, out);
            }
        }

        impl FromKey for $integer {
            fn decode_from(bytes: &mut &[u8]) -> Result<$integer, KeyError> {
                let out_of_range = KeyError::Range { expected: stringify!($integer) };
                let (negative, magnitude) = decode_integer(bytes)?;
                if !negative {
                    return <$integer>::try_from(magnitude).map_err(|_| out_of_range);
                }
                let value = 0_i128.checked_sub_unsigned(magnitude).and_then(|value| <$integer>::try_from(value).ok());
                value.ok_or(out_of_range)
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

fn encode_integer(negative: bool, magnitude: u128, out: &mut Vec<u8>) {
    let width = 16 - magnitude.leading_zeros() as usize / 8;
    let sortable = if negative { !magnitude } else { magnitude };
    match (width as u8, negative) {
        (width @ 0..=8, false) => out.push(ZERO + width),
        (width @ 0..=8, true) => out.push(ZERO - width),
        (width, false) => out.extend([LONG_POSITIVE, width]),
        (width, true) => out.extend([LONG_NEGATIVE, !width]),
    }
    out.extend_from_slice(&sortable.to_be_bytes()[16 - width..]);
}

/// Whether it is negative, and its magnitude.
fn decode_integer(bytes: &mut &[u8]) -> Result<(bool, u128), KeyError> {
    const EXPECTED: &str = "integer";
    let (negative, width) = match kind(bytes, EXPECTED)? {
        LONG_POSITIVE => (false, kind(bytes, EXPECTED)?),
        LONG_NEGATIVE => (true, !kind(bytes, EXPECTED)?),
        short @ 0x0C..=0x1C => (short < ZERO, short.abs_diff(ZERO)),
        found => return Err(KeyError::Kind { expected: EXPECTED, found }),
    };
    let width = usize::from(width);
    if width > 16 {
        return Err(KeyError::Range { expected: EXPECTED });
    }
    let digits = bytes.split_off(..width).ok_or(KeyError::Ended { expected: EXPECTED })?;
    let value = digits.iter().fold(0_u128, |value, digit| {
        let digit = if negative { !*digit } else { *digit };
        value << 8 | u128::from(digit)
    });
    Ok((negative, value))
}

macro_rules! tuples {
    ($(($($kind:ident $at:tt),+))*) => {$(
        impl<$($kind: Key),+> Key for ($($kind,)+) {
            fn encode_into(&self, out: &mut Vec<u8>) {
                out.push(TUPLE);
                $(self.$at.encode_into(out);)+
                out.push(END);
            }
        }

        impl<$($kind: FromKey),+> FromKey for ($($kind,)+) {
            fn decode_from(bytes: &mut &[u8]) -> Result<Self, KeyError> {
                expect(bytes, TUPLE, "tuple")?;
                let tuple = ($($kind::decode_from(bytes)?,)+);
                expect(bytes, END, "end of the tuple")?;
                Ok(tuple)
            }
        }
    )*};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

/// A key of any kind, taken apart: for programs that show keys, or make them of what they read, without knowing their types.
///
/// ```
/// use alluvium_disk_kv_cache::{Key, KeyElement};
///
/// let key = ("orders", -7).to_key();
/// let KeyElement::Tuple(parts) = key.decode::<KeyElement>().unwrap() else { panic!("a tuple") };
/// assert_eq!(parts, [KeyElement::Text("orders".into()), KeyElement::Integer { negative: true, magnitude: 7 }]);
/// assert_eq!(KeyElement::Tuple(parts).to_key(), key);
/// ```
#[derive(Clone, PartialEq)]
pub enum KeyElement {
    /// A byte string.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// A tuple of any number of elements.
    Tuple(Vec<KeyElement>),
    /// An integer of up to 128 bits and a sign.
    Integer {
        /// Whether it is below 0.
        negative: bool,
        /// Its absolute value.
        magnitude: u128,
    },
    /// A float.
    Float(f64),
    /// A bool.
    Bool(bool),
    /// A UUID or any other 16 bytes.
    Fixed([u8; 16]),
}

impl Key for KeyElement {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            KeyElement::Bytes(bytes) => bytes.encode_into(out),
            KeyElement::Text(text) => text.encode_into(out),
            KeyElement::Tuple(elements) => {
                out.push(TUPLE);
                elements.iter().for_each(|element| element.encode_into(out));
                out.push(END);
            }
            KeyElement::Integer { negative, magnitude } => encode_integer(*negative, *magnitude, out),
            KeyElement::Float(float) => float.encode_into(out),
            KeyElement::Bool(bool) => bool.encode_into(out),
            KeyElement::Fixed(bytes) => bytes.encode_into(out),
        }
    }
}

impl FromKey for KeyElement {
    fn decode_from(bytes: &mut &[u8]) -> Result<KeyElement, KeyError> {
        KeyElement::read_within(bytes, KeyElement::MAX_DEPTH)
    }
}

impl KeyElement {
    /// How deep tuples nest in keys that can be read back; deeper ones, which no types written by hand need, could exhaust the
    /// stack.
    pub const MAX_DEPTH: usize = 64;

    fn read_within(bytes: &mut &[u8], depth: usize) -> Result<KeyElement, KeyError> {
        const EXPECTED: &str = "key";
        let first = *bytes.first().ok_or(KeyError::Ended { expected: EXPECTED })?;
        Ok(match first {
            BYTES => KeyElement::Bytes(Vec::decode_from(bytes)?),
            TEXT => KeyElement::Text(String::decode_from(bytes)?),
            TUPLE if depth > 0 => {
                *bytes = &bytes[1..];
                let mut elements = Vec::new();
                while bytes.first() != Some(&END) {
                    elements.push(KeyElement::read_within(bytes, depth - 1)?);
                }
                *bytes = &bytes[1..];
                KeyElement::Tuple(elements)
            }
            LONG_NEGATIVE..=LONG_POSITIVE => {
                let (negative, magnitude) = decode_integer(bytes)?;
                KeyElement::Integer { negative, magnitude }
            }
            FLOAT => KeyElement::Float(f64::decode_from(bytes)?),
            FALSE | TRUE => KeyElement::Bool(bool::decode_from(bytes)?),
            FIXED_16 => KeyElement::Fixed(<[u8; 16]>::decode_from(bytes)?),
            found => return Err(KeyError::Kind { expected: EXPECTED, found }),
        })
    }
}

impl fmt::Debug for KeyElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyElement::Bytes(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            KeyElement::Text(text) => text.fmt(f),
            KeyElement::Tuple(elements) if elements.is_empty() => f.write_str("()"),
            KeyElement::Tuple(elements) => {
                let mut tuple = f.debug_tuple("");
                for element in elements {
                    tuple.field(element);
                }
                tuple.finish()
            }
            KeyElement::Integer { negative, magnitude } => {
                f.write_str(if *negative { "-" } else { "" }).and(magnitude.fmt(f))
            }
            KeyElement::Float(float) => float.fmt(f),
            KeyElement::Bool(bool) => bool.fmt(f),
            KeyElement::Fixed(bytes) => write!(f, "{:#034x}", u128::from_be_bytes(*bytes)),
        }
    }
}

fn escape(kind: u8, content: &[u8], out: &mut Vec<u8>) {
    out.reserve(content.len() + 2);
    out.push(kind);
    // Most have none, and looking for it takes a fraction of splitting.
    if !content.contains(&0) {
        out.extend_from_slice(content);
        out.push(END);
        return;
    }
    for (index, run) in content.split(|byte| *byte == 0).enumerate() {
        if index > 0 {
            out.extend([0, ESCAPED]);
        }
        out.extend_from_slice(run);
    }
    out.push(END);
}

fn unescape(bytes: &mut &[u8], expected: &'static str) -> Result<Vec<u8>, KeyError> {
    let mut content = Vec::new();
    loop {
        let zero = bytes.iter().position(|byte| *byte == 0).ok_or(KeyError::Ended { expected })?;
        content.extend_from_slice(&bytes[..zero]);
        *bytes = &bytes[zero + 1..];
        if bytes.first() != Some(&ESCAPED) {
            return Ok(content);
        }
        content.push(0);
        *bytes = &bytes[1..];
    }
}

fn kind(bytes: &mut &[u8], expected: &'static str) -> Result<u8, KeyError> {
    bytes.split_off_first().copied().ok_or(KeyError::Ended { expected })
}

fn expect(bytes: &mut &[u8], wanted: u8, expected: &'static str) -> Result<(), KeyError> {
    let found = kind(bytes, expected)?;
    if found == wanted { Ok(()) } else { Err(KeyError::Kind { expected, found }) }
}

fn take<const N: usize>(bytes: &mut &[u8], expected: &'static str) -> Result<[u8; N], KeyError> {
    let taken = bytes.split_off(..N).and_then(|taken| <[u8; N]>::try_from(taken).ok());
    taken.ok_or(KeyError::Ended { expected })
}

#[cfg(test)]
mod tests;

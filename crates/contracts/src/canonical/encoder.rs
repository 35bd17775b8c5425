//! The one walk over a value, generic over the bytes it leaves.

use std::borrow::Cow;
use std::fmt::Display;
use std::marker::PhantomData;
use std::ops::Range;

use serde::ser::{self, Serialize};

use super::{CanonicalError, NoCanonicalForm, Step, pointer};

/// The largest integer that a double holds with all its neighbours: 2⁵³−1.
pub(crate) const SAFE_INTEGER: i64 = (1 << 53) - 1;

/// How deep a document may be nested, on writing and on reading.
pub(crate) const MAX_DEPTH: usize = 64;

/// How values become bytes. The encoder has checked them: integers are safe, floats are finite and no safe integers.
pub(super) trait Form {
    fn null(out: &mut Vec<u8>);
    fn boolean(out: &mut Vec<u8>, value: bool);
    fn integer(out: &mut Vec<u8>, value: i64);
    fn float(out: &mut Vec<u8>, value: f64);
    fn text(out: &mut Vec<u8>, value: &str);
    /// Before a list or an object of `length` parts.
    fn open(out: &mut Vec<u8>, kind: Container, length: usize);
    /// Between two parts.
    fn separate(out: &mut Vec<u8>);
    /// Between a key and its value.
    fn assign(out: &mut Vec<u8>);
    /// After the last part.
    fn close(out: &mut Vec<u8>, kind: Container);
    /// The order of an object's keys.
    fn compare(a: &str, b: &str) -> std::cmp::Ordering;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    List,
    Object,
}

pub(super) fn encode<F: Form, T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    // Most payloads fit into this.
    const CAPACITY: usize = 1024;
    let mut encoder = Encoder::<F> {
        out: Vec::with_capacity(CAPACITY),
        scratch: Vec::with_capacity(CAPACITY),
        depth: 0,
        form: PhantomData,
    };
    match value.serialize(&mut encoder) {
        Ok(()) => Ok(encoder.out),
        Err(Failure { problem, steps }) => Err(CanonicalError { pointer: pointer(&steps), problem }),
    }
}

/// An error on its way out, which collects where it came from.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(super) struct Failure {
    problem: NoCanonicalForm,
    steps: Vec<Step>,
}

impl Failure {
    fn new(problem: NoCanonicalForm) -> Self {
        Self { problem, steps: Vec::new() }
    }

    fn under(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

impl ser::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        Self::new(NoCanonicalForm::Custom(message.to_string()))
    }
}

type Encoded = Result<(), Failure>;

pub(super) struct Encoder<F> {
    out: Vec<u8>,
    /// Where the entries of an object are put in order; kept to be used again.
    scratch: Vec<u8>,
    depth: usize,
    form: PhantomData<F>,
}

impl<F: Form> Encoder<F> {
    fn wide_or_safe(&mut self, value: i128) -> Encoded {
        match i64::try_from(value) {
            Ok(safe) if (-SAFE_INTEGER..=SAFE_INTEGER).contains(&safe) => {
                F::integer(&mut self.out, safe);
                Ok(())
            }
            _ => Err(Failure::new(NoCanonicalForm::WideInteger(value.to_string()))),
        }
    }

    fn deeper(&mut self) -> Encoded {
        if self.depth == MAX_DEPTH {
            return Err(Failure::new(NoCanonicalForm::TooDeep));
        }
        self.depth += 1;
        Ok(())
    }

    fn list(&mut self, length: Option<usize>) -> Result<List<'_, F>, Failure> {
        self.deeper()?;
        let start = self.out.len();
        F::open(&mut self.out, Container::List, length.unwrap_or_default());
        Ok(List { first: self.out.len(), start, declared: length.unwrap_or_default(), count: 0, encoder: self })
    }

    fn object(&mut self, length: usize) -> Result<Object<'_, F>, Failure> {
        self.deeper()?;
        Ok(Object {
            start: self.out.len(),
            entries: Vec::with_capacity(length),
            sorted: true,
            pending: None,
            encoder: self,
        })
    }

    /// `{variant: …}`: how an enum's variant with content is written.
    fn tagged(&mut self, variant: &'static str) -> Encoded {
        self.deeper()?;
        F::open(&mut self.out, Container::Object, 1);
        F::text(&mut self.out, variant);
        F::assign(&mut self.out);
        Ok(())
    }

    fn end_tagged(&mut self) {
        self.depth -= 1;
        F::close(&mut self.out, Container::Object);
    }
}

impl<'a, F: Form> ser::Serializer for &'a mut Encoder<F> {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = List<'a, F>;
    type SerializeTuple = List<'a, F>;
    type SerializeTupleStruct = List<'a, F>;
    type SerializeTupleVariant = Tagged<List<'a, F>>;
    type SerializeMap = Object<'a, F>;
    type SerializeStruct = Object<'a, F>;
    type SerializeStructVariant = Tagged<Object<'a, F>>;

    fn serialize_bool(self, value: bool) -> Encoded {
        F::boolean(&mut self.out, value);
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Encoded {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i16(self, value: i16) -> Encoded {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i32(self, value: i32) -> Encoded {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_i64(self, value: i64) -> Encoded {
        self.wide_or_safe(i128::from(value))
    }

    fn serialize_i128(self, value: i128) -> Encoded {
        self.wide_or_safe(value)
    }

    fn serialize_u8(self, value: u8) -> Encoded {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_u16(self, value: u16) -> Encoded {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_u32(self, value: u32) -> Encoded {
        self.serialize_i64(i64::from(value))
    }

    fn serialize_u64(self, value: u64) -> Encoded {
        self.wide_or_safe(i128::from(value))
    }

    fn serialize_u128(self, value: u128) -> Encoded {
        match i128::try_from(value) {
            Ok(value) => self.wide_or_safe(value),
            Err(_) => Err(Failure::new(NoCanonicalForm::WideInteger(value.to_string()))),
        }
    }

    fn serialize_f32(self, value: f32) -> Encoded {
        self.serialize_f64(f64::from(value))
    }

    fn serialize_f64(self, value: f64) -> Encoded {
        if !value.is_finite() {
            return Err(Failure::new(NoCanonicalForm::NotFinite));
        }
        if value == 0.0 && value.is_sign_negative() {
            return Err(Failure::new(NoCanonicalForm::NegativeZero));
        }
        match safe_integer(value) {
            Some(integer) => F::integer(&mut self.out, integer),
            None => F::float(&mut self.out, value),
        }
        Ok(())
    }

    fn serialize_char(self, value: char) -> Encoded {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Encoded {
        F::text(&mut self.out, value);
        Ok(())
    }

    fn serialize_bytes(self, _: &[u8]) -> Encoded {
        Err(Failure::new(NoCanonicalForm::Bytes))
    }

    fn serialize_none(self) -> Encoded {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Encoded {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Encoded {
        F::null(&mut self.out);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Encoded {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Encoded {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Encoded {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Encoded {
        self.tagged(variant)?;
        value.serialize(&mut *self).map_err(|failure| failure.under(Step::Key(variant.into())))?;
        self.end_tagged();
        Ok(())
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<List<'a, F>, Failure> {
        self.list(length)
    }

    fn serialize_tuple(self, length: usize) -> Result<List<'a, F>, Failure> {
        self.list(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<List<'a, F>, Failure> {
        self.list(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Tagged<List<'a, F>>, Failure> {
        self.tagged(variant)?;
        Ok(Tagged { variant, inner: self.list(Some(length))? })
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Object<'a, F>, Failure> {
        self.object(length.unwrap_or_default().min(64))
    }

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Object<'a, F>, Failure> {
        // Cargo has one set of features for all who use a crate, so this may come from anywhere in a build.
        if name == "$serde_json::private::Number" {
            let message = "serde_json's feature `arbitrary_precision`, which something in this build turns on, hides the numbers of \
                           untyped values: turn it off";
            return Err(Failure::new(NoCanonicalForm::Custom(message.to_owned())));
        }
        self.object(length)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Tagged<Object<'a, F>>, Failure> {
        self.tagged(variant)?;
        Ok(Tagged { variant, inner: self.object(length)? })
    }
}

/// The integer that `value` is, where it is one within ±(2⁵³−1).
pub(crate) fn safe_integer(value: f64) -> Option<i64> {
    const LIMIT: f64 = SAFE_INTEGER as f64;
    (value.trunc() == value && value.abs() <= LIMIT).then_some(value as i64)
}

/// A list that is being written.
pub(super) struct List<'a, F> {
    encoder: &'a mut Encoder<F>,
    start: usize,
    first: usize,
    declared: usize,
    count: usize,
}

impl<'a, F: Form> List<'a, F> {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        if self.count > 0 {
            F::separate(&mut self.encoder.out);
        }
        value.serialize(&mut *self.encoder).map_err(|failure| failure.under(Step::Index(self.count)))?;
        self.count += 1;
        Ok(())
    }

    fn finish(self) -> &'a mut Encoder<F> {
        let Self { encoder, start, first, declared, count } = self;
        encoder.depth -= 1;
        if count != declared {
            // The length was not known, or wrong, and MessagePack says it in front.
            let items = encoder.out.split_off(first);
            encoder.out.truncate(start);
            F::open(&mut encoder.out, Container::List, count);
            encoder.out.extend_from_slice(&items);
        }
        F::close(&mut encoder.out, Container::List);
        encoder
    }
}

/// One entry of an object, and where its bytes (key and value) lie.
struct Entry {
    key: Cow<'static, str>,
    bytes: Range<usize>,
}

/// An object that is being written: its entries lie behind one another from `start` and are put in order at the end.
pub(super) struct Object<'a, F> {
    encoder: &'a mut Encoder<F>,
    start: usize,
    entries: Vec<Entry>,
    sorted: bool,
    pending: Option<Cow<'static, str>>,
}

impl<'a, F: Form> Object<'a, F> {
    fn entry<T: Serialize + ?Sized>(&mut self, key: Cow<'static, str>, value: &T) -> Encoded {
        if let Some(last) = self.entries.last() {
            self.sorted &= F::compare(&last.key, &key).is_lt();
        }
        let out = &mut self.encoder.out;
        let from = out.len();
        F::text(out, &key);
        F::assign(out);
        match value.serialize(&mut *self.encoder) {
            Ok(()) => {
                self.entries.push(Entry { key, bytes: from..self.encoder.out.len() });
                Ok(())
            }
            Err(failure) => Err(failure.under(Step::Key(key))),
        }
    }

    fn finish(mut self) -> Result<&'a mut Encoder<F>, Failure> {
        if !self.sorted {
            self.entries.sort_unstable_by(|a, b| F::compare(&a.key, &b.key));
            if let Some(twice) = self.entries.windows(2).find(|pair| pair[0].key == pair[1].key) {
                return Err(Failure::new(NoCanonicalForm::DuplicateKey(twice[0].key.clone().into_owned())));
            }
        }
        let Encoder { out, scratch, depth, .. } = self.encoder;
        scratch.clear();
        F::open(scratch, Container::Object, self.entries.len());
        for (index, entry) in self.entries.iter().enumerate() {
            if index > 0 {
                F::separate(scratch);
            }
            scratch.extend_from_slice(&out[entry.bytes.clone()]);
        }
        F::close(scratch, Container::Object);
        out.truncate(self.start);
        out.extend_from_slice(scratch);
        *depth -= 1;
        Ok(self.encoder)
    }
}

/// The content of an enum's variant.
pub(super) struct Tagged<I> {
    variant: &'static str,
    inner: I,
}

impl<F: Form> ser::SerializeSeq for List<'_, F> {
    type Ok = ();
    type Error = Failure;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        self.push(value)
    }

    fn end(self) -> Encoded {
        self.finish();
        Ok(())
    }
}

impl<F: Form> ser::SerializeTuple for List<'_, F> {
    type Ok = ();
    type Error = Failure;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        self.push(value)
    }

    fn end(self) -> Encoded {
        self.finish();
        Ok(())
    }
}

impl<F: Form> ser::SerializeTupleStruct for List<'_, F> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        self.push(value)
    }

    fn end(self) -> Encoded {
        self.finish();
        Ok(())
    }
}

impl<F: Form> ser::SerializeTupleVariant for Tagged<List<'_, F>> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        self.inner.push(value).map_err(|failure| failure.under(Step::Key(self.variant.into())))
    }

    fn end(self) -> Encoded {
        self.inner.finish().end_tagged();
        Ok(())
    }
}

impl<F: Form> ser::SerializeMap for Object<'_, F> {
    type Ok = ();
    type Error = Failure;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Encoded {
        self.pending = Some(key_text(key)?.into());
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Encoded {
        let key = self.pending.take().unwrap_or_default();
        self.entry(key, value)
    }

    fn end(self) -> Encoded {
        self.finish().map(drop)
    }
}

impl<F: Form> ser::SerializeStruct for Object<'_, F> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Encoded {
        self.entry(Cow::Borrowed(key), value)
    }

    fn end(self) -> Encoded {
        self.finish().map(drop)
    }
}

impl<F: Form> ser::SerializeStructVariant for Tagged<Object<'_, F>> {
    type Ok = ();
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Encoded {
        self.inner.entry(Cow::Borrowed(key), value).map_err(|failure| failure.under(Step::Key(self.variant.into())))
    }

    fn end(self) -> Encoded {
        self.inner.finish()?.end_tagged();
        Ok(())
    }
}

/// A key of a map: text, or what is written as text, such as a digest.
fn key_text<T: Serialize + ?Sized>(key: &T) -> Result<String, Failure> {
    match key.serialize(serde_json::value::Serializer) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        _ => Err(Failure::new(NoCanonicalForm::KeyNotText)),
    }
}

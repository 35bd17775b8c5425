//! One digest of many rows, whatever their order, their batches and their files.
//!
//! Every row is written as bytes that say its values and nothing else, and hashed; the digest is over the sum of the hashes modulo
//! 2²⁵⁶ and the number of rows (a multiset hash as in Bellare and Micciancio, "A new paradigm for collision-free hashing", 1997). The
//! bytes are our own, because a digest that is kept must outlive a change of the engine's row format.
//!
//! - Text and bytes are told by length and content, whichever array holds them; timestamps by their count, unit and whether they have
//!   a zone.
//! - Floats are told by their bits, but every NaN is one: 0.0 and -0.0 differ, as they do in a result.
//! - A list's elements are in order; a map's entries are in no order.

use std::sync::{Arc, Mutex, PoisonError};

use alluvium_contracts::RowsDigest;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::common::{DataFusionError, not_impl_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt as _;

/// The sum so far.
#[derive(Debug, Clone, Default)]
pub struct RowsDigester {
    sum: [u64; 4],
    rows: u64,
    row: Vec<u8>,
}

impl RowsDigester {
    /// Takes the rows of a batch in.
    ///
    /// # Errors
    /// [`DataFusionError::NotImplemented`] for a type that no published column has; then what was taken in before is as it was, but for
    /// rows of this batch.
    pub fn update(&mut self, batch: &RecordBatch) -> Result<(), DataFusionError> {
        for at in 0..batch.num_rows() {
            self.row.clear();
            for column in batch.columns() {
                append(column.as_ref(), at, &mut self.row)?;
            }
            let hash = blake3::hash(&self.row);
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(hash.as_bytes().as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            self.add(&words);
            self.rows += 1;
        }
        Ok(())
    }

    /// Takes in all that another has taken in.
    pub fn join(&mut self, other: &RowsDigester) {
        self.add(&other.sum);
        self.rows += other.rows;
    }

    /// The rows taken in.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The digest of all rows taken in.
    #[must_use]
    pub fn finish(&self) -> RowsDigest {
        let words = self.sum.iter().chain([&self.rows]);
        RowsDigest::of(&words.flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())
    }

    /// Adds modulo 2²⁵⁶; the first word is the lowest.
    fn add(&mut self, words: &[u64; 4]) {
        let mut carry = false;
        for (sum, word) in self.sum.iter_mut().zip(words) {
            let (partial, first) = sum.overflowing_add(*word);
            let (whole, second) = partial.overflowing_add(u64::from(carry));
            (*sum, carry) = (whole, first || second);
        }
    }
}

/// The digesters of several streams that are polled at once, each on a task of its own.
#[derive(Debug, Default)]
pub(crate) struct Digests(Vec<Arc<Mutex<Option<RowsDigester>>>>);

impl Digests {
    /// The digest of all rows of all streams; `None` where a column has a type that has none. The streams have to be at their ends.
    pub(crate) fn finish(&self) -> Option<RowsDigest> {
        let mut all = RowsDigester::default();
        for digester in &self.0 {
            all.join(digester.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?);
        }
        Some(all.finish())
    }
}

/// Streams of the same rows, which are digested as they go by.
pub(crate) fn digested(streams: Vec<SendableRecordBatchStream>) -> (Vec<SendableRecordBatchStream>, Digests) {
    let mut digests = Digests::default();
    let streams = streams.into_iter().map(|stream| {
        let digester = Arc::new(Mutex::new(Some(RowsDigester::default())));
        digests.0.push(Arc::clone(&digester));
        let schema = stream.schema();
        let rows = stream.inspect_ok(move |batch| {
            let mut digester = digester.lock().unwrap_or_else(PoisonError::into_inner);
            if digester.as_mut().is_some_and(|rows| rows.update(batch).is_err()) {
                *digester = None;
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows)) as SendableRecordBatchStream
    });
    (streams.collect(), digests)
}

/// The digest and the number of all rows of a stream.
///
/// # Errors
/// What the stream fails with, and as [`RowsDigester::update`].
pub async fn rows_digest(mut rows: SendableRecordBatchStream) -> Result<(RowsDigest, u64), DataFusionError> {
    let mut digester = RowsDigester::default();
    while let Some(batch) = rows.try_next().await? {
        digester.update(&batch)?;
    }
    Ok((digester.finish(), digester.rows()))
}

/// Writes one value so that no other value, and no two together, are written alike.
fn append(array: &dyn Array, at: usize, out: &mut Vec<u8>) -> Result<(), DataFusionError> {
    if array.is_null(at) {
        out.push(0);
        return Ok(());
    }
    out.push(1);
    macro_rules! fixed {
        ($type:ty) => {
            out.extend_from_slice(&array.as_primitive::<$type>().value(at).to_le_bytes())
        };
    }
    match array.data_type() {
        DataType::Null => {}
        DataType::Boolean => out.push(u8::from(array.as_boolean().value(at))),
        DataType::Int8 => fixed!(Int8Type),
        DataType::Int16 => fixed!(Int16Type),
        DataType::Int32 => fixed!(Int32Type),
        DataType::Int64 => fixed!(Int64Type),
        DataType::UInt8 => fixed!(UInt8Type),
        DataType::UInt16 => fixed!(UInt16Type),
        DataType::UInt32 => fixed!(UInt32Type),
        DataType::UInt64 => fixed!(UInt64Type),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(at);
            out.extend_from_slice(&if value.is_nan() { f32::NAN } else { value }.to_le_bytes());
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(at);
            out.extend_from_slice(&if value.is_nan() { f64::NAN } else { value }.to_le_bytes());
        }
        DataType::Decimal128(_, scale) => {
            out.extend_from_slice(&scale.to_le_bytes());
            fixed!(Decimal128Type);
        }
        DataType::Date32 => fixed!(Date32Type),
        DataType::Date64 => fixed!(Date64Type),
        DataType::Timestamp(unit, zone) => {
            out.push(u8::from(zone.is_some()));
            match unit {
                TimeUnit::Second => {
                    out.push(0);
                    fixed!(TimestampSecondType);
                }
                TimeUnit::Millisecond => {
                    out.push(3);
                    fixed!(TimestampMillisecondType);
                }
                TimeUnit::Microsecond => {
                    out.push(6);
                    fixed!(TimestampMicrosecondType);
                }
                TimeUnit::Nanosecond => {
                    out.push(9);
                    fixed!(TimestampNanosecondType);
                }
            }
        }
        DataType::Utf8 => bytes(array.as_string::<i32>().value(at).as_bytes(), out),
        DataType::LargeUtf8 => bytes(array.as_string::<i64>().value(at).as_bytes(), out),
        DataType::Utf8View => bytes(array.as_string_view().value(at).as_bytes(), out),
        DataType::Binary => bytes(array.as_binary::<i32>().value(at), out),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(at), out),
        DataType::BinaryView => bytes(array.as_binary_view().value(at), out),
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(at), out),
        DataType::List(_) => elements(array.as_list::<i32>().value(at).as_ref(), out)?,
        DataType::LargeList(_) => elements(array.as_list::<i64>().value(at).as_ref(), out)?,
        DataType::FixedSizeList(..) => elements(array.as_fixed_size_list().value(at).as_ref(), out)?,
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                append(column.as_ref(), at, out)?;
            }
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(at);
            let mut written = Vec::with_capacity(entries.len());
            for at in 0..entries.len() {
                let mut entry = Vec::new();
                append(&entries, at, &mut entry)?;
                written.push(entry);
            }
            written.sort_unstable();
            out.extend_from_slice(&(written.len() as u64).to_le_bytes());
            written.iter().for_each(|entry| bytes(entry, out));
        }
        other => return not_impl_err!("rows of type {other} have no digest"),
    }
    Ok(())
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
}

fn elements(list: &dyn Array, out: &mut Vec<u8>) -> Result<(), DataFusionError> {
    out.extend_from_slice(&(list.len() as u64).to_le_bytes());
    (0..list.len()).try_for_each(|at| append(list, at, out))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{
        ArrayRef, Float64Array, Int64Array, ListArray, StringArray, StringViewArray, StructArray,
    };
    use datafusion::arrow::compute::{cast, concat_batches};
    use datafusion::arrow::datatypes::Field;
    use proptest::prelude::*;

    use super::*;

    fn digest(columns: &[(&str, ArrayRef)]) -> RowsDigest {
        digest_of(&[RecordBatch::try_from_iter(columns.iter().cloned()).unwrap()])
    }

    fn digest_of(batches: &[RecordBatch]) -> RowsDigest {
        let mut digester = RowsDigester::default();
        batches.iter().for_each(|batch| digester.update(batch).unwrap());
        digester.finish()
    }

    fn rows(values: &[(Option<i64>, Option<String>)]) -> RecordBatch {
        let numbers: Int64Array = values.iter().map(|(number, _)| *number).collect();
        let texts: StringArray = values.iter().map(|(_, text)| text.clone()).collect();
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("s", Arc::new(texts) as ArrayRef)]).unwrap()
    }

    proptest! {
        #[test]
        fn it_is_that_of_the_multiset(
            values in prop::collection::vec((any::<Option<i64>>(), "[ab]{0,2}".prop_map(Some)), 0..20),
            order in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = digest_of(&[rows(&values)]);
            let mut turned = values.clone();
            if !turned.is_empty() {
                let by = order.index(turned.len());
                turned.rotate_left(by);
            }
            let at = if turned.is_empty() { 0 } else { cut.index(turned.len()) };
            let (left, right) = turned.split_at(at);
            prop_assert_eq!(whole, digest_of(&[rows(left), rows(right)]));
            let [mut one, mut other] = [RowsDigester::default(), RowsDigester::default()];
            one.update(&rows(left)).unwrap();
            other.update(&rows(right)).unwrap();
            other.join(&one);
            prop_assert_eq!((whole, values.len() as u64), (other.finish(), other.rows()));
            if let Some((last, rest)) = values.split_last() {
                prop_assert_ne!(whole, digest_of(&[rows(rest)]));
                let doubled = concat_batches(&rows(&values).schema(), [&rows(&values), &rows(std::slice::from_ref(last))]);
                prop_assert_ne!(whole, digest_of(&[doubled.unwrap()]));
            }
        }
    }

    #[test]
    fn values_that_look_alike_are_told_apart() {
        let texts = |left: &str, right: &str| {
            let column = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
            digest(&[("a", column(left)), ("b", column(right))])
        };
        assert_ne!(texts("ab", "c"), texts("a", "bc"));
        let float = |value: f64| digest(&[("x", Arc::new(Float64Array::from(vec![value])))]);
        assert_ne!(float(0.0), float(-0.0));
        assert_eq!(float(f64::NAN), float(-f64::NAN));
        let list = |lists: Vec<Option<Vec<Option<i64>>>>| {
            digest(&[("l", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)))])
        };
        assert_ne!(list(vec![None]), list(vec![Some(Vec::new())]));
        assert_ne!(list(vec![Some(vec![Some(1), Some(2)])]), list(vec![Some(vec![Some(2), Some(1)])]));
        let none: ArrayRef = Arc::new(Int64Array::from(vec![None]));
        let inside = |value: &ArrayRef| {
            let field = Arc::new(Field::new("n", DataType::Int64, true));
            digest(&[("s", Arc::new(StructArray::from(vec![(field, Arc::clone(value))])))])
        };
        assert_ne!(inside(&none), inside(&(Arc::new(Int64Array::from(vec![0])) as ArrayRef)));
    }

    #[test]
    fn how_text_is_held_does_not_matter() {
        let plain: ArrayRef =
            Arc::new(StringArray::from(vec![Some("a"), None, Some("a text of more than twelve bytes")]));
        let view: ArrayRef = Arc::new(StringViewArray::from_iter(plain.as_string::<i32>().iter()));
        let large = cast(&plain, &DataType::LargeUtf8).unwrap();
        assert_eq!(digest(&[("s", Arc::clone(&plain))]), digest(&[("s", view)]));
        assert_eq!(digest(&[("s", plain)]), digest(&[("s", large)]));
    }

    #[test]
    fn the_digest_of_a_row_is_for_ever() {
        // Kept digests are compared with new ones, so this one may never change.
        let digest = digest_of(&[rows(&[(Some(7), Some("seven".to_owned())), (None, None)])]);
        assert_eq!(digest.to_string(), "b3:4af9528871e68c34a83dd6551bcec4406f8b922d407cd865ec330ca004fcf62e");
    }
}

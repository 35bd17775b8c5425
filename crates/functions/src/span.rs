//! Spans: ranges of bytes in a file.

use arrow::datatypes::{DataType, Field};

/// The bytes from `start` to before `end`, counted from 0: a span of `start` = `end` is empty and lies between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    start: i64,
    end: i64,
}

/// Two numbers are no span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{start} to {end} is no span: it has to begin at 0 or later and end where it begins or later; correct the offsets"
)]
pub struct SpanError {
    /// Where it would begin.
    pub start: i64,
    /// Where it would end.
    pub end: i64,
}

impl Span {
    /// The span from `start` to before `end`.
    ///
    /// # Errors
    /// [`SpanError`] unless `0 <= start <= end`.
    pub const fn new(start: i64, end: i64) -> Result<Self, SpanError> {
        if start < 0 || end < start {
            return Err(SpanError { start, end });
        }
        Ok(Self { start, end })
    }

    /// The first byte.
    #[must_use]
    pub const fn start(self) -> i64 {
        self.start
    }

    /// Behind the last byte.
    #[must_use]
    pub const fn end(self) -> i64 {
        self.end
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(self) -> i64 {
        self.end - self.start
    }

    /// Whether there is no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.end == self.start
    }

    /// Whether `other` begins and ends within it; an empty span does so at both of its ends, too.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether the byte at `offset` is of it.
    #[must_use]
    pub const fn contains_offset(self, offset: i64) -> bool {
        self.start <= offset && offset < self.end
    }

    /// Whether the two have a byte in common, which an empty span has with none.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }
}

/// A span as a value of SQL: `struct<start bigint, end bigint>`. Its fields may be NULL, as those of a stored struct may.
pub(crate) fn span_type() -> DataType {
    let offset = |name: &str| Field::new(name, DataType::Int64, true);
    DataType::Struct(vec![offset("start"), offset("end")].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: i64, end: i64) -> Span {
        Span::new(start, end).unwrap()
    }

    #[test]
    fn only_ranges_of_bytes_are_spans() {
        assert_eq!((span(2, 5).start(), span(2, 5).end(), span(2, 5).len()), (2, 5, 3));
        assert!(span(2, 2).is_empty() && !span(2, 3).is_empty());
        for (start, end) in [(-1, 3), (4, 3), (i64::MIN, i64::MAX), (0, -1)] {
            assert_eq!(Span::new(start, end), Err(SpanError { start, end }));
        }
        assert_eq!(span(0, i64::MAX).len(), i64::MAX);
    }

    #[test]
    fn ends_are_not_of_a_span() {
        let outer = span(2, 5);
        let inside = [(2, 5), (3, 4), (2, 2), (5, 5)].map(|(start, end)| outer.contains(span(start, end)));
        assert_eq!(inside, [true; 4]);
        let outside = [(1, 5), (2, 6), (6, 6), (0, 9)].map(|(start, end)| outer.contains(span(start, end)));
        assert_eq!(outside, [false; 4]);
        assert_eq!([1, 2, 4, 5].map(|offset| outer.contains_offset(offset)), [false, true, true, false]);
    }

    #[test]
    fn what_overlaps_shares_a_byte() {
        let one = span(2, 5);
        for (other, shared) in
            [((0, 2), false), ((0, 3), true), ((4, 9), true), ((5, 9), false), ((3, 3), false), ((2, 5), true)]
        {
            let other = span(other.0, other.1);
            assert_eq!((one.overlaps(other), other.overlaps(one)), (shared, shared), "{other:?}");
        }
    }
}

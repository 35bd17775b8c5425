//! `span_make`, `span_start`, `span_end`, `span_len`, `span_contains` and `span_overlaps`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, plan_err};
use datafusion_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{Numbered, documentation, nullable, result};
use crate::argument::{Argument, external};
use crate::span::{Span, span_type};

pub(super) fn all() -> impl Iterator<Item = Numbered> {
    [Kind::Make, Kind::Start, Kind::End, Kind::Len, Kind::Contains, Kind::Overlaps]
        .into_iter()
        .map(|kind| (1, ScalarUDF::from(SpanFunction::new(kind))))
}

/// Which of the functions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Make,
    Start,
    End,
    Len,
    Contains,
    Overlaps,
}

/// A function that takes or makes spans.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SpanFunction {
    kind: Kind,
    signature: Signature,
    documentation: Documentation,
}

impl SpanFunction {
    fn new(kind: Kind) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { kind, signature, documentation: kind.documentation() }
    }

    fn wrong_count<T>(&self, given: &[DataType]) -> Result<T> {
        plan_err!("{} takes other arguments than {}", self.documentation.syntax_example, given.len())
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Make => "span_make",
            Self::Start => "span_start",
            Self::End => "span_end",
            Self::Len => "span_len",
            Self::Contains => "span_contains",
            Self::Overlaps => "span_overlaps",
        }
    }

    fn documentation(self) -> Documentation {
        let span = ("span", "A span, as span_make makes it.");
        match self {
            Self::Make => documentation(
                "The span of the bytes from start to before end, counted from 0. An error unless 0 <= start <= end.",
                "span_make(start, end)",
                &[("start", "Whole number: the first byte."), ("end", "Whole number: behind the last byte.")],
            ),
            Self::Start => documentation("The first byte of a span.", "span_start(span)", &[span]),
            Self::End => documentation("The offset behind the last byte of a span.", "span_end(span)", &[span]),
            Self::Len => documentation("How many bytes a span has.", "span_len(span)", &[span]),
            Self::Contains => documentation(
                "Whether another span begins and ends within a span, or the byte at an offset is of it.",
                "span_contains(span, inner)",
                &[span, ("inner", "A span, or an offset as a whole number.")],
            ),
            Self::Overlaps => documentation(
                "Whether two spans have a byte in common.",
                "span_overlaps(span, other)",
                &[span, ("other", "A span.")],
            ),
        }
    }
}

/// The type that a span has to be of; whatever struct of two whole numbers of those names is one.
pub(super) fn span_argument_type(function: &str, given: &DataType) -> Result<DataType> {
    let is_offset = |field: &Field, name: &str| {
        field.name() == name && (field.data_type().is_integer() || *field.data_type() == DataType::Null)
    };
    match given {
        DataType::Null => Ok(span_type()),
        DataType::Struct(fields) if matches!(fields.as_ref(), [start, end] if is_offset(start, "start") && is_offset(end, "end")) => {
            Ok(span_type())
        }
        other => {
            plan_err!("{function}() takes a span, a struct of the whole numbers `start` and `end`, and not {other}")
        }
    }
}

fn offset_type(function: &str, given: &DataType) -> Result<DataType> {
    match given.is_integer() || *given == DataType::Null {
        true => Ok(DataType::Int64),
        false => plan_err!("{function}() takes offsets as whole numbers, and not {given}"),
    }
}

impl ScalarUDFImpl for SpanFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let span = |given| span_argument_type(name, given);
        match (self.kind, given) {
            (Kind::Make, [start, end]) => Ok(vec![offset_type(name, start)?, offset_type(name, end)?]),
            (Kind::Start | Kind::End | Kind::Len, [only]) => Ok(vec![span(only)?]),
            (Kind::Contains, [outer, inner]) if inner.is_integer() => Ok(vec![span(outer)?, DataType::Int64]),
            (Kind::Contains | Kind::Overlaps, [one, other]) => Ok(vec![span(one)?, span(other)?]),
            _ => self.wrong_count(given),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::Make => span_type(),
            Kind::Start | Kind::End | Kind::Len => DataType::Int64,
            Kind::Contains | Kind::Overlaps => DataType::Boolean,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        // A span may have a NULL inside.
        let nullable = nullable(&args) || self.kind != Kind::Make;
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arguments = Argument::all(&args.args)?;
        let constant = arguments.iter().all(Argument::is_constant);
        let rows = 0..if constant { 1 } else { args.number_rows };
        let values: ArrayRef = match (self.kind, arguments.as_slice()) {
            (Kind::Make, [start, end]) => {
                let span = |row| match (start.offset(row)?, end.offset(row)?) {
                    (Some(start), Some(end)) => Span::new(start, end).map(Some).map_err(external),
                    _ => Ok(None),
                };
                spans(rows.map(span).collect::<Result<_>>()?)
            }
            (Kind::Start | Kind::End | Kind::Len, [span]) => {
                let number = |row| {
                    Ok(span.span(row)?.map(|span| match self.kind {
                        Kind::Start => span.start(),
                        Kind::End => span.end(),
                        _ => span.len(),
                    }))
                };
                Arc::new(rows.map(number).collect::<Result<Int64Array>>()?)
            }
            (Kind::Contains, [outer, offset]) if args.arg_fields[1].data_type().is_integer() => {
                let contains = |row| {
                    Ok(outer.span(row)?.zip(offset.offset(row)?).map(|(outer, offset)| outer.contains_offset(offset)))
                };
                Arc::new(rows.map(contains).collect::<Result<BooleanArray>>()?)
            }
            (_, [one, other]) => {
                let holds = |row| {
                    Ok(one.span(row)?.zip(other.span(row)?).map(|(one, other)| match self.kind {
                        Kind::Contains => one.contains(other),
                        _ => one.overlaps(other),
                    }))
                };
                Arc::new(rows.map(holds).collect::<Result<BooleanArray>>()?)
            }
            _ => return self.wrong_count(&[]),
        };
        result(values, constant)
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// The spans as a column.
fn spans(spans: Vec<Option<Span>>) -> ArrayRef {
    let valid: NullBuffer = spans.iter().map(Option::is_some).collect();
    let starts: Int64Array = spans.iter().map(|span| span.map(Span::start)).collect();
    let ends: Int64Array = spans.iter().map(|span| span.map(Span::end)).collect();
    let DataType::Struct(fields) = span_type() else {
        unreachable!("a span is a struct");
    };
    Arc::new(StructArray::new(fields, vec![Arc::new(starts), Arc::new(ends)], Some(valid)))
}

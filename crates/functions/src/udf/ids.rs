//! `stable_id`, `prefixed_hash64`, `prefixed_hash128` and `span_id`.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::StringBuilder;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::spans::span_argument_type;
use super::{Numbered, documentation, nullable, part_type, result, text_type};
use crate::argument::Argument;
use crate::id::{Digest, Part, digest};
use crate::semantic_type::SemanticType;

pub(super) fn all() -> [Numbered; 4] {
    [
        (1, ScalarUDF::from(IdFunction::new(Kind::StableId))),
        (1, ScalarUDF::from(IdFunction::new(Kind::PrefixedHash64))),
        (1, ScalarUDF::from(IdFunction::new(Kind::PrefixedHash128))),
        (1, ScalarUDF::from(IdFunction::new(Kind::SpanId))),
    ]
}

/// Which of the functions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    StableId,
    PrefixedHash64,
    PrefixedHash128,
    SpanId,
}

/// A function whose value is a prefix, a colon and digits.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IdFunction {
    kind: Kind,
    signature: Signature,
    documentation: Documentation,
}

impl IdFunction {
    fn new(kind: Kind) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { kind, signature, documentation: kind.documentation() }
    }

    /// The semantic type of the values, which `stable_id` is told as a literal.
    fn semantic_type(&self, first: Option<&ScalarValue>) -> Result<Option<SemanticType>> {
        match self.kind {
            Kind::PrefixedHash64 | Kind::PrefixedHash128 => Ok(None),
            Kind::SpanId => Ok(Some(SemanticType::SpanId)),
            Kind::StableId => match first.and_then(|value| value.try_as_str().flatten()) {
                Some(name) => Ok(Some(name.parse().map_err(crate::argument::external)?)),
                None => plan_err!(
                    "stable_id() is told the type of its ids by its first argument: a literal, one of {}",
                    SemanticType::ALL.map(|known| format!("'{known}'")).join(", ")
                ),
            },
        }
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::StableId => "stable_id",
            Self::PrefixedHash64 => "prefixed_hash64",
            Self::PrefixedHash128 => "prefixed_hash128",
            Self::SpanId => "span_id",
        }
    }

    fn documentation(self) -> Documentation {
        let prefix = ("prefix", "Text that the hash begins with, before a colon. No part of the digest.");
        let parts = ("part", "Text, whole number, boolean, date or bytes. Any number of them, their order counts.");
        match self {
            Self::StableId => documentation(
                "The id of a type that stands for the parts, for ever: its prefix, a colon and 32 digits. The column \
                 carries the type.",
                "stable_id(type, part[, ...])",
                &[("type", "A literal: 'NodeId', 'EdgeId' or 'SpanId'."), parts],
            ),
            Self::PrefixedHash64 => documentation(
                "A prefix, a colon and 16 digits (64 bits) of a digest of the parts.",
                "prefixed_hash64(prefix, part[, ...])",
                &[prefix, parts],
            ),
            Self::PrefixedHash128 => documentation(
                "A prefix, a colon and 32 digits (128 bits) of a digest of the parts.",
                "prefixed_hash128(prefix, part[, ...])",
                &[prefix, parts],
            ),
            Self::SpanId => documentation(
                "The SpanId of a span of a file: stable_id('SpanId', file, span_start(span), span_end(span)).",
                "span_id(file, span)",
                &[("file", "Text that names the file."), ("span", "A span, as span_make makes it.")],
            ),
        }
    }
}

impl ScalarUDFImpl for IdFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        match (self.kind, given) {
            (Kind::SpanId, [file, span]) => {
                Ok(vec![text_type(name, "its first argument", file)?, span_argument_type(name, span)?])
            }
            (Kind::SpanId, _) => plan_err!("{name}() takes a file and a span, found {} arguments", given.len()),
            (_, [first, parts @ ..]) if !parts.is_empty() => {
                std::iter::once(text_type(name, "its first argument", first))
                    .chain(parts.iter().map(|part| part_type(name, part)))
                    .collect()
            }
            _ => plan_err!(
                "{name}() takes what the id begins with and at least one part: {}",
                self.documentation.syntax_example
            ),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = match self.semantic_type(args.scalar_arguments.first().copied().flatten())? {
            Some(semantic_type) => semantic_type.field(self.name(), nullable(&args)),
            None => Field::new(self.name(), DataType::Utf8, nullable(&args)),
        };
        Ok(Arc::new(field))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let first = match args.args.first() {
            Some(ColumnarValue::Scalar(first)) => Some(first),
            _ => None,
        };
        let semantic_type = self.semantic_type(first)?;
        let arguments = Argument::all(&args.args)?;
        let constant = arguments.iter().all(Argument::is_constant);
        let rows = if constant { 1 } else { args.number_rows };
        let mut ids = StringBuilder::with_capacity(rows, rows * 40);
        let mut encoding = Vec::new();
        for row in 0..rows {
            let id = match (self.kind, semantic_type, arguments.as_slice()) {
                (Kind::SpanId, _, [file, span]) => span_parts(file, span, row)?
                    .map(|parts| (SemanticType::SpanId.prefix(), digest(parts, &mut encoding))),
                (_, Some(semantic_type), [_, parts @ ..]) => {
                    digest_of(parts, row, &mut encoding)?.map(|digest| (semantic_type.prefix(), digest))
                }
                (_, None, [prefix, parts @ ..]) => match prefix.text(row)? {
                    Some(prefix) => digest_of(parts, row, &mut encoding)?.map(|digest| (prefix, digest)),
                    None => None,
                },
                _ => None,
            };
            match (id, self.kind) {
                (None, _) => ids.append_null(),
                (Some((prefix, digest)), kind) => {
                    match kind {
                        Kind::PrefixedHash64 => write!(ids, "{prefix}:{}", digest.hex::<8>())?,
                        _ => write!(ids, "{prefix}:{}", digest.hex::<16>())?,
                    }
                    ids.append_value("");
                }
            }
        }
        result(Arc::new(ids.finish()), constant)
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// What the parts of a row have for a digest; none where one is NULL.
fn digest_of(parts: &[Argument], row: usize, encoding: &mut Vec<u8>) -> Result<Option<Digest>> {
    let parts: Option<Vec<Part<'_>>> = parts.iter().map(|part| part.part(row)).collect::<Result<_>>()?;
    Ok(parts.map(|parts| digest(parts, encoding)))
}

fn span_parts<'a>(file: &'a Argument, span: &Argument, row: usize) -> Result<Option<[Part<'a>; 3]>> {
    let (Some(file), Some(span)) = (file.text(row)?, span.span(row)?) else {
        return Ok(None);
    };
    Ok(Some([Part::Text(file), Part::Integer(span.start().into()), Part::Integer(span.end().into())]))
}

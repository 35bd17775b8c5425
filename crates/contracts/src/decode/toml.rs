//! TOML into nodes: what a person writes, held to the rules of what a program writes.
//!
//! Numbers are taken as they are spelled, before anything can round them. The crate bounds the nesting of brackets and
//! not that of dotted keys, so the tokens are counted before anything is built.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::{Fault, Node, number, small_enough, typed};
use crate::canonical::{MAX_DEPTH, Step};
use crate::v1::{ErrorCode, ErrorReport};

/// The longest document in bytes: it takes up to about 100 times that while it is decoded.
const MAX_BYTES: usize = 1 << 20;

/// Decodes a bare payload from TOML of up to 1 MiB, with numbers held to the rule of [`decode`](super::decode()).
///
/// ```
/// use alluvium_contracts::{PipelineSpec, decode_toml};
///
/// let file = b"[outputs.daily]\nview = \"a\"\npath = \"b\"\nwrite = { stats_max_columns = 9007199254740993.0 }\n";
/// let report = decode_toml::<PipelineSpec>(file).unwrap_err();
/// assert_eq!(report.pointer, "/outputs/daily/write/stats_max_columns");
/// assert_eq!((report.line, report.column), (Some(4), Some(31)));
/// ```
///
/// # Errors
/// [`ErrorReport`] with the place, line and column too, what was expected there, and what was found.
pub fn decode_toml<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ErrorReport> {
    let document = Toml::parse(bytes)?;
    document.node().and_then(|node| typed(node, &[])).map_err(|report| document.locate(report))
}

/// A parsed document, which knows where in its text everything stands.
pub(crate) struct Toml<'de> {
    text: &'de str,
    root: DeTable<'de>,
}

impl<'de> Toml<'de> {
    pub(crate) fn parse(bytes: &'de [u8]) -> Result<Self, ErrorReport> {
        let malformed = |expected: &str, found: String| Fault::new(ErrorCode::Malformed, expected, found);
        small_enough(bytes, MAX_BYTES).map_err(Fault::report)?;
        let text = str::from_utf8(bytes).map_err(|error| malformed("text in UTF-8", error.to_string()).report())?;
        if let Some(at) = too_deep(text) {
            return Err(Fault::too_deep().report().at(position(text, at)));
        }
        match DeTable::parse(text) {
            Ok(root) => Ok(Self { text, root: root.into_inner() }),
            Err(error) => {
                let mut fault = malformed("TOML", format!("text that is none ({})", error.message()));
                if error.message() == "duplicate key" {
                    fault = Fault::new(ErrorCode::DuplicateKey, "each key once", "a key that is there twice");
                }
                let at = error.span().map_or(0, |span| span.start);
                Err(fault.report().at(position(text, at)))
            }
        }
    }

    /// The document as a node.
    pub(crate) fn node(&self) -> Result<Node<'_>, ErrorReport> {
        table(&self.root, 0).map_err(Fault::report)
    }

    /// Adds line and column of the pointer's place, or of what of it is there.
    pub(crate) fn locate(&self, report: ErrorReport) -> ErrorReport {
        let (mut span, mut inside): (Range<usize>, Option<&DeValue<'_>>) = (0..0, None);
        for step in report.pointer.split('/').skip(1) {
            let name = step.replace("~1", "/").replace("~0", "~");
            let found = match inside {
                None => entry(&self.root, &name),
                Some(DeValue::Table(table)) => entry(table, &name),
                Some(DeValue::Array(items)) => {
                    name.parse().ok().and_then(|index: usize| items.get(index)).map(|item| (item.span(), item))
                }
                Some(_) => None,
            };
            let Some((key, value)) = found else { break };
            // A field that nobody knows is wrong by its name, whatever its value.
            span = if report.code == ErrorCode::UnknownField { key } else { value.span() };
            inside = Some(value.get_ref());
        }
        report.at(position(self.text, span.start))
    }
}

/// Where the key of an entry stands, and its value.
fn entry<'a, 'de>(table: &'a DeTable<'de>, name: &str) -> Option<(Range<usize>, &'a Spanned<DeValue<'de>>)> {
    table.get_key_value(name).map(|(key, value)| (key.span(), value))
}

fn table<'a>(table: &'a DeTable<'_>, depth: usize) -> Result<Node<'a>, Fault> {
    let depth = deeper(depth)?;
    let mut entries = Vec::with_capacity(table.len());
    for (key, inner) in table {
        let name: &str = key.get_ref();
        let inner = value(inner, depth).map_err(|fault| fault.under(Step::Key(name.to_owned().into())))?;
        entries.push((Cow::Borrowed(name), inner));
    }
    Node::object(entries)
}

fn value<'a>(value_: &'a Spanned<DeValue<'_>>, depth: usize) -> Result<Node<'a>, Fault> {
    match value_.get_ref() {
        DeValue::String(text) => Ok(Node::Text(Cow::Borrowed(text))),
        DeValue::Integer(spelled) => integer(spelled),
        DeValue::Float(spelled) => float(spelled),
        DeValue::Boolean(value) => Ok(Node::Boolean(*value)),
        DeValue::Datetime(_) => Err(Fault::new(
            ErrorCode::WrongType,
            "text, a number, a boolean, a list or a table",
            "a date or time; put it in quotes",
        )),
        DeValue::Array(items) => {
            let depth = deeper(depth)?;
            let item = |(index, item)| value(item, depth).map_err(|fault| fault.under(Step::Index(index)));
            items.iter().enumerate().map(item).collect::<Result<_, _>>().map(Node::List)
        }
        DeValue::Table(inner) => table(inner, depth),
    }
}

fn integer<'a>(spelled: &DeInteger<'_>) -> Result<Node<'a>, Fault> {
    match (i128::from_str_radix(spelled.as_str(), spelled.radix()), spelled.radix()) {
        (Ok(value), _) => number::integer(value),
        (Err(_), 10) => decimal(spelled.as_str()),
        // Beyond 128 bits no other notation is compared with decimal ones.
        (Err(_), _) => Err(number::too_wide(&spelled.to_string())),
    }
}

fn float<'a>(spelled: &DeFloat<'_>) -> Result<Node<'a>, Fault> {
    decimal(spelled.as_str())
}

fn decimal<'a>(text: &str) -> Result<Node<'a>, Fault> {
    let text = text.strip_prefix('+').unwrap_or(text);
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => number::spelled(text, value),
        Ok(value) if text.ends_with(['f', 'n']) => Node::float(value),
        _ => Err(number::out_of_range(text)),
    }
}

fn deeper(depth: usize) -> Result<usize, Fault> {
    if depth == MAX_DEPTH { Err(Fault::too_deep()) } else { Ok(depth + 1) }
}

/// Where brackets and dotted keys go deeper together than any document may.
fn too_deep(text: &str) -> Option<usize> {
    let (mut level, mut dots, mut around) = (0, 0, Vec::new());
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => {
                around.push((level, dots));
                level += dots + 1;
                dots = 0;
            }
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => {
                (level, dots) = around.pop().unwrap_or_default();
            }
            TokenKind::Comma | TokenKind::Newline => dots = 0,
            _ => {}
        }
        // A header of an array of tables has two brackets of its own.
        if level + dots > MAX_DEPTH + 2 {
            return Some(token.span().start());
        }
    }
    None
}

/// Line and column, both from 1, of a byte.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

//! What the text of a column stands for: Arrow extension types over plain text.
//!
//! A type is two keys of a field's metadata, `ARROW:extension:name` and, where there is more to say,
//! `ARROW:extension:metadata`. Whoever does not know the type sees text.

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use arrow_schema::extension::ExtensionType;

/// A semantic type of ours, as a value. [`NodeId`], [`EdgeId`] and [`SpanId`] are the same as types, for
/// `Field::try_extension_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SemanticType {
    /// The id of a node of a graph.
    NodeId,
    /// The id of an edge between two nodes.
    EdgeId,
    /// The id of a span of bytes in a file.
    SpanId,
}

/// A field does not hold what its semantic type asks for, or a type is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SemanticTypeError {
    /// Ids are text.
    #[error("column `{column}` is of type {data_type}, and a {semantic_type} is text; cast it to text first")]
    Storage {
        /// The column.
        column: String,
        /// The semantic type.
        semantic_type: SemanticType,
        /// The type of its values.
        data_type: DataType,
    },
    /// These types say nothing more than their name.
    #[error(
        "column `{column}` is a {semantic_type} with extension metadata `{metadata}`, which this build does not know; read it with a newer one"
    )]
    Metadata {
        /// The column.
        column: String,
        /// The semantic type.
        semantic_type: SemanticType,
        /// What stands under `ARROW:extension:metadata`.
        metadata: String,
    },
    /// No type of ours has this name.
    #[error("`{name}` is no semantic type; there are {}", SemanticType::ALL.map(SemanticType::as_str).join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
}

impl SemanticType {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::NodeId, Self::EdgeId, Self::SpanId];

    /// Its name, which stands under `ARROW:extension:name`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeId => NodeId::NAME,
            Self::EdgeId => EdgeId::NAME,
            Self::SpanId => SpanId::NAME,
        }
    }

    /// What its ids begin with, before the colon.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::NodeId => "node",
            Self::EdgeId => "edge",
            Self::SpanId => "span",
        }
    }

    /// A column of plain text (`Utf8`) of this type.
    #[must_use]
    pub fn field(self, name: &str, nullable: bool) -> Field {
        let field = Field::new(name, DataType::Utf8, nullable);
        match self {
            Self::NodeId => field.with_extension_type(NodeId),
            Self::EdgeId => field.with_extension_type(EdgeId),
            Self::SpanId => field.with_extension_type(SpanId),
        }
    }

    /// The column `field` as one of this type; what else its metadata says stays.
    ///
    /// # Errors
    /// [`SemanticTypeError::Storage`] when it is no text.
    pub fn annotate(self, field: Field) -> Result<Field, SemanticTypeError> {
        self.check_storage(&field)?;
        Ok(match self {
            Self::NodeId => field.with_extension_type(NodeId),
            Self::EdgeId => field.with_extension_type(EdgeId),
            Self::SpanId => field.with_extension_type(SpanId),
        })
    }

    /// The type that a field carries: none where it carries none, or one that is not ours.
    ///
    /// # Errors
    /// [`SemanticTypeError`] when it carries the name and is something else.
    pub fn of(field: &Field) -> Result<Option<Self>, SemanticTypeError> {
        let Some(semantic_type) = field.extension_type_name().and_then(|name| name.parse::<Self>().ok()) else {
            return Ok(None);
        };
        semantic_type.check_storage(field)?;
        match field.extension_type_metadata() {
            None | Some("") => Ok(Some(semantic_type)),
            Some(metadata) => Err(SemanticTypeError::Metadata {
                column: field.name().clone(),
                semantic_type,
                metadata: metadata.to_owned(),
            }),
        }
    }

    fn check_storage(self, field: &Field) -> Result<(), SemanticTypeError> {
        if is_text(field.data_type()) {
            return Ok(());
        }
        Err(SemanticTypeError::Storage {
            column: field.name().clone(),
            semantic_type: self,
            data_type: field.data_type().clone(),
        })
    }
}

impl fmt::Display for SemanticType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for SemanticType {
    type Err = SemanticTypeError;

    fn from_str(name: &str) -> Result<Self, SemanticTypeError> {
        let found = Self::ALL.into_iter().find(|semantic_type| semantic_type.as_str() == name);
        found.ok_or_else(|| SemanticTypeError::Unknown { name: name.to_owned() })
    }
}

/// Whether values of this type are text, in whichever of Arrow's layouts.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name;

        impl ExtensionType for $name {
            const NAME: &'static str = stringify!($name);
            type Metadata = ();

            fn metadata(&self) -> &() {
                &()
            }

            fn serialize_metadata(&self) -> Option<String> {
                None
            }

            fn deserialize_metadata(metadata: Option<&str>) -> Result<(), ArrowError> {
                match metadata {
                    None | Some("") => Ok(()),
                    Some(other) => Err(ArrowError::InvalidArgumentError(format!(
                        "{} has no extension metadata, found `{other}`",
                        Self::NAME
                    ))),
                }
            }

            fn supports_data_type(&self, data_type: &DataType) -> Result<(), ArrowError> {
                match is_text(data_type) {
                    true => Ok(()),
                    false => Err(ArrowError::InvalidArgumentError(format!(
                        "{} is text, found {data_type}",
                        Self::NAME
                    ))),
                }
            }

            fn try_new(data_type: &DataType, (): ()) -> Result<Self, ArrowError> {
                Self.supports_data_type(data_type).map(|()| Self)
            }
        }
    };
}

id_type!(
    /// The id of a node of a graph, as an Arrow extension type.
    NodeId
);
id_type!(
    /// The id of an edge between two nodes, as an Arrow extension type.
    EdgeId
);
id_type!(
    /// The id of a span of bytes in a file, as an Arrow extension type.
    SpanId
);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_type_is_written_as_arrow_says_and_read_back() {
        for semantic_type in SemanticType::ALL {
            let field = semantic_type.field("id", false);
            let name = semantic_type.as_str().to_owned();
            assert_eq!(field.metadata(), &HashMap::from([("ARROW:extension:name".to_owned(), name)]));
            assert_eq!(SemanticType::of(&field), Ok(Some(semantic_type)));
            assert_eq!(semantic_type.as_str().parse(), Ok(semantic_type));
        }
        let node = SemanticType::NodeId.field("id", true);
        assert_eq!(node.try_extension_type::<NodeId>().unwrap(), NodeId);
        node.try_extension_type::<EdgeId>().unwrap_err();
    }

    #[test]
    fn what_is_there_stays_and_the_type_is_replaced() {
        let metadata = HashMap::from([("unit".to_owned(), "none".to_owned())]);
        for text in [DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View] {
            let plain = Field::new("id", text, true).with_metadata(metadata.clone());
            let edge = SemanticType::EdgeId.annotate(SemanticType::NodeId.annotate(plain).unwrap()).unwrap();
            assert_eq!(SemanticType::of(&edge), Ok(Some(SemanticType::EdgeId)));
            assert_eq!(edge.metadata()["unit"], "none");
        }
    }

    #[test]
    fn what_is_not_the_type_is_named() {
        let number = Field::new("id", DataType::Int64, true);
        let refused = SemanticType::NodeId.annotate(number.clone()).unwrap_err();
        assert!(refused.to_string().contains("`id` is of type Int64"), "{refused}");
        let named = |name: &str| [("ARROW:extension:name".to_owned(), name.to_owned())].into();
        let claimed = number.clone().with_metadata(named("NodeId"));
        assert_eq!(SemanticType::of(&claimed), Err(refused));
        let foreign = Field::new("id", DataType::Utf8, true).with_metadata(named("arrow.uuid"));
        assert_eq!((SemanticType::of(&foreign), SemanticType::of(&number)), (Ok(None), Ok(None)));

        let mut newer = SemanticType::NodeId.field("id", true).metadata().clone();
        newer.insert("ARROW:extension:metadata".to_owned(), "{}".to_owned());
        let newer = Field::new("id", DataType::Utf8, true).with_metadata(newer);
        assert!(matches!(SemanticType::of(&newer), Err(SemanticTypeError::Metadata { .. })));
        newer.try_extension_type::<NodeId>().unwrap_err();
        let unknown = "Nodeid".parse::<SemanticType>().unwrap_err();
        assert!(unknown.to_string().ends_with("NodeId, EdgeId, SpanId"), "{unknown}");
    }
}

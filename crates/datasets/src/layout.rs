//! From the columns that files have to the one schema that they are read by: which column of a file, cast to what, or
//! which value becomes a column.
//!
//! Files of equal columns form a group, and each group has expressions of its own. So a default stands for a column that
//! a file does not have, never for a NULL in one that has it; and no reader is asked for a column that is not there,
//! whose NULLs it would prune and count by.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Cast, Expr, lit};

use crate::schema_text::type_text;
use crate::shape::{Evolution, Shape};

/// Files whose columns do not fit what is declared, or one another.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A file lacks a column.
    #[error(
        "{} has no column `{column}`, only {found:?}: correct `schema`, or say in `evolution` what the column is there: give it \
         a default, name it in `allow_missing`, or `rename` an older column to it",
        path.display()
    )]
    Missing {
        /// The column.
        column: String,
        /// The file.
        path: PathBuf,
        /// The columns that it has.
        found: Vec<String>,
    },
    /// A column that may not be NULL is missing and has no default.
    #[error("{} has no column `{column}`, which is declared without NULL: give it a default in `evolution.defaults`", path.display())]
    MissingRequired {
        /// The column.
        column: String,
        /// The file.
        path: PathBuf,
    },
    /// `scan.schema` of a Delta table declares a column that the table does not have.
    #[error(
        "the table in {} has no column `{column}`, only {found:?}: correct `scan.schema`, whose columns have the table's names",
        path.display()
    )]
    ScanColumn {
        /// The column.
        column: String,
        /// The table.
        path: PathBuf,
        /// The columns that it has.
        found: Vec<String>,
    },
    /// A file has a column too many.
    #[error("{} has the column `{column}` beyond `schema`: declare it, or name it in `evolution.allow_extra`", path.display())]
    Extra {
        /// The column.
        column: String,
        /// The file.
        path: PathBuf,
    },
    /// A column of a file is of another type than it is declared, and nothing says that it may be cast.
    #[error(
        "`schema` declares the column `{column}` as {declared}, but it is {found} in {}: correct it, or declare an \
         `evolution`, with which columns are cast",
        path.display()
    )]
    Type {
        /// The column.
        column: String,
        /// Its declared type.
        declared: String,
        /// Its type in the file.
        found: String,
        /// The file.
        path: PathBuf,
    },
    /// No cast leads from the one type to the other.
    #[error("the column `{column}` is {found} in {}, from which no cast leads to {target}: declare another type", path.display())]
    Uncastable {
        /// The column.
        column: String,
        /// Its type in the file.
        found: String,
        /// The type that it is to have.
        target: String,
        /// The file.
        path: PathBuf,
    },
    /// A column has two types, and none is declared.
    #[error(
        "the column `{column}` is {first_type} in {} but {second_type} in {}: declare its type in `schema` or \
         `evolution.casts`",
        first.display(),
        second.display()
    )]
    Types {
        /// The column.
        column: String,
        /// The first file that has the column.
        first: PathBuf,
        /// Its type there.
        first_type: String,
        /// A file in which it is another.
        second: PathBuf,
        /// Its type there.
        second_type: String,
    },
    /// Two columns of a file become one.
    #[error(
        "two columns of {} become `{column}`: correct `evolution.rename`, `partition_columns` or `scan.file_column_name`",
        path.display()
    )]
    Collision {
        /// The column.
        column: String,
        /// The file.
        path: PathBuf,
    },
    /// A default is no value of its column's type.
    #[error("the default of the column `{column}` is no {data_type}: write it as a literal that is")]
    Default {
        /// The column.
        column: String,
        /// The column's type.
        data_type: String,
        /// The engine's word, if it has one.
        source: Option<Box<DataFusionError>>,
    },
    /// Something is declared of a column that no file has.
    #[error("`{field}` names the column `{column}`, which no file has; its columns are {known:?}")]
    Unknown {
        /// The field of the declaration.
        field: &'static str,
        /// The column.
        column: String,
        /// The columns that there are.
        known: Vec<String>,
    },
    /// A partition column of a Delta table is declared otherwise than it is.
    #[error("`partition_columns` are {declared:?}, but the table is partitioned by {found:?}: make them agree")]
    Partitions {
        /// The columns that are declared, with their types.
        declared: Vec<String>,
        /// The columns of the table, with their types.
        found: Vec<String>,
    },
}

/// Files of equal columns.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// As the engine reads it, without partition columns.
    pub(crate) schema: SchemaRef,
    /// Places in the list of all files.
    pub(crate) files: Vec<usize>,
    /// The first of them, for messages.
    pub(crate) path: PathBuf,
}

/// One schema over several groups of files.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) schema: SchemaRef,
    pub(crate) groups: Vec<Group>,
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) files: Vec<usize>,
    /// What the files are read with: their columns, then the partition columns.
    pub(crate) schema: SchemaRef,
    /// How the columns of the layout come from these. `None` if they are these.
    pub(crate) columns: Option<Vec<Expr>>,
}

impl Layout {
    /// All files in one group, read by the schema that the engine merged.
    pub(crate) fn merged(schema: &SchemaRef, partitions: &[FieldRef], files: usize) -> Self {
        let schema = with_partitions(schema, partitions);
        let group = Group { files: (0..files).collect(), schema: Arc::clone(&schema), columns: None };
        Self { schema, groups: vec![group] }
    }

    /// Each group by its own columns.
    pub(crate) fn of(shape: &Shape, found: &[Found]) -> Result<Self, ShapeError> {
        let rules = Rules::of(shape);
        let named = found.iter().map(|found| rules.named(found, &shape.partitions)).collect::<Result<Vec<_>, _>>()?;
        let mut fields = match &shape.declared {
            Some(declared) => declared.clone(),
            None => rules.union(&named)?,
        };
        rules.check_names(&fields)?;
        let data_columns = fields.len();
        fields.extend(shape.partitions.iter().cloned());
        let mut groups = Vec::with_capacity(named.len());
        for named in &named {
            rules.check_extra(named, &fields)?;
            let data = fields[..data_columns].iter().map(|field| rules.column(named, field));
            let mut columns = data.collect::<Result<Vec<_>, _>>()?;
            columns.extend(shape.partitions.iter().map(|field| column(field.name())));
            let schema = with_partitions(&named.found.schema, &shape.partitions);
            let same = schema.fields().as_ref() == fields.as_slice();
            groups.push(Group { files: named.found.files.clone(), schema, columns: (!same).then_some(columns) });
        }
        Ok(Self { schema: Arc::new(Schema::new(fields)), groups })
    }
}

fn with_partitions(schema: &SchemaRef, partitions: &[FieldRef]) -> SchemaRef {
    if partitions.is_empty() {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().chain(partitions).cloned().collect::<Vec<_>>();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// A column by exactly this name: parsed, it would lose its capitals and dots.
pub(crate) fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// What is allowed of files, from an evolution or from there being none.
struct Rules<'a> {
    evolution: Option<&'a Evolution>,
    /// A column that a file lacks is NULL there.
    lenient: bool,
    declared: bool,
}

/// A group of files, and its columns by the names that they are to have.
struct Named<'a> {
    found: &'a Found,
    fields: BTreeMap<&'a str, &'a Field>,
}

impl<'a> Rules<'a> {
    fn of(shape: &'a Shape) -> Self {
        let evolution = shape.evolution.as_ref();
        let declared = shape.declared.is_some();
        // Without a declaration the columns are the union of the files'. With only a schema they all have to have it.
        let lenient = evolution.map_or(!declared, |evolution| !evolution.strict);
        Self { evolution, lenient, declared }
    }

    fn new_name(&self, name: &'a str) -> &'a str {
        self.evolution.and_then(|evolution| evolution.rename.get(name)).map_or(name, String::as_str)
    }

    fn named(&self, found: &'a Found, partitions: &[FieldRef]) -> Result<Named<'a>, ShapeError> {
        let mut fields = BTreeMap::new();
        for field in found.schema.fields() {
            let name = self.new_name(field.name());
            let taken = partitions.iter().any(|partition| partition.name() == name);
            if taken || fields.insert(name, field.as_ref()).is_some() {
                return Err(ShapeError::Collision { column: name.to_owned(), path: found.path.clone() });
            }
        }
        Ok(Named { found, fields })
    }

    /// Every column of any file, in the order in which they come; then the defaults that no file has.
    fn union(&self, groups: &[Named<'a>]) -> Result<Vec<FieldRef>, ShapeError> {
        let mut fields: Vec<(Field, &Found)> = Vec::new();
        for group in groups {
            for field in group.found.schema.fields() {
                let name = self.new_name(field.name());
                let Some((known, first)) = fields.iter_mut().find(|(known, _)| known.name() == name) else {
                    let cast = self.evolution.and_then(|evolution| evolution.casts.get(name));
                    let data_type = cast.unwrap_or(field.data_type()).clone();
                    let lacked = groups.iter().any(|group| !group.fields.contains_key(name));
                    let default = self.default(name).filter(|default| !default.is_null());
                    let nullable = field.is_nullable() || (lacked && default.is_none());
                    let field = field.as_ref().clone().with_name(name).with_data_type(data_type);
                    fields.push((field.with_nullable(nullable), group.found));
                    continue;
                };
                if field.is_nullable() {
                    known.set_nullable(true);
                }
                let cast = self.evolution.is_some_and(|evolution| evolution.casts.contains_key(name));
                if !cast && field.data_type() != known.data_type() {
                    return Err(ShapeError::Types {
                        column: name.to_owned(),
                        first: first.path.clone(),
                        first_type: type_text(known.data_type()),
                        second: group.found.path.clone(),
                        second_type: type_text(field.data_type()),
                    });
                }
            }
        }
        let mut fields: Vec<FieldRef> = fields.into_iter().map(|(field, _)| field.into()).collect();
        for (name, default) in self.evolution.iter().flat_map(|evolution| &evolution.defaults) {
            if !fields.iter().any(|field| field.name() == name) {
                let cast = self.evolution.and_then(|evolution| evolution.casts.get(name));
                let data_type = cast.cloned().unwrap_or_else(|| default.data_type());
                fields.push(Field::new(name, data_type, default.is_null()).into());
            }
        }
        Ok(fields)
    }

    /// What an evolution names has to be there, or a misspelt name would reach nothing.
    fn check_names(&self, fields: &[FieldRef]) -> Result<(), ShapeError> {
        let Some(evolution) = self.evolution.filter(|_| !self.declared) else {
            return Ok(());
        };
        let renamed = evolution.rename.values().map(|name| ("evolution.rename", name));
        let cast = evolution.casts.keys().map(|name| ("evolution.casts", name));
        let missing = evolution.allow_missing.iter().map(|name| ("evolution.allow_missing", name));
        for (field, name) in renamed.chain(cast).chain(missing) {
            if !fields.iter().any(|field| field.name() == name) {
                let known = fields.iter().map(|field| field.name().clone()).collect();
                return Err(ShapeError::Unknown { field, column: name.clone(), known });
            }
        }
        Ok(())
    }

    fn check_extra(&self, group: &Named<'_>, fields: &[FieldRef]) -> Result<(), ShapeError> {
        if self.lenient {
            return Ok(());
        }
        let allowed = |name: &str| {
            fields.iter().any(|field| field.name() == name)
                || self.evolution.is_some_and(|evolution| evolution.allow_extra.contains(name))
        };
        match group.fields.keys().find(|name| !allowed(name)) {
            None => Ok(()),
            Some(name) => Err(ShapeError::Extra { column: (*name).to_owned(), path: group.found.path.clone() }),
        }
    }

    fn default(&self, name: &str) -> Option<&'a ScalarValue> {
        self.evolution?.defaults.get(name)
    }

    /// How a column comes from the files of a group.
    fn column(&self, group: &Named<'_>, target: &Field) -> Result<Expr, ShapeError> {
        let path = || group.found.path.clone();
        let name = target.name();
        if let Some(field) = group.fields.get(name.as_str()) {
            let (from, to) = (field.data_type(), target.data_type());
            if from == to {
                return Ok(column(field.name()));
            }
            if self.evolution.is_none() && !same_values(from, to) {
                let (declared, found) = (type_text(to), type_text(from));
                return Err(ShapeError::Type { column: name.clone(), declared, found, path: path() });
            }
            if !can_cast_types(from, to) {
                let (found, target) = (type_text(from), type_text(to));
                return Err(ShapeError::Uncastable { column: name.clone(), found, target, path: path() });
            }
            return Ok(Expr::Cast(Cast::new(Box::new(column(field.name())), to.clone())));
        }
        if let Some(default) = self.default(name) {
            return typed(name, default, target).map(lit);
        }
        let allowed = self.evolution.is_some_and(|evolution| evolution.allow_missing.contains(name));
        if !self.lenient && !allowed {
            let found = group.fields.keys().map(|name| (*name).to_owned()).collect();
            return Err(ShapeError::Missing { column: name.clone(), path: path(), found });
        }
        if !target.is_nullable() {
            return Err(ShapeError::MissingRequired { column: name.clone(), path: path() });
        }
        typed(name, &ScalarValue::Null, target).map(lit)
    }
}

/// Two types that hold the same values, differently laid out.
fn same_values(one: &DataType, other: &DataType) -> bool {
    let family = |data_type: &DataType| match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => 1,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => 2,
        _ => 0,
    };
    family(one) != 0 && family(one) == family(other)
}

/// A default in the type of its column; a number has to be the same number there.
fn typed(name: &str, default: &ScalarValue, target: &Field) -> Result<ScalarValue, ShapeError> {
    let refused = |source: Option<DataFusionError>| ShapeError::Default {
        column: name.to_owned(),
        data_type: type_text(target.data_type()),
        source: source.map(Box::new),
    };
    let value = default.cast_to(target.data_type()).map_err(|source| refused(Some(source)))?;
    if value.is_null() != default.is_null() || (value.is_null() && !target.is_nullable()) {
        return Err(refused(None));
    }
    let exact = default.is_null()
        || default.data_type() == DataType::Utf8
        || value.cast_to(&default.data_type()).is_ok_and(|back| back == *default);
    if exact { Ok(value) } else { Err(refused(None)) }
}

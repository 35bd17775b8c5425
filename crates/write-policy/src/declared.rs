//! The columns that a table was made with, without replaying its log.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::StructType;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow as _;
use serde::Deserialize;

use crate::error::ReadError;
use crate::log::{commit_path, parse_commit};

/// The schema in the first commit of a table, in arrow's types: that of the table, if it has no other commit.
///
/// # Errors
/// [`ReadError::NoSuchVersion`] when the commit is not there, another [`ReadError`] when it is damaged, says no schema, or
/// says one that arrow has no types for.
pub fn declared_schema(table_dir: &Path) -> Result<SchemaRef, ReadError> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "metaData")]
        metadata: Option<Metadata>,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(rename = "schemaString")]
        schema: String,
    }

    let mut metadata = parse_commit::<Line>(table_dir, 0)?.into_iter().filter_map(|line| line.metadata);
    let Some(Metadata { schema }) = metadata.next() else {
        return Err(ReadError::EmptyCommit { path: commit_path(table_dir, 0) });
    };
    let log = |source| ReadError::Log { path: table_dir.to_path_buf(), source };
    let schema: StructType = serde_json::from_str(&schema).map_err(|error| log(error.into()))?;
    let schema: Schema = (&schema).try_into_arrow().map_err(|error| log(error.into()))?;
    Ok(Arc::new(schema))
}

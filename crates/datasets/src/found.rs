//! The columns of each file, where those decide how it is read: files of equal columns in one group.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::PinError;
use crate::layout::{Found, ShapeError};
use crate::options::{CsvRead, ReadOptions};
use crate::pin::{FilePin, FileSource, Learned, blocking};
use crate::schema_text::schema_text;

/// With what an Arrow IPC file begins; a stream does not.
const ARROW_FILE: &[u8; 6] = b"ARROW1";

impl FileSource<'_> {
    /// The files in groups, in the order of the first of each.
    pub(crate) async fn found(&self, files: &[FilePin], learned: &mut Learned) -> Result<Vec<Found>, PinError> {
        match self.options {
            ReadOptions::Parquet(_) | ReadOptions::Arrow => {
                let schemas = self.each(files, learned).await?;
                Ok(grouped(files, schemas))
            }
            ReadOptions::Csv(csv) => self.csv(csv, files, learned).await,
            // A record has the columns that it has: those that are declared are looked for in it.
            ReadOptions::Json(_) => {
                let declared = self.shape.declared.clone().unwrap_or_default();
                let schema = Schema::new(declared.iter().map(nullable).collect::<Vec<_>>());
                let schema = Arc::new(schema);
                Ok(vec![Found { schema, files: (0..files.len()).collect(), path: files[0].path.clone() }])
            }
        }
    }

    /// The schema of each file as the file has it.
    async fn each(&self, files: &[FilePin], learned: &mut Learned) -> Result<Vec<SchemaRef>, PinError> {
        let mut schemas = Vec::with_capacity(files.len());
        for file in files {
            let alone = std::slice::from_ref(file);
            let key = self.schema_key("one file", alone);
            let schema = match self.known(key).await {
                Some(schema) => schema,
                None => {
                    self.check_arrow_file(file).await?;
                    let schema = self.inference(alone)?.infer().await?;
                    learned.push((key, Arc::clone(&schema)));
                    schema
                }
            };
            schemas.push(schema);
        }
        Ok(schemas)
    }

    /// The engine would take all files for what the first is.
    async fn check_arrow_file(&self, file: &FilePin) -> Result<(), PinError> {
        if !matches!(self.options, ReadOptions::Arrow) {
            return Ok(());
        }
        let path = file.path.clone();
        let begins = blocking(move || {
            let mut begins = [0; ARROW_FILE.len()];
            File::open(path)?.read_exact(&mut begins).map(|()| begins)
        });
        match begins.await {
            Ok(begins) if begins == *ARROW_FILE => Ok(()),
            // What else is wrong with it is told by the engine.
            Err(_) => Ok(()),
            Ok(_) => Err(PinError::ArrowStream { dataset: self.dataset.to_owned(), path: file.path.clone() }),
        }
    }

    /// Names from the headers, or from the declaration by position; types from the declaration, or inferred over each group.
    /// What is declared is read as such from the text: an inferred number would have lost its leading zeros.
    async fn csv(&self, csv: &CsvRead, files: &[FilePin], learned: &mut Learned) -> Result<Vec<Found>, PinError> {
        let mut headers = Vec::with_capacity(files.len());
        for file in files {
            let alone = std::slice::from_ref(file);
            let key = self.schema_key("header", alone);
            let header = match self.known(key).await {
                Some(header) => header,
                None => {
                    let header = self.inference(alone)?.header(csv, file).await?;
                    learned.push((key, Arc::clone(&header)));
                    header
                }
            };
            headers.push(if csv.has_header { header } else { self.by_position(file, &header)? });
        }
        let mut groups = grouped(files, headers);
        // A file without a header has no rows either.
        groups.retain(|group| !group.schema.fields().is_empty());
        if groups.is_empty() {
            return Err(PinError::NoColumns { dataset: self.dataset.to_owned() });
        }
        for group in &mut groups {
            let typed: Vec<_> = group.schema.fields().iter().map(|field| self.csv_type(field)).collect();
            let inferred = if typed.iter().all(Option::is_some) {
                Arc::clone(&group.schema)
            } else {
                let members: Vec<_> = group.files.iter().map(|index| files[*index].clone()).collect();
                let key = self.schema_key("group", &members);
                match self.known(key).await {
                    Some(schema) => schema,
                    None => {
                        let schema = self.inference(&members)?.infer().await?;
                        learned.push((key, Arc::clone(&schema)));
                        schema
                    }
                }
            };
            let fields = group.schema.fields().iter().zip(inferred.fields()).zip(typed);
            let fields = fields.map(|((named, inferred), typed)| {
                typed.unwrap_or_else(|| inferred.as_ref().clone().with_name(named.name()).with_nullable(true))
            });
            group.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        }
        Ok(groups)
    }

    /// Files without headers have the declared columns, and so has nobody else a name for theirs.
    fn by_position(&self, file: &FilePin, header: &SchemaRef) -> Result<SchemaRef, PinError> {
        let Some(declared) = &self.shape.declared else {
            return Ok(Arc::clone(header));
        };
        let misfit = |source| Err(PinError::Shape { dataset: self.dataset.to_owned(), source });
        let (count, expected) = (header.fields().len(), declared.len());
        if count < expected {
            let column = declared[count].name().clone();
            let found = declared[..count].iter().map(|field| field.name().clone()).collect();
            return misfit(ShapeError::Missing { column, path: file.path.clone(), found });
        }
        if count > expected {
            let column = header.field(expected).name().clone();
            return misfit(ShapeError::Extra { column, path: file.path.clone() });
        }
        Ok(Arc::new(Schema::new(declared.iter().map(nullable).collect::<Vec<_>>())))
    }

    /// The column of a CSV file as it is declared, by the name that the file has for it.
    fn csv_type(&self, field: &Field) -> Option<Field> {
        let evolution = self.shape.evolution.as_ref();
        let renamed = evolution.and_then(|evolution| evolution.rename.get(field.name()));
        let name = renamed.unwrap_or(field.name());
        let declared = self.shape.declared.iter().flatten().find(|declared| declared.name() == name);
        let data_type = match declared {
            Some(declared) => declared.data_type(),
            None => evolution?.casts.get(name)?,
        };
        Some(Field::new(field.name(), data_type.clone(), true))
    }
}

/// What the format itself may leave out in any record.
fn nullable(field: &Arc<Field>) -> Field {
    field.as_ref().clone().with_nullable(true).with_metadata([].into())
}

fn grouped(files: &[FilePin], schemas: Vec<SchemaRef>) -> Vec<Found> {
    let mut groups: Vec<(String, Found)> = Vec::new();
    for (index, schema) in schemas.into_iter().enumerate() {
        let text = schema_text(&schema);
        match groups.iter_mut().find(|(known, _)| *known == text) {
            Some((_, group)) => group.files.push(index),
            None => groups.push((text, Found { schema, files: vec![index], path: files[index].path.clone() })),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

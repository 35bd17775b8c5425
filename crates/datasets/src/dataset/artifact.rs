//! A pin as the contract that plans and manifests hold.

use std::collections::BTreeMap;

use alluvium_contracts::{CdfRange, DeltaInputPin, FilePin, InputKind, SchemaHash};

use super::{Content, PinnedDataset};
use crate::schema_text::schema_text;
use crate::{Changes, delta};

impl PinnedDataset {
    /// The pin as a document. Where the dataset lies is no part of a pin: `path` is none, and files are called as below the
    /// directory that the source names. When a Delta version was committed is not told either.
    #[must_use]
    pub fn artifact(&self) -> DeltaInputPin {
        let mut artifact = DeltaInputPin {
            name: self.name().to_owned(),
            kind: InputKind::Files,
            pin: self.digest(),
            format: self.components().get("format").cloned(),
            path: None,
            cache_key: None,
            table_id: None,
            version: None,
            timestamp_unix_ms: None,
            commit_digest: None,
            schema_hash: Some(SchemaHash::of(schema_text(self.schema()).as_bytes())),
            options: BTreeMap::new(),
            file_count: u64::try_from(self.file_count()).ok(),
            size_bytes: Some(self.size_bytes()),
            files: Vec::new(),
            cdf_range: self.changes().and_then(Changes::range).map(|(starting_version, ending_version)| CdfRange {
                starting_version,
                ending_version,
                row_count: None,
                // Whose cursor it moves is for the run to say.
                consumer: None,
            }),
        };
        match &self.inner.content {
            Content::Files { table, .. } => {
                let resolved = table.options.resolved().into_iter();
                artifact.options = resolved.map(|(name, value)| (name.to_owned(), value)).collect();
                artifact.files = table
                    .files
                    .iter()
                    .map(|file| FilePin {
                        path: file.label.clone(),
                        size_bytes: file.stamp.size_bytes,
                        content_digest: Some(file.digest),
                        object_version: None,
                    })
                    .collect();
            }
            Content::Delta { pin, .. } => {
                let options = pin.options().into_iter();
                artifact.options = options.map(|(name, value)| (name.to_owned(), value)).collect();
                let (delta::Content::Commit(digest) | delta::Content::ActiveFiles(digest)) = pin.content;
                artifact.kind = InputKind::DeltaTable;
                artifact.table_id = Some(pin.table_id.clone());
                artifact.version = Some(pin.version);
                artifact.commit_digest = Some(digest);
            }
            Content::Changes { pin, .. } => {
                artifact.kind = InputKind::DeltaTable;
                artifact.table_id = Some(pin.table_id.clone());
                artifact.version = Some(pin.version);
                // How many files the changes of a range are in is not known.
                (artifact.file_count, artifact.size_bytes) = (None, None);
                let options = self.components().iter();
                let options = options.filter_map(|(part, value)| Some((part.strip_prefix("option ")?, value.clone())));
                artifact.options = options.map(|(name, value)| (name.to_owned(), value)).collect();
            }
        }
        artifact
    }
}

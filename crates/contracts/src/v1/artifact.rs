//! Documents that runs leave behind, as rows: whole, so that each decodes by its own contract.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canonical::CanonicalError;
use crate::digest::ArtifactId;
use crate::envelope::{Contract, Envelope, EnvelopeError, Form, UnknownFields};
use crate::ids::RunId;
use crate::v1::explanation::MissExplanation;
use crate::v1::sample;

/// One row of `alluvium.cache_artifacts`: a document that a run left behind.
///
/// A document whose identity is in the ledger already, such as the plan bundle of a view that has not changed, is not
/// written again: `artifact_id` finds it, whichever run was the first to write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheArtifact {
    /// The run that wrote it.
    pub run_id: RunId,
    /// When the row was made, in milliseconds since 1970-01-01 UTC.
    pub event_time_unix_ms: i64,
    /// What it is about: a view, an output or a table.
    pub name: String,
    /// The kind of the document's contract, such as `miss_explanation`.
    pub artifact_kind: String,
    /// The version of that contract.
    pub artifact_version: u32,
    /// The identity of the document.
    pub artifact_id: ArtifactId,
    /// The document in its envelope, as canonical JSON.
    pub document: String,
}

impl CacheArtifact {
    /// The row of a document.
    ///
    /// # Errors
    /// [`CanonicalError`] names the place of what has no canonical form.
    pub fn of<T: Contract>(
        run_id: RunId,
        event_time_unix_ms: i64,
        name: &str,
        document: T,
    ) -> Result<Self, CanonicalError> {
        let envelope = Envelope::new(document);
        Ok(Self {
            run_id,
            event_time_unix_ms,
            name: name.to_owned(),
            artifact_kind: T::KIND.to_owned(),
            artifact_version: T::VERSION,
            artifact_id: envelope.artifact_id()?,
            document: String::from_utf8_lossy(&envelope.to_canonical_json()?).into_owned(),
        })
    }

    /// The document, decoded by its contract.
    ///
    /// # Errors
    /// [`EnvelopeError`] when it is another's document, or none.
    pub fn decode<T: Contract>(&self) -> Result<T, EnvelopeError> {
        Envelope::from_json(self.document.as_bytes()).map(|envelope| envelope.payload)
    }
}

impl Contract for CacheArtifact {
    const KIND: &'static str = "cache_artifact";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a row of alluvium.cache_artifacts";
    const FORM: Form = Form::Bare;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let explanation = MissExplanation::example();
        match Self::of(sample::run_id(), sample::UNIX_MS, "daily_delays", explanation) {
            Ok(artifact) => artifact,
            Err(error) => unreachable!("texts and digests have a canonical form: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::RunManifest;

    #[test]
    fn a_document_is_read_back_whole_and_by_its_contract_only() {
        let manifest = RunManifest::example();
        let row = CacheArtifact::of(manifest.run_id, 0, "run", manifest.clone()).unwrap();
        assert_eq!(row.decode::<RunManifest>().unwrap(), manifest);
        assert_eq!(row.artifact_id, Envelope::new(manifest).artifact_id().unwrap());
        assert!(matches!(row.decode::<MissExplanation>(), Err(EnvelopeError::OtherContract { .. })));
    }
}

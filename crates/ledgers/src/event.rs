//! Events as the outbox holds them: each the contract of its ledger, in its envelope, as JSON.

use alluvium_contracts::{
    ArtifactId, CacheArtifact, CacheInventoryEntry, CacheRunSummary, CacheSnapshotEntry, Contract, DatasetSpec,
    DeltaWritePolicy, Encoding, Envelope, EnvelopeError, LedgerEvent, Limits, PlanBundleArtifact, RunManifest,
};
use serde::Deserialize;

use crate::LedgerError;

/// Documents that every run has, and that seldom change: by their identity each is recorded but once.
const RECORDED_ONCE: [&str; 3] = [PlanBundleArtifact::KIND, DatasetSpec::KIND, DeltaWritePolicy::KIND];

/// Decodes what [`encode`] gave.
pub(crate) fn decode(bytes: &[u8]) -> Result<LedgerEvent, DecodeError> {
    #[derive(Deserialize)]
    struct Tag {
        kind: String,
        version: u32,
    }
    let Tag { kind, version } = serde_json::from_slice(bytes).map_err(DecodeError::Tag)?;
    match kind.as_str() {
        CacheInventoryEntry::KIND => payload(bytes).map(LedgerEvent::CacheInventory),
        CacheRunSummary::KIND => payload(bytes).map(LedgerEvent::CacheRuns),
        RunManifest::KIND => payload(bytes).map(|manifest| LedgerEvent::RunManifests(Box::new(manifest))),
        CacheArtifact::KIND => payload(bytes).map(LedgerEvent::CacheArtifacts),
        CacheSnapshotEntry::KIND => payload(bytes).map(LedgerEvent::CacheSnapshots),
        _ => Err(DecodeError::Newer { kind, version }),
    }
}

pub(crate) fn payload<T: Contract>(bytes: &[u8]) -> Result<T, DecodeError> {
    // What this process wrote is no stranger's: the manifest of a run over a million files has room.
    let limits = Limits::default().with_max_bytes(1 << 30).with_max_values(20_000_000);
    match Envelope::decode(bytes, Encoding::Json, limits) {
        Ok(envelope) => Ok(envelope.payload),
        Err(EnvelopeError::OtherContract { found, found_version, .. }) if found_version > T::VERSION => {
            Err(DecodeError::Newer { kind: found, version: found_version })
        }
        Err(error) => Err(DecodeError::Contract(error)),
    }
}

/// An event as the outbox holds it.
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// The document, where it is of a kind that is recorded but once.
    pub(crate) once: Option<ArtifactId>,
}

pub(crate) fn encode_all(events: &[LedgerEvent]) -> Result<Vec<Encoded>, LedgerError> {
    events.iter().map(encode).collect()
}

pub(crate) fn encode(event: &LedgerEvent) -> Result<Encoded, LedgerError> {
    let mut once = None;
    let bytes = match event {
        LedgerEvent::CacheInventory(entry) => enveloped(entry),
        LedgerEvent::CacheRuns(summary) => enveloped(summary),
        LedgerEvent::RunManifests(manifest) => enveloped(manifest.as_ref()),
        LedgerEvent::CacheSnapshots(snapshot) => enveloped(snapshot),
        LedgerEvent::CacheArtifacts(artifact) => {
            if RECORDED_ONCE.contains(&artifact.artifact_kind.as_str()) {
                once = Some(artifact.artifact_id);
            }
            enveloped(artifact)
        }
    };
    Ok(Encoded { bytes: bytes?, once })
}

pub(crate) fn enveloped<T: Contract>(row: &T) -> Result<Vec<u8>, LedgerError> {
    let envelope = Envelope { kind: T::KIND.to_owned(), version: T::VERSION, payload: row };
    serde_json::to_vec(&envelope).map_err(LedgerError::Encode)
}

/// An event that this build cannot write into a ledger.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// It may be one all the same, of a contract that came after this build.
    #[error("`{kind}` version {version}")]
    Newer { kind: String, version: u32 },
    #[error("it is not a contract in an envelope: {0}")]
    Tag(serde_json::Error),
    #[error("{0}{cause}", cause = cause(.0))]
    Contract(EnvelopeError),
}

fn cause(error: &EnvelopeError) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}

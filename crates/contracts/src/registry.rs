//! Every contract, listed once.

use schemars::{Schema, generate::SchemaSettings};

use crate::commit::CacheCommitMetadata;
use crate::documents::{PlanDocument, RunDocument};
use crate::envelope::{Contract, Envelope};
use crate::events::{CacheInventoryEntry, CacheRunSummary};
use crate::pipeline::PipelineSpec;

/// One contract of the registry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ContractEntry {
    /// Its kind.
    pub kind: &'static str,
    /// Its version.
    pub version: u32,
    /// What it is, in one line.
    pub doc: &'static str,
    /// What a reader may rely on.
    pub compatibility: &'static str,
    schema: fn() -> Schema,
}

impl ContractEntry {
    /// The JSON Schema (2020-12) of what is written: the bare document for the pipeline file and ledger rows, the
    /// envelope for the documents of the command line.
    #[must_use]
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// The name of the exported schema file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.v{}.schema.json", self.kind, self.version)
    }
}

/// All contracts, by kind.
#[must_use]
pub fn contracts() -> Vec<ContractEntry> {
    const STRICT: &str = "unknown fields are refused; new optional fields may appear in a later version of Alluvium";
    const TOLERANT: &str = "readers ignore unknown fields; new optional fields may appear";
    vec![
        entry::<CacheCommitMetadata>("the metadata of every Delta commit", TOLERANT, bare::<CacheCommitMetadata>),
        entry::<CacheInventoryEntry>("a row of alluvium.cache_inventory", TOLERANT, bare::<CacheInventoryEntry>),
        entry::<CacheRunSummary>("a row of alluvium.cache_runs", TOLERANT, bare::<CacheRunSummary>),
        entry::<PipelineSpec>("the pipeline file, alluvium.toml", STRICT, bare::<PipelineSpec>),
        entry::<PlanDocument>("what `alluvium plan --format json` prints", TOLERANT, enveloped::<PlanDocument>),
        entry::<RunDocument>("what `alluvium run --format json` prints", TOLERANT, enveloped::<RunDocument>),
    ]
}

fn entry<T: Contract>(doc: &'static str, compatibility: &'static str, schema: fn() -> Schema) -> ContractEntry {
    ContractEntry { kind: T::KIND, version: T::VERSION, doc, compatibility, schema }
}

fn bare<T: Contract>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>()
}

fn enveloped<T: Contract>() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Envelope<T>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinct_and_sorted() {
        let kinds: Vec<_> = contracts().iter().map(|entry| entry.kind).collect();
        let mut sorted = kinds.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(kinds, sorted);
    }
}

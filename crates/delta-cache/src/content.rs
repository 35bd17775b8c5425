//! What an entry is to hold, whatever its scope, and what it says of itself.

use std::collections::BTreeMap;

use alluvium_contracts::{ArtifactId, CacheKey, CachePolicy, DeltaInput, PlanFingerprint, RunId, Stability};
use alluvium_plans::{PlanBundle, PublishedSchema};
use datafusion::common::DataFusionError;

use crate::entry::Entry;
use crate::error::CacheError;
use crate::operation::Subject;
use crate::scope::EntryScope;
use crate::unstable_rows::UnstableRows;

/// A view, dataset or artifact that has a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) scope: EntryScope,
    pub(crate) name: &'a str,
    pub(crate) key: CacheKey,
    /// The schema that an entry of it has to have, where it is known.
    pub(crate) published: Option<&'a PublishedSchema>,
    pub(crate) plan_fingerprint: Option<PlanFingerprint>,
    pub(crate) stability: Stability,
    pub(crate) components: &'a BTreeMap<String, String>,
    pub(crate) inputs: &'a [DeltaInput],
    /// The rows that an entry of it has to have been computed from; none where that is for the caller to see.
    pub(crate) unstable_rows: Option<&'a UnstableRows>,
    /// What is computed, where a plan says it: its document belongs to the commit.
    pub(crate) bundle: Option<&'a PlanBundle>,
    /// The identity of such a document, where it is known already.
    pub(crate) plan_artifact_id: Option<ArtifactId>,
    pub(crate) tags: &'a [String],
}

/// What is asked of a write, and on whose behalf.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand<'a> {
    /// What the rows are published as.
    pub(crate) published: &'a PublishedSchema,
    pub(crate) run_id: RunId,
    /// Write it even if a valid one is there.
    pub(crate) fresh: bool,
}

impl<'a> Content<'a> {
    pub(crate) fn of_view(bundle: &'a PlanBundle, key: CacheKey, tags: &'a [String]) -> Self {
        let identity = bundle.identity();
        Self {
            scope: EntryScope::View,
            name: bundle.name(),
            key,
            published: Some(bundle.published()),
            plan_fingerprint: Some(identity.plan_fingerprint),
            stability: identity.stability,
            components: bundle.components(),
            inputs: bundle.inputs(),
            unstable_rows: None,
            bundle: Some(bundle),
            plan_artifact_id: None,
            tags,
        }
    }

    /// What an entry says of itself.
    pub(crate) fn of_entry(entry: &'a Entry) -> Self {
        Self {
            scope: entry.scope,
            name: &entry.view,
            key: entry.key,
            published: None,
            plan_fingerprint: entry.plan_fingerprint,
            stability: entry.stability,
            components: &entry.components,
            inputs: &[],
            unstable_rows: None,
            bundle: None,
            plan_artifact_id: entry.plan_artifact_id,
            tags: &entry.tags,
        }
    }

    /// The identity of its plan's document, which belongs to its commit.
    pub(crate) fn plan_artifact_id(&self) -> Option<ArtifactId> {
        self.bundle.and_then(|bundle| bundle.artifact_id().ok()).or(self.plan_artifact_id)
    }

    /// Whether an entry was computed from the rows that this is.
    pub(crate) fn rests_on(&self, entry: &Entry) -> bool {
        self.unstable_rows.is_none_or(|rows| *rows == entry.unstable_rows)
    }

    /// What operations on its table are done to.
    pub(crate) fn staged(&self) -> Subject<'a> {
        self.subject(CachePolicy::DeltaStaging)
    }

    pub(crate) fn subject(&self, policy: CachePolicy) -> Subject<'a> {
        Subject { scope: self.scope.word(), policy, name: self.name, cache_key: Some(self.key) }
    }

    /// Its rows could not be computed.
    pub(crate) fn uncomputed(&self, source: DataFusionError) -> CacheError {
        let (name, source) = (self.name.to_owned(), Box::new(source));
        match self.scope {
            EntryScope::View => CacheError::Compute { view: name, source },
            EntryScope::Dataset => CacheError::Dataset { dataset: name, source },
            EntryScope::Artifact => CacheError::Artifact { artifact: name, source },
        }
    }
}

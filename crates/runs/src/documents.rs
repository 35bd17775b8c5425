//! The documents that a run leaves in the ledger of artifacts, whole: each decodes by its own contract.
//!
//! | about | document | when |
//! |---|---|---|
//! | a view | its plan bundle, and why its key was missed | it was computed |
//! | a source | its declaration as it was resolved | a view that reads it was computed |
//! | an output | its view's plan bundle, its write policy, what the write left, its protocol, its statistics, the semantic types of its columns | it was published |
//!
//! Credentials are taken out of each. What many runs have in common (bundles, declarations, policies) is kept once, by its identity.

use std::collections::BTreeMap;

use alluvium_contracts::{
    ArtifactId, CacheArtifact, CanonicalError, Contract, DatasetSpec, DeltaWritePolicy, LedgerEvent,
    PlanBundleArtifact, RunId,
};
use alluvium_telemetry::Redactor;

use crate::decide::{State, ViewDecision};
use crate::project::Project;
use crate::report::OutputOutcome;
use crate::semantics::semantic_validation;

/// The identities of documents, by what they are and what they are about.
type Ids = BTreeMap<String, ArtifactId>;

/// Makes documents of one run.
pub(crate) struct Documents<'a> {
    pub(crate) project: &'a Project,
    pub(crate) run_id: RunId,
    pub(crate) unix_ms: i64,
}

impl Documents<'_> {
    /// About a view that was not served from the cache.
    pub(crate) fn of_view(&self, view: &ViewDecision, ids: &mut Ids) -> Vec<LedgerEvent> {
        let State::Compute { explanation, .. } = &view.state else {
            return Vec::new();
        };
        let mut events = vec![self.plan_bundle(view, ids)];
        let name = view.bundle.name();
        events.extend(explanation.clone().map(|explanation| self.event(name, explanation, ids)));
        for (source, spec) in view.bundle.reads().iter().filter_map(|table| self.project.source_of(table)) {
            events.push(self.event(source, DatasetSpec::from(spec), ids));
        }
        events.into_iter().flatten().collect()
    }

    /// About an output that was written. Its commit names the plan bundle of its view, and that view may have been served from an
    /// entry of another time.
    pub(crate) fn of_output(&self, output: &OutputOutcome, view: &ViewDecision, ids: &mut Ids) -> Vec<LedgerEvent> {
        let name = &output.report.name;
        let mut events = vec![self.plan_bundle(view, ids)];
        if let Some(spec) = self.project.spec().outputs.get(name) {
            events.push(self.event::<DeltaWritePolicy>(name, spec.write.clone(), ids));
            let validation = semantic_validation(name, &spec.write, &view.bundle, Some(self.run_id));
            events.extend(validation.map(|validation| self.event(name, validation, ids)));
        }
        if let Some(publication) = &output.publication {
            let write = &publication.write;
            events.push(self.event(name, write.clone(), ids));
            events.push(self.event(name, write.protocol.clone(), ids));
            events.push(self.event(name, publication.statistics.clone(), ids));
        }
        events.into_iter().flatten().collect()
    }

    /// A bundle makes itself fit to be stored: commits name it by the identity that it has then.
    fn plan_bundle(&self, view: &ViewDecision, ids: &mut Ids) -> Option<LedgerEvent> {
        self.row(view.bundle.name(), view.bundle.artifact(), ids)
    }

    /// The event of a document, without the credentials in it.
    fn event<T: Contract>(&self, name: &str, document: T, ids: &mut Ids) -> Option<LedgerEvent> {
        let mut kept = match serde_json::to_value(&document) {
            Ok(document) => document,
            Err(error) => return not_kept(&error),
        };
        if !Redactor::default().keep_document(&mut kept) {
            return self.row(name, document, ids);
        }
        match serde_json::from_value::<T>(kept) {
            Ok(document) => self.row(name, document, ids),
            Err(error) => not_kept(&error),
        }
    }

    fn row<T: Contract>(&self, name: &str, document: T, ids: &mut Ids) -> Option<LedgerEvent> {
        let artifact: Result<CacheArtifact, CanonicalError> =
            CacheArtifact::of(self.run_id, self.unix_ms, name, document);
        match artifact {
            Ok(artifact) => {
                ids.insert(key(&artifact.artifact_kind, name), artifact.artifact_id);
                Some(LedgerEvent::CacheArtifacts(artifact))
            }
            Err(error) => not_kept(&error),
        }
    }
}

/// Which of them is the plan bundle of a view.
pub(crate) fn plan_bundle_of(view: &str, ids: &Ids) -> Option<ArtifactId> {
    ids.get(&key(PlanBundleArtifact::KIND, view)).copied()
}

fn key(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

fn not_kept<T>(error: &(dyn std::error::Error + 'static)) -> Option<T> {
    tracing::warn!(target: "alluvium.runs", error, "a document could not be kept");
    None
}

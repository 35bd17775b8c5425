//! From what happened to what is reported: documents and ledger rows are made from the same values.

use std::sync::Arc;

use alluvium_contracts::{
    ArtifactId, CacheInventoryEntry, CacheOperation, CacheOutcome, CachePolicy, CacheRunSummary, CacheScope,
    LedgerEvent, LookupResult, OutputReport, OutputResult, RunDocument, RunId, RunResult, ViewReport, ViewResult,
};
use alluvium_delta_cache::{Entry, PublicationReport, Published};

use crate::decide::ViewDecision;

/// What became of a view, with what only the ledgers tell.
#[derive(Debug, Clone)]
pub(crate) struct ViewOutcome {
    pub(crate) report: ViewReport,
    pub(crate) schema_hash: alluvium_contracts::SchemaHash,
    pub(crate) cache_path: Option<String>,
    pub(crate) file_count: Option<u64>,
    pub(crate) delta_version: Option<u64>,
    /// The document of the plan that computed it.
    pub(crate) plan_artifact_id: Option<ArtifactId>,
    /// What the publication left that is its cache.
    pub(crate) publication: Option<Arc<PublicationReport>>,
    /// The class of its error, where it failed.
    pub(crate) error_type: Option<&'static str>,
}

/// What became of an output, with what only the ledgers tell.
#[derive(Debug, Clone)]
pub(crate) struct OutputOutcome {
    pub(crate) report: OutputReport,
    pub(crate) size_bytes: Option<u64>,
    pub(crate) file_count: Option<u64>,
    /// The document of the plan that computed it.
    pub(crate) plan_artifact_id: Option<ArtifactId>,
    /// What its publication left, where this run published it.
    pub(crate) publication: Option<Arc<PublicationReport>>,
    /// The class of its error, where it failed.
    pub(crate) error_type: Option<&'static str>,
}

impl ViewOutcome {
    /// What a cache operation came to: the report says what its span and its metrics say.
    pub(crate) fn of_operation(decision: &ViewDecision, outcome: &CacheOutcome, reason: Option<String>) -> Self {
        let result = match (outcome.operation, outcome.policy, outcome.result) {
            (CacheOperation::Read, _, LookupResult::Hit) => ViewResult::Hit,
            (CacheOperation::Write, CachePolicy::DeltaStaging | CachePolicy::DeltaOutput, LookupResult::Ok) => {
                ViewResult::Write
            }
            // What is kept in memory was computed for this process alone.
            _ => ViewResult::Computed,
        };
        Self::new(decision, result, reason, outcome.duration_ms)
    }

    pub(crate) fn new(decision: &ViewDecision, result: ViewResult, reason: Option<String>, duration_ms: f64) -> Self {
        let identity = decision.bundle.identity();
        Self {
            report: ViewReport {
                name: decision.bundle.name().to_owned(),
                result,
                cache_policy: decision.policy,
                rows: None,
                bytes: None,
                duration_ms,
                saved_ms: None,
                cache_key: identity.cache_key,
                plan_fingerprint: Some(identity.plan_fingerprint),
                stability: Some(identity.stability),
                reason,
                explanation: match result {
                    ViewResult::Write | ViewResult::Computed | ViewResult::Error => decision.explanation().cloned(),
                    ViewResult::Hit | ViewResult::Skipped => None,
                },
                shadow: None,
            },
            schema_hash: decision.bundle.published().hash(),
            cache_path: None,
            file_count: None,
            delta_version: None,
            plan_artifact_id: None,
            publication: None,
            error_type: None,
        }
    }

    pub(crate) fn with_rows(mut self, rows: u64) -> Self {
        self.report.rows = Some(rows);
        self
    }

    pub(crate) fn with_entry(mut self, entry: &Entry) -> Self {
        self.report.rows = Some(entry.row_count);
        self.report.bytes = Some(entry.size_bytes());
        if self.report.result == ViewResult::Hit {
            self.report.saved_ms = Some(entry.compute_ms);
        }
        self.cache_path = Some(entry.dir.clone());
        self.file_count = Some(entry.files.len() as u64);
        self.delta_version = Some(0);
        self.plan_artifact_id = entry.plan_artifact_id;
        self
    }

    pub(crate) fn with_published(mut self, published: &Published, path: &str) -> Self {
        self.report.rows = published.row_count;
        self.report.bytes = Some(published.size_bytes);
        if self.report.result == ViewResult::Hit {
            self.report.saved_ms = published.compute_ms;
        }
        self.cache_path = Some(path.to_owned());
        self.file_count = Some(published.file_count());
        self.delta_version = Some(published.version);
        self.plan_artifact_id = published.plan_artifact_id;
        self.publication.clone_from(&published.report);
        self
    }

    pub(crate) fn event(&self, run_id: RunId, event_time_unix_ms: i64) -> LedgerEvent {
        let report = &self.report;
        LedgerEvent::CacheInventory(CacheInventoryEntry {
            run_id,
            event_time_unix_ms,
            cache_scope: CacheScope::View,
            view_name: report.name.clone(),
            output_name: None,
            cache_policy: report.cache_policy,
            result: report.result,
            reason: report.reason.clone(),
            cache_key: report.cache_key,
            plan_fingerprint: report.plan_fingerprint,
            schema_hash: Some(self.schema_hash),
            cache_path: self.cache_path.clone(),
            delta_version: self.delta_version,
            row_count: report.rows,
            file_count: self.file_count,
            size_bytes: report.bytes,
            duration_ms: report.duration_ms,
            saved_ms: report.saved_ms,
            plan_artifact_id: self.plan_artifact_id,
        })
    }
}

impl OutputOutcome {
    pub(crate) fn event(&self, run_id: RunId, event_time_unix_ms: i64, view: &ViewDecision) -> LedgerEvent {
        let report = &self.report;
        let identity = view.bundle.identity();
        LedgerEvent::CacheInventory(CacheInventoryEntry {
            run_id,
            event_time_unix_ms,
            cache_scope: CacheScope::Output,
            view_name: report.view.clone(),
            output_name: Some(report.name.clone()),
            cache_policy: CachePolicy::DeltaOutput,
            result: match report.result {
                OutputResult::Hit => ViewResult::Hit,
                OutputResult::Write => ViewResult::Write,
                OutputResult::Skipped => ViewResult::Skipped,
                OutputResult::Error => ViewResult::Error,
            },
            reason: report.reason.clone(),
            cache_key: identity.cache_key,
            plan_fingerprint: Some(identity.plan_fingerprint),
            schema_hash: Some(view.bundle.published().hash()),
            cache_path: Some(report.path.clone()),
            delta_version: report.delta_version,
            row_count: report.rows,
            file_count: self.file_count,
            size_bytes: self.size_bytes,
            duration_ms: report.duration_ms,
            saved_ms: None,
            plan_artifact_id: self.plan_artifact_id,
        })
    }
}

/// The run as one ledger row.
pub(crate) fn summary(
    document: &RunDocument,
    profile_name: Option<&str>,
    started_unix_ms: i64,
    finished_unix_ms: i64,
) -> CacheRunSummary {
    let count = |result| document.views.iter().filter(|view| view.result == result).count() as u64;
    CacheRunSummary {
        run_id: document.run_id,
        profile_name: profile_name.map(str::to_owned),
        started_unix_ms,
        finished_unix_ms,
        result: document.result,
        hit_count: count(ViewResult::Hit),
        write_count: count(ViewResult::Write),
        computed_count: count(ViewResult::Computed),
        skipped_count: count(ViewResult::Skipped),
        error_count: count(ViewResult::Error),
        saved_ms: document.saved_ms,
    }
}

/// How a run ended, from what became of its parts.
pub(crate) fn result_of(views: &[ViewReport], outputs: &[OutputReport], interrupted: bool) -> RunResult {
    let failed = views.iter().any(|view| matches!(view.result, ViewResult::Error | ViewResult::Skipped))
        || outputs.iter().any(|output| matches!(output.result, OutputResult::Error | OutputResult::Skipped));
    match (interrupted, failed) {
        (true, _) => RunResult::Interrupted,
        (false, true) => RunResult::Failed,
        (false, false) => RunResult::Succeeded,
    }
}

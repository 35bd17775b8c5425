//! What a run tells a diagnostics sink: where the caches lie, how sources are read and their columns adapted, which statements
//! are prepared, what maintenance did, how full the stores are, how it ended.
//!
//! Nothing here is gathered unless a sink listens, and nothing here fails a run.

use std::collections::BTreeMap;
use std::error::Error;

use alluvium_contracts::{
    CacheRootReport, CacheRunSummary, MaintenanceEvent, MaintenanceResult, PreparedAction, RunId, ScanConfiguration,
    Severity,
};
use alluvium_datasets::PinnedDataset;

use crate::decide::Decisions;
use crate::pipeline::Pipeline;

impl Pipeline {
    /// What is known when everything is decided.
    pub(crate) fn tell_decisions(&self, decisions: &Decisions) {
        if !self.diagnostics.is_enabled() {
            return;
        }
        let mut kv_kinds: Vec<String> = self.root.open_kinds().map(|kind| kind.as_str().to_owned()).collect();
        kv_kinds.sort_unstable();
        let root = CacheRootReport {
            root_id: self.root.id(),
            path: self.root.path().to_string_lossy().into_owned(),
            named_by: self.root_named_by,
            kv_kinds,
        };
        self.diagnostics.event(&root, Severity::Info);
        for pin in decisions.pins() {
            self.diagnostics.event(&scan_configuration(pin), Severity::Info);
            self.diagnostics.event(&pin.adapter(), Severity::Info);
        }
        for statement in decisions.session.prepared_statements() {
            self.diagnostics.event(&statement.used(PreparedAction::Installed), Severity::Info);
        }
    }

    /// What maintenance did: to the ledgers in a run, or to a table outside of one.
    pub(crate) fn tell_maintenance(&self, run_id: Option<RunId>, done: Vec<MaintenanceEvent>) {
        for event in done {
            let severity = if event.result == MaintenanceResult::Error { Severity::Warn } else { Severity::Info };
            self.diagnostics.event(&MaintenanceEvent { run_id, ..event }, severity);
        }
    }

    /// What is known at the end: how many entries there are, the stores, and the run as a whole.
    pub(crate) fn tell_end(&self, summary: &CacheRunSummary) {
        if let Err(error) = self.cache.count_entries() {
            tracing::debug!(target: "alluvium.diagnostics", error = &error as &dyn Error, "entries cannot be counted");
        }
        if !self.diagnostics.is_enabled() {
            return;
        }
        match self.root.kv_stats(&self.seam) {
            Ok(stores) => stores.iter().for_each(|stats| self.diagnostics.artifact(stats, None)),
            Err(error) => {
                tracing::debug!(target: "alluvium.diagnostics", error = &error as &dyn Error, "the stores cannot be described");
            }
        }
        self.diagnostics.artifact(summary, None);
    }
}

/// The options of a pin are all resolved ones, defaults included.
fn scan_configuration(pin: &PinnedDataset) -> ScanConfiguration {
    let option = |(name, value): (&String, &String)| Some((name.strip_prefix("option ")?.to_owned(), value.clone()));
    ScanConfiguration {
        dataset_name: pin.name().to_owned(),
        format: pin.format(),
        options: pin.components().iter().filter_map(option).collect::<BTreeMap<_, _>>(),
        column_count: pin.schema().fields().len() as u64,
        file_count: pin.file_count() as u64,
        size_bytes: pin.size_bytes(),
        delta_version: pin.delta_version(),
        pin: pin.digest(),
    }
}

//! What a run tells a diagnostics sink: where the caches lie, how sources are read, how full the stores are, how it ended.
//!
//! Nothing here is gathered unless a sink listens, and nothing here fails a run.

use std::collections::BTreeMap;
use std::error::Error;

use alluvium_contracts::{CacheRunSummary, Severity};
use alluvium_datasets::PinnedDataset;
use alluvium_profile::KvKind;
use alluvium_telemetry::vocabulary::event;
use serde_json::{Value, json};

use crate::decide::Decisions;
use crate::pipeline::Pipeline;

/// The kinds of stores that a pipeline opens. Describing one opens none that was not.
const OPENED: [KvKind; 4] = [KvKind::Index, KvKind::Queue, KvKind::Runtime, KvKind::Schema];

impl Pipeline {
    /// What is known when everything is decided: the root, and how each source is read.
    pub(crate) fn tell_decisions(&self, decisions: &Decisions) {
        if !self.diagnostics.is_enabled() {
            return;
        }
        self.diagnostics.event(
            &event::CACHE_ROOT,
            Severity::Info,
            properties([
                ("root_id", json!(self.root.id())),
                ("path", json!(self.root.path().to_string_lossy())),
                ("named_by", json!(self.root_named_by)),
                ("kv_kinds", json!(OPENED.map(KvKind::as_str))),
            ]),
        );
        for pin in decisions.pins() {
            self.diagnostics.event(&event::SCAN_CONFIGURATION, Severity::Info, scan_configuration(pin));
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
fn scan_configuration(pin: &PinnedDataset) -> BTreeMap<String, Value> {
    let components = pin.components();
    let options: BTreeMap<&str, &str> =
        components.iter().filter_map(|(name, value)| Some((name.strip_prefix("option ")?, value.as_str()))).collect();
    properties([
        ("name", json!(pin.name())),
        ("format", json!(components.get("format"))),
        ("options", json!(options)),
        ("columns", json!(pin.schema().fields().len())),
        ("files", json!(pin.file_count())),
        ("bytes", json!(pin.size_bytes())),
        ("delta_version", json!(pin.delta_version())),
        ("pin", json!(pin.digest())),
    ])
}

fn properties<const N: usize>(pairs: [(&str, Value); N]) -> BTreeMap<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

//! What a run tells a diagnostics sink: where the caches lie, how sources are read, how full the stores are, how it ended.
//!
//! Nothing here is gathered unless a sink listens, and nothing here fails a run.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use alluvium_contracts::{CacheRunSummary, EvictionPolicy, KvStats, Severity};
use alluvium_datasets::PinnedDataset;
use alluvium_disk_kv_cache::{Order, Store, StoreError};
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
        for kind in OPENED {
            match self.root.kv(kind).map(|store| stats(kind, store, self.seam.unix_ms())) {
                Ok(Ok(stats)) => self.diagnostics.artifact(&stats, None),
                Ok(Err(error)) => untold(kind, &error),
                Err(error) => untold(kind, &error),
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

/// A store of ours as the contract has it: one shard, nothing is evicted, and lookups are not counted.
fn stats(kind: KvKind, store: &Store, event_time_unix_ms: i64) -> Result<KvStats, StoreError> {
    let (entry_count, volume_bytes) = store.read::<_, StoreError>(|txn| {
        let (mut entries, mut bytes) = (0, 0);
        for table in kind.tables() {
            for entry in txn.scan(table, .., Order::Ascending)? {
                let (key, value) = entry?;
                entries += 1;
                bytes += (key.len() + value.len()) as u64;
            }
        }
        Ok((entries, bytes))
    })?;
    Ok(KvStats {
        event_time_unix_ms,
        kind: kind.as_str().to_owned(),
        engine: store.engine().to_string(),
        directory: kind.as_str().to_owned(),
        shards: 1,
        size_limit_bytes: None,
        cull_limit: 0,
        eviction_policy: EvictionPolicy::None,
        statistics: false,
        tag_index: false,
        min_file_size_bytes: None,
        entry_count,
        volume_bytes,
        file_bytes: file_bytes(store.path()),
        hits: None,
        misses: None,
        damaged: 0,
    })
}

/// Bytes of the files directly in `dir`; what vanishes meanwhile has none.
fn file_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).filter(std::fs::Metadata::is_file).map(|file| file.len()).sum()
}

fn properties<const N: usize>(pairs: [(&str, Value); N]) -> BTreeMap<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn untold(kind: KvKind, error: &(dyn Error + 'static)) {
    tracing::debug!(target: "alluvium.diagnostics", error, "the {kind} store cannot be described");
}

//! What a run is to write and to hit: what is held by identity, kept beside the caches.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_contracts::{CacheKey, CachePolicy, EntryState, RunDocument, ViewReport, ViewResult};
use alluvium_runs::Selection;
use proptest::prelude::*;

use crate::caches::caches_at;
use crate::lab::Lab;

/// What the cache root and the outputs hold, by the identities that they were written under.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: BTreeSet<CacheKey>,
    outputs: BTreeMap<String, CacheKey>,
}

impl Held {
    /// Evicts the entries of a view.
    pub(super) fn evict(&mut self, lab: &Lab, view: &str) {
        let caches = caches_at(lab.dir());
        let entries = caches.cache().list().unwrap().entries;
        let evicted: Vec<_> =
            entries.into_iter().filter(|entry| entry.view_name == view && entry.state == EntryState::Live).collect();
        if evicted.is_empty() {
            return;
        }
        let selection = Selection { views: vec![view.to_owned()], ..Selection::default() };
        let removed = caches.cache().evict(&selection, false).unwrap();
        // What they had replaced goes with them.
        for entry in evicted {
            assert!(removed.entries.iter().any(|gone| gone.entry_id == entry.entry_id), "{removed:?}");
            entry.cache_key.map(|key| self.entries.remove(&key));
        }
    }

    /// The table of an output is gone.
    pub(super) fn lose_output(&mut self, output: &str) {
        self.outputs.remove(output);
    }

    /// Every kept view is written exactly if its identity is not held, and once a run.
    pub(super) fn check(&mut self, document: &RunDocument) -> Result<(), TestCaseError> {
        let mut written = BTreeSet::new();
        for view in &document.views {
            let key = view.cache_key.ok_or_else(|| TestCaseError::fail(format!("{} has no key", view.name)))?;
            // Its key does not say which rows of an unstable view it has read; its reason does, of one that was written.
            let reason = view.reason.as_deref().unwrap_or_default();
            let follows = reason.split_once(" the unstable view ").map(|(_, follows)| follows);
            if let (ViewResult::Write, Some(follows)) = (view.result, follows) {
                let is_new = |other: &ViewReport| other.result != ViewResult::Hit && follows.starts_with(&other.name);
                let is_old = ["anew since", "by this name before", "otherwise by now"];
                prop_assert!(
                    is_old.iter().any(|old| follows.ends_with(old)) || document.views.iter().any(is_new),
                    "{}",
                    follows
                );
                if view.cache_policy == CachePolicy::DeltaStaging {
                    written.insert(key);
                }
                continue;
            }
            let expected = match view.cache_policy {
                CachePolicy::DeltaStaging if self.entries.contains(&key) => ViewResult::Hit,
                // Two views may say the same; one of them is written.
                CachePolicy::DeltaStaging if view.result == ViewResult::Hit => {
                    prop_assert!(
                        document.views.iter().any(|other| other.cache_key == Some(key)
                            && other.result == ViewResult::Write
                            && other.cache_policy == CachePolicy::DeltaStaging),
                        "{} hit what nobody wrote",
                        view.name
                    );
                    ViewResult::Hit
                }
                CachePolicy::DeltaStaging => {
                    prop_assert!(written.insert(key), "{} was written twice", view.name);
                    ViewResult::Write
                }
                CachePolicy::DeltaOutput if self.outputs.get(&view.name) == Some(&key) => ViewResult::Hit,
                CachePolicy::DeltaOutput => ViewResult::Write,
                CachePolicy::None | CachePolicy::Memory => continue,
            };
            prop_assert_eq!(view.result, expected, "{}: {:?}", &view.name, &view.reason);
        }
        self.entries.extend(written);
        // Whatever the view's policy was when it was published: its output is its cache if it says so later.
        for output in &document.outputs {
            let key = document.views.iter().find(|view| view.name == output.view).and_then(|view| view.cache_key);
            self.outputs.extend(key.map(|key| (output.view.clone(), key)));
        }
        Ok(())
    }
}

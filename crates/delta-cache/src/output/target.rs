//! Where and how a view is published, and what the table is known by.

use std::path::PathBuf;

use alluvium_contracts::{CacheKey, CachePolicy, CacheScope, DeltaWritePolicy, ForeignCommit, PinDigest};
use alluvium_plans::PlanBundle;

use crate::index::Latest;
use crate::operation::Subject;

/// Where and how a view is published.
#[derive(Debug, Clone)]
pub struct OutputTarget {
    /// The output's name.
    pub name: String,
    /// The directory of its Delta table.
    pub path: PathBuf,
    /// The directory as the pipeline file says it, for people.
    pub declared_path: String,
    /// How the table is written.
    pub policy: DeltaWritePolicy,
    /// What to do about somebody else's commit.
    pub foreign_commit: ForeignCommit,
    /// Whether the output is the entry of its view (`cache = "delta_output"`): then its operations are the view's.
    pub is_entry: bool,
}

impl OutputTarget {
    pub(super) fn subject<'a>(&'a self, bundle: &'a PlanBundle) -> Subject<'a> {
        match self.is_entry {
            true => Subject::view(bundle, CachePolicy::DeltaOutput),
            false => Subject {
                scope: CacheScope::Output,
                policy: CachePolicy::DeltaOutput,
                name: &self.name,
                cache_key: bundle.cache_key(),
            },
        }
    }

    /// The view and the identity that it is published under, where this is its entry.
    pub(super) fn identity<'a>(&self, bundle: &'a PlanBundle) -> Option<(&'a str, Latest)> {
        let key = bundle.cache_key().filter(|_| self.is_entry)?;
        let latest = Latest { key, components: bundle.components().clone(), outline: bundle.outline() };
        Some((bundle.name(), latest))
    }
}

pub(super) fn app_id(target: &OutputTarget) -> String {
    format!("alluvium-output-{}", target.name)
}

/// By the table's place, because two pipelines may call their outputs alike. A table that was moved is read anew.
pub(super) fn row_key(target: &OutputTarget) -> String {
    // A digest is as long for any path.
    PinDigest::of(&identity(target)).to_string()
}

pub(super) fn resource(target: &OutputTarget) -> [u8; 32] {
    *CacheKey::of(&identity(target)).as_bytes()
}

fn identity(target: &OutputTarget) -> Vec<u8> {
    [b"output", target.name.as_bytes(), target.path.as_os_str().as_encoded_bytes()].join(&0)
}

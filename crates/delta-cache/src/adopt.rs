//! Entries that the index does not know, taken from their own commits: the index was lost, or a process died between
//! its commit and the publication.
//!
//! A commit is made only after the sources were stated again, so a committed entry is valid for the key that its commit
//! names, published or not. *Invariants:* only a directory whose single commit names this key, this schema and this plan
//! is taken; every byte is compared with the digests in that commit; the highest fencing token wins; nothing is taken
//! from a process that still holds the lease, because its directory goes if its publication fails.

use std::sync::Arc;

use alluvium_contracts::{CacheCommitMetadata, CacheKey, CacheOperation, CachePolicy, CacheScope, EntryId};
use alluvium_plans::PlanBundle;
use alluvium_write_policy::{added_files, head_commit};

use crate::cache::{DeltaCache, entry_parent};
use crate::entry::{Check, Entry, EntryFile, check, unseen};
use crate::error::CacheError;
use crate::operation::Subject;

impl DeltaCache {
    /// The newest sound entry of the view under this key that lies in the cache without a row in the index; with its row
    /// now. `None` also when the index has a row by the time it would be given one.
    pub(crate) fn adopt(&self, key: CacheKey, bundle: &PlanBundle) -> Result<Option<Arc<Entry>>, CacheError> {
        let subject = Subject::view(bundle, CachePolicy::DeltaStaging);
        let verify = || self.begin(CacheOperation::Verify, &subject);
        let mut found = self.committed(key, bundle)?;
        found.sort_unstable_by_key(|entry| entry.fencing_token);
        while let Some(entry) = found.pop() {
            let dir = entry.table_dir(self.root.path());
            let files = match check(&dir, entry.files, verify) {
                Check::Untouched(files) | Check::Restamped(files) => files,
                Check::Damaged(what) => {
                    tracing::warn!(entry = %dir.display(), what, "an entry without a row in the index is damaged");
                    continue;
                }
            };
            let entry = Entry { files, ..entry };
            tracing::info!(entry = %dir.display(), "an entry without a row in the index is taken from its commit");
            return Ok(self.index.adopt(&entry)?.then(|| Arc::new(entry)));
        }
        Ok(None)
    }

    /// The view's directories that hold one commit, for this key. Their files are as the commits say, not looked at.
    fn committed(&self, key: CacheKey, bundle: &PlanBundle) -> Result<Vec<Entry>, CacheError> {
        let parent = entry_parent(bundle.name(), key);
        let path = self.root.path().join(&parent);
        let ids = match std::fs::read_dir(&path) {
            Ok(ids) => ids,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(CacheError::Io { action: "list the directory", path, source }),
        };
        let ids = ids.flatten().filter_map(|id| id.file_name().to_str()?.parse::<EntryId>().ok());
        // What cannot be read is nobody's entry; it stays where it is.
        Ok(ids.filter_map(|id| self.entry_of(id, format!("{parent}/{id}"), key, bundle)).collect())
    }

    fn entry_of(&self, id: EntryId, dir: String, key: CacheKey, bundle: &PlanBundle) -> Option<Entry> {
        let table_dir = self.root.path().join(&dir);
        let head = head_commit(&table_dir).ok()??;
        let ours = CacheCommitMetadata::from_commit_info(&head.commit_info).ok()??;
        let is_it = head.version == 0
            && ours.cache_scope == CacheScope::View
            && ours.cache_key == Some(key)
            && ours.schema_hash == Some(bundle.published().hash())
            && ours.plan_hash == Some(bundle.identity().plan_fingerprint);
        if !is_it {
            return None;
        }
        let files = added_files(&table_dir, head.version).ok()?.into_iter().map(|file| {
            Some(EntryFile {
                stamp: unseen(file.size_bytes),
                digest: file.digest?,
                row_count: file.row_count,
                partition_values: file.partition_values,
                path: file.path,
            })
        });
        Some(Entry {
            key,
            view: bundle.name().to_owned(),
            id,
            dir,
            fencing_token: ours.fencing_token?,
            run_id: ours.run_id,
            created_unix_ms: self.seam.unix_ms(),
            plan_fingerprint: bundle.identity().plan_fingerprint,
            schema_hash: bundle.published().hash(),
            stability: bundle.identity().stability,
            compute_ms: ours.compute_ms?,
            row_count: ours.row_count?,
            files: files.collect::<Option<_>>()?,
            components: bundle.components().clone(),
        })
    }
}

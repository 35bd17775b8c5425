//! Entries that the index does not know, taken from their own commits: the index was lost, or a process died between
//! its commit and the publication.
//!
//! A commit is made only after the sources were stated again, so a committed entry is valid for the key that its commit
//! names, published or not. *Invariants:* only a directory whose single commit names this key, this schema and this plan
//! is taken; every byte is compared with the digests in that commit, and the rows of every file with its footer, with the
//! log's count of them and with the commit's own sum; the highest fencing token wins; nothing is taken from a process that
//! still holds the lease, because it is about to publish it; nothing that is condemned comes back; what
//! was an entry and is damaged is set aside and told.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{CacheCommitMetadata, CacheKey, CacheOperation, CachePolicy, EntryId};
use alluvium_datasets::HashError;
use alluvium_write_policy::{ReadError, added_files, head_commit};
use fail::fail_point;

use crate::cache::DeltaCache;
use crate::content::Content;
use crate::entry::{Check, Entry, EntryFile, add_up, check_logged, unseen};
use crate::error::CacheError;
use crate::fault::{is_unreadable, refused};
use crate::operation::Subject;
use crate::place::entry_parent;
use crate::scope::EntryScope;

impl DeltaCache {
    /// The newest sound entry of the content under its key that lies in the cache without a row in the index; with its row
    /// now. `None` also when the index has a row by the time it would be given one.
    pub(crate) fn adopt(&self, content: &Content<'_>) -> Result<Option<Arc<Entry>>, CacheError> {
        let mut found = self.committed(content)?;
        found.sort_unstable_by_key(|entry| entry.fencing_token);
        while let Some(entry) = found.pop() {
            let (id, dir) = (entry.id, entry.dir.clone());
            match self.take_in(entry)? {
                TakenIn::Adopted(entry) => return Ok(Some(entry)),
                TakenIn::Damaged(what) => self.set_orphan_aside(content, id, &dir, &what)?,
                TakenIn::Condemned => {}
                TakenIn::HasRow => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Sets a damaged directory without a row aside, unless it is on its way out: what is deleted misses files too.
    fn set_orphan_aside(&self, content: &Content<'_>, id: EntryId, dir: &str, what: &str) -> Result<(), CacheError> {
        // Asked after the files were looked at: a mark outlives the files, so without one they are there, or gone as a whole.
        if self.index.is_condemned(id)? {
            return Ok(());
        }
        let subject = content.staged();
        self.evicting(&subject, None, || self.quarantine(&subject, id, dir, what))
    }

    /// Gives a row to a committed entry, if every byte of it is there, and as many rows as its commit says.
    pub(crate) fn take_in(&self, entry: Entry) -> Result<TakenIn, CacheError> {
        // Asked before the files are looked at: what is condemned has its row until they are gone.
        if self.index.is_condemned(entry.id)? {
            return Ok(TakenIn::Condemned);
        }
        fail_point!("view.adopt.uncondemned");
        let subject = Subject::entry(&entry);
        let verify = || self.begin(CacheOperation::Verify, &subject);
        let dir = entry.table_dir(self.root.path());
        let files = match check_logged(&dir, entry.files.clone(), verify) {
            Check::Untouched(files) | Check::Restamped(files) => files,
            Check::Damaged(what) => {
                tracing::warn!(entry = %dir.display(), what, "an entry without a row in the index is damaged");
                return Ok(TakenIn::Damaged(what));
            }
        };
        fail_point!("view.adopt.checked");
        let entry = Entry { files, ..entry };
        tracing::info!(entry = %dir.display(), "an entry without a row in the index is taken from its commit");
        Ok(if self.index.adopt(&entry)? { TakenIn::Adopted(Arc::new(entry)) } else { TakenIn::HasRow })
    }

    /// The content's directories that hold one commit, for its key. Their files are as the commits say, not looked at. Those
    /// whose commit is damaged are set aside.
    fn committed(&self, content: &Content<'_>) -> Result<Vec<Entry>, CacheError> {
        let Content { scope, name, key, .. } = *content;
        let parent = entry_parent(scope, name, key);
        let path = self.root.path().join(&parent);
        let ids = match std::fs::read_dir(&path) {
            Ok(ids) => ids,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(CacheError::io("list the directory", &path)(source)),
        };
        let ids = ids.flatten().filter_map(|id| id.file_name().to_str()?.parse::<EntryId>().ok());
        let is_it = |entry: &Entry| {
            entry.view == name
                && content.published.is_none_or(|published| published.hash() == entry.schema_hash)
                && entry.plan_fingerprint == content.plan_fingerprint
                && content.rests_on(entry)
        };
        let mut found = Vec::new();
        for id in ids {
            let dir = format!("{parent}/{id}");
            match self.committed_entry(scope, id, dir.clone(), key) {
                Ok(entry) => found.extend(Some(entry).filter(is_it)),
                Err(NoEntry::Damaged(what)) => self.set_orphan_aside(content, id, &dir, &what)?,
                // Nobody's entry, or one that cannot be read now; it stays where it is.
                Err(NoEntry::Other(_) | NoEntry::Unreadable(_)) => {}
            }
        }
        Ok(found)
    }

    /// The entry that the commit of a directory makes; or why it makes none.
    pub(crate) fn committed_entry(
        &self,
        scope: EntryScope,
        id: EntryId,
        dir: String,
        key: CacheKey,
    ) -> Result<Entry, NoEntry> {
        self.entry_in(&self.root.path().join(&dir), scope, id, dir, key)
    }

    /// [`committed_entry`](Self::committed_entry) of `dir`, whose files lie in `table_dir`.
    pub(crate) fn entry_in(
        &self,
        table_dir: &Path,
        scope: EntryScope,
        id: EntryId,
        dir: String,
        key: CacheKey,
    ) -> Result<Entry, NoEntry> {
        let other = |why: &str| Err(NoEntry::Other(why.to_owned()));
        let Some(head) = head_commit(table_dir).map_err(NoEntry::of_log)? else {
            return other("it has no commit: whoever wrote it did not finish");
        };
        let ours = match CacheCommitMetadata::from_commit_info(&head.commit_info) {
            Ok(Some(ours)) => ours,
            Ok(None) => return other("its commit is not one of a cache"),
            Err(error) => return Err(NoEntry::Damaged(error.to_string())),
        };
        let is_entry = head.version == 0 && ours.cache_scope == scope.word() && ours.cache_key == Some(key);
        if !is_entry {
            return other("its commit is not that of an entry of this key");
        }
        let files = added_files(table_dir, head.version).map_err(NoEntry::of_log)?.into_iter().map(|file| {
            Some(EntryFile {
                stamp: unseen(file.size_bytes),
                digest: file.digest?,
                row_count: file.row_count,
                partition_values: file.partition_values,
                path: file.path,
            })
        });
        let log_digest = Entry::hash_log(table_dir).map_err(NoEntry::of_hash)?;
        let committed_unix_ms = head.commit_info.get("timestamp").and_then(serde_json::Value::as_i64);
        let whole = || {
            Some(Entry {
                scope,
                key,
                view: ours.name.clone(),
                id,
                dir,
                fencing_token: ours.fencing_token?,
                run_id: ours.run_id,
                created_unix_ms: committed_unix_ms.unwrap_or_else(|| self.seam.unix_ms()),
                plan_fingerprint: match scope {
                    EntryScope::View => Some(ours.plan_hash?),
                    EntryScope::Dataset | EntryScope::Artifact => ours.plan_hash,
                },
                plan_artifact_id: ours.artifact_ids.first().copied(),
                schema_hash: ours.schema_hash?,
                stability: ours.stability?,
                compute_ms: ours.compute_ms?,
                row_count: ours.row_count?,
                files: files.collect::<Option<_>>()?,
                log_digest,
                components: ours.components.clone(),
                unstable_rows: ours.unstable_rows.clone(),
                tags: ours.tags.clone(),
                explanation: None,
            })
        };
        let unsaid = || NoEntry::Damaged("its commit does not say everything that the index has to know".to_owned());
        let entry = whole().ok_or_else(unsaid)?;
        add_up(&entry.files, entry.row_count).map_err(NoEntry::Damaged)?;
        Ok(entry)
    }
}

/// Why a directory makes no entry of a key.
#[derive(Debug)]
pub(crate) enum NoEntry {
    /// It never did: it was not finished, or is somebody else's.
    Other(String),
    /// The system does not let it be read, so it may make one.
    Unreadable(ReadError),
    /// Its commit is not what was written.
    Damaged(String),
}

impl NoEntry {
    fn of_log(error: ReadError) -> Self {
        match error {
            ReadError::DamagedCommit { .. } | ReadError::EmptyCommit { .. } => Self::Damaged(error.to_string()),
            error if is_unreadable(&error) => Self::Unreadable(error),
            error => Self::Other(error.to_string()),
        }
    }

    fn of_hash(error: HashError) -> Self {
        match refused(error) {
            Ok(error) => Self::Unreadable(error),
            Err(error) => Self::Other(error.to_string()),
        }
    }

    /// In words.
    pub(crate) fn why(self) -> String {
        match self {
            Self::Other(why) | Self::Damaged(why) => why,
            Self::Unreadable(error) => error.to_string(),
        }
    }
}

/// What became of giving an entry a row.
pub(crate) enum TakenIn {
    Adopted(Arc<Entry>),
    /// Something is missing or changed.
    Damaged(String),
    /// It is on its way out.
    Condemned,
    /// Its key has a row by now.
    HasRow,
}

impl<'a> Subject<'a> {
    /// An entry as its row or its commit tells it.
    pub(crate) fn entry(entry: &'a Entry) -> Self {
        Self {
            scope: entry.scope.word(),
            policy: CachePolicy::DeltaStaging,
            name: &entry.view,
            cache_key: Some(entry.key),
        }
    }
}

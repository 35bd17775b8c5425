//! The files of an output's version, checked: by what the index remembers of it, else by the table's log.

use alluvium_contracts::{CacheCommitMetadata, CacheOperation};
use alluvium_plans::PlanBundle;
use alluvium_write_policy::active_files;

use super::OutputTarget;
use super::target::row_key;
use crate::cache::DeltaCache;
use crate::entry::{Check, EntryFile, add_up, check, check_logged, unseen};
use crate::error::CacheError;
use crate::index::OutputRow;

impl DeltaCache {
    /// The files of a version, checked; or what is wrong with them. By our record of it, else by the table's log.
    pub(super) async fn output_files(
        &self,
        target: &OutputTarget,
        version: u64,
        ours: &CacheCommitMetadata,
        bundle: &PlanBundle,
    ) -> Result<Result<Vec<EntryFile>, String>, CacheError> {
        let subject = target.subject(bundle);
        let verify = || self.begin(CacheOperation::Verify, &subject);
        let add_up = |files: &[EntryFile]| ours.row_count.map_or(Ok(()), |row_count| add_up(files, row_count));
        let remembered = self.index.output(&row_key(target))?.filter(|row| {
            row.version == version && row.run_id == ours.run_id && row.fencing_token == ours.fencing_token
        });
        // What is remembered is no more than the log says: where it counts other rows than the commit, the log is read.
        let remembered = remembered.filter(|row| match add_up(&row.files) {
            Ok(()) => true,
            Err(what) => {
                self.notice(format!(
                    "what the index remembers of output `{}` is damaged ({what}); its log is read again",
                    target.name
                ));
                false
            }
        });
        let checked = match remembered {
            Some(row) => check(&target.path, row.files, verify),
            // Published by another root, or the index is new: the log names the files, their sizes, rows and digests.
            None => match self.logged_files(target, version).await?.and_then(|files| add_up(&files).map(|()| files)) {
                Ok(files) => check_logged(&target.path, files, verify),
                Err(what) => Check::Damaged(what),
            },
        };
        Ok(match checked {
            Check::Untouched(files) => Ok(files),
            Check::Restamped(files) => {
                let row = OutputRow { version, run_id: ours.run_id, fencing_token: ours.fencing_token, files };
                self.index.remember_output(&row_key(target), &row, target.identity(bundle))?;
                Ok(row.files)
            }
            Check::Damaged(what) => Err(what),
        })
    }

    /// The files of a version as its log has them, with no stamp that could spare their hashing.
    async fn logged_files(
        &self,
        target: &OutputTarget,
        version: u64,
    ) -> Result<Result<Vec<EntryFile>, String>, CacheError> {
        let active = active_files(&target.path, version).await.map_err(self.read(target))?;
        Ok(active
            .into_iter()
            .map(|file| {
                let digest = file.digest.ok_or_else(|| format!("the log has no digest of {}", file.path))?;
                Ok(EntryFile {
                    stamp: unseen(file.size_bytes),
                    digest,
                    row_count: file.row_count,
                    partition_values: file.partition_values,
                    path: file.path,
                })
            })
            .collect())
    }
}

//! Rehashing on request: every byte of every entry, its commit and its numbers of rows, whatever stamps say.

use std::collections::BTreeSet;

use alluvium_contracts::{CacheOperation, CacheVerification, ContentDigest, VerifiedEntry, VerifyResult};
use alluvium_write_policy::ReadError;
use fail::fail_point;

use crate::cache::DeltaCache;
use crate::entry::{DAMAGED, Entry, EntryFile, add_up, count_rows, rehash};
use crate::error::CacheError;
use crate::fault::Fault;
use crate::names::all_known;
use crate::operation::Subject;

impl DeltaCache {
    /// Reads every byte of the live entries of `views`, or of all if it is empty, and compares files and commit with the
    /// index, and the rows that each file is said to have with its footer. What is damaged is set aside; the next run computes
    /// it again. What it looks at is not deleted meanwhile; what is condemned meanwhile is left out.
    ///
    /// # Errors
    /// [`CacheError::NoSuchEntry`] when one of `views` has no live entry, and nothing was looked at;
    /// [`CacheError::Read`] when the system does not let an entry be read: it stays where it is, and all others were looked at;
    /// [`CacheError::Index`] when the index cannot be used, [`CacheError::Io`] when a damaged entry cannot be set aside, or the
    /// reader's file cannot be made.
    pub fn verify(&self, views: &[String]) -> Result<CacheVerification, CacheError> {
        let _reading = self.begin_reading()?;
        let mut entries = self.index.entries()?.found;
        all_known(views, entries.iter().map(|entry| entry.view.as_str()))?;
        entries.retain(|entry| views.is_empty() || views.contains(&entry.view));
        entries.sort_by(|one, other| (one.scope, &one.view, one.id).cmp(&(other.scope, &other.view, other.id)));
        fail_point!("verify.listed");
        let mut verified = Vec::with_capacity(entries.len());
        let mut unreadable = None;
        for entry in entries {
            if self.index.is_condemned(entry.id)? {
                continue;
            }
            let damage = match self.verify_entry(&entry) {
                Ok(damage) => damage,
                Err(error @ CacheError::Read { .. }) => {
                    unreadable = unreadable.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            verified.push(VerifiedEntry {
                cache_scope: entry.scope.word(),
                view_name: entry.view.clone(),
                entry_id: entry.id,
                cache_key: entry.key,
                result: if damage.is_some() { VerifyResult::Damaged } else { VerifyResult::Sound },
                damage,
                size_bytes: entry.size_bytes(),
            });
        }
        let dropped = match views {
            [] => self.drop_damaged_rows()?,
            _ => 0,
        };
        if dropped > 0 {
            self.notice(format!("{dropped} rows of the cache index did not decode and were dropped"));
        }
        if let Some(error) = unreadable {
            return Err(error);
        }
        Ok(CacheVerification {
            damaged_count: verified.iter().filter(|entry| entry.damage.is_some()).count() as u64,
            entries: verified,
            notices: self.take_notices(),
        })
    }

    /// What is wrong with an entry, which is set aside then.
    fn verify_entry(&self, entry: &Entry) -> Result<Option<String>, CacheError> {
        let subject = Subject::entry(entry);
        let verifying = self.begin(CacheOperation::Verify, &subject);
        let compared = verifying.span().in_scope(|| self.compare(entry));
        match compared {
            Ok(files) => {
                verifying.ok(Some(entry.size_bytes()));
                if files != entry.files {
                    self.index.restamp(&Entry { files, ..entry.clone() })?;
                }
                Ok(None)
            }
            Err(Fault::Damaged(damage)) => {
                verifying.error(DAMAGED);
                self.evicting(&subject, Some(entry.size_bytes()), || self.set_aside(entry, &damage))?;
                Ok(Some(damage))
            }
            Err(Fault::Unreadable(source)) => {
                let error = self.unreadable(entry, source);
                verifying.error(error.kind());
                Err(error)
            }
        }
    }

    /// The files with today's stamps; or what differs from what the index knows.
    fn compare(&self, entry: &Entry) -> Result<Vec<EntryFile>, Fault> {
        self.compare_record(entry)?;
        rehash(&entry.table_dir(self.root.path()), &entry.files)
    }

    /// Compares the commit with the index, and the rows that both speak of with the footers of the files: all that a hit is
    /// answered from beside the files' bytes.
    pub(crate) fn compare_record(&self, entry: &Entry) -> Result<(), Fault> {
        let committed = self.committed_entry(entry.scope, entry.id, entry.dir.clone(), entry.key);
        let committed = committed.map_err(|none| match Fault::from(none) {
            Fault::Damaged(why) => Fault::Damaged(format!("its Delta log cannot be used: {why}")),
            unreadable @ Fault::Unreadable(_) => unreadable,
        })?;
        let damaged = |what: &str| Err(Fault::Damaged(what.to_owned()));
        if committed.log_digest != entry.log_digest {
            return damaged("its Delta log has other bytes than it was written with");
        }
        add_up(&entry.files, entry.row_count).map_err(Fault::Damaged)?;
        let recorded = |entry: &Entry| entry.files.iter().map(recorded).collect::<BTreeSet<_>>();
        if recorded(&committed) != recorded(entry) {
            return damaged("its Delta log names other files than the index");
        }
        count_rows(&entry.table_dir(self.root.path()), &entry.files)
    }

    /// Why nothing can be said of an entry.
    pub(crate) fn unreadable(&self, entry: &Entry, source: ReadError) -> CacheError {
        CacheError::Read { path: entry.table_dir(self.root.path()), source }
    }
}

/// What a commit and the index both say of a file.
fn recorded(file: &EntryFile) -> (String, u64, ContentDigest, u64) {
    (file.path.clone(), file.stamp.size_bytes, file.digest, file.row_count)
}

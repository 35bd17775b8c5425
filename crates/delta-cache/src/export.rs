//! An entry as a Delta table of its own, outside of the cache, for others to read and keep.

use std::fs;
use std::path::Path;

use alluvium_contracts::CacheExport;
use alluvium_profile::real_path;

use crate::cache::DeltaCache;
use crate::entry::{Entry, rehash};
use crate::error::CacheError;
use crate::fault::Fault;
use crate::names::no_such_entry;
use crate::reading::Reading;

impl DeltaCache {
    /// Copies the newest live entry that `wanted` names (as in [`show`](Self::show)) to `to`, which must not exist and lies
    /// outside of the cache: a Delta table with one version. The copy is hashed before it gets its name, so `to` holds every byte or nothing.
    ///
    /// # Errors
    /// [`CacheError::NoSuchEntry`], [`CacheError::InsideRoot`], [`CacheError::Exists`], [`CacheError::Damaged`] when the entry is not what was written,
    /// [`CacheError::Io`] when it cannot be copied, [`CacheError::Read`] when the copy cannot be read.
    pub fn export(&self, _reading: &Reading, wanted: &str, to: &Path) -> Result<CacheExport, CacheError> {
        let Some(entry) = self.named(wanted)?.into_iter().next() else {
            return Err(no_such_entry(wanted, []));
        };
        // Whatever lies there is taken for the cache's own: collected, or read as a store.
        let place = real_path(to).map_err(CacheError::io("find the place", to))?;
        if let Some(inside) = [self.root.path(), self.root.kv_root()].into_iter().find(|own| place.starts_with(own)) {
            return Err(CacheError::InsideRoot { path: to.to_owned(), inside: inside.to_owned() });
        }
        if to.symlink_metadata().is_ok() {
            return Err(CacheError::Exists { path: to.to_owned() });
        }
        let from = entry.table_dir(self.root.path());
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", entry.id));
        let part = to.with_file_name(name);
        let copied = copy(&from, &part)
            .and_then(|()| self.compare_copy(&entry, &part))
            .and_then(|()| fs::rename(&part, to).map_err(CacheError::io("give the copy its name", to)));
        if let Err(error) = copied {
            let _ = fs::remove_dir_all(&part);
            return Err(error);
        }
        Ok(CacheExport {
            table_path: to.display().to_string(),
            entry_id: entry.id,
            cache_key: entry.key,
            row_count: entry.row_count,
            file_count: entry.files.len() as u64,
            size_bytes: entry.size_bytes(),
            view_name: entry.view,
        })
    }

    fn compare_copy(&self, entry: &Entry, copy: &Path) -> Result<(), CacheError> {
        let committed = self.entry_in(copy, entry.scope, entry.id, entry.dir.clone(), entry.key).map(drop);
        let compared = committed.map_err(Fault::from).and_then(|()| rehash(copy, &entry.files).map(drop));
        compared.map_err(|fault| match fault {
            Fault::Damaged(damage) => CacheError::Damaged { view: entry.view.clone(), damage },
            Fault::Unreadable(source) => CacheError::Read { path: copy.to_owned(), source },
        })
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), CacheError> {
    fs::create_dir_all(to).map_err(CacheError::io("create the directory", to))?;
    for found in fs::read_dir(from).map_err(CacheError::io("list the directory", from))? {
        let found = found.map_err(CacheError::io("list the directory", from))?;
        let (source, target) = (found.path(), to.join(found.file_name()));
        if found.file_type().map_err(CacheError::io("stat", &source))?.is_dir() {
            copy(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(CacheError::io("copy", &source))?;
        }
    }
    Ok(())
}

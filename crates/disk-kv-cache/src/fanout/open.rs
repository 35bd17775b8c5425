//! How a cache in shards is opened, made, and mended when it has lost some.

use std::fs::{self, File};
use std::path::Path;

use super::record::{self, Record, name, place};
use super::{FanoutCache, MAX_SHARDS, SHARDS, divided};
use crate::directory::{self, Directory};
use crate::engine::EngineKind;
use crate::{Cache, CacheOptions, CacheSettings, OpenCacheError, OpenError};

impl FanoutCache {
    /// Opens the cache in `dir` with the shards it has, or makes one of 8.
    ///
    /// # Errors
    /// As [`open_with`](FanoutCache::open_with).
    pub fn open(dir: impl AsRef<Path>) -> Result<FanoutCache, OpenCacheError> {
        FanoutCache::open_with(dir, None, &CacheOptions::new())
    }

    /// Opens the cache in `dir`, or makes it, with a number of shards from 1 to 1,000. `None`: those it has, or 8.
    ///
    /// # Errors
    /// [`OpenCacheError::Shards`] if it has another number of them, [`OpenCacheError::ShardCount`];
    /// [`OpenCacheError::InOneStore`] if there is a [`Cache`] in `dir`;
    /// [`OpenCacheError::MissingShard`], [`OpenCacheError::OtherShard`] and [`OpenCacheError::ShardsUnknown`] if it has
    /// lost some, which [`repair`](FanoutCache::repair) mends; and as [`CacheOptions::open`].
    pub fn open_with(
        dir: impl AsRef<Path>,
        shards: Option<usize>,
        options: &CacheOptions,
    ) -> Result<FanoutCache, OpenCacheError> {
        check_count(shards)?;
        let path = directory::existing_or_new(dir.as_ref(), options.refused_network())?;
        refuse_one_store(&path)?;
        let io = |error| OpenError::io(&path, "lock the directory", error);
        let directory = Directory::open(&path).map_err(io)?;
        // So that it is made once.
        let locked = directory.lock().map_err(io)?;
        let mut record = match Record::read(&path)? {
            Some(record) => record,
            None => {
                let record = Record::new(shards.unwrap_or(SHARDS));
                record.write(&path)?;
                record
            }
        };
        if let Some(requested) = shards.filter(|requested| *requested != record.shards) {
            return Err(OpenCacheError::Shards { path, found: record.shards, requested });
        }
        if record.made {
            (0..record.shards).try_for_each(|shard| record.expect(&path, shard))?;
        }
        let plain = options.clone().with_stored_settings();
        let all = open_shards(&record, &path, &plain, options.settings())?;
        if !record.made {
            (0..record.shards).try_for_each(|shard| sync(&place(&path, shard)?))?;
            record.made = true;
            record.write(&path)?;
        }
        drop(locked);
        Ok(FanoutCache { shards: all.into(), path, options: plain, read_only: false })
    }

    /// Opens the cache in `dir` for reading only: nothing is written, not even what was read. Its sub-caches, deques and
    /// indexes are opened likewise.
    ///
    /// # Errors
    /// As [`CacheOptions::open_read_only`], and as [`open_with`](FanoutCache::open_with) if it has lost shards.
    pub fn open_read_only(dir: impl AsRef<Path>, options: &CacheOptions) -> Result<FanoutCache, OpenCacheError> {
        let path = directory::existing(dir.as_ref(), Some(directory::network_file_system))?;
        let record = Record::read(&path)?.ok_or_else(|| OpenError::Absent { path: path.clone() })?;
        let plain = options.clone().with_stored_settings();
        let open = |shard| {
            record.expect(&path, shard)?;
            let cache = plain.open_read_only(place(&path, shard)?)?;
            record.verify(&path, shard, &cache)?;
            Ok::<_, OpenCacheError>(cache)
        };
        let shards: Vec<Cache> = (0..record.shards).map(open).collect::<Result<_, _>>()?;
        Ok(FanoutCache { shards: shards.into(), path, options: plain, read_only: true })
    }

    /// Mends a cache that has lost shards, by beginning them anew: what they held is missed. Returns the names of those
    /// that were begun anew, which are directories of the cache. A shard that is another cache's is moved to
    /// `<name>.other`.
    ///
    /// `shards` is their number; `None`: that which the cache or one of its shards remembers. Nobody may have it open.
    ///
    /// # Errors
    /// [`OpenCacheError::Shards`] if the shards remember another number, [`OpenCacheError::ShardsUnknown`] if there is no
    /// telling, [`OpenError::Absent`] if there is no cache, and as [`CacheOptions::open`].
    pub fn repair(
        dir: impl AsRef<Path>,
        shards: Option<usize>,
        options: &CacheOptions,
    ) -> Result<Vec<String>, OpenCacheError> {
        check_count(shards)?;
        let path = directory::existing(dir.as_ref(), options.refused_network())?;
        let io = |action| {
            let path = &path;
            move |error| OpenError::io(path, action, error)
        };
        // Before the lock, which the opening of a store takes too.
        if !record::is_at(&path) {
            return Err(OpenError::Absent { path }.into());
        }
        let directory = Directory::open(&path).map_err(io("lock the directory"))?;
        let locked = directory.lock().map_err(io("lock the directory"))?;
        let plain = options.clone().with_stored_settings();
        let mut record = match Record::read(&path) {
            Ok(Some(record)) => record,
            Ok(None) => return Err(OpenError::Absent { path }.into()),
            Err(unknown @ OpenCacheError::ShardsUnknown { .. }) => match (remembered(&path, &plain)?, shards) {
                (Some(record), _) => record,
                (None, Some(shards)) => Record::new(shards),
                (None, None) => return Err(unknown),
            },
            Err(error) => return Err(error),
        };
        if let Some(requested) = shards.filter(|requested| *requested != record.shards) {
            return Err(OpenCacheError::Shards { path, found: record.shards, requested });
        }
        let mut begun = Vec::new();
        for shard in 0..record.shards {
            let place = place(&path, shard)?;
            if record.expect(&path, shard).is_err() {
                begun.push(name(shard));
                continue;
            }
            let cache = plain.open(&place)?;
            match Record::of_shard(&cache)? {
                Some((owner, which)) if (&owner, which) == (&record, shard) => {}
                // Nobody's: with what it holds it becomes this cache's.
                None if cache.is_empty()? => begun.push(name(shard)),
                None => {}
                Some(_) => {
                    drop(cache);
                    let aside = path.join(format!("{}.other", name(shard)));
                    fs::rename(&place, aside).map_err(io("move another cache's shard away"))?;
                    begun.push(name(shard));
                }
            }
        }
        // As if it were being made: that is how shards get their rows.
        record.made = false;
        record.write(&path)?;
        drop(locked);
        FanoutCache::open_with(&path, None, options)?;
        Ok(begun)
    }

    /// Whether the cache in `dir` is one in shards, also when it has lost some of them, or the file that says so.
    pub fn is_at(dir: impl AsRef<Path>) -> bool {
        record::is_at(dir.as_ref())
    }
}

/// Fails if a directory that holds no shards holds a cache in one store: beside shards it would be hidden.
fn refuse_one_store(path: &Path) -> Result<(), OpenCacheError> {
    let is_one = !record::is_at(path) && record::is_one_store(path);
    if is_one { Err(OpenCacheError::InOneStore { path: path.to_path_buf() }) } else { Ok(()) }
}

fn check_count(shards: Option<usize>) -> Result<(), OpenCacheError> {
    match shards.filter(|shards| !(1..=MAX_SHARDS).contains(shards)) {
        Some(requested) => Err(OpenCacheError::ShardCount { requested }),
        None => Ok(()),
    }
}

/// Opens the shards, or makes those of a cache that is not yet made. `wanted`: settings for all of them together.
fn open_shards(
    record: &Record,
    path: &Path,
    options: &CacheOptions,
    wanted: Option<CacheSettings>,
) -> Result<Vec<Cache>, OpenCacheError> {
    // The first shard's settings are everybody's.
    let wanted = match wanted {
        None if record.made => None,
        wanted => Some(divided(wanted.unwrap_or_default(), record.shards)),
    };
    let with = |settings| match settings {
        Some(settings) => options.clone().with_settings(settings),
        None => options.clone(),
    };
    let mut settings = wanted;
    let mut all = Vec::with_capacity(record.shards);
    for shard in 0..record.shards {
        let cache = with(settings).open(place(path, shard)?)?;
        record.claim(path, shard, &cache)?;
        if shard == 0 {
            settings = Some(cache.settings()?);
        }
        all.push(cache);
    }
    Ok(all)
}

/// What most of the shards in `dir` say of the cache they belong to.
fn remembered(dir: &Path, options: &CacheOptions) -> Result<Option<Record>, OpenCacheError> {
    let mut said: Vec<Record> = Vec::new();
    for shard in record::found(dir) {
        said.extend(Record::of_shard(&options.open(place(dir, shard)?)?)?.map(|(record, _)| record));
    }
    let votes = |record: &Record| said.iter().filter(|other| *other == record).count();
    Ok(said.iter().max_by_key(|record| votes(record)).cloned())
}

/// Has a new shard on the device.
fn sync(shard: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::io(shard, "sync a new shard", error);
    let kind = EngineKind::found_in(shard).ok_or_else(|| OpenError::Absent { path: shard.to_path_buf() })?;
    File::open(shard.join(kind.files().data)).and_then(|data| data.sync_all()).map_err(io)?;
    Directory::open(shard).and_then(|shard| shard.sync()).map_err(io)
}

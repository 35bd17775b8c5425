//! What a shell has open, and what it holds.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use alluvium_disk_kv_cache::{
    Coordination, Deque, Durability, Index, KeyBuf, LockGuard, OpenError, Permit, QueueSettings, ReentrantGuard,
    WorkQueue, named_dir,
};

use super::request::Fields;
use super::stampede::Turns;
use crate::kv::args::OpenArgs;
use crate::kv::fault::{Fault, kind};
use crate::kv::target::{Target, is_read_only_media};

/// The name of a collection below the shell's directory; `None`: the directory itself.
type Within = Option<String>;
/// A lock: where its coordination directory is, and its name there.
pub type LockName = (Within, String);

/// An open shell. Locks are released when it is dropped, and by the kernel if it dies.
pub struct Session {
    dir: PathBuf,
    open: OpenArgs,
    owner: Option<String>,
    caches: Handles<Within, Target>,
    deques: Handles<Within, Deque<Vec<u8>>>,
    indexes: Handles<Within, Index<KeyBuf, Vec<u8>>>,
    queues: Handles<(Within, Option<NonZeroU32>), WorkQueue<Vec<u8>>>,
    coordinations: Handles<Within, Coordination>,
    /// Locks that are held.
    pub locks: HashMap<LockName, LockGuard>,
    /// Reentrant locks that are held, once for each time.
    pub reentrant: HashMap<LockName, Vec<ReentrantGuard>>,
    /// Permits that are held.
    pub permits: HashMap<LockName, Vec<Permit>>,
    /// Turns to compute that are held.
    pub turns: Turns,
}

impl Session {
    /// A session in a directory; nothing is opened yet.
    pub fn new(dir: &Path, open: OpenArgs, owner: Option<String>) -> Session {
        Session {
            dir: dir.to_owned(),
            open,
            owner,
            caches: Handles::default(),
            deques: Handles::default(),
            indexes: Handles::default(),
            queues: Handles::default(),
            coordinations: Handles::default(),
            locks: HashMap::new(),
            reentrant: HashMap::new(),
            permits: HashMap::new(),
            turns: Turns::default(),
        }
    }

    /// The cache that a request names.
    pub fn cache(&mut self, fields: &Fields<'_>) -> Result<Target, Fault> {
        self.cache_of(fields, None)
    }

    /// The cache that a request names, with a number of shards.
    pub fn cache_of(&mut self, fields: &Fields<'_>, shards: Option<usize>) -> Result<Target, Fault> {
        let within = within(fields)?;
        let dir = self.place("cache", within.as_deref())?;
        if let Some(open) = self.caches.get(&within)? {
            if shards.is_some() && open.shards() != shards {
                let message = format!("the cache has {} already", shards_text(open.shards()));
                return Err(Fault::new(kind::CONFLICT, message));
            }
            return Ok(open);
        }
        let cache = Target::open_or_read(&dir, shards, &self.open)?;
        Ok(self.caches.keep(within, dir, cache))
    }

    /// The deque that a request names.
    pub fn deque(&mut self, fields: &Fields<'_>) -> Result<Deque<Vec<u8>>, Fault> {
        let within = within(fields)?;
        if let Some(open) = self.deques.get(&within)? {
            return Ok(open);
        }
        let dir = self.place("deque", within.as_deref())?;
        let deque = or_read(Deque::open(&dir, self.open.store(Durability::System)), || Deque::open_read_only(&dir))?;
        Ok(self.deques.keep(within, dir, deque))
    }

    /// The index that a request names.
    pub fn index(&mut self, fields: &Fields<'_>) -> Result<Index<KeyBuf, Vec<u8>>, Fault> {
        let within = within(fields)?;
        if let Some(open) = self.indexes.get(&within)? {
            return Ok(open);
        }
        let dir = self.index_dir(fields)?;
        let index = or_read(Index::open(&dir, self.open.store(Durability::System)), || Index::open_read_only(&dir))?;
        Ok(self.indexes.keep(within, dir, index))
    }

    /// The directory of the index that a request names, for handles with other types of keys.
    pub fn index_dir(&self, fields: &Fields<'_>) -> Result<PathBuf, Fault> {
        self.place("index", within(fields)?.as_deref())
    }

    /// The work queue that a request names, with the `max_attempts` that it names.
    pub fn queue(&mut self, fields: &Fields<'_>) -> Result<WorkQueue<Vec<u8>>, Fault> {
        let max_attempts = fields.optional_small_count("max_attempts")?.and_then(NonZeroU32::new);
        let name = (within(fields)?, max_attempts);
        if let Some(open) = self.queues.get(&name)? {
            return Ok(open);
        }
        let mut settings = QueueSettings::new().with_store(self.open.store(Durability::System));
        if let Some(max_attempts) = max_attempts {
            settings = settings.with_max_attempts(max_attempts);
        }
        let dir = self.place("queue", name.0.as_deref())?;
        let queue = or_read(WorkQueue::open(&dir, settings.clone()), || WorkQueue::open_read_only(&dir, settings))?;
        Ok(self.queues.keep(name, dir, queue))
    }

    /// The coordination directory that a request names.
    pub fn coordination(&mut self, fields: &Fields<'_>) -> Result<Coordination, Fault> {
        let within = within(fields)?;
        if let Some(open) = self.coordinations.get(&within)? {
            return Ok(open);
        }
        let dir = self.place("coordination", within.as_deref())?;
        let mut coordination = Coordination::open(&dir, self.open.store(Durability::System))?;
        if let Some(owner) = &self.owner {
            coordination = coordination.with_owner(owner);
        }
        Ok(self.coordinations.keep(within, dir, coordination))
    }

    /// How stores are opened.
    pub fn open_args(&self) -> &OpenArgs {
        &self.open
    }

    /// Where a collection lies: as `FanoutCache` lays out what it has by name.
    fn place(&self, kind: &str, name: Option<&str>) -> Result<PathBuf, Fault> {
        match name {
            None => Ok(self.dir.clone()),
            Some(name) => Ok(named_dir(&self.dir, kind, name)?),
        }
    }
}

/// What was opened; or opened with `read`, where the media can be nothing but read.
fn or_read<T>(opened: Result<T, OpenError>, read: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    match opened {
        Err(error) if is_read_only_media(&error) => read(),
        opened => opened,
    }
}

/// What is open, by name, and the directories that it was opened in.
struct Handles<N, H>(HashMap<N, (H, PathBuf, Identity)>);

/// A directory and the files of the stores in it, told from others in their places: what is open keeps its inode from being used
/// again. `None`: there is no such file.
type Identity = Vec<Option<(u64, u64)>>;

impl<N: Eq + Hash, H: Clone> Handles<N, H> {
    /// What is open under a name. If its directory or files were removed or replaced since, what is written to them would be lost in
    /// silence: it is let go instead, and the next request opens what is there then.
    fn get(&mut self, name: &N) -> Result<Option<H>, Fault> {
        let Some((handle, dir, opened)) = self.0.get(name) else { return Ok(None) };
        if identity(dir) == *opened {
            return Ok(Some(handle.clone()));
        }
        let message = format!(
            "{} or files in it were removed or replaced while this shell had it open: nothing was done, ask again for what is there now",
            dir.display()
        );
        self.0.remove(name);
        Err(Fault::new(kind::REPLACED, message))
    }

    /// Keeps what was opened in a directory.
    fn keep(&mut self, name: N, dir: PathBuf, handle: H) -> H {
        let opened = identity(&dir);
        self.0.insert(name, (handle.clone(), dir, opened));
        handle
    }
}

impl<N, H> Default for Handles<N, H> {
    fn default() -> Handles<N, H> {
        Handles(HashMap::new())
    }
}

/// The files by which a store is this store, of each engine.
const STORE: [&str; 3] = ["data.mdb", "lock.mdb", "sled/db"];

fn identity(dir: &Path) -> Identity {
    // A cache in shards has a store in each; their names are counted up from 000.
    let shards = (0..).map(|shard| dir.join(format!("{shard:03}"))).take_while(|shard| shard.is_dir());
    let stores = std::iter::once(dir.to_path_buf()).chain(shards);
    let files = stores.flat_map(|store| STORE.map(|file| store.join(file)));
    std::iter::once(dir.to_path_buf())
        .chain(files)
        .map(|file| file.metadata().ok().map(|found| (found.dev(), found.ino())))
        .collect()
}

/// The lock that a request names.
pub fn lock_name(fields: &Fields<'_>) -> Result<LockName, Fault> {
    Ok((within(fields)?, fields.text("name")?.to_owned()))
}

fn within(fields: &Fields<'_>) -> Result<Within, Fault> {
    Ok(fields.optional_text("in")?.map(str::to_owned))
}

fn shards_text(shards: Option<usize>) -> String {
    shards.map_or_else(|| "one store".to_owned(), |shards| format!("{shards} shards"))
}

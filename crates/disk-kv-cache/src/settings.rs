//! How a store is opened: who shares it, what a commit survives, the size of the map, where it may lie, and what becomes
//! of it when it is damaged.

use crate::OpenError;

/// The smallest bound of a map: no system of ours has larger pages.
const MIN_MAP_BYTES: u64 = 64 << 10;

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// A commit survives the death of any process (`kill -9` included), because it is in the kernel's page cache when
    /// [`Store::write`](crate::Store::write) returns; it is not synced to the device.
    ///
    /// After a power cut or a kernel crash the store is suspect, and is examined before anything in it is served: what
    /// does not fit together is damage ([`Settings::with_on_damage`]). A store that does may have lost its last writes,
    /// as a whole or in part. Use it for data you can lose and recompute.
    Process,
    /// Every commit is synced to the device before [`Store::write`](crate::Store::write) returns. The default.
    #[default]
    System,
}

/// Who opens a directory; the engine follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Sharing {
    /// Any number of processes of one host: LMDB (cargo feature `lmdb`). The default.
    #[default]
    MultiProcess,
    /// One process at a time, with no C code: sled (cargo feature `sled`). A second process gets an error.
    SingleProcess,
}

/// What becomes of a store whose files are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnDamage {
    /// Opening it is [`OpenError::Damaged`], and the files are left as they are. The default: what a store held may be
    /// missed, and whoever owns it decides.
    #[default]
    Refuse,
    /// The files are moved to `quarantine-<n>` in the store's directory and an empty store takes their place, if no other
    /// process has them open; [`Store::recovered`](crate::Store::recovered) tells. For caches.
    Quarantine,
}

/// Options of [`Store::open`](crate::Store::open). All handles of one directory in one process must agree on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    sharing: Sharing,
    on_damage: OnDamage,
    durability: Durability,
    initial_map_bytes: u64,
    max_map_bytes: u64,
    allow_network_fs: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            sharing: Sharing::default(),
            on_damage: OnDamage::default(),
            durability: Durability::default(),
            initial_map_bytes: 1 << 20,
            max_map_bytes: if usize::BITS >= 64 { 16 << 30 } else { 1 << 30 },
            allow_network_fs: false,
        }
    }
}

impl Settings {
    /// The defaults: [`Sharing::MultiProcess`], [`Durability::System`], [`OnDamage::Refuse`], a map of 1 MiB that may grow to 16 GiB (1 GiB on 32-bit systems), no
    /// network file systems.
    pub fn new() -> Settings {
        Settings::default()
    }

    /// Who opens the directory, which decides the engine. Default: [`Sharing::MultiProcess`].
    ///
    /// A directory stays with the engine that made it: asking for the other one is an error.
    #[must_use]
    pub fn with_sharing(mut self, sharing: Sharing) -> Settings {
        self.sharing = sharing;
        self
    }

    /// What becomes of a store whose files are damaged. Default: [`OnDamage::Refuse`].
    #[must_use]
    pub fn with_on_damage(mut self, on_damage: OnDamage) -> Settings {
        self.on_damage = on_damage;
        self
    }

    /// What a commit survives. Default: [`Durability::System`].
    ///
    /// All who write to a store at a time must agree on it, or opening it is
    /// [`OpenError::DurabilityConflict`]: with LMDB, a commit that is not synced may reach the device in parts, over pages that
    /// an earlier, synced one is made of. When nobody writes to a store, the next who does may change it; what was committed
    /// before is synced first if it was not, and may be lost with what follows if that is not.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Settings {
        self.durability = durability;
        self
    }

    /// Bytes of address space mapped at first, rounded up to 64 KiB. Default: 1 MiB.
    ///
    /// For LMDB only. The map doubles whenever it is full. The data file is kept as long as the map, as a sparse file: only pages
    /// that were written take room on the device.
    #[must_use]
    pub fn with_initial_map_bytes(mut self, bytes: u64) -> Settings {
        self.initial_map_bytes = bytes;
        self
    }

    /// Bytes up to which this process grows the map, rounded down to 64 KiB. Default: 16 GiB (1 GiB on 32-bit systems).
    ///
    /// For LMDB only: sled's files have no bound. This bounds the data file. A write that does not fit is [`StoreError::Full`](crate::StoreError::Full); so may be
    /// a delete, which also needs free pages. A process with a larger bound can still grow the file, and this one then
    /// follows it.
    #[must_use]
    pub fn with_max_map_bytes(mut self, bytes: u64) -> Settings {
        self.max_map_bytes = bytes;
        self
    }

    /// Whether to open a directory on a network file system all the same. Default: no.
    ///
    /// Processes on different hosts that share a store destroy it. With one host only, it depends on whether the
    /// file system keeps memory maps and file locks coherent.
    #[must_use]
    pub fn with_allow_network_fs(mut self, allow: bool) -> Settings {
        self.allow_network_fs = allow;
        self
    }

    /// See [`with_sharing`](Settings::with_sharing).
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// See [`with_on_damage`](Settings::with_on_damage).
    pub fn on_damage(&self) -> OnDamage {
        self.on_damage
    }

    /// See [`with_durability`](Settings::with_durability).
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// See [`with_initial_map_bytes`](Settings::with_initial_map_bytes).
    pub fn initial_map_bytes(&self) -> u64 {
        self.initial_map_bytes
    }

    /// See [`with_max_map_bytes`](Settings::with_max_map_bytes).
    pub fn max_map_bytes(&self) -> u64 {
        self.max_map_bytes
    }

    /// See [`with_allow_network_fs`](Settings::with_allow_network_fs).
    pub fn allow_network_fs(&self) -> bool {
        self.allow_network_fs
    }

    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        let error = |field, value, rule| Err(OpenError::InvalidSettings { field, value, rule });
        let (initial, max) = (self.initial_map_bytes, self.max_map_bytes);
        if max < MIN_MAP_BYTES {
            return error("max_map_bytes", max, "give at least 64 KiB");
        }
        if usize::try_from(max).is_err() || max > 1 << 46 {
            return error("max_map_bytes", max, "give no more than the system can map, and at most 64 TiB");
        }
        if initial == 0 || initial > max / MIN_MAP_BYTES * MIN_MAP_BYTES {
            return error("initial_map_bytes", initial, "give at least 1 byte and at most max_map_bytes");
        }
        Ok(())
    }
}

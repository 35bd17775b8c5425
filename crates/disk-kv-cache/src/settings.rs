//! How a store is opened: durability, the size of the map, and where it may lie.

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Durability {
    /// A commit survives the death of any process (`kill -9` included), because it is in the kernel's page cache when
    /// [`Store::write`](crate::Store::write) returns; it is not synced to the device.
    ///
    /// **Not yet protected across a power cut or a kernel crash**: pages may reach the device out of order, so the
    /// store may be damaged afterwards and nothing detects that yet. Use it for data you can lose and recompute.
    Process,
    /// Every commit is synced to the device before [`Store::write`](crate::Store::write) returns. The default.
    #[default]
    System,
}

/// Options of [`Store::open`](crate::Store::open). All handles of one directory in one process must agree on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    durability: Durability,
    initial_map_bytes: u64,
    max_map_bytes: u64,
    allow_network_fs: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            durability: Durability::default(),
            initial_map_bytes: 1 << 20,
            max_map_bytes: if usize::BITS >= 64 { 16 << 30 } else { 1 << 30 },
            allow_network_fs: false,
        }
    }
}

impl Settings {
    /// The defaults: [`Durability::System`], a map of 1 MiB that may grow to 16 GiB (1 GiB on 32-bit systems), no
    /// network file systems.
    pub fn new() -> Settings {
        Settings::default()
    }

    /// What a commit survives. Default: [`Durability::System`].
    ///
    /// Processes may differ: a commit is as durable as the process that made it asked for.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Settings {
        self.durability = durability;
        self
    }

    /// Bytes of address space mapped at first, rounded up to 64 KiB. Default: 1 MiB.
    ///
    /// The map doubles whenever it is full. The data file is kept as long as the map, as a sparse file: only pages
    /// that were written take room on the device.
    #[must_use]
    pub fn with_initial_map_bytes(mut self, bytes: u64) -> Settings {
        self.initial_map_bytes = bytes;
        self
    }

    /// Bytes up to which this process grows the map, rounded down to 64 KiB. Default: 16 GiB (1 GiB on 32-bit systems).
    ///
    /// This bounds the data file. A write that does not fit is [`StoreError::Full`](crate::StoreError::Full); so may be
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
}

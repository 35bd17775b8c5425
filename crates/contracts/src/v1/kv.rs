//! Key-value stores: their health, and what `alluvium kv` says of one.
//!
//! Keys are texts here: each is the JSON that `alluvium kv DIR get --json-key` takes, written out. A key may be an integer of
//! 128 bits, bytes or a tuple, and 1 and 1.0 are two keys; as values of JSON some of them would be lost on the way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{Contract, Form, UnknownFields};
use crate::v1::sample;
use crate::words::words;

words!(
    /// Which entries go first when a store is full.
    EvictionPolicy {
        /// Those stored longest ago.
        LeastRecentlyStored => "least_recently_stored",
        /// Those read longest ago.
        LeastRecentlyUsed => "least_recently_used",
        /// Those read least often.
        LeastFrequentlyUsed => "least_frequently_used",
        /// None, unless they have expired.
        None => "none",
    }
);

/// One store of `kv/`: its settings, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvStats {
    /// When this was read, in milliseconds since 1970-01-01 UTC.
    pub event_time_unix_ms: i64,
    /// The kind of store: plan, extract, schema, repo_scan, runtime, queue, index or coordination; `cache` for one that
    /// was named by its directory.
    pub kind: String,
    /// The engine, such as `lmdb`.
    pub engine: String,
    /// The store's directory: relative to the key-value root, or as it was named.
    pub directory: String,
    /// Shards; 1 for a store that is not sharded.
    pub shards: u32,
    /// The store is culled beyond this many bytes; none for no limit.
    pub size_limit_bytes: Option<u64>,
    /// Entries that one write removes at most.
    pub cull_limit: u32,
    /// Which entries go first.
    pub eviction_policy: EvictionPolicy,
    /// Whether hits and misses are counted.
    pub statistics: bool,
    /// Whether entries are indexed by tag.
    pub tag_index: bool,
    /// Values from this many bytes on have files of their own; none where no value has.
    pub min_file_size_bytes: Option<u64>,
    /// Entries, expired ones included.
    pub entry_count: u64,
    /// Bytes of live keys and values.
    pub volume_bytes: u64,
    /// Bytes that the store's files take on the device.
    pub file_bytes: u64,
    /// Lookups that found an entry, since counting began; none where they are not counted.
    pub hits: Option<u64>,
    /// Lookups that found none, since counting began; none where they are not counted.
    pub misses: Option<u64>,
    /// Lookups that found a damaged entry; always counted.
    pub damaged: u64,
}

impl Contract for KvStats {
    const KIND: &'static str = "kv_stats";
    const VERSION: u32 = 1;
    const DOC: &'static str = "a key-value store: its settings, its volume, its hits and misses";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            event_time_unix_ms: sample::UNIX_MS,
            kind: "plan".to_owned(),
            engine: "lmdb".to_owned(),
            directory: "plan".to_owned(),
            shards: 1,
            size_limit_bytes: Some(512 << 20),
            cull_limit: 10,
            eviction_policy: EvictionPolicy::LeastRecentlyStored,
            statistics: true,
            tag_index: true,
            min_file_size_bytes: Some(32 << 10),
            entry_count: 22,
            volume_bytes: 1_204_881,
            file_bytes: 4 << 20,
            hits: Some(187),
            misses: Some(22),
            damaged: 0,
        }
    }
}

/// What `alluvium kv DIR ls --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvKeys {
    /// The store's directory, as it was named.
    pub directory: String,
    /// The keys in their order, each as `--json-key` takes it.
    pub keys: Vec<String>,
}

impl Contract for KvKeys {
    const KIND: &'static str = "kv_keys";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium kv DIR ls --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self { directory: "kv/plan".to_owned(), keys: sample::names(["42", "\"orders\"", "[\"orders\",7]"]) }
    }
}

words!(
    /// Why entries were removed.
    KvRemovalReason {
        /// One was named by its key.
        Delete => "delete",
        /// They had a tag.
        Evict => "evict",
        /// They had expired.
        Expire => "expire",
        /// They had expired, or the store was full.
        Cull => "cull",
        /// All were to go.
        Clear => "clear",
    }
);

/// What `alluvium kv DIR delete|evict|expire|cull|clear --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvRemoval {
    /// The store's directory, as it was named.
    pub directory: String,
    /// Why entries were removed.
    pub reason: KvRemovalReason,
    /// How many were.
    pub removed_count: u64,
}

impl Contract for KvRemoval {
    const KIND: &'static str = "kv_removal";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium kv DIR delete|evict|expire|cull|clear --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self { directory: "kv/plan".to_owned(), reason: KvRemovalReason::Evict, removed_count: 3 }
    }
}

words!(
    /// What is wrong in a store.
    KvProblemKind {
        /// An entry cannot be read.
        Entry => "entry",
        /// An entry is missing in an index.
        NotIndexed => "not_indexed",
        /// An index has a row that no entry stands behind.
        Stray => "stray",
        /// The recorded volume is not that of the entries.
        Volume => "volume",
        /// The row of settings and counters is damaged.
        State => "state",
        /// The next sequence number is in use already.
        Sequence => "sequence",
        /// A file that no entry refers to.
        OrphanFile => "orphan_file",
        /// A shard was lost, and begun anew without what it held.
        MissingShard => "missing_shard",
        /// Something that has no word here: see the message.
        Other => "other",
    }
);

words!(
    /// What is wrong with an entry.
    KvEntryDamage {
        /// Its row was changed or cut off.
        Row => "row",
        /// The file of its value is not there.
        MissingFile => "missing_file",
        /// The file of its value was changed or cut off.
        File => "file",
        /// Something that has no word here: see the message.
        Other => "other",
    }
);

/// What `alluvium kv DIR check --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvCheck {
    /// The store's directory, as it was named.
    pub directory: String,
    /// Whether what was found was mended too.
    pub mended: bool,
    /// What is wrong, or was; empty where nothing is.
    pub problems: Vec<KvProblem>,
}

/// One thing that is wrong in a store; what does not belong to its kind is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KvProblem {
    /// What is wrong.
    pub problem: KvProblemKind,
    /// The same, for people.
    pub message: String,
    /// The entry's key, as `--json-key` takes it.
    pub key: Option<String>,
    /// What is wrong with that entry.
    pub damage: Option<KvEntryDamage>,
    /// The table of the index.
    pub index: Option<String>,
    /// The row of the index, in base64.
    pub row_base64: Option<String>,
    /// The recorded volume.
    pub recorded_bytes: Option<u64>,
    /// The volume of the entries.
    pub counted_bytes: Option<u64>,
    /// The file's name in the directory of values.
    pub file_name: Option<String>,
}

impl KvProblem {
    /// A problem of which nothing but its kind and its message is known yet.
    #[must_use]
    pub fn new(problem: KvProblemKind, message: String) -> Self {
        Self {
            problem,
            message,
            key: None,
            damage: None,
            index: None,
            row_base64: None,
            recorded_bytes: None,
            counted_bytes: None,
            file_name: None,
        }
    }
}

impl Contract for KvCheck {
    const KIND: &'static str = "kv_check";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium kv DIR check --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let message = "entry \"orders\": the file of its value is not there".to_owned();
        Self {
            directory: "kv/plan".to_owned(),
            mended: false,
            problems: vec![KvProblem {
                key: Some("\"orders\"".to_owned()),
                damage: Some(KvEntryDamage::MissingFile),
                ..KvProblem::new(KvProblemKind::Entry, message)
            }],
        }
    }
}

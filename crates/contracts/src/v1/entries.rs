//! The documents of `alluvium cache`: the entries of a cache root, and what was done to them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::{CacheKey, ContentDigest, PlanFingerprint, SchemaHash};
use crate::envelope::{Contract, Form, UnknownFields};
use crate::ids::{EntryId, RunId};
use crate::v1::cache::CacheScope;
use crate::v1::explanation::MissExplanation;
use crate::v1::plan::Stability;
use crate::v1::sample::{self, names};
use crate::words::words;

words!(
    /// What an entry in a cache root is good for.
    EntryState {
        /// It has a row in the index: hits are served from it.
        Live => "live",
        /// It serves no new hit, and is deleted when those who may still read it are done.
        Condemned => "condemned",
        /// A directory without a row: superseded, unfinished, or to be adopted.
        Orphan => "orphan",
    }
);

/// One entry of a cache root: a Delta table of one version. What an orphan does not tell of itself is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CachedEntry {
    /// What it is an entry of: `view`, `dataset` or `artifact`.
    pub cache_scope: CacheScope,
    /// The view, dataset or artifact that wrote it.
    pub view_name: String,
    /// What it is good for.
    pub state: EntryState,
    /// The name of its directory.
    pub entry_id: EntryId,
    /// The key of its rows.
    pub cache_key: Option<CacheKey>,
    /// Its directory relative to the cache root.
    pub cache_path: String,
    /// The version of its Delta table.
    pub delta_version: Option<u64>,
    /// The digest of the published schema.
    pub schema_hash: Option<SchemaHash>,
    /// The plan fingerprint inside the key; none of what no plan computed.
    pub plan_fingerprint: Option<PlanFingerprint>,
    /// Whether computing it again must give the same rows.
    pub stability: Option<Stability>,
    /// The tags of its view when it was written.
    pub tags: Vec<String>,
    /// The run that wrote it.
    pub run_id: Option<RunId>,
    /// When it was written, in milliseconds since 1970-01-01 UTC.
    pub created_unix_ms: Option<i64>,
    /// How long it took to compute: what a hit saves.
    pub compute_ms: Option<f64>,
    /// Its rows.
    pub row_count: Option<u64>,
    /// Its data files.
    pub file_count: Option<u64>,
    /// Bytes in its data files; of an orphan, in all files that lie there.
    pub size_bytes: u64,
}

impl CachedEntry {
    fn example() -> Self {
        Self {
            cache_scope: CacheScope::View,
            view_name: "daily_delays".to_owned(),
            state: EntryState::Live,
            entry_id: EntryId::from_uuid(Uuid::from_u128(0x1c3f_7a52_8f0e_4b6d_a1c4_0e5d_2b7f_9a61)),
            cache_key: Some(CacheKey::of(b"daily_delays")),
            cache_path: "view_cache/daily_delays__5f/1c3f7a52-8f0e-4b6d-a1c4-0e5d2b7f9a61".to_owned(),
            delta_version: Some(0),
            schema_hash: Some(SchemaHash::of(b"daily_delays")),
            plan_fingerprint: Some(PlanFingerprint::of(b"daily_delays")),
            stability: Some(Stability::Exact),
            tags: names(["nightly"]),
            run_id: Some(sample::run_id()),
            created_unix_ms: Some(sample::UNIX_MS),
            compute_ms: Some(412.5),
            row_count: Some(181),
            file_count: Some(1),
            size_bytes: 48_213,
        }
    }
}

/// What `alluvium cache ls --format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheListing {
    /// The cache root.
    pub cache_root: String,
    /// The entries, by view, of each the newest first.
    pub entries: Vec<CachedEntry>,
    /// Bytes in all of them.
    pub size_bytes: u64,
}

impl Contract for CacheListing {
    const KIND: &'static str = "cache_listing";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium cache ls --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self { cache_root: ".alluvium".to_owned(), entries: vec![CachedEntry::example()], size_bytes: 48_213 }
    }
}

/// What `alluvium cache show --format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheEntryDocument {
    /// The entries that were asked for, the newest first.
    pub entries: Vec<CacheEntryDetail>,
}

/// Everything that is known of a live entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheEntryDetail {
    /// The entry.
    pub entry: CachedEntry,
    /// The fencing token of the lease under which it was published.
    pub fencing_token: u64,
    /// Its data files.
    pub files: Vec<CachedFile>,
    /// The components of its identity, by name.
    pub components: BTreeMap<String, String>,
    /// Why it was computed: what differed from the nearest earlier entry of its view. None where that was not recorded.
    pub explanation: Option<MissExplanation>,
}

/// One data file of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CachedFile {
    /// Its path relative to the entry's directory.
    pub path: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// The digest of its bytes.
    pub digest: ContentDigest,
    /// Its rows.
    pub row_count: u64,
}

impl Contract for CacheEntryDocument {
    const KIND: &'static str = "cache_entry_document";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium cache show --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let file = CachedFile {
            path: "part-00000-5d0c7a55.zstd.parquet".to_owned(),
            size_bytes: 48_213,
            digest: ContentDigest::of(b"daily_delays"),
            row_count: 181,
        };
        Self {
            entries: vec![CacheEntryDetail {
                entry: CachedEntry::example(),
                fencing_token: 1_768_456_800_007,
                files: vec![file],
                components: BTreeMap::from([("source flights: version".to_owned(), "42".to_owned())]),
                explanation: Some(MissExplanation::example()),
            }],
        }
    }
}

words!(
    /// What rehashing an entry came to.
    VerifyResult {
        /// Its commit and every byte are as they were written.
        Sound => "sound",
        /// Something is missing or changed; it was set aside.
        Damaged => "damaged",
    }
);

/// What `alluvium cache verify --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheVerification {
    /// Every live entry that was asked for, by view.
    pub entries: Vec<VerifiedEntry>,
    /// How many of them were damaged, and are in quarantine now.
    pub damaged_count: u64,
    /// What else was found damaged: rows of the index that do not decode.
    pub notices: Vec<String>,
}

/// One entry that was rehashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifiedEntry {
    /// What it is an entry of: `view`, `dataset` or `artifact`.
    pub cache_scope: CacheScope,
    /// The view, dataset or artifact that wrote it.
    pub view_name: String,
    /// The name of its directory.
    pub entry_id: EntryId,
    /// The key of its rows.
    pub cache_key: CacheKey,
    /// What it came to.
    pub result: VerifyResult,
    /// What is missing or changed.
    pub damage: Option<String>,
    /// Bytes that its files should have.
    pub size_bytes: u64,
}

impl Contract for CacheVerification {
    const KIND: &'static str = "cache_verification";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium cache verify --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let entry = CachedEntry::example();
        Self {
            entries: vec![VerifiedEntry {
                cache_scope: CacheScope::View,
                view_name: entry.view_name,
                entry_id: entry.entry_id,
                cache_key: CacheKey::of(b"daily_delays"),
                result: VerifyResult::Damaged,
                damage: Some("part-00000-5d0c7a55.zstd.parquet has other bytes than it was written with".to_owned()),
                size_bytes: 48_213,
            }],
            damaged_count: 1,
            notices: Vec::new(),
        }
    }
}

words!(
    /// How far the removal of an entry has come.
    RemovalResult {
        /// A dry run: it would be condemned.
        Planned => "planned",
        /// It serves no new hit; somebody who began before may still read it.
        Condemned => "condemned",
        /// Its files are gone.
        Deleted => "deleted",
        /// It stays: a kept run needs it to be replayed.
        Kept => "kept",
    }
);

/// What `alluvium cache evict|gc --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheRemoval {
    /// Whether nothing was done but to say what would be.
    pub dry_run: bool,
    /// The byte budget, where there is one.
    pub max_bytes: Option<u64>,
    /// Bytes in live entries before.
    pub live_bytes_before: u64,
    /// Bytes in live entries afterwards.
    pub live_bytes_after: u64,
    /// What was removed, or would be: what was condemned earlier first, then in the order of removal.
    pub entries: Vec<RemovedEntry>,
}

/// One entry that is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedEntry {
    /// What it is an entry of: `view`, `dataset` or `artifact`.
    pub cache_scope: CacheScope,
    /// The view, dataset or artifact that wrote it.
    pub view_name: String,
    /// The name of its directory.
    pub entry_id: EntryId,
    /// Its directory relative to the cache root.
    pub cache_path: String,
    /// Bytes in its files.
    pub size_bytes: u64,
    /// Why.
    pub reason: String,
    /// How far it has come.
    pub result: RemovalResult,
}

impl Contract for CacheRemoval {
    const KIND: &'static str = "cache_removal";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium cache evict|gc --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let entry = CachedEntry::example();
        Self {
            dry_run: false,
            max_bytes: Some(100 << 20),
            live_bytes_before: (100 << 20) + 48_213,
            live_bytes_after: 100 << 20,
            entries: vec![RemovedEntry {
                cache_scope: CacheScope::View,
                view_name: entry.view_name,
                entry_id: entry.entry_id,
                cache_path: entry.cache_path,
                size_bytes: entry.size_bytes,
                reason: "over the budget: saves 8.6 s a MB".to_owned(),
                result: RemovalResult::Deleted,
            }],
        }
    }
}

/// What `alluvium cache rebuild-index --format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CacheRebuild {
    /// Entries that had a row already.
    pub kept_count: u64,
    /// Entries that have one now, taken from their own commits.
    pub adopted: Vec<CachedEntry>,
    /// Directories that were left as they are, and why.
    pub left: Vec<LeftDirectory>,
    /// Rows that did not decode and were dropped.
    pub dropped_count: u64,
}

/// A directory of the cache that holds no entry that could be adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftDirectory {
    /// The directory relative to the cache root.
    pub cache_path: String,
    /// Why it was left.
    pub reason: String,
}

impl Contract for CacheRebuild {
    const KIND: &'static str = "cache_rebuild";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium cache rebuild-index --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        Self {
            kept_count: 21,
            adopted: vec![CachedEntry::example()],
            left: vec![LeftDirectory {
                cache_path: "view_cache/daily_delays__5f/77f0c1de-1b1a-4c1e-9d0a-58f0a9c3b2d4".to_owned(),
                reason: "it has no commit".to_owned(),
            }],
            dropped_count: 0,
        }
    }
}

/// What `alluvium cache export --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CacheExport {
    /// The view.
    pub view_name: String,
    /// The entry that was copied.
    pub entry_id: EntryId,
    /// The key of its rows.
    pub cache_key: CacheKey,
    /// The Delta table that was made, as it was named.
    pub table_path: String,
    /// Its rows.
    pub row_count: u64,
    /// Its data files.
    pub file_count: u64,
    /// Bytes in those files.
    pub size_bytes: u64,
}

impl Contract for CacheExport {
    const KIND: &'static str = "cache_export";
    const VERSION: u32 = 1;
    const DOC: &'static str = "what `alluvium cache export --format json` prints";
    const FORM: Form = Form::Enveloped;
    const UNKNOWN_FIELDS: UnknownFields = UnknownFields::Ignored;

    fn example() -> Self {
        let entry = CachedEntry::example();
        Self {
            view_name: entry.view_name,
            entry_id: entry.entry_id,
            cache_key: CacheKey::of(b"daily_delays"),
            table_path: "daily_delays".to_owned(),
            row_count: 181,
            file_count: 1,
            size_bytes: 48_213,
        }
    }
}

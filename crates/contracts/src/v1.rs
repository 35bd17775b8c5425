//! Version 1 of every contract, a module a family.
//!
//! Append-only: once a type of this module has been released its shape stays, and a change that a reader would notice
//! is a new type in a `v2` beside it. What may change within a version is what
//! [`breaking_changes`](crate::breaking_changes) lets through.

mod artifact;
mod cache;
mod commit;
mod dataset;
mod diagnostics;
mod doctor;
mod documents;
mod entries;
mod error_report;
mod explanation;
mod field;
mod history;
mod kv;
mod ledger;
mod lineage;
mod maintenance;
mod manifest;
mod pipeline;
mod plan;
mod profile;
mod sample;
mod semantic;
mod stats;
mod table;
mod transpile;
mod view_cache;
mod withheld;
mod write;
mod write_report;

pub use artifact::CacheArtifact;
pub use cache::{
    CacheOperation, CacheOperations, CacheOutcome, CachePolicy, CacheScope, LookupResult, OperationCount, ViewResult,
};
pub use commit::{CacheCommitMetadata, CommitMetadataError, DeltaInput};
/// By the name that a `[sources.NAME]` has for it.
pub use dataset::DatasetFormat as SourceFormat;
pub use dataset::{
    CdfCursor, CdfOptions, ColumnSpec, ConstraintSpec, DatasetCache, DatasetFormat, DatasetSpec, DeltaScanOptions,
    EvolutionSpec, OrderingSpec,
};
pub use diagnostics::{
    AdaptedColumn, AdaptedFiles, AdapterChoice, CacheRootOrigin, CacheRootReport, ColumnAdaptation, DiagnosticsEvent,
    DiagnosticsEventKind, PreparedAction, PreparedStatementUse, ScanConfiguration, SchemaAdapter, Severity,
};
pub use doctor::{CheckStatus, DoctorCheck, DoctorDocument, DoctorRoot, ReplayCheck, UnreplayableRun};
pub use documents::{
    OutputReport, OutputResult, PlanDocument, PlannedOutput, PlannedView, RunDocument, RunResult, ShadowResult,
    ViewReport,
};
pub use entries::{
    CacheEntryDetail, CacheEntryDocument, CacheExport, CacheListing, CacheRebuild, CacheRemoval, CacheVerification,
    CachedEntry, CachedFile, EntryState, LeftDirectory, RemovalResult, RemovedEntry, VerifiedEntry, VerifyResult,
};
pub use error_report::{ErrorCode, ErrorReport};
pub use explanation::{ComponentChange, MissExplanation, QueryChange, QueryChangeKind, QueryPart};
pub use field::FieldSpec;
pub use history::{
    ReplayDocument, ReplayInput, ReplayInputState, ReplayResult, ReplayedView, RunArtifact, RunDifference, RunList,
    RunRecord,
};
pub use kv::{
    EvictionPolicy, KvCheck, KvEntryDamage, KvKeys, KvProblem, KvProblemKind, KvRemoval, KvRemovalReason, KvStats,
};
pub use ledger::{CacheInventoryEntry, CacheRunSummary, CacheSnapshotEntry, EngineCache, LedgerEvent};
pub use lineage::{
    ColumnInfluence, ColumnLineage, ColumnRef, ColumnTransformation, DirectInput, IndirectInput, LineageDocument,
    LineageSummary, ViewLineage,
};
pub use maintenance::{MaintenanceEvent, MaintenanceOperation, MaintenanceResult};
pub use manifest::{CdfRange, DeltaInputPin, FilePin, InputKind, RunCommit, RunManifest, RunOutput, RunView};
pub use pipeline::{
    ForeignCommit, NameError, OutputSpec, PipelineSpec, SourcePath, SourceSpec, ViewSpec, validate_name,
};
pub use plan::{Identity, PlanBundleArtifact, PlanComponents, PlanEncoding, Stability};
pub use profile::{
    EngineCachePreset, EngineCachesSpec, FeatureSpec, KvCacheSpec, KvSpec, KvStoreSpec, MemoryPoolKind,
    MetadataSnapshots, ParquetSpec, Preset, ProfileSpec, SqlPolicy, StoredPlans,
};
pub use semantic::{SemanticColumnResult, SemanticColumnSpec, SemanticStatus, SemanticValidation};
pub use stats::{DeltaStatsDecision, StatsColumn, StatsReason};
pub use table::{TableCommit, TableDocument, TableHistory, TableMaintenance, TableVerification};
pub use transpile::{NotCarried, TargetDialect, TranspileDocument};
pub use view_cache::ViewCacheArtifact;
pub use write::{
    ColumnMapping, ColumnWriterProperties, Compression, DeltaFeature, DeltaSchemaPolicy, DeltaWritePolicy, GateMode,
    MaintenancePolicy, SchemaMode, StatisticsLevel, StatsPolicy, WriteMode, WriterPropertiesPolicy,
};
pub use write_report::{
    AppTransaction, FeatureReport, FeatureResult, FieldReport, OrderingKey, ProtocolReport, TableProtocol,
    WriteOutcome, WriteReport, WrittenFile,
};

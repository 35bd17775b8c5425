//! The latest version of every contract: what code outside this crate means by a name.
//!
//! A type that gains a second version changes its place here, and has both in the registry.

pub use crate::v1::{
    AdaptedColumn, AdaptedFiles, AdapterChoice, AppTransaction, CacheArtifact, CacheCommitMetadata, CacheEntryDetail,
    CacheEntryDocument, CacheExport, CacheInventoryEntry, CacheListing, CacheOperation, CacheOperations, CacheOutcome,
    CachePolicy, CacheRebuild, CacheRemoval, CacheRootOrigin, CacheRootReport, CacheRunSummary, CacheScope,
    CacheSnapshotEntry, CacheVerification, CachedEntry, CachedFile, CdfCursor, CdfOptions, CdfRange, CheckStatus,
    ColumnAdaptation, ColumnInfluence, ColumnLineage, ColumnMapping, ColumnRef, ColumnSpec, ColumnTransformation,
    ColumnWriterProperties, CommitMetadataError, ComponentChange, Compression, ConstraintSpec, DatasetCache,
    DatasetFormat, DatasetSpec, DeltaFeature, DeltaInput, DeltaInputPin, DeltaScanOptions, DeltaSchemaPolicy,
    DeltaStatsDecision, DeltaWritePolicy, DiagnosticsEvent, DiagnosticsEventKind, DirectInput, DoctorCheck,
    DoctorDocument, DoctorRoot, EngineCache, EngineCachePreset, EngineCachesSpec, EntryState, ErrorCode, ErrorReport,
    EvictionPolicy, EvolutionSpec, FeatureReport, FeatureResult, FeatureSpec, FieldReport, FieldSpec, FilePin,
    ForeignCommit, GateMode, Identity, IndirectInput, InputKind, KvCacheSpec, KvCheck, KvEntryDamage, KvKeys,
    KvProblem, KvProblemKind, KvRemoval, KvRemovalReason, KvSpec, KvStats, KvStoreSpec, LedgerEvent, LeftDirectory,
    LineageDocument, LineageSummary, LookupResult, MaintenanceEvent, MaintenanceOperation, MaintenancePolicy,
    MaintenanceResult, MemoryPoolKind, MetadataSnapshots, MissExplanation, NameError, NotCarried, OperationCount,
    OrderingKey, OrderingSpec, OutputReport, OutputResult, OutputSpec, ParquetSpec, PipelineSpec, PlanBundleArtifact,
    PlanComponents, PlanDocument, PlanEncoding, PlannedOutput, PlannedView, PreparedAction, PreparedStatementUse,
    Preset, ProfileSpec, ProtocolReport, QueryChange, QueryChangeKind, QueryPart, RemovalResult, RemovedEntry,
    ReplayCheck, ReplayDocument, ReplayInput, ReplayInputState, ReplayResult, ReplayedView, RunArtifact, RunCommit,
    RunDifference, RunDocument, RunList, RunManifest, RunOutput, RunRecord, RunResult, RunView, ScanConfiguration,
    SchemaAdapter, SchemaMode, SemanticColumnResult, SemanticColumnSpec, SemanticStatus, SemanticValidation, Severity,
    ShadowResult, SourceFormat, SourcePath, SourceSpec, SqlPolicy, Stability, StatisticsLevel, StatsColumn,
    StatsPolicy, StatsReason, StoredPlans, TableCommit, TableDocument, TableHistory, TableMaintenance, TableProtocol,
    TableVerification, TargetDialect, TranspileDocument, UnreplayableRun, VerifiedEntry, VerifyResult,
    ViewCacheArtifact, ViewLineage, ViewReport, ViewResult, ViewSpec, WriteMode, WriteOutcome, WriteReport,
    WriterPropertiesPolicy, WrittenFile, validate_name,
};

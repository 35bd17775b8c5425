//! The one place where sessions are made.

use std::collections::BTreeSet;
use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock};

use alluvium_contracts::MemoryPoolKind;
use alluvium_functions::Function;
use alluvium_telemetry::Diagnostics;
use datafusion::catalog::Session as _;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, GreedyMemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionContext;
use deltalake_core::delta_datafusion::planner::DeltaExtensionPlanner;
use object_store::ObjectStore;
use url::Url;

use crate::builtins::Builtins;
use crate::engine_tasks::carry_runs;
use crate::extension::{SessionExtension, SessionParts, Slot};
use crate::function_catalog::{self, CatalogFunction};
use crate::planner::CombinedPlanner;
use crate::prepared::{Entry, Registry};
use crate::query_error::QueryError;
use crate::runtime_profile::RuntimeProfile;
use crate::semantic_unions::SemanticUnions;
use crate::session::{Session, SessionFunctions};
use crate::settings::session_config;

/// How many operators an out-of-memory error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not 0");

/// Why no session could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A value of the profile is out of its range.
    #[error("`{setting}` = {value} of the profile cannot be: {rule}")]
    Setting {
        /// The key under `[profile]`.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// What is allowed.
        rule: &'static str,
    },
    /// Nothing fills a slot that has to be filled.
    #[error("nothing fills the slot `{slot}` of the session: give the factory an extension for it")]
    MissingSlot {
        /// The slot.
        slot: Slot,
    },
    /// An extension could not be installed.
    #[error("the slot `{slot}` of the session could not be filled")]
    Extension {
        /// The slot.
        slot: Slot,
        /// What the extension says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The engine refused its runtime, as a rule because there is no temporary directory to spill to.
    #[error(
        "the engine's runtime could not be made: see that `spill_directory` of [profile], else the system's directory for \
         temporary files, can be written"
    )]
    Runtime {
        /// The engine's word.
        source: Box<DataFusionError>,
    },
}

/// Makes sessions that are alike. No other code makes any.
#[derive(Debug)]
pub struct SessionFactory {
    profile: RuntimeProfile,
    extensions: Vec<Arc<dyn SessionExtension>>,
    required: BTreeSet<Slot>,
    diagnostics: Option<Diagnostics>,
    shared: OnceLock<Session>,
}

/// A clone makes the same sessions; the one that callers of [`session_context`](SessionFactory::session_context) share is its own.
impl Clone for SessionFactory {
    fn clone(&self) -> Self {
        let Self { profile, extensions, required, diagnostics, shared: _ } = self;
        Self {
            profile: profile.clone(),
            extensions: extensions.clone(),
            required: required.clone(),
            diagnostics: diagnostics.clone(),
            shared: OnceLock::new(),
        }
    }
}

impl SessionFactory {
    /// Sessions of `profile`, which read local files (`file://`).
    #[must_use]
    pub fn new(profile: RuntimeProfile) -> Self {
        Self { profile, extensions: Vec::new(), required: BTreeSet::new(), diagnostics: None, shared: OnceLock::new() }
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &RuntimeProfile {
        &self.profile
    }

    /// Reads whatever `url` covers (scheme and host) from `store`; `file:///` replaces the local files.
    #[must_use]
    pub fn with_object_store(self, url: Url, store: Arc<dyn ObjectStore>) -> Self {
        self.with_extension(Arc::new(GivenStore { url, store }))
    }

    /// Fills a [`Slot`] of every session.
    #[must_use]
    pub fn with_extension(mut self, extension: Arc<dyn SessionExtension>) -> Self {
        self.extensions.push(extension);
        // Slots are filled in their order; within one, the first given is the first.
        self.extensions.sort_by_key(|extension| extension.slot());
        self.shared = OnceLock::new();
        self
    }

    /// Makes no session unless something fills this slot.
    #[must_use]
    pub fn requiring(mut self, slot: Slot) -> Self {
        self.required.insert(slot);
        self
    }

    /// Tells of prepared statements here. Default: nobody is told.
    #[must_use]
    pub fn with_diagnostics(mut self, diagnostics: Diagnostics) -> Self {
        self.diagnostics = Some(diagnostics);
        self.shared = OnceLock::new();
        self
    }

    /// The one session that everybody who asks for it shares: made when it is first asked for, and kept.
    ///
    /// # Errors
    /// As [`ephemeral_context`](Self::ephemeral_context).
    pub fn session_context(&self) -> Result<Session, SessionError> {
        if let Some(session) = self.shared.get() {
            return Ok(session.clone());
        }
        let session = self.build()?;
        Ok(self.shared.get_or_init(|| session).clone())
    }

    /// A session of its own, with nothing registered and nothing remembered, that knows what
    /// [`session_context`](Self::session_context) knew at first.
    ///
    /// # Errors
    /// [`SessionError::Setting`] if the profile declares a zero, [`SessionError::MissingSlot`] and
    /// [`SessionError::Extension`] from what upper crates bring, [`SessionError::Runtime`] from the engine.
    pub fn ephemeral_context(&self) -> Result<Session, SessionError> {
        self.build()
    }

    /// [`ephemeral_context`](Self::ephemeral_context): the engine's functions and formats, the planner that Delta tables need to
    /// be read and written, what fills the slots, and nothing registered. Every session has a runtime of its own (memory pool, spill
    /// directory).
    ///
    /// # Errors
    /// As there.
    #[expect(clippy::disallowed_methods, reason = "this is the factory that the ban points to")]
    pub fn build(&self) -> Result<Session, SessionError> {
        for (setting, value) in
            [("target_partitions", self.profile.target_partitions()), ("batch_size", self.profile.batch_size())]
        {
            if value == 0 {
                return Err(SessionError::Setting { setting, value: 0, rule: "it is at least 1" });
            }
        }
        carry_runs();
        let parts = self.parts()?;
        let prepared = Registry::default();
        for (name, sql) in &parts.prepared {
            let refused = |source: QueryError| SessionError::Extension {
                slot: Slot::PreparedStatements,
                source: Box::new(source),
            };
            prepared.insert(Entry::parse(name, sql).map_err(refused)?).map_err(refused)?;
        }
        let runtime = self.runtime()?;
        for (url, store) in &parts.object_stores {
            runtime.register_object_store(url, Arc::clone(store));
        }
        let mut builder = SessionStateBuilder::new()
            .with_config(session_config(&self.profile))
            .with_runtime_env(runtime)
            .with_default_features()
            .with_query_planner(Arc::new(CombinedPlanner::new(parts.extension_planners)));
        builder = builder.with_analyzer_rule(Arc::new(SemanticUnions));
        for rule in parts.physical_rules {
            builder = builder.with_physical_optimizer_rule(rule);
        }
        for (name, factory) in parts.table_factories {
            builder = builder.with_table_factory(name, factory);
        }
        if let Some(factory) = parts.cache_factory {
            builder = builder.with_cache_factory(Some(factory));
        }
        let state = builder.build();
        for registration in parts.extension_types {
            let added = state.extension_type_registry().add_extension_type_registration(registration);
            added.map_err(|source| SessionError::Extension { slot: Slot::SchemaRegistry, source: Box::new(source) })?;
        }
        let builtins = Builtins::of(&state);
        let context = SessionContext::new_with_state(state);
        for (name, catalog) in parts.catalogs {
            context.register_catalog(name, catalog);
        }
        for function in parts.functions {
            match function {
                Function::Scalar(function) => context.register_udf(Arc::unwrap_or_clone(function)),
                Function::Aggregate(function) => context.register_udaf(Arc::unwrap_or_clone(function)),
                Function::Window(function) => context.register_udwf(Arc::unwrap_or_clone(function)),
            }
        }
        let functions = Arc::new(SessionFunctions { builtins, versions: parts.versions });
        context.register_udtf(function_catalog::NAME, Arc::new(CatalogFunction(Arc::clone(&functions))));
        for (name, function) in parts.table_functions {
            context.register_udtf(&name, function);
        }
        Ok(Session::new(context, functions, parts.external_tables, &self.profile, prepared, self.diagnostics.clone()))
    }

    /// What fills the slots, in their order.
    fn parts(&self) -> Result<SessionParts, SessionError> {
        let filled: BTreeSet<_> = self.extensions.iter().map(|extension| extension.slot()).collect();
        if let Some(slot) = self.required.difference(&filled).next() {
            return Err(SessionError::MissingSlot { slot: *slot });
        }
        let mut parts = SessionParts::default();
        // Without it no Delta write can be planned.
        parts.extension_planner(DeltaExtensionPlanner::new());
        alluvium_functions::functions().iter().cloned().for_each(|function| parts.versioned_function(function));
        for extension in &self.extensions {
            let slot = extension.slot();
            extension.install(&mut parts).map_err(|source| SessionError::Extension { slot, source })?;
        }
        Ok(parts)
    }

    fn runtime(&self) -> Result<Arc<RuntimeEnv>, SessionError> {
        let mut builder = self.profile.engine_caches().apply(RuntimeEnvBuilder::new());
        builder = builder.with_max_temp_directory_size(self.profile.spill_limit_bytes());
        if let Some(directory) = self.profile.spill_directory() {
            builder = builder.with_temp_file_path(directory);
        }
        if let Some(bytes) = self.profile.memory_limit_bytes() {
            let rule = "it is at least 1 and fits the machine's word";
            let refused = || SessionError::Setting { setting: "memory_limit_bytes", value: bytes, rule };
            let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(refused)?;
            builder = builder.with_memory_pool(match self.profile.memory_pool() {
                MemoryPoolKind::Fair => Arc::new(TrackConsumersPool::new(FairSpillPool::new(bytes), CONSUMERS_NAMED)),
                MemoryPoolKind::Greedy => {
                    Arc::new(TrackConsumersPool::new(GreedyMemoryPool::new(bytes), CONSUMERS_NAMED))
                }
            });
        }
        builder.build_arc().map_err(|source| SessionError::Runtime { source: Box::new(source) })
    }
}

/// The store of [`SessionFactory::with_object_store`].
#[derive(Debug)]
struct GivenStore {
    url: Url,
    store: Arc<dyn ObjectStore>,
}

impl SessionExtension for GivenStore {
    fn slot(&self) -> Slot {
        Slot::ObjectStores
    }

    fn install(&self, parts: &mut SessionParts) -> Result<(), Box<dyn Error + Send + Sync>> {
        parts.object_store(self.url.clone(), Arc::clone(&self.store));
        Ok(())
    }
}

#[cfg(test)]
mod tests;

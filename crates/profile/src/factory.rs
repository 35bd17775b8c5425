//! The one place where sessions are made.

use std::num::NonZeroUsize;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionContext;
use deltalake_core::delta_datafusion::planner::DeltaPlanner;
use object_store::ObjectStore;
use url::Url;

use crate::runtime_profile::RuntimeProfile;
use crate::session::Session;
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
    /// The engine refused its runtime, as a rule because there is no temporary directory to spill to.
    #[error("the engine's runtime could not be made: see that the system's temporary directory can be written")]
    Runtime {
        /// The engine's word.
        source: Box<DataFusionError>,
    },
}

/// Makes sessions that are alike. No other code makes any.
#[derive(Debug)]
pub struct SessionFactory {
    profile: RuntimeProfile,
    object_stores: Vec<(Url, Arc<dyn ObjectStore>)>,
}

impl SessionFactory {
    /// Sessions of `profile`, which read local files (`file://`).
    #[must_use]
    pub fn new(profile: RuntimeProfile) -> Self {
        Self { profile, object_stores: Vec::new() }
    }

    /// Reads whatever `url` covers (scheme and host) from `store`; `file:///` replaces the local files.
    #[must_use]
    pub fn with_object_store(mut self, url: Url, store: Arc<dyn ObjectStore>) -> Self {
        self.object_stores.push((url, store));
        self
    }

    /// Makes a session: the engine's functions and formats, the planner that Delta tables need to be read and written, and
    /// nothing registered. Every session has a runtime of its own (memory pool, spill directory).
    ///
    /// # Errors
    /// [`SessionError::Setting`] if the profile declares a zero; [`SessionError::Runtime`] from the engine.
    #[expect(clippy::disallowed_methods, reason = "this is the factory that the ban points to")]
    pub fn build(&self) -> Result<Session, SessionError> {
        let partitions = self.profile.target_partitions();
        if partitions == 0 {
            return Err(SessionError::Setting { setting: "target_partitions", value: 0, rule: "it is at least 1" });
        }
        let runtime = self.runtime()?;
        for (url, store) in &self.object_stores {
            runtime.register_object_store(url, Arc::clone(store));
        }
        let state = SessionStateBuilder::new()
            .with_config(session_config(partitions))
            .with_runtime_env(runtime)
            .with_default_features()
            // The engine's planner with Delta's extension nodes, without which no Delta write can be planned.
            .with_query_planner(DeltaPlanner::new())
            .build();
        Ok(Session::new(SessionContext::new_with_state(state)))
    }

    fn runtime(&self) -> Result<Arc<RuntimeEnv>, SessionError> {
        let mut builder = RuntimeEnvBuilder::new()
            // A listing kept for ever hides new files. Statistics and footers are kept by path, size and mtime, which a
            // rewrite may leave alone: new bytes would be read by an old footer, under a pin that had seen the change.
            .with_object_list_cache_limit(0)
            .with_file_statistics_cache_limit(0)
            .with_metadata_cache_limit(0);
        if let Some(bytes) = self.profile.memory_limit_bytes() {
            let rule = "it is at least 1 and fits the machine's word";
            let refused = || SessionError::Setting { setting: "memory_limit_bytes", value: bytes, rule };
            let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(refused)?;
            let pool = TrackConsumersPool::new(FairSpillPool::new(bytes), CONSUMERS_NAMED);
            builder = builder.with_memory_pool(Arc::new(pool));
        }
        builder.build_arc().map_err(|source| SessionError::Runtime { source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests;

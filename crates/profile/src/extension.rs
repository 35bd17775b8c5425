//! What upper crates bring into every session, slot by slot.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use alluvium_functions::{Function, VersionedFunction};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, TableFunctionImpl, TableProviderFactory};
use datafusion::execution::session_state::CacheFactory;
use datafusion::logical_expr::registry::ExtensionTypeRegistrationRef;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_planner::ExtensionPlanner;
use datafusion::sql::parser::CreateExternalTable;
use object_store::ObjectStore;
use url::Url;

use crate::function_versions::FunctionVersions;
use crate::session::Session;

/// The places of a session that can be filled, in the order in which they are.
///
/// Within a slot extensions are installed in the order in which the factory got them, and a later one replaces what an
/// earlier one installed under the same name.
///
/// There is none for expression adapters, by which the engine reads files of an older schema: a dataset declares how its files are
/// read, and its pin says so. An adapter of the session would read the files of a pin otherwise, and move no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Slot {
    /// Where files are read from.
    ObjectStores,
    /// Catalogs beside the default one.
    Catalogs,
    /// Functions, and planners of their nodes. Those of `alluvium-functions` are in place before it.
    Functions,
    /// Factories of tables, and planners of their nodes. The session's own Delta planner is in place before it.
    DeltaTables,
    /// What the session knows of the types of columns beyond those of arrow.
    SchemaRegistry,
    /// Statements that are there from the start. The system queries are in place before it.
    PreparedStatements,
    /// Table functions that tell of the session. `function_catalog()` is in place before it.
    Introspection,
    /// What `DataFrame::cache` does.
    CacheFactory,
    /// What watches plans as they run; last, so that it sees what everybody else did.
    Tracing,
}

impl Slot {
    /// All slots, in their order.
    pub const ALL: [Self; 9] = [
        Self::ObjectStores,
        Self::Catalogs,
        Self::Functions,
        Self::DeltaTables,
        Self::SchemaRegistry,
        Self::PreparedStatements,
        Self::Introspection,
        Self::CacheFactory,
        Self::Tracing,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ObjectStores => "object stores",
            Self::Catalogs => "catalogs",
            Self::Functions => "functions",
            Self::DeltaTables => "delta tables",
            Self::SchemaRegistry => "schema registry",
            Self::PreparedStatements => "prepared statements",
            Self::Introspection => "introspection functions",
            Self::CacheFactory => "cache factory",
            Self::Tracing => "tracing",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Fills a slot of every session that a factory makes. The factory calls it once a session, so it hands out shared parts.
pub trait SessionExtension: fmt::Debug + Send + Sync {
    /// The slot.
    fn slot(&self) -> Slot;

    /// Adds to a session that is being made.
    ///
    /// # Errors
    /// Whatever keeps it from doing so; then no session is made.
    fn install(&self, parts: &mut SessionParts) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// Makes and registers the table of a `CREATE EXTERNAL TABLE`, from the statement as it was written.
///
/// The engine's own [`TableProviderFactory`] sees a plan of it, which has lost what the statement said: text has become a view of
/// text, options have changed their names, and `OR REPLACE` has taken the old table away before there is a new one.
#[async_trait]
pub trait ExternalTableFactory: fmt::Debug + Send + Sync {
    /// Registers the table with `session`, whose SQL policy has let the statement through.
    ///
    /// # Errors
    /// Whatever keeps it from doing so; then nothing is registered. What an error says shows nobody's credentials.
    async fn create(&self, session: &Session, table: CreateExternalTable) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// A session that is being made: what extensions have added to it so far.
#[derive(Default)]
pub struct SessionParts {
    pub(crate) object_stores: Vec<(Url, Arc<dyn ObjectStore>)>,
    pub(crate) catalogs: Vec<(String, Arc<dyn CatalogProvider>)>,
    pub(crate) functions: Vec<Function>,
    pub(crate) versions: FunctionVersions,
    pub(crate) table_functions: Vec<(String, Arc<dyn TableFunctionImpl>)>,
    pub(crate) extension_planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>,
    pub(crate) table_factories: Vec<(String, Arc<dyn TableProviderFactory>)>,
    pub(crate) external_tables: BTreeMap<String, Arc<dyn ExternalTableFactory>>,
    pub(crate) extension_types: Vec<ExtensionTypeRegistrationRef>,
    pub(crate) prepared: Vec<(String, String)>,
    pub(crate) cache_factory: Option<Arc<dyn CacheFactory>>,
    pub(crate) physical_rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
}

impl SessionParts {
    /// Reads whatever `url` covers (scheme and host) from `store`.
    pub fn object_store(&mut self, url: Url, store: Arc<dyn ObjectStore>) {
        self.object_stores.push((url, store));
    }

    /// A catalog of its own name.
    pub fn catalog(&mut self, name: impl Into<String>, catalog: Arc<dyn CatalogProvider>) {
        self.catalogs.push((name.into(), catalog));
    }

    /// A function that says which definition of it this is, so that what calls it can be cached: the version is part of the
    /// identity. It stands for the function's whole behaviour, so whoever changes a result raises it.
    pub fn versioned_function(&mut self, function: VersionedFunction) {
        self.functions.push(function.function().clone());
        self.versions.insert(function);
    }

    /// A function of values without a version: what calls it is not cached.
    pub fn scalar_function(&mut self, function: Arc<ScalarUDF>) {
        self.functions.push(Function::Scalar(function));
    }

    /// A function of groups without a version: what calls it is not cached.
    pub fn aggregate_function(&mut self, function: Arc<AggregateUDF>) {
        self.functions.push(Function::Aggregate(function));
    }

    /// A function of windows without a version: what calls it is not cached.
    pub fn window_function(&mut self, function: Arc<WindowUDF>) {
        self.functions.push(Function::Window(function));
    }

    /// A function of FROM. Whoever installs one vouches for what it reads: every SQL policy lets it through.
    pub fn table_function(&mut self, name: impl Into<String>, function: Arc<dyn TableFunctionImpl>) {
        self.table_functions.push((name.into(), function));
    }

    /// Plans the extension nodes that it knows; of several the first that does.
    pub fn extension_planner(&mut self, planner: Arc<dyn ExtensionPlanner + Send + Sync>) {
        self.extension_planners.push(planner);
    }

    /// Makes the tables of `CREATE EXTERNAL TABLE … STORED AS name`, and comes before a [table factory](Self::table_factory) of
    /// this name.
    pub fn external_table_factory(&mut self, name: impl Into<String>, factory: Arc<dyn ExternalTableFactory>) {
        self.external_tables.insert(name.into().to_uppercase(), factory);
    }

    /// Makes the tables of `CREATE EXTERNAL TABLE … STORED AS name` as the engine does.
    pub fn table_factory(&mut self, name: impl Into<String>, factory: Arc<dyn TableProviderFactory>) {
        self.table_factories.push((name.into().to_uppercase(), factory));
    }

    /// What columns are whose metadata name this extension type: the engine shows their values by it. Those that arrow itself
    /// defines are known.
    pub fn extension_type(&mut self, registration: ExtensionTypeRegistrationRef) {
        self.extension_types.push(registration);
    }

    /// A statement that is prepared from the start: `sql` is what stands behind `PREPARE name AS`. It is parsed now and
    /// planned when it is executed.
    pub fn prepared(&mut self, name: impl Into<String>, sql: impl Into<String>) {
        self.prepared.push((name.into(), sql.into()));
    }

    /// What `DataFrame::cache` does.
    pub fn cache_factory(&mut self, factory: Arc<dyn CacheFactory>) {
        self.cache_factory = Some(factory);
    }

    /// A rule behind the engine's own.
    pub fn physical_rule(&mut self, rule: Arc<dyn PhysicalOptimizerRule + Send + Sync>) {
        self.physical_rules.push(rule);
    }
}

#[cfg(test)]
mod tests;

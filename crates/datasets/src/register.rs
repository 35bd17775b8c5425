//! The one function in which every registration of a dataset ends.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::DatasetCache;
use alluvium_profile::Session;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

use crate::changes::changes_name;
use crate::changes_table::ChangesTable;
use crate::ddl::{CreateDataset, DdlError, Existing, parse_create_external_table};
use crate::table_constraints::describe_dataset;
use crate::{ChangedError, Dataset, PinError, PinnedDataset, Pinner, SpecError};

/// Why a dataset could not be registered. Then nothing has been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The statement declares no dataset.
    #[error("the statement declares no dataset")]
    Ddl {
        /// What is wrong with it.
        source: Box<DdlError>,
    },
    /// The dataset cannot be as it is declared.
    #[error("the dataset cannot be as it is declared")]
    Spec {
        /// What is wrong with which field.
        source: Box<SpecError>,
    },
    /// It cannot be pinned.
    #[error("the dataset `{dataset}` could not be registered")]
    Pin {
        /// The dataset.
        dataset: String,
        /// What is wrong with it.
        source: Box<PinError>,
    },
    /// It changed while it was read into memory.
    #[error("the dataset `{dataset}` changed while it was read into memory")]
    Changed {
        /// The dataset.
        dataset: String,
        /// What changed.
        source: Box<ChangedError>,
    },
    /// It is to be kept on disk, and a registration alone has no place for that.
    #[error(
        "the dataset `{dataset}` asks for `cache = \"delta_staging\"`, which needs a cache root: register it through \
         `DeltaCache::register_dataset` of alluvium-delta-cache, or set `cache` to \"memory\" or \"none\""
    )]
    NoCacheRoot {
        /// The dataset.
        dataset: String,
    },
    /// A table of its name is there already.
    #[error("the dataset `{dataset}` could not be registered: a table of this name is there; deregister it first")]
    Exists {
        /// The dataset.
        dataset: String,
    },
    /// The session refused it.
    #[error("the session refused the dataset `{dataset}`")]
    Session {
        /// The dataset.
        dataset: String,
        /// The engine's word.
        source: Box<DataFusionError>,
    },
}

/// What came of a registration.
#[derive(Debug, Clone)]
#[must_use]
pub enum Registration {
    /// The dataset is registered as it was pinned.
    Registered(PinnedDataset),
    /// A table of its name was there and was to be kept.
    Kept,
}

/// Pins `dataset` and registers it with `session` under exactly its name, in the default schema, and its changes beside it
/// as `<name>__cdf`, if it declares `cdf`. A table of such a name is an error.
///
/// With `cache = "memory"` it is read once, now, and registered from memory, unless it has more columns than
/// `cache_max_columns`. `cache = "delta_staging"` is refused here: it needs a cache root, which alluvium-delta-cache has.
///
/// `alluvium.table_constraints` then has what is declared of its rows.
///
/// The answer is what was registered: its identity, and [`PinnedDataset::recheck`], which belongs between the last row that
/// was read and whatever is published of it.
///
/// # Errors
/// As the variants of [`RegisterError`] say.
pub async fn register_dataset(
    session: &Session,
    pinner: &Pinner,
    dataset: &Dataset,
) -> Result<PinnedDataset, RegisterError> {
    match register(session, pinner, dataset, Existing::Refuse).await? {
        Registration::Registered(pinned) => Ok(pinned),
        Registration::Kept => unreachable!("only what is to be kept is kept"),
    }
}

/// Registers what a `CREATE EXTERNAL TABLE` declares, as [`register_dataset`] does. Relative locations are relative to
/// `base_dir`.
///
/// This is a call of the host, not of a user's SQL: the session's SQL policy is not asked. With [`ExternalDatasets`](crate::ExternalDatasets)
/// a session's own SQL does the same, under its policy.
///
/// # Errors
/// As the variants of [`RegisterError`] say.
pub async fn register_dataset_ddl(
    session: &Session,
    pinner: &Pinner,
    sql: &str,
    base_dir: &Path,
) -> Result<Registration, RegisterError> {
    register_created(session, pinner, parse_create_external_table(sql), base_dir).await
}

/// Registers what a statement was read as.
pub(crate) async fn register_created(
    session: &Session,
    pinner: &Pinner,
    created: Result<CreateDataset, DdlError>,
    base_dir: &Path,
) -> Result<Registration, RegisterError> {
    let created = created.map_err(|source| RegisterError::Ddl { source: Box::new(source) })?;
    let dataset = Dataset::resolve(&created.name, &created.spec, base_dir)
        .map_err(|source| RegisterError::Spec { source: Box::new(source) })?;
    register(session, pinner, &dataset, created.existing).await
}

async fn register(
    session: &Session,
    pinner: &Pinner,
    dataset: &Dataset,
    existing: Existing,
) -> Result<Registration, RegisterError> {
    let context = session.context();
    let failed = Failed(dataset.name());
    if dataset.cache() == DatasetCache::DeltaStaging {
        return Err(RegisterError::NoCacheRoot { dataset: dataset.name().to_owned() });
    }
    // A bare string would be parsed as SQL and lose its capitals.
    let table = TableReference::bare(dataset.name());
    let exists = context.table_exist(table.clone()).map_err(|source| failed.session(source))?;
    match existing {
        Existing::Refuse if exists => return Err(RegisterError::Exists { dataset: dataset.name().to_owned() }),
        Existing::Keep if exists => return Ok(Registration::Kept),
        Existing::Refuse | Existing::Keep | Existing::Replace => {}
    }
    let pinned = pinner.pin(context, dataset).await.map_err(|source| failed.pin(source))?;
    let mut provider = pinned.provider().map_err(|source| failed.pin(source))?;
    if dataset.cache() == DatasetCache::Memory && pinned.schema().fields().len() <= dataset.cache_max_columns() {
        provider = in_memory(context, provider).await.map_err(|source| failed.session(source))?;
        pinned.recheck().map_err(|source| failed.changed(source))?;
    }
    enter(session, &pinned, provider, existing).await?;
    Ok(Registration::Registered(pinned))
}

/// Registers what was pinned under exactly its name, scanned by `provider`: a table that stands in for its files, with
/// their rows and columns. Its changes are registered beside it, if it declares `cdf`. A table of such a name is an error.
///
/// # Errors
/// As the variants of [`RegisterError`] say.
pub async fn register_pinned(
    session: &Session,
    pinned: &PinnedDataset,
    provider: Arc<dyn TableProvider>,
) -> Result<(), RegisterError> {
    let table = TableReference::bare(pinned.name());
    let exists = session.context().table_exist(table).map_err(|source| Failed(pinned.name()).session(source))?;
    if exists {
        return Err(RegisterError::Exists { dataset: pinned.name().to_owned() });
    }
    enter(session, pinned, provider, Existing::Refuse).await
}

#[expect(clippy::disallowed_methods, reason = "the one place where datasets enter a session")]
async fn enter(
    session: &Session,
    pinned: &PinnedDataset,
    provider: Arc<dyn TableProvider>,
    existing: Existing,
) -> Result<(), RegisterError> {
    let context = session.context();
    let failed = Failed(pinned.name());
    // A bare string would be parsed as SQL and lose its capitals.
    let table = TableReference::bare(pinned.name());
    let mut tables = vec![(table.clone(), provider)];
    let name = changes_name(pinned.name());
    if let Some(changes) = pinned.changes() {
        let table = TableReference::bare(name.as_str());
        let exists = context.table_exist(table.clone()).map_err(|source| failed.session(source))?;
        if existing != Existing::Replace && exists {
            return Err(RegisterError::Exists { dataset: name });
        }
        let provider = changes.provider(context).map_err(|source| {
            failed.pin(PinError::Changes { dataset: pinned.name().to_owned(), source: Box::new(source) })
        })?;
        tables.push((table, provider));
    } else if is_changes(context, &name).await.map_err(|source| failed.session(source))? {
        // Of a dataset of this name that is no more.
        context.deregister_table(TableReference::bare(name)).map_err(|source| failed.session(source))?;
    }
    for (table, provider) in tables {
        context.deregister_table(table.clone()).map_err(|source| failed.session(source))?;
        context.register_table(table, provider).map_err(|source| failed.session(source))?;
    }
    describe_dataset(session, table, pinned).await.map_err(|source| failed.session(source))
}

/// Whether the table is what a dataset's changes were registered as. Another may have the name too.
async fn is_changes(context: &SessionContext, name: &str) -> Result<bool, DataFusionError> {
    let table = TableReference::bare(name);
    if !context.table_exist(table.clone())? {
        return Ok(false);
    }
    Ok(context.table_provider(table).await?.downcast_ref::<ChangesTable>().is_some())
}

/// Errors of the dataset of this name.
struct Failed<'a>(&'a str);

impl Failed<'_> {
    fn pin(&self, source: PinError) -> RegisterError {
        RegisterError::Pin { dataset: self.0.to_owned(), source: Box::new(source) }
    }

    fn changed(&self, source: ChangedError) -> RegisterError {
        RegisterError::Changed { dataset: self.0.to_owned(), source: Box::new(source) }
    }

    fn session(&self, source: DataFusionError) -> RegisterError {
        RegisterError::Session { dataset: self.0.to_owned(), source: Box::new(source) }
    }
}

/// All rows, in the partitions in which they were read.
async fn in_memory(
    context: &SessionContext,
    provider: Arc<dyn TableProvider>,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let schema = provider.schema();
    let partitions = context.read_table(provider)?.collect_partitioned().await?;
    Ok(Arc::new(MemTable::try_new(schema, partitions)?))
}

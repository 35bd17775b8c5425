//! Asking: SQL over everything that the pipeline knows.
//!
//! | name | what |
//! |---|---|
//! | `NAME` | a source or view; an output too, where neither has its name |
//! | `NAME__cdf` | the changes of a source that a run would read now |
//! | `outputs.NAME` | an output, as its table stands |
//! | `alluvium.NAME` | a ledger |
//! | `metadata_cache_snapshots.NAME` | the newest snapshot of one of the engine's caches |
//! | `view_cache.NAME` … | a live entry: see [`entries`](crate::entries) |
//! | `alluvium.bytes_by_scope` | what the caches and the outputs hold now |
//! | `alluvium.table_constraints` | what is declared of the rows of sources |

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_contracts::{SourceFormat, SourcePath, SourceSpec, TargetDialect, TranspileDocument};
use alluvium_datasets::{Dataset, describe_dataset};
use alluvium_delta_cache::SNAPSHOTS;
use alluvium_ledgers::{Ledger, LedgerView, Ledgers};
use alluvium_plans::transpile;
use alluvium_profile::{Query, Session};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use fail::fail_point;
use futures::StreamExt as _;

use crate::decide::{Decisions, State, register};
use crate::entries::{self, CACHE_ENTRIES, is_entry_schema};
use crate::error::{RunError, chain};
use crate::holdings::BYTES_BY_SCOPE;
use crate::pipeline::Pipeline;

const OUTPUTS: &str = "outputs";
const LEDGERS: &str = "alluvium";
/// Beside the ledgers: see [`describe_dataset`].
const CONSTRAINTS: &str = "table_constraints";

/// The rows of an answer, as they come.
pub struct QueryAnswer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows. While they come, the entries that they are read from are kept from deletion.
    pub batches: SendableRecordBatchStream,
    /// What a person should know of the rows: ledgers that were set aside, of those that the query names.
    pub notices: Vec<String>,
}

impl Pipeline {
    /// Answers one query. A view with a valid entry is read from it; any other is computed inside the query, and nothing
    /// is published. An output is read as its table stands, and needs neither its view nor its sources.
    ///
    /// # Errors
    /// [`RunError::Sql`] when the query is wrong, [`RunError::Execute`] when it fails; what planning the views that it
    /// names may fail with.
    pub async fn sql(&self, sql: &str) -> Result<QueryAnswer, RunError> {
        self.query(Query::sql(sql)).await
    }

    /// [`sql`](Self::sql) in a dialect, by its name, such as `postgresql`.
    ///
    /// # Errors
    /// As there, and [`RunError::Sql`] for a dialect that there is not.
    pub async fn sql_in(&self, sql: &str, dialect: &str) -> Result<QueryAnswer, RunError> {
        self.query(Query::sql_in(sql, dialect).map_err(|source| RunError::Sql { source })?).await
    }

    /// [`sql`](Self::sql) for a plan in the binary form of Substrait, over the same names.
    ///
    /// # Errors
    /// As there, and [`RunError::Sql`] for bytes that are no such plan.
    #[cfg(feature = "substrait")]
    pub async fn substrait(&self, plan: Vec<u8>) -> Result<QueryAnswer, RunError> {
        self.query(Query::Substrait(plan)).await
    }

    /// [`sql`](Self::sql) for any front end: a dialect of SQL, or a plan. Under the SQL policy of the profile.
    ///
    /// # Errors
    /// As there.
    pub async fn query(&self, query: Query) -> Result<QueryAnswer, RunError> {
        let (decisions, asked) = self.decided(&query).await?;
        fail_point!("query.decided");
        let session = &decisions.session;
        let frame = session.execute(query).await.map_err(|source| RunError::Sql { source })?;
        let exec = frame.create_physical_plan().await.map_err(RunError::execute)?;
        let batches = session.execute_merged(exec).map_err(RunError::execute)?;
        let schema = batches.schema();
        let reading = Arc::clone(&decisions.reading);
        let batches = batches.inspect(move |_| {
            let _until_the_last = &reading;
        });
        let aside = if asked.is_empty() { Vec::new() } else { self.ledgers_set_aside()? };
        let notices = aside.into_iter().filter(|(ledger, _)| asked.contains(ledger)).map(|(_, told)| told).collect();
        let (ledgers, asked) = (self.ledgers.clone(), Arc::new(asked));
        let kept = batches.then(move |batch| {
            let (ledgers, asked) = (ledgers.clone(), Arc::clone(&asked));
            async move {
                match batch {
                    Err(error) => Err(blamed(&ledgers, &asked, error).await),
                    batch => batch,
                }
            }
        });
        let batches = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), kept));
        Ok(QueryAnswer { schema, batches, notices })
    }

    /// Writes one query, read by the grammar of `from`, in the dialect `to`, or says what of it cannot be. Views and sources stay
    /// tables of their names; nothing is computed.
    ///
    /// # Errors
    /// As [`sql_in`](Self::sql_in), and [`RunError::Sql`] for what is no query; nothing is executed.
    pub async fn transpile(&self, sql: &str, from: &str, to: TargetDialect) -> Result<TranspileDocument, RunError> {
        let wrong = |source| RunError::Sql { source };
        let query = Query::sql_in(sql, from).map_err(wrong)?;
        let (decisions, _) = self.decided(&query).await?;
        transpile(&decisions.session, query, to).await.map_err(wrong)
    }

    /// What is decided of everything that a query names, registered in its session, and the ledgers that it asks.
    async fn decided(&self, query: &Query) -> Result<(Decisions, BTreeSet<Ledger>), RunError> {
        let wrong = |source| RunError::Sql { source };
        let probe = self.sessions.build()?;
        let mentioned = probe.referenced_tables_of(query).map_err(wrong)?;
        let wanted = self.wanted(&mentioned);
        let decisions = Decisions::take_named(self, &wanted.views, &wanted.sources).await?;
        let session = &decisions.session;
        decisions.sources.bind(self, &decisions.reading)?;
        for decision in decisions.views.values() {
            decision.reference.bind(self.rows(&decisions, decision)?);
        }
        if wanted.constraints {
            for pin in decisions.pins() {
                let source = TableReference::bare(pin.name());
                describe_dataset(session, source, pin).await.map_err(RunError::execute)?;
            }
        }
        self.register_outputs(session, &wanted.outputs).await?;
        if wanted.ledgers.is_any() {
            self.register_ledgers(session, &wanted.ledgers).await?;
        }
        if wanted.entries {
            let schemas = self.cache.entry_schemas(&decisions.reading)?;
            let tables = schema(session, LEDGERS)?;
            if wanted.holdings {
                let held = self.bytes_by_scope(&schemas).await?;
                tables.register_table(BYTES_BY_SCOPE.to_owned(), held).map_err(RunError::execute)?;
            }
            entries::register(catalog(session)?.as_ref(), tables.as_ref(), schemas)?;
        }
        if wanted.snapshots {
            self.register_snapshots(session).await?;
        }
        Ok((decisions, wanted.ledgers.named))
    }

    /// What a query needs to be registered: what it names, or everything when it asks for the catalog or for a name
    /// that nothing has, so that the answer can say what is there.
    fn wanted(&self, mentioned: &[String]) -> Wanted {
        let spec = self.project.spec();
        let mut wanted = Wanted::default();
        for name in mentioned {
            let (schema, table) = name.rsplit_once('.').unwrap_or(("", name));
            match schema {
                "" if spec.views.contains_key(table) => wanted.views.insert(table.to_owned()),
                "" if self.project.source_of(table).is_some() => wanted.sources.insert(table.to_owned()),
                SNAPSHOTS => {
                    wanted.snapshots = true;
                    true
                }
                entries if is_entry_schema(entries) => {
                    wanted.entries = true;
                    true
                }
                LEDGERS if [CACHE_ENTRIES, BYTES_BY_SCOPE].contains(&table) => {
                    wanted.holdings |= table == BYTES_BY_SCOPE;
                    wanted.entries = true;
                    true
                }
                "" | OUTPUTS if spec.outputs.contains_key(table) => wanted.outputs.insert(table.to_owned()),
                LEDGERS if table == CONSTRAINTS => {
                    wanted.sources.extend(spec.sources.keys().cloned());
                    wanted.constraints = true;
                    true
                }
                LEDGERS if let Some(ledger) = Ledger::all().into_iter().find(|ledger| ledger.sql_name() == table) => {
                    wanted.ledgers.named.insert(ledger)
                }
                LEDGERS if let Some(view) = LedgerView::all().into_iter().find(|view| view.sql_name() == table) => {
                    wanted.ledgers.named.extend(view.ledgers());
                    wanted.ledgers.views.insert(view)
                }
                _ => {
                    wanted.views.extend(spec.views.keys().cloned());
                    wanted.sources.extend(spec.sources.keys().cloned());
                    wanted.sources.extend(self.project.changes());
                    wanted.outputs.extend(spec.outputs.keys().cloned());
                    wanted.ledgers.listed = true;
                    wanted.entries = true;
                    wanted.holdings = true;
                    wanted.snapshots = true;
                    wanted.constraints = true;
                    true
                }
            };
        }
        wanted
    }

    fn rows(
        &self,
        decisions: &Decisions,
        decision: &crate::decide::ViewDecision,
    ) -> Result<Arc<dyn TableProvider>, RunError> {
        let schema = decision.bundle.published().arrow();
        Ok(match &decision.state {
            State::Hit(entry, _) => self.cache.provider(entry, schema)?,
            State::HitOutput(published) => match decisions.outputs_of(decision.bundle.name()).next() {
                Some((_, output)) => self.cache.output_provider(&output.target, published, schema)?,
                None => self.cache.computed(&decision.bundle),
            },
            State::HitMemory((provider, _), _) => Arc::clone(provider),
            State::Compute { .. } | State::Idle => self.cache.computed(&decision.bundle),
        })
    }

    /// Outputs as their tables stand, whatever the views would give today and whether or not their sources are still there;
    /// those never published are absent.
    async fn register_outputs(&self, session: &Session, names: &BTreeSet<String>) -> Result<(), RunError> {
        let tables = schema(session, OUTPUTS)?;
        let spec = self.project.spec();
        for (name, output) in spec.outputs.iter().filter(|(name, _)| names.contains(*name)) {
            if !self.project.dir().join(&output.path).join("_delta_log").is_dir() {
                continue;
            }
            let provider = self.delta_table(session, name, &output.path, None).await?;
            tables.register_table(name.clone(), Arc::clone(&provider)).map_err(RunError::execute)?;
            if !spec.views.contains_key(name) && !spec.sources.contains_key(name) {
                register(session, name, provider).map_err(RunError::execute)?;
            }
        }
        Ok(())
    }

    /// The newest snapshot of each of the engine's caches; those never taken are absent.
    async fn register_snapshots(&self, session: &Session) -> Result<(), RunError> {
        let tables = schema(session, SNAPSHOTS)?;
        for (name, dir) in self.cache.snapshot_tables() {
            let provider = self.delta_table(session, name, &dir.to_string_lossy(), None).await?;
            tables.register_table(name.to_owned(), provider).map_err(RunError::execute)?;
        }
        Ok(())
    }

    /// A table at a version, or as it stands at its head, whoever committed that.
    pub(crate) async fn delta_table(
        &self,
        session: &Session,
        name: &str,
        path: &str,
        version: Option<u64>,
    ) -> Result<Arc<dyn TableProvider>, RunError> {
        let path = SourcePath::One(path.to_owned());
        let source = SourceSpec { version, ..SourceSpec::new(SourceFormat::Delta, path) };
        let place = || self.project.place("outputs", name);
        let pin_error = |source| RunError::Pin { place: place(), name: name.to_owned(), source };
        let spec = Dataset::of_source(name, &source, self.project.dir()).map_err(|source| RunError::Source {
            place: place(),
            name: name.to_owned(),
            source,
        })?;
        self.pinner.pin(session.context(), &spec).await.map_err(pin_error)?.provider().map_err(pin_error)
    }

    /// The ledgers that are asked, or all for the catalog, and the views over them. What is wrong with a ledger is an error for who asks
    /// it; the catalog lists the others.
    async fn register_ledgers(&self, session: &Session, wanted: &WantedLedgers) -> Result<(), RunError> {
        let tables = schema(session, LEDGERS)?;
        self.close_killed_runs().await?;
        let ledgers = Ledger::all().into_iter().filter(|ledger| wanted.listed || wanted.named.contains(ledger));
        let mut unread = BTreeSet::new();
        for (ledger, found) in self.ledgers.tables(ledgers).await? {
            match found {
                Ok(table) => {
                    tables.register_table(ledger.sql_name().to_owned(), table).map_err(RunError::execute)?;
                }
                Err(error) if wanted.named.contains(&ledger) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(target: "alluvium.runs", "a ledger is not listed: {}", chain(&error));
                    unread.insert(ledger);
                }
            }
        }
        let views = LedgerView::all().into_iter().filter(|view| wanted.listed || wanted.views.contains(view));
        for view in views.filter(|view| !view.ledgers().iter().any(|ledger| unread.contains(ledger))) {
            let frame = session.execute(Query::sql(view.sql())).await.map_err(|source| RunError::Sql { source })?;
            tables.register_table(view.sql_name().to_owned(), frame.into_view()).map_err(RunError::execute)?;
        }
        Ok(())
    }
}

/// The error of a query that asked ledgers: of the one that is damaged, if that is why. The engine does not say which file it read.
async fn blamed(ledgers: &Ledgers, asked: &BTreeSet<Ledger>, error: DataFusionError) -> DataFusionError {
    for ledger in asked {
        if let Some(damage) = ledgers.damage(*ledger).await {
            return DataFusionError::External(Box::new(damage));
        }
    }
    error
}

#[derive(Default)]
struct Wanted {
    views: BTreeSet<String>,
    sources: BTreeSet<String>,
    outputs: BTreeSet<String>,
    ledgers: WantedLedgers,
    /// The entries of the caches.
    entries: bool,
    /// What they and the outputs hold.
    holdings: bool,
    /// The snapshots of the engine's caches.
    snapshots: bool,
    /// What is declared of the sources.
    constraints: bool,
}

#[derive(Default)]
struct WantedLedgers {
    /// Those that the query names, by themselves or by views over them.
    named: BTreeSet<Ledger>,
    views: BTreeSet<LedgerView>,
    /// All of them, with all views, as far as they can be read: what the catalog lists.
    listed: bool,
}

impl WantedLedgers {
    fn is_any(&self) -> bool {
        self.listed || !self.named.is_empty()
    }
}

/// A schema of the default catalog, made if it is not there.
fn schema(session: &Session, name: &str) -> Result<Arc<dyn SchemaProvider>, RunError> {
    let catalog = catalog(session)?;
    if let Some(known) = catalog.schema(name) {
        return Ok(known);
    }
    let tables: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
    catalog.register_schema(name, Arc::clone(&tables)).map_err(RunError::execute)?;
    Ok(tables)
}

/// The default catalog.
fn catalog(session: &Session) -> Result<Arc<dyn CatalogProvider>, RunError> {
    let context = session.context();
    let name = context.state().config_options().catalog.default_catalog.clone();
    context.catalog(&name).ok_or_else(|| RunError::execute(DataFusionError::Plan(format!("no catalog {name}"))))
}

#[cfg(test)]
mod tests {
    use alluvium_profile::RESERVED_SCHEMAS;

    use super::*;

    #[test]
    fn no_profile_has_a_schema_of_queries_for_its_default() {
        let reserved = |name: &&str| RESERVED_SCHEMAS.contains(name);
        assert!([OUTPUTS, LEDGERS, SNAPSHOTS].iter().all(reserved));
        assert_eq!(RESERVED_SCHEMAS.iter().filter(|name| is_entry_schema(name)).count(), 3);
    }
}

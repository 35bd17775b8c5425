//! Stored plans: a query that was planned before, over tables of the same columns, is not planned again.
//!
//! What is kept is the *analyzed* plan: an optimised one would have the time of its making for `now()`. Its key is the text
//! of the query with the session's settings and functions; tables are no part of the key, because names of tables are in
//! the text, and what they have for columns is compared when a plan is read.
//!
//! *Invariant:* the identity of a view is derived from the plan that is executed, never read from here: canonical text,
//! functions, settings, pins. A plan that does not come to the fingerprint that it was kept under is not used.
//! *Invariant:* nothing is kept that does not come back as it went in: what was encoded is decoded at once, and has to have
//! the canonical text, the columns and the lineage of the original, and to scan the very tables of the session.
//!
//! A view whose plan the encoding cannot carry is planned anew each time; its bundle says why.

mod codec;
mod record;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_contracts::{ContentDigest, PlanEncoding, ProfileHash, SqlPolicyHash};
use alluvium_disk_kv_cache::CacheError;
use alluvium_functions::Function;
use alluvium_profile::{KvCache, KvKey, KvTag, RuntimeProfile, Session};
use alluvium_telemetry::Redactor;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;

use crate::bundle::{Input, PlanBundle, PlanError, identify, plan_view};
use crate::canonical::canonicalize;
use crate::engine::engine_versions;
use crate::lineage::lineage;
use crate::published::PublishedSchema;
use codec::{Tables, decode, encode};
use record::Record;

/// What became of the plan of a bundle in a store.
#[derive(Debug, Clone)]
pub(crate) struct KeptPlan {
    pub(crate) encoding: PlanEncoding,
    /// Why it is not kept.
    pub(crate) reason: Option<String>,
    pub(crate) profile: ProfileHash,
    pub(crate) sql_policy: SqlPolicyHash,
    pub(crate) is_replayed: bool,
}

/// Plans by what was asked, in the cache of [`KvKind::Plan`](alluvium_profile::KvKind::Plan).
///
/// Entries carry the tags of profile, SQL policy and plan fingerprint: [`KvCache::evict`] removes what has one of them.
#[derive(Debug)]
pub struct PlanStore {
    cache: KvCache,
    profile: ProfileHash,
    sql_policy: SqlPolicyHash,
    counters: Counters,
    notices: Mutex<Vec<String>>,
}

/// What a store has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanStoreCounters {
    /// Queries that were answered with a kept plan.
    pub replayed: u64,
    /// Plans that were made and kept.
    pub kept: u64,
    /// Plans that were made and could not be kept.
    pub refused: u64,
    /// Entries that were damaged; each was made anew.
    pub damaged: u64,
    /// Executions of plans that were kept, as far as [`PlanStore::count_execution`] was told.
    pub executed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    replayed: AtomicU64,
    kept: AtomicU64,
    refused: AtomicU64,
    damaged: AtomicU64,
    executed: AtomicU64,
}

impl PlanStore {
    /// Plans that are made under `profile`, in the cache of the kind `plan`.
    #[must_use]
    pub fn new(cache: KvCache, profile: &RuntimeProfile) -> Self {
        Self {
            cache,
            profile: profile.profile_hash(),
            sql_policy: profile.sql_policy_hash(),
            counters: Counters::default(),
            notices: Mutex::default(),
        }
    }

    /// The plans of one session, with the settings and functions that it has now.
    #[must_use]
    pub fn in_session(&self, session: &Session) -> SessionPlans<'_> {
        let context = session.context().task_ctx();
        let functions = [
            names(context.scalar_functions(), |function| function.name()),
            names(context.aggregate_functions(), |function| function.name()),
            names(context.window_functions(), |function| function.name()),
        ];
        // Quoted by `Debug`, so that no two are one text. A key that another build would write otherwise is a miss there.
        let surroundings = format!("{:?}", (self.sql_policy, session.semantic_settings(), functions));
        let surroundings = ContentDigest::of(surroundings.as_bytes());
        SessionPlans { store: self, session: session.clone(), surroundings, context }
    }

    /// Counts that the plan of `bundle` is executed, if it was taken from a store.
    pub fn count_execution(&self, bundle: &PlanBundle) {
        if bundle.is_replayed() {
            count(&self.counters.executed);
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> PlanStoreCounters {
        let Counters { replayed, kept, refused, damaged, executed } = &self.counters;
        let [replayed, kept, refused, damaged, executed] =
            [replayed, kept, refused, damaged, executed].map(|counter| counter.load(Ordering::Relaxed));
        PlanStoreCounters { replayed, kept, refused, damaged, executed }
    }

    /// What was found damaged since the last call.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn damaged(&self, view: &str, why: &str) {
        count(&self.counters.damaged);
        let notice = format!("the stored plan of view `{view}` was damaged ({why}); it was planned anew");
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }
}

/// What a [`PlanStore`] answers in one session.
#[derive(Debug)]
pub struct SessionPlans<'a> {
    store: &'a PlanStore,
    session: Session,
    /// The digest of what planning depends on beside the query and its tables.
    surroundings: ContentDigest,
    context: Arc<TaskContext>,
}

impl SessionPlans<'_> {
    /// As [`plan_view`] in this session, with a kept plan where there is one; else the plan that was made is kept.
    ///
    /// # Errors
    /// Those of [`plan_view`]. A store that fails makes no difference but of time.
    pub async fn plan_view(
        &self,
        view: &str,
        sql: &str,
        inputs: &BTreeMap<String, Input>,
    ) -> Result<PlanBundle, PlanError> {
        let query = ContentDigest::of(format!("{} {sql}", self.surroundings).as_bytes());
        let key = KvKey::plan(&query, &self.store.profile, PlanEncoding::Engine.as_str());
        if let Some(bundle) = self.replay(&key, view, inputs).await {
            count(&self.store.counters.replayed);
            return Ok(bundle.with_kept(self.kept(None, true)));
        }
        let bundle = plan_view(&self.session, view, sql, inputs).await?;
        let refused = self.keep(&key, sql, &bundle).await.err();
        count(if refused.is_some() { &self.store.counters.refused } else { &self.store.counters.kept });
        Ok(bundle.with_kept(self.kept(refused.map(|why| why.to_string()), false)))
    }

    fn kept(&self, refused: Option<String>, is_replayed: bool) -> KeptPlan {
        let encoding = if refused.is_some() { PlanEncoding::None } else { PlanEncoding::Engine };
        let PlanStore { profile, sql_policy, .. } = *self.store;
        KeptPlan { encoding, reason: refused, profile, sql_policy, is_replayed }
    }

    /// The bundle of the plan under `key`, if there is one that this version of the engine made, over tables that have the
    /// columns they had.
    async fn replay(&self, key: &KvKey, view: &str, inputs: &BTreeMap<String, Input>) -> Option<PlanBundle> {
        let bytes = match self.store.cache.get(key) {
            Ok(bytes) => bytes?,
            Err(error) => {
                self.store.damaged(view, &chain(&error));
                return None;
            }
        };
        let Some(record) = Record::from_bytes(&bytes) else {
            self.store.damaged(view, "its bytes are not those that were stored");
            return None;
        };
        if record.engine != engine_versions() || !record.tables.iter().all(|table| inputs.contains_key(table)) {
            return None;
        }
        let tables = self.tables(&record.tables).await?;
        let plan = decode(&record.plan, tables, &self.context).ok()?;
        let bundle = identify(&self.session, view, plan, inputs).ok()?;
        (bundle.identity().plan_fingerprint == record.fingerprint).then_some(bundle)
    }

    async fn keep(&self, key: &KvKey, sql: &str, bundle: &PlanBundle) -> Result<(), NotKept> {
        // A plan has the literals of its query.
        if let Cow::Owned(_) = Redactor::default().kept(sql) {
            return Err(NotKept::Credentials);
        }
        let canonical = canonicalize(bundle.plan());
        if let Some(denial) = canonical.denials.first() {
            return Err(NotKept::Uncanonical { denial: denial.clone() });
        }
        if let Some(function) = canonical.functions.iter().find(|function| !self.is_known(function)) {
            return Err(NotKept::Function { name: function.name().to_owned() });
        }
        let tables = self.tables(bundle.reads()).await.ok_or(NotKept::Lossy)?;
        let plan = encode(bundle.plan(), tables.clone()).map_err(NotKept::Encode)?;
        let back = decode(&plan, tables.clone(), &self.context).map_err(NotKept::Decode)?;
        let canonical_back = canonicalize(&back);
        let is_same = canonical_back.text == canonical.text
            && canonical_back.scans.iter().all(|scan| tables.has(&scan.source))
            && PublishedSchema::of(back.schema()).is_ok_and(|published| published == *bundle.published())
            && lineage(&back) == bundle.lineage();
        if !is_same {
            return Err(NotKept::Lossy);
        }
        let fingerprint = bundle.identity().plan_fingerprint;
        let record = Record { engine: engine_versions(), fingerprint, tables: bundle.reads().to_vec(), plan };
        let PlanStore { cache, profile, sql_policy, .. } = self.store;
        let tags = [KvTag::profile(profile), KvTag::sql_policy(sql_policy), KvTag::plan(&fingerprint)];
        cache.set(key, &record.to_bytes(), &tags).map_err(NotKept::Store)
    }

    /// The tables of these names, as the session would scan them; none where one is missing.
    async fn tables(&self, names: &[String]) -> Option<Tables> {
        let mut tables = Tables::default();
        for name in names {
            let table = datafusion::common::TableReference::bare(name.as_str());
            tables.insert(name, self.session.context().table_provider(table).await.ok()?);
        }
        Some(tables)
    }

    /// Whether its name and its version say which function it is.
    fn is_known(&self, function: &Function) -> bool {
        let builtins = self.session.builtins();
        let is_builtin = match function {
            Function::Scalar(function) => builtins.is_builtin_scalar(function),
            Function::Aggregate(function) => builtins.is_builtin_aggregate(function),
            Function::Window(function) => builtins.is_builtin_window(function),
        };
        is_builtin || self.session.function_versions().of(function).is_some()
    }
}

/// Why a plan is not kept. What is told of it is in the plan bundle, so it has to be the same in each run.
#[derive(Debug, thiserror::Error)]
enum NotKept {
    #[error("the query names credentials, and those are kept nowhere")]
    Credentials,
    #[error("{denial}: what the plan computes cannot be told from its text")]
    Uncanonical { denial: String },
    #[error("the function {name}() is no built-in and declares no version: another one may have its name")]
    Function { name: String },
    #[error("the engine's encoding has no form for it: {}", one_line(_0))]
    Encode(#[source] DataFusionError),
    #[error("the engine's encoding cannot be read back: {}", one_line(_0))]
    Decode(#[source] DataFusionError),
    #[error("the engine's encoding does not give back the plan that went in")]
    Lossy,
    #[error("the store of plans could not be written: {}", chain(_0))]
    Store(#[source] CacheError),
}

/// Its root: what is around that tells places in the engine's sources.
fn one_line(error: &DataFusionError) -> String {
    error.find_root().strip_backtrace().lines().next().unwrap_or_default().to_owned()
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Every name under which a function is found, with the function's own.
fn names<'a, F>(
    functions: &'a std::collections::HashMap<String, Arc<F>>,
    name: impl Fn(&'a F) -> &'a str,
) -> BTreeMap<&'a str, &'a str> {
    functions.iter().map(|(key, function)| (key.as_str(), name(function.as_ref()))).collect()
}

//! Stored plans: a query that was planned before, over tables of the same columns, is not planned again.
//!
//! What is kept is the *analyzed* plan: an optimised one would have the time of its making for `now()`. Its key is the text
//! of the query with the session's settings and functions; tables are no part of the key, because names of tables are in
//! the text, and what they have for columns is compared when a plan is read.
//!
//! A plan is encoded as the profile's `stored_plans` asks: by the engine's own encoding, or as Substrait, whose bytes are the same
//! for equal plans. What Substrait does not carry is encoded by the engine all the same, if it can be.
//!
//! *Invariant:* the identity of a view is derived from the plan that is executed, never read from here: canonical text,
//! functions, settings, pins. A plan that does not come to the fingerprint that it was kept under is not used.
//! *Invariant:* nothing is kept that does not come back as it went in: what was encoded is decoded at once, and has to have
//! the canonical text, the columns and the lineage of the original, and to scan the very tables of the session.
//!
//! A view whose plan no encoding carries is planned anew each time; its bundle says why.

mod codec;
mod not_kept;
mod record;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_contracts::{ContentDigest, PlanEncoding, ProfileHash, SqlPolicyHash, StoredPlans, SubstraitHash};
use alluvium_functions::Function;
#[cfg(feature = "substrait")]
use alluvium_profile::Query;
use alluvium_profile::{KvCache, KvKey, KvTag, RuntimeProfile, Session};
use alluvium_telemetry::Redactor;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;

use crate::bundle::{Input, PlanBundle, PlanError, identify, plan_view};
use crate::canonical::{Canonical, canonicalize};
use crate::engine::engine_versions;
use crate::lineage::lineage;
use crate::published::PublishedSchema;
#[cfg(feature = "substrait")]
use crate::substrait::SubstraitPlan;
use crate::tables::Tables;
use codec::{decode, encode};
use not_kept::NotKept;
use record::Record;

/// What became of the plan of a bundle in a store.
#[derive(Debug, Clone)]
pub(crate) struct KeptPlan {
    pub(crate) encoding: PlanEncoding,
    /// Why it is not kept, or not as was asked.
    pub(crate) reason: Option<String>,
    /// The digest of what is kept, where that is Substrait.
    pub(crate) substrait: Option<SubstraitHash>,
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
    /// How plans are encoded, where they can be.
    form: PlanEncoding,
    profile: ProfileHash,
    sql_policy: SqlPolicyHash,
    counters: Counters,
    notices: Mutex<Vec<String>>,
}

/// A store of plans cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanStoreError {
    /// The profile asks for a form that this build cannot write.
    #[error(
        "the profile asks for stored_plans = \"{asked}\", which is not in this build: build it with the feature `{feature}`, or \
         ask for \"engine\""
    )]
    NotBuilt {
        /// What it asks for.
        asked: StoredPlans,
        /// What the build lacks.
        feature: &'static str,
    },
}

/// How plans are encoded where a profile asks for `asked`; by a program that never asks, as the engine does.
fn form_of(asked: StoredPlans, has_substrait: bool) -> Result<PlanEncoding, PlanStoreError> {
    match asked {
        StoredPlans::Off | StoredPlans::Engine => Ok(PlanEncoding::Engine),
        StoredPlans::Substrait if has_substrait => Ok(PlanEncoding::Substrait),
        StoredPlans::Substrait => Err(PlanStoreError::NotBuilt { asked, feature: "substrait" }),
    }
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
    /// Plans that are made under `profile`, in the cache of the kind `plan`: encoded as its `stored_plans` asks, and by the
    /// engine's own encoding where that is off.
    ///
    /// # Errors
    /// [`PlanStoreError::NotBuilt`] for Substrait in a build without the feature `substrait`.
    pub fn new(cache: KvCache, profile: &RuntimeProfile) -> Result<Self, PlanStoreError> {
        Ok(Self {
            cache,
            form: form_of(profile.stored_plans(), cfg!(feature = "substrait"))?,
            profile: profile.profile_hash(),
            sql_policy: profile.sql_policy_hash(),
            counters: Counters::default(),
            notices: Mutex::default(),
        })
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
        let key = KvKey::plan(&query, &self.store.profile, self.store.form.as_str());
        if let Some((record, bundle)) = self.replay(&key, view, inputs).await {
            count(&self.store.counters.replayed);
            let kept = self.kept(&record);
            return Ok(bundle.with_kept(KeptPlan { is_replayed: true, ..kept }));
        }
        let bundle = plan_view(&self.session, view, sql, inputs).await?;
        let kept = match self.keep(&key, sql, &bundle).await {
            Ok(record) => {
                count(&self.store.counters.kept);
                self.kept(&record)
            }
            Err(why) => {
                count(&self.store.counters.refused);
                self.became(PlanEncoding::None, Some(why.to_string()))
            }
        };
        Ok(bundle.with_kept(kept))
    }

    fn kept(&self, record: &Record) -> KeptPlan {
        let is_substrait = record.encoding == PlanEncoding::Substrait;
        let substrait = is_substrait.then(|| SubstraitHash::of(&record.plan));
        KeptPlan { substrait, ..self.became(record.encoding, record.reason.clone()) }
    }

    fn became(&self, encoding: PlanEncoding, reason: Option<String>) -> KeptPlan {
        let PlanStore { profile, sql_policy, .. } = *self.store;
        KeptPlan { encoding, reason, substrait: None, profile, sql_policy, is_replayed: false }
    }

    /// The plan under `key` with its bundle, if there is one that this version of the engine made, over tables that have the
    /// columns they had.
    async fn replay(&self, key: &KvKey, view: &str, inputs: &BTreeMap<String, Input>) -> Option<(Record, PlanBundle)> {
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
        let plan = self.decode(record.encoding, &record.plan, tables).await?;
        let bundle = identify(&self.session, view, plan, inputs).await.ok()?;
        (bundle.identity().plan_fingerprint == record.fingerprint).then_some((record, bundle))
    }

    async fn keep(&self, key: &KvKey, sql: &str, bundle: &PlanBundle) -> Result<Record, NotKept> {
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
        let tables = self.tables(bundle.reads()).await.ok_or(NotKept::Tables)?;
        let (encoding, plan, reason) = self.encode(&Original { bundle, canonical, tables }).await?;
        let fingerprint = bundle.identity().plan_fingerprint;
        let tables = bundle.reads().to_vec();
        let record = Record { engine: engine_versions(), fingerprint, tables, encoding, reason, plan };
        let PlanStore { cache, profile, sql_policy, .. } = self.store;
        let tags = [KvTag::profile(profile), KvTag::sql_policy(sql_policy), KvTag::plan(&fingerprint)];
        cache.set(key, &record.to_bytes(), &tags).map_err(NotKept::Store)?;
        Ok(record)
    }

    /// The plan as bytes that come back as what went in: as is asked, or else in the engine's encoding, with why.
    async fn encode(&self, original: &Original<'_>) -> Result<(PlanEncoding, Vec<u8>, Option<String>), NotKept> {
        #[cfg(feature = "substrait")]
        if self.store.form == PlanEncoding::Substrait {
            let substrait = match self.as_substrait(original).await {
                Ok(plan) => return Ok((PlanEncoding::Substrait, plan, None)),
                Err(why) => why,
            };
            return match self.by_engine(original) {
                Ok(plan) => Ok((PlanEncoding::Engine, plan, Some(substrait.to_string()))),
                Err(engine) => Err(NotKept::Neither { substrait: Box::new(substrait), engine: Box::new(engine) }),
            };
        }
        Ok((PlanEncoding::Engine, self.by_engine(original)?, None))
    }

    fn by_engine(&self, original: &Original<'_>) -> Result<Vec<u8>, NotKept> {
        let Original { bundle, tables, .. } = original;
        let plan = encode(bundle.plan(), tables.clone()).map_err(NotKept::Encode)?;
        let back = decode(&plan, tables.clone(), &self.context).map_err(NotKept::Decode)?;
        if original.is(&back) { Ok(plan) } else { Err(NotKept::Lossy { form: "the engine's encoding" }) }
    }

    #[cfg(feature = "substrait")]
    async fn as_substrait(&self, original: &Original<'_>) -> Result<Vec<u8>, NotKept> {
        let plan = SubstraitPlan::of(&self.session, original.bundle.plan()).await?.into_bytes();
        match self.decode(PlanEncoding::Substrait, &plan, original.tables.clone()).await {
            Some(back) if original.is(&back) => Ok(plan),
            _ => Err(NotKept::Lossy { form: "Substrait" }),
        }
    }

    /// The analyzed plan of bytes; none if they cannot be read here.
    async fn decode(&self, encoding: PlanEncoding, plan: &[u8], tables: Tables) -> Option<LogicalPlan> {
        match encoding {
            PlanEncoding::Engine => decode(plan, tables, &self.context).ok(),
            // It finds the tables by their names, where these were found.
            #[cfg(feature = "substrait")]
            PlanEncoding::Substrait => Some(self.session.plan_query(Query::Substrait(plan.to_vec())).await.ok()?.plan),
            #[cfg(not(feature = "substrait"))]
            PlanEncoding::Substrait => None,
            PlanEncoding::None => None,
        }
    }

    /// The tables of these names, as the session would scan them; none where one is missing.
    async fn tables(&self, names: &[String]) -> Option<Tables> {
        let tables = Tables::of(&self.session, names).await;
        names.iter().all(|name| tables.has_name(name)).then_some(tables)
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

/// A plan that is to be kept.
struct Original<'a> {
    bundle: &'a PlanBundle,
    canonical: Canonical,
    tables: Tables,
}

impl Original<'_> {
    /// Whether a plan that was read back is this one.
    fn is(&self, back: &LogicalPlan) -> bool {
        let canonical = canonicalize(back);
        canonical.text == self.canonical.text
            && canonical.scans.iter().all(|scan| self.tables.has(scan))
            && PublishedSchema::of(back.schema()).is_ok_and(|published| published == *self.bundle.published())
            && lineage(back) == self.bundle.lineage()
    }
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

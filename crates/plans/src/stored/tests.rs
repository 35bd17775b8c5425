//! Stored plans: what comes back is what went in, and what is not what it was is made anew.

use std::error::Error;

use alluvium_contracts::{CacheKey, ProfileSpec, Stability, StoredPlans};
use alluvium_disk_kv_cache::Order;
use alluvium_functions::VersionedFunction;
use alluvium_profile::{CacheRoot, KvKind, Query, SessionExtension, SessionFactory, SessionParts, Slot};
use alluvium_telemetry::Seam;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemTable;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use tempfile::TempDir;

use super::*;
use crate::ViewRef;

struct Lab {
    dir: TempDir,
    profile: RuntimeProfile,
}

/// What this build can be asked for.
const FORMS: &[StoredPlans] = match cfg!(feature = "substrait") {
    true => &[StoredPlans::Engine, StoredPlans::Substrait],
    false => &[StoredPlans::Engine],
};

impl Lab {
    fn new(form: StoredPlans) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), profile: profile(form) }
    }

    /// What a process of its own opens.
    fn store(&self) -> PlanStore {
        PlanStore::new(self.cache(), &self.profile).unwrap()
    }

    /// A query that is kept as is asked.
    fn joined(&self) -> &'static str {
        match self.profile.stored_plans() {
            StoredPlans::Substrait => {
                "select t.k, sum(v + w) as total from t join u on t.k = u.k where t.s = 's2' or w > 100 group by t.k"
            }
            StoredPlans::Engine | StoredPlans::Off => JOINED,
        }
    }

    fn other_profile(&self) -> RuntimeProfile {
        let stored_plans = Some(self.profile.stored_plans());
        RuntimeProfile::from(&ProfileSpec { batch_size: Some(77), stored_plans, ..ProfileSpec::default() })
    }

    fn cache(&self) -> KvCache {
        CacheRoot::open(self.dir.path(), &Seam::system()).unwrap().cache(KvKind::Plan).unwrap().clone()
    }

    fn session(&self) -> Session {
        let session = SessionFactory::new(self.profile.clone()).build().unwrap();
        register(&session, "t", &[("k", &[3, 1, 2, 2]), ("v", &[30, 10, 20, 21])]);
        register(&session, "u", &[("k", &[1, 2, 4]), ("w", &[100, 200, 400])]);
        session
    }
}

fn profile(form: StoredPlans) -> RuntimeProfile {
    RuntimeProfile::from(&ProfileSpec { stored_plans: Some(form), ..ProfileSpec::default() })
}

#[expect(clippy::disallowed_methods, reason = "tables to plan over, not datasets")]
fn register(session: &Session, name: &str, columns: &[(&str, &[i64])]) {
    let column = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(columns[0].1.iter().map(|k| format!("s{k}"))));
    let columns = columns.iter().map(|(name, values)| (*name, column(values))).chain([("s", texts)]);
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let view = ViewRef::new(name, batch.schema());
    view.bind(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap()));
    let _ = session.context().deregister_table(name).unwrap();
    session.context().register_table(name, Arc::new(view)).unwrap();
}

fn inputs() -> BTreeMap<String, Input> {
    let view = |name: &str| {
        let key = Some(CacheKey::of(name.as_bytes()));
        (name.to_owned(), Input::View { key, stability: Stability::Exact })
    };
    BTreeMap::from([view("t"), view("u")])
}

async fn plan(store: &PlanStore, session: &Session, sql: &str) -> PlanBundle {
    store.in_session(session).plan_view("v", sql, &inputs()).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

async fn rows(session: &Session, bundle: &PlanBundle) -> String {
    let batches = DataFrame::new(session.context().state(), bundle.plan().clone()).collect().await.unwrap();
    let text = pretty_format_batches(&batches).unwrap().to_string();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

const JOINED: &str = "select t.k, sum(v + w) as total from t join u using (k) where t.s = 's2' or w > 100 group by t.k";

/// What the engine's encoding can carry.
const KEPT: &[&str] = &[
    "select * from t",
    "select k as \"Key\", v * 1.5 as scaled, upper(s) as s from t where v > 10 and s like 's%'",
    "select t.k, t.s, u.w from t join u on t.k = u.k and t.v < u.w",
    "select a.k, b.w from t as a cross join u as b where a.k <> b.k",
    "with big as (select k, v from t where v > 10) select k, count(*) as n, sum(distinct v) as v from big group by k \
     having count(*) > 0",
    "select k, v, row_number() over (partition by k order by v desc) as n, lag(v) over (order by v) as before from t",
    "select k from t union all select k from u",
    "select k from t union select k from u",
    "select k from t except select k from u",
    "select case when k > 1 then 'many' else 'one' end as how, cast(v as decimal(10, 2)) as v from t order by v limit 2",
    "select (select max(w) from u) as most, k from t",
    "select x, x + 1 as y from (values (1), (2)) as a(x)",
    "with recursive n(i) as (select 1 as i union all select i + 1 from n where i < 4) select i from n",
    "select k, now() as at from t",
    "select distinct s from t",
    "select date '2026-01-02' + interval '3 days' as d, timestamp '2026-01-02 03:04:05' as at, array[1, 2] as xs from u",
    "select k, coalesce(nullif(v, 10), 0) as v, s is not null as named, k between 1 and 2 as low, k in (1, 3) as odd from t",
    "select grouping(k) as g, k, s, count(*) as n from t group by rollup (k, s)",
];

#[tokio::test]
async fn what_comes_back_is_what_went_in() {
    for form in FORMS {
        let lab = Lab::new(*form);
        let mut asked_for = 0;
        for sql in KEPT {
            asked_for += usize::from(comes_back(&lab, sql).await.as_str() == form.as_str());
        }
        match form {
            StoredPlans::Substrait => {
                assert!(asked_for * 2 >= KEPT.len(), "{asked_for} of {} as Substrait", KEPT.len());
            }
            StoredPlans::Engine | StoredPlans::Off => assert_eq!(asked_for, KEPT.len()),
        }
    }
}

/// Keeps the plan of a query and takes it in another process and another session. Returns how it is encoded.
async fn comes_back(lab: &Lab, sql: &str) -> PlanEncoding {
    let session = lab.session();
    let (store, fresh) = (lab.store(), plan_view(&session, "v", sql, &inputs()).await.unwrap());
    let first = plan(&store, &session, sql).await;
    assert!(!first.is_replayed(), "{sql}");
    let (store, session) = (lab.store(), lab.session());
    let again = plan(&store, &session, sql).await;
    assert!(again.is_replayed(), "{sql}");
    store.count_execution(&fresh);
    store.count_execution(&again);
    let counters = PlanStoreCounters { replayed: 1, executed: 1, ..PlanStoreCounters::default() };
    assert_eq!(store.counters(), counters, "{sql}");
    assert_eq!(again.identity(), fresh.identity(), "{sql}");
    assert_eq!(again.published(), fresh.published(), "{sql}");
    assert_eq!(again.artifact(), first.artifact(), "{sql}");
    if !sql.contains("now()") {
        assert_eq!(rows(&session, &again).await, rows(&session, &fresh).await, "{sql}");
    }
    let told = again.artifact();
    let is_asked = told.plan_encoding.as_str() == lab.profile.stored_plans().as_str();
    assert_eq!(told.plan_encoding_reason.is_none(), is_asked, "{sql}: {told:?}");
    assert_eq!(told.substrait_hash.is_some(), told.plan_encoding == PlanEncoding::Substrait, "{sql}");
    told.plan_encoding
}

#[tokio::test]
async fn a_kept_plan_has_the_time_of_its_execution() {
    for form in FORMS {
        executed_now(&Lab::new(*form)).await;
    }
}

async fn executed_now(lab: &Lab) {
    let now = "select now() as at from t";
    let session = lab.session();
    plan(&lab.store(), &session, now).await;
    let again = plan(&lab.store(), &session, now).await;
    assert!(again.is_replayed());
    let first = rows(&session, &again).await;
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    assert_ne!(rows(&session, &again).await, first, "the time is that of the execution");
}

/// What of the queries of these tests is kept as Substrait, and why the others are not.
#[cfg(feature = "substrait")]
#[tokio::test]
async fn golden_what_is_kept_as_substrait() {
    let lab = Lab::new(StoredPlans::Substrait);
    let (store, session) = (lab.store(), strange_session(&lab));
    let mut told = Vec::new();
    for sql in KEPT.iter().chain(REFUSED) {
        let artifact = plan(&store, &session, sql).await.artifact();
        let why = artifact.plan_encoding_reason.map(|why| format!(": {why}")).unwrap_or_default();
        told.push(format!("{sql}\n    {}{why}", artifact.plan_encoding));
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// However a query is spelled: one plan, one run of bytes, in every process.
#[cfg(feature = "substrait")]
#[tokio::test]
async fn equal_plans_have_equal_bytes() {
    let spelled = [
        [
            "select k, upper(s) as s from t where v > 10",
            "SELECT x.k, /* loud */ upper(x.s) AS s FROM t AS x WHERE x.v > 10",
        ],
        [
            "with big as (select k, v from t where v > 10) select k, count(*) as n from big group by k having count(*) > 0",
            "select k, count(*) as n from (select a.k, a.v as two from t as a where a.v > 10) as q group by k having count(*) > 0",
        ],
        [
            "select a.k, b.w from t as a cross join u as b where a.k <> b.k",
            "select x.k, y.w from t as x, u as y where (x.k <> y.k)",
        ],
        [
            "select k from t where exists (select 1 from u where u.k = t.k)",
            "select a.k from t as a where exists (select 1 from u as b where b.k = a.k)",
        ],
        ["select k from t union all select k from u", "select a.k as k from t as a union all (select u.k from u)"],
    ];
    let mut hashes = std::collections::BTreeSet::new();
    for queries in spelled {
        let mut plans = Vec::new();
        for sql in queries {
            // Each in a process of its own, which declares functions in an order of its own.
            let lab = Lab::new(StoredPlans::Substrait);
            let bundle = plan(&lab.store(), &lab.session(), sql).await;
            let told = bundle.artifact();
            let hash = told.substrait_hash.unwrap_or_else(|| panic!("{sql}: {:?}", told.plan_encoding_reason));
            plans.push((told.plan_fingerprint, hash));
        }
        assert_eq!(plans[0], plans[1], "{queries:?}");
        hashes.insert(plans[0].1);
    }
    assert_eq!(hashes.len(), spelled.len(), "different plans have different bytes");
    // Nothing is in the bytes that is not in the plan: what was read is written alike.
    for sql in KEPT {
        let session = Lab::new(StoredPlans::Substrait).session();
        let Ok(plan) = SubstraitPlan::of(&session, &session.plan_query(*sql).await.unwrap().plan).await else {
            continue;
        };
        let back = session.plan_query(Query::Substrait(plan.as_bytes().to_vec())).await.unwrap().plan;
        if canonicalize(&back).text == canonicalize(&session.plan_query(*sql).await.unwrap().plan).text {
            assert_eq!(SubstraitPlan::of(&session, &back).await.unwrap(), plan, "{sql}");
        }
    }
}

#[test]
fn what_is_not_in_the_build_is_refused_by_name() {
    let refused = form_of(StoredPlans::Substrait, false).unwrap_err();
    assert!(matches!(refused, PlanStoreError::NotBuilt { asked: StoredPlans::Substrait, feature: "substrait" }));
    let said = refused.to_string();
    assert!(said.contains("stored_plans = \"substrait\"") && said.contains("the feature `substrait`"), "{said}");
    for asked in [StoredPlans::Off, StoredPlans::Engine] {
        assert_eq!(form_of(asked, false).unwrap(), PlanEncoding::Engine);
    }
    assert_eq!(form_of(StoredPlans::Substrait, true).unwrap(), PlanEncoding::Substrait);
}

/// What the engine's encoding cannot carry.
const REFUSED: &[&str] = &[
    "select k from t where exists (select 1 from u where u.k = t.k)",
    "select k from t where k in (select k from u)",
    "select strange(k) as k from t",
    "select table_name from information_schema.tables",
    "select value from generate_series(1, 3)",
];

/// With a function of unknown origin.
fn strange_session(lab: &Lab) -> Session {
    let session = lab.session();
    let strange = create_udf("strange", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, Arc::new(first));
    #[expect(clippy::disallowed_methods, reason = "plays foreign code")]
    session.context().register_udf(strange);
    session
}

#[tokio::test]
async fn golden_what_cannot_be_kept_says_why_and_is_planned_each_time() {
    let lab = Lab::new(StoredPlans::Engine);
    let (store, session) = (lab.store(), strange_session(&lab));
    let mut reasons = Vec::new();
    for sql in REFUSED {
        let bundles = [plan(&store, &session, sql).await, plan(&store, &session, sql).await];
        assert!(bundles.iter().all(|bundle| !bundle.is_replayed()), "{sql}");
        let [one, two] = bundles.map(|bundle| bundle.artifact());
        assert_eq!((one.plan_encoding, one.profile_hash), (PlanEncoding::None, Some(lab.profile.profile_hash())));
        assert_eq!(one, two, "{sql}: a bundle has one identity");
        reasons.push(format!("{sql}\n    {}", one.plan_encoding_reason.unwrap()));
    }
    let refused = PlanStoreCounters { refused: 2 * REFUSED.len() as u64, ..PlanStoreCounters::default() };
    assert_eq!(store.counters(), refused);
    insta::assert_snapshot!(reasons.join("\n"));
}

fn first(values: &[ColumnarValue]) -> datafusion::common::Result<ColumnarValue> {
    Ok(values[0].clone())
}

#[tokio::test]
async fn what_planning_depends_on_is_compared() {
    for form in FORMS {
        compared(&Lab::new(*form)).await;
    }
}

async fn compared(lab: &Lab) {
    let (store, session) = (lab.store(), lab.session());
    let before = plan(&store, &session, lab.joined()).await;
    assert!(plan(&store, &session, lab.joined()).await.is_replayed());
    // Not which rows: those are the business of keys.
    register(&session, "u", &[("k", &[2]), ("w", &[7])]);
    let other_rows = plan(&store, &session, lab.joined()).await;
    assert!(other_rows.is_replayed());
    assert_ne!(rows(&session, &other_rows).await, rows(&lab.session(), &before).await);

    // Columns: of another name, and in another order.
    register(&session, "u", &[("w", &[200]), ("k", &[2])]);
    let reordered = plan(&store, &session, lab.joined()).await;
    assert!(!reordered.is_replayed());
    assert_eq!(
        rows(&session, &reordered).await,
        rows(&session, &plan_view(&session, "v", lab.joined(), &inputs()).await.unwrap()).await
    );
    // The newer plan has taken the place of the older.
    assert!(plan(&store, &session, lab.joined()).await.is_replayed());
    assert!(!plan(&store, &lab.session(), lab.joined()).await.is_replayed());

    // A column more than there was: what a star stood for.
    let session = lab.session();
    plan(&store, &session, "select * from u").await;
    register(&session, "u", &[("k", &[1]), ("w", &[100]), ("x", &[7])]);
    let more = plan(&store, &session, "select * from u").await;
    assert!(!more.is_replayed());
    assert_eq!(more.published().fields().len(), 4);

    // A table that is no input of the view any more.
    let session = lab.session();
    let without = BTreeMap::from([inputs().pop_first().unwrap()]);
    let bundle = store.in_session(&session).plan_view("v", lab.joined(), &without).await.unwrap();
    assert!(!bundle.is_replayed() && bundle.cache_key().is_none());

    // A setting.
    let session = lab.session();
    plan(&store, &session, "select count(*) as n from t").await;
    assert!(plan(&store, &session, "select count(*) as n from t").await.is_replayed());
    let changed = session.with_sql_policy(alluvium_contracts::SqlPolicy::Service);
    let _ = changed.execute(Query::sql("set datafusion.sql_parser.enable_ident_normalization = false")).await.unwrap();
    assert!(!plan(&store, &session, "select count(*) as n from t").await.is_replayed());

    // Another profile.
    let other = PlanStore::new(lab.cache(), &lab.other_profile()).unwrap();
    assert!(!plan(&other, &lab.session(), lab.joined()).await.is_replayed());
}

/// Brings functions of the name of others.
#[derive(Debug)]
struct Brings(Vec<VersionedFunction>);

impl SessionExtension for Brings {
    fn slot(&self) -> Slot {
        Slot::Functions
    }

    fn install(&self, parts: &mut SessionParts) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.0.iter().cloned().for_each(|function| parts.versioned_function(function));
        Ok(())
    }
}

#[tokio::test]
async fn a_function_that_is_another_now_is_not_called_for_the_old_one() {
    for form in FORMS {
        called(&Lab::new(*form)).await;
    }
}

async fn called(lab: &Lab) {
    let session = |functions| {
        let session =
            SessionFactory::new(lab.profile.clone()).with_extension(Arc::new(Brings(functions))).build().unwrap();
        register(&session, "t", &[("k", &[1])]);
        session
    };
    // Another name of it is that of a built-in.
    let loud = |alias: Option<&'static str>| {
        let types = vec![DataType::Utf8];
        let function = create_udf("loud", types, DataType::Utf8, Volatility::Immutable, Arc::new(first));
        VersionedFunction::scalar("acme", 1, Arc::new(function.with_aliases(alias)))
    };
    let shout = |version, volatility| {
        let function = create_udf("upper", vec![DataType::Utf8], DataType::Utf8, volatility, Arc::new(first));
        VersionedFunction::scalar("acme", version, Arc::new(function))
    };
    let sql = "select upper(s) as s from t";
    let store = lab.store();
    let sessions = [
        session(vec![]),
        session(vec![shout(1, Volatility::Immutable)]),
        session(vec![shout(2, Volatility::Immutable)]),
        session(vec![shout(2, Volatility::Volatile)]),
        session(vec![loud(Some("upper"))]),
        session(vec![loud(None)]),
    ];
    for session in &sessions {
        let bundle = plan(&store, session, sql).await;
        let fresh = plan_view(session, "v", sql, &inputs()).await.unwrap();
        assert_eq!(bundle.identity(), fresh.identity());
        assert_eq!(rows(session, &bundle).await, rows(session, &fresh).await);
        assert!(plan(&store, session, sql).await.is_replayed(), "{:?}", bundle.identity());
    }
}

/// The only entry of a store.
fn only_entry(cache: &KvCache) -> (String, Vec<u8>) {
    let (key, item) = cache.inner().items_from(&"plan:".to_owned(), Order::Ascending).next().unwrap().unwrap();
    (key.decode().unwrap(), item.value.to_vec())
}

#[tokio::test]
async fn a_damaged_entry_and_one_of_another_engine_are_misses() {
    for form in FORMS {
        missed(&Lab::new(*form)).await;
    }
}

async fn missed(lab: &Lab) {
    let session = lab.session();
    plan(&lab.store(), &session, lab.joined()).await;
    let cache = lab.cache();
    let (key, bytes) = only_entry(&cache);
    let record = Record::from_bytes(&bytes).unwrap();
    let mut flipped = bytes.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut foreign = record.clone();
    foreign.engine.insert("datafusion".to_owned(), "54.0.0".to_owned());
    let mut misplaced = record.clone();
    misplaced.fingerprint = alluvium_contracts::PlanFingerprint::of(b"of something else");
    let mut garbled = record;
    garbled.plan.truncate(garbled.plan.len() / 2);
    let cases = [
        ("cut off", bytes[..bytes.len() / 2].to_vec(), 1),
        ("empty", Vec::new(), 1),
        ("flipped", flipped, 1),
        ("foreign", foreign.to_bytes(), 0),
        ("another plan", misplaced.to_bytes(), 0),
        ("half a plan", garbled.to_bytes(), 0),
    ];
    for (case, bytes, damaged) in cases {
        cache.inner().set(&key, &bytes[..]).unwrap();
        let store = lab.store();
        let bundle = plan(&store, &session, lab.joined()).await;
        assert!(!bundle.is_replayed(), "{case}");
        let counters = store.counters();
        assert_eq!((counters.damaged, counters.kept, counters.replayed), (damaged, 1, 0), "{case}");
        let notices = store.take_notices();
        assert_eq!(notices.len() as u64, damaged, "{case}: {notices:?}");
        assert!(notices.iter().all(|notice| notice.contains("`v`")), "{notices:?}");
        assert!(plan(&store, &session, lab.joined()).await.is_replayed(), "{case}: it was mended");
    }
}

#[tokio::test]
async fn plans_of_a_profile_or_a_policy_go_together() {
    for form in FORMS {
        evicted(&Lab::new(*form)).await;
    }
}

async fn evicted(lab: &Lab) {
    let session = lab.session();
    let fingerprint = plan_view(&session, "v", "select k from t", &inputs()).await.unwrap().identity().plan_fingerprint;
    let tags = [
        (KvTag::profile(&lab.profile.profile_hash()), 2, [false, false, true]),
        (KvTag::sql_policy(&lab.profile.sql_policy_hash()), 3, [false, false, false]),
        (KvTag::plan(&fingerprint), 1, [false, true, true]),
    ];
    for (tag, evicted, are_there) in tags {
        let (ours, others) = (lab.store(), PlanStore::new(lab.cache(), &lab.other_profile()).unwrap());
        plan(&ours, &session, "select k from t").await;
        plan(&ours, &session, lab.joined()).await;
        plan(&others, &session, lab.joined()).await;
        assert_eq!(lab.cache().evict(&tag).unwrap(), evicted, "{tag}");
        let found = [
            plan(&ours, &session, "select k from t").await.is_replayed(),
            plan(&ours, &session, lab.joined()).await.is_replayed(),
            plan(&others, &session, lab.joined()).await.is_replayed(),
        ];
        assert_eq!(found, are_there, "{tag}");
    }
}

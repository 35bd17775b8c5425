//! Functions that are no built-ins, and what they do to an identity.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use alluvium_contracts::{CacheKey, ProfileSpec};
use alluvium_functions::VersionedFunction;
use alluvium_profile::{RuntimeProfile, Session, SessionExtension, SessionFactory, SessionParts, Slot};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::dataframe::DataFrame;
use datafusion::functions::expr_fn::upper;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_window::rank::rank_udwf;
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlanBuilder, ScalarUDF, Volatility, create_udf, lit};

use crate::{Earlier, PlanBundle, explain, one_line, plan_view};

/// Brings functions, with a version each or without.
#[derive(Debug)]
struct Brings {
    versioned: Vec<VersionedFunction>,
    unversioned: Vec<Arc<ScalarUDF>>,
}

impl SessionExtension for Brings {
    fn slot(&self) -> Slot {
        Slot::Functions
    }

    fn install(&self, parts: &mut SessionParts) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.versioned.iter().cloned().for_each(|function| parts.versioned_function(function));
        self.unversioned.iter().cloned().for_each(|function| parts.scalar_function(function));
        Ok(())
    }
}

fn session(versioned: Vec<VersionedFunction>, unversioned: Vec<Arc<ScalarUDF>>) -> Session {
    let profile = RuntimeProfile::from(&ProfileSpec::default());
    SessionFactory::new(profile).with_extension(Arc::new(Brings { versioned, unversioned })).build().unwrap()
}

/// A function of one text, that answers `answer`.
fn function(name: &str, volatility: Volatility, answer: &'static str) -> Arc<ScalarUDF> {
    let answers = Arc::new(move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from(answer))));
    Arc::new(create_udf(name, vec![DataType::Utf8], DataType::Utf8, volatility, answers))
}

fn immutable(name: &str) -> Arc<ScalarUDF> {
    function(name, Volatility::Immutable, "x")
}

async fn plan(session: &Session, sql: &str) -> PlanBundle {
    plan_view(session, "v", sql, &BTreeMap::new()).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

async fn key(session: &Session, sql: &str) -> Option<CacheKey> {
    plan(session, sql).await.cache_key()
}

const SHOUT: &str = "select shout(x) as y from (values ('a')) as t(x)";

#[tokio::test]
async fn a_function_with_a_version_is_known_and_one_without_is_denied() {
    let known = plan(&session(vec![VersionedFunction::scalar("acme", 3, immutable("shout"))], vec![]), SHOUT).await;
    assert!(known.cache_key().is_some(), "{:?}", known.identity());
    assert_eq!(known.components()["function scalar shout"], "acme v3");
    let unknown = plan(&session(vec![], vec![immutable("shout")]), SHOUT).await;
    assert_eq!(unknown.cache_key(), None);
    assert_eq!(unknown.identity().reasons, ["the function shout() is no built-in and declares no version"]);
}

#[tokio::test]
async fn another_version_and_another_provider_are_other_identities() {
    let of =
        |provider: &str, number| session(vec![VersionedFunction::scalar(provider, number, immutable("shout"))], vec![]);
    let first = plan(&of("acme", 1), SHOUT).await;
    let again = plan(&of("acme", 1), SHOUT).await;
    assert_eq!(
        (first.cache_key(), first.identity().plan_fingerprint),
        (again.cache_key(), again.identity().plan_fingerprint)
    );
    let raised = plan(&of("acme", 2), SHOUT).await;
    let other = plan(&of("emca", 1), SHOUT).await;
    // Names that run into the number.
    let tricky = plan(&of("acme v1", 1), SHOUT).await;
    let keys = [&first, &raised, &other, &tricky].map(|bundle| bundle.cache_key().unwrap().to_string());
    assert_eq!(std::collections::BTreeSet::from(keys.clone()).len(), 4, "{keys:?}");
    let earlier = Earlier { key: first.cache_key().unwrap(), components: first.components(), outline: None };
    let why = explain([earlier], raised.cache_key(), raised.components(), || None);
    assert_eq!(one_line(&why), "function scalar shout: acme v1 → acme v2");
}

#[tokio::test]
async fn a_bundle_records_what_every_function_was() {
    let with = |number, name: &'static str| {
        let shout = Arc::new(immutable("shout").as_ref().clone().with_aliases([name]));
        session(vec![VersionedFunction::scalar("acme", number, shout)], vec![])
    };
    let sql = "select shout(upper(x)) as y, now() as at, sum(1) over () as n from (values ('a')) as t(x)";
    let hashes = async |session: &Session| plan(session, sql).await.artifact().function_hashes;
    let first = hashes(&with(1, "cry")).await;
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    // One that makes the view uncacheable is on record too; the session itself truncates the time.
    assert_eq!(names, ["aggregate sum", "scalar date_trunc", "scalar now", "scalar shout", "scalar upper"]);
    let catalog = with(1, "cry").function_catalog().unwrap();
    for (name, hash) in &first {
        let called = name.split_once(' ').unwrap().1;
        assert_eq!(catalog.named(called).find(|entry| entry.name == called).unwrap().hash, *hash, "{name}");
    }
    let raised = hashes(&with(2, "cry")).await;
    let moved: Vec<_> = first.iter().filter(|(name, hash)| raised[*name] != **hash).map(|(name, _)| name).collect();
    assert_eq!(moved, ["scalar shout"]);
    // Another alias is another hash, and no other identity.
    assert_ne!(hashes(&with(1, "call")).await, first);
    assert_eq!(key(&with(1, "cry"), SHOUT).await.unwrap(), key(&with(1, "call"), SHOUT).await.unwrap());
    // A query without functions has none.
    assert!(plan(&with(1, "cry"), "select 1 as one").await.artifact().function_hashes.is_empty());
}

#[tokio::test]
async fn who_takes_a_name_has_an_identity_of_its_own() {
    for (name, sql) in [
        ("upper", "select upper(x) as y from (values ('a')) as t(x)"),
        ("stable_id", "select stable_id('NodeId') as y"),
        ("prefixed_hash64", "select prefixed_hash64('a') as y"),
    ] {
        let taken = session(vec![VersionedFunction::scalar("acme", 1, immutable(name))], vec![]);
        let taken = plan(&taken, sql).await;
        assert_eq!(taken.components()[&format!("function scalar {name}")], "acme v1");
    }
    let upper = "select upper(x) as y from (values ('a')) as t(x)";
    let plain = session(vec![], vec![]);
    let taken = session(vec![VersionedFunction::scalar("acme", 1, immutable("upper"))], vec![]);
    assert_ne!(key(&plain, upper).await, key(&taken, upper).await);
}

/// SQL reaches one of them by their name; a plan of the engine's builder has them both.
#[tokio::test]
async fn two_functions_of_one_name_in_one_plan_have_no_identity() {
    let taker = immutable("upper");
    let session = session(vec![VersionedFunction::scalar("acme", 1, Arc::clone(&taker))], vec![]);
    let of = async |call: Expr| {
        let query = LogicalPlanBuilder::empty(true).project(vec![call.alias("y")]).unwrap().build().unwrap();
        let frame = DataFrame::new(session.context().state(), query);
        plan_view(&session, "v", frame, &BTreeMap::new()).await.unwrap()
    };
    let takers = |inner: Expr| taker.call(vec![inner]);
    let taken = of(takers(takers(lit("a")))).await;
    let built_in = of(upper(upper(lit("a")))).await;
    assert_eq!(taken.components()["function scalar upper"], "acme v1");
    assert_eq!(built_in.components()["function scalar upper"], "built-in");
    assert_ne!(taken.cache_key().unwrap(), built_in.cache_key().unwrap());
    for both in [of(takers(upper(lit("a")))).await, of(upper(takers(lit("a")))).await] {
        assert_eq!(both.cache_key(), None);
        assert_eq!(
            both.identity().reasons,
            ["upper() is the name of more than one scalar function that is called: acme v1, built-in"]
        );
        for one in [&taken, &built_in] {
            assert_ne!(both.identity().plan_fingerprint, one.identity().plan_fingerprint);
        }
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "plays the foreign code that takes a function's name")]
async fn who_takes_the_name_later_has_not_its_version() {
    let taken = session(vec![VersionedFunction::scalar("acme", 1, immutable("shout"))], vec![immutable("shout")]);
    assert_eq!(key(&taken, SHOUT).await, None, "the extension itself brought another one later");

    let taken = session(vec![VersionedFunction::scalar("acme", 1, immutable("shout"))], vec![]);
    assert!(key(&taken, SHOUT).await.is_some());
    taken.context().register_udf(function("shout", Volatility::Immutable, "z").as_ref().clone());
    assert_eq!(key(&taken, SHOUT).await, None, "one of the same name, and not the same");

    let ours = session(vec![], vec![]);
    ours.context().register_udf(immutable("span_len").as_ref().clone());
    assert_eq!(key(&ours, "select span_len('a') as y").await, None);
}

#[tokio::test]
async fn a_version_makes_no_function_immutable() {
    for volatility in [Volatility::Stable, Volatility::Volatile] {
        let moody = session(vec![VersionedFunction::scalar("acme", 1, function("shout", volatility, "x"))], vec![]);
        assert_eq!(key(&moody, SHOUT).await, None, "{volatility:?}");
    }
}

#[tokio::test]
async fn functions_of_groups_and_windows_have_versions_too() {
    let sum =
        |number| VersionedFunction::aggregate("acme", number, sum_udaf().as_ref().clone().with_aliases(["total"]));
    let rank = |number| VersionedFunction::window("acme", number, rank_udwf().as_ref().clone().with_aliases(["place"]));
    let sql = "select total(x) as t from (values (1), (2)) as v(x)";
    let (first, raised) = (session(vec![sum(1)], vec![]), session(vec![sum(2)], vec![]));
    assert_eq!(plan(&first, sql).await.components()["function aggregate sum"], "acme v1");
    assert_ne!(key(&first, sql).await.unwrap(), key(&raised, sql).await.unwrap());
    let sql = "select place() over (order by x) as t from (values (1), (2)) as v(x)";
    let (first, raised) = (session(vec![rank(1)], vec![]), session(vec![rank(2)], vec![]));
    assert_eq!(plan(&first, sql).await.components()["function window rank"], "acme v1");
    assert_ne!(key(&first, sql).await.unwrap(), key(&raised, sql).await.unwrap());
}

#[tokio::test]
async fn ours_are_known_in_every_session() {
    let bundle = plan(
        &session(vec![], vec![]),
        "select stable_id('NodeId', x) as node, span_id(x, span_make(1, 2)) as span from (values ('a')) as t(x)",
    )
    .await;
    assert!(bundle.cache_key().is_some(), "{:?}", bundle.identity());
    for name in ["stable_id", "span_id", "span_make"] {
        assert_eq!(bundle.components()[&format!("function scalar {name}")], "alluvium v1");
    }
    let types: Vec<_> = bundle.published().fields().into_iter().map(|field| field.metadata).collect();
    assert_eq!(types[0]["ARROW:extension:name"], "NodeId");
    assert_eq!(types[1]["ARROW:extension:name"], "SpanId");
}

//! Why a key was missed, in the words of the query: told by plan and run, kept with the entry and in the ledger.

use alluvium_contracts::{MissExplanation, QueryChangeKind, QueryPart, ViewResult};
use alluvium_runs::Selection;

use crate::caches::caches_at;
use crate::lab::Lab;

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.counted]
sql = "select s, count(*) as n from events where k > 1 group by s"

[views.named]
sql = "select upper(s) as name, n from counted"
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_says_what_of_the_query_changed_wherever_it_is_told() {
    let lab = lab();
    lab.run().await;
    lab.edit("alluvium.toml", "k > 1 group", "k > 2 group");
    lab.edit("alluvium.toml", "count(*) as n", "count(*) as n, max(k) as last");
    lab.edit("alluvium.toml", "upper(s) as name", "lower(s) as title");

    let planned = lab.plan().await;
    let [counted, named] = planned.views.as_slice() else { panic!("{planned:?}") };
    assert_eq!(counted.reason.as_deref(), Some("column last: added (max(k)); filter: k > 1 → k > 2; and 1 more"));
    let why = counted.explanation.clone().unwrap();
    let lines = why.lines();
    assert_eq!(lines[2..], ["function aggregate max: added (built-in)"], "{lines:?}");
    let [added, filter, ..] = why.query_changes.as_slice() else { panic!("{why:?}") };
    assert_eq!(
        (added.part, added.change, added.name.as_deref()),
        (QueryPart::Column, QueryChangeKind::Added, Some("last"))
    );
    assert_eq!(
        (filter.part, filter.before.as_deref(), filter.after.as_deref()),
        (QueryPart::Filter, Some("k > 1"), Some("k > 2"))
    );
    let lines = named.explanation.clone().unwrap().lines();
    assert_eq!(lines[..2], ["column name: removed (upper(s))", "column title: added (lower(s))"], "{lines:?}");

    let document = lab.run().await;
    assert!(document.views.iter().all(|view| view.result == ViewResult::Write), "{document:?}");
    assert_eq!(document.views[0].explanation.as_ref(), Some(&why));
    assert_eq!(caches_at(lab.dir()).cache().show("counted").unwrap().entries[0].explanation.as_ref(), Some(&why));
    let stored = lab
        .sql(&format!(
            "select document from alluvium.cache_artifacts where artifact_kind = 'miss_explanation' and run_id = '{}' and name = 'counted'",
            document.run_id
        ))
        .await;
    assert!(stored.contains(r#""after":"k > 2","before":"k > 1","change":"changed""#), "{stored}");
}

/// An entry that was found by its commit says its components, and nothing of its query.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_query_was_is_said_to_be_unknown_where_nothing_kept_it() {
    let lab = lab();
    lab.run().await;
    std::fs::remove_dir_all(lab.path(".alluvium/kv/index")).unwrap();
    assert!(lab.run().await.views.iter().all(|view| view.result == ViewResult::Hit));
    lab.edit("alluvium.toml", "k > 1 group", "k > 2 group");
    let why: MissExplanation = lab.plan().await.views[0].explanation.clone().unwrap();
    assert!(why.query_changes.is_empty() && why.query_unknown.is_some(), "{why:?}");
    let [plan, unknown] = why.lines().try_into().unwrap_or_else(|lines| panic!("{lines:?}"));
    assert!(plan.starts_with("plan: b3:"), "{plan}");
    assert_eq!(
        unknown,
        "what of the query changed is not known: what the earlier entry's query was made of is not kept"
    );
    // From here on it is known again.
    lab.run().await;
    lab.edit("alluvium.toml", "k > 2 group", "k > 3 group");
    assert_eq!(lab.plan().await.views[0].reason.as_deref(), Some("filter: k > 2 → k > 3"));
}

/// Names of files are no part of a key, so a renamed one is no reason for a miss.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_file_is_no_reason() {
    let lab = lab();
    lab.run().await;
    std::fs::rename(lab.path("data/events.parquet"), lab.path("data/renamed.parquet")).unwrap();
    lab.edit("alluvium.toml", "data/events.parquet", "data/renamed.parquet");
    assert_eq!(lab.plan().await.views[0].explanation, None);
    let counted = Selection { views: vec!["counted".to_owned()], ..Selection::default() };
    let _ = caches_at(lab.dir()).cache().evict(&counted, false).unwrap();
    assert_eq!(lab.plan().await.views[0].reason.as_deref(), Some("its entry is gone"));
    lab.edit("alluvium.toml", "k > 1 group", "k > 2 group");
    assert_eq!(lab.plan().await.views[0].reason.as_deref(), Some("filter: k > 1 → k > 2"));
}

/// A view that is kept as its output has no entry; what it was published under is remembered with its publication.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_its_output_says_what_changed_since_it_was_published() {
    let output = "cache = \"delta_output\"\n[outputs.named]\nview = \"named\"\npath = \"out/named\"\n";
    let lab = Lab::new(&format!("{TOML}{output}"));
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab.run().await;
    lab.edit("alluvium.toml", "upper(s) as name", "lower(s) as title");
    let planned = lab.plan().await;
    let named = planned.views.iter().find(|view| view.name == "named").unwrap();
    let reason = "column name: removed (upper(s)); column title: added (lower(s)); and 2 more";
    assert_eq!(named.reason.as_deref(), Some(reason));
    let why = named.explanation.clone().unwrap();
    assert_eq!(planned.outputs[0].reason.as_deref(), Some("its view changed"));

    let document = lab.run().await;
    let named = document.views.iter().find(|view| view.name == "named").unwrap();
    assert_eq!((named.result, named.explanation.as_ref()), (ViewResult::Write, Some(&why)));
    let stored =
        "select document from alluvium.cache_artifacts where artifact_kind = 'miss_explanation' and name = 'named'";
    assert!(lab.sql(stored).await.contains("lower(s)"), "{}", lab.sql(stored).await);

    // Another root, or one whose index is lost, has not seen it: once it has found it published, it knows.
    std::fs::remove_dir_all(lab.path(".alluvium/kv/index")).unwrap();
    let reason = async || lab.plan().await.views.into_iter().find(|view| view.name == "named").unwrap().reason;
    lab.edit("alluvium.toml", "lower(s) as title", "upper(s) as title");
    assert_eq!(reason().await.as_deref(), Some("its view changed"));
    lab.edit("alluvium.toml", "upper(s) as title", "lower(s) as title");
    assert_eq!(reason().await, None);
    lab.edit("alluvium.toml", "lower(s) as title", "upper(s) as title");
    assert!(reason().await.is_some_and(|reason| reason.starts_with("column title: lower(s) → upper(s); ")));
}

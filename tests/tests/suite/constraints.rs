//! What a pipeline file declares of the rows of a source: a run holds them against it, once a pin, and computes nothing over
//! rows that are otherwise.

use alluvium_runs::{OpenOptions, RunError, RunOptions, Silent};
use url::Url;

use crate::lab::{Lab, results, run, sessions, try_run};
use crate::store::Counting;

const TOML: &str = r#"
[sources.t]
format = "parquet"
path = "t.parquet"

[sources.t.constraints]
primary_key = ["k"]
not_null = ["s"]
check = { small = "k < 100" }

[views.counted]
sql = "select s, count(*) as n from t group by s"
"#;

fn lab(rows: &[(i64, &str)]) -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("t.parquet", rows);
    lab
}

async fn refused(lab: &Lab) -> (RunError, String) {
    let error = try_run(&lab.open(), RunOptions::default(), &Silent).await.unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    (error, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_violate_what_is_declared_are_counted_and_shown_and_nothing_is_computed() {
    let lab = lab(&[(1, "a"), (1, "b"), (200, "password=hunter2"), (3, "d")]);
    let (error, text) = refused(&lab).await;
    assert!(matches!(error, RunError::Constraints { .. }) && !error.is_input(), "{error:?}");
    for part in [
        "alluvium.toml:2: source `t`",
        "violates `check small` in 1 rows, such as (k=200, s=password=",
        "`primary_key` in 2 rows, such as (k=1)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    assert!(!lab.path(".alluvium/view_cache").exists(), "nothing was computed");
    // Whoever looks for the rows can ask for them.
    assert!(lab.sql("select s from t where k = 200").await.contains("hunter2"));
    assert_eq!(lab.plan().await.views.len(), 1);

    lab.parquet("t.parquet", &[(1, "a"), (2, "b")]);
    assert_eq!(results(&run(&lab.open()).await), ["counted: write"]);
    for (from, to, says, is_input) in [
        ("k < 100", "k < ", "the check `small`", true),
        ("k < ", "k < 100", "", false),
        (r#"["s"]"#, r#"["z"]"#, "name the column `z`", true),
        (r#"["z"]"#, r#"["s"]"#, "", false),
        ("k < 100", "k < 2", "`check small` in 1 rows", false),
    ] {
        lab.edit("alluvium.toml", from, to);
        if says.is_empty() {
            continue;
        }
        let (error, text) = refused(&lab).await;
        assert!(text.contains(says) && error.is_input() == is_input, "{text}");
    }
}

/// Rows are read for it once a pin and declaration; and what is declared of rows moves no key.
#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_source_is_not_checked_again() {
    let lab = lab(&[(1, "a"), (2, "b")]);
    let counting = || {
        let store = Counting::new("t.parquet");
        let local = Url::parse("file:///").unwrap();
        let sessions = Some(sessions().with_object_store(local, store.clone() as _));
        (Lab::open_with(lab.dir(), OpenOptions { sessions, ..OpenOptions::default() }), store)
    };
    let keys = lab.keys().await;
    let (pipeline, _) = counting();
    assert_eq!(results(&run(&pipeline).await), ["counted: write"]);
    assert_eq!(pipeline.pin_counters().constraints_checked, 1);

    let (pipeline, files) = counting();
    assert_eq!(results(&run(&pipeline).await), ["counted: hit"]);
    assert_eq!((pipeline.pin_counters().constraints_checked, files.reads()), (0, 0));

    // Another declaration, and other rows, are checked; and a source that nothing reads is not.
    lab.edit("alluvium.toml", "k < 100", "k < 50");
    let (pipeline, files) = counting();
    assert_eq!(results(&run(&pipeline).await), ["counted: hit"]);
    assert_eq!(pipeline.pin_counters().constraints_checked, 1);
    assert!(files.reads() > 0);
    assert_eq!(lab.keys().await, keys);
    lab.parquet("t.parquet", &[(1, "a"), (3, "b")]);
    let (pipeline, _) = counting();
    assert_eq!(results(&run(&pipeline).await), ["counted: write"]);
    assert_eq!(pipeline.pin_counters().constraints_checked, 1);
    lab.parquet("t.parquet", &[(1, "a"), (1, "b")]);
    lab.edit("alluvium.toml", "from t ", "from (values ('x')) as v(s) ");
    let (pipeline, _) = counting();
    assert_eq!(results(&run(&pipeline).await), ["counted: write"]);
    assert_eq!(pipeline.pin_counters().constraints_checked, 0);
}

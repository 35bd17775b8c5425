//! `--shadow`: hits are computed all the same, and an entry that holds other rows than its view is found, set aside and
//! mended, without a word from its own bytes.

use alluvium_contracts::{CacheEntryDetail, OutputResult, RunDocument, RunResult, ShadowResult, ViewResult};
use alluvium_runs::{RunOptions, Silent};

use crate::caches::caches_at;
use crate::lab::{Lab, answer, results, try_run};

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[views.first]
sql = "select k, s from events"

[views.between]
sql = "select s, k from first"
cache = "none"

[views.second]
sql = "select s, sum(k) as total from between group by s"

[outputs.first]
view = "first"
path = "out/first"
"#;

fn lab(toml: &str, rows: &[(i64, &str)]) -> Lab {
    let lab = Lab::new(toml);
    lab.parquet("data/events.parquet", rows);
    lab
}

const ROWS: [(i64, &str); 3] = [(1, "a"), (2, "b"), (3, "b")];
const OTHERS: [(i64, &str); 3] = [(1, "a"), (2, "b"), (4, "b")];

async fn shadowed(lab: &Lab, percent: u8) -> RunDocument {
    let options = RunOptions { shadow_percent: percent, ..RunOptions::default() };
    try_run(&lab.open(), options, &Silent).await.unwrap()
}

fn shadows(document: &RunDocument) -> Vec<Option<ShadowResult>> {
    document.views.iter().map(|view| view.shadow).collect()
}

fn entry(lab: &Lab, view: &str) -> CacheEntryDetail {
    caches_at(lab.dir()).cache().show(view).unwrap().entries.remove(0)
}

/// Puts the rows of another project's entry into that of `lab`, with digests that fit, and has it found by its commit.
async fn forge(lab: &Lab, toml: &str, view: &str) {
    let other = self::lab(toml, &OTHERS);
    other.run().await;
    let (ours, theirs) = (entry(lab, view), entry(&other, view));
    let place = |lab: &Lab, entry: &CacheEntryDetail| lab.path(".alluvium").join(&entry.entry.cache_path);
    let (from, to) = (place(&other, &theirs), place(lab, &ours));
    std::fs::copy(from.join(&theirs.files[0].path), to.join(&ours.files[0].path)).unwrap();
    let log = to.join("_delta_log/00000000000000000000.json");
    let size = |entry: &CacheEntryDetail| format!("\"size\":{}", entry.files[0].size_bytes);
    let text = std::fs::read_to_string(&log).unwrap();
    let forged = text
        .replace(&ours.files[0].digest.to_string(), &theirs.files[0].digest.to_string())
        .replace(&size(&ours), &size(&theirs));
    assert_ne!(text, forged);
    std::fs::write(&log, forged).unwrap();
    std::fs::remove_dir_all(lab.path(".alluvium/kv/index")).unwrap();
}

async fn rows(lab: &Lab, table: &str) -> String {
    answer(&lab.open(), &format!("select sum(k) as k from {table}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_agrees_and_stays_a_hit() {
    let lab = lab(TOML, &ROWS);
    lab.run().await;
    let before = caches_at(lab.dir()).cache().list().unwrap();
    let document = shadowed(&lab, 100).await;
    assert_eq!(results(&document), ["first: hit", "between: computed", "second: hit"], "{document:#?}");
    assert_eq!(shadows(&document), [Some(ShadowResult::Agrees), None, Some(ShadowResult::Agrees)]);
    assert_eq!(caches_at(lab.dir()).cache().list().unwrap(), before);
    assert_eq!(shadows(&shadowed(&lab, 0).await), [None; 3]);
    assert_eq!(shadows(&lab.run().await), [None; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exact_entry_with_other_rows_is_set_aside_and_computed_anew() {
    let lab = lab(TOML, &ROWS);
    lab.run().await;
    forge(&lab, TOML, "first").await;
    // Every byte is as its commit says, so it is served, and wrong.
    assert_eq!(results(&lab.run().await)[0], "first: hit");
    assert!(rows(&lab, "first").await.contains("| 7 |"));

    let document = shadowed(&lab, 100).await;
    assert_eq!(document.result, RunResult::Succeeded);
    assert_eq!(results(&document), ["first: write", "between: computed", "second: hit"], "{document:#?}");
    // What was computed before the forgery agrees with what the mended view gives.
    assert_eq!(shadows(&document), [Some(ShadowResult::Differs), None, Some(ShadowResult::Agrees)]);
    let reason = document.views[0].reason.clone().unwrap();
    assert!(reason.contains("other values in some"), "{reason}");
    assert!(document.notices.iter().any(|notice| notice.contains("first")), "{:?}", document.notices);
    assert_eq!(document.outputs[0].result, OutputResult::Write, "what was published from it is published anew");
    assert_eq!(std::fs::read_dir(lab.path(".alluvium/quarantine")).unwrap().count(), 1);
    for table in ["first", "outputs.first"] {
        assert!(rows(&lab, table).await.contains("| 6 |"), "{table}");
    }
    assert_eq!(shadows(&shadowed(&lab, 100).await), [Some(ShadowResult::Agrees), None, Some(ShadowResult::Agrees)]);
    let ledger =
        "select reason from alluvium.cache_inventory where view_name = 'first' and reason like '%other values%'";
    assert!(answer(&lab.open(), ledger).await.contains("other values"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unstable_entry_with_other_rows_is_told_and_kept() {
    let toml = "[sources.events]\nformat = \"parquet\"\npath = \"data/events.parquet\"\n\
                [views.first]\nsql = \"select sum(cast(k as double)) as k from events\"\n";
    let lab = lab(toml, &ROWS);
    lab.run().await;
    forge(&lab, toml, "first").await;
    let document = shadowed(&lab, 100).await;
    assert_eq!(document.views[0].result, ViewResult::Hit, "{document:#?}");
    assert_eq!(shadows(&document), [Some(ShadowResult::Unstable)]);
    assert!(!lab.path(".alluvium/quarantine").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_a_share_and_another_each_run() {
    let mut toml = "[sources.events]\nformat = \"parquet\"\npath = \"data/events.parquet\"\n".to_owned();
    for view in 0..8 {
        toml += &format!("[views.v{view}]\nsql = \"select k + {view} as k from events\"\n");
    }
    let lab = lab(&toml, &ROWS);
    lab.run().await;
    let mut chosen = 0;
    for _ in 0..4 {
        chosen += shadows(&shadowed(&lab, 50).await).into_iter().flatten().count();
    }
    // None or all of 32 would be chosen once in two thousand million times.
    assert!((1..32).contains(&chosen), "{chosen}");
}

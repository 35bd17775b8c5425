//! `alluvium runs` as a script meets it.

use std::path::Path;

use serde_json::Value;

use crate::{ends, project};

#[test]
fn a_run_is_kept_until_it_is_released() {
    let (_keep, shop) = project();
    let (printed, _) = ends(0, &["run", &shop, "--format", "json"]);
    let document: Value = serde_json::from_str(&printed).unwrap();
    let run_id = document["payload"]["run_id"].as_str().unwrap();
    let outputs = document["payload"]["outputs"].as_array().unwrap().len();

    let (kept, _) = ends(0, &["runs", "keep", &run_id[run_id.len() - 8..], "-C", &shop]);
    assert!(kept.starts_with(&format!("run {run_id} is kept, with 2 entries\n")), "{kept}");
    assert_eq!(kept.matches(" at version 0 is kept from vacuums\n").count(), outputs, "{kept}");
    assert_eq!(kept.lines().count(), 1 + outputs, "nothing is missing and nothing cannot be kept: {kept}");
    let (evicted, _) = ends(0, &["cache", "evict", "--all", "-C", &shop, "--format", "json"]);
    assert_eq!(evicted.matches("\"result\": \"kept\"").count(), 2, "{evicted}");
    assert!(ends(0, &["run", &shop]).0.contains("2 hit"));

    assert_eq!(ends(0, &["runs", "release", run_id, "-C", &shop]).0, format!("run {run_id} is kept no longer\n"));
    assert_eq!(ends(0, &["runs", "release", run_id, "-C", &shop]).0, format!("run {run_id} was not kept\n"));
    ends(0, &["cache", "evict", "--all", "-C", &shop]);
    let (kept, _) = ends(0, &["runs", "keep", run_id, "-C", &shop]);
    assert!(kept.starts_with(&format!("run {run_id} is kept, with 0 entries\n")), "{kept}");
    assert_eq!(kept.matches(" is not there any more\n").count(), 2, "{kept}");

    let (_, unknown) = ends(2, &["runs", "keep", "0000ffff", "-C", &shop]);
    assert!(unknown.contains("alluvium runs ls"), "{unknown}");
    assert!(ends(2, &["runs", "release", "newest", "-C", &shop]).1.contains("`latest`"));
    assert!(ends(2, &["runs", "keep", "-C", &shop]).1.contains("Usage"));
}

#[test]
fn a_ledger_that_was_set_aside_is_told_however_quiet() {
    let (_keep, shop) = project();
    ends(0, &["run", &shop]);
    let ledgers = Path::new(&shop).join(".alluvium/cache_ledgers");
    let aside = "datafusion_cache_run_summary_v1.damaged-1";
    let told = |stderr: &str| stderr.contains("note: ledger cache_runs") && stderr.contains(aside);
    assert!(!told(&ends(0, &["runs", "ls", &shop]).1));

    let log = ledgers.join("datafusion_cache_run_summary_v1/_delta_log/00000000000000000000.json");
    std::fs::write(log, "{").unwrap();
    for flags in [&[][..], &["-q"]] {
        let (listed, stderr) = ends(0, &[&["runs", "ls", &shop], flags].concat());
        assert!(listed.starts_with("no runs yet") && told(&stderr), "{stderr}");
        assert!(stderr.contains("earlier runs") && stderr.contains("delete that directory"), "{stderr}");
        let of = |table: &str| {
            let sql = format!("select count(*) as n from alluvium.{table}");
            ends(0, &[&["sql", &sql, "-C", &shop], flags].concat()).1
        };
        assert!(told(&of("cache_runs")) && told(&of("runs")));
        assert_eq!(of("cache_inventory"), "", "nothing of it is in the answers of others");
    }
    std::fs::remove_dir_all(ledgers.join(aside)).unwrap();
    assert_eq!(ends(0, &["runs", "ls", &shop, "-q"]).1, "");
}

//! `alluvium runs keep` and `release` as a script meets them.

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

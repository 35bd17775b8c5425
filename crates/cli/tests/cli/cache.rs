//! `alluvium cache` as a script meets it: documents, exit codes, and a pipeline that goes on.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{ends, project, results};

/// The payload of the one document that a command on the caches of `shop` prints.
#[track_caller]
fn document(code: i32, kind: &str, shop: &str, arguments: &[&str]) -> Value {
    let (stdout, _) = ends(code, &[&["cache"], arguments, &["-C", shop, "--format", "json"]].concat());
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["kind"], kind);
    let file = Path::new(shop).join("document.json");
    fs::write(&file, &stdout).unwrap();
    ends(0, &["contracts", "validate", file.to_str().unwrap()]);
    document["payload"].clone()
}

fn data_file(shop: &str, entry: &Value) -> PathBuf {
    let dir = Path::new(shop).join(".alluvium").join(entry["cache_path"].as_str().unwrap());
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "parquet")).unwrap()
}

fn rerun(shop: &str) -> Vec<(String, String)> {
    results(&ends(0, &["run", shop, "--format", "json"]).0)
}

#[test]
fn a_root_is_looked_after_and_the_pipeline_goes_on() {
    let (_keep, shop) = project();
    assert_eq!(document(0, "cache_listing", &shop, &["ls"])["entries"], json!([]));
    let (_, refused) = ends(2, &["cache", "gc", "-C", &shop]);
    assert!(refused.contains("alluvium run"), "{refused}");

    ends(0, &["run", &shop]);
    let listed = document(0, "cache_listing", &shop, &["ls"]);
    let names: Vec<&Value> = listed["entries"].as_array().unwrap().iter().map(|entry| &entry["view_name"]).collect();
    assert_eq!(names, ["daily_revenue", "orders_clean"]);
    assert_eq!(document(0, "cache_listing", &shop, &["ls", "orders_clean"])["entries"].as_array().unwrap().len(), 1);
    let (none, error) = ends(2, &["cache", "ls", &shop, "-C", &shop]);
    assert!(none.is_empty() && error.contains(&format!("hint: -C {shop} names the project")), "{none}{error}");
    let shown = document(0, "cache_entry_document", &shop, &["show", "orders_clean"]);
    assert_eq!(shown["entries"][0]["explanation"]["compared_with"], Value::Null);
    let (text, _) = ends(0, &["cache", "show", "orders_clean", "-C", &shop]);
    assert!(text.contains("no earlier entry") && text.contains("source orders"), "{text}");
    let elsewhere = Path::new(&shop).join("elsewhere");
    for command in [
        &["ls", "orders_claen", "orders_clean"][..],
        &["verify", "orders_clean", "orders_claen"],
        &["evict", "orders_claen", "--dry-run"],
        &["show", "orders_claen"],
        &["export", "orders_claen", elsewhere.to_str().unwrap()],
    ] {
        let (stdout, error) = ends(2, &[&["cache"], command, &["-C", &shop]].concat());
        let said =
            "there is no entry `orders_claen`, did you mean `orders_clean`? `alluvium cache ls` lists what there is";
        assert!(stdout.is_empty() && error.contains(said), "{command:?}: {stdout}{error}");
    }

    // A root that is named needs no project.
    let root = Path::new(&shop).join(".alluvium");
    let (listing, _) = ends(0, &["cache", "ls", "-C", "/", "--cache-root", root.to_str().unwrap()]);
    assert!(listing.contains("orders_clean") && listing.contains("2 entries"), "{listing}");

    let to = Path::new(&shop).join("exported");
    let exported = document(0, "cache_export", &shop, &["export", "daily_revenue", to.to_str().unwrap()]);
    assert!(exported["row_count"].as_u64() > Some(0));
    ends(0, &["table", "verify", to.to_str().unwrap()]);
    ends(2, &["cache", "export", "daily_revenue", to.to_str().unwrap(), "-C", &shop]);
    for inside in ["copy", "view_cache/copy", "kv/copy", "../.alluvium/deep/er"] {
        let inside = root.join(inside);
        let (_, error) = ends(2, &["cache", "export", "daily_revenue", inside.to_str().unwrap(), "-C", &shop]);
        assert!(error.contains("choose a place outside") && !inside.exists(), "{error}");
    }
    std::os::unix::fs::symlink(&root, Path::new(&shop).join("link")).unwrap();
    let behind = Path::new(&shop).join("link/copy");
    ends(2, &["cache", "export", "daily_revenue", behind.to_str().unwrap(), "-C", &shop]);

    let planned = document(0, "cache_removal", &shop, &["evict", "orders_clean", "--dry-run"]);
    assert_eq!((&planned["dry_run"], &planned["entries"][0]["result"]), (&json!(true), &json!("planned")));
    let removed = document(0, "cache_removal", &shop, &["evict", "orders_clean", "--older-than", "0s"]);
    assert_eq!(removed["entries"][0]["result"], "deleted");
    let result = |view: &str, result: &str| (view.to_owned(), result.to_owned());
    assert_eq!(rerun(&shop), [result("orders_clean", "write"), result("daily_revenue", "hit")]);
    let collected = document(0, "cache_removal", &shop, &["gc", "--max-bytes", "1kB"]);
    assert!(collected["live_bytes_after"].as_u64() <= Some(1_000), "{collected}");
    assert_eq!(rerun(&shop).len(), 2);

    fs::remove_dir_all(root.join("kv/index")).unwrap();
    let rebuilt = document(0, "cache_rebuild", &shop, &["rebuild-index"]);
    assert_eq!(rebuilt["adopted"].as_array().unwrap().len(), 2, "{rebuilt}");

    assert_eq!(document(0, "cache_verification", &shop, &["verify"])["damaged_count"], 0);
    let entry = &document(0, "cache_listing", &shop, &["ls", "orders_clean"])["entries"][0];
    let file = data_file(&shop, entry);
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    fs::write(&file, bytes).unwrap();
    let found = document(1, "cache_verification", &shop, &["verify", "orders_clean"]);
    assert_eq!(found["entries"][0]["result"], "damaged");
    assert_eq!(rerun(&shop), [result("orders_clean", "write"), result("daily_revenue", "hit")]);
}

/// The list and the record of what went are not lost for it.
#[test]
fn a_directory_that_cannot_be_deleted_is_told_and_the_others_are_listed() {
    let (_keep, shop) = project();
    ends(0, &["run", &shop]);
    let listed = document(0, "cache_listing", &shop, &["ls", "orders_clean"]);
    let dir = Path::new(&shop).join(".alluvium").join(listed["entries"][0]["cache_path"].as_str().unwrap());
    // No directory can be removed by this name, by root neither.
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "").unwrap();
    let (text, told) = ends(1, &["cache", "evict", "--all", "-C", &shop]);
    assert!(text.contains("deleted") && text.contains("condemned"), "{text}");
    assert!(told.contains("note: ") && told.contains(listed["entries"][0]["cache_path"].as_str().unwrap()), "{told}");
    let collected = document(1, "cache_removal", &shop, &["gc"]);
    assert_eq!(collected["entries"][0]["result"], "condemned");
    let recorded = "select name from alluvium.cache_artifacts where artifact_kind = 'cache_removal' order by name";
    let (recorded, _) = ends(0, &["sql", recorded, "-C", &shop]);
    assert!(recorded.contains("evict") && recorded.contains("gc"), "{recorded}");
    assert_eq!(
        document(0, "cache_removal", &shop, &["evict", "--all", "--dry-run"])["entries"][0]["result"],
        "condemned"
    );
    fs::remove_file(&dir).unwrap();
    assert_eq!(document(0, "cache_removal", &shop, &["gc"])["entries"][0]["result"], "deleted");
}

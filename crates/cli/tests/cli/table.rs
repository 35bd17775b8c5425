//! `alluvium table` as a script meets it: documents, exit codes, and what it leaves alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ends;

/// The payload of the one document that a command prints.
#[track_caller]
fn document(code: i32, kind: &str, arguments: &[&str]) -> Value {
    let (stdout, _) = ends(code, &[arguments, &["--format", "json"]].concat());
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(document["kind"], kind);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("document.json");
    fs::write(&file, &stdout).unwrap();
    ends(0, &["contracts", "validate", file.to_str().unwrap()]);
    document["payload"].clone()
}

/// A table that a pipeline published, with a policy of its own.
fn published(write: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("numbers.csv"), "k,s\n3,c\n1,a\n2,b\n").unwrap();
    let pipeline = format!(
        "[sources.numbers]\nformat = \"csv\"\npath = \"numbers.csv\"\n[views.v]\nsql = \"select k, s from numbers\"\n\
         [outputs.o]\nview = \"v\"\npath = \"out\"\nwrite = {{ {write} }}\n"
    );
    fs::write(dir.path().join("alluvium.toml"), pipeline).unwrap();
    let project = dir.path().to_str().unwrap().to_owned();
    ends(0, &["run", &project]);
    let table = dir.path().join("out").to_str().unwrap().to_owned();
    (dir, table)
}

/// The same as a table of nobody's: what the pipeline said of it is gone.
fn disowned(table: &str) {
    let log = Path::new(table).join("_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replace("cache_operation", "former_operation")).unwrap();
}

fn data_file(table: &str) -> PathBuf {
    let files = fs::read_dir(table).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "parquet")).unwrap()
}

#[test]
fn show_and_history_tell_what_is_there() {
    let (_keep, table) = published("zorder_by = [\"k\"], constraints = { positive = \"k > 0\" }");
    let shown = document(0, "table_document", &["table", "show", &table]);
    assert_eq!((&shown["delta_version"], &shown["row_count"]), (&json!(0), &json!(3)));
    assert_eq!(shown["constraints"], json!({"positive": "k > 0"}));
    assert_eq!(shown["order"][0]["column"], "k");
    assert_eq!(shown["features"], json!(["check_constraints"]));
    assert_eq!(shown["commit_metadata"]["cache_operation"], "write");
    let (text, _) = ends(0, &["table", "show", &table]);
    for word in ["rows", "order       k", "check_constraints", "k > 0"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let history = document(0, "table_history", &["table", "history", &table]);
    assert_eq!(history["commits"][0]["rows_added"], 3);
    assert!(ends(0, &["table", "history", &table, "--limit", "1"]).0.contains("CREATE TABLE"));
    assert!(ends(2, &["table", "show", &table, "--version", "7"]).1.contains("no commit of version 7"));
}

#[test]
fn credentials_that_a_foreign_writer_left_in_the_log_are_not_shown() {
    let (_keep, table) = published("constraints = { positive = \"k > 0\" }");
    let log = Path::new(&table).join("_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&log).unwrap();
    let said = r#""commitInfo":{"client_secret":"hunter2-a","note":"from s3://ada:hunter2-b@bucket/x","team":"red","#;
    let text = text.replacen(r#""commitInfo":{"#, said, 1);
    let property = r#""configuration":{"acme.api_key":"hunter2-c","acme.team":"blue","#;
    fs::write(&log, text.replacen(r#""configuration":{"#, property, 1)).unwrap();
    for command in ["show", "history"] {
        let (shown, _) = ends(0, &["table", command, &table, "--format", "json"]);
        let (text, _) = ends(0, &["table", command, &table]);
        assert!(!format!("{shown}{text}").contains("hunter2"), "{command}: {shown}{text}");
        assert!(shown.contains("red") && shown.contains("bucket/x"), "{command}: {shown}");
    }
    let shown = document(0, "table_document", &["table", "show", &table]);
    assert_eq!(shown["properties"]["acme.team"], "blue");
    assert_eq!(shown["constraints"], json!({"positive": "k > 0"}));
}

#[test]
fn verify_ends_with_1_where_something_is_wrong() {
    let (_keep, table) = published("zorder_by = [\"k\"]");
    let sound = document(0, "table_verification", &["table", "verify", &table]);
    assert!(sound["checks"].as_array().unwrap().iter().all(|check| check["status"] == "ok"), "{sound}");
    let file = data_file(&table);
    let mut bytes = fs::read(&file).unwrap();
    bytes[30] ^= 0xff;
    fs::write(&file, bytes).unwrap();
    let damaged = document(1, "table_verification", &["table", "verify", &table]);
    let files = damaged["checks"].as_array().unwrap().iter().find(|check| check["name"] == "files").unwrap();
    assert!(files["status"] == "error" && files["fix"].is_string(), "{damaged}");
    assert!(ends(1, &["table", "verify", &table]).0.contains("and the log says"), "as text too");
}

#[test]
fn maintenance_goes_by_the_policy_or_by_what_is_named() {
    let (_keep, table) = published("maintenance = { vacuum_retention_hours = 168, checkpoint_interval_commits = 1 }");
    let due = document(0, "table_maintenance", &["table", "maintain", &table]);
    let said: Vec<_> =
        due["events"].as_array().unwrap().iter().map(|e| (e["operation"].clone(), e["result"].clone())).collect();
    assert_eq!(said, [(json!("checkpoint"), json!("ok")), (json!("vacuum"), json!("skipped"))]);
    // None of it made a commit, so the pipeline still knows its output.
    assert_eq!(due["version_before"], due["version_after"]);
    let project = Path::new(&table).parent().unwrap().to_str().unwrap();
    assert!(ends(0, &["run", project]).0.contains("hit"));

    let (_, refused) = ends(2, &["table", "maintain", &table, "--zorder", "k"]);
    assert!(refused.contains("the output `o` of a pipeline") && refused.contains("hint: "), "{refused}");
    disowned(&table);
    let ordered = document(0, "table_maintenance", &["table", "maintain", &table, "--zorder", "k", "--checkpoint"]);
    assert_eq!((&ordered["version_before"], &ordered["version_after"]), (&json!(0), &json!(1)));
    assert_eq!(document(0, "table_document", &["table", "show", &table])["order"][0]["column"], "k");
    let back = document(0, "table_maintenance", &["table", "maintain", &table, "--restore", "0"]);
    assert_eq!((&back["events"][0]["operation"], &back["version_after"]), (&json!("restore"), &json!(2)));

    let (_keep, plain) = published("");
    assert!(ends(0, &["table", "maintain", &plain]).0.contains("names no maintenance"));
}

#[test]
fn maintenance_is_in_the_ledgers_of_the_project() {
    let (keep, table) = published("");
    let project = keep.path().to_str().unwrap();
    let question = "select name, document from alluvium.cache_artifacts where artifact_kind = 'maintenance_event'";
    let recorded = || -> Vec<Value> {
        let rows: Value = serde_json::from_str(&ends(0, &["sql", project, question, "--format", "json"]).0).unwrap();
        let rows = rows.as_array().unwrap().clone();
        assert!(rows.iter().all(|row| row["name"] == "o"), "{rows:#?}");
        rows.iter().map(|row| serde_json::from_str(row["document"].as_str().unwrap()).unwrap()).collect()
    };
    ends(0, &["table", "maintain", &table, "--checkpoint", "--vacuum", "168"]);
    let events = recorded();
    let [checkpoint] = events.as_slice() else { panic!("a vacuum that found nothing is no event: {events:#?}") };
    assert_eq!(checkpoint["payload"]["operation"], "checkpoint");
    assert_eq!(
        (&checkpoint["payload"]["dataset_name"], &checkpoint["payload"]["table_path"]),
        (&json!("o"), &json!("out"))
    );
    assert_eq!(checkpoint["payload"]["run_id"], Value::Null, "it was part of no run");
    // What was done before a failure is on record as well.
    disowned(&table);
    ends(2, &["table", "maintain", &table, "--compact", "2", "--vacuum", "24"]);
    ends(2, &["table", "maintain", &table, "--zorder", "k", "--vacuum", "24"]);
    assert_eq!(recorded().len(), 2);

    // Elsewhere there is no ledger, unless one is named; a project that is wrong keeps nobody from maintaining.
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("t");
    fs::rename(&table, &moved).unwrap();
    let moved = moved.to_str().unwrap();
    ends(0, &["table", "maintain", moved, "--zorder", "k"]);
    fs::write(elsewhere.path().join("alluvium.toml"), "no pipeline").unwrap();
    let (_, told) = ends(0, &["table", "maintain", moved, "--zorder", "k"]);
    assert!(told.contains("is in no ledger"), "{told}");
    let (_, told) = ends(2, &["table", "maintain", moved, "--zorder", "k", "-C", elsewhere.path().to_str().unwrap()]);
    assert!(told.contains("alluvium.toml"), "{told}");
    ends(0, &["table", "maintain", moved, "--zorder", "k", "-C", project]);
    let by_name = question.replace("name, document", "name") + " order by name desc";
    let rows = ends(0, &["sql", project, &by_name, "--format", "csv"]).0;
    assert_eq!(rows.lines().skip(1).collect::<Vec<_>>(), ["o", "o", moved]);
}

#[test]
fn wrong_input_is_2_and_says_what_to_do() {
    let (keep, table) = published("");
    let nowhere = keep.path().join("nowhere").to_str().unwrap().to_owned();
    for command in ["show", "history", "verify", "maintain"] {
        for path in [nowhere.as_str(), keep.path().to_str().unwrap()] {
            let (stdout, stderr) = ends(2, &["table", command, path]);
            assert!(stdout.is_empty() && stderr.contains("there is no Delta table at"), "{stderr}");
            assert!(stderr.contains("_delta_log"), "the fix: {stderr}");
        }
    }
    disowned(&table);
    for (arguments, words) in [
        (&["--vacuum", "24"][..], "168 hours or more"),
        (&["--zorder", "nowhere"], "`zorder_by` names `nowhere`"),
        (&["--restore", "99"], "no commit of version 99"),
        (&["--keep", "0"], "--vacuum"),
    ] {
        let (_, stderr) = ends(2, &[&["table", "maintain", &table], arguments].concat());
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
    assert_eq!(fs::read_dir(Path::new(&table).join("_delta_log")).unwrap().count(), 1, "the table is untouched");
    assert!(ends(2, &["table", "show"]).1.contains("Usage"));
    assert!(ends(2, &["table", "vacuum", &table]).1.contains("Usage"));

    let log = Path::new(&table).join("_delta_log/00000000000000000000.json");
    let text = fs::read_to_string(&log).unwrap();
    let protocol = text.lines().find(|line| line.contains("\"protocol\"")).unwrap();
    let unknown = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["futureThing"],"writerFeatures":["futureThing"]}}"#;
    fs::write(&log, text.replace(protocol, unknown)).unwrap();
    for command in ["show", "verify", "maintain"] {
        let (_, stderr) = ends(2, &["table", command, &table]);
        assert!(stderr.contains("`futureThing`"), "{stderr}");
    }
    fs::write(&log, "no JSON").unwrap();
    for command in ["show", "history", "verify"] {
        ends(1, &["table", command, &table]);
    }
}

#[test]
fn a_table_in_a_cloud_store_is_refused_without_what_opens_the_store() {
    for command in ["show", "history", "verify", "maintain"] {
        let (stdout, stderr) = ends(2, &["table", command, "s3://me:hunter2@bucket/table?sig=hunter2"]);
        assert!(stderr.contains("s3:// URL") && !stderr.contains("hunter2"), "{command}: {stderr}");
        assert_eq!(stdout, "", "{command}");
    }
}

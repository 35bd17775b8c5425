//! The binary as a script meets it: streams, exit codes, signals.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod cache;
mod faults;
mod kv;
mod runs;
mod table;
mod telemetry;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn alluvium() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    for name in ["CACHE_ROOT", "LOG", "DIAGNOSTICS", "TELEMETRY_PATHS", "OTLP_FLUSH_MS"] {
        command.env_remove(format!("ALLUVIUM_{name}"));
    }
    for name in ["OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL", "TRACEPARENT"] {
        command.env_remove(name);
    }
    command.env("TERM", "dumb").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> Output {
    alluvium().args(arguments).output().unwrap()
}

/// Standard output and standard error of a command that ends with `code`.
#[track_caller]
fn ends(code: i32, arguments: &[&str]) -> (String, String) {
    let output = output(arguments);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {stdout}\nstderr: {stderr}");
    (stdout, stderr)
}

/// A fresh project of `init`, and its directory as text.
fn project() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shop").to_str().unwrap().to_owned();
    ends(0, &["init", &path]);
    (dir, path)
}

fn results(document: &str) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(document).unwrap();
    assert_eq!(document["kind"], "run_document");
    let views = document["payload"]["views"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    views.iter().map(|view| (text(&view["name"]), text(&view["result"]))).collect()
}

#[test]
fn a_scaffolded_project_runs_writes_and_hits() {
    let (_keep, shop) = project();
    let (first, progress) = ends(0, &["run", &shop, "--format", "json"]);
    let first = results(&first);
    assert!(!first.is_empty() && first.iter().all(|(_, result)| result == "write"), "{first:?}");
    for (name, _) in &first {
        assert!(progress.contains(&format!("] {name}: write")), "{progress}");
    }
    let (second, _) = ends(0, &["run", "-C", &shop, "--format", "json"]);
    assert!(results(&second).iter().all(|(_, result)| result == "hit"), "{second}");
    let (report, _) = ends(0, &["run", &shop]);
    assert!(report.starts_with("view ") && report.contains("succeeded in "), "{report}");
    let (plan, _) = ends(0, &["plan", &shop, "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&plan).unwrap()["kind"], "plan_document");
    let (_, refused) = ends(2, &["init", &shop]);
    assert!(refused.starts_with("error: ") && refused.contains("alluvium.toml"), "{refused}");
}

#[test]
fn a_plan_is_asked_like_sql() {
    let (_keep, shop) = project();
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/substrait/customers.substrait");
    if !cfg!(feature = "substrait") {
        let (_, refused) = ends(2, &["sql", "--substrait", plan, &shop]);
        assert!(refused.contains("--features substrait"), "{refused}");
        return;
    }
    let sql = "select customer, count(*) as orders, sum(amount_cents) as cents from orders_clean \
               where amount_cents > 0 group by customer order by cents desc, customer";
    let (expected, _) = ends(0, &["sql", &shop, sql, "--format", "csv"]);
    assert!(expected.lines().count() > 2, "{expected}");
    assert_eq!(ends(0, &["sql", "--substrait", plan, &shop, "--format", "csv"]).0, expected);
    let mut piped = alluvium();
    piped.args(["sql", "--substrait", "-", &shop, "--format", "csv"]).stdin(fs::File::open(plan).unwrap());
    assert_eq!(String::from_utf8(piped.output().unwrap().stdout).unwrap(), expected);
    let (_, refused) = ends(2, &["sql", "--substrait", &format!("{shop}/alluvium.toml"), &shop]);
    assert!(refused.contains("no plan in the binary form of Substrait"), "{refused}");
    let (_, refused) = ends(2, &["sql", "--substrait", plan, &shop, "select 1"]);
    assert!(refused.contains("give a directory, or nothing, beside it"), "{refused}");
    let (_, refused) = ends(2, &["sql", "--substrait", "nowhere", &shop]);
    assert!(refused.contains("cannot read nowhere"), "{refused}");
}

#[test]
fn rows_come_as_table_json_and_csv() {
    let (_keep, shop) = project();
    let query = "select 1 as one, cast(null as varchar) as nothing";
    assert_eq!(ends(0, &["sql", &shop, query, "--format", "json"]).0, "[{\"one\":1,\"nothing\":null}]\n");
    assert_eq!(ends(0, &["sql", &shop, query, "--format", "csv"]).0, "one,nothing\n1,\n");
    let (table, _) = ends(0, &["sql", "-C", &shop, query]);
    assert!(table.contains("| one | nothing |"), "{table}");
    assert_eq!(ends(0, &["sql", &shop, query, "--format", "text"]).0, table);
}

#[test]
fn a_query_is_written_in_another_dialect_or_what_cannot_be_is_named() {
    let (_keep, shop) = project();
    let file = Path::new(&shop).join("query.sql");
    let transpile = |code, sql: &str, more: &[&str]| {
        fs::write(&file, sql).unwrap();
        ends(code, &[&["transpile", file.to_str().unwrap(), "-C", &shop], more].concat())
    };
    let (sql, _) = transpile(0, "select `revenue_cents` from daily_revenue", &["--dialect", "mysql", "--to", "duckdb"]);
    assert!(sql.contains("\"daily_revenue\".\"revenue_cents\"") && sql.ends_with('\n'), "{sql}");
    let median = "select median(revenue_cents) as m, 7 / 2 as h from daily_revenue";
    let (stdout, stderr) = transpile(2, median, &["--to", "mysql"]);
    assert_eq!(stdout, "");
    for said in ["cannot be written in mysql:", "\n  median(", "the function median", "\n  7 / 2: an integer"] {
        assert!(stderr.contains(said), "{stderr}");
    }
    for (code, dialect, parts) in [(0, "generic", 0), (2, "mysql", 2)] {
        let (document, stderr) = transpile(code, median, &["--to", dialect, "--format", "json"]);
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!((&document["kind"], stderr.as_str()), (&"transpile_document".into(), ""));
        assert_eq!(document["payload"]["not_carried"].as_array().unwrap().len(), parts);
        assert_eq!(document["payload"]["sql"].is_null(), parts > 0);
    }
    for more in [&["--to", "klingon"][..], &["--to", "duckdb", "--dialect", "klingon"], &[]] {
        assert!(transpile(2, "select 1", more).1.starts_with("error: "), "{more:?}");
    }
    transpile(2, "drop table daily_revenue", &["--to", "duckdb"]);
    let mut piped = alluvium();
    let mut piped = piped.args(["transpile", "-", "--to", "mysql", "-C", &shop]);
    piped = piped.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut piped = piped.spawn().unwrap();
    piped.stdin.take().unwrap().write_all(b"select revenue_cents from daily_revenue").unwrap();
    let answered = piped.wait_with_output().unwrap();
    assert!(answered.status.success() && String::from_utf8(answered.stdout).unwrap().contains("`revenue_cents`"));
}

#[test]
fn wrong_input_is_2_and_says_so_on_standard_error_only() {
    let (_keep, shop) = project();
    let nowhere = Path::new(&shop).join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    for arguments in [
        &["sql", &shop, "select no_such_column from orders_clean"][..],
        &["sql", &shop, "selectt 1"],
        &["sql", &shop],
        &["sql", &shop, "select 1 as a, 2 as \"A\", 3 as b, [1] as c", "--format", "csv"],
        &["run", nowhere],
        &["run", nowhere, "--format", "json"],
        &["run", &shop, "--select", "orders_cleen"],
        &["run", &shop, "-C", &shop],
        &["run", &shop, "--otlp", "localhost:4318"],
        &["run", &shop, "--trace-file", "/no/such/directory/trace.json"],
        &["run", &shop, "--traceparent", "00-nonsense"],
        &["contracts", "show", "nothing"],
        &["contracts", "example", "nothing"],
        &["contracts", "validate", "no/such/file.json"],
        &["frobnicate"],
    ] {
        let (stdout, stderr) = ends(2, arguments);
        assert_eq!(stdout, "", "{arguments:?}");
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
    }
    for (name, value, fix) in [
        ("ALLUVIUM_LOG", "a=b=c", "target=level"),
        ("ALLUVIUM_DIAGNOSTICS", "syslog", "file:PATH"),
        ("ALLUVIUM_DIAGNOSTICS", "memory", "file:PATH"),
        ("ALLUVIUM_DIAGNOSTICS", "otel", "--otlp URL"),
        ("ALLUVIUM_TELEMETRY_PATHS", "some", "hashed or shown"),
        ("ALLUVIUM_OTLP_FLUSH_MS", "soon", "milliseconds"),
    ] {
        let failed = alluvium().args(["run", &shop]).env(name, value).output().unwrap();
        assert_eq!(failed.status.code(), Some(2), "{name}={value}");
        let said = String::from_utf8(failed.stderr).unwrap();
        assert!(said.contains(name) && said.contains(fix), "{name}={value}: {said}");
    }
}

#[test]
fn a_view_that_fails_is_1_with_a_document() {
    let (_keep, shop) = project();
    let dir = Path::new(&shop);
    let mut file = fs::read_to_string(dir.join("alluvium.toml")).unwrap();
    file.push_str("\n[views.bad]\nsql = \"select cast(x as int) as y from (values ('1'), ('one')) as t(x)\"\n");
    fs::write(dir.join("alluvium.toml"), file).unwrap();
    let (document, _) = ends(1, &["run", &shop, "--keep-going", "--format", "json"]);
    let results = results(&document);
    assert!(results.contains(&("bad".to_owned(), "error".to_owned())), "{results:?}");
    assert!(results.iter().any(|(_, result)| result == "write"), "{results:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (_keep, shop) = project();
    let query = "select value as n from generate_series(1, 3000000)";
    for format in ["json", "csv"] {
        let mut child = spawn(&["sql", &shop, query, "--format", format]);
        let mut start = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut start).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{format}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{format}");
    }
}

/// A pipeline whose one view counts for hours.
fn endless() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let sql = "select count(*) as n from generate_series(1, 10000000) as a, generate_series(1, 10000000) as b \
               where a.value * b.value % 7 = 3";
    fs::write(dir.path().join("alluvium.toml"), format!("[views.endless]\nsql = \"{sql}\"\n")).unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    (dir, path)
}

fn spawn(arguments: &[&str]) -> Child {
    alluvium().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_first_signal_ends_a_run_cleanly_with_its_code() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let (_keep, dir) = endless();
        let mut child = spawn(&["run", &dir, "--format", "json"]);
        // Its first line says that the run has begun.
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        assert!(line.starts_with("run "), "{line}");
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{signal}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["payload"]["result"], "interrupted");
    }
}

/// The names of the spans in a trace file, and the results of those called `run`.
fn traced(file: &Path) -> (Vec<String>, Vec<String>) {
    let trace: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let spans = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X");
    let name = |span: &Value| span["name"].as_str().unwrap().to_owned();
    let runs = spans.clone().filter(|span| span["name"] == "run");
    let results = runs.map(|span| span["args"]["result"].as_str().unwrap_or_default().to_owned());
    (spans.map(name).collect(), results.collect())
}

#[test]
fn a_trace_file_is_written_however_a_run_ends() {
    let (keep, shop) = project();
    let file = keep.path().join("trace.json");
    let path = file.to_str().unwrap();
    ends(0, &["run", &shop, "--trace-file", path]);
    let (names, results) = traced(&file);
    for name in ["run", "plan", "view", "cache.read", "cache.write"] {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
    assert_eq!(results, ["succeeded"]);

    ends(2, &["run", &shop, "--select", "orders_cleen", "--trace-file", path]);
    assert_eq!(traced(&file).1, ["failed"]);

    let (_endless, endless) = endless();
    let mut child = spawn(&["run", &endless, "--trace-file", path]);
    let mut told = BufReader::new(child.stderr.take().unwrap());
    told.read_line(&mut String::new()).unwrap();
    send("-TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let (names, results) = traced(&file);
    assert_eq!(results, ["interrupted"], "{names:?}");
}

#[test]
fn a_dead_collector_is_told_and_changes_nothing() {
    let (_keep, shop) = project();
    // A port that nobody listens on any more.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}");
    let (document, said) = ends(0, &["run", &shop, "--otlp", &url, "--format", "json"]);
    assert!(results(&document).iter().all(|(_, result)| result == "write"), "{document}");
    assert!(said.contains("the collector did not take all signals"), "{said}");
    let query = "select count(*) as n from alluvium.cache_runs";
    assert_eq!(ends(0, &["sql", &shop, query, "--format", "csv"]).0, "n\n1\n");
    let disabled = alluvium().args(["run", &shop, "--otlp", &url]).env("OTEL_SDK_DISABLED", "true").output().unwrap();
    assert!(!String::from_utf8(disabled.stderr).unwrap().contains("collector"));
    let (_, quiet) = ends(0, &["run", &shop, "--otlp", &url, "-q"]);
    assert_eq!(quiet, "");
}

#[test]
fn a_run_tells_as_much_as_it_is_asked_to() {
    let (keep, shop) = project();
    let (_, quiet) = ends(0, &["run", &shop, "-q"]);
    assert_eq!(quiet, "");
    let (_, debug) = ends(0, &["run", &shop, "-vv"]);
    assert!(debug.contains("DEBUG") && debug.contains("cache.operation"), "{debug}");

    let file = keep.path().join("events.jsonl");
    let sink = format!("file:{}", file.display());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let run =
        alluvium().args(["run", &shop]).env("ALLUVIUM_DIAGNOSTICS", sink).env("TRACEPARENT", parent).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let events = fs::read_to_string(&file).unwrap();
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|event| event["payload"]["name"] == "cache_root_report"), "{events:?}");
    for event in &events {
        assert_eq!(event["payload"]["trace_id"], "0af7651916cd43dd8448eb211c80319c", "TRACEPARENT is continued");
    }
}

#[test]
fn contracts_are_exported_as_the_list_says() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("contracts");
    let (written, _) = ends(0, &["contracts", "export", target.to_str().unwrap()]);
    let (list, _) = ends(0, &["contracts", "ls"]);
    // Behind an empty line: what readers may rely on.
    let (list, rules) = list.split_once("\n\n").unwrap();
    assert!(
        rules.contains("writer_properties_policy: a person writes it") && rules.contains("all others: a program"),
        "{rules}"
    );
    // One file each, and the index.
    assert_eq!(written.lines().count(), list.lines().count() + 1);
    for line in list.lines() {
        let kind = line.split_whitespace().next().unwrap();
        let (schema, _) = ends(0, &["contracts", "show", kind]);
        let file = target.join(format!("{kind}.v1.schema.json"));
        assert_eq!(fs::read_to_string(file).unwrap(), schema);
    }
}

#[test]
fn a_document_is_held_against_its_contract() {
    let (example, _) = ends(0, &["contracts", "example", "run_document"]);
    let validate = |document: &str, more: &[&str]| {
        let mut child = alluvium()
            .args(["contracts", "validate", "-"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, said, _) = validate(&example, &[]);
    assert_eq!(code, Some(0));
    assert!(said.starts_with("-: a valid run_document v1 in JSON\nsha256:"), "{said}");

    let (code, said, why) = validate(&example.replace("\"succeeded\"", "\"perfect\""), &[]);
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert!(why.contains("/payload/result") && why.contains("`succeeded`") && why.contains("perfect"), "{why}");
    let (code, _, why) = validate(&example, &["--kind", "plan_document"]);
    assert_eq!(code, Some(2));
    assert!(why.contains("/kind"), "{why}");
    let (code, _, why) = validate("{}", &[]);
    assert_eq!(code, Some(2));
    assert!(why.contains("--kind"), "{why}");
}

//! `alluvium kv` as scripts and other languages meet it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The reference, which is the test's input too.
const REFERENCE: &str = include_str!("../../../../docs/reference/kv-shell.md");

fn alluvium() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    command.env_remove("ALLUVIUM_LOG").env("TERM", "dumb").stdin(Stdio::null());
    command
}

/// A directory for a cache that is not there yet.
fn nowhere() -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kv").to_str().unwrap().to_owned();
    (dir, path)
}

fn output(arguments: &[&str]) -> Output {
    alluvium().arg("kv").args(arguments).output().unwrap()
}

/// Standard output and standard error of a command that ends with `code`.
#[track_caller]
fn ends(code: i32, arguments: &[&str]) -> (Vec<u8>, String) {
    let output = output(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\nstdout: {stdout}\nstderr: {stderr}");
    (output.stdout, stderr)
}

/// The payload of the document of a `kind` that a command prints, which ends with `code`.
#[track_caller]
fn document(code: i32, kind: &str, arguments: &[&str]) -> Value {
    let (stdout, _) = ends(code, &[arguments, &["--format", "json"]].concat());
    let valid = alluvium_contracts::validate(&stdout, None).unwrap_or_else(|report| panic!("{arguments:?}: {report}"));
    assert_eq!(valid.kind, kind);
    let document: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(document["payload"]["directory"], arguments[0]);
    document["payload"].clone()
}

#[track_caller]
fn text(arguments: &[&str]) -> String {
    String::from_utf8(ends(0, arguments).0).unwrap()
}

/// A shell, spoken to line by line.
struct Shell {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Shell {
    fn start(arguments: &[&str]) -> Shell {
        let mut command = alluvium();
        command.arg("kv").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Shell { child, requests, answers }
    }

    fn of(dir: &str) -> Shell {
        Shell::start(&[dir, "shell"])
    }

    fn write(&mut self, line: &str) {
        writeln!(self.requests.as_mut().unwrap(), "{line}").unwrap();
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn line(&mut self, line: &str) -> Value {
        self.write(line);
        self.read()
    }

    /// The result of a request.
    #[track_caller]
    fn ask(&mut self, request: Value) -> Value {
        let answer = self.line(&request.to_string());
        assert!(answer.get("error").is_none(), "{request}: {answer}");
        answer["result"].clone()
    }

    /// Kind and field of the error that a request is answered with.
    #[track_caller]
    fn fault(&mut self, request: Value) -> (String, Option<String>) {
        let answer = self.line(&request.to_string());
        let error = answer.get("error").unwrap_or_else(|| panic!("{request}: {answer}"));
        (error["kind"].as_str().unwrap().to_owned(), error["field"].as_str().map(str::to_owned))
    }

    /// Ends the input, and expects a clean end.
    fn end(mut self) {
        drop(self.requests.take());
        let mut rest = String::new();
        self.answers.read_to_string(&mut rest).unwrap();
        let output = self.child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), rest.as_str()), (Some(0), ""));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    }
}

#[test]
fn a_text_is_set_listed_got_and_deleted() {
    let (_keep, dir) = nowhere();
    assert_eq!(text(&[&dir, "set", "greeting", "grüß dich\n", "--ttl", "60", "--tag", "a", "--tag", "b"]), "");
    assert_eq!(text(&[&dir, "get", "greeting"]), "grüß dich\n\n");
    text(&[&dir, "set", "greet", "--", "-x"]);
    text(&[&dir, "set", "--json-key", "[\"greet\", 1]", "tuple"]);
    text(&[&dir, "set", "two\nlines", ""]);
    assert_eq!(text(&[&dir, "ls"]), "greet\ngreeting\n\"two\\nlines\"\n[\"greet\",1]\n");
    let keys = json!(["\"greet\"", "\"greeting\"", "\"two\\nlines\"", "[\"greet\",1]"]);
    assert_eq!(document(0, "kv_keys", &[&dir, "ls"])["keys"], keys);
    assert_eq!(document(0, "kv_keys", &[&dir, "ls", "--limit", "1"])["keys"], json!(["\"greet\""]));
    for key in keys.as_array().unwrap() {
        ends(0, &[&dir, "get", "--json-key", key.as_str().unwrap()]);
    }
    assert_eq!(text(&[&dir, "ls", "--prefix", "greet"]), "greet\ngreeting\n");
    assert_eq!(text(&[&dir, "ls", "--prefix", "greeti"]), "greeting\n");
    assert_eq!(text(&[&dir, "ls", "--prefix", "h"]), "");
    assert_eq!(text(&[&dir, "get", "--json-key", "[\"greet\",1]"]), "tuple\n");
    assert_eq!(text(&[&dir, "evict", "b"]), "1 entry removed\n");
    let removal = document(0, "kv_removal", &[&dir, "delete", "greet"]);
    assert_eq!(removal, json!({"directory": dir, "reason": "delete", "removed_count": 1}));
    assert_eq!(text(&[&dir, "delete", "greet"]), "0 entries removed\n");
    let (stdout, stderr) = ends(1, &[&dir, "get", "greet"]);
    assert!(stdout.is_empty() && stderr.starts_with("error: there is no entry \"greet\""), "{stderr}");
    assert_eq!(text(&[&dir, "clear"]), "2 entries removed\n");
    let (_, stderr) = ends(2, &[&dir, "get", "--json-key", "1.5"]);
    assert!(stderr.contains("`KEY` a number in a key is an integer"), "{stderr}");
}

#[test]
fn stats_are_a_table_or_json() {
    let (_keep, dir) = nowhere();
    text(&[&dir, "set", "a", "1"]);
    let table = text(&[&dir, "stats"]);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["entries", "1"])), "{table}");
    assert!(table.contains("least recently stored"), "{table}");
    let stats = document(0, "kv_stats", &[&dir, "stats"]);
    assert_eq!((&stats["entry_count"], &stats["cull_limit"], &stats["shards"]), (&json!(1), &json!(10), &json!(1)));
    assert_eq!((&stats["engine"], &stats["hits"], &stats["damaged"]), (&json!("lmdb"), &Value::Null, &json!(0)));
    assert!(stats["file_bytes"].as_u64() > stats["volume_bytes"].as_u64(), "{stats}");
}

#[test]
fn every_json_is_a_document_of_the_contracts() {
    let (_keep, dir) = nowhere();
    text(&[&dir, "set", "a", "1", "--tag", "t"]);
    for (arguments, reason) in
        [(&["evict", "t"][..], "evict"), (&["expire"], "expire"), (&["cull"], "cull"), (&["clear"], "clear")]
    {
        let removal = document(0, "kv_removal", &[&[dir.as_str()], arguments].concat());
        assert_eq!(removal["reason"], reason);
    }
    assert_eq!(document(0, "kv_check", &[&dir, "check"])["problems"], json!([]));
    // Wider than doubles hold, and no text at all.
    for key in ["9007199254740993", "170141183460469231731687303715884105727", "1"] {
        let key = if key.len() > 20 { format!("{{\"int\":\"{key}\"}}") } else { key.to_owned() };
        text(&[&dir, "set", "--json-key", &key, "x"]);
    }
    text(&[&dir, "set", "--json-key", "{\"float\":\"1\"}", "x"]);
    let keys = document(0, "kv_keys", &[&dir, "ls"]);
    assert_eq!(keys["keys"].as_array().unwrap().len(), 4, "{keys}");
    for key in keys["keys"].as_array().unwrap() {
        assert_eq!(text(&[&dir, "get", "--json-key", key.as_str().unwrap()]), "x\n");
    }
}

#[test]
fn only_set_makes_a_cache() {
    let (keep, dir) = nowhere();
    let commands: &[&[&str]] = &[
        &["stats"],
        &["ls"],
        &["get", "a"],
        &["delete", "a"],
        &["evict", "t"],
        &["expire"],
        &["cull"],
        &["check"],
        &["clear"],
    ];
    let file = keep.path().join("file");
    fs::write(&file, "").unwrap();
    for command in commands {
        let (stdout, stderr) = ends(2, &[&[dir.as_str()], *command].concat());
        assert!(stdout.is_empty() && stderr.starts_with("error: there is no store in "), "{command:?} {stderr}");
        assert!(stderr.contains("hint: ") && stderr.contains("set KEY VALUE"), "{stderr}");
        assert!(!Path::new(&dir).exists(), "{command:?}");
        ends(2, &[&[file.to_str().unwrap()], *command].concat());
    }
    text(&[&dir, "set", "a", "1"]);
    for command in commands {
        ends(0, &[&[dir.as_str()], *command].concat());
        text(&[&dir, "set", "a", "1"]);
    }
}

#[test]
fn expired_entries_go_and_damage_is_found_and_mended() {
    let (_keep, dir) = nowhere();
    text(&[&dir, "set", "old", "1", "--ttl", "0.05"]);
    while text(&[&dir, "ls"]) == "old\n" {}
    assert_eq!(text(&[&dir, "ls"]), "");
    ends(1, &[&dir, "get", "old"]);
    assert_eq!(text(&[&dir, "expire"]), "1 entry removed\n");
    assert_eq!(text(&[&dir, "check"]), "nothing is wrong\n");
    // Long enough for a file of its own, which then goes.
    text(&[&dir, "set", "long", &"x".repeat(40_000)]);
    text(&[&dir, "set", "short", "1"]);
    let mut files = Vec::new();
    value_files(Path::new(&dir), &mut files);
    assert_eq!(files.len(), 1, "{files:?}");
    fs::remove_file(&files[0]).unwrap();
    let (stdout, stderr) = ends(1, &[&dir, "get", "long"]);
    assert!(stdout.is_empty() && stderr.contains("damaged"), "{stderr}");
    let (stdout, _) = ends(1, &[&dir, "check"]);
    let found = String::from_utf8(stdout).unwrap();
    assert!(found.contains("\"long\"") && found.ends_with("--fix mends\n"), "{found}");
    let found = &document(1, "kv_check", &[&dir, "check"])["problems"][0];
    assert_eq!(
        (&found["problem"], &found["key"], &found["damage"]),
        (&json!("entry"), &json!("\"long\""), &json!("missing_file"))
    );
    assert!(text(&[&dir, "check", "--fix"]).ends_with("mended\n"));
    assert_eq!(text(&[&dir, "check"]), "nothing is wrong\n");
    assert_eq!(text(&[&dir, "ls"]), "short\n");
}

fn value_files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            value_files(&entry.path(), found);
        } else if entry.metadata().unwrap().len() >= 40_000 && entry.path().extension().is_none_or(|e| e != "mdb") {
            found.push(entry.path());
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    for block in 0..20 {
        let entries: Vec<Value> = (0..1000).map(|n| json!([format!("{block}-{n:0>100}"), "x"])).collect();
        shell.ask(json!({"op": "cache.set_many", "entries": entries}));
    }
    shell.end();
    let mut child = alluvium().args(["kv", &dir, "ls"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut start = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));

    let mut shell = Shell::of(&dir);
    shell.write(&json!({"op": "cache.keys", "limit": 10_000}).to_string());
    drop(shell.answers);
    shell.requests.as_mut().unwrap().write_all(b"{\"op\": \"cache.len\"}\n").unwrap();
    let output = shell.child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

/// Whether an answer is what the reference says: `"…"` stands for anything but null.
fn matches(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::String(any), found) if any == "…" => !found.is_null(),
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().zip(found).all(|(expected, found)| matches(expected, found))
        }
        (Value::Object(expected), Value::Object(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|(name, value)| found.get(name).is_some_and(|found| matches(value, found)))
        }
        _ => expected == found,
    }
}

#[test]
fn the_transcript_of_the_reference_is_what_happens() {
    let (_, transcript) = REFERENCE.split_once("## A transcript").unwrap();
    let lines = transcript.split("```").nth(1).unwrap().lines().skip(1).collect::<Vec<_>>();
    assert!(lines.len() > 60 && lines.len().is_multiple_of(2));
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    for pair in lines.chunks(2) {
        let answer = shell.line(pair[0]);
        let expected: Value = serde_json::from_str(pair[1]).unwrap();
        assert!(matches(&expected, &answer), "{}\nexpected: {expected}\nfound:    {answer}", pair[0]);
    }
    shell.end();
}

#[test]
fn the_reference_lists_every_operation_with_its_fields() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    let operations = shell.ask(json!({"op": "operations"}));
    let operations: BTreeMap<String, Vec<String>> = (operations.as_array().unwrap().iter())
        .map(|operation| {
            let fields = operation["fields"].as_array().unwrap().iter();
            let fields = fields.map(|field| field.as_str().unwrap().to_owned()).collect();
            (operation["op"].as_str().unwrap().to_owned(), fields)
        })
        .collect();
    let (_, tables) = REFERENCE.split_once("## Operations").unwrap();
    let (tables, rest) = tables.split_once("## Transactions").unwrap();
    let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let documented: BTreeMap<String, Vec<String>> = (tables.lines())
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            (code(cells[1])[0].clone(), code(cells[2]))
        })
        .collect();
    assert_eq!(documented, operations);
    // Each table of steps is the one that a refusal lists.
    for line in rest.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').collect();
        let answer = shell.line(&json!({"op": code(cells[1])[0], "do": [{"op": "x"}]}).to_string());
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.ends_with(&format!(": {}", code(cells[2]).join(", "))), "{line}\n{message}");
        // And each of them is done, or refused for its fields alone.
        for step in code(cells[2]) {
            let request = json!({"op": code(cells[1])[0], "in": "steps", "do": [{"op": step}]});
            let answer = shell.line(&request.to_string());
            assert_ne!(answer["error"]["kind"], "unsupported", "{request}");
        }
    }
    shell.end();
}

#[test]
fn bad_lines_are_answered_and_end_nothing() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::start(&[&dir, "shell", "--max-line-bytes", "100000"]);
    let nested = format!("{{\"id\": 1, \"op\": {}1{}}}", "[".repeat(40_000), "]".repeat(40_000));
    let objects = "{\"op\":".repeat(10_000);
    for (line, kind) in [
        ("{", "bad_json"),
        ("[1]", "bad_request"),
        ("null", "bad_request"),
        ("{} {}", "bad_json"),
        ("{\"op\": 1}", "bad_request"),
        ("{\"op\": \"cache.get\", \"id\": {}}", "bad_request"),
        (&nested, "bad_json"),
        (&objects, "bad_json"),
        (&"x".repeat(100_001), "line_too_long"),
        (&"x".repeat(5_000_000), "line_too_long"),
    ] {
        let answer = shell.line(line);
        assert_eq!(answer["error"]["kind"], kind, "{}", &line[..line.len().min(50)]);
        assert_eq!(answer["id"], Value::Null);
    }
    shell.requests.as_mut().unwrap().write_all(b"\xff\n\n  \n").unwrap();
    assert_eq!(shell.read()["error"]["kind"], "bad_json");
    let deep = (0..70).fold(json!("k"), |inner, _| json!([inner]));
    assert_eq!(shell.fault(json!({"op": "cache.get", "key": deep})).0, "bad_request");
    assert_eq!(shell.fault(json!({"op": "cache.get"})), ("bad_request".into(), Some("key".into())));
    let step = |key: Value| json!({"op": "set", "key": key, "value": "1"});
    let request = json!({"op": "cache.transact", "do": [step(json!("a")), step(json!([null]))]});
    assert_eq!(shell.fault(request), ("bad_request".into(), Some("do[1].key[0]".into())));
    for (line, place) in [
        (r#"{"op": "cache.set", "key": "a", "value": "1", "value": "2"}"#, "value"),
        (
            r#"{"op": "cache.transact", "do": [{"op": "get", "key": {"base64": "", "base64": "/w=="}}]}"#,
            "do[0].key.base64",
        ),
    ] {
        let answer = shell.line(line);
        assert_eq!(answer["error"]["kind"], "bad_request");
        assert_eq!((&answer["error"]["field"], &answer["id"]), (&json!(place), &Value::Null));
    }
    assert_eq!(shell.ask(json!({"op": "cache.len"})), json!(0));
    assert_eq!(shell.line("{\"id\": \"a\", \"op\": \"x\"}")["id"], "a");
    shell.end();
}

#[test]
fn a_directory_that_is_taken_away_is_told_and_made_anew_when_asked_again() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    let kinds = [
        (json!({"op": "cache.set", "key": "a", "value": "1"}), json!({"op": "cache.len"})),
        (json!({"op": "deque.push_back", "in": "x", "value": "1"}), json!({"op": "deque.len", "in": "x"})),
        (json!({"op": "index.push", "in": "x", "value": "1"}), json!({"op": "index.len", "in": "x"})),
        (json!({"op": "queue.put", "in": "x", "value": "1"}), json!({"op": "queue.len", "in": "x"})),
        (
            json!({"op": "averager.add", "in": "x", "name": "a", "number": 1}),
            json!({"op": "averager.get", "in": "x", "name": "a"}),
        ),
    ];
    for (write, read) in &kinds {
        shell.ask(write.clone());
        assert_eq!(shell.ask(read.clone()).as_f64(), Some(1.0), "{read}");
    }
    fs::remove_dir_all(&dir).unwrap();
    for (write, read) in &kinds {
        assert_eq!(shell.fault(write.clone()).0, "replaced", "{write}");
        assert!(shell.ask(read.clone()).as_f64().is_none_or(|count| count == 0.0), "{read}");
        shell.ask(write.clone());
        assert_eq!(shell.ask(read.clone()).as_f64(), Some(1.0), "{read}");
    }
    let copy = json!({"op": "deque.copy_to", "in": "x", "path": format!("{dir}/deque/x")});
    assert_eq!(shell.fault(copy).0, "bad_request");
    shell.end();
}

#[test]
fn hostile_names_stay_below_the_directory() {
    let (keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    for name in ["../../out", "/tmp/out", "..", "a/b", "\0", ""] {
        shell.ask(json!({"op": "deque.push_back", "in": name, "value": name}));
        assert_eq!(shell.ask(json!({"op": "deque.items", "in": name}))["page"], json!([name]));
    }
    shell.end();
    assert_eq!(fs::read_dir(keep.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(Path::new(&dir).join("deque")).unwrap().count(), 6);
}

#[test]
fn links_below_the_directory_are_not_followed() {
    let (keep, dir) = nowhere();
    let elsewhere = keep.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for kind in ["cache", "deque", "index", "queue", "coordination"] {
        fs::create_dir_all(Path::new(&dir).join(kind)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, Path::new(&dir).join(kind).join("n")).unwrap();
    }
    let mut shell = Shell::of(&dir);
    for request in [
        json!({"op": "cache.set", "in": "n", "key": "k", "value": "v"}),
        json!({"op": "deque.push_back", "in": "n", "value": "v"}),
        json!({"op": "index.push", "in": "n", "value": "v"}),
        json!({"op": "queue.put", "in": "n", "value": "v"}),
        json!({"op": "lock.acquire", "in": "n", "name": "v"}),
    ] {
        assert_eq!(shell.fault(request).0, "unsupported");
    }
    shell.end();
    assert_eq!(fs::read_dir(elsewhere).unwrap().count(), 0);
}

#[test]
fn what_is_too_long_for_an_answer_is_refused_and_stays() {
    use alluvium_disk_kv_cache::{
        Cache, Deque, Durability, Index, QueueSettings, SetOptions, Settings, Side, WorkQueue,
    };

    let (_keep, dir) = nowhere();
    let long = vec![b'x'; (64 << 20) + 1];
    let below = |kind: &str| Path::new(&dir).join(kind).join("n");
    let quick = || Settings::new().with_durability(Durability::Process);
    let cache = Cache::open(&dir).unwrap();
    cache.set("long", &long).unwrap();
    cache.set("short", b"1").unwrap();
    cache.push("q", &long, Side::Back, &SetOptions::new()).unwrap();
    let deque: Deque<Vec<u8>> = Deque::open(below("deque"), quick()).unwrap();
    deque.push_back(&long).unwrap();
    let index: Index<u64, Vec<u8>> = Index::open(below("index"), quick()).unwrap();
    index.push(&long, Side::Back).unwrap();
    let queue: WorkQueue<Vec<u8>> = WorkQueue::open(below("queue"), QueueSettings::new().with_store(quick())).unwrap();
    queue.put(&long).unwrap();
    drop((cache, deque, index, queue, long));

    let mut shell = Shell::of(&dir);
    let step = |op: &str| json!({"op": op, "key": "long"});
    for (request, place) in [
        (json!({"op": "cache.get", "key": "long"}), None),
        (json!({"op": "cache.get_item", "key": "long"}), None),
        (json!({"op": "cache.get_many", "keys": ["short", "long"]}), None),
        (json!({"op": "cache.pop", "key": "long"}), None),
        (json!({"op": "cache.pull", "prefix": "q"}), None),
        (json!({"op": "cache.peek", "prefix": "q"}), None),
        (json!({"op": "cache.transact", "do": [{"op": "pop", "key": "short"}, step("pop")]}), Some("do[1]")),
        (json!({"op": "cache.transact", "do": [{"op": "pull", "prefix": "q"}]}), Some("do[0]")),
        (json!({"op": "deque.pop_back", "in": "n"}), None),
        (json!({"op": "deque.pop_front", "in": "n"}), None),
        (json!({"op": "deque.remove", "in": "n", "index": 0}), None),
        (json!({"op": "deque.transact", "in": "n", "do": [{"op": "pop_back"}]}), Some("do[0]")),
        (json!({"op": "index.pop", "in": "n", "key": 500_000_000_000_000_u64}), None),
        (json!({"op": "index.pop_first", "in": "n"}), None),
        (json!({"op": "index.pop_last", "in": "n"}), None),
        (json!({"op": "index.pull", "in": "n"}), None),
        (json!({"op": "queue.lease", "in": "n", "lease": 60}), None),
        (json!({"op": "queue.transact", "in": "n", "do": [{"op": "lease", "lease": 60}]}), Some("do[0]")),
    ] {
        assert_eq!(shell.fault(request.clone()), ("value_too_long".into(), place.map(str::to_owned)), "{request}");
    }
    let (mut listed, mut left_out, mut from) = (Vec::new(), Vec::new(), Value::Null);
    loop {
        let page = shell.ask(json!({"op": "cache.items", "from": from}));
        listed.extend(page["page"].as_array().unwrap().clone());
        left_out.extend(page["too_long"].as_array().unwrap().clone());
        from = page["next"].clone();
        if from.is_null() {
            break;
        }
    }
    assert_eq!((listed.len(), &listed[0]["key"], left_out), (1, &json!("short"), vec![json!("long"), json!(["q", 0])]));
    assert_eq!(shell.ask(json!({"op": "cache.len"})), json!(3));
    assert_eq!(
        (shell.ask(json!({"op": "deque.len", "in": "n"})), shell.ask(json!({"op": "index.len", "in": "n"}))),
        (json!(1), json!(1))
    );
    let stats = shell.ask(json!({"op": "queue.stats", "in": "n"}));
    assert_eq!((&stats["ready"], &stats["leased"]), (&json!(1), &json!(0)));
    assert_eq!(shell.ask(json!({"op": "queue.remove", "in": "n", "job": 1})), json!(true));
    shell.end();
}

#[test]
fn a_damaged_entry_is_pulled_once_and_told() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    for value in ["x".repeat(40_000), "second".to_owned()] {
        shell.ask(json!({"op": "cache.push", "prefix": "q", "value": value}));
    }
    let mut files = Vec::new();
    value_files(Path::new(&dir), &mut files);
    fs::write(&files[0], "changed").unwrap();
    let problems = shell.ask(json!({"op": "cache.check"}));
    let problem = problems[0].as_object().unwrap();
    assert_eq!(
        (&problem["problem"], &problem["key"], &problem["damage"]),
        (&json!("entry"), &json!(["q", 0]), &json!("file"))
    );
    assert_eq!(problem.keys().collect::<Vec<_>>(), ["damage", "key", "message", "problem"]);
    assert_eq!(shell.fault(json!({"op": "cache.pull", "prefix": "q"})).0, "damaged");
    assert_eq!(shell.ask(json!({"op": "cache.pull", "prefix": "q"}))["value"], "second");
    shell.end();
}

#[test]
fn pages_visit_every_key_once_in_order() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    let entries: Vec<Value> = (0..257).map(|n| json!([["k", n], "v"])).collect();
    shell.ask(json!({"op": "cache.set_many", "entries": entries}));
    for n in 0..5 {
        shell.ask(json!({"op": "cache.set", "key": format!("t{n}"), "value": "x".repeat(600_000)}));
    }
    let (mut seen, mut from) = (Vec::new(), Value::Null);
    loop {
        let page = shell.ask(json!({"op": "cache.keys", "limit": 10, "from": from, "order": "descending"}));
        seen.extend(page["page"].as_array().unwrap().clone());
        from = page["next"].clone();
        if from.is_null() {
            break;
        }
    }
    let mut expected: Vec<Value> =
        (0..5).map(|n| json!(format!("t{n}"))).chain((0..257).map(|n| json!(["k", n]))).collect();
    expected.reverse();
    assert_eq!(seen, expected);
    // Large values make short pages.
    let page = shell.ask(json!({"op": "cache.items"}));
    assert_eq!((page["page"].as_array().unwrap().len(), &page["next"]), (2, &json!("t2")));
    let page = shell.ask(json!({"op": "cache.keys", "prefix": "t"}));
    assert_eq!((page["page"].as_array().unwrap().len(), &page["next"]), (5, &Value::Null));
    shell.end();
}

#[test]
fn values_go_through_files_whole() {
    let (keep, dir) = nowhere();
    let (source, target) = (keep.path().join("source"), keep.path().join("target"));
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
    fs::write(&source, &bytes).unwrap();
    let mut shell = Shell::of(&dir);
    shell.ask(json!({"op": "cache.set_from", "key": "big", "path": source, "tags": ["t"]}));
    assert_eq!(shell.ask(json!({"op": "cache.read_to", "key": "big", "path": target})), json!({"bytes": bytes.len()}));
    assert_eq!(fs::read(&target).unwrap(), bytes);
    let again = shell.fault(json!({"op": "cache.read_to", "key": "big", "path": target}));
    assert_eq!(again, ("bad_request".into(), Some("path".into())));
    let missing = shell.fault(json!({"op": "cache.set_from", "key": "x", "path": keep.path().join("none")}));
    assert_eq!(missing.1.as_deref(), Some("path"));
    assert_eq!(shell.ask(json!({"op": "cache.evict", "tag": "t"})), json!(1));
    shell.end();
}

#[test]
fn shards_are_made_and_found_again() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    assert_eq!(shell.ask(json!({"op": "cache.open", "shards": 3})), json!({"shards": 3}));
    for n in 0..50 {
        shell.ask(json!({"op": "cache.set", "key": n, "value": n.to_string()}));
    }
    assert_eq!(shell.fault(json!({"op": "cache.push", "prefix": "q", "value": "x"})).0, "unsupported");
    let incr = |n: u64| json!({"op": "incr", "key": n});
    let all = |steps: Vec<Value>| json!({"op": "cache.transact", "do": steps});
    let failing = all((0..9).map(incr).chain([json!({"op": "push", "prefix": "q", "value": "x"})]).collect());
    assert_eq!(shell.fault(failing), ("unsupported".into(), Some("do[9]".into())));
    let inner = json!({"op": "transact", "do": [incr(1), {"op": "incr", "key": "n"}]});
    let steps = [
        incr(0),
        incr(1),
        json!({"op": "set", "key": "n", "value": "x"}),
        inner,
        json!({"op": "len"}),
        json!({"op": "pop", "key": "n"}),
    ];
    let results = shell.ask(all(steps.to_vec()));
    assert_eq!((&results[0], &results[1], &results[4]), (&json!(1), &json!(2), &json!(51)));
    assert_eq!((&results[3]["error"]["kind"], &results[5]["value"]), (&json!("not_an_integer"), &json!("x")));
    shell.ask(all((0..2).map(|n| json!({"op": "set", "key": n, "value": n.to_string()})).collect()));
    assert_eq!(shell.fault(json!({"op": "cache.open", "shards": 4})).0, "conflict");
    shell.ask(json!({"op": "cache.set", "in": "plain", "key": "k", "value": "v"}));
    assert_eq!(shell.fault(json!({"op": "cache.open", "in": "plain", "shards": 2})).0, "conflict");
    shell.end();
    // Nothing is left that tells how many there were.
    fs::remove_file(Path::new(&dir).join("fanout.json")).unwrap();
    let (_, stderr) = ends(1, &[&dir, "stats"]);
    assert!(stderr.contains("hint: `alluvium kv DIR check --fix`") && stderr.contains("--shards N"), "{stderr}");
    assert_eq!(text(&[&dir, "check", "--fix", "--shards", "3"]), "nothing is wrong\n");
    ends(2, &[&dir, "check", "--shards", "3"]);
    let keys: String = (0..50).map(|n| format!("{n}\n")).collect();
    assert_eq!(text(&[&dir, "ls"]), keys);
    let stats = document(0, "kv_stats", &[&dir, "stats"]);
    assert_eq!((&stats["entry_count"], &stats["shards"]), (&json!(50), &json!(3)));
    assert_eq!(text(&[&dir, "get", "--json-key", "7"]), "7\n");
}

#[test]
fn every_collection_answers() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    shell.ask(json!({"op": "cache.push", "prefix": "q", "value": "a"}));
    shell.ask(json!({"op": "cache.push", "prefix": "q", "value": "b", "side": "front"}));
    assert_eq!(shell.ask(json!({"op": "cache.peek", "prefix": "q", "side": "back"}))["value"], "a");
    assert_eq!(shell.ask(json!({"op": "cache.pull", "prefix": "q"}))["value"], "b");
    assert_eq!(shell.ask(json!({"op": "cache.peek_item"}))["value"], "a");
    assert_eq!(shell.ask(json!({"op": "cache.incr", "key": "n", "make": false})), Value::Null);
    assert_eq!(shell.ask(json!({"op": "cache.decr", "key": "n", "delta": 2})), json!(-2));
    assert_eq!(shell.ask(json!({"op": "cache.touch", "key": "n", "ttl": 0})), json!(true));
    assert_eq!(shell.ask(json!({"op": "cache.contains", "key": "n"})), json!(false));
    let settings =
        shell.ask(json!({"op": "cache.update_settings", "eviction": "least_recently_used", "statistics": true}));
    assert_eq!((&settings["eviction"], &settings["cull_limit"]), (&json!("least_recently_used"), &json!(10)));
    shell.ask(json!({"op": "cache.get", "key": "absent"}));
    assert_eq!(shell.ask(json!({"op": "cache.stats", "reset": true}))["misses"], json!(1));
    assert_eq!(shell.ask(json!({"op": "cache.stats"}))["misses"], json!(0));
    // An inner transaction that fails is taken back alone.
    let inner = json!({"op": "transact", "do": [{"op": "set", "key": "y", "value": "1"}, {"op": "incr", "key": "x"}]});
    let steps = json!([{"op": "set", "key": "x", "value": "no number"}, inner, {"op": "get", "key": "y"}]);
    let results = shell.ask(json!({"op": "cache.transact", "do": steps}));
    assert_eq!((&results[1]["error"]["field"], &results[2]), (&json!("do[1].do[1]"), &Value::Null));
    assert_eq!(shell.ask(json!({"op": "cache.get", "key": "x"})), "no number");

    let deque = |op: &str, more: Value| {
        let mut request = json!({"op": format!("deque.{op}"), "in": "d"});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    shell.ask(deque("extend_front", json!({"values": ["a", "b", "c"]})));
    assert_eq!(shell.ask(deque("remove", json!({"index": 1}))), "b");
    assert_eq!(shell.ask(deque("compare", json!({"values": ["c", "b"]}))), "less");
    assert_eq!(shell.ask(deque("set", json!({"index": 9, "value": "x"}))), json!(false));
    shell.ask(deque("set_max_len", json!({"max_len": 1})));
    assert_eq!(shell.ask(deque("items", json!({})))["page"], json!(["a"]));
    let failed = shell.fault(deque("transact", json!({"do": [{"op": "clear"}, {"op": "set"}]})));
    assert_eq!(failed.1.as_deref(), Some("do[1].index"));
    assert_eq!(shell.ask(deque("len", json!({}))), json!(1));

    shell.ask(json!({"op": "index.set_many", "in": "i", "entries": [["z", "1"], ["a", "2"], [[1, "x"], "3"]]}));
    let page = shell.ask(json!({"op": "index.keys", "in": "i", "limit": 2}));
    assert_eq!(page, json!({"page": ["z", "a"], "next": 2}));
    let page = shell.ask(json!({"op": "index.items", "in": "i", "offset": 2}));
    assert_eq!(page, json!({"page": [{"key": [1, "x"], "value": "3"}], "next": null}));
    assert_eq!(shell.ask(json!({"op": "index.pop_first", "in": "i"})), json!({"key": "z", "value": "1"}));
    let number = shell.ask(json!({"op": "index.push", "in": "j", "prefix": "p", "value": "v"}));
    assert_eq!(shell.ask(json!({"op": "index.get", "in": "j", "key": ["p", number]})), "v");
    let pulled = shell.ask(json!({"op": "index.pull", "in": "j", "prefix": "p"}));
    assert_eq!(pulled, json!({"number": number, "value": "v"}));

    shell.ask(json!({"op": "queue.put", "in": "w", "value": "one"}));
    shell.ask(json!({"op": "queue.put", "in": "w", "value": "later", "delay": 3600}));
    let job = shell.ask(json!({"op": "queue.lease", "in": "w", "lease": 60, "max_attempts": 1}));
    assert_eq!(shell.ask(json!({"op": "queue.lease", "in": "w", "lease": 60, "timeout": 0.05})), Value::Null);
    let lost = json!({"op": "queue.ack", "in": "w", "job": job["job"], "token": 99});
    assert_eq!(shell.ask(lost), json!(false));
    let nack = json!({"op": "queue.nack", "in": "w", "job": job["job"], "token": job["token"], "max_attempts": 1});
    assert_eq!(shell.ask(nack), json!(true));
    let stats = shell.ask(json!({"op": "queue.stats", "in": "w"}));
    assert_eq!(stats, json!({"ready": 0, "leased": 0, "delayed": 1, "dead": 1, "put": 2, "acked": 0}));
    assert_eq!(shell.ask(json!({"op": "queue.requeue_all", "in": "w"})), json!(1));

    shell.ask(json!({"op": "averager.add", "in": "c", "name": "ms", "number": 1}));
    shell.ask(json!({"op": "averager.add", "in": "c", "name": "ms", "number": 2.5}));
    assert_eq!(shell.ask(json!({"op": "averager.pop", "in": "c", "name": "ms"})), json!(1.75));
    shell.end();
}

#[test]
fn one_directory_holds_several_kinds_if_they_are_opened_alike() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    shell.ask(json!({"op": "cache.len"}));
    assert_eq!(shell.fault(json!({"op": "lock.acquire", "name": "n"})).0, "conflict");
    shell.end();
    let mut shell = Shell::start(&[&dir, "shell", "--durability", "system"]);
    shell.ask(json!({"op": "cache.len"}));
    assert_eq!(shell.ask(json!({"op": "lock.acquire", "name": "n"})), json!({"token": 1}));
    shell.end();
}

fn lock(op: &str, timeout: f64) -> Value {
    match op {
        "acquire" => json!({"op": "lock.acquire", "in": "c", "name": "n", "timeout": timeout}),
        op => json!({"op": format!("lock.{op}"), "in": "c", "name": "n"}),
    }
}

#[test]
fn locks_are_held_by_the_process_and_die_with_it() {
    let (_keep, dir) = nowhere();
    let mut holder = Shell::start(&[&dir, "shell", "--owner", "holder"]);
    let mut other = Shell::of(&dir);
    assert_eq!(holder.ask(lock("acquire", 0.0)), json!({"token": 1}));
    assert_eq!(other.ask(lock("acquire", 0.2)), Value::Null);
    assert_eq!(other.ask(lock("owner", 0.0))["owner"], "holder");
    assert_eq!((other.ask(lock("release", 0.0)), other.ask(lock("is_current", 0.0))), (json!(false), json!(false)));
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    assert_eq!(other.ask(lock("acquire", 20.0)), json!({"token": 2}));
    // The end of the input ends the process, and what it holds.
    let mut third = Shell::of(&dir);
    third.write(&lock("acquire", 20.0).to_string());
    other.end();
    assert_eq!(third.read()["result"], json!({"token": 3}));
    assert_eq!(third.ask(lock("release", 0.0)), json!(true));

    for _ in 0..2 {
        third.ask(json!({"op": "rlock.acquire", "in": "c", "name": "r"}));
    }
    let mut fourth = Shell::of(&dir);
    for free in [false, true] {
        assert_eq!(third.ask(json!({"op": "rlock.release", "in": "c", "name": "r"})), json!(true));
        assert_eq!(fourth.ask(json!({"op": "rlock.acquire", "in": "c", "name": "r"})).is_null(), !free);
    }
    assert_eq!(third.ask(json!({"op": "rlock.release", "in": "c", "name": "r"})), json!(false));

    let semaphore = json!({"op": "semaphore.acquire", "in": "c", "name": "s", "permits": 2});
    let first = third.ask(semaphore.clone());
    assert!(fourth.ask(semaphore.clone()).is_object() && fourth.ask(semaphore.clone()).is_null());
    let release = json!({"op": "semaphore.release", "in": "c", "name": "s", "token": first["token"]});
    assert_eq!((fourth.ask(release.clone()), third.ask(release)), (json!(false), json!(true)));
    assert!(fourth.ask(semaphore).is_object());
    let owners = third.ask(json!({"op": "semaphore.owners", "in": "c", "name": "s", "permits": 2}));
    assert_eq!(owners.as_array().unwrap().len(), 2);
    let other_number = json!({"op": "semaphore.acquire", "in": "c", "name": "s", "permits": 3});
    assert_eq!(third.fault(other_number).0, "conflict");
    third.end();
    fourth.end();
}

#[test]
fn a_lock_is_lost_after_its_lease_and_can_be_had_again() {
    let (_keep, dir) = nowhere();
    let (mut holder, mut other) = (Shell::of(&dir), Shell::of(&dir));
    let leased = json!({"op": "lock.acquire", "in": "c", "name": "n", "lease": 0.05});
    assert_eq!(holder.ask(leased), json!({"token": 1}));
    assert_eq!(other.ask(lock("acquire", 20.0)), json!({"token": 2}));
    assert_eq!((holder.ask(lock("is_current", 0.0)), other.ask(lock("is_current", 0.0))), (json!(false), json!(true)));
    assert_eq!(holder.ask(lock("release", 0.0)), json!(false), "it is the other's");
    assert_eq!(holder.ask(lock("acquire", 0.0)), Value::Null);
    assert_eq!(other.ask(lock("release", 0.0)), json!(true));
    assert_eq!(holder.ask(lock("acquire", 20.0)), json!({"token": 3}));
    let reentrant = |op: &str| json!({"op": format!("rlock.{op}"), "in": "c", "name": "r"});
    let permit = |op: &str| json!({"op": format!("semaphore.{op}"), "in": "c", "name": "s"});
    let with = |mut request: Value, more: Value| {
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let (lease, one) = (json!({"lease": 0.05}), json!({"permits": 1, "timeout": 20, "lease": 0.05}));
    holder.ask(with(reentrant("acquire"), lease));
    let token = holder.ask(with(permit("acquire"), one.clone()));
    other.ask(with(reentrant("acquire"), json!({"timeout": 20})));
    other.ask(with(permit("acquire"), one));
    assert_eq!(holder.ask(reentrant("release")), json!(false));
    assert_eq!(holder.ask(with(permit("release"), token)), json!(false));
    assert_eq!(other.ask(reentrant("release")), json!(true));
    holder.end();
    other.end();
}

#[test]
fn steps_of_indexes_and_queues_are_done_together_or_not() {
    let (_keep, dir) = nowhere();
    let mut shell = Shell::of(&dir);
    let steps = json!([
        {"op": "set", "key": "a", "value": "1"}, {"op": "get_or_set", "key": "a", "value": "2"},
        {"op": "set", "key": "b", "value": "2"}, {"op": "pop_first"}, {"op": "len"},
    ]);
    let results = shell.ask(json!({"op": "index.transact", "do": steps}));
    assert_eq!(results, json!([null, "1", null, {"key": "a", "value": "1"}, 1]));
    let failing = json!([{"op": "clear"}, {"op": "get", "key": {}}]);
    assert_eq!(shell.fault(json!({"op": "index.transact", "do": failing})).1.as_deref(), Some("do[1].key"));
    assert_eq!(shell.ask(json!({"op": "index.last"})), json!({"key": "b", "value": "2"}));

    let steps = json!([{"op": "put", "value": "x"}, {"op": "lease", "lease": 60}, {"op": "ack", "job": 1, "token": 1}]);
    let results = shell.ask(json!({"op": "queue.transact", "in": "q", "do": steps}));
    assert_eq!((&results[0], &results[1]["value"], &results[2]), (&json!(1), &json!("x"), &json!(true)));
    let failing = json!([{"op": "put", "value": "y"}, {"op": "nack", "job": 1, "token": 1, "retry": "soon"}]);
    let fault = shell.fault(json!({"op": "queue.transact", "in": "q", "do": failing}));
    assert_eq!(fault, ("bad_request".into(), Some("do[1].retry".into())));
    let stats = shell.ask(json!({"op": "queue.stats", "in": "q"}));
    assert_eq!((&stats["put"], &stats["acked"], &stats["ready"]), (&json!(1), &json!(1), &json!(0)));
    shell.end();
}

#[test]
fn one_shell_computes_and_the_others_wait_and_find() {
    let (_keep, dir) = nowhere();
    let mut shells: Vec<Shell> = (0..3).map(|_| Shell::of(&dir)).collect();
    let begin =
        |timeout: f64| json!({"op": "stampede.begin", "key": "k", "ttl": 600, "tags": ["t"], "timeout": timeout});
    assert_eq!(shells[0].ask(begin(0.0)), json!({"turn": 1}));
    assert_eq!(shells[1].ask(begin(0.0)), Value::Null);
    assert_eq!(shells[1].ask(begin(0.15)), Value::Null);
    // Given back, it is the next one's.
    shells[1].write(&begin(20.0).to_string());
    shells[0].ask(json!({"op": "stampede.cancel", "turn": 1}));
    assert_eq!(shells[1].read()["result"], json!({"turn": 1}));
    shells[0].write(&begin(20.0).to_string());
    shells[2].write(&begin(20.0).to_string());
    shells[1].ask(json!({"op": "stampede.finish", "turn": 1, "value": {"base64": "/w=="}}));
    for shell in [0, 2] {
        assert_eq!(shells[shell].read()["result"], json!({"value": {"base64": "/w=="}}));
    }
    let (kind, field) = shells[1].fault(json!({"op": "stampede.finish", "turn": 1, "value": "x"}));
    assert_eq!((kind.as_str(), field.as_deref()), ("bad_request", Some("turn")));
    assert_eq!(shells[0].ask(json!({"op": "cache.keys_by_tag", "tag": "t"})), json!([["memoize_stampede", "k"]]));
    // A turn goes with its process.
    let other = json!({"op": "stampede.begin", "key": "other", "ttl": 600, "timeout": 20});
    assert!(shells[0].ask(other.clone())["turn"].is_number());
    shells[1].write(&other.to_string());
    shells.remove(0).child.kill().unwrap();
    assert!(shells[0].read()["result"]["turn"].is_number());
    shells.into_iter().for_each(Shell::end);
}

#[test]
fn a_shell_whose_caller_died_waits_no_longer_and_lets_go() {
    let (_keep, dir) = nowhere();
    let mut holder = Shell::of(&dir);
    holder.ask(lock("acquire", 0.0));
    let mut waiting = Shell::of(&dir);
    waiting.ask(json!({"op": "lock.acquire", "in": "c", "name": "mine"}));
    waiting.write(&lock("acquire", 600.0).to_string());
    // As when the caller dies: both of its ends are closed.
    drop((waiting.requests.take(), waiting.answers));
    let mine = json!({"op": "lock.acquire", "in": "c", "name": "mine", "timeout": 20});
    assert_eq!(holder.ask(mine), json!({"token": 2}));
    assert_eq!(waiting.child.wait().unwrap().code(), Some(0));
    holder.end();
}

#[test]
fn interrupted_it_ends_with_the_code_of_the_signal() {
    let (_keep, dir) = nowhere();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut holder = Shell::of(&dir);
        let mut shell = Shell::of(&dir);
        assert!(shell.ask(lock("acquire", 20.0)).is_object());
        let status = Command::new("kill").args([signal, &shell.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        assert_eq!(shell.child.wait().unwrap().code(), Some(code), "{signal}");
        assert!(holder.ask(lock("acquire", 20.0)).is_object());
        holder.end();
    }
}

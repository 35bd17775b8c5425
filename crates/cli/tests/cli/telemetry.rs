//! What leaves the process, and what it keeps: to a collector before a stopped run ends, and nowhere a credential.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use alluvium_telemetry::Seam;

use crate::{alluvium, endless, ends, send};

/// A collector that takes everything: the path and the body of each request.
type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

fn collector() -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let kept = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            // A connection that breaks off is the sender's business.
            std::thread::spawn(move || answer(stream, &kept).unwrap_or_default());
        }
    });
    (url, requests)
}

fn answer(stream: TcpStream, kept: &Requests) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                bytes = length.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line);
        }
        let mut body = vec![0; bytes];
        reader.read_exact(&mut body)?;
        let path = lines[0].split(' ').nth(1).unwrap().to_owned();
        kept.lock().unwrap().push((path, body));
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// All that was sent, with whatever is no text taken for blanks.
fn sent(requests: &Requests) -> String {
    let requests = requests.lock().unwrap();
    requests.iter().map(|(_, body)| String::from_utf8_lossy(body).into_owned()).collect()
}

#[test]
fn a_run_that_is_stopped_sends_what_it_has_before_it_ends() {
    let (url, requests) = collector();
    let (_keep, dir) = endless();
    let mut child = alluvium()
        .args(["run", &dir, "--otlp", &url])
        .env("NO_PROXY", "127.0.0.1")
        // Not a busy machine is under test: the collector is waited for as long as it takes.
        .env("ALLUVIUM_OTLP_FLUSH_MS", "20000")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    told.read_line(&mut String::new()).unwrap();
    send("-TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let paths: BTreeSet<String> = requests.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, ["/v1/logs", "/v1/metrics", "/v1/traces"].map(str::to_owned).into());
    let sent = sent(&requests);
    assert!(sent.contains("interrupted") && sent.contains("cache_run_summary"), "{sent}");
}

/// The time that a process has computed, in hundredths of a second.
fn computed(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Its name, in parentheses, may hold blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// A join that gives no batch for minutes holds its workers: who asks its run to stop does not wait for it.
#[test]
fn a_run_whose_query_does_not_yield_is_stopped_and_on_record_within_seconds() {
    let (url, requests) = collector();
    let dir = tempfile::tempdir().unwrap();
    let sql = "select count(*) as n from generate_series(1, 100000) as a, generate_series(1, 10000000) as b \
               where a.value * b.value % 7 = 3";
    for (name, cache) in [("written", "delta_staging"), ("counted", "none")] {
        let project = dir.path().join(name);
        fs::create_dir(&project).unwrap();
        fs::write(project.join("alluvium.toml"), format!("[views.v]\nsql = \"{sql}\"\ncache = \"{cache}\"\n")).unwrap();
        let mut child = alluvium()
            .args(["run", project.to_str().unwrap(), "--otlp", &url])
            .env("NO_PROXY", "127.0.0.1")
            .env("ALLUVIUM_OTLP_FLUSH_MS", "20000")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        told.read_line(&mut String::new()).unwrap();
        // Planning is done by then; three seconds more are the join's.
        let begun = computed(child.id());
        while computed(child.id()) < begun + 300 {
            assert_eq!(child.try_wait().unwrap(), None, "it is not done");
            std::thread::yield_now();
        }
        let asked = Seam::system().stopwatch();
        send("-TERM", &child);
        assert_eq!(child.wait().unwrap().code(), Some(143), "{name}");
        // It takes less than a second; a busy machine has its time.
        assert!(asked.elapsed().as_secs() < 20, "{name}: {:?}", asked.elapsed());
        let sent = sent(&requests);
        assert!(sent.contains("interrupted") && sent.contains("cache_run_summary"), "{name}: {sent}");
        requests.lock().unwrap().clear();
        // Not by the one who asks, who would drain the outbox.
        let ledger = project.join(".alluvium/cache_ledgers/datafusion_cache_run_summary_v1/_delta_log");
        assert!(ledger.is_dir(), "{name}: its ledgers are written");
        let question = "select result from alluvium.cache_runs";
        let (answer, _) = ends(0, &["sql", "-C", project.to_str().unwrap(), question, "--format", "csv"]);
        assert_eq!(answer, "result\ninterrupted\n", "{name}");
    }
}

#[test]
fn the_standard_variables_say_who_sends_and_that_nobody_does() {
    let (url, requests) = collector();
    let (_keep, shop) = crate::project();
    let disabled = alluvium()
        .args(["run", &shop])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env("OTEL_SDK_DISABLED", "true")
        .output()
        .unwrap();
    assert!(disabled.status.success(), "{disabled:?}");
    assert!(requests.lock().unwrap().is_empty(), "disabled is disabled");
    let named = alluvium()
        .args(["run", &shop, "--fresh"])
        .env("NO_PROXY", "127.0.0.1")
        .env("ALLUVIUM_OTLP_FLUSH_MS", "20000")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_SERVICE_NAME", "nightly-shop")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=rehearsal")
        .output()
        .unwrap();
    assert!(named.status.success(), "{named:?}");
    for (path, body) in requests.lock().unwrap().iter() {
        assert_ne!(path, "/v1/metrics");
        let body = String::from_utf8_lossy(body);
        for word in
            ["nightly-shop", "service.version", "service.instance.id", "deployment.environment.name", "rehearsal"]
        {
            assert!(body.contains(word), "{word} is not in a request to {path}");
        }
    }
    assert!(requests.lock().unwrap().len() >= 2);
}

/// Credentials by their looks and by the words before them.
const CREDENTIALS: [&str; 2] = ["hunter2", "AKIAIOSFODNN7EXAMPLE"];

/// Every document that the binary prints about a project, every ledger, its own logs, its diagnostics and what it
/// sends: credentials of the data, which engine errors repeat, are in none of them, and those of the pipeline file and its SQL neither.
#[test]
fn planted_credentials_are_in_no_document_ledger_log_or_signal() {
    let (url, requests) = collector();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("people.csv", "name,note\nlovelace,password=hunter2\nAKIAIOSFODNN7EXAMPLE,s3://ada:hunter2@bucket/x\n");
    write(
        "alluvium.toml",
        r#"
[profile]
name = "nightly token=hunter2"

[sources.people]
format = "csv"
path = "people.csv"
options = { null_regex = "^secret=hunter2$" }
projection_exprs = ["name", "note", "'pwd=hunter2' as p"]

[views.chosen]
sql = "select name, note from people where note <> 's3://ada:hunter2@bucket/y?sig=hunter2'"

[views.cast]
sql = "select cast(note as int) as n from chosen"

[views.token]
sql = "select cast(name as int) as n from chosen where name like 'AKIA%'"

[outputs.chosen]
view = "chosen"
path = "out/chosen"
"#,
    );
    let project = dir.path().to_str().unwrap();
    let events = dir.path().join("events.jsonl");
    let run = |more: &[&str], variables: &[(&str, &str)]| {
        let mut command = alluvium();
        command.args(["run", project, "--keep-going", "--format", "json"]).args(more);
        let output = command.envs(variables.iter().copied()).env("NO_PROXY", "127.0.0.1").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let file = format!("file:{}", events.display());
    let mut told = vec![
        ("run".to_owned(), run(&["-vv"], &[("ALLUVIUM_PROFILE_QUERY_SPANS", "true")])),
        ("run to a file".to_owned(), run(&["--shadow", "100"], &[("ALLUVIUM_DIAGNOSTICS", &file)])),
        ("run to a collector".to_owned(), run(&["--otlp", &url, "-vv"], &[("ALLUVIUM_OTLP_FLUSH_MS", "20000")])),
    ];
    let trace = dir.path().join("trace.json");
    told.push(("run to a trace file".to_owned(), run(&["--trace-file", trace.to_str().unwrap()], &[])));
    told.push(("trace file".to_owned(), fs::read_to_string(&trace).unwrap()));
    told.push(("diagnostics".to_owned(), fs::read_to_string(&events).unwrap()));
    told.push(("collector".to_owned(), sent(&requests)));

    let (listed, _) = ends(0, &["runs", "ls", project, "--format", "json"]);
    let document: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let runs: Vec<&str> =
        document["payload"]["runs"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap()).collect();
    let json = |command: &[&str]| {
        let arguments = [command, &["--format", "json"]].concat();
        let output = alluvium().args(&arguments).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(out.len() > 20, "{arguments:?} printed something to leak: {out}{err}");
        (arguments.join(" "), out + &err)
    };
    for command in [
        &["plan", project][..],
        &["lineage", project, "chosen.name"],
        &["runs", "ls", project],
        &["runs", "show", runs[0], "-C", project],
        &["runs", "diff", runs[0], runs[1], "-C", project],
        &["runs", "replay", runs[0], "-C", project],
        &["cache", "ls", "-C", project],
        &["cache", "show", "chosen", "-C", project],
        &["cache", "verify", "-C", project],
        &["cache", "export", "chosen", &format!("{project}/copy"), "-C", project],
        &["cache", "rebuild-index", "-C", project],
        &["cache", "evict", "--all", "--dry-run", "-C", project],
        &["cache", "gc", "--dry-run", "-C", project],
        &["table", "show", &format!("{project}/out/chosen")],
        &["table", "history", &format!("{project}/out/chosen")],
        &["table", "verify", &format!("{project}/out/chosen")],
        &["table", "maintain", &format!("{project}/out/chosen"), "--checkpoint"],
        &["doctor", project],
    ] {
        told.push(json(command));
    }
    for command in
        [&["run", project][..], &["plan", project], &["runs", "show", runs[0], "-C", project], &["doctor", project]]
    {
        let output = alluvium().args(command).output().unwrap();
        told.push((command.join(" "), String::from_utf8([output.stdout, output.stderr].concat()).unwrap()));
    }
    for ledger in
        ["cache_inventory", "cache_runs", "run_manifests", "cache_artifacts", "cache_snapshots", "cache_entries"]
    {
        let query = format!("select * from alluvium.{ledger}");
        told.push((ledger.to_owned(), ends(0, &["sql", project, &query, "--format", "json"]).0));
    }
    told.push(("commits of the output".to_owned(), commits(&dir.path().join("out/chosen"))));
    for store in ["kv", "cache_ledgers", "quarantine", "run_locks", "readers"] {
        told.push((store.to_owned(), files(&dir.path().join(".alluvium").join(store))));
    }
    assert!(told.iter().any(|(_, text)| text.contains("[redacted]")), "there was something to redact");
    for (place, text) in &told {
        for secret in CREDENTIALS {
            if let Some(at) = text.find(secret) {
                let from = text.floor_char_boundary(at.saturating_sub(200));
                panic!("{secret} is in {place}: {}", &text[from..text.floor_char_boundary(at + 100)]);
            }
        }
    }
}

/// Every file below a directory, which may be missing.
fn files(dir: &Path) -> String {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.is_dir() {
            true => files(&path),
            false => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
        })
        .collect()
}

/// The `commitInfo` lines of a table: statistics of its files hold values of the data, which are the table's own.
fn commits(table: &Path) -> String {
    let logs = fs::read_dir(table.join("_delta_log")).unwrap().map(|entry| entry.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let text: String = logs.map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().filter(|line| line.contains("commitInfo")).collect()
}

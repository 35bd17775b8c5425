//! One pipeline all the way: written, then hit without a byte of source data; outputs and ledgers as they should be.

use std::sync::Arc;

use alluvium_contracts::{OutputResult, RunResult, ViewResult};
use alluvium_runs::{OpenOptions, RunOptions, Silent};
use url::Url;

use crate::lab::{Lab, answer, results, run, sessions, try_run};
use crate::store::Counting;

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events-*.parquet"

[sources.names]
format = "csv"
path = "data/names.csv"

[views.clean]
sql = "select k, s from events where k > 1"

[views.named]
sql = "select c.k, c.s, n.name from clean as c join names as n on n.s = c.s"

[views.counted]
sql = "select name, count(*) as n, sum(k) as total from named group by name"

[outputs.counted]
view = "counted"
path = "out/counted"

[outputs.by_name]
view = "named"
path = "out/by_name"
write = { partition_by = ["name"], writer_properties = { compression = "zstd" } }
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events-01.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab.parquet("data/events-02.parquet", &[(4, "a")]);
    lab.write("data/names.csv", "s,name\na,Ada\nb,Bob\n");
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_run_hits_everything_and_reads_no_source_data() {
    let lab = lab();
    let first = lab.run().await;
    assert_eq!(first.result, RunResult::Succeeded, "{first:#?}");
    assert_eq!(results(&first), ["clean: write", "named: write", "counted: write"]);
    let versions: Vec<_> = first.outputs.iter().map(|output| (output.result, output.delta_version)).collect();
    assert_eq!(versions, [(OutputResult::Write, Some(0)), (OutputResult::Write, Some(0))]);

    let store = Counting::new("/data/");
    let url = Url::parse("file://").unwrap();
    let sessions = sessions().with_object_store(url, Arc::clone(&store) as _);
    let pipeline = Lab::open_with(lab.dir(), OpenOptions { sessions: Some(sessions), ..OpenOptions::default() });
    let second = run(&pipeline).await;
    assert_eq!(results(&second), ["clean: hit", "named: hit", "counted: hit"]);
    assert!(second.views.iter().all(|view| view.saved_ms.is_some_and(|ms| ms > 0.0)));
    assert_eq!(store.reads(), 0);
    let counters = pipeline.pin_counters();
    assert_eq!((counters.files_hashed, counters.bytes_hashed, counters.schemas_inferred), (0, 0, 0));
    let versions: Vec<_> = second.outputs.iter().map(|output| (output.result, output.delta_version)).collect();
    assert_eq!(versions, [(OutputResult::Hit, Some(0)), (OutputResult::Hit, Some(0))]);

    // The counter counts: a fresh run reads the sources through it.
    let fresh = RunOptions { fresh: true, ..RunOptions::default() };
    let third = try_run(&pipeline, fresh, &Silent).await.unwrap();
    assert_eq!(results(&third), ["clean: write", "named: write", "counted: write"]);
    assert!(store.reads() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_recomputes_what_depends_on_it_and_says_why() {
    let lab = lab();
    lab.run().await;
    lab.write("data/names.csv", "s,name\na,Ada\nb,Bill\n");
    let plan = lab.plan().await;
    let why: Vec<_> = plan.views.iter().map(|view| (view.name.as_str(), view.result, view.reason.clone())).collect();
    assert_eq!(why[0], ("clean", ViewResult::Hit, None));
    assert_eq!(why[1].1, ViewResult::Write);
    let reason = why[1].2.clone().unwrap();
    assert!(reason.contains("source names: file names.csv: b3:"), "{reason}");
    assert!(why[2].2.clone().unwrap().contains("view named: b3:"), "{why:?}");

    let document = lab.run().await;
    assert_eq!(results(&document), ["clean: hit", "named: write", "counted: write"]);
    assert_eq!(document.outputs[1].delta_version, Some(1));
    insta::assert_snapshot!(lab.sql("select name, n, total from counted order by name").await, @r"
    +------+---+-------+
    | name | n | total |
    +------+---+-------+
    | Ada  | 1 | 4     |
    | Bill | 2 | 5     |
    +------+---+-------+
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_say_what_happened() {
    let lab = lab();
    lab.run().await;
    lab.run().await;
    let pipeline = lab.open();
    insta::assert_snapshot!(
        answer(
            &pipeline,
            "select i.view_name, i.output_name, i.result, i.row_count, count(*) as times \
             from alluvium.cache_inventory as i join alluvium.cache_runs as r on r.run_id = i.run_id \
             group by 1, 2, 3, 4 order by 1, 2, 3"
        )
        .await,
        @r"
    +-----------+-------------+--------+-----------+-------+
    | view_name | output_name | result | row_count | times |
    +-----------+-------------+--------+-----------+-------+
    | clean     |             | hit    | 3         | 1     |
    | clean     |             | write  | 3         | 1     |
    | counted   | counted     | hit    | 2         | 1     |
    | counted   | counted     | write  | 2         | 1     |
    | counted   |             | hit    | 2         | 1     |
    | counted   |             | write  | 2         | 1     |
    | named     | by_name     | hit    | 3         | 1     |
    | named     | by_name     | write  | 3         | 1     |
    | named     |             | hit    | 3         | 1     |
    | named     |             | write  | 3         | 1     |
    +-----------+-------------+--------+-----------+-------+
    "
    );
    insta::assert_snapshot!(
        answer(&pipeline, "select result, hit_count, write_count from alluvium.cache_runs order by started_unix_ms").await,
        @r"
    +-----------+-----------+-------------+
    | result    | hit_count | write_count |
    +-----------+-----------+-------------+
    | succeeded | 0         | 3           |
    | succeeded | 3         | 0           |
    +-----------+-----------+-------------+
    "
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_takes_its_descendants_and_nothing_that_was_published() {
    let lab = lab();
    lab.run().await;
    lab.edit("alluvium.toml", "select c.k, c.s, n.name from", "select c.k / (c.k - c.k) as k, c.s, n.name from");
    let toml = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
    lab.write("alluvium.toml", &format!("{toml}\n[views.zother]\nsql = \"select s from names\"\n"));
    let pipeline = lab.open();
    let options = RunOptions { keep_going: true, ..RunOptions::default() };
    let document = try_run(&pipeline, options, &Silent).await.unwrap();
    assert_eq!(document.result, RunResult::Failed);
    assert_eq!(results(&document), ["clean: hit", "named: error", "counted: skipped", "zother: write"]);
    assert!(document.outputs.iter().all(|output| output.result == OutputResult::Skipped), "{:?}", document.outputs);
    let standing = answer(&pipeline, "select count(*) as n from outputs.by_name").await;
    assert!(standing.contains("| 3 |"), "{standing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_others_committed_to_is_left_alone_unless_told() {
    let lab = lab();
    lab.run().await;
    // What another writer leaves: a newer version without our metadata.
    let log = lab.path("out/counted/_delta_log");
    std::fs::write(
        log.join("00000000000000000001.json"),
        r#"{"commitInfo":{"timestamp":1,"operation":"WRITE","engineInfo":"someone else"}}"#,
    )
    .unwrap();
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Failed);
    let output = document.outputs.iter().find(|output| output.name == "counted").unwrap();
    assert_eq!(output.result, OutputResult::Error);
    assert!(output.reason.as_ref().unwrap().contains("foreign_commit"), "{:?}", output.reason);

    lab.edit("alluvium.toml", "path = \"out/counted\"", "path = \"out/counted\"\nforeign_commit = \"overwrite\"");
    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Succeeded, "{document:#?}");
    assert_eq!(document.outputs[1].delta_version, Some(2));
    assert_eq!(lab.run().await.outputs[1].result, OutputResult::Hit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_output_is_published_anew_and_damage_is_set_aside() {
    let lab = lab();
    lab.run().await;
    std::fs::remove_dir_all(lab.path("out/counted")).unwrap();
    let entry = walk(&lab.path(".alluvium/view_cache")).into_iter().find(|path| {
        path.extension().is_some_and(|ext| ext == "parquet") && path.to_string_lossy().contains("clean__")
    });
    let entry = entry.unwrap();
    let mut bytes = std::fs::read(&entry).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&entry, bytes).unwrap();

    let document = lab.run().await;
    assert_eq!(document.result, RunResult::Succeeded);
    assert_eq!(results(&document), ["clean: write", "named: hit", "counted: hit"]);
    assert!(document.notices.iter().any(|notice| notice.contains("`clean` was damaged")), "{:?}", document.notices);
    assert_eq!(document.outputs[1].result, OutputResult::Write);
    assert!(lab.sql("select sum(k) as k from clean").await.contains("| 9 |"));
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path) } else { vec![path] }
        })
        .collect()
}

/// A version number can be used twice, after a rollback by hand: what one root remembers of it is not what is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_another_root_published_anew_is_read_as_it_is() {
    let lab = lab();
    lab.run().await;
    lab.write("data/names.csv", "s,name\na,Ada\nb,Bill\n");
    assert_eq!(lab.run().await.outputs[1].delta_version, Some(1));
    std::fs::remove_file(lab.path("out/counted/_delta_log/00000000000000000001.json")).unwrap();
    lab.write("data/names.csv", "s,name\na,Ada\nb,Bertha\n");
    let other = OpenOptions { cache_root: Some(lab.path("other-root")), ..OpenOptions::default() };
    assert_eq!(run(&Lab::open_with(lab.dir(), other)).await.outputs[1].delta_version, Some(1));

    let document = lab.run().await;
    assert_eq!(document.outputs[1].result, OutputResult::Hit, "{document:#?}");
    assert!(document.notices.is_empty(), "{:?}", document.notices);
    let names = lab.sql("select name from outputs.counted order by name").await;
    assert!(names.contains("Bertha") && !names.contains("Bill"), "{names}");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_that_go_up_are_run_and_hit() {
    let lab = lab();
    lab.edit("alluvium.toml", "path = \"out/by_name\"", "path = \"data/../out/by_name\"");
    lab.edit("alluvium.toml", "[views.counted]", "[views.counted]\ncache = \"delta_output\"");
    lab.edit("alluvium.toml", "path = \"out/counted\"", "path = \"../up-{}/counted\"");
    let up = format!("up-{}", lab.dir().file_name().unwrap().to_string_lossy());
    lab.edit("alluvium.toml", "up-{}", &up);
    let roundabout = lab.path("data/..");
    let root = lab.path("data/../root");
    let open = || Lab::open_with(&roundabout, OpenOptions { cache_root: Some(root.clone()), ..OpenOptions::default() });
    let first = run(&open()).await;
    assert_eq!(first.result, RunResult::Succeeded, "{first:#?}");
    assert_eq!(results(&run(&open()).await), ["clean: hit", "named: hit", "counted: hit"]);
    assert!(answer(&open(), "select sum(n) as n from outputs.counted").await.contains("| 3 |"));
    assert!(answer(&open(), "select count(*) as n from outputs.by_name").await.contains("| 3 |"));
    std::fs::remove_dir_all(lab.dir().parent().unwrap().join(up)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_is_published_anew_from_an_entry_whose_sources_nothing_computes() {
    for upstream in ["none", "memory"] {
        let lab = lab();
        lab.edit("alluvium.toml", "[views.clean]", &format!("[views.clean]\ncache = \"{upstream}\""));
        lab.run().await;
        std::fs::remove_dir_all(lab.path("out/by_name")).unwrap();
        let document = lab.run().await;
        assert_eq!(document.result, RunResult::Succeeded, "{upstream}: {document:#?}");
        assert_eq!(results(&document), ["clean: computed", "named: hit", "counted: hit"], "{upstream}");
        assert_eq!(document.outputs[0].result, OutputResult::Write, "{upstream}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_is_read_without_its_sources() {
    let lab = Lab::new(
        "[sources.events]\nformat = \"parquet\"\npath = \"events.parquet\"\n[views.kept]\nsql = \"select k from events\"\n\
         [outputs.table]\nview = \"kept\"\npath = \"out\"\n",
    );
    lab.parquet("events.parquet", &[(1, "a"), (2, "b")]);
    let absent = lab.open().sql("select k from outputs.table").await.err().unwrap();
    assert!(absent.is_input(), "{absent:?}");
    lab.run().await;
    std::fs::remove_file(lab.path("events.parquet")).unwrap();
    for table in ["outputs.\"table\"", "\"table\""] {
        let rows = lab.sql(&format!("select sum(k) as total from {table}")).await;
        assert!(rows.contains("| 3     |"), "{rows}");
    }
    let refused = lab.open().sql("select k from kept").await.err().unwrap();
    assert!(refused.is_input(), "{refused:?}");
}

//! Bad input: refused with file, line and fix, before anything is touched.

use std::error::Error;
use std::path::Path;

use alluvium_runs::{OpenOptions, Pipeline, Project, RunOptions, Silent};

use crate::lab::{Lab, answer, later, try_run};

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events.parquet"

[sources.names]
format = "csv"
path = "data/names.csv"

[views.first]
file = "views/first.sql"

[views.second]
sql = "select s, count(*) as n from first group by s"

[outputs.second]
view = "second"
path = "out/second"
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events.parquet", &[(1, "a"), (2, "b")]);
    lab.write("data/names.csv", "s,name\na,Ada\n");
    lab.write("views/first.sql", "-- one row an event\nselect k, s\nfrom events\n");
    lab
}

fn append(lab: &Lab, toml: &str) {
    let text = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
    lab.write("alluvium.toml", &format!("{text}{toml}"));
}

type Fault = (&'static str, fn(&Lab));

const FAULTS: &[Fault] = &[
    ("an unknown key", |lab| lab.edit("alluvium.toml", "format = \"csv\"", "fromat = \"csv\"")),
    ("an unknown write key", |lab| append(lab, "write = { partition = [\"s\"] }\n")),
    ("a wrong type", |lab| lab.edit("alluvium.toml", "path = \"out/second\"", "path = 7")),
    ("no TOML", |lab| append(lab, "[views.x\n")),
    ("two views of one name", |lab| append(lab, "[views.first]\nsql = \"select 1 as a\"\n")),
    ("a source and a view of one name", |lab| append(lab, "[views.names]\nsql = \"select 1 as a\"\n")),
    ("a name that climbs", |lab| append(lab, "[views.\"../../x\"]\nsql = \"select 1 as a\"\n")),
    ("neither sql nor file", |lab| append(lab, "[views.empty]\n")),
    ("both sql and file", |lab| append(lab, "[views.both]\nsql = \"select 1 as a\"\nfile = \"views/first.sql\"\n")),
    ("a cycle", |lab| append(lab, "[views.a]\nsql = \"select * from b\"\n[views.b]\nsql = \"select * from a\"\n")),
    ("a missing SQL file", |lab| lab.edit("alluvium.toml", "views/first.sql", "views/frist.sql")),
    ("a missing source file", |lab| std::fs::remove_file(lab.path("data/events.parquet")).unwrap()),
    ("a corrupt source file", |lab| lab.write("data/events.parquet", "PAR1 but not really PAR1")),
    ("an unknown option", |lab| {
        lab.edit(
            "alluvium.toml",
            "path = \"data/names.csv\"",
            "path = \"data/names.csv\"\noptions = { delimeter = \";\" }",
        );
        append(lab, "[views.named]\nsql = \"select * from names\"\n");
    }),
    ("a cloud store", |lab| lab.edit("alluvium.toml", "data/events.parquet", "s3://bucket/events.parquet")),
    ("an output in a cloud store", |lab| {
        lab.edit("alluvium.toml", "path = \"out/second\"", "path = \"s3://me:hunter2@bucket/out\"");
    }),
    ("an unknown column", |lab| lab.write("views/first.sql", "-- one row an event\nselect k, z\nfrom events\n")),
    ("an unknown table", |lab| lab.write("views/first.sql", "select k, s\nfrom event\n")),
    ("a table of another schema", |lab| lab.write("views/first.sql", "select k, s\nfrom outputs.second\n")),
    ("a ledger in a view", |lab| lab.write("views/first.sql", "select * from alluvium.cache_runs\n")),
    ("no SQL", |lab| lab.write("views/first.sql", "selct k from events\n")),
    ("DDL", |lab| lab.write("views/first.sql", "create table x as select 1\n")),
    ("DML", |lab| lab.write("views/first.sql", "insert into events select * from events\n")),
    ("COPY", |lab| lab.write("views/first.sql", "copy events to 'stolen.csv'\n")),
    ("two statements", |lab| lab.write("views/first.sql", "select k, s from events; select 1\n")),
    ("a column without a name", |lab| lab.write("views/first.sql", "select s, k + 1 from events\n")),
    ("two columns of one name", |lab| lab.write("views/first.sql", "select s, k, k as K2, s as \"S\" from events\n")),
    ("a type that Delta has not", |lab| {
        lab.write("views/first.sql", "select s, interval '1 day' as d from events\n");
    }),
    ("an output of no view", |lab| lab.edit("alluvium.toml", "view = \"second\"", "view = \"secund\"")),
    ("a partition column that is not there", |lab| append(lab, "write = { partition_by = [\"t\"] }\n")),
    ("a value that is none", |lab| {
        lab.edit("alluvium.toml", "file = \"views/first.sql\"", "file = \"views/first.sql\"\ncache = \"delta_stagin\"");
    }),
    ("no partitions", |lab| append(lab, "[profile]\ntarget_partitions = 0\n")),
    ("a name with capitals, unquoted", |lab| {
        append(lab, "[views.Big]\nsql = \"select 1 as a\"\n[views.b]\nsql = \"select * from Big\"\n");
    }),
    ("an output where a source looks", |lab| lab.edit("alluvium.toml", "path = \"out/second\"", "path = \"data\"")),
    ("an output that is a file", |lab| {
        lab.write("out/file", "");
        lab.edit("alluvium.toml", "path = \"out/second\"", "path = \"out/file\"");
    }),
    ("outputs in each other", |lab| append(lab, "[outputs.third]\nview = \"second\"\npath = \"out/second/third\"\n")),
    ("an output that is a cache without being one", |lab| {
        lab.edit("alluvium.toml", "file = \"views/first.sql\"", "file = \"views/first.sql\"\ncache = \"delta_output\"");
    }),
];

/// What is said of a project that is refused, cause by cause.
pub async fn refusal(dir: &Path) -> String {
    let project = match Project::load(dir) {
        Ok(project) => project,
        Err(error) => {
            assert!(error.is_input());
            return chain(&error, dir);
        }
    };
    let options = OpenOptions { seam: Some(later()), ..OpenOptions::default() };
    let pipeline = Pipeline::open(project, options).unwrap();
    match try_run(&pipeline, RunOptions::default(), &Silent).await {
        Ok(document) => panic!("not refused: {document:#?}"),
        Err(error) => {
            assert!(error.is_input(), "{error:?}");
            chain(&error, dir)
        }
    }
}

fn chain(error: &dyn Error, dir: &Path) -> String {
    let mut lines = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        lines.push(cause.to_string());
        source = cause.source();
    }
    let text = lines.join("\n    ");
    text.replace(&dir.canonicalize().unwrap().display().to_string(), "DIR").replace(&dir.display().to_string(), "DIR")
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_golden() {
    let mut said = String::new();
    for (fault, apply) in FAULTS {
        let lab = lab();
        lab.run().await;
        apply(&lab);
        said.push_str(&format!("{fault}\n    {}\n", refusal(lab.dir()).await));
        // What was published stands.
        let log = std::fs::read_dir(lab.path("out/second/_delta_log")).unwrap().count();
        assert_eq!(log, 1, "{fault}");
        lab.write("alluvium.toml", TOML);
        lab.write("views/first.sql", "select k, s from events");
        lab.parquet("data/events.parquet", &[(1, "a"), (2, "b")]);
        let standing = answer(&lab.open(), "select count(*) as n from outputs.second").await;
        assert!(standing.contains("| 2 |"), "{fault}: {standing}");
    }
    insta::assert_snapshot!(said);
}

#[test]
fn a_cache_root_that_is_a_file_is_refused() {
    let lab = lab();
    lab.write("root", "");
    let options = OpenOptions { cache_root: Some(lab.path("root")), ..OpenOptions::default() };
    let error = Pipeline::open(Project::load(lab.dir()).unwrap(), options).unwrap_err();
    assert!(error.is_input());
    let said = chain(&error, lab.dir());
    assert!(said.contains("DIR/root is not a directory") && said.contains("--cache-root"), "{said}");
}

#[test]
fn an_output_in_the_cache_root_is_refused() {
    let lab = lab();
    for path in [".alluvium", ".alluvium/view_cache/second", "out/../.alluvium/x"] {
        lab.write("alluvium.toml", &TOML.replace("out/second", path));
        let options = OpenOptions::default();
        let error = Pipeline::open(Project::load(lab.dir()).unwrap(), options).unwrap_err();
        assert!(error.is_input());
        let said = chain(&error, lab.dir());
        assert!(said.contains("alluvium.toml:16: output `second`") && said.contains("DIR/.alluvium"), "{said}");
        assert!(!lab.path(".alluvium").exists());
    }
}

/// The engine says that some value of some file is wrong; over many files that helps nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_off_in_the_middle_is_named() {
    let lab = Lab::new(
        "[sources.many]\nformat = \"csv\"\npath = \"many\"\noptions = { schema_infer_max_rec = 2 }\n\
         [views.total]\nsql = \"select sum(a) as total from many\"\n",
    );
    for name in ["1", "2", "3"] {
        lab.write(&format!("many/{name}.csv"), "a\n1\n2\n");
    }
    lab.write("many/2.csv", "a\n1\n2\noops\n");
    let document = lab.run().await;
    let reason = document.views[0].reason.clone().unwrap();
    for part in ["many/2.csv of source `many`", "oops", "schema_infer_max_rec"] {
        assert!(reason.contains(part), "no `{part}` in: {reason}");
    }
    // Nothing of the files' is to blame.
    lab.write("many/2.csv", "a\n0\n");
    lab.edit("alluvium.toml", "sum(a)", "sum(1 / a)");
    let document = lab.run().await;
    let reason = document.views[0].reason.clone().unwrap();
    assert!(!reason.contains("many/") && reason.contains("ivide by zero"), "{reason}");
}

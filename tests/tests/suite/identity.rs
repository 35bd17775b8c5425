//! The identity matrix: which edit moves which key. A golden table that later work extends and never weakens.

use std::collections::BTreeMap;
use std::fs::FileTimes;
use std::path::PathBuf;

use alluvium_contracts::CacheKey;

use crate::lab::{Lab, copy_dir, keys_at};

const TOML: &str = r#"
[sources.events]
format = "parquet"
path = "data/events-*.parquet"

[sources.north]
format = "parquet"
path = "data/north.parquet"

[sources.south]
format = "parquet"
path = "data/south.parquet"

[sources.sheet]
format = "csv"
path = "data/sheet.csv"
options = { delimiter = "," }

[views.clean]
sql = "select k, s from events where k > 1"

[views.counted]
sql = "select s, count(*) as n from clean group by s"

[views.joined]
sql = "select c.s, c.n, n.k from counted as c join north as n on n.s = c.s"

[views.northern]
sql = "select k from north"

[views.southern]
sql = "select k from south"

[views.plain]
sql = "select a, b from sheet"
"#;

fn lab() -> Lab {
    let lab = Lab::new(TOML);
    lab.parquet("data/events-01.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab.parquet("data/events-02.parquet", &[(4, "a")]);
    lab.parquet("data/north.parquet", &[(10, "a")]);
    lab.parquet("data/south.parquet", &[(20, "a")]);
    lab.write("data/sheet.csv", "a,b\n1,x;y\n2,NA\n");
    lab
}

type Edit = (&'static str, fn(&Lab) -> PathBuf);

fn same(lab: &Lab) -> PathBuf {
    lab.dir().to_owned()
}

const EDITS: &[Edit] = &[
    ("nothing", same),
    ("a view's SQL", |lab| {
        lab.edit("alluvium.toml", "where k > 1", "where k > 2");
        same(lab)
    }),
    ("an output column's name", |lab| {
        lab.edit("alluvium.toml", "count(*) as n from", "count(*) as m from");
        lab.edit("alluvium.toml", "c.n, n.k", "c.m as n, n.k");
        same(lab)
    }),
    ("a literal's type", |lab| {
        lab.edit("alluvium.toml", "where k > 1", "where k > 1.0");
        same(lab)
    }),
    ("a month added", |lab| {
        lab.parquet("data/events-03.parquet", &[(5, "c")]);
        same(lab)
    }),
    ("a file rewritten at the same size, its mtime restored", |lab| {
        let path = lab.path("data/south.parquet");
        let before = std::fs::metadata(&path).unwrap();
        lab.parquet("data/south.parquet", &[(21, "a")]);
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!(before.len(), after.len());
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(before.modified().unwrap())).unwrap();
        same(lab)
    }),
    ("csv delimiter", |lab| {
        lab.edit("alluvium.toml", "delimiter = \",\"", "delimiter = \";\"");
        lab.edit("alluvium.toml", "select a, b from sheet", "select * from sheet");
        lab.write("data/sheet.csv", "a;b\n1;x\n");
        same(lab)
    }),
    ("csv null_regex", |lab| {
        lab.edit("alluvium.toml", "delimiter = \",\"", "null_regex = \"NA\"");
        same(lab)
    }),
    ("a declared schema", |lab| {
        let schema = "schema = [{ name = \"a\", data_type = \"Utf8\" }, { name = \"b\", data_type = \"Utf8\" }]\n";
        lab.edit("alluvium.toml", "path = \"data/sheet.csv\"\n", &format!("path = \"data/sheet.csv\"\n{schema}"));
        same(lab)
    }),
    ("an evolution of files: a default", |lab| {
        let evolution = "evolution = { defaults = { s = \"none\" } }\n";
        lab.edit(
            "alluvium.toml",
            "path = \"data/north.parquet\"\n",
            &format!("path = \"data/north.parquet\"\n{evolution}"),
        );
        same(lab)
    }),
    ("projections of a source", |lab| {
        let projection = "projection_exprs = [\"k + 1 as k\", \"s\"]\n";
        lab.edit(
            "alluvium.toml",
            "path = \"data/south.parquet\"\n",
            &format!("path = \"data/south.parquet\"\n{projection}"),
        );
        same(lab)
    }),
    ("a declared order of rows", |lab| {
        let ordering = "ordering = [{ column = \"k\" }]\n";
        lab.edit(
            "alluvium.toml",
            "path = \"data/south.parquet\"\n",
            &format!("path = \"data/south.parquet\"\n{ordering}"),
        );
        same(lab)
    }),
    ("two same-schema sources swapped", |lab| {
        lab.edit("alluvium.toml", "data/north.parquet", "data/other.parquet");
        lab.edit("alluvium.toml", "data/south.parquet", "data/north.parquet");
        lab.edit("alluvium.toml", "data/other.parquet", "data/south.parquet");
        same(lab)
    }),
    ("now()", |lab| {
        lab.edit("alluvium.toml", "select k, s from events", "select k, s, now() as at from events");
        same(lab)
    }),
    ("current_date", |lab| {
        lab.edit("alluvium.toml", "select k, s from events", "select k, s, current_date as at from events");
        same(lab)
    }),
    ("random()", |lab| {
        lab.edit("alluvium.toml", "select k, s from events", "select k, s, random() as r from events");
        same(lab)
    }),
    ("a function that reads the name of a column", |lab| {
        lab.edit("alluvium.toml", "select k, s from events", "select k, s, arrow_field(k)['name'] as f from events");
        same(lab)
    }),
    ("white space, comments and keyword case", |lab| {
        lab.edit("alluvium.toml", "select k, s from events where", "SELECT  k,s /* same */ FROM events\\n WHERE");
        same(lab)
    }),
    ("table aliases", |lab| {
        lab.edit(
            "alluvium.toml",
            "select c.s, c.n, n.k from counted as c join north as n on n.s = c.s",
            "select x.s, x.n, y.k from counted as x join north as y on y.s = x.s",
        );
        lab.edit("alluvium.toml", "select k from north", "select z.k from north as z");
        same(lab)
    }),
    ("an unrelated source and view", |lab| {
        let mut toml = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
        toml.push_str("[sources.extra]\nformat = \"csv\"\npath = \"data/sheet.csv\"\n");
        toml.push_str("[views.zextra]\nsql = \"select * from extra\"\n");
        lab.write("alluvium.toml", &toml);
        same(lab)
    }),
    ("a source file touched", |lab| {
        let file = std::fs::File::options().write(true).open(lab.path("data/north.parquet")).unwrap();
        file.set_times(FileTimes::new().set_modified(std::time::UNIX_EPOCH)).unwrap();
        same(lab)
    }),
    ("a source file renamed within its glob", |lab| {
        std::fs::rename(lab.path("data/events-02.parquet"), lab.path("data/events-00.parquet")).unwrap();
        same(lab)
    }),
    ("the project moved with its cache root", |lab| {
        let to = lab.path("moved");
        for part in ["data", ".alluvium"] {
            copy_dir(&lab.path(part), &to.join(part));
        }
        std::fs::copy(lab.path("alluvium.toml"), to.join("alluvium.toml")).unwrap();
        to
    }),
    ("partitions, memory and the profile's name", |lab| {
        let toml = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
        let profile =
            "[profile]\nname = \"other\"\npreset = \"dev\"\ntarget_partitions = 7\nmemory_limit_bytes = 100000000\n";
        lab.write("alluvium.toml", &format!("{profile}{toml}"));
        same(lab)
    }),
    ("a cache policy", |lab| {
        lab.edit("alluvium.toml", "[views.clean]", "[views.clean]\ncache = \"memory\"");
        same(lab)
    }),
    ("an output added, partitioned", |lab| {
        let mut toml = std::fs::read_to_string(lab.path("alluvium.toml")).unwrap();
        toml.push_str("[outputs.o]\nview = \"counted\"\npath = \"out/o\"\nwrite = { partition_by = [\"s\"] }\n");
        lab.write("alluvium.toml", &toml);
        same(lab)
    }),
];

fn moved(before: &BTreeMap<String, Option<CacheKey>>, after: &BTreeMap<String, Option<CacheKey>>) -> String {
    let names: Vec<String> = before
        .iter()
        .filter_map(|(view, key)| match after.get(view) {
            Some(None) => Some(format!("{view} (uncacheable)")),
            Some(today) if today != key => Some(view.clone()),
            _ => None,
        })
        .collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_matrix_golden() {
    let mut table = String::new();
    for (edit, apply) in EDITS {
        let lab = lab();
        let before = lab.keys().await;
        assert!(before.values().all(Option::is_some), "{before:?}");
        let dir = apply(&lab);
        table.push_str(&format!("{edit:<56} | {}\n", moved(&before, &keys_at(&dir).await)));
    }
    insta::assert_snapshot!(table);
}

/// A derived table looks past what it is joined with, to the query around it, which has no name of its own in the key: only the places of
/// its columns tell two such queries apart.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_outer_column_is_of_moves_the_key_though_something_nearer_has_its_name() {
    let lab = Lab::new(
        r#"
[views.shadowed]
sql = """
select o.k from (select k as x, k + 3 as y, k from (values (1), (2), (3)) as a(k)) as o
where exists (
    select 1 from (select k as x, k as y from (values (1), (2), (3)) as a(k)) as o
    join (select q.k from (values (4), (5), (6)) as q(k) where q.k = o.x) as z on z.k > 0
)
"""
"#,
    );
    let (before, document) = (lab.keys().await, lab.run().await);
    assert_eq!(document.views[0].rows, Some(0), "{document:?}");
    lab.edit("alluvium.toml", "select k as x, k + 3 as y, k from", "select k as y, k + 3 as x, k from");
    assert_ne!(before, lab.keys().await);
    let document = lab.run().await;
    assert_eq!(document.views[0].rows, Some(3), "{document:?}");
}

/// The keys do not depend on where the process stands: the same project through a relative path.
#[tokio::test(flavor = "multi_thread")]
async fn another_working_directory_keeps_the_keys() {
    let lab = lab();
    let absolute = lab.keys().await;
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = up.join(lab.dir().strip_prefix("/").unwrap());
    assert!(relative.is_relative() && relative.exists());
    assert_eq!(keys_at(&relative).await, absolute);
}

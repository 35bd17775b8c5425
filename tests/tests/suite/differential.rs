//! Random pipelines under random edits: with the caches and without them the rows are the same, and with them nothing
//! is computed whose identity was there before.
//!
//! Every view has the columns `k bigint, g bigint, s text, x double`, so that any can read any. Sums are of integers and
//! nothing is limited: rows are equal as multisets, with no tolerance.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{CacheKey, CachePolicy, ContentDigest, OutputResult, RunDocument, RunResult, ViewResult};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use crate::lab::{Lab, answer, run};

/// Cases of four edits each; `ALLUVIUM_DIFFERENTIAL_CASES` asks for more, and `ALLUVIUM_DIFFERENTIAL_SEED` for the same
/// again.
const CASES: u32 = 25;

#[derive(Debug, Clone)]
struct Row {
    k: Option<i64>,
    g: i64,
    s: Option<&'static str>,
    x: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Parquet,
    Csv { delimiter: char },
    Json,
}

#[derive(Debug, Clone)]
struct Source {
    format: Format,
    files: Vec<Vec<Row>>,
}

/// A query over tables that are chosen, modulo their number, from the sources and the views before it.
#[derive(Debug, Clone)]
struct Query {
    shape: u8,
    from: (usize, usize),
    constant: i64,
    spaced: bool,
}

#[derive(Debug, Clone)]
struct View {
    query: Query,
    policy: CachePolicy,
}

#[derive(Debug, Clone)]
struct Model {
    sources: Vec<Source>,
    views: Vec<View>,
    /// The order in which views stand in the file.
    reversed: bool,
}

#[derive(Debug, Clone)]
enum Edit {
    Row {
        source: usize,
        file: usize,
        row: usize,
        with: Row,
    },
    AddFile {
        source: usize,
        rows: Vec<Row>,
    },
    DropFile {
        source: usize,
    },
    RewriteAlike,
    Delimiter {
        source: usize,
    },
    Query {
        view: usize,
        with: Query,
    },
    Constant {
        view: usize,
        with: i64,
    },
    Space {
        view: usize,
    },
    Policy {
        view: usize,
        with: CachePolicy,
    },
    Reverse,
    /// Back to what was before the last edit.
    Undo,
    /// Somebody deletes an output.
    Delete {
        view: usize,
    },
}

impl Source {
    fn extension(&self) -> &'static str {
        match self.format {
            Format::Parquet => "parquet",
            Format::Csv { .. } => "csv",
            Format::Json => "json",
        }
    }

    fn write(&self, dir: &Path) {
        let _ = std::fs::remove_dir_all(dir);
        std::fs::create_dir_all(dir).unwrap();
        for (index, rows) in self.files.iter().enumerate() {
            let path = dir.join(format!("{index}.{}", self.extension()));
            match self.format {
                Format::Parquet => write_parquet(&path, rows),
                Format::Csv { delimiter } => std::fs::write(path, csv(rows, delimiter)).unwrap(),
                Format::Json => std::fs::write(path, json(rows)).unwrap(),
            }
        }
    }
}

/// What text formats infer their types from: a row without NULL.
const TYPED: Row = Row { k: Some(1), g: 0, s: Some("a"), x: Some(0.5) };

fn csv(rows: &[Row], delimiter: char) -> String {
    let mut text = ["k", "g", "s", "x"].join(&delimiter.to_string()) + "\n";
    let cell = |value: Option<String>| value.unwrap_or_default();
    for row in std::iter::once(&TYPED).chain(rows) {
        let cells = [
            cell(row.k.map(|k| k.to_string())),
            row.g.to_string(),
            cell(row.s.map(str::to_owned)),
            cell(row.x.map(|x| format!("{x:?}"))),
        ];
        text += &(cells.join(&delimiter.to_string()) + "\n");
    }
    text
}

fn json(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let x = row.x.filter(|x| x.is_finite());
        serde_json::json!({"k": row.k, "g": row.g, "s": row.s, "x": x}).to_string() + "\n"
    };
    std::iter::once(&TYPED).chain(rows).map(line).collect()
}

fn write_parquet(path: &Path, rows: &[Row]) {
    let columns: [(&str, ArrayRef); 4] = [
        ("k", Arc::new(rows.iter().map(|row| row.k).collect::<Int64Array>())),
        ("g", Arc::new(rows.iter().map(|row| Some(row.g)).collect::<Int64Array>())),
        ("s", Arc::new(rows.iter().map(|row| row.s).collect::<StringArray>())),
        ("x", Arc::new(rows.iter().map(|row| row.x).collect::<Float64Array>())),
    ];
    let columns = columns.map(|(name, values)| (name, values, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

impl Query {
    fn sql(&self, tables: &[String]) -> String {
        let a = &tables[self.from.0 % tables.len()];
        let b = &tables[self.from.1 % tables.len()];
        let c = self.constant;
        let sql = match self.shape % 14 {
            0 => format!("select k, g, s, x from {a} where k > {c}"),
            1 => format!("select k, g, s, x from {a} where x > {c} or s = 'b'"),
            2 => format!("select k, g, s, x from {a} where s is null or g in (0, {c})"),
            3 => format!("select k + {c} as k, g, coalesce(upper(s), 'none') as s, x from {a}"),
            4 => format!("select l.k, r.g, l.s, r.x from {a} as l join {b} as r on l.g = r.g and l.k = r.k"),
            5 => format!("select l.k, l.g, r.s, l.x from {a} as l left join {b} as r on l.g = r.g and l.k = r.k + {c}"),
            6 => format!(
                "select k, g, s, x from {a} as o where exists (select 1 from {b} as i where i.g = o.g and i.k > {c})"
            ),
            7 => format!("select k, g, s, x from {a} where k not in (select coalesce(k, 0) from {b} where g = {c})"),
            // Of 0.0 and -0.0 the engine keeps whichever comes first: there is one zero here.
            8 => format!(
                "select count(*) as k, g, max(s) as s, min(case when x = 0 then 0.0 else x end) as x from {a} where x < {c} group by g"
            ),
            9 => format!(
                "select sum(k) as k, g, min(s) as s, cast({c} as double) as x from {a} group by g having count(*) > 1"
            ),
            10 => format!("select sum(k) over (partition by g) as k, g, s, x + {c} as x from {a}"),
            11 => format!("select k, g, s, x from {a} union all select g, k, s, x from {b}"),
            12 => format!(
                "with t as (select g, max(k) + {c} as k from {a} group by g) select t.k, t.g, o.s, o.x from t join {b} as o on o.g = t.g"
            ),
            _ => format!("select distinct k, coalesce(g, {c}) as g, s, case when k > {c} then x end as x from {a}"),
        };
        if self.spaced { format!("/* the same */\n{}\n-- the end", sql.replace(' ', "  ")) } else { sql }
    }
}

impl Model {
    fn apply(&mut self, edit: &Edit) {
        let (sources, views) = (self.sources.len(), self.views.len());
        match edit {
            Edit::Row { source, file, row, with } => {
                let files = &mut self.sources[source % sources].files;
                let file = file % files.len();
                let rows = &mut files[file];
                if rows.is_empty() {
                    rows.push(with.clone());
                } else {
                    let row = row % rows.len();
                    rows[row] = with.clone();
                }
            }
            Edit::AddFile { source, rows } => self.sources[source % sources].files.push(rows.clone()),
            Edit::DropFile { source } => {
                let files = &mut self.sources[source % sources].files;
                if files.len() > 1 {
                    files.remove(0);
                }
            }
            Edit::RewriteAlike => {}
            Edit::Delimiter { source } => {
                if let Format::Csv { delimiter } = &mut self.sources[source % sources].format {
                    *delimiter = if *delimiter == ',' { ';' } else { ',' };
                }
            }
            Edit::Query { view, with } => self.views[view % views].query = with.clone(),
            Edit::Constant { view, with } => self.views[view % views].query.constant = *with,
            Edit::Space { view } => self.views[view % views].query.spaced ^= true,
            Edit::Policy { view, with } => self.views[view % views].policy = *with,
            Edit::Reverse => self.reversed ^= true,
            Edit::Undo | Edit::Delete { .. } => {}
        }
    }

    /// Writes the project, with the policies of its views or with no cache at all.
    fn write(&self, lab: &Lab, cached: bool) {
        let mut toml = String::new();
        let mut tables = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let name = format!("source_{index}");
            source.write(&lab.path(&format!("data/{name}")));
            let extension = source.extension();
            writeln!(toml, "[sources.{name}]\nformat = \"{extension}\"\npath = \"data/{name}/*.{extension}\"").unwrap();
            if let Format::Csv { delimiter } = source.format {
                writeln!(toml, "options = {{ delimiter = \"{delimiter}\" }}").unwrap();
            }
            tables.push(name);
        }
        let mut views = Vec::new();
        for (index, view) in self.views.iter().enumerate() {
            let name = format!("view_{index}");
            let policy = if cached { view.policy } else { CachePolicy::None };
            let mut text =
                format!("[views.{name}]\ncache = \"{policy}\"\nsql = \"\"\"{}\"\"\"\n", view.query.sql(&tables));
            // An output of its own is the cache; one beside the cache follows it.
            if policy == CachePolicy::DeltaOutput || (cached && view.query.shape % 3 == 0) {
                write!(text, "[outputs.{name}]\nview = \"{name}\"\npath = \"out/{name}\"\n").unwrap();
            }
            views.push(text);
            tables.push(name);
        }
        if self.reversed {
            views.reverse();
        }
        lab.write("alluvium.toml", &(toml + &views.concat()));
    }

    /// The rows of every view, sorted.
    async fn rows(&self, lab: &Lab) -> Vec<String> {
        let selects: Vec<_> = (0..self.views.len())
            .map(|index| format!("select 'view_{index}' as view, k, g, s, x from view_{index}"))
            .collect();
        let table = answer(&lab.open(), &selects.join(" union all ")).await;
        let mut rows: Vec<_> = table.lines().map(str::to_owned).collect();
        rows.sort_unstable();
        rows
    }
}

/// What the cache root and the outputs hold, by the identities that they were written under.
#[derive(Debug, Default)]
struct Held {
    entries: BTreeSet<CacheKey>,
    outputs: BTreeMap<String, CacheKey>,
}

impl Held {
    /// Every kept view is written exactly if its identity is not held, and once a run.
    fn check(&mut self, document: &RunDocument) -> Result<(), TestCaseError> {
        let mut written = BTreeSet::new();
        for view in &document.views {
            let key = view.cache_key.ok_or_else(|| TestCaseError::fail(format!("{} has no key", view.name)))?;
            let expected = match view.cache_policy {
                CachePolicy::DeltaStaging if self.entries.contains(&key) => ViewResult::Hit,
                // Two views may say the same; one of them is written.
                CachePolicy::DeltaStaging if view.result == ViewResult::Hit => {
                    prop_assert!(
                        document.views.iter().any(|other| other.cache_key == Some(key)
                            && other.result == ViewResult::Write
                            && other.cache_policy == CachePolicy::DeltaStaging),
                        "{} hit what nobody wrote",
                        view.name
                    );
                    ViewResult::Hit
                }
                CachePolicy::DeltaStaging => {
                    prop_assert!(written.insert(key), "{} was written twice", view.name);
                    ViewResult::Write
                }
                CachePolicy::DeltaOutput if self.outputs.get(&view.name) == Some(&key) => ViewResult::Hit,
                CachePolicy::DeltaOutput => ViewResult::Write,
                CachePolicy::None | CachePolicy::Memory => continue,
            };
            prop_assert_eq!(view.result, expected, "{}: {:?}", &view.name, &view.reason);
        }
        self.entries.extend(written);
        // Whatever the view's policy was when it was published: its output is its cache if it says so later.
        for output in &document.outputs {
            let key = document.views.iter().find(|view| view.name == output.view).and_then(|view| view.cache_key);
            self.outputs.extend(key.map(|key| (output.view.clone(), key)));
        }
        Ok(())
    }
}

async fn differ(mut model: Model, edits: &[Edit]) -> Result<(), TestCaseError> {
    let (cached, plain) = (Lab::new(""), Lab::new(""));
    let mut held = Held::default();
    let mut before = model.clone();
    for edit in [None].into_iter().chain(edits.iter().map(Some)) {
        match edit {
            Some(Edit::Undo) => std::mem::swap(&mut model, &mut before),
            Some(edit) => {
                before = model.clone();
                model.apply(edit);
            }
            None => {}
        }
        if let Some(Edit::Delete { view }) = edit {
            let output = format!("view_{}", view % model.views.len());
            let _ = std::fs::remove_dir_all(cached.path(&format!("out/{output}")));
            held.outputs.remove(&output);
        }
        model.write(&cached, true);
        model.write(&plain, false);
        let document = run(&cached.open()).await;
        prop_assert_eq!(document.result, RunResult::Succeeded, "{:#?}", &document);
        prop_assert!(document.notices.is_empty(), "{:?}", &document.notices);
        held.check(&document)?;
        prop_assert_eq!(model.rows(&cached).await, model.rows(&plain).await, "after {:?}", edit);
        // Nothing has changed: everything that is kept hits.
        let again = run(&cached.open()).await;
        held.check(&again)?;
        prop_assert!(again.outputs.iter().all(|output| output.result == OutputResult::Hit), "{:#?}", &again.outputs);
    }
    Ok(())
}

fn row() -> impl Strategy<Value = Row> {
    let k = prop::option::weighted(0.8, 0_i64..6);
    let s = prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "B", "ä"]));
    let x =
        prop::option::weighted(0.8, prop::sample::select(vec![-1.5, -0.0, 0.0, 2.0, 1e300, f64::NAN, f64::INFINITY]));
    (k, 0_i64..4, s, x).prop_map(|(k, g, s, x)| Row { k, g, s, x })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(row(), 0..8)
}

fn policy() -> impl Strategy<Value = CachePolicy> {
    prop_oneof![
        1 => Just(CachePolicy::None),
        1 => Just(CachePolicy::Memory),
        4 => Just(CachePolicy::DeltaStaging),
        2 => Just(CachePolicy::DeltaOutput),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    (any::<u8>(), any::<(u8, u8)>(), 0_i64..4, any::<bool>()).prop_map(|(shape, (a, b), constant, spaced)| Query {
        shape,
        from: (a.into(), b.into()),
        constant,
        spaced,
    })
}

fn model() -> impl Strategy<Value = Model> {
    let format = prop_oneof![
        3 => Just(Format::Parquet),
        1 => Just(Format::Csv { delimiter: ',' }),
        1 => Just(Format::Json),
    ];
    let source = (format, prop::collection::vec(rows(), 1..3)).prop_map(|(format, files)| Source { format, files });
    let view = (query(), policy()).prop_map(|(query, policy)| View { query, policy });
    let parts = (prop::collection::vec(source, 1..4), prop::collection::vec(view, 1..6), any::<bool>());
    parts.prop_map(|(sources, views, reversed)| Model { sources, views, reversed })
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || any::<u8>().prop_map(usize::from);
    prop_oneof![
        3 => (at(), at(), at(), row()).prop_map(|(source, file, row, with)| Edit::Row { source, file, row, with }),
        1 => (at(), rows()).prop_map(|(source, rows)| Edit::AddFile { source, rows }),
        1 => at().prop_map(|source| Edit::DropFile { source }),
        1 => Just(Edit::RewriteAlike),
        1 => at().prop_map(|source| Edit::Delimiter { source }),
        2 => (at(), query()).prop_map(|(view, with)| Edit::Query { view, with }),
        2 => (at(), 0_i64..4).prop_map(|(view, with)| Edit::Constant { view, with }),
        1 => at().prop_map(|view| Edit::Space { view }),
        2 => (at(), policy()).prop_map(|(view, with)| Edit::Policy { view, with }),
        1 => Just(Edit::Reverse),
        2 => Just(Edit::Undo),
        1 => at().prop_map(|view| Edit::Delete { view }),
    ]
}

#[test]
fn with_and_without_caches_the_rows_are_the_same() {
    let setting = |name: &str| std::env::var(name).ok();
    let cases = setting("ALLUVIUM_DIFFERENTIAL_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let seed: u64 = setting("ALLUVIUM_DIFFERENTIAL_SEED")
        .map_or_else(|| RandomState::new().hash_one(cases), |seed| seed.parse().unwrap());
    println!("{cases} cases, repeated by ALLUVIUM_DIFFERENTIAL_SEED={seed}");
    // A case takes a second: shrinking stops early enough to be waited for.
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let drawn = ContentDigest::of(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, drawn.as_bytes());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = (model(), prop::collection::vec(edit(), 4));
    let outcome = runner.run(&strategy, |(model, edits)| runtime.block_on(differ(model, &edits)));
    outcome.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
}

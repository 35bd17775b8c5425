//! Random pipelines under random edits: with the caches and without them the rows are the same, and with them nothing
//! is computed whose identity was there before.
//!
//! Every view has the columns `k bigint, g bigint, s text, x double, n struct<a bigint, b list<bigint>>`, so that any can
//! read any. Sums are of integers: rows are equal as multisets, with no tolerance. A view that takes some rows of its query may have
//! others each time; it and what reads it have the rows that follow from those of the views before them.

use std::cell::Cell;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{CachePolicy, ContentDigest, OutputResult, RunResult};
use alluvium_runs::Pipeline;
use arrow::array::{Array as _, ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Field, Fields, Int64Type, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt as _;
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use self::held::Held;
use self::queries::{Query, Table};
use crate::lab::{Lab, run};

mod held;
mod queries;

/// A case is an edit after which everything is compared. There are at least as many; `ALLUVIUM_DIFFERENTIAL_CASES` asks for more, as
/// `cargo xtask soak cache --cases` does, and `ALLUVIUM_DIFFERENTIAL_SEED` for the same again.
const CASES: u32 = 500;

/// Tests that run beside each other.
const PARTS: u32 = 4;

/// Of each pipeline.
const EDITS: u32 = 4;

#[derive(Debug, Clone)]
struct Row {
    k: Option<i64>,
    g: i64,
    s: Option<&'static str>,
    x: Option<f64>,
    n: Option<Nested>,
}

#[derive(Debug, Clone)]
struct Nested {
    a: Option<i64>,
    b: Option<Vec<Option<i64>>>,
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
    /// The same content, found in another order.
    Rotate {
        source: usize,
    },
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
    Swap {
        view: usize,
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
    /// The entries of a view are evicted.
    Evict {
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
fn typed() -> Row {
    let n = Nested { a: Some(1), b: Some(vec![Some(2)]) };
    Row { k: Some(1), g: 0, s: Some("a"), x: Some(0.5), n: Some(n) }
}

fn csv(rows: &[Row], delimiter: char) -> String {
    let mut text = ["k", "g", "s", "x"].join(&delimiter.to_string()) + "\n";
    let cell = |value: Option<String>| value.unwrap_or_default();
    for row in std::iter::once(&typed()).chain(rows) {
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
        let n = row.n.as_ref().map(|n| serde_json::json!({"a": n.a, "b": n.b}));
        serde_json::json!({"k": row.k, "g": row.g, "s": row.s, "x": x, "n": n}).to_string() + "\n"
    };
    std::iter::once(&typed()).chain(rows).map(line).collect()
}

fn write_parquet(path: &Path, rows: &[Row]) {
    let nested = |row: &Row| row.n.clone().unwrap_or(Nested { a: None, b: None });
    let a: ArrayRef = Arc::new(rows.iter().map(|row| nested(row).a).collect::<Int64Array>());
    let b: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().map(|row| nested(row).b)));
    let fields = [("a", &a), ("b", &b)].map(|(name, values)| Field::new(name, values.data_type().clone(), true));
    let there = NullBuffer::from_iter(rows.iter().map(|row| row.n.is_some()));
    let n = StructArray::new(Fields::from(fields.to_vec()), vec![a, b], Some(there));
    let columns: [(&str, ArrayRef); 5] = [
        ("k", Arc::new(rows.iter().map(|row| row.k).collect::<Int64Array>())),
        ("g", Arc::new(rows.iter().map(|row| Some(row.g)).collect::<Int64Array>())),
        ("s", Arc::new(rows.iter().map(|row| row.s).collect::<StringArray>())),
        ("x", Arc::new(rows.iter().map(|row| row.x).collect::<Float64Array>())),
        ("n", Arc::new(n)),
    ];
    let columns = columns.map(|(name, values)| (name, values, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

impl View {
    /// Of a head that is computed for each of its readers every one would have rows of its own.
    fn policy(&self) -> CachePolicy {
        match self.policy {
            CachePolicy::None | CachePolicy::Memory if self.query.head => CachePolicy::DeltaStaging,
            policy => policy,
        }
    }

    /// An output of its own is the cache; one beside the cache follows it.
    fn has_output(&self) -> bool {
        self.policy() == CachePolicy::DeltaOutput || self.query.shape.is_multiple_of(3)
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
            Edit::Rotate { source } => self.sources[source % sources].files.rotate_left(1),
            Edit::Delimiter { source } => {
                if let Format::Csv { delimiter } = &mut self.sources[source % sources].format {
                    *delimiter = if *delimiter == ',' { ';' } else { ',' };
                }
            }
            Edit::Query { view, with } => self.views[view % views].query = with.clone(),
            Edit::Constant { view, with } => self.views[view % views].query.constant = *with,
            Edit::Swap { view } => self.views[view % views].query.swapped ^= true,
            Edit::Space { view } => self.views[view % views].query.spaced ^= true,
            Edit::Policy { view, with } => self.views[view % views].policy = *with,
            Edit::Reverse => self.reversed ^= true,
            Edit::Undo | Edit::Delete { .. } | Edit::Evict { .. } => {}
        }
    }

    /// Writes the project, with the policies of its views or with no cache at all.
    fn write(&self, lab: &Lab, cached: bool) {
        let mut toml = String::new();
        for (index, source) in self.sources.iter().enumerate() {
            let name = format!("source_{index}");
            source.write(&lab.path(&format!("data/{name}")));
            let extension = source.extension();
            writeln!(toml, "[sources.{name}]\nformat = \"{extension}\"\npath = \"data/{name}/*.{extension}\"").unwrap();
            if let Format::Csv { delimiter } = source.format {
                writeln!(toml, "options = {{ delimiter = \"{delimiter}\" }}").unwrap();
            }
        }
        let mut views = Vec::new();
        for (index, view) in self.views.iter().enumerate() {
            let name = format!("view_{index}");
            let policy = if cached { view.policy() } else { CachePolicy::None };
            let sql = view.query.sql(&self.tables(index));
            let mut text = format!("[views.{name}]\ncache = \"{policy}\"\nsql = \"\"\"{sql}\"\"\"\n");
            if cached && view.has_output() {
                write!(text, "[outputs.{name}]\nview = \"{name}\"\npath = \"out/{name}\"\n").unwrap();
            }
            views.push(text);
        }
        if self.reversed {
            views.reverse();
        }
        lab.write("alluvium.toml", &(toml + &views.concat()));
    }

    /// What this view may read: the sources, and the views before it.
    fn tables(&self, view: usize) -> Vec<Table> {
        let sources = self.sources.iter().enumerate().map(|(index, source)| {
            let name = format!("source_{index}");
            let from = match source.format {
                // A line of delimited text has no nested values.
                Format::Csv { .. } => {
                    format!("(select k, g, s, x, named_struct('a', k, 'b', make_array(g, k)) as n from {name})")
                }
                Format::Parquet | Format::Json => name.clone(),
            };
            Table { name, from }
        });
        let views = (0..view).map(|view| format!("view_{view}")).map(|name| Table { from: name.clone(), name });
        sources.chain(views).collect()
    }

    /// Of every view whether it is a head, or may read one.
    fn unstable(&self) -> Vec<bool> {
        let sources = self.sources.len();
        let mut unstable = Vec::new();
        for (index, view) in self.views.iter().enumerate() {
            let mut views =
                view.query.reads(sources + index).into_iter().filter_map(|table| table.checked_sub(sources));
            let reads_unstable = views.any(|view| unstable[view]);
            unstable.push(view.query.head || reads_unstable);
        }
        unstable
    }

    /// The columns of every view that is stable, and their rows.
    async fn rows(&self, lab: &Lab) -> Option<(SchemaRef, Vec<String>)> {
        let stable = self.unstable().into_iter().enumerate().filter(|(_, is_unstable)| !is_unstable);
        let selects: Vec<_> =
            stable.map(|(view, _)| format!("select 'view_{view}' as view, k, g, s, x, n from view_{view}")).collect();
        if selects.is_empty() {
            return None;
        }
        Some(rows_of(&lab.open(), &selects.join(" union all ")).await)
    }

    /// Unstable views and their outputs have rows that follow from those that the views before them have.
    async fn agree(&self, lab: &Lab) -> Result<(), TestCaseError> {
        let pipeline = lab.open();
        for (view, _) in self.unstable().into_iter().enumerate().filter(|(_, is_unstable)| *is_unstable) {
            let query = &self.views[view].query;
            let (_, held) = rows_of(&pipeline, &format!("select k, g, s, x, n from view_{view}")).await;
            let (_, mut whole) = rows_of(&pipeline, &query.whole_sql(&self.tables(view))).await;
            if query.head {
                prop_assert_eq!(held.len(), whole.len().min(query.head_rows()), "view_{}", view);
                for row in &held {
                    let found = whole.iter().position(|other| other == row);
                    prop_assert!(found.is_some(), "view_{}: {} is not of {:?}", view, row, whole);
                    found.map(|index| whole.remove(index));
                }
            } else {
                prop_assert_eq!(&held, &whole, "view_{}", view);
            }
            if self.views[view].has_output() {
                let (_, published) =
                    rows_of(&pipeline, &format!("select k, g, s, x, n from outputs.view_{view}")).await;
                prop_assert_eq!(&published, &held, "outputs.view_{}", view);
            }
        }
        Ok(())
    }
}

/// The columns of an answer, and its rows, sorted.
async fn rows_of(pipeline: &Pipeline, sql: &str) -> (SchemaRef, Vec<String>) {
    let answer = pipeline.sql(sql).await.unwrap();
    let batches: Vec<RecordBatch> = answer.batches.try_collect().await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    // Without the head, which is missing where no rows came in no batch; and however wide the columns of others are.
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let mut rows: Vec<_> = rows.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    rows.sort_unstable();
    (answer.schema, rows)
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
            held.lose_output(&output);
        }
        if let Some(Edit::Evict { view }) = edit {
            held.evict(&cached, &format!("view_{}", view % model.views.len()));
        }
        model.write(&cached, true);
        model.write(&plain, false);
        let document = run(&cached.open()).await;
        prop_assert_eq!(document.result, RunResult::Succeeded, "{:#?}", &document);
        prop_assert!(document.notices.is_empty(), "{:?}", &document.notices);
        held.check(&document)?;
        prop_assert_eq!(model.rows(&cached).await, model.rows(&plain).await, "after {:?}", edit);
        model.agree(&cached).await?;
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
    let number = || prop::option::weighted(0.8, 0_i64..4);
    let nested = (number(), prop::option::weighted(0.8, prop::collection::vec(number(), 0..3)));
    let n = prop::option::weighted(0.8, nested.prop_map(|(a, b)| Nested { a, b }));
    (k, 0_i64..4, s, x, n).prop_map(|(k, g, s, x, n)| Row { k, g, s, x, n })
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
    let from = any::<(u8, u8)>().prop_map(|(a, b)| (a.into(), b.into()));
    let parts = (any::<u8>(), from, 0_i64..4, any::<bool>(), any::<bool>(), prop::bool::weighted(0.15));
    parts.prop_map(|(shape, from, constant, swapped, spaced, head)| Query {
        shape,
        from,
        constant,
        swapped,
        spaced,
        head,
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
        2 => at().prop_map(|source| Edit::Rotate { source }),
        1 => at().prop_map(|source| Edit::Delimiter { source }),
        2 => (at(), query()).prop_map(|(view, with)| Edit::Query { view, with }),
        2 => (at(), 0_i64..4).prop_map(|(view, with)| Edit::Constant { view, with }),
        3 => at().prop_map(|view| Edit::Swap { view }),
        1 => at().prop_map(|view| Edit::Space { view }),
        2 => (at(), policy()).prop_map(|(view, with)| Edit::Policy { view, with }),
        1 => Just(Edit::Reverse),
        2 => Just(Edit::Undo),
        1 => at().prop_map(|view| Edit::Delete { view }),
        2 => at().prop_map(|view| Edit::Evict { view }),
    ]
}

/// One of the parts, each from a seed of its own that the one seed gives.
fn part(part: u32) {
    let setting = |name: &str| std::env::var(name).ok();
    let cases = setting("ALLUVIUM_DIFFERENTIAL_CASES").map_or(CASES, |cases| cases.parse().unwrap());
    let pipelines = cases.div_ceil(PARTS * EDITS);
    let seed: u64 = setting("ALLUVIUM_DIFFERENTIAL_SEED")
        .map_or_else(|| RandomState::new().hash_one(cases), |seed| seed.parse().unwrap());
    println!("{pipelines} pipelines of {EDITS} cases each, repeated by ALLUVIUM_DIFFERENTIAL_SEED={seed}");
    // A pipeline takes seconds: shrinking stops early enough to be waited for.
    let config = ProptestConfig {
        cases: pipelines,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let drawn = ContentDigest::of(&[&seed.to_be_bytes()[..], &part.to_be_bytes()].concat());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, drawn.as_bytes());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = (model(), prop::collection::vec(edit(), EDITS as usize));
    let compared = Cell::new(0);
    let outcome = runner.run(&strategy, |(model, edits)| {
        runtime.block_on(differ(model, &edits))?;
        compared.update(|compared| compared + 1);
        // Of many cases nobody would know how far they are.
        if compared.get() % 100 == 0 {
            println!("part {part}: {} pipelines are equal", compared.get());
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
}

#[test]
fn with_and_without_caches_the_rows_are_the_same_1() {
    part(1);
}

#[test]
fn with_and_without_caches_the_rows_are_the_same_2() {
    part(2);
}

#[test]
fn with_and_without_caches_the_rows_are_the_same_3() {
    part(3);
}

#[test]
fn with_and_without_caches_the_rows_are_the_same_4() {
    part(4);
}

//! TPC-H's 22 queries give the same rows over every provider, and as cached views over Delta. `cargo xtask interop` asks DuckDB
//! too, at ten times the scale.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{DeltaWritePolicy, TargetDialect, WriteMode};
use alluvium_profile::{Query, Session};
use alluvium_tests::tpch::{Provider, TABLES};
use alluvium_write_policy::{ResolvedWritePolicy, TableWrite, TableWriteOutcome};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::crash::child_that;
use crate::lab::{Lab, answer, batches, results, run};
use crate::tpch;
use crate::transpile::with_room;

/// The tables below `parquet` and `delta` of a project's directory: each as one Parquet file, and as a Delta table of two.
async fn generate(scale: f64) -> Lab {
    let lab = tpch::generated_at(scale);
    std::fs::create_dir(lab.path("parquet")).unwrap();
    for table in TABLES {
        let name = format!("{table}.parquet");
        std::fs::rename(lab.path(&name), lab.path("parquet").join(&name)).unwrap();
        let file = File::open(lab.path("parquet").join(&name)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let schema = Arc::clone(reader.schema());
        let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        let whole = arrow::compute::concat_batches(&schema, &batches).unwrap();
        let half = whole.num_rows() / 2;
        for part in [whole.slice(0, half), whole.slice(half, whole.num_rows() - half)] {
            append(&lab.path("delta").join(table), &schema, part).await;
        }
    }
    lab
}

async fn append(table: &Path, schema: &SchemaRef, rows: RecordBatch) {
    let policy = DeltaWritePolicy { mode: WriteMode::Append, ..DeltaWritePolicy::default() };
    let policy = ResolvedWritePolicy::resolve(&policy, schema).unwrap();
    let rows = RecordBatchStreamAdapter::new(Arc::clone(schema), futures::stream::iter([Ok(rows)]));
    let outcome = TableWrite::new(table, Arc::clone(schema), vec![Box::pin(rows)], &policy).run().await.unwrap();
    assert!(matches!(outcome, TableWriteOutcome::Committed(_)), "{outcome:?}");
}

/// Column names, and rows as sorted text.
fn told(schema: &Schema, rows: &[RecordBatch]) -> (Vec<String>, Vec<String>) {
    let names = schema.fields().iter().map(|field| field.name().clone()).collect();
    let text = pretty_format_batches(rows).unwrap().to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    (names, lines)
}

#[test]
fn tpch_has_the_same_rows_over_every_provider() {
    with_room(same_rows_over_every_provider);
}

async fn same_rows_over_every_provider() {
    // Small, and yet most queries find rows.
    let lab = generate(0.01).await;
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("tpch");
    let mut expected: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    let mut counts = Vec::new();
    for provider in Provider::ALL {
        let session = provider.session(lab.dir()).await.unwrap();
        for query in 1..=22 {
            let sql = std::fs::read_to_string(queries.join(format!("q{query:02}.sql"))).unwrap();
            let (schema, rows) = provider.answer(&session, &sql).await.unwrap();
            let found = told(&schema, &rows);
            match expected.get(query - 1) {
                Some(expected) => assert_eq!(&found, expected, "q{query:02} over {}", provider.name()),
                None => {
                    expected.push(found);
                    counts.push(rows.iter().map(RecordBatch::num_rows).sum::<usize>());
                }
            }
        }
    }
    in_other_words(&Provider::EngineParquet.session(lab.dir()).await.unwrap(), &queries, &expected).await;
    // An empty answer says little.
    let empty: Vec<_> = (1..=22).filter(|query| counts[query - 1] == 0).collect();
    assert!(empty.len() <= 2, "{empty:?} of {counts:?}");
}

/// What is written in a dialect whose grammar and functions are the engine's too has the same rows again.
async fn in_other_words(session: &Session, queries: &Path, expected: &[(Vec<String>, Vec<String>)]) {
    let mut carried = 0;
    for to in [TargetDialect::Generic, TargetDialect::Postgresql] {
        for (query, expected) in (1..).zip(expected) {
            let sql = std::fs::read_to_string(queries.join(format!("q{query:02}.sql"))).unwrap();
            let document = alluvium_plans::transpile(session, sql.as_str(), to).await.unwrap();
            let Some(text) = document.sql else { continue };
            let again = session.execute(Query::sql_in(text.as_str(), to.as_str()).unwrap()).await;
            let again = again.unwrap_or_else(|error| panic!("q{query:02} for {to}: {error:?}: {text}"));
            let schema = Arc::clone(again.schema().inner());
            assert_eq!(&told(&schema, &again.collect().await.unwrap()), expected, "q{query:02} for {to}: {text}");
            carried += 1;
        }
    }
    assert!(carried > 30, "{carried}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tpch_over_delta_is_cached_and_hit_by_another_process_at_another_path() {
    let lab = generate(0.01).await;
    for table in TABLES {
        let (file, delta) =
            (format!("\"parquet\"\npath = \"{table}.parquet"), format!("\"delta\"\npath = \"delta/{table}"));
        lab.edit("alluvium.toml", &file, &delta);
    }
    let written = run(&lab.open()).await;
    assert!(written.views.iter().all(|view| view.cache_key.is_some()), "{written:#?}");
    assert_eq!(written.views.len(), 23);
    assert!(results(&written).iter().all(|view| view.ends_with(": write")), "{:?}", results(&written));

    let other = tempfile::tempdir().unwrap();
    let moved = other.path().join("moved");
    std::fs::rename(lab.dir(), &moved).unwrap();
    let child = child_that("crash::crash_child", &moved, "no such point#1").output().unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));

    let pipeline = Lab::open_at(&moved);
    let counts = "select result, count(*) as n, count(distinct view_name) as views from alluvium.cache_inventory \
                  where output_name is null group by result order by result";
    insta::assert_snapshot!(answer(&pipeline, counts).await, @r"
    +--------+----+-------+
    | result | n  | views |
    +--------+----+-------+
    | hit    | 23 | 23    |
    | write  | 23 | 23    |
    +--------+----+-------+
    ");
    let session = Provider::EngineDelta.session(&moved).await.unwrap();
    for query in 1..=22 {
        let sql = std::fs::read_to_string(moved.join(format!("q{query:02}.sql"))).unwrap();
        let (schema, rows) = Provider::EngineDelta.answer(&session, &sql).await.unwrap();
        let (_, computed) = told(&schema, &rows);
        let held = batches(&pipeline, &format!("select * from q{query:02}")).await;
        assert_eq!(told(&schema, &held).1, computed, "q{query:02}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_provider_is_refused() {
    let lab = generate(0.001).await;
    let session = Provider::EngineDelta.session(lab.dir()).await.unwrap();
    let sql = "select count(*) from region where r_regionkey in (select n_regionkey from nation)";
    Provider::EngineDelta.answer(&session, sql).await.unwrap();
    for provider in [Provider::EngineParquet, Provider::PinnedParquet, Provider::PinnedDelta] {
        let error = provider.answer(&session, sql).await.unwrap_err();
        assert!(format!("{error:#}").contains("is read by GuardedScan { scan: DeltaProvider"), "{error:#}");
    }
    assert!(Provider::EngineDelta.answer(&session, "select 1").await.is_err());
}

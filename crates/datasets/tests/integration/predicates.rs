//! Predicates over every way that a table is scanned, beside rows in memory: whatever a scan leaves out, it leaves out no row
//! that passes.

use std::path::Path;
use std::sync::Arc;

use alluvium_contracts::{DatasetFormat, ProfileSpec};
use alluvium_datasets::PinnedFiles;
use alluvium_profile::{RuntimeProfile, Session, SessionFactory};
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::MemTable;
use deltalake_core::protocol::SaveMode;
use deltalake_core::{DeltaTable, DeltaTableBuilder};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use url::Url;

use crate::support::{Project, dataset, parquet_of, sorted};

/// The scans under test; `memory` is what they are compared with.
const SCANS: [&str; 6] = ["parquet", "delta", "delta_parts", "files", "files_parts", "projected"];
const HOUR: i64 = 3_600_000_000;

async fn open(path: &Path) -> DeltaTable {
    let url = Url::from_directory_path(path).unwrap();
    match DeltaTableBuilder::from_url(url.clone()).unwrap().load().await {
        Ok(table) => table,
        Err(_) => DeltaTableBuilder::from_url(url).unwrap().build().unwrap(),
    }
}

async fn append(path: &Path, batch: &RecordBatch, partitions: &[&str]) {
    std::fs::create_dir_all(path).unwrap();
    let write = open(path).await.write([batch.clone()]).with_save_mode(SaveMode::Append);
    write.with_partition_columns(partitions.iter().map(|name| (*name).to_owned())).await.unwrap();
}

/// Six rows, by their number. Every other file has no NULL, or nothing is known of its bounds.
fn file(number: i64) -> RecordBatch {
    let rows = || number * 6..number * 6 + 6;
    let unless = |every: i64| move |row: &i64| number % 2 == 0 || row % every != 0;
    let values = |every: i64, value: fn(i64) -> i64| {
        rows().map(move |row| Some(row).filter(unless(every)).map(value)).collect::<Vec<_>>()
    };
    // Five hours a row: a file goes over midnight, and begins and ends at about the same time of day.
    let times = TimestampMicrosecondArray::from(values(4, |row| 18_628 * 24 * HOUR + row * 5 * HOUR + row));
    let days = values(5, |row| 18_628 + row / 4).into_iter().map(|day| day.map(|day| i32::try_from(day).unwrap()));
    let texts = values(3, |row| row % 4).into_iter().map(|n| n.map(|n| ["a", "10", "-3", "b c"][n as usize]));
    let reals = values(5, |row| row % 5).into_iter().map(|n| n.map(|n| [-1.5, -0.0, 0.5, f64::NAN, 1e300][n as usize]));
    let flags = values(4, |row| (row / 3) % 2).into_iter().map(|n| n.map(|n| n == 1));
    let columns: [(&str, ArrayRef); 7] = [
        ("k", Arc::new(Int64Array::from_iter_values(rows()))),
        ("i", Arc::new(Int64Array::from(values(4, |row| row % 6 - 2)))),
        ("ts", Arc::new(times.with_timezone("UTC"))),
        ("d", Arc::new(days.collect::<Date32Array>())),
        ("s", Arc::new(texts.collect::<StringArray>())),
        ("f", Arc::new(reals.collect::<Float64Array>())),
        ("b", Arc::new(flags.collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, values)| (name, values, true))).unwrap()
}

const TOP: &str = " order by k desc limit 3";

/// The rows of an answer whose only column is `k`, the greatest first.
fn keys(answer: &str) -> Vec<i64> {
    let mut keys: Vec<i64> = answer.lines().filter_map(|row| row.trim_matches(['|', ' ']).parse().ok()).collect();
    keys.sort_unstable_by_key(|key| std::cmp::Reverse(*key));
    keys
}

struct Tables {
    session: Session,
    _project: Project,
}

impl Tables {
    async fn new() -> Self {
        let project = Project::new();
        let session = SessionFactory::new(RuntimeProfile::from(&ProfileSpec::default())).build().unwrap();
        let (plain, parts) = (project.data().join("plain"), project.data().join("parts"));
        let files: Vec<RecordBatch> = (0..4).map(file).collect();
        for (number, batch) in files.iter().enumerate() {
            append(&plain, batch, &[]).await;
            append(&parts, batch, &["s", "i"]).await;
            project.write(&format!("files/{number}.parquet"), parquet_of(batch));
        }
        let tables = session.context();
        let register = |name: &str, provider| tables.register_table(name, provider).map(drop).unwrap();
        register("memory", Arc::new(MemTable::try_new(files[0].schema(), vec![files]).unwrap()));
        let declared = |path| dataset(DatasetFormat::Delta, path);
        let projected = ["k", "i", "ts", "d", "s", "f", "b", "cast(ts as time) as tod"].map(str::to_owned).to_vec();
        let projected = alluvium_contracts::DatasetSpec { projection_exprs: projected, ..declared("plain") };
        for (name, spec) in [
            ("parquet", dataset(DatasetFormat::Parquet, "files")),
            ("delta", declared("plain")),
            ("delta_parts", declared("parts")),
            ("projected", projected),
        ] {
            register(name, project.pin_spec(&spec).await.provider().unwrap());
        }
        for (name, path) in [("files", &plain), ("files_parts", &parts)] {
            register(name, Arc::new(PinnedFiles::of_delta(&open(path).await).unwrap()));
        }
        Self { session, _project: project }
    }

    async fn ask(&self, sql: &str, table: &str) -> datafusion::error::Result<String> {
        let rows = self.session.context().sql(&sql.replace("{t}", table)).await?.collect().await?;
        Ok(sorted(&pretty_format_batches(&rows)?.to_string()))
    }

    /// The first scan that answers otherwise than memory. `None` too if the query fails over memory, or has no right answer there: of
    /// `cast(k as boolean) <> false` the engine concludes that `k` is constant, and does not sort by it.
    async fn difference(&self, sql: &str) -> Option<String> {
        let expected = self.ask(sql, "memory").await.ok()?;
        if let Some(unsorted) = sql.strip_suffix(TOP) {
            let mut top = keys(&self.ask(unsorted, "memory").await.ok()?);
            top.truncate(3);
            if keys(&expected) != top {
                return None;
            }
        }
        for scan in SCANS {
            let found = self.ask(sql, scan).await.unwrap_or_else(|error| error.to_string());
            if found != expected {
                return Some(format!("{sql} over {scan} gives\n{found}\nand not\n{expected}"));
            }
        }
        None
    }
}

#[tokio::test]
async fn what_the_engine_and_the_kernel_get_wrong_is_right() {
    let tables = Tables::new().await;
    let mut differences = Vec::new();
    for predicate in [
        // A condition that is NULL is not met.
        "s in ('a', null)",
        "s = 'a' or s = null",
        "s in (null)",
        "i not in (1, null)",
        "k not in (1, null)",
        "k > 0 and cast(null as boolean)",
        "s is distinct from null and i in (0, null)",
        "not (s = 'a' and i = null)",
        // Casts that do not keep the order of what they are given, beside a filter for which the log's bounds are read.
        "ts > timestamp '2020-01-01' and cast(ts as time) > time '09:00' and cast(ts as time) < time '11:00'",
        "ts > timestamp '2020-01-01' and cast(ts as time) not between time '01:00' and time '22:00'",
        "k >= 0 and cast(k as boolean) < true",
        "i is not null and cast(i as boolean) < true",
        "i > -9 and cast(i as boolean) is distinct from true",
        "k >= 0 and cast(cast(k as timestamp) as time) <= time '00:00'",
        "k >= 0 and try_cast(k * 100 as tinyint) is not distinct from null",
        "-k > -9223372036854775807 - 1",
        // Other filters over columns of files.
        "k between 7 and 8",
        "k in (3, 17, null) or i is null",
        "d >= date '2021-01-04' or b",
        "f > 1",
        "try_cast(s as int) > 1",
    ] {
        differences.extend(tables.difference(&format!("select k from {{t}} where {predicate}")).await);
    }
    for sql in [
        "select t.k from {t} as t join (values (time '10:00:00.000002')) as x(tod) on cast(t.ts as time) = x.tod \
         where t.ts > timestamp '2020-01-01'",
        "select ts, d from {t} where ts >= timestamp '2021-01-01' and d > date '2020-01-01'",
        "select count(*) as n, count(s) as s, min(i) as a, max(i) as z from {t} where s in ('a', null)",
        "select k from {t} where i in (0, null) order by k limit 2",
    ] {
        differences.extend(tables.difference(sql).await);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let found =
        tables.ask("select k from {t} where tod = time '10:00:00.000002' and ts > timestamp '2020-01-01'", "projected");
    assert_eq!(found.await.unwrap(), "| k |\n| 2 |");
}

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(texts).prop_map(str::to_owned).boxed()
}

/// An expression over one column, with constants that it may be compared with. None of them fails over these rows, since which
/// part of a condition is evaluated first is nobody's promise.
fn operand() -> BoxedStrategy<(String, BoxedStrategy<String>)> {
    const NUMBERS: &[&str] = &["-3", "-2", "0", "1", "2", "7", "13", "300", "null"];
    const TIMES: &[&str] = &["time '00:00'", "time '05:00'", "time '10:00:00.000002'", "time '23:00'", "null"];
    const DAYS: &[&str] = &["date '2020-12-31'", "date '2021-01-01'", "date '2021-01-04'", "null"];
    const INSTANTS: &[&str] =
        &["timestamp '2020-01-01'", "timestamp '2021-01-01T10:00:00.000002'", "timestamp '2021-01-04'", "null"];
    const FLAGS: &[&str] = &["true", "false", "null"];
    let of = |operands, constants| one_of(operands).prop_map(move |operand| (operand, one_of(constants))).boxed();
    prop_oneof![
        5 => of(&["k", "i"], NUMBERS),
        2 => of(&["-k", "k % 7", "k + i", "cast(b as int)", "cast(d as int)"], NUMBERS),
        2 => of(&["try_cast(s as int)", "try_cast(f as int)", "try_cast(k * 50 as tinyint)", "date_part('hour', ts)"], NUMBERS),
        3 => of(&["cast(ts as time)", "cast(cast(k as timestamp) as time)", "cast(ts as time)"], TIMES),
        3 => of(&["d", "cast(ts as date)"], DAYS),
        2 => of(&["ts", "cast(d as timestamp)"], INSTANTS),
        3 => of(&["b", "cast(i as boolean)", "cast(k as boolean)", "try_cast(f as boolean)"], FLAGS),
        2 => of(&["f", "-f", "cast(i as double)"], &["-1.5", "-0.0", "0.5", "1e10", "cast('NaN' as double)", "null"]),
        3 => of(&["s", "cast(i as varchar)"], &["'a'", "'10'", "'-2'", "'b c'", "''", "null"]),
    ]
    .boxed()
}

fn condition() -> BoxedStrategy<String> {
    let atom = operand().prop_flat_map(|(operand, constant)| {
        let operator = one_of(&["=", "<>", "<", "<=", ">", ">=", "is distinct from", "is not distinct from"]);
        let not = one_of(&["", "not "]);
        let (x, y, z) = (operand.clone(), operand.clone(), operand.clone());
        prop_oneof![
            5 => (operator, constant.clone()).prop_map(move |(op, c)| format!("{operand} {op} {c}")),
            3 => (not.clone(), prop::collection::vec(constant.clone(), 1..4))
                .prop_map(move |(not, list)| format!("{x} {not}in ({})", list.join(", "))),
            2 => (not.clone(), constant.clone(), constant)
                .prop_map(move |(not, low, high)| format!("{y} {not}between {low} and {high}")),
            1 => not.prop_map(move |not| format!("{z} is {not}null")),
        ]
    });
    let plain = one_of(&["b", "not b", "cast(null as boolean)", "true", "s like 'b%'", "s not like '%c'"]);
    let known = one_of(&["k >= 0", "ts > timestamp '2020-01-01'", "d is not null", "i > -9"]);
    let one = prop_oneof![8 => atom, 1 => plain, 2 => known].boxed();
    let several = one.clone().prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("({})", all.join(" and "))),
            3 => prop::collection::vec(inner.clone(), 2..4).prop_map(|any| format!("({})", any.join(" or "))),
            2 => inner.clone().prop_map(|one| format!("not ({one})")),
            1 => inner.prop_map(|one| format!("({one}) is not true")),
        ]
    });
    prop_oneof![1 => one, 2 => several].boxed()
}

#[test]
fn a_scan_gives_the_rows_that_memory_gives() {
    const QUERIES: &[&str] = &[
        "select k from {t} where {p}",
        "select k, ts, d, i from {t} where {p} and k > 1",
        // The engine has bounds of the log only for columns that a filter names which the kernel can read.
        "select k from {t} where k >= 0 and i > -9 and ts > timestamp '2020-01-01' and {p}",
        "select k from {t} where ts > timestamp '2020-01-01' and d > date '2020-01-01' and (i > -9 or b) and {p}",
        "select count(*) as n, count(ts) as m, min(i) as a, max(d) as z from {t} where {p}",
        "select k from {t} where {p} order by k desc limit 3",
        "select t.k from {t} as t join (values (time '10:00:00.000002', 0)) as x(tod, i) \
         on cast(t.ts as time) = x.tod and cast(t.i as boolean) >= cast(x.i as boolean) where ts > timestamp '2020-01-01' and {p}",
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tables = runtime.block_on(Tables::new());
    let config = ProptestConfig { cases: 60, max_shrink_iters: 200, ..ProptestConfig::default() };
    let query = (one_of(QUERIES), condition()).prop_map(|(query, condition)| query.replace("{p}", &condition));
    let outcome = TestRunner::new(config).run(&query, |sql| match runtime.block_on(tables.difference(&sql)) {
        None => Ok(()),
        Some(difference) => Err(TestCaseError::fail(difference)),
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

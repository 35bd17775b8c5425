//! Lineage against what queries do: a source column that lineage does not name may change, and no output column does.
//!
//! Queries are drawn at random over two tables of integers, every value of one column is drawn anew, and the columns that
//! do not depend on it are compared as multisets of rows. Queries are written so that equal inputs give equal rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_contracts::LineageSummary;
use alluvium_plans::lineage;
use alluvium_profile::Session;
use alluvium_runs::RunError;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use proptest::prelude::*;

use crate::lab::{Lab, sessions};

/// Queries of up to six changes each; `ALLUVIUM_LINEAGE_CASES` asks for more.
const CASES: u32 = 40;

const TABLES: [(&str, [&str; 3]); 2] = [("t", ["a", "b", "c"]), ("u", ["d", "e", "f"])];
const ROWS: usize = 5;

type Column = [Option<i64>; ROWS];
type Data = [[Column; 3]; 2];

/// Draws from a list of numbers, so that a failing query shrinks; zeros when it has run out.
struct Draws {
    numbers: std::vec::IntoIter<u8>,
    names: usize,
}

/// A query in text, and the names of its columns, which are all integers.
struct Query {
    sql: String,
    columns: Vec<String>,
}

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.numbers.next().unwrap_or(0)) % limit
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("x{}", self.names)
    }

    fn column(&mut self, of: &str, columns: &[String]) -> String {
        format!("{of}.{}", columns[self.below(columns.len())])
    }

    fn value(&mut self, of: &str, columns: &[String]) -> String {
        let (x, y) = (self.column(of, columns), self.column(of, columns));
        match self.below(9) {
            0..3 => x,
            3 => format!("{x} + {y}"),
            4 => format!("coalesce({x}, {y})"),
            5 => {
                let condition = self.condition(of, columns);
                format!("case when {condition} then {x} else {y} end")
            }
            6 => format!("case {x} when 1 then {y} when 2 then 7 end"),
            7 => format!("cast({x} is null as bigint)"),
            // A bare number would be a position in GROUP BY.
            _ => "cast(5 as bigint)".to_owned(),
        }
    }

    fn condition(&mut self, of: &str, columns: &[String]) -> String {
        let (x, y) = (self.column(of, columns), self.column(of, columns));
        match self.below(7) {
            0 => format!("{x} > 1"),
            1 => format!("{x} = {y}"),
            2 => format!("{x} is not null"),
            3 => format!("{x} in (0, {y})"),
            4 => format!("({x} between 1 and 2 or {y} = 0)"),
            5 => format!("not {x} < {y}"),
            _ => format!("coalesce({x}, 1) <> 2"),
        }
    }

    fn values(&mut self, of: &str, columns: &[String]) -> (Vec<String>, Vec<String>) {
        let count = 1 + self.below(3);
        (0..count)
            .map(|_| {
                let (value, name) = (self.value(of, columns), self.name());
                (format!("{value} as {name}"), name)
            })
            .unzip()
    }

    fn scan(&mut self) -> Query {
        let (table, columns) = TABLES[self.below(2)];
        let (items, columns) = columns
            .iter()
            .map(|column| (column, self.name()))
            .map(|(c, n)| (format!("{c} as {n}"), n))
            .unzip::<_, _, Vec<_>, _>();
        Query { sql: format!("select {} from {table}", items.join(", ")), columns }
    }

    /// `columns` of `of`, under new names.
    fn renamed(&mut self, of: &str, columns: &[String]) -> (Vec<String>, Vec<String>) {
        columns
            .iter()
            .map(|column| {
                let name = self.name();
                (format!("{of}.{column} as {name}"), name)
            })
            .unzip()
    }

    fn query(&mut self, depth: usize) -> Query {
        if depth == 0 {
            return self.scan();
        }
        let Query { sql, columns } = self.query(depth - 1);
        let shape = self.below(19);
        match shape {
            0 | 1 => {
                let (items, columns) = self.values("q", &columns);
                Query { sql: format!("select {} from ({sql}) as q", items.join(", ")), columns }
            }
            2 => {
                let condition = self.condition("q", &columns);
                Query { sql: format!("select * from ({sql}) as q where {condition}"), columns }
            }
            3..6 => {
                let other = self.query(depth - 1);
                let kind = ["join", "left join", "full join", "right join"][self.below(4)];
                let (x, y) = (self.column("q", &columns), self.column("r", &other.columns));
                let (mut items, mut names) = self.renamed("q", &columns);
                let (more, others) = self.renamed("r", &other.columns);
                items.extend(more);
                names.extend(others);
                let other = other.sql;
                let items = items.join(", ");
                let sql = match shape {
                    3 => format!("select {items} from ({sql}) as q {kind} ({other}) as r on {x} = {y}"),
                    4 => format!("select {items} from ({sql}) as q, ({other}) as r where {x} = {y}"),
                    _ => {
                        format!("select {items} from ({sql}) as q {kind} ({other}) as r on {x} = {y} and {x} + {y} > 1")
                    }
                };
                Query { sql, columns: names }
            }
            6 => {
                let other = self.query(depth - 1);
                let (x, y) = (self.below(columns.len()), self.below(other.columns.len()));
                let kind = ["join", "left join", "full join"][self.below(3)];
                let (left, right) = (&columns[x], &other.columns[y]);
                let (value, name) = (self.column("l", &columns), self.name());
                let key = self.name();
                Query {
                    sql: format!(
                        "select k as {key}, {value} as {name} from (select *, {left} as k from ({sql}) as q) as l \
                         {kind} (select *, {right} as k from ({}) as r) as m using (k)",
                        other.sql
                    ),
                    columns: vec![key, name],
                }
            }
            7 => {
                let other = self.query(depth - 1);
                let (x, y) = (self.column("q", &columns), self.column("r", &other.columns));
                let other = other.sql;
                let condition = match self.below(4) {
                    0 => format!("exists (select 1 from ({other}) as r where {y} = {x})"),
                    1 => format!("not exists (select 1 from ({other}) as r where {y} = {x} and {y} > 1)"),
                    2 => format!("{x} in (select {y} from ({other}) as r)"),
                    _ => format!("{x} not in (select {y} from ({other}) as r where {y} is not null)"),
                };
                Query { sql: format!("select * from ({sql}) as q where {condition}"), columns }
            }
            8 | 9 => {
                let (key, name) = (self.value("q", &columns), self.name());
                let mut items = vec![format!("{key} as {name}")];
                let mut names = vec![name];
                for _ in 0..1 + self.below(2) {
                    let (x, name) = (self.column("q", &columns), self.name());
                    let filter = match self.below(3) {
                        0 => format!(" filter (where {})", self.condition("q", &columns)),
                        _ => String::new(),
                    };
                    let aggregate = match self.below(5) {
                        0 => "count(*)".to_owned(),
                        1 => format!("sum({x})"),
                        2 => format!("max({x})"),
                        3 => format!("count(distinct {x})"),
                        _ => format!("min({x})"),
                    };
                    items.push(format!("{aggregate}{filter} as {name}"));
                    names.push(name);
                }
                let having = match self.below(3) {
                    0 => format!("having max({}) > 0", self.column("q", &columns)),
                    _ => String::new(),
                };
                let group = match shape {
                    8 => format!("group by {key}"),
                    _ => format!("group by rollup ({key}, {})", self.column("q", &columns)),
                };
                Query { sql: format!("select {} from ({sql}) as q {group} {having}", items.join(", ")), columns: names }
            }
            10 => {
                let (x, by, order) =
                    (self.column("q", &columns), self.column("q", &columns), self.column("q", &columns));
                let function = ["rank()".to_owned(), format!("sum({x})"), format!("max({x})"), "count(*)".to_owned()]
                    [self.below(4)]
                .clone();
                let (mut items, mut names) = self.renamed("q", &columns);
                let name = self.name();
                items.push(format!("{function} over (partition by {by} order by {order}) as {name}"));
                names.push(name);
                Query { sql: format!("select {} from ({sql}) as q", items.join(", ")), columns: names }
            }
            11 => {
                let other = self.query(depth - 1);
                let count = columns.len().min(other.columns.len());
                let (left, names) = self.renamed("q", &columns[..count]);
                let (right, _) = self.renamed("r", &other.columns[..count]);
                let operator = ["union all", "union", "intersect", "except"][self.below(4)];
                Query {
                    sql: format!(
                        "select {} from ({sql}) as q {operator} select {} from ({}) as r",
                        left.join(", "),
                        right.join(", "),
                        other.sql
                    ),
                    columns: names,
                }
            }
            12 => {
                let (items, columns) = self.values("q", &columns);
                Query { sql: format!("select distinct {} from ({sql}) as q", items.join(", ")), columns }
            }
            13 => {
                let all = columns.join(", ");
                Query { sql: format!("select * from ({sql}) as q order by {all} limit 4"), columns }
            }
            14 => {
                let other = self.query(depth - 1);
                let (x, y, z) =
                    (self.column("q", &columns), self.column("r", &other.columns), self.column("r", &other.columns));
                let (mut items, mut names) = self.renamed("q", &columns);
                let name = self.name();
                let correlated = ["", " where {y} = {x}"][self.below(2)].replace("{y}", &y).replace("{x}", &x);
                items.push(format!("(select max({z}) from ({}) as r{correlated}) as {name}", other.sql));
                names.push(name);
                Query { sql: format!("select {} from ({sql}) as q", items.join(", ")), columns: names }
            }
            15 => {
                let (x, y) = (self.column("q", &columns), self.column("r", &columns));
                let (mut items, mut names) = self.renamed("q", &columns);
                let (value, name) = (self.value("r", &columns), self.name());
                items.push(format!("{value} as {name}"));
                names.push(name);
                let cte = self.name();
                Query {
                    sql: format!(
                        "with {cte} as ({sql}) select {} from {cte} as q join {cte} as r on {x} = {y}",
                        items.join(", ")
                    ),
                    columns: names,
                }
            }
            16 => {
                let (x, y) = (self.column("q", &columns), self.column("q", &columns));
                let (mut items, mut names) = self.renamed("q", &columns);
                let name = self.name();
                items.push(format!("unnest(case when {x} > 1 then [{x}, {y}] else [{y}] end) as {name}"));
                names.push(name);
                Query { sql: format!("select {} from ({sql}) as q", items.join(", ")), columns: names }
            }
            17 => {
                let on = self.column("q", &columns);
                // Ordered by all others too, and by none twice, at which the engine panics.
                let rest: String =
                    columns.iter().filter(|c| format!("q.{c}") != on).map(|c| format!(", q.{c}")).collect();
                let (items, names) = self.renamed("q", &columns);
                Query {
                    sql: format!(
                        "select distinct on ({on}) {} from ({sql}) as q order by {on}{rest}",
                        items.join(", ")
                    ),
                    columns: names,
                }
            }
            _ => {
                let (x, y, z) = (self.column("q", &columns), self.column("q", &columns), self.column("q", &columns));
                let names = [self.name(), self.name(), self.name()];
                let [n, m, o] = &names;
                let cte = self.name();
                Query {
                    sql: format!(
                        "with recursive {cte} as (select {x} as {n}, {y} as {m}, {z} as {o} from ({sql}) as q \
                         union all select {n} + 1, {o}, {m} from {cte} where {n} < 3) select {m}, {n} from {cte}"
                    ),
                    columns: vec![m.clone(), n.clone()],
                }
            }
        }
    }
}

fn register(session: &Session, data: &Data) {
    for ((table, names), columns) in TABLES.iter().zip(data) {
        let arrays = names.iter().zip(columns).map(|(name, column)| {
            let array: ArrayRef = Arc::new(Int64Array::from_iter(column.iter().copied()));
            (*name, array, true)
        });
        let batch = RecordBatch::try_from_iter_with_nullable(arrays).unwrap();
        session.context().deregister_table(*table).unwrap();
        let provider = MemTable::try_new(batch.schema(), vec![vec![batch]]).unwrap();
        #[expect(clippy::disallowed_methods, reason = "an empty table to plan over, not a dataset")]
        session.context().register_table(*table, Arc::new(provider)).unwrap();
    }
}

/// The rows of a query over `data`; none when the engine cannot plan it, or fails, as sums that overflow do.
async fn rows(session: &Session, data: &Data, sql: &str) -> Option<Vec<Vec<String>>> {
    register(session, data);
    let planned = session.plan_query(sql).await.ok()?;
    let frame = session.context().execute_logical_plan(planned.plan).await.ok()?;
    let mut rows = Vec::new();
    for batch in frame.collect().await.ok()? {
        let options = FormatOptions::default().with_null("NULL");
        let columns: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|c| c.value(row).to_string()).collect()));
    }
    Some(rows)
}

/// These columns of rows, as a multiset.
fn only(rows: &[Vec<String>], columns: &BTreeSet<usize>) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|column| row[*column].clone()).collect()).collect();
    rows.sort_unstable();
    rows
}

/// The output columns that `table.column` has no influence on.
fn untouched(lineage: &LineageSummary, table: &str, column: &str) -> BTreeSet<usize> {
    if lineage.rows.iter().any(|input| (input.table.as_str(), input.column.as_str()) == (table, column)) {
        return BTreeSet::new();
    }
    let is_touched = |index: &usize| {
        let output = &lineage.columns[*index];
        let mut names = output.inputs.iter().map(|input| (input.table.as_str(), input.column.as_str()));
        let mut decides = output.indirect.iter().map(|input| (input.table.as_str(), input.column.as_str()));
        names.any(|name| name == (table, column)) || decides.any(|name| name == (table, column))
    };
    (0..lineage.columns.len()).filter(|index| !is_touched(index)).collect()
}

fn column() -> impl Strategy<Value = Column> {
    prop::array::uniform5(prop::option::weighted(0.85, 0i64..4))
}

fn data() -> impl Strategy<Value = Data> {
    prop::array::uniform2(prop::array::uniform3(column()))
}

/// What a run of the test saw, so that it cannot pass by comparing nothing.
#[derive(Debug, Default)]
struct Seen {
    compared: usize,
    changed: usize,
    influential: usize,
    failed: usize,
}

async fn holds(numbers: Vec<u8>, before: Data, anew: Data, seen: &mut Seen) -> Result<(), TestCaseError> {
    let mut draws = Draws { numbers: numbers.into_iter(), names: 0 };
    let depth = 1 + draws.below(3);
    let Query { sql, columns } = draws.query(depth);
    let session = sessions().build().unwrap();
    let Some(was) = rows(&session, &before, &sql).await else {
        seen.failed += 1;
        return Ok(());
    };
    let planned = session.plan_query(sql.as_str()).await.unwrap();
    let lineage = lineage(&planned.plan);
    prop_assert_eq!(
        lineage.columns.iter().map(|column| &column.column).collect::<Vec<_>>(),
        columns.iter().collect::<Vec<_>>()
    );

    for (t, (table, names)) in TABLES.iter().enumerate() {
        for (c, name) in names.iter().enumerate() {
            let mut after = before;
            after[t][c] = anew[t][c];
            let Some(is) = rows(&session, &after, &sql).await else {
                continue;
            };
            let untouched = untouched(&lineage, table, name);
            if untouched.len() < columns.len() {
                seen.influential += 1;
                let all = (0..columns.len()).collect();
                seen.changed += usize::from(only(&was, &all) != only(&is, &all));
            }
            if !untouched.is_empty() {
                seen.compared += 1;
                prop_assert_eq!(
                    only(&was, &untouched),
                    only(&is, &untouched),
                    "{}.{} changed columns {:?} of {}\n{:#?}",
                    table,
                    name,
                    untouched,
                    sql,
                    lineage
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_column_without_influence_may_change_and_nothing_does() {
    let cases = std::env::var("ALLUVIUM_LINEAGE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let config =
        ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let seen = std::cell::RefCell::new(Seen::default());
    let numbers = prop::collection::vec(any::<u8>(), 40);
    proptest!(config, |(numbers in numbers, before in data(), anew in data())| {
        runtime.block_on(holds(numbers, before, anew, &mut seen.borrow_mut()))?;
    });
    let seen = seen.into_inner();
    println!("{seen:?}");
    let cases = cases as usize;
    assert!(seen.compared > cases && seen.failed * 5 < cases, "too little was compared: {seen:?}");
    assert!(seen.changed * 5 > seen.influential, "what is named rarely matters: {seen:?}");
}

const CHAIN: &str = r#"
[sources.events]
format = "parquet"
path = "events.parquet"

[views.clean]
sql = "select k, upper(s) as word, k as unused from events where k > 0"

[views.counted]
sql = "select word, count(*) as n, max(k) as largest from clean group by word"

[views.best]
sql = "select word as name, largest as highest, n from counted where n > 1"
"#;

fn chain() -> Lab {
    let lab = Lab::new(CHAIN);
    lab.parquet("events.parquet", &[(1, "a"), (2, "b"), (3, "b")]);
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_is_traced_through_every_view_to_its_source() {
    let document = chain().open().lineage("best.highest").await.unwrap();
    let lines: Vec<String> = document
        .views
        .iter()
        .map(|view| {
            let columns = view.lineage.columns.iter().map(|column| {
                let inputs = column.inputs.iter().map(|i| format!("{}.{}", i.table, i.column)).collect::<Vec<_>>();
                format!("{} {} {}", column.column, column.transformation, inputs.join(","))
            });
            format!("{}: {}", view.view, columns.collect::<Vec<_>>().join("; "))
        })
        .collect();
    assert_eq!((document.view.as_str(), document.column.as_deref()), ("best", Some("highest")));
    assert_eq!(
        lines,
        [
            "best: highest identity counted.largest",
            // `n` decides over the rows of `best`, and `word` over those of `counted`; `unused` over none.
            "counted: n aggregation ; largest aggregation clean.k",
            "clean: k identity events.k; word expression events.s",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_traced_with_all_of_its_ancestors_and_nothing_is_computed() {
    let lab = chain();
    let pipeline = lab.open();
    let document = pipeline.lineage("counted").await.unwrap();
    assert_eq!(document.views.iter().map(|view| view.view.as_str()).collect::<Vec<_>>(), ["counted", "clean"]);
    assert_eq!(document.views[1].lineage.columns.len(), 3);
    assert_eq!(crate::lab::results(&lab.run().await), ["clean: write", "counted: write", "best: write"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_view_or_column_is_the_users_fault_and_the_near_one_is_named() {
    let lab = chain();
    let pipeline = lab.open();
    for (target, wrong, near) in
        [("bets", "`bets`", "`best`"), ("best.higest", "`higest`", "`highest`"), ("bst.n", "`bst`", "`best`")]
    {
        let error: RunError = pipeline.lineage(target).await.unwrap_err();
        assert!(error.is_input(), "{error}");
        assert!(error.to_string().contains(wrong) && error.to_string().contains(near), "{error}");
    }
    let far = pipeline.lineage("best.zzz").await.unwrap_err();
    assert_eq!(far.to_string(), "view `best` has no column `zzz`");
}

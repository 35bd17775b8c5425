//! The queries of random pipelines: every shape over any two tables before it, and its columns are those of every view.
//!
//! Nothing of them depends on an order, and no join multiplies rows by more than those of equal `k` and `g`, so that a chain of views stays
//! small.

/// A query over tables that are chosen, modulo their number, from the sources and the views before it.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) shape: u8,
    pub(super) from: (usize, usize),
    pub(super) constant: i64,
    /// Which of two names is which, where a shape has names that shadow others: another query then, of almost the same text.
    pub(super) swapped: bool,
    pub(super) spaced: bool,
    /// Of its rows some: as many as the constant says and one more, whichever the engine meets first.
    pub(super) head: bool,
}

/// A source or a view that a query may read.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// What stands after `FROM` and has the columns of every view.
    pub(super) from: String,
}

/// Shapes whose names are told apart wherever they stand.
const PLAIN: u8 = 16;

/// Shapes in which one name hides another.
const SHADOWING: u8 = 16;

impl Query {
    pub(super) fn sql(&self, tables: &[Table]) -> String {
        let sql = self.whole_sql(tables);
        let sql = if self.head { format!("select * from ({sql}) as h limit {}", self.head_rows()) } else { sql };
        if self.spaced { format!("/* the same */\n{}\n-- the end", sql.replace(' ', "  ")) } else { sql }
    }

    /// Without the limit of a head.
    pub(super) fn whole_sql(&self, tables: &[Table]) -> String {
        let [a, b] = self.reads(tables.len()).map(|table| &tables[table]);
        match self.shape % (PLAIN + SHADOWING) {
            shape @ ..PLAIN => plain(shape, &a.from, &b.from, self.constant),
            shape => shadowing(shape - PLAIN, a, b, self.constant, self.swapped),
        }
    }

    /// How many rows a head has, if there are as many.
    pub(super) fn head_rows(&self) -> usize {
        usize::try_from(self.constant).unwrap_or_default() + 1
    }

    /// Which of so many tables it reads at most.
    pub(super) fn reads(&self, tables: usize) -> [usize; 2] {
        [self.from.0 % tables, self.from.1 % tables]
    }
}

fn plain(shape: u8, a: &str, b: &str, c: i64) -> String {
    match shape {
        0 => format!("select k, g, s, x, n from {a} where k > {c}"),
        1 => format!("select k, g, s, x, n from {a} where x > {c} or s = 'b'"),
        2 => format!("select k, g, s, x, n from {a} where s is null or g in (0, {c})"),
        3 => format!("select k + {c} as k, g, coalesce(upper(s), 'none') as s, x, n from {a}"),
        4 => format!("select l.k, r.g, l.s, r.x, r.n from {a} as l join {b} as r on l.g = r.g and l.k = r.k"),
        5 => {
            format!("select l.k, l.g, r.s, l.x, r.n from {a} as l left join {b} as r on l.g = r.g and l.k = r.k + {c}")
        }
        6 => format!(
            "select k, g, s, x, n from {a} as o where exists (select 1 from {b} as i where i.g = o.g and i.k > {c})"
        ),
        7 => format!("select k, g, s, x, n from {a} where k not in (select coalesce(k, 0) from {b} where g = {c})"),
        // Of 0.0 and -0.0 the engine keeps whichever comes first: there is one zero here.
        8 => format!(
            "select count(*) as k, g, max(s) as s, min(case when x = 0 then 0.0 else x end) as x, \
             named_struct('a', max(k), 'b', make_array(count(*), g)) as n from {a} where x < {c} group by g"
        ),
        9 => format!(
            "select sum(k) as k, g, min(s) as s, cast({c} as double) as x, \
             named_struct('a', g, 'b', make_array(sum(k))) as n from {a} group by g having count(*) > 1"
        ),
        10 => format!("select sum(k) over (partition by g) as k, g, s, x + {c} as x, n from {a}"),
        11 => format!("select k, g, s, x, n from {a} union all select g, k, s, x, n from {b}"),
        12 => format!(
            "with t as (select g, max(k) + {c} as k from {a} group by g) \
             select t.k, t.g, o.s, o.x, o.n from t join {b} as o on o.g = t.g"
        ),
        13 => format!("select n['a'] as k, g, s, x, n from {a} where n['b'][1] >= {c} or n is null"),
        14 => format!("select k, g, s, x, named_struct('a', n['b'][2], 'b', make_array(n['a'], {c})) as n from {a}"),
        _ => format!(
            "select distinct k, coalesce(g, {c}) as g, s, case when k > {c} then x end as x, \
             named_struct('a', g, 'b', make_array(k)) as n from {a}"
        ),
    }
}

/// Both queries of a shape, swapped and not, read the same tables and differ in which name hides which.
fn shadowing(shape: u8, a: &Table, b: &Table, c: i64, swapped: bool) -> String {
    let (a_name, b_name, a, b) = (&a.name, &b.name, &a.from, &b.from);
    let either = |one: &'static str, other: &'static str| if swapped { (other, one) } else { (one, other) };
    let (k, g) = either("k", "g");
    match shape {
        // A condition over the columns of a derived table, or over those that it renames.
        0 if swapped => format!("select g as k, k as g, s, x, n from {a} as o where k > {c}"),
        0 => format!("select k, g, s, x, n from (select g as k, k as g, s, x, n from {a}) as o where k > {c}"),
        // A CTE has the name of a table in the pipeline, or another name and is not read.
        1 => {
            let name = if swapped { "t" } else { b_name };
            format!(
                "with {name} as (select g as k, k as g, s, x, n from {a} where g >= {c}) select k, g, s, x, n from {b}"
            )
        }
        // It has it for one branch, or for both.
        2 => {
            let with = format!("with {b_name} as (select g as k, k as g, s, x, n from {a} where k > {c})");
            let (outside, inside) = if swapped { (with.as_str(), "") } else { ("", with.as_str()) };
            format!(
                "{outside} select k, g, s, x, n from ({inside} select k, g, s, x, n from {b}) as o \
                 union all select k, g, s, x, n from {b}"
            )
        }
        // A CTE reads the table whose name it has.
        3 => format!(
            "with {a_name} as (select k as {k}, g as {g}, s, x, n from {a}) select k, g, s, x, n from {a} where g >= {c}"
        ),
        // Inner and outer query have the same columns, and the inner ones hide the outer ones unless these are qualified.
        4 => {
            let outer = if swapped { "" } else { "o." };
            format!(
                "select k, g, s, x, n from {a} as o where exists (select 1 from {b} as i where i.k = {outer}g and g >= {c})"
            )
        }
        5 => format!(
            "select k, g, s, x, n from {a} as o where exists (select 1 from {b} as i where i.{k} = o.{g} and i.g >= {c})"
        ),
        // The inner query has one of the two columns, and the other is the outer one's.
        6 => format!(
            "select k, g, s, x, n from {a} as o where exists (select 1 from (select coalesce(k, {c}) as {k} from {b}) as i where k = g)"
        ),
        // Both have the same alias too.
        7 => {
            let (alias, _) = either("i", "o");
            format!(
                "select k, g, s, x, n from {a} as o where exists (select 1 from {b} as {alias} where {alias}.k = o.g and {alias}.g >= {c})"
            )
        }
        // A derived table inside EXISTS looks past what it is joined with, to the query around.
        8 => format!(
            "select o.k, o.g, o.s, o.x, o.n from (select k as {k}{k}, coalesce(g, {c}) as {g}{g}, k, g, s, x, n from {a}) as o \
             where exists (select 1 from (select k as kk, k as gg from {b}) as o \
             join (select i.k from {b} as i where i.k = o.kk) as z on z.k >= 0)"
        ),
        9 => format!(
            "with o as (select k as {k}, g as {g}, s, x, n from {a}) select o.k, o.g, o.s, o.x, o.n from o \
             where exists (select 1 from {b} as i where i.k = o.k and i.g in (select o.g from {a} as o where o.k >= {c}))"
        ),
        10 => {
            let (alias, _) = either("i", "o");
            format!(
                "select o.k, l.g, o.s, o.x, o.n from {a} as o, \
                 lateral (select max({alias}.g) as g from (select k, g from {b} where k >= {c}) as {alias} where {alias}.k = o.g) as l"
            )
        }
        11 => format!(
            "select k, coalesce((select max(i.{k}) from {b} as i where i.g = o.{g}), {c}) as g, s, x, n from {a} as o"
        ),
        // The columns of USING are of neither side and of both. Of NaN and a number the least is whichever the engine meets first.
        12 => {
            let (join, _) = either("left", "full");
            format!(
                "select k, g, l.s, r.x, l.n from {a} as l {join} join \
                 (select k, g, min(case when x > -1 then {c} else x end) as x from {b} group by k, g) as r using (k, g)"
            )
        }
        13 => format!(
            "select k, g, s, {k} + 0.5 as x, n from (select * from {a} as l join (select distinct {k}, g + {c} as {g} from {b}) as m using (k, g) \
             join (select distinct k from {b}) as r using (k))"
        ),
        // Names that differ in case only.
        14 => {
            let (upper, lower) = either("\"K\"", "k");
            format!(
                "select \"K\" as k, k as g, s, x, n \
                 from (select k as {upper}, g as {lower}, s, x, n from {a}) as \"O\" where \"O\".\"K\" >= {c}"
            )
        }
        _ => {
            let (outer, inner) = either("\"T\"", "t");
            format!(
                "select k, g, s, x, n from {a} as {outer} where exists (select 1 from {b} as {inner} where \"T\".k = t.g and t.g >= {c})"
            )
        }
    }
}

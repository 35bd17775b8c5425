"""SQL that others emit, over the tables of examples/flights, against DuckDB's answers.

    dialects.py BINARY PROJECT

Ibis compiles each expression for several engines, and SQLGlot translates each query, written for DuckDB, into several
dialects; `alluvium sql --dialect` answers what they emit. Rows are compared as multisets, numbers to a relative 1e-9.
What is known not to run is listed below with its reason, and is a failure when it does run.

The other way round, DuckDB and SQLite are asked what `alluvium transpile` writes for them, and have to answer what alluvium
answers. What it names instead has to be what these engines answer otherwise. Prints each check; exits 1 if one fails, after
all have run.
"""

import datetime
import decimal
import json
import math
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import ibis
import sqlglot
from checks import Checks

# The dialects of Ibis and of SQLGlot, each with what `--dialect` calls it.
IBIS = {"datafusion": "generic", "duckdb": "duckdb", "postgres": "postgresql"}
SQLGLOT = {"duckdb": "duckdb", "postgres": "postgresql", "spark": "spark", "snowflake": "snowflake", "bigquery": "bigquery"}

DIVISION = "an integer divided by an integer is an integer to the engine, whatever the dialect says"
# What does not run or gives another answer, by emitter, name and dialect. `--dialect` is grammar: functions are the
# engine's, and so is the meaning of operators.
KNOWN = {
    ("ibis", "project", "duckdb"): DIVISION,
    ("ibis", "window sum", "duckdb"): DIVISION,
    ("ibis", "semi join", "duckdb"): "the engine has LEFT SEMI JOIN",
    ("ibis", "anti join", "duckdb"): "the engine has LEFT ANTI JOIN",
    ("ibis", "day of week", "duckdb"): "no function dayofweek",
    ("ibis", "date literal", "duckdb"): "no function make_timestamp",
    ("sqlglot", "filter", "snowflake"): "no function count_if",
    ("sqlglot", "filter", "bigquery"): "no function countif",
    ("sqlglot", "interval", "spark"): "no type TIMESTAMP_NTZ",
    ("sqlglot", "interval", "snowflake"): "no type TIMESTAMPNTZ",
    ("sqlglot", "interval", "bigquery"): "no type DATETIME",
    ("sqlglot", "extract", "snowflake"): "the part of date_part is text to the engine",
    ("sqlglot", "date_trunc", "bigquery"): "no function timestamp_trunc",
    ("sqlglot", "strings", "spark"): "no function locate",
    ("sqlglot", "strings", "snowflake"): "no function charindex",
    ("sqlglot", "regular expression", "duckdb"): "no function regexp_matches",
    ("sqlglot", "regular expression", "spark"): "no RLIKE",
    ("sqlglot", "regular expression", "bigquery"): "no function regexp_contains",
    ("sqlglot", "cast", "postgres"): "PostgreSQL has no try_cast, and SQLGlot writes a cast that fails",
    ("sqlglot", "cast", "bigquery"): "no type INT64",
    ("sqlglot", "exclude", "postgres"): "PostgreSQL has no EXCEPT of columns, and SQLGlot writes one",
    ("sqlglot", "values", "bigquery"): "no UNNEST of structs",
    ("sqlglot", "list", "spark"): "no function size",
    ("sqlglot", "list", "snowflake"): "no function array_size",
}

SCHEMAS = {
    "flights": {"date": "timestamp", "delay": "int16", "distance": "int16", "origin": "string", "destination": "string"},
    "airports": {
        "iata": "string", "name": "string", "city": "string", "state": "string", "country": "string",
        "latitude": "float64", "longitude": "float64",
    },
}  # fmt: skip


def expressions():
    """Ibis expressions by name."""
    flights, airports = (ibis.table(schema, name=name) for name, schema in SCHEMAS.items())
    _ = ibis._
    late = flights.filter(_.delay > 60)
    by_origin = flights.group_by("origin").agg(flights=_.count(), mean=_.delay.mean())
    joined = flights.join(airports, flights.origin == airports.iata)
    return {
        "filter": late.filter(_.origin == "ATL").select("origin", "destination", "delay"),
        "project": flights.mutate(hours=_.delay / 60, far=_.distance > 1000).select("hours", "far").distinct(),
        "aggregate": by_origin,
        "having": by_origin.filter(_.flights > 1000).order_by(ibis.desc("mean")),
        "order and limit": by_origin.order_by([ibis.desc("flights"), "origin"]).limit(7),
        "distinct count": flights.group_by("origin").agg(n=_.destination.nunique()),
        "case": flights.group_by(k=ibis.cases((_.delay < 0, "early"), (_.delay < 15, "fine"), else_="late")).agg(n=_.count()),
        "null handling": airports.group_by(state=_.state.fill_null("?").nullif("NA")).agg(n=_.count()),
        "join": joined.group_by("state").agg(n=_.count(), far=_.distance.max()),
        "left join": airports.left_join(late, airports.iata == late.origin).group_by("country").agg(n=_.delay.count()),
        "semi join": airports.semi_join(late, airports.iata == late.origin).select("iata", "city"),
        "anti join": airports.anti_join(flights, airports.iata == flights.origin).agg(n=_.count()),
        "union": ibis.union(late.select("origin"), late.select(origin="destination"), distinct=True),
        "intersect": ibis.intersect(late.select("origin"), late.select(origin="destination")),
        "difference": ibis.difference(airports.select(k="iata"), flights.select(k="origin")),
        "window rank": by_origin.mutate(rank=ibis.rank().over(order_by=ibis.desc(_.flights))).filter(_["rank"] < 5),
        "window sum": flights.group_by("origin", "destination").agg(n=_.count()).mutate(
            share=_.n / _.n.sum().over(group_by="origin")
        ),
        "running sum": by_origin.mutate(total=_.flights.sum().over(ibis.cumulative_window(order_by="origin"))),
        "lag": by_origin.mutate(before=_.flights.lag(1).over(order_by="origin")),
        "text": airports.mutate(a=_.city.upper(), b=_.city.length(), c=_.city.substr(0, 3)).select("iata", "a", "b", "c"),
        "text search": airports.filter(_.city.contains("San") | _.city.startswith("New")).select("iata", "city"),
        "like": airports.filter(_.name.like("%Intl%")).agg(n=_.count()),
        "concat": airports.select(k=_.iata + "/" + _.city),
        "date parts": flights.group_by(y=_.date.year(), m=_.date.month(), d=_.date.day()).agg(n=_.count()),
        "truncated date": flights.group_by(month=_.date.truncate("M")).agg(n=_.count()),
        "day of week": flights.group_by(w=_.date.day_of_week.index()).agg(n=_.count()),
        "date literal": flights.filter(_.date >= ibis.timestamp("2001-03-01 00:00:00")).agg(n=_.count()),
        "cast": flights.agg(total=_.distance.cast("int64").sum(), text=_.delay.cast("string").max()),
        "rounding": airports.select("iata", a=_.latitude.round(1), b=_.longitude.floor(), c=_.latitude.abs()),
        "statistics": flights.agg(a=_.delay.std(), b=_.delay.var(how="pop"), c=_.delay.corr(_.distance, how="pop")),
        "median": flights.agg(m=_.distance.median()),
        "filtered aggregate": flights.agg(n=_.count(where=_.delay > 0), m=_.distance.mean(where=_.delay > 0)),
        "subquery": flights.filter(_.delay > flights.delay.mean() * 10).agg(n=_.count()),
        "in": flights.filter(_.origin.isin(["ATL", "ORD"])).group_by("origin").agg(n=_.count()),
        "between": flights.filter(_.distance.between(100, 200)).agg(n=_.count()),
    }


QUERIES = {
    "cte": "with t as (select origin, count(*) as n from flights group by origin) select * from t where n > 1000",
    "group by all": "select origin, destination, sum(distance) as far from flights group by all having far > 100000",
    "qualify": "select origin, destination, count(*) as n from flights group by 1, 2 "
    "qualify row_number() over (partition by origin order by count(*) desc, destination) = 1",
    "filter": "select origin, count(*) filter (where delay > 30) as late from flights group by origin",
    "rollup": "select state, country, count(*) as n from airports group by rollup (state, country)",
    "correlated": "select iata from airports a where exists (select 1 from flights f where f.origin = a.iata and f.delay > 300)",
    "using": "select state, count(*) as n from flights join (select iata as origin, state from airports) as a using (origin) group by 1",
    "frame": "select origin, n, avg(n) over (order by origin rows between 2 preceding and current row) as m "
    "from (select origin, count(*) as n from flights group by origin)",
    "interval": "select count(*) as n from flights where date < timestamp '2001-01-01 00:00:00' + interval 40 day",
    "extract": "select extract(hour from date) as h, count(*) as n from flights group by 1",
    "date_trunc": "select date_trunc('month', date) as m, max(delay) as d from flights group by 1",
    "strings": "select upper(city) || ', ' || coalesce(state, '?') as place, strpos(city, 'a') as p from airports",
    "regular expression": "select count(*) as n from airports where regexp_matches(city, '^San? ')",
    "cast": "select cast(latitude as decimal(10, 3)) as a, try_cast(state || '1' as integer) as b from airports",
    "case": "select case when delay > 60 then 'late' when delay < 0 then 'early' else 'fine' end as k, count(*) as n from flights group by 1",
    "exclude": "select * exclude (latitude, longitude) from airports where state = 'AK'",
    "union by name": "select iata as k from airports where state = 'HI' union all select origin as k from flights where delay > 600",
    "order by": "select origin, delay from flights order by delay desc nulls last, origin, destination, date limit 20",
    "values": "select v.a, count(f.delay) as n from (values ('ATL'), ('ORD')) as v(a) left join flights f on f.origin = v.a group by 1",
    "list": "select origin, array_length(array_agg(distinct destination)) as n from flights group by origin",
}  # fmt: skip


# Queries of one value, with the engines for which `alluvium transpile` names a part of them instead of writing them.
D, S = "duckdb", "sqlite"
NOT_FINITE = "infinite, or no number"
MEANINGS = {
    "float to integer": ("select cast(f as integer) as a from (select cast(1.5 as double) as f) as t", {D}),
    "negative float to integer": ("select cast(f as integer) as a from (select cast(-2.7 as double) as f) as t", {D}),
    "decimal to integer": ("select concat(cast(cast(1.75 as decimal(10, 2)) as integer), cast(1.5 as decimal(10, 2))) as a", {D, S}),
    "float to decimal": ("select cast(cast(2.675 as double) as decimal(10, 2)) as a", {S}),
    "decimal to fewer digits": ("select cast(cast(-1.25 as decimal(10, 2)) as decimal(10, 1)) as a", {S}),
    "float to text": ("select cast(cast(1e20 as double) as varchar) as a", {D, S}),
    "decimal to text": ("select cast(cast(1.5 as decimal(10, 2)) as varchar) as a", {S}),
    "boolean to text": ("select cast(1 = 1 as varchar) as a", {S}),
    "integer to boolean": ("select cast(2 as boolean) as a", {S}),
    "text to boolean": ("select cast('yes' as boolean) as a", {S}),
    "text to integer": ("select cast(' 12' as integer) as a", set()),
    "text to a day": ("select cast('2024-03-01 10:00:00' as date) as a", {S}),
    "text with a zone to a time": ("select cast('2024-03-01 10:00:00+02:00' as timestamp) as a", {D, S}),
    "tried text": ("select try_cast('1.5' as integer) as a", {D, S}),
    "start before the text": ("select substr('abc', -1) as a", {D, S}),
    "start in the text": ("select substr('abc', 2, 1) as a", set()),
    "capitals in a pattern": ("select 'ABC' like 'a%' as a", {S}),
    "no letters in a pattern": ("select 'a-b' like '%-_' as a", set()),
    "backslash in a pattern": (r"select '1_2' like '1\_2' as a", {D, S}),
    "backslash in a text": (r"select 'back\slash' as a", set()),
    "quote in a text": ("select 'it''s' as a", set()),
    "capitals": ("select upper('é') || lower('É') as a", {S}),
    "rounding": ("select round(f) as a from (select cast(-2.5 as double) as f) as t", set()),
    "rounding to digits": ("select round(f, 2) as a from (select cast(1.005 as double) as f) as t", {S}),
    "rounding a literal": ("select round(1.005, 2) as a", {D, S}),
    "division by zero": ("select f / g as a from (select cast(1 as double) as f, cast(0 as double) as g) as t", {S}),
    "division": ("select f / 2 as a from (select cast(7 as double) as f) as t", set()),
    "integer division": ("select n / 2 as a from (select -7 as n) as t", set()),
    "modulo of floats": ("select f % 2 as a from (select cast(5.5 as double) as f) as t", {S}),
    "modulo": ("select n % 3 as a from (select -7 as n) as t", set()),
    "days between": ("select date '2024-03-02' - date '2024-02-29' as a", {S}),
    "correlation with a constant": ("select corr(x, y) as a from (select 1.0 as x, 1.0 as y union all select 1.0, 2.0) as t", {D, S}),
    "accents in reverse": ("select reverse('e' || chr(769) || 'x') as a", {D, S}),
    "parts of a day": ("select date_part('month', date '2024-03-01') as a", {S}),
    "first and last letters": ("select left('abc', 2) || right('abc', 1) as a", {S}),
}  # fmt: skip

# What is carried and fails there.
FAILING = {("division by zero", D): "// is written for /, and fails where it divides by zero"}


def exact(value):
    """A value in a form in which those of all engines can be compared; true is 1 to SQLite."""
    if isinstance(value, (bool, int, float, decimal.Decimal)):
        return repr(float(value)) if math.isfinite(value) else NOT_FINITE
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return value if value is None else str(value)


def transpiled(checks, binary, project, database):
    """What is written for DuckDB and SQLite has our answer there; what is named has another one, or none."""
    lite = sqlite3.connect(":memory:")
    for name, (sql, named) in MEANINGS.items():
        rows, error = answer(binary, project, f"select a, a is null as is_null from ({sql}) as asked", "generic")
        # JSON has neither infinity nor NaN: a null that is none is one of them.
        ours = error or [NOT_FINITE if value is None and not is_null else exact(value) for value, is_null in rows]
        for dialect, engine in ((D, database), (S, lite)):
            command = [binary, "transpile", "-", "--to", dialect, "-C", project, "--format", "json"]
            done = subprocess.run(command, input=sql, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            document = json.loads(done.stdout)["payload"] if done.stdout else {"sql": None, "not_carried": [done.stderr]}
            parts, text = document["not_carried"], document["sql"] or sql
            try:
                theirs = [exact(value) for (value,) in engine.execute(text).fetchall()]
            except (duckdb.Error, sqlite3.Error) as failure:
                theirs = str(failure)
            problems = []
            if bool(parts) != (dialect in named):
                problems = [f"it is {'named' if parts else 'carried'}", str(parts or text)]
            elif (bool(parts) or (name, dialect) in FAILING) == (ours == theirs):
                problems = [f"{ours} beside {theirs}", text]
            told = " is named" if parts else f" fails: {FAILING[name, dialect]}" if (name, dialect) in FAILING else ""
            checks.note(f"transpiled for {dialect}: {name}{told}", problems)


def plain(value):
    """A value in the form that JSON has for it; numbers as floats."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float, decimal.Decimal)):
        return float(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        value = value.isoformat()
    if isinstance(value, str):
        return value.removesuffix("T00:00:00")
    return value


def alike(a, b):
    if isinstance(a, float) != isinstance(b, float) and isinstance(a or b, (str, float)):
        # Decimals are text in JSON.
        try:
            a, b = float(a), float(b)
        except (TypeError, ValueError):
            return False
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= 1e-9 * max(1, abs(a), abs(b))
    return a == b


def differing(ours, theirs):
    if len(ours) != len(theirs):
        return [f"{len(ours)} rows, DuckDB has {len(theirs)}"]
    # Names of columns are left to each engine; JSON keeps the order of columns.
    key = lambda row: [f"{value:.5e}" if isinstance(value, float) else str(value) for value in row]
    pairs = zip(*(sorted(([plain(value) for value in row] for row in rows), key=key) for rows in (ours, theirs)))
    return [f"{a} beside {b}" for a, b in pairs if len(a) != len(b) or not all(map(alike, a, b))]


def answer(binary, project, sql, dialect):
    """Rows, or what alluvium says is wrong with the query."""
    command = [binary, "sql", "-C", project, "--format", "json", "--dialect", dialect, "--", sql]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return None, done.stderr.strip().replace("\n", " ")
    rows = json.loads(done.stdout)
    # A column that is NULL in a row is there all the same.
    return [list(row.values()) for row in rows], None


def check(checks, binary, project, emitter, name, dialect, ours, sql, expected):
    rows, error = answer(binary, project, sql, ours)
    problems = [error] if error else differing(rows, expected)
    known = KNOWN.get((emitter, name, dialect))
    if known:
        problems = [] if problems else [f"it runs by now; it was listed as: {known}"]
    elif problems:
        problems.append(" ".join(sql.split())[:300])
    checks.note(f"{emitter}: {name} for {dialect}{' does not run: ' + known if known else ''}", problems)


def main(binary, project):
    checks = Checks()
    with duckdb.connect() as database:
        data = Path(project) / "data"
        database.execute(f"create view flights as select * from '{data}/2001-*.parquet'")
        database.execute(f"create view airports as select * from read_csv('{data}/airports.csv', header = true)")
        for name, expression in expressions().items():
            expected = database.execute(ibis.to_sql(expression, dialect="duckdb")).fetchall()
            for dialect, ours in IBIS.items():
                try:
                    sql = ibis.to_sql(expression, dialect=dialect)
                except Exception as error:  # Ibis has a class for each of its reasons.
                    print(f"skipped ibis: {name} for {dialect}: {error}")
                    continue
                check(checks, binary, project, "ibis", name, dialect, ours, sql, expected)
        for name, query in QUERIES.items():
            expected = database.execute(query).fetchall()
            for dialect, ours in SQLGLOT.items():
                sql = sqlglot.transpile(query, read="duckdb", write=dialect)[0]
                check(checks, binary, project, "sqlglot", name, dialect, ours, sql, expected)
        transpiled(checks, binary, project, database)
    sys.exit(checks.end("dialects"))


if __name__ == "__main__":
    main(*sys.argv[1:])

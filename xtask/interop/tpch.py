"""TPC-H's 22 queries against DuckDB's answers on the same files: over every provider, and as a pipeline of cached views.

    tpch.py BINARY QUERIES SCRATCH [SCALE]

QUERIES holds q01.sql to q22.sql. The tables are generated at SCALE (0.1 unless given) as Parquet, and written as Delta by
`deltalake` in files of several row groups. `examples/tpch` beside BINARY answers through a session over the engine's Parquet
listing, pinned Parquet files, the engine's Delta scan, and `PinnedFiles` of the Delta snapshot; it fails where a query is read
by anything else. Then one project reads Parquet, a second Delta: pinned files and the engine's scan. In each every view is written
by the first run, and hit by a second process that finds the project at another path. What `alluvium transpile` writes for DuckDB is
asked of DuckDB, and what it writes for others is read by SQLGlot. Rows are compared as multisets:
integers, text, dates and decimals exactly; floats, and decimals with floats (DuckDB's averages are floats, the engine's
are decimals that it cuts off), to a relative 1e-9 and the last digit of the decimal. Prints each check; exits 1 if one fails, after all have
run.
"""

import datetime
import decimal
import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import sqlglot
from checks import Checks
from deltalake import DeltaTable, write_deltalake

PROVIDERS = ["engine_parquet", "pinned_parquet", "engine_delta", "pinned_delta"]
# What `alluvium transpile --to` calls a dialect, and what SQLGlot does.
DIALECTS = {
    "postgresql": "postgres", "duckdb": "duckdb", "mysql": "mysql", "sqlite": "sqlite", "bigquery": "bigquery",
    "snowflake": "snowflake",
}  # fmt: skip
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]
RELATIVE = 1e-9


def generate(scratch, scale):
    """The tables as one Parquet file each, and as Delta tables of several files."""
    generator = Path(sys.executable).with_name("tpchgen-cli")
    parquet, delta = scratch / "parquet", scratch / "delta"
    subprocess.run([generator, "parquet", "--scale-factor", scale, "--output-dir", parquet], check=True)
    for table in TABLES:
        rows = pq.read_table(parquet / f"{table}.parquet")
        part = max(1, -(-len(rows) // 4))
        for start in range(0, max(len(rows), 1), part):
            write_deltalake(delta / table, rows.slice(start, part), mode="append")


def answers(binary, queries, scratch):
    """Where the rows of each query lie, by provider; from a process of its own."""
    example = Path(binary).parent / "examples" / "tpch"
    done = subprocess.run([example, queries, scratch], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{example} failed ({done.returncode}):\n{done.stderr}")
    return {provider: sorted((scratch / "answers" / provider).glob("q*.parquet")) for provider in PROVIDERS}


def translated(checks, binary, project, queries, database, expected):
    """What `alluvium transpile` writes for DuckDB has DuckDB's rows; what it writes for others is grammatical to SQLGlot."""
    for query in sorted(queries.glob("q*.sql")):
        for dialect, grammar in DIALECTS.items():
            command = [binary, "transpile", query, "--to", dialect, "-C", project, "--format", "json"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            document = json.loads(done.stdout)["payload"] if done.stdout else {"sql": None, "not_carried": []}
            parts = [f"{part['construct']}: {part['reason']}" for part in document["not_carried"]]
            what = f"transpiled for {dialect}: {query.stem}"
            if document["sql"] is None:
                checks.note(f"{what} is refused by name", [] if parts and done.returncode == 2 else [done.stderr])
                print("         ", *parts, sep="\n          ")
                continue
            try:
                sqlglot.parse_one(document["sql"], read=grammar)
                rows = database.execute(document["sql"]).fetchall() if dialect == "duckdb" else None
                problems = [] if rows is None else differing(rows, expected[query.stem])
            except (sqlglot.errors.ParseError, duckdb.Error) as error:
                problems = [str(error), document["sql"]]
            checks.note(what, problems)


def project(directory, source, queries):
    """A project at `directory` over the tables that `source` names."""
    views = directory / "views"
    views.mkdir(parents=True)
    lines = []
    for table in TABLES:
        lines += [f"[sources.{table}]", *source(table)]
    for query in sorted(queries.glob("q*.sql")):
        shutil.copy(query, views)
        lines += [f"[views.{query.stem}]", f'file = "views/{query.name}"', 'cache = "delta_staging"']
    (directory / "alluvium.toml").write_text("\n".join(lines) + "\n")


def run(binary, directory, root):
    """The document of a run, from a process of its own."""
    command = [binary, "run", directory, "--cache-root", root, "--format", "json", "--quiet"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"the run of {directory} failed ({done.returncode}):\n{done.stderr}")
    return json.loads(done.stdout)["payload"]


def results(document, expected):
    """Views whose result is another."""
    return [f"{view['name']}: {view['result']} ({view.get('reason')})" for view in document["views"] if view["result"] != expected]


def inexact(document, queries):
    """Views whose rows do not depend on an order among equals, and that are marked as if they did."""
    unstable = [view["name"] for view in document["views"] if view["stability"] != "exact"]
    return [name for name in unstable if "limit" not in (queries / f"{name}.sql").read_text()]


def entries(binary, directory, root):
    """Where the rows of each view lie."""
    command = [binary, "cache", "ls", "-C", directory, "--cache-root", root, "--format", "json"]
    listing = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)["payload"]
    return {entry["view_name"]: Path(root) / entry["cache_path"] for entry in listing["entries"]}


def comparable(value):
    """Days and instants of midnight are one; the rest stays."""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date()
    return value.rstrip(" ") if isinstance(value, str) else value


def alike(ours, theirs):
    if isinstance(ours, float) or isinstance(theirs, float):
        if ours is None or theirs is None:
            return ours is theirs
        last = max(
            (decimal.Decimal(1).scaleb(v.as_tuple().exponent) for v in (ours, theirs) if isinstance(v, decimal.Decimal)),
            default=decimal.Decimal(0),
        )
        a, b = float(ours), float(theirs)
        return abs(a - b) <= max(RELATIVE * max(abs(a), abs(b)), float(last) * (1 + RELATIVE))
    return ours == theirs


def order(row):
    """Something to sort rows by in which rounding does not show."""
    inexact = (float, decimal.Decimal)
    return [("" if value is None else f"{float(value):.2e}" if isinstance(value, inexact) else str(value)) for value in row]


def differing(ours, theirs):
    """Rows that are not the same; both sides as lists of tuples."""
    if len(ours) != len(theirs):
        return [f"{len(ours)} rows, DuckDB has {len(theirs)}"]
    pairs = zip(sorted(ours, key=order), sorted(theirs, key=order))
    return [
        f"{mine} beside {other}"
        for mine, other in pairs
        if len(mine) != len(other) or not all(alike(comparable(a), comparable(b)) for a, b in zip(mine, other))
    ]


def rows_of(table):
    """The rows of a Delta table as tuples."""
    return [tuple(row.values()) for row in DeltaTable(table).to_pyarrow_table().to_pylist()]


def main(binary, queries, scratch, scale="0.1"):
    queries, scratch = Path(queries), Path(scratch)
    checks = Checks()
    generate(scratch, scale)
    expected = {}
    database = duckdb.connect()
    for table in TABLES:
        database.execute(f"create view {table} as select * from '{scratch}/parquet/{table}.parquet'")
    for query in sorted(queries.glob("q*.sql")):
        expected[query.stem] = database.execute(query.read_text()).fetchall()
    for provider, files in answers(binary, queries, scratch).items():
        checks.note(f"{provider}: every query is answered", sorted(set(expected) - {file.stem for file in files}))
        for file in files:
            rows = [tuple(row.values()) for row in pq.read_table(file).to_pylist()]
            checks.note(f"{provider}: {file.stem}, {len(rows)} rows", differing(rows, expected[file.stem]))
    sources = {
        "parquet": lambda table: ['format = "parquet"', f'path = "../parquet/{table}.parquet"'],
        "delta": lambda table: ['format = "delta"', f'path = "../delta/{table}"'],
    }
    for name, source in sources.items():
        root = scratch / f"root-{name}"
        project(scratch / name.upper(), source, queries)
        if name == "parquet":
            translated(checks, binary, scratch / name.upper(), queries, database, expected)
        first = run(binary, scratch / name.upper(), root)
        checks.note(f"{name}: every view is cacheable and written", results(first, "write"))
        checks.note(f"{name}: every view without a LIMIT is exact", inexact(first, queries))
        # Another process, and everything lies elsewhere: names and places do not count.
        elsewhere = scratch / "elsewhere" / name
        elsewhere.mkdir(parents=True)
        for part in (name, name.upper()):
            shutil.copytree(scratch / part, elsewhere / part)
        second = run(binary, elsewhere / name.upper(), root)
        checks.note(f"{name}: every view hits from another path", results(second, "hit"))
        found = entries(binary, scratch / name.upper(), root)
        for view, rows in expected.items():
            checks.note(f"{name}: {view}, {len(rows)} rows", differing(rows_of(found[view]), rows))
    sys.exit(checks.end("TPC-H"))


if __name__ == "__main__":
    main(*sys.argv[1:])

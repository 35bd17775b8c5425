"""The flights pipeline for dbt and for SQLMesh, over DuckDB, and how each is run.

    rivals.py make dbt|sqlmesh FLIGHTS PROJECT     writes PROJECT from the pipeline folder FLIGHTS
    rivals.py run dbt|sqlmesh PROJECT cold|unchanged|view|data ENTRIES

`make` takes the SQL of FLIGHTS as it stands; what the dialects call otherwise is renamed, and the names of tables become what each
tool wants. `run` prints one JSON line: the seconds of the tool's own command, from its start to its end. Each is given the best way
that its own documentation has: dbt compares with the state of the run before, SQLMesh plans. Then every view is compared, row by
row, with the Parquet files that ENTRIES names for it, a JSON object; a view that differs is named, and there are no seconds.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import tomllib

import duckdb

DATABASE = "warehouse.duckdb"


def views(flights):
    """The SQL of each view, by name, and how each source is read."""
    pipeline = tomllib.loads((flights / "alluvium.toml").read_text())
    sql = {name: (flights / view["file"]).read_text() for name, view in pipeline["views"].items()}
    # In DuckDB's words.
    sql = {name: text.replace("to_char(", "strftime(") for name, text in sql.items()}
    read = {"parquet": "read_parquet", "csv": "read_csv"}
    sources = {
        name: f"{read[source['format']]}('{flights / source['path']}')" for name, source in pipeline["sources"].items()
    }
    return sql, sources


def rename(text, names, called):
    """`text` with `called(name)` for every table that it reads by one of `names`."""
    pattern = re.compile(r"\b(from|join)(\s+)(" + "|".join(map(re.escape, names)) + r")\b", re.IGNORECASE)
    # A table without an alias is spoken of by its name, and some call it otherwise.
    def replaced(match):
        rest = text[match.end():]
        alias = "" if re.match(r"\s+as\s", rest, re.IGNORECASE) else f" as {match[3]}"
        return f"{match[1]}{match[2]}{called(match[3])}{alias}"
    return pattern.sub(replaced, text)


def statement(text):
    """SQL without its comments, whose words may be those of templates."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def make_dbt(flights, project):
    sql, sources = views(flights)
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text(
        "name: flights\nversion: '1.0'\nprofile: flights\nmodel-paths: [models]\n"
        "models:\n  flights:\n    +materialized: table\n"
    )
    (project / "profiles.yml").write_text(
        "flights:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n"
        f"      path: {DATABASE}\n      threads: {os.cpu_count()}\n"
    )
    for name, text in sql.items():
        text = rename(statement(text), sources, lambda table: sources[table])
        text = rename(text, sql, lambda table: f"{{{{ ref('{table}') }}}}")
        (project / "models" / f"{name}.sql").write_text(text)


def make_sqlmesh(flights, project):
    sql, sources = views(flights)
    (project / "models").mkdir(parents=True)
    (project / "config.yaml").write_text(
        f"gateways:\n  local:\n    connection:\n      type: duckdb\n      database: {DATABASE}\n"
        f"      concurrent_tasks: 1\n"
        "default_gateway: local\nmodel_defaults:\n  dialect: duckdb\n  start: 2001-01-01\n"
    )
    for name, text in sql.items():
        text = rename(statement(text), sources, lambda table: sources[table])
        text = rename(text, sql, lambda table: f"flights.{table}")
        head = f"MODEL (name flights.{name}, kind FULL, cron '@daily');\n\n"
        (project / "models" / f"{name}.sql").write_text(head + text)


def tool(name):
    return pathlib.Path(sys.executable).with_name(name)


def commands(side, project, what):
    """The command of one kind of run, and what it is run over before the clock starts."""
    if side == "dbt":
        run = [tool("dbt"), "run", "--quiet", "--profiles-dir", "."]
        state = project / "state"
        if what in ("unchanged", "view"):
            # Only what was edited and what reads it.
            return run + ["--select", "state:modified+", "--state", str(state)], state
        return run, state
    plan = [tool("sqlmesh"), "plan", "--auto-apply", "--no-prompts", "--skip-tests"]
    if what == "data":
        # It knows models, not files: who knows that a file came says which models read it.
        plan += ["--restate-model", "flights.flights_clean", "--restate-model", "flights.data_quality"]
    return plan, None


def different(side, project, entries):
    """The views that do not hold the very rows of the files that `entries` names, with how many rows differ."""
    schema = "main" if side == "dbt" else "flights"
    with duckdb.connect(str(project / DATABASE), read_only=True) as database:
        for name, files in sorted(entries.items()):
            theirs, ours = f"from {schema}.{name}", f"from read_parquet('{files}')"
            only_one_has = f"(({theirs} except all {ours}) union all ({ours} except all {theirs}))"
            count = database.sql(f"select count(*) from {only_one_has}").fetchone()[0]
            if count:
                yield f"{name} ({count} rows)"


def run(side, project, what, entries):
    command, state = commands(side, project, what)
    environment = os.environ | {
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false", "DO_NOT_TRACK": "1", "SQLMESH__DISABLE_ANONYMIZED_ANALYTICS": "1",
    }
    start = time.perf_counter()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        sys.exit(f"{side} failed:\n{done.stdout}\n{done.stderr}")
    if state is not None:
        shutil.rmtree(state, ignore_errors=True)
        shutil.copytree(project / "target", state)
    models = {path.stem for path in (project / "models").glob("*.sql")}
    if models != entries.keys():
        sys.exit(f"{side} has the views {sorted(models)}, and ours are {sorted(entries)}")
    if differing := list(different(side, project, entries)):
        sys.exit(f"{side} ({what}) has other rows in {', '.join(differing)}")
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", "dbt", flights, project]:
            make_dbt(pathlib.Path(flights), pathlib.Path(project))
        case ["make", "sqlmesh", flights, project]:
            make_sqlmesh(pathlib.Path(flights), pathlib.Path(project))
        case ["run", side, project, what, entries]:
            run(side, pathlib.Path(project), what, json.loads(entries))
        case _:
            sys.exit(__doc__)

"""Reads what a run writes as others do: Delta tables with `deltalake`, Polars and DuckDB, documents with `jsonschema`.

    read.py BINARY PROJECT

PROJECT is a copy of examples/flights that nobody has run. What is compared: the tables with what `alluvium sql`
says is in them; the commits' metadata, the rows of the ledgers, every document that a command prints and the
pipeline file with the schemas that the same binary exports. Prints each check; exits 1 if one fails, after all have
run.
"""

import datetime
import decimal
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import duckdb
import jsonschema
import polars
import pyarrow as pa
from checks import Checks, shorten
from deltalake import DeltaTable

# What every commit says of itself, beyond what its schema requires.
COMMIT_KEYS = {"cache_operation", "cache_policy", "cache_scope", "cache_result", "name", "run_id"}
CONTENT_KEYS = COMMIT_KEYS | {
    "cache_key",
    "delta_inputs",
    "fencing_token",
    "layout_hash",
    "plan_hash",
    "row_count",
    "schema_hash",
}
# The contract of a row of each ledger, by the ledger's name in SQL.
LEDGER_CONTRACTS = {
    "cache_artifacts": "cache_artifact",
    "cache_inventory": "cache_inventory_entry",
    "cache_runs": "cache_run_summary",
    "cache_snapshots": "cache_snapshot_entry",
    "run_manifests": "run_manifest",
}


class Alluvium:
    """The binary, and the contracts it exports."""

    def __init__(self, binary, project, scratch):
        self.binary, self.project = binary, project
        contracts = scratch / "contracts"
        subprocess.run([binary, "contracts", "export", contracts], check=True, stdout=subprocess.DEVNULL)
        self.validators = {}
        for path in sorted(contracts.glob("*.schema.json")):
            schema = json.loads(path.read_text())
            jsonschema.Draft202012Validator.check_schema(schema)
            # First versions by their kind, later ones as `KIND.vN`.
            name = path.name.removesuffix(".schema.json").removesuffix(".v1")
            self.validators[name] = jsonschema.Draft202012Validator(schema)
        # The index says where each contract is written: `| [KIND](…) | … | where |`.
        rows = [line for line in (contracts / "README.md").read_text().splitlines() if line.startswith("| [")]
        self.printed = set()
        self.documents = {row[3 : row.index("]")] for row in rows if "--format json`" in row}

    def document(self, command):
        return self.json(command, self.project, "--format", "json")

    def sql(self, query):
        return self.json("sql", self.project, query, "--format", "json")

    def json(self, *args, code=0):
        done = subprocess.run([self.binary, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != code:
            sys.exit(f"alluvium {' '.join(map(str, args))} failed ({done.returncode}):\n{done.stderr}")
        return json.loads(done.stdout)

    def text(self, *args):
        return subprocess.run([self.binary, *args], check=True, stdout=subprocess.PIPE, text=True).stdout

    def accepts(self, contract, document, file):
        """Whether `contracts validate` takes the document: its exit code is 0 or 2, never another."""
        file.write_text(json.dumps(document))
        command = [self.binary, "contracts", "validate", file, "--kind", contract]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode not in (0, 2):
            sys.exit(f"contracts validate ended with {done.returncode}:\n{done.stderr}")
        return done.returncode == 0

    def problems(self, contract, instance):
        """Where `instance` breaks the schema of `contract`."""
        if contract not in self.validators:
            return [f"no contract `{contract}` is exported"]
        return [
            f"at {error.json_path}: {shorten(error.message)}"
            for error in self.validators[contract].iter_errors(instance)
        ]


def as_json(value):
    """A value of a table in the form that JSON has for it."""
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    return value


def ordered(rows):
    """Rows have no order; comparing them needs one."""
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def read(path):
    """The table at `path`: column names, rows and commits, oldest first."""
    table = DeltaTable(path)
    columns = [field.name for field in table.schema().fields]
    content = pa.table(table.to_pyarrow_table())
    rows = [{name: as_json(value) for name, value in row.items()} for row in content.to_pylist(maps_as_pydicts="strict")]
    return columns, rows, table.history()[::-1]


def plain(value, kind):
    """A value in one form, whoever read it: `kind` is its type in Arrow."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        entries = value.items() if isinstance(value, dict) else [(entry["key"], entry["value"]) for entry in value]
        return {key: plain(item, kind.item_type) for key, item in entries}
    if pa.types.is_struct(kind):
        return {field.name: plain(value[field.name], field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [plain(item, kind.value_type) for item in value]
    return as_json(value)


def by_polars(table, path):
    return polars.read_delta(str(path)).to_dicts()


def by_duckdb(table, path):
    """Over the files that `deltalake` lists; what partitions a table is in their paths and not in them."""
    if not (files := table.file_uris()):
        return []
    with duckdb.connect() as database:
        parts = "hive_partitioning = true, hive_types_autocast = false" if table.metadata().partition_columns else "hive_partitioning = false"
        answer = database.execute(f"select * from read_parquet($files, {parts})", {"files": files})
        names = [column[0] for column in answer.description]
        return [dict(zip(names, row)) for row in answer.fetchall()]


def check_others(checks, path, name):
    """Whoever reads the Delta table at `path` has the same rows."""
    table = DeltaTable(path)
    content = pa.table(table.to_pyarrow_table())
    kinds = {field.name: field.type for field in content.schema}

    def rows(read_rows):
        return ordered([{column: plain(row[column], kind) for column, kind in kinds.items()} for row in read_rows])

    expected = rows(content.to_pylist(maps_as_pydicts="strict"))
    for reader, other in (("Polars", by_polars), ("DuckDB", by_duckdb)):
        checks.note(f"{name}: every row and value, by {reader}", differing(rows(other(table, path)), expected))


def check_table(checks, alluvium, path, name):
    """The Delta table at `path` against the table that SQL calls `name`."""
    said = alluvium.sql(f"select * from {name}")
    counted = alluvium.sql(f"select count(*) as n from {name}")[0]["n"]
    columns, rows, commits = read(path)
    checks.that(f"{name}: column names", columns, list(said[0]) if said else columns)
    checks.that(f"{name}: {counted} rows counted", len(rows), counted)
    checks.note(f"{name}: every row and value", differing(ordered(rows), ordered(said)))
    check_others(checks, path, name)
    return rows, commits


def differing(read_rows, said_rows):
    """Rows that only one side has, a few of them."""
    if read_rows == said_rows:
        return []
    read_texts, said_texts = ({json.dumps(row, sort_keys=True) for row in rows} for rows in (read_rows, said_rows))
    return [f"only the reader has {shorten(row)}" for row in sorted(read_texts - said_texts)[:1]] + [
        f"only alluvium has {shorten(row)}" for row in sorted(said_texts - read_texts)[:1]
    ] or ["rows are repeated a different number of times"]


def check_commits(checks, alluvium, what, commits, keys, expected):
    """The metadata of each commit: there, as the contract says, and about this table."""
    problems = []
    for commit in commits:
        at = f"version {commit['version']}"
        missing = sorted(keys - commit.keys())
        if missing:
            problems.append(f"{at} lacks {', '.join(missing)}")
        problems += [f"{at} {problem}" for problem in alluvium.problems("cache_commit_metadata", commit)]
        problems += [
            f"{at} has {key} = {commit.get(key)!r}, expected {value!r}"
            for key, value in expected.items()
            if commit.get(key) != value
        ]
    if not commits:
        problems.append("no commit")
    checks.note(f"{what}: metadata of {len(commits)} commit(s)", problems)


def check_document(checks, alluvium, what, contract, document):
    alluvium.printed.add(contract)
    problems = alluvium.problems(contract, document)
    if (document.get("kind"), document.get("version")) != (contract, 1):
        problems.append(f"its envelope says {document.get('kind')} {document.get('version')}")
    checks.note(what, problems)


def check_examples(checks, alluvium, scratch):
    """Every contract's example against its own schema, and both against what alluvium itself accepts."""
    # Behind an empty line: what readers may rely on.
    kinds = [line.split()[0] for line in alluvium.text("contracts", "ls").split("\n\n")[0].splitlines()]
    checks.that("a schema of each contract, valid as draft 2020-12", sorted(alluvium.validators), sorted(kinds))
    for kind in kinds:
        example = alluvium.json("contracts", "example", kind)
        checks.note(f"the example of {kind}", alluvium.problems(kind, example))
        # One mistake: each field of the payload in turn becomes a list of lists, or goes away.
        payload = example["payload"] if set(example) == {"kind", "version", "payload"} else example
        for field, value in list(payload.items()):
            for broken in ({**payload, field: [[True]]}, {key: payload[key] for key in payload if key != field}):
                document = {**example, "payload": broken} if payload is not example else broken
                said = alluvium.accepts(kind, document, scratch / "document.json")
                theirs = not alluvium.problems(kind, document)
                if said != theirs:
                    checks.that(f"{kind} with a mistake in {field}: {shorten(document)}", theirs, said)


def check_ledger_row(alluvium, contract, row):
    """Where a ledger's row breaks its contract, and a document in it the one that the row names."""
    # A ledger's row is the contract's payload, which stands in an envelope where the contract has one.
    schema = alluvium.validators.get(contract)
    enveloped = schema is not None and "payload" in schema.schema.get("properties", {})
    problems = alluvium.problems(contract, {"kind": contract, "version": 1, "payload": row} if enveloped else row)
    if "document" in row:
        problems += alluvium.problems(row["artifact_kind"], json.loads(row["document"]))
    return problems


def check_commands(checks, alluvium, project, pipeline, scratch):
    """What every other command prints of a project that has run, and of a key-value cache of its own."""

    def check(contract, *args, code=0):
        document = alluvium.json(*args, "--format", "json", code=code)
        shown = " ".join(str(arg).replace(str(project), "PROJECT").replace(str(scratch), "SCRATCH") for arg in args)
        check_document(checks, alluvium, f"alluvium {shown}", contract, document)
        return document["payload"]

    runs = check("run_list", "runs", "ls", project)["runs"]
    newest, oldest = runs[0]["run_id"], runs[-1]["run_id"]
    for run in (newest, oldest):
        check("run_record", "runs", "show", run, "-C", project)
        check("replay_document", "runs", "replay", run, "-C", project)
    check("run_difference", "runs", "diff", oldest, newest, "-C", project)

    check("cache_listing", "cache", "ls", "-C", project)
    check("cache_verification", "cache", "verify", "-C", project)
    for number, view in enumerate(pipeline["views"]):
        if pipeline["views"][view].get("cache", "delta_staging") == "delta_staging":
            check("cache_entry_document", "cache", "show", view, "-C", project)
            check("cache_export", "cache", "export", view, scratch / f"export-{number}", "-C", project)
    check("cache_removal", "cache", "evict", "--all", "--dry-run", "-C", project)
    check("cache_removal", "cache", "gc", "--max-bytes", "1", "--dry-run", "-C", project)
    check("cache_rebuild", "cache", "rebuild-index", "-C", project)

    check("doctor_document", "doctor", project)
    for view in pipeline["views"]:
        check("lineage_document", "lineage", project, view)
    query = scratch / "query.sql"
    query.write_text("select median(length(month)) as m from route_delays")
    check("transpile_document", "transpile", query, "--to", "generic", "-C", project)
    check("transpile_document", "transpile", query, "--to", "postgresql", "-C", project, code=2)
    for output in pipeline["outputs"].values():
        table = project / output["path"]
        check("table_document", "table", "show", table)
        check("table_history", "table", "history", table)
        check("table_verification", "table", "verify", table)
        check("table_maintenance", "table", "maintain", table)
        check("table_maintenance", "table", "maintain", table, "--checkpoint", "--vacuum", "168")
        data = next(table.rglob("*.parquet"))
        whole = data.read_bytes()
        data.write_bytes(whole[:-1])
        check("table_verification", "table", "verify", table, code=1)
        data.write_bytes(whole)

    cache = scratch / "cache"
    for name, more in [("a", []), ("b", ["--tag", "t"]), ("c", ["--ttl", "0.001"]), ("d", []), ("e", [])]:
        alluvium.text("kv", cache, "set", name, "value", *more)
    check("kv_stats", "kv", cache, "stats")
    check("kv_keys", "kv", cache, "ls")
    check("kv_check", "kv", cache, "check")
    for removal in (["delete", "a"], ["evict", "t"], ["expire"], ["cull"], ["clear"]):
        check("kv_removal", "kv", cache, *removal)
    check("kv_keys", "kv", cache, "ls")


def check_failures(checks, alluvium, project):
    """What is printed of a project whose view cannot be computed."""
    broken = project / "broken"
    broken.mkdir()
    (broken / "numbers.csv").write_text("n\n0\n")
    (broken / "alluvium.toml").write_text(
        '[sources.numbers]\nformat = "csv"\npath = "numbers.csv"\n'
        '[views.fails]\nsql = "select 1 / n as x from numbers"\n'
        '[views.skipped]\nsql = "select x from fails"\n'
        '[outputs.none]\nview = "skipped"\npath = "out"\n'
    )
    run = alluvium.json("run", broken, "--format", "json", code=1)
    check_document(checks, alluvium, "run that fails", "run_document", run)
    checks.that("… which says so", run["payload"]["result"], "failed")


def main(binary, project):
    checks = Checks()
    # So that the ledger of snapshots is there too.
    os.environ["ALLUVIUM_PROFILE_METADATA_SNAPSHOTS"] = "on_run_end"
    with tempfile.TemporaryDirectory() as scratch:
        alluvium = Alluvium(binary, project, Path(scratch))
        pipeline = tomllib.loads((project / "alluvium.toml").read_text())
        checks.note("alluvium.toml is a pipeline_spec", alluvium.problems("pipeline_spec", pipeline))
        typo = {**pipeline, "view": {}}
        checks.that("… and with a typo in it is not", bool(alluvium.problems("pipeline_spec", typo)), True)
        check_examples(checks, alluvium, Path(scratch))

        check_document(checks, alluvium, "plan before any run", "plan_document", alluvium.document("plan"))
        run = alluvium.document("run")
        check_document(checks, alluvium, "run that writes", "run_document", run)
        check_document(checks, alluvium, "run that hits", "run_document", alluvium.document("run"))
        views = {view["name"]: view for view in run["payload"]["views"]}
        run_id = run["payload"]["run_id"]

        for name, output in pipeline["outputs"].items():
            rows, commits = check_table(checks, alluvium, project / output["path"], f"outputs.{name}")
            view = views[output["view"]]
            expected = {
                "name": name,
                "run_id": run_id,
                "cache_scope": "output",
                "cache_operation": "write",
                "cache_key": view["cache_key"],
                "plan_hash": view["plan_fingerprint"],
                "row_count": len(rows),
            }
            check_commits(checks, alluvium, f"outputs.{name}", commits, CONTENT_KEYS, expected)
            partitions = output.get("write", {}).get("partition_by", [])
            metadata = DeltaTable(project / output["path"]).metadata()
            checks.that(f"outputs.{name}: partitioned by {partitions}", metadata.partition_columns, partitions)

        entries = sorted((project / ".alluvium/view_cache").glob("*/*/_delta_log"))
        found = []
        for log in entries:
            commits = DeltaTable(log.parent).history()
            view = views[commits[0]["name"]]
            found.append(view["name"])
            expected = {"cache_scope": "view", "cache_key": view["cache_key"], "row_count": view["rows"]}
            check_commits(checks, alluvium, f"entry of {view['name']}", commits, CONTENT_KEYS, expected)
            counted = DeltaTable(log.parent).to_pyarrow_dataset().count_rows()
            checks.that(f"entry of {view['name']}: {counted} rows counted", counted, view["rows"])
        checks.that("every staged view has an entry", sorted(found), sorted(staged(views)))

        ledgers = sorted((project / ".alluvium/cache_ledgers").glob("*/_delta_log"))
        names = []
        for log in ledgers:
            # The commits say what SQL calls the table; asking SQL first brings in events that wait in the outbox.
            name = DeltaTable(log.parent).history()[0]["name"]
            names.append(name)
            rows, commits = check_table(checks, alluvium, log.parent, f"alluvium.{name}")
            expected = {"name": name, "cache_scope": "ledger", "cache_operation": "write"}
            check_commits(checks, alluvium, f"alluvium.{name}", commits, COMMIT_KEYS, expected)
            contract = LEDGER_CONTRACTS.get(name, f"{name} (add it to LEDGER_CONTRACTS)")
            problems = [problem for row in rows for problem in check_ledger_row(alluvium, contract, row)]
            checks.note(f"alluvium.{name}: every row is a {contract}", problems)
        checks.that("the ledgers that there have to be", set(LEDGER_CONTRACTS) - set(names), set())

        check_commands(checks, alluvium, project, pipeline, Path(scratch))
        check_failures(checks, alluvium, project)

        # The last month goes, so that the plan has something to explain.
        sorted((project / "data").glob("*.parquet"))[-1].unlink()
        plan = alluvium.document("plan")
        check_document(checks, alluvium, "plan after an input changed", "plan_document", plan)
        explained = [view["name"] for view in plan["payload"]["views"] if view.get("explanation")]
        checks.that("… which explains it", bool(explained), True)
        # A command that is new has to be asked here too.
        checks.that("every document of the command line was printed", alluvium.printed, alluvium.documents)

    return checks.end("documents, ledgers and outputs")


def staged(views):
    return [name for name, view in views.items() if view["cache_policy"] == "delta_staging"]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], Path(sys.argv[2]).resolve()))

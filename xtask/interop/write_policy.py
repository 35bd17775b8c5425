"""Reads what each field of a write policy asked for, as others do: log and protocol with `deltalake`, footers with `pyarrow`.

    write_policy.py BINARY MODES SCHEMA SCRATCH

BINARY is `alluvium`; MODES holds the tables of crates/write-policy/examples/modes.rs; SCHEMA is that of the contract
`delta_write_policy`, whose every field has to be asked for; SCRATCH is an empty directory. Each case
is an output of one pipeline whose `[outputs.NAME.write]` sets one field: what it stands for is there, and is not in the
table without it. Prints each check; exits 1 if one fails, after all have run.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from checks import Checks
from deltalake import DeltaTable

ROWS = 3_000
PLAIN = "plain"

# By case: what `write` says, what there is to see then, and, unless it is `plain`, the case that has nothing of it.
CASES = {
    PLAIN: ({}, {"protocol": [1, 2, [], []], "files": 1, "policy stored": False, "semantic type of node": "NodeId"}),
    "target_file_size_bytes": ({"target_file_size_bytes": 20_000}, {"more than 2 files": True}),
    "partition_by": ({"partition_by": ["p"]}, {"partitions": ["p"], "values of p": ["even", "odd"]}),
    "zorder_by": ({"zorder_by": ["id"]}, {"ordered by id": True, "log stats": ["id"]}),
    "zorder_by_files": (
        {"zorder_by": ["id"], "target_file_size_bytes": 20_000},
        {"ordered by id": True, "files overlap": False},
        "target_file_size_bytes",
    ),
    "stats_off": ({"stats_policy": "off"}, {"log stats": [], "dataSkippingNumIndexedCols": "0"}),
    "stats_explicit": (
        {"stats_policy": "explicit", "stats_columns": ["k", "t"]},
        {"log stats": ["k", "t"], "dataSkippingStatsColumns": "k,t"},
    ),
    "stats_max_columns": ({"stats_max_columns": 2}, {"log stats": ["id", "k"], "dataSkippingNumIndexedCols": "2"}),
    "change_data_feed": (
        {"enable_features": ["change_data_feed"]},
        {"protocol": [1, 7, [], ["changeDataFeed"]], "enableChangeDataFeed": "true"},
    ),
    "more_features": (
        {"enable_features": ["deletion_vectors", "v2_checkpoints"]},
        {"enableDeletionVectors": "true", "checkpointPolicy": "v2"},
    ),
    "constraints": (
        {"constraints": {"positive": "id >= 0"}},
        {"constraints.positive": "id >= 0", "protocol": [1, 7, [], ["checkConstraints"]]},
    ),
    "compression": (
        {"writer_properties": {"compression": "zstd"}},
        {"codecs": dict.fromkeys(["id", "k", "node", "p", "t"], "ZSTD")},
    ),
    "compression_of_one": (
        {"writer_properties": {"columns": {"k": {"compression": "uncompressed"}}}},
        {"codecs": {**dict.fromkeys(["id", "node", "p", "t"], "SNAPPY"), "k": "UNCOMPRESSED"}},
    ),
    "dictionary_columns": ({"writer_properties": {"dictionary_columns": ["k"]}}, {"dictionaries": ["k"]}),
    "dictionary_page_size_bytes": (
        {"writer_properties": {"dictionary_page_size_bytes": 1_024}},
        {"largest dictionary is small": True},
    ),
    "bloom_filter_columns": ({"writer_properties": {"bloom_filter_columns": ["id"]}}, {"bloom filters": ["id"]}),
    "bloom_filter_of_one": (
        {"writer_properties": {"columns": {"k": {"bloom_filter": True}}}},
        {"bloom filters": ["k"]},
    ),
    "statistics_level": (
        {"writer_properties": {"statistics_level": "chunk"}},
        {"page stats": []},
    ),
    "no_statistics": (
        {"stats_policy": "off", "writer_properties": {"statistics_level": "none"}},
        {"footer stats": [], "page stats": [], "log stats": []},
    ),
    "row_group_max_rows": ({"writer_properties": {"row_group_max_rows": 1_000}}, {"row groups": [1_000] * 3}),
    "data_page_max_rows": ({"writer_properties": {"data_page_max_rows": 100}}, {"a page holds 100 rows": True}),
    "data_page_size_bytes": ({"writer_properties": {"data_page_size_bytes": 512}}, {"many pages of id": True}),
    "feature_gate": (
        {"feature_gate": "warn", "enable_features": ["change_data_feed", "iceberg_compat_v1"]},
        {"protocol": [1, 7, [], ["changeDataFeed"]], "enableChangeDataFeed": "true"},
    ),
    "semantic_types": (
        {"semantic_types": {"node": "NodeId"}},
        {"alluvium.semanticTypes": '{"node":"NodeId"}'},
    ),
    "maintenance": (
        {"maintenance": {"vacuum_retention_hours": 200, "checkpoint_interval_commits": 7}},
        {"policy stored": True},
    ),
}
# A larger filter for a smaller share of false positives, and for more distinct values.
BLOOM_SIZES = {
    "bloom_fpp": {"bloom_filter_fpp": 0.0001, "bloom_filter_ndv": 3_000},
    "bloom_usual": {"bloom_filter_ndv": 3_000},
    "bloom_ndv": {"bloom_filter_ndv": 30},
}

# By mode: the rows afterwards, and the changes of the second version. All began with a 1, b 2, c 3 and were given b 20, d 40.
MODES = {
    "append": (["a 1", "b 2", "b 20", "c 3", "d 40"], ["insert b 20", "insert d 40"]),
    "overwrite": (["b 20", "d 40"], ["delete a 1", "delete b 2", "delete c 3", "insert b 20", "insert d 40"]),
    "ignore": (["a 1", "b 2", "c 3"], []),
    "replace_where": (["a 1", "b 20", "d 40"], ["delete b 2", "delete c 3", "insert b 20", "insert d 40"]),
    "merge": (["a 1", "b 20", "c 3", "d 40"], ["insert d 40", "update_postimage b 20", "update_preimage b 2"]),
    "delete": (["a 1", "c 3"], ["delete b 2"]),
}

# By field: what it cannot say in this pipeline.
REFUSED = {
    "semantic_types": {"semantic_types": {"id": "NodeId"}},
    "feature_gate": {"enable_features": ["iceberg_compat_v1"], "feature_gate": "error"},
    "column_mapping": {"column_mapping": "name"},
}

# By schema mode: the columns and rows afterwards, where the second write has a column `total` and no `count`.
SCHEMA_MODES = {
    "merge": (["name", "count", "total"], ["a 1 None", "b 2 None", "b None 20", "c 3 None", "d None 40"]),
    "overwrite": (["name", "total"], ["b 20", "d 40"]),
    "strict": (["name", "count"], ["a 1", "b 2", "c 3"]),
}
# Fields that no output of a pipeline can set, and what of the above shows them instead.
ELSEWHERE = {
    "mode": MODES,
    "keys": MODES["merge"],
    "replace_where": MODES["replace_where"],
    "schema_mode": SCHEMA_MODES,
    "column_mapping": REFUSED["column_mapping"],
}


def toml(value):
    """A value in TOML: JSON has the same scalars and lists."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def make_project(project, writes):
    numbers = range(ROWS)
    columns = {
        # Every number once, in no order.
        "id": pa.array([n * 1_103 % ROWS for n in numbers], pa.int64()),
        "k": pa.array([n % 10 for n in numbers], pa.int64()),
        "p": pa.array(["even" if n % 2 == 0 else "odd" for n in numbers]),
        "t": pa.array([hashlib.sha256(str(n).encode()).hexdigest() for n in numbers]),
    }
    pq.write_table(pa.table(columns), project / "rows.parquet")
    view = "select *, stable_id('NodeId', id) as node from given"
    lines = ['[sources.given]\nformat = "parquet"\npath = "rows.parquet"', f'[views.rows]\nsql = "{view}"']
    lines += [
        f'[outputs.{name}]\nview = "rows"\npath = "out/{name}"\nwrite = {toml(write)}' for name, write in writes.items()
    ]
    (project / "alluvium.toml").write_text("\n\n".join(lines) + "\n")


def varint(data, at):
    number = shift = 0
    while True:
        byte, at = data[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def thrift(data, at):
    """The struct at `at` in Thrift's compact form: integers and structs by their field, and where it ends."""
    fields, field = {}, 0
    while (head := data[at]) != 0:
        at += 1
        kind = head & 0x0F
        if head >> 4:
            field += head >> 4
        else:
            number, at = varint(data, at)
            field = (number >> 1) ^ -(number & 1)
        if kind in (1, 2):
            fields[field] = kind == 1
        elif kind in (3, 4, 5, 6):
            number, at = varint(data, at)
            fields[field] = (number >> 1) ^ -(number & 1)
        elif kind == 8:
            length, at = varint(data, at)
            at += length
        elif kind == 12:
            fields[field], at = thrift(data, at)
        else:
            raise ValueError(f"a page header with a field of type {kind}")
    return fields, at + 1


def pages(file, column):
    """The pages of a column chunk: (is a dictionary, values, bytes uncompressed). pyarrow does not tell them apart."""
    start = min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
    data = file.read_bytes()[start : start + column.total_compressed_size]
    at, found = 0, []
    while at < len(data):
        header, at = thrift(data, at)
        body = header.get(5) or header.get(8) or header[7]
        found.append((7 in header, body[1], header[2]))
        at += header[3]
    return found


def facts(path):
    """What other readers find in the table at `path`."""
    table = DeltaTable(path)
    protocol, configuration = table.protocol(), table.metadata().configuration
    adds = pa.table(table.get_add_actions(flatten=True))
    files = [path / name for name in adds["path"].to_pylist()]
    found = {key.removeprefix("delta."): value for key, value in configuration.items()}
    found["policy stored"] = "alluvium.writePolicy" in configuration
    found["protocol"] = [
        protocol.min_reader_version,
        protocol.min_writer_version,
        sorted(protocol.reader_features or []),
        sorted(protocol.writer_features or []),
    ]
    metadata = {field.name: field.metadata for field in table.schema().fields}
    found["semantic type of node"] = metadata["node"].get("ARROW:extension:name")
    found["partitions"] = table.metadata().partition_columns
    found["values of p"] = sorted(set(adds["partition.p"].to_pylist())) if "partition.p" in adds.column_names else None
    found["files"], found["more than 2 files"] = len(files), len(files) > 2
    found["log stats"] = sorted(
        name.removeprefix("min.")
        for name in adds.column_names
        if name.startswith("min.") and adds[name].null_count < len(files)
    )
    ids = [pq.read_table(file, columns=["id"])["id"].to_pylist() for file in files]
    found["rows"] = sum(map(len, ids))
    found["ordered by id"] = all(own == sorted(own) for own in ids)
    ranges = sorted((min(own), max(own)) for own in ids)
    found["files overlap"] = any(left[1] >= right[0] for left, right in zip(ranges, ranges[1:]))
    parquet = pq.ParquetFile(files[0])
    groups = [parquet.metadata.row_group(index) for index in range(parquet.metadata.num_row_groups)]
    columns = {column.path_in_schema: column for column in map(groups[0].column, range(groups[0].num_columns))}
    named = lambda is_so: sorted(name for name, column in columns.items() if is_so(column))
    found["row groups"] = [group.num_rows for group in groups]
    found["codecs"] = {name: column.compression for name, column in columns.items()}
    found["dictionaries"] = named(lambda column: column.dictionary_page_offset is not None)
    found["bloom filters"] = named(lambda column: column.bloom_filter_offset is not None)
    found["bloom filter bytes"] = sum(column.bloom_filter_length or 0 for column in columns.values())
    found["footer stats"] = named(lambda column: column.is_stats_set)
    found["page stats"] = named(lambda column: column.has_column_index)
    there = {name: pages(files[0], column) for name, column in columns.items()}
    rows = (count for own in there.values() for is_dictionary, count, _ in own if not is_dictionary)
    found["a page holds 100 rows"] = max(rows) <= 100
    found["many pages of id"] = len(there["id"]) > 3
    dictionaries = [size for own in there.values() for is_dictionary, _, size in own if is_dictionary]
    found["largest dictionary is small"] = max(dictionaries, default=0) <= 2_048
    return found


def check_fields(checks, binary, project):
    writes = {name: case[0] for name, case in CASES.items()}
    for name, properties in BLOOM_SIZES.items():
        writes[name] = {"writer_properties": {"bloom_filter_columns": ["id"], **properties}}
    make_project(project, writes)
    subprocess.run([binary, "run", project, "--quiet"], check=True)
    seen = {name: facts(project / "out" / name) for name in writes}
    for name, (_, expected, *without) in CASES.items():
        without = seen[without[0] if without else PLAIN]
        for fact, value in expected.items():
            checks.that(f"{name}: {fact}", seen[name].get(fact), value)
            if name != PLAIN and without.get(fact) == value:
                checks.note(f"{name}: {fact}", ["it is there without the field too"])
        checks.that(f"{name}: rows", seen[name]["rows"], ROWS)
    sizes = {name: seen[name]["bloom filter bytes"] for name in BLOOM_SIZES}
    checks.that("bloom_filter_fpp: a larger filter", sizes["bloom_fpp"] > sizes["bloom_usual"], True)
    checks.that("bloom_filter_ndv: a smaller filter", 0 < sizes["bloom_ndv"] < sizes["bloom_usual"], True)
    for name in writes:
        verify(checks, binary, project / "out" / name)


def check_refusals(checks, binary, scratch):
    """What cannot be had is refused by name, and no table is made."""
    for name, write in REFUSED.items():
        project = scratch / name
        project.mkdir()
        make_project(project, {name: write})
        done = subprocess.run([binary, "run", project, "--quiet"], capture_output=True, text=True)
        checks.that(f"{name}: what cannot be had fails", done.returncode != 0, True)
        checks.holds(f"{name}: and is named", name in done.stdout + done.stderr, done.stdout + done.stderr)
        checks.that(f"{name}: and no table is made", (project / "out" / name).exists(), False)


def check_that_all_fields_are(checks, schema):
    """A field that is new has to be asked for here too."""
    definitions = json.loads(schema.read_text())["$defs"]
    cases = [write for write, *_ in CASES.values()] + [{"writer_properties": dict(BLOOM_SIZES["bloom_fpp"])}]
    asked = {field for write in cases for field in write} | set(ELSEWHERE)
    checks.that("every field of the policy is asked for", asked, set(definitions["DeltaWritePolicy"]["properties"]))
    asked = {field for write in cases for field in write.get("writer_properties", {})}
    checks.that("every writer property is", asked, set(definitions["WriterPropertiesPolicy"]["properties"]))


def verify(checks, binary, table):
    done = subprocess.run([binary, "table", "verify", table], stdout=subprocess.PIPE, text=True)
    checks.note(f"{table.name}: verifies", [] if done.returncode == 0 else done.stdout.splitlines())


def check_modes(checks, binary, modes):
    text = lambda row: f"{row['name']} {row['count']}"
    for mode, (rows, changes) in MODES.items():
        table = DeltaTable(modes / mode)
        checks.that(f"{mode}: rows", sorted(map(text, table.to_pyarrow_table().to_pylist())), rows)
        checks.that(f"{mode}: version", table.version(), 1 if changes else 0)
        if changes:
            feed = pa.table(table.load_cdf(starting_version=1, ending_version=1).read_all()).to_pylist()
            feed = sorted(f"{change['_change_type']} {text(change)}" for change in feed)
            checks.that(f"{mode}: change data feed", feed, changes)
        # Another engine goes on with the table, and this one finds it sound.
        more = pa.table({"name": ["z"], "count": pa.array([26], pa.int64())})
        merge = table.merge(more, "t.name = s.name", source_alias="s", target_alias="t")
        merge.when_matched_update_all().when_not_matched_insert_all().execute()
        after = sorted(map(text, DeltaTable(modes / mode).to_pyarrow_table().to_pylist()))
        checks.that(f"{mode}: another engine merges a row", after, sorted([*rows, "z 26"]))
        verify(checks, binary, modes / mode)


def check_schema_modes(checks, binary, modes):
    for mode, (columns, rows) in SCHEMA_MODES.items():
        table = DeltaTable(modes / f"schema_{mode}")
        checks.that(f"schema_mode {mode}: columns", [field.name for field in table.schema().fields], columns)
        found = (" ".join(map(str, row.values())) for row in table.to_pyarrow_table().to_pylist())
        checks.that(f"schema_mode {mode}: rows", sorted(found), rows)
        verify(checks, binary, modes / f"schema_{mode}")


def main(binary, modes, schema, scratch):
    checks = Checks()
    check_that_all_fields_are(checks, schema)
    check_fields(checks, binary, scratch)
    check_refusals(checks, binary, scratch)
    check_modes(checks, binary, modes)
    check_schema_modes(checks, binary, modes)
    return checks.end("written tables")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], *(Path(path).resolve() for path in sys.argv[2:])))

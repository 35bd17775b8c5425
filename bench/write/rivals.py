"""One write by another library, timed: `rivals.py SIDE SRC OUT` prints one JSON line.

The rows are those of the Parquet files SRC, with zone-less timestamps as UTC, as the other sides have them. Reading is part
of the time, as it is of theirs.
"""

import json
import pathlib
import sys
import time


def parquet_files(source: pathlib.Path) -> list[str]:
    return [str(source)] if source.is_file() else sorted(str(file) for file in source.glob("*.parquet"))


def write_deltalake(files: list[str], out: str) -> None:
    import pyarrow as pa
    import pyarrow.dataset as ds
    from deltalake import write_deltalake

    dataset = ds.dataset(files)
    utc = pa.schema(
        [
            field.with_type(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(field.type) else field
            for field in dataset.schema
        ]
    )
    batches = (pa.RecordBatch.from_arrays([c.cast(f.type) for c, f in zip(b.columns, utc)], schema=utc)
               for b in dataset.to_batches())
    write_deltalake(out, pa.RecordBatchReader.from_batches(utc, batches))


def write_polars(files: list[str], out: str) -> None:
    import polars as pl

    frame = pl.scan_parquet(files)
    zoneless = [name for name, kind in frame.collect_schema().items() if isinstance(kind, pl.Datetime)]
    frame = frame.with_columns(pl.col(zoneless).dt.cast_time_unit("us").dt.replace_time_zone("UTC"))
    frame.collect().write_delta(out)


def write_duckdb(files: list[str], out: str) -> None:
    import duckdb

    names = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    target = out.replace("'", "''")
    duckdb.sql(
        f"copy (select * from read_parquet([{names}])) to '{target}' (format parquet, compression snappy, per_thread_output)"
    )


SIDES = {"deltalake": write_deltalake, "polars": write_polars, "duckdb": write_duckdb}


def main() -> None:
    side, source, out = sys.argv[1:]
    files = parquet_files(pathlib.Path(source))
    write = SIDES[side]
    # Imports are no part of a write.
    __import__(side)
    start = time.perf_counter()
    write(files, out)
    print(json.dumps({"seconds": time.perf_counter() - start}))


main()

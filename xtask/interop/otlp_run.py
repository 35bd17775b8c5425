"""Receives what `alluvium run` sends by OTLP, in another language's decoder, and compares it with the run's ledgers.

    otlp_run.py ALLUVIUM PROJECT

ALLUVIUM is a binary with the features otlp-http and otlp-grpc, PROJECT a pipeline folder that may be written to. Once a
protocol, the project is run twice, writing and hitting, against a collector that takes everything; then against
collectors that are stopped, hang and refuse; and three times at once. Prints each check; exits 1 if one fails, after all have run.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from checks import Checks
from otlp import (
    GrpcCollector,
    HttpCollector,
    HungCollector,
    PROMISE_MS,
    Received,
    SLACK_MS,
    StoppedCollector,
    attributes,
)

# Runs of each kind whose times are compared: at least so many, and on a busy machine more, until the fastest are as fast as they can be.
ROUNDS, MOST_ROUNDS = 5, 40


class Project:
    """A pipeline folder, the binary, and a cache root that can be thrown away."""

    def __init__(self, alluvium, directory):
        self.alluvium, self.directory = alluvium, directory

    def forget(self):
        """Nothing is cached and nothing is published."""
        for name in (".alluvium", "out"):
            shutil.rmtree(self.directory / name, ignore_errors=True)

    def run(self, endpoint=None, protocol="http/protobuf", flush_ms=None):
        """Runs the pipeline; returns its document and the seconds that it took."""
        done, took = self.process(endpoint, protocol, flush_ms)
        return json.loads(done.stdout)["payload"], took

    def process(self, endpoint, protocol, flush_ms):
        """A process that runs the pipeline, and the seconds that it took."""
        environment = {n: v for n, v in os.environ.items() if not n.startswith(("OTEL_", "TRACE", "ALLUVIUM_"))}
        environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
        # A proxy between a process and its own machine would be what is tested.
        environment["NO_PROXY"] = "127.0.0.1"
        if flush_ms is not None:
            environment["ALLUVIUM_OTLP_FLUSH_MS"] = str(flush_ms)
        command = [self.alluvium, "run", str(self.directory), "--format", "json"]
        command += [] if endpoint is None else ["--otlp", endpoint]
        started = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done, time.perf_counter() - started

    def sql(self, query):
        command = [self.alluvium, "sql", str(self.directory), query, "--format", "json"]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def commits(self):
        """The commit information of every output's last version."""
        for log in sorted(self.directory.glob("out/*/_delta_log")):
            last = max(log.glob("*.json"))
            for line in last.read_text().splitlines():
                if "commitInfo" in (action := json.loads(line)):
                    yield action["commitInfo"]


def everything_arrives(checks, project, protocol, collector_of):
    """A collector that works gets all of a run, and it matches the ledgers."""
    project.forget()
    for expected in ("write", "hit"):
        received = Received()
        collector = collector_of(received)
        document, _ = project.run(collector.endpoint, protocol, flush_ms=20_000)
        collector.stop()
        about = f"{protocol}: {expected}: "
        run_id = document["run_id"]
        checks.that(about + "results", {view["result"] for view in document["views"]}, {expected})

        spans = [(span.name, attributes(span.attributes), span) for span in received.spans()]
        points = counted(received)
        checks.that(about + "counted operations are the spans", points, operations_of_spans(received))

        rows = project.sql(f"select * from alluvium.cache_inventory where run_id = '{run_id}'")
        operation = ("write", "ok") if expected == "write" else ("read", "hit")
        for scope in ("view", "output"):
            in_ledger = sum(row["cache_scope"] == scope and row["result"] == expected for row in rows)
            checks.that(f"{about}{scope}s by metric and ledger", points[(scope, *operation)], in_ledger)
        [summary] = project.sql(f"select * from alluvium.cache_runs where run_id = '{run_id}'")
        checks.that(about + "views by metric and summary", points[("view", *operation)], summary[f"{expected}_count"])
        written = sum(row["size_bytes"] for row in rows if row["result"] == "write")
        io = [(attributes(point.attributes), point.as_int) for point in received.points("alluvium.cache.io")]
        in_rows = sum(size for pairs, size in io if pairs["cache.scope"] != "ledger")
        checks.that(about + "bytes", in_rows, written)
        views = {pairs["view_name"]: pairs["result"] for name, pairs, _ in spans if name == "view"}
        in_ledger = {row["view_name"]: row["result"] for row in rows if row["cache_scope"] == "view"}
        checks.that(about + "a span a view", views, in_ledger)

        [root] = [span for name, _, span in spans if name == "run"]
        checks.that(about + "the trace id is the run id", {s.trace_id.hex() for _, _, s in spans}, {run_id.replace("-", "")})
        checks.that(about + "run_id on every span", {pairs.get("run_id") for _, pairs, _ in spans}, {run_id})
        parents = {span.span_id for _, _, span in spans} | {b""}
        checks.holds(about + "every parent arrived", all(span.parent_span_id in parents for _, _, span in spans))
        if expected == "write":
            traceparent = f"00-{root.trace_id.hex()}-{root.span_id.hex()}-01"
            committed = {(commit["run_id"], commit["traceparent"]) for commit in project.commits()}
            checks.that(about + "commits of outputs", committed, {(run_id, traceparent)})

        records = received.records()
        names = {record.event_name for record in records}
        told = {"cache_root_report", "scan_configuration", "adapter_choice", "prepared_statement_use", "kv_stats", "cache_run_summary"}
        checks.holds(about + "diagnostics", told <= names, f"arrived {names}")
        checks.that(about + "logs belong to the trace", {r.trace_id.hex() for r in records}, {root.trace_id.hex()})
        checks.that(about + "resource", {r.get("service.name") for r in received.resources()}, {"alluvium"})


def counted(received):
    """The operations that the metrics count, by scope, operation and result."""
    points = Counter()
    for point in received.points("alluvium.cache.operations"):
        pairs = attributes(point.attributes)
        points[(pairs["cache.scope"], pairs["cache.operation"], pairs["cache.result"])] += point.as_int
    return points


def operations_of_spans(received):
    """The same of the spans; one that does not say how it ended has no result."""
    spans = [attributes(span.attributes) for span in received.spans() if span.name.startswith("cache.")]
    return Counter((pairs["cache.scope"], pairs["cache.operation"], pairs.get("cache.result")) for pairs in spans)


def races_agree(checks, project):
    """Processes that compute the same at once write it once, and each one's spans are what it counts."""
    project.forget()
    received = [Received() for _ in range(3)]
    collectors = [HttpCollector(of_one) for of_one in received]
    with ThreadPoolExecutor(len(collectors)) as threads:
        runs = [threads.submit(project.run, collector.endpoint, flush_ms=20_000) for collector in collectors]
        documents = [run.result()[0] for run in runs]
    for collector in collectors:
        collector.stop()
    for number, of_one in enumerate(received, 1):
        checks.that(f"race: {number}: counted operations are the spans", counted(of_one), operations_of_spans(of_one))
    writes = sum(counted(of_one)[("view", "write", "ok")] for of_one in received)
    checks.that("race: each view is written once", writes, len(documents[0]["views"]))


def rejections_are_told(checks, project, protocol, collector_of):
    """What a collector rejects of the batches that it takes is told at the end, and so is why."""
    collector = collector_of(Received())
    done, _ = project.process(collector.endpoint, protocol, flush_ms=20_000)
    collector.stop()
    warnings = [line for line in done.stderr.splitlines() if "did not take all signals" in line]
    told = len(warnings) == 1 and "the collector rejected 3 of a batch: quota" in warnings[0]
    checks.holds(f"{protocol}: what is rejected is told", told, done.stderr)


def faults_cost_little(checks, project, protocol, faults):
    """A collector that does not work costs a run next to nothing, and no row of the ledgers."""
    project.run()
    for name, collector_of in faults.items():
        collector = collector_of()
        plain, told = [], []
        while True:
            # In turn, so that whatever else the machine does slows down both.
            plain.append(project.run()[1])
            told.append(project.run(collector.endpoint, protocol))
            # The fastest of each: what a busy machine adds is never less than nothing.
            cost_ms = 1_000 * (min(took for _, took in told) - min(plain))
            if len(plain) >= (ROUNDS if cost_ms <= PROMISE_MS + SLACK_MS else MOST_ROUNDS):
                break
        collector.stop()
        documents = [document for document, _ in told]
        about = f"{protocol}: {name}: "
        checks.holds(f"{about}it cost {cost_ms:.0f} ms", cost_ms <= PROMISE_MS + SLACK_MS, f"more than {PROMISE_MS} ms")
        counted = {ledger: Counter() for ledger in ("cache_inventory", "cache_runs")}
        for ledger, rows in counted.items():
            for row in project.sql(f"select run_id, count(*) as n from alluvium.{ledger} group by run_id"):
                rows[row["run_id"]] = row["n"]
        in_ledgers = [tuple(rows[document["run_id"]] for rows in counted.values()) for document in documents]
        expected = [(len(document["views"]) + len(document["outputs"]), 1) for document in documents]
        checks.that(about + "rows of the ledgers", in_ledgers, expected)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    project = Project(sys.argv[1], pathlib.Path(sys.argv[2]))
    checks = Checks()
    everything_arrives(checks, project, "http/protobuf", HttpCollector)
    everything_arrives(checks, project, "grpc", GrpcCollector)
    races_agree(checks, project)
    rejections_are_told(checks, project, "http/protobuf", lambda received: HttpCollector(received, rejects=3))
    rejections_are_told(checks, project, "grpc", lambda received: GrpcCollector(received, rejects=3))
    common = {"stopped": StoppedCollector, "hung": HungCollector}
    faults_cost_little(
        checks, project, "http/protobuf", common | {"503": lambda: HttpCollector(Received(), status=503)}
    )
    faults_cost_little(
        checks, project, "grpc", common | {"unavailable": lambda: GrpcCollector(Received(), fault=True)}
    )
    sys.exit(checks.end("telemetry"))


if __name__ == "__main__":
    main()

"""Receives what a process sends by OTLP, in another language's decoder, and compares it with what the process says it did.

    otlp.py COMMAND...

COMMAND is run once a protocol and once a fault of the collector; `{endpoint}` in it becomes the collector's URL, and
OTEL_EXPORTER_OTLP_PROTOCOL says which protocol. It prints one JSON object as its last line: `run_id`, `traceparent`,
`outcomes` (a list of cache outcomes), `set_up_ms`, `shutdown_ms`, and `delivered`. The example `otlp` of alluvium-telemetry is such a
command. Prints each check; exits 1 if one fails, after all have run.
"""

import gzip
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from concurrent import futures

import grpc
from checks import Checks
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

REQUESTS = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
}
RESPONSES = {
    "traces": trace_service_pb2.ExportTraceServiceResponse,
    "metrics": metrics_service_pb2.ExportMetricsServiceResponse,
    "logs": logs_service_pb2.ExportLogsServiceResponse,
}
# What of a batch each service names that it rejected.
REJECTED = {"traces": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}
# What telemetry may take where nobody takes it: the promise, and what a busy machine adds to it.
PROMISE_MS, SLACK_MS = 100, 150


class Received:
    """Every request, by signal."""

    def __init__(self):
        self.lock = threading.Lock()
        self.requests = {signal: [] for signal in REQUESTS}

    def take(self, signal, request):
        with self.lock:
            self.requests[signal].append(request)

    def spans(self):
        return [
            span
            for request in self.requests["traces"]
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def points(self, name):
        """The points of a metric, of the last request that has it: they are cumulative."""
        found = []
        for request in self.requests["metrics"]:
            for resource in request.resource_metrics:
                for scope in resource.scope_metrics:
                    for metric in scope.metrics:
                        if metric.name == name:
                            found = list(getattr(metric, metric.WhichOneof("data")).data_points)
        return found

    def records(self):
        return [
            record
            for request in self.requests["logs"]
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def resources(self):
        lists = {"traces": "resource_spans", "metrics": "resource_metrics", "logs": "resource_logs"}
        return [
            attributes(part.resource.attributes)
            for signal, requests in self.requests.items()
            for request in requests
            for part in getattr(request, lists[signal])
        ]


def attributes(pairs):
    """Attributes as a dict of plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def response(signal, rejects):
    """The answer to a batch that was taken, but for `rejects` of what is in it."""
    answer = RESPONSES[signal]()
    if rejects:
        setattr(answer.partial_success, REJECTED[signal], rejects)
        answer.partial_success.error_message = "quota"
    return answer


class HttpCollector:
    """OTLP over HTTP; with a fault, it answers `status` instead of 200. Of each batch it rejects `rejects`."""

    def __init__(self, received, status=200, rejects=0):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                signal = self.path.removeprefix("/v1/")
                if status == 200:
                    received.take(signal, REQUESTS[signal].FromString(body))
                answer = response(signal, rejects).SerializeToString()
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class GrpcCollector:
    """OTLP over gRPC; with a fault, it answers UNAVAILABLE. Of each batch it rejects `rejects`."""

    def __init__(self, received, fault=False, rejects=0):
        def servicer(base, signal):
            def export(_, request, context):
                if fault:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "try later")
                received.take(signal, request)
                return response(signal, rejects)

            return type(f"{signal}_servicer", (base,), {"Export": export})()

        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(
            servicer(trace_service_pb2_grpc.TraceServiceServicer, "traces"), self.server
        )
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(
            servicer(metrics_service_pb2_grpc.MetricsServiceServicer, "metrics"), self.server
        )
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(
            servicer(logs_service_pb2_grpc.LogsServiceServicer, "logs"), self.server
        )
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"http://127.0.0.1:{port}"
        self.server.start()

    def stop(self):
        self.server.stop(None).wait()


class HungCollector:
    """Takes connections and never answers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.held = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                self.held.append(self.listener.accept())
            except OSError:
                return

    def stop(self):
        self.listener.close()


class StoppedCollector:
    """A port that nobody listens on."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def stop(self):
        pass


def run(command, protocol, endpoint, flush_ms, service=None):
    """What the command says it did, as `service` if it is given a name."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACE"))}
    environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
    if flush_ms is not None:
        environment["ALLUVIUM_OTLP_FLUSH_MS"] = str(flush_ms)
    if service is not None:
        environment["OTEL_SERVICE_NAME"] = service
        environment["OTEL_RESOURCE_ATTRIBUTES"] = "deployment.environment.name=test"
    # A proxy between a process and its own machine would be what is tested.
    environment["NO_PROXY"] = "127.0.0.1"
    done = subprocess.run(
        [part.replace("{endpoint}", endpoint) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def everything_arrives(checks, command, protocol, collector_of, service=None):
    """A collector that works gets all of a run, and it matches."""
    received = Received()
    collector = collector_of(received)
    said = run(command, protocol, collector.endpoint, flush_ms=20_000, service=service)
    collector.stop()
    about = f"{protocol}: "

    spans = received.spans()
    by_result = Counter(
        (attributes(span.attributes)["cache.operation"], attributes(span.attributes)["cache.result"])
        for span in spans
        if span.name.startswith("cache.")
    )
    outcomes = Counter((outcome["operation"], outcome["result"]) for outcome in said["outcomes"])
    checks.that(about + "cache spans", by_result, outcomes)
    points = Counter()
    for point in received.points("alluvium.cache.operations"):
        pairs = attributes(point.attributes)
        points[(pairs["cache.operation"], pairs["cache.result"])] += point.as_int
    checks.that(about + "counted operations", points, outcomes)
    checks.that(
        about + "bytes",
        sum(point.as_int for point in received.points("alluvium.cache.io")),
        sum(outcome["bytes"] or 0 for outcome in said["outcomes"]),
    )
    durations = received.points("alluvium.cache.operation.duration")
    checks.that(about + "durations", sum(point.count for point in durations), len(said["outcomes"]))
    checks.that(about + "buckets", {(point.explicit_bounds[0], point.explicit_bounds[-1]) for point in durations}, {(1e-4, 60.0)})

    _, trace_id, span_id, _ = said["traceparent"].split("-")
    roots = [span for span in spans if span.name == "run"]
    checks.that(about + "the run's span", [root.span_id.hex() for root in roots], [span_id])
    checks.that(about + "one trace", {span.trace_id.hex() for span in spans}, {trace_id})
    checks.that(about + "the trace id is the run id", trace_id, said["run_id"].replace("-", ""))
    checks.that(
        about + "run_id on every span", {attributes(span.attributes).get("run_id") for span in spans}, {said["run_id"]}
    )
    errors = [span for span in spans if "error.type" in attributes(span.attributes)]
    checks.holds(about + "errors have the status Error", errors and all(span.status.code == 2 for span in errors))
    parents = {span.span_id for span in spans} | {b""}
    checks.holds(about + "every parent arrived", all(span.parent_span_id in parents for span in spans))

    records = received.records()
    checks.holds(about + "a failed operation is logged", any(record.severity_text == "WARN" for record in records))
    checks.that(about + "logs belong to the trace", {record.trace_id.hex() for record in records}, {trace_id})
    checks.holds(about + "diagnostics are named after their contract", "kv_stats" in {r.event_name for r in records})
    services = {(resource.get("service.name"), len(resource.get("service.instance.id", ""))) for resource in received.resources()}
    checks.that(about + "resource", services, {(service or "alluvium", 36)})
    places = {resource.get("deployment.environment.name") for resource in received.resources()}
    checks.that(about + "attributes of the resource", places, {None if service is None else "test"})


def faults_cost_little(checks, command, protocol, faults):
    """A collector that does not work costs next to nothing."""
    for name, collector_of in faults.items():
        collector = collector_of()
        said = run(command, protocol, collector.endpoint, flush_ms=None)
        collector.stop()
        took = said["set_up_ms"] + said["shutdown_ms"]
        checks.holds(f"{protocol}: {name}: it cost {took:.0f} ms", took <= PROMISE_MS + SLACK_MS, f"more than {PROMISE_MS} ms")
        checks.that(f"{protocol}: {name}: nothing counts as delivered", said["delivered"], 0)


def main():
    command = sys.argv[1:]
    if not command:
        sys.exit(__doc__)
    checks = Checks()
    everything_arrives(checks, command, "http/protobuf", HttpCollector)
    everything_arrives(checks, command, "grpc", GrpcCollector, service="nightly")
    common = {"stopped": StoppedCollector, "hung": HungCollector}
    faults_cost_little(
        checks, command, "http/protobuf", common | {"503": lambda: HttpCollector(Received(), status=503)}
    )
    faults_cost_little(
        checks, command, "grpc", common | {"unavailable": lambda: GrpcCollector(Received(), fault=True)}
    )
    sys.exit(checks.end("telemetry without a run"))


if __name__ == "__main__":
    main()

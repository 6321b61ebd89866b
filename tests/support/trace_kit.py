"""A collector of spans for tests: an HTTP server that takes OTLP, and what it was sent as trees."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import attrs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from strata.tracing.opening import OpenTracing
from strata.tracing.queue import SpanQueue
from strata.tracing.recorder import open_tracing
from strata.tracing.requests import RequestTracing

WAIT_SECONDS = 60.0

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, PROXY = PARENT.split("-")[1:3]


@attrs.frozen
class Seen:
    """A span as it was exported; its service is empty in the process of the test."""

    service: str
    name: str
    trace: str
    id: str
    above: str
    links: tuple[str, ...] = ()
    attributes: dict[str, object] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Collector:
    """Takes OTLP over HTTP.

    Attributes:
        url: Its base URL.
        bodies: What was sent, as it came.
    """

    url: str = ""
    bodies: list[bytes] = attrs.field(factory=list)

    def seen(self) -> list[Seen]:
        """Return all spans so far."""
        return [span for body in tuple(self.bodies) for span in _decoded(body)]

    def wait_for(self, good: Callable[[list[Seen]], bool]) -> list[Seen]:
        """Return the spans once they are good."""
        until = time.monotonic() + WAIT_SECONDS
        while not good(found := self.seen()):
            assert time.monotonic() < until, [(one.service, one.name) for one in found]
            time.sleep(0.05)
        return found


@contextmanager
def collector() -> Iterator[Collector]:
    """Serve a collector."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                found.bodies.append(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def _decoded(body: bytes) -> Iterator[Seen]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Seen(
                    names["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    tuple(link.trace_id.hex() for link in span.links),
                    {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes},
                )


def orphans(spans: Sequence[Seen], known: Sequence[str] = (PROXY,)) -> list[Seen]:
    """Return the spans whose span above is neither among them nor known."""
    ids = {one.id for one in spans} | set(known)
    return [one for one in spans if one.above and one.above not in ids]


@attrs.define(eq=False)
class Traced:
    """Tracing of a test's process.

    Attributes:
        opened: For ``open_service``.
        queue: Its queue.
    """

    opened: OpenTracing
    queue: SpanQueue
    exporter: InMemorySpanExporter

    def seen(self) -> list[Seen]:
        """Return all spans that have ended so far."""
        until = time.monotonic() + WAIT_SECONDS
        while self.queue.waiting:
            assert time.monotonic() < until
            time.sleep(0.01)
        return [
            Seen(
                "",
                one.name,
                format(one.context.trace_id, "032x"),
                format(one.context.span_id, "016x"),
                "" if one.parent is None else format(one.parent.span_id, "016x"),
                tuple(format(link.context.trace_id, "032x") for link in one.links),
                dict(one.attributes),
            )
            for one in self.exporter.get_finished_spans()
        ]


@contextmanager
def traced(routes: Sequence = ()) -> Iterator[Traced]:
    """Trace in this process, into memory."""
    exporter = InMemorySpanExporter()
    tracing = open_tracing("strata", exporter, gather=0.0)
    try:
        yield Traced(OpenTracing(RequestTracing(tracing, routes), tracing.counts), tracing.queue, exporter)
    finally:
        tracing.queue.close(WAIT_SECONDS)

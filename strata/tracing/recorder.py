"""Make spans by OpenTelemetry's SDK, and export them by OTLP over HTTP."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from typing import Any, Final

import attrs
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from strata import __version__
from strata.tracing.queue import GATHER_SECONDS, TENANT, SpanQueue
from strata.tracing.spans import Kind, Span, Trace, TracingError, Value

STATE_CHARACTERS: Final = 512
"""Maximum characters of ``tracestate`` that are passed on; every receiver takes as many (W3C, 3.3.1.5)."""

_PARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)
"""A ``traceparent`` (W3C Trace Context, 3.2.2); of version 00 it has no more parts."""

_HEADER: Final = re.compile(r"[\w!#$%&'*+.^`|~-]+[ \t]*=[ !#-+\--:<-\[\]-~]*", re.ASCII)
"""A part of ``OTEL_EXPORTER_OTLP_HEADERS``; the exporter leaves out any other one."""

_KINDS: Final = {
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "internal": trace.SpanKind.INTERNAL,
}
_EMPTY: Final = Context()
_FORMAT: Final = TraceContextTextMapPropagator()


def parent_of(headers: Sequence[tuple[bytes, bytes]]) -> Context:
    """Return the caller's span, from ``traceparent`` and ``tracestate``; without a valid one, none.

    More than one ``traceparent`` is none: a proxy that adds its own would leave the client's beside it.

    Args:
        headers: The request's headers, with names in lower case.
    """
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return _EMPTY
    parent = parents[0].decode("latin-1")
    match = _PARENT.fullmatch(parent)
    if match is None or (match[1] == "00" and match[2] is not None):
        return _EMPTY
    carrier = {"traceparent": parent}
    state = ",".join(value.decode("latin-1") for name, value in headers if name == b"tracestate")
    if 0 < len(state) <= STATE_CHARACTERS:
        carrier["tracestate"] = state
    return _FORMAT.extract(carrier, _EMPTY)


def trace_id_of(parent: Context) -> int:
    """Return the trace id of a caller's span; 0 if there is none."""
    return trace.get_current_span(parent).get_span_context().trace_id


@attrs.define(eq=False)
class Tracing:
    """The spans of one process; see :class:`strata.tracing.spans.Recorder`.

    Attributes:
        queue: Exports them.
    """

    queue: SpanQueue
    _tracer: trace.Tracer

    def request(self, name: str, parent: Context) -> Span:
        """Start the span of a request, below its caller's."""
        return Span(
            Trace(self), self._tracer.start_span(name, parent, trace.SpanKind.SERVER, record_exception=False)
        )

    def start(self, name: str, kind: Kind, above: Any, link: Any) -> Any:
        """Start a span; below one that has a tenant it has that, too.

        One that refers to a span that is not recorded is not recorded either.
        """
        if link is not None and not link.get_span_context().trace_flags.sampled:
            return trace.NonRecordingSpan(link.get_span_context())
        links = () if link is None else (trace.Link(link.get_span_context()),)
        context = _EMPTY if above is None else trace.set_span_in_context(above, _EMPTY)
        made = self._tracer.start_span(name, context, _KINDS[kind], links=links, record_exception=False)
        tenant = (getattr(above, "attributes", None) or {}).get(TENANT)  # none of a span that is not recorded
        if tenant is not None:
            made.set_attribute(TENANT, tenant)
        return made

    def set(self, span: Any, key: str, value: Value) -> None:
        """Set an attribute."""
        span.set_attribute(key, value)

    def end(self, span: Any, *, failed: bool) -> None:
        """End a span."""
        if failed:
            span.set_status(trace.StatusCode.ERROR)
        span.end()

    def headers(self, span: Any) -> list[tuple[str, str]]:
        """Return ``traceparent`` and, where there is one, ``tracestate``."""
        carrier: dict[str, str] = {}
        _FORMAT.inject(carrier, trace.set_span_in_context(span, _EMPTY))
        return [*carrier.items()]

    def trace_id(self, span: Any) -> str:
        """Return the id of a span's trace, as 32 hexadecimal digits."""
        return format(span.get_span_context().trace_id, "032x")

    def counts(self) -> dict[str, int]:
        """Return the number of spans by what became of them."""
        return {"exported": self.queue.exported, "failed": self.queue.failed, "dropped": self.queue.dropped}


def open_tracing(
    service: str, exporter: SpanExporter | None = None, *, gather: float = GATHER_SECONDS
) -> Tracing:
    """Begin to export spans, as the standard ``OTEL_*`` variables say; blocking.

    Args:
        service: Name of the service where ``OTEL_SERVICE_NAME`` gives none.
        exporter: Sends the spans; by default to the collector of ``OTEL_EXPORTER_OTLP_ENDPOINT``.
        gather: Seconds that spans gather for an export.

    Raises:
        TracingError: If a variable asks for what there is not.
    """
    _check_variables()
    ours = {"service.name": service, "service.version": __version__}
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    try:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        # From now on its lines would quote the headers for a collector, and what that answers.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        queue = SpanQueue(exporter or OTLPSpanExporter(), gather=gather)
    except ValueError as error:
        raise TracingError(f"a variable OTEL_* has a wrong value: {error}") from None
    provider.add_span_processor(queue)
    return Tracing(queue, provider.get_tracer("strata", __version__))


def _check_variables() -> None:
    """Refuse what the variables may ask for, and is not here: spans would silently go nowhere."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if (os.environ.get(name) or "http/protobuf") != "http/protobuf":
            raise TracingError(f"{name} is {os.environ[name]!r}; spans are sent by http/protobuf only")
    if (os.environ.get("OTEL_TRACES_EXPORTER") or "otlp") != "otlp":
        raise TracingError(
            f"OTEL_TRACES_EXPORTER is {os.environ['OTEL_TRACES_EXPORTER']!r}; there is only otlp. "
            "Leave tracing_enabled out to export nothing"
        )
    for name in ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"):
        parts = (one.strip() for one in os.environ.get(name, "").split(","))
        if not all(not one or (_HEADER.fullmatch(one) and one.isprintable()) for one in parts):
            # The value, which may be a secret, is not shown.
            raise TracingError(f"{name} is no list such as name=value,other=value; percent-encode values")

"""Switch tracing on for a server or an executor, and export what is left at its end."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from strata.tracing.spans import KnownRoute, RequestTracer, TracingError

if TYPE_CHECKING:
    from strata.tracing.requests import RequestTracing

CLOSE_SECONDS: Final = 1.0
"""Seconds at the end of a process to export the spans that wait; what is left then is dropped."""

NOT_INSTALLED: Final = "it needs an extra; pip install 'strata[otel]'"


@attrs.frozen
class OpenTracing:
    """Tracing, switched on or off.

    Attributes:
        tracer: Begins the spans of requests; None: it is off.
        counts: Returns the number of spans by what became of them; empty: it is off.
    """

    tracer: RequestTracer | None = None
    counts: Callable[[], Mapping[str, int]] = dict


def is_installed() -> bool:
    """Return whether the extra ``otel`` is installed, without importing it."""
    try:
        names = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
        return all(importlib.util.find_spec(name) is not None for name in names)
    except ModuleNotFoundError:  # of the package that it would be in
        return False


@asynccontextmanager
async def opened_tracing(
    service: str, routes: Sequence[KnownRoute] = (), *, enabled: bool
) -> AsyncIterator[OpenTracing]:
    """Trace requests in the block; spans that wait at its end have :data:`CLOSE_SECONDS`.

    Args:
        service: Name of the service where ``OTEL_SERVICE_NAME`` gives none.
        routes: The routes that name spans.
        enabled: Whether to trace; if not, OpenTelemetry is not imported.

    Raises:
        TracingError: If the extra is missing, or a variable asks for what there is not.
    """
    if not enabled:
        yield OpenTracing()
        return
    if not is_installed():
        raise TracingError(NOT_INSTALLED)
    requests = await trio.to_thread.run_sync(partial(_open, service, routes))
    queue = requests.tracing.queue
    try:
        yield OpenTracing(requests, requests.tracing.counts)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(queue.close, CLOSE_SECONDS)


def _open(service: str, routes: Sequence[KnownRoute]) -> RequestTracing:
    # They import for a third of a second.
    from strata.tracing.recorder import open_tracing  # noqa: PLC0415
    from strata.tracing.requests import RequestTracing  # noqa: PLC0415

    return RequestTracing(open_tracing(service), routes)

"""Export spans from a thread of their own: neither the event loop nor a request ever waits for a collector.

The queue is bounded; a span that finds it full is dropped and counted, and so is one of a tenant that has its
share of what waits. A batch that the collector does not take counts as failed. Neither ends anything else.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

import structlog
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

QUEUED_SPANS: Final = 4096
"""Maximum spans that wait to be exported, at about 3 KB each; further ones are dropped and counted."""

TENANT: Final = "strata.tenant"
"""Attribute of a span: the tenant."""

BATCH_SPANS: Final = 128
"""Maximum spans of one export: encoding them holds the interpreter's lock for some milliseconds."""

GATHER_SECONDS: Final = 0.5
"""Seconds that spans gather for the next export."""

LINE_EVERY: Final = 100
"""Exports that fail one after the other for each line of the log, the first one included."""

log = structlog.get_logger(__name__)


class SpanQueue(SpanProcessor):
    """Takes ended spans, and exports them in a thread.

    Args:
        exporter: Sends them. It has a deadline of its own (``OTEL_EXPORTER_OTLP_TIMEOUT``).
        most: Maximum spans that wait.
        gather: Seconds that spans gather for an export.

    Attributes:
        exported: Spans that the collector has taken.
        failed: Spans that it has not taken.
        dropped: Spans that found the queue, or its tenant's share of it, full, or were left at the end.
    """

    def __init__(
        self, exporter: SpanExporter, *, most: int = QUEUED_SPANS, gather: float = GATHER_SECONDS
    ) -> None:
        self._exporter = exporter
        self._most = most
        self._gather = gather
        self._queue: deque[ReadableSpan] = deque()
        self._of_tenant: Counter[str] = Counter()  # spans of the queue
        self._lock = threading.Lock()  # of the two; held for no longer than a batch is taken
        self._ready = threading.Event()
        self._ending = threading.Event()
        self._failures = 0
        self._sending = 0
        self.exported = 0
        self.failed = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Spans that wait, or are being exported."""
        return len(self._queue) + self._sending

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, or drop it; does not wait for the collector.

        Once half the queue is in use, a tenant that has a quarter of it gets no further place: the other
        half is for those that have less.
        """
        tenant = _tenant_of(span)
        with self._lock:
            waiting = len(self._queue)
            own = 0 if tenant is None else self._of_tenant[tenant]
            greedy = 2 * waiting >= self._most <= 4 * own
            if waiting >= self._most or greedy or self._ending.is_set():
                self.dropped += 1
                return
            self._queue.append(span)
            if tenant is not None:
                self._of_tenant[tenant] += 1
        if not self._ready.is_set():
            self._ready.set()

    def close(self, seconds: float) -> bool:
        """Export what is queued and end the thread; returns whether that was done within ``seconds``.

        What is left then is dropped and counted. Blocking.
        """
        self._ending.set()
        self._ready.set()
        self._thread.join(max(0.0, seconds))
        done = not self._thread.is_alive()
        self._exporter.shutdown()  # interrupts the pause before another attempt
        with self._lock:
            self.dropped += len(self._queue)
            self._queue.clear()
            self._of_tenant.clear()
        return done

    def _run(self) -> None:
        while True:
            self._ready.wait()
            ending = self._ending.wait(self._gather)
            self._ready.clear()
            while self._queue:
                self._sending = BATCH_SPANS  # before they leave the queue
                self._export(self._taken())
                self._sending = 0
            if ending or self._ending.is_set():
                return

    def _taken(self) -> list[ReadableSpan]:
        with self._lock:
            found = [self._queue.popleft() for _ in range(min(BATCH_SPANS, len(self._queue)))]
            self._of_tenant.subtract(filter(None, map(_tenant_of, found)))
            self._of_tenant += Counter()  # what is zero goes
        return found

    def _export(self, batch: Sequence[ReadableSpan]) -> None:
        error = "refused"
        try:
            done = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception as raised:  # noqa: BLE001  # whatever a collector or a library does ends no span's request
            done, error = False, type(raised).__name__
        if done:
            self.exported += len(batch)
            self._failures = 0
            return
        self.failed += len(batch)
        if self._failures % LINE_EVERY == 0:
            log.warning("spans not exported", spans=self.failed, error=error)
        self._failures += 1


def _tenant_of(span: ReadableSpan) -> str | None:
    tenant = (span.attributes or {}).get(TENANT)
    return None if tenant is None else str(tenant)

"""Spans are exported from a thread, and a collector that hangs, refuses or raises ends nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from strata.tracing import recorder
from strata.tracing.queue import BATCH_SPANS, SpanQueue
from strata.tracing.recorder import open_tracing
from strata.tracing.spans import TracingError

MINUTE = 60.0


class Double(SpanExporter):
    """Does what a test says."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.begun = threading.Event()
        self.result: SpanExportResult | Exception = SpanExportResult.SUCCESS
        self.stopped = False

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        self.batches.append(len(spans))
        self.begun.set()
        assert self.may_end.wait(MINUTE)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def shutdown(self) -> None:
        self.stopped = True


def ended(tenant: str | None = None) -> ReadableSpan:
    return ReadableSpan("span", attributes=None if tenant is None else {"strata.tenant": tenant})


def test_all_that_wait_are_exported_at_the_end() -> None:
    """In batches of a bounded size."""
    double = Double()
    queue = SpanQueue(double, gather=MINUTE)
    for _ in range(BATCH_SPANS + 1):
        queue.on_end(ended())
    assert queue.close(MINUTE)
    assert [BATCH_SPANS, 1] == double.batches
    assert (BATCH_SPANS + 1, 0, 0) == (queue.exported, queue.failed, queue.dropped)
    assert double.stopped


def test_a_full_queue_drops_and_counts() -> None:
    """The one who ends a span never waits, while the collector hangs; nor does the end of the process."""
    double = Double()
    double.may_end.clear()
    queue = SpanQueue(double, most=2, gather=0)
    queue.on_end(ended())
    assert double.begun.wait(MINUTE)
    for _ in range(5):
        queue.on_end(ended())
    assert 3 == queue.dropped
    assert not queue.close(0)
    assert 5 == queue.dropped
    queue.on_end(ended())
    assert 6 == queue.dropped
    double.may_end.set()
    queue._thread.join(MINUTE)
    assert (1, 0) == (queue.exported, queue.failed)


def test_a_tenant_with_many_spans_leaves_room_for_the_others() -> None:
    """It gets no place once half are taken and it has a quarter; places come back when spans are exported."""
    double = Double()
    queue = SpanQueue(double, most=8, gather=MINUTE)
    for _ in range(6):
        queue.on_end(ended("loud"))
    assert (4, 2) == (queue.waiting, queue.dropped)
    for _ in range(3):
        queue.on_end(ended("quiet"))
    assert (6, 3) == (queue.waiting, queue.dropped)
    queue.on_end(ended())
    queue.on_end(ended("third"))
    assert (8, 3) == (queue.waiting, queue.dropped)
    queue.on_end(ended())
    assert (8, 4) == (queue.waiting, queue.dropped)
    assert queue.close(MINUTE)
    assert (8, 4) == (queue.exported, queue.dropped)


def test_a_tenants_places_come_back_when_its_spans_are_exported() -> None:
    """However many it has had."""
    double = Double()
    queue = SpanQueue(double, most=4, gather=0)
    for _ in range(8):
        double.begun.clear()
        queue.on_end(ended("loud"))
        assert double.begun.wait(MINUTE)
    assert queue.close(MINUTE)
    assert (8, 0) == (queue.exported, queue.dropped)


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, OSError("its message"), ZeroDivisionError()])
def test_a_collector_that_fails_is_told_of_once(result: SpanExportResult | Exception) -> None:
    """Spans count as failed; a line names the error's type, and the next ones are silent until it works again."""
    double = Double()
    double.result = result
    with structlog.testing.capture_logs() as lines:
        queue = SpanQueue(double, gather=0)
        for _ in range(3):
            double.begun.clear()
            queue.on_end(ended())
            assert double.begun.wait(MINUTE)
        assert queue.close(MINUTE)
    error = type(result).__name__ if isinstance(result, Exception) else "refused"
    assert [("spans not exported", 1, error)] == [(one["event"], one["spans"], one["error"]) for one in lines]
    assert (0, 3) == (queue.exported, queue.failed)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "console"),
    ],
)
def test_a_variable_that_asks_for_what_there_is_not_is_an_error(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """It names the variable: spans would go nowhere."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(TracingError, match=f"{variable} is '{value}'"):
        open_tracing("strata")


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"])
@pytest.mark.parametrize(
    "value", ["s3cret", "a=1,s3cret", "Bearer s3cret=x", "=s3cret", 'a="s3cret"', "a=\ns3cret"]
)
def test_headers_that_are_none_are_an_error_without_their_value(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, value: str
) -> None:
    """The exporter would leave them out, and print them."""
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)
    monkeypatch.setenv(variable, value)
    try:
        with pytest.raises(TracingError) as caught:
            open_tracing("strata")
    finally:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    assert str(caught.value).startswith(f"{variable} is no list")
    assert "s3cret" not in f"{caught.value}{caplog.text}"


def test_what_the_exporter_says_of_its_variables_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Should it take less than is accepted here; headers in their form are accepted."""
    logging.getLogger("opentelemetry").setLevel(logging.NOTSET)
    monkeypatch.setattr(recorder, "_check_variables", lambda: None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")
    open_tracing("strata").queue.close(MINUTE)
    assert "s3cret" not in caplog.text
    monkeypatch.undo()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", " a=1 , Authorization = Bearer%20x==,b=c d,,")
    assert open_tracing("strata").queue.close(MINUTE)

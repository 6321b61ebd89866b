"""Spans below the span of a request: where there is none, nothing happens."""

from __future__ import annotations

import pytest
import trio
from trace_kit import PARENT, traced

from strata.tracing import spans
from strata.tracing.spans import another_trace, child, continued, current, forget, trace_headers


def test_without_a_request_nothing_is_traced() -> None:
    """There is one span that does nothing, and no header."""
    with child("plan") as span:
        assert spans.NO_SPAN is span
        span.set("strata.files", 5)
        span.fail("Broken")
        span.end()
        assert current() is None
    assert spans.NO_SPAN is another_trace("frame")
    assert [] == trace_headers()


def test_spans_are_below_the_one_they_were_opened_in() -> None:
    """One trace, and each span below the block around it; headers name the innermost."""
    with traced() as found:
        with found.opened.tracer.begin([], "GET", "/x"):
            with child("one"), child("two"):
                [(name, parent)] = trace_headers()
            with child("three"):
                pass
        seen = {one.name: one for one in found.seen()}
    assert {"GET", "one", "two", "three"} == set(seen)
    assert 1 == len({one.trace for one in seen.values()})
    assert [seen["GET"].id, seen["one"].id, seen["GET"].id] == [
        seen[name].above for name in ("one", "two", "three")
    ]
    assert ("traceparent", f"00-{seen['two'].trace}-{seen['two'].id}") == (name, parent[:-3])


async def test_tasks_go_on_below_the_span_that_started_them() -> None:
    """Also after its end; a task that forgets it belongs to none, one that continues another to that."""

    async def work(name: str) -> None:
        with child(name):
            await trio.lowlevel.checkpoint()

    async def own() -> None:
        forget()
        assert current() is None

    async def other(span: spans.Span) -> None:
        with continued(span):
            await work("continued")
        with continued(None):
            await work("nowhere")

    with traced() as found:
        first, second = (found.opened.tracer.begin([], "GET", "/x") for _ in range(2))
        async with trio.open_nursery() as nursery:
            with second:
                pass
            with first:
                nursery.start_soon(work, "started")
                nursery.start_soon(own)
                nursery.start_soon(other, second)
        seen = {one.name: one for one in found.seen()}
    assert {"GET", "started", "continued"} == set(seen)
    assert seen["started"].trace != seen["continued"].trace
    assert f"{seen['started'].trace}" == first.trace_id


def test_a_request_has_a_bounded_number_of_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is below a span that was left out goes to the span above it, and the request has the number."""
    with traced() as found:
        with found.opened.tracer.begin([], "GET", "/x") as root:
            root.trace.room = 2
            with child("one"), child("two"), child("three"):
                [(_, parent)] = trace_headers()
            assert 1 == root.trace.left_out
        seen = {one.name: one for one in found.seen()}
    assert {"GET", "one", "two"} == set(seen)
    assert seen["two"].id in parent


def test_an_error_is_a_word_on_its_span() -> None:
    """The type of what was raised, and no message; the error goes on."""
    with traced() as found:
        with (
            pytest.raises(ValueError, match="secret"),
            found.opened.tracer.begin([], "GET", "/x"),
            child("plan"),
        ):
            raise ValueError("a secret")
        plan = next(one for one in found.seen() if one.name == "plan")
    assert {"error.type": "ValueError"} == plan.attributes


def test_attributes_are_those_of_the_list() -> None:
    """Another name is a mistake of the code, and long text is cut."""
    with traced() as found:
        with found.opened.tracer.begin([], "GET", "/x") as span:
            span.set("strata.transform", "x" * 1000)
            span.set("strata.files", None)
            with pytest.raises(ValueError, match=r"sql\.text"):
                span.set("sql.text", "SELECT 1")
        [seen] = found.seen()
    assert 128 == len(seen.attributes["strata.transform"])
    assert "strata.files" not in seen.attributes


def test_another_trace_refers_to_the_first() -> None:
    """It is a tree of its own, with a link."""
    with traced() as found:
        with found.opened.tracer.begin([], "CONNECT", "/x"), another_trace("frame"), child("ask"):
            pass
        seen = {one.name: one for one in found.seen()}
    assert "" == seen["frame"].above
    assert (seen["CONNECT"].trace,) == seen["frame"].links
    assert seen["ask"].trace == seen["frame"].trace != seen["CONNECT"].trace


def test_a_frame_of_a_handshake_that_is_not_recorded_is_not_either() -> None:
    """Its proxy has decided so for all that follows; an executor is told."""
    headers = [(b"traceparent", f"{PARENT[:-2]}00".encode())]
    with traced() as found:
        with (
            found.opened.tracer.begin(headers, "CONNECT", "/x"),
            another_trace("frame") as frame,
            child("ask"),
        ):
            frame.set("strata.tenant", "team-a")
            assert dict(trace_headers())["traceparent"].endswith("-00")
        assert [] == found.seen()


def test_each_span_of_a_request_has_its_tenant() -> None:
    """The queue shares its room among tenants."""
    with traced() as found:
        with found.opened.tracer.begin([], "GET", "/x", "r", "team-a"), child("one"), child("two"):
            pass
        assert {"GET", "one", "two"} == {one.name for one in found.seen()}
        assert {"team-a"} == {one.attributes["strata.tenant"] for one in found.seen()}

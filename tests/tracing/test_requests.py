"""The caller's span, as ``traceparent`` and ``tracestate`` name it (W3C Trace Context)."""

from __future__ import annotations

import re

import pytest
from trace_kit import PARENT, PROXY, TRACE, traced

from strata.tracing.spans import trace_headers

ZEROS = "0" * 32


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("",),
        ("hello",),
        (PARENT, PARENT),
        (PARENT.upper(),),
        (f"00-{ZEROS}-{PROXY}-01",),
        (f"00-{TRACE}-{ZEROS[:16]}-01",),
        (f"ff-{TRACE}-{PROXY}-01",),
        (f"00-{TRACE}-{PROXY}-01-more",),
        (f"00-{TRACE}-{PROXY}",),
        (f"00-{TRACE[:-1]}-{PROXY}-01",),
        (f"00-{TRACE}-{PROXY}-1",),
        (f"00-{TRACE}-{PROXY}-zz",),
        (f"{PARENT}\n",),
        (f" {PARENT}",),
        (f"{PARENT},{PARENT}",),
        (f"00-{TRACE}-{PROXY}-0\u0661",),
    ],
)
def test_what_is_no_traceparent_is_ignored(values: tuple[str, ...]) -> None:
    """The request has a trace of its own, and no tracestate of the other."""
    headers = [(b"traceparent", value.encode("utf-8")) for value in values]
    with traced() as found:
        with found.opened.tracer.begin([*headers, (b"tracestate", b"a=1")], "GET", "/x"):
            assert ["traceparent"] == [name for name, _ in trace_headers()]
        [seen] = found.seen()
    assert ("", True) == (seen.above, seen.trace != TRACE)


@pytest.mark.parametrize("parent", [PARENT, f"cc-{TRACE}-{PROXY}-01", f"cc-{TRACE}-{PROXY}-01-what-comes"])
def test_a_request_is_below_its_proxys_span(parent: str) -> None:
    """Also of a later version; tracestate, of several headers, goes on with it."""
    headers = [(b"traceparent", parent.encode()), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    with traced() as found:
        with found.opened.tracer.begin(headers, "GET", "/x"):
            sent = dict(trace_headers())
        [seen] = found.seen()
    assert (TRACE, PROXY) == (seen.trace, seen.above)
    assert {"traceparent": f"00-{TRACE}-{seen.id}-01", "tracestate": "a=1,b=2"} == sent


def test_a_long_tracestate_is_not_passed_on() -> None:
    """More than everybody must take is left out; the trace goes on."""
    headers = [(b"traceparent", PARENT.encode()), (b"tracestate", b"a=" + b"x" * 600)]
    with traced() as found:
        with found.opened.tracer.begin(headers, "GET", "/x"):
            assert ["traceparent"] == [name for name, _ in trace_headers()]
        assert TRACE == found.seen()[0].trace


def test_a_proxy_that_does_not_sample_is_obeyed() -> None:
    """Nothing is exported, and the executor is told so."""
    headers = [(b"traceparent", f"{PARENT[:-2]}00".encode())]
    with traced() as found:
        with found.opened.tracer.begin(headers, "GET", "/x"):
            assert dict(trace_headers())["traceparent"].endswith("-00")
        assert [] == found.seen()


def test_a_tenants_request_never_joins_another_tenants_trace() -> None:
    """Who uses a trace id second has a trace of its own; the first tenant goes on in it."""
    headers = [(b"traceparent", PARENT.encode())]
    with traced() as found:
        for tenant in ("team-a", "team-b", "team-a"):
            with found.opened.tracer.begin(headers, "GET", "/x", "r", tenant):
                pass
        first, second, third = found.seen()
    assert (TRACE, TRACE) == (first.trace, third.trace)
    assert TRACE != second.trace
    assert ("", ()) == (second.above, second.links)


def test_a_span_has_the_name_of_its_route() -> None:
    """Not the path, which may have names that users gave; a method that is none is not named."""
    routes = [("GET", re.compile("/v1/names/.+"), "/v1/names/<name:name>")]
    with traced(routes) as found:
        for method, path in (("HEAD", "/v1/names/mine"), ("GET", "/elsewhere"), ("BREW", "/v1/names/mine")):
            with found.opened.tracer.begin([], method, path):
                pass
        assert ["HEAD /v1/names/<name:name>", "GET", "other"] == [one.name for one in found.seen()]

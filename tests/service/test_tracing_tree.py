"""A trace from the proxy to the executor, of real processes and with a collector, is one tree."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from service_kit import TOKEN, Warehouse, environment, identity, numbers, process
from trace_kit import PARENT, PROXY, TRACE, Collector, Seen, collector, orphans

from strata.config import Settings

SECRET = "spoken-only-here"

CONFIG = """
[tool.strata.transforms]
enabled = true
registry = [
    {{ ref = "duckdb_sql@v1", executor_url = "{url}", token_file = "{token}" }},
]

[[tool.strata.notebook_workers]]
name = "sidecar"
url = "{url}"
token_file = "{token}"
"""


@contextlib.contextmanager
def sidecar(tmp_path: Path, token: Path, collector: Collector) -> Iterator[str]:
    """Run ``strata executor`` with tracing; returns its URL."""
    log = tmp_path / "executor.log"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("STRATA_", "OTEL_"))}
    command = [sys.executable, "-m", "strata", "executor", "--port", "0", "--cells", "1", "--tracing"]
    with log.open("wb") as out:
        popen = subprocess.Popen(
            [*command, "--token-file", str(token)],
            env=clean | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
            stdout=out,
            stderr=out,
            cwd=tmp_path,
        )
    try:
        until = time.monotonic() + 60
        while (found := re.search(r"listens on (\S+)", log.read_text())) is None:
            assert popen.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        popen.send_signal(signal.SIGTERM)
        popen.wait(60)


def way(spans: list[Seen], span: Seen) -> list[str]:
    """Return service and name of a span and of those above it."""
    by_id, found = {one.id: one for one in spans}, []
    at: Seen | None = span
    while at is not None:
        found.append(f"{at.service}: {at.name}")
        at = by_id.get(at.above)
    return found


def test_a_query_on_an_executor_is_one_tree_without_orphans(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Proxy, server, actor, scan of the input, call of the executor, its own span; no value and no token in it."""
    warehouse.create(numbers(1000))
    token, config = tmp_path / "token", tmp_path / "pyproject.toml"
    token.write_text(SECRET)
    query = f"SELECT count(*) AS n, '{SECRET}' AS said FROM input0"
    body = {"inputs": ["wh:db.events"], "transform": {"executor": "duckdb_sql@v1", "params": {"sql": query}}}
    with collector() as found:
        with sidecar(tmp_path, token, found) as url:
            config.write_text(CONFIG.format(url=url, token=token))
            more = {"STRATA_TRACING_ENABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": found.url}
            headers = identity() | {"traceparent": PARENT, "tracestate": "vendor=1"}
            with (
                process(tmp_path, **environment(settings), **more) as server,
                httpx.Client(base_url=server.url, headers=headers, timeout=120) as client,
            ):
                begun = client.post("/v1/materialize", json=body)
                assert 200 == begun.status_code, begun.text
                assert 200 == client.get(begun.json()["stream_url"]).status_code
                metrics = httpx.get(
                    f"{server.url}/metrics", headers=identity(scopes="admin:metrics"), timeout=60
                ).text
                assert 'strata_spans_total{outcome="dropped"} 0' in metrics
        # Both processes have ended, and what waited is exported.
        spans = [one for one in found.seen() if one.trace == TRACE]
        text = b"".join(found.bodies)
    assert [] == orphans(spans)
    services = {one.service for one in spans}
    assert {"strata", "strata-executor"} == services
    roots = sorted(one.name for one in spans if one.above == PROXY)
    assert ["GET /v1/streams/<stream_id>", "POST /v1/materialize"] == roots
    [executed] = [one for one in spans if one.service == "strata-executor" and one.name.startswith("POST")]
    assert [
        "strata-executor: POST /v1/execute",
        "strata: executor",
        "strata: build",
        "strata: answer",
        "strata: ask",
        "strata: POST /v1/materialize",
    ] == way(spans, executed)
    assert "duckdb_sql@v1" == executed.attributes["strata.transform"]
    names = {one.name for one in spans}
    assert {"admission", "inputs", "plan", "quantum", "slot", "receive", "metadata write"} <= names
    for word in (SECRET, TOKEN, "db.events", "SELECT", "ana"):
        assert word.encode() not in text, word

"""The live server against its own OpenAPI description: no 5xx, and no response that contradicts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Warehouse, identity, numbers, process, scan

SCOPES = "admin:* notebook:*"
SUPPORT = Path(__file__).parents[2] / "support"

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "arrow_streams_are_whole",
    "the_request_id_is_one",
]
"""All checks but four. A valid body is refused if it names a table, column or artifact that does not exist, which
a schema cannot express (positive_data_acceptance); nothing is created or deleted here (use_after_free,
ensure_resource_availability, object_level_authorization)."""

EXAMPLES = {500: 10, 5_000: 120}
"""For so many cases in all: the most an operation; operations without input have one."""

CONFIG = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx"]
"""
"""The statuses that refuse unsound requests: schemathesis's own, and 413: what is longer than a description
allows may be longer than a request may be, too. Status 5xx is the matter of another check."""

DETERMINISTIC = (
    "--mode=all",
    "--generation-deterministic",
    "--suppress-health-check=all",
    "--continue-on-failure",
)


def start(tmp_path: Path):
    (tmp_path / "warehouse").mkdir()
    path = tmp_path / "warehouse"
    warehouse = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    warehouse.create(numbers(50))
    settings = {
        "STRATA_DEPLOYMENT_MODE": "service",
        "STRATA_AUTH_MODE": "trusted_proxy",
        "STRATA_PROXY_TOKEN": TOKEN,
        "STRATA_MULTI_TENANT_ENABLED": "true",
        "STRATA_REQUIRE_TENANT_HEADER": "true",
        "STRATA_ARTIFACT_DIR": str(tmp_path / "artifacts"),
        "STRATA_CACHE_DIR": str(tmp_path / "cache"),
        "STRATA_WAREHOUSES": f"wh={path}",
        "STRATA_RATE_LIMIT_ENABLED": "false",  # one principal sends 5,000 requests
        "STRATA_AUTH_FAILURE_BURST": "100000",  # requests without a token must be 401, never 429
    }
    return warehouse, process(tmp_path, **settings)


def real_values(url: str, table: str) -> dict[str, object]:
    """Make a named result and return the values of its path parameters."""
    with httpx.Client(base_url=url, headers=identity(scopes=SCOPES), timeout=30) as client:
        made = client.post("/v1/materialize", json=scan(table, mode="artifact", name="reports/daily")).json()
        stream = client.post("/v1/materialize", json=scan(table, params={"columns": ["id"]})).json()
        cells = [{"id": "a", "source": "x = 1"}]
        notebook = client.post("/v1/notebooks", json={"title": "T", "cells": cells}).json()
    artifact_id, _, version = made["artifact_uri"].removeprefix("strata://artifact/").partition("@v=")
    return {
        "table": table,
        "artifact_id": artifact_id,
        "version": int(version),
        "build_id": made["build_id"],
        "stream_id": stream["stream_id"],
        "name": "reports/daily",
        "notebook": notebook["name"],
        "own_tenant": identity()["X-Tenant-ID"],
        "tenant": "another",  # another tenant: it will be disabled, drained and limited
    }


def short(text: str) -> str:
    """Cut long lines: a request that failed may fill more than is shown."""
    return "\n".join(line[:300] for line in text.splitlines())


def schemathesis(
    document: str, known: dict[str, object], cwd: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run schemathesis in a process of its own, as its command does; ``document`` is a URL or a file."""
    (cwd / "schemathesis.toml").write_text(CONFIG)
    headers = [f"--header={name}: {value}" for name, value in identity(scopes=SCOPES).items()]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
        "SCHEMATHESIS_HOOKS": "schema_hooks",
        "STRATA_TEST_KNOWN": json.dumps(known),
    }
    command = [
        sys.executable,
        "-c",
        "from schemathesis.cli import schemathesis; schemathesis()",
        "run",
        document,
    ]
    return subprocess.run(
        [*command, *headers, *options],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("cases", [500, pytest.param(5_000, marks=pytest.mark.nightly)])
def test_requests_out_of_the_description_are_answered_as_it_says(cases: int, tmp_path: Path) -> None:
    """With a valid identity, sound and unsound requests pass every applicable check, without a 5xx."""
    warehouse, server = start(tmp_path)
    with server as running:
        known = real_values(running.url, warehouse.uri())
        done = schemathesis(
            f"{running.url}/openapi.json",
            known,
            tmp_path,
            f"--checks={','.join(CHECKS)}",
            f"--max-examples={EXAMPLES[cases]}",
            "--request-timeout=30",  # events are waited for, for 20 s at most
            "--phases=examples,coverage,fuzzing",
            # Excluded: operations that make the server or the calling tenant unavailable.
            "--exclude-path-regex=^/v1/admin/.*(drain|disable|evict|restart)$",
            *DETERMINISTIC,
        )
        assert None is running.popen.poll()
    assert 0 == done.returncode, short(done.stdout)[-20_000:] + done.stderr[-5_000:]
    counted = re.search(r"([\d,]+) generated, ([\d,]+) passed", done.stdout)
    assert counted, done.stdout[-5_000:]
    generated, passed = (int(number.replace(",", "")) for number in counted.groups())
    assert generated >= cases
    assert generated == passed


@pytest.mark.nightly
def test_a_description_that_lies_is_found_out(tmp_path: Path) -> None:
    """The test above detects a missing status, a wrong type and a missing header."""
    warehouse, server = start(tmp_path)
    with server as running:
        known = real_values(running.url, warehouse.uri())
        document = httpx.get(f"{running.url}/openapi.json", headers=identity()).json()
        del document["paths"]["/v1/streams/{stream_id}"]["get"]["responses"]["404"]
        names = document["paths"]["/v1/names"]["get"]["responses"]["200"]
        names["headers"]["X-Not-There"] = {"required": True, "schema": {"type": "string"}}
        stats = document["paths"]["/v1/artifacts/stats"]["get"]["responses"]["200"]["content"]
        stats["application/json"]["schema"]["properties"]["total_bytes"] = {"type": "string"}
        (tmp_path / "lies.json").write_text(json.dumps(document))
        done = schemathesis(
            "lies.json",
            known,
            tmp_path,
            f"--url={running.url}",
            f"--checks={','.join(CHECKS)}",
            "--phases=coverage",
            *DETERMINISTIC,
        )
    assert 1 == done.returncode, done.stdout[-5_000:]
    for lie in (
        "GET /v1/streams/{stream_id}",
        "Undocumented status code",
        "X-Not-There",
        "Response violates schema",
    ):
        assert lie in done.stdout, done.stdout[-10_000:]

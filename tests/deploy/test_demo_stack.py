"""The product page's demo stack, by ``deploy/demo/run``: its walk-through line by line, on real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
from log_watch import watch
from programs import need

from strata.config.sources import load_settings
from strata.demo.dataset import DataSet

ROOT = Path(__file__).parents[2]
FLIGHTS = "demo:nyc.flights"
INTERNAL = "demo:internal.delays"

pytestmark = pytest.mark.slow


@attrs.frozen
class Stack:
    """A running stack: its process, its files, the copied sources that it was started from, and its ports."""

    process: subprocess.Popen[bytes]
    directory: Path
    source: Path
    user: int
    admin: int
    server: int

    def client(self, port: int) -> httpx.Client:
        # Without the environment's proxies, which are not for the loopback.
        return httpx.Client(base_url=f"http://localhost:{port}", timeout=60, trust_env=False)

    def said(self) -> str:
        return (self.directory.parent / "said").read_text()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the whole stack once for all tests, on free ports; its sources are a copy that tests may edit."""
    need("nginx")
    place = tmp_path_factory.mktemp("stack")
    shutil.copytree(ROOT / "deploy", place / "deploy")
    server, executor, user, admin = _ports(4)
    command = [sys.executable, str(ROOT / "deploy/demo/run"), "--directory", str(place / "run")]
    command += ["--source", str(place / "deploy"), "--port", str(server), "--executor-port", str(executor)]
    command += ["--user-port", str(user), "--admin-port", str(admin)]
    with (place / "said").open("wb") as said:
        process = subprocess.Popen(command, stderr=said, env=os.environ | {"PYTHONPATH": str(ROOT)})
    found = Stack(process, place / "run", place / "deploy", user, admin, server)
    try:
        _wait_for(lambda: f"{admin} is demo-admin" in found.said(), found)
        yield found
    finally:
        process.terminate()
        process.wait(120)
        watch.note((place / "run" / "strata.out").read_text(errors="replace"))
    assert 0 == process.returncode, found.said()
    for port in (server, executor, user, admin):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def _ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return found


def _wait_for(condition, stack: Stack) -> None:
    for _ in range(4000):
        if condition():
            return
        if stack.process.poll() is not None:
            break
        threading.Event().wait(0.05)
    pytest.fail(f"the stack did not come that far:\n{stack.said()}")


def _sql(query: str) -> dict:
    return {"inputs": [FLIGHTS], "transform": {"executor": "duckdb_sql@v1", "params": {"sql": query}}}


def _scan(table: str, **params: object) -> dict:
    return {"inputs": [table], "transform": {"executor": "scan@v1", "params": params}}


def _flights(stack: Stack) -> int:
    """Return the rows of the flights by pyiceberg."""
    with DataSet(stack.directory / "data" / "demo", reused=True).catalog() as catalog:
        return catalog.load_table("nyc.flights").scan().count()


def _rows(client: httpx.Client, body: dict) -> pa.Table:
    answer = client.post(
        "/v1/materialize", json=body, headers={"Accept": "application/vnd.apache.arrow.stream"}
    )
    assert 200 == answer.status_code, answer.text
    return pa.ipc.open_stream(answer.content).read_all()


def test_two_ports_one_server_two_callers(stack: Stack) -> None:
    """The page's table: what each port injects; both route to the same Strata instance."""
    seen = {}
    for port in (stack.user, stack.admin):
        with stack.client(port) as client:
            me = client.get("/v1/me").json()
            seen[port] = (me["principal"], set(me["scopes"]), me["tenant"])
    assert {
        stack.user: ("demo-user", {"notebook:read", "notebook:write", "notebook:execute"}, "demo-team"),
        stack.admin: ("demo-admin", {"admin:*", "notebook:*"}, "demo-team"),
    } == seen
    body = _scan("demo:nyc.airlines")
    with stack.client(stack.user) as client:
        made = client.post("/v1/materialize", json=body).json()
        client.get(made["stream_url"]).raise_for_status()
    with stack.client(stack.admin) as client:
        assert client.post("/v1/materialize", json=body).json()["artifact_uri"] == made["artifact_uri"]


def test_open_either_in_a_browser(stack: Stack) -> None:
    """Both addresses answer a browser with a page, or with a page that says how to get the pages."""
    for port in (stack.user, stack.admin):
        with stack.client(port) as client:
            page = client.get("/", headers={"Accept": "text/html"}, follow_redirects=True)
            assert "text/html" in page.headers["Content-Type"]


def test_hit_the_routes_with_curl(stack: Stack) -> None:
    """The REST surface is there without a token of the caller's: exact rows of the demo's tables."""
    curl = [need("curl"), "-fsS", "--noproxy", "*", f"http://localhost:{stack.user}/v1/tables?catalog=demo"]
    listed = json.loads(subprocess.run(curl, check=True, capture_output=True, timeout=60).stdout)
    assert [f"demo:nyc.{name}" for name in ("airlines", "airports", "flights", "planes", "weather")] == [
        table["uri"] for table in listed["tables"]
    ]
    with stack.client(stack.user) as client:
        rows = _rows(client, _scan(FLIGHTS, columns=["carrier"]))
    assert (_flights(stack), ["carrier"]) == (rows.num_rows, rows.column_names)


def test_the_admins_port_is_for_admin_only_operations(stack: Stack) -> None:
    """Clearing the cache and listing tenants need the scopes that only 8866 injects."""
    answers = {}
    for port in (stack.user, stack.admin):
        with stack.client(port) as client:
            answers[port] = (
                client.post("/v1/cache/clear").status_code,
                client.get("/v1/admin/tenants").status_code,
            )
    assert {stack.user: (403, 403), stack.admin: (200, 200)} == answers


def test_access_rules_hold_in_the_demo(stack: Stack) -> None:
    """A table that is denied to demo-user is one that does not exist; demo-admin reads it."""
    with stack.client(stack.user) as client:
        denied, missing = (
            client.post("/v1/materialize", json=_scan(table)) for table in (INTERNAL, "demo:internal.none")
        )
        assert (404, 404) == (denied.status_code, missing.status_code)
        assert denied.json()["detail"] == missing.json()["detail"]
    with stack.client(stack.admin) as client:
        assert _rows(client, _scan(INTERNAL)).num_rows


def test_queries_run_in_the_sidecar(stack: Stack) -> None:
    """SQL is computed by the executor beside the server, which reports it, and is exact."""
    port = re.search(r":(\d+)\n", (stack.directory / "executor.out").read_text())
    assert port is not None

    def executed() -> dict:
        return httpx.get(f"http://127.0.0.1:{port[1]}/health", trust_env=False).json()

    assert "duckdb_sql@v1" in executed()["capabilities"]["transform_refs"]
    with stack.client(stack.user) as client:
        rows = _rows(client, _sql("SELECT count(*) AS n FROM input0"))
    assert [{"n": _flights(stack)}] == rows.to_pylist()
    assert f"http://127.0.0.1:{port[1]}" in (stack.directory / "pyproject.toml").read_text()


def test_a_cell_of_a_notebook_runs(stack: Stack) -> None:
    """With the scopes of 8865 a notebook is made, and its cell reads the demo's table; 8866 sees the result."""
    source = 'rows = strata.fetch("demo:nyc.airlines", columns=["carrier"])\nlen(rows)'
    with stack.client(stack.user) as client:
        body = {"title": "First", "cells": [{"id": "c0", "source": source}]}
        made = client.post("/v1/notebooks", json=body)
        assert 201 == made.status_code, made.text
        place = f"/v1/notebooks/{made.json()['name']}/session"
        begun = client.get(place).json()["seq"]
        assert 202 == client.post(f"{place}/run", json={"cells": ["c0"]}).status_code
        events: list[dict] = []
        while not any("ended" == event["type"] for event in events):
            got = client.get(f"{place}/events", params={"after": begun, "wait": 5}).json()
            events += got["events"]
            begun = got["seq"]
    (ended,) = [event["payload"] for event in events if "ended" == event["type"]]
    assert "ok" == ended["how"], events
    with stack.client(stack.admin) as client:
        assert 200 == client.get(place).status_code


def test_nobody_reaches_the_server_past_the_proxy(stack: Stack) -> None:
    """Strata's own port wants the token; and all of the stack listens on the loopback only."""
    with stack.client(stack.server) as client:
        assert 401 == client.get("/v1/me", headers={"X-Strata-Principal": "demo-admin"}).status_code
    listening = Path("/proc/net/tcp").read_text()
    ports = {f"{port:04X}" for port in (stack.server, stack.user, stack.admin)}
    found = {
        fields[1].partition(":")[2]: fields[1].partition(":")[0]
        for fields in (line.split() for line in listening.splitlines()[1:])
        if fields[3] == "0A" and fields[1].partition(":")[2] in ports
    }
    assert dict.fromkeys(ports, "0100007F") == found


def test_an_edited_identity_and_a_reload_change_who_you_are(stack: Stack) -> None:
    """To experiment with new identities: edit nginx.conf, and have the proxy take it."""
    path = stack.source / "service-mode" / "nginx.conf"
    shipped = path.read_text()

    def who() -> str:
        with stack.client(stack.user) as client:
            return str(client.get("/v1/me").json()["principal"])

    def reload() -> int:
        begun = stack.said().count("is read again") + stack.said().count("not taken")
        stack.process.send_signal(signal.SIGHUP)
        _wait_for(
            lambda: stack.said().count("is read again") + stack.said().count("not taken") > begun, stack
        )
        return begun

    try:
        path.write_text(shipped.replace("$strata_principal demo-user;", "$strata_principal somebody-new;"))
        reload()
        _wait_for(lambda: who() == "somebody-new", stack)
        path.write_text(shipped + "\nhttp { this is no configuration; }\n")
        reload()
        assert "the configuration is not taken" in stack.said()
        assert "somebody-new" == who()
    finally:
        path.write_text(shipped)
    reload()
    _wait_for(lambda: who() == "demo-user", stack)


def test_a_second_stack_in_the_directory_is_refused(stack: Stack) -> None:
    """Two stacks would share their files; the second one says what to do."""
    command = [sys.executable, str(ROOT / "deploy/demo/run"), "--directory", str(stack.directory)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert 1 == done.returncode
    assert "choose another with --directory" in done.stderr


def test_the_pages_files_are_where_it_says() -> None:
    """``.docker/service-mode`` has the two files, and ``docker-compose.service.yml`` is at the root."""
    link, stack = ROOT / ".docker" / "service-mode", ROOT / "deploy" / "service-mode"
    # Where links cannot be made, git writes a file that names the target.
    assert "../deploy/service-mode" == (
        str(link.readlink()) if link.is_symlink() else link.read_text().strip()
    )
    text = (stack / "pyproject.toml").read_text()
    for word in (
        "proxy_token",
        "multi_tenant_enabled = true",
        "tenant_header",
        "notebook_workers",
        "executor_url",
    ):
        assert word in text
    assert ["8865", "8866"] == re.findall(r"listen (\d+);", (stack / "nginx.conf").read_text())
    compose = (ROOT / "docker-compose.service.yml").read_text()
    assert "deploy/service-mode/docker-compose.service.yml" in compose


MINIMUM = """\
STRATA_DEPLOYMENT_MODE=service
STRATA_AUTH_MODE=trusted_proxy
STRATA_PROXY_TOKEN=<shared-secret-with-proxy>
STRATA_ARTIFACT_DIR=/path/to/persistent/dir # or use STRATA_ARTIFACT_BLOB_BACKEND
STRATA_MULTI_TENANT_ENABLED=true
STRATA_REQUIRE_TENANT_HEADER=true
STRATA_TENANT_HEADER=X-Tenant-ID # match what your proxy injects
"""

ACCESS = """\
[tool.strata.acl_config]
# deny rules evaluate first; explicit denies cannot be bypassed.
[[tool.strata.acl_config.deny]]
principal = "guest@example.com"
resource = "tables/internal/*"
[[tool.strata.acl_config.allow]]
principal = "analyst@example.com"
resource = "tables/marketing/*"
scope = "notebook:write"
# default action when no rule matches (default: "deny")
default = "deny"
"""


def test_the_pages_examples_are_accepted_verbatim(tmp_path: Path) -> None:
    """The minimum of variables and the access rules configure a server, with a directory that exists."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "pyproject.toml").write_text(ACCESS)
    lines = MINIMUM.replace("/path/to/persistent/dir", f"{tmp_path}/dir").splitlines()
    environ = dict(line.partition(" #")[0].split("=", 1) for line in lines)
    loaded = load_settings(config_file=None, environ=environ, options={}, cwd=tmp_path)
    settings = loaded.settings
    assert ("service", "trusted_proxy", True, True, "X-Tenant-ID") == (
        settings.deployment_mode,
        settings.auth_mode,
        settings.multi_tenant_enabled,
        settings.require_tenant_header,
        settings.tenant_header,
    )
    assert settings.acl_config is not None

"""Signals to a real process: orderly stop, immediate stop, and reading the configuration again."""

import json
import signal
import socket
import ssl
import threading
import time
from pathlib import Path

import httpx
import pytest
import trustme
from service_kit import TOKEN, Process, Warehouse, environment, identity, numbers, process, scan

from strata.config import Settings

pytestmark = [pytest.mark.slow, pytest.mark.alone]
NEW_TOKEN = "another-token-of-30-characters"


def lines(server: Process) -> list[dict]:
    return [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]


def wait_for(server: Process, event: str) -> dict:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = [line for line in lines(server) if line["event"] == event]
        if found:
            return found[-1]
        threading.Event().wait(0.02)
    pytest.fail(f"no {event!r} in the log:\n{server.log.read_text()[-3000:]}")


@pytest.fixture
def large(warehouse: Warehouse) -> str:
    """Return a result larger than the sockets' buffers."""
    warehouse.create(numbers(2_000_000))
    return warehouse.uri()


def stalled(server: Process, uri: str) -> socket.socket:
    """Request a large result and stop reading."""
    port = int(server.url.rsplit(":", 1)[1])
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    body = json.dumps(scan(uri)).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in identity().items())
    connection.sendall(
        f"POST /v1/materialize HTTP/1.1\r\nHost: x\r\n{head}Accept: application/vnd.apache.arrow.stream\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def read_on(client: socket.socket) -> None:
    while client.recv(65536):
        pass


def test_fifty_clients_that_stall_do_not_hold_up_a_stop(
    tmp_path: Path, settings: Settings, large: str
) -> None:
    """Ready turns 503, and after the grace period connections are cut, all within grace + 2 s."""
    more = {"STRATA_SHUTDOWN_GRACE_SECONDS": "3"}
    with process(tmp_path, **environment(settings), **more) as server:
        clients = [stalled(server, large) for _ in range(50)]
        with httpx.Client(base_url=server.url) as probe:
            assert 200 == probe.get("/health/ready").status_code
        began = time.monotonic()
        server.popen.send_signal(signal.SIGTERM)
        wait_for(server, "stopping")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
        assert 0 == server.popen.wait(30)
        took = time.monotonic() - began
        assert 3 <= took <= 3 + 2, took
        assert 50 == wait_for(server, "connections broken off")["connections"]
        for client in clients:
            client.close()


def cut_twenty_and_one(server: Process, uri: str, good: httpx.Client, column: str) -> None:
    """Let clients stall until they are cut; meanwhile build and read another client's new result."""
    clients = [stalled(server, uri) for _ in range(20)]
    threading.Event().wait(3)
    for client in clients:
        with pytest.raises(OSError, match="reset"):  # what the kernel held for it is dropped
            read_on(client)
        client.close()
    client = stalled(server, uri)
    answer = good.post(
        f"{server.url}/v1/materialize", json=scan(uri, params={"columns": [column]}), headers=identity()
    )
    assert 200 == answer.status_code
    with pytest.raises(OSError, match="reset"):
        read_on(client)
    client.close()


def test_a_client_that_stops_reading_is_cut_its_slot_and_memory_come_back_and_the_log_says_so(
    tmp_path: Path, settings: Settings, large: str
) -> None:
    """With one slot, the next client gets it while the first one stalls, and memory does not grow.

    Memory that the first round leaves to the allocator and threads, after each kind of request has run, is not
    counted: forty-two more stalled clients would hold 84 MiB if each kept a file range.
    """
    more = {"STRATA_CLIENT_STALL_SECONDS": "2", "STRATA_BULK_SLOTS": "1", "STRATA_INTERACTIVE_SLOTS": "1"}
    with process(tmp_path, **environment(settings), **more) as server, httpx.Client(timeout=60) as good:
        cut_twenty_and_one(server, large, good, "id")
        before = server.rss()
        for column in ("value", "name"):
            cut_twenty_and_one(server, large, good, column)
        found = wait_for(server, "client stalled")
        assert 2 == found["seconds"]
        cut = [line for line in lines(server) if line["event"] == "request" and line["status"] == 200]
        assert "/v1/materialize" in [line["path"] for line in cut]
        assert server.rss() - before < 42 * 2**20


def test_a_second_signal_ends_at_once(tmp_path: Path, settings: Settings, large: str) -> None:
    """A second signal ends the process at once, with any grace period."""
    with process(tmp_path, **environment(settings), STRATA_SHUTDOWN_GRACE_SECONDS="600") as server:
        client = stalled(server, large)
        server.popen.send_signal(signal.SIGTERM)
        wait_for(server, "stopping")
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(10) == 0
        wait_for(server, "second signal: stopping at once")
        client.close()


def config_of(settings: Settings, token: str, **more: object) -> str:
    """Write a configuration file."""
    lines = {
        "deployment_mode": "service", "auth_mode": "trusted_proxy", "proxy_token": token,
        "multi_tenant_enabled": True, "artifact_dir": settings.artifact_dir, "cache_dir": settings.cache_dir, **more,
    }  # fmt: skip
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items())
    warehouse = json.dumps(settings.warehouses["wh"])
    return f"[tool.strata]\n{text}\n[tool.strata.warehouses]\nwh = {warehouse}\n"


def test_a_hangup_takes_over_what_it_can_and_names_what_needs_a_restart(
    tmp_path: Path, settings: Settings, warehouse: Warehouse
) -> None:
    """SIGHUP applies tokens, rules and limits at once; a wrong configuration changes nothing."""
    warehouse.create(numbers(1000))
    path = tmp_path / "pyproject.toml"
    path.write_text(config_of(settings, TOKEN))

    def ask(token: str) -> int:
        with httpx.Client(
            base_url=server.url, headers=identity() | {"X-Strata-Proxy-Token": token}
        ) as client:
            return client.post("/v1/materialize", json=scan(warehouse.uri())).status_code

    with process(tmp_path) as server:
        assert (200, 401) == (ask(TOKEN), ask(NEW_TOKEN))

        path.write_text(config_of(settings, "short", max_response_bytes=2048))
        server.popen.send_signal(signal.SIGHUP)
        refused = wait_for(server, "configuration refused: the old one stays")
        assert ["proxy_token"] == [problem.split(":")[0] for problem in refused["problems"]]
        assert "short" not in server.log.read_text()
        assert (200, 401) == (ask(TOKEN), ask(NEW_TOKEN))

        rule = '[[tool.strata.acl_config.deny]]\nprincipal = "ana"\nresource = "tables/wh/db/*"\n'
        policy = f'[tool.strata.acl_config]\ndefault = "allow"\n{rule}'
        path.write_text(config_of(settings, NEW_TOKEN, max_tenants=7) + policy)
        server.popen.send_signal(signal.SIGHUP)
        done = wait_for(server, "configuration read again")
        assert {"proxy_token", "acl_config"} == set(done["changed"])
        assert ["max_tenants"] == done["needs_restart"]
        assert (401, 404) == (ask(TOKEN), ask(NEW_TOKEN))
        assert NEW_TOKEN not in server.log.read_text()


def test_a_hangup_reads_the_file_of_access_rules_again(
    tmp_path: Path, settings: Settings, warehouse: Warehouse
) -> None:
    """SIGHUP reads `acl_file` together with all settings; a broken file refuses all changes."""
    warehouse.create(numbers(5))
    rules = tmp_path / "rules.toml"
    allow = '[[allow]]\nprincipal = "*"\nresource = "tables/wh/db/*"\n'
    rules.write_text(allow)
    more = {"STRATA_ACL_FILE": str(rules), "STRATA_ACL_FILE_WATCH_SECONDS": "0"}
    with process(tmp_path, **environment(settings), **more) as server:

        def ask() -> int:
            url = f"{server.url}/v1/materialize"
            return httpx.post(url, json=scan(warehouse.uri()), headers=identity()).status_code

        assert 200 == ask()
        rules.write_text(f"{allow}tenant = 7\n")
        server.popen.send_signal(signal.SIGHUP)
        refused = wait_for(server, "configuration refused: the old one stays")
        assert ["acl_file: allow rule 1: `tenant` must be a string, not a number"] == refused["problems"]
        assert 200 == ask()
        rules.write_text(f'{allow}[[deny]]\nprincipal = "ana"\nresource = "tables/**"\n')
        server.popen.send_signal(signal.SIGHUP)
        assert ["acl_config"] == wait_for(server, "configuration read again")["changed"]
        assert 404 == ask()


def test_a_hangup_changes_the_limits_of_live_tenants(
    tmp_path: Path, settings: Settings, warehouse: Warehouse
) -> None:
    """SIGHUP raises and lowers limits of running tenants without a restart."""
    warehouse.create(numbers(1000))
    path = tmp_path / "pyproject.toml"
    path.write_text(config_of(settings, TOKEN))
    with process(tmp_path) as server, httpx.Client(base_url=server.url, headers=identity()) as client:
        direct = {"Accept": "application/vnd.apache.arrow.stream"}
        first = client.post(
            "/v1/materialize", json=scan(warehouse.uri(), params={"columns": ["id"]}), headers=direct
        )
        assert 200 == first.status_code
        path.write_text(config_of(settings, TOKEN, max_response_bytes=2048))
        server.popen.send_signal(signal.SIGHUP)
        wait_for(server, "configuration read again")
        second = client.post("/v1/materialize", json=scan(warehouse.uri()), headers=direct)
        assert (413, "response_too_large") == (second.status_code, second.json()["error"])


def test_a_hangup_serves_renewed_certificates(tmp_path: Path, settings: Settings) -> None:
    """After SIGHUP the next connection gets the renewed certificate."""
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    more = {"STRATA_TLS_CERTIFICATE": str(certificate)}
    with process(tmp_path, tls=str(tmp_path / "ca.pem"), **environment(settings), **more) as server:

        def fingerprint() -> str:
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            host, port = server.url.removeprefix("https://").split(":")
            with (
                socket.create_connection((host, int(port))) as plain,
                context.wrap_socket(plain, server_hostname=host) as secure,
            ):
                return secure.getpeercert()["serialNumber"]

        first = fingerprint()
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        server.popen.send_signal(signal.SIGHUP)
        wait_for(server, "configuration read again")
        assert first != fingerprint()
        certificate.write_text("damaged")
        server.popen.send_signal(signal.SIGHUP)
        refused = wait_for(server, "configuration refused: the old one stays")
        assert ["tls_certificate"] == [problem.split(":")[0] for problem in refused["problems"]]
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        assert 200 == httpx.get(f"{server.url}/health", verify=trusting).status_code


def test_limits_of_a_tenant_change_in_a_running_server(tmp_path: Path, settings: Settings) -> None:
    """A section changes on SIGHUP, the overrides file at once; a file with errors changes nothing."""
    overrides = Path(settings.artifact_dir) / "tenant-overrides.toml"
    section = tmp_path / "pyproject.toml"

    def slots() -> tuple[int, str]:
        found = httpx.get(f"{server.url}/v1/me", headers=identity()).json()["limits"]["bulk_slots"]
        return found["value"], found["source"]

    with process(tmp_path, **environment(settings)) as server:
        assert (8, "default") == slots()
        section.write_text("[tool.strata.tenants.team-a]\nbulk_slots = 2\n")
        server.popen.send_signal(signal.SIGHUP)
        assert ["tenants"] == wait_for(server, "configuration read again")["changed"]
        assert (2, "section") == slots()
        overrides.write_text("[tenants.team-a]\nbulk_slots = 1\n")
        wait_for(server, "limits of tenants read again")
        assert (1, "operator") == slots()
        overrides.write_text("[tenants.team-a]\nbulk_slots = 0\n")
        said = wait_for(server, "limits of tenants refused: the old ones stay")["problems"]
        assert ["tenant_overrides_file: tenants.team-a.bulk_slots: 0 is too small; the minimum is 1."] == said
        server.popen.send_signal(signal.SIGHUP)
        assert said == wait_for(server, "configuration refused: the old one stays")["problems"]
        assert (1, "operator") == slots()

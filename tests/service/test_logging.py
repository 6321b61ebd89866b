"""Log lines of a whole service contain ids and numbers only."""

import io
import json

import attrs
import pytest
from log_watch import MARK, leaks
from service_kit import ARROW, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.observability.logs import configure


async def test_no_token_header_or_row_value_is_in_any_log(settings: Settings, warehouse: Warehouse) -> None:
    """No line of any level has a token, header or row value, and each request's line has its id."""
    out = io.StringIO()
    configure("DEBUG", "json", out)
    warehouse.create(numbers(10))
    secret = {"X-Request-ID": "request-7"} | identity("ana@example.com", scopes="s3cr3t:scope")
    async with (
        running(attrs.evolve(settings, log_level="DEBUG")) as server,
        server.client(**secret) as client,
    ):
        await fetch(
            client,
            scan(warehouse.uri(), params={"filters": [{"column": "name", "op": "=", "value": f"{MARK}-7"}]}),
        )
        await client.post("/v1/materialize", json=scan("s3cr3t-uri"))
        await client.post(
            "/v1/materialize", content=b'{"s3cr3t-key": 1}', headers={"Content-Type": "application/json"}
        )
        await client.get("/health", headers={"X-Strata-Proxy-Token": "s3cr3t-token"})

    text = out.getvalue()
    assert [] == leaks(text)
    requests = [line for line in map(json.loads, text.splitlines()) if line["event"] == "request"]
    assert len(requests) >= 5
    assert {"request-7"} == {line["request_id"] for line in requests}
    assert {200, 400} == {line["status"] for line in requests}


@pytest.mark.parametrize("given", ["", "x" * 129, "tab\there", "é"])
async def test_an_unfit_request_id_is_replaced_and_always_returned(settings: Settings, given: str) -> None:
    """A request id that is unsafe in a log line or header is replaced, and every answer has an id."""
    async with running(settings) as server, server.client() as client:
        answer = await client.get("/v1/artifacts", headers={"X-Request-ID": given.encode("latin-1")})
        missing = await client.get("/v1/builds/x")
    assert given != answer.headers["x-request-id"]
    assert 32 == len(answer.headers["x-request-id"])
    assert missing.json()["request_id"] == missing.headers["x-request-id"]


async def test_a_requests_line_says_who_asked_for_what_and_why_it_was_refused(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The true reason is in the log alone: a denied table is answered like a missing one."""
    out = io.StringIO()
    configure("INFO", "json", out)
    warehouse.create(numbers(10))
    rules = Policy(allow=(Rule("ana", "tables/wh/db/*"),))
    changed = attrs.evolve(settings, log_level="INFO", acl_config=rules)
    async with running(changed) as server:
        for principal, table, accept in (
            ("ana", "wh:db.events", "application/json"),
            ("ana", "wh:db.nothing", ARROW),
            ("eve", "wh:db.events", ARROW),
            ("eve", f"other:db.{MARK}", ARROW),
            ("eve", f"{MARK}", ARROW),
            ("zoe", "wh:db.events", ARROW),
        ):
            async with server.client(**identity(principal), Accept=accept) as client:
                await client.post("/v1/materialize", json=scan(table))
        async with server.client(**identity("zoe")) as client:
            await client.get("/v1/me")
            await client.get("/v1/me", headers={"X-Strata-Proxy-Token": "x"})

    lines = [line for line in map(json.loads, out.getvalue().splitlines()) if line["event"] == "request"]
    fields = ("principal", "tenant", "tables", "status", "error", "reason")
    assert [
        ("ana", "team-a", ["wh/db/events"], 200, None, None),
        ("ana", "team-a", [], 404, "not_found", "not_found"),
        ("eve", "team-a", ["wh/db/events"], 404, "not_found", "access_denied"),
        ("eve", "team-a", [], 404, "not_found", "not_found"),
        ("eve", "team-a", [], 400, "bad_request", "bad_request"),
        ("zoe", "team-a", ["wh/db/events"], 404, "not_found", "access_denied"),
        ("zoe", "team-a", None, 200, None, None),
        (None, None, None, 401, "invalid_token", None),
    ] == [tuple(line.get(field) for field in fields) for line in lines]


async def test_a_requests_line_has_its_peer_artifact_limit_and_stages(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The seconds of the stages add up to those of the request; a refusal names its limit."""
    out = io.StringIO()
    configure("INFO", "json", out)
    warehouse.create(numbers(10))
    limited = attrs.evolve(settings, rate_limit_scan_rps=0.001)
    async with running(limited) as server, server.client() as client:
        begun = (await client.post("/v1/materialize", json=scan("wh:db.events"))).json()
        assert 200 == (await client.get(begun["stream_url"])).status_code
        refused = [await client.post("/v1/materialize", json=scan("wh:db.events")) for _ in range(2)][-1]
        assert 429 == refused.status_code
    lines = [line for line in map(json.loads, out.getvalue().splitlines()) if line["event"] == "request"]
    made, read, limit = lines[0], lines[1], lines[-1]
    assert made["artifact"] == read["artifact"] == begun["artifact_uri"].rpartition("/")[2]
    assert refused.json()["limit"]["name"] == limit["limit"]
    assert ("limit" in made, "artifact" in limit) == (False, False)
    for line in (made, read):
        stages = [line[f"{stage}_seconds"] for stage in ("queue", "app", "send")]
        assert min(stages) >= 0
        assert abs(sum(stages) - line["seconds"]) < 0.00001  # each is rounded
        assert "127.0.0.1" == line["peer"]


@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
async def test_decisions_are_told_at_level_debug_alone(
    settings: Settings, warehouse: Warehouse, level: str
) -> None:
    """Access with its rule, plan, slot, build and result, each with the id of its request."""
    out = io.StringIO()
    configure(level, "json", out)
    warehouse.create(numbers(10))
    rules = Policy(allow=(Rule("*", "tables/wh/db/*"), Rule("*", "transforms/*")))
    changed = attrs.evolve(settings, log_level=level, acl_config=rules)
    try:
        async with running(changed) as server, server.client() as client:
            await fetch(client, scan("wh:db.events"))
            again = await client.post("/v1/materialize", json=scan("wh:db.events"))
            assert again.status_code == 200
    finally:
        configure("WARNING", "json", out)  # what decides for the process
    told = [line for line in map(json.loads, out.getvalue().splitlines()) if line["level"] == "debug"]
    if level == "INFO":
        assert [] == told
        return
    assert {"access decided", "build begun", "scan planned", "slot taken"} <= {line["event"] for line in told}
    assert all(line.get("request_id") for line in told)
    access = {(line["allowed"], line["reason"], line["rule"]) for line in told if "allowed" in line}
    assert (True, "allow_rule", "* tables/wh/db/*") in access

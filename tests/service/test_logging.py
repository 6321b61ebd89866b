"""Log lines of a whole service contain ids and numbers only."""

import io
import json

import attrs
import pytest
from log_watch import MARK, leaks
from service_kit import Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings
from strata.observability.logs import configure


async def test_no_token_header_or_row_value_is_in_any_log(settings: Settings, warehouse: Warehouse) -> None:
    """No line of any level has a token, header or row value, and each request's line has its id."""
    out = io.StringIO()
    configure("DEBUG", "json", out)
    warehouse.create(numbers(10))
    secret = {"X-Request-ID": "request-7"} | identity("s3cr3t-principal", scopes="s3cr3t:scope")
    async with (
        running(attrs.evolve(settings, log_level="DEBUG")) as server,
        server.client(**secret) as client,
    ):
        await fetch(
            client,
            scan(warehouse.uri(), params={"filters": [{"column": "name", "op": "=", "value": f"{MARK}-7"}]}),
        )
        await client.post("/v1/materialize", json=scan("s3cr3t-uri"))
        await client.post("/v1/materialize", content=b'{"s3cr3t-key": 1}')
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

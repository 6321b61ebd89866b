"""Transforms on HTTP executors: what a right one gives, and that a wrong one never gives a ready result."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import attrs
import httpx
import pyarrow as pa
import pytest
import trio
from executor_kit import ScriptedExecutor, answer, dying, scripted, silent, stream_of
from service_kit import Warehouse, fetch, identity, numbers, running

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection

ROWS = pa.record_batch({"n": pa.array([1, 2, 3], pa.int64())})
WHOLE = stream_of(ROWS)


def with_executor(settings: Settings, server: ScriptedExecutor, **entry: object) -> Settings:
    """Return settings with one executor for ``double@v1``."""
    registered = RegisteredTransform("double@*", executor_url=server.url, **entry)
    return attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=(registered,)))


def double(*inputs: str, **params: object) -> dict:
    return {"inputs": [*inputs], "transform": {"executor": "double@v1", "params": params}}


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def ended(client: httpx.AsyncClient, body: dict) -> dict:
    """Begin a build, and return its record once it has ended."""
    begun = await client.post("/v1/materialize", json={**body, "mode": "artifact"})
    assert 200 == begun.status_code, begun.text
    with trio.fail_after(30):
        while True:
            found = (await client.get(f"/v1/builds/{begun.json()['build_id']}")).json()
            if found["state"] in ("ready", "failed"):
                return found
            await trio.sleep(0.01)


async def test_an_executor_gets_the_rows_and_its_answer_is_the_result(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """The input arrives as an Arrow stream with the token; the result is an artifact with lineage, then a hit."""
    warehouse.create(numbers(50))
    token = tmp_path / "token"
    token.write_text("executor-secret\n")
    logs = f"X-Strata-Logs: {base64.b64encode(b'three rows').decode()}\r\nX-Arrow-Row-Count: 3\r\n"
    async with scripted(answer(WHOLE, more=logs)) as server:
        settings = with_executor(settings, server, token_file=str(token))
        async with running(settings) as service, service.client() as client:
            body = double("wh:db.events", factor=2)
            assert [1, 2, 3] == (await fetch(client, body))["n"].to_pylist()
            again = (await client.post("/v1/materialize", json=body)).json()
            assert again["hit"]
            other = (await client.post("/v1/materialize", json=double("wh:db.events", factor=3))).json()
            assert not other["hit"]
            await client.get(other["stream_url"])
            found = (await client.get(f"/v1/builds/{other['build_id']}/log")).json()
            assert ("three rows", 10, True) == (found["text"], found["next"], found["ended"])
            hidden = await client.get(
                f"/v1/builds/{other['build_id']}/log", headers=identity("bob", "team-b")
            )
            assert 404 == hidden.status_code
    assert "authorization: bearer executor-secret" in server.heads[0].lower()
    sent = server.bodies[0].split(b"\r\n\r\n", 2)[2]
    assert 50 == pa.ipc.open_stream(sent).read_all().num_rows


def shorter(data: bytes) -> Callable:
    return answer(data, length=len(data) + 100)


BATCHES = [ROWS, pa.record_batch({"other": ["x"]})]
WRONG = {
    "it dies": (dying, "executor_broken"),
    "it says it is longer": (shorter(WHOLE), "executor_broken"),
    "it says it is shorter": (answer(WHOLE, length=len(WHOLE) - 8), "executor_broken"),
    "half a stream": (answer(WHOLE[: len(WHOLE) // 2]), "executor_bad_answer"),
    "no end": (answer(stream_of(ROWS, end=False)), "executor_bad_answer"),
    "nothing": (answer(b""), "executor_bad_answer"),
    "another schema in the middle": (
        answer(stream_of(ROWS, end=False) + stream_of(BATCHES[1])),
        "executor_bad_answer",
    ),
    "a batch of another schema": (
        answer(stream_of(ROWS, end=False) + stream_of(BATCHES[1])[-200:]),
        "executor_bad_answer",
    ),
    "more rows than it said": (answer(WHOLE, more="X-Arrow-Row-Count: 2\r\n"), "executor_bad_answer"),
    "fewer rows than it said": (answer(WHOLE, more="X-Arrow-Row-Count: 4\r\n"), "executor_bad_answer"),
    "rows that are no number": (answer(WHOLE, more="X-Arrow-Row-Count: -1\r\n"), "executor_bad_answer"),
    "a redirect": (
        answer(b"", status="307 Elsewhere", more="Location: http://169.254.169.254/\r\n"),
        "executor_redirects",
    ),
    "two answers": (
        answer(WHOLE, after=b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        "executor_broken",
    ),
    "two streams": (answer(WHOLE + WHOLE), "executor_bad_answer"),
    "json": (answer(b"{}", kind="application/json"), "executor_protocol"),
    "its own error": (
        answer(
            b'{"success":false,"error_code":"ParserException","error_message":"line 1"}', status="400 Bad"
        ),
        "ParserException",
    ),
    "no more tokens": (answer(b"", status="401 Who"), "executor_unauthorized"),
    "no http": (lambda stream: stream.send_all(b"SSH-2.0-x\r\n"), "executor_broken"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_answer_is_a_failed_build(settings: Settings, warehouse: Warehouse, case: str) -> None:
    """The build has failed with a code and a message, no reader got a byte, and nothing is left of it."""
    script, code = WRONG[case]
    warehouse.create(numbers(5))
    async with scripted(script) as server:  # noqa: SIM117  # too long for one line
        async with running(with_executor(settings, server)) as service, service.client() as client:
            found = await ended(client, double("wh:db.events"))
            assert ("failed", code) == (found["state"], found["error_code"]), found
            assert found["error_message"]
            begun = (await client.post("/v1/materialize", json=double("wh:db.events"))).json()
            read = await client.get(begun["stream_url"])
            assert read.status_code >= 400, read.text
            data = f"/v1/artifacts/{found['artifact_id']}/v/{found['version']}/data"
            assert 404 == (await client.get(data)).status_code
            stats = (await client.get("/v1/artifacts/stats")).json()
            assert 1 == stats["by_state"].get("ready", 0)  # the scan of the input
            assert len(server.heads) <= 2  # nothing was repeated by itself
    blobs = [
        path for path in Path(settings.artifact_dir).rglob("*") if path.is_file() and "blob" in str(path)
    ]
    assert 1 == len([path for path in blobs if path.stat().st_size]), blobs


async def test_an_executor_that_hangs_ends_at_the_time_limit_and_leaves_nothing(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The build fails as timed out; its slot, its descriptors and its connection are gone."""
    warehouse.create(numbers(5))
    async with scripted(silent) as server:
        settings = with_executor(settings, server, timeout_seconds=0.5)
        async with running(settings) as service, service.client() as client:
            await fetch(
                client, {"inputs": ["wh:db.events"], "transform": {"executor": "scan@v1", "params": {}}}
            )
            before = descriptors()
            found = await ended(client, double("wh:db.events"))
            assert ("failed", "transform_timeout") == (found["state"], found["error_code"])
            assert "timeout_seconds of double@*" in found["error_message"]
            with trio.fail_after(2):
                while descriptors() > before + 1:  # noqa: ASYNC110  # the system has no event for it
                    await trio.sleep(0.02)
            assert [f"/v1/executions/{found['build_id']}/cancel"] == server.cancels


async def test_a_result_over_the_limit_is_refused_while_it_comes(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The cap is on the bytes that arrive, whatever length was said."""
    warehouse.create(numbers(5))
    big = stream_of(pa.record_batch({"n": pa.array(range(100_000), pa.int64())}))
    async with scripted(answer(big)) as server:
        settings = with_executor(settings, server, max_output_bytes=10_000)
        async with running(settings) as service, service.client() as client:
            found = await ended(client, double("wh:db.events"))
            assert ("failed", "response_too_large") == (found["state"], found["error_code"])


async def test_one_tenants_failures_close_an_executor_for_no_other(
    settings: Settings, warehouse: Warehouse
) -> None:
    """After many failures of team-a it is refused at once, and team-b's builds still run."""
    warehouse.create(numbers(5))
    async with scripted(*[dying] * 5, answer(WHOLE)) as server:  # noqa: SIM117  # too long for one line
        async with running(with_executor(settings, server)) as service, service.client() as client:
            for _ in range(5):
                assert "executor_broken" == (await ended(client, double("wh:db.events")))["error_code"]
            assert "executor_unavailable" == (await ended(client, double("wh:db.events")))["error_code"]
            assert 5 == len(server.heads)
            other = {"headers": identity("bob", "team-b")}
            begun = (await client.post("/v1/materialize", json=double("wh:db.events"), **other)).json()
            assert 200 == (await client.get(begun["stream_url"], **other)).status_code


async def test_what_executors_run_is_listed_and_refused_like_any_transform(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A glob permits its references and lists none; a name in full is listed; scan@v1 cannot be taken over."""
    warehouse.create(numbers(5))
    entries = tuple(
        RegisteredTransform(ref, executor_url="http://executor.example:9000") for ref in ("triple@v2", "*@*")
    )
    settings = attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=entries))
    async with running(settings) as service, service.client() as client:
        found = (await client.get("/v1/transforms")).json()["transforms"]
        assert [("duckdb_sql@v1", "executor"), ("triple@v2", "executor")] == [
            (one["ref"], one["executor"]) for one in found
        ]
        odd = {"inputs": ["wh:db.events"], "transform": {"executor": "bad ref@v1", "params": {}}}
        assert 403 == (await client.post("/v1/materialize", json=odd)).status_code
        scan = {"inputs": ["wh:db.events"], "transform": {"executor": "scan@v1", "params": {}}}
        assert 5 == (await fetch(client, scan)).num_rows

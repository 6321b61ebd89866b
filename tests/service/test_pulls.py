"""Executors that fetch and bring by signed URLs: what a URL permits, once, and what it never does."""

from __future__ import annotations

import io
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs
import duckdb
import httpx
import pyarrow as pa
import pytest
import structlog
import trio
from executor_kit import ScriptedExecutor, answer, scripted, stream_of
from service_kit import Running, Warehouse, fetch, identity, numbers, running
from sidecar_kit import executor, install_functions

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection
from strata.executor.protocol.circuit_breaker import CircuitBreaker

ROWS = pa.record_batch({"n": pa.array([1, 2, 3], pa.int64())})
WHOLE = stream_of(ROWS)

Steps = Callable[[dict, httpx.AsyncClient], Awaitable[object]]


def double(*inputs: str, **params: object) -> dict:
    return {"inputs": [*inputs], "transform": {"executor": "double@v1", "params": params}}


def let_pull(settings: Settings, server: ScriptedExecutor, **entry: object) -> Settings:
    """Return settings with one executor of the pull model, whose ``strata_url`` is given once it is known."""
    registered = RegisteredTransform(
        "double@*", server.url, transport="signed", strata_url="http://127.0.0.1:1", **entry
    )
    return attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=(registered,)))


def tell_url(service: Running) -> None:
    """Tell executors where the server is."""
    runtime = service.service.registry.resources.transforms
    runtime.registry = tuple(attrs.evolve(one, strata_url=service.url) for one in runtime.registry)


def pulling(steps: Steps, body: bytes = b'{"success": true}', status: str = "200 OK") -> ScriptedExecutor:
    """Serve an executor that does some steps with each manifest, and answers then."""
    found: list[ScriptedExecutor] = []

    async def script(stream: trio.SocketStream) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            await steps(json.loads(found[0].bodies[-1]), client)
        await answer(body, status=status, kind="application/json")(stream)

    served = scripted(script)

    class Noted:
        async def __aenter__(self) -> ScriptedExecutor:
            found.append(await served.__aenter__())
            return found[0]

        async def __aexit__(self, *error: object) -> object:
            return await served.__aexit__(*error)

    return Noted()


async def begin(client: httpx.AsyncClient, body: dict) -> str:
    begun = await client.post("/v1/materialize", json={**body, "mode": "artifact"})
    assert 200 == begun.status_code, begun.text
    return begun.json()["build_id"]


async def ended(client: httpx.AsyncClient, build_id: str) -> dict:
    with trio.fail_after(60):
        while True:
            found = (await client.get(f"/v1/builds/{build_id}")).json()
            if found["state"] in ("ready", "failed"):
                return found
            await trio.sleep(0.01)


async def bring(manifest: dict, client: httpx.AsyncClient, data: bytes = WHOLE, **report: object) -> None:
    """Do what an executor does."""
    for one in manifest["inputs"]:
        fetched = await client.get(one["url"])
        assert one["byte_size"] == len(fetched.content)
    sent = await client.post(manifest["output"]["url"], content=data)
    assert 200 == sent.status_code, sent.text
    made = await client.post(manifest["finalize_url"], json=report)
    assert 200 == made.status_code, made.text


async def test_an_executor_fetches_the_rows_and_brings_the_result(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Inputs, log, result and its facts go by the URLs; each is refused the second time, no log has a signature."""
    warehouse.create(numbers(50))
    seen: dict[str, object] = {}

    async def steps(manifest: dict, client: httpx.AsyncClient) -> None:
        seen["manifest"] = manifest
        fetched = await client.get(manifest["inputs"][0]["url"])
        seen["rows"] = pa.ipc.open_stream(fetched.content).read_all().num_rows
        said = await client.post(manifest["log_url"] + "&stream=stdout&seq=0", content=b"half way\n")
        assert {"delivered": True} == said.json()
        log = await client.get(f"{service.url}/v1/builds/{manifest['build_id']}/log", headers=identity())
        seen["log"] = log.json()
        sent = await client.post(manifest["output"]["url"], content=WHOLE)
        seen["sent"] = sent.json()
        for method, url in (
            ("GET", manifest["inputs"][0]["url"]),
            ("POST", manifest["output"]["url"]),
        ):
            again = await client.request(method, url, content=WHOLE if method == "POST" else None)
            assert (409, "url_used") == (again.status_code, again.json()["error"])
        made = await client.post(manifest["finalize_url"], json={"byte_size": len(WHOLE), "row_count": 3})
        seen["made"] = made.json()
        again = await client.post(manifest["finalize_url"])
        assert again.status_code in (403, 409)

    with structlog.testing.capture_logs() as logs:
        async with pulling(steps) as server, running(let_pull(settings, server)) as service:
            tell_url(service)
            async with service.client() as client:
                build = await ended(client, await begin(client, double("wh:db.events", by=2)))
                assert "ready" == build["state"], build
                assert [1, 2, 3] == (await fetch(client, double("wh:db.events", by=2)))["n"].to_pylist()
                over = await client.post(seen["manifest"]["log_url"], content=b"too late")
                assert (403, "bad_signature") == (over.status_code, over.json()["error"])
    manifest = seen["manifest"]
    assert {"by": 2} == manifest["metadata"]["params"]
    assert ("double@v1", "team-a") == (manifest["metadata"]["executor_ref"], manifest["metadata"]["tenant"])
    assert (50, {"byte_size": len(WHOLE)}) == (seen["rows"], seen["sent"])
    assert ("half way\n", False) == (seen["log"]["text"], seen["log"]["ended"])
    assert build["artifact_uri"] == seen["made"]["artifact_uri"]
    assert (3, len(WHOLE)) == (seen["made"]["row_count"], seen["made"]["byte_size"])
    urls = [one["url"] for one in (*manifest["inputs"], manifest["output"])]
    secrets = [dict(parse_qsl(urlsplit(url).query))["signature"] for url in (*urls, manifest["log_url"])]
    assert any("/v1/artifacts/upload" in str(one) for one in logs)
    assert not [one for one in logs if any(secret in str(one) for secret in (*secrets, "signature="))]


async def no_upload(manifest: dict, client: httpx.AsyncClient) -> None:
    await client.get(manifest["inputs"][0]["url"])


def uploads(data: bytes, status: int = 400) -> Steps:
    async def steps(manifest: dict, client: httpx.AsyncClient) -> None:
        sent = await client.post(manifest["output"]["url"], content=data)
        assert status == sent.status_code, sent.text
        with suppress(httpx.HTTPError):
            assert 200 != (await client.post(manifest["finalize_url"])).status_code

    return steps


def reports(**report: object) -> Steps:
    async def steps(manifest: dict, client: httpx.AsyncClient) -> None:
        await client.post(manifest["output"]["url"], content=WHOLE)
        with suppress(httpx.HTTPError):
            assert 200 != (await client.post(manifest["finalize_url"], json=report)).status_code

    return steps


async def cut(manifest: dict, client: httpx.AsyncClient) -> None:
    """Send half of what was said, and leave."""
    parts = urlsplit(manifest["output"]["url"])
    stream = await trio.open_tcp_stream(parts.hostname, parts.port)
    head = f"POST {parts.path}?{parts.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(WHOLE)}\r\n\r\n"
    await stream.send_all(head.encode() + WHOLE[: len(WHOLE) // 2])
    await stream.aclose()
    await trio.sleep_forever()


async def too_early(manifest: dict, client: httpx.AsyncClient) -> None:
    made = await client.post(manifest["finalize_url"])
    assert (400, "nothing_uploaded") == (made.status_code, made.json()["error"])
    sent = await client.post(manifest["output"]["url"], content=WHOLE)
    assert 200 != sent.status_code


async def unfinished(manifest: dict, client: httpx.AsyncClient) -> None:
    assert 200 == (await client.post(manifest["output"]["url"], content=WHOLE)).status_code


def compressed() -> bytes:
    return stream_of(ROWS, options=pa.ipc.IpcWriteOptions(compression="zstd"))


WRONG = {
    "it brings nothing": (no_upload, "executor_bad_answer"),
    "it never says that it is whole": (unfinished, "executor_bad_answer"),
    "half a stream": (uploads(WHOLE[: len(WHOLE) // 2]), "executor_bad_answer"),
    "an upload that is cut off": (cut, "executor_bad_answer"),
    "another schema in the middle": (
        uploads(stream_of(ROWS, end=False) + stream_of(pa.record_batch({"other": ["x"]}))),
        "executor_bad_answer",
    ),
    "two streams": (uploads(WHOLE + WHOLE), "executor_bad_answer"),
    "junk": (uploads(b"junk" * 100), "executor_bad_answer"),
    "compressed": (uploads(compressed()), "executor_bad_answer"),
    "nothing at all": (uploads(b""), "executor_bad_answer"),
    "another length than it says": (reports(byte_size=len(WHOLE) - 8), "executor_bad_answer"),
    "more rows than it says": (reports(row_count=2), "executor_bad_answer"),
    "a number that is none": (reports(row_count="three"), "executor_bad_answer"),
    "whole before it has come": (too_early, "nothing_uploaded"),
    "too large": (
        uploads(stream_of(pa.record_batch({"n": pa.array(range(100_000), pa.int64())})), 413),
        "response_too_large",
    ),
}


@pytest.mark.parametrize("case", WRONG)
async def test_what_is_brought_wrongly_is_a_failed_build(
    settings: Settings, warehouse: Warehouse, case: str
) -> None:
    """The build has failed with a code; nothing of what was brought can be read, and nothing is left."""
    steps, code = WRONG[case]
    warehouse.create(numbers(5))
    async with pulling(steps) as server:
        settings = let_pull(settings, server, max_output_bytes=100_000)
        async with running(settings) as service, service.client() as client:
            tell_url(service)
            found = await ended(client, await begin(client, double("wh:db.events")))
            assert ("failed", code) == (found["state"], found["error_code"]), found
            data = f"/v1/artifacts/{found['artifact_id']}/v/{found['version']}/data"
            assert 404 == (await client.get(data)).status_code
            stats = (await client.get("/v1/artifacts/stats")).json()
            assert 1 == stats["by_state"].get("ready", 0)  # the scan of the input
            assert {} == service.service.registry.resources.transforms.pulls.pulls


@pytest.mark.parametrize(("case", "blamed"), [("an upload that is cut off", 0), ("junk", 1)])
async def test_an_upload_that_is_cut_off_is_no_failure_of_the_executor(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, case: str, blamed: int
) -> None:
    """A proxy or the network may have cut it: the circuit breaker counts what the executor did wrong."""
    failures: list[int] = []
    monkeypatch.setattr(CircuitBreaker, "failed", lambda _breaker: failures.append(1))
    warehouse.create(numbers(5))
    async with pulling(WRONG[case][0]) as server, running(let_pull(settings, server)) as service:
        tell_url(service)
        async with service.client() as client:
            assert "failed" == (await ended(client, await begin(client, double("wh:db.events"))))["state"]
    assert blamed == len(failures)


def changed(url: str, **values: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(dict(parse_qsl(parts.query)) | values)}"


async def test_a_url_permits_nothing_but_what_was_signed(settings: Settings, warehouse: Warehouse) -> None:
    """Each value that is changed, another path, another build, another operation: 403, and the URL stays unused."""
    warehouse.create(numbers(5))
    other: dict[str, dict] = {}

    async def steps(manifest: dict, client: httpx.AsyncClient) -> None:
        if "team-b" == manifest["metadata"]["tenant"]:
            other.update(manifest)
            ready.set()
            await trio.sleep_forever()
        output, finalize = manifest["output"]["url"], manifest["finalize_url"]
        fetching = manifest["inputs"][0]["url"]
        query = "?" + urlsplit(output).query
        wrong = [
            ("POST", changed(output, max_bytes="999999999999")),
            ("POST", changed(output, expires_at="9999999999")),
            ("POST", changed(output, attempt="2")),
            ("POST", changed(output, key="00000000")),
            ("POST", changed(output, signature="")),
            ("POST", changed(output, more="1")),
            ("POST", output + "&max_bytes=5"),
            ("POST", output.partition("&signature")[0]),
            ("POST", output.partition("?")[0]),
            ("POST", changed(output, build_id=other["build_id"])),  # of another tenant
            ("POST", finalize.partition("?")[0] + query),  # another operation
            ("POST", finalize.replace(manifest["build_id"], other["build_id"], 1)),
            ("GET", changed(fetching, input="1")),
            ("GET", changed(fetching, artifact_id="none")),
            ("HEAD", fetching),
        ]
        for method, url in wrong:
            refused = await client.request(method, url, content=WHOLE if method == "POST" else None)
            assert 403 == refused.status_code, (url, refused.text)
        # An identity helps as little as it is needed.
        with_name = await client.post(
            changed(output, max_bytes="5"), headers=identity("root", "team-a", "admin:*")
        )
        assert 403 == with_name.status_code
        await bring(manifest, client)

    ready = trio.Event()
    async with pulling(steps) as server:
        settings = attrs.evolve(let_pull(settings, server), auth_failure_burst=1000)
        async with running(settings) as service, service.client() as client:
            tell_url(service)
            async with service.client(**identity("bob", "team-b")) as bob:
                theirs = await begin(bob, double("wh:db.events"))
                await ready.wait()
                found = await ended(client, await begin(client, double("wh:db.events")))
                assert "ready" == found["state"], found
                await bob.post(f"/v1/builds/{theirs}/cancel")
                assert "failed" == (await ended(bob, theirs))["state"]


async def test_wrong_signatures_are_failed_authentications(settings: Settings, warehouse: Warehouse) -> None:
    """After some of them the address is told to wait, and what is signed still works from it."""
    warehouse.create(numbers(5))
    statuses: list[int] = []

    async def steps(manifest: dict, client: httpx.AsyncClient) -> None:
        for _ in range(5):
            refused = await client.post(changed(manifest["output"]["url"], signature="x"), content=WHOLE)
            statuses.append(refused.status_code)
        await bring(manifest, client)

    async with pulling(steps) as server:
        settings = attrs.evolve(
            let_pull(settings, server), auth_failure_burst=2, auth_failures_per_second=0.0001
        )
        async with running(settings) as service, service.client() as client:
            tell_url(service)
            found = await ended(client, await begin(client, double("wh:db.events")))
    assert "ready" == found["state"], found
    assert [403, 403, 429, 429, 429] == statuses


async def test_of_many_uploads_at_once_one_is_let_in(settings: Settings, warehouse: Warehouse) -> None:
    """The URL is used up before the first byte of a body: the result is that of the one, whole."""
    warehouse.create(numbers(5))
    statuses: list[int] = []

    async def steps(manifest: dict, client: httpx.AsyncClient) -> None:
        async def send(number: int) -> None:
            data = stream_of(pa.record_batch({"n": pa.array([number] * 1000, pa.int64())}))
            sent = await client.post(manifest["output"]["url"], content=data)
            statuses.append(sent.status_code)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(send, number)
        await client.post(manifest["finalize_url"])

    async with pulling(steps) as server, running(let_pull(settings, server)) as service:
        tell_url(service)
        async with service.client() as client:
            rows = (await fetch(client, double("wh:db.events")))["n"].to_pylist()
    assert [200, *[409] * 7] == sorted(statuses)
    assert 1000 == len(rows)
    assert 1 == len(set(rows))


async def test_urls_expire_with_their_time(settings: Settings, warehouse: Warehouse) -> None:
    """After it nothing is let in, though the build still waits."""
    warehouse.create(numbers(5))
    statuses: list[int] = []

    async def steps(manifest: dict, client: httpx.AsyncClient) -> None:
        signer = service.service.registry.resources.transforms.pulls.signer
        real = signer.clock
        signer.clock = lambda: real() + 301
        for method, url in (("GET", manifest["inputs"][0]["url"]), ("POST", manifest["output"]["url"])):
            statuses.append((await client.request(method, url)).status_code)
        signer.clock = real

    async with pulling(steps) as server, running(let_pull(settings, server)) as service:
        tell_url(service)
        async with service.client() as client:
            found = await ended(client, await begin(client, double("wh:db.events")))
    assert "failed" == found["state"]
    assert [403, 403] == statuses


async def test_a_busy_executor_gets_other_urls_with_the_next_attempt(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Those of the attempt that it refused are used up, and it may have kept them."""
    warehouse.create(numbers(5))
    manifests: list[dict] = []

    async def busy(stream: trio.SocketStream) -> None:
        manifests.append(json.loads(server.bodies[-1]))
        await answer(b"{}", status="503 Busy", kind="application/json", more="Retry-After: 0\r\n")(stream)

    async def free(stream: trio.SocketStream) -> None:
        manifests.append(json.loads(server.bodies[-1]))
        async with httpx.AsyncClient(timeout=60) as client:
            old = await client.post(manifests[0]["output"]["url"], content=WHOLE)
            assert (409, "url_used") == (old.status_code, old.json()["error"])
            await bring(manifests[1], client)
        await answer(b"{}", kind="application/json")(stream)

    async with scripted(busy, free) as server, running(let_pull(settings, server)) as service:
        tell_url(service)
        async with service.client() as client:
            found = await ended(client, await begin(client, double("wh:db.events")))
    assert "ready" == found["state"], found
    assert [1, 2] == [one["attempt"] for one in manifests]


async def test_a_cancelled_build_ends_what_its_executor_still_sends(
    settings: Settings, warehouse: Warehouse
) -> None:
    """An upload under way is refused, the executor is told, and no descriptor or attempt is left."""
    warehouse.create(numbers(5))
    sending, statuses = trio.Event(), []

    async def steps(manifest: dict, client: httpx.AsyncClient) -> None:
        async def endless():
            yield WHOLE[:64]
            sending.set()
            while True:
                await trio.sleep(0.01)
                yield b""

        with suppress(httpx.HTTPError):
            sent = await client.post(manifest["output"]["url"], content=endless())
            statuses.append(sent.status_code)

    async with pulling(steps) as server, running(let_pull(settings, server)) as service:
        tell_url(service)
        async with service.client() as client:
            build_id = await begin(client, double("wh:db.events"))
            await sending.wait()
            await client.post(f"/v1/builds/{build_id}/cancel")
            assert "failed" == (await ended(client, build_id))["state"]
            with trio.fail_after(30):
                while not server.cancels:  # noqa: ASYNC110  # its kit has no event for it
                    await trio.sleep(0.01)
        assert {} == service.service.registry.resources.transforms.pulls.pulls
    assert 200 not in statuses


async def test_our_own_executor_fetches_and_brings(
    settings: Settings, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL gives what DuckDB gives, a function what it computes; its log is there, its errors are the build's."""
    install_functions(tmp_path, monkeypatch)
    table = numbers(1000)
    warehouse.create(table)
    (tmp_path / "token").write_text("secret")
    query = "SELECT id % 7 AS k, sum(value) AS s FROM input0 GROUP BY k ORDER BY k"
    async with executor(tmp_path / "builds") as served:
        entries = tuple(
            RegisteredTransform(
                ref,
                served.url,
                token_file=str(tmp_path / "token"),
                transport="signed",
                strata_url="http://127.0.0.1:1",
            )
            for ref in ("duckdb_sql@v1", "double@v1")
        )
        settings = attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=entries))
        async with running(settings) as service, service.client() as client:
            tell_url(service)

            def body(ref: str, **params: object) -> dict:
                return {"inputs": ["wh:db.events"], "transform": {"executor": ref, "params": params}}

            found = await fetch(client, body("duckdb_sql@v1", sql=query))
            with duckdb.connect() as bare:
                bare.register("input0", table)
                assert bare.sql(query).to_arrow_table().equals(found.replace_schema_metadata(None))
            build = await ended(client, await begin(client, body("double@v1", by=3)))
            assert "ready" == build["state"], build
            read = await client.get(f"/v1/artifacts/{build['artifact_id']}/v/{build['version']}/data")
            rows = pa.ipc.open_stream(io.BytesIO(read.content)).read_all()
            assert [3 * one for one in range(1000)] == rows["id"].to_pylist()
            log = (await client.get(f"/v1/builds/{build['build_id']}/log")).json()
            assert "doubling 1000\n" == log["text"]
            wrong = await ended(client, await begin(client, body("duckdb_sql@v1", sql="SELEC")))
            assert ("failed", "ParserException") == (wrong["state"], wrong["error_code"])
        assert [] == [*(tmp_path / "builds").iterdir()]

"""Our own executor by manifests: where it may go, what it checks, and that it leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
import trio
from executor_kit import ScriptedExecutor, answer, scripted
from sidecar_kit import executor

from strata.executor.protocol.messages import DescriptionError
from strata.executor.sidecar.pulling import Puller, parse_manifest
from strata.executor.verify.subject import rows
from strata.http.calling.addresses import AddressRules

SQL = {"sql": "SELECT count(*) AS n FROM input0"}


def manifest(base: str, *, output: str | None = None, **more: object) -> dict:
    """Return a manifest in the shape of existing servers."""
    return {
        "build_id": "b1",
        "metadata": {"build_id": "b1", "executor_ref": "duckdb_sql@v1", "params": SQL, "tenant": "t"},
        "inputs": [{"url": f"{base}/in?signature=secret", "artifact_id": "a", "version": 1}],
        "output": {"url": output or f"{base}/out?signature=secret", "max_bytes": 1 << 20},
        "finalize_url": f"{base}/finalize?signature=secret",
        "log_url": f"{base}/log?signature=secret",
        **more,
    }


async def run(url: str, body: dict | bytes) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60, headers={"Authorization": "Bearer secret"}) as client:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await client.post(f"{url}/v1/execute-manifest", content=content)


def asked(server: ScriptedExecutor) -> Sequence[str]:
    return [head.split("?")[0] for head in server.heads]


async def test_it_fetches_runs_brings_and_says_so(tmp_path: Path) -> None:
    """A manifest as existing servers send it: the requests in their order, and the answer."""
    done = answer(b'{"status":"finalized"}', kind="application/json")
    async with scripted(answer(rows(3)), done) as server, executor(tmp_path / "builds") as served:
        found = (await run(served.url, manifest(server.url))).json()
        assert (True, "b1", {"status": "finalized"}) == (
            found["success"],
            found["build_id"],
            found["finalize"],
        )
        assert ["GET /in", "POST /out", "POST /finalize"] == asked(server)
        assert found["byte_size"] == len(server.bodies[1])
        assert found["byte_size"] == json.loads(server.bodies[2])["byte_size"]
        assert [] == [*(tmp_path / "builds").iterdir()]
        refused = await httpx.AsyncClient().post(f"{served.url}/v1/execute-manifest", content=b"{}")
        assert 401 == refused.status_code


PLACES = (
    "http://169.254.169.254/latest",
    "http://10.0.0.1/x",
    "http://[::ffff:127.0.0.1]/x",
    "http://2130706433/x",
    "http://localhost/x",
    "file:///etc/passwd",
    "ftp://example.org/x",
    "http://user:word@example.org/x",
)


@pytest.mark.parametrize("place", PLACES)
async def test_it_goes_to_no_address_that_is_not_public(tmp_path: Path, place: str) -> None:
    """By default; the error names the host and no signature, and nothing is left."""
    async with executor(tmp_path / "builds") as served:
        served.app.puller = Puller(served.app.runner)
        found = await run(served.url, manifest(place))
        assert 400 == found.status_code
        assert "AddressRefused" == found.json()["error_code"]
        assert "secret" not in found.text
        assert [] == [*(tmp_path / "builds").iterdir()]


async def test_a_wrong_scheme_anywhere_is_refused_before_any_request(tmp_path: Path) -> None:
    """All URLs are looked at first; a permitted host may have a private address."""
    async with scripted(answer(rows(3))) as server, executor(tmp_path / "builds") as served:
        served.app.puller = Puller(served.app.runner, AddressRules(hosts=["127.0.0.1"]))
        found = await run(served.url, manifest(server.url, output="file:///tmp/x"))
        assert (400, []) == (found.status_code, server.heads)


FAULTS = {
    "another length": ([answer(rows(3))], {"byte_size": 7}, "TransferFailed"),
    "a refusal": ([answer(b"", status="403 No")], {}, "TransferFailed"),
    "a redirect": (
        [answer(b"", status="302 Go", more="Location: http://10.0.0.1/\r\n")],
        {},
        "TransferFailed",
    ),
    "half": ([answer(rows(3), length=10_000_000)], {}, "TransferFailed"),
    "too large": ([answer(b"0" * 300_000)], {}, "InputTooLarge"),
    "the result is refused": ([answer(rows(3)), answer(b"", status="413 Large")], {}, "TransferFailed"),
    "the end is refused": (
        [answer(rows(3)), answer(b"{}"), answer(b"", status="409 Used")],
        {},
        "TransferFailed",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
async def test_a_url_that_fails_is_a_failed_build(tmp_path: Path, case: str) -> None:
    """Its answer says which URL, without its signature; files are gone."""
    scripts, head, code = FAULTS[case]
    async with scripted(*scripts) as server, executor(tmp_path / "builds", input_bytes=200_000) as served:
        body = manifest(server.url)
        body["inputs"][0] |= head
        found = await run(served.url, body)
        assert code == found.json()["error_code"], found.text
        assert "signature" not in found.text
        assert [] == [*(tmp_path / "builds").iterdir()]


async def test_a_result_over_its_bound_is_not_sent(tmp_path: Path) -> None:
    """The bound is of the manifest."""
    async with scripted(answer(rows(3))) as server, executor(tmp_path / "builds") as served:
        body = manifest(server.url)
        body["output"]["max_bytes"] = 10
        found = await run(served.url, body)
        assert (413, "OutputTooLarge") == (found.status_code, found.json()["error_code"])
        assert ["GET /in"] == asked(server)


async def test_a_manifest_is_cancelled_by_its_build(tmp_path: Path) -> None:
    """While it fetches, too."""
    fetching = trio.Event()

    async def endless(stream: trio.SocketStream) -> None:
        fetching.set()
        await trio.sleep_forever()

    async with scripted(endless) as server, executor(tmp_path / "builds") as served:
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await fetching.wait()
                async with httpx.AsyncClient(headers={"Authorization": "Bearer secret"}) as client:
                    await client.post(f"{served.url}/v1/executions/b1/cancel")

            nursery.start_soon(cancel)
            assert "Cancelled" == (await run(served.url, manifest(server.url))).json()["error_code"]
        assert {} == served.app.running
        assert [] == [*(tmp_path / "builds").iterdir()]


BROKEN = (
    b"",
    b"[]",
    b"{}",
    b'{"metadata": {}}',
    json.dumps(manifest("http://h") | {"output": 5}).encode(),
    json.dumps(manifest("http://h", finalize_url=5)).encode(),
    json.dumps(manifest("http://h", inputs=[{"name": "input0"}])).encode(),
    json.dumps(manifest("http://h", metadata={"params": {}})).encode(),
)


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_manifest_is_refused(text: bytes) -> None:
    """With what is wrong."""
    with pytest.raises(DescriptionError, match=r"manifest|ref"):
        parse_manifest(text)

"""Our own executor over sockets: it keeps the protocol, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio
from sidecar_kit import Served, executor, install_functions, run
from structlog.testing import capture_logs
from trace_kit import traced

from strata.executor.protocol.client import Executor, ExecutorError
from strata.executor.verify.checks import verify
from strata.executor.verify.subject import Subject


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_functions(tmp_path, monkeypatch)


async def test_our_executor_keeps_the_protocol(tmp_path: Path) -> None:
    """All checks of `strata executor verify` pass; with a token that is not its own many do not."""
    async with executor(tmp_path / "builds") as served:
        sql = {"sql": "SELECT id, upper(name) AS name FROM input0 ORDER BY id"}
        found = await verify(Subject(served.url, "secret", "duckdb_sql@v1", sql), lambda _: None)
        assert [] == [one for one in found if one.fault is not None]
        assert 25 <= len(found)
    assert [] == [*(tmp_path / "builds").iterdir()]


FAULTS = [
    ("nothing@v1", {}, "TypeError", "returns a table"),
    ("missing@v1", {}, "AttributeError", "missing"),
    ("double@v1", {}, "KeyError", "by"),
    ("reads@v1", {"path": "/etc/passwd"}, "PermissionError", "denied"),
]


async def test_a_function_that_fails_says_why_and_reads_no_file(tmp_path: Path, functions: None) -> None:
    """Its exception's class and message are the answer; only the interpreter's files can be read."""
    async with executor(tmp_path / "builds") as served:
        assert [0, 1, 1, 2, 2, 3] == (await run(served, "batches@v1"))["n"].to_pylist()
        assert [3] == (await run(served, "duckdb_sql@v1", sql="SELECT sum(id)::INT AS s FROM input0"))[
            "s"
        ].to_pylist()
        for ref, params, code, words in FAULTS:
            with pytest.raises(ExecutorError, match=words) as caught:
                await run(served, ref, **params)
            assert (code, True) == (caught.value.code, caught.value.own)
        with pytest.raises(ExecutorError, match="no transform of this executor"):
            await run(served, "unknown@v1")


async def test_a_class_that_a_function_names_is_in_no_span(tmp_path: Path, functions: None) -> None:
    """Its name may be text of a row: the caller gets it, the operator's collector does not."""
    seen = {}
    with traced() as found:
        async with executor(tmp_path / "builds") as served:
            served.app.tracer = found.opened.tracer
            for ref, code in (("names@v1", "TextOfARow"), ("double@v1", "KeyError")):
                with pytest.raises(ExecutorError) as caught:
                    await run(served, ref)
                assert code == caught.value.code
            sql = "SELECT absent FROM input0"
            with pytest.raises(ExecutorError) as caught:
                await run(served, "duckdb_sql@v1", sql=sql)
        seen = {one.attributes["error.type"]: one for one in found.seen() if "error.type" in one.attributes}
    assert {"FunctionError", "KeyError", caught.value.code} == set(seen)


NAMES = {
    "TextOfARow_s3cr3t": "TextOfARow_s3cr3t",
    "s3cr3t text\n{'event': 'forged'}": "FunctionError",
    "s3cr3t" * 1000: "FunctionError",
    "": "FunctionError",
}


async def test_a_class_that_a_function_names_is_in_no_log(tmp_path: Path, functions: None) -> None:
    """The log has one word for all of them, and no caller gets a name that is none."""
    async with executor(tmp_path / "builds") as served:
        for name, told in NAMES.items():
            with capture_logs() as logged, pytest.raises(ExecutorError, match="gone") as caught:
                await run(served, "names@v1", name=name)
            seen = [one["code"] for one in logged if one["event"] == "build failed"]
            assert (told, ["FunctionError"]) == (caught.value.code, seen)


FORGED = ("no JSON", "[]", "{}", "[" * 10_000, '{"code": ["s3cr3t"], "message": {"a": 1}}')


@pytest.mark.parametrize("text", FORGED)
async def test_a_process_that_sends_its_own_failure_is_a_failed_build(
    tmp_path: Path, functions: None, text: str
) -> None:
    """A function's process may send anything: the build fails, and the executor goes on."""
    async with executor(tmp_path / "builds") as served:
        with pytest.raises(ExecutorError) as caught:
            await run(served, "forges@v1", text=text)
        assert ("FunctionError", True) == (caught.value.code, caught.value.own)
        assert [0, 1, 1, 2, 2, 3] == (await run(served, "batches@v1"))["n"].to_pylist()


async def test_a_build_that_is_late_cancelled_or_left_leaves_nothing(tmp_path: Path, functions: None) -> None:
    """Its process, files and place are gone within two seconds."""
    builds = tmp_path / "builds"

    async def at_rest(served: Served) -> None:
        with trio.fail_after(5):
            while served.app.running or [*builds.iterdir()]:  # noqa: ASYNC110  # files have no event
                await trio.sleep(0.01)  # files have no event
        assert 0 == served.app.runner._python.running

    async with executor(builds, seconds=1.0) as served:
        with pytest.raises(ExecutorError) as caught:
            await run(served, "slow@v1")
        assert "executor_timeout" == caught.value.code
        await at_rest(served)
    async with executor(builds) as served:
        with trio.move_on_after(3):
            await run(served, "slow@v1")
        await at_rest(served)

        async def cancelled() -> None:
            with pytest.raises(ExecutorError, match="cancelled"):
                await run(served, "slow@v1", "b2")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancelled)
            with trio.fail_after(20):
                while "b2" not in served.app.running:  # noqa: ASYNC110  # no event of the executor
                    await trio.sleep(0.01)  # no event of the executor
            await Executor(served.url, "secret").cancel("b2")
        await at_rest(served)


async def test_what_is_too_much_is_refused(tmp_path: Path) -> None:
    """Inputs over the limit are 413, a wrong token 401, and beyond the builds at a time 503."""
    async with executor(tmp_path / "builds", input_bytes=100) as served:
        with pytest.raises(ExecutorError, match="more than 100 bytes"):
            await run(served, "duckdb_sql@v1", sql="FROM input0")
        async with httpx.AsyncClient() as client:
            assert 401 == (await client.post(f"{served.url}/v1/execute")).status_code
            served.app.most = 0
            full = await client.post(f"{served.url}/v1/execute", headers={"Authorization": "Bearer secret"})
            assert (503, "5") == (full.status_code, full.headers["retry-after"])


FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9000"},
    {"Host": "evil.example"},
    {"Host": "evil.example:9000"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "10.0.0.1:9000"},
    {"Host": "localhost@evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_without_a_token_no_page_of_a_browser_is_answered(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """Neither one of another site, nor one whose host name was led to the loopback; a token is what else tells."""
    for token, status in ((None, 403), ("secret", 401)):
        async with executor(tmp_path / "builds", token=token) as served, httpx.AsyncClient() as client:
            for method, path in (("POST", "/v1/execute"), ("POST", "/v1/executions/b/cancel")):
                refused = await client.request(method, f"{served.url}{path}", headers=headers)
                assert status == refused.status_code, refused.text
            health = await client.get(f"{served.url}/health", headers=headers)
            assert (403 if token is None else 200) == health.status_code


async def test_without_a_token_programs_on_the_loopback_are_answered(tmp_path: Path) -> None:
    """By each of its names."""
    async with executor(tmp_path / "builds", token=None) as served, httpx.AsyncClient() as client:
        for host in ("127.0.0.1", "127.0.0.1:9000", "localhost:9000", "LOCALHOST", "[::1]:9000"):
            found = await client.post(f"{served.url}/v1/executions/b/cancel", headers={"Host": host})
            assert 200 == found.status_code, host
        assert 200 == (await client.get(f"{served.url}/health")).status_code

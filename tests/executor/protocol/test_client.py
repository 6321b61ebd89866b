"""The server's side: what an executor may do wrong is an error with a code, and only what is safe is repeated."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
import pytest
import trio
import trio.testing
from executor_kit import answer, dying, scripted, silent, stream_of

from strata.executor.protocol.circuit_breaker import MOST_FAILURES
from strata.executor.protocol.client import Executor, ExecutorError
from strata.executor.protocol.messages import ARROW_STREAM, BuildDescription, InputHead, parse_description
from strata.executor.protocol.multipart import Part
from strata.http.calling.addresses import AddressRules


@pytest.fixture
def quick_clock() -> trio.testing.MockClock:
    """A virtual clock that waits for sockets before it jumps."""
    return trio.testing.MockClock(autojump_threshold=0.05)


WHOLE = stream_of(pa.record_batch({"a": [1, 2]}))
WHAT = BuildDescription("build-1", "double@v1", {"x": 1}, [InputHead("input0")], tenant="team-a")


async def run(executor: Executor) -> bytes:
    parts = [Part("input0", "input0.arrow", ARROW_STREAM, b"rows")]
    async with executor.execute(WHAT, parts, media_type=ARROW_STREAM) as response:
        return b"".join([part async for part in response])


async def test_a_build_is_sent_as_the_protocol_says() -> None:
    """Headers, the description and the input are what executors of this protocol read."""
    async with scripted(answer(WHOLE)) as server:
        assert WHOLE == await run(Executor(f"{server.url}/v1/execute", "secret"))
    head, body = server.heads[0].lower(), server.bodies[0]
    assert head.startswith("post /v1/execute http/1.1")
    for line in (
        "x-strata-executor-protocol: v1",
        "authorization: bearer secret",
        "x-strata-build-id: build-1",
        "x-strata-attempt: 1",
    ):
        assert line in head
    text = body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--", 1)[0]
    found = json.loads(text)
    assert ("v1", "build-1", "double@v1", "team-a") == (
        found["protocol_version"],
        found["build_id"],
        found["transform"]["ref"],
        found["tenant"],
    )
    assert WHAT.params == parse_description(text).params
    assert b'name="input0"; filename="input0.arrow"' in body
    assert "secret" not in repr(Executor(server.url, "secret"))


WRONG = [
    (dying, "executor_broken"),
    (answer(WHOLE[:-20], length=len(WHOLE)), "executor_broken"),
    (answer(WHOLE, after=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"), "executor_broken"),
    (answer(b"", status="302 Found", more="Location: http://169.254.169.254/\r\n"), "executor_redirects"),
    (answer(b"no", status="401 Unauthorized"), "executor_unauthorized"),
    (answer(b"oops", status="500 Internal"), "executor_failed"),
    (answer(b"", status="202 Accepted"), "executor_failed"),
    (answer(b"{}", kind="application/json"), "executor_protocol"),
    (answer(WHOLE, more="X-Strata-Executor-Protocol: v2\r\n"), "executor_protocol"),
    (
        answer(b'{"success":false,"error_code":"ParserException","error_message":"bad"}', status="400 Bad"),
        "ParserException",
    ),
    (answer(b'{"success":false,"error":"late"}', status="408 Late"), "executor_timeout"),
    (answer(b"[" * 60000, status="500 Deep"), "executor_failed"),
]


@pytest.mark.parametrize(("script", "code"), WRONG)
async def test_each_wrong_answer_has_its_code_and_is_not_repeated(script: Callable, code: str) -> None:
    """An executor that began with a build is not asked again; the message is the user's."""
    async with scripted(script, answer(WHOLE)) as server:
        with pytest.raises(ExecutorError) as caught:
            await run(Executor(server.url))
    assert code == caught.value.code
    assert 1 == len(server.heads)


async def test_a_busy_executor_is_asked_again_with_the_next_attempt(
    quick_clock: trio.testing.MockClock,
) -> None:
    """503 with Retry-After is waited for; each attempt has its number and the same build."""
    busy = answer(b"", status="503 Busy", more="Retry-After: 2\r\n")
    async with scripted(busy, busy, answer(WHOLE)) as server:
        assert WHOLE == await run(Executor(server.url))
    assert ["1", "2", "3"] == [head.lower().split("x-strata-attempt: ")[1][0] for head in server.heads]


async def test_an_executor_that_hangs_is_left_at_the_callers_deadline(
    quick_clock: trio.testing.MockClock,
) -> None:
    """The deadline of the caller is the deadline of the call, and the connection is closed."""
    async with scripted(silent) as server:
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await run(Executor(server.url))


async def test_too_many_failures_open_the_circuit_until_the_health_is_good(
    quick_clock: trio.testing.MockClock,
) -> None:
    """No further call is made meanwhile; after the pause the health is asked first."""
    async with scripted(*[dying] * MOST_FAILURES, answer(WHOLE)) as server:
        executor = Executor(server.url)
        for _ in range(MOST_FAILURES):
            with pytest.raises(ExecutorError):
                await run(executor)
        with pytest.raises(ExecutorError) as caught:
            await run(executor)
        assert ("executor_unavailable", MOST_FAILURES) == (caught.value.code, len(server.heads))
        await trio.sleep(6)
        health, server.health = server.health, None
        with pytest.raises(ExecutorError) as caught:
            await run(executor)
        assert ("executor_unhealthy", 1) == (caught.value.code, server.health_checks)
        server.health = health
        await trio.sleep(11)
        assert WHOLE == await run(executor)
        assert not executor.breaker.is_open


async def test_an_executor_at_a_forbidden_address_gets_no_request() -> None:
    """A private address is refused where only public ones are permitted; a closed port is unreachable."""
    async with scripted(answer(WHOLE)) as server:
        with pytest.raises(ExecutorError) as caught:
            await run(Executor(server.url, rules=AddressRules()))
        assert ("executor_unreachable", []) == (caught.value.code, server.heads)


async def test_health_says_what_an_executor_can_do() -> None:
    """Its transforms and versions are read; anything else is an error."""
    async with scripted(answer(WHOLE)) as server:
        found = await Executor(server.url).health()
        assert (("double@v1",), ("v1",)) == (found.refs, found.versions)

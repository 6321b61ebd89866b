"""Large bodies are streamed to their handler with back pressure and refused above their cap."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from strata.auth import IdentityContract
from strata.http.door.body import DRAIN_BYTES
from strata.http.door.front_door import FrontDoor
from strata.http.door.uploads import UploadBody, UploadRoute
from strata.http.problems import Problem, ProblemError

TOKEN = "t" * 20
GOOD = [(b"x-strata-proxy-token", TOKEN.encode()), (b"x-strata-principal", b"ana")]
CONTRACT = IdentityContract(mode="trusted_proxy", tokens=(TOKEN,))
MIB = b"x" * 1024 * 1024


async def inside(_scope: dict, _receive: Callable, _send: Callable) -> None:
    raise AssertionError("an upload never reaches the application")


class Client:
    """Sends parts of a body as they are received."""

    def __init__(self, pieces: int, *, ends: bool = True, then: str = "disconnect") -> None:
        self.left = pieces
        self.ends = ends
        self.then = then
        self.sent: list[dict] = []

    async def receive(self) -> dict:
        await trio.lowlevel.checkpoint()
        if self.left:
            self.left -= 1
            return {"type": "http.request", "body": MIB, "more_body": self.left > 0 or not self.ends}
        if self.then == "silence":
            await trio.sleep_forever()
        return {"type": "http.disconnect"}

    async def send(self, message: dict) -> None:
        self.sent.append(message)

    @property
    def answer(self) -> tuple[int, dict, dict]:
        body = b"".join(message.get("body", b"") for message in self.sent[1:])
        return self.sent[0]["status"], json.loads(body), dict(self.sent[0]["headers"])


async def upload(client: Client, handler, *, cap: int = 10, headers: tuple = ()) -> Client:
    route = UploadRoute("PUT", re.compile(r"/v1/uploads/(\w+)"), handler, cap * len(MIB))
    door = FrontDoor(
        inside,
        contract=CONTRACT,
        registry=None,
        max_request_bytes=1000,
        request_id=lambda _headers: "r",
        uploads=[route],
    )
    scope = {"type": "http", "method": "PUT", "path": "/v1/uploads/it", "headers": [*GOOD, *headers]}
    await door(scope, client.receive, client.send)
    return client


async def take(_context, match: re.Match[str], body: UploadBody) -> bytes:
    taken = 0
    async for piece in body:
        taken += len(piece)
    return json.dumps({"name": match[1], "bytes": taken}).encode()


async def test_the_handler_gets_every_byte_and_answers() -> None:
    """A body as large as the upload's cap, to the byte, reaches the handler whole."""
    client = await upload(Client(10), take)
    assert (200, {"name": "it", "bytes": 10 * len(MIB)}) == client.answer[:2]


async def test_nothing_is_read_that_the_handler_does_not_take() -> None:
    """A handler that does not read holds back the client."""
    client, left = Client(10), []

    async def slowly(_context, _match, body: UploadBody) -> bytes:
        async for _ in body:
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            left.append(client.left)
        return b"{}"

    await upload(client, slowly)
    assert list(range(9, -1, -1)) == left


@pytest.mark.parametrize("declared", [None, b"1", b"999999999999"])
async def test_the_cap_is_measured_while_reading(declared: bytes | None) -> None:
    """The cap holds whatever Content-Length says, and the rest is drained before the 413."""
    headers = () if declared is None else ((b"content-length", declared),)
    client = await upload(Client(30), take, headers=headers)
    status, body, sent = client.answer
    assert (413, "upload_too_large", 0) == (status, body["error"], client.left)
    assert b"connection" not in sent


async def test_a_body_without_end_ends_its_connection() -> None:
    """Draining stops at a cap of its own, and the connection is closed."""
    client = await upload(Client(10 + 10 + DRAIN_BYTES // len(MIB), ends=False), take)
    status, _body, sent = client.answer
    assert (413, b"close") == (status, sent[b"connection"])


async def test_a_piece_that_does_not_come_is_408(autojump_clock: MockClock) -> None:
    """A client that stalls gets a 408."""
    client = await upload(Client(3, ends=False, then="silence"), take)
    assert 408 == client.answer[0]
    assert trio.current_time() <= 121


async def test_a_body_that_drips_is_408(autojump_clock: MockClock) -> None:
    """A body that arrives at a byte a second is a 408."""
    client = Client(0, ends=False)

    async def drip() -> dict:
        await trio.sleep(1)
        return {"type": "http.request", "body": b"x", "more_body": True}

    client.receive = drip  # type: ignore[method-assign]  # a stand-in
    await upload(client, take)
    assert 408 == client.answer[0]
    assert 60 <= trio.current_time() <= 62


async def test_a_slow_handler_is_not_the_clients_fault(autojump_clock: MockClock) -> None:
    """The time that the handler takes does not count as the client's."""

    async def slowly(_context, _match, body: UploadBody) -> bytes:
        async for _ in body:
            await trio.sleep(1000)
        return b"{}"

    assert 200 == (await upload(Client(5), slowly)).answer[0]


async def test_a_handler_that_swallows_the_refusal_does_not_lift_the_cap() -> None:
    """The response is 413 even if the handler catches the refusal."""

    async def deaf(_context, _match, body: UploadBody) -> bytes:
        with suppress(ProblemError):
            async for _ in body:
                pass
        return b"{}"

    assert 413 == (await upload(Client(30), deaf)).answer[0]


async def test_an_answer_before_the_end_comes_after_the_rest_was_drained() -> None:
    """An early response waits until the body is drained: the next request may be another user's."""

    async def hasty(_context, _match, _body: UploadBody) -> bytes:
        return b"{}"

    client = await upload(Client(30), hasty)
    assert (200, 0) == (client.answer[0], client.left)
    assert b"connection" not in client.answer[2]


async def test_a_client_that_leaves_gets_no_answer() -> None:
    """A disconnect during the body is raised in the handler, and no response is sent."""
    heard = []

    async def note(_context, _match, body: UploadBody) -> bytes:
        try:
            async for _ in body:
                pass
        except Exception as error:
            heard.append(type(error).__name__)
            raise
        return b"{}"

    client = await upload(Client(3, ends=False), note)
    assert ["UploadGoneError"] == heard
    assert [] == client.sent


async def test_a_handler_may_refuse_before_it_reads() -> None:
    """An unread body is drained before the response, and the connection is kept."""

    async def refuse(_context, _match, _body) -> bytes:
        raise ProblemError(Problem(404, "Artifact not found"))

    client = await upload(Client(5), refuse)
    status, _body, sent = client.answer
    assert (404, 0) == (status, client.left)
    assert b"connection" not in sent


SERVER = """
import json, re, sys
import trio
from strata.auth import IdentityContract
from strata.http.door.front_door import FrontDoor
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.http.door.uploads import UploadRoute

async def stall(context, match, body):
    first = True
    async for piece in body:
        if first:
            await trio.sleep(float(match[1]))
            first = False
    return json.dumps({"bytes": body.size}).encode()

async def main():
    contract = IdentityContract(mode="trusted_proxy", tokens=("t" * 20,))
    route = UploadRoute("PUT", re.compile(r"/stall/([0-9.]+)"), stall, 2**31 - 1)
    door = FrontDoor(
        None, contract=contract, registry=None, max_request_bytes=1000, request_id=lambda _: "r", uploads=[route]
    )
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(lambda task_status: serve(
            door, [Bind()], stop=trio.sleep_forever, grace=1, task_status=task_status))
        print(urls[0].rsplit(":", 1)[1], flush=True)

trio.run(main)
"""


def rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.slow
@pytest.mark.alone
def test_an_upload_of_two_gigabytes_holds_no_memory_and_is_refused_at_its_cap(tmp_path: Path) -> None:
    """The body is never held in memory, which Quart-Trio would do before its handler runs."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, cwd=tmp_path, text=True
    ) as server:
        assert server.stdout is not None
        try:
            port = int(server.stdout.readline())
            size, sent, most = 2**31, 0, 0
            head = f"PUT /stall/5 HTTP/1.1\r\nHost: x\r\nX-Strata-Proxy-Token: {TOKEN}\r\nX-Strata-Principal: a\r\n"
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                # Chunked: no length is declared, so the cap is enforced by counting.
                connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
                before, began, held = rss(server.pid), time.monotonic(), 0
                while sent < size:
                    connection.sendall(b"%x\r\n" % len(MIB) + MIB + b"\r\n")
                    sent += len(MIB)
                    most = max(most, rss(server.pid))
                    if time.monotonic() - began < 3:
                        held = sent
                connection.sendall(b"0\r\n\r\n")
                answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 413")
            assert held < 32 * 1024 * 1024, "the client was not held back while the handler stalled"
            assert most - before < 32 * 1024 * 1024, f"{(most - before) / 2**20:.0f} MiB more"
        finally:
            server.kill()

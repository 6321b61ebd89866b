"""Executors for tests: a server whose every answer is written by the test, byte by byte."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import pyarrow as pa
import trio

Script = Callable[[trio.SocketStream], Awaitable[None]]

HEALTH = {
    "status": "healthy",
    "capabilities": {"protocol_versions": ["v1"], "transform_refs": ["double@v1"], "features": {}},
    "version": "1",
    "uptime_seconds": 1,
    "active_executions": 0,
}


@attrs.define(eq=False)
class ScriptedExecutor:
    """A server that answers each request by the next script; the last one is repeated.

    Attributes:
        scripts: Called after a request's head and body were read, if it has a length.
        health: The answer of GET /health.
        heads: The heads of the requests so far, without those for the health.
        bodies: Their bodies.
        cancels: The paths of cancellations so far.
        health_checks: Requests for the health so far.
        url: Its URL.
    """

    scripts: Sequence[Script]
    health: dict | None = attrs.field(factory=lambda: dict(HEALTH))
    heads: list[str] = attrs.field(factory=list)
    bodies: list[bytes] = attrs.field(factory=list)
    cancels: list[str] = attrs.field(factory=list)
    health_checks: int = 0
    url: str = ""

    async def serve(self, stream: trio.SocketStream) -> None:
        data = b""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while b"\r\n\r\n" not in data:
                part = await stream.receive_some(65536)
                if not part:
                    return
                data += part
            head, _, body = data.partition(b"\r\n\r\n")
            text = head.decode("latin-1")
            if text.startswith("GET /health "):
                self.health_checks += 1
                await answer(
                    json.dumps(self.health).encode() if self.health else b"no", kind="application/json"
                )(stream)
                return
            if "/cancel " in text.split("\r\n")[0]:
                self.cancels.append(text.split()[1])
                await answer(b"{}", kind="application/json")(stream)
                return
            fields = dict(line.lower().split(": ", 1) for line in text.split("\r\n")[1:])
            length = int(fields.get("content-length", 0))
            while len(body) < length:
                body += await stream.receive_some(1 << 20) or b"!" * length
            script = self.scripts[min(len(self.heads), len(self.scripts) - 1)]
            self.heads.append(text)
            self.bodies.append(body)
            await script(stream)
        await stream.aclose()


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[ScriptedExecutor]:
    """Serve scripts on a free port of the loopback."""
    found = ScriptedExecutor(scripts)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, found.serve, 0, host="127.0.0.1"))
        found.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield found
        nursery.cancel_scope.cancel()


def answer(
    body: bytes,
    *,
    status: str = "200 OK",
    kind: str = "application/vnd.apache.arrow.stream",
    length: int | None = None,
    more: str = "",
    after: bytes = b"",
) -> Script:
    """Return a script that answers with a body, whose length may be said wrongly."""

    async def script(stream: trio.SocketStream) -> None:
        said = len(body) if length is None else length
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {said}\r\n{more}\r\n"
        await stream.send_all(head.encode() + body + after)

    return script


async def silent(stream: trio.SocketStream) -> None:
    """Answer nothing, and keep the connection."""
    await trio.sleep_forever()


async def dying(stream: trio.SocketStream) -> None:
    """Close the connection without an answer."""


def stream_of(
    *batches: pa.RecordBatch, schema: pa.Schema | None = None, end: bool = True, **options: object
) -> bytes:
    """Return an Arrow stream, without its end-of-stream marker if wanted."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema or batches[0].schema, **options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    found = sink.getvalue().to_pybytes()
    return found if end else found[:-8]

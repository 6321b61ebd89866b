"""Baseline: a bare trio socket that answers every request with one file's bytes, in chunks.

Run as a script: ``bare_socket.py FILE``. Prints the port it listens on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trio

CHUNK = 1024 * 1024


async def main(content: bytes) -> None:
    """Serve until killed."""
    data = memoryview(content)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode()

    async def answer(stream: trio.SocketStream) -> None:
        request = bytearray()
        async for part in stream:
            request += part
            while (end := request.find(b"\r\n\r\n")) >= 0:
                del request[: end + 4]
                await stream.send_all(head)
                for begin in range(0, len(data), CHUNK):
                    await stream.send_all(data[begin : begin + CHUNK])

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer, 0)
        print(listeners[0].socket.getsockname()[1], flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]).read_bytes())

"""Send prepared requests over many connections as fast as they are answered.

Run as a script with JSON on the standard input; prints JSON. It does as little as it can for each answer,
since it shares the cores with what it measures.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
PART = 1 << 18
ATTEMPTS = 3
"""Attempts at a connection's first request: a starved server may close one that it has just accepted."""

LAST_CHUNK = b"\r\n0\r\n\r\n"


class Client:
    """A connection that sends its requests in turn, each when the one before has been answered.

    Args:
        address: Host and port.
        requests: Whole requests; together they are one pair.
    """

    def __init__(self, address: tuple[str, int], requests: list[bytes]) -> None:
        self.address = address
        self.socket = self.connected()
        self.requests = requests
        self.turn = 0
        self.began = 0.0
        self.seconds: list[float] = []
        self.answer = b""
        self.missing: int | None = None
        self.last = False
        self.moved: Callable[[Client], None] = lambda _client: None

    def connected(self) -> socket.socket:
        """Open a connection."""
        found = socket.create_connection(self.address, timeout=60)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found

    def begin(self) -> None:
        """Send the first request, on a new connection if the server has closed this one before it."""
        for _ in range(ATTEMPTS):
            with suppress(ConnectionError):
                self.send()
                if self.socket.recv(1, socket.MSG_PEEK):
                    return
            self.socket.close()
            self.socket = self.connected()
        raise SystemExit("the server closes connections before their first answer")

    def send(self) -> None:
        """Send the next request."""
        if not self.turn:
            self.began = time.perf_counter()
        self.answer, self.missing = b"", None
        self.socket.sendall(self.requests[self.turn])

    def receive(self) -> None:
        """Take a part of an answer; after its end send the next request."""
        part = self.socket.recv(PART)
        if not part:
            raise SystemExit(f"the connection was closed after {self.answer[:400]!r}")
        if self.missing is None:
            self.answer += part
            end = self.answer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not self.answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"an answer is {self.answer[:400]!r}")
            self.last = CLOSE.search(self.answer, 0, end) is not None
            length = LENGTH.search(self.answer, 0, end)
            if length is None:
                if not self.answer.endswith(LAST_CHUNK):
                    return
                self.missing = 0
            else:
                self.missing = int(length[1]) - (len(self.answer) - end - 4)
        else:
            self.missing -= len(part)
        if self.missing <= 0:
            self.turn = (self.turn + 1) % len(self.requests)
            if not self.turn:
                self.seconds.append(time.perf_counter() - self.began)
            if self.last:  # the server ends a connection after 1,000 requests
                self.moved(self)
            self.send()


def clients_of(job: dict[str, Any]) -> Iterator[Client]:
    """Connect the clients, those of the tenants in turn."""
    for number in range(job["clients"]):
        host, port, requests = job["tenants"][number % len(job["tenants"])]
        yield Client((host, port), [text.encode("latin-1") for text in requests])


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Measure for ``seconds`` after ``warm`` seconds."""
    clients = list(clients_of(job))
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.begin()

        def move(client: Client) -> None:
            selector.unregister(client.socket)
            client.socket.close()
            client.socket = client.connected()
            selector.register(client.socket, selectors.EVENT_READ, client)

        for client in clients:
            client.moved = move
            selector.register(client.socket, selectors.EVENT_READ, client)
        begun, seconds = False, job["warm"]
        while True:
            began, cpu = time.perf_counter(), time.process_time()
            end = began + seconds
            for client in clients:
                client.seconds.clear()
            if begun:
                print("begun", flush=True)
            while time.perf_counter() < end:
                for key, _ in selector.select(1.0):
                    key.data.receive()
            if begun:
                break
            begun, seconds = True, job["seconds"]
        spent = time.perf_counter() - began
    took = sorted(one for client in clients for one in client.seconds)
    return {"pairs": took, "seconds": spent, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))

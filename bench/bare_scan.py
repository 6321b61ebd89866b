"""Baseline: bare threads that do the work of a cold scan, without a server.

They decode row groups, encode each as Arrow IPC without a copy, and send them in order to one client, in a
chunked answer: ``GET /send``. ``GET /keep`` writes them to a file first, as a storing server does.

Run as a script: ``bare_scan.py FILE THREADS``. FILE is a JSON list of Parquet files; rows are written beside
it, and removed when the client leaves. Prints the port it listens on. One client at a time.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MOST_PIECES = 1000  # IOV_MAX is 1,024


class Pieces:
    """A file-like sink that keeps references to written buffers instead of copying them."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[pa.Buffer | bytes] = []
        self.size = 0

    def write(self, data: pa.Buffer | bytes) -> int:
        """Keep a reference to the written buffer."""
        self.parts.append(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: Arrow calls it, and nothing is buffered."""

    def close(self) -> None:
        """Do nothing: Arrow calls it, and nothing has to be closed."""


def scan(paths: list[str], threads: int, take: Callable[[Pieces], None]) -> None:
    """Decode and encode every row group of ``paths``, and pass them on in order, one at a time."""
    tasks = [(path, number) for path in paths for number in range(pq.read_metadata(path).num_row_groups)]
    turn = threading.Condition()
    taken = 0

    def one(place: int) -> None:
        nonlocal taken
        following = -1  # no thread's turn: passed on if this one fails
        try:
            path, number = tasks[place]
            table = pq.ParquetFile(path).read_row_group(number, use_threads=False)
            pieces = Pieces()
            with pa.PythonFile(pieces, mode="w") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            with turn:
                turn.wait_for(lambda: taken in (place, -1))
            if taken == place:
                take(pieces)
                following = place + 1
        finally:
            with turn:
                taken = following
                turn.notify_all()

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, range(len(tasks))):
            pass


def write_all(descriptor: int, parts: list[pa.Buffer | bytes]) -> None:
    """Write parts to a file or a blocking socket, to the last byte."""
    left = [memoryview(part) for part in parts if len(part)]
    while left:
        count = os.writev(descriptor, left[:MOST_PIECES])
        done = 0
        while done < len(left) and count >= len(left[done]):
            count -= len(left[done])
            done += 1
        del left[:done]
        if count:
            left[0] = left[0][count:]


def answer(peer: socket.socket, paths: list[str], threads: int, kept: Path) -> None:
    """Answer requests until the client leaves."""
    request = bytearray()
    while part := peer.recv(65536):
        request += part
        if b"\r\n\r\n" not in request:
            continue
        keep = request.startswith(b"GET /keep ")
        request.clear()
        peer.sendall(HEAD)
        if keep:
            with kept.open("wb", buffering=0) as file:
                scan(paths, threads, partial(hand_on, [file.fileno()], peer))
        else:
            scan(paths, threads, partial(hand_on, [], peer))
        peer.sendall(b"0\r\n\r\n")


def hand_on(files: list[int], peer: socket.socket, pieces: Pieces) -> None:
    """Write a row group to files, and send it."""
    for file in files:
        write_all(file, pieces.parts)
    write_all(peer.fileno(), [b"%x\r\n" % pieces.size, *pieces.parts, b"\r\n"])


def main(listing: Path, threads: int) -> None:
    """Serve until killed."""
    paths = json.loads(listing.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            peer, _ = listener.accept()
            kept = listing.with_suffix(".rows")
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                answer(peer, paths, threads, kept)
            kept.unlink(missing_ok=True)  # after the answer: the system takes a while to free it


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

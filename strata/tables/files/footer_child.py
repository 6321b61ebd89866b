"""Touch every field of Parquet footers, in a process of its own: run as a program by ``footer_check``.

It reads from its standard input, a socket: the length of a file's tail in four bytes, big end first, and the
tail. It answers one byte: 1 for a footer whose fields can be read, 0 for one that raises, none if it dies.
"""

import resource
import socket

import pyarrow as pa
import pyarrow.parquet as pq

MEMORY_BYTES = 2 << 30
"""Bytes of data the process may hold; a footer that takes more ends it."""


def touch(tail: bytes) -> None:
    """Read what the server reads of a footer: of each column chunk its codec, sizes and statistics."""
    metadata = pq.read_metadata(pa.BufferReader(tail))
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        for leaf in range(metadata.num_columns):
            chunk = group.column(leaf)
            _ = chunk.compression, chunk.total_uncompressed_size, chunk.is_stats_set, chunk.statistics


def main() -> None:
    """Answer until the other end of the socket is closed."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pa.set_cpu_count(1)
    with socket.socket(fileno=0) as server:
        while head := server.recv(4, socket.MSG_WAITALL):
            tail = server.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL)
            try:
                touch(tail)
            except Exception:  # noqa: BLE001  # pyarrow's errors have no common class; the server meets it again
                server.sendall(b"\0")
            else:
                server.sendall(b"\1")


if __name__ == "__main__":
    main()

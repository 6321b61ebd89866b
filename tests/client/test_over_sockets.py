"""Failures of real connections, simulated by a peer that breaks HTTP."""

import io
import socket
import threading

import httpx
import pyarrow as pa
import pytest
import trio

from strata.client import (
    AsyncStrataClient,
    ConnectionFailedError,
    RetryPolicy,
    StrataClient,
    TruncatedStreamError,
)

ONCE = RetryPolicy(reconnects=0)

TABLE = pa.table({"id": pa.array(range(1000), pa.int64())})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apache.arrow.stream\r\n"


def arrow():
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=100)
    return sink.getvalue()


def chunked(data, *, last=True):
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:300], data[300:]))
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" if last else b"")


@pytest.fixture
def peer():
    """Serve one connection with given bytes, then close it; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = []

        def answer_with(data):
            def run():
                connection, _ = listener.accept()
                with connection:
                    received = b""
                    while b"}" not in received.partition(b"\r\n\r\n")[2]:
                        received += connection.recv(65536)
                    connection.sendall(data)

            threads.append(threading.Thread(target=run, daemon=True))
            threads[-1].start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

        yield answer_with
        for thread in threads:
            thread.join(10)


def fetch_sync(url):
    with StrataClient(url, transport=httpx.HTTPTransport(), retry=ONCE) as client:
        return client.fetch("demo:a.b")


def fetch_async(url):
    async def fetch():
        async with AsyncStrataClient(url, transport=httpx.AsyncHTTPTransport(), retry=ONCE) as client:
            return await client.fetch("demo:a.b")

    return trio.run(fetch)


@pytest.fixture(params=[fetch_sync, fetch_async], ids=["sync", "trio"])
def fetch(request):
    return request.param


@pytest.mark.parametrize(
    "answer",
    [chunked(arrow()), HEAD + b"Content-Length: %d\r\n\r\n" % len(arrow()) + arrow()],
    ids=["chunked", "length"],
)
def test_a_whole_result_arrives(peer, fetch, answer):
    """Chunked while it is built, with a length when it is finished."""
    assert TABLE.equals(fetch(peer(answer)))


@pytest.mark.parametrize(
    "answer",
    [
        chunked(arrow(), last=False),
        chunked(arrow()[:-8]),
        chunked(arrow()[:2000], last=False),
        HEAD + b"Content-Length: %d\r\n\r\n" % len(arrow()) + arrow()[:-8],
        HEAD + b"Connection: close\r\n\r\n" + arrow()[:-8],
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    ],
    ids=["no last chunk", "no end marker", "cut short", "short of its length", "closed early", "no chunk"],
)
def test_a_result_that_breaks_off_is_never_a_table(peer, fetch, answer):
    """Even if only the end marker is missing after all rows, an error is raised."""
    with pytest.raises(TruncatedStreamError):
        fetch(peer(answer))


def test_a_peer_that_hangs_up_is_a_connection_error(peer, fetch):
    """Without an answer a ConnectionFailedError is raised."""
    with pytest.raises(ConnectionFailedError):
        fetch(peer(b""))

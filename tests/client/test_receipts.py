"""A result counts as whole only by its receipt: cut, altered and unproven streams raise, in both clients."""

from __future__ import annotations

import hashlib
import io
import json

import httpx
import pyarrow as pa
import pytest
import trio

from strata.client import AsyncStrataClient, Receipt, StrataClient, StrataError, TruncatedStreamError

TABLE = pa.table({"id": pa.array(range(6), pa.int64()), "s": ["a", None, "c", "d", "e", "f"]})
PATH = "/v1/artifacts/a1/v/1/receipt"


def stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


WHOLE = stream(TABLE)
DIGEST = hashlib.sha256(WHOLE).hexdigest()
RECEIPT = {"rows": 6, "bytes": len(WHOLE), "sha256": DIGEST, "of a newer server": 1}


class Server:
    """Answers a result with ``headers`` and ``body``, and its receipt with ``receipt``; notes the paths."""

    def __init__(self, body=WHOLE, receipt=None, **headers):
        self.body, self.paths = body, []
        self.receipt = httpx.Response(200, json=RECEIPT) if receipt is None else receipt
        self.headers = {"X-Strata-Receipt": PATH} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }

    def __call__(self, request):
        self.paths.append(request.url.path)
        if request.url.path == PATH:
            return self.receipt
        found = {name: value for name, value in self.headers.items() if value is not None}
        kind = {"Content-Type": "application/vnd.apache.arrow.stream"}
        return httpx.Response(200, content=self.body, headers=kind | found)


def fetch(kind: str, server: Server) -> pa.Table:
    transport = httpx.MockTransport(server)
    if kind == "sync":
        with StrataClient("http://strata.test", transport=transport) as client:
            return client.fetch("wh:db.t")

    async def afetch() -> pa.Table:
        async with AsyncStrataClient("http://strata.test", transport=transport) as client:
            return await client.fetch("wh:db.t")

    return trio.run(afetch)


@pytest.fixture(params=["sync", "trio"])
def kind(request):
    return request.param


def test_a_result_that_is_what_its_receipt_says_is_returned(kind):
    """One more request, for the receipt that the answer names."""
    server = Server()
    assert TABLE.equals(fetch(kind, server))
    assert ["/v1/materialize", PATH] == server.paths


def test_a_stream_cut_at_any_byte_raises():
    """Never a silent short read, also where the cut falls between two batches."""
    for end in range(len(WHOLE)):
        with pytest.raises(TruncatedStreamError):
            fetch("sync", Server(WHOLE[:end]))


def test_pyarrows_own_reader_takes_a_cut_between_two_messages_for_the_end():
    """So the receipt is needed: an HTTP client that loses the connection's error leaves a short result."""
    silent = []
    for end in range(len(WHOLE)):
        try:
            silent.append(pa.ipc.open_stream(WHOLE[:end]).read_all().num_rows)
        except (pa.ArrowInvalid, OSError):
            continue
    assert [0, 2, 4, 6] == silent


def test_a_shorter_stream_that_is_complete_in_itself_raises(kind):
    """A cut with an end-of-stream marker looks whole to every reader; the receipt knows better."""
    with pytest.raises(TruncatedStreamError, match="rows 4, not 6"):
        fetch(kind, Server(stream(TABLE.slice(0, 4))))


def test_a_stream_with_other_values_raises(kind):
    """As many rows and bytes, and another digest."""
    other = stream(TABLE.set_column(0, "id", pa.array([0, 1, 2, 3, 4, 9], pa.int64())))
    assert len(other) == len(WHOLE)
    with pytest.raises(TruncatedStreamError, match="SHA-256"):
        fetch(kind, Server(other))


def test_a_finished_results_entity_tag_proves_it_without_a_further_request(kind):
    """It is the SHA-256; a weak one, of a proxy that packed the body, proves nothing."""
    server = Server(ETag=f'"{DIGEST}"')
    assert TABLE.equals(fetch(kind, server))
    assert ["/v1/materialize"] == server.paths
    with pytest.raises(TruncatedStreamError, match="SHA-256"):
        fetch(kind, Server(ETag=f'"{"0" * 64}"'))
    server = Server(ETag=f'W/"{DIGEST}"')
    assert TABLE.equals(fetch(kind, server))
    assert PATH in server.paths


def test_a_result_without_its_receipt_is_unproven(kind):
    """Its build failed in the last moment, or it is gone; another failure is told as it is."""
    missing = {"status": 404, "detail": "Artifact not found", "title": "Not Found"}
    with pytest.raises(TruncatedStreamError, match="no receipt"):
        fetch(kind, Server(receipt=httpx.Response(404, content=json.dumps(missing).encode())))
    with pytest.raises(StrataError, match="401"):
        fetch(kind, Server(receipt=httpx.Response(401, json={"title": "Unauthorized"})))


def test_a_server_that_keeps_no_receipts_is_taken_at_its_word(kind):
    """Another server's result is checked by its end-of-stream marker and row count, as ever."""
    server = Server(X_Strata_Receipt=None)
    server.headers = {"ETag": '"' + "0" * 64 + '"'}
    assert TABLE.equals(fetch(kind, server))
    assert ["/v1/materialize"] == server.paths


def test_a_receipt_on_another_server_is_not_asked_for(kind):
    """The caller's credentials stay with the server."""
    with pytest.raises(StrataError, match="another server"):
        fetch(kind, Server(X_Strata_Receipt="http://elsewhere.test/receipt"))


def test_a_stream_that_is_left_early_needs_no_receipt():
    """Whoever stops reading asks for nothing more."""
    server = Server()
    with StrataClient("http://strata.test", transport=httpx.MockTransport(server)) as client:
        with client.fetch_batches("wh:db.t") as batches:
            next(batches)
        assert PATH not in server.paths
        assert 6 == client.receipt("strata://artifact/a1@v=1").rows
        assert isinstance(client.receipt("strata://artifact/a1@v=1"), Receipt)

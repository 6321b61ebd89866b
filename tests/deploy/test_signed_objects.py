"""nginx fetches finished results from an object store by addresses that Strata signs, request by request."""

from __future__ import annotations

import shutil
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import attrs
import httpx
import obstore
import pyarrow as pa
import pytest
from obstore.store import S3Store
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Warehouse, identity, numbers, process, scan

from strata.artifacts import tenant_prefix

moto = pytest.importorskip("moto.server", reason="moto is a test dependency")

pytestmark = pytest.mark.slow

ROWS = 20_000
SECONDS = 45
STACK = "service-mode/nginx.conf"
LOCATION = "/_strata/objects"
OWN = identity("demo-user", "demo-team")
SERVER_ONLY = {"date", "server", "connection", "x-request-id", "server-timing", "content-length"}


@attrs.frozen
class Stack:
    """nginx in front of a server that has one finished result in a bucket.

    Attributes:
        proxy: Client of nginx, which says who it is.
        server: Client of the server itself.
        store: The bucket.
        path: Path of the result's data.
        copies: Directory of local copies.
    """

    proxy: httpx.Client
    server: httpx.Client
    store: S3Store
    path: str
    copies: Path

    @property
    def key(self) -> str:
        """Key of the only object in the bucket."""
        [found] = [one["path"] for page in obstore.list(self.store) for one in page]
        return found

    @property
    def data(self) -> bytes:
        """The object's bytes."""
        return bytes(obstore.get(self.store, self.key).bytes())

    def named(self, **headers: str) -> httpx.Response:
        """Return the server's answer to the proxy."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.server.get(self.path, headers=OWN | sent)


@pytest.fixture(scope="module")
def stack(nginx_once, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start a bucket, a server with a result in it, and nginx with the shipped files for signed addresses."""
    tmp_path = tmp_path_factory.mktemp("signed")
    path = tmp_path / "warehouse"
    path.mkdir()
    warehouse = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    warehouse.create(numbers(ROWS))
    bucket = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    bucket.start()
    address = "http://{}:{}".format(*bucket.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{address}/results", method="PUT")).close()
    artifacts = tmp_path / "artifacts"
    settings = {
        "STRATA_DEPLOYMENT_MODE": "service",
        "STRATA_AUTH_MODE": "trusted_proxy",
        "STRATA_PROXY_TOKEN": TOKEN,
        "STRATA_MULTI_TENANT_ENABLED": "true",
        "STRATA_REQUIRE_TENANT_HEADER": "true",
        "STRATA_ARTIFACT_DIR": str(artifacts),
        "STRATA_CACHE_DIR": str(tmp_path / "cache"),
        "STRATA_WAREHOUSES": f"wh={path}",
        "STRATA_ACCEL_REDIRECT": LOCATION,
        "STRATA_ARTIFACT_PRESIGNED_SECONDS": str(SECONDS),
        "STRATA_ARTIFACT_BLOB_BACKEND": "s3",
        "STRATA_ARTIFACT_S3_BUCKET": "results",
        "STRATA_S3_ENDPOINT_URL": address,
        "STRATA_S3_REGION": "us-east-1",
        "STRATA_S3_ACCESS_KEY": "k",
        "STRATA_S3_SECRET_KEY": "s",
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    def change(tree: Path) -> None:
        main = tree / STACK
        text = main.read_text().replace("listen 8865;", f"listen 127.0.0.1:{port};", 1)
        text = text.replace(
            "include ../strata_errors.conf;",
            "include ../strata_errors.conf;\ninclude ../strata_objects.conf;",
            1,
        )
        main.write_text(text)
        token = tree / "service-mode" / "proxy_token.conf"
        token.write_text(f'proxy_set_header X-Strata-Proxy-Token "{TOKEN}";\n')

    store = S3Store(
        "results", endpoint=address, region="us-east-1", access_key_id="k", secret_access_key="s",
        client_options={"allow_http": True},
    )  # fmt: skip
    with process(tmp_path, **settings) as running:
        nginx_once(STACK, {8765: urlsplit(running.url).port}, change=change, listening=port)
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as proxy,
            httpx.Client(base_url=running.url, timeout=60) as server,
        ):
            made = _made(server, warehouse.uri())
            yield Stack(proxy, server, store, made, artifacts / "blobs")
    bucket.stop()


def _made(server: httpx.Client, table: str) -> str:
    """Build a result and read it; returns the path of its data."""
    for _ in range(2):
        made = server.post("/v1/materialize", json=scan(table), headers=OWN)
        assert 200 == made.status_code, made.text
        server.get(made.json()["stream_url"], headers=OWN)
    assert made.json()["hit"]
    return str(made.json()["stream_url"])


def test_nginx_fetches_the_object_and_strata_sends_no_byte(stack: Stack) -> None:
    """Whole, with Strata's headers and none of the store's; the server needs no copy of it."""
    shutil.rmtree(stack.copies)
    answer = stack.proxy.get(stack.path)
    assert (200, stack.data) == (answer.status_code, answer.content)
    assert ROWS == pa.ipc.open_stream(answer.content).read_all().num_rows
    named = stack.named()
    assert (200, b"") == (named.status_code, named.content)
    ours = {name: value for name, value in named.headers.items() if name not in SERVER_ONLY}
    assert f"{LOCATION}/" == ours.pop("x-accel-redirect")
    del ours["x-strata-object"]
    assert ours == {name: value for name, value in answer.headers.items() if name not in SERVER_ONLY}
    assert str(len(stack.data)) == answer.headers["content-length"]
    assert [] == [*stack.copies.rglob("*.arrow")]


def test_an_address_is_of_one_object_for_a_short_time(stack: Stack) -> None:
    """Of the caller's tenant, for the configured seconds; the key is not in it, and clients do not see it."""
    address = urlsplit(stack.named().headers["x-strata-object"])
    assert f"/results/{stack.key}" == address.path
    assert f"/{tenant_prefix('demo-team')}/" in address.path
    assert [str(SECONDS)] == parse_qs(address.query)["X-Amz-Expires"]
    assert ["host"] == parse_qs(address.query)["X-Amz-SignedHeaders"]
    seen = stack.proxy.get(stack.path).headers
    assert not {"x-strata-object", "x-strata-object-range", "x-accel-redirect"} & {*seen}


def test_each_request_is_authorized(stack: Stack) -> None:
    """Another tenant's caller gets no address, whatever it guesses; nor does one without the token."""
    digest = stack.key.rpartition("/")[2].removesuffix(".arrow")
    other = identity("eve", "team-b", scopes="admin:*")
    for path in (stack.path, f"/v1/artifacts/{digest}/v/1/data", f"/v1/artifacts/{digest[:32]}/v/1/data"):
        answer = stack.server.get(path, headers=other)
        assert 404 == answer.status_code
        assert "x-strata-object" not in answer.headers
    assert 401 == stack.server.get(stack.path).status_code


@pytest.mark.parametrize(
    ("text", "expected"),
    [("bytes=0-99", slice(0, 100)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None))],
)
def test_a_range_is_fetched_in_part(stack: Stack, text: str, expected: slice) -> None:
    """Status, bytes and their place."""
    answer = stack.proxy.get(stack.path, headers={"Range": text})
    assert (206, stack.data[expected]) == (answer.status_code, answer.content)
    begin, end, _ = expected.indices(len(stack.data))
    assert f"bytes {begin}-{end - 1}/{len(stack.data)}" == answer.headers["content-range"]


def test_conditions_are_strata_s(stack: Stack) -> None:
    """The store knows the result by another ETag, and is asked for none of them."""
    etag = stack.proxy.get(stack.path).headers["etag"]

    def status(**headers: str) -> int:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return stack.proxy.get(stack.path, headers=sent).status_code

    assert 304 == status(If_None_Match=etag)
    assert 200 == status(If_None_Match='"another"')
    assert 412 == status(If_Match='"another"')
    assert 200 == status(If_Match=etag)
    assert 206 == status(If_Range=etag, Range="bytes=0-9")
    assert 200 == status(If_Range='"another"', Range="bytes=0-9")
    assert 416 == status(Range="bytes=99999999-")
    assert 200 == status(Range="rows=0-1")
    assert 200 == status(Authorization="Basic eDp5", Cookie="a=b", X_Strata_Object="http://127.0.0.1:9/")


def test_head_has_the_headers_and_no_body(stack: Stack) -> None:
    """With the length of the result."""
    got, head = stack.proxy.get(stack.path), stack.proxy.head(stack.path)
    assert (200, b"", str(len(got.content))) == (
        head.status_code,
        head.content,
        head.headers["content-length"],
    )
    assert got.headers["etag"] == head.headers["etag"]


def test_other_formats_are_sent_by_strata(stack: Stack) -> None:
    """What is made of the result is in no object."""
    answer = stack.proxy.get(f"{stack.path}?format=csv&limit=2")
    assert (200, 3) == (answer.status_code, len(answer.content.splitlines()))


@pytest.mark.parametrize("path", [f"{LOCATION}/", f"/{LOCATION}/", "/x/..{LOCATION}/", "/_strata/%6fbjects/"])
def test_the_location_cannot_be_entered_from_outside(stack: Stack, path: str) -> None:
    """No spelling of its path has nginx fetch anything: it is as a store without the object, or no location."""
    sent = {"X-Accel-Redirect": f"{LOCATION}/", "X-Strata-Object": str(stack.server.base_url)}
    answer = stack.proxy.get(path, headers=sent)
    assert answer.status_code == answer.json()["status"]
    assert answer.status_code in (404, 503)


def test_a_lost_object_is_noticed_before_its_address_is_signed(stack: Stack) -> None:
    """The answer is Strata's, which builds the result again."""
    key, data = stack.key, stack.data
    obstore.delete(stack.store, key)
    try:
        lost = stack.proxy.get(stack.path)
        assert (500, "blob_missing") == (lost.status_code, lost.json()["error"])
    finally:
        obstore.put(stack.store, key, data)


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "301 Moved", "503 Slow Down"])
def test_the_store_gets_nothing_of_the_client_and_its_errors_stay_behind(
    nginx_of, recorder, auth, status: str
) -> None:
    """No identity, cookie or authorization goes to the store; what it refuses is a 503 in Strata's form."""
    store = type(recorder)(("Location: http://127.0.0.1:9/", "x-amz-request-id: 1"))
    store.status = status

    def change(tree: Path) -> None:
        main = tree / "nginx.conf"
        errors = "include strata_errors.conf;"
        main.write_text(main.read_text().replace(errors, f"{errors}\ninclude strata_objects.conf;"))

    try:
        recorder.answer_headers = (
            f"X-Accel-Redirect: {LOCATION}/",
            f"X-Strata-Object: http://127.0.0.1:{store.port}/results/a?signature=b",
            "X-Strata-Object-Range: bytes=0-4",
        )
        proxy = nginx_of("nginx.conf", {4180: auth.port, 8765: recorder.port}, change=change)
        sent = {"Authorization": "Bearer x", "Cookie": "a=b", "Range": "bytes=9-", "If-Range": '"x"'}
        answer = httpx.get(f"http://127.0.0.1:{proxy.ports[8080]}/v1/artifacts/a/v/1/data", headers=sent)
    finally:
        store.close()
    assert (503, 503) == (answer.status_code, answer.json()["status"])
    [asked] = store.requests
    assert "GET /results/a?signature=b HTTP/1.1" == asked.line
    assert {"host": f"127.0.0.1:{store.port}", "range": "bytes=0-4"} == dict(asked.headers)

"""nginx sends finished results itself; who may read what is still Strata's decision, request by request."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Warehouse, numbers, process, scan

pytestmark = pytest.mark.slow

ROWS = 20_000
STACK = "service-mode/nginx.conf"
PREFIX = "/_strata/results"

RANGES = [
    "bytes=0-0",
    "bytes=0-99",
    "bytes=100-",
    "bytes=-100",
    "bytes=0-99999999999",
    "bytes=99999999999-",
    "bytes=5-2",
    "bytes=x-y",
    "rows=0-1",
    "bytes=0-9,20-29",
    "bytes=-0",
]


@attrs.frozen
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@attrs.frozen
class Stack:
    """nginx in front of a server that has one finished result: its path, and the file with its bytes."""

    proxy: int
    server: int
    path: str
    blob: Path
    log: Path

    def ask(self, path: str, method: str = "GET", port: int | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.proxy, timeout=30)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=sent)
        response = connection.getresponse()
        found = Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )
        connection.close()
        return found


IDENTITY = {
    "X-Strata-Proxy-Token": TOKEN,
    "X-Strata-Principal": "demo-user",
    "X-Tenant-ID": "demo-team",
}


@pytest.fixture(scope="module")
def stack(nginx_once, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start a server with a result, and nginx with the shipped files for accelerated delivery."""
    tmp_path = tmp_path_factory.mktemp("accelerated")
    path = tmp_path / "warehouse"
    path.mkdir()
    warehouse = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    warehouse.create(numbers(ROWS))
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
        "STRATA_ACCEL_REDIRECT": PREFIX,
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = listener.getsockname()[1]
    with process(tmp_path, **settings) as running:
        port = urlsplit(running.url).port
        assert port is not None

        def change(tree: Path) -> None:
            main = tree / STACK
            static = f"location /static/ {{ alias {artifacts}/blobs/; etag off; }}"
            text = main.read_text().replace("listen 8865;", f"listen 127.0.0.1:{proxy};\n{static}", 1)
            text = text.replace(
                "include ../strata_errors.conf;",
                "include ../strata_errors.conf;\ninclude ../strata_accel.conf;",
                1,
            )
            main.write_text(text)
            accel = tree / "strata_accel.conf"
            accel.write_text(accel.read_text().replace("/data/artifacts/", f"{artifacts}/"))
            token = tree / "service-mode" / "proxy_token.conf"
            token.write_text(f'proxy_set_header X-Strata-Proxy-Token "{TOKEN}";\n')

        nginx_once(STACK, {8765: port}, change=change, listening=proxy)
        found = Stack(proxy, port, _made(port, warehouse.uri()), _blob(artifacts), running.log)
        yield found


def _made(port: int, table: str) -> str:
    """Build a result and read it; returns its path."""
    for _ in range(2):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = json.dumps(scan(table))
        connection.request("POST", "/v1/materialize", body, IDENTITY | {"Content-Type": "application/json"})
        made = json.loads(connection.getresponse().read())
        connection.request("GET", made["stream_url"], headers=IDENTITY)
        connection.getresponse().read()
        connection.close()
    assert made["hit"]
    return str(made["stream_url"])


def _blob(artifacts: Path) -> Path:
    (found,) = [path for path in (artifacts / "blobs").rglob("*") if path.is_file()]
    return found


def test_nginx_sends_the_bytes_and_strata_only_names_them(stack: Stack) -> None:
    """Through the proxy the result is whole; Strata itself answers with a name and no byte."""
    answer = stack.ask(stack.path)
    assert (200, stack.blob.read_bytes()) == (answer.status, answer.body)
    assert ROWS == pa.ipc.open_stream(answer.body).read_all().num_rows
    assert "x-accel-redirect" not in answer.headers
    named = stack.ask(stack.path, port=stack.server, **IDENTITY)
    assert (200, b"") == (named.status, named.body)
    assert named.headers["x-accel-redirect"].startswith(f"{PREFIX}/")
    assert stack.blob.name in named.headers["x-accel-redirect"]


def test_the_headers_are_those_of_strata(stack: Stack) -> None:
    """Type, validator, receipt and the rest are Strata's; nginx adds the length and its own name."""
    sent = stack.ask(stack.path, If_Match="*")  # which nginx would judge otherwise: Strata sends it
    accelerated = stack.ask(stack.path)
    assert sent.body == accelerated.body
    ignored = {"date", "server", "connection", "x-request-id", "server-timing"}
    assert "app;dur=" in accelerated.headers["server-timing"]
    expected = {name: value for name, value in sent.headers.items() if name not in ignored}
    assert expected == {name: value for name, value in accelerated.headers.items() if name not in ignored}
    traced = stack.ask(stack.path, X_Request_ID="trace-1")
    assert "trace-1" == traced.headers["x-request-id"]


def test_head_has_the_headers_and_no_body(stack: Stack) -> None:
    """With the length of the result."""
    got, head = stack.ask(stack.path), stack.ask(stack.path, "HEAD")
    assert (200, b"", str(len(got.body))) == (head.status, head.body, head.headers["content-length"])
    assert got.headers["etag"] == head.headers["etag"]


@pytest.mark.parametrize("text", RANGES)
def test_ranges_are_those_of_a_static_file(stack: Stack, text: str) -> None:
    """Status, bytes and Content-Range are what nginx answers for the same file without Strata."""
    static = stack.ask(f"/static/{stack.blob.relative_to(stack.blob.parents[2])}", Range=text)
    found = stack.ask(stack.path, Range=text)
    assert static.status == found.status
    assert static.headers.get("content-range") == found.headers.get("content-range")
    if static.status == 200 or (static.status == 206 and "," not in text):
        assert static.body == found.body
    elif static.status == 206:
        parts = [static.body.split(b"\r\n\r\n")[place].split(b"\r\n")[0] for place in (1, 2)]
        assert parts == [found.body.split(b"\r\n\r\n")[place].split(b"\r\n")[0] for place in (1, 2)]
    else:
        assert 416 == json.loads(found.body)["status"]


def test_validators_hold(stack: Stack) -> None:
    """If-None-Match is a 304, If-Match a 412, If-Range a whole answer where it is another result."""
    etag = stack.ask(stack.path).headers["etag"]
    known = stack.ask(stack.path, If_None_Match=etag)
    assert (304, b"", etag) == (known.status, known.body, known.headers["etag"])
    assert 304 == stack.ask(stack.path, If_None_Match=f'W/{etag}, "x"').status
    assert 200 == stack.ask(stack.path, If_None_Match='"another"').status
    assert 412 == stack.ask(stack.path, If_Match='"another"').status
    assert 200 == stack.ask(stack.path, If_Match=etag).status
    assert 206 == stack.ask(stack.path, If_Range=etag, Range="bytes=0-9").status
    assert 200 == stack.ask(stack.path, If_Range='"another"', Range="bytes=0-9").status


def test_the_date_of_the_file_is_none_of_the_result(stack: Stack) -> None:
    """Conditions on dates are ignored, as by Strata."""
    assert "last-modified" not in stack.ask(stack.path).headers
    future = "Fri, 01 Jan 2100 00:00:00 GMT"
    past = "Mon, 01 Jan 1990 00:00:00 GMT"
    assert 200 == stack.ask(stack.path, If_Modified_Since=future).status
    assert 200 == stack.ask(stack.path, If_Unmodified_Since=past).status


@pytest.mark.parametrize(
    "path",
    [
        "{name}",
        "/_strata/results/",
        "/_strata/results/../../metadata.db",
        "/_strata/results/%2e%2e/metadata.db",
        "//_strata/results/{inside}",
        "/x/../_strata/results/{inside}",
        "/_strata/%72esults/{inside}",
        "/_strata/results/{inside}?x=1",
        "/_STRATA/results/{inside}",
    ],
)
def test_the_files_cannot_be_reached_from_outside(stack: Stack, path: str) -> None:
    """No spelling of the internal location's path is answered with a byte of a result."""
    inside = stack.blob.relative_to(stack.blob.parents[2])
    answer = stack.ask(path.format(name=f"{PREFIX}/{inside}", inside=inside))
    assert 404 == answer.status
    assert 404 == json.loads(answer.body)["status"]


def test_clients_cannot_name_files(stack: Stack) -> None:
    """X-Accel-Redirect of a request means nothing."""
    inside = stack.blob.relative_to(stack.blob.parents[2])
    answer = stack.ask("/v1/artifacts", X_Accel_Redirect=f"{PREFIX}/{inside}")
    assert "artifacts" in json.loads(answer.body)


def test_each_request_is_authorized(stack: Stack) -> None:
    """Another tenant's caller gets no name and no byte; nor does one without the token."""
    other = IDENTITY | {"X-Strata-Principal": "bob", "X-Tenant-ID": "team-b"}
    for headers, status in ((other, 404), ({}, 401)):
        answer = stack.ask(stack.path, port=stack.server, **headers)
        assert status == answer.status
        assert "x-accel-redirect" not in answer.headers


def test_other_formats_are_sent_by_strata(stack: Stack) -> None:
    """What is made of the result is in no file."""
    answer = stack.ask(f"{stack.path}?format=csv&limit=2")
    assert (200, 3) == (answer.status, len(answer.body.splitlines()))


def test_a_file_that_is_gone_is_no_page_of_nginx(stack: Stack) -> None:
    """If the file goes between the two, the answer is an error, never a short result."""
    away = stack.blob.with_suffix(".away")
    shutil.move(stack.blob, away)
    try:
        answer = stack.ask(stack.path)
    finally:
        shutil.move(away, stack.blob)
    assert answer.status >= 400
    assert answer.status == json.loads(answer.body)["status"]

"""Object stores for tests: in memory, in files, and S3 by moto on loopback."""

import itertools
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Return the address of an S3 server."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str) -> str:
    """Return the name of an empty bucket."""
    name = f"bucket-{next(_numbers)}"
    urllib.request.urlopen(urllib.request.Request(f"{s3}/{name}", method="PUT")).close()
    return name


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], ObjectStore]:
    """Return a function that makes an empty object store of a kind."""

    def make(kind: str) -> ObjectStore:
        if kind == "memory":
            return MemoryStore()
        if kind == "files":
            return LocalStore(tmp_path / "remote", mkdir=True)
        return S3Store(
            request.getfixturevalue("bucket"), endpoint=request.getfixturevalue("s3"), region="us-east-1",
            access_key_id="k", secret_access_key="s", client_options={"allow_http": True},
        )  # fmt: skip

    return make

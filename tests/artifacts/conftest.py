"""Object stores for tests: in memory, in files; on loopback S3 by moto, Azure by Azurite, and Google's API."""

import itertools
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from azurite_kit import ACCOUNT, KEY, azurite, make_container
from fake_bucket import NO_OAUTH, FakeBucket, fake_bucket
from moto.server import ThreadedMotoServer
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store

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


@pytest.fixture(scope="session")
def azure() -> Iterator[str]:
    """Return the address of an account of Azure's blob service."""
    with azurite() as address:
        yield address


@pytest.fixture
def container(azure: str) -> str:
    """Return the name of an empty container."""
    name = f"container-{next(_numbers)}"
    make_container(azure, name)
    return name


@pytest.fixture
def xml_bucket() -> Iterator[FakeBucket]:
    """Return a bucket that speaks the XML API and misbehaves when told to."""
    with fake_bucket() as bucket:
        yield bucket


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], ObjectStore]:
    """Return a function that makes an empty object store of a kind."""

    def make(kind: str) -> ObjectStore:
        if kind == "memory":
            return MemoryStore()
        if kind == "files":
            return LocalStore(tmp_path / "remote", mkdir=True)
        http: dict[str, bool] = {"allow_http": True}
        if kind == "gcs":
            address = request.getfixturevalue("xml_bucket").address
            return GCSStore("bucket", base_url=address, service_account_key=NO_OAUTH, client_options=http)
        if kind == "azure":
            return AzureStore(
                request.getfixturevalue("container"), endpoint=request.getfixturevalue("azure"),
                account_name=ACCOUNT, account_key=KEY, client_options=http,
            )  # fmt: skip
        return S3Store(
            request.getfixturevalue("bucket"), endpoint=request.getfixturevalue("s3"), region="us-east-1",
            access_key_id="k", secret_access_key="s", client_options={"allow_http": True},
        )  # fmt: skip

    return make

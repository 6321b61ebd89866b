"""Blobs: whole or not there, wherever they are kept."""

import hashlib
import os
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore, S3Store

from strata.artifacts import BlobReader, LocalBlobStore
from strata.artifacts.objects import ObjectBlobStore
from strata.outcomes import Reason, Refused

PARTS = [b"one ", b"two ", b"", b"three" * 1000]
WHOLE = b"".join(PARTS)
SHA = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 of moto's on loopback."""
    server = pytest.importorskip("moto.server", reason="moto is a test dependency").ThreadedMotoServer(
        "127.0.0.1", 0
    )
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["local", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path):
    if request.param == "local":
        return LocalBlobStore(tmp_path / "blobs")
    return ObjectBlobStore(remote(request.param, request), "some/prefix", tmp_path / "blobs")


def remote(kind: str, request: pytest.FixtureRequest):
    if kind == "memory":
        return MemoryStore()
    endpoint, name = request.getfixturevalue("bucket"), f"b{abs(hash(request.node.name)) % 10**9}"
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()
    return S3Store(
        name, endpoint=endpoint, region="us-east-1", access_key_id="k", secret_access_key="s",
        client_options={"allow_http": True},
    )  # fmt: skip


def write(store, prefix: str = "p", parts=PARTS):
    writer = store.begin(prefix)
    writer.append(parts)
    return writer.commit()


def content(store, prefix: str = "p", sha: str = SHA, size: int = len(WHOLE)) -> bytes | Refused:
    reader = store.open_reader(prefix, sha, size)
    if isinstance(reader, Refused):
        return reader
    data = reader.read(0, size + 1)
    os.close(reader.fd)
    return data


def test_a_committed_blob_is_found_under_its_hash(store) -> None:
    """With its facts."""
    facts = write(store)

    assert (SHA, len(WHOLE)) == (facts.sha256, facts.size)
    assert WHOLE == content(store) == facts.path.read_bytes()


def test_a_growing_blob_can_be_read_through_its_path(store) -> None:
    """Readers follow the build."""
    writer = store.begin("p")
    assert 0 == writer.append([b"first"])
    assert b"first" == writer.path.read_bytes()
    assert 5 == writer.append([b"second"])
    descriptor = os.open(writer.path, os.O_RDONLY)
    writer.commit()
    assert b"firstsecond" == os.pread(descriptor, 100, 0)
    os.close(descriptor)


def test_hashing_in_steps_gives_the_same_hash(store) -> None:
    """Before, between and after appends."""
    writer = store.begin("p")
    assert not writer.hash_more(10)
    writer.append([WHOLE[:3000]])
    assert writer.hash_more(1000)
    writer.append([WHOLE[3000:]])
    while writer.hash_more(999):
        pass

    assert SHA == writer.commit().sha256


def test_an_aborted_blob_leaves_nothing(store, tmp_path: Path) -> None:
    """However often it is aborted, and not after a commit."""
    writer = store.begin("p")
    writer.append(PARTS)
    writer.abort()
    writer.abort()
    assert [] == [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    done = store.begin("p")
    done.append(PARTS)
    done.commit()
    done.abort()
    assert WHOLE == content(store)


def test_tenants_share_nothing(store) -> None:
    """Not even equal bytes."""
    write(store, "p")

    assert isinstance(content(store, "q"), Refused)
    store.delete("q", SHA)
    assert WHOLE == content(store, "p")


def test_equal_blobs_at_the_same_time_are_one(store) -> None:
    """Whoever comes second finds it there."""
    with ThreadPoolExecutor(8) as threads:
        facts = list(threads.map(lambda _: write(store), range(16)))

    assert {SHA} == {found.sha256 for found in facts}
    assert WHOLE == content(store)


def test_a_deleted_blob_is_gone(store) -> None:
    """And asking for it is a refusal."""
    write(store)
    store.delete("p", SHA)

    refused = content(store)
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason


def test_a_blob_of_the_wrong_size_is_as_good_as_missing(store) -> None:
    """A truncated file is never served as a short result."""
    facts = write(store)

    assert isinstance(content(store, size=len(WHOLE) + 1), Refused)
    if isinstance(store, LocalBlobStore):
        os.truncate(facts.path, 10)
        assert isinstance(content(store), Refused)


def test_leftovers_are_swept_and_blobs_are_not(store, tmp_path: Path) -> None:
    """What a killed process was writing."""
    write(store)
    store.begin("p").append([b"half"])

    assert 1 == store.sweep()
    assert WHOLE == content(store)
    assert not list((tmp_path / "blobs").rglob("*.part"))


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_a_missing_local_copy_is_fetched_once(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Artifacts outlive the container; sixteen readers fetch one copy."""
    there = remote(kind, request)
    store = ObjectBlobStore(there, "x", tmp_path / "one")
    write(store)
    shutil.rmtree(tmp_path / "one")
    fetches: list[int] = []
    again = ObjectBlobStore(there, "x", tmp_path / "two")
    real: Callable = again._fetch
    again._fetch = lambda *args: fetches.append(1) or real(*args)  # type: ignore[method-assign]

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: content(again), range(16)))

    assert [WHOLE] * 16 == found
    assert [1] == fetches


def test_other_bytes_under_a_hash_are_never_served(tmp_path: Path) -> None:
    """The hash is checked when a copy is fetched."""
    there = MemoryStore()
    obstore.put(there, f"x/p/{SHA}.arrow", b"y" * len(WHOLE))
    store = ObjectBlobStore(there, "x", tmp_path)

    assert isinstance(content(store), Refused)
    assert isinstance(content(store), Refused)


def test_a_crash_at_any_file_operation_leaves_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing under the final name that is not whole."""

    class Crash(BaseException):
        pass

    countdown = [0]

    def dying(real: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            countdown[0] -= 1
            if not countdown[0]:
                raise Crash
            return real(*args, **kwargs)

        return call

    for name in ("writev", "fsync", "open", "mkdir"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    monkeypatch.setattr(Path, "rename", dying(Path.rename))
    crashes, whole = 0, False
    for step in range(1, 60):
        countdown[0] = step
        store = LocalBlobStore(tmp_path / f"s{step}")
        try:
            write(store)
            whole = True
        except Crash:
            crashes += 1
        countdown[0] = 0
        store.sweep()
        left = [path for path in (tmp_path / f"s{step}").rglob("*") if path.is_file()]
        assert [WHOLE] * len(left) == [path.read_bytes() for path in left]
        if whole:
            break
    assert whole
    assert crashes >= 5


def test_readers_and_writers_of_one_store_in_threads(store) -> None:
    """The store is shared by every actor."""
    facts = write(store)
    stop = threading.Event()

    def read() -> int:
        count = 0
        while not stop.is_set():
            assert WHOLE == content(store)
            count += 1
        return count

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read) for _ in range(3)]
        for index in range(10):
            write(store, parts=[b"%d" % index])
        stop.set()
        assert all(reader.result() > 0 for reader in readers)
    found = store.open_reader("p", facts.sha256, facts.size)
    assert isinstance(found, BlobReader)
    os.close(found.fd)

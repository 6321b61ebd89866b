"""Object stores with little space for copies and many readers at once."""

import hashlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from strata.artifacts import BLOB_GONE, BlobFacts, BlobReader
from strata.artifacts.blobs import objects as module
from strata.artifacts.blobs.objects import STORE_DOWN, ObjectBlobStore
from strata.outcomes import Refused

SIZE = 1000
READERS = 8


def data(number: int) -> bytes:
    return (b"%d." % number).ljust(SIZE, b"x")


def write(store: ObjectBlobStore, number: int) -> BlobFacts:
    writer = store.begin("p")
    writer.append([data(number)])
    return writer.commit()


def read(store: ObjectBlobStore, number: int) -> bytes | Refused:
    found = store.open_reader("p", hashlib.sha256(data(number)).hexdigest(), SIZE)
    if isinstance(found, Refused):
        return found
    try:
        return found.read(0, SIZE + 1)
    finally:
        os.close(found.fd)


def size_of(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_copies_stay_within_their_bytes_and_everything_is_served(tmp_path: Path) -> None:
    """Removed copies are downloaded again, and disk usage stays bounded."""
    store = ObjectBlobStore(MemoryStore(), "x", tmp_path, copies_bytes=3 * SIZE)
    for number in range(6):
        write(store, number)
        assert size_of(tmp_path) <= 3 * SIZE
    for number in (0, 5, 1, 4, 0, 3, 2):
        assert data(number) == read(store, number)
        assert size_of(tmp_path) <= 3 * SIZE


def test_readers_and_writers_with_room_for_one_copy(tmp_path: Path) -> None:
    """A copy may be removed before it is opened; the blob does not count as lost."""
    store = ObjectBlobStore(MemoryStore(), "x", tmp_path, copies_bytes=1)
    for number in range(4):
        write(store, number)

    def work(seed: int) -> None:
        for step in range(20):
            number = (seed + step) % 4
            found = read(store, number)
            assert found in (data(number), STORE_DOWN)
            if step % 5 == seed % 5:
                write(store, number)

    with ThreadPoolExecutor(READERS) as threads:
        list(threads.map(work, range(READERS)))
    assert [data(number) for number in range(4)] == [read(store, number) for number in range(4)]


def test_a_copy_that_was_gone_before_it_was_opened_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other copies displaced it before it was opened."""
    there = MemoryStore()
    write(ObjectBlobStore(there, "x", tmp_path / "one"), 1)
    store = ObjectBlobStore(there, "x", tmp_path / "two")
    kept: list[str] = []
    real = store._local.keep

    def keep(prefix: str, facts: BlobFacts) -> None:
        real(prefix, facts)
        kept.append(facts.sha256)
        if len(kept) == 1:
            store.forget(prefix, facts.sha256)

    monkeypatch.setattr(store._local, "keep", keep)

    assert data(1) == read(store, 1)
    assert 2 == len(kept)


def test_a_copy_that_never_stays_is_no_lost_blob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the artifact would be given up for good."""
    store = ObjectBlobStore(MemoryStore(), "x", tmp_path)
    write(store, 1)
    monkeypatch.setattr(store._local, "open_reader", lambda *_: BLOB_GONE)

    assert STORE_DOWN == read(store, 1)


def test_many_readers_of_a_store_that_is_down_wait_for_one_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A past error: readers queued one timeout each, and the last one waited for minutes."""
    store = ObjectBlobStore(MemoryStore(), "x", tmp_path)
    attempts, waiting = [], threading.Semaphore(0)

    class Counted(Future):
        def result(self, timeout: float | None = None) -> object:
            waiting.release()
            return super().result(timeout)

    def down(*_: object) -> object:
        attempts.append(1)
        for _reader in range(READERS - 1):
            assert waiting.acquire(timeout=30)
        raise GenericError("timed out")

    monkeypatch.setattr(module, "Future", Counted)
    monkeypatch.setattr(obstore, "head", down)
    with ThreadPoolExecutor(READERS) as threads:
        found = list(threads.map(lambda _: read(store, 1), range(READERS)))

    assert [STORE_DOWN] * READERS == found
    assert [1] == attempts
    assert not len(store._fetching)


def test_an_upload_reads_on_when_an_older_copy_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of equal bytes may be evicted between rename and upload."""
    there = MemoryStore()
    store = ObjectBlobStore(there, "x", tmp_path)
    write(store, 1)
    real = obstore.put

    def late(*args: object, **more: object) -> object:
        store.forget("p", hashlib.sha256(data(1)).hexdigest())
        obstore.delete(there, f"x/p/{hashlib.sha256(data(1)).hexdigest()}.arrow")
        return real(*args, **more)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(obstore, "put", late)
    write(store, 1)

    assert data(1) == read(store, 1)
    assert isinstance(store.open_reader("p", hashlib.sha256(data(1)).hexdigest(), SIZE), BlobReader)


def test_the_parts_of_an_upload_are_never_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 allows 10,000 parts."""
    store = ObjectBlobStore(MemoryStore(), "x", tmp_path)
    seen = []
    monkeypatch.setattr(obstore, "put", lambda *_args, chunk_size, **_more: seen.append(chunk_size))
    for size in (5, 2**40):
        monkeypatch.setattr(obstore, "head", lambda *_, size=size: {"size": size})
        store.upload("p", BlobFacts("0" * 64, size, tmp_path), None)  # type: ignore[arg-type]  # never asked

    assert 8 * 1024 * 1024 == seen[0]
    assert 9_990 < 2**40 / seen[1] <= 10_000

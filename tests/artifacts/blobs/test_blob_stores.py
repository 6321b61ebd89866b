"""The contract of a blob store, tested on all of them: a blob is complete or missing."""

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from memory_blobs import MemoryBlobStore

from strata.artifacts import BlobReader, BlobStore, LocalBlobStore
from strata.artifacts.blobs.objects import ObjectBlobStore
from strata.artifacts.blobs.store import Emptied
from strata.outcomes import Reason, Refused

PARTS = [b"one ", b"two ", b"", pa.py_buffer(b"three" * 1000), memoryview(b"four")]
WHOLE = b"".join(bytes(part) for part in PARTS)
SHA = hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture(
    params=["files", "memory", "object-memory", "object-files", "object-s3", "object-gcs", "object-azure"]
)
def store(request: pytest.FixtureRequest, tmp_path: Path, remote) -> Iterator[BlobStore]:
    kind, root = request.param, tmp_path / "blobs"
    if kind == "files":
        yield LocalBlobStore(root)
    elif kind == "memory":
        kept = MemoryBlobStore()
        yield kept
        kept.close()
    else:
        yield ObjectBlobStore(remote(kind.removeprefix("object-")), "some/prefix", root)


def write(store: BlobStore, prefix: str = "p", parts=PARTS):
    writer = store.begin(prefix)
    writer.append(parts)
    return writer.commit()


def content(store: BlobStore, prefix: str = "p", sha: str = SHA, size: int = len(WHOLE)) -> bytes | Refused:
    reader = store.open_reader(prefix, sha, size)
    if isinstance(reader, Refused):
        return reader
    data = reader.read(0, size + 1)
    os.close(reader.fd)
    return data


def test_a_committed_blob_is_found_under_its_hash(store: BlobStore) -> None:
    """The commit returns its hash, size and path."""
    facts = write(store)

    assert (SHA, len(WHOLE)) == (facts.sha256, facts.size)
    assert WHOLE == content(store) == facts.path.read_bytes()


def test_a_growing_blob_can_be_read_through_its_path(store: BlobStore) -> None:
    """Readers follow the growing file."""
    writer = store.begin("p")
    assert 0 == writer.append([b"first"])
    assert b"first" == writer.path.read_bytes()
    assert 5 == writer.append([b"second"])
    descriptor = os.open(writer.path, os.O_RDONLY)
    writer.commit()
    assert b"firstsecond" == os.pread(descriptor, 100, 0)
    os.close(descriptor)


def test_hashing_in_steps_gives_the_same_hash(store: BlobStore) -> None:
    """Hashing before, between and after appends gives the hash of the whole."""
    writer = store.begin("p")
    assert not writer.hash_more(10)
    writer.append([WHOLE[:3000]])
    assert writer.hash_more(1000)
    writer.append([WHOLE[3000:]])
    while writer.hash_more(999):
        pass

    assert SHA == writer.commit().sha256


def test_an_aborted_blob_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    """Aborting is idempotent, and has no effect after a commit."""
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


def test_tenants_share_nothing(store: BlobStore) -> None:
    """Equal bytes of two tenants are two blobs."""
    write(store, "p")

    assert isinstance(content(store, "q"), Refused)
    store.delete("q", SHA)
    assert WHOLE == content(store, "p")


def test_equal_blobs_at_the_same_time_are_one(store: BlobStore) -> None:
    """Two writers of equal bytes both succeed."""
    with ThreadPoolExecutor(8) as threads:
        facts = list(threads.map(lambda _: write(store), range(16)))

    assert {SHA} == {found.sha256 for found in facts}
    assert WHOLE == content(store)


def test_a_deleted_blob_is_gone(store: BlobStore) -> None:
    """Opening it returns a refusal."""
    write(store)
    store.delete("p", SHA)

    refused = content(store)
    assert isinstance(refused, Refused)
    assert Reason.DATA_UNREADABLE is refused.reason


def test_a_blob_of_the_wrong_size_is_as_good_as_missing(store: BlobStore) -> None:
    """A truncated file is never served as a short result."""
    write(store)

    for size in (len(WHOLE) + 1, len(WHOLE) - 1, 0):
        refused = content(store, size=size)
        assert isinstance(refused, Refused)
        assert "blob_missing" == refused.code
    assert WHOLE == content(store)


def test_leftovers_are_swept_and_blobs_are_not(store: BlobStore, tmp_path: Path) -> None:
    """Unfinished files of a killed process are removed, finished blobs stay."""
    write(store)
    half = store.begin("p")
    half.append([b"half"])
    files = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]

    assert max(len(files) - 1, 0) == store.sweep()
    assert WHOLE == content(store)
    assert not list((tmp_path / "blobs").rglob("*.part"))
    assert 0 == store.sweep()
    half.abort()


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    """A blob may have no bytes."""
    facts = write(store, parts=[])

    assert (hashlib.sha256().hexdigest(), 0) == (facts.sha256, facts.size)
    assert b"" == content(store, sha=facts.sha256, size=0)


def test_deleting_what_is_not_there_is_no_error(store: BlobStore) -> None:
    """Deleting is idempotent."""
    store.delete("p", SHA)
    write(store)
    store.delete("p", SHA)
    store.delete("p", SHA)

    assert isinstance(content(store), Refused)


def test_a_reader_keeps_what_it_opened(store: BlobStore) -> None:
    """A blob that is deleted or written again stays readable to its end."""
    write(store)
    reader = store.open_reader("p", SHA, len(WHOLE))
    assert isinstance(reader, BlobReader)
    write(store)
    store.delete("p", SHA)

    assert WHOLE == reader.read(0, 10) + reader.read(10, len(WHOLE))
    os.close(reader.fd)


def test_two_writers_of_one_tenant_do_not_meet(store: BlobStore) -> None:
    """Aborting one writer does not harm an equal blob of another."""
    one, other = store.begin("p"), store.begin("p")
    for part in PARTS:
        one.append([part])
        other.append([part])
    facts = one.commit()
    other.abort()

    assert SHA == facts.sha256
    assert WHOLE == content(store)


def test_readers_and_writers_of_one_store_in_threads(store: BlobStore) -> None:
    """All actors share one store."""
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


def test_an_emptied_prefix_has_no_blobs_and_others_have_theirs(store: BlobStore) -> None:
    """It says how many and how large they were; a prefix that begins alike is another one."""
    write(store, "p", [b"one"])
    write(store, "p", [b"three"])
    for other in ("p0", "q"):
        write(store, other)

    assert Emptied(2, 8) == store.empty("p")
    assert Emptied(0, 0) == store.empty("p")
    assert isinstance(content(store, "p", hashlib.sha256(b"one").hexdigest(), 3), Refused)
    for other in ("p0", "q"):
        assert WHOLE == content(store, other)
    write(store, "p", [b"one"])
    assert b"one" == content(store, "p", hashlib.sha256(b"one").hexdigest(), 3)


@pytest.mark.parametrize("prefix", ["", ".", "..", "p/../q", "/"])
def test_only_one_prefix_can_be_emptied(tmp_path: Path, remote, prefix: str) -> None:
    """An empty one would be that of all tenants."""
    for found in (LocalBlobStore(tmp_path / "a"), ObjectBlobStore(remote("memory"), "x", tmp_path / "b")):
        write(found)
        with pytest.raises(ValueError, match="not a tenant's"):
            found.empty(prefix)
        assert WHOLE == content(found)

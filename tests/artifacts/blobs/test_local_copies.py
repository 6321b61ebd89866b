"""Local copies of remote blobs: bounded in bytes, the most recently read stay."""

import errno
import hashlib
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strata.artifacts import BLOB_GONE, BlobReader
from strata.artifacts.blobs.copies import LocalCopies
from strata.artifacts.blobs.store import LocalBlobStore
from strata.outcomes import Refused

SIZE = 1000


def data(number: int, size: int = SIZE) -> bytes:
    return (b"%d." % number).ljust(size, b"x")


def sha(number: int, size: int = SIZE) -> str:
    return hashlib.sha256(data(number, size)).hexdigest()


def add(copies: LocalCopies, number: int, size: int = SIZE, prefix: str = "p") -> None:
    writer = copies.begin(prefix)
    writer.append([data(number, size)])
    copies.keep(prefix, writer.commit())


def held(copies: LocalCopies, number: int, size: int = SIZE, prefix: str = "p") -> bool:
    """Test whether a complete copy exists; makes it the most recently read."""
    found = copies.open_reader(prefix, sha(number, size), size)
    if not isinstance(found, BlobReader):
        assert BLOB_GONE == found
        return False
    assert data(number, size) == found.read(0, size + 1)
    os.close(found.fd)
    return True


def counted(copies: LocalCopies) -> int:
    """Bytes of all copies, those from earlier included."""
    with copies._guard:
        copies._examine(sys.maxsize)
        return copies._bytes


def on_disk(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def test_the_copy_unread_for_longest_goes_first(tmp_path: Path) -> None:
    """Reading makes a copy recent; the bytes on disk never pass the budget."""
    copies = LocalCopies(tmp_path, 3 * SIZE)
    for number in range(3):
        add(copies, number)
    assert held(copies, 0)
    add(copies, 3)

    assert [True, False, True, True] == [held(copies, number) for number in range(4)]
    assert 3 * SIZE == counted(copies) == on_disk(tmp_path)


def test_which_were_read_last_survives_a_restart(tmp_path: Path) -> None:
    """Copies over a smaller budget are removed with the first new copy."""
    copies = LocalCopies(tmp_path, 9 * SIZE)
    for number in range(4):
        add(copies, number)
        os.utime(next(tmp_path.rglob(f"{sha(number)}*")), ns=(number, 0))
    opened = copies.open_reader("p", sha(0), SIZE)
    assert isinstance(opened, BlobReader)
    os.close(opened.fd)  # not read: some file systems note reading by themselves

    again = LocalCopies(tmp_path, 3 * SIZE)
    assert 4 * SIZE == counted(again)
    add(again, 4)

    assert [True, False, False, True, True] == [held(again, number) for number in range(5)]


def test_a_copy_larger_than_the_budget_stays_until_the_next(tmp_path: Path) -> None:
    """Its readers open it right after the download."""
    copies = LocalCopies(tmp_path, SIZE)
    add(copies, 1, 5 * SIZE)
    assert held(copies, 1, 5 * SIZE)
    add(copies, 2)

    assert [False, True] == [held(copies, 1, 5 * SIZE), held(copies, 2)]


def test_a_removed_copy_is_read_to_its_end(tmp_path: Path) -> None:
    """A slow reader neither delays the removal nor fails."""
    copies = LocalCopies(tmp_path, SIZE)
    add(copies, 1)
    reader = copies.open_reader("p", sha(1), SIZE)
    assert isinstance(reader, BlobReader)
    add(copies, 2)

    assert not held(copies, 1)
    assert data(1) == reader.read(0, SIZE)
    os.close(reader.fd)


def test_equal_bytes_count_once_for_each_tenant(tmp_path: Path) -> None:
    """The byte count equals the disk's after double adds, double deletes, and deletes by another."""
    copies = LocalCopies(tmp_path, 9 * SIZE)
    for prefix in ("p", "p", "q"):
        add(copies, 1, prefix=prefix)
    assert 2 * SIZE == counted(copies) == on_disk(tmp_path)
    for _ in range(2):
        copies.delete("p", sha(1))
    assert SIZE == counted(copies) == on_disk(tmp_path)
    assert [False, True] == [held(copies, 1, prefix="p"), held(copies, 1, prefix="q")]


def test_what_another_thread_has_just_removed_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy removed before it was counted, or while its reader opened it, is not counted."""
    copies = LocalCopies(tmp_path, 9 * SIZE)
    writer = copies.begin("p")
    writer.append([data(1)])
    facts = writer.commit()
    copies.delete("p", facts.sha256)
    copies.keep("p", facts)
    assert 0 == counted(copies) == on_disk(tmp_path)

    add(copies, 2)
    opened = LocalBlobStore.open_reader

    def removed_once_open(store: LocalBlobStore, prefix: str, sha256: str, size: int) -> BlobReader | Refused:
        found = opened(store, prefix, sha256, size)
        copies.delete(prefix, sha256)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(LocalBlobStore, "open_reader", removed_once_open)
        assert held(copies, 2)
    assert 0 == counted(copies) == on_disk(tmp_path)


def test_threads_that_add_and_read_never_see_half_a_copy(tmp_path: Path) -> None:
    """At the end, the byte count equals the disk's."""
    copies = LocalCopies(tmp_path, 4 * SIZE)

    def work(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(40):
            number = choice.randrange(8)
            if not held(copies, number):
                add(copies, number)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))

    assert on_disk(tmp_path) == counted(copies) <= 4 * SIZE


@pytest.mark.parametrize("call", ["stat", "scandir", "listdir", "unlink"])
def test_a_copy_that_cannot_be_examined_or_removed_fails_no_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """An error on other results' copies ends neither the upload nor the read that met it."""
    earlier = LocalCopies(tmp_path, 10 * SIZE)
    for number in range(3):
        add(earlier, number)
    copies = LocalCopies(tmp_path, SIZE)
    writer = copies.begin("p")
    writer.append([data(7)])
    facts, real = writer.commit(), getattr(os, call)

    def broken(path: object, *args: object, **kwargs: object) -> object:
        if sha(7) not in str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, broken)
        copies.keep("p", facts)
    assert held(copies, 7)

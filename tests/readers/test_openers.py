"""Openers: what they open, and what becomes of one that dies or hangs."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers import ReaderPool
from strata.tables.files.confined import ConfinedFileIO

LATE = Refused(Reason.TIMED_OUT, "late", code="fetch_timeout")


@pytest.fixture
def pool() -> Iterator[ReaderPool]:
    found = ReaderPool(1)
    yield found
    found.close()


def opened(pool: ReaderPool, root: Path, path: Path, seconds: float = 60) -> bytes:
    descriptor = pool.open(ConfinedFileIO(str(root)), f"file://{path}", seconds, LATE)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def test_opens_what_is_inside_only(pool: ReaderPool, tmp_path: Path) -> None:
    """A file outside, a link that leads there, a directory, a pipe and a missing file are refused by kind."""
    root = tmp_path / "in"
    root.mkdir()
    (root / "a").write_bytes(b"rows")
    (tmp_path / "secret").write_bytes(b"theirs")
    (root / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(root / "pipe")
    assert b"rows" == opened(pool, root, root / "a")
    for outside in (tmp_path / "secret", root / "link", root / ".." / "secret", tmp_path / "missing"):
        with pytest.raises(RefusalError) as caught:
            opened(pool, root, outside)
        assert "file_outside_warehouse" == caught.value.refused.code
    (root / "folder").mkdir()
    for name, number in (("missing", errno.ENOENT), ("pipe", errno.EISDIR), ("folder", errno.EISDIR)):
        with pytest.raises(OSError, match=f"Errno {number}"):
            opened(pool, root, root / name)


def test_many_files_are_opened_with_one_question(pool: ReaderPool, tmp_path: Path) -> None:
    """Each has its own answer, in its place: a file, a missing one, one outside, another file."""
    root = tmp_path / "in"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).write_bytes(name.encode())
    (tmp_path / "secret").write_bytes(b"theirs")
    locations = [f"file://{root}/a", f"file://{root}/none", f"file://{tmp_path}/secret", "s3://x/y"]
    before = len(list(Path("/proc/self/fd").iterdir()))
    first, missing, outside, remote, second = pool.open_all(
        ConfinedFileIO(str(root)), [*locations, f"file://{root}/b"], 60, LATE
    )
    assert isinstance(missing, OSError)
    assert errno.ENOENT == missing.errno
    for one in (outside, remote):
        assert isinstance(one, RefusalError)
        assert "file_outside_warehouse" == one.refused.code
    for descriptor, data in ((first, b"a"), (second, b"b")):
        assert isinstance(descriptor, int)
        with os.fdopen(descriptor, "rb") as file:
            assert data == file.read()
    assert 1 == len(pool._openers._idle)
    assert before + 3 >= len(list(Path("/proc/self/fd").iterdir())), (
        "the opener's link, its process and the fork server"
    )


@pytest.mark.parametrize("name", ["a\0b", "a\ud800"])
def test_a_name_that_no_file_can_have_ends_no_opener(pool: ReaderPool, tmp_path: Path, name: str) -> None:
    """A table's metadata may hold any text; a process for each such request would be its work for nothing."""
    (tmp_path / "a").write_bytes(b"rows")
    assert b"rows" == opened(pool, tmp_path, tmp_path / "a")
    before = list(pool._openers._idle)
    with pytest.raises(OSError, match=f"Errno {errno.EINVAL}"):
        opened(pool, tmp_path, tmp_path / name)
    assert before == pool._openers._idle


def test_one_that_was_killed_is_replaced(pool: ReaderPool, tmp_path: Path) -> None:
    """The file is opened by another; the fork server's end is survived, too."""
    (tmp_path / "a").write_bytes(b"rows")
    assert b"rows" == opened(pool, tmp_path, tmp_path / "a")
    [opener] = pool._openers._idle
    signal.pidfd_send_signal(opener._pidfd, signal.SIGKILL)
    assert b"rows" == opened(pool, tmp_path, tmp_path / "a")
    assert [opener] != pool._openers._idle
    pool._server._process.kill()
    pool._server._process.wait()
    assert b"rows" == opened(pool, tmp_path, tmp_path / "a")


def test_one_that_does_not_answer_is_given_up(pool: ReaderPool, tmp_path: Path) -> None:
    """The refusal is the step's; the next file has another opener."""
    (tmp_path / "a").write_bytes(b"rows")
    assert b"rows" == opened(pool, tmp_path, tmp_path / "a")
    [opener] = pool._openers._idle
    signal.pidfd_send_signal(opener._pidfd, signal.SIGSTOP)
    with pytest.raises(RefusalError) as caught:
        opened(pool, tmp_path, tmp_path / "a", 0.1)
    assert LATE is caught.value.refused
    assert [] == pool._openers._idle
    assert b"rows" == opened(pool, tmp_path, tmp_path / "a")

"""Durable writing of files."""

import errno
import os
from pathlib import Path

import pytest

from strata.durable import replace_file, sync_directory, write_parts


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_short_writes_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """The kernel may write fewer bytes than it is given."""
    real = os.writev

    def short(descriptor: int, views: list[memoryview]) -> int:
        return real(descriptor, [views[0][:most]])

    monkeypatch.setattr(os, "writev", short)
    parts = [b"", b"abc", b"d", b"", b"efghij" * 7, b""]
    with (tmp_path / "f").open("wb", buffering=0) as file:
        assert len(b"".join(parts)) == write_parts(file.fileno(), parts)

    assert b"".join(parts) == (tmp_path / "f").read_bytes()


def test_more_parts_than_one_call_takes(tmp_path: Path) -> None:
    """IOV_MAX is 1024 on Linux."""
    parts = [bytes([i % 256]) for i in range(5000)]
    with (tmp_path / "f").open("wb", buffering=0) as file:
        assert 5000 == write_parts(file.fileno(), parts)

    assert b"".join(parts) == (tmp_path / "f").read_bytes()


def test_a_full_disk_is_the_callers_error() -> None:
    """The error is raised; bytes are never missing silently."""
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        write_parts(full.fileno(), [b"x"])


def test_a_directory_can_be_synced(tmp_path: Path) -> None:
    """A missing directory is an error."""
    sync_directory(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "nope")


@pytest.mark.parametrize("call", ["open", "writev", "fsync", "replace"])
def test_a_replacement_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """On a full disk the old content stays, and neither a temporary file nor a descriptor is left."""
    path = tmp_path / "overrides.toml"
    replace_file(path, "old")
    before = len(list(Path("/proc/self/fd").iterdir()))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            replace_file(path, "new")
    assert ([path], "old") == (list(tmp_path.iterdir()), path.read_text())
    assert before == len(list(Path("/proc/self/fd").iterdir()))
    replace_file(path, "new")
    assert "new" == path.read_text()

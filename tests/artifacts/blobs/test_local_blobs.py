"""Blobs in files: a crash, a power cut or a full disk at any moment leaves the old state or the new one."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from strata.artifacts import BLOB_UNREADABLE, BlobReader, LocalBlobStore
from strata.outcomes import Refused

OLD, NEW = b"old" * 1000, b"new" * 1000
OPERATIONS = ("open", "mkdir", "writev", "pread", "fsync", "rename", "close")


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Crash(BaseException):
    """Simulated end of the process."""


def write(store: LocalBlobStore, data: bytes = NEW, prefix: str = "p") -> Path:
    writer = store.begin(prefix)
    writer.append([data[:10], data[10:]])
    return writer.commit().path


def content(store: LocalBlobStore, data: bytes, prefix: str = "p") -> bytes | Refused:
    reader = store.open_reader(prefix, hashlib.sha256(data).hexdigest(), len(data))
    if isinstance(reader, Refused):
        return reader
    try:
        return reader.read(0, len(data) + 1)
    finally:
        os.close(reader.fd)


@contextmanager
def crashing_at(step: int, error: BaseException, *, after: bool) -> Iterator[list[str]]:
    """Raise at the ``step``th file operation, before or after it takes effect; yields the operations seen."""
    seen: list[str] = []

    def watched(name: str, real: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            seen.append(name)
            mine = len(seen) == step
            if mine and not after:
                raise error
            try:
                return real(*args, **kwargs)
            finally:
                if mine and after:
                    raise error

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, watched(name, getattr(os, name)))
        yield seen


def steps(root: Path) -> list[str]:
    """Return every file operation of one blob's life, from the state of ``root``."""
    with crashing_at(0, Crash(), after=False) as seen:
        write(LocalBlobStore(root))
    return seen


@pytest.mark.parametrize("before", [OLD, NEW, None], ids=["another blob", "an equal blob", "nothing"])
def test_a_crash_at_any_file_operation_leaves_old_or_new(tmp_path: Path, before: bytes | None) -> None:
    """After a crash at any operation and a restart, every final name has a complete blob."""

    def prepared(name: str) -> Path:
        root = tmp_path / name
        if before is not None:
            write(LocalBlobStore(root), before)
        return root

    names = steps(prepared("dry"))
    assert set(OPERATIONS) == set(names)
    for step in range(1, len(names) + 1):
        for after in (False, True):
            root = prepared(f"{step}{after}")
            with crashing_at(step, Crash(), after=after), pytest.raises(Crash):
                write(LocalBlobStore(root))

            again = LocalBlobStore(root)
            again.sweep()
            assert before is None or before == content(again, before)
            assert NEW == content(again, NEW) or not list(root.rglob(f"{hashlib.sha256(NEW).hexdigest()}*"))
            assert not list(root.rglob("*.part"))
            write(again)
            assert NEW == content(again, NEW)


def test_a_disk_that_fails_at_any_operation_leaves_nothing_behind(tmp_path: Path) -> None:
    """The build fails, its file and descriptor are gone, and the next build succeeds."""
    names = steps(tmp_path / "dry")
    descriptors = open_files()
    for step in range(1, len(names) + 1):
        if names[step - 1] == "close":
            continue  # a close that fails has closed all the same
        root = tmp_path / f"{step}"
        store, writer = LocalBlobStore(root), None
        with crashing_at(step, OSError(errno.ENOSPC, "full"), after=False):
            try:
                writer = store.begin("p")
                writer.append([NEW])
                writer.commit()
            except OSError:
                if writer is not None:
                    writer.abort()
        assert not list(root.rglob("*.part")), names[step - 1]
        assert descriptors == open_files(), names[step - 1]
        write(store)
        assert NEW == content(store, NEW)


@attrs.define
class Disk:
    """State after a power cut: synced bytes of files, synced names of directories."""

    synced: dict[int, int] = attrs.field(factory=dict)
    names: set[Path] = attrs.field(factory=set)
    order: list[str] = attrs.field(factory=list)

    def fsync(self, descriptor: int) -> None:
        path, found = Path(f"/proc/self/fd/{descriptor}").readlink(), os.fstat(descriptor)
        if path.is_dir():
            self.names |= set(path.iterdir())
        else:
            self.synced[found.st_ino] = found.st_size
        self.order.append(f"sync {path.suffix or 'directory'}")

    def rename(self, real: Callable) -> Callable:
        def call(source: Path, target: Path) -> None:
            real(source, target)
            self.order.append("rename")

        return call


def test_a_committed_blob_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are synced before their name, and every directory above them is synced."""
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    monkeypatch.setattr(os, "rename", disk.rename(os.rename))
    root = tmp_path / "artifacts" / "blobs"
    root.parent.mkdir()
    store = LocalBlobStore(root)
    for prefix, data in (("p", OLD), ("p", NEW), ("q", NEW)):
        path = write(store, data, prefix)
        assert ["sync .part", "rename", "sync directory"] == disk.order[-3:]
        assert len(data) == disk.synced[path.stat().st_ino]
        while path != root.parent:
            assert path in disk.names
            path = path.parent


def test_a_directory_that_went_away_is_made_again(tmp_path: Path) -> None:
    """A cached directory that was removed meanwhile is created again."""
    store = LocalBlobStore(tmp_path / "blobs")
    blob = write(store)
    blob.unlink()
    blob.parent.rmdir()
    blob.parent.parent.rmdir()

    assert blob == write(store)
    assert NEW == content(store, NEW)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EIO, errno.ENOMEM])
def test_a_blob_that_cannot_be_opened_now_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A past error: a process without descriptors gave up every artifact for good."""
    store = LocalBlobStore(tmp_path)
    write(store)

    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        assert BLOB_UNREADABLE == content(store, NEW)
    assert NEW == content(store, NEW)


def test_a_refused_reader_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """A file of the wrong size is closed again."""
    store = LocalBlobStore(tmp_path)
    os.truncate(write(store), 10)
    before = open_files()

    assert isinstance(content(store, NEW), Refused)
    assert before == open_files()


def test_writing_again_mends_a_damaged_blob(tmp_path: Path) -> None:
    """The file is replaced, not written into, so readers of the old one are not disturbed."""
    store = LocalBlobStore(tmp_path)
    path = write(store)
    reader = store.open_reader("p", hashlib.sha256(NEW).hexdigest(), len(NEW))
    assert isinstance(reader, BlobReader)
    path.write_bytes(b"damaged")

    write(store)

    assert NEW == content(store, NEW)
    assert b"damaged" == reader.read(0, 100)
    os.close(reader.fd)


def test_only_the_server_reads_the_files(tmp_path: Path) -> None:
    """Other users of the machine cannot read results."""
    assert 0o600 == write(LocalBlobStore(tmp_path)).stat().st_mode & 0o777

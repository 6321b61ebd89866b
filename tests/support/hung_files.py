"""A file system whose answers a test withholds: a disk or an NFS server that hangs, by the kernel's own FUSE.

Needs root and ``/dev/fuse``. The protocol is that of ``linux/fuse.h``, version 7.31.
"""

import ctypes
import errno
import os
import stat
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, OPENDIR, READDIR = (
    1, 2, 3, 14, 15, 17, 18, 25, 26, 27, 28,
)  # fmt: skip
INTERRUPT, BATCH_FORGET = 36, 42
UNANSWERED = {FORGET, INTERRUPT, BATCH_FORGET}
DONE = {RELEASE, FLUSH, 29}

MS_NOSUID, MS_NODEV, MNT_FORCE, MNT_DETACH = 2, 4, 1, 2
MOST_BYTES = 1 << 17
"""Bytes of one read."""

_libc = ctypes.CDLL(None, use_errno=True)


def refused() -> str | None:
    """Return why no such file system can be mounted here, or None."""
    if os.geteuid():
        return "needs root to mount a file system that hangs"
    return None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "needs /dev/fuse"


@attrs.define(eq=False)
class HungFiles:
    """Files of one directory.

    Attributes:
        where: The directory.
        files: Their contents by name.
        hang: Kinds of question that get no answer.
        asked: Set when a question gets none.
    """

    where: Path
    files: Mapping[str, bytes]
    hang: set[int] = attrs.field(factory=set)
    asked: threading.Event = attrs.field(factory=threading.Event)
    _descriptor: int = -1

    def serve(self) -> None:
        """Answer questions until the file system is gone."""
        while True:
            try:
                question = os.read(self._descriptor, MOST_BYTES + 8192)
            except OSError as error:
                if error.errno in {errno.EINTR, errno.EAGAIN, errno.ENOENT}:
                    continue
                return
            _, kind, unique, node = struct.unpack_from("<IIQQ", question)
            if kind in self.hang:
                self.asked.set()
            elif kind not in UNANSWERED:
                found = self._answer(kind, node, question[40:])
                error, body = (found, b"") if isinstance(found, int) else (0, found)
                try:
                    os.write(self._descriptor, struct.pack("<IiQ", 16 + len(body), -error, unique) + body)
                except OSError:  # who asked has gone
                    continue

    def _answer(self, kind: int, node: int, body: bytes) -> bytes | int:
        names = list(self.files)
        if kind == INIT:
            return struct.pack(
                "<IIIIHHIIHHI7I", 7, 31, MOST_BYTES, 0, 16, 12, MOST_BYTES, 1, 32, 0, 0, *[0] * 7
            )
        if kind == LOOKUP:
            name = os.fsdecode(body.rstrip(b"\0"))
            if name not in self.files:
                return errno.ENOENT
            found = names.index(name) + 2
            return struct.pack("<QQQQII", found, 0, 0, 0, 0, 0) + self._attributes(found)
        if kind == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if kind in {OPEN, OPENDIR}:
            return struct.pack("<QII", 0, 2, 0)  # 2: what is in the kernel's cache stays there
        if kind == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self.files[names[node - 2]][offset : offset + size]
        return b"" if kind in DONE else errno.ENOSYS

    def _attributes(self, node: int) -> bytes:
        size = 0 if node == 1 else len(list(self.files.values())[node - 2])
        mode = stat.S_IFDIR | 0o755 if node == 1 else stat.S_IFREG | 0o644
        return struct.pack(
            "<QQQQQQIIIIIIIIII", node, size, -(-size // 512), *[0] * 6, mode, 1, 0, 0, 0, 4096, 0
        )


@contextmanager
def hung_files(where: Path) -> Iterator[HungFiles]:
    """Serve the files of a directory through a file system that is mounted over it, until the block ends."""
    found = HungFiles(where, {path.name: path.read_bytes() for path in sorted(where.iterdir())})
    found._descriptor = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={found._descriptor},rootmode=40000,user_id=0,group_id=0,allow_other"
    target = os.fsencode(where)
    if _libc.mount(b"hung", target, b"fuse", MS_NOSUID | MS_NODEV, options.encode()):
        raise OSError(ctypes.get_errno(), "mount of a FUSE file system")
    server = threading.Thread(target=found.serve, daemon=True)
    server.start()
    try:
        yield found
    finally:
        _libc.umount2(target, MNT_FORCE)  # ends all questions that wait
        _libc.umount2(target, MNT_DETACH)
        server.join(10)
        os.close(found._descriptor)

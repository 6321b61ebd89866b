"""Makes one call of the operating system fail, on the files of one tenant: the n-th call of a kind."""

from __future__ import annotations

import builtins
import errno
import io
import mmap
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

KINDS: dict[str, tuple[tuple[Any, str], ...]] = {
    "open": ((os, "open"), (io, "open"), (builtins, "open")),
    "read": ((os, "pread"), (os, "preadv")),
    "write": ((os, "writev"), (os, "pwrite")),
    "fsync": ((os, "fsync"),),
    "rename": ((os, "rename"), (os, "replace"), (os, "link")),
    "dup": ((os, "dup"),),
    "listdir": ((os, "listdir"), (os, "scandir")),
    "stat": ((os, "stat"), (os, "fstat")),
    "mmap": ((mmap, "mmap"),),
    "mkdir": ((os, "mkdir"),),
    "unlink": ((os, "unlink"),),
    "utime": ((os, "utime"),),
    "close": ((os, "close"),),
}
"""The functions of each kind of call, by module and name."""

ERRORS = (errno.EIO, errno.EMFILE, errno.ENOSPC, errno.EACCES)
"""The errors that calls fail with, in turn."""


@attrs.define
class Faults:
    """Counts the calls of one kind, and fails one of them.

    Attributes:
        concerns: Whether a call on a path counts.
        at: The number of the call that fails, from 1; 0: none.
        number: The error.
        calls: Calls so far.
        failed: The path on which a call has failed.
    """

    concerns: Callable[[str], bool]
    at: int = 0
    number: int = errno.EIO
    calls: int = 0
    failed: str | None = None
    _lock: Any = attrs.field(factory=threading.Lock)

    def meet(self, target: object) -> None:
        """Count a call on a path or descriptor, and fail it if it is its turn."""
        path = _path_of(target)
        if path is None or not self.concerns(path):
            return
        with self._lock:
            self.calls += 1
            due = self.calls == self.at
        if due:
            self.failed = path
            raise OSError(self.number, os.strerror(self.number), path)


def _path_of(target: object) -> str | None:
    if isinstance(target, int):
        try:
            return READLINK(f"/proc/self/fd/{target}")
        except OSError:  # no descriptor, as -1 of anonymous memory
            return None
    if isinstance(target, (str, bytes, Path)):
        return os.fsdecode(target)
    return None


READLINK = os.readlink


@contextmanager
def failing(kind: str, faults: Faults) -> Iterator[Faults]:
    """Have ``faults`` decide on all calls of a kind."""
    with pytest.MonkeyPatch.context() as patched:
        for module, name in KINDS[kind]:
            instead = _closed if kind == "close" else _instead
            patched.setattr(module, name, instead(getattr(module, name), faults))
        yield faults


def _instead(real: Any, faults: Faults) -> Any:
    def call(target: Any, *args: Any, **kwargs: Any) -> Any:
        faults.meet(target)
        return real(target, *args, **kwargs)

    return call


def _closed(real: Any, faults: Faults) -> Any:
    """Return a close that fails as the system's does: the descriptor is closed all the same."""

    def call(descriptor: int) -> None:
        path = _path_of(descriptor)
        real(descriptor)
        faults.meet(path)

    return call

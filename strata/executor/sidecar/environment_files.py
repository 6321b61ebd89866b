"""The files of environments: their directory, which is one executor's, and how they come and go; blocking."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from strata.durable import sync_directory

PACKAGES: Final = "packages"
"""Folder with the packages, in the directory of an environment."""

DONE: Final = "environment.json"
"""File that only a whole environment has; its time is when it was last used."""

BLOCK: Final = 4096
"""Bytes that a file takes at least."""

_LOCK: Final = "executor.lock"
_WHOLE: Final = re.compile(r"[0-9a-f]{64}-.+")
_REST: Final = re.compile(r"(part|gone)-([a-z0-9_]{8}|[0-9a-f]{64}-.+)")

log = structlog.get_logger(__name__)


class DirectoryTakenError(Exception):
    """Another executor has the directory; the message is a sentence for the operator."""


def take(root: Path) -> int:
    """Make the directory of environments this process's; returns the descriptor that holds it.

    Raises:
        DirectoryTakenError: If another executor has it.
        OSError: If it cannot be used.
    """
    root.mkdir(0o700, parents=True, exist_ok=True)
    descriptor = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DirectoryTakenError(
            f"Another executor uses {root}; name another directory by --environments."
        ) from None
    except BaseException:  # raised again: no other code closes it
        os.close(descriptor)
        raise
    return descriptor


def find(root: Path) -> Sequence[tuple[str, int]]:
    """Return name and bytes of each environment, the one unused for longest first.

    What is left of others is removed; what has no name of an environment is of another program and stays.

    Raises:
        OSError: If the directory cannot be read.
    """
    found = []
    for one in root.iterdir():
        if _REST.fullmatch(one.name):
            remove_tree(one)
        elif _WHOLE.fullmatch(one.name):
            done = one / DONE
            try:
                found.append((done.stat().st_mtime, one.name, int(json.loads(done.read_text())["bytes"])))
            except (OSError, ValueError, KeyError, TypeError):
                remove_tree(one)
    return [(name, nbytes) for _, name, nbytes in sorted(found)]


def bytes_of(directory: Path) -> int:
    """Return the bytes of all files below a directory, each at least a block.

    What goes meanwhile is not counted.
    """
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                total += max(BLOCK, os.lstat(os.path.join(path, name)).st_size)  # noqa: PTH118  # of very many
    return total


def too_large(part: Path, most: int) -> bool:
    """Return whether an environment that is made has too many bytes.

    Args:
        part: Its directory, in which uv has each file twice for a while: unpacked, and copied to its place.
        most: Bytes of its packages.
    """
    return bytes_of(part / PACKAGES) > most or bytes_of(part) > 2 * most


def finish(part: Path, place: Path, nbytes: int) -> None:
    """Make an environment read-only, and give it its name: it is there as a whole or not at all.

    Raises:
        OSError: If the disk does not take it.
    """
    (part / DONE).write_text(json.dumps({"bytes": nbytes}))
    packages = part / PACKAGES
    packages.mkdir(exist_ok=True)
    for path, _, names in os.walk(packages):
        for name in names:
            one = Path(path, name)
            if one.is_symlink():
                one.unlink()  # wheels have none; what it leads to would be another's
            else:
                one.chmod(0o444)
        Path(path).chmod(0o555)
    if place.exists():  # of a removal or an end that failed midway; no cell uses it
        remove(place)
    part.rename(place)
    sync_directory(place.parent)


def remove(place: Path) -> None:
    """Remove an environment; a process that is killed meanwhile leaves none that looks whole.

    Raises:
        OSError: If it cannot be put aside.
    """
    gone = Path(tempfile.mkdtemp(prefix="gone-", dir=place.parent))  # two removals have two names
    try:
        place.rename(gone)
    finally:
        remove_tree(gone)


def remove_tree(directory: Path) -> None:
    """Remove a directory, also if its folders may not be written to; what stays is logged."""
    with suppress(OSError):
        if stat.S_ISDIR(directory.lstat().st_mode):
            directory.chmod(0o700)
    for path, folders, _ in os.walk(directory):
        for folder in folders:
            one = Path(path, folder)
            with suppress(OSError):
                if not one.is_symlink():  # what it leads to is another's
                    one.chmod(0o700)  # before the walk comes to it, and reads it
    shutil.rmtree(directory, ignore_errors=True)
    if directory.is_dir() and not directory.is_symlink():
        log.warning("a directory of environments cannot be removed", directory=directory.name)

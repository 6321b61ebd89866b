"""Openers as the server holds them: processes that open local files, to be given up where a disk hangs."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from threading import Lock

import attrs

from strata.outcomes import RefusalError, Refused
from strata.readers.messages import FileGiven, receive, send
from strata.readers.processes import ForkServer, end_process
from strata.tables.files.confined import LocalFileIO, outside

Place = tuple[str, str | None]
"""Path of a file, and the directory that it must be below, if it must."""

SHARE = 0.9
"""Share of a step's time after which an opening is late: the reader that waits must not be late, too."""


@attrs.define(eq=False)
class Opener:
    """An opener process. Answers one question at a time.

    Attributes:
        link: Connection to it.
    """

    link: socket.socket
    _pidfd: int

    @classmethod
    def forked(cls, server: ForkServer) -> Opener:
        """Return a new opener; raises OSError if there can be none."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = server.fork_opener(theirs.fileno())
            return cls(ours, os.pidfd_open(process))
        except BaseException:  # raised again: no other code closes it
            ours.close()
            raise

    def open(self, places: Sequence[Place], seconds: float) -> list[tuple[int | None, dict[str, int]]]:
        """Return for each of up to :data:`TOGETHER` files its descriptor, or None and why there is none.

        Raises:
            TimeoutError: If the file system does not answer.
            OSError: If the opener has ended.
        """
        self.link.settimeout(max(0.001, seconds))
        send(self.link, json.dumps(places).encode())
        found = receive(self.link)
        if found is None:
            raise ConnectionResetError(errno.ECONNRESET, "the opener has ended")
        descriptors = iter(found[1])
        return [(None if answer else next(descriptors), answer) for answer in json.loads(found[0])]

    def end(self, seconds: float = 0) -> None:
        """End the process."""
        end_process(self._pidfd, seconds)
        self.link.close()


class Openers:
    """As many openers as there are threads that open files at a time. Thread-safe.

    Args:
        fork: Forks one; raises OSError if there can be none.
    """

    def __init__(self, fork: Callable[[], Opener]) -> None:
        self._fork = fork
        self._idle: list[Opener] = []
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Openers: {len(self._idle)} idle>"

    def open(
        self, io: LocalFileIO, locations: Sequence[str], seconds: float, late: Refused
    ) -> list[int | OSError | RefusalError]:
        """Return for each local file its descriptor, which the caller closes, or why there is none. Blocking.

        Args:
            io: What the files are opened by.
            locations: Their locations, at most :data:`strata.readers.messages.TOGETHER`.
            seconds: Seconds that the step of the files may take.
            late: The refusal of one that takes longer.

        An OSError stands for a file that is missing, not readable or not a regular file, a refusal
        (DATA_UNREADABLE) for one that lies outside of its directory.

        Raises:
            RefusalError: ``late``.
            OSError: If there is no opener.
        """
        places = [_place(io, location) for location in locations]
        asked = [place for place in places if not isinstance(place, RefusalError)]
        deadline = time.monotonic() + seconds * SHARE
        for last in (False, True):
            opener = self._lease()
            try:
                found = iter(opener.open(asked, deadline - time.monotonic()))
            except TimeoutError:
                opener.end()
                raise RefusalError(late) from None
            except (OSError, ValueError) as error:
                opener.end()
                if last:
                    raise OSError(errno.EIO, "an opener has ended") from error
            except BaseException:  # raised again: an answer may be on its way, to the wrong question
                opener.end()
                raise
            else:
                with self._lock:
                    self._idle.append(opener)
                break
        return [
            place if isinstance(place, RefusalError) else _opened(location, *next(found))
            for location, place in zip(locations, places, strict=True)
        ]

    def _lease(self) -> Opener:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._fork()

    def close(self, seconds: float) -> None:
        """End those that are idle; the others end with the fork server."""
        with self._lock:
            idle, self._idle = self._idle, []
        for opener in idle:
            opener.end(seconds)


def _place(io: LocalFileIO, location: str) -> Place | RefusalError:
    try:
        return io.place(location)
    except RefusalError as refusal:
        return refusal


def _opened(location: str, descriptor: int | None, answer: dict[str, int]) -> int | OSError | RefusalError:
    if descriptor is not None:
        return descriptor
    if "outside" in answer:
        return outside(location)
    return OSError(answer["errno"], os.strerror(answer["errno"]))


def said(found: int | OSError | RefusalError) -> FileGiven:
    """Say to a reader that a descriptor comes, or why not."""
    if isinstance(found, RefusalError):
        why = found.refused
        return FileGiven(None, (why.reason.value, why.detail, why.code))
    return FileGiven(found.errno or errno.EIO) if isinstance(found, OSError) else FileGiven()

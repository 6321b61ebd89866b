"""The fork server and the readers it forked, as the server holds them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import attrs
import msgspec
import pyarrow as pa

import strata
from strata.outcomes import RefusalError
from strata.readers.messages import (
    Answer,
    FileGiven,
    Part,
    PlanOf,
    Request,
    RunRead,
    SliceRead,
    WantFile,
    answer_bytes,
    answer_of,
    receive,
    request_bytes,
    send,
)
from strata.readers.plans import pickled
from strata.readers.shared_memory import SLOT_BYTES, OwnMemoryError, Slots, adopted
from strata.tables import ScanPlan
from strata.tables.files.prefetched import Range

START_SECONDS = 60.0
"""Seconds in which the fork server must have imported what it needs."""

FORK_SECONDS = 10.0
"""Seconds in which it must answer."""

ENVIRONMENT = {"LC_ALL": "C.UTF-8", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
"""Environment of the fork server and its readers, besides Python's path.

Arrow's own memory pool reserves a gigabyte, which a limit of data would have to include; the system's is as
fast here and keeps half as much (pyarrow 26: 28 MB beside 62 in an idle reader). It has one arena: with one
for each thread the free memory of a scan is scattered over them, and counts as used.
"""

Opener: TypeAlias = "Callable[[str], tuple[int, list[Range] | None]]"
"""Opens the file at a location: its descriptor, and the ranges of it that are there; None for all of it."""

KNOWN_PLANS = 32
"""Scans that a reader keeps; the least recently used is sent again."""


class ReaderDiedError(Exception):
    """A reader ended, or said something that no reader says, and was ended.

    Args:
        status: What ended it: the name of a signal, or another word.
    """

    def __init__(self, status: str) -> None:
        super().__init__(status)
        self.status = status


class ReaderLateError(Exception):
    """A reader has not answered in time and was ended."""


class ForkServerEndedError(OSError):
    """The fork server has ended, or does not answer: another one is needed."""


class ForkServer:
    """The process that forks readers. Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        ours, theirs = socket.socketpair()
        with theirs:
            # No environment, none of the server's files and no signals of the terminal.
            self._process = subprocess.Popen(  # the interpreter and a module of the package
                [sys.executable, "-P", "-m", "strata.readers.child.fork_server"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={**ENVIRONMENT, "PYTHONPATH": str(Path(strata.__file__).parents[1])},
                start_new_session=True,
            )
        self._link = ours
        ours.settimeout(START_SECONDS)
        self._ready = False

    def fork(self, link: int, slots: int, memory: int, *, ahead: bool) -> int:
        """Fork a reader and return its process number.

        Args:
            link: Descriptor of its link.
            slots: Descriptor of its shared memory.
            memory: Most bytes of its data; 0: no limit.
            ahead: Whether no request waits for it yet.

        Raises:
            ForkServerEndedError: If there is no fork server any more.
            OSError: If the system has no process for it; the fork server and other readers go on.
        """
        return self._forked({"memory": memory, "ahead": ahead}, (link, slots))

    def fork_opener(self, link: int) -> int:
        """Fork an opener and return its process number; raises as :meth:`fork`."""
        return self._forked({}, (link,))

    def _forked(self, request: dict[str, Any], descriptors: tuple[int, ...]) -> int:
        answer = self._ask(request, descriptors)
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        return int(answer["pid"])

    def status(self, process: int) -> str:
        """Return what ended a reader: the name of a signal, or a word."""
        try:
            found = self._ask({"pid": process})["status"]
        except OSError:
            return "unknown"
        return "unknown" if found is None else signal.Signals(-found).name if found < 0 else f"exit {found}"

    def _ask(self, request: dict[str, Any], descriptors: tuple[int, ...] = ()) -> dict[str, Any]:
        with self._lock:
            try:
                if not self._ready:
                    self._answer()
                    self._link.settimeout(FORK_SECONDS)
                    self._ready = True
                send(self._link, json.dumps(request).encode(), descriptors)
                return self._answer()
            except (OSError, ValueError) as error:
                raise ForkServerEndedError(errno.ECONNRESET, "the fork server has ended") from error

    def _answer(self) -> dict[str, Any]:
        found = receive(self._link)
        if found is None:
            raise ConnectionResetError("the fork server has ended")
        answer: dict[str, Any] = json.loads(found[0])
        return answer

    def close(self) -> None:
        """End it, and its readers with it."""
        self._link.close()
        self._process.kill()
        self._process.wait()


@attrs.define(eq=False)
class Reader:
    """A reader process. Its requests run one at a time.

    Attributes:
        process: Its process number.
        link: Connection to it.
        slots: The memory it shares with the server.
        fork_server: The process that forked it.
        lock: Held while a request runs.
        load: Row groups that are to be read in it.
        alive: Whether requests can be sent.
        opened: Row groups that it has open.
        closing: Row groups to be closed with the next request.
        listings: Listings that it has open, the oldest first.
    """

    process: int
    link: socket.socket
    slots: Slots
    fork_server: ForkServer
    _pidfd: int
    lock: Lock = attrs.field(factory=Lock)
    load: int = 0
    alive: bool = True
    opened: set[int] = attrs.field(factory=set)
    closing: deque[int] = attrs.field(factory=deque)
    listings: deque[int] = attrs.field(factory=deque)
    _plans: OrderedDict[int, None] = attrs.field(factory=OrderedDict)

    @classmethod
    def forked(cls, server: ForkServer, memory: int, *, ahead: bool) -> Reader:
        """Return a new reader; raises OSError if there can be none.

        Args:
            server: Forks it.
            memory: Most bytes of its data; 0: no limit.
            ahead: Whether no request waits for it yet.
        """
        ours, theirs = socket.socketpair()
        try:
            slots = Slots()
            try:
                with theirs:
                    process = server.fork(theirs.fileno(), slots.descriptor, memory, ahead=ahead)
                return cls(process, ours, slots, server, os.pidfd_open(process))
            finally:
                slots.handed()
        except BaseException:  # raised again: no other code closes it
            ours.close()
            raise

    def plan_of(self, number: int, plan: ScanPlan) -> PlanOf:
        """Return a scan as the reader knows it, or with what it must be told; call under :attr:`lock`."""
        if number in self._plans:
            self._plans.move_to_end(number)
            return PlanOf(number, None)
        told = pickled(plan)
        self._plans[number] = None
        forgotten = [self._plans.popitem(last=False)[0]] if len(self._plans) > KNOWN_PLANS else []
        return PlanOf(number, told, tuple(forgotten))

    def forget(self, number: int) -> None:
        """Tell the reader of a scan again, which it may not have taken up; call under :attr:`lock`."""
        self._plans.pop(number, None)

    def call(
        self,
        request: Request,
        opener: Opener,
        seconds: float,
        descriptors: Sequence[int] = (),
    ) -> tuple[Answer, pa.Buffer | None]:
        """Send a request and return the answer, with the memory that came with it; call under :attr:`lock`.

        Args:
            request: The request.
            opener: Opens a file for the reader; raises OSError or RefusalError.
            seconds: Seconds it may take; then the reader is ended.
            descriptors: Descriptors that go with the request.

        Raises:
            ReaderDiedError: If the reader has ended.
            ReaderLateError: If it was ended.
        """
        deadline = time.monotonic() + seconds
        closed = tuple(self.closing.popleft() for _ in range(len(self.closing)))
        if closed:
            request = attrs.evolve(request, closed=closed)
        try:
            self._allow(deadline)
            send(self.link, request_bytes(request), descriptors)
            while True:
                self._allow(deadline)
                found = receive(self.link)
                if found is None:
                    raise ConnectionResetError("the reader has ended")
                answer, came = answer_of(found[0]), found[1]
                memory = adopted(came.pop()) if came else None
                for descriptor in came:
                    os.close(descriptor)
                if not isinstance(answer, WantFile):
                    _check(answer, memory)
                    return answer, memory
                self._give(answer, opener)
        except TimeoutError:
            self.end()
            raise ReaderLateError from None
        except (OSError, ValueError, msgspec.MsgspecError, OwnMemoryError) as error:
            self.end()
            raise ReaderDiedError(self.fork_server.status(self.process)) from error

    def _allow(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.link.settimeout(left)

    def _give(self, wanted: WantFile, opener: Opener) -> None:
        try:
            descriptor, ranges = opener(wanted.location)
        except RefusalError as refusal:
            why = refusal.refused
            send(self.link, answer_bytes(FileGiven(None, (why.reason.value, why.detail, why.code))))
        except OSError as error:
            send(self.link, answer_bytes(FileGiven(error.errno or errno.EIO)))
        else:
            try:
                send(self.link, answer_bytes(FileGiven(ranges=ranges)), (descriptor,))
            finally:
                os.close(descriptor)

    def close_group(self, number: int) -> None:
        """Have a row group closed, now if the reader is idle, else with its next request; never blocks."""
        if number not in self.opened:
            return
        self.opened.discard(number)
        self.closing.append(number)
        if self.alive and self.lock.acquire(blocking=False):
            try:
                closed = tuple(self.closing.popleft() for _ in range(len(self.closing)))
                self.link.settimeout(0)
                with contextlib.suppress(
                    OSError
                ):  # it has ended, or does not read: the next request finds out
                    send(self.link, request_bytes(Request(None, closed)))
            finally:
                self.lock.release()

    def peak_bytes(self) -> int:
        """Return the most memory that it has had, in bytes; 0 if the system does not tell."""
        try:
            with Path(f"/proc/{self.process}/status").open() as status:
                found = next((line for line in status if line.startswith("VmHWM:")), "VmHWM: 0")
        except OSError:
            return 0
        return int(found.split()[1]) * 1024

    def has_ended(self) -> bool:
        """Test whether the process has ended by itself; call under :attr:`lock`, if :attr:`alive`."""
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        return bool(ended.poll(0))

    def end(self, seconds: float = 0) -> None:
        """End the process; idempotent.

        Args:
            seconds: Seconds to wait for its end.
        """
        if not self.alive:
            return
        self.alive = False
        end_process(self._pidfd, seconds)
        self.link.close()


def end_process(pidfd: int, seconds: float) -> None:
    """Kill a process, wait for its end at most ``seconds``, and close its descriptor."""
    with contextlib.suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(seconds * 1000)
    os.close(pidfd)


def _check(answer: Answer, memory: pa.Buffer | None) -> None:
    """Check the places that a reader names; raises ValueError for one outside of its memory."""
    size = SLOT_BYTES if memory is None else memory.size
    parts: list[Part | None] = []
    match answer:
        case SliceRead():
            if answer.own != (memory is not None) or answer.passed < 0:
                raise ValueError("no such memory")
            parts += (answer.segment, answer.kept)
        case RunRead():
            for group in answer.groups:
                parts += (group.segment, group.kept)
    for part in parts:
        if part is not None and not 0 <= part.offset <= part.offset + part.nbytes <= size:
            raise ValueError("rows outside of the memory")


numbers = itertools.count(1)
"""Numbers of row groups and scans, never used twice in a process."""

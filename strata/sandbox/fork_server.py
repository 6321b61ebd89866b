"""Fork sandboxed processes from one that has their libraries loaded: run as a program by ``launcher``.

Importing the libraries takes a second of the processor, a fork a few milliseconds; so each computation has a
process of its own, which no other computation has used. This process has one thread, reads nothing but the
socket from the server, and computes nothing itself.

Where what the processes run has a method ``rehearse``, some are forked before their jobs arrive. Each calls
the method, which knows no tenant's data: it touches the pages that a job touches, and which a forked process
has to copy. Then it tells this process, and waits for its job.

Arguments: the module whose ``load()`` returns what a forked process runs, given the socket of its job; a
function of another name follows after a colon.
Standard input is a socket that keeps messages apart. A message with a descriptor asks for a process that has
this descriptor, the socket of its job; the answer is its id. A message of digits names a process that has
ended, which is then forgotten. At the end of the messages all processes are killed.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import attrs

from strata.sandbox.walls import die_with_parent, step_back

MESSAGE_BYTES = 64
"""Most bytes of a message."""

SPARES = 2
"""Processes that wait for a job: a query of tables has two, of which one looks at the query."""

PAUSE_SECONDS = 0.05
"""Seconds after a job begins in which none is forked, unless a job ends: a fork would hold up the job."""


@attrs.frozen
class _Spare:
    """A process that waits for its job.

    Attributes:
        pid: Its id.
        link: The socket over which it is given the descriptor of its job.
    """

    pid: int
    link: socket.socket


@attrs.define(eq=False)
class ForkServer:
    """Forks processes for the other end of a link.

    Attributes:
        link: The socket from the server.
        main: What a forked process runs, given the socket of its job.
        rehearse: What a process runs before its job arrives; None: none is forked so early.
    """

    link: socket.socket
    main: Callable[[socket.socket], None]
    rehearse: Callable[[], None] | None = None
    _running: set[int] = attrs.field(factory=set, init=False)
    _ended: set[int] = attrs.field(factory=set, init=False)
    _spares: deque[_Spare] = attrs.field(factory=deque, init=False)

    def serve(self) -> None:
        """Fork processes until the other end of the link is closed."""
        pause = 0.0
        try:
            while True:
                self._prepare(pause)
                message, descriptors, _, _ = socket.recv_fds(self.link, MESSAGE_BYTES, 1)
                if not message:
                    return
                if descriptors:
                    self._start(descriptors[0])
                    pause = PAUSE_SECONDS
                else:
                    self._forget(int(message))
                    pause = 0.0
        finally:
            for pid in self._running.union(one.pid for one in self._spares):
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _start(self, descriptor: int) -> None:
        """Give a job to a process that waits for one, or to a new one, and tell its id."""
        pid = self._from_spares(descriptor) or self._fork(partial(_run_job, descriptor, self.main))
        os.close(descriptor)
        self._running.add(pid)
        self.link.send(str(pid).encode())

    def _from_spares(self, descriptor: int) -> int | None:
        """Give a job to a process that waits: one that still rehearses, on a busy machine, is no faster."""
        ready = select.select([one.link for one in self._spares], [], [], 0)[0]
        for spare in [one for one in self._spares if one.link in ready]:
            self._spares.remove(spare)
            with spare.link:
                if _reap(spare.pid):  # the kernel, out of memory, has ended it; its id may be reused
                    continue
                with suppress(OSError):
                    socket.send_fds(spare.link, [b"job"], [descriptor])
                    return spare.pid
            self._running.add(spare.pid)
            self._end(spare.pid)
        return None

    def _prepare(self, pause: float) -> None:
        """Fork processes for later jobs, as long as no message comes; each after ``pause`` seconds."""
        while self.rehearse is not None and len(self._spares) < SPARES:
            if select.select([self.link], [], [], pause)[0]:
                return
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    pid = self._fork(partial(_wait_for_job, ours, theirs, self.rehearse, self.main))
                except OSError:  # no process or no memory: a job gets a process of its own later, or an error
                    ours.close()
                    return
            self._spares.append(_Spare(pid, ours))

    def _fork(self, begin: Callable[[], None]) -> int:
        own = os.getpid()
        pid = os.fork()
        if not pid:
            _become(own, [self.link, *(one.link for one in self._spares)], begin)
        return pid

    def _forget(self, pid: int) -> None:
        self._ended.add(pid)
        reaped = {pid for pid in self._ended if _reap(pid)}
        self._ended -= reaped
        self._running -= reaped

    def _end(self, pid: int) -> None:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        self._forget(pid)


def _reap(pid: int) -> bool:
    """Forget a process that has ended; one that hangs in the kernel is tried again later, not waited for."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _become(parent: int, links: Sequence[socket.socket], begin: Callable[[], None]) -> None:
    """Run a job in the forked process, and end it whatever happens."""
    try:
        die_with_parent()
        if os.getppid() != parent:
            return  # the parent ended before the kernel knew that this process is to end with it
        for link in links:
            link.close()
        os.setsid()  # a group of its own, which can be killed as a whole
        begin()
    finally:
        os._exit(1)


def _run_job(descriptor: int, main: Callable[[socket.socket], None]) -> None:
    with socket.socket(fileno=descriptor) as job:
        main(job)


def _wait_for_job(
    parents: socket.socket,
    link: socket.socket,
    rehearse: Callable[[], None],
    main: Callable[[socket.socket], None],
) -> None:
    """Rehearse, then run the job whose socket the link brings, if it brings one."""
    parents.close()
    step_back()
    rehearse()
    with link:
        link.send(b"ready")
        message, descriptors, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 1)
    if message:
        _run_job(descriptors[0], main)


def run(module: str) -> None:
    """Load the module, then serve standard input."""
    module, _, function = module.partition(":")
    main = getattr(importlib.import_module(module), function or "load")()
    os.environ.clear()
    gc.freeze()  # no collection copies the pages that all processes share
    with socket.socket(fileno=os.dup(0)) as link:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
        ForkServer(link, main, getattr(main, "rehearse", None)).serve()


if __name__ == "__main__":
    run(sys.argv[1])

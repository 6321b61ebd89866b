"""Start sandboxed processes, talk to them, and end them for certain."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

import attrs
import structlog
import trio

from strata.sandbox.frames import FRAME, Frame

START_SECONDS = 30.0
"""Seconds to start the process that forks, its imports included; at the bound the computation fails."""

END_SECONDS = 10.0
"""Seconds to wait for the end of a killed process, which may hang in the kernel; then it is left to it."""

READ_BYTES = 1024 * 1024
"""Most bytes of one read of a process's output."""

ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""What the process that forks is given: nothing of the server's, and no thread of a library."""

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; "
    "from strata.sandbox import fork_server; fork_server.run(sys.argv[1])"
)

log = structlog.get_logger(__name__)


class SandboxError(Exception):
    """A process could not be started, or ended without an answer."""


@attrs.define(eq=False)
class Sandboxed:
    """A sandboxed process that runs one job.

    Attributes:
        pid: Its id, and its group's.
        ended: A descriptor that becomes readable when it has ended.
        link: The socket to it.
    """

    pid: int
    ended: int
    link: trio.SocketStream
    _rest: bytearray = attrs.field(factory=bytearray)

    async def give(self, job: Mapping[str, object], descriptors: Sequence[int]) -> None:
        """Send the job, and the open files that belong to it.

        Raises:
            SandboxError: If the process has ended.
        """
        text = json.dumps(job).encode()
        head = struct.pack("!I", len(text))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
        try:
            sent = await self.link.socket.sendmsg([head], rights)
            await self.link.send_all(head[sent:] + text)
        except (OSError, trio.BrokenResourceError):
            raise SandboxError("the process ended before its job") from None

    async def receive(self) -> Frame:
        """Return the next frame of its answer.

        Raises:
            SandboxError: If it has ended, or has sent what is no frame.
        """
        kind, rows, length = FRAME.unpack(await self._exactly(FRAME.size))
        try:
            return Frame.of(kind, rows, length, await self._exactly(min(length, Frame.MOST_BYTES)))
        except ValueError as error:
            raise SandboxError(str(error)) from None

    async def _exactly(self, count: int) -> bytes:
        rest = self._rest
        while len(rest) < count:
            try:
                part = await self.link.receive_some(READ_BYTES)
            except trio.BrokenResourceError:
                part = b""
            if not part:
                raise SandboxError("the process ended in the middle of its answer")
            rest += part
        taken = bytes(rest[:count])
        del rest[:count]
        return taken

    async def end(self) -> None:
        """Kill the process with its group, and wait until it has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # it may not have its group yet
        with trio.move_on_after(END_SECONDS, shield=True) as waiting:
            await trio.lowlevel.wait_readable(self.ended)
        if waiting.cancelled_caught:
            log.warning("a sandboxed process does not end", pid=self.pid)
        os.close(self.ended)
        with trio.CancelScope(shield=True):
            await self.link.aclose()


@attrs.define(eq=False)
class Launcher:
    """Starts the sandboxed processes of one kind, forked from a process that is started with the first one.

    Attributes:
        module: Module whose ``main(job)`` they run, with the socket of :class:`Sandboxed`.
        started: Processes started so far.
        running: Processes that run.
    """

    module: str
    started: int = 0
    running: int = 0
    _server: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)
    _link: trio.socket.SocketType | None = attrs.field(default=None, init=False)
    _asking: trio.Lock = attrs.field(factory=trio.Lock, init=False)

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Sandboxed]:
        """Start a process; at the end of the block it is killed, if it has not ended, and gone.

        Raises:
            SandboxError: If it cannot be started.
        """
        found = await self._start()
        self.started += 1
        self.running += 1
        try:
            yield found
        finally:
            self.running -= 1
            await found.end()
            with trio.CancelScope(shield=True):
                await self._forget(found.pid)

    async def _start(self) -> Sandboxed:
        ours, theirs = socket.socketpair()
        found = None
        try:
            # Shielded: a process that is being forked must be known, or nothing would end it.
            with theirs, trio.CancelScope(shield=True, deadline=trio.current_time() + START_SECONDS):
                pid = await self._ask(theirs.fileno())
                link = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
                found = Sandboxed(pid, await self._watch(pid), link)
        finally:
            if found is None:
                ours.close()
        if found is None:
            await self.close()  # its answer would come to the next request
            raise SandboxError(f"no process was started within {START_SECONDS:g} seconds")
        return found

    async def _watch(self, pid: int) -> int:
        """Return a descriptor that becomes readable when a process has ended; kills one that has none."""
        try:
            return os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            await self._forget(pid)
            raise

    async def _ask(self, descriptor: int) -> int:
        """Have a process forked, and return its id; starts the process that forks if need be."""
        async with self._asking:
            for attempt in range(2):
                link = await self._connected(anew=bool(attempt))
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor))]
                with suppress(OSError):
                    await link.sendmsg([b"fork"], rights)
                    answer = await link.recv(64)
                    if answer:
                        return int(answer)
            raise SandboxError("the process that forks ends at once")

    async def _connected(self, *, anew: bool) -> trio.socket.SocketType:
        if anew:
            await self.close()
        if self._link is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                start = partial(_popen, self.module, theirs.fileno())
                self._server = await trio.to_thread.run_sync(start)
            self._link = trio.socket.from_stdlib_socket(ours)
        return self._link

    async def _forget(self, pid: int) -> None:
        """Let the process that forks reap one that has ended."""
        if self._link is not None:
            with suppress(OSError), trio.move_on_after(END_SECONDS):
                await self._link.send(str(pid).encode())

    async def close(self) -> None:
        """End the process that forks, and with it all others."""
        link, self._link = self._link, None
        server, self._server = self._server, None
        if link is not None:
            link.close()
        if server is not None:
            server.kill()  # the kernel kills its children with it
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(server.wait, END_SECONDS))

    async def missing_walls(self) -> tuple[str, ...]:
        """Return the names of the walls that a process of this kind does not have on this machine.

        Raises:
            SandboxError: If it cannot be started.
        """
        async with self.process() as found:
            await found.give({"probe": True}, [])
            return tuple(json.loads((await found.receive()).payload))


def _popen(module: str, descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # the interpreter and a module of the package
        [sys.executable, "-I", "-c", _PROGRAM, module, *filter(None, sys.path)],
        stdin=descriptor,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )

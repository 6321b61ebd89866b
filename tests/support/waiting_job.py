"""A program for sandboxed processes in tests, which are forked before they are asked for."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from pathlib import Path

from strata.sandbox.frames import Kind, receive_job, send


class Program:
    """What a forked process runs: it answers what it is and has."""

    def __init__(self) -> None:
        self.rehearsals = 0

    def __call__(self, link: socket.socket) -> None:
        """Answer the id of this process, how often it rehearsed, and how many sockets it has."""
        receive_job(link, 1)
        kinds = [os.fstat(one).st_mode for one in descriptors()]
        sockets = sum(map(stat.S_ISSOCK, kinds))
        found = {"pid": os.getpid(), "rehearsals": self.rehearsals, "sockets": sockets}
        send(link, Kind.DONE, [json.dumps(found).encode()])

    def rehearse(self) -> None:
        """Count the call."""
        self.rehearsals += 1


class Unready(Program):
    """The same, on a machine so busy that no rehearsal comes to its end."""

    def rehearse(self) -> None:
        """Wait until the process is ended."""
        signal.pause()


def descriptors() -> list[int]:
    """Return the open descriptors; the one of their directory is closed again."""
    found = [int(one.name) for one in Path("/proc/self/fd").iterdir()]
    return [one for one in found if Path(f"/proc/self/fd/{one}").is_symlink()]


def load() -> Program:
    """Return what a forked process runs."""
    return Program()


def load_unready() -> Unready:
    """Return what a forked process runs that never waits for its job."""
    return Unready()

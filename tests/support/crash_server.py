"""A whole server in a process that is forked with its imports done, since one is started for each crash."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import attrs
import trio
from service_kit import free_port

from strata.config import Settings
from strata.observability.logs import configure
from strata.server.run import run_server


@attrs.define
class Forked:
    """A server process.

    Attributes:
        process: The process.
        url: Address of its socket.
        listens: Receives a message when it listens.
    """

    process: ForkServerProcess
    url: str
    listens: Connection

    def kill(self) -> None:
        """End it as `kill -9` does; it must not have ended before."""
        assert self.process.is_alive(), f"the server ended by itself: {self.process.exitcode}"
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()


def prepare() -> None:
    """Start the process that servers are forked from.

    Before a test makes a temporary directory of its own: the path of that process's socket must be short.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["crash_server"])
    forkserver.ensure_running()


@contextmanager
def forked(settings: Settings) -> Iterator[Forked]:
    """Start a server on a free port; it is killed at the end of the block, if not before."""
    context = multiprocessing.get_context("forkserver")
    placed = attrs.evolve(settings, port=free_port())
    listens, tell = context.Pipe(duplex=False)
    made = context.Process(target=_serve, args=(_document(placed), tempfile.gettempdir(), tell))
    made.start()
    tell.close()
    try:
        yield Forked(made, f"http://127.0.0.1:{placed.port}", listens)
    finally:
        made.kill()
        made.join()
        listens.close()


def _document(settings: Settings) -> str:
    given = {one.name: getattr(settings, one.name) for one in attrs.fields(Settings) if _given(settings, one)}
    return json.dumps(given)


def _given(settings: Settings, field: attrs.Attribute[Any]) -> bool:
    value = getattr(settings, field.name)
    return isinstance(value, str | int | float | bool | dict) and value != field.default


def _serve(document: str, temporary: str, tell: Connection) -> None:
    tempfile.tempdir = temporary
    settings = Settings(**json.loads(document))
    configure(settings.log_level, "text")
    trio.run(partial(run_server, settings, announce=tell.send))

"""The fork server: run as a program, it has imported what readers need and forks them on demand.

It reads requests from its standard input, a socket: a JSON object and two descriptors, the reader's link and
its shared memory; or one, the link of an opener; or the number of a process whose end the server has noticed.
It answers JSON. It runs one
thread and uses nothing of Arrow, whose threads would not be in the forked process.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import time
from contextlib import suppress
from typing import Any

from strata.readers.child import opener
from strata.readers.child.reader import serve
from strata.readers.child.walls import leave_network
from strata.readers.child.warm_up import warm_up_listings
from strata.readers.messages import receive, send

STATUS_SECONDS = 1.0
"""Seconds to wait for the end of a process whose link is closed."""


def main() -> None:
    """Answer until the server closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended: dict[int, int] = {}
    missing = leave_network()
    with suppress(Exception):  # it saves time only: readers parse the first listing more slowly
        warm_up_listings()
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=0) as control:
        send(control, b"{}")  # ready
        while (found := receive(control)) is not None:
            request = json.loads(found[0])
            if found[1]:
                try:
                    answer: dict[str, Any] = {"pid": _forked(control, found[1], missing, request)}
                except OSError as error:  # no process left: the other readers must not end for that
                    answer = {"errno": error.errno}
                for descriptor in found[1]:
                    os.close(descriptor)
            else:
                answer = {"status": _status(request["pid"], ended)}
            _reap(ended)
            send(control, json.dumps(answer).encode())


def _forked(
    control: socket.socket, descriptors: list[int], missing: tuple[str, ...], request: dict[str, Any]
) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        control.close()
        with socket.socket(fileno=descriptors[0]) as connection:
            if "memory" in request:
                serve(connection, descriptors[1], request["memory"], missing, ahead=request["ahead"])
            else:
                opener.serve(connection)
        status = 0
    finally:
        os._exit(status)


def _reap(ended: dict[int, int]) -> None:
    """Note the processes that have ended."""
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not child:
            return
        ended[child] = os.waitstatus_to_exitcode(status)


def _status(child: int, ended: dict[int, int]) -> int | None:
    """Return how a process ended, a negative signal where one ended it; None if it has not in time."""
    deadline = time.monotonic() + STATUS_SECONDS
    while True:
        _reap(ended)
        if child in ended:
            return ended.pop(child)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.001)


if __name__ == "__main__":
    main()

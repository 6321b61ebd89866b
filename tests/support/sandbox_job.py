"""A program for sandboxed processes in tests: it runs any code behind the walls, or behind all but some."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from strata.sandbox.frames import Kind, receive_job, send
from strata.sandbox.walls import Bounds, raise_walls

MODULES = (ctypes, errno, mmap, os, resource, signal, socket, subprocess, sys, threading)
LIBC = ctypes.CDLL(None, use_errno=True)


def load() -> Callable[[socket.socket], None]:
    """Return what a forked process runs."""
    return main


def call(number: int, *arguments: object) -> int:
    """Make a system call; raises OSError where it fails."""
    found = LIBC.syscall(number, *arguments)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def main(link: socket.socket) -> None:
    """Run the job's code; the answer is the value of ``result``, or the error."""
    job, files = receive_job(link, 8)
    bounds = Bounds(
        job.get("memory_bytes", 256 << 20), job.get("file_bytes", 1 << 20), job.get("cpu_seconds", 60)
    )
    os.fchdir(files[0])
    missing = raise_walls(files[:1], bounds, job["without"])
    names = {module.__name__: module for module in MODULES} | {"Path": Path, "call": call, "link": link}
    try:
        exec(job["code"], names)
        found = {"result": repr(names.get("result"))}
    except BaseException as error:  # noqa: BLE001  # the error is the answer
        name = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
        found = {"error": name or type(error).__name__}
    send(link, Kind.DONE, [json.dumps({"missing": missing, **found}).encode()])

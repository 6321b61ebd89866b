"""Programs that tests start and no Python package has: found, installed where that is allowed, or the test is skipped.

Installed with apt-get, as root on Debian and its like: the package once, whichever of the suite's processes
needs it first. Elsewhere the skip's one line says which package to install. In CI a skip is a failure
(:mod:`no_skips`).
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PACKAGES = {
    "bash": "bash",
    "chromium": "chromium",
    "curl": "curl",
    "haproxy": "haproxy",
    "initdb": "postgresql",
    "java": "openjdk-17-jre-headless",
    "mount": "mount",
    "nginx": "nginx",
    "npm": "npm",
    "pg_ctl": "postgresql",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}
"""Debian's package of each program."""

INSTALL_SECONDS = 600.0
"""After which one apt-get command is ended, and the test skipped."""

_APT = ("apt-get", "-qq", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30")
LOCKED = Path("/var/lib/dpkg")
POSTGRESQL = Path("/usr/lib/postgresql")
SYSTEM = ("/usr/sbin", "/sbin")


def need(program: str) -> str:
    """Return the path of a program of :data:`PACKAGES`; skip the test where it is missing and stays so."""
    found = find(program)
    if found is None:
        refusal = install(program)
        found = find(program)
        if found is None:
            pytest.skip(f"{program} is missing: apt-get install {PACKAGES[program]} ({refusal})")
    return found


def find(program: str) -> str | None:
    """Return where a program is: on the path, with the system's own, or with the newest PostgreSQL."""
    versions = sorted(POSTGRESQL.glob("[0-9]*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    places = [os.environ.get("PATH", os.defpath), *SYSTEM, *map(str, versions)]
    return shutil.which(program, path=os.pathsep.join(places))


@functools.cache
def install(program: str) -> str:
    """Install a program's package unless another process did so just now; return why it is not there, if so."""
    if shutil.which("apt-get") is None:
        return "there is no apt-get here"
    if os.geteuid() != 0:
        return "which takes root"
    # RUNLEVEL: where no init system runs, a package's service is not started; the tests start their own.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "LC_ALL": "C.UTF-8"}
    with _alone():
        if find(program) is not None:
            return ""
        for command in (["update"], ["install", "-y", "--no-install-recommends", PACKAGES[program]]):
            try:
                subprocess.run(
                    [*_APT, "-o", "DPkg::Lock::Timeout=120", *command],
                    check=True, env=environment, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=INSTALL_SECONDS,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return f"apt-get {command[0]} took longer than {INSTALL_SECONDS:g} seconds"
            except subprocess.CalledProcessError as error:
                last = error.stdout.decode(errors="replace").strip().rpartition("\n")[2]
                return f"apt-get {command[0]} failed: {last}"
    return "which did not bring it"


@contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock that the suite's other processes wait for, not apt-get; a holder's deadlines are its wait's."""
    descriptor = os.open(LOCKED, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

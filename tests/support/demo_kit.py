"""The demo's stack for tests: ``deploy/demo/run`` on its two ports, with a copy of its configuration."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from programs import need

from strata.demo.dataset import DataSet

ROOT = Path(__file__).parents[2]

PORTS = {"demo-user": 8865, "demo-admin": 8866}
"""The two people of the demo, and the port of each: those that the documentation names."""

FLIGHTS = "demo:nyc.flights"
INTERNAL = "demo:internal.delays"
"""A table of the demo, and the one that demo-user may not read."""

TEAM = "demo-team"

_TURNS, _TURN_SECONDS = 4000, 0.05


class Stack:
    """The processes of the stack.

    Attributes:
        directory: Their files.
    """

    def __init__(self, place: Path) -> None:
        need("nginx")
        self.directory = place / "run"
        self._said = place / "said"
        self._source = place / "deploy"
        shutil.copytree(ROOT / "deploy", self._source)
        command = [sys.executable, str(ROOT / "deploy/demo/run")]
        command += ["--directory", str(self.directory), "--source", str(self._source)]
        environ = os.environ | {"PYTHONPATH": str(_with_pages(place))}
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(command, stderr=said, env=environ)
        try:
            self._until(lambda: "8866 is demo-admin" in self._said.read_text())
        except BaseException:
            self._process.kill()
            raise

    @property
    def data(self) -> DataSet:
        """The tables."""
        return DataSet(self.directory / "data" / "demo", reused=True)

    def configure(self, *edits: tuple[str, str, str], until: Callable[[], bool]) -> None:
        """Replace texts in files of the configuration, and wait until that is in force.

        Args:
            edits: The path of each file, a text of it, and what is to be in its place.
            until: Tells whether it is in force.
        """
        for path, old, new in edits:
            file = self._source / path
            before = file.read_text()
            assert old in before
            file.write_text(before.replace(old, new))
        self._process.send_signal(signal.SIGHUP)
        self._until(until)

    def stop(self) -> None:
        """End it, unless it has ended; fail if it did not end well."""
        self._process.terminate()
        assert 0 == self._process.wait(120), self._said.read_text()

    def _until(self, true: Callable[[], bool]) -> None:
        for _ in range(_TURNS):
            assert self._process.poll() is None, self._said.read_text()
            if true():
                return
            threading.Event().wait(_TURN_SECONDS)
        raise AssertionError(self._said.read_text())


def _with_pages(place: Path) -> Path:
    """Return the folder of a ``strata`` that has the pages under test: a source tree finds installed ones only."""
    if "PAGES" not in os.environ:
        return ROOT
    unused = shutil.ignore_patterns("__pycache__", "web", "dist")
    shutil.copytree(ROOT / "strata", place / "strata", ignore=unused)
    shutil.copytree(os.environ["PAGES"], place / "strata" / "ui" / "dist")
    return place

"""Run one cell: the program of a sandboxed process (``strata.sandbox``), which ends after it.

The names that the cell reads come as bytes in open files, its results go as a bundle into another one, and
what it prints goes to the host as it is printed. There is nothing else that it can read or write.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import io
import json
import linecache
import mmap
import os
import signal
import site
import socket
import sys
import sysconfig
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from strata.cells import by_value, sql, values
from strata.cells.bundle import FILES, BundleWriter
from strata.cells.displays import MAX_DISPLAYS, Display, Markdown, display_of
from strata.cells.tables import StrataError, Tables
from strata.cells.values import SUFFIXES, Kept, NotKeptError
from strata.sandbox.frames import Kind, receive_job, send
from strata.sandbox.walls import Bounds, raise_walls, rehearse

MAX_FILES: Final = 250
"""Maximum open files of a job: the results, and those with inputs."""

PRELOADED: Final = (
    "numpy",
    "pandas",
    "pyarrow.compute",
    "decimal",
    "datetime",
    "random",
    "statistics",
    "cmath",
)
"""Modules that are loaded before any cell, where they are installed: a cell imports them in no time."""

CONSOLE_BYTES: Final = 8 * 1024
"""Bytes of output that are held back until a line is complete."""

MAX_TRACEBACK_CHARACTERS: Final = 20_000
"""Maximum characters of a traceback; the middle is cut out."""

LONG_NAME: Final = 60
"""Characters of the longest name of a value that is also its member's name."""

COMPARED_BYTES: Final = 1024 * 1024
"""Maximum bytes of an input that is compared with what the cell has left of it."""

REHEARSAL: Final[Mapping[str, Any]] = {
    "source": "y = x + 1\ny",
    "defines": ["y"],
    "inputs": [{"name": "x", "content_type": values.JSON, "file": 0, "offset": 0, "nbytes": 1}],
}
"""The cell of :meth:`CellProgram.rehearse`, whose input is one digit."""


def readable_places() -> list[int]:
    """Open what a cell may read: the interpreter's libraries, the system's, and the time zones."""
    paths = sysconfig.get_paths()
    own = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    base = sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix})
    system = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo")
    found = []
    for path in sorted({*own, base, *site.getsitepackages(), *system}):
        with suppress(OSError):  # not on this system
            found.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return found


@attrs.frozen
class CellProgram:
    """What a forked process runs.

    Attributes:
        engine: The database of SQL cells; ``None`` without the engine.
    """

    engine: Any

    def __call__(self, link: socket.socket) -> None:
        """Run the cell that the link brings."""
        main(self.engine, link)

    def rehearse(self) -> None:
        """Run a cell of one line: the process's own cell then need not copy the pages that it uses.

        Nothing of it is left: each cell makes its names, its console and its module anew.
        """
        rehearse()
        for place in readable_places():
            os.close(place)
        output, given = os.memfd_create("output"), os.memfd_create("input")
        os.write(given, b"1")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            _Cell(REHEARSAL, [output, given], _Channel(ours), self.engine).run()
        os.close(output)


def load() -> CellProgram:
    """Load the libraries that cells use most; returns what a forked process runs."""
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    return load_plain()


def load_plain() -> CellProgram:
    """Return what a forked process runs; libraries may come from an environment, behind the walls."""
    return CellProgram(sql.open_engine())


def main(engine: Any, link: socket.socket) -> None:
    """Receive a job, raise the walls, run the cell, write its bundle and tell how it ended."""
    job, files = receive_job(link, MAX_FILES)
    bounds = Bounds(job["memory_bytes"], job["output_bytes"], job["cpu_seconds"]) if "source" in job else None
    packages = job.get("environment")
    places = readable_places()
    if packages:
        places.append(os.open(packages, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    missing = raise_walls([], bounds or Bounds(1 << 30, 1 << 20, 10), job.get("without", ()), places)
    for place in places:
        os.close(place)
    channel = _Channel(link)
    channel.send(Kind.WALLS, json.dumps(missing).encode())
    if bounds is None:
        return
    if packages:
        sys.path.insert(0, packages)
    cell = _Cell(job, files, channel, engine)
    channel.send(Kind.DONE, json.dumps(cell.run()).encode())


class _Channel:
    """Sends frames whole: an interrupt waits until the one being sent is out."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lock = threading.RLock()
        self._busy = False
        self._waiting = False
        signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, _number: int, _frame: object) -> None:
        if self._busy:
            self._waiting = True
        else:
            raise KeyboardInterrupt

    def send(self, kind: Kind, data: bytes, stream: int = 0) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:  # no other thread writes it: one that read it before and wrote after would keep it set
            self._busy = True
        try:
            with self._lock:
                send(self._link, kind, [data], stream)
        finally:
            self._done(is_main=is_main)

    def ask(self, question: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Ask the host, and return its answer with the files that belong to it."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main:  # no other thread writes it: one that read it before and wrote after would keep it set
            self._busy = True
        try:
            with self._lock:
                send(self._link, Kind.ASK, [json.dumps(question).encode()])
                return receive_job(self._link, 1)
        finally:
            self._done(is_main=is_main)

    def _done(self, *, is_main: bool) -> None:
        if is_main:
            self._busy = False
            if self._waiting:
                self._waiting = False
                raise KeyboardInterrupt


class _Console(io.TextIOBase):
    """A text file that sends what is written to it."""

    def __init__(self, channel: _Channel, stream: int) -> None:
        self._channel = channel
        self._stream = stream
        self._held = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a constant of this file
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._held += text
        if "\n" in text or len(self._held) >= CONSOLE_BYTES:
            self.flush()
        return len(text)

    def flush(self) -> None:
        held, self._held = self._held, ""
        if held:
            self._channel.send(Kind.DATA, held.encode(errors="backslashreplace"), self._stream)


class _Cell:
    """A cell, and what it has left."""

    def __init__(self, job: Mapping[str, Any], files: Sequence[int], channel: _Channel, engine: Any) -> None:
        self.job = job
        self.engine = engine
        self.channel = channel
        self.output, self.files = files[0], files[1:]
        self.file = f"<{job.get('name') or 'cell'}>"
        self.displays: list[Display] = []
        self.shown = 0
        self.before: dict[str, bytes] = {}
        self.warnings: list[str] = []
        module = types.ModuleType("__main__")
        self.names: dict[str, Any] = vars(module)
        self.names.update(
            __builtins__=builtins,
            display=self.display,
            Markdown=Markdown,
            strata=Tables(channel.ask),
        )
        sys.modules["__main__"] = module
        key = hashlib.sha256(job["source"].encode(errors="surrogatepass")).hexdigest()[:16]
        by_value.enter(self.names, key)
        for one, stream in (("stdout", 1), ("stderr", 2)):
            setattr(sys, one, _Console(channel, stream))

    def run(self) -> dict[str, Any]:
        """Run the cell, and write its bundle; returns how it ended."""
        failure = None
        try:
            self._take_inputs()
            self.names.update(self.job.get("bound", {}))
            if self.job.get("language", "python") == "sql":
                self._query()
            else:
                self._execute()
        except BaseException as error:  # noqa: BLE001  # whatever a cell raises is its outcome
            failure = self._failure(error)
        for console in (sys.stdout, sys.stderr):
            with suppress(Exception, KeyboardInterrupt):
                console.flush()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # from here on the kill is the interrupt
        kept: dict[str, Kept] = {}
        if failure is None:
            try:
                kept = self._kept()
            except NotKeptError as error:
                failure = {"code": "value_not_kept", "error": str(error), "traceback": None, "line": None}
            except MemoryError as error:
                failure = self._failure(error)
        try:
            self._write(kept, failure)
        except (OSError, MemoryError) as error:
            return self._unwritten(error)
        return {"success": failure is None, **(failure or {})}

    def _take_inputs(self) -> None:
        maps: dict[int, memoryview] = {}
        for one in self.job.get("inputs", ()):
            place = one["file"]
            if place not in maps:
                descriptor = self.files[place]
                maps[place] = memoryview(mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ))
                os.close(descriptor)  # the map has its own: with both, a cell of many inputs has no file left
            data = maps[place][one["offset"] : one["offset"] + one["nbytes"]]
            value = values.load(one["content_type"], data)
            self.names[one["name"]] = value
            if len(data) <= COMPARED_BYTES and not isinstance(value, types.ModuleType):
                with suppress(Exception):
                    self.before[one["name"]] = by_value.dumps(value)
        for place, descriptor in enumerate(self.files):
            if place not in maps:
                os.close(descriptor)

    def _execute(self) -> None:
        source = self.job["source"]
        lines = source.splitlines(keepends=True)
        linecache.cache[self.file] = (len(source), None, lines, self.file)
        tree = ast.parse(source, self.file)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, self.file, "exec", dont_inherit=True), self.names)  # noqa: S102  # what a cell is
        if isinstance(last, ast.Expr):
            expression = ast.Expression(last.value)
            value = eval(compile(expression, self.file, "eval", dont_inherit=True), self.names)  # noqa: S307
            if value is not None and not source.rstrip().endswith(";"):
                self.display(value)

    def _query(self) -> None:
        """Run the query of an SQL cell, and show its result."""
        taken = {one["name"]: self.names[one["name"]] for one in self.job.get("inputs", ())}
        fetch = self.names["strata"].fetch
        tables = [
            (one["variable"], fetch(one["uri"], snapshot_id=one["snapshot"])) for one in self.job["tables"]
        ]
        found = sql.query(self.engine, self.job["source"], taken, tables, self.job["memory_bytes"])
        self.names[self.job["result"]] = found
        self.display(found)

    def display(self, *shown: object) -> None:
        """Show values below the cell."""
        for value in shown:
            self.shown += 1
            if len(self.displays) < MAX_DISPLAYS:
                self.displays.append(display_of(value))

    def _failure(self, error: BaseException) -> dict[str, Any]:
        code = "raised"
        message = f"{type(error).__name__}: {_text_of(error)}".rstrip(": ")
        line = None
        if isinstance(error, KeyboardInterrupt):
            code, message = "interrupted", "The cell was interrupted."
        elif isinstance(error, MemoryError):
            code = "memory_limit"
        elif isinstance(error, sql.SqlError | StrataError):
            message = str(error)
        elif isinstance(error, SyntaxError) and error.filename == self.file:
            line = error.lineno
        found = error.__traceback__
        while found is not None and found.tb_frame.f_code.co_filename != self.file:
            found = found.tb_next
        for frame, number in traceback.walk_tb(found):
            if frame.f_code.co_filename == self.file:
                line = number
        text = None
        if code == "raised":
            with suppress(Exception):
                text = _cut("".join(traceback.format_exception(type(error), error, found)))
        return {"code": code, "error": message[:2000], "traceback": text, "line": line}

    def _kept(self) -> dict[str, Kept]:
        for name, before in self.before.items():
            if name in self.names and name not in self.job.get("defines", ()):
                with suppress(Exception):
                    if by_value.dumps(self.names[name]) != before:
                        self.warnings.append(name)
        return {
            name: values.keep(name, self.names[name])
            for name in self.job.get("defines", ())
            if name in self.names
        }

    def _write(self, kept: Mapping[str, Kept], failure: Mapping[str, Any] | None) -> None:
        with open(self.output, "wb", closefd=False) as file:  # buffered: a raw file may write less than told
            writer = BundleWriter(file)
            variables = {}
            for number, (name, value) in enumerate(kept.items()):
                plain = name.isascii() and name.islower() and len(name) <= LONG_NAME
                stem = name if plain else f"value-{number}"
                member = f"{FILES}{stem}{SUFFIXES[value.content_type]}"
                value.write(writer.begin(member, value.nbytes))
                writer.finish(value.nbytes)
                variables[name] = {
                    "content_type": value.content_type,
                    "file": member,
                    "bytes": value.nbytes,
                    **value.facts,
                }
            displays = []
            for number, shown in enumerate(self.displays):
                member = f"{FILES}__display__{number}{SUFFIXES.get(shown.content_type, '.json')}"
                writer.add(member, shown.data)
                displays.append(
                    {
                        "content_type": shown.content_type,
                        "file": member,
                        "bytes": len(shown.data),
                        "preview": shown.preview,
                    }
                )
            writer.end(
                {
                    "success": failure is None,
                    "error": None if failure is None else failure["error"],
                    "traceback": None if failure is None else failure["traceback"],
                    "variables": variables,
                    "displays": displays,
                    "displays_left_out": self.shown - len(displays),
                    "mutation_warnings": self.warnings,
                    "build_env": f"cpython-{sysconfig.get_python_version()}-{sysconfig.get_platform()}",
                }
            )

    def _unwritten(self, error: Exception) -> dict[str, Any]:
        """Empty the bundle, and return the outcome of a cell whose results could not be written."""
        self.displays.clear()
        os.ftruncate(self.output, 0)
        if isinstance(error, MemoryError):
            return {"success": False, **self._failure(error)}
        return {
            "success": False,
            "code": "output_limit",
            "error": str(error),
            "traceback": None,
            "line": None,
        }


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # whatever an error's own methods raise
        return ""


def _cut(text: str) -> str:
    if len(text) <= MAX_TRACEBACK_CHARACTERS:
        return text
    half = MAX_TRACEBACK_CHARACTERS // 2
    return f"{text[:half]}\n[cut out]\n{text[-half:]}"

"""Run the builds of an executor: inputs in files of a directory of their own, a process behind walls."""

from __future__ import annotations

import builtins
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import structlog
import trio

from strata.config.sections.transforms import SQL, is_installed
from strata.executor.cluster import dask_job
from strata.executor.protocol.cell_frames import CELL_STREAM
from strata.executor.protocol.messages import NOTEBOOK_CELL, BuildDescription
from strata.executor.sidecar.python_job import MESSAGE_CHARACTERS, registered
from strata.outcomes import Refused
from strata.sandbox.frames import Frame, Kind
from strata.sandbox.launcher import Launcher, SandboxError
from strata.transforms.sql_params import parse_sql_params

DAFT_PROGRAM: Final = "strata.executor.cluster.daft_job"
DAFT_SQL: Final = "sql@v1"
"""The transform that runs SQL on Daft."""

DASK_PROGRAM: Final = "strata.executor.cluster.dask_job"
DASK_PYTHON: Final = "python@v1"
"""The transform that runs registered functions on Dask."""

_FUNCTION_KEYS: Final = frozenset({"function", "params"})
"""The parameters of that."""

SQL_PROGRAM: Final = "strata.transforms.sql_job"
PYTHON_PROGRAM: Final = "strata.executor.sidecar.python_job"

BATCH_ROWS: Final = 65_536
"""Rows of a record batch of a query's result."""

log = structlog.get_logger(__name__)


FUNCTION_ERROR: Final = "FunctionError"
"""Stands in logs and spans for a class that a user's function raised: its name may hold a row's text."""

_CODE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""The name of a class that a caller is told; any other one is :data:`FUNCTION_ERROR`."""


class BuildError(Exception):
    """A build failed; the message is for its caller.

    Attributes:
        code: The class of the error.
        status: HTTP status of the answer.
        kind: The word for it that logs and spans have: the code, unless a user's function made that up.
    """

    def __init__(self, code: str, message: str, status: int = 400, *, made_up: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.kind = FUNCTION_ERROR if made_up and not _is_known(code) else code


def _failure(frame: Frame, *, made_up: bool) -> BuildError:
    """Return the error that a process told, which may have told anything."""
    try:
        facts = frame.facts()
    except (ValueError, RecursionError):
        facts = {}
    code, message = str(facts.get("code", "")), str(facts.get("message", ""))[:MESSAGE_CHARACTERS]
    return BuildError(code if _CODE.fullmatch(code) else FUNCTION_ERROR, message, made_up=made_up)


def _is_known(code: str) -> bool:
    found = getattr(builtins, code, None)
    return code in dask_job.CODES or (isinstance(found, type) and issubclass(found, BaseException))


def _check_function(params: Mapping[str, Any]) -> None:
    """Check the parameters of a function on Dask.

    Raises:
        BuildError: If they name no function, or something else.
    """
    unknown = sorted(set(params) - _FUNCTION_KEYS)
    if unknown:
        raise BuildError("InvalidParams", f"{unknown[0][:100]} is no parameter: function and params are.")
    name = params.get("function")
    if not isinstance(name, str) or name not in dask_job.registered():
        raise BuildError("InvalidParams", "function names no function of this executor.")
    if not isinstance(params.get("params", {}), dict):
        raise BuildError("InvalidParams", "params is no object.")


@attrs.frozen
class BuildLimits:
    """The limits of each build.

    Attributes:
        seconds: Seconds that it may take, its inputs' arrival aside.
        input_bytes: Bytes of all its inputs.
        memory_bytes: Bytes of memory.
        spill_bytes: Bytes of its own directory, besides the inputs.
        threads: Threads of a query.
    """

    seconds: float = 300.0
    input_bytes: int = 2 << 30
    memory_bytes: int = 1 << 30
    spill_bytes: int = 4 << 30
    threads: int = 2


@attrs.frozen
class DaftEngine:
    """Where ``sql@v1`` runs.

    Attributes:
        ray: The address of a Ray cluster; None: in the process of the build.
        properties: Of the file system of tables that are read by reference, as pyiceberg names them.
    """

    ray: str | None = None
    properties: Mapping[str, str] = attrs.field(factory=dict, repr=False)


@attrs.frozen
class DaskEngine:
    """Where ``python@v1`` runs.

    Attributes:
        scheduler: The address of the scheduler of a Dask cluster.
    """

    scheduler: str


@attrs.frozen
class BuildDirectory:
    """The directory of one build.

    Attributes:
        path: Where it is; gone when the build has ended.
        scratch: The folder in it that the process may write to.
    """

    path: Path
    scratch: Path


@attrs.define(eq=False)
class BuildRunner:
    """Runs builds.

    Attributes:
        limits: Of each build.
        root: Directory with a directory for each build; None: the system's for temporary files.
        refs: The transforms that can be run.
        daft: Where ``sql@v1`` runs; None: it does not.
        dask: Where ``python@v1`` runs; None: it does not.
    """

    limits: BuildLimits = attrs.field(factory=BuildLimits)
    root: Path | None = None
    daft: DaftEngine | None = None
    dask: DaskEngine | None = None
    refs: tuple[str, ...] = attrs.field(init=False)
    _sql: Launcher = attrs.field(factory=partial(Launcher, SQL_PROGRAM), init=False)
    _python: Launcher = attrs.field(factory=partial(Launcher, PYTHON_PROGRAM), init=False)
    _daft: Launcher = attrs.field(factory=partial(Launcher, DAFT_PROGRAM), init=False)
    _dask: Launcher = attrs.field(factory=partial(Launcher, DASK_PROGRAM), init=False)

    @refs.default
    def _found(self) -> tuple[str, ...]:
        own = (
            (SQL, is_installed()),
            (DAFT_SQL, self.daft is not None),
            (DASK_PYTHON, self.dask is not None),
        )
        return (*(ref for ref, here in own if here), *registered())

    def features(self) -> dict[str, Any]:
        """Return what ``GET /health`` says of how builds run."""
        found: dict[str, Any] = {"cancel": True, "streaming": True, "pull_model": True}
        if self.daft is not None:
            found |= {"iceberg_snapshots": [DAFT_SQL], "engine": "daft"}
        if self.dask is not None:
            found |= {"engine": "dask", "functions": sorted(dask_job.registered())}
        return found

    def check(self, what: BuildDescription) -> None:
        """Check a description.

        Raises:
            BuildError: If its transform is not known here, or its parameters are wrong.
        """
        if what.ref == NOTEBOOK_CELL:
            detail = f"A cell's answer is {CELL_STREAM}: accept it, and start the executor with --cells."
            raise BuildError("NotAcceptable", detail, 406)
        if what.ref not in self.refs:
            raise BuildError("UnknownTransform", f"{what.ref[:100]} is no transform of this executor.")
        if what.ref != DAFT_SQL and any(one.table is not None for one in what.inputs):
            raise BuildError("UnsupportedInput", f"{what.ref} takes no input by reference.")
        if what.ref in (SQL, DAFT_SQL):
            spec = parse_sql_params(what.params, [one.name for one in what.inputs])
            if isinstance(spec, Refused):
                raise BuildError("InvalidParams", spec.detail)
        if what.ref == DASK_PYTHON:
            _check_function(what.params)

    @asynccontextmanager
    async def directory(self) -> AsyncIterator[BuildDirectory]:
        """Make the directory of a build; it is removed with all that is in it at the end of the block."""
        path = Path(await trio.to_thread.run_sync(partial(tempfile.mkdtemp, prefix="strata-", dir=self.root)))
        try:
            (path / "scratch").mkdir(0o700)
            yield BuildDirectory(path, path / "scratch")
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(partial(shutil.rmtree, path, ignore_errors=True))

    async def run(
        self, what: BuildDescription, place: BuildDirectory, inputs: Sequence[Path]
    ) -> AsyncIterator[Frame]:
        """Yield the frames of a build: what it prints (LOG), then its rows (DATA), then DONE.

        Raises:
            BuildError: If it fails, or its process ends.
        """
        own = {SQL: self._sql, DAFT_SQL: self._daft, DASK_PYTHON: self._dask}
        launcher = own.get(what.ref, self._python)
        descriptors = [os.open(place.scratch, os.O_RDONLY | os.O_DIRECTORY)]
        try:
            descriptors += [os.open(path, os.O_RDONLY) for path in inputs]
            async with launcher.process() as process:
                await process.give(self._job(what), descriptors)
                missing = json.loads((await process.receive()).payload)
                if missing:
                    log.warning("sandbox incomplete", missing=missing)
                while True:
                    frame = await process.receive()
                    if frame.kind is Kind.FAILED:
                        raise _failure(frame, made_up=what.ref not in (SQL, DAFT_SQL))
                    yield frame
                    if frame.kind is Kind.DONE:
                        return
        except SandboxError:
            detail = f"Its process ended: it may need more than {self.limits.memory_bytes} bytes of memory."
            raise BuildError("ProcessEnded", detail) from None
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _job(self, what: BuildDescription) -> Mapping[str, Any]:
        limits = self.limits
        job: dict[str, Any] = {
            "memory_bytes": limits.memory_bytes,
            "spill_bytes": limits.spill_bytes,
            "cpu_seconds": int(limits.seconds * limits.threads) + 10,
        }
        if what.ref == SQL:
            names = list(what.params.get("input_names") or ())
            sql = str(what.params["sql"]).strip()
            return job | {"sql": sql, "names": names, "threads": limits.threads, "batch_rows": BATCH_ROWS}
        if what.ref == DAFT_SQL:
            assert self.daft is not None
            return job | {
                "sql": str(what.params["sql"]).strip(),
                "names": list(what.params.get("input_names") or ()),
                "threads": limits.threads,
                "tables": [None if one.table is None else dict(one.table) for one in what.inputs],
                "build_id": what.build_id,
                "ray": self.daft.ray,
                "properties": dict(self.daft.properties),
            }
        job["inputs"] = [one.name for one in what.inputs]
        if what.ref == DASK_PYTHON:
            assert self.dask is not None
            return job | {
                "function": what.params["function"],
                "params": what.params.get("params", {}),
                "build_id": what.build_id,
                "scheduler": self.dask.scheduler,
            }
        return job | {"ref": what.ref, "params": dict(what.params)}

    async def close(self) -> None:
        """End all processes."""
        await self._sql.close()
        await self._python.close()
        await self._daft.close()
        await self._dask.close()

"""What transforms of all tenants share: the registry, the sandboxed processes, the place to spill into."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import attrs
from cachetools import LRUCache

from strata.config.fields import RegisteredTransform
from strata.executor.protocol.client import Executor
from strata.executor.protocol.pulls import PullBook
from strata.sandbox.launcher import Launcher

SQL_PROGRAM = "strata.transforms.sql_job"
"""Module that the processes of SQL queries run."""

CHECK_PROGRAM = "strata.transforms.stream_check"
"""Module that the processes run which verify uploads."""

SPILL = ".spill"
"""Directory in ``cache_dir`` with a directory for each running query; no name of a tenant's cache."""

EXECUTORS_REMEMBERED = 4096
"""Pairs of a tenant and an executor whose circuit breaker is kept; the one unused for longest goes."""

PRIVATE_DIRECTORY = 0o700
"""Permissions of the directory of a query."""


@attrs.frozen
class SpillDirectory:
    """The directory of one running query.

    Attributes:
        path: Where it is.
        descriptor: A descriptor of it, by which the query's process knows it.
    """

    path: Path
    descriptor: int


@attrs.define(eq=False)
class TransformRuntime:
    """What transforms of all tenants share.

    Attributes:
        root: Directory with a directory for each running query.
        registry: The registered transforms.
        require_walls: Whether a query runs only where no wall of the sandbox is missing.
        launcher: Starts the processes of SQL queries.
        tokens: The bearer tokens of executors by the path of their file.
        checker: Starts the processes that verify uploads.
        pulls: What executors of the pull model may fetch and bring.
    """

    root: Path
    registry: tuple[RegisteredTransform, ...] = ()
    require_walls: bool = False
    launcher: Launcher = attrs.field(factory=lambda: Launcher(SQL_PROGRAM))
    checker: Launcher = attrs.field(factory=lambda: Launcher(CHECK_PROGRAM))
    tokens: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    pulls: PullBook = attrs.field(factory=PullBook)
    _executors: LRUCache[tuple[str, str, str | None], Executor] = attrs.field(
        factory=partial(LRUCache, EXECUTORS_REMEMBERED), init=False, repr=False
    )

    def executor(self, tenant: str, entry: RegisteredTransform) -> Executor:
        """Return the executor of an entry of the registry, as a tenant calls it.

        Each tenant has a circuit breaker of its own: transforms of one that never end, or that break their
        executor, keep no other from it.
        """
        key = (tenant, entry.executor_url, self.tokens.get(entry.token_file or ""))
        found = self._executors.get(key)
        if found is None:
            found = self._executors[key] = Executor(*key[1:])
        return found

    def take(
        self, registry: tuple[RegisteredTransform, ...], tokens: Mapping[str, str], *, require_walls: bool
    ) -> None:
        """Apply other settings; builds under way keep theirs."""
        self.registry, self.tokens, self.require_walls = registry, tokens, require_walls

    def sweep(self) -> None:
        """Remove what queries of a killed server have left; blocking."""
        shutil.rmtree(self.root, ignore_errors=True)

    def make_directory(self) -> SpillDirectory:
        """Make the directory of a query; blocking. Raises :class:`OSError` if the disk does not take it."""
        path = self.root / secrets.token_hex(8)
        path.mkdir(PRIVATE_DIRECTORY, parents=True)
        try:
            return SpillDirectory(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            path.rmdir()
            raise

    @staticmethod
    def remove_directory(made: SpillDirectory) -> None:
        """Remove the directory of a query with all that is in it; blocking."""
        os.close(made.descriptor)
        shutil.rmtree(made.path, ignore_errors=True)

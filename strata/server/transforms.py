"""Give the settings of transforms and cells to the running server, and check its sandbox at the start."""

from __future__ import annotations

import structlog
import trio

from strata.cells.runtime import CellRuntime
from strata.config import Settings
from strata.config.fields import NotebookEnvironment, NotebookWorker, RegisteredTransform
from strata.config.sections.notebook_environments import Lock, LockError, lock_of
from strata.config.sections.notebook_workers import workers_of
from strata.config.sections.transforms import token_of, transforms_of
from strata.notebooks.store.workers import WorkerStore
from strata.sandbox.launcher import Launcher, SandboxError
from strata.server.stores import CannotOpenError
from strata.tenants.shared.transform_runtime import SQL_PROGRAM, TransformRuntime

log = structlog.get_logger(__name__)


def take_transforms(runtime: TransformRuntime, settings: Settings) -> None:
    """Apply the registry; running queries keep the limits that they began with."""
    tokens = tokens_of(settings)
    runtime.take(transforms_of(settings), tokens, require_walls=settings.transforms.sandbox == "require")


def tokens_of(settings: Settings) -> dict[str, str]:
    """Return the bearer tokens of executors by the path of their file; blocking.

    One that cannot be read any more is left out: its executor refuses this server, which the build's error
    says.
    """
    found = {}
    entries: list[RegisteredTransform | NotebookWorker] = [*transforms_of(settings), *workers_of(settings)]
    for entry in entries:
        try:
            token = token_of(entry)
        except (OSError, ValueError):
            log.warning("the token of an executor cannot be read", file=entry.token_file)
            continue
        if token is not None and entry.token_file is not None:
            found[entry.token_file] = token
    return found


def locks_of(settings: Settings) -> list[tuple[NotebookEnvironment, Lock]]:
    """Return the environments of notebooks with their locks; blocking.

    One whose file cannot be read any more is left out: cells in it are skipped, with a sentence.
    """
    found = []
    for one in settings.notebook_environments:
        try:
            found.append((one, lock_of(one)))
        except (OSError, LockError) as error:
            log.warning("a lock cannot be read", environment=one.name, error=type(error).__name__)
    return found


def take_workers(runtime: CellRuntime, settings: Settings) -> None:
    """Apply the workers of cells; running cells keep the limits that they began with."""
    runtime.workers, runtime.tokens = workers_of(settings), tokens_of(settings)
    runtime.environments = locks_of(settings)
    runtime.take_switches(runtime.switches)  # one that the configuration disables now


async def open_cells(runtime: CellRuntime, workers: WorkerStore, settings: Settings) -> None:
    """Apply the workers of cells and their switches, and remove what a killed server has left."""
    take_workers(runtime, settings)
    runtime.take_switches(await trio.to_thread.run_sync(workers.load))
    await trio.to_thread.run_sync(runtime.sweep)


async def open_transforms(runtime: TransformRuntime, settings: Settings) -> None:
    """Apply the registry, and remove what a killed server has left.

    Raises:
        CannotOpenError: If ``transforms.sandbox`` is ``require`` and a wall of the sandbox is missing.
    """
    take_transforms(runtime, settings)
    await trio.to_thread.run_sync(runtime.sweep)
    sandboxed = any(entry.embedded for entry in runtime.registry)
    if settings.transforms.enabled and runtime.require_walls and sandboxed:
        missing = await missing_walls()
        if missing:
            walls = ", ".join(missing)
            raise CannotOpenError(
                f"transforms.sandbox: walls are missing here: {walls}; set sandbox = prefer to do without."
            )


async def missing_walls() -> tuple[str, ...]:
    """Return the walls of the sandbox that this machine lacks, as a process finds them.

    Raises:
        CannotOpenError: If no process can be started.
    """
    launcher = Launcher(SQL_PROGRAM)
    try:
        return await launcher.missing_walls()
    except (SandboxError, OSError) as error:
        raise CannotOpenError(f"transforms: no sandboxed process can be started: {error}.") from None
    finally:
        await launcher.close()

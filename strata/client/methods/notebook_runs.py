"""Runs of whole notebooks, and their schedules."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import attrs

from strata.client.answers import parse_answer
from strata.client.display.html import Listing, Shown
from strata.client.errors import WaitTimeoutError
from strata.client.methods.notebook_operations import notebook_path
from strata.client.operations import ClientEnvironment, Operation, Pause, Send, exchange

T = TypeVar("T")

PAGE: Final = 100
"""Runs that one request asks for."""

FIRST_LOOK: Final = 0.2
LONGEST_WAIT: Final = 5.0
"""Seconds between two looks at a run, from the first to the longest."""


@attrs.frozen
class RunCell(Shown):
    """How a cell of a run ended; ``hidden``: the rest needs rights that the caller has not."""

    cell: str
    how: str
    message: str = ""
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    traceback: str | None = None
    displays: tuple[str, ...] = ()
    hidden: bool = False


@attrs.frozen
class WholeRun(Shown):
    """A run of a whole notebook; times are ISO 8601.

    Attributes:
        run: Its id.
        author: The principal with whose rights it runs.
        revision: The revision that it runs.
        state: ``running``, ``ok``, ``failed``, ``cancelled``, ``timeout`` or ``lost``.
        began_at: When it began.
        ended_at: When it ended.
        schedule: The schedule that began it.
        parameters: Its parameters.
        cells: How its cells ended; in a listing without what they printed.
    """

    run: str
    author: str
    revision: int
    state: str
    began_at: str
    ended_at: str | None = None
    schedule: str | None = None
    parameters: Mapping[str, Any] = attrs.field(factory=dict)
    cells: tuple[RunCell, ...] = ()

    @property
    def ok(self) -> bool:
        """True if it has ended and all cells have results that are no errors."""
        return self.state == "ok"


@attrs.frozen
class Schedule(Shown):
    """A schedule of a notebook; without ``next_at`` it has stopped, and ``message`` says why."""

    schedule: str
    owner: str
    cron: str
    time_zone: str
    parameters: Mapping[str, Any]
    timeout_seconds: float
    overlap: str
    missed: str
    retries: int
    next_at: str | None = None
    message: str | None = None


@attrs.frozen
class _Runs:
    runs: tuple[WholeRun, ...]
    next_page_token: str | None = None


@attrs.frozen
class _Schedules:
    schedules: tuple[Schedule, ...]


def _start(env: ClientEnvironment, name: str, body: Mapping[str, Any]) -> Operation[WholeRun]:
    return _ask(env, WholeRun, "POST", f"{notebook_path(name)}/runs", body)


def _run_of(env: ClientEnvironment, name: str, run: str) -> Operation[WholeRun]:
    return _ask(env, WholeRun, "GET", f"{notebook_path(name)}/runs/{quote(run, safe='')}")


def _cancel(env: ClientEnvironment, name: str, run: str) -> Operation[WholeRun]:
    return _ask(env, WholeRun, "POST", f"{notebook_path(name)}/runs/{quote(run, safe='')}/cancel")


def _wait(env: ClientEnvironment, name: str, run: str, timeout: float | None) -> Operation[WholeRun]:
    begun, pause = env.clock(), FIRST_LOOK
    while True:
        found = yield from _run_of(env, name, run)
        if found.state != "running":
            return found
        left = None if timeout is None else timeout - (env.clock() - begun)
        if left is not None and left <= 0:
            raise WaitTimeoutError(f"The run {run} has not ended after {timeout:g} s; it goes on.")
        yield Pause(pause if left is None else min(pause, left))
        pause = min(LONGEST_WAIT, 2 * pause)


def _runs(env: ClientEnvironment, name: str, limit: int | None) -> Operation[Listing[WholeRun]]:
    found: list[WholeRun] = []
    query: dict[str, Any] = {}
    while True:
        query["limit"] = PAGE if limit is None else min(PAGE, limit - len(found))
        page = yield from _ask(env, _Runs, "GET", f"{notebook_path(name)}/runs?{urlencode(query)}")
        found += page.runs
        if page.next_page_token is None or len(found) == limit:
            return Listing(found)
        query["page_token"] = page.next_page_token


def _schedule(env: ClientEnvironment, name: str, body: Mapping[str, Any]) -> Operation[Schedule]:
    return _ask(env, Schedule, "POST", f"{notebook_path(name)}/schedules", body)


def _schedules(env: ClientEnvironment, name: str) -> Operation[Listing[Schedule]]:
    found = yield from _ask(env, _Schedules, "GET", f"{notebook_path(name)}/schedules")
    return Listing(found.schedules)


def _unschedule(env: ClientEnvironment, name: str, schedule: str) -> Operation[None]:
    path = f"{notebook_path(name)}/schedules/{quote(schedule, safe='')}"
    yield from exchange(env, Send("DELETE", path, repeatable=False))


def _ask(
    env: ClientEnvironment, kind: type[T], method: str, path: str, body: Mapping[str, Any] | None = None
) -> Operation[T]:
    data = b"" if body is None else json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
    reply = yield from exchange(env, Send(method, path, data, repeatable=method == "GET"))
    return parse_answer(kind, reply.body)


class NotebookRunMethods(ABC):
    """Blocking methods about runs and schedules."""

    _env: ClientEnvironment

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T: ...

    def start_notebook_run(
        self,
        name: str,
        *,
        revision: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        force: bool = False,
        timeout_seconds: float = 3600.0,
    ) -> WholeRun:
        """Begin a run of a whole notebook, which needs no client that waits.

        Args:
            name: The notebook.
            revision: The revision; ``None``: the latest one.
            parameters: Values of the names that the cell with the tag ``parameters`` defines.
            force: Reuse no result.
            timeout_seconds: Seconds after which the server ends it.

        Raises:
            StrataError: If the caller may not run the notebook, or there is no such revision or parameter.
        """
        return self._run(_start(self._env, name, _start_body(revision, parameters, force, timeout_seconds)))

    def notebook_run(self, name: str, run: str) -> WholeRun:
        """Return a run, with how its cells ended and what they printed."""
        return self._run(_run_of(self._env, name, run))

    def wait_for_notebook_run(self, name: str, run: str, *, timeout: float | None = None) -> WholeRun:
        """Wait until a run has ended.

        Raises:
            WaitTimeoutError: If it has not after ``timeout`` seconds; it goes on.
        """
        return self._run(_wait(self._env, name, run, timeout))

    def notebook_runs(self, name: str, *, limit: int | None = None) -> Listing[WholeRun]:
        """Return the runs of a notebook, the latest first; ``limit`` of them, or all that are kept."""
        return self._run(_runs(self._env, name, limit))

    def cancel_notebook_run(self, name: str, run: str) -> WholeRun:
        """End a run; what its cells have left stays."""
        return self._run(_cancel(self._env, name, run))

    def schedule_notebook(self, name: str, cron: str, **options: Any) -> Schedule:
        """Run a notebook at times of a clock, as the caller.

        Args:
            name: The notebook.
            cron: The times, in five fields.
            options: ``time_zone``, ``parameters``, ``timeout_seconds``, ``overlap``, ``missed``, ``retries``.

        Raises:
            StrataError: If the caller may not run the notebook, or the times or options are not valid.
        """
        return self._run(_schedule(self._env, name, {"cron": cron, **options}))

    def notebook_schedules(self, name: str) -> Listing[Schedule]:
        """Return the schedules of a notebook, the oldest first."""
        return self._run(_schedules(self._env, name))

    def unschedule_notebook(self, name: str, schedule: str) -> None:
        """Delete a schedule; its runs go on."""
        self._run(_unschedule(self._env, name, schedule))


class AsyncNotebookRunMethods(ABC):
    """Methods about runs to be awaited; arguments, answers and errors are those of ``StrataClient``."""

    _env: ClientEnvironment

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T: ...

    async def start_notebook_run(
        self,
        name: str,
        *,
        revision: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        force: bool = False,
        timeout_seconds: float = 3600.0,
    ) -> WholeRun:
        """Begin a run of a whole notebook, which needs no client that waits."""
        body = _start_body(revision, parameters, force, timeout_seconds)
        return await self._run(_start(self._env, name, body))

    async def notebook_run(self, name: str, run: str) -> WholeRun:
        """Return a run, with how its cells ended and what they printed."""
        return await self._run(_run_of(self._env, name, run))

    async def wait_for_notebook_run(
        self,
        name: str,
        run: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # as the sync client
    ) -> WholeRun:
        """Wait until a run has ended."""
        return await self._run(_wait(self._env, name, run, timeout))

    async def notebook_runs(self, name: str, *, limit: int | None = None) -> Listing[WholeRun]:
        """Return the runs of a notebook, the latest first; ``limit`` of them, or all that are kept."""
        return await self._run(_runs(self._env, name, limit))

    async def cancel_notebook_run(self, name: str, run: str) -> WholeRun:
        """End a run; what its cells have left stays."""
        return await self._run(_cancel(self._env, name, run))

    async def schedule_notebook(self, name: str, cron: str, **options: Any) -> Schedule:
        """Run a notebook at times of a clock, as the caller."""
        return await self._run(_schedule(self._env, name, {"cron": cron, **options}))

    async def notebook_schedules(self, name: str) -> Listing[Schedule]:
        """Return the schedules of a notebook, the oldest first."""
        return await self._run(_schedules(self._env, name))

    async def unschedule_notebook(self, name: str, schedule: str) -> None:
        """Delete a schedule; its runs go on."""
        await self._run(_unschedule(self._env, name, schedule))


def _start_body(
    revision: int | None,
    parameters: Mapping[str, Any] | None,
    force: bool,  # noqa: FBT001  # keys of the body, in its order
    timeout_seconds: float,
) -> dict[str, Any]:
    return {
        "revision": revision,
        "parameters": dict(parameters or {}),
        "force": force,
        "timeout_seconds": timeout_seconds,
    }

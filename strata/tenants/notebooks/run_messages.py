"""The questions about runs of whole notebooks to a tenant's actor, and its answers: frozen values.

An answer is the value named in the question's docstring or a :class:`~strata.outcomes.Refused`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from strata.auth import Principal
from strata.notebooks.store.runs import RunRecord


@attrs.frozen(kw_only=True)
class StartRun:
    """Begin a run of a whole notebook. Answer: :class:`RunView`.

    Attributes:
        principal: The caller, with whose rights it runs.
        request_id: Id of the request, for the audit.
        name: The notebook.
        revision: The revision; ``None``: the latest one.
        parameters: Values of the names of the cell with the tag ``parameters``.
        force: Reuse no result.
        seconds: Seconds that it may take in all.
        schedule: The schedule that begins it; empty: a request.
    """

    principal: Principal
    request_id: str
    name: str
    revision: int | None = None
    parameters: Mapping[str, Any] = attrs.field(factory=dict)
    force: bool = False
    seconds: float = 3600.0
    schedule: str = ""


@attrs.frozen(kw_only=True)
class ListRuns:
    """List runs, the latest first. Answer: a tuple of :class:`RunView`."""

    principal: Principal
    name: str
    before: str | None
    limit: int


@attrs.frozen(kw_only=True)
class GetRun:
    """Read a run. Answer: :class:`RunView`."""

    principal: Principal
    name: str
    run: str


@attrs.frozen(kw_only=True)
class CancelRun:
    """End a run. Answer: :class:`RunView`."""

    principal: Principal
    name: str
    run: str


@attrs.frozen(kw_only=True)
class RunCell:
    """How a cell of a run ended.

    Attributes:
        cell: The cell.
        how: ``ok``, ``reused``, ``skipped``, or the code of an error.
        message: A sentence about it.
        seconds: Seconds that it took.
        stdout: The beginning of what it printed.
        stderr: The same, of its errors.
        traceback: The traceback, if it raised.
        displays: The beginnings of what it displayed.
        versions: Versions of the tables behind it: a caller who may not read one of them sees ``how`` only.
        hidden: Whether the caller does not see the rest.
    """

    cell: str
    how: str
    message: str = ""
    seconds: float = 0.0
    stdout: str = ""
    stderr: str = ""
    traceback: str | None = None
    displays: tuple[str, ...] = ()
    versions: Mapping[str, str] = attrs.field(factory=dict)
    hidden: bool = False


@attrs.frozen(kw_only=True)
class RunDetails:
    """What a run's record has as JSON.

    Attributes:
        parameters: Its parameters.
        cells: How its cells ended, in their order.
        message: A sentence about its end.
    """

    parameters: Mapping[str, Any] = attrs.field(factory=dict)
    cells: tuple[RunCell, ...] = ()
    message: str = ""


@attrs.frozen
class RunView:
    """A run, as one caller sees it."""

    record: RunRecord
    details: RunDetails


RunQuestion = StartRun | ListRuns | GetRun | CancelRun

"""What a store keeps of runs of whole notebooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import attrs

from strata.artifacts import Act
from strata.outcomes import Reason, Refused

MAX_RUNS: Final = 100
"""Runs of a notebook that are kept; then the oldest one that has ended goes."""

RUNNING: Final = "running"
"""State of a run that has not ended."""

RUN_NOT_FOUND: Final = Refused(Reason.NOT_FOUND, "The notebook has no such run any more, or never had it.")


@attrs.frozen(kw_only=True)
class RunRecord:
    """A run of a whole notebook. Times are seconds since the epoch.

    Attributes:
        run: Its id; a later run has a greater one.
        author: Id of the principal with whose rights it runs.
        schedule: The schedule that began it; empty: a request did.
        revision: The revision that it runs.
        state: :data:`RUNNING`, or how it ended.
        began_at: When it began.
        ended_at: When it ended.
        alive_until: Until when its server is believed to run it, unless it notes a later time.
        record: What else is known of it, as JSON.
    """

    run: str
    author: str
    schedule: str
    revision: int
    state: str
    began_at: float
    ended_at: float | None
    alive_until: float
    record: str


class RunStore(Protocol):
    """Contract of a store of runs."""

    @property
    def now(self) -> Callable[[], float]:
        """Wall clock, in seconds since the epoch."""

    def add(self, tenant: str, name: str, run: RunRecord, act: Act) -> Refused | None:
        """Add a run; returns the refusal where there is no such notebook."""

    def change(self, tenant: str, name: str, run: RunRecord) -> None:
        """Replace a run, unless it has ended, or is gone."""

    def get(self, tenant: str, name: str, run: str) -> RunRecord | None:
        """Return a run, or ``None``."""

    def list_runs(self, tenant: str, name: str, *, before: str | None, limit: int) -> tuple[RunRecord, ...]:
        """Return up to ``limit`` runs below ``before``, the latest first."""

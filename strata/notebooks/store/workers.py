"""What a store keeps of the workers of notebooks: what operators have switched, and allowances of tenants.

The workers themselves are in the configuration, which always counts: a switch or an allowance only takes
away from it. All servers of a database have the same ones.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Protocol

import attrs

from strata.artifacts import Act
from strata.outcomes import Reason, Refused

MAX_ALLOWANCES: Final = 10_000
"""Maximum allowances of all tenants and workers."""

TOO_MANY_ALLOWANCES: Final = Refused(
    Reason.TOO_LARGE,
    f"There are at most {MAX_ALLOWANCES} allowances. Take some back.",
    code="too_many_allowances",
)


class WorkerState(enum.Enum):
    """Whether a worker takes cells: ``DRAINING`` ends none, ``DISABLED`` interrupts those under way."""

    ENABLED = "enabled"
    DRAINING = "draining"
    DISABLED = "disabled"


@attrs.frozen(kw_only=True)
class WorkerSwitch:
    """The state that an operator gave a worker.

    Attributes:
        state: The state.
        changed_at: When, in seconds since the epoch.
        changed_by: Id of the principal.
    """

    state: WorkerState
    changed_at: float
    changed_by: str


@attrs.frozen
class WorkerSwitches:
    """All switches and allowances.

    Attributes:
        states: Switches by the name of their worker; without one a worker is enabled.
        allowances: Cells of a tenant on a worker at a time, by worker and tenant; 0: none.
    """

    states: Mapping[str, WorkerSwitch] = attrs.field(factory=dict)
    allowances: Mapping[tuple[str, str], int] = attrs.field(factory=dict)


class WorkerStore(Protocol):
    """Contract of a store of switches and allowances; a write is durable with its line of the audit."""

    def load(self) -> WorkerSwitches:
        """Return all switches and allowances."""

    def switch(self, worker: str, state: WorkerState, act: Act) -> None:
        """Give a worker a state."""

    def allow(self, worker: str, tenant: str, places: int | None, act: Act) -> Refused | None:
        """Give a tenant an allowance on a worker; ``None`` takes it back.

        Returns:
            :data:`TOO_MANY_ALLOWANCES`, or ``None`` when it is done.
        """

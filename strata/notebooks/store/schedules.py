"""What a store keeps of schedules of notebooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import attrs

from strata.artifacts import Act
from strata.outcomes import Reason, Refused

MAX_SCHEDULES: Final = 20
"""Maximum schedules of a notebook."""

MAX_OF_TENANT: Final = 1_000
"""Maximum schedules of a tenant."""

TOO_MANY_SCHEDULES: Final = Refused(
    Reason.TOO_LARGE,
    f"A notebook has at most {MAX_SCHEDULES} schedules, and a tenant {MAX_OF_TENANT}. Delete some.",
    code="too_many_schedules",
)

SCHEDULE_NOT_FOUND: Final = Refused(Reason.NOT_FOUND, "The notebook has no such schedule.")


@attrs.frozen(kw_only=True)
class ScheduleRecord:
    """A schedule of a notebook. Times are seconds since the epoch.

    Attributes:
        tenant: The tenant.
        name: The notebook.
        schedule: Its id.
        owner: Id of the principal with whose rights it runs.
        scopes: Scopes of that principal when it made the schedule, separated by spaces.
        cron: The expression.
        zone: The time zone.
        options: What else is known of it, as JSON.
        next_at: When it runs next; ``None``: not any more.
        message: What happened the last time, if it did not run then.
        made_at: When it was made.
    """

    tenant: str
    name: str
    schedule: str
    owner: str
    scopes: str
    cron: str
    zone: str
    options: str
    next_at: float | None
    message: str
    made_at: float


class ScheduleStore(Protocol):
    """Contract of a store of schedules."""

    @property
    def now(self) -> Callable[[], float]:
        """Wall clock, in seconds since the epoch."""

    def add(self, record: ScheduleRecord, act: Act) -> Refused | None:
        """Add a schedule; returns the refusal where there is no such notebook, or too many schedules."""

    def list_schedules(self, tenant: str, name: str) -> tuple[ScheduleRecord, ...]:
        """Return the schedules of a notebook, the oldest first."""

    def delete(self, tenant: str, name: str, schedule: str, act: Act) -> Refused | None:
        """Delete a schedule; returns the refusal where there is none."""

    def due(self, now: float, limit: int, each: int) -> tuple[ScheduleRecord, ...]:
        """Return schedules whose time has come, tenants in turns.

        The longest overdue of each tenant come first, then the second of each, and so on.

        Args:
            now: The time.
            limit: Maximum schedules.
            each: Maximum schedules of one tenant.
        """

    def move(self, record: ScheduleRecord, to: ScheduleRecord, act: Act | None = None) -> bool:
        """Replace time, options and message, unless another server has moved the schedule since.

        Of several servers that move a schedule from one time, one is told that it did, and it alone writes
        ``act`` into the audit, in the same transaction.
        """

"""Decide how long a tenant rests after a crash of its actor, and remember the tenants that rest.

A resting tenant has no actor and holds no place of ``max_tenants``. The first question after its rest starts
another actor; until then questions are refused with the seconds that are left.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import attrs

from strata.tenants.lifecycle.handle import State, Tenant

FIRST_PAUSE_SECONDS = 0.5
"""Seconds of rest after the first crash within the window; each further crash doubles them."""

LONGEST_PAUSE_SECONDS = 30.0
"""Most seconds of rest of a tenant that is restarting."""

DOWN_RETRY_SECONDS = 60.0
"""Seconds of rest of a tenant that has crashed too often; doubled while it crashes again."""

LONGEST_DOWN_SECONDS = 900.0
"""Most seconds of rest of a tenant that is down: an operator's repair is noticed within this time."""

RESTING_REMEMBERED = 1000
"""Most resting tenants that are remembered; beyond, the one at rest for longest is forgotten, and its next
question starts it."""


def note_crash(found: Tenant, now: float, *, most: int, window: float) -> float:
    """Set the state and the end of the rest of a tenant whose actor has crashed; returns the seconds of rest.

    Args:
        found: The tenant.
        now: The present, on Trio's clock.
        most: Crashes within the window after which it is down (``max_tenant_crashes``).
        window: Seconds (``tenant_crash_window_seconds``). An actor that ran for longer starts the doubling
            anew.
    """
    if now - found.since > window:
        found.downs = 0
    found.crashes = [moment for moment in (*found.crashes, now) if moment > now - window]
    count = len(found.crashes)
    if found.downs or count > most:
        pause = min(LONGEST_DOWN_SECONDS, DOWN_RETRY_SECONDS * 2.0**found.downs)
        found.state, found.downs = State.DOWN, min(found.downs + 1, 10)
    else:
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (count - 1))
        found.state = State.RESTARTING
    found.resumes = now + pause
    return pause


def cause_of(error: BaseException) -> str:
    """Return the name of the first error inside of nested exception groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__


@attrs.define(eq=False)
class RestingTenants:
    """Tenants whose actors have crashed, at most :data:`RESTING_REMEMBERED`, the longest at rest first."""

    _tenants: OrderedDict[str, Tenant] = attrs.field(factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._tenants)

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._tenants.values())

    def find(self, tenant: str) -> Tenant | None:
        """Return a resting tenant."""
        return self._tenants.get(tenant)

    def add(self, found: Tenant) -> Tenant | None:
        """Add a tenant; returns the one that is forgotten for it, if any."""
        self._tenants[found.id] = found
        return self._tenants.popitem(last=False)[1] if len(self) > RESTING_REMEMBERED else None

    def take(self, tenant: str) -> Tenant | None:
        """Remove a tenant and return it; None if it does not rest."""
        return self._tenants.pop(tenant, None)

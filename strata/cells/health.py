"""What is known of an executor's health: the last answers of its ``GET /health``."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, Literal

import attrs
import trio

from strata.executor.protocol.client import HEALTH_SECONDS, Executor, ExecutorError, base_of
from strata.executor.protocol.messages import NOTEBOOK_CELL

KNOWN_SECONDS: Final = 5.0
"""Seconds for which an answer counts as present."""

KEPT: Final = 6
"""Answers that are kept."""

MAX_FEATURES: Final = 50
"""Features of an executor that are shown, those with short plain values; the rest is left out."""

FEATURE_CHARACTERS: Final = 256
"""Maximum characters of the name or the value of a feature."""

State = Literal["healthy", "unavailable", "warming", "unknown"]


@attrs.frozen
class Probe:
    """One look at an executor.

    Attributes:
        checked_at: When, in seconds since the epoch.
        health: What came of it: ``warming`` if it was connected and gave no answer in time.
        error: A sentence about why it is not healthy.
        duration_ms: Milliseconds until then.
    """

    checked_at: float
    health: State
    error: str | None
    duration_ms: int


@attrs.define(eq=False)
class WorkerHealth:
    """What is known of one executor.

    Attributes:
        url: Address of the last look.
        probes: The last looks, the latest first.
        counts: Number of looks by what came of them.
        failures: Looks since the last one that found it healthy.
        last: When each outcome was seen last, in seconds since the epoch.
        versions: Versions of the protocol that it speaks.
        refs: Transforms that it runs.
        features: What else it says of itself, as far as it is shown.
    """

    url: str = ""
    probes: deque[Probe] = attrs.field(factory=lambda: deque(maxlen=KEPT))
    counts: dict[State, int] = attrs.field(factory=dict)
    failures: int = 0
    last: dict[State, float] = attrs.field(factory=dict)
    versions: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    features: Mapping[str, str | int | float | bool] = attrs.field(factory=dict)

    @property
    def health(self) -> State:
        """Outcome of the last look."""
        return self.probes[0].health if self.probes else "unknown"

    def is_old(self, url: str, now: float) -> bool:
        """Whether the last look is too long ago, or was at another address."""
        return not self.probes or base_of(url) != self.url or now - self.probes[0].checked_at >= KNOWN_SECONDS

    def note(self, found: Probe) -> None:
        """Keep a look."""
        self.probes.appendleft(found)
        self.counts[found.health] = self.counts.get(found.health, 0) + 1
        self.last[found.health] = found.checked_at
        self.failures = 0 if found.health == "healthy" else self.failures + 1


async def probe(known: WorkerHealth, executor: Executor, now: float) -> None:
    """Ask an executor how it is, and keep the answer; takes at most as long as its health may take."""
    began = trio.current_time()
    health: State = "healthy"
    error = None
    try:
        said = await executor.health()
    except ExecutorError as problem:
        late = trio.current_time() - began >= HEALTH_SECONDS
        health, error = ("warming" if late else "unavailable"), str(problem)
    else:
        known.versions, known.refs, known.features = said.versions, said.refs, _shown(said.features)
        if NOTEBOOK_CELL not in said.refs:
            health, error = "unavailable", "The executor runs no cells; start it with --cells."
    known.url = executor.url
    known.note(Probe(now, health, error, round((trio.current_time() - began) * 1000)))


def _shown(features: Mapping[str, object]) -> Mapping[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {}
    for name, value in features.items():
        if not isinstance(value, str | int | float | bool) or len(found) == MAX_FEATURES:
            continue
        if len(name) <= FEATURE_CHARACTERS and len(str(value)) <= FEATURE_CHARACTERS:
            found[name] = value
    return found

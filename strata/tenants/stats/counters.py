"""Counters of one tenant: plain numbers, which the actor keeps and the collector reads.

None of them is named after anything a request carries, and an idle tenant's take a few hundred bytes: what
never happened has no place.
"""

from __future__ import annotations

from typing import TypeVar

import attrs
import trio

from strata.cache import CacheStats
from strata.outcomes import Reason, Refused
from strata.tenants.stats.histogram import Histogram

K = TypeVar("K")

ERRORS_REMEMBERED = 20

_CALLERS_OWN = frozenset({Reason.BAD_REQUEST, Reason.FORBIDDEN, Reason.NOT_FOUND})
"""What the caller did wrong, and nobody else need look at."""


@attrs.frozen
class ErrorNote:
    """Something that went wrong.

    Attributes:
        code: A word, as in the answer; never a value.
        what: What was asked or done.
        at: When, on Trio's clock.
    """

    code: str
    what: str
    at: float


@attrs.define(eq=False)
class TenantMetrics:
    """What happened in one tenant since its actor first started; survives the actor's restarts.

    Attributes:
        questions: By (kind, outcome), such as ``("Materialize", "ok")`` or ``("Materialize", "busy")``.
        requests: HTTP requests by class of status, such as ``2xx``.
        refusals: Refused questions by code.
        builds: Ended builds by outcome.
        queue_wait: Waits of builds for their slot, by tier.
        streams: How long it took to send results, in all.
        bytes_sent: Bytes of answers' bodies.
        rows_built: Rows of finished artifacts.
        bytes_built: Bytes of finished artifacts.
        hits: Materialize requests answered by a finished artifact.
        misses: Those that began or joined a build.
        cache_hits: Look-ups in caches that were closed; of the open one the shard itself counts.
        cache_misses: The same, not found.
        cache_evictions: Segments evicted from those.
        restarts: Crashes of the actor.
        errors: The last errors, the oldest first.
    """

    questions: dict[tuple[str, str], int] = attrs.field(factory=dict)
    requests: dict[str, int] = attrs.field(factory=dict)
    refusals: dict[str, int] = attrs.field(factory=dict)
    builds: dict[str, int] = attrs.field(factory=dict)
    queue_wait: dict[str, Histogram] = attrs.field(factory=dict)
    streams: dict[str, Histogram] = attrs.field(factory=dict)
    bytes_sent: int = 0
    rows_built: int = 0
    bytes_built: int = 0
    hits: int = 0
    misses: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_evictions: int = 0
    restarts: int = 0
    errors: tuple[ErrorNote, ...] = ()  # an idle tenant's costs nothing

    def answered(self, kind: str, outcome: str) -> None:
        """Count a question."""
        _count(self.questions, (kind, outcome))

    def refused(self, code: str) -> None:
        """Count a refusal."""
        _count(self.refusals, code)

    def built(self, outcome: str) -> None:
        """Count the end of a build."""
        _count(self.builds, outcome)

    def waited(self, tier: str, seconds: float) -> None:
        """Count a build's wait for its slot."""
        _observe(self.queue_wait, tier, seconds)

    def requested(self, status: int, nbytes: int, streamed: float | None = None) -> None:
        """Count an HTTP request.

        Args:
            status: Its status; 499 for a client that left before there was one.
            nbytes: Bytes of body sent.
            streamed: Seconds it took to send a result, if it was asked for one.
        """
        _count(self.requests, f"{status // 100}xx")
        self.bytes_sent += nbytes
        if streamed is not None:
            _observe(self.streams, "all", streamed)

    def cache_closed(self, stats: CacheStats) -> None:
        """Keep the counters of a shard that is closed."""
        self.cache_hits += stats.hits
        self.cache_misses += stats.misses
        self.cache_evictions += stats.evictions

    def add(self, other: TenantMetrics) -> None:
        """Count all that another counted, too."""
        for field in attrs.fields(TenantMetrics):
            mine, its = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, tuple):
                continue  # errors are a tenant's own, and go with it
            if isinstance(mine, int):
                setattr(self, field.name, mine + its)
                continue
            for key, value in its.items():
                if isinstance(value, Histogram):
                    mine.setdefault(key, Histogram()).add(value)
                else:
                    mine[key] = mine.get(key, 0) + value

    def note_refused(self, refused: Refused, what: str) -> None:
        """Remember a refusal, unless it is of the caller's own making."""
        if refused.reason not in _CALLERS_OWN:
            self.note_error(refused.code or refused.reason.value, what)

    def note_error(self, code: str, what: str) -> None:
        """Remember an error."""
        self.errors = (*self.errors, ErrorNote(code, what, trio.current_time()))[-ERRORS_REMEMBERED:]


def _count(counts: dict[K, int], key: K) -> None:
    counts[key] = counts.get(key, 0) + 1


def _observe(histograms: dict[str, Histogram], key: str, seconds: float) -> None:
    histogram = histograms.get(key)
    if histogram is None:
        histogram = histograms[key] = Histogram()
    histogram.observe(seconds)

"""Count what happens in one tenant, in plain numbers that metrics and administration read.

No key comes from a request. An idle tenant's counters take a few hundred bytes: a key exists from its first
event.
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
"""Errors kept for each tenant; the oldest goes first."""

_CALLERS_OWN = frozenset({Reason.BAD_REQUEST, Reason.UNPROCESSABLE, Reason.FORBIDDEN, Reason.NOT_FOUND})
"""Refusals caused by the request itself; operators are not shown them."""


@attrs.frozen
class ErrorNote:
    """An error that occurred in a tenant.

    Attributes:
        code: Error code, as in the response; never a value.
        what: Kind of request or operation.
        at: Time, on Trio's clock.
    """

    code: str
    what: str
    at: float


@attrs.define(eq=False)
class TenantMetrics:
    """Counters of one tenant since its actor first started; restarts of the actor keep them.

    Attributes:
        questions: Messages answered, by (kind, outcome), such as ``("Materialize", "ok")`` or
            ``("Materialize", "busy")``.
        requests: HTTP requests by status class, such as ``2xx``.
        refusals: Refused requests by error code.
        denied: Requests for a table that the access rules deny; they are refused as if it was missing.
        builds: Ended builds by outcome.
        queue_wait: Seconds that builds waited for a slot, by tier.
        streams: Seconds that sending results took, under the single key ``all``.
        bytes_sent: Bytes of response bodies.
        rows_built: Rows of finished artifacts.
        bytes_built: Bytes of finished artifacts.
        hits: Materialize requests answered by a finished artifact.
        misses: Materialize requests that began or joined a build.
        cache_hits: Row groups found in cache shards that are closed; an open shard counts its own.
        cache_misses: Row groups not found in cache shards that are closed.
        cache_evictions: Row groups evicted from cache shards that are closed.
        restarts: Crashes of the actor.
        errors: Last errors, oldest first.
    """

    questions: dict[tuple[str, str], int] = attrs.field(factory=dict)
    requests: dict[str, int] = attrs.field(factory=dict)
    refusals: dict[str, int] = attrs.field(factory=dict)
    denied: int = 0
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
    errors: tuple[ErrorNote, ...] = ()  # the empty tuple takes no memory

    def answered(self, kind: str, outcome: str) -> None:
        """Count a message the actor answered."""
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
            status: Status code; 499 if the client left before there was one.
            nbytes: Bytes of the body sent.
            streamed: Seconds it took to send a result; None if the request read none.
        """
        _count(self.requests, f"{status // 100}xx")
        self.bytes_sent += nbytes
        if streamed is not None:
            _observe(self.streams, "all", streamed)

    def cache_closed(self, stats: CacheStats) -> None:
        """Add the counters of a cache shard that is being closed."""
        self.cache_hits += stats.hits
        self.cache_misses += stats.misses
        self.cache_evictions += stats.evictions

    def add(self, other: TenantMetrics) -> None:
        """Add the counters of ``other``, except its errors."""
        for field in attrs.fields(TenantMetrics):
            mine, its = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, tuple):
                continue  # errors of a tenant that is gone are not kept
            if isinstance(mine, int):
                setattr(self, field.name, mine + its)
                continue
            for key, value in its.items():
                if isinstance(value, Histogram):
                    mine.setdefault(key, Histogram()).add(value)
                else:
                    mine[key] = mine.get(key, 0) + value

    def note_refused(self, refused: Refused, what: str) -> None:
        """Keep a refusal as an error, unless the request itself caused it."""
        if refused.reason not in _CALLERS_OWN:
            self.note_error(refused.code or refused.reason.value, what)

    def note_error(self, code: str, what: str) -> None:
        """Keep an error, up to :data:`ERRORS_REMEMBERED`."""
        self.errors = (*self.errors, ErrorNote(code, what, trio.current_time()))[-ERRORS_REMEMBERED:]


def _count(counts: dict[K, int], key: K) -> None:
    counts[key] = counts.get(key, 0) + 1


def _observe(histograms: dict[str, Histogram], key: str, seconds: float) -> None:
    histogram = histograms.get(key)
    if histogram is None:
        histogram = histograms[key] = Histogram()
    histogram.observe(seconds)

"""Probe the metadata store for readiness, in a thread that no tenant can hold."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from strata.outcomes import RefusalError
from strata.work.waiting_threads import WaitingThreads


@attrs.define(eq=False)
class _Probe:
    """A probe under way.

    Attributes:
        healthy: Its answer; None: not known yet, or its caller has left.
        ended: Set at its end.
    """

    healthy: bool | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class HealthProbe:
    """Answers whether the metadata store answers, within the deadlines of its threads.

    Callers that come during a probe share its answer, so that any number of them hold one thread.

    Attributes:
        threads: The threads of probes.
    """

    threads: WaitingThreads
    _running: _Probe | None = None

    async def healthy(self, function: Callable[[], bool]) -> bool:
        """Return what ``function`` does, which blocks; False if it does not answer in time."""
        while self._running is not None:
            probe = self._running
            await probe.ended.wait()
            if probe.healthy is not None:
                return probe.healthy
        probe = self._running = _Probe()
        try:
            probe.healthy = await self.threads.run("", function)
        except RefusalError:  # the store is silent, or still silent to an earlier probe
            probe.healthy = False
        finally:
            self._running = None
            probe.ended.set()
        return probe.healthy

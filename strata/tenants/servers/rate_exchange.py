"""Tell the other servers of the database what tenants used of their rates, and count what they used there."""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs
import structlog
import trio

from strata.artifacts.servers.contract import ServerStore
from strata.outcomes import RefusalError
from strata.tenants.limits.rates import RateBook
from strata.tenants.limits.shared_usage import Usage, count_usage, print_usage, read_usage, tell_usage
from strata.work.waiting_threads import Handover

EXCHANGE_SECONDS: Final = 1.0
"""Seconds between two exchanges: for so long a server may not know what others have admitted."""

AT_ONCE: Final = 200
"""Entries of a report that are counted before other tasks have their turn."""

PATIENCE: Final = 5.0
"""Seconds that one exchange may take."""

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class RateExchange:
    """Exchanges usage with the other servers once a second.

    What cannot be told is forgotten: while the database does not answer, each server counts alone, and no
    tenant is refused afterwards for what it used in that time. A report that cannot be read is passed over.

    Attributes:
        servers: The servers.
        book: The rates of this server.
    """

    servers: ServerStore
    book: RateBook
    _threads: trio.CapacityLimiter = attrs.field(factory=partial(trio.CapacityLimiter, 1))
    _alone: bool = False  # while the database does not answer
    _warned: bool = False  # of a report that cannot be read

    async def run(self) -> None:
        """Exchange until cancelled."""
        while True:
            await trio.sleep(EXCHANGE_SECONDS)
            await self.exchange()

    async def exchange(self) -> None:
        """Tell what was used since the last time, and count what the others tell."""
        call = Handover(partial(self._exchange, tell_usage(self.book)))
        try:
            with trio.fail_after(PATIENCE):
                told = await trio.to_thread.run_sync(call.run, abandon_on_cancel=True, limiter=self._threads)
        except (RefusalError, trio.TooSlowError):
            call.leave()
            if not self._alone:
                log.warning("rates of tenants are counted by this server alone: no answer of the database")
            self._alone = True
            return
        except trio.Cancelled:
            call.leave()
            raise
        self._alone = False
        for usage in told:
            for first in range(0, len(usage), AT_ONCE):
                count_usage(self.book, usage[first : first + AT_ONCE], trio.current_time())
                await trio.lowlevel.checkpoint()

    def _exchange(self, own: list[Usage]) -> list[list[Usage]]:
        """In a thread: texts are printed and read here, too."""
        found = self.servers.exchange_usage(print_usage(own) if own else None)
        told = []
        for text in found:
            try:
                told.append(read_usage(text))
            except ValueError as error:
                if not self._warned:
                    log.warning("a server's report of used rates cannot be read", error=str(error)[:200])
                self._warned = True
        return told

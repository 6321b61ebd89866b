"""End the work under way that replaced access rules do not permit.

Reads and builds outlast the decision that permitted them. When the rules are replaced, each is decided on
anew: a read is broken off, and a build ends when none of its callers may read its result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import structlog
import trio

from strata.tenants.shared.authorizer import Authorizer

DECIDE_SECONDS = 30.0
"""Seconds in which the work of one tenant is decided on; what is undecided then ends: its catalog does not
answer."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class _Work:
    tenant: str
    permitted: Callable[[], Awaitable[bool]]
    end: Callable[[], None]


@attrs.define(eq=False)
class RightsWatch:
    """Work under way that needs a right, of all tenants.

    Attributes:
        authorizer: The access rules.
    """

    authorizer: Authorizer
    _under_way: dict[_Work, None] = attrs.field(factory=dict, repr=False)

    def add(
        self, tenant: str, permitted: Callable[[], Awaitable[bool]], end: Callable[[], None]
    ) -> Callable[[], None]:
        """Watch work until the returned function is called; that is harmless when repeated.

        Args:
            tenant: The tenant whose work it is.
            permitted: Decides by the rules of the moment whether the work may go on.
            end: Ends the work.
        """
        work = _Work(tenant, permitted, end)
        self._under_way[work] = None
        return partial(self._under_way.pop, work, None)

    async def run(self) -> None:
        """Decide anew whenever the rules are replaced; never returns."""
        changed = self.authorizer.changed
        while True:
            await changed.wait()
            changed = self.authorizer.changed
            by_tenant = defaultdict(list)
            for work in self._under_way:
                by_tenant[work.tenant].append(work)
            async with trio.open_nursery() as nursery:
                for tenant in by_tenant.values():
                    nursery.start_soon(self._decide, tenant)

    async def _decide(self, under_way: list[_Work]) -> None:
        """Decide on the work of one tenant, in tasks of its own: another tenant's catalog may hang."""
        undecided = dict.fromkeys(under_way)
        with trio.move_on_after(DECIDE_SECONDS):
            for work in under_way:
                await trio.lowlevel.checkpoint()  # there may be thousands
                if await _is_permitted(work):
                    del undecided[work]
        ended = [work for work in undecided if work in self._under_way]
        for work in ended:
            work.end()
        if ended:
            log.info("rights were taken away", tenant=ended[0].tenant, ended=len(ended))


async def _is_permitted(work: _Work) -> bool:
    try:
        return await work.permitted()
    except Exception as error:  # a right that cannot be decided is none; a bug in it must not end the server
        log.exception("right not decided", tenant=work.tenant, error=type(error).__name__)
        return False

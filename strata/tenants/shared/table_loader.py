"""Ask catalogs for tables: equal questions share an answer, and a negative one is kept for a second."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar

import attrs
import trio
from cachetools import TTLCache

from strata.outcomes import RefusalError, Refused
from strata.tables import Catalogs, LoadedTable, TableRef
from strata.tenants.shared.thread_groups import ThreadGroups

T = TypeVar("T")

NEGATIVE_SECONDS = 1.0
"""Seconds for which a table that was not found, or whose catalog did not answer, is refused unasked."""

NEGATIVES = 4096
"""Negative answers that are kept; beyond, the oldest goes."""

Key = tuple[str, TableRef]
"""A tenant and a table."""


@attrs.define(eq=False)
class _Question:
    """A question to a catalog, shared by the callers that came before it was sent.

    Attributes:
        asked: Whether it was sent to the catalog.
        answer: The answer, once known.
        ended: Set when the question has an answer, or its asker has left.
        following: The question that is sent after this one, for the callers that came meanwhile.
    """

    asked: bool = False
    answer: LoadedTable | Refused | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)
    following: _Question | None = None


def _itself(table: LoadedTable) -> Any:
    return table


def _no_answers() -> TTLCache[Key, Refused]:
    return TTLCache(NEGATIVES, NEGATIVE_SECONDS, timer=trio.current_time)


@attrs.define(eq=False)
class TableLoader:
    """Loads tables in their catalogs' threads.

    A caller shares the answer to a question that was sent after it came: an earlier one may be older than a
    commit that the caller knows of. So of any number of callers that ask for one table, one asks, and the
    others wait and then share the next question. Tenants share none: a tenant that waits for its turn would
    hold up the other.

    Attributes:
        catalogs: The configured warehouses and catalogs.
        groups: The threads.
    """

    catalogs: Catalogs
    groups: ThreadGroups
    _asked: dict[Key, _Question] = attrs.field(init=False, factory=dict)
    _negative: TTLCache[Key, Refused] = attrs.field(init=False, factory=_no_answers)
    _secret: bytes = attrs.field(init=False, factory=partial(secrets.token_bytes, 32), repr=False)

    def stand_in(self, ref: TableRef) -> TableRef:
        """Return a table that does not exist, to be asked for in the place of a hidden table.

        The same one each time, since a negative answer is kept: with another, a second request for a hidden
        table would take longer than one for a missing table.
        """
        name = ".".join((*ref.namespace, ref.table)).encode()
        return attrs.evolve(ref, table=blake2b(name, key=self._secret, digest_size=18).hexdigest())

    async def load(
        self, tenant: str, ref: TableRef, then: Callable[[LoadedTable], T | Refused] = _itself
    ) -> T | Refused:
        """Return what ``then`` makes of the table with its current metadata.

        Args:
            tenant: Tenant that asks.
            ref: The table.
            then: Called in the same thread, or by a caller that shares an answer, on the loop.

        Returns:
            A refusal as of :meth:`Catalogs.load`; UNAVAILABLE also if the catalog has no free thread for this
            tenant, or no answer, in time.
        """
        key, question = (tenant, ref), _Question()
        while True:
            known = self._negative.get(key)
            if known is not None:
                return known
            before = self._asked.get(key)
            if before is None:
                break
            question = before.following = before.following or question
            await before.ended.wait()
            if not question.asked:
                break
            await question.ended.wait()
            if question.answer is not None:
                return question.answer if isinstance(question.answer, Refused) else then(question.answer)
            question = _Question()  # the caller that asked has left
        question.asked, self._asked[key] = True, question
        try:
            work = partial(_load, self.catalogs, ref, then)
            question.answer, found = await self.groups.of_catalog(ref).run(tenant, work)
        except RefusalError as error:
            question.answer = found = error.refused
        finally:
            if self._asked.get(key) is question:
                del self._asked[key]
            question.ended.set()
        if isinstance(question.answer, Refused):
            self._negative[key] = question.answer
        return found


def _load(
    catalogs: Catalogs, ref: TableRef, then: Callable[[LoadedTable], T | Refused]
) -> tuple[LoadedTable | Refused, T | Refused]:
    table = catalogs.load(ref)
    return table, table if isinstance(table, Refused) else then(table)

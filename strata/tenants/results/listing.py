"""Listings and counts of the results a caller may read; others are not in them, not even as a number.

Rights are decided here and not in the store. So with access rules a listing goes through what the tenant
has, :data:`CHUNK` results in one call of the store, each call from where the last one ended. A page that says
where it begins (``after``) goes no further than its last result; only the first page counts them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

import attrs
import trio

from strata.artifacts import (
    ArtifactRecord,
    ArtifactState,
    Cursor,
    NamedVersion,
    NameRecord,
    Page,
    Stats,
    VersionSummary,
)
from strata.artifacts.metadata.contract import check_listing
from strata.artifacts.metadata.records import PAGE_BYTES, within_page
from strata.auth import Principal
from strata.outcomes import Refused
from strata.tables import LoadedTable, TableRef
from strata.tenants import messages as m
from strata.tenants.shared.authorizer import artifact_resource
from strata.tenants.shared.resources import Resources

CHUNK = 500
"""Results or names read in one call of the store."""

AT_ONCE = 64
"""Results or names decided on without a checkpoint: 4 ms at most, where each was made of other tables."""

PLAIN = 2_000
"""Names read in one call of the store where nothing is decided: 5 ms of a thread."""

FEW = 64
"""Records of a page read at a time: each has a transform of up to a megabyte."""

INPUTS_HELD = 4_096
"""Decisions that a listing keeps for the next result of equal inputs; beyond, all are taken anew."""

TABLES_HELD = 16
"""Tables that a listing keeps in memory for the next result; beyond, all are loaded anew."""

T = TypeVar("T")


@attrs.define(eq=False)
class Visibility:
    """Decides which results of a tenant a caller may read, with one decision for equal inputs.

    Attributes:
        resources: The process's shared resources.
        tenant: The tenant.
        principal: The caller.
    """

    resources: Resources
    tenant: str
    principal: Principal
    _decided: int = attrs.field(init=False, default=0)
    _by_inputs: dict[str, bool] = attrs.field(init=False, factory=dict)
    _loaded: dict[TableRef, LoadedTable] = attrs.field(init=False, factory=dict)
    _refused: set[TableRef] = attrs.field(init=False, factory=set)

    async def shows(self, found: VersionSummary | ArtifactRecord) -> bool:
        """Decide whether the caller may read a result."""
        if self.resources.all_readable:
            return True
        self._decided += 1
        if self._decided % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        if self._denies(found.artifact_id):
            return False
        if found.input_versions not in self._by_inputs:
            if len(self._loaded) >= TABLES_HELD:
                self._loaded.clear()
            if len(self._by_inputs) >= INPUTS_HELD:
                self._by_inputs.clear()
            self._by_inputs[found.input_versions] = await self._may_read(found.inputs)
        return self._by_inputs[found.input_versions]

    async def _may_read(self, inputs: Mapping[str, str]) -> bool:
        """Decide on the inputs of a result; a table is loaded once for all results of it."""
        decide = self.resources.decide_read
        while isinstance(found := decide(self.principal, inputs, None, self._loaded), TableRef):
            if found in self._refused:
                return False
            table = await self.resources.tables.load(self.principal.tenant, found)
            if isinstance(table, Refused):
                self._refused.add(found)
                return False
            self._loaded[found] = table
        return found

    async def artifacts(
        self,
        listing: Callable[..., tuple[VersionSummary, ...]],
        sort: str,
        after: Cursor | None = None,
        wanted: int = CHUNK,
    ) -> AsyncGenerator[VersionSummary, None]:
        """Yield the results of a listing that the caller may read, from a place on.

        Args:
            listing: Returns up to ``limit`` results of the tenant behind ``after``.
            sort: The column that the listing is sorted by.
            after: The place.
            wanted: How many are enough, where the caller may read them all.

        Raises:
            RefusalError: If the store does not answer.
        """
        chunk = min(wanted, CHUNK)
        while True:
            found = await self.resources.ask(self.tenant, listing, self.tenant, limit=chunk, after=after)
            for one in found:
                if await self.shows(one):
                    yield one
            if len(found) < chunk:
                return
            after, chunk = found[-1].cursor(sort), CHUNK

    async def names(self, *, prefix: str = "", after: str = "") -> AsyncGenerator[NamedVersion, None]:
        """Yield the names above ``after`` of results that the caller may read, in order.

        Raises:
            RefusalError: If the store does not answer.
        """
        listing = partial(self.resources.metadata.list_names, prefix=prefix, limit=CHUNK)
        while True:
            found = await self.resources.ask(self.tenant, listing, self.tenant, after=after)
            for one in found:
                if one.target is not None and not self._denies(one.name) and await self.shows(one.target):
                    yield one
            if len(found) < CHUNK:
                return
            after = found[-1].name

    def _denies(self, name: str) -> bool:
        authorizer = self.resources.authorizer
        return authorizer.policy is not None and authorizer.denies(
            self.principal, artifact_resource(name), "read"
        )


async def list_visible(resources: Resources, tenant: str, question: m.ListArtifacts) -> Page | Refused:
    """List a page; its total counts the artifacts the caller may read."""
    asked: dict[str, Any] = {
        "state": question.state,
        "since": question.since,
        "sort": question.sort,
        "order": question.order,
    }
    refused = check_listing(limit=question.limit, offset=question.offset, **asked)
    if refused is not None:
        return refused
    metadata, prefix = resources.metadata, question.name_prefix
    if resources.all_readable and question.after is None:
        listing = partial(metadata.list_artifacts, name_prefix=prefix, **asked)
        whole = await resources.ask(tenant, listing, tenant, limit=question.limit, offset=question.offset)
        if isinstance(whole, Refused) or question.offset + len(whole.artifacts) >= whole.total:
            return whole
        return attrs.evolve(whole, last=_place(whole.artifacts, question.sort))
    visible = Visibility(resources, tenant, question.principal)
    most = question.limit + (question.after is not None)  # one more tells whether there are further ones
    if prefix is not None:
        page, total = await _named(visible, question, most)
    else:
        wanted = CHUNK if question.after is None else most
        summaries = partial(metadata.list_summaries, **asked)
        found = visible.artifacts(summaries, question.sort, question.after, wanted)
        page, total = await _from(found, question, most)
    more = len(page) > question.limit if question.after is not None else question.offset + len(page) < total
    page = page[: question.limit]
    keys = [(one.artifact_id, one.version) for one in page]
    records = await _records(resources, tenant, keys)
    more = more or len(records) < len(page)  # a page may end early
    return Page(records, total, _place(page[: len(records)], question.sort) if more else None)


async def _records(
    resources: Resources, tenant: str, keys: Sequence[tuple[str, int]]
) -> tuple[ArtifactRecord, ...]:
    """Return the first records of a page that take ``PAGE_BYTES`` together, at least one."""
    found: list[ArtifactRecord] = []
    for start in range(0, len(keys), FEW):
        part = keys[start : start + FEW]
        found += await resources.ask(tenant, resources.metadata.get_artifacts, tenant, part)
        if sum(record.nbytes for record in found) > PAGE_BYTES:
            break
    return within_page(found)


async def list_names(resources: Resources, tenant: str, question: m.ListNames) -> tuple[NameRecord, ...]:
    """List the names of results the caller may read, in order: one call of the store for each 500 names.

    Where all may be read, no version is needed and nothing is decided: :data:`PLAIN` names a call.
    """
    if resources.all_readable:
        return await _all_names(resources, tenant, question.after, question.limit)
    names = Visibility(resources, tenant, question.principal).names(after=question.after)
    return tuple(await _first(names, question.limit))


async def _all_names(
    resources: Resources, tenant: str, after: str, limit: int | None
) -> tuple[NameRecord, ...]:
    found: list[NameRecord] = []
    listing = partial(resources.metadata.list_names, targets=False)
    while limit is None or len(found) < limit:
        most = PLAIN if limit is None else min(PLAIN, limit - len(found))
        part = await resources.ask(tenant, listing, tenant, after=after, limit=most)
        found += part
        if len(part) < most:
            break
        after = part[-1].name
    return tuple(found)


async def count_visible(resources: Resources, tenant: str, principal: Principal) -> Stats:
    """Count the artifacts the caller may read, by state; bytes are those of ready ones."""
    if resources.all_readable:
        return await resources.ask(tenant, resources.metadata.stats, tenant)
    states: Counter[str] = Counter()
    size = 0
    listing = partial(resources.metadata.list_summaries, sort="artifact_id", order="asc")
    async for found in Visibility(resources, tenant, principal).artifacts(listing, "artifact_id"):
        states[found.state.value] += 1
        if found.state is ArtifactState.READY:
            size += found.byte_size or 0
    return Stats(states.total(), size, dict(states))


async def visible_dependents(
    resources: Resources, tenant: str, principal: Principal, uri: str, most: int
) -> tuple[tuple[ArtifactRecord, ...], int]:
    """Return the oldest dependents of a result that the caller may read, and the number of all.

    Args:
        resources: The process's shared resources.
        tenant: The tenant.
        principal: The caller.
        uri: URI of the result.
        most: Maximum dependents returned.

    Raises:
        RefusalError: If the store does not answer.
    """

    def listing(tenant: str, *, limit: int, after: Cursor | None) -> tuple[VersionSummary, ...]:
        return resources.metadata.list_dependents(tenant, uri, after=after, limit=limit)

    oldest: list[tuple[str, int]] = []
    total = 0
    async for found in Visibility(resources, tenant, principal).artifacts(listing, "created_at"):
        total += 1
        if len(oldest) < most:
            oldest.append((found.artifact_id, found.version))
    return await resources.ask(tenant, resources.metadata.get_artifacts, tenant, oldest), total


async def _from(
    found: AsyncGenerator[VersionSummary, None], question: m.ListArtifacts, most: int
) -> tuple[list[VersionSummary], int]:
    """Return the page of a listing, and the number of results in all pages."""
    if question.after is not None:
        return await _first(found, most), question.total
    page: list[VersionSummary] = []
    total = 0
    async for one in found:
        if question.offset <= total < question.offset + most:
            page.append(one)
        total += 1
    return page, total


async def _named(
    visible: Visibility, question: m.ListArtifacts, most: int
) -> tuple[list[VersionSummary], int]:
    """Return as :func:`_from`: of the results that visible names with the question's prefix point at."""
    prefix = question.name_prefix or ""
    named = {(one.artifact_id, one.version): one.target async for one in visible.names(prefix=prefix)}
    sort = partial(_sorted, [one for one in named.values() if one is not None], question)
    if len(named) <= CHUNK:
        ordered = sort()
    else:
        ordered = await visible.resources.compute(visible.tenant, visible.principal.id, sort)
    if question.after is not None:
        return ordered[:most], question.total
    return ordered[question.offset : question.offset + most], len(ordered)


def _sorted(found: list[VersionSummary], question: m.ListArtifacts) -> list[VersionSummary]:
    """Return the results that a question chooses, in its order, behind its place."""
    since, down = question.since, question.order == "desc"
    place = None if question.after is None else _rank(question.after)
    ranked = []
    for one in found:
        rank = _rank(one.cursor(question.sort))
        chosen = question.state in (None, one.state.value) and (since is None or one.created_at >= since)
        if chosen and (place is None or (rank < place if down else rank > place)):
            ranked.append((rank, one))
    ranked.sort(key=itemgetter(0), reverse=down)
    return [one for _, one in ranked]


def _rank(place: Cursor) -> tuple[Any, ...]:
    """Return what places are compared by; a value that is not known yet is below all others."""
    return place.value is not None, place.value or 0, place.artifact_id, place.version


async def _first(found: AsyncGenerator[T, None], most: int | None) -> list[T]:
    """Return the first ``most`` items; ``None``: all."""
    first: list[T] = []
    async with aclosing(found):
        async for one in found:
            first.append(one)
            if len(first) == most:
                break  # before more is read
    return first


def _place(page: Sequence[ArtifactRecord] | Sequence[VersionSummary], sort: str) -> Cursor | None:
    if not page:
        return None
    last = page[-1]
    return Cursor(getattr(last, sort), last.artifact_id, last.version)

"""Listings and counts of the artifacts a caller may read; others are not in them, not even as a number.

Rights are decided here and not in the store, so with access rules a listing reads all artifacts of the tenant
that match, 500 at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection
from functools import partial

from strata.artifacts import ArtifactRecord, ArtifactState, Page, Stats
from strata.artifacts.metadata.contract import check_listing
from strata.auth import Principal
from strata.outcomes import RefusalError, Refused
from strata.tenants import messages as m
from strata.tenants.shared.authorizer import artifact_resource
from strata.tenants.shared.resources import Resources

CHUNK = 500
"""Records read in one call of the store."""


async def list_visible(resources: Resources, tenant: str, question: m.ListArtifacts) -> Page | Refused:
    """List a page; its total counts the artifacts the caller may read."""
    listing = partial(
        resources.metadata.list_artifacts,
        state=question.state,
        name_prefix=question.name_prefix,
        since=question.since,
        sort=question.sort,
        order=question.order,
    )
    if resources.authorizer.policy is None:
        return await resources.ask(listing, tenant, limit=question.limit, offset=question.offset)
    refused = check_listing(
        limit=question.limit,
        offset=question.offset,
        state=question.state,
        since=question.since,
        sort=question.sort,
        order=question.order,
    )
    if refused is not None:
        return refused
    named = None
    if question.name_prefix is not None:
        named = await _named(resources, tenant, question.principal, question.name_prefix)
    page: list[ArtifactRecord] = []
    total = 0
    async for record in _visible(resources, tenant, question.principal, listing, named):
        if question.offset <= total < question.offset + question.limit:
            page.append(record)
        total += 1
    return Page(tuple(page), total)


async def count_visible(resources: Resources, tenant: str, principal: Principal) -> Stats:
    """Count the artifacts the caller may read, by state; bytes are those of ready ones."""
    if resources.authorizer.policy is None:
        return await resources.ask(resources.metadata.stats, tenant)
    states: Counter[str] = Counter()
    size = 0
    listing = partial(resources.metadata.list_artifacts)
    async for record in _visible(resources, tenant, principal, listing, None):
        states[record.state.value] += 1
        if record.state is ArtifactState.READY:
            size += record.byte_size or 0
    return Stats(states.total(), size, dict(states))


async def every_visible(
    resources: Resources, tenant: str, principal: Principal
) -> AsyncIterator[ArtifactRecord]:
    """Yield all artifacts the caller may read, oldest first.

    Raises:
        RefusalError: If the store does not answer.
    """
    listing = partial(resources.metadata.list_artifacts, order="asc")
    async for record in _visible(resources, tenant, principal, listing, None):
        yield record


async def _named(
    resources: Resources, tenant: str, principal: Principal, prefix: str
) -> set[tuple[str, int]]:
    """Return (artifact id, version) of the names with a prefix that the caller may read."""
    names = await resources.ask(resources.metadata.list_names, tenant)
    return {
        (one.artifact_id, one.version)
        for one in names
        if one.name.startswith(prefix)
        and not resources.authorizer.denies(principal, artifact_resource(one.name), "read")
    }


async def _visible(
    resources: Resources,
    tenant: str,
    principal: Principal,
    listing: partial[Page | Refused],
    named: Collection[tuple[str, int]] | None,
) -> AsyncIterator[ArtifactRecord]:
    known: dict[str, bool] = {}  # by inputs, which many results share
    offset = 0
    while True:
        page = await resources.ask(listing, tenant, limit=CHUNK, offset=offset)
        if isinstance(page, Refused):
            raise RefusalError(page)
        for record in page.artifacts:
            if named is not None and (record.artifact_id, record.version) not in named:
                continue
            if resources.authorizer.denies(principal, artifact_resource(record.artifact_id), "read"):
                continue
            if record.input_versions not in known:
                known[record.input_versions] = await resources.may_read(principal, record.inputs)
            if known[record.input_versions]:
                yield record
        offset += len(page.artifacts)
        if len(page.artifacts) < CHUNK:
            return

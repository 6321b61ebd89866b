"""What an actor tells administrators: its state, builds and streams; and how they end builds."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import trio

from strata.auth import Principal
from strata.cache import CacheShard
from strata.outcomes import Refused
from strata.tables.scan.cell_grants import snapshot_of
from strata.tenants import messages as m
from strata.tenants.auditing.access_audit import rule_words
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.state import Build, Stream
from strata.tenants.limits.model import TenantLimits
from strata.tenants.retention_messages import (
    BuildLine,
    BuildsListed,
    BuildsStopped,
    ListBuilds,
    ListStreams,
    StopBuilds,
    StreamLine,
    StreamsListed,
    WorkFilter,
)
from strata.tenants.shared.left_streams import LeftStream
from strata.tenants.shared.resources import Resources

MOST_TABLES = 16
"""Tables of a build that are listed with their rules."""


STOP_SECONDS = 10.0
"""Seconds to wait for the end of builds that were ended; then they are ending still."""


class Introspected(Protocol):
    """The parts of an actor that administrators are told of."""

    @property
    def limits(self) -> TenantLimits:
        """The tenant's limits."""

    @property
    def resources(self) -> Resources:
        """The process's shared resources."""

    @property
    def busy(self) -> int:
        """Questions being answered."""

    @property
    def shard(self) -> CacheShard:
        """The tenant's cache."""

    @property
    def opened_materializer(self) -> Materializer:
        """The tenant's builds."""


async def describe(actor: Introspected, _question: m.Describe) -> m.Description:
    """Describe limits, slots, running builds, streams and cache."""
    materializer = actor.opened_materializer
    return m.Description(
        limits=actor.limits,
        slots=tuple(
            m.SlotUse(tier.value, held.total, held.used, held.waiting)
            for tier, held in materializer.builder.slots.items()
        ),
        in_flight=tuple(
            m.InFlight(
                None if build.record is None else build.record.build_id,
                build.progress,
                tuple(build.principals),
            )
            for build in materializer.running.values()
        ),
        questions=actor.busy - 1,  # this one aside
        streams=materializer.unread,
        cache=actor.shard.stats(),
    )


def _chosen(builds: Iterable[Build], chosen: WorkFilter) -> list[Build]:
    return [
        build
        for build in builds
        if chosen.chooses(
            (None if build.record is None else build.record.build_id,), build.principals, build.state
        )
    ]


async def list_builds(actor: Introspected, question: ListBuilds) -> BuildsListed:
    """List a page of the running builds, in the order of their keys."""
    materializer = actor.opened_materializer
    behind = (build for build in materializer.running.values() if build.key > question.after)
    found = sorted(_chosen(behind, question.chosen), key=lambda build: build.key)
    page = found[: question.limit]
    return BuildsListed(tuple(_line(actor.resources, build) for build in page), len(found) > len(page))


def _line(resources: Resources, build: Build) -> BuildLine:
    record = build.record
    return BuildLine(
        place=build.key,
        build_id=None if record is None else record.build_id,
        artifact=None if record is None else (record.artifact_id, record.version),
        state=build.state,
        waits_for=_waits_for(build),
        principals=tuple(build.principals),
        tables=tuple(_tables(resources, build)),
        tables_cut=len(build.inputs) > MOST_TABLES,
        rows_done=build.rows_done
        if build.rows_planned
        else 0,  # else the rows read would tell of hidden ones
        rows_planned=build.rows_planned,
        nbytes=0 if build.tail is None else build.tail.size,
        progress=build.progress,
        readers=build.readers,
    )


def _waits_for(build: Build) -> str | None:
    for lease in (build.lease, build.memory):
        if lease is not None and lease.claim.waiting:
            return lease.limit
    return None


def _tables(resources: Resources, build: Build) -> Iterable[tuple[str, str | None, str, bool]]:
    """Yield the rights of a build's first caller on its tables; results among its inputs are left out."""
    caller = _first(build)
    for uri, version in build.inputs[:MOST_TABLES]:
        ref = resources.catalogs.resolve(uri)
        if isinstance(ref, Refused) or caller is None:
            continue
        resource, decision = resources.authorizer.decision(caller, ref)
        yield resource, snapshot_of(version), rule_words(decision), decision.allowed


def _first(build: Build) -> Principal | None:
    """Return the caller that asked for a build first; None while its request is still joining it."""
    for name in build.principals:
        for caller in build.callers:
            if caller.id == name:
                return caller
    return None


async def list_streams(actor: Introspected, question: ListStreams) -> StreamsListed:
    """List a page of the streams that wait for their reader or were read, in the order of their ids."""
    materializer, now = actor.opened_materializer, trio.current_time()
    both: Mapping[str, Stream | LeftStream] = {**materializer.read, **materializer.streams}
    found = (
        name
        for name, stream in both.items()
        if name > question.after
        and stream.expires > now
        and question.chosen.chooses((name,), (stream.owner,), _state(name in materializer.streams, stream))
    )
    page = heapq.nsmallest(question.limit + 1, found)
    lines = [
        StreamLine(
            stream_id=name,
            owner=both[name].owner,
            state=_state(name in materializer.streams, both[name]),
            artifact=_result(both[name]),
            seconds=both[name].expires - now,
        )
        for name in page[: question.limit]
    ]
    return StreamsListed(tuple(lines), len(page) > question.limit)


def _state(unread: bool, stream: Stream | LeftStream) -> str:  # noqa: FBT001  # a fact, no switch
    if not unread:
        return "read"
    return "being read" if isinstance(stream, Stream) and stream.build.readers else "unread"


def _result(stream: Stream | LeftStream) -> tuple[str, int] | None:
    if isinstance(stream, LeftStream):
        return stream.artifact_id, stream.version
    record = stream.build.record
    return None if record is None else (record.artifact_id, record.version)


async def stop_builds(actor: Introspected, question: StopBuilds) -> BuildsStopped:
    """End the chosen builds, and wait for their end; of a principal, those that it alone asked for."""
    found = _chosen(actor.opened_materializer.running.values(), question.chosen)
    stopped = [build for build in found if build.end(question.chosen.principal)]
    with trio.move_on_after(STOP_SECONDS):
        for build in stopped:
            await build.done.wait()
    return BuildsStopped(len(found), len(stopped))


INTROSPECTION: Mapping[type, Callable[[Any, Any], Awaitable[object]]] = {
    m.Describe: describe,
    ListBuilds: list_builds,
    ListStreams: list_streams,
    StopBuilds: stop_builds,
}
"""What answers each kind of question of administrators, given the actor and the question."""

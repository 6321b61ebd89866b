"""The inputs of a transform: tables, which are scanned with the caller's rights, and finished results.

``remote`` sends them to an executor, or lets it fetch them by signed URLs.
"""

from __future__ import annotations

from collections.abc import Collection

import attrs

from strata.artifacts import ArtifactRecord, ArtifactState
from strata.artifacts.metadata.naming import ALIAS_SIGN
from strata.auth import Principal
from strata.outcomes import Refused
from strata.tenants import messages as m
from strata.tenants.builds.materialize import SCAN, Materializer
from strata.tenants.builds.runner import BuildRequest, Order
from strata.tenants.results.read import ARTIFACT_NOT_FOUND, NAME_NOT_FOUND, Reader
from strata.tenants.shared.artifact_inputs import SCHEME, artifact_of, input_version, name_of, uri_of


@attrs.frozen(eq=False)
class Input:
    """An input of a transform, resolved for one caller.

    Attributes:
        uri: Its URI as it is noted with the result: a table's as sent, a result's with its version.
        version: Its version.
        identity: What stands for it in the identity of the result: the resource of a table, or a result's
            content.
        query: The same without the version.
        scan: The scan of a table; None for a result.
        record: A finished result; None for a table.
    """

    uri: str
    version: str
    identity: tuple[str, str]
    query: str
    scan: BuildRequest | None = None
    record: ArtifactRecord | None = None


@attrs.frozen(eq=False)
class InputResolver:
    """Resolves inputs for one tenant, within the caller's rights."""

    materializer: Materializer
    reader: Reader

    async def resolve(self, principal: Principal, uris: Collection[str]) -> tuple[Input, ...] | Refused:
        """Return the inputs in their order, or the first refusal: that of reading the input itself.

        Raises:
            RefusalError: If a store does not answer, or an input was made from too many others.
        """
        found: dict[str, Input] = {}
        for uri in uris:
            if uri in found:
                continue
            one = await self._one(principal, uri)
            if isinstance(one, Refused):
                return one
            found[uri] = one
        return tuple(found[uri] for uri in uris)

    async def _one(self, principal: Principal, uri: str) -> Input | Refused:
        if uri.startswith(SCHEME):
            return await self._result(principal, uri)
        scanned = await self.materializer.resolve(principal, m.Transformation((uri,), SCAN, {}))
        if isinstance(scanned, Refused):
            return scanned
        scan, provenance = scanned
        resource = scan.table.ref.resource
        return Input(
            uri,
            scan.version,
            (resource, scan.version),
            resource + scan.view,
            scan=BuildRequest(scan, provenance, SCAN, None, principal.id),
        )

    async def _result(self, principal: Principal, uri: str) -> Input | Refused:
        name, target = name_of(uri), artifact_of(uri)
        for build in [*self.materializer.running.values()]:
            if build.tail is not None and build.tail.ended:
                await build.done.wait()  # a client that has read all of a result may use it at once
        record = None
        if name is not None:
            named = await self.reader.named(principal, name)
            base, sign, alias = name.rpartition(ALIAS_SIGN)
            if named is None and sign:
                aliased = await self.reader.aliased(principal, base, alias)
                record = None if aliased is None else aliased[1]
            else:
                record = None if named is None else named[1]
        elif target is not None:
            record = await self.reader.readable(principal, *target)
        if record is None or record.state is not ArtifactState.READY:
            return NAME_NOT_FOUND if name is not None else ARTIFACT_NOT_FOUND
        found, digest = uri_of(record.artifact_id, record.version), record.content_sha256 or ""
        return Input(found, input_version(record), (found, digest), found, record=record)


async def result_of(
    materializer: Materializer, order: Order, callers: Collection[Principal]
) -> ArtifactRecord | Refused:
    """Return the finished result that is ordered, for another build; it is built now if need be."""
    build = await materializer.under_way(order.provenance.key)
    if build is None:
        ready = await materializer.finished.find(order.provenance.key)
        if ready is not None:
            return ready
        build = await materializer.under_way(order.provenance.key)
    started = build or materializer.start(order)
    if isinstance(started, Refused):
        return started
    started.ask(order.principal)
    started.callers.update(callers)
    await started.wait_admitted()
    await started.done.wait()
    assert started.outcome is not None
    return started.outcome

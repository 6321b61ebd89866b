"""What has to hold after a crash: rows, bytes, sums and audit agree, and nothing acknowledged is lost."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import obstore
import sqlalchemy as sa
import trio
from crash_load import PEOPLE

from strata.artifacts import tenant_prefix
from strata.artifacts.database.schema import artifacts, audit, builds, names, removed_versions, servers
from strata.artifacts.metadata.rows import artifact_record
from strata.artifacts.metadata.usage import stored_bytes
from strata.config import Settings
from strata.server import Service, open_service
from strata.server.scratch import PREFIX
from strata.server.stores import open_bucket
from strata.tenants.retention.removed_bytes import remove_pending

TENANT = "team-a"

PATIENCE = 120.0
"""Seconds in which a server that was started anew has removed what a killed one left."""


def state_of(service: Service) -> dict[str, Any]:
    """Return all rows of the tenant."""
    store: Any = service.registry.resources.metadata
    tables = {table.name: table for table in (artifacts, audit, builds, names, removed_versions)}
    with store.reading() as connection:
        return {name: connection.execute(sa.select(table)).all() for name, table in tables.items()}


def _stored(settings: Settings) -> Iterator[tuple[str, bytes]]:
    """Yield the place and the bytes of each file or object where the results are, unfinished ones included."""
    if settings.artifact_blob_backend == "local":
        root = settings.artifact_root / "blobs"
        for path in root.rglob("*"):
            if path.is_file():
                yield f"{path.relative_to(root).parts[0]}/{path.name}", path.read_bytes()
        return
    store, prefix = open_bucket(settings)
    for page in obstore.list(store, prefix):
        for one in page:
            place = one["path"].removeprefix(f"{prefix}/")
            yield place, bytes(obstore.get(store, one["path"]).bytes())


async def check(settings: Settings, acknowledged: Iterable[tuple[str, Any]]) -> None:
    """Start anew, and compare rows, bytes, sums and audit with each other and with what was acknowledged."""
    if settings.artifact_metadata_dsn is not None:
        engine = sa.create_engine(
            settings.artifact_metadata_dsn.replace("postgresql:", "postgresql+psycopg:")
        )
        with engine.begin() as connection:
            connection.execute(servers.delete())  # the lease of the killed one is over
        engine.dispose()
    async with open_service(settings) as service:
        resources = service.registry.resources
        await _nothing_pending(service)
        rows = state_of(service)
        usage = resources.retention.usage(TENANT)
        ready = {(one.artifact_id, one.version): one for one in rows["artifacts"] if one.state == "ready"}
        await _readable(service, ready)
    assert [] == [build for build in rows["builds"] if build.state in ("building", "pending")]
    stored = dict(_stored(settings))
    places = {key: f"{tenant_prefix(TENANT)}/{one.content_sha256}.arrow" for key, one in ready.items()}
    leftovers = sorted(stored.keys() - set(places.values()))
    assert not leftovers, (
        f"leftovers: {leftovers}; of builds {rows['builds']}; removed {rows['removed_versions']}"
    )
    assert [] == sorted(set(places.values()) - stored.keys()), "bytes that are missing"
    for key, place in places.items():
        assert ready[key].content_sha256 == hashlib.sha256(stored[place]).hexdigest(), "ready and damaged"
    _audited(rows, ready.keys(), acknowledged)
    assert sum(stored_bytes(artifact_record(one)) for one in rows["artifacts"]) == usage.stored_bytes
    assert len(rows["artifacts"]) == usage.versions
    assert [] == [*Path(tempfile.gettempdir()).glob(f"{PREFIX}*")], "a scratch directory is left"


async def _nothing_pending(service: Service) -> None:
    """Remove what removals have left. A server that is late to renew its lease removes nothing until it has."""
    resources = service.registry.resources
    with trio.fail_after(PATIENCE):
        while resources.retention.pending(1, tenant=None):
            await remove_pending(resources, TENANT, of_all=True)
            await trio.sleep(0.05)


async def _readable(service: Service, ready: dict[tuple[str, int], Any]) -> None:
    """Read each finished result, and what each name points at."""
    transport = httpx.ASGITransport(app=service.app)  # type: ignore[arg-type]  # ASGI by its own types
    async with httpx.AsyncClient(transport=transport, base_url="http://strata", headers=PEOPLE) as client:
        for (artifact_id, version), one in ready.items():
            data = await client.get(f"/v1/artifacts/{artifact_id}/v/{version}/data")
            assert 200 == data.status_code, data.text
            assert one.content_sha256 == hashlib.sha256(data.content).hexdigest()
        listing = await client.get("/v1/names")
        assert 200 == listing.status_code, listing.text
        for name in listing.json()["names"]:
            uri = name["artifact_uri"]
            artifact_id, _, version = uri.removeprefix("strata://artifact/").partition("@v=")
            assert (artifact_id, int(version)) in ready, "a name points nowhere"


def _audited(
    rows: dict[str, Any], ready: Iterable[tuple[str, int]], acknowledged: Iterable[tuple[str, Any]]
) -> None:
    """Compare names and removals with the audit, and both with what was acknowledged."""
    told: dict[str, dict[str, Any]] = {}
    removals: set[tuple[str, int]] = set()
    for act in sorted(rows["audit"], key=lambda act: act.id):
        if act.action == "name.set":
            told[act.name] = json.loads(act.new)
        for one in json.loads(act.old or "{}").get("versions", ()):
            removals.add((one["artifact_id"], one["version"]))
    assert {name.name: (name.artifact_id, name.version) for name in rows["names"]} == {
        name: (new["artifact_id"], new["version"]) for name, new in told.items()
    }, "audit and state disagree"
    assert removals <= {(one.artifact_id, one.version) for one in rows["removed_versions"]}
    assert removals.isdisjoint(ready), "a removed version is there again"
    for kind, what in acknowledged:
        if kind == "ready":
            artifact_id, _, version = what.removeprefix("strata://artifact/").partition("@v=")
            assert (artifact_id, int(version)) in {*ready, *removals}, "an acknowledged result is lost"
        if kind == "name":
            assert what in told

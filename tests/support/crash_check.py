"""What has to hold after a crash: rows, bytes, sums and audit agree, and nothing acknowledged is lost."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from strata.artifacts import tenant_prefix
from strata.artifacts.database.schema import artifacts, audit, builds, names, removed_versions, servers
from strata.artifacts.metadata.rows import artifact_record
from strata.artifacts.metadata.usage import stored_bytes
from strata.config import Settings
from strata.server import Service, open_service
from strata.tenants.retention.removed_bytes import remove_pending

TENANT = "team-a"


def lines_of(file: Path) -> Iterator[dict[str, Any]]:
    for line in file.read_bytes().split(b"\n")[:-1]:
        yield json.loads(line)


def state_of(service: Service) -> dict[str, Any]:
    """Return all rows of the tenant."""
    store: Any = service.registry.resources.metadata
    tables = {table.name: table for table in (artifacts, audit, builds, names, removed_versions)}
    with store.reading() as connection:
        return {name: connection.execute(sa.select(table)).all() for name, table in tables.items()}


async def check(settings: Settings, acknowledged: Path) -> Counter[str]:
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
        await remove_pending(resources, TENANT, of_all=True)
        rows = state_of(service)
        usage = resources.retention.usage(TENANT)
    unfinished = [build for build in rows["builds"] if build.state in ("building", "pending")]
    assert [] == unfinished
    ready = {(one.artifact_id, one.version): one for one in rows["artifacts"] if one.state == "ready"}
    root = settings.artifact_root / "blobs"
    for one in ready.values():
        blob = root / tenant_prefix(TENANT) / one.content_sha256[:2] / f"{one.content_sha256}.arrow"
        assert one.content_sha256 == hashlib.sha256(blob.read_bytes()).hexdigest(), "ready and damaged"
    for name in rows["names"]:
        assert (name.artifact_id, name.version) in ready, "a name points nowhere"
    told: dict[str, dict[str, Any]] = {}
    for act in sorted(rows["audit"], key=lambda act: act.id):
        if act.action == "name.set":
            told[act.name] = json.loads(act.new)
    assert {name.name: (name.artifact_id, name.version) for name in rows["names"]} == {
        name: (new["artifact_id"], new["version"]) for name, new in told.items()
    }, "audit and state disagree"
    removed = {(one.artifact_id, one.version) for one in rows["removed_versions"]}
    for line in lines_of(acknowledged):
        if "ready" in line:
            artifact_id, _, version = line["ready"].removeprefix("strata://artifact/").partition("@v=")
            assert (artifact_id, int(version)) in ready.keys() | removed, "an acknowledged result is lost"
        if "name" in line:
            assert line["name"] in told
    assert sum(stored_bytes(artifact_record(one)) for one in rows["artifacts"]) == usage.stored_bytes
    assert len(rows["artifacts"]) == usage.versions
    files = {path.name for path in root.rglob("*") if path.is_file()}
    assert {f"{one.content_sha256}.arrow" for one in ready.values()} == files, (
        "leftovers, or bytes that are missing"
    )
    return Counter(next(iter(line)) for line in lines_of(acknowledged))

"""Stores with results, names, aliases, tags and pins, and their contents for comparison."""

import hashlib
import json
import os
from pathlib import Path

import sqlalchemy as sa

from strata.artifacts import Act, LocalBlobStore, NameOrder, SqlMetadataStore
from strata.artifacts.database.schema import (
    aliases,
    artifact_inputs,
    artifacts,
    names,
    pins,
    tags,
    tenant_usage,
)
from strata.artifacts.moving.copying import Side
from strata.artifacts.registry.sql_registry import SqlRegistry
from strata.auth import DEFAULT_TENANT

TOKEN = "a-token-of-twenty-characters"


def data_of(number: int) -> bytes:
    return b"result %d " % number * (number % 50 + 1)


def act(action: str = "name.set", tenant: str = DEFAULT_TENANT, principal: str = "local") -> Act:
    return Act(tenant=tenant, principal=principal, principal_tenant=tenant, action=action, request_id="r")


def add(side: Side, number: int, *, inputs: tuple[tuple[str, str], ...] = ()) -> tuple[str, int]:
    """Add a finished result and return its version."""
    key = hashlib.sha256(b"%d" % number).hexdigest()
    build = side.store.begin_build(
        side.tenant, build_id=f"b{number}", provenance_hash=key, query_hash=key,
        transform_spec=json.dumps({"number": number}), input_versions=inputs, executor_ref="scan@v1", name=None,
    )  # fmt: skip
    writer = side.blobs.begin(side.prefix)
    writer.append([data_of(number)])
    side.store.finish_build(
        side.tenant, build.build_id, facts=writer.commit(), row_count=number, arrow_schema=f"schema {number}"
    )
    return build.artifact_id, build.version


def side_of(root: Path, tenant: str = DEFAULT_TENANT) -> Side:
    root.mkdir(parents=True, exist_ok=True)
    return Side(
        SqlMetadataStore(root / "metadata.db", lambda: 1000.0), LocalBlobStore(root / "blobs"), tenant
    )


def fill(side: Side, count: int) -> list[tuple[str, int]]:
    """Fill a store with results, names, aliases, tags and pins."""
    registry = SqlRegistry(side.store)
    versions = [add(side, number) for number in range(count)]
    first = versions[0]
    uri = f"strata://artifact/{first[0]}@v={first[1]}"
    versions.append(add(side, count, inputs=((uri, "1"),)))
    for number, version in enumerate(versions[:20]):
        order = NameOrder(name=f"daily/{number}", act=act(tenant=side.tenant))
        assert registry.set_name(side.tenant, order, version)
        registry.set_alias(side.tenant, order, "production", version)
        registry.set_tag(side.tenant, version, "team", f"t{number}", act("tag.set", side.tenant))
        registry.pin(side.tenant, version, "report", act("artifact.pin", side.tenant))
    return versions


def content(side: Side) -> dict[str, object]:
    """Return all of a tenant's results with what hangs on them, bytes by their hash, without the tenant."""
    found: dict[str, object] = {}
    with side.store.reading() as connection:
        for table, left_out in (
            (artifacts, ("tenant", "used_at")), (names, ("tenant", "owner")), (aliases, ("tenant", "owner")),
            (tags, ("tenant",)), (pins, ("tenant", "pinned_by")), (artifact_inputs, ("tenant",)),
            (tenant_usage, ("tenant",)),
        ):  # fmt: skip
            rows = connection.execute(sa.select(table).where(table.c.tenant == side.tenant)).mappings()
            found[table.name] = sorted(
                json.dumps({key: value for key, value in row.items() if key not in left_out}) for row in rows
            )
        rows = connection.execute(sa.select(artifacts).where(artifacts.c.tenant == side.tenant)).all()
    found["bytes"] = {}
    for row in rows:
        reader = side.blobs.open_reader(side.prefix, row.content_sha256, row.byte_size)
        assert not hasattr(reader, "reason"), row
        data = reader.read(0, row.byte_size + 1)
        os.close(reader.fd)
        assert hashlib.sha256(data).hexdigest() == row.content_sha256
        found["bytes"][row.artifact_id] = row.content_sha256  # type: ignore[index]  # a dictionary
    return found


def service(tmp_path: Path) -> dict[str, str]:
    return {
        "STRATA_DEPLOYMENT_MODE": "service", "STRATA_AUTH_MODE": "trusted_proxy", "STRATA_PROXY_TOKEN": TOKEN,
        "STRATA_MULTI_TENANT_ENABLED": "true", "STRATA_ARTIFACT_DIR": str(tmp_path / "service"),
        "STRATA_CACHE_DIR": str(tmp_path / "cache"),
    }  # fmt: skip

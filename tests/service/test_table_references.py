"""Tables by reference: an executor is told where a snapshot is only for callers who may read all of it."""

from __future__ import annotations

import json

import attrs
import pyarrow as pa
from executor_kit import ScriptedExecutor, answer, scripted, stream_of
from service_kit import Warehouse, fetch, identity, numbers, running

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection

WHOLE = stream_of(pa.record_batch({"n": pa.array([1, 2, 3], pa.int64())}))
BODY = {"inputs": ["wh:db.events"], "transform": {"executor": "sql@v1", "params": {"sql": "SELECT 1"}}}
NOT_EXACT = answer(
    b'{"success":false,"error_code":"TableNotExact","error_message":"it has delete files"}',
    status="400 Bad",
    kind="application/json",
)


def by_reference(settings: Settings, server: ScriptedExecutor) -> Settings:
    entry = RegisteredTransform("sql@v1", server.url, tables="reference")
    return attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=(entry,)))


def inputs_of(body: bytes) -> list[dict]:
    text = body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--", 1)[0]
    return json.loads(text)["inputs"]


async def test_a_snapshot_is_named_and_no_row_is_read_or_sent(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The metadata file and the snapshot of the request; the server builds no scan."""
    table = warehouse.create(numbers(5))
    async with scripted(answer(WHOLE)) as server, running(by_reference(settings, server)) as service:  # noqa: SIM117  # too long for one line
        async with service.client() as client:
            assert 3 == (await fetch(client, BODY)).num_rows
    [found] = inputs_of(server.bodies[0])
    assert "iceberg_snapshot" == found["format"]
    assert table.metadata.current_snapshot_id == found["table"]["snapshot_id"]
    assert found["table"]["metadata_location"].endswith(table.metadata_location.rpartition("/")[2])
    assert str(warehouse.path.resolve()) == found["table"]["root"]
    assert b"input0.arrow" not in server.bodies[0]


async def test_rows_are_sent_where_the_executor_does_not_read_the_table_exactly(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The next attempt at the same build has them, and no reference."""
    warehouse.create(numbers(5))
    async with scripted(NOT_EXACT, answer(WHOLE)) as server:  # noqa: SIM117  # too long for one line
        async with running(by_reference(settings, server)) as service, service.client() as client:
            assert 3 == (await fetch(client, BODY)).num_rows
    [found] = inputs_of(server.bodies[1])
    assert "arrow_ipc_stream" == found["format"]
    assert "table" not in found
    assert b"input0.arrow" in server.bodies[1]
    assert "x-strata-attempt: 2" in server.heads[1].lower()


async def test_what_hides_cells_is_never_named(settings: Settings, warehouse: Warehouse) -> None:
    """A principal with some rows or columns has the rows that it may read sent; no location is told."""
    warehouse.create(numbers(5))
    allow = (
        Rule("ana", "tables/wh/db/*", columns=("id",)),
        Rule("bob", "tables/wh/db/*", rows="id < 2"),
    )
    settings = attrs.evolve(settings, acl_config=Policy(default="deny", allow=allow))
    async with scripted(answer(WHOLE)) as server, running(by_reference(settings, server)) as service:
        for who in ("ana", "bob"):
            async with service.client(**identity(who, "team-a")) as client:
                await fetch(client, BODY)
    assert 2 == len(server.bodies)
    for body in server.bodies:
        assert ["arrow_ipc_stream"] == [one["format"] for one in inputs_of(body)]
        assert b"metadata_location" not in body

"""Answers without a message to the actor: they equal those that a message would get."""

from __future__ import annotations

from typing import Any

import attrs
import httpx
import pyarrow as pa
import pytest
import structlog
import trio
from service_kit import Running, Warehouse, identity, numbers, running, scan

from strata import acl
from strata.config import Settings
from strata.tables import LoadedTable, resolve_scan
from strata.tenants import Registry
from strata.tenants import messages as m
from strata.tenants.builds import materialize, provenance
from strata.tenants.lifecycle.actor import HANDLERS, TenantActor
from strata.tenants.lifecycle.envelope import Envelope

ONE_COLUMN = acl.Policy(
    allow=(acl.Rule("ana", "tables/**"), acl.Rule("eve", "tables/wh/db/events", columns=("id",)))
)


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the messages that are put into a mailbox, by kind."""
    sent: list[str] = []
    real = Registry._put

    async def noted(self: Registry, found: Any, envelope: Envelope) -> Any:
        sent.append(type(envelope.question).__name__)
        return await real(self, found, envelope)

    monkeypatch.setattr(Registry, "_put", noted)
    return sent


async def pair(client: httpx.AsyncClient, **more: Any) -> tuple[bool, pa.Table]:
    """Materialize and fetch; return whether it was a hit, and the rows."""
    answer = await client.post("/v1/materialize", json=scan("wh:db.events", **more))
    assert 200 == answer.status_code, answer.text
    found = answer.json()
    data = await client.get(found["stream_url"])
    assert 200 == data.status_code, data.text
    return found["hit"], pa.ipc.open_stream(data.content).read_all()


async def settled(client: httpx.AsyncClient, messages: list[str], **more: Any) -> pa.Table:
    """Repeat the request until the pair is a hit whose bytes are remembered."""
    with trio.fail_after(10):
        while not (await pair(client, **more))[0]:
            pass
    rows = (await pair(client, **more))[1]
    messages.clear()
    return rows


async def test_a_dashboards_pair_takes_no_message(
    server: Running, warehouse: Warehouse, messages: list[str]
) -> None:
    """A repeated pair sends no message, and the next one sees every change."""
    table = warehouse.create(numbers(10))
    async with server.client() as client:
        rows = await settled(client, messages)
        before = server.service.registry.metrics_of("team-a").hits
        assert (True, rows) == await pair(client)
        assert [] == messages
        assert before + 1 == server.service.registry.metrics_of("team-a").hits

        table.append(numbers(5))
        hit, more = await pair(client)
        assert (False, 15) == (hit, more.num_rows)
        assert ["Materialize", "OpenStream"] == messages

        settled_rows = await settled(client, messages)
        assert more == settled_rows
        for asked in ({"refresh": True}, {"name": "totals"}):
            await pair(client, **asked)
            assert "Materialize" == messages[0], "what is to be written down goes the long way"
            await settled(client, messages)


async def test_another_tenant_and_a_denied_principal_get_nothing_at_once(
    settings: Settings, warehouse: Warehouse, messages: list[str]
) -> None:
    """Only callers that the current rules permit get the remembered result."""
    warehouse.create(numbers(10))
    everybody = acl.Policy(allow=(acl.Rule("*", "tables/**"),))
    async with running(attrs.evolve(settings, acl_config=everybody)) as server:
        gate = server.service.registry.resources.authorizer
        async with (
            server.client(**identity("ana", "team-a")) as ana,
            server.client(**identity("eve", "team-a")) as eve,
            server.client(**identity("ana", "team-b")) as other,
        ):
            rows = await settled(ana, messages)
            url = (await ana.post("/v1/materialize", json=scan("wh:db.events"))).json()["stream_url"]
            assert (True, rows) == await pair(eve)
            assert [] == messages
            assert 404 == (await other.get(url)).status_code
            hit, _ = await pair(other)
            assert not hit
            messages.clear()

            gate.policy = ONE_COLUMN
            assert 404 == (await eve.get(url)).status_code
            assert ["OpenArtifact"] == messages
            hit, part = await pair(eve)
            assert (False, ["id"]) == (hit, part.column_names)
            messages.clear()
            assert (True, rows) == await pair(ana)
            assert [] == messages

            gate.policy = acl.Policy(deny=(acl.Rule("ana", "artifacts/**"),), allow=everybody.allow)
            assert 404 == (await ana.get(url)).status_code
            gate.policy = acl.Policy(deny=(acl.Rule("*", "transforms/**"),), allow=everybody.allow)
            refused = await ana.post("/v1/materialize", json=scan("wh:db.events"))
            assert "transform_not_allowed" == refused.json()["error"]


async def test_a_bug_in_it_ends_its_request_alone(
    server: Running, warehouse: Warehouse, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the short path is answered 500, logged once, and crashes no actor."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await settled(client, messages)

        def broken(_actor: TenantActor, _question: m.Materialize) -> None:
            raise RuntimeError("on purpose")

        with monkeypatch.context() as patched:
            patched.setitem(HANDLERS, m.Materialize, broken)
            with structlog.testing.capture_logs() as logged:
                answer = await client.post("/v1/materialize", json=scan("wh:db.events"))
        assert (500, "internal") == (answer.status_code, answer.json()["error"])
        assert [] == messages
        assert ["question crashed"] == [line["event"] for line in logged if line["log_level"] == "error"]
        assert 0 == server.service.registry.metrics_of("team-a").restarts


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tables of the scans that were resolved, in order."""
    found: list[str] = []

    def noted(table: LoadedTable, *rest: Any, **named: Any) -> Any:
        found.append(table.ref.table)
        return resolve_scan(table, *rest, **named)

    for module in (materialize, provenance):
        monkeypatch.setattr(module, "resolve_scan", noted)
    return found


async def test_a_miss_resolves_its_scan_once(
    server: Running, warehouse: Warehouse, messages: list[str], resolved: list[str]
) -> None:
    """Of a table that has to be loaded, and of one that is: what was resolved at once goes along."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        assert (False, ["id"]) == await columns(client, ["id"])
        assert ["events"] == resolved
        assert (False, ["value"]) == await columns(client, ["value"])
        assert ["events", "events"] == resolved
    assert ["Materialize", "OpenStream"] * 2 == messages


async def columns(client: httpx.AsyncClient, names: list[str]) -> tuple[bool, list[str]]:
    hit, rows = await pair(client, params={"columns": names})
    return hit, rows.column_names


@pytest.mark.parametrize("loaded", [True, False])
async def test_rules_replaced_while_a_question_is_in_the_mailbox_are_those_that_decide(
    settings: Settings,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    loaded: bool,  # noqa: FBT001  # a parameter
) -> None:
    """What was looked up by the old ones is not built, whether its table was loaded or not."""
    warehouse.create(numbers(10))
    everybody = acl.Policy(allow=(acl.Rule("*", "tables/**"),))
    async with (
        running(attrs.evolve(settings, acl_config=everybody)) as server,
        server.client(**identity("eve", "team-a")) as eve,
    ):
        if loaded:
            await pair(eve)
        real = Registry._put

        async def replaced(self: Registry, found: Any, envelope: Envelope) -> Any:
            self.resources.authorizer.policy = ONE_COLUMN
            return await real(self, found, envelope)

        monkeypatch.setattr(Registry, "_put", replaced)
        assert (False, ["id"]) == await every_column(eve)


async def every_column(client: httpx.AsyncClient) -> tuple[bool, list[str]]:
    hit, rows = await pair(client, params={"filters": [{"column": "id", "op": ">=", "value": 3}]})
    return hit, rows.column_names


async def test_a_snapshot_written_while_a_question_is_in_the_mailbox_is_read(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan is resolved again where the table's metadata has been replaced."""
    table = warehouse.create(numbers(10))
    async with server.client() as client:
        await columns(client, ["id"])
        real = Registry._put

        async def appended(self: Registry, found: Any, envelope: Envelope) -> Any:
            if isinstance(envelope.question, m.Materialize):
                await trio.to_thread.run_sync(table.append, numbers(5))
            return await real(self, found, envelope)

        monkeypatch.setattr(Registry, "_put", appended)
        _, rows = await pair(client, params={"columns": ["value"]})
        assert 15 == rows.num_rows

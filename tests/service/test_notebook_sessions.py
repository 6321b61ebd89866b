"""Live sessions over HTTP: cells run, results are shared and reused, and rights hold for each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs
import httpx
import pytest
import trio
from service_kit import Running, Warehouse, identity, numbers, running

from strata.acl import CompiledPolicy, Policy, Rule
from strata.auth import Principal
from strata.config import Settings
from strata.config.fields import NotebookWorker
from strata.tenants.sessions.sessions import NotebookSessions

ALL = "notebook:read notebook:write notebook:execute"
RULES = Policy(
    deny=(Rule("eve", "notebooks/**"), Rule("rob", "notebooks/**", action="run"), Rule("ben", "tables/**")),
    allow=(Rule("*", "notebooks/**"), Rule("*", "tables/**"), Rule("root", "admin/**")),
)
PEOPLE = {
    "ana": identity("ana", "team-a", ALL),
    "ben": identity("ben", "team-a", ALL),
    "cyn": identity("cyn", "team-a", ALL),
    "bob": identity("bob", "team-b", ALL),
    "eve": identity("eve", "team-a", ALL),
    "rob": identity("rob", "team-a", ALL),
    "reader": identity("ana", "team-a", "notebook:read"),
    "runner": identity("ana", "team-a", "notebook:execute admin:*"),
}
LIMITS = NotebookWorker("local", memory_bytes=256 << 20, wall_seconds=300, console_bytes=10_000)

WAITS = "print('on')\nimport threading\nthreading.Event().wait()"
"""A cell that runs until it is interrupted, and takes no processor time."""


@attrs.define
class People:
    """A client of each of :data:`PEOPLE`."""

    server: Running
    clients: dict[str, httpx.AsyncClient]

    def __getattr__(self, name: str) -> httpx.AsyncClient:
        return self.clients[name]


@pytest.fixture
def notebook_settings(settings: Settings) -> Settings:
    return attrs.evolve(settings, acl_config=RULES, notebook_workers=(LIMITS,))


@pytest.fixture
async def people(notebook_settings: Settings) -> AsyncIterator[People]:
    async with serving(notebook_settings) as found:
        yield found


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[People]:
    async with running(settings) as server, AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(server.client(**headers))
            for name, headers in PEOPLE.items()
        }
        yield People(server, clients)


async def make(client: httpx.AsyncClient, *sources: str, **more: object) -> str:
    """Create a notebook with cells ``c0``, ``c1`` …; returns its name."""
    cells = [{"id": f"c{place}", "source": source} for place, source in enumerate(sources)]
    answer = await client.post("/v1/notebooks", json={"title": "Flights", "cells": cells, **more})
    assert 201 == answer.status_code, answer.text
    return answer.json()["name"]


async def replace(client: httpx.AsyncClient, name: str, cell: str, source: str) -> None:
    revision = (await client.get(f"/v1/notebooks/{name}")).json()["revision"]
    body = {"revision": revision, "edits": [{"op": "replace", "id": cell, "source": source}]}
    assert 200 == (await client.post(f"/v1/notebooks/{name}/edits", json=body)).status_code


async def follow(client: httpx.AsyncClient, name: str, after: int) -> tuple[list[tuple], dict]:
    """Follow the events until nothing runs or waits; returns them and the session."""
    seen = []
    with trio.fail_after(240):
        while True:
            answer = await client.get(
                f"/v1/notebooks/{name}/session/events", params={"after": after, "wait": 5}
            )
            assert 200 == answer.status_code, answer.text
            seen += [(one["type"], one["payload"]) for one in answer.json()["events"]]
            after = answer.json()["seq"]
            session = (await client.get(f"/v1/notebooks/{name}/session")).json()
            if all("idle" == cell["status"] for cell in session["cells"]) and session["seq"] == after:
                return seen, session


async def run(client: httpx.AsyncClient, name: str, *cells: str, force: bool = False) -> tuple[dict, dict]:
    """Run cells; returns how each run ended, and the session."""
    before = (await client.get(f"/v1/notebooks/{name}/session")).json()["seq"]
    body = {"cells": list(cells) or None, "force": force}
    answer = await client.post(f"/v1/notebooks/{name}/session/run", json=body)
    assert 202 == answer.status_code, answer.text
    seen, session = await follow(client, name, before)
    ended = {payload["cell"]: payload["how"] for kind, payload in seen if "ended" == kind}
    return ended, session


async def until_ok(client: httpx.AsyncClient, name: str) -> None:
    """Run all cells until no table's read was refused: on a busy machine the first one may take too long."""
    with trio.fail_after(240):
        while not set((await run(client, name))[0].values()) <= {"ok", "reused"}:
            pass


def cell_of(session: dict, id_: str) -> dict:
    return next(cell for cell in session["cells"] if id_ == cell["id"])


async def shown(client: httpx.AsyncClient, name: str, cell: str, **params: object) -> httpx.Response:
    return await client.get(f"/v1/notebooks/{name}/session/output", params={"cell": cell, **params})


async def test_cells_run_and_all_members_see_one_result(people: People) -> None:
    """A run of all cells leaves values and displays, which another member reads without a run."""
    name = await make(
        people.ana, "x = 41", "y = x + 1\nprint('made', y)\ny", "def f(v): return v * 2", "f(y)"
    )
    ended, session = await run(people.ana, name)
    assert {"c0": "ok", "c1": "ok", "c2": "ok", "c3": "ok"} == ended
    assert "made 42\n" == cell_of(session, "c1")["result"]["stdout"]
    assert {"x": "int"} == {
        key: one["type"] for key, one in cell_of(session, "c0")["result"]["values"].items()
    }
    assert b"42" == (await shown(people.ben, name, "c1", value="y")).content
    answer = await shown(people.ben, name, "c3", display=0)
    assert (b"84", "text/plain; charset=utf-8") == (answer.content, answer.headers["content-type"])
    assert all(
        [] == cell["stale"]
        for cell in (await people.ben.get(f"/v1/notebooks/{name}/session")).json()["cells"]
    )
    assert dict.fromkeys(["c0", "c1", "c2", "c3"], "reused") == (await run(people.ben, name))[0]


async def test_an_answer_knows_of_no_event_that_came_while_it_was_made(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page takes events behind the answer's number again: of those before it, it would never hear."""
    name = await make(people.ana, "x = 4")
    real, begun, go_on = NotebookSessions._effective, trio.Event(), trio.Event()

    async def held(self: NotebookSessions, principal: Principal, *more: Any) -> Any:
        found = await real(self, principal, *more)
        if "ben" == principal.id:
            begun.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(NotebookSessions, "_effective", held)
    path, answers = f"/v1/notebooks/{name}/session", []
    before = (await people.ana.get(path)).json()

    async def ask() -> None:
        answers.append((await people.ben.get(path)).json())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await begun.wait()
        await replace(people.ana, name, "c0", "x = 5")
        go_on.set()
    after = (await people.ana.get(path)).json()
    assert after["seq"] > before["seq"]
    assert (before["seq"], before["revision"]) == (answers[0]["seq"], answers[0]["revision"])


async def test_an_equal_value_makes_nothing_behind_it_stale(people: People) -> None:
    """An edit makes cells behind it stale; where the value is the same after all, they are fresh again."""
    name = await make(people.ana, "x = 4", "y = x % 2", "z = y + 10\nz")
    await run(people.ana, name)
    await replace(people.ben, name, "c0", "x = 6")
    session = (await people.ana.get(f"/v1/notebooks/{name}/session")).json()
    assert ["source_changed"] == [one["because"] for one in cell_of(session, "c0")["stale"]]
    assert ["upstream_stale"] == [one["because"] for one in cell_of(session, "c2")["stale"]]
    ended, session = await run(people.ben, name, "c1")
    assert {"c0": "ok", "c1": "ok"} == ended
    assert [] == cell_of(session, "c2")["stale"]
    await replace(people.ana, name, "c0", "x = 4")
    assert {"c0": "reused"} == (await run(people.ana, name, "c0"))[0]
    await replace(people.ana, name, "c0", "x = 7")
    ended, session = await run(people.ana, name, "c2")
    assert {"c0": "ok", "c1": "ok", "c2": "ok"} == ended
    assert b"11" == (await shown(people.ana, name, "c2", display=0)).content


async def test_what_was_seen_is_what_later_cells_use(people: People) -> None:
    """A random number that a member saw is the one that a cell added later reads."""
    name = await make(people.ana, "import random\nr = random.random()\nr")
    await run(people.ana, name)
    seen = (await shown(people.ana, name, "c0", display=0)).text
    body = {"revision": 1, "edits": [{"op": "insert", "id": "c1", "after": "c0", "source": "r"}]}
    await people.ben.post(f"/v1/notebooks/{name}/edits", json=body)
    assert {"c1": "ok"} == (await run(people.ben, name, "c1"))[0]
    assert seen == (await shown(people.ben, name, "c1", display=0)).text
    assert {"c0": "ok"} == (await run(people.ana, name, "c0", force=True))[0]
    assert seen != (await shown(people.ana, name, "c0", display=0)).text


async def test_errors_stop_what_is_behind_them(people: People) -> None:
    """A cell that raises says where; the cells behind it are skipped with a sentence, and others run."""
    name = await make(people.ana, "x = 1 / 0", "y = x", "z = 1", "print('a' * 20_000)")
    seen_before = (await people.ana.get(f"/v1/notebooks/{name}/session")).json()["seq"]
    ended, session = await run(people.ana, name)
    assert {"c0": "raised", "c1": "skipped", "c2": "ok", "c3": "console_limit"} == ended
    result = cell_of(session, "c0")["result"]
    assert ("ZeroDivisionError: division by zero", 1) == (result["message"], result["line"])
    assert "1 / 0" in result["traceback"]
    assert 10_000 == len(cell_of(session, "c3")["result"]["stdout"])
    events = (
        await people.ana.get(f"/v1/notebooks/{name}/session/events", params={"after": seen_before})
    ).json()
    skipped = next(one["payload"] for one in events["events"] if "skipped" == one["payload"].get("how"))
    assert "The cell c0, which comes before this one, has no result to use." == skipped["message"]


async def test_a_run_is_interrupted_and_what_waits_is_dropped(people: People) -> None:
    """An interrupt ends the cell that runs, and those that wait do not begin; another member may do it."""
    name = await make(people.ana, WAITS, "x = 1")
    await people.ana.post(f"/v1/notebooks/{name}/session/run", json={})
    after = 0
    with trio.fail_after(240):
        while True:
            found = (
                await people.ben.get(
                    f"/v1/notebooks/{name}/session/events", params={"after": after, "wait": 5}
                )
            ).json()
            after = found["seq"]
            if "printed" in {one["type"] for one in found["events"]}:
                break
    assert 200 == (await people.ben.post(f"/v1/notebooks/{name}/session/interrupt")).status_code
    _, session = await follow(people.ana, name, after)
    assert ("interrupted", None) == (
        cell_of(session, "c0")["result"]["outcome"],
        cell_of(session, "c1")["result"],
    )


async def test_rights_hold_for_everything_in_a_session(people: People) -> None:
    """Without a scope or a right nothing is told: not that there is a notebook, nor what is in it."""
    name = await make(people.ana, "x = 'secret'", access="private")
    await run(people.ana, name)
    calls = {
        "GET session": lambda c: c.get(f"/v1/notebooks/{name}/session"),
        "POST run": lambda c: c.post(f"/v1/notebooks/{name}/session/run", json={}),
        "POST interrupt": lambda c: c.post(f"/v1/notebooks/{name}/session/interrupt"),
        "GET events": lambda c: c.get(f"/v1/notebooks/{name}/session/events", params={"after": 0}),
        "GET output": lambda c: c.get(
            f"/v1/notebooks/{name}/session/output", params={"cell": "c0", "value": "x"}
        ),
    }
    for what, call in calls.items():
        for stranger in ("bob", "eve", "ben"):
            answer = await call(getattr(people, stranger))
            assert (404, "Notebook not found") == (answer.status_code, answer.json()["detail"]), (
                what,
                stranger,
            )
        answer = await call(people.runner)
        assert 403 == answer.status_code
        if what.startswith("POST"):
            assert 403 == (await call(people.reader)).status_code
    shared = await make(people.ana, "x = 1")
    assert 403 == (await people.rob.post(f"/v1/notebooks/{shared}/session/run", json={})).status_code
    assert 403 == (await people.rob.post(f"/v1/notebooks/{shared}/session/interrupt")).status_code
    assert 200 == (await people.rob.get(f"/v1/notebooks/{shared}/session")).status_code


async def test_results_outlive_the_server(notebook_settings: Settings) -> None:
    """After a restart all results are there, and nothing is computed again."""
    async with serving(notebook_settings) as people:
        name = await make(people.ana, "x = [1, 2]", "y = sum(x)\ny")
        await run(people.ana, name)
        first = (await people.ana.get(f"/v1/notebooks/{name}/session")).json()
    async with serving(notebook_settings) as people:
        session = (await people.ana.get(f"/v1/notebooks/{name}/session")).json()
        assert first["cells"] == session["cells"]
        assert first["session"] != session["session"]
        assert b"3" == (await shown(people.ana, name, "c1", display=0)).content
        assert {"c0": "reused", "c1": "reused"} == (await run(people.ana, name))[0]
        await people.ana.delete(f"/v1/notebooks/{name}")
        assert 404 == (await people.ana.get(f"/v1/notebooks/{name}/session")).status_code
    blobs = [*notebook_settings.artifact_root.rglob("*.arrow")]
    assert [] == blobs


async def test_without_a_worker_no_cell_runs(settings: Settings) -> None:
    """The refusal names the setting; a worker of other tenants is none."""
    other = attrs.evolve(LIMITS, tenants=("team-b",))
    for workers in ((), (other,), (attrs.evolve(LIMITS, enabled=False),)):
        async with serving(attrs.evolve(settings, notebook_workers=workers)) as people:
            name = await make(people.ana, "x = 1")
            answer = await people.ana.post(f"/v1/notebooks/{name}/session/run", json={})
            assert (409, "no_worker") == (answer.status_code, answer.json()["error"])
            assert "[[tool.strata.notebook_workers]]" in answer.json()["detail"]


async def test_tables_reach_a_cell_with_the_rights_of_its_runner_only(
    notebook_settings: Settings, warehouse: Warehouse
) -> None:
    """A cell gets the rows that its runner may read; a member without the right sees nothing of them."""
    warehouse.create(numbers(100))
    read = 't = strata.fetch("wh:db.events", columns=["id"], filters=[("id", "<", 7)])\nprint(t.num_rows)'
    async with serving(notebook_settings) as people:
        name = await make(people.ana, read, "n = t.num_rows\nn", "free = 1\nfree")
        await until_ok(people.ana, name)
        assert b"7" == (await shown(people.ana, name, "c1", display=0)).content
        # The same rights: nothing is computed. Without the right: no result, no value, no printed text.
        assert {"c0": "reused", "c1": "reused", "c2": "reused"} == (await run(people.cyn, name))[0]
        session = (await people.ben.get(f"/v1/notebooks/{name}/session")).json()
        assert [True, True, False] == [cell["hidden"] for cell in session["cells"]]
        assert [None, None, "ok"] == [
            cell["result"] and cell["result"]["outcome"] for cell in session["cells"]
        ]
        for cell, what in (("c0", {"value": "t"}), ("c1", {"value": "n"}), ("c1", {"display": 0})):
            assert 404 == (await shown(people.ben, name, cell, **what)).status_code
        events = await people.ben.get(f"/v1/notebooks/{name}/session/events", params={"after": 0})
        assert "printed" not in {one["type"] for one in events.json()["events"]}
        ended, session = await run(people.ben, name)
        assert {"c0": "raised", "c1": "skipped", "c2": "reused"} == ended
        assert "Table not found" == cell_of(session, "c0")["result"]["message"]
        # Ana's result is still hers, and is not replaced by what ben was refused.
        assert b"7" == (await shown(people.ana, name, "c1", display=0)).content
        session = (await people.ana.get(f"/v1/notebooks/{name}/session")).json()
        assert [[], [], []] == [cell["stale"] for cell in session["cells"]]


async def test_a_table_that_changed_makes_its_readers_stale(
    notebook_settings: Settings, warehouse: Warehouse
) -> None:
    """After an append the cell that read the table is stale; a run reads the new rows."""
    table = warehouse.create(numbers(100))
    async with serving(notebook_settings) as people:
        name = await make(people.ana, 'n = strata.fetch("wh:db.events").num_rows\nn')
        await run(people.ana, name)
        table.append(numbers(10, start=1000))
        with trio.fail_after(240):
            while True:
                session = (await people.ana.get(f"/v1/notebooks/{name}/session")).json()
                if cell_of(session, "c0")["stale"]:
                    break
                await trio.sleep(0.2)
        assert ["input_changed"] == [one["because"] for one in cell_of(session, "c0")["stale"]]
        assert {"c0": "ok"} == (await run(people.ana, name))[0]
        assert b"110" == (await shown(people.ana, name, "c0", display=0)).content


async def test_annotations_bind_tables_and_choose_workers(
    notebook_settings: Settings, warehouse: Warehouse
) -> None:
    """@table binds the URI and the snapshot, within the runner's rights; @worker and @timeout count."""
    warehouse.create(numbers(5))
    bound = (
        "# @table t wh:db.events\nprint(t, t_snapshot > 0, strata.fetch(t, snapshot_id=t_snapshot).num_rows)"
    )
    async with serving(notebook_settings) as people:
        name = await make(
            people.ana,
            bound,
            "# @worker gone\n1",
            "# @timeout 0.2\nimport time; time.sleep(30)",
            "# @nocache\n1",
        )
        ended, session = await run(people.ana, name)
        assert {"c0": "ok", "c1": "skipped", "c2": "timeout", "c3": "ok"} == ended
        assert "wh:db.events True 5\n" == cell_of(session, "c0")["result"]["stdout"]
        assert "0.2 s, its time limit" in cell_of(session, "c2")["result"]["message"]
        assert {"c3": "ok"} == (await run(people.ana, name, "c3"))[0]
        assert {"c0": "skipped"} == (await run(people.ben, name, "c0"))[0]


async def test_a_run_loses_its_right_in_the_middle(notebook_settings: Settings) -> None:
    """When the rules no longer permit a run, the cell is interrupted, and its queue does not begin."""
    async with serving(notebook_settings) as people:
        name = await make(people.ana, WAITS, "x = 1")
        await people.ana.post(f"/v1/notebooks/{name}/session/run", json={})
        after, seen = 0, set()
        with trio.fail_after(240):
            while "printed" not in seen:
                params = {"after": after, "wait": 5}
                found = (await people.ana.get(f"/v1/notebooks/{name}/session/events", params=params)).json()
                after = found["seq"]
                seen |= {one["type"] for one in found["events"]}
        rules = attrs.evolve(RULES, deny=(*RULES.deny, Rule("ana", "notebooks/**", action="run")))
        people.server.service.take_rules(CompiledPolicy(rules))
        events, _ = await follow(people.cyn, name, after)
        ended = {payload["cell"]: payload["how"] for kind, payload in events if "ended" == kind}
        assert {"c0": "interrupted", "c1": "skipped"} == ended


async def test_sql_cells_join_tables_and_values(notebook_settings: Settings, warehouse: Warehouse) -> None:
    """An SQL cell queries a table with its runner's rights and a value of a cell; a later cell takes the result."""
    warehouse.create(numbers(10))
    cells = [
        {"id": "c0", "source": "import pyarrow\nwanted = pyarrow.table({'id': [2, 3, 99]})"},
        {
            "id": "c1",
            "language": "sql",
            "source": "-- @name found\n-- @table events wh:db.events\nSELECT id FROM events JOIN wanted USING (id) ORDER BY id",
        },
        {"id": "c2", "source": "found.column('id').to_pylist()"},
        {"id": "c3", "language": "markdown", "source": "# Title"},
        {"id": "c4", "language": "sql", "source": "SELECT * FROM nowhere"},
    ]
    async with serving(notebook_settings) as people:
        answer = await people.ana.post("/v1/notebooks", json={"title": "SQL", "cells": cells})
        name = answer.json()["name"]
        ended, session = await run(people.ana, name)
        assert {"c0": "ok", "c1": "ok", "c2": "ok", "c4": "raised"} == ended, session
        assert b"[2, 3]" == (await shown(people.ana, name, "c2", display=0)).content
        assert "nowhere" in cell_of(session, "c4")["result"]["message"]
        assert {"c1": "reused"} == (await run(people.cyn, name, "c1"))[0]
        session = (await people.ben.get(f"/v1/notebooks/{name}/session")).json()
        assert [False, True, True, False, False] == [cell["hidden"] for cell in session["cells"]]
        assert {"c1": "skipped"} == (await run(people.ben, name, "c1"))[0]


async def test_what_an_error_says_is_for_those_who_may_read_its_tables(
    people: People, warehouse: Warehouse
) -> None:
    """The event tells every member that the cell ended; its sentence, which may have rows in it, does not."""
    warehouse.create(numbers(3))
    source = f'raise ValueError(strata.fetch("{warehouse.uri()}").column("id").to_pylist())'
    name = await make(people.ana, source)
    with trio.fail_after(240):
        while "raised" != (await run(people.ana, name))[0]["c0"]:
            pass  # on a busy machine the first read of a table may take too long
    said = {}
    for who in ("ana", "ben"):
        seen, _ = await follow(people.clients[who], name, 0)
        said[who] = [payload["message"] for kind, payload in seen if kind == "ended"][-1]
    assert ("ValueError: [0, 1, 2]", "") == (said["ana"], said["ben"])

"""Schedules of notebooks on a clock that the test sets: they run in time, once, with the rights of that time."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from zoneinfo import ZoneInfo

import attrs
import httpx
import pytest
import trio
from service_kit import Running, identity, running

from strata.acl import CompiledPolicy, Policy, Rule
from strata.config import Settings
from strata.config.fields import NotebookWorker
from strata.server.scheduler import Scheduler

RULES = Policy(
    deny=(Rule("rob", "notebooks/**", action="run"),),
    allow=(Rule("*", "notebooks/**"), Rule("*", "tables/**"), Rule("root", "admin/**")),
)
BERLIN = ZoneInfo("Europe/Berlin")


@attrs.define
class Clock:
    """A clock that stands still until it is set."""

    time: float = dt.datetime(2026, 3, 28, 12, tzinfo=BERLIN).timestamp()

    def __call__(self) -> float:
        return self.time

    def set(self, moment: str) -> None:
        self.time = dt.datetime.fromisoformat(moment).timestamp()


@attrs.define
class World:
    """A server, its clock, and ana's client."""

    server: Running
    clock: Clock
    ana: httpx.AsyncClient

    async def look(self) -> None:
        await Scheduler(self.server.service.registry).look()

    async def make(self, source: str = "x = 1") -> str:
        """Make a notebook; returns its path."""
        cells = [{"id": "c", "source": source, "metadata": {"tags": ["parameters"]}}]
        answer = await self.ana.post("/v1/notebooks", json={"title": "N", "cells": cells})
        return f"/v1/notebooks/{answer.json()['name']}"

    async def add(self, path: str, **body: object) -> dict:
        answer = await self.ana.post(
            f"{path}/schedules", json={"cron": "30 2 * * *", "time_zone": "Europe/Berlin"} | body
        )
        assert 201 == answer.status_code, answer.text
        return answer.json()

    async def only(self, path: str) -> dict:
        (found,) = (await self.ana.get(f"{path}/schedules")).json()["schedules"]
        return found

    async def ended(self, path: str, count: int = 1) -> list[dict]:
        """Return the runs, once there are ``count`` and all have ended."""
        with trio.fail_after(120):
            while True:
                found = (await self.ana.get(f"{path}/runs")).json()["runs"]
                if len(found) >= count and all("running" != one["state"] for one in found):
                    return found


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    worker = NotebookWorker("local", memory_bytes=256 << 20)
    async with running(attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))) as server:
        clock = Clock()
        object.__setattr__(server.service.registry.resources.notebooks, "now", clock)
        async with server.client(**identity("ana", "team-a", "notebook:*")) as ana:
            yield World(server, clock, ana)


async def test_a_notebook_runs_when_the_clock_on_the_wall_shows_its_time(world: World) -> None:
    """As its owner, with its parameters; the night in which the clock is put forward has it, too."""
    path = await world.make("month = 1\nmonth")
    made = await world.add(path, parameters={"month": 9})
    assert ("2026-03-29T01:30:00+00:00", None) == (made["next_at"].replace("Z", "+00:00"), made["message"])
    world.clock.set("2026-03-29T01:29:59+00:00")
    await world.look()
    assert [] == (await world.ana.get(f"{path}/runs")).json()["runs"]
    world.clock.set("2026-03-29T01:30:00+00:00")
    await world.look()
    await world.look()  # a second look begins none
    (run,) = await world.ended(path)
    assert ("ok", "ana", made["schedule"], {"month": 9}) == tuple(
        run[key] for key in ("state", "author", "schedule", "parameters")
    )
    assert (await world.only(path))["next_at"].startswith("2026-03-30T00:30:00")


async def test_a_time_at_which_the_run_before_goes_on_is_passed_over(world: World) -> None:
    """Or has a run of its own, where the schedule allows that."""
    path = await world.make("import time\ntime.sleep(300)")
    first = await world.add(path, cron="* * * * *", time_zone="UTC")
    for minute in (1, 2):
        world.clock.set(f"2026-03-28T11:0{minute}:00+00:00")
        await world.look()
    (run,) = (await world.ana.get(f"{path}/runs")).json()["runs"]
    assert "had not ended" in (await world.only(path))["message"]
    assert 200 == (await world.ana.delete(f"{path}/schedules/{first['schedule']}")).status_code
    second = await world.add(path, cron="* * * * *", time_zone="UTC", overlap="allow")
    for minute in (3, 4):
        world.clock.set(f"2026-03-28T11:0{minute}:00+00:00")
        await world.look()
    runs = (await world.ana.get(f"{path}/runs")).json()["runs"]
    assert [second["schedule"]] * 2 == [one["schedule"] for one in runs[:2]]
    for one in runs:
        await world.ana.post(f"{path}/runs/{one['run']}/cancel")
    assert {"cancelled"} == {one["state"] for one in await world.ended(path, 3)}
    assert run["run"] == runs[2]["run"]


@pytest.mark.parametrize(("missed", "runs"), [("skip", 0), ("run", 1)])
async def test_times_at_which_no_server_was_there(world: World, missed: str, runs: int) -> None:
    """Are missed, or made up for by one run."""
    path = await world.make()
    await world.add(path, missed=missed)
    world.clock.set("2026-04-05T12:00:00+00:00")
    await world.look()
    assert runs == len(await world.ended(path, runs))
    found = await world.only(path)
    assert found["next_at"].startswith("2026-04-06T00:30:00")
    assert ("missed" in (found["message"] or "")) is (missed == "skip")


async def test_a_revoked_owners_schedule_stops_and_tells_why(world: World) -> None:
    """The rules of that time count; another owner's schedule goes on."""
    path = await world.make()
    await world.add(path)
    async with world.server.client(**identity("ben", "team-a", "notebook:*")) as ben:
        body = {"cron": "30 2 * * *", "time_zone": "Europe/Berlin"}
        assert 201 == (await ben.post(f"{path}/schedules", json=body)).status_code
        deny = (*RULES.deny, Rule("ana", "notebooks/**", action="run"))
        world.server.service.take_rules(CompiledPolicy(attrs.evolve(RULES, deny=deny)))
        world.clock.set("2026-03-29T01:30:00+00:00")
        await world.look()
        (run,) = await world.ended(path)
        assert "ben" == run["author"]
        found = (await ben.get(f"{path}/schedules")).json()["schedules"]
        mine, other = sorted(found, key=lambda one: one["owner"])
    assert (None, True) == (mine["next_at"], mine["message"].startswith("It has stopped: "))
    assert (None, False) == (other["message"], other["next_at"] is None)
    async with world.server.client(**identity("root", "team-a", "admin:*")) as root:
        audit = (await root.get("/v1/admin/audit")).json()["entries"]
    (stopped,) = [one for one in audit if "notebooks.schedule_stopped" == one["action"]]
    assert ("ana", mine["schedule"]) == (stopped["principal"], stopped["new"]["schedule"])
    assert mine["message"].endswith(stopped["new"]["refused"])
    world.clock.set("2026-03-30T00:30:00+00:00")
    await world.look()
    assert ["ben", "ben"] == [one["author"] for one in await world.ended(path, 2)]


async def test_a_run_that_failed_is_tried_again_and_later_each_time(world: World) -> None:
    """As often as the schedule has it; then it waits for its next time."""
    path = await world.make("1 / 0")
    await world.add(path, retries=2)
    for count, moment in enumerate(("01:30:00", "01:31:00", "01:33:00"), 1):
        world.clock.set(f"2026-03-29T{moment}+00:00")
        await world.look()
        runs = await world.ended(path, count)
        assert ["failed"] * count == [one["state"] for one in runs]
        with trio.fail_after(60):
            while (await world.only(path))["next_at"] < f"2026-03-29T{moment}":
                pass
        await _settled(world)
    assert (await world.only(path))["next_at"].startswith("2026-03-30T00:30:00")


async def _settled(world: World) -> None:
    """Wait until what follows the end of a run is written: no work of the tenant is under way."""
    sessions = next(iter(world.server.service.registry._tenants.values())).actor.sessions
    with trio.fail_after(60):
        while sessions.running:
            await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked(0.1)


async def test_of_two_servers_one_begins_the_run(world: World) -> None:
    """A schedule moves from one time once."""
    path = await world.make()
    await world.add(path)
    store = world.server.service.registry.resources.notebooks.schedules
    world.clock.set("2026-03-29T01:30:00+00:00")
    (record,) = store.due(world.clock(), 9, 9)
    to = attrs.evolve(record, next_at=2e9)
    assert [True, False] == [store.move(record, to), store.move(record, to)]
    assert () == store.due(world.clock(), 9, 9)


async def test_what_a_schedule_needs_and_who_sees_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expression and zone are checked, rights too; another tenant finds nothing."""
    path = await world.make()
    for body, code in (
        ({"cron": "61 * * * *"}, "schedule_malformed"),
        ({"cron": "0 0 30 2 *"}, "schedule_malformed"),
        ({"cron": "0 0 1 1 *", "time_zone": "../../etc/passwd"}, "time_zone_unknown"),
        ({"cron": "0 0 1 1 *", "time_zone": "Europe/Nowhere"}, "time_zone_unknown"),
    ):
        answer = await world.ana.post(f"{path}/schedules", json=body)
        assert (422, code) == (answer.status_code, answer.json()["error"])
    made = await world.add(path)
    async with (
        world.server.client(**identity("bob", "team-b", "notebook:*")) as bob,
        world.server.client(**identity("rob", "team-a", "notebook:*")) as rob,
    ):
        for client, status in ((bob, 404), (rob, 403)):
            answer = await client.post(f"{path}/schedules", json={"cron": "0 0 1 1 *"})
            assert status == answer.status_code
            assert status == (await client.delete(f"{path}/schedules/{made['schedule']}")).status_code
        assert 404 == (await bob.get(f"{path}/schedules")).status_code
        assert 200 == (await rob.get(f"{path}/schedules")).status_code
    monkeypatch.setattr("strata.notebooks.store.sql_schedules.MAX_SCHEDULES", 1)
    answer = await world.ana.post(f"{path}/schedules", json={"cron": "0 0 1 1 *"})
    assert (413, "too_many_schedules") == (answer.status_code, answer.json()["error"])
    assert 200 == (await world.ana.delete(f"{path}/schedules/{made['schedule']}")).status_code
    assert 404 == (await world.ana.delete(f"{path}/schedules/{made['schedule']}")).status_code


async def test_a_paused_schedule_runs_no_more_until_it_goes_on(world: World) -> None:
    """It has no times meanwhile, tells who paused it, and makes up for none; both are in the audit."""
    path = await world.make()
    made = await world.add(path)
    day = "2026-03-{}T01:30:00Z"
    # The night of the 29th has no 2:30: it is an hour later on the clock, and as ever from then on.
    assert [day.format(29), *(f"2026-0{at}T00:30:00Z" for at in ("3-30", "3-31", "4-01", "4-02"))] == [
        one.replace("+00:00", "Z") for one in made["next_times"]
    ]
    place = f"{path}/schedules/{made['schedule']}"
    paused = (await world.ana.patch(place, json={"paused": True})).json()
    assert (True, None, [], "Paused by ana.") == tuple(
        paused[key] for key in ("paused", "next_at", "next_times", "message")
    )
    world.clock.set("2026-03-30T12:00:00+00:00")
    await world.look()
    assert [] == (await world.ana.get(f"{path}/runs")).json()["runs"]
    again = (await world.ana.patch(place, json={"paused": False})).json()
    assert (False, None) == (again["paused"], again["message"])
    assert again["next_at"].startswith("2026-03-31T00:30:00")
    assert again == await world.only(path)
    async with world.server.client(**identity("rob", "team-a", "notebook:*")) as rob:
        assert 403 == (await rob.patch(place, json={"paused": True})).status_code
    async with world.server.client(**identity("bob", "team-b", "notebook:*")) as bob:
        assert 404 == (await bob.patch(place, json={"paused": True})).status_code
    async with world.server.client(**identity("root", "team-a", "admin:*")) as root:
        lines = (await root.get("/v1/admin/audit?tenant=team-a")).json()["entries"]
    assert [f"notebooks.{one}_schedule" for one in ("resume", "pause")] == [one["action"] for one in lines][
        :2
    ]
    assert 404 == (await world.ana.patch(f"{path}/schedules/none", json={"paused": True})).status_code


async def test_a_schedule_waits_for_a_worker_that_takes_no_cells_for_a_while(world: World) -> None:
    """An operator who drains the workers for ten minutes stops no schedule."""
    path = await world.make()
    await world.add(path)
    workers = "/v1/admin/notebook-workers/local"
    async with world.server.client(**identity("root", "team-a", "admin:*")) as root:
        assert 200 == (await root.post(f"{workers}/drain")).status_code
        world.clock.set("2026-03-29T01:30:00+00:00")
        await world.look()
        found = await world.only(path)
        assert (found["next_at"][:19], found["message"][:10]) == ("2026-03-29T01:31:00", "It waits: ")
        assert 200 == (await root.patch(workers, json={"enabled": True})).status_code
    world.clock.set("2026-03-29T01:31:00+00:00")
    await world.look()
    (run,) = await world.ended(path)
    assert "ok" == run["state"]
    assert (await world.only(path))["next_at"].startswith("2026-03-30T00:30:00")


async def test_a_run_outlives_what_its_tenant_opens_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session of its notebook is not forgotten for others: a new one would fence the run off."""
    monkeypatch.setattr("strata.tenants.sessions.sessions.MAX_SESSIONS", 1)
    path = await world.make("import time\ntime.sleep(1)")
    answer = await world.ana.post(f"{path}/runs", json={})
    assert answer.is_success, answer.text
    for _ in range(4):
        other = await world.make()
        assert 200 == (await world.ana.get(f"{other}/runs")).status_code
    (run,) = await world.ended(path)
    assert "ok" == run["state"]

"""A denied thing takes the same work as a missing one: operations are counted, without a clock."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import trio
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.tenants import Resources
from strata.tenants.lifecycle.actor import TenantActor
from strata.tenants.shared import resources as resources_module
from strata.tenants.shared import table_loader
from strata.tenants.shared.authorizer import Authorizer
from strata.tenants.shared.table_loader import TableLoader
from strata.work import WorkPool

ROUNDS = 12


def answers_a_question(task: trio.lowlevel.Task) -> bool:
    """Return whether the task answers a waiting request; builds continue after their clients have left."""
    return task.name.endswith("TenantActor._serve")


class Steps(trio.abc.Instrument):
    """Count the steps of tasks that answer requests; each is a passed checkpoint."""

    def __init__(self, work: Counter[str]) -> None:
        self.work = work

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if answers_a_question(task):
            self.work["steps"] += 1


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Count calls of stores and catalogs by name, quanta, transfers, evaluations of rules, and steps.

    Counted in tasks that answer requests, and where a request is answered without a message.
    """
    work: Counter[str] = Counter()
    at_once = 0

    def count(kind: type, method: str, label: str) -> None:
        real = getattr(kind, method)

        def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
            named = getattr(getattr(args[1], "func", args[1]), "__name__", "") if method == "ask" else ""
            if at_once or answers_a_question(trio.lowlevel.current_task()):
                work[label + named] += 1
            return real(self, *args, **kwargs)

        monkeypatch.setattr(kind, method, wrapped)

    real_answer = TenantActor.answer_at_once

    def answer(self: TenantActor, question: Any) -> object | None:
        nonlocal at_once
        at_once += 1
        work["looks for an answer without a message"] += 1
        try:
            return real_answer(self, question)
        finally:
            at_once -= 1

    monkeypatch.setattr(TenantActor, "answer_at_once", answer)

    count(Resources, "ask", "thread: ")
    count(Resources, "write", "thread of a write")
    count(TableLoader, "load", "table")
    count(Resources, "transfer", "transfer")
    count(WorkPool, "run", "quantum")
    count(Authorizer, "_decide", "decision")
    steps = Steps(work)
    trio.lowlevel.add_instrument(steps)
    try:
        yield work
    finally:
        trio.lowlevel.remove_instrument(steps)
        monkeypatch.undo()


NOT_THERE = "0" * 32
TABLES = (Rule("*", "tables/wh/db/open"),)
POLICIES = {
    "by a rule on the table": Policy((Rule("eve", "tables/*/db/events"),), (Rule("*", "tables/**"),)),
    "by default": Policy((), (Rule("ana", "tables/**"), *TABLES)),
    "by a rule on artifacts": Policy((Rule("eve", "artifacts/**"),), (Rule("*", "tables/**"),)),
    "by columns": Policy(
        (), (Rule("ana", "tables/**"), *TABLES, Rule("eve", "tables/wh/db/events", columns=("id",)))
    ),
}


@attrs.frozen
class Asked:
    """A request for an existing, denied thing, and one for a missing thing."""

    method: str
    denied: str
    missing: str
    denied_body: Any = None
    missing_body: Any = None


async def cases(server: Running, *, tables: bool) -> dict[str, Asked]:
    """Let ana make a result, its build and its name; return the requests for each."""
    async with server.client(**identity("ana", "team-a")) as ana:
        made = (
            await ana.post("/v1/materialize", json=scan("wh:db.events", mode="artifact", name="plan"))
        ).json()
        while "ready" != (await ana.get(f"/v1/builds/{made['build_id']}")).json()["state"]:
            pass
        for table in ("wh:db.events", "wh:db.open"):  # tables are loaded once for all requests
            await fetch(ana, scan(table))
            await ana.post("/v1/materialize", json=scan(table))  # waits for the commit
    artifact_id = made["artifact_uri"].removeprefix("strata://artifact/").partition("@")[0]
    found = {
        "build": Asked("GET", f"/v1/builds/{made['build_id']}", f"/v1/builds/{NOT_THERE}"),
        "name": Asked("GET", "/v1/names/plan", "/v1/names/none"),
        "status": Asked("GET", "/v1/artifacts/names/plan/status", "/v1/artifacts/names/none/status"),
    }
    for tail in ("", "/data", "/lineage", "/dependents"):
        path = "/v1/artifacts/{}/v/1" + tail
        found[f"artifact{tail}"] = Asked("GET", path.format(artifact_id), path.format(NOT_THERE))
    for path in ("/v1/materialize", "/v1/artifacts/explain-materialize"):
        if tables:
            found[path] = Asked("POST", path, path, scan("wh:db.events"), scan("wh:db.nothing"))
    named = [scan("wh:db.open", name=name) for name in ("plan", "none")]
    found["explain of a name"] = Asked(
        "POST", "/v1/artifacts/explain-materialize", "/v1/artifacts/explain-materialize", *named
    )
    return found


TIMES = {"date", "server-timing"}
"""Headers that say when, or how long, not what."""


@pytest.mark.slow
@pytest.mark.parametrize("why", POLICIES)
async def test_denied_and_missing_take_the_same_work_and_give_the_same_answer(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """In random order, repeated, both kinds have the same distribution of operations and the same answer."""
    warehouse.create(numbers(10))
    warehouse.create(numbers(10), "db.open")
    draw = random.Random(why)
    monkeypatch.setattr(
        table_loader, "NEGATIVE_SECONDS", 0.0
    )  # else the work depends on the time between two
    async with running(attrs.evolve(settings, acl_config=POLICIES[why])) as server:
        asked = await cases(server, tables=why in ("by a rule on the table", "by default"))
        work: dict[str, dict[bool, Counter[str]]] = defaultdict(lambda: {True: Counter(), False: Counter()})
        answers: dict[str, dict[bool, set[str]]] = defaultdict(lambda: {True: set(), False: set()})
        order = [(case, denied) for case in asked for denied in (True, False)] * ROUNDS
        draw.shuffle(order)
        async with server.client(**identity("eve", "team-a"), **{"X-Request-ID": "same"}) as eve:
            for case, denied in order:
                one = asked[case]
                path = one.denied if denied else one.missing
                body = one.denied_body if denied else one.missing_body
                with counted(monkeypatch) as operations:
                    answer = await eve.request(one.method, path, json=body)
                headers = sorted((name, value) for name, value in answer.headers.items() if name not in TIMES)
                answers[case][denied].add(repr((answer.status_code, headers, answer.content)))
                work[case][denied][repr(sorted(operations.items()))] += 1
    for case in asked:
        assert answers[case][True] == answers[case][False], case
        assert 1 == len(answers[case][True]), case
        assert work[case][True] == work[case][False], case


async def test_a_store_call_more_or_less_would_be_noticed(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts of an existing and a missing result differ, so the test above can fail."""
    warehouse.create(numbers(10))
    async with server.client() as ana:
        await fetch(ana, scan(warehouse.uri()))
        url = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        await ana.get(url.removesuffix("/data"))
        with counted(monkeypatch) as there:
            await ana.get(url.removesuffix("/data"))
        with counted(monkeypatch) as missing:
            await ana.get(f"/v1/artifacts/{NOT_THERE}/v/1")
    assert there != missing
    assert 1 == missing["thread: get_artifact"]
    assert missing["steps"] >= 2


async def test_a_missing_result_is_decided_on_as_one_of_other_rows(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is not there takes the decisions, on the table and on its cells, of a hidden result's name."""
    warehouse.create(numbers(10))
    rows = [Rule(who, "tables/wh/db/events", rows=f"id < {most}") for who, most in (("ana", 5), ("eve", 7))]
    asked: list[str] = []
    real_reading, real_sees = Authorizer.reading, resources_module._sees

    def reading(self: Authorizer, principal: Any, resource: str) -> Any:
        asked.append(resource)
        return real_reading(self, principal, resource)

    def sees(table: Any, version: str, visible: Any) -> bool:
        asked.append(version)
        return real_sees(table, version, visible)

    async with (
        running(attrs.evolve(settings, acl_config=Policy(allow=tuple(rows)))) as server,
        server.client(**identity("ana", "team-a")) as ana,
        server.client(**identity("eve", "team-a")) as eve,
    ):
        await fetch(ana, scan("wh:db.events", name="plan"))
        await ana.post("/v1/materialize", json=scan("wh:db.events"))  # waits for the commit
        assert 404 == (await eve.get("/v1/names/plan")).status_code
        monkeypatch.setattr(Authorizer, "reading", reading)
        monkeypatch.setattr(resources_module, "_sees", sees)
        decisions = []
        for name in ("plan", "none", "plan", "other"):
            asked.clear()
            assert 404 == (await eve.get(f"/v1/names/{name}")).status_code
            decisions.append(list(asked))
    assert 2 == len(decisions[0])
    assert [decisions[0]] * 4 == decisions

"""Listings go forward: a page costs what it shows, and a listing of everything costs it once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from service_kit import Running, Warehouse, identity, numbers

from strata.acl import Policy, Rule
from strata.artifacts import Act, BlobFacts, NameOrder, SqlMetadataStore
from strata.tenants.results import listing
from strata.tenants.shared.resources import Resources

CHUNK, RESULTS = 5, 43
RULES = Policy(deny=(Rule("eve", "artifacts/n/*5"),), allow=(Rule("*", "tables/**"),))
ANA, EVE = identity("ana", "team-a"), identity("eve", "team-a")


@pytest.fixture
def work(server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Fill the store with results named ``n/00`` to ``n/42``, every third of another table; count its calls."""
    warehouse.create(numbers(1))
    warehouse.create(numbers(1), "db.open")
    store, done = server.service.registry.resources.metadata, Counter[str]()
    for number in range(RESULTS):
        store.begin_build(
            "team-a", build_id=f"b{number}", provenance_hash=f"{number * 7 % RESULTS:02}" * 32, query_hash="q",
            transform_spec='{"executor": "scan@v1", "params": {}}', executor_ref="scan@v1", name=f"n/{number:02}",
            input_versions=[(warehouse.uri("db.events" if number % 3 else "db.open"), f"v{number}")],
        )  # fmt: skip
        facts = BlobFacts("a" * 64, number // 4, Path("x"))
        store.finish_build(
            "team-a", f"b{number}", facts=facts, row_count=number % 5, arrow_schema="", names=[order(number)]
        )
    monkeypatch.setattr(listing, "CHUNK", CHUNK)
    for name in ("list_names", "list_summaries", "list_dependents", "get_artifact", "get_artifacts"):
        real = getattr(SqlMetadataStore, name)

        def counted(self: Any, *args: Any, _real: Any = real, _name: str = name, **more: Any) -> Any:
            found = _real(self, *args, **more)
            done[_name] += 1
            done[f"{_name} rows"] += len(found) if isinstance(found, tuple) else 1
            return found

        monkeypatch.setattr(SqlMetadataStore, name, counted)
    return done


def order(number: int) -> NameOrder:
    act = Act(tenant="team-a", principal="ana", principal_tenant="team-a", action="name.set", request_id="r")
    return NameOrder(name=f"n/{number:02}", act=act)


async def pages(client: httpx.AsyncClient, path: str, key: str) -> list[list[dict[str, Any]]]:
    """Return the pages of a listing, each but the first by the token of the one before."""
    found, token = [], ""
    while True:
        answer = (await client.get(path + token)).json()
        found.append(answer[key])
        if answer["next_page_token"] is None:
            return found
        token = f"&page_token={answer['next_page_token']}"


async def test_names_are_read_with_their_results_and_not_one_by_one(
    server: Running, work: Counter[str]
) -> None:
    """All names take one call of the store for each chunk, with rules and without."""
    for policy, who, expected in ((None, EVE, RESULTS), (RULES, ANA, RESULTS), (RULES, EVE, RESULTS - 4)):
        server.service.authorizer.policy = policy
        work.clear()
        async with server.client(**who) as client:
            found = (await client.get("/v1/names")).json()["names"]
        assert expected == len(found)
        assert sorted(one["name"] for one in found) == [one["name"] for one in found]
        calls = 1 if policy is None else RESULTS // CHUNK + 1  # nothing to decide: PLAIN names a call
        assert {"list_names": calls, "list_names rows": RESULTS} == dict(work)


async def test_pages_of_names_are_all_names_in_order(server: Running, work: Counter[str]) -> None:
    """Every page but the last is full, and begins behind the last name that the caller has seen."""
    server.service.authorizer.policy = RULES
    async with server.client(**EVE) as client:
        whole = (await client.get("/v1/names")).json()["names"]
        found = await pages(client, "/v1/names?limit=7", "names")
    assert whole == [one for page in found for one in page]
    assert [7] * 5 + [4] == [len(page) for page in found]


@pytest.mark.parametrize("rules", [None, Policy(allow=(Rule("*", "tables/**"),))])
async def test_a_page_reads_what_it_shows(
    server: Running, work: Counter[str], monkeypatch: pytest.MonkeyPatch, rules: Policy | None
) -> None:
    """Where all may be read: one more result, which tells whether there is a further page."""
    server.service.authorizer.policy = rules
    monkeypatch.setattr(listing, "CHUNK", 500)
    async with server.client(**ANA) as client:
        token = (await client.get("/v1/artifacts?limit=4")).json()["next_page_token"]
        work.clear()
        page = (await client.get(f"/v1/artifacts?limit=4&page_token={token}")).json()
    assert 4 == len(page["artifacts"])
    assert {"list_summaries": 1, "list_summaries rows": 5} == {
        key: done for key, done in work.items() if "summaries" in key
    }


class Steps(trio.abc.Instrument):
    """Has the most decisions that a task takes between two checkpoints."""

    most = decided = 0

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self.decided = 0

    def count(self) -> None:
        self.decided += 1
        self.most = max(self.most, self.decided)


async def test_many_results_of_many_tables_are_decided_on_a_few_at_a_time(
    server: Running, work: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lists them holds the event loop for no longer than a few decisions take, and keeps a few of them."""
    server.service.authorizer.policy = RULES
    monkeypatch.setattr(listing, "CHUNK", 500)
    monkeypatch.setattr(listing, "AT_ONCE", 4)
    monkeypatch.setattr(listing, "INPUTS_HELD", 3)
    steps, real, shows, held = Steps(), Resources.decide_read, listing.Visibility.shows, []

    def counted(*given: Any, **more: Any) -> Any:
        steps.count()
        return real(*given, **more)

    async def looked(self: listing.Visibility, found: Any) -> bool:
        answer = await shows(self, found)
        held.append(len(self._by_inputs))
        return answer

    monkeypatch.setattr(Resources, "decide_read", counted)
    monkeypatch.setattr(listing.Visibility, "shows", looked)
    trio.lowlevel.add_instrument(steps)
    try:
        async with server.client(**EVE) as client:
            for path in ("/v1/artifacts", "/v1/artifacts/stats", "/v1/names"):
                assert 200 == (await client.get(path)).status_code
                assert 0 < steps.most <= 4, path
    finally:
        trio.lowlevel.remove_instrument(steps)
    assert 3 == max(held)
    assert {"list_summaries rows": 2 * RESULTS, "list_names rows": RESULTS}.items() <= work.items()


@pytest.mark.parametrize("rules", [None, RULES, Policy((Rule("eve", "tables/*/db/open"),), RULES.allow)])
@pytest.mark.parametrize("query", ["", "&state=ready", "&name_prefix=n/1", "&since=2000-01-01"])
async def test_pages_by_token_are_the_listing_and_read_it_once(
    server: Running, work: Counter[str], rules: Policy | None, query: str
) -> None:
    """In every order: no result twice, none left out, totals equal, and no page begins at the beginning."""
    server.service.authorizer.policy = rules
    async with server.client(**EVE) as client:
        for sort in ("created_at", "row_count", "byte_size", "artifact_id"):
            for order in ("asc", "desc"):
                path = f"/v1/artifacts?sort={sort}&order={order}{query}"
                whole = (await client.get(f"{path}&limit=1000")).json()
                first = (await client.get(f"{path}&limit=4")).json()
                assert whole["total_count"] == first["total_count"]
                work.clear()
                found = await pages(client, f"{path}&limit=4", "artifacts")
                assert whole["artifacts"] == [one for page in found for one in page]
                assert all(4 == len(page) for page in found[:-1])
                begun = CHUNK * len(found)  # a page reads at most a chunk beyond its end
                assert work["list_summaries rows"] <= 2 * RESULTS + begun


async def test_a_token_that_is_none_is_refused(server: Running, work: Counter[str]) -> None:
    """Also one of another order, and one beside an offset; 400 names the parameter."""
    async with server.client(**ANA) as client:
        token = (await client.get("/v1/artifacts?limit=1")).json()["next_page_token"]
        for path in (
            "artifacts?page_token=x",
            "artifacts?page_token=" + "A" * 5000,
            "artifacts?page_token=WzFd",
            f"artifacts?offset=1&page_token={token}",
            f"artifacts?sort=row_count&page_token={token}",
            "names?page_token=%00",
            "names?limit=0",
            "names?odd=1",
        ):
            answer = await client.get(f"/v1/{path}")
            assert 400 == answer.status_code, path
            assert "query" == answer.json()["errors"][0]["loc"][0]


async def test_dependents_are_found_by_their_input(
    server: Running, warehouse: Warehouse, work: Counter[str]
) -> None:
    """No other result of the tenant is read."""
    store = server.service.registry.resources.metadata
    root = store.get_name("team-a", "n/00")
    assert root is not None
    uri = f"strata://artifact/{root.artifact_id}@v=1"
    for number in range(3):
        store.begin_build(
            "team-a", build_id=f"d{number}", provenance_hash=f"d{number}" * 32, query_hash="q",
            transform_spec='{"executor": "join@v1", "params": {}}', executor_ref="join@v1", name=None,
            input_versions=[(uri, "v1"), (warehouse.uri(), "v")],
        )  # fmt: skip
    work.clear()
    async with server.client(**ANA) as client:
        found = (await client.get(f"/v1/artifacts/{root.artifact_id}/v/1/dependents")).json()
    assert 3 == found["total_count"]
    assert ["d0" * 16, "d1" * 16, "d2" * 16] == [one["artifact_id"] for one in found["dependents"]]
    assert 3 == work["list_dependents rows"]
    assert 0 == work["list_summaries"]

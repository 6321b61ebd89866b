"""The registry: names with owners, aliases, approval by a second person, tags, pins, and what was done."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import httpx
import pytest
from service_kit import Running, Warehouse, fetch, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings

RULES = Policy(
    deny=(Rule("eve", "tables/**"),),
    allow=(
        Rule("*", "tables/wh/db/*"),
        Rule("*", "admin/**"),
        Rule("cleo", "artifacts/shared/**", action="write"),
    ),
)
WRITE = "artifacts:write"
ANA, CLEO = identity("ana", "team-a", WRITE), identity("cleo", "team-a", WRITE)
BOSS = identity("boss", "team-a", "admin:registry")
BOB, EVE = identity("bob", "team-b", f"{WRITE} admin:*"), identity("eve", "team-a", f"{WRITE} admin:*")
BODY, OTHER = scan("wh:db.events"), scan("wh:db.events", params={"columns": ["id"]})


@pytest.fixture
async def writable(settings: Settings, warehouse: Warehouse) -> AsyncIterator[Running]:
    """Start a server with direct writes and the protected aliases production and live."""
    warehouse.create(numbers(100))
    changed = attrs.evolve(
        settings,
        service_writes_enabled=True,
        acl_config=RULES,
        registry_protected_aliases="production, live",
    )
    async with running(changed) as server:
        yield server


async def made(server: Running, body: dict = BODY) -> dict:
    """Build a result and return what names it in a body."""
    async with server.client(**ANA) as client:
        await fetch(client, body)
        uri = (await client.post("/v1/materialize", json=body)).json()["artifact_uri"]
    artifact_id, _, version = uri.rpartition("/")[2].partition("@v=")
    return {"artifact_id": artifact_id, "version": int(version)}


def path_of(target: dict) -> str:
    return f"/v1/artifacts/{target['artifact_id']}/v/{target['version']}"


async def code(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("error")


async def test_a_name_belongs_to_who_made_it(writable: Running) -> None:
    """Another principal moves and drops it only where a rule allows it; also a build's name is not taken."""
    target, other = await made(writable), await made(writable, OTHER)
    async with writable.client(**ANA) as ana, writable.client(**CLEO) as cleo:
        for name in ("mine", "shared/x"):
            assert 200 == (await ana.post("/v1/names", json={"name": name, **target})).status_code
        assert (403, "name_owned") == await code(await cleo.post("/v1/names", json={"name": "mine", **other}))
        assert (403, "name_owned") == await code(await cleo.delete("/v1/names/mine"))
        assert (403, "name_owned") == await code(
            await cleo.post("/v1/materialize", json=scan("wh:db.events", name="mine"))
        )
        assert (403, "name_owned") == await code(await cleo.put("/v1/names/mine/aliases/a", json=other))
        assert 200 == (await cleo.post("/v1/names", json={"name": "shared/x", **other})).status_code
        [entry, *_] = (await ana.get("/v1/registry/audit", params={"name": "shared/x"})).json()["entries"]
        moved = ("name_set", "cleo", target["artifact_id"], other["artifact_id"], 1, 1)
        assert moved == (
            entry["action"], entry["actor"], entry["from_artifact_id"], entry["artifact_id"],
            entry["from_version"], entry["to_version"],
        )  # fmt: skip
        summary = (await ana.get("/v1/registry/summary")).json()["names"]
        assert [("mine", "ana"), ("shared/x", "ana")] == [(one["name"], one["owner"]) for one in summary]


async def test_names_of_others_can_be_shared_by_a_setting(settings: Settings, warehouse: Warehouse) -> None:
    """`artifact_names_shared`: whoever may write moves any name; without it and without rules nobody does."""
    warehouse.create(numbers(10))
    for shared, expected in ((False, 403), (True, 200)):
        changed = attrs.evolve(settings, service_writes_enabled=True, artifact_names_shared=shared)
        async with running(changed) as server, server.client(**ANA) as ana, server.client(**CLEO) as cleo:
            target = await made(server)
            body = {"name": "n", **target}
            assert 200 == (await ana.post("/v1/names", json=body)).status_code
            assert expected == (await cleo.post("/v1/names", json=body)).status_code


async def test_a_build_names_its_result_with_its_actor(writable: Running) -> None:
    """The audit says who named a result by a request for it, a new one and one that is found."""
    async with writable.client(**ANA) as ana:
        await fetch(ana, scan("wh:db.events", name="first"))
        await ana.post("/v1/materialize", json=scan("wh:db.events", name="second"))
        entries = (await ana.get("/v1/registry/audit")).json()["entries"]
        assert [("name_set", "ana", "second"), ("name_set", "ana", "first")] == [
            (one["action"], one["actor"], one["name"]) for one in entries
        ]
        events = (await ana.get("/v1/events", params={"since": 0, "limit": 1})).json()
        assert ["first"] == [one["name"] for one in events["events"]]
        rest = (await ana.get("/v1/events", params={"since": events["next"]})).json()
        assert ["second"] == [one["name"] for one in rest["events"]]


async def test_an_alias_is_set_resolved_and_dropped(writable: Running) -> None:
    """An alias holds its result; a name and an alias never have one URI."""
    target = await made(writable)
    async with writable.client(**ANA) as ana:
        await ana.post("/v1/names", json={"name": "a/b", **target})
        applied = (await ana.put("/v1/names/a/b/aliases/champion", json=target)).json()
        uri = f"strata://artifact/{target['artifact_id']}@v=1"
        assert {"status": "applied", "name": "a/b", "alias": "champion", "artifact_uri": uri} == applied
        found = (await ana.get("/v1/names/a/b/aliases/champion")).json()
        assert ("ready", uri, 1) == (found["state"], found["artifact_uri"], found["version"])
        listed = (await ana.get("/v1/names/a/b/aliases")).json()
        assert ("a/b", ["champion"]) == (listed["name"], [one["alias"] for one in listed["aliases"]])
        taken = await ana.post("/v1/names", json={"name": "a/b@champion", **target})
        assert (409, "name_is_alias") == await code(taken)
        await ana.post("/v1/names", json={"name": "a/b@two", **target})
        assert (409, "alias_is_name") == await code(await ana.put("/v1/names/a/b/aliases/two", json=target))
        for name in ("a/b", "a/b@two"):
            assert 200 == (await ana.delete(f"/v1/names/{name}")).status_code
        assert (409, "artifact_held") == await code(await ana.delete(path_of(target)))
        [held] = (await ana.get(f"{path_of(target)}/why")).json()["held_by"]
        assert ("alias", "a/b", "champion") == (held["kind"], held["name"], held["alias"])
        assert 200 == (await ana.delete("/v1/names/a/b/aliases/champion")).status_code
        assert 404 == (await ana.get("/v1/names/a/b/aliases/champion")).status_code
        assert 404 == (await ana.delete("/v1/names/a/b/aliases/champion")).status_code
        assert 200 == (await ana.delete(path_of(target))).status_code
        for alias in ("a@b", "x" * 129, "a%2Fb"):
            wrong = await ana.put(f"/v1/names/a/aliases/{alias}", json=target)
            assert (400, "invalid_alias") == await code(wrong)


async def test_a_protected_alias_needs_a_second_person(writable: Running) -> None:
    """A change is pending, holds its result, and is made by another principal with the scope alone."""
    target, other = await made(writable), await made(writable, OTHER)
    asked = {"name": "n", "alias": "production"}
    both = identity("ana", "team-a", f"{WRITE} admin:registry")
    async with writable.client(**both) as ana, writable.client(**BOSS) as boss:
        pending = await ana.put("/v1/names/n/aliases/production", json=target)
        assert (202, "pending") == (pending.status_code, pending.json()["status"])
        assert 404 == (await ana.get("/v1/names/n/aliases/production")).status_code
        assert (409, "artifact_held") == await code(await ana.delete(path_of(target)))
        [entry] = (await boss.get("/v1/registry/pending")).json()["pending"]
        assert ("ana", "set", target["artifact_id"], "team-a") == (
            entry["requested_by"], entry["action"], entry["artifact_id"], entry["tenant"],
        )  # fmt: skip
        own = await ana.post("/v1/registry/pending/approve", json=asked)
        assert (403, "own_request") == await code(own)
        wrong = await boss.post("/v1/registry/pending/approve", json=asked | other)
        assert (409, "change_differs") == await code(wrong)
        done = (await boss.post("/v1/registry/pending/approve", json=asked | target)).json()
        assert ("approved", "production", "ana") == (
            done["status"], done["applied"]["alias"], done["applied"]["requested_by"],
        )  # fmt: skip
        assert 200 == (await ana.get("/v1/names/n/aliases/production")).status_code
        assert 404 == (await boss.post("/v1/registry/pending/approve", json=asked)).status_code

        gone = await ana.delete("/v1/names/n/aliases/production")
        assert 202 == gone.status_code
        rejected = await boss.post("/v1/registry/pending/reject", json=asked)
        assert {"status": "rejected", **asked} == rejected.json()
        assert 200 == (await ana.get("/v1/names/n/aliases/production")).status_code
        entries = (await boss.get("/v1/registry/audit", params={"name": "n"})).json()["entries"]
        assert [
            ("alias_rejected", "boss"), ("alias_request_delete", "ana"),
            ("alias_approved", "boss"), ("alias_request_set", "ana"),
        ] == [(one["action"], one["actor"]) for one in entries]  # fmt: skip
    async with writable.client(**ANA) as ana:
        assert (403, "missing_scope") == await code(
            await ana.post("/v1/registry/pending/approve", json=asked)
        )


async def test_tags_are_set_found_and_dropped(writable: Running) -> None:
    """A tag is found by key and value; names and tags stand beside it."""
    target = await made(writable)
    path = path_of(target)
    async with writable.client(**ANA) as ana:
        await ana.post("/v1/names", json={"name": "n", **target})
        answer = (await ana.put(f"{path}/tags", json={"key": "stage", "value": "gold"})).json()
        assert {**target, "stage": "gold"} == answer
        await ana.put(f"{path}/tags", json={"key": "a/b", "value": ""})
        assert {"a/b": "", "stage": "gold"} == (await ana.get(f"{path}/tags")).json()["tags"]
        query = {"tag_key": "stage", "tag_value": "gold"}
        [found] = (await ana.get("/v1/registry/artifacts", params=query)).json()["artifacts"]
        assert (["n"], "gold", {"a/b": "", "stage": "gold"}) == (
            found["names"], found["tag_value"], found["tags"],
        )  # fmt: skip
        for value in ("gol_", "GOLD", "%"):
            none = await ana.get("/v1/registry/artifacts", params=query | {"tag_value": value})
            assert [] == none.json()["artifacts"]
        assert 200 == (await ana.delete(f"{path}/tags/a%2Fb")).status_code
        assert 404 == (await ana.delete(f"{path}/tags/a%2Fb")).status_code
        for key in ("", " x", "k" * 129):
            assert 400 == (await ana.put(f"{path}/tags", json={"key": key, "value": "v"})).status_code


async def test_a_pinned_result_is_held_until_the_last_pin_is_gone(writable: Running) -> None:
    """Pins have reasons; the scope for pins alone is enough."""
    target = await made(writable)
    path = path_of(target)
    async with writable.client(**identity("ana", "team-a", "artifacts:pin")) as pinner:
        for reason in ("paper", "audit 2026"):
            pinned = (await pinner.post(f"{path}/pin", json={"reason": reason})).json()
            assert ("ana", reason, "team-a") == (pinned["pinned_by"], pinned["reason"], pinned["tenant"])
        assert 400 == (await pinner.post(f"{path}/pin", json={"reason": ""})).status_code
        assert 400 == (await pinner.delete(f"{path}/pin")).status_code
    async with writable.client(**ANA) as ana:
        held = (await ana.get(f"{path}/why")).json()["held_by"]
        assert [("pin", "audit 2026"), ("pin", "paper")] == [(one["kind"], one["reason"]) for one in held]
        for reason in ("paper", "audit 2026"):
            assert 409 == (await ana.delete(path)).status_code
            gone = await ana.delete(f"{path}/pin", params={"reason": reason})
            assert gone.json()["unpinned"]
        assert 404 == (await ana.delete(f"{path}/pin", params={"reason": "paper"})).status_code
        assert 200 == (await ana.delete(path)).status_code


async def test_a_result_is_found_by_its_provenance(writable: Running) -> None:
    """A miss has its header, whatever is missing."""
    target = await made(writable)
    async with writable.client(**ANA) as ana:
        digest = (await ana.get(path_of(target))).json()["provenance_hash"]
        found = (await ana.get(f"/v1/artifacts/by-provenance/{digest}")).json()
        assert target == {key: found[key] for key in target}
        assert ("ready", 100) == (found["state"], found["row_count"])
        for missing in ("0" * 64, "x", digest[:-1]):
            answer = await ana.get(f"/v1/artifacts/by-provenance/{missing}")
            assert (404, "1") == (answer.status_code, answer.headers["X-Strata-Provenance-Miss"])


async def test_others_find_nothing_of_the_registry_and_change_nothing(writable: Running) -> None:
    """To another tenant and a denied caller all of it is missing, in the words for what is missing."""
    target = await made(writable)
    path, told = path_of(target), []
    async with writable.client(**ANA) as ana:
        digest = (await ana.get(path)).json()["provenance_hash"]
        await ana.post("/v1/names", json={"name": "secret-name", **target})
        await ana.put("/v1/names/secret-name/aliases/secret-alias", json=target)
        await ana.put("/v1/names/secret-name/aliases/live", json=target)
        await ana.put(f"{path}/tags", json={"key": "secret-key", "value": "secret-value"})
        await ana.post(f"{path}/pin", json={"reason": "secret-reason"})
        before = (await ana.get("/v1/events")).json()
    for headers in (BOB, EVE):
        async with writable.client(**headers, **{"X-Request-ID": "same"}) as client:
            for url in (
                "/v1/registry/summary", "/v1/registry/pending", "/v1/registry/audit", "/v1/events",
                "/v1/registry/artifacts?tag_key=secret-key",
            ):  # fmt: skip
                answer = await client.get(url)
                assert 200 == answer.status_code
                told.append(answer.text)
            version = {"artifact_id": target["artifact_id"], "version": 7}
            pairs = (
                ("GET", f"{path}/tags", f"{path_of(version)}/tags", None),
                ("PUT", f"{path}/tags", f"{path_of(version)}/tags", {"key": "k", "value": "v"}),
                ("DELETE", f"{path}/tags/secret-key", f"{path_of(version)}/tags/secret-key", None),
                ("POST", f"{path}/pin", f"{path_of(version)}/pin", {"reason": "r"}),
                ("DELETE", f"{path}/pin?reason=secret-reason", f"{path_of(version)}/pin?reason=r", None),
                ("GET", "/v1/names/secret-name/aliases", "/v1/names/none/aliases", None),
                *(
                    (method, "/v1/names/secret-name/aliases/secret-alias", "/v1/names/none/aliases/n", None)
                    for method in ("GET", "DELETE")
                ),
                ("PUT", "/v1/names/new/aliases/new", "/v1/names/x/aliases/new", target),
                ("GET", f"/v1/artifacts/by-provenance/{digest}", f"/v1/artifacts/by-provenance/{'0' * 64}", None),
            )  # fmt: skip
            for method, there, missing, body in pairs:
                found, none = [
                    await client.request(method, url, json=body if url == there else body and {**body})
                    for url in (there, missing)
                ]
                assert (404, none.content) == (found.status_code, found.content), (method, there)
            decide = {"name": "secret-name", "alias": "live"}
            for how in ("approve", "reject"):
                url = f"/v1/registry/pending/{how}"
                found, none = [
                    await client.post(url, json=asked) for asked in (decide, {"name": "x", "alias": "y"})
                ]
                assert (404, none.content) == (found.status_code, found.content)
    assert "secret" not in "".join(told)
    async with writable.client(**ANA) as ana:
        assert before == (await ana.get("/v1/events")).json()

"""Notebooks over HTTP: revisions, graph, rights, tenants and bounds."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import attrs
import httpx
import ipynb_cases
import pytest
import trio
from service_kit import Running, identity, running

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.notebooks.graph import dependencies
from strata.notebooks.model import limits
from strata.notebooks.names.analyser import Analysed, Analyser
from strata.notebooks.store import contract, sql_store
from strata.tenants.notebooks import analyses

ALL = "notebook:read notebook:write"
RULES = Policy(
    deny=(Rule("eve", "notebooks/**"), Rule("rob", "notebooks/**", action="write"), Rule("dan", "notebooks/secret-*")),
    allow=(Rule("*", "notebooks/**"), Rule("root", "admin/**")),
)  # fmt: skip
PEOPLE = {
    "ana": identity("ana", "team-a", ALL),
    "ben": identity("ben", "team-a", ALL),
    "bob": identity("bob", "team-b", ALL),
    "eve": identity("eve", "team-a", ALL),
    "rob": identity("rob", "team-a", ALL),
    "dan": identity("dan", "team-a", ALL),
    "root": identity("root", "team-a", "admin:* notebook:*"),
    "reader": identity("ana", "team-a", "notebook:read"),
    "writer": identity("ana", "team-a", "notebook:write"),
    "runner": identity("ana", "team-a", "notebook:execute admin:*"),
}


@attrs.define
class People:
    """A client of each of :data:`PEOPLE`."""

    server: Running
    clients: dict[str, httpx.AsyncClient]

    def __getattr__(self, name: str) -> httpx.AsyncClient:
        return self.clients[name]


@pytest.fixture
async def people(settings: Settings) -> AsyncIterator[People]:
    async with running(attrs.evolve(settings, acl_config=RULES)) as server, AsyncExitStack() as stack:
        clients = {
            name: await stack.enter_async_context(server.client(**headers, **{"X-Request-ID": "same"}))
            for name, headers in PEOPLE.items()
        }
        yield People(server, clients)


async def make(client: httpx.AsyncClient, *sources: str, title: str = "Flights", **more: object) -> dict:
    """Create a notebook with cells ``c0``, ``c1`` …; returns the answer's JSON."""
    cells = [{"id": f"c{place}", "source": source} for place, source in enumerate(sources)]
    answer = await client.post("/v1/notebooks", json={"title": title, "cells": cells, **more})
    assert 201 == answer.status_code, answer.text
    return answer.json()


async def edit(client: httpx.AsyncClient, name: str, revision: int, *edits: dict) -> httpx.Response:
    body = {"revision": revision, "edits": list(edits)}
    return await client.post(f"/v1/notebooks/{name}/edits", json=body)


def said(answer: dict) -> list[tuple[str, str]]:
    return [(node["id"], one["code"]) for node in answer["dag"]["cells"] for one in node["diagnostics"]]


async def test_a_notebook_is_made_read_edited_and_deleted(people: People) -> None:
    """All edits of a request are one revision, whose graph and diagnostics are in the answer."""
    made = await make(people.ana, "x = 1", "y = x + z", metadata={"k": [1]})
    assert ("flights-", "Flights", "ana", "tenant", 1) == (
        made["name"][:8], made["title"], made["owner"], made["access"], made["revision"]
    )  # fmt: skip
    assert [{"from_cell_id": "c0", "to_cell_id": "c1", "variable": "x"}] == made["dag"]["edges"]
    assert [("c1", "undefined_name")] == said(made)
    answer = await edit(
        people.ben, made["name"], 1,
        {"op": "insert", "after": "c0", "id": "new", "source": "z = 2"},
        {"op": "replace", "id": "c0", "source": "x = (", "name": "start", "metadata": {"m": 1}},
        {"op": "insert", "source": "# A title", "language": "markdown", "id": "top"},
        {"op": "move", "id": "c1", "after": "top"},
        {"op": "describe", "title": "Other"},
    )  # fmt: skip
    assert (200, '"2"') == (answer.status_code, answer.headers["etag"])
    changed = answer.json()
    assert ["top", "c1", "c0", "new"] == [cell["id"] for cell in changed["cells"]]
    assert ("Other", 2, "ben", {"k": [1]}) == (
        changed["title"], changed["revision"], changed["author"], changed["metadata"]
    )  # fmt: skip
    assert {"id": "c0", "language": "python", "source": "x = (", "name": "start", "metadata": {"m": 1}} == (
        changed["cells"][2]
    )
    [syntax] = [
        one for node in changed["dag"]["cells"] for one in node["diagnostics"] if one["severity"] == "error"
    ]
    assert ("syntax_error", 1, 5) == (syntax["code"], syntax["line"], syntax["column"])
    assert changed == (await people.ana.get(f"/v1/notebooks/{made['name']}")).json()
    first = (await people.ana.get(f"/v1/notebooks/{made['name']}?revision=1")).json()
    assert (made["cells"], made["dag"], 2) == (first["cells"], first["dag"], first["latest_revision"])
    assert {"deleted": made["name"]} == (await people.ben.delete(f"/v1/notebooks/{made['name']}")).json()
    assert 404 == (await people.ana.get(f"/v1/notebooks/{made['name']}")).status_code
    log = (await people.root.get("/v1/admin/audit?tenant=team-a")).json()["entries"]
    name = made["name"]
    assert [
        ("notebooks.delete", "ben", {"notebook": name, "revision": 2}, None),
        ("notebooks.edit", "ben", None, {"notebook": name, "revision": 2}),
        ("notebooks.create", "ana", None, {"notebook": name, "revision": 1}),
    ] == [(one["action"], one["principal"], one["old"], one["new"]) for one in log]


async def test_diagnostics_follow_every_edit(people: People) -> None:
    """An edit of one cell changes what is said of others: nothing stays behind."""
    made = await make(people.ana, "y = x", "z = y")
    assert [("c0", "undefined_name")] == said(made)
    fixed = (await edit(people.ana, made["name"], 1, {"op": "insert", "source": "x = 1", "id": "n"})).json()
    assert [] == said(fixed)
    again = (await edit(people.ana, made["name"], 2, {"op": "delete", "id": "n"})).json()
    assert [("c0", "undefined_name")] == said(again)


async def test_of_two_editors_one_is_told_to_read_again(people: People) -> None:
    """An edit of an old revision is 409, or 412 with If-Match, and changes nothing; the number is in it."""
    made = await make(people.ana, "x = 1")
    path = f"/v1/notebooks/{made['name']}"
    change = {"op": "replace", "id": "c0", "source": "x = 2"}
    assert 200 == (await edit(people.ana, made["name"], 1, change)).status_code
    late = await edit(people.ben, made["name"], 1, {"op": "delete", "id": "c0"})
    assert (409, "revision_changed") == (late.status_code, late.json()["error"])
    assert "2" in late.json()["detail"]
    body = {"edits": [change]}
    late = await people.ben.post(f"{path}/edits", json=body, headers={"If-Match": '"1"'})
    assert (412, "revision_changed") == (late.status_code, late.json()["error"])
    assert 412 == (await people.ben.delete(path, headers={"If-Match": '"1"'})).status_code
    # The same text again changes nothing, and makes no revision.
    same = await people.ben.post(f"{path}/edits", json=body, headers={"If-Match": '"2"'})
    assert (200, 2, "ana") == (same.status_code, same.json()["revision"], same.json()["author"])
    assert 422 == (await people.ben.post(f"{path}/edits", json=body)).status_code
    both = await people.ben.post(f"{path}/edits", json=body | {"revision": 1}, headers={"If-Match": '"2"'})
    assert (422, "revision_twice") == (both.status_code, both.json()["error"])
    for odd in ("1", '"x"', 'W/"1"', '"1", "2"', '"0"'):
        assert 400 == (await people.ben.delete(path, headers={"If-Match": odd})).status_code
    assert 200 == (await people.ben.delete(path, headers={"If-Match": '"2"'})).status_code


async def test_editors_at_once_make_one_revision(people: People) -> None:
    """Of ten edits of one revision at the same time one is made; the revisions stay without a gap."""
    made = await make(people.ana, "x = 1")
    found: list[int] = []

    async def one(number: int) -> None:
        change = {"op": "replace", "id": "c0", "source": f"x = {number}0"}
        found.append((await edit(people.ana, made["name"], 1, change)).status_code)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(one, number + 1)
    assert [200, *[409] * 9] == sorted(found)


async def test_revisions_are_paged_and_compared(people: People) -> None:
    """Revisions come latest first in pages; two are compared cell by cell."""
    made = await make(people.ana, "a = 1", "b = 2", "c = 3", "d = 4")
    path = f"/v1/notebooks/{made['name']}"
    await edit(people.ben, made["name"], 1, {"op": "move", "id": "c3"}, {"op": "delete", "id": "c1"})
    await edit(
        people.ana, made["name"], 2, {"op": "replace", "id": "c2", "source": "c = 9"},
        {"op": "insert", "after": "c2", "id": "e", "source": "e = 5"}, {"op": "describe", "title": "Other"},
    )  # fmt: skip
    first = (await people.ana.get(f"{path}/revisions?limit=2")).json()
    assert [(3, "ana"), (2, "ben")] == [(one["revision"], one["author"]) for one in first["revisions"]]
    rest = (await people.ana.get(f"{path}/revisions", params={"page_token": first["next_page_token"]})).json()
    assert [1] == [one["revision"] for one in rest["revisions"]]
    assert rest["next_page_token"] is None
    found = (await people.ana.get(f"{path}/diff?before=1&after=3")).json()
    assert [("moved", "c3"), ("changed", "c2"), ("added", "e"), ("removed", "c1")] == [
        (one["kind"], one["cell_id"]) for one in found["cells"]
    ]
    assert ("c = 3", "c = 9") == tuple(found["cells"][1][side]["source"] for side in ("before", "after"))
    assert ("Flights", "Other", None) == (
        found["before_title"],
        found["after_title"],
        found["before_metadata"],
    )
    same = (await people.ana.get(f"{path}/diff?before=2&after=2")).json()
    assert ([], None) == (same["cells"], same["after_title"])
    for query, status in (
        ("before=1&after=9", 404),
        ("before=1", 400),
        ("before=0&after=1", 400),
        ("x=1", 400),
    ):
        assert status == (await people.ana.get(f"{path}/diff?{query}")).status_code
    assert 404 == (await people.ana.get(f"{path}?revision=9")).status_code
    assert 400 == (await people.ana.get(f"{path}/revisions?page_token=eA")).status_code


async def test_a_listing_has_what_the_caller_may_read(people: People) -> None:
    """Pages by name; private, denied and other tenants' notebooks are in none."""
    for title in ("b", "a", "Secret", "c"):
        await make(people.ana, title=title)
    await make(people.ana, title="mine", access="private")
    await make(people.bob, title="other")

    async def names(who: httpx.AsyncClient) -> list[str]:
        found, token = [], None
        while True:
            query = {"limit": 2} | ({} if token is None else {"page_token": token})
            page = (await who.get("/v1/notebooks", params=query)).json()
            assert len(page["notebooks"]) <= 2
            found += [one["name"].rpartition("-")[0] for one in page["notebooks"]]
            token = page["next_page_token"]
            if token is None:
                return found

    assert ["a", "b", "c", "mine", "secret"] == await names(people.ana) == await names(people.root)
    assert ["a", "b", "c", "secret"] == await names(people.ben)
    assert ["a", "b", "c"] == await names(people.dan)
    assert [] == await names(people.eve)
    assert ["other"] == await names(people.bob)


ROUTES = (
    ("GET", "", "read"), ("GET", "/revisions", "read"), ("GET", "/diff?before=1&after=1", "read"),
    ("POST", "/edits", "write"), ("DELETE", "", "write"),
)  # fmt: skip
EDIT = {"revision": 1, "edits": [{"op": "insert", "source": "y = 1"}]}


async def test_what_may_not_be_read_is_as_what_is_missing(people: People) -> None:
    """For every route: another tenant's, a denied and a private notebook answer in the bytes of a missing one."""
    made = await make(people.ana, "x = 1")
    private = await make(people.ana, "x = 1", title="Mine", access="private")
    secret = await make(people.ana, "x = 1", title="Secret")
    hidden = [("bob", made), ("eve", made), ("ben", private), ("dan", secret), ("bob", private)]
    for who, notebook in hidden:
        client = people.clients[who]
        for method, rest, _ in ROUTES:
            body = EDIT if method == "POST" else None
            found = []
            for name in (notebook["name"], "nothing-00000000", "No_Name", "x" * 300):
                answer = await client.request(method, f"/v1/notebooks/{name}{rest}", json=body)
                headers = {key: value for key, value in answer.headers.items() if key != "date"}
                found.append((answer.status_code, answer.content, headers))
            assert 404 == found[0][0], (who, method, rest)
            assert 1 == len({str(one) for one in found}), (who, method, rest, found)
    for notebook in (made, private, secret):
        assert 1 == (await people.ana.get(f"/v1/notebooks/{notebook['name']}")).json()["revision"]


async def test_every_route_needs_its_scope(people: People) -> None:
    """Reading needs notebook:read, writing notebook:write; notebook:* is both, and admin:* neither."""
    made = await make(people.writer, "x = 1")
    expected = {"reader": {"read"}, "writer": {"write"}, "runner": set(), "root": {"read", "write"}}
    for who, scopes in expected.items():
        client = people.clients[who]
        assert (200 if "read" in scopes else 403) == (await client.get("/v1/notebooks")).status_code
        created = await client.post("/v1/notebooks", json={"title": "T"})
        assert (201 if "write" in scopes else 403) == created.status_code
        for method, rest, scope in ROUTES[:-1]:
            body = EDIT if method == "POST" else None
            answer = await client.request(method, f"/v1/notebooks/{made['name']}{rest}", json=body)
            if scope in scopes:
                assert answer.status_code in (200, 409), answer.text
            else:
                assert (403, "missing_scope") == (answer.status_code, answer.json()["error"])
                assert f"notebook:{scope}" in answer.json()["detail"]
    assert 403 == (await people.reader.delete(f"/v1/notebooks/{made['name']}")).status_code


async def test_who_may_read_may_not_write(people: People) -> None:
    """A rule that denies writing refuses edits and new notebooks, with 403, and leaves reading."""
    made = await make(people.ana, "x = 1")
    assert 200 == (await people.rob.get(f"/v1/notebooks/{made['name']}")).status_code
    assert (403, "access_denied") == (
        (answer := await edit(people.rob, made["name"], 1, EDIT["edits"][0])).status_code, answer.json()["error"]
    )  # fmt: skip
    assert 403 == (await people.rob.post("/v1/notebooks", json={"title": "T"})).status_code


BAD_EDITS = (
    ({"op": "replace", "id": "nope", "source": ""}, 422, "cell_unknown"),
    ({"op": "delete", "id": "nope"}, 422, "cell_unknown"),
    ({"op": "move", "id": "c0", "after": "nope"}, 422, "cell_unknown"),
    ({"op": "move", "id": "c0", "after": "c0"}, 422, "bad_place"),
    ({"op": "insert", "id": "c0"}, 422, "cell_id_repeated"),
    ({"op": "insert", "id": "a b"}, 422, "bad_cell_id"),
    ({"op": "insert", "name": "\u0007"}, 422, "bad_title"),
    ({"op": "insert", "name": "x" * (limits.MAX_TITLE_CHARACTERS + 1)}, 422, "bad_title"),
    ({"op": "describe", "title": " "}, 422, "bad_title"),
    ({"op": "insert", "source": "x" * (limits.MAX_CELL_BYTES + 1)}, 413, "notebook_too_large"),
    ({"op": "insert", "metadata": {"k": "x" * limits.MAX_METADATA_BYTES}}, 413, "notebook_too_large"),
    ({"op": "describe", "metadata": {"k": "x" * limits.MAX_METADATA_BYTES}}, 413, "notebook_too_large"),
)  # fmt: skip


async def test_every_bad_edit_is_refused_with_its_place(people: People) -> None:
    """A faulty edit refuses all edits of the request, and nothing is made."""
    made = await make(people.ana, "x = 1")
    fine = {"op": "insert", "source": "y = 1"}
    for bad, status, code in BAD_EDITS:
        answer = await edit(people.ana, made["name"], 1, fine, bad)
        assert (status, code) == (answer.status_code, answer.json()["error"]), answer.text[:300]
        assert answer.json()["errors"][0]["loc"]
    nested: dict = {}
    for _ in range(limits.MAX_METADATA_DEPTH + 1):
        nested = {"k": nested}
    answer = await edit(people.ana, made["name"], 1, {"op": "insert", "metadata": nested})
    assert (422, "metadata_too_nested") == (answer.status_code, answer.json()["error"])
    many = await edit(people.ana, made["name"], 1, *[fine] * (limits.MAX_EDITS + 1))
    assert 422 == many.status_code
    for most in (limits.MAX_CELLS + 1, 300_000):  # decoded in the pool, and never handled one by one
        body = {"title": "T", "cells": [{}] * most}
        assert 422 == (await people.ana.post("/v1/notebooks", json=body)).status_code
    many = await edit(people.ana, made["name"], 1, *[fine] * limits.MAX_CELLS)
    assert (413, "notebook_too_large") == (many.status_code, many.json()["error"])
    assert 422 == (await edit(people.ana, made["name"], 1)).status_code
    for odd in (
        {"op": "run", "id": "c0"},
        {"op": "insert", "sauce": ""},
        {"op": "insert", "language": "r"},
        {},
    ):
        assert (await edit(people.ana, made["name"], 1, odd)).status_code in (400, 422)
    half = "#" * (limits.MAX_CELL_BYTES)
    big = await edit(people.ana, made["name"], 1, *[{"op": "insert", "source": half}] * 12)
    assert (413, "notebook_too_large") == (big.status_code, big.json()["error"])
    assert 1 == (await people.ana.get(f"/v1/notebooks/{made['name']}")).json()["revision"]


async def test_bounds_of_names_edges_and_tenants(people: People, monkeypatch) -> None:
    """Names and edges of a notebook, and notebooks and bytes of a tenant, are refused by name, with the way out."""
    monkeypatch.setattr(analyses, "MAX_NAMES", 3)
    assert (
        201
        == (
            await people.ana.post("/v1/notebooks", json={"title": "T", "cells": [{"source": "x = y = z"}]})
        ).status_code
    )
    refused = await people.ana.post(
        "/v1/notebooks", json={"title": "T", "cells": [{"source": "x, y = z, w"}]}
    )
    assert (413, "notebook_too_large") == (refused.status_code, refused.json()["error"])
    monkeypatch.undo()
    monkeypatch.setattr(dependencies, "MAX_EDGES", 1)
    cells = [{"source": "x = y = 1"}, {"source": "x, y"}]
    assert 413 == (await people.ana.post("/v1/notebooks", json={"title": "T", "cells": cells})).status_code
    monkeypatch.undo()
    for module in (contract, sql_store):
        monkeypatch.setattr(module, "MAX_NOTEBOOKS", 1)
    refused = await people.ana.post("/v1/notebooks", json={"title": "T"})
    assert (413, "too_many_notebooks") == (refused.status_code, refused.json()["error"])
    assert 201 == (await people.bob.post("/v1/notebooks", json={"title": "T"})).status_code
    monkeypatch.undo()
    for module in (contract, sql_store):
        monkeypatch.setattr(module, "MAX_TENANT_BYTES", 100)
    refused = await people.ana.post("/v1/notebooks", json={"title": "T" * 100})
    assert (413, "notebooks_full") == (refused.status_code, refused.json()["error"])


async def test_a_notebook_at_its_bounds_holds_nobody_up(people: People) -> None:
    """Five hundred cells with thousands of names and dependencies are kept, read, compared and exported."""
    sources = [
        "import math\ndef f(a):\n    return a + math.pi",
        *[f"v{n} = f({n})\nw{n} = v{n}" for n in range(499)],
    ]
    made = await make(people.ana, *sources)
    assert len(made["dag"]["edges"]) > 900
    path = f"/v1/notebooks/{made['name']}"
    moves = [{"op": "move", "id": f"c{n}"} for n in range(1, 500)]
    changed = (await edit(people.ana, made["name"], 1, *moves)).json()
    assert "c499" == changed["cells"][0]["id"]
    assert len((await people.ana.get(f"{path}/diff?before=1&after=2")).json()["cells"]) >= 498
    assert 200 == (await people.ana.get(f"{path}/export?format=html")).status_code


async def test_a_cell_that_takes_long_holds_up_its_own_tenant_only(people: People, monkeypatch) -> None:
    """While a tenant's cells are analysed for ever, it has one thread of its share, and others go on."""
    free, begun = threading.Event(), []

    class Slow(Analyser):
        def analyse(self, language: str, source: str) -> Analysed:
            if source == "slow":
                begun.append(source)
                free.wait(30)
            return super().analyse(language, source)

    slow = Slow()
    monkeypatch.setattr(analyses, "ANALYSER", slow)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(make, people.ana, "slow")
            while not begun:
                await people.bob.get("/v1/notebooks")
            await make(people.bob, "x = 1")
            assert ["slow"] == begun
            assert 200 == (await people.ana.get("/v1/notebooks")).status_code
            free.set()
    finally:
        free.set()
        slow.close()
    assert 5 == len(begun)


async def test_hostile_cells_are_kept_with_a_finding(people: People) -> None:
    """A cell that no parser can take is stored, and its finding is all that comes of it."""
    made = await make(people.ana, "(" * 60_000, "-" * 60_000 + "1", "lambda:" * 9_000 + "1", "x = 1")
    codes = dict(said(made))
    assert {"c0": "syntax_error", "c1": "too_nested", "c2": "too_nested"} == codes
    assert [False, False, False, True] == [node["runnable"] for node in made["dag"]["cells"]]


async def test_a_restart_keeps_everything(settings: Settings) -> None:
    """Notebooks are rows of the metadata store: a second server on it reads them."""
    async with running(settings) as server, server.client(**PEOPLE["ana"]) as ana:
        made = await make(ana, "x = 1", "y = x")
    async with running(settings) as server, server.client(**PEOPLE["ana"]) as ana:
        assert made == (await ana.get(f"/v1/notebooks/{made['name']}")).json()


async def test_analyses_of_another_version_are_made_again(people: People, monkeypatch) -> None:
    """A graph is never made of analyses that another version of the analysis or of Python has left."""
    made = await make(people.ana, "x = 1", "y = x")
    monkeypatch.setattr(analyses, "VERSION", "another")
    assert made == (await people.ana.get(f"/v1/notebooks/{made['name']}")).json()


async def test_a_file_is_imported_and_exported(people: People) -> None:
    """An .ipynb file becomes a notebook with a report; exports are downloads that run nothing, of any revision."""
    document = ipynb_cases.notebook(
        ipynb_cases.text("# <script>1</script>", id_="t"), ipynb_cases.code("x = 1", id_="a", outputs=1)
    )
    answer = await people.ana.post("/v1/notebook-imports?title=Flights&access=private", json=document)
    assert 201 == answer.status_code, answer.text
    made = answer.json()["notebook"]
    assert [{"code": "outputs_dropped", "cell": None}] == [
        {"code": line["code"], "cell": line["cell"]} for line in answer.json()["import_report"]
    ]
    assert ("Flights", "private", ["t", "a"]) == (
        made["title"],
        made["access"],
        [cell["id"] for cell in made["cells"]],
    )
    path = f"/v1/notebooks/{made['name']}/export"
    await edit(people.ana, made["name"], 1, {"op": "delete", "id": "t"})
    latest, first = (await people.ana.get(path)), (await people.ana.get(f"{path}?revision=1"))
    assert [["a"], ["t", "a"]] == [[cell["id"] for cell in one.json()["cells"]] for one in (latest, first)]
    page = await people.ana.get(f"{path}?format=html&revision=1")
    assert "<script>" not in page.text
    assert f'attachment; filename="{made["name"]}.html"' == page.headers["content-disposition"]
    assert page.headers["content-security-policy"].endswith("sandbox")
    assert "x = 1" in (await people.ana.get(f"{path}?format=script")).text
    for who in (people.ben, people.bob, people.eve):
        assert 404 == (await who.get(path)).status_code
    assert (403, 403) == (
        (await people.writer.get(path)).status_code,
        (await people.reader.post("/v1/notebook-imports", json=document)).status_code,
    )
    assert 400 == (await people.ana.get(f"{path}?format=pdf")).status_code
    assert 400 == (await people.ana.post("/v1/notebook-imports?access=all", json=document)).status_code
    wrong = await people.ana.post("/v1/notebook-imports", json={"cells": []})
    assert (422, "not_a_notebook") == (wrong.status_code, wrong.json()["error"])
    big = await people.ana.post(
        "/v1/notebook-imports", json=ipynb_cases.notebook(ipynb_cases.code("#" * 70_000))
    )
    assert (413, ["cells", 0, "source"]) == (big.status_code, big.json()["errors"][0]["loc"])

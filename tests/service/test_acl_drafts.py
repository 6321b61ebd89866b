"""What a principal sees, and what a draft of the rules would change, over HTTP."""

from __future__ import annotations

import attrs
import httpx
import pytest
from service_kit import Running, Warehouse, identity, numbers, running, scan

from strata import acl
from strata.config import Settings
from strata.http.routes.admin import acl as routes

OPERATOR = identity("root", "ops", "admin:*")
ADMIN = identity("ada", "team-a", "admin:acl")

RULES = acl.Policy(
    deny=(acl.Rule("eve", "tables/*/db/secret"), acl.Rule("ada", "tables/*/db/c")),
    allow=(
        acl.Rule("*", "admin/**"),
        acl.Rule("*", "tables/wh/db/*", tenant="team-a"),
        acl.Rule("bob", "tables/wh/db/b", tenant="team-b", columns=("id",)),
    ),
)

TABLES = ("db.a", "db.b", "db.c", "db.secret")


async def sees(client: httpx.AsyncClient, principal: str, **more: object) -> dict:
    answer = await client.post("/v1/admin/acl/sees", json={"principal": principal, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_a_principal_sees_is_what_it_may_read(settings: Settings, warehouse: Warehouse) -> None:
    """Each table with the rule that allows it; a page at a time; the same as the principal's own list."""
    for name in TABLES:
        warehouse.create(numbers(3), name)
    async with running(attrs.evolve(settings, acl_config=RULES)) as server, server.client(**OPERATOR) as root:
        for principal, tenant in (("eve", "team-a"), ("zoe", "team-a"), ("bob", "team-b"), ("zoe", "team-b")):
            found = (await sees(root, principal, tenant=tenant))["tables"]
            async with server.client(**identity(principal, tenant)) as client:
                own = (await client.get("/v1/tables")).json()["tables"]
                assert [one["uri"] for one in own] == [one["uri"] for one in found]
            for name in TABLES:
                asked = {
                    "principal": principal,
                    "tenant": tenant,
                    "resource": f"tables/wh/{name.replace('.', '/')}",
                }
                explained = (await root.post("/v1/admin/acl/explain", json=asked)).json()
                assert explained["allowed"] == (f"wh:{name}" in {one["uri"] for one in found})
        [only] = (await sees(root, "bob", tenant="team-b"))["tables"]
        assert {
            "uri": "wh:db.b",
            "resource": "tables/wh/db/b",
            "rule": "allow bob on tables/wh/db/b",
            "partial": True,
        } == only
        first = await sees(root, "zoe", tenant="team-a", limit=3)
        rest = await sees(root, "zoe", tenant="team-a", limit=3, page_token=first["next_page_token"])
        assert [f"wh:{name}" for name in TABLES] == [one["uri"] for one in first["tables"] + rest["tables"]]
        assert rest["next_page_token"] is None
        assert ["wh:db.secret"] == [
            one["uri"] for one in (await sees(root, "zoe", tenant="team-a", q="CRET"))["tables"]
        ]


async def test_an_administrator_of_a_tenant_sees_through_the_eyes_of_its_members_only(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Another tenant does not exist to it, and of its own members' tables it is shown those it may read."""
    for name in TABLES:
        warehouse.create(numbers(3), name)
    async with running(attrs.evolve(settings, acl_config=RULES)) as server, server.client(**ADMIN) as ada:
        found = [one["uri"] for one in (await sees(ada, "zoe"))["tables"]]
        assert ["wh:db.a", "wh:db.b", "wh:db.secret"] == found
        for tenant in ("team-b", "nobody"):
            answer = await ada.post("/v1/admin/acl/sees", json={"principal": "bob", "tenant": tenant})
            assert (404, "Tenant not found") == (answer.status_code, answer.json()["detail"])
        async with server.client(**identity("zoe", "team-a")) as client:
            for path, body in (("sees", {"principal": "zoe"}), ("draft", {"rules": ""})):
                assert 403 == (await client.post(f"/v1/admin/acl/{path}", json=body)).status_code
        # A comparison names principals and tables of all tenants.
        answer = await ada.post("/v1/admin/acl/draft", json={"rules": 'default = "deny"'})
        assert (403, "operator_only") == (answer.status_code, answer.json()["error"])
        assert "team-b" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"principal": ""},
        {"principal": "a", "limit": 0},
        {"principal": "a", "limit": 1001},
        {"principal": "a\nb"},
        {"principal": "a", "scopes": [""]},
    ],
)
async def test_a_view_of_nobody_is_refused(server: Running, body: dict[str, object]) -> None:
    """What no caller can be is 422, and not repeated."""
    async with server.client(**OPERATOR) as root:
        answer = await root.post("/v1/admin/acl/sees", json=body)
        assert 422 == answer.status_code, answer.text
        assert (
            400
            == (await root.post("/v1/admin/acl/sees", json={"principal": "a", "page_token": "x"})).status_code
        )


async def test_a_draft_is_compared_and_not_loaded(settings: Settings, warehouse: Warehouse) -> None:
    """The changes are those of the library; afterwards the server decides as before."""
    warehouse.create(numbers(3), "db.a")
    draft = acl.print_policy(attrs.evolve(RULES, deny=(), allow=RULES.allow[:1]))
    async with running(attrs.evolve(settings, acl_config=RULES)) as server, server.client(**OPERATOR) as root:
        answer = await root.post("/v1/admin/acl/draft", json={"rules": draft})
        found = answer.json()
        assert 200 == answer.status_code, answer.text
        parsed = attrs.evolve(RULES, deny=(), allow=RULES.allow[:1])
        expected = acl.diff(RULES, parsed)
        assert (True, expected.complete) == (found["complete"], True)
        assert [(one.request.principal, one.request.resource) for one in expected.changes] == [
            (one["principal"], one["resource"]) for one in found["changes"]
        ]
        closed = [one for one in found["changes"] if one["kind"] == "closed"]
        assert any(one["now"] == "allow * on tables/wh/db/*" for one in closed)
        assert (0, 1, "deny") == (found["deny"], found["allow"], found["default"])
        same = await root.post("/v1/admin/acl/draft", json={"rules": acl.print_policy(RULES)})
        assert ([], True) == (same.json()["changes"], same.json()["complete"])
        async with server.client(**identity("zoe", "team-a")) as client:
            assert 200 == (await client.post("/v1/materialize", json=scan("wh:db.a"))).status_code


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (".".join("a" * 40) + " = 1", "Line 1 of the draft has more than 32 dots"),
        ("[" + ' . "b"' * 40 + "]", "Line 1 of the draft has more than 32 dots"),
        (f'[[allow]]\nprincipal = "a"\nresource = "artifacts/{"**/x/" * 40}"', "more than 64 segments"),
    ],
)
async def test_a_draft_that_costs_the_square_of_its_length_is_refused(
    settings: Settings, rules: str, words: str
) -> None:
    """Before anything of it is read; dots and slashes in texts and comments count for nothing."""
    async with running(settings) as server, server.client(**OPERATOR) as root:
        answer = await root.post("/v1/admin/acl/draft", json={"rules": rules})
        assert (409, "acl_refused") == (answer.status_code, answer.json()["error"])
        assert words in answer.text
    assert routes.draft_problem(f'default = "{"a." * 99}" # {"a/b." * 99}\n') is None


def test_of_many_scopes_not_every_pair_is_tried() -> None:
    """Their number is the square of that of the scopes; the difference says that it may lack some."""
    rules = tuple(acl.Rule("*", "tables/wh/db/a", scope=f"s{number}") for number in range(70))
    found = acl.diff(acl.Policy(), acl.Policy(allow=rules), lambda changes: changes > 3)
    assert not found.complete


async def test_a_draft_with_faults_is_refused_with_all_of_them(settings: Settings) -> None:
    """As a reload of the file would refuse it; the rules in force are told as no rules where there are none."""
    async with running(settings) as server, server.client(**OPERATOR) as root:
        for rules, words in (
            ("nothing = [", "not valid TOML"),
            ("", "is empty"),
            ('[[allow]]\nprincipal = "a"\n[[deny]]\nresource = "tables/x/y/z"\n', "missing"),
        ):
            answer = await root.post("/v1/admin/acl/draft", json={"rules": rules})
            assert (409, "acl_refused") == (answer.status_code, answer.json()["error"])
            assert answer.json()["errors"]
            if words != "missing":
                assert words in answer.json()["errors"][0]["msg"]
        closing = await root.post("/v1/admin/acl/draft", json={"rules": 'default = "deny"'})
        assert {"closed"} == {one["kind"] for one in closing.json()["changes"]}


async def test_a_draft_of_many_changes_is_cut_and_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search ends at a number of changes, and after some seconds."""
    rules = "".join(f'[[deny]]\nprincipal = "p{at}"\nresource = "tables/wh/db/t{at}"\n' for at in range(40))
    async with running(settings) as server, server.client(**OPERATOR) as root:
        monkeypatch.setattr(routes, "MOST_CHANGES", 5)
        body = {"rules": f'default = "allow"\n{rules}'}
        found = (await root.post("/v1/admin/acl/draft", json=body)).json()
        assert (5, False) == (len(found["changes"]), found["complete"])
        monkeypatch.setattr(routes, "MOST_CHANGES", 500)
        monkeypatch.setattr(routes, "DRAFT_SECONDS", 0.0)
        found = (await root.post("/v1/admin/acl/draft", json=body)).json()
        assert not found["complete"]

"""Access rules over HTTP: the product page's example, explanations of decisions, and reloading."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from service_kit import Running, Warehouse, environment, fetch, identity, numbers, process, running, scan

from strata import acl
from strata.acl import Policy, parse_policy
from strata.config import Settings
from strata.config.sources import load_settings

PRODUCT_PAGE = """
[tool.strata.acl_config]
# deny rules evaluate first; explicit denies cannot be bypassed.
[[tool.strata.acl_config.deny]]
principal = "guest@example.com"
resource = "tables/internal/*"

[[tool.strata.acl_config.allow]]
principal = "analyst@example.com"
resource = "tables/marketing/*"
scope = "notebook:write"

# default action when no rule matches (default: "deny")
default = "deny"
"""
"""As it stands there."""


def product_page(settings: Settings, tmp_path: Path, text: str = PRODUCT_PAGE) -> Policy:
    """Return the rules as a server with these settings would load them."""
    (tmp_path / "pyproject.toml").write_text(text)
    environ = environment(settings)
    found = load_settings(config_file=None, environ=environ, options={}, cwd=tmp_path)
    assert found.settings.acl_config is not None
    return found.settings.acl_config


def caller(principal: str, scopes: str = "") -> dict[str, str]:
    return identity(principal, "team-a", scopes)


async def status(server: Running, table: str, who: dict[str, str]) -> int:
    async with server.client(**who) as client:
        body = scan(f"wh:{table}")
        answer = await client.post("/v1/materialize", json=body)
        explained = await client.post("/v1/artifacts/explain-materialize", json=body)
        assert answer.status_code == explained.status_code
        if answer.status_code == 200:
            await client.get(answer.json()["stream_url"])
        return answer.status_code


async def test_the_product_pages_rules_decide_over_http_as_the_page_says(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """The page's deny rule, its allow rule with a scope, and its default each decide a request."""
    for table in ("internal.plans", "marketing.leads", "other.things"):
        warehouse.create(numbers(5), table)
    rules = product_page(settings, tmp_path)
    guest = caller("guest@example.com")
    analyst, writer = caller("analyst@example.com"), caller("analyst@example.com", "notebook:write")
    async with running(attrs.evolve(settings, acl_config=rules)) as server:
        assert 404 == await status(server, "internal.plans", guest)
        assert 200 == await status(server, "marketing.leads", writer)
        assert 404 == await status(server, "marketing.leads", analyst), "without the scope"
        assert 404 == await status(server, "marketing.leads", guest), "by default"
        assert 404 == await status(server, "internal.plans", writer), "by default"
        assert 404 == await status(server, "other.things", writer), "by default"


async def test_the_product_pages_deny_rule_cannot_be_bypassed(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """A rule that allows all principals everything does not override the deny rule, which affects only the guest."""
    warehouse.create(numbers(5), "internal.plans")
    warehouse.create(numbers(5), "other.things")
    more = '[[tool.strata.acl_config.allow]]\nprincipal = "*"\nresource = "tables/**"\n\n# default action'
    rules = product_page(settings, tmp_path, PRODUCT_PAGE.replace("# default action", more))
    async with running(attrs.evolve(settings, acl_config=rules)) as server:
        assert 404 == await status(server, "internal.plans", caller("guest@example.com", "admin:*"))
        assert 200 == await status(server, "other.things", caller("guest@example.com"))
        assert 200 == await status(server, "internal.plans", caller("boss@example.com"))


@pytest.mark.slow
def test_a_process_boots_on_the_product_pages_block(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    """A server starts with the block in pyproject.toml, warns of the default's place, and applies the default."""
    warehouse.create(numbers(5), "marketing.leads")
    (tmp_path / "pyproject.toml").write_text(PRODUCT_PAGE)
    with process(tmp_path, **environment(settings)) as server, httpx.Client(base_url=server.url) as client:

        def ask(who: dict[str, str]) -> int:
            return client.post("/v1/materialize", json=scan("wh:marketing.leads"), headers=who).status_code

        assert 200 == ask(caller("analyst@example.com", "notebook:*"))
        assert 404 == ask(caller("analyst@example.com"))
        assert "`default` stands after this rule's [[…]]" in server.log.read_text()


ADMIN = identity("root", "team-b", "admin:acl")
ADMINS = acl.Rule("root", "admin/acl", scope="admin:acl")
RULES = acl.Policy(
    deny=(acl.Rule("eve", "tables/*/db/events"),),
    allow=(acl.Rule("*", "tables/wh/db/*", tenant="team-a"), ADMINS),
)


def question(**more: Any) -> dict[str, Any]:
    return {"principal": "eve", "tenant": "team-a", "scopes": [], "resource": "tables/wh/db/events"} | more


async def test_an_administrator_is_told_why_somebody_is_denied_and_what_would_change_it(
    settings: Settings,
) -> None:
    """An explanation for a principal of any tenant lists every rule, its deciding part, and the smallest change."""
    async with (
        running(attrs.evolve(settings, acl_config=RULES)) as server,
        server.client(**ADMIN) as root,
    ):
        denied = (await root.post("/v1/admin/acl/explain", json=question())).json()
        assert (False, "a deny rule matches", 3) == (denied["allowed"], denied["reason"], denied["rules"])
        assert [
            ("deny", 1, []),
            ("allow", 1, []),
            ("allow", 2, ["principal", "scope", "resource"]),
        ] == [(one["effect"], one["number"], one["misses"]) for one in denied["considered"]]
        assert {"allowed": True, "remove": ["deny 1"], "add": []} == denied["otherwise"]
        allowed = (await root.post("/v1/admin/acl/explain", json=question(principal="bob"))).json()
        assert allowed["allowed"]
        assert ["deny"] == [rule["effect"] for rule in allowed["otherwise"]["add"]]
        malformed = await root.post("/v1/admin/acl/explain", json=question(resource="tables/x"))
        assert (False, None) == (malformed.json()["allowed"], malformed.json()["otherwise"])


async def test_an_explanation_over_http_is_the_librarys_and_decides_as_the_server_does(
    settings: Settings, warehouse: Warehouse
) -> None:
    """An explanation equals the library's, and its decision equals the server's for that caller."""
    warehouse.create(numbers(5))
    async with running(attrs.evolve(settings, acl_config=RULES)) as server, server.client(**ADMIN) as root:
        for principal, tenant in (("eve", "team-a"), ("bob", "team-a"), ("bob", "team-b")):
            asked = question(principal=principal, tenant=tenant)
            found = (await root.post("/v1/admin/acl/explain", json=asked)).json()
            request = acl.Request(principal, tenant, frozenset(), asked["resource"], "read")
            assert acl.explain(RULES, request).document() == found
            async with server.client(**identity(principal, tenant)) as client:
                answer = await client.post("/v1/materialize", json=scan("wh:db.events"))
                assert (200 if found["allowed"] else 404) == answer.status_code


@pytest.mark.parametrize("odd", ["ana ", "", "a\u0007", "e\u0301"])
@pytest.mark.parametrize("field", ["principal", "tenant"])
async def test_an_odd_caller_is_a_bad_question_and_crashes_nothing(
    settings: Settings, field: str, odd: str
) -> None:
    """A principal or tenant that no request can have is 422 or answered; the actor that was asked goes on."""
    async with (
        running(attrs.evolve(settings, acl_config=RULES)) as server,
        server.client(**ADMIN) as root,
    ):
        await root.get("/v1/names")
        [tenant] = server.service.registry.tenants()
        actor = tenant.actor
        answer = await root.post("/v1/admin/acl/explain", json=question(**{field: odd}))
        assert answer.status_code in (200, 422), answer.text
        if answer.status_code == 422:
            assert "invalid_caller" == answer.json()["error"]
        assert 200 == (await root.get("/v1/names")).status_code
        assert (actor, 0) == (tenant.actor, tenant.metrics.restarts)


@pytest.mark.parametrize("path", ["explain", "reload"])
async def test_the_rules_are_administered_by_those_with_the_scope_and_the_right(
    settings: Settings, path: str
) -> None:
    """The routes need both the scope and a rule: neither another scope nor the scope alone suffices."""
    body = question() if path == "explain" else None
    async with running(attrs.evolve(settings, acl_config=RULES)) as server:
        found = []
        for who in (
            ADMIN,
            identity("root", "team-b"),
            identity("root", "team-b", "admin:cache"),
            identity("eve", "team-b", "admin:*"),
        ):
            async with server.client(**who) as client:
                answer = await client.post(f"/v1/admin/acl/{path}", json=body)
                found.append((answer.status_code, answer.json().get("error")))
    first = (200, None) if path == "explain" else (409, "no_acl_file")
    assert [first, (403, "missing_scope"), (403, "missing_scope"), (403, "access_denied")] == found


async def test_without_rules_everything_is_permitted_and_it_says_so(server: Running) -> None:
    """Without rules an explanation permits every request, and states that there are no rules."""
    async with server.client(**ADMIN) as root:
        found = await root.post("/v1/admin/acl/explain", json=question())
    assert (True, "no access rules are configured") == (found.json()["allowed"], found.json()["reason"])


async def test_of_very_many_rules_those_that_nearly_match_are_told(settings: Settings) -> None:
    """An explanation of very many rules lists the nearest ones, and the number of all."""
    many = tuple(acl.Rule(f"user{n}", f"tables/wh/ns{n}/*", tenant="team-c") for n in range(3000))
    near = acl.Rule("eve", "tables/wh/db/*")
    policy = acl.Policy(allow=(*many, ADMINS, near))
    async with running(attrs.evolve(settings, acl_config=policy)) as server, server.client(**ADMIN) as root:
        found = (await root.post("/v1/admin/acl/explain", json=question())).json()
    assert (3002, 1000) == (found["rules"], len(found["considered"]))
    assert 3002 == found["considered"][0]["number"]


ALLOW = '[[allow]]\nprincipal = "*"\nresource = "tables/wh/db/*"\n\n'
DENY = ALLOW + '[[deny]]\nprincipal = "eve"\nresource = "tables/wh/db/events"\n\n'
ROOT = '[[allow]]\nprincipal = "root"\nresource = "admin/acl"\n\n'


@pytest.fixture
def file(tmp_path: Path, settings: Settings) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(ALLOW + ROOT)
    return path


def with_file(settings: Settings, file: Path, seconds: float = 0) -> Settings:
    policy, _ = parse_policy(tomllib.loads(file.read_text()), ["wh"])
    return attrs.evolve(settings, acl_config=policy, acl_file=str(file), acl_file_watch_seconds=seconds)


async def test_rules_are_read_again_on_request_whole_or_not_at_all(
    settings: Settings, warehouse: Warehouse, file: Path
) -> None:
    """A reload applies all rules or none, also to existing results, and is recorded in the audit log."""
    warehouse.create(numbers(5))
    eve = identity("eve", "team-a")
    async with running(with_file(settings, file)) as server, server.client(**ADMIN) as root:
        async with server.client(**eve) as client:
            await fetch(client, scan("wh:db.events"))
            url = (await client.post("/v1/materialize", json=scan("wh:db.events"))).json()["stream_url"]
            assert 200 == (await client.get(url)).status_code

            await trio.Path(file).write_text(
                DENY + ROOT + '[[deny]]\nprincipal = "x"\nresource = "tabels/a/b/c"\n'
            )
            refused = await root.post("/v1/admin/acl/reload")
            assert (409, "acl_refused") == (refused.status_code, refused.json()["error"])
            assert ["acl_file"] == refused.json()["errors"][0]["loc"]
            assert refused.json()["errors"][0]["msg"].startswith("deny rule 2: ")
            assert 200 == (await client.get(url)).status_code

            await trio.Path(file).write_text("[[deny]\n")
            refused = await root.post("/v1/admin/acl/reload")
            assert refused.json()["errors"][0]["msg"].startswith("acl_file is not valid TOML: ")
            assert str(file) not in refused.text

            await trio.Path(file).write_text(DENY + ROOT)
            taken = await root.post("/v1/admin/acl/reload")
            assert {"changed": True, "deny": 1, "allow": 2, "default": "deny", "warnings": []} == taken.json()
            assert 404 == (await client.get(url)).status_code
            assert not (await root.post("/v1/admin/acl/reload")).json()["changed"]
        resources = server.service.registry.resources
        noted = await resources.ask("", resources.metadata.list_audit, tenant=None, before=None, limit=9)
        assert [(None, "root", "acl.reload")] * 4 == [
            (one.act.tenant, one.act.principal, one.act.action) for one in noted
        ]
        assert server.service.settings.acl_config is server.service.authorizer.policy


async def test_rules_are_read_again_when_their_file_changes(
    settings: Settings, warehouse: Warehouse, file: Path
) -> None:
    """A changed file is applied within `acl_file_watch_seconds`."""
    warehouse.create(numbers(5))
    async with running(with_file(settings, file, seconds=0.02)) as server:
        assert 200 == await status(server, "db.events", identity("eve", "team-a"))
        # Moved into place, as the how-to says: an empty file at rest for two looks are rules that deny all.
        new = trio.Path(file).with_suffix(".new")
        await new.write_text(DENY + ROOT)
        await new.replace(file)
        async with server.client(**identity("eve", "team-a")) as eve:
            with trio.fail_after(60):
                while (await eve.post("/v1/materialize", json=scan("wh:db.events"))).status_code != 404:
                    pass
        assert 200 == await status(server, "db.events", identity("ana", "team-a"))


DENY_EVE = '[[deny]]\nprincipal = "eve"\nresource = "tables/{}/db/*"\n\n'


async def test_a_second_alias_is_decided_and_explained_as_the_first(
    settings: Settings, warehouse: Warehouse, file: Path
) -> None:
    """A rule on the second alias, which would never apply, is refused; one on the first covers both."""
    warehouse.create(numbers(5))
    both = attrs.evolve(settings, warehouses={**settings.warehouses, "alt": settings.warehouses["wh"]})
    eve = identity("eve", "team-a")
    async with running(with_file(both, file)) as server, server.client(**ADMIN) as root:
        await trio.Path(file).write_text(ALLOW + DENY_EVE.format("alt") + ROOT)
        refused = await root.post("/v1/admin/acl/reload")
        assert (409, "acl_refused") == (refused.status_code, refused.json()["error"])
        assert "names 'alt', another name of 'wh'" in refused.json()["errors"][0]["msg"]

        await trio.Path(file).write_text(ALLOW + DENY_EVE.format("wh") + ROOT)
        assert 200 == (await root.post("/v1/admin/acl/reload")).status_code
        for alias in ("wh", "alt"):
            asked = question(resource=f"tables/{alias}/db/events")
            assert not (await root.post("/v1/admin/acl/explain", json=asked)).json()["allowed"]
            async with server.client(**eve) as client:
                answer = await client.post("/v1/materialize", json=scan(f"{alias}:db.events"))
                assert 404 == answer.status_code

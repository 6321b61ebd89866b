"""What browsers do with a server that holds a user's data: other sites' pages, other host names, caches."""

import json

import attrs
import httpx
import pytest
from service_kit import ARROW, Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings

PAGE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
PLAIN = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}


def codes(answers: list[httpx.Response]) -> set[tuple[int, str]]:
    """Return the statuses and error codes of answers."""
    return {(answer.status_code, answer.json()["error"]) for answer in answers}


async def test_a_page_of_another_site_changes_nothing(server: Running, warehouse: Warehouse) -> None:
    """Neither a result, a name, a cache nor a tenant's state is changed by what such a page can send."""
    warehouse.create(numbers(10))
    body = json.dumps(scan(warehouse.uri(), name="prod/report")).encode()
    async with (
        server.client(**identity(scopes="admin:*")) as client,
        server.client(**identity("bob", "team-b")) as bob,
    ):
        paths = ("/v1/cache/clear", "/v1/admin/drain", "/v1/admin/tenants/team-b/disable")
        refused = [await client.post(path, headers=PAGE) for path in paths]
        refused += [
            await client.post("/v1/materialize", content=body, headers=PAGE | kind) for kind in (JSON, PLAIN)
        ]
        refused += [await client.delete("/v1/admin/tenants/team-a/limits", headers=PAGE)]
        assert {(403, "foreign_site")} == codes(refused)
        unlabelled = [
            await client.post("/v1/materialize", content=body, headers=kind) for kind in (PLAIN, {})
        ]
        unlabelled += [await client.post("/v1/cache/clear", content=b"x", headers=PLAIN)]
        assert {(415, "unsupported_media_type")} == codes(unlabelled)
        assert (0, 200) == (
            (await client.get("/v1/artifacts")).json()["total_count"],
            (await client.get("/health/ready")).status_code,
        )
        assert 200 == (await bob.get("/v1/artifacts")).status_code


async def test_the_servers_own_pages_and_programs_go_on_working(
    server: Running, warehouse: Warehouse
) -> None:
    """A page of the same origin, one behind a proxy that renames the host, and a program may post."""
    warehouse.create(numbers(10))
    forwarded = {"X-Forwarded-Host": "strata.example", "Origin": "https://strata.example"}
    async with server.client() as client:
        for more in ({}, {"Origin": server.url}, {"Sec-Fetch-Site": "same-origin"}, forwarded):
            answer = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers=more)
            assert 200 == answer.status_code


async def test_a_compressed_body_is_415(server: Running, warehouse: Warehouse) -> None:
    """Its bytes would have no bound once they are unpacked; the answer says which coding is taken."""
    body = json.dumps(scan(warehouse.uri())).encode()
    async with server.client() as client:
        answer = await client.post(
            "/v1/materialize", content=body, headers=JSON | {"Content-Encoding": "gzip"}
        )
    assert {(415, "unsupported_content_encoding")} == codes([answer])
    assert "identity" == answer.headers["accept-encoding"]


async def test_allowed_hosts_names_the_hosts_of_service_mode(settings: Settings) -> None:
    """With it, a request under another name is refused, except a probe's; a reload changes the names."""
    named = attrs.evolve(settings, allowed_hosts="strata.example, ui.example")
    async with running(named) as server, server.client() as client:
        good, other = {"Host": "Strata.example:8443"}, {"Host": "evil.example"}
        assert 200 == (await client.get("/v1/me", headers=good)).status_code
        assert {(403, "foreign_host")} == codes([await client.get("/v1/me", headers=other)])
        assert 401 == (await client.get("/v1/me", headers=other | {"X-Strata-Proxy-Token": "x"})).status_code
        assert 200 == (await client.get("/health/ready", headers=other)).status_code
        from_page = good | {"Origin": "https://ui.example", "Sec-Fetch-Site": "same-site"}
        assert 403 == (await client.post("/v1/cache/clear", headers=from_page)).status_code  # the scope's
        server.service.take(attrs.evolve(named, allowed_hosts="evil.example"), None)
        assert 200 == (await client.get("/v1/me", headers=other)).status_code


@pytest.fixture
def personal(settings: Settings) -> Settings:
    """Return settings of personal mode."""
    return attrs.evolve(
        settings,
        deployment_mode="personal",
        auth_mode="none",
        proxy_token=None,
        multi_tenant_enabled=False,
        require_tenant_header=False,
    )


async def test_personal_mode_answers_to_this_machines_names_only(
    personal: Settings, warehouse: Warehouse
) -> None:
    """A page whose host name was made to point at this machine reads nothing and changes nothing."""
    warehouse.create(numbers(10))
    rebound = {
        "Host": "evil.example:8765",
        "Origin": "http://evil.example:8765",
        "Sec-Fetch-Site": "same-origin",
    }
    async with running(personal) as server, httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        refused = [await client.get(path, headers=rebound) for path in ("/v1/me", "/v1/artifacts", "/docs")]
        refused += [await client.post("/v1/materialize", json=scan(warehouse.uri()), headers=rebound)]
        assert {(403, "foreign_host")} == codes(refused)
        assert {(403, "foreign_site")} == codes([await client.post("/v1/cache/clear", headers=PAGE)])
        plain = await client.post("/v1/materialize", content=b"{}", headers=PLAIN)
        assert {(415, "unsupported_media_type")} == codes([plain])
        for host in ("localhost:1", "127.0.0.1", "[::1]:8765"):
            assert 200 == (await client.get("/v1/me", headers={"Host": host})).status_code
        assert 10 == (await fetch(client, scan(warehouse.uri()))).num_rows


async def test_allowed_hosts_adds_to_the_names_of_personal_mode(personal: Settings) -> None:
    """A name under which the user reaches the machine is added by the setting."""
    named = attrs.evolve(personal, allowed_hosts="box.lan")
    async with running(named) as server, httpx.AsyncClient(base_url=server.url) as client:
        for host, status in (("box.lan:8765", 200), ("localhost", 200), ("evil.example", 403)):
            assert status == (await client.get("/v1/me", headers={"Host": host})).status_code


async def test_the_next_user_of_a_browser_asks_the_server(server: Running, warehouse: Warehouse) -> None:
    """Data may be cached but not shown again without asking; another tenant is told that there is none."""
    warehouse.create(numbers(10))
    async with server.client() as ana, server.client(**identity("bob", "team-b")) as bob:
        await fetch(ana, scan(warehouse.uri()))
        url = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        whole = await ana.get(url)
        direct = await ana.post("/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW})
        same = {"If-None-Match": whole.headers["etag"]}
        again = await ana.get(url, headers=same)
        assert {"private, no-cache"} == {
            answer.headers["cache-control"] for answer in (whole, direct, again, await ana.head(url))
        }
        assert [200, 304, 404] == [
            whole.status_code,
            again.status_code,
            (await bob.get(url, headers=same)).status_code,
        ]


async def test_conditional_requests_follow_rfc_9110(server: Running, warehouse: Warehouse) -> None:
    """A range, and each precondition, of GET and of HEAD; what is refused does not carry the result."""
    warehouse.create(numbers(1000))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        url = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        whole = await client.get(url)
        tag, size = whole.headers["etag"], len(whole.content)
        expected = [
            ("GET", {"Range": "bytes=0-3"}, 206, 4),
            ("GET", {"Range": "rows=0-1"}, 200, size),
            ("GET", {"Range": "bytes=0-1,4-5"}, 200, size),
            ("GET", {"Range": "bytes=0-3", "If-Range": tag}, 206, 4),
            ("GET", {"Range": "bytes=0-3", "If-Range": f"W/{tag}"}, 200, size),
            ("GET", {"If-Match": "*"}, 200, size),
            ("GET", {"If-Match": tag, "Range": "bytes=-8"}, 206, 8),
            ("GET", {"If-None-Match": f'"x", W/{tag}'}, 304, 0),
            ("HEAD", {"If-None-Match": tag}, 304, 0),
            ("HEAD", {"If-Match": '"other"'}, 412, 0),
            ("HEAD", {"Range": "bytes=0-3"}, 200, 0),
        ]
        for method, headers, status, length in expected:
            answer = await client.request(method, url, headers=headers)
            assert (status, length) == (answer.status_code, len(answer.content)), headers
            assert status == 412 or tag == answer.headers["etag"]
            assert (status == 304) == ("content-type" not in answer.headers)
        other = await client.get(url, headers={"If-Match": '"other"'})
        assert {(412, "precondition_failed")} == codes([other])
        assert 0 == server.service.registry.resources.memory.used


async def test_accept_is_a_list_with_weights(server: Running, warehouse: Warehouse) -> None:
    """The heavier type is answered; several lines are one list."""
    warehouse.create(numbers(10))
    for lines, arrow in (
        ([f"{ARROW}, application/json;q=0.5"], True),
        ([f"{ARROW};q=0.5, application/json"], False),
        (["application/json;q=0.1", ARROW], True),
        (["*/*"], False),
    ):
        async with server.client() as client:
            client.headers = httpx.Headers([*identity().items(), *(("Accept", line) for line in lines)])
            answer = await client.post("/v1/materialize", json=scan(warehouse.uri()))
        assert arrow == (answer.headers["content-type"] == ARROW), lines

"""Rate limits over sockets: they follow the settings, and affect only the client that exceeds them."""

import attrs
import httpx
import pytest
import trio
from service_kit import ARROW, Warehouse, identity, numbers, running, scan

from strata.config import Settings
from strata.server.service import limits_of

CASES = [
    ("rate_limit_global_rps", 0.02, ("ana", "bob"), ("GET", "/v1/artifacts")),
    ("rate_limit_client_rps", 0.02, ("ana",) * 2, ("GET", "/v1/artifacts")),
    ("rate_limit_scan_rps", 0.02, ("ana",) * 2, ("POST", "/v1/materialize")),
]


@pytest.mark.parametrize(("name", "value", "whom", "what"), CASES)
async def test_the_second_request_within_its_seconds_is_429(  # a fixture and cases
    settings: Settings, name: str, value: float, whom: tuple[str, ...], what: tuple[str, str]
) -> None:
    """The refusal names the limit; another tenant and the probes are not affected."""
    async with running(attrs.evolve(settings, **{name: value})) as server, server.client() as client:
        seen = [await client.request(*what, headers=identity(who), json={}) for who in whom]
        assert [False, True] == [answer.status_code == 429 for answer in seen]
        problem = seen[-1].json()
        assert (name, {"name": name, "value": value}) == (problem["error"], problem["limit"])
        assert int(seen[-1].headers["Retry-After"]) >= 1
        assert f'"{name}";q=1;w=50' == seen[-1].headers["RateLimit-Policy"]
        assert "team-b" not in seen[-1].text
        other = await client.request(*what, headers=identity(tenant="team-b"), json={})
        assert 429 != other.status_code
        for path in ("/health", "/health/ready") * 10:
            assert 200 == (await client.get(path, headers={})).status_code


async def test_rate_limits_can_be_switched_off_while_the_server_runs(settings: Settings) -> None:
    """A change of `rate_limit_enabled` on SIGHUP applies to the next request."""
    async with (
        running(attrs.evolve(settings, rate_limit_client_rps=0.02)) as server,
        server.client() as client,
    ):
        assert [200, 429] == [(await client.get("/v1/artifacts")).status_code for _ in range(2)]
        server.service.take(attrs.evolve(server.service.settings, rate_limit_enabled=False), None)
        assert [200] * 5 == [(await client.get("/v1/artifacts")).status_code for _ in range(5)]


BYTES = ["rate_limit_bytes_per_day", "rate_limit_client_bytes_per_day"]


def test_bytes_a_second_are_the_settings() -> None:
    """The two `…_bytes_per_second` settings reach the buckets; tests/tenants/limits/test_rates.py tests pacing."""
    limits = limits_of(Settings(rate_limit_bytes_per_second=5, rate_limit_client_bytes_per_second=3))
    assert (5, 3) == (limits.bytes_per_second, limits.principal_bytes_per_second)


@pytest.mark.parametrize("name", BYTES)
async def test_bytes_sent_beyond_the_limit_refuse_the_next_request(
    settings: Settings, warehouse: Warehouse, name: str
) -> None:
    """The open stream is complete; new requests get 429 until the debt is paid, per tenant or principal."""
    warehouse.create(numbers(1000))
    async with running(attrs.evolve(settings, **{name: 1000})) as server, server.client() as client:
        body = scan(warehouse.uri())
        data = await client.post("/v1/materialize", json=body, headers={"Accept": ARROW})
        assert (200, True) == (data.status_code, len(data.content) > 10_000)
        refused = await client.get("/v1/artifacts")
        assert (429, name) == (refused.status_code, refused.json()["error"])
        bob = await client.get("/v1/artifacts", headers=identity("bob"))
        assert (200 if "client" in name else 429) == bob.status_code
        assert 200 == (await client.get("/v1/artifacts", headers=identity(tenant="team-b"))).status_code


async def test_a_flood_on_held_connections_leaves_room_for_others(settings: Settings) -> None:
    """Delayed refusals never occupy all connections, however many one tenant opens."""
    few = attrs.evolve(settings, max_connections=40, rate_limit_client_rps=1)
    async with running(few) as server, server.client() as client:
        assert 10 == server.service.app.tarpit.most
        async with trio.open_nursery() as nursery:

            async def flood() -> None:
                async with httpx.AsyncClient(base_url=server.url, headers=identity("mallory")) as mine:
                    while True:
                        await mine.get("/v1/artifacts")

            for _ in range(12):
                nursery.start_soon(flood)
            with trio.fail_after(60):
                while server.service.app.tarpit.held < 5:  # noqa: ASYNC110  # no event tells of it
                    await trio.sleep(0.005)
            for number in range(10):
                mine = identity(f"p{number}", tenant="team-b")
                assert 200 == (await client.get("/v1/artifacts", headers=mine)).status_code
                assert server.service.app.tarpit.held <= 5
            nursery.cancel_scope.cancel()

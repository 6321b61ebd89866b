"""Metrics: right numbers under right names, bounded, in slices, and a listener that has nothing else."""

from functools import partial
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from programs import need
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from service_kit import Running, Warehouse, fetch, free_port, identity, numbers, running, scan

from strata.config import Settings
from strata.http.serving.listening import CannotListenError
from strata.observability import metrics as module
from strata.observability.families import FAMILIES, reference
from strata.observability.metrics import Page, expose, expose_at_once
from strata.server import run_server
from strata.tenants import Registry, TenantLimits
from strata.tenants.lifecycle.handle import Tenant
from strata.tenants.stats.counters import TenantMetrics
from strata.tenants.stats.histogram import BUCKETS, Histogram
from strata.work import WorkPool

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ROOT = Path(__file__).parents[2]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(text: bytes, *, accept: str = "") -> Samples:
    parse = openmetrics if accept else prometheus
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text.decode())
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


async def scrape(server: Running, requests: int, accept: str = "") -> Samples:
    """The metrics once so many requests are counted, which comes right after their answers."""
    registry = server.service.registry
    with trio.fail_after(30):
        while requests > sum(  # noqa: ASYNC110  # the door has no event of its own
            sum(counted.requests.values())
            for counted in (registry.others, *(found.metrics for found in registry.tenants()))
        ):
            await trio.sleep(0.005)
    text, _ = await expose(registry, accept)
    return read(text, accept=accept)


async def used(server: Running, warehouse: Warehouse) -> None:
    """A miss, a hit, a refusal and a read, of one tenant."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        await fetch(client, scan(warehouse.uri()))
        await client.post("/v1/materialize", json=scan(warehouse.uri("db.nothing")))


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_what_happened_in_a_tenant_is_counted(
    server: Running, warehouse: Warehouse, accept: str
) -> None:
    """In both formats."""
    await used(server, warehouse)

    samples = await scrape(server, 5, accept)
    mine = partial(value, samples, tenant="team-a")
    assert (4, 1) == (
        mine("strata_http_requests_total", status="2xx"),
        mine("strata_http_requests_total", status="4xx"),
    )
    assert (1, 1) == tuple(mine("strata_materializations_total", found=found) for found in ("yes", "no"))
    assert 1 == mine("strata_refusals_total", reason="not_found")
    assert 1 == mine("strata_builds_total", outcome="ready")
    assert 10 == mine("strata_result_rows_total")
    assert mine("strata_http_sent_bytes_total") > 2 * mine("strata_result_bytes_total") > 0
    assert 1 == mine("strata_queue_wait_seconds_count", tier="interactive")
    assert 2 == mine("strata_stream_duration_seconds_count")
    assert (0, 1) == tuple(mine("strata_cache_lookups_total", found=found) for found in ("yes", "no"))
    assert (0, 32) == (
        mine("strata_slots_in_use", tier="interactive"),
        mine("strata_slots", tier="interactive"),
    )
    assert 1 == value(samples, "strata_tenants", state="running")
    assert 1 == value(samples, "strata_work_fairness_ratio"), "one tenant has had all there was"
    assert 0 == value(samples, "strata_work_largest_deficit_bytes")


async def test_no_series_carries_what_a_request_said(server: Running, warehouse: Warehouse) -> None:
    """Principals, tables, columns and paths stay out; a label is a tenant or the server's own word."""
    await used(server, warehouse)
    async with server.client(**identity("eve@example.com", "team-a")) as eve:
        await eve.get("/v1/names/secret-name")
        await eve.post("/v1/materialize", json=scan("file:///etc#x.passwd", name="secret-name"))

    text, _ = await expose(server.service.registry, "")
    for secret in ("eve", "ana", "secret", "events", "passwd", "db", "/", "value=", "id="):
        assert secret not in "".join(
            line.partition("{")[2].partition("}")[0] for line in text.decode().splitlines() if "{" in line
        ), secret


async def test_a_tenant_that_goes_is_counted_among_the_others(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Sums over all tenants stay what they are, and its own series are gone."""
    async with running(attrs.evolve(settings, max_tenants=1)) as server:
        await used(server, warehouse)
        for stream in next(iter(server.service.registry.tenants())).actor.materializer.streams.values():
            stream.expires = 0
        before = await scrape(server, 5)
        async with server.client(**identity("bob", "team-b")) as bob:
            assert 200 == (await bob.get("/v1/artifacts")).status_code
        after = await scrape(server, 6)

    assert "team-a" not in repr(list(after))
    for name, labels in before:
        if not name.endswith("_total") or ("tenant", "team-a") not in labels:
            continue
        rest = {key: text for key, text in labels if key != "tenant"}
        assert before[name, labels] == value(after, name, tenant="other", **rest), name


async def test_tenants_beyond_the_bound_are_summed(settings: Settings, warehouse: Warehouse) -> None:
    """metrics_max_tenants bounds the label, whoever is live; also one that calls itself other."""
    async with running(attrs.evolve(settings, metrics_max_tenants=2)) as server:
        for tenant in ("team-a", "other", "team-c", "team-d"):
            async with server.client(**identity("ana", tenant)) as client:
                await client.get("/v1/artifacts")
        samples = await scrape(server, 4)

    requests = {
        dict(labels)["tenant"]: count
        for (name, labels), count in samples.items()
        if name == "strata_http_requests_total"
    }
    assert {"team-a": 1, "other": 3} == requests
    assert 3 * 8 == value(samples, "strata_slots", tenant="other", tier="bulk")


async def test_each_family_is_described_once_and_samples_follow_it(
    server: Running, warehouse: Warehouse
) -> None:
    """Declared twice and unlabelled, once."""
    await used(server, warehouse)
    text = expose_at_once(server.service.registry, "")[0].decode()
    described = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]

    assert [family.sample for family in FAMILIES] == described
    assert expose_at_once(server.service.registry, OPENMETRICS)[0].endswith(b"# EOF\n")


@pytest.fixture
def promtool() -> str:
    return need("promtool")


async def test_promtool_finds_nothing_to_complain_about(
    promtool: str, server: Running, warehouse: Warehouse
) -> None:
    """Names, units and types by the conventions."""
    await used(server, warehouse)
    text, _ = await expose(server.service.registry, "")
    checked = await trio.run_process(
        [promtool, "check", "metrics"], stdin=text, check=False, capture_stdout=True, capture_stderr=True
    )
    assert (0, b"", b"") == (checked.returncode, checked.stdout, checked.stderr)


def many(count: int) -> Registry:
    """A registry with that many tenants in which everything has happened; none of them runs."""
    found = Registry(
        resources=attrs.make_class("Lent", ["pool"])(WorkPool(1)),
        limits=lambda _tenant: TenantLimits(), max_tenants=count, mailbox_size=3, max_crashes=2,
        crash_window=60, probe=lambda: True,
    )  # fmt: skip
    for number in range(count):
        counted = TenantMetrics(hits=number)
        counted.requested(200, 5, 0.1)
        counted.waited("bulk", 0.1)
        found._tenants[f"t{number}"] = Tenant(f"t{number}", counted)
    return found


async def test_a_scrape_is_written_a_few_tenants_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, others run in between."""
    written: list[str] = []
    real = Page._tenant

    def counted(self: Page, name: str, *args: object) -> None:
        written.append(name)
        real(self, name, *args)

    monkeypatch.setattr(Page, "_tenant", counted)
    registry = many(1000)
    page, seen, most = Page(registry, ""), 0, 0
    for _ in page.write():
        most, seen = max(most, len(written) - seen), len(written)
    assert module.SLICE == most
    assert [*(f"t{number}" for number in range(1000)), "other"] == written

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await expose(registry, "")
        nursery.cancel_scope.cancel()
    assert turns >= 1000 / module.SLICE - 1


async def test_a_tenant_that_goes_during_a_scrape_is_counted_once() -> None:
    """Wherever the page is at that moment."""
    for at in range(4):
        registry = many(40)
        page = Page(registry, "")
        for step, _ in enumerate(page.write()):
            if step == at:
                for found in (registry._tenants.pop("t0"), registry._tenants.pop("t39")):
                    registry.others.add(found.metrics)
        samples = read(b"".join(page.parts()))
        hits = [
            count
            for (name, labels), count in samples.items()
            if name == "strata_materializations_total" and ("found", "yes") in labels
        ]
        assert sum(range(40)) == sum(hits)


def test_a_histogram_counts_each_duration_in_its_bucket() -> None:
    """A bound belongs to its own bucket; what is above all of them is in the last."""
    found = Histogram()
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, BUCKETS[-1], 1e6):
        found.observe(seconds)
    assert (2, 1, 1, 1) == (found.counts[0], found.counts[1], found.counts[-2], found.counts[-1])
    again = Histogram()
    again.add(found)
    again.add(found)
    assert ([2 * count for count in found.counts], 2 * found.sum) == (again.counts, again.sum)


def test_the_metrics_reference_is_the_metrics() -> None:
    """`python -m strata.observability.families > docs/reference/metrics.md`."""
    assert reference() == (ROOT / "docs" / "reference" / "metrics.md").read_text()


async def test_a_listener_of_its_own_has_the_metrics_and_nothing_else(settings: Settings) -> None:
    """metrics_host and metrics_port; no identity there, and on the main port as before."""
    announced: list[str] = []
    ready = trio.Event()

    def announce(urls: list[str]) -> None:
        announced.extend(urls)
        ready.set()

    changed = attrs.evolve(settings, port=free_port(), metrics_host="127.0.0.1", metrics_port=free_port())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_server, changed, announce=announce))
        await ready.wait()
        assert f"http://127.0.0.1:{changed.metrics_port}" == announced[1]
        async with httpx.AsyncClient(base_url=announced[1]) as anybody:
            for path in ("/metrics", "/metrics/prometheus"):
                answer = await anybody.get(path)
                assert (200, "text/plain; version=0.0.4; charset=utf-8") == (
                    answer.status_code,
                    answer.headers["content-type"],
                )
                assert {("state", "busy")} <= {pair for _, labels in read(answer.content) for pair in labels}
            spoken = await anybody.get("/metrics", headers={"Accept": OPENMETRICS})
            assert spoken.content.endswith(b"# EOF\n")
            assert (405, "GET, HEAD") == (
                (no := await anybody.post("/metrics", content=b"x" * 100_000)).status_code,
                no.headers["allow"],
            )
            assert b"" == (await anybody.head("/metrics")).content
            for path in ("/", "/health", "/v1/artifacts", "/metrics/", "/openapi.json", "/v1/materialize"):
                assert 404 == (await anybody.get(path, headers=identity(scopes="admin:*"))).status_code, path
        async with httpx.AsyncClient(base_url=announced[0]) as anybody:
            assert 401 == (await anybody.get("/metrics")).status_code
            assert 403 == (await anybody.get("/metrics", headers=identity())).status_code
            assert (
                200 == (await anybody.get("/metrics", headers=identity(scopes="admin:metrics"))).status_code
            )
        nursery.cancel_scope.cancel()


async def test_the_metrics_port_is_closed_unless_it_is_asked_for(settings: Settings) -> None:
    """One address is announced, one listens."""
    announced: list[str] = []
    ready = trio.Event()

    def announce(urls: list[str]) -> None:
        announced.extend(urls)
        ready.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(run_server, attrs.evolve(settings, port=0), announce=announce))
        await ready.wait()
        nursery.cancel_scope.cancel()
    assert 1 == len(announced)


async def test_a_metrics_port_that_is_taken_is_named(settings: Settings) -> None:
    """By its own settings, and the server does not start without it."""
    port = free_port()
    changed = attrs.evolve(settings, port=port, metrics_port=port)
    with pytest.RaisesGroup(
        pytest.RaisesExc(CannotListenError, match="metrics_host, metrics_port"), flatten_subgroups=True
    ):
        await run_server(changed, announce=lambda _urls: None)

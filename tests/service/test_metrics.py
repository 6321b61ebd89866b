"""Metrics: right numbers under right names, bounded, beside the loop, and a listener that has nothing else."""

import gc
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import attrs
import httpx
import pytest
import trio
import trio.testing
from programs import need
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from service_kit import Running, Warehouse, fetch, free_port, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.http.metrics_app import metrics_app
from strata.http.serving.listening import CannotListenError
from strata.observability import metrics as module
from strata.observability.collector import page_of
from strata.observability.families import FAMILIES, LIBRARY_FAMILIES, reference
from strata.observability.metrics import encoder, expose, expose_at_once
from strata.observability.snapshot import SLICE, Snapshot
from strata.readers import READERS
from strata.server import run_server
from strata.server.process import YOUNG_OBJECTS
from strata.tenants import Registry, TenantLimits
from strata.tenants.lifecycle.handle import Tenant
from strata.tenants.retention.sweeper import Sweeper
from strata.tenants.shared.thread_groups import ThreadGroups
from strata.tenants.stats.counters import TenantMetrics
from strata.tenants.stats.histogram import BUCKETS, Histogram
from strata.work import WorkPool

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = f"{OPENMETRICS}; charset=utf-8"

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
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
    """Return the metrics once `requests` requests are counted, which is right after their answers."""
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
    """Run a miss, a hit, a refusal and a read of one tenant."""
    warehouse.create(numbers(10))
    async with server.client() as client:
        await fetch(client, scan(warehouse.uri()))
        await fetch(client, scan(warehouse.uri()))
        await client.post("/v1/materialize", json=scan(warehouse.uri("db.nothing")))


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_what_happened_in_a_tenant_is_counted(
    server: Running, warehouse: Warehouse, accept: str
) -> None:
    """Both formats have the tenant's counts."""
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
    """No label has a principal, table, column or path of a request; only the tenant's id."""
    await used(server, warehouse)
    async with server.client(**identity("mallory@example.com", "team-a")) as mallory:
        await mallory.get("/v1/names/secret-name")
        await mallory.post("/v1/materialize", json=scan("file:///etc#x.passwd", name="secret-name"))

    text, _ = await expose(server.service.registry, "")
    for secret in ("mallory", "ana", "secret", "events", "passwd", "db", "/", "value=", "id="):
        assert secret not in "".join(
            line.partition("{")[2].partition("}")[0] for line in text.decode().splitlines() if "{" in line
        ), secret


async def test_a_tenant_that_goes_is_counted_among_the_others(
    settings: Settings, warehouse: Warehouse
) -> None:
    """An evicted tenant's series end, and sums over all tenants stay the same."""
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
    """metrics_max_tenants bounds the label, for a tenant called `other`, too."""
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
    """Ours in the reference's order, then the library's own, and no sample of a creation time."""
    await used(server, warehouse)
    text = expose_at_once(server.service.registry, "")[0].decode()
    described = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]

    assert [family.sample for family in (*FAMILIES, *LIBRARY_FAMILIES)] == described
    spoken = expose_at_once(server.service.registry, OPENMETRICS)[0]
    assert spoken.endswith(b"# EOF\n")
    assert b"_created" not in text.encode() + spoken
    python = {sample.name: sample.labels for family in prometheus(text) for sample in family.samples}
    assert set(LIBRARY_FAMILIES[6].labels) == set(python["python_info"])


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/plain", TEXT_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        (PROMETHEUS_2_42, f"{OPENMETRICS_TYPE}; escaping=underscores"),
        (PROMETHEUS_3, f"{OPENMETRICS_TYPE}; escaping=allow-utf-8"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("application/openmetrics-text;q=0", TEXT_TYPE),
        ("application/openmetrics-text;q=0.0, text/plain", TEXT_TYPE),
        pytest.param(f"application/openmetrics-text;q=0.{'1' * 30_000}x", TEXT_TYPE, id="long q"),
        ("application/openmetrics-text;version=x", TEXT_TYPE),
        ('application/openmetrics-text;version="1.0.0"', TEXT_TYPE),
        ("application/openmetrics-text;version=2.0.0", TEXT_TYPE),
        ("application/openmetrics-text;version=999.1,application/openmetrics-text", OPENMETRICS_TYPE),
        ("application/openmetrics-text;version=1.0.0;escaping=values", TEXT_TYPE),
        ("application/openmetrics-text;version=1.0.0;escaping=dots", TEXT_TYPE),
        ("text/plain;version=y", TEXT_TYPE),
        (";;=,;version=1.x,\u00ff", TEXT_TYPE),
    ],
)
async def test_the_answer_names_the_format_that_is_written(accept: str, content_type: str) -> None:
    """Whatever `Accept` says, at once: no error, no version of the caller's, no half-escaped names."""
    write, found = encoder(accept)
    snapshot = Snapshot()
    for _ in snapshot.take(many(2)):
        pass
    samples = read(write(page_of(snapshot)), accept="openmetrics" if "openmetrics" in content_type else "")

    assert content_type == found
    assert 1 == value(samples, "strata_http_requests_total", tenant="t1", status="2xx")


@pytest.fixture
def promtool() -> str:
    return need("promtool")


async def test_readers_are_counted_by_what_they_did_and_what_ended_them(
    server: Running, warehouse: Warehouse
) -> None:
    """Steps by kind, ends by signal, retries, and the most memory of one that is alive."""
    await trio.to_thread.run_sync(READERS.prepare)  # until the first is there, plans are made in the server
    await used(server, warehouse)
    ended = READERS.ends["SIGSEGV"]
    READERS.note_death("a file", "SIGSEGV", again=False)
    samples = read((await expose(server.service.registry, ""))[0])
    assert ended + 1 == value(samples, "strata_reader_ends_total", reason="SIGSEGV")
    assert value(samples, "strata_reader_retries_total") >= 1
    steps = {labels[0][1] for name, labels in samples if name == "strata_reader_steps_total"}
    assert "manifest" in steps
    assert steps & {"rows", "rows_of_files"}
    assert steps & {"footer", "footers"}
    assert value(samples, "strata_reader_peak_bytes") > 1_000_000


async def test_the_disk_and_what_tenants_keep_are_gauges(server: Running, warehouse: Warehouse) -> None:
    """Free bytes, reserve and stored bytes by tenant; a tenant without series of its own is in `other`."""
    await used(server, warehouse)
    resources = server.service.registry.resources
    sweeper = Sweeper(resources, server.service.registry.limits, lambda: 0.0)
    await sweeper.look()
    resources.stored["absent"] = 7
    samples = read((await expose(server.service.registry, ""))[0])
    assert resources.disk_space is not None
    assert resources.disk_space.reserve == value(samples, "strata_disk_reserve_bytes")
    assert resources.disk_space.free == value(samples, "strata_disk_free_bytes")
    kept = resources.stored["team-a"]
    assert kept > 0
    assert (kept, 7) == tuple(
        value(samples, "strata_stored_bytes", tenant=name) for name in ("team-a", "other")
    )


async def test_promtool_finds_nothing_to_complain_about(
    promtool: str, server: Running, warehouse: Warehouse
) -> None:
    """Names, units and types by the conventions, the library's families included."""
    await used(server, warehouse)
    text, _ = await expose(server.service.registry, "")
    checked = await trio.run_process(
        [promtool, "check", "metrics"], stdin=text, check=False, capture_stdout=True, capture_stderr=True
    )
    assert (0, b"", b"") == (checked.returncode, checked.stdout, checked.stderr)


def many(count: int, name: str = "t{}") -> Registry:
    """Return a registry of `count` tenants whose counters have counted; no actor runs."""
    found = Registry(
        resources=SimpleNamespace(
            pool=WorkPool(1), threads=ThreadGroups(), stored={"t1": 5, "nobody": 2}, disk_space=None, accesses=None
        ),
        limits=lambda _tenant: TenantLimits(), max_tenants=count, mailbox_size=3, max_crashes=2,
        crash_window=60, probe=lambda: True,
    )  # fmt: skip
    for number in range(count):
        counted = TenantMetrics(hits=number)
        counted.requested(200, 5, 0.1)
        counted.waited("bulk", 0.1)
        tenant = name.format(number)
        found._tenants[tenant] = Tenant(tenant, counted)
    return found


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_a_page_of_a_thousand_tenants_parses_and_adds_up(accept: str) -> None:
    """Every id a tenant may have is a label, and the sums over all series are the sums of the counters."""
    registry = many(1000, name="-Team_{}-")
    samples = read((await expose(registry, accept))[0], accept=accept)

    def total(name: str, **labels: str) -> float:
        wanted = set(labels.items())
        return sum(count for (found, of), count in samples.items() if found == name and wanted <= set(of))

    assert sum(range(1000)) == total("strata_materializations_total", found="yes")
    assert 1000 == total("strata_http_requests_total")
    assert 5000 == total("strata_http_sent_bytes_total")
    assert 1000 == total("strata_queue_wait_seconds_count")
    assert 1000 == total("strata_queue_wait_seconds_bucket", le="0.1")
    assert pytest.approx(100) == total("strata_queue_wait_seconds_sum")
    tenants = {dict(of)["tenant"] for name, of in samples if name == "strata_http_sent_bytes_total"}
    assert {"other", *(f"-Team_{number}-" for number in range(1000))} == tenants


async def test_a_scrape_copies_a_few_tenants_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, others run in between."""
    copied: list[str] = []
    real = Snapshot._tenant

    def counted(self: Snapshot, name: str, *args: object) -> None:
        copied.append(name)
        real(self, name, *args)

    monkeypatch.setattr(Snapshot, "_tenant", counted)
    registry = many(1000)
    seen, most = 0, 0
    for _ in Snapshot().take(registry):
        most, seen = max(most, len(copied) - seen), len(copied)
    assert SLICE == most
    assert [*(f"t{number}" for number in range(1000)), "other"] == copied

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
    assert turns >= 1000 / SLICE - 1


class Held:
    """An encoder that waits until it may write, and counts how many are at it at the same time."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.began = trio.Event()
        self.at_work = self.most = 0
        self.token = trio.lowlevel.current_trio_token()

    def __call__(self, _page: object) -> bytes:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.token.run_sync_soon(self.began.set)
        self.may.wait(30)
        self.at_work -= 1
        return b"page"


@pytest.fixture
async def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    found = Held()
    monkeypatch.setattr(module, "encoder", lambda _accept: (found, TEXT_TYPE))
    return found


async def test_one_scrape_is_encoded_at_a_time_and_the_loop_goes_on(held: Held) -> None:
    """In a thread: other tasks run meanwhile, and a second scrape waits for the first."""
    pages = []

    async def one() -> None:
        pages.append(await expose(many(1), ""))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            nursery.start_soon(one)
            await held.began.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert 1 == held.at_work
            held.may.set()
    assert ([(b"page", TEXT_TYPE)] * 2, 1) == (pages, held.most)


async def test_a_scrape_that_takes_too_long_fails_and_keeps_its_turn(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread cannot be stopped: the next scrape begins when that is done, not beside it."""
    with trio.fail_after(30):
        monkeypatch.setattr(module, "SCRAPE_SECONDS", 0.05)
        with pytest.raises(trio.TooSlowError):
            await expose(many(1), "")
        with pytest.raises(trio.TooSlowError):
            await expose(many(1), "")
        assert (1, 1) == (held.at_work, held.most)
        monkeypatch.setattr(module, "SCRAPE_SECONDS", 30)
        held.may.set()
        assert (b"page", TEXT_TYPE) == await expose(many(1), "")
        assert 1 == held.most


async def test_a_scrape_that_takes_too_long_is_answered_with_503(
    held: Held, monkeypatch: pytest.MonkeyPatch, server: Running
) -> None:
    """On the main port as a problem, on the metrics port as text."""
    monkeypatch.setattr(module, "SCRAPE_SECONDS", 0.05)
    async with server.client(**identity(scopes="admin:metrics")) as admin:
        answer = await admin.get("/metrics")
    assert (503, "metrics_timed_out", "1") == (
        answer.status_code, answer.json()["error"], answer.headers["retry-after"],
    )  # fmt: skip
    port = httpx.ASGITransport(metrics_app(server.service.registry))
    async with httpx.AsyncClient(transport=port, base_url="http://metrics") as anyone:
        assert 503 == (await anyone.get("/metrics")).status_code
    held.may.set()


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations of the collections of garbage during a test; the server's threshold holds."""
    seen: list[int] = []
    threshold = gc.get_threshold()

    def note(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            seen.append(about["generation"])

    gc.collect()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*threshold)


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
async def test_encoding_starts_no_collection_of_garbage(collections: list[int], accept: str) -> None:
    """A collection in the thread would hold the loop: samples are not kept, and a snapshot is not tracked."""
    snapshot = Snapshot()
    for _ in snapshot.take(many(1000)):
        pass
    gc.collect(0)
    assert not any(gc.is_tracked(row) for rows in snapshot.rows.values() for row in rows)
    collections.clear()
    text = encoder(accept)[0](page_of(snapshot))

    assert ([], True) == (collections, text.count(b"\n") > 30_000)


async def test_a_tenant_that_goes_during_a_scrape_is_counted_once() -> None:
    """Wherever the copy is at that moment."""
    for at in range(4):
        registry, snapshot = many(40), Snapshot()
        for step, _ in enumerate(snapshot.take(registry)):
            if step == at:
                for found in (registry._tenants.pop("t0"), registry._tenants.pop("t39")):
                    registry.others.add(found.metrics)
        samples = read(encoder("")[0](page_of(snapshot)))
        hits = [
            count
            for (name, labels), count in samples.items()
            if name == "strata_materializations_total" and ("found", "yes") in labels
        ]
        assert sum(range(40)) == sum(hits)


def test_a_histogram_counts_each_duration_in_its_bucket() -> None:
    """A bound belongs to its own bucket; values above all bounds are in the last one."""
    found = Histogram()
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, BUCKETS[-1], 1e6):
        found.observe(seconds)
    assert (2, 1, 1, 1) == (found.counts[0], found.counts[1], found.counts[-2], found.counts[-1])
    again = Histogram()
    again.add(found)
    again.add(found)
    assert ([2 * count for count in found.counts], 2 * found.sum) == (again.counts, again.sum)


def test_the_metrics_reference_is_the_metrics() -> None:
    """The page equals the output of `python -m strata.observability.families`."""
    assert reference() == (ROOT / "docs" / "reference" / "metrics.md").read_text()


async def test_a_listener_of_its_own_has_the_metrics_and_nothing_else(settings: Settings) -> None:
    """`metrics_host` and `metrics_port` serve metrics only, without identity; the main port is unchanged."""
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
        async with httpx.AsyncClient(base_url=announced[1]) as anyone:
            for path in ("/metrics", "/metrics/prometheus"):
                answer = await anyone.get(path)
                assert (200, "text/plain; version=0.0.4; charset=utf-8") == (
                    answer.status_code,
                    answer.headers["content-type"],
                )
                assert {("state", "busy")} <= {pair for _, labels in read(answer.content) for pair in labels}
            spoken = await anyone.get("/metrics", headers={"Accept": OPENMETRICS})
            assert spoken.content.endswith(b"# EOF\n")
            assert (405, "GET, HEAD") == (
                (no := await anyone.post("/metrics", content=b"x" * 100_000)).status_code,
                no.headers["allow"],
            )
            assert b"" == (await anyone.head("/metrics")).content
            for path in ("/", "/health", "/v1/artifacts", "/metrics/", "/openapi.json", "/v1/materialize"):
                assert 404 == (await anyone.get(path, headers=identity(scopes="admin:*"))).status_code, path
        async with httpx.AsyncClient(base_url=announced[0]) as anyone:
            assert 401 == (await anyone.get("/metrics")).status_code
            assert 403 == (await anyone.get("/metrics", headers=identity())).status_code
            assert 200 == (await anyone.get("/metrics", headers=identity(scopes="admin:metrics"))).status_code
        nursery.cancel_scope.cancel()


async def test_the_metrics_port_is_closed_unless_it_is_asked_for(settings: Settings) -> None:
    """Without `metrics_port` only the main address is announced and listens."""
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
    """A used metrics port is named by its settings, and the server does not start."""
    port = free_port()
    changed = attrs.evolve(settings, port=port, metrics_port=port)
    with pytest.RaisesGroup(
        pytest.RaisesExc(CannotListenError, match="metrics_host, metrics_port"), flatten_subgroups=True
    ):
        await run_server(changed, announce=lambda _urls: None)


async def test_what_is_refused_at_the_door_is_counted(settings: Settings, warehouse: Warehouse) -> None:
    """Requests without a valid identity by their code; requests for denied tables, which callers see as missing."""
    warehouse.create(numbers(1), "db.closed")
    rules = Policy(allow=(Rule("*", "tables/wh/db/events"),))
    async with running(attrs.evolve(settings, acl_config=rules)) as server, server.client() as client:
        for wrong in ({"X-Strata-Proxy-Token": "x" * 20}, {"X-Strata-Principal": ""}):
            assert 401 == (await client.get("/v1/me", headers=identity() | wrong)).status_code
        for table, status in (("db.closed", 404), ("db.events", 404), ("db.none", 404)):
            assert status == (await client.post("/v1/materialize", json=scan(f"wh:{table}"))).status_code
        stats = server.service.registry.runtime_stats
        assert {"invalid_token": 1, "missing_principal": 1} == dict(stats.unidentified)
        text, _ = await expose(server.service.registry, "")
    assert b'strata_unidentified_requests_total{reason="invalid_token"} 1.0' in text
    assert b'strata_denied_total{tenant="team-a"} 2.0' in text

"""A fault at each I/O point: the request that meets it fails with its reason, and nothing else ends or stays."""

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from os_faults import ERRORS, KINDS, Faults, failing
from service_kit import ARROW, Running, Warehouse, identity, numbers, running, scan

from strata.artifacts import tenant_prefix
from strata.artifacts.blobs.store import GROWING
from strata.config import Settings
from strata.tenants import State

REASONS = frozenset(
    {
        "blob_unreadable",
        "cache_unavailable",
        "no_resources",
        "storage_error",
        "storage_unavailable",
        "blob_missing",
    }
)
"""The codes of requests that an error of the system has ended."""


@attrs.define
class Day:
    """All that one tenant's requests do with files, in order, and what came of it."""

    server: Running
    warehouse: Warehouse
    tenant: str
    answers: list[tuple[str, int, str | None]] = attrs.field(factory=list)

    async def live(self) -> None:
        """Ask for everything once: each answer is noted, none may be missing."""
        who = identity("ana", self.tenant, "admin:*")
        async with self.server.client(**who) as client:
            cold = await self._scan(client, "cold", {"columns": ["id", "value"]})
            await self._scan(client, "filtered", {"filters": [{"column": "id", "op": ">=", "value": 1}]})
            await settled(self.server, self.tenant)
            await self._scan(client, "cached", {"filters": [{"column": "id", "op": ">=", "value": 2}]})
            if cold is not None:
                await self._get(client, "fetch", cold)
                await self._get(client, "range", cold, {"Range": "bytes=100000-700000"})
            await self._scan(client, "named", {"columns": ["id", "value"]}, name="n")
            await self._get(client, "names", "/v1/names")
            await self._get(client, "listing", "/v1/artifacts")
            await settled(self.server, self.tenant)
            await self._note("evict", client.post(f"/v1/admin/tenants/{self.tenant}/evict"))
            await self._scan(client, "reopened", {"filters": [{"column": "id", "op": ">=", "value": 3}]})
            await self._note("clear", client.post("/v1/cache/clear"))
            await settled(self.server, self.tenant)

    async def _scan(self, client: httpx.AsyncClient, what: str, params: dict, **more: str) -> str | None:
        body = scan(self.warehouse.uri(), params=params, **more)
        answer = await self._note(what, client.post("/v1/materialize", json=body))
        if answer is None or answer.status_code != 200:
            return None
        found = answer.json()
        await self._get(client, f"{what} stream", found["stream_url"])
        artifact_id, _, version = found["artifact_uri"].removeprefix("strata://artifact/").partition("@v=")
        return f"/v1/artifacts/{artifact_id}/v/{version}/data"

    async def _get(self, client: httpx.AsyncClient, what: str, url: str, headers: dict | None = None) -> None:
        await self._note(what, client.get(url, headers=headers))

    async def _note(self, what: str, call: object) -> httpx.Response | None:
        """Note an answer; a body that was cut is a failure that its client sees."""
        try:
            with trio.fail_after(30):
                answer = await call
        except httpx.RemoteProtocolError:
            self.answers.append((what, 0, "cut"))
            return None
        arrow = answer.headers.get("content-type") == ARROW
        code = None if arrow or answer.status_code < 400 else answer.json().get("error")
        self.answers.append((what, answer.status_code, code))
        return answer


async def settled(server: Running, tenant: str) -> None:
    """Wait until no build of the tenant runs, no quantum and no thread of an abandoned call either."""
    with trio.fail_after(30):
        while True:
            found = server.service.registry.find(tenant)
            materializer = None if found is None or found.actor is None else found.actor.materializer
            idle = found is None or (found.idle and materializer is not None)
            resources = server.service.registry.resources
            if idle and not resources.busy and all(group.idle for group in resources.threads):
                return
            await trio.sleep(0.002)


def open_files(settings: Settings) -> dict[str, str]:
    """Return the process's descriptors of the server's results and of its cache."""
    found, places = {}, (f"{settings.artifact_dir}/blobs/", f"{settings.cache_dir}/")
    for name in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            path = str(name.readlink())
            if path.startswith(places):
                found[name.name] = path
    return found


def of_tenant(settings: Settings, tenant: str) -> Callable[[str], bool]:
    """Return a test of paths: whether they are the tenant's files, or a growing result."""
    prefix = tenant_prefix(tenant)
    blobs = str(Path(settings.artifact_dir) / "blobs")
    cache = str(Path(settings.cache_dir))
    return lambda path: path.startswith((f"{blobs}/{GROWING}", f"{blobs}/{prefix}", f"{cache}/{prefix}"))


@pytest.fixture
def big(warehouse: Warehouse) -> Warehouse:
    """A table whose results are read by ranges and written past the page cache."""
    warehouse.create(numbers(90_000), **{"write.parquet.row-group-limit": "45000"})
    return warehouse


def _left(settings: Settings) -> Iterator[Path]:
    yield from Path(settings.artifact_dir).glob(f"blobs/{GROWING}/*")
    yield from Path(settings.artifact_dir).rglob("*.new")


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_fault_at_any_call_ends_one_request(settings: Settings, big: Warehouse, kind: str) -> None:
    """Whatever call fails: no answer is a bug's, no actor ends, nothing stays, and the next day is a good one.

    Here at four calls of each kind or a few more; ``test_a_fault_at_each_call_ends_one_request`` tries all of them.
    """
    await _faults(settings, big, kind, step=4)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_fault_at_each_call_ends_one_request(settings: Settings, big: Warehouse, kind: str) -> None:
    """The same at every call of each kind, with every error."""
    for number in ERRORS:
        await _faults(settings, big, kind, number=number)


async def _faults(
    settings: Settings, big: Warehouse, kind: str, *, step: int | None = None, number: int | None = None
) -> None:
    """Have one call fail in each of many days: of all calls, or of ``step`` of them, with all errors in turn."""
    async with running(settings) as server:
        registry = server.service.registry
        first = Day(server, big, f"count-{number}")
        with failing(kind, Faults(of_tenant(settings, first.tenant))) as counted:
            await first.live()
        assert {200, 206} == {status for _, status, _ in first.answers}, first.answers
        for at in range(1, counted.calls + 1, 1 if step is None else max(1, counted.calls // step)):
            day = Day(server, big, f"t{at}-{number}")
            error = ERRORS[at % len(ERRORS)] if number is None else number
            faults = Faults(of_tenant(settings, day.tenant), at, error)
            with failing(kind, faults):
                await day.live()
            where = (kind, at, errno.errorcode[error], faults.failed, day.answers)
            for what, status, code in day.answers:
                lost = what in ("fetch", "range") and status == 404  # of a result that was not committed
                good = status in (200, 206) or lost
                assert good or code in REASONS or (status, code) == (0, "cut"), (what, where)
            await settled(server, day.tenant)
            found = registry.find(day.tenant)
            assert State.RUNNING is found.state, where
            assert 0 == registry.metrics_of(day.tenant).restarts + registry.others.restarts, where
            assert {} == open_files(settings), where
            assert [] == list(_left(settings)), where
            assert 0 == sum(slots.used for slots in found.actor.builder.slots.values()), where
            assert 0 == registry.resources.memory.used, where
            again = Day(server, big, day.tenant) if at == 1 else None
            if again is not None:
                await again.live()
                assert {200, 206} == {status for _, status, _ in again.answers}, again.answers

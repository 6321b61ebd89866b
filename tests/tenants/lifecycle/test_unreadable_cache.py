"""A cache directory that cannot be read is an empty cache for now: its tenant is served, and it is read again."""

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import pytest
import structlog
import trio
from inline_pool import InlinePool
from trio.testing import MockClock

from strata.artifacts import tenant_prefix
from strata.auth import Principal
from strata.cache import packs
from strata.outcomes import Reason, Refused
from strata.tenants import State, TenantLimits
from strata.tenants.budgets.tenant_cache import RememberedBudget
from strata.tenants.lifecycle.actor import OPEN_SECONDS
from strata.tenants.lifecycle.registry import Registry
from strata.tenants.messages import ClearCache, Cleared, Describe, Description
from strata.tenants.shared.left_streams import LeftStreams

ROOT = Principal("root", "a", frozenset({"admin:*"}))


@pytest.fixture
async def registry(tmp_path: Path, autojump_clock: MockClock) -> AsyncIterator[Registry]:
    """Two places for tenants, whose caches are below ``tmp_path``."""
    async with trio.open_nursery() as nursery:
        pool = InlinePool(1)
        authorizer = SimpleNamespace(check_admin=lambda *_: None)
        resources = SimpleNamespace(
            pool=pool,
            cache_dir=tmp_path,
            authorizer=authorizer,
            left_streams=LeftStreams(),
            remembered=RememberedBudget(2**62),
            forgetters=WeakValueDictionary(),
        )
        found = Registry(
            resources=resources, limits=lambda _tenant: TenantLimits(), max_tenants=2, mailbox_size=3,
            max_crashes=2, crash_window=60, probe=lambda: True,
        )  # fmt: skip
        await nursery.start(found.run)
        yield found
        nursery.cancel_scope.cancel()


def unreadable(monkeypatch: pytest.MonkeyPatch, number: int, tenants: str) -> list[str]:
    """Have listing the caches of ``tenants`` fail; returns the directories that were tried, as they are."""
    real, tried = packs.load, []
    bad = {tenant_prefix(tenant) for tenant in tenants}

    def load(root: Path) -> object:
        if root.name in bad:
            tried.append(root.name)
            raise OSError(number, os.strerror(number))
        return real(root)

    monkeypatch.setattr(packs, "load", load)
    return tried


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOTDIR])
async def test_a_tenant_is_served_without_its_cache(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The tenant runs with an empty cache, one line says why, and no other tenant is kept from its place."""
    unreadable(monkeypatch, number, "abcd")
    with structlog.testing.capture_logs() as logged:
        for tenant in "abcd":
            assert isinstance(await registry.ask(tenant, Describe()), Description)
            await trio.sleep(100)
    assert isinstance(await registry.ask("e", Describe()), Description)
    assert {("cache cannot be read", errno.errorcode[number])} == {
        (line["event"], line["error"]) for line in logged
    }
    assert 4 == len(logged)
    assert 0 == registry.others.restarts + sum(found.metrics.restarts for found in registry.tenants())
    assert ["cache_unavailable"] == [note.code for note in registry.find("d").metrics.errors]
    assert State.RUNNING is registry.find("d").state


async def test_the_directory_is_read_again_until_it_can_be(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pauses between attempts double up to a minute; then the cache is used, cleared included."""
    with monkeypatch.context() as patched, structlog.testing.capture_logs() as logged:
        tried = unreadable(patched, errno.EIO, "a")
        await registry.ask("a", Describe())
        shard = registry.find("a").actor.shard
        assert 0 == shard.most_of_one_scan
        refused = await registry.ask("a", ClearCache(ROOT))
        assert isinstance(refused, Refused)
        assert (Reason.UNAVAILABLE, "cache_unavailable") == (refused.reason, refused.code)
        await trio.sleep(0.01)
        for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
            before = len(tried)
            await trio.sleep(seconds)
            assert before + 1 == len(tried)
    await trio.sleep(60)
    assert None is shard.failure
    assert 0 < shard.most_of_one_scan
    assert ["cache cannot be read"] == [line["event"] for line in logged], "once, not at each attempt"
    assert isinstance(await registry.ask("a", ClearCache(ROOT)), Cleared)


async def test_a_tenant_whose_cache_is_read_again_can_be_evicted(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that is due keeps no idle tenant."""
    unreadable(monkeypatch, errno.EIO, "a")
    for tenant in "abc":
        await registry.ask(tenant, Describe())
    assert ["b", "c"] == [found.id for found in registry.tenants()]


async def test_a_directory_that_hangs_keeps_no_request_waiting_for_long(
    autojump_clock: MockClock, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten seconds the tenant is served without its cache; other tenants do not wait at all."""
    pool = registry.resources.pool
    real, hangs = pool._execute, {"a"}

    async def execute(turn: Any, work: Any, *, abandon: bool) -> Any:
        if turn.flow in hangs:
            pool._release(turn)
            await trio.sleep_forever()
        return await real(turn, work, abandon=abandon)

    monkeypatch.setattr(pool, "_execute", execute)
    answers: dict[str, float] = {}

    async def ask(tenant: str) -> None:
        assert isinstance(await registry.ask(tenant, Describe()), Description)
        answers[tenant] = trio.current_time()

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "a")
        nursery.start_soon(ask, "b")
    assert {"a": began + OPEN_SECONDS, "b": began} == answers
    assert isinstance(registry.find("a").actor.shard.failure, TimeoutError)

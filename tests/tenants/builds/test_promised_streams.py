"""Streams that wait for their first reader expire on time and are shared fairly by a tenant's principals."""

import itertools
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from strata.auth import Principal
from strata.outcomes import Refused
from strata.tenants import TenantLimits
from strata.tenants.budgets.tenant_cache import RememberedBudget
from strata.tenants.builds import materialize
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.state import Build

ANA, BOB, CYD = (Principal(name, "a", frozenset()) for name in ("ana", "bob", "cyd"))


def materializer(seconds: float) -> Materializer:
    new_id = map(str, itertools.count()).__next__
    resources = SimpleNamespace(new_id=new_id, remembered=RememberedBudget(2**62), forgetters={})
    builder = SimpleNamespace(limits=TenantLimits(stream_ttl=seconds), prefix="p")
    return Materializer("a", resources, builder, None)


def promise(found: Materializer, who: Principal) -> str | Refused:
    return found._open_stream(Build("key", ()), who)


async def test_a_stream_waits_exactly_as_long_as_it_may(autojump_clock: MockClock) -> None:
    """A stream can be opened for exactly stream_state_ttl_seconds."""
    found = materializer(10)
    name = promise(found, ANA)
    await trio.sleep(9.999)
    assert None is not found.stream_for(name, ANA)
    await trio.sleep(0.001)
    assert None is found.stream_for(name, ANA)
    assert 0 == found.unread


async def test_a_changed_time_holds_for_every_new_stream(autojump_clock: MockClock) -> None:
    """A lowered or raised stream_state_ttl_seconds holds for new streams; older streams keep theirs."""
    found = materializer(100)
    older = promise(found, ANA)
    found.builder.limits = TenantLimits(stream_ttl=10)
    newer = promise(found, ANA)
    await trio.sleep(9.999)
    assert None is not found.stream_for(newer, ANA)
    await trio.sleep(0.001)
    assert None is found.stream_for(newer, ANA)
    assert None is not found.stream_for(older, ANA)
    found.builder.limits = TenantLimits(stream_ttl=1000)
    newest = promise(found, ANA)
    await trio.sleep(900)
    assert None is found.stream_for(older, ANA)
    assert None is not found.stream_for(newest, ANA)


async def test_no_principal_has_all_of_the_places(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A principal at its part is refused until its oldest stream expires; other principals are admitted."""
    monkeypatch.setattr(materialize, "STREAMS_REMEMBERED", 10)
    found = materializer(50)
    promise(found, BOB)
    await trio.sleep(20)
    seen = [promise(found, ANA) for _ in range(100)]
    refused = [answer for answer in seen if isinstance(answer, Refused)]
    assert 92 == len(refused)
    assert {("streams", 50)} == {(answer.code, answer.retry_after) for answer in refused}
    assert isinstance(promise(found, CYD), str)
    full = promise(found, CYD)
    assert isinstance(full, Refused)
    assert 30 == full.retry_after, "bob's is the oldest of all"
    await trio.sleep(30)
    assert isinstance(promise(found, CYD), str)

"""At the door a tenant's backlog waits behind itself, refused requests and unauthenticated ones included."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from door_kit import CONTRACT, GOOD, Wire, echo, nothing_behind
from fair_bounds import most_before
from trio.testing import MockClock

from strata.http.door.front_door import FrontDoor
from strata.tenants import TenantLimits
from strata.tenants.limits.rates import RateBook
from strata.work import AdmissionQueue
from strata.work.admission import TOKENS

CROWD = 64
NO_RATE = TenantLimits(requests_per_second=0, principal_requests_per_second=0, principal_scans_per_second=0)
ONE = TenantLimits(requests_per_second=1, principal_requests_per_second=0)


async def busy(_scope: dict, receive: Callable, send: Callable) -> None:
    """Take as many passes of the loop as a request for a finished result."""
    await receive()
    for _ in range(12):
        await trio.lowlevel.checkpoint()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class Door:
    """A front door, and the order in which it answered."""

    def __init__(self, app: Any = busy, limits: TenantLimits = NO_RATE) -> None:
        self.admission = AdmissionQueue()
        self.answered: list[str] = []
        self.door = FrontDoor(
            app, contract=CONTRACT, registry=nothing_behind(), max_request_bytes=1000, request_id=lambda _headers: "request-1",
            rates=RateBook(lambda _tenant: limits), admission=self.admission,
        )  # fmt: skip

    async def ask(self, tenant: str, *, known: bool = True, path: str = "/v1/x") -> Wire:
        wire = Wire(b"body")
        headers = [*GOOD[:2], (b"x-tenant-id", tenant.encode())] if known else []
        scope = {"type": "http", "path": path, "method": "GET", "headers": headers}
        await self.door(scope, wire.receive, wire.send)
        self.answered.append(tenant)
        return wire

    async def before(self, crowd: Callable[[], Any]) -> int:
        """Return how many of a backlog are answered before another tenant's request of the same instant."""
        async with trio.open_nursery() as nursery:
            for _ in range(CROWD):
                nursery.start_soon(crowd)
            await trio.lowlevel.checkpoint()
            await self.ask("quiet")
        assert CROWD + 1 == len(self.answered)
        return self.answered.index("quiet")


async def test_a_crowd_of_requests_is_answered_behind_another_tenants_one(autojump_clock: MockClock) -> None:
    """Of 64 requests only the admitted ones, and one for each turn, precede another tenant's request."""
    door = Door()
    assert await door.before(lambda: door.ask("crowd")) <= TOKENS + most_before(2)


async def test_strangers_are_one_crowd(autojump_clock: MockClock) -> None:
    """Unauthenticated requests share one flow: at most a quarter of them precede a tenant's request."""
    door = Door()
    assert await door.before(lambda: door.ask("crowd", known=False)) <= CROWD // 4


async def test_a_crowd_of_refusals_is_answered_behind_another_tenants_request(
    autojump_clock: MockClock,
) -> None:
    """At most a quarter of a tenant's refusals precede another tenant's request."""
    door = Door(limits=ONE)
    assert await door.before(lambda: door.ask("crowd")) <= CROWD // 4


async def test_probes_wait_for_no_admission() -> None:
    """A health probe is answered at once, however many requests are queued."""
    door = Door()
    async with trio.open_nursery() as nursery:
        for _ in range(CROWD):
            nursery.start_soon(door.ask, "crowd")
        while not door.answered:
            await trio.lowlevel.checkpoint()
        before = len(door.answered)
        assert 200 == (await door.ask("probe", known=False, path="/health")).status
        assert len(door.answered) - 1 - before <= TOKENS


async def hang(_scope: dict, _receive: Callable, _send: Callable) -> None:
    await trio.sleep_forever()


async def crash(_scope: dict, _receive: Callable, _send: Callable) -> None:
    raise RuntimeError("a bug")


async def test_a_token_is_released_however_a_request_ends() -> None:
    """The admission token is given back after an answer, a crash and a cancellation."""
    door = Door(echo)
    await door.ask("a")
    assert 0 == door.admission.taken
    crashing = Door(crash)
    with pytest.raises(RuntimeError):
        await crashing.ask("a")
    assert 0 == crashing.admission.taken
    hanging = Door(hang)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hanging.ask, "a")
        await trio.testing.wait_all_tasks_blocked()
        assert 1 == hanging.admission.taken
        nursery.cancel_scope.cancel()
    assert 0 == hanging.admission.taken


async def test_a_large_result_holds_no_token() -> None:
    """The admission token is given back with the first bytes of the response."""
    seen = []

    async def app(scope: dict, _receive: Callable, send: Callable) -> None:
        seen.append(door.admission.taken)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        seen.append(door.admission.taken)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    door = Door(app)
    wire = await door.ask("a")
    assert [1, 0] == seen
    assert b"part" == wire.body

"""Rates hold for several servers together, within the error that the documentation states."""

from __future__ import annotations

import json
import random

import attrs
import pytest
import trio
from structlog.testing import capture_logs

from strata.tenants import TenantLimits
from strata.tenants.limits.rates import MOST_USED, OWN_PLACES, RateBook
from strata.tenants.limits.shared_usage import (
    MOST_TOLD,
    Usage,
    count_usage,
    print_usage,
    read_usage,
    tell_usage,
)
from strata.tenants.limits.token_bucket import BURST_SECONDS
from strata.tenants.servers import rate_exchange
from strata.tenants.servers.rate_exchange import AT_ONCE, RateExchange

NONE = TenantLimits(requests_per_second=0, principal_requests_per_second=0, principal_scans_per_second=0)
RATE = 10
STEP = 0.02


def books(number: int, **limits: float) -> list[RateBook]:
    """Return the books of servers that share their usage."""
    made = [RateBook(lambda _tenant: attrs.evolve(NONE, **limits)) for _ in range(number)]
    for book in made:
        book.used = {}
    return made


def exchange(servers: list[RateBook], now: float) -> None:
    """Let each server tell all others."""
    told = [read_usage(print_usage(tell_usage(server))) for server in servers]
    for teller, usage in enumerate(told):
        for index, server in enumerate(servers):
            if index != teller:
                count_usage(server, usage, now)


def asked(book: RateBook, now: float, principal: str = "ana", tenant: str = "a", **more: bool) -> bool:
    """Ask for one request; returns whether it was admitted."""
    return book.of(tenant, now).admit(principal, scan=more.get("scan", False), now=now) is None


@pytest.mark.parametrize("number", [2, 3, 8])
@pytest.mark.parametrize("field", ["requests_per_second", "principal_requests_per_second"])
def test_requests_of_all_servers_stay_within_the_stated_error(number: int, field: str) -> None:
    """However the load moves: more than the rate once, by a second and a burst of each other server; not less."""
    servers, draw, period = books(number, **{field: RATE}), random.Random(number), 60.0
    admitted = 0
    steps = int(period / STEP)
    for step in range(steps):
        now = step * STEP
        if step % round(1 / STEP) == 0:
            exchange(servers, now)
            busy = draw.sample(servers, draw.randint(1, number))
        admitted += sum(asked(server, now) for server in busy for _ in range(2))
    alone = RATE * (period + BURST_SECONDS)
    each_other = RATE * (1 + BURST_SECONDS) + OWN_PLACES
    assert admitted <= alone + (number - 1) * each_other
    assert admitted >= 0.9 * RATE * period
    unshared = number * alone
    assert number == 8 or admitted < 0.8 * unshared


def test_bytes_of_all_servers_count_against_one_budget() -> None:
    """The day's bytes and the second's; requests go on where they are paid."""
    for field in ("bytes_per_second", "principal_bytes_per_day"):
        one, other = servers = books(2, **{field: 1000})
        one.of("a", 0.0).sent("ana", 3000, 0.0)
        assert asked(other, 0.0)
        exchange(servers, 0.0)
        assert not asked(other, 0.0)
        assert not asked(one, 0.0)
        assert asked(other, 0.0, tenant="b"), "a neighbour pays nothing"


def test_scans_and_principals_are_told_apart() -> None:
    """The scans of one principal are not another's, nor its requests."""
    one, other = servers = books(2, principal_scans_per_second=1)
    assert [True, True, False] == [asked(one, 0.0, scan=True) for _ in range(3)]
    exchange(servers, 0.0)
    assert not asked(other, 0.0, scan=True)
    assert asked(other, 0.0)
    assert asked(other, 0.0, "bob", scan=True)


def test_what_was_given_back_is_told_too() -> None:
    """A place that nobody returned for is free on all servers."""
    one, other = servers = books(2, requests_per_second=0.1)
    assert asked(one, 0.0)
    assert not asked(one, 0.0), "it has a place, which is paid"
    exchange(servers, 0.0)
    assert not asked(other, 10.5, "bob"), "the place's"
    assert asked(one, 60.0, "carl"), "the place has lapsed"
    assert asked(other, 60.0, "carl")


def test_a_tenant_with_many_principals_delays_no_neighbours_usage() -> None:
    """Each tenant has a share of what is told at a time, and its sums are always told."""
    one, _ = books(2, requests_per_second=10**9, principal_requests_per_second=10**9)
    for number in range(2 * MOST_TOLD):
        asked(one, 0.0, f"p{number}", "crowd")
    asked(one, 0.0, "ana", "small")
    assert MOST_USED == len(one.used["crowd"])
    told = tell_usage(one)
    assert len(told) <= MOST_TOLD + 2
    assert Usage("crowd", None, requests=2.0 * MOST_TOLD) in told
    assert Usage("small", "ana", requests=1.0) in told
    while tell_usage(one):
        pass
    assert {} == one.used


def test_a_single_server_notes_nothing() -> None:
    """Without other servers nothing is kept to be told."""
    book = RateBook(lambda _tenant: attrs.evolve(NONE, requests_per_second=1))
    assert asked(book, 0.0)
    assert book.used is None
    assert [] == tell_usage(book)


def test_a_report_of_a_newer_version_is_read() -> None:
    """Servers of two versions run side by side."""
    newer = json.dumps([{"tenant": "a", "requests": 2.0, "cells": 3.0}])
    assert [Usage("a", None, requests=2.0)] == read_usage(newer)


ODD = {
    "no number": "NaN",
    "without end": "-Infinity",
    "too large for a float": "1e999",
    "too large to add": "1" + "0" * 400,
    "a truth": "true",
    "a text": '"1"',
}


@pytest.mark.parametrize("amount", ODD.values(), ids=ODD)
def test_amounts_that_are_no_finite_numbers_are_no_report(amount: str) -> None:
    """One of them in a bucket would bar a tenant for ever, or never again."""
    with pytest.raises(ValueError, match=r"amount|number"):
        read_usage(f'[{{"tenant": "a", "requests": {amount}}}]')


@pytest.mark.parametrize("text", ["", "7", "[7]", "[{}]", '[{"tenant": "a", "principal": 7}]', "[" * 100_000])
def test_a_text_that_is_no_report_is_a_value_error(text: str) -> None:
    """Whatever another server wrote."""
    with pytest.raises(ValueError):  # noqa: PT011  # the parser's own messages, too
        read_usage(text)


def test_no_server_gives_back_what_another_took() -> None:
    """A report of negative amounts returns at most what the others told before."""
    one, _ = books(2, requests_per_second=1)
    assert [True, True] == [asked(one, 0.0) for _ in range(2)]
    count_usage(one, [Usage("a", None, requests=-1000.0)], 0.0)
    assert not asked(one, 0.0, "bob"), "the burst is used up here"
    count_usage(one, [Usage("a", None, requests=3.0), Usage("a", None, requests=-1000.0)], 0.0)
    assert not asked(one, 0.0, "carl")


class Told:
    """A store of servers where others have told something."""

    def __init__(self, *reports: str) -> None:
        self.reports = reports

    def exchange_usage(self, _report: str | None) -> tuple[str, ...]:
        return self.reports


async def test_a_bad_report_is_passed_over_and_the_others_count() -> None:
    """It is logged once, and ends nothing."""
    (book,) = books(1, requests_per_second=1)
    good = print_usage([Usage("a", None, requests=100.0)])
    exchange_ = RateExchange(Told('[{"tenant": "a", "requests": NaN}]', good, "{"), book)  # type: ignore[arg-type]
    with capture_logs() as logs:
        await exchange_.exchange()
        await exchange_.exchange()
    assert not asked(book, trio.current_time())
    assert asked(book, trio.current_time(), tenant="b")
    assert ["a server's report of used rates cannot be read"] == [one["event"] for one in logs]


async def test_a_long_report_lets_other_tasks_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more entries are counted at once than :data:`AT_ONCE`."""
    (book,) = books(1, requests_per_second=1)
    sizes: list[int] = []
    monkeypatch.setattr(rate_exchange, "count_usage", lambda _book, usage, _now: sizes.append(len(usage)))
    report = print_usage([Usage("a", f"p{number}", requests=1.0) for number in range(AT_ONCE * 2 + 1)])
    await RateExchange(Told(report), book).exchange()  # type: ignore[arg-type]
    assert [AT_ONCE, AT_ONCE, 1] == sizes

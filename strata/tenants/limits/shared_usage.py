"""What servers tell each other of the rates that tenants used, so that rates hold for all of them. Pure.

Each server counts what it admits at once, and what the others admitted as soon as they tell of it. So the
servers together exceed a rate once, by what each of the others admitted since it last told; the excess is
paid back before anything else is admitted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import attrs

from strata.tenants.limits.rates import Buckets, RateBook, Rules
from strata.tenants.limits.token_bucket import RateRule, TokenBucket

MOST_TOLD = 2000
"""Principals whose use is told at a time, as many of each tenant; further ones follow the next time."""

MOST_AMOUNT = 1e15
"""Most of one kind that an entry may tell: sums of such amounts are still numbers."""


@attrs.frozen
class Usage:
    """What was taken from the buckets of one principal, or of a whole tenant.

    Attributes:
        tenant: The tenant.
        principal: The principal; None: all principals of the tenant together.
        requests: Requests.
        scans: Requests to materialize.
        bytes: Bytes, counted by the second.
        day: Bytes, counted by the day.
    """

    tenant: str
    principal: str | None
    requests: float = 0.0
    scans: float = 0.0
    bytes: float = 0.0
    day: float = 0.0


def tell_usage(book: RateBook) -> list[Usage]:
    """Return what was taken since the last call; nothing of tenants and principals that are forgotten."""
    used = {} if book.used is None else book.used
    told: list[Usage] = []
    share = max(1, MOST_TOLD // max(1, len(used)))
    for tenant in list(used)[:MOST_TOLD]:
        rates, principals = book.known(tenant), used.pop(tenant)
        if rates is None:
            continue
        told.append(_told(tenant, None, rates.all))
        for principal in list(principals)[:share]:
            del principals[principal]
            own = rates.known(principal)
            if own is not None:
                told.append(_told(tenant, principal, own))
        if principals:
            used[tenant] = principals  # after the other tenants
    return [one for one in told if one.requests or one.scans or one.bytes or one.day]


def count_usage(book: RateBook, usage: Iterable[Usage], now: float) -> None:
    """Count what another server told, with ``now`` in seconds of a monotonic clock."""
    for one in usage:
        rates = book.of(one.tenant, now)
        whose = rates.all if one.principal is None else rates.of(one.principal)
        for bucket, rule, amount in _parts(rates.rules, whose, one):
            if rule is not None and amount:
                bucket.taken_elsewhere(rule, now, amount)


def print_usage(usage: Iterable[Usage]) -> str:
    """Return usage as a text for the other servers."""
    return json.dumps([attrs.asdict(one, filter=lambda _field, value: bool(value)) for one in usage])


def read_usage(text: str) -> list[Usage]:
    """Return the usage of a text of :func:`print_usage`; what a newer version adds to it is passed over.

    Raises:
        ValueError: If it is no such text, or an amount is no finite number up to :data:`MOST_AMOUNT`.
    """
    try:
        entries = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(entries, list):
        raise ValueError("it is no list")  # noqa: TRY004  # wrong text, not a wrong call
    return [_entry(one) for one in entries]


def _entry(one: Mapping[str, Any]) -> Usage:
    if not isinstance(one, dict) or not isinstance(one.get("tenant"), str):
        raise ValueError("an entry names no tenant")  # noqa: TRY004
    if not isinstance(one.get("principal"), str | None):
        raise ValueError("an entry has a principal that is no text")  # noqa: TRY004
    amounts = {name: one[name] for name in ("requests", "scans", "bytes", "day") if name in one}
    for name, amount in amounts.items():
        if type(amount) not in (int, float) or not abs(amount) <= MOST_AMOUNT:
            raise ValueError(f"the {name} of an entry are no number up to {MOST_AMOUNT:.0e}")
    return Usage(one["tenant"], one.get("principal"), **amounts)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no amount")


def _told(tenant: str, principal: str | None, buckets: Buckets) -> Usage:
    return Usage(
        tenant,
        principal,
        requests=buckets.requests.tell(),
        scans=buckets.scans.tell(),
        bytes=buckets.bytes.tell(),
        day=buckets.day.tell(),
    )


def _parts(
    rules: Rules, buckets: Buckets, usage: Usage
) -> Iterator[tuple[TokenBucket, RateRule | None, float]]:
    every = usage.principal is None
    yield buckets.requests, rules.requests if every else rules.own_requests, usage.requests
    yield buckets.scans, None if every else rules.own_scans, usage.scans
    yield buckets.bytes, rules.bytes if every else rules.own_bytes, usage.bytes
    yield buckets.day, rules.day if every else rules.own_day, usage.day

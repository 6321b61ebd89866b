"""The queue of the access audit: what it holds of whom, and what it does when records cannot be written."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import attrs
import pytest

from strata import acl
from strata.artifacts.accesses.contract import Access
from strata.auth import Principal
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import TableRef
from strata.tenants import TenantLimits
from strata.tenants.auditing import access_audit
from strata.tenants.auditing.access_audit import MOST_TABLES, AccessAudit, Retention

FACTS = {"request_id": "r", "action": "read", "outcome": "ok"}


@attrs.define
class Store:
    """A store that refuses the records of some tenants."""

    refuses: set[str] = attrs.field(factory=set)
    written: list[Access] = attrs.field(factory=list)
    sizes: list[int] = attrs.field(factory=list)

    def add(self, accesses: Sequence[Access]) -> None:
        if self.refuses & {one.tenant for one in accesses}:
            raise RefusalError(Refused(Reason.UNAVAILABLE, "no"))
        self.written += accesses
        self.sizes.append(len(accesses))


def resolve(uri: str) -> TableRef | Refused:
    """Every URI with a colon names a table."""
    alias, colon, table = uri.partition(":")
    return TableRef(alias, ("db",), table) if colon else Refused(Reason.BAD_REQUEST, "none")


def audit_of(store: Store, *, required: bool = False) -> AccessAudit:
    """Return an audit of tables that anybody may read."""
    yes = acl.Decision(allowed=True, rule=None, reason=acl.Reason.DEFAULT)
    return AccessAudit(
        store,  # type: ignore[arg-type]
        SimpleNamespace(resolve=resolve),  # type: ignore[arg-type]
        lambda _who, ref: (
            f"tables/{ref.catalog}/db/{ref.table}",
            yes,
        ),
        lambda versions: iter(versions.items()),
        lambda _tenant: TenantLimits(access_audit=True),
        lambda: Retention(days=1, nbytes=0, required=required),
        lambda: 1.0,
    )


def who(tenant: str) -> Principal:
    """Return a caller."""
    return Principal("ana", tenant, frozenset())


async def drain(audit: AccessAudit, attempts: int) -> None:
    """Write for some attempts."""
    for _ in range(attempts):
        await audit._write(5)


async def test_inputs_that_are_no_tables_keep_no_table_out_of_a_record() -> None:
    """Nor does one that is named often; a record says when it has not all tables."""
    audit = audit_of(store := Store())
    audit.note(who("a"), FACTS, inputs=[*["junk"] * 200, *["wh:x"] * 200, "wh:secret"])
    audit.note(who("a"), FACTS, inputs=[f"wh:t{number}" for number in range(MOST_TABLES + 1)])
    audit.note(who("a"), FACTS, inputs=["wh:" + "n" * 500, "wh:\ud800"])
    await drain(audit, 1)
    first, many, long = store.written
    assert (["wh/db/x", "wh/db/secret"], False) == ([one.table for one in first.tables], first.cut)
    assert (MOST_TABLES, True) == (len(many.tables), many.cut)
    name, odd = (one.table for one in long.tables)
    assert (256, "…", r"wh/db/\ud800") == (len(name), name[-1], odd)


async def test_what_one_tenant_has_waiting_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flood drops its own records; a neighbour's has room. All of it is given back when it is written."""
    monkeypatch.setattr(access_audit, "NBYTES", 40_000)
    audit = audit_of(store := Store())
    for _ in range(100):
        audit.note(who("flood"), FACTS, inputs=["wh:" + "n" * 250])
    dropped = audit.dropped
    assert 0 < dropped < 100
    audit.note(who("b"), FACTS, inputs=["wh:x"])
    assert dropped == audit.dropped
    await drain(audit, 1)
    assert (101 - dropped, 0) == (len(store.written), audit.waiting)
    assert 0 == audit._nbytes.total() == audit._places.total()


async def test_a_batch_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is larger than a batch is written alone."""
    monkeypatch.setattr(access_audit, "BATCH_NBYTES", 1)
    audit = audit_of(store := Store())
    for _ in range(3):
        audit.note(who("a"), FACTS)
    await drain(audit, 3)
    assert [1, 1, 1] == store.sizes


async def test_a_tenant_whose_records_cannot_be_written_stops_no_other() -> None:
    """However many it has, and at the head of the queue; its own are kept, and written when they can be."""
    audit = audit_of(store := Store({"bad"}))
    for _ in range(100):
        audit.note(who("bad"), FACTS)
    for tenant in ("b", "c"):
        audit.note(who(tenant), FACTS)
    await drain(audit, 12)
    assert {"b", "c"} == {one.tenant for one in store.written}
    audit.note(who("d"), FACTS)
    await drain(audit, 1)
    assert "d" == store.written[-1].tenant, "the bad one stands aside"
    store.refuses = set()
    await drain(audit, 12)
    assert (103, 0) == (len(store.written), audit.waiting)


async def test_a_read_that_was_let_in_is_recorded_however_full_the_queue_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A place is kept from its begin on; what is not used is free again."""
    monkeypatch.setattr(access_audit, "PLACES", 3)
    audit = audit_of(store := Store(), required=True)
    assert audit.keep_place("a") is True
    audit.note(who("a"), FACTS)
    assert isinstance(audit.keep_place("a"), Refused)
    assert audit.keep_place("b") is True
    audit.leave_places("a", 1)
    audit.note(who("a"), FACTS, kept=True)
    audit.leave_places("b", 1)
    assert (2, 0) == (audit.waiting, audit.dropped)
    await drain(audit, 1)
    assert 2 == len(store.written)
    assert 0 == audit._places.total() == audit._nbytes.total()


async def test_a_record_that_cannot_be_encoded_ends_no_task() -> None:
    """It is a failed write like another."""

    class Broken(Store):
        def add(self, accesses: Sequence[Access]) -> None:  # noqa: ARG002
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")

    audit = audit_of(Broken())
    audit.note(who("a"), FACTS)
    await drain(audit, 2)
    assert 1 == audit.waiting

"""Leases and events of notebooks' sessions in the metadata database, and the fence of their owners."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import sqlalchemy as sa

from strata.artifacts.database.connections import Transactions
from strata.artifacts.database.schema import notebook_events, notebook_leases, notebooks
from strata.artifacts.metadata.naming import upsert
from strata.artifacts.metadata.ownership import lives
from strata.notebooks.session.lease import HeldByOther, Lease, Sightings, may_write, take_lease
from strata.notebooks.store.contract import NOTEBOOK_NOT_FOUND
from strata.notebooks.store.leases import MOVED, Adoption, EventsRow, held_elsewhere
from strata.outcomes import Refused

GIVEN_UP: Final = 0.0
"""The mark of a lease that its owner has given up."""

_TABLE = notebook_leases


@attrs.frozen(eq=False)
class SqlSessionLeases:
    """Leases in a metadata database; see :class:`~strata.notebooks.store.leases.SessionLeases`.

    Attributes:
        transactions: The database's transactions.
        now: Wall clock of all servers, in seconds since the epoch; no lease is judged by it.
        owner: Id of this server.
        seconds: Seconds that a lease lasts.
        alone: Whether this process has the database alone.
        sightings: What this server has seen of leases.
        monotonic: Its monotonic clock.
        dead: Servers whose own lease is over, with their marks; ``None``: servers have none.
    """

    transactions: Transactions
    now: Callable[[], float]
    owner: str
    seconds: float
    alone: bool
    sightings: Sightings
    monotonic: Callable[[], float]
    dead: Callable[[], Mapping[str, float]] | None

    def take(self, tenant: str, name: str) -> Adoption | Refused:
        """See :class:`~strata.notebooks.store.leases.SessionLeases`."""
        known = sa.select(notebooks.c.name).where(notebooks.c.tenant == tenant, notebooks.c.name == name)
        with self.transactions.writing(tenant) as connection:
            if connection.execute(known.with_for_update()).first() is None:
                return NOTEBOOK_NOT_FOUND
            looked, row = self.monotonic(), _row(connection, tenant, name)
            # One's own is of a session that this process has forgotten.
            found = None if row is None else Lease(row.owner, row.epoch, looked + self._left(connection, row))
            taken = take_lease(found, self.owner, looked, self.seconds)
            if isinstance(taken, HeldByOther):
                return held_elsewhere(taken.seconds)
            running = "" if row is None else row.running
            mark = {"until": self._mark(row)}
            values = attrs.asdict(taken) | mark | {"tenant": tenant, "name": name, "running": running}
            upsert(connection, _TABLE, values)
        return Adoption(taken.epoch, running)

    def renew(self, tenant: str, epochs: Mapping[str, int]) -> frozenset[str]:
        """See :class:`~strata.notebooks.store.leases.SessionLeases`."""
        kept = set()
        with self.transactions.writing(tenant) as connection:
            for name, epoch in epochs.items():
                row = _row(connection, tenant, name)
                if (
                    row is not None
                    and (row.owner, row.epoch) == (self.owner, epoch)
                    and row.until != GIVEN_UP
                ):
                    renewed = _TABLE.update().where(_of(tenant, name)).values(until=self._mark(row))
                    connection.execute(renewed)
                    kept.add(name)
        return frozenset(kept)

    def give_up(self, tenant: str, name: str, epoch: int) -> None:
        """See :class:`~strata.notebooks.store.leases.SessionLeases`."""
        mine = sa.and_(_of(tenant, name), _TABLE.c.owner == self.owner, _TABLE.c.epoch == epoch)
        with self.transactions.writing(tenant) as connection:
            if connection.execute(_TABLE.update().where(mine).values(until=GIVEN_UP)).rowcount:
                connection.execute(notebook_events.delete().where(_events_of(tenant, name)))

    def leave(self) -> None:
        """See :class:`~strata.notebooks.store.leases.SessionLeases`; one transaction for each tenant."""
        mine = _TABLE.c.owner == self.owner
        with self.transactions.reading() as connection:
            tenants = list(connection.scalars(sa.select(_TABLE.c.tenant).where(mine).distinct()))
        for tenant in tenants:
            with self.transactions.writing(tenant) as connection:
                gone = sa.and_(mine, _TABLE.c.tenant == tenant)
                connection.execute(_TABLE.update().where(gone).values(until=GIVEN_UP))

    def note_running(self, tenant: str, name: str, epoch: int, running: str) -> Refused | None:
        """See :class:`~strata.notebooks.store.leases.SessionLeases`."""
        with self.transactions.writing(tenant) as connection:
            refused = self.fence(connection, tenant, name, epoch)
            if refused is None:
                note(connection, tenant, name, running)
        return refused

    def add_events(self, tenant: str, name: str, row: EventsRow, after: int, gone: int) -> Refused | None:
        """See :class:`~strata.notebooks.store.leases.SessionLeases`."""
        with self.transactions.writing(tenant) as connection:
            refused = self.fence(connection, tenant, name, row.epoch)
            if refused is None:
                seq = notebook_events.c.seq
                old = _events_of(tenant, name) & ((seq <= gone) | (seq > after))
                connection.execute(notebook_events.delete().where(old))
                values = attrs.asdict(row) | {"tenant": tenant, "name": name}
                connection.execute(notebook_events.insert().values(values))
        return refused

    def events(self, tenant: str, name: str) -> tuple[EventsRow, ...]:
        """See :class:`~strata.notebooks.store.leases.SessionLeases`."""
        columns = [notebook_events.c[one.name] for one in attrs.fields(EventsRow)]
        query = sa.select(*columns).where(_events_of(tenant, name)).order_by(notebook_events.c.seq)
        with self.transactions.reading() as connection:
            return tuple(EventsRow(**row) for row in connection.execute(query).mappings())

    def fence(self, connection: sa.Connection, tenant: str, name: str, epoch: int | None) -> Refused | None:
        """Return the refusal of a write to a notebook by this server, or ``None``.

        Args:
            connection: The transaction of the write.
            tenant: The tenant.
            name: The notebook.
            epoch: The epoch of the owner that writes; ``None``: the writer owns no session.
        """
        row = _row(connection, tenant, name)
        if epoch is not None:
            found = None if row is None else Lease(row.owner, row.epoch, row.until)
            owned = found is not None and found.owner == self.owner
            return None if owned and may_write(found, epoch) else MOVED
        left = 0.0 if row is None else self._left(connection, row)
        return held_elsewhere(left) if left > 0 else None

    def _left(self, connection: sa.Connection, row: Any) -> float:
        """Return the seconds for which another server may rely on a lease; 0: it is over, or one's own."""
        if self.alone or row.owner == self.owner or row.until == GIVEN_UP:
            return 0.0
        if self.dead is not None and not lives(connection, row.owner, self.dead()):
            return 0.0
        looked = self.monotonic()
        mark = (row.owner, row.epoch, row.until)
        return max(0.0, self.sightings.until(row.tenant, row.name, mark, looked) - looked)

    def _mark(self, row: Any) -> float:
        """Return the mark of a renewal: when it would end by the clock, and more than the mark before.

        A mark that came back, by a clock that stands still or was set back, would hide a renewal.
        """
        until = self.now() + self.seconds
        return until if row is None else max(until, math.nextafter(row.until, math.inf))


def note(connection: sa.Connection, tenant: str, name: str, running: str) -> None:
    """Note which cell runs."""
    connection.execute(_TABLE.update().where(_of(tenant, name)).values(running=running))


def _row(connection: sa.Connection, tenant: str, name: str) -> Any:
    columns = (
        _TABLE.c.tenant,
        _TABLE.c.name,
        _TABLE.c.owner,
        _TABLE.c.epoch,
        _TABLE.c.until,
        _TABLE.c.running,
    )
    query = sa.select(*columns).where(_of(tenant, name))
    return connection.execute(query.with_for_update()).first()


def _of(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(_TABLE.c.tenant == tenant, _TABLE.c.name == name)


def _events_of(tenant: str, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(notebook_events.c.tenant == tenant, notebook_events.c.name == name)

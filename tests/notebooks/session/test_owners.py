"""A simulator of servers that own a session one after the other: never do two of them accept an edit.

Servers have clocks that run at other speeds, messages take their time and get lost, and a server may stand
still between any two of its steps. The store is one, and does one call at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs
import pytest

from strata.notebooks.session import lease as leases
from strata.notebooks.session.events import Adopted, Edited, EventLog, Joined
from strata.notebooks.session.lease import (
    LEASE_SECONDS,
    MARGIN,
    HeldByOther,
    Lease,
    Tenure,
    give_up_lease,
    may_write,
    take_lease,
)
from strata.notebooks.session.state import SessionState
from strata.outcomes import Refused


@attrs.define(eq=False)
class Store:
    """The metadata store: a lease and the events, changed by conditional writes on its own clock."""

    now: float = 0.0
    lease: Lease | None = None
    log: EventLog = attrs.field(factory=EventLog)
    written: list[tuple[float, str, int, object]] = attrs.field(factory=list)
    checks_place: bool = True

    def take(self, server: str) -> Lease | HeldByOther:
        found = take_lease(self.lease, server, self.now)
        if isinstance(found, Lease):
            self.lease = found
        return found

    def write(self, server: str, epoch: int, last: int, events: tuple) -> bool:
        """Append events of an epoch behind the event ``last``; returns whether they were taken."""
        if not may_write(self.lease, epoch) or (self.checks_place and self.log.last != last):
            return False
        for event in events:
            self.log.append(event)
            self.written.append((self.now, server, epoch, event))
        return True


@attrs.define(eq=False)
class Server:
    """A server that owns the session when it can, and edits it.

    Attributes:
        name: Its id.
        speed: Seconds of its clock for each true one.
        store: The store.
        tenure: What it knows of its lease.
        state: The session, as far as it has read the log.
        read: The last event that it has read.
    """

    name: str
    speed: float
    store: Store
    clock: float = 0.0
    tenure: Tenure = attrs.field(factory=Tenure)
    state: SessionState = attrs.field(factory=SessionState)
    read: int = 0
    replies: list[tuple[float, Callable[[], None]]] = attrs.field(factory=list)

    @property
    def accepts(self) -> bool:
        return self.tenure.accepts(self.clock)

    def ask_for_lease(self, delay: float, *, lost: bool) -> None:
        """Send a request for the lease; its answer comes later, or never."""
        asked = self.clock
        found = self.store.take(self.name)
        if isinstance(found, Lease) and not lost:
            self.replies.append((self.store.now + delay, lambda: self._owns(found, asked)))

    def _owns(self, found: Lease, asked: float) -> None:
        before, self.tenure = self.tenure, self.tenure.granted(found.epoch, asked)
        if self.tenure.epoch > before.epoch:
            self._catch_up()
            self._write((Adopted(found.epoch), Joined(self.name, self.name, writes=True)))

    def edit(self) -> None:
        """Accept an edit of a member, if the lease says so; the store has the last word."""
        if self.accepts:
            found = self.state.edit(self.name, self.state.revision + 1, ["a"], self.clock)
            if not isinstance(found, Refused):
                self._write(found)

    def _write(self, events: tuple) -> None:
        if self.store.write(self.name, self.tenure.epoch, self.read, events):
            self._catch_up()
        else:
            self.tenure = self.tenure.ended()

    def _catch_up(self) -> None:
        for one in self.store.log.after(self.read, 100_000):
            self.state, self.read = self.state.evolve(one.event), one.seq


def simulate(
    seed: int, *, drift: float, seconds: float = 300.0, checks_place: bool = True
) -> tuple[Store, int]:
    """Run servers for a while; returns the store, and how often two accepted edits at one true time."""
    chance = random.Random(seed)
    store = Store(checks_place=checks_place)
    servers = [Server(name, 1 + chance.uniform(-drift, drift), store) for name in ("s1", "s2", "s3")]
    asleep = dict.fromkeys((one.name for one in servers), 0.0)
    both = 0
    while store.now < seconds:
        step = chance.expovariate(20)
        store.now += step
        for server in servers:
            server.clock += step * server.speed
        both += sum(server.accepts for server in servers) > 1
        awake = [server for server in servers if asleep[server.name] <= store.now]
        if not awake:
            continue
        server = chance.choice(awake)
        due = [reply for reply in server.replies if reply[0] <= store.now]
        server.replies = [reply for reply in server.replies if reply[0] > store.now]
        for _, reply in due:
            reply()
        match chance.randrange(20):
            case 0:
                asleep[server.name] = store.now + chance.choice([0.5, 3, 12, 40])
            case 1:
                if chance.random() < 0.2:
                    epoch, server.tenure = server.tenure.epoch, server.tenure.ended()
                    store.lease = give_up_lease(store.lease, server.name, epoch, store.now)
            case 2 | 3 | 4:
                server.ask_for_lease(chance.expovariate(1), lost=chance.random() < 0.2)
            case _:
                server.edit()
    return store, both


@pytest.mark.parametrize("seed", range(40))
def test_a_session_never_has_two_owners_that_both_accept_edits(seed: int) -> None:
    """With clocks within the margin no two servers accept at one time; each epoch has one owner."""
    store, both = simulate(seed, drift=MARGIN / 3)
    assert 0 == both
    check(store)
    assert len({epoch for _, _, epoch, _ in store.written}) > 2
    assert sum(isinstance(event, Edited) for *_, event in store.written) > 20


@pytest.mark.parametrize("seed", range(20))
def test_clocks_that_lie_lose_no_edit(seed: int) -> None:
    """With clocks beyond the margin the store still refuses every epoch but the latest."""
    store, _ = simulate(seed, drift=0.9)
    check(store)


def check(store: Store) -> None:
    """Epochs never fall, have one server each, and revisions follow without a gap."""
    epochs = [epoch for _, _, epoch, _ in store.written]
    assert sorted(epochs) == epochs
    owners = {(epoch, server) for _, server, epoch, _ in store.written}
    assert len({epoch for epoch, _ in owners}) == len(owners)
    revisions = [event.revision for *_, event in store.written if isinstance(event, Edited)]
    assert list(range(2, 2 + len(revisions))) == revisions
    state = SessionState().after(one.event for one in store.log)
    assert 1 + len(revisions) == state.revision


def broken(**options: object) -> bool:
    """Return whether one of 20 runs with clocks beyond the margin ends in a log that no single owner made."""
    for seed in range(20):
        try:
            check(simulate(seed, drift=0.9, **options)[0])
        except (AssertionError, KeyError):
            return True
    return False


def test_each_protection_matters(monkeypatch) -> None:
    """Without the fences two owners write; without the margin, or with late grants, two accept at one time."""
    with monkeypatch.context() as changed:
        changed.setitem(globals(), "may_write", lambda _found, _epoch: True)
        assert broken(checks_place=False)
    assert not broken()
    with monkeypatch.context() as changed:
        changed.setattr(leases, "MARGIN", -1.0)
        assert any(simulate(seed, drift=MARGIN / 3)[1] for seed in range(20))
    with monkeypatch.context() as changed:
        changed.setattr(Tenure, "ended", lambda _self: Tenure())
        assert any(simulate(seed, drift=MARGIN / 3)[1] for seed in range(40))


def test_a_lease_is_taken_renewed_and_given_up() -> None:
    """A free or ended lease raises the epoch, one's own is prolonged, another's is refused with its time."""
    first = take_lease(None, "s1", 0.0)
    assert Lease("s1", 1, LEASE_SECONDS) == first
    assert HeldByOther(4.0) == take_lease(first, "s2", LEASE_SECONDS - 4)
    assert Lease("s1", 1, 5 + LEASE_SECONDS) == take_lease(first, "s1", 5.0)
    assert Lease("s2", 2, 2 * LEASE_SECONDS) == take_lease(first, "s2", LEASE_SECONDS)
    assert Lease("s1", 2, 2 * LEASE_SECONDS) == take_lease(first, "s1", LEASE_SECONDS)
    given = give_up_lease(first, "s1", 1, 3.0)
    assert Lease("s1", 1, 3.0) == given
    assert Lease("s2", 2, 3 + LEASE_SECONDS) == take_lease(given, "s2", 3.0)
    assert first == give_up_lease(first, "s2", 1, 3.0) == give_up_lease(first, "s1", 2, 3.0)
    assert None is give_up_lease(None, "s1", 1, 3.0)
    assert [False, True, False] == [may_write(None, 1), may_write(first, 1), may_write(first, 2)]

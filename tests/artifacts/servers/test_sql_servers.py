"""Servers on one PostgreSQL database: one build at a time, no end of a build told late, no bytes deleted that are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
import sqlalchemy as sa
from postgres_kit import new_database

from strata.artifacts import Act, ArtifactRecord, ArtifactState, BlobFacts, BuildRecord, SqlMetadataStore
from strata.artifacts.database.postgres import PostgresDatabase
from strata.artifacts.database.schema import servers, usage_reports
from strata.artifacts.metadata.contract import NOT_RUNNING
from strata.artifacts.retention.contract import Removed
from strata.artifacts.retention.sql_retention import SqlRetention
from strata.artifacts.servers.contract import BEATS, REPORTS, Claim, ServerFacts
from strata.artifacts.servers.sql_servers import DatabaseClock, SqlServers
from strata.outcomes import Refused
from strata.postgres_address import parse_dsn

pytestmark = pytest.mark.slow

FACTS = ServerFacts(name="host 1", version="1", config_version="c", policy_version=None, state="ready")
SHA = "a" * 64
CONNECTIONS = 4
LEASE = 60.0
ACT = Act(tenant="t", principal="ana", principal_tenant="t", action="artifact.delete", request_id="r")


@attrs.define
class Clock:
    """A server's monotonic clock."""

    now: float = 1000.0


@attrs.define
class Server:
    """A server's part of the database."""

    store: SqlMetadataStore
    servers: SqlServers
    retention: SqlRetention
    clock: Clock
    others: list[Server] = attrs.field(factory=list, repr=False)

    def begin(
        self, build_id: str, key: str = "k", tenant: str = "t", *, refresh: bool = False
    ) -> BuildRecord:
        return self.store.begin_build(
            tenant, build_id=build_id, provenance_hash=key * 64, query_hash="q" * 64, transform_spec="{}",
            input_versions=[("uri", "1")], executor_ref="scan@v1", name=None, refresh=refresh,
        )  # fmt: skip

    def finish(self, build_id: str, sha256: str = SHA, tenant: str = "t") -> ArtifactRecord | Refused:
        facts = BlobFacts(sha256, 10, Path("x"))
        return self.store.finish_build(tenant, build_id, facts=facts, row_count=1, arrow_schema="")

    def ready(self, build_id: str, key: str = "k") -> ArtifactRecord:
        self.begin(build_id, key)
        assert self.servers.note_bytes("t", build_id, SHA) is True
        found = self.finish(build_id)
        assert isinstance(found, ArtifactRecord)
        return found

    def remove(self, artifact: ArtifactRecord) -> Removed:
        removed = self.retention.remove("t", artifact.artifact_id, artifact.version, ACT)
        assert isinstance(removed, Removed)
        return removed

    def die(self) -> None:
        """Let the others see no renewal for as long as a lease lasts, as if the process were frozen."""
        for other in self.others:
            other.look(LEASE)

    def look(self, seconds: float) -> None:
        """Renew the lease for so many seconds, as the heartbeat does, and see what the others did."""
        for _ in range(BEATS):
            self.clock.now += seconds / BEATS
            self.servers.beat(FACTS)


@pytest.fixture
def pair(postgresql: str) -> Iterator[tuple[Server, Server]]:
    address, made = parse_dsn(new_database(postgresql)), []
    for _ in range(2):
        clock, own = DatabaseClock(), Clock()
        store = SqlMetadataStore(PostgresDatabase(address, CONNECTIONS), clock)
        found = SqlServers(store, LEASE, clock, lambda own=own: own.now)
        found.beat(FACTS)
        made.append(Server(store, found, SqlRetention(store), own))
    one, other = made
    one.others, other.others = [other], [one]
    for server in made:
        server.servers.beat(FACTS)  # each has seen the other one
    yield one, other
    for server in made:
        server.store.close()


def test_equal_builds_are_one(pair: tuple[Server, Server]) -> None:
    """The second server gets the first one's build, cannot end it, and sees it as running elsewhere."""
    one, other = pair
    mine = one.begin("b1")
    assert mine == other.begin("b2")
    assert mine == other.servers.running_elsewhere("t", mine.artifact_id)
    assert one.servers.running_elsewhere("t", mine.artifact_id) is None
    assert other.servers.running_elsewhere("u", mine.artifact_id) is None
    assert NOT_RUNNING is other.finish("b1")
    other.store.fail_build("t", "b1", code="x", message="x")
    assert isinstance(one.finish("b1"), ArtifactRecord)
    assert other.servers.running_elsewhere("t", mine.artifact_id) is None


def test_the_build_of_a_dead_server_is_taken_over(pair: tuple[Server, Server]) -> None:
    """Its late end is refused, and the bytes that it may have committed are removed unless another has them."""
    dead, heir = pair
    dead.begin("b1")
    assert dead.servers.note_bytes("t", "b1", SHA) is True
    dead.die()
    second = heir.begin("b2")
    assert ("b2", 2) == (second.build_id, second.version)
    assert NOT_RUNNING is dead.finish("b1")
    assert NOT_RUNNING is dead.servers.note_bytes("t", "b1", SHA)
    first = heir.store.get_build("t", "b1")
    assert first is not None
    assert (ArtifactState.FAILED, "interrupted") == (first.state, first.error_code)
    [left] = heir.retention.pending(9)
    assert (second.artifact_id, 1, SHA) == (left.artifact_id, left.version, left.content_sha256)
    assert heir.servers.note_bytes("t", "b2", SHA) is True
    assert Claim.BUSY is heir.servers.claim(left)
    heir.finish("b2")
    assert Claim.NEEDED is heir.servers.claim(left)
    heir.retention.bytes_gone(left)
    assert () == heir.retention.pending(9)


def test_builds_of_dead_servers_end_by_themselves(pair: tuple[Server, Server]) -> None:
    """Of all tenants; those of living servers go on."""
    dead, heir = pair
    for tenant in ("t", "u"):
        dead.begin("b1", tenant=tenant)
        heir.begin("b2", "m", tenant)
    assert 0 == heir.servers.end_dead()
    dead.die()
    assert [heir.servers.server_id] == [one.server_id for one in heir.servers.servers()]
    assert 2 == heir.servers.end_dead()
    for tenant in ("t", "u"):
        assert ArtifactState.FAILED is heir.store.get_build(tenant, "b1").state
        assert ArtifactState.BUILDING is heir.store.get_build(tenant, "b2").state
    dead.servers.beat(FACTS)
    heir.servers.beat(FACTS)
    assert 2 == len(heir.servers.servers())
    dead.begin("b3", "n")
    dead.servers.leave()
    assert ArtifactState.FAILED is heir.store.get_build("t", "b3").state
    assert not dead.servers.fresh


@pytest.mark.parametrize("step", [-1e6, 1e6])
def test_a_step_of_the_databases_clock_ends_no_lease_and_extends_none(
    pair: tuple[Server, Server], step: float
) -> None:
    """Neither an end of a lease that is long over by that clock, nor one that is far away, counts."""
    one, other = pair
    mine = one.begin("b1")
    removed = other.remove(other.ready("b2", "m"))
    assert Claim.TAKEN is other.servers.claim(removed)
    with one.store.writing(None) as connection:
        connection.execute(sa.update(servers).values(expires_at=servers.c.expires_at + step))
    assert 0 == other.servers.end_dead()
    assert mine == other.begin("b3"), "still the build of the first"
    assert one.servers.note_bytes("t", "b1", SHA) is False, "the other server deletes equal bytes"
    assert 2 == len(one.servers.servers())
    one.die()
    with one.store.writing(None) as connection:
        connection.execute(sa.update(servers).values(expires_at=servers.c.expires_at + step))
    assert 1 == other.servers.end_dead()


def test_a_frozen_server_that_goes_on_has_its_lease_again_at_once(pair: tuple[Server, Server]) -> None:
    """From its renewal on, not from the others' next look at the servers: nobody takes its build over."""
    frozen, other = pair
    mine = frozen.begin("b1")
    frozen.die()
    assert [other.servers.server_id] == [one.server_id for one in other.servers.servers()]
    frozen.servers.beat(FACTS)
    assert 2 == len(other.servers.servers())
    assert 0 == other.servers.end_dead()
    assert mine == other.begin("b2")
    assert mine == other.servers.running_elsewhere("t", mine.artifact_id)
    assert isinstance(frozen.finish("b1"), ArtifactRecord)


def test_a_database_that_was_away_ends_no_lease(pair: tuple[Server, Server]) -> None:
    """The first server to reach it again leaves the others the time of a lease to renew theirs."""
    first, second = pair
    second.begin("b1")
    first.clock.now += 10 * LEASE
    first.servers.beat(FACTS)
    assert 0 == first.servers.end_dead()
    first.look(0.8 * LEASE)
    assert 0 == first.servers.end_dead()
    second.servers.beat(FACTS)
    first.look(0.8 * LEASE)
    assert 0 == first.servers.end_dead()
    first.look(LEASE)
    assert 1 == first.servers.end_dead()
    assert 2 == len(rows_of(first)), "kept for an hour"
    for _ in range(70):
        first.look(LEASE)
    first.servers.end_dead()
    assert [first.servers.server_id] == rows_of(first)


def rows_of(server: Server) -> list[str]:
    with server.store.reading() as connection:
        return list(connection.scalars(sa.select(servers.c.server_id)))


def test_a_server_is_not_dead_before_it_was_watched(pair: tuple[Server, Server], postgresql: str) -> None:
    """A server that starts takes nothing over until a lease has passed without a renewal."""
    old, _ = pair
    old.begin("b1")
    clock = DatabaseClock()
    store = SqlMetadataStore(PostgresDatabase(old.store.database._address, 2), clock)
    own = Clock(5.0)
    fresh = Server(store, SqlServers(store, LEASE, clock, lambda: own.now), SqlRetention(store), own)
    fresh.servers.beat(FACTS)
    assert 0 == fresh.servers.end_dead()
    fresh.look(LEASE)
    assert 1 == fresh.servers.end_dead()
    store.close()


def test_bytes_are_not_deleted_while_a_server_commits_equal_ones(pair: tuple[Server, Server]) -> None:
    """Whichever comes first, the other waits; a ready result keeps its bytes."""
    one, other = pair
    removed = one.remove(one.ready("b1"))
    assert Claim.TAKEN is one.servers.claim(removed)
    other.begin("b2", "m")
    assert other.servers.note_bytes("t", "b2", SHA) is False
    assert Claim.BUSY is other.servers.claim(removed)
    one.retention.bytes_gone(removed)
    assert other.servers.note_bytes("t", "b2", SHA) is True
    assert Claim.NEEDED is one.servers.claim(removed), "it is another build's now"

    artifact = other.finish("b2")
    assert isinstance(artifact, ArtifactRecord)
    second = other.remove(artifact)
    one.begin("b3", "n")
    assert one.servers.note_bytes("t", "b3", SHA) is True
    assert Claim.BUSY is other.servers.claim(second)
    one.store.fail_build("t", "b3", code="x", message="x")
    assert Claim.TAKEN is other.servers.claim(second)


def test_the_claim_of_a_dead_server_is_void(pair: tuple[Server, Server]) -> None:
    """Equal bytes are committed over it, and are not removed for it later on."""
    dead, heir = pair
    removed = dead.remove(dead.ready("b1"))
    assert Claim.TAKEN is dead.servers.claim(removed)
    dead.die()
    heir.begin("b2", "m")
    assert heir.servers.note_bytes("t", "b2", SHA) is True
    assert isinstance(heir.finish("b2"), ArtifactRecord)
    assert () == heir.retention.pending(9)
    assert Claim.NEEDED is dead.servers.claim(removed)


def test_equal_bytes_of_another_tenant_are_not_its_business(pair: tuple[Server, Server]) -> None:
    """Tenants share no bytes: a claim of one delays no other."""
    one, other = pair
    removed = one.remove(one.ready("b1"))
    assert Claim.TAKEN is one.servers.claim(removed)
    other.begin("b2", tenant="u")
    assert other.servers.note_bytes("u", "b2", SHA) is True


def test_a_lease_is_renewed_however_busy_the_tenants_are(pair: tuple[Server, Server]) -> None:
    """With all connections in use by tenants' calls, a server stays among the living, and is healthy."""
    busy, other = pair
    busy.die()
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(busy.store.reading()).execute(sa.text("SELECT 1"))
        busy.servers.beat(FACTS)
        assert 0 == busy.servers.end_dead()
        assert () == busy.servers.removed_lately()
        assert busy.store.probe()
    other.servers.beat(FACTS)
    assert 2 == len(other.servers.servers())


def test_usage_is_told_to_the_other_servers_once(pair: tuple[Server, Server], postgresql: str) -> None:
    """Only the latest reports are kept; a new server is told nothing of before, and a dead one's are removed."""
    one, other = pair
    assert () == one.servers.exchange_usage("before the other one asked")
    assert () == other.servers.exchange_usage(None)
    assert () == one.servers.exchange_usage("1")
    assert () == one.servers.exchange_usage("2")
    assert {"1", "2"} == set(other.servers.exchange_usage("3"))
    assert () == other.servers.exchange_usage(None)
    assert ("3",) == one.servers.exchange_usage(None)

    for number in range(REPORTS + 5):
        one.servers.exchange_usage(f"n{number}")
    assert {f"n{number}" for number in range(5, REPORTS + 5)} == set(other.servers.exchange_usage(None))
    one.servers.leave()
    assert () == other.servers.exchange_usage("nobody listens")
    with other.store.reading() as connection:
        left = connection.scalars(sa.select(usage_reports.c.server_id)).all()
    assert {other.servers.server_id} == set(left)


def test_removed_versions_are_told(pair: tuple[Server, Server]) -> None:
    """Other servers forget them at their next beat."""
    one, other = pair
    artifact = one.ready("b1")
    assert () == other.servers.removed_lately()
    one.remove(artifact)
    assert (("t", artifact.artifact_id, 1),) == other.servers.removed_lately()


def test_a_failed_version_with_bytes_can_be_removed(pair: tuple[Server, Server]) -> None:
    """Its bytes stay pending: the row of the failed build says which, the version does not."""
    one, _ = pair
    one.begin("b1")
    assert one.servers.note_bytes("t", "b1", SHA) is True
    one.store.fail_build("t", "b1", code="x", message="x")
    build = one.store.get_build("t", "b1")
    assert isinstance(one.retention.remove("t", build.artifact_id, 1, ACT), Removed)
    assert [SHA] == [left.content_sha256 for left in one.retention.pending(9)]
